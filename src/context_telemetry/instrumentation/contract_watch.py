"""What is served beside the accepted contract and the manifest, while it is served.

A process beside this one looks, parses and compares (comparator_process.py): nothing of the warehouse is opened here,
and no query waits. A call leaves its question behind, and takes along what was answered to the same one before. A
thread of its own asks; it says what differs, and which names of queries lead nowhere. SQL is never exported.
"""

from __future__ import annotations

import atexit
import contextlib
import signal
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from context_telemetry.conventions import names
from context_telemetry.instrumentation.comparator_process import (
    ComparatorError,
    ComparatorProcess,
    Ended,
    Refused,
)
from context_telemetry.instrumentation.contract_events import Said
from context_telemetry.instrumentation.manifest_watch import identity_of, root_of
from context_telemetry.observe import failsafe, project, recorder, unobserved
from context_telemetry.observe.fork import on_forget, renew_in_child
from context_telemetry.observe.operation import Operation, object_name

Question = tuple["str | None", ...]
"""``("sql", source, text)``, or ``("object", source, schema, table, column)`` with None for what is not named."""

# A process that ends within so many seconds of its first question starts no other one. Later ones wait as long.
_PATIENCE = 1.0
# A look at files rests so many times what it took; a look at the catalogue, so many times what that took.
_REST, _LOOK_REST, _LOOK_LEAST = 20.0, 10.0, 2.0
# After so many seconds the catalogue is looked at again whatever files tell; sooner where one of them could not be
# read, for a lock that is let go of leaves the file as it was.
_LOOK_LATEST, _LOOK_UNREAD = 1800.0, 60.0
# So long an answer may take: to a question, and to a look at all there is.
_ANSWER_SECONDS, _LOOK_SECONDS = 30.0, 300.0
_RETRY, _RETRY_LATEST = 60.0, 900.0

_MOST_VERDICTS = 1024
_MOST_WAITING = 1000
# Questions that are asked again after each look: so many, of so many characters together.
_MOST_RECENT, _MOST_TEXT = 512, 1_000_000
_LONGEST = 100_000
_MOST_NAMES = 100
# What no single name has: Dataface's catalogue takes lists and globs, too.
_NO_NAME = frozenset("*?[,|")
_REASONS = ("contract_broken", "schema_drift")


class _Verdict(NamedTuple):
    """What is known of one question: the reasons that a call has which asks it, and names that lead nowhere."""

    reasons: tuple[str, ...]
    unknown: tuple[str, ...]
    source: str


class _Asked(NamedTuple):
    """That a call has asked; without the question where its verdict was known."""

    key: int
    question: Question | None
    surface: str


_NOTHING = _Verdict((), (), "")


# -- the thread that asks it ---------------------------------------------------------------------


class _Watch:
    """The project that this process serves, as far as its calls have asked for it."""

    _holds = False
    """Whether a call can meet anything at all."""
    _backs_off = False
    """Whether nobody is asked for some time, since nobody answered."""

    def __init__(self) -> None:
        self.verdicts: dict[int, _Verdict] = {}
        self.faces: Mapping[str, tuple[str, ...]] = {}
        self._waiting: deque[_Asked] = deque()
        self._wake = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._left = False
        self._comparator: ComparatorProcess | None = None
        self._files: tuple[str, ...] = ()
        self._recent: OrderedDict[int, Question] = OrderedDict()
        self._text = 0
        self._seen: dict[str, object] = {}
        self._changed = True
        self._looked_on = date.min
        # A look is due when something changed, but not before the first of these; and by the second in any case.
        self._look_at = self._look_by = 0.0
        self._files_at = self._retry_at = 0.0
        self._delay = _RETRY
        self._told: set[str] = set()
        self._said: Said | None = None

    # On the path of whoever calls Dataface: as little as can be, and it waits for nobody.

    def asked(self, op: Operation, question: Question) -> None:
        """Give ``op`` the reasons that are known, and leave behind what is to be asked or counted."""
        key = hash(question)
        verdict = self.verdicts.get(key)
        if verdict is _NOTHING:
            return
        if verdict is not None:
            if verdict.reasons:
                op.degraded(*verdict.reasons)
            if not verdict.unknown:
                return
        elif self._backs_off:
            _lost(1, "nobody answers")
            return
        if len(self._waiting) >= _MOST_WAITING:
            _lost(1, "more are asked than can be answered")
            return
        self._waiting.append(_Asked(key, question if verdict is None else None, op.surface))
        if self._thread is None:
            self._start()
        if verdict is None and self._holds:
            # Something is broken: before the request has its answer, there may be one to this, too.
            self._wake.set()
            entry = op.entry
            entry.notes.setdefault("contract", []).append(key)
            entry.before_finish = self._ask_again

    def _ask_again(self, entry: Operation) -> None:
        for key in entry.notes.pop("contract", ()):
            verdict = self.verdicts.get(key)
            if verdict is not None and verdict.reasons:
                entry.degraded(*verdict.reasons)

    def rendered(self, op: Operation, face: str) -> None:
        """A face was rendered: who reads what is known before anybody has asked."""
        reasons = self.faces.get(face)
        if reasons:
            op.degraded(*reasons)

    def _start(self) -> None:
        with self._starting:
            if self._thread is not None:
                return
            thread = threading.Thread(target=self._run, name="context-telemetry-contract", daemon=True)
            # It cannot start while the interpreter shuts down, or for now: the next question tries again.
            with contextlib.suppress(RuntimeError):
                thread.start()
                self._thread = thread

    # In the thread.

    def _run(self) -> None:
        if hasattr(signal, "pthread_sigmask"):
            # Where the host has SIGPIPE end it, writing to a comparator that is gone must not.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})
        time.sleep(_PATIENCE)
        while not self._left:
            self._wake.clear()
            rest = _PATIENCE
            try:
                rest = self._round()
            except Exception as error:
                failsafe.caught("contract watch", error)
            if not self._left:
                self._wake.wait(rest)
        if self._comparator is not None:
            self._comparator.end()

    def _round(self) -> float:
        """Ask what is to be asked, say what there is to say; the seconds until the next one."""
        began = time.monotonic()
        if began >= self._files_at:
            self._changed = self._changed or self._identities() != self._seen
            now = time.monotonic()
            self._files_at = now + max(_PATIENCE, _REST * (now - began))
        asked = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if began >= self._retry_at:
            self._backs_off = False
            try:
                self._ask({each.key: each.question for each in asked if each.question is not None})
            except (ComparatorError, ValueError, KeyError, TypeError) as error:
                self._failed(error)
        elif self._changed:
            self.verdicts.clear()  # they are about what is there no more
            self.faces = {}
        self._count(asked)
        self._forget()
        return max(0.0, self._files_at - time.monotonic())

    def _ask(self, questions: dict[int, Question]) -> None:
        for key, question in questions.items():
            self._remember(key, question)
        try:
            self._talk(questions)
        except Ended:  # nobody had asked for a while
            if self._comparator is not None:
                self._comparator.abandon()
            self._comparator = None
            self._talk(questions)

    def _talk(self, questions: dict[int, Question]) -> None:
        new = [key for key in questions if key not in self.verdicts]
        due = self._is_due()
        if not (new or due) or self._left:
            return
        root = project.root()
        if root is None:
            return
        starts = self._comparator is None
        comparator = self._comparator or ComparatorProcess(root.absolute(), project.local_state(root))
        self._comparator = comparator
        if due or starts:
            self._look(comparator, root, starts)
            # The newest first: who waits for an answer has asked just now.
            wanted = dict.fromkeys((*reversed(self._recent), *questions))
            self.verdicts = {key: each for key, each in self.verdicts.items() if key in wanted}
            new = list(wanted)
        for key in new:
            if self._left:
                return
            question = self._recent.get(key) or questions[key]
            self.verdicts[key] = self._verdict(comparator, key, question)

    def _is_due(self) -> bool:
        now = time.monotonic()
        return (
            (self._changed and now >= self._look_at)
            or now >= self._look_by
            or date.today() != self._looked_on
        )

    def _look(self, comparator: ComparatorProcess, root: Path, is_first: bool) -> None:
        from context_telemetry.contract.comparison import from_json

        before, today = self._identities(), date.today()
        began, clock = time.monotonic(), time.time_ns()
        comparison = from_json(comparator.ask({"look": True}, _LOOK_SECONDS)["comparison"])
        ended = time.monotonic()
        # The first answer took as long as the process did to start.
        self._look_at = ended + (_LOOK_LEAST if is_first else max(_LOOK_LEAST, _LOOK_REST * (ended - began)))
        latest = _LOOK_UNREAD if comparison.unread_files else _LOOK_LATEST
        self._look_by, self._looked_on = max(self._look_at, ended + latest), today
        self._delay = _RETRY
        self._files, self.faces = comparison.files, comparison.faces
        now = self._identities()
        # What changed while it looked may not be what it saw.
        moved = [file for file, each in now.items() if before.get(file, each) != each or _is_new(each, clock)]
        self._seen, self._changed = now, bool(moved)
        self._holds = any(each.is_met for each in comparison.findings)
        if self._said is None:
            self._said = Said(watch=f"contract {root}")
        self._said.say(comparison)

    def _identities(self) -> dict[str, object]:
        return {file: identity_of(file) for file in self._files}

    def _verdict(self, comparator: ComparatorProcess, key: int, question: Question) -> _Verdict:
        kind, source, *rest = question
        asks = {"sql": rest[0], "source": source} if kind == "sql" else {"object": [source, *rest]}
        try:
            answer = comparator.ask({"id": key, **asks}, _ANSWER_SECONDS)
        except Refused:  # that one question
            return _NOTHING
        reasons = tuple(each for each in _REASONS if each in answer["reasons"])
        unknown = tuple(dict.fromkeys(str(each) for each in answer["unknown"]))
        return _Verdict(reasons, unknown, str(source)) if reasons or unknown else _NOTHING

    def _remember(self, key: int, question: Question) -> None:
        self._text += _size(question) - _size(self._recent.pop(key, ()))
        self._recent[key] = question
        while len(self._recent) > _MOST_RECENT or self._text > _MOST_TEXT:
            self._text -= _size(self._recent.popitem(last=False)[1])

    def _failed(self, error: Exception) -> None:
        """Nothing can be told for some time. The host goes on, and is told of it once for each way to fail."""
        comparator, self._comparator = self._comparator, None
        if comparator is not None:
            comparator.end()
        kind = type(error).__name__
        if kind not in self._told and not self._left:
            self._told.add(kind)
            failsafe.caught(f"contract comparator: {kind}", error)
        self._backs_off = True
        self._retry_at = time.monotonic() + self._delay
        self._delay = min(_RETRY_LATEST, 2 * self._delay)

    def _forget(self) -> None:
        """Of verdicts beyond what is kept, those that would not be asked for again after a look."""
        too_many = len(self.verdicts) - _MOST_VERDICTS
        if too_many > 0:
            for key in [key for key in self.verdicts if key not in self._recent][:too_many]:
                self.verdicts.pop(key, None)

    def _count(self, asked: list[_Asked]) -> None:
        """Say which names lead nowhere, of every call that was asked about since the last round."""
        unanswered = sum(each.key not in self.verdicts for each in asked)
        if unanswered and not self._left:
            _lost(unanswered, "nobody answers")
        counts: Counter[tuple[str, str, str]] = Counter()
        for each in asked:
            verdict = self.verdicts.get(each.key, _NOTHING)
            for name in verdict.unknown:
                told = (each.surface, verdict.source, object_name(name))
                rest = (each.surface, verdict.source, "_OTHER")
                counts[told if told in counts or len(counts) < _MOST_NAMES else rest] += 1
        for (surface, source, name), count in counts.items():
            recorder.event(
                names.EVENT_DATAFACE_REFERENCE_UNKNOWN,
                {
                    names.DATAFACE_SURFACE: surface,
                    names.DATAFACE_CATALOG_SOURCE: object_name(source),
                    names.DATAFACE_CATALOG_SOURCE_CONFIGURED: True,
                    names.DATAFACE_REFERENCE_NAME: name,
                    names.DATAFACE_REFERENCE_COUNT: count,
                },
                warning=False,
            )

    # Its end.

    def leave(self) -> None:
        """Ask nothing more."""
        self._left = True
        comparator = self._comparator
        if comparator is not None:
            comparator.end()
        self._wake.set()

    def leave_in_child(self) -> None:
        """In a forked child: what its parent asks is for its parent."""
        if self._comparator is not None:
            self._comparator.abandon_in_child()


def _is_new(identity: Any, since: int) -> bool:
    return identity is not None and since <= identity[2] <= time.time_ns()


def _lost(questions: int, why: str) -> None:
    failsafe.dropped("contract questions", questions, why)


def _size(question: Question) -> int:
    return sum(len(each) for each in question if each is not None)


# -- what the hooks call -------------------------------------------------------------------------

_watch: _Watch | None = None


def enable(wanted: bool) -> None:
    """Compare what is served, or not: the setting `contract_watch` of the project that is served."""
    global _watch
    if wanted and _watch is None:
        if not unobserved.is_possible():
            failsafe.warn(
                "what is served is not compared with the contract: there is no Python here for that"
            )
            return
        _watch = _Watch()
        atexit.unregister(_leave)
        atexit.register(_leave)


def is_on() -> bool:
    """Whether anybody wants to be asked."""
    return _watch is not None


def asked_sql(op: Operation, registry: Any, source: str, sql: str) -> None:
    """``op`` has a source's warehouse run this, by way of an adapter registry of Dataface's."""
    watch = _watch
    if watch is not None and len(sql) <= _LONGEST and _is_served(registry):
        watch.asked(op, ("sql", source, sql))


def asked_object(op: Operation, registry: Any, *place: Any) -> None:
    """``op`` asks for a source, a schema, a table, a column by their names; None: not for one."""
    watch = _watch
    if watch is not None and all(map(_is_name, place)) and _is_served(registry):
        watch.asked(op, ("object", *place))


def rendered(op: Operation, served: Any, face: str) -> None:
    """``op`` has rendered a face of a project, which is Dataface's or its folder."""
    watch = _watch
    if watch is not None and watch.faces and root_of(served) == project.root():
        watch.rendered(op, face)


def _is_name(part: Any) -> bool:
    return part is None or (isinstance(part, str) and _NO_NAME.isdisjoint(part))


def _is_served(registry: Any) -> bool:
    served = getattr(registry, "_project", None) or getattr(registry, "_project_root", None)
    root, here = root_of(served), project.root()
    return here is not None and (root is here or root == here)


def _leave() -> None:
    if _watch is not None:
        _watch.leave()


@on_forget
def forget() -> None:
    """Stop comparing, and end the process beside this one."""
    global _watch
    _leave()
    _watch = None


def _renew() -> None:
    global _watch
    if _watch is not None:
        _watch.leave_in_child()
        _watch = _Watch()


renew_in_child(_renew)
