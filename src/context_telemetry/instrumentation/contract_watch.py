"""What is served beside the accepted contract and the manifest, while it is served.

A process beside this one looks, parses and compares (contract/comparator.py): nothing of the warehouse is opened in
here, and no query waits. A call leaves its question behind, and takes along what was answered to the same one before.
A thread of its own asks; it says what differs, and which names of queries lead nowhere. SQL is never exported.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from context_telemetry.conventions import names
from context_telemetry.instrumentation.contract_events import Said
from context_telemetry.instrumentation.manifest_watch import identity_of, root_of
from context_telemetry.observe import failsafe, project, recorder
from context_telemetry.observe.fork import on_forget, renew_in_child
from context_telemetry.observe.operation import Operation, object_name

if TYPE_CHECKING:
    from context_telemetry.contract.comparison import Comparison

Question = tuple["str | None", ...]
"""``("sql", source, text)``, or ``("object", source, schema, table, column)`` with None for what is not named."""

# A process that ends within so many seconds of its first question starts no other one. Later ones wait as long.
_PATIENCE = 1.0
# A round rests so many times what its look at files took; a look at the catalogue, so many times what that took.
_REST, _LOOK_REST, _LOOK_LEAST = 20.0, 10.0, 2.0
_ANSWER_SECONDS = 30.0
_RETRY, _RETRY_LATEST = 60.0, 900.0
# The counts are offered to be said again after so many seconds; whether they are is decided where they are said.
_OFFERED_AGAIN = 60.0

_MOST_VERDICTS = 1024
_MOST_WAITING = 1000
# Questions that are asked again after each look: so many, of so many characters together.
_MOST_RECENT, _MOST_TEXT = 512, 1_000_000
_LONGEST = 100_000
_MOST_NAMES = 100
# What no single name has: Dataface's catalogue takes lists and globs, too.
_NO_NAME = frozenset("*?[,|")
_REASONS = ("contract_broken", "schema_drift")

# Whatever the host was started with, its folders come first; the folder that it runs in is none of them.
_PROGRAM = (
    "import runpy, sys; sys.path[:] = filter(None, sys.path); "
    "runpy.run_module('context_telemetry.contract.comparator', run_name='__main__', alter_sys=True)"
)


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


# -- the process beside this one -----------------------------------------------------------------


class ComparatorError(Exception):
    """The comparator does not do what it is there for."""


class NotStarted(ComparatorError):
    """There is none to be had here."""


class Ended(ComparatorError):
    """It has ended by itself, as it does when nobody asks."""


class Died(ComparatorError):
    """It has ended otherwise."""


class Silent(ComparatorError):
    """It does not answer in time."""


class Refused(ComparatorError):
    """It answers with an error."""


class _Comparator:
    """One comparator: starts it, asks it, ends it. One thread uses it; `end` and `abandon` are anybody's."""

    def __init__(self, root: Path) -> None:
        if not _has_python():
            raise NotStarted
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, str(root)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                env=_environment(),
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except (OSError, ValueError) as error:
            raise NotStarted from error
        self._answers: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, name="context-telemetry-contract-answers", daemon=True).start()

    def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to one message. Raises ComparatorError."""
        line = memoryview(json.dumps(message, separators=(",", ":")).encode() + b"\n")
        pipe = self._process.stdin
        assert pipe is not None
        try:
            while line:
                line = line[pipe.write(line) or 0 :]
        except (
            OSError,
            ValueError,
        ):  # nobody reads, or it was ended by another thread: so its answers end too
            pass
        try:
            answer = self._answers.get(timeout=_ANSWER_SECONDS)
        except queue.Empty:
            raise Silent from None
        if answer is None:
            self._answers.put(None)
            raise Ended if self._process.wait() == 0 else Died
        document = json.loads(answer)
        if not isinstance(document, dict) or "error" in document:
            raise Refused
        return document

    def end(self) -> None:
        """End it, whatever it is doing: it only reads."""
        with contextlib.suppress(OSError):
            self._process.kill()
        self.abandon()

    def abandon(self) -> None:
        """Hold it no longer: in a forked child, too, it ends with the process that started it."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def abandon_in_child(self) -> None:
        """The same of what a forked child has inherited: it is not its child, and its answers are not for it."""
        self.abandon()
        if self._process.stdout is not None:
            with contextlib.suppress(OSError):
                self._process.stdout.close()
        self._process.returncode = 0

    def _read(self) -> None:
        pipe, rest = self._process.stdout, b""
        assert pipe is not None
        with contextlib.suppress(OSError, ValueError):
            while chunk := pipe.read(65_536):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._answers.put(line)
        self._process.wait()
        with contextlib.suppress(OSError):
            pipe.close()
        self._answers.put(None)


def _environment() -> dict[str, str]:
    """This process's environment, without what would have the comparator observed."""
    paths = [each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each]
    kept = [each for each in paths if not os.path.exists(os.path.join(each, "sitecustomize.py"))]
    environment = {**os.environ, "CONTEXT_TELEMETRY_DISABLED": "true", "OTEL_SDK_DISABLED": "true"}
    environment.pop("PYTHONPATH", None)
    return {**environment, "PYTHONPATH": os.pathsep.join(kept)} if kept else environment


def _has_python() -> bool:
    """Whether `sys.executable` is one: where Python is embedded or frozen, it is the host itself."""
    name = os.path.basename(sys.executable or "").lower()
    return name.startswith(("python", "pypy")) and not getattr(sys, "frozen", False)


# -- the thread that asks it ---------------------------------------------------------------------


class _Watch:
    """The project that this process serves, as far as its calls have asked for it."""

    _holds = False
    """Whether a call can meet anything at all."""
    _deaf = False
    """Whether nobody answers for some time."""

    def __init__(self) -> None:
        self.verdicts: dict[int, _Verdict] = {}
        self.faces: Mapping[str, tuple[str, ...]] = {}
        self._waiting: deque[_Asked] = deque()
        self._wake = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._left = False
        self._comparator: _Comparator | None = None
        self._comparison: Comparison | None = None
        self._recent: OrderedDict[int, Question] = OrderedDict()
        self._text = 0
        self._seen: dict[str, object] = {}
        self._changed = True
        self._look_at = self._retry_at = self._offer_at = 0.0
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
        elif self._deaf:
            return
        if len(self._waiting) >= _MOST_WAITING:
            failsafe.dropped("contract questions", 1, "more are asked than can be answered")
            return
        self._waiting.append(_Asked(key, question if verdict is None else None, op.surface))
        if self._thread is None:
            self._start()
        if verdict is None and self._holds:
            # Something is broken: before the request has its answer, there may be one to this, too.
            self._wake.set()
            entry = op.entry
            entry.notes.setdefault("contract", []).append(key)
            entry.last_look = self._look_again

    def _look_again(self, entry: Operation) -> None:
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
            self._thread = threading.Thread(target=self._run, name="context-telemetry-contract", daemon=True)
            with contextlib.suppress(RuntimeError):  # the interpreter is shutting down
                self._thread.start()

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
        self._changed = self._changed or self._identities() != self._seen
        took = time.monotonic() - began
        asked = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if began >= self._retry_at:
            self._deaf = False
            try:
                self._ask({each.key: each.question for each in asked if each.question is not None})
            except (ComparatorError, ValueError, KeyError, TypeError) as error:
                self._failed(error)
        elif self._changed:
            self.verdicts.clear()  # they are about what is there no more
            self.faces = {}
        self._count(asked)
        if self._comparison is not None and self._said is not None and began >= self._offer_at:
            self._offer_at = began + _OFFERED_AGAIN
            self._said.say(self._comparison)
        return max(_PATIENCE, _REST * took)

    def _ask(self, questions: dict[int, Question]) -> None:
        for key, question in questions.items():
            self._remember(key, question)
        try:
            self._talk(questions)
        except Ended:  # nobody had asked for a while
            self._comparator = None
            self._talk(questions)

    def _talk(self, questions: dict[int, Question]) -> None:
        new = [key for key in questions if key not in self.verdicts]
        due = self._changed and time.monotonic() >= self._look_at
        if not (new or due) or self._left:
            return
        root = project.root()
        if root is None:
            return
        starts = self._comparator is None
        comparator = self._comparator = self._comparator or _Comparator(root.absolute())
        if due or starts:
            self._look(comparator, root, starts)
            new = list(reversed(self._recent))
            self.verdicts = {key: each for key, each in self.verdicts.items() if key in self._recent}
        for key in new:
            if self._left:
                return
            question = self._recent.get(key) or questions[key]
            self.verdicts[key] = self._verdict(comparator, key, question)
        if len(self.verdicts) > _MOST_VERDICTS:
            for key in list(self.verdicts)[:-_MOST_VERDICTS]:
                self.verdicts.pop(key, None)

    def _look(self, comparator: _Comparator, root: Path, is_first: bool) -> None:
        from context_telemetry.contract.comparison import from_json

        before, began, clock = self._identities(), time.monotonic(), time.time_ns()
        comparison = from_json(comparator.ask({"look": True})["comparison"])
        ended = time.monotonic()
        # The first answer took as long as the process did to start.
        self._look_at = ended + (_LOOK_LEAST if is_first else max(_LOOK_LEAST, _LOOK_REST * (ended - began)))
        self._delay = _RETRY
        self._comparison, self.faces = comparison, comparison.faces
        now = self._identities()
        # What changed while it looked may not be what it saw.
        moved = [file for file, each in now.items() if before.get(file, each) != each or _is_new(each, clock)]
        self._seen, self._changed = now, bool(moved)
        self._holds = any(each.is_met for each in comparison.findings)
        if self._said is None:
            self._said = Said(watch=f"contract {root}")
        self._said.say(comparison)

    def _identities(self) -> dict[str, object]:
        files = self._comparison.files if self._comparison is not None else ()
        return {file: identity_of(file) for file in files}

    def _verdict(self, comparator: _Comparator, key: int, question: Question) -> _Verdict:
        kind, source, *rest = question
        asks = {"sql": rest[0], "source": source} if kind == "sql" else {"object": [source, *rest]}
        try:
            answer = comparator.ask({"id": key, **asks})
        except Refused:  # that one question
            return _NOTHING
        reasons = tuple(each for each in _REASONS if answer["meets"].get(each))
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
        self._deaf = True
        self._retry_at = time.monotonic() + self._delay
        self._delay = min(_RETRY_LATEST, 2 * self._delay)

    def _count(self, asked: list[_Asked]) -> None:
        """Say which names lead nowhere, of every call that was asked about since the last round."""
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


def _size(question: Question) -> int:
    return sum(len(each) for each in question if each is not None)


# -- what the hooks call -------------------------------------------------------------------------

_watch: _Watch | None = None


def enable(wanted: bool) -> None:
    """Compare what is served, or not: the setting `contract_watch` of the project that is served."""
    global _watch
    if wanted and _watch is None:
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
