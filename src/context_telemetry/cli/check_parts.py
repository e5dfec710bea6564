"""What `check` looks at, in parts: manifest, sources, contract, the agent's prompt, the tools. Each has its verdict.

A part is an operation inside of the current one, by the names that serving has for the same. No resolver is called. A
part that cannot be looked at is told, and the others are looked at all the same.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from context_telemetry.cli import check_prompt, progress, served_tools, text
from context_telemetry.cli.place import Place
from context_telemetry.cli.progress import Tell
from context_telemetry.cli.served_tools import Listed
from context_telemetry.contract.impact import Hit, Recorded
from context_telemetry.conventions import names
from context_telemetry.instrumentation import manifest_watch
from context_telemetry.instrumentation.context import tool_list_size
from context_telemetry.observe import failsafe
from context_telemetry.observe.operation import Operation, error_class

if TYPE_CHECKING:
    from context_telemetry.contract.comparison import Comparison
    from context_telemetry.contract.judgement import Report
    from context_telemetry.contract.look import Look
    from context_telemetry.contract.model import TableKey, UnknownUse
    from context_telemetry.contract.snapshot import Snapshot
    from context_telemetry.contract.warehouse import Cause

Kind = Literal["manifest", "source", "faces", "contract", "drift", "prompt", "tools"]
State = Literal["ok", "wrong", "unknown", "absent"]
"""`unknown`: it could not be looked at. `absent`: it is not there, or was not asked for, and nobody is harmed."""

_MANIFEST_SECONDS: Final = 60.0
_BUILD: Final = "context.build"
_OF_REPORT: Final[Mapping[int, State]] = {0: "ok", 1: "wrong", 3: "unknown"}


@dataclass(frozen=True)
class Part:
    """One thing that was looked at."""

    kind: Kind
    name: str
    state: State
    found: str
    seconds: float | None = None
    """How long it took; None where nothing was done."""
    reasons: tuple[str, ...] = ()
    error_type: str | None = None
    advice: str = ""
    """What to do, where what is found says it better than its reasons do."""


@dataclass(frozen=True)
class NotThere:
    """A name in faces that their source does not serve, and who uses it."""

    source: str | None
    name: str
    hits: tuple[Hit, ...]
    explained: bool
    """Whether a change of the contract tells of it already."""
    until: date | None = None
    """The last day on which it is accepted, where an exception covers that change for all of them."""


@dataclass(frozen=True)
class Compared:
    """The sources, and what became of them beside the contract and the manifest."""

    parts: tuple[Part, ...]
    comparison: Comparison | None = None
    report: Report | None = None
    not_there: tuple[NotThere, ...] = ()


@contextmanager
def _clock() -> Iterator[Callable[[], float]]:
    began = time.perf_counter()
    yield lambda: time.perf_counter() - began


# -- the manifest ---------------------------------------------------------------------------------


def manifest(root: Path) -> list[Part]:
    """The dbt manifest, where the project is one of dbt's."""
    began = time.time_ns()
    with _clock() as took:
        try:
            seen = manifest_watch.look_once(root, _MANIFEST_SECONDS)
        except TimeoutError:
            found = f"took more than {_MANIFEST_SECONDS:.0f} s"
            return [Part("manifest", "manifest", "unknown", found, took(), error_type="TimeoutError")]
        if seen is None:
            return []
        op = Operation("manifest.load", {names.DATAFACE_ARTIFACT: manifest_watch.ARTIFACT}, start=began)
        op.layers = (manifest_watch.ARTIFACT,)
        if seen.reasons:
            op.degraded(*seen.reasons)
        if seen.age is not None:
            op.age(manifest_watch.ARTIFACT, seen.age)
        op.finish()
        reasons = tuple(op.reasons)  # an age beyond what is promised is one more
        built = "" if seen.age is None else f"built {text.ago(0.0, max(0.0, seen.age))}"
        found = built if seen.state == "ok" else ", ".join(filter(None, (seen.state, built)))
        state: State = "wrong" if reasons else "ok"
        return [Part("manifest", "manifest", state, found or seen.state, took(), reasons)]


# -- the agent's prompt ---------------------------------------------------------------------------


class Prompts:
    """Builds the prompt by the Dataface that this process has imported, as long as that is the installed one."""

    def __init__(self) -> None:
        self._imported: str | None = None

    def look(self, entry: Operation, root: Path, release: str | None) -> Part:
        """The prompt, whose operations the hooks begin below ``entry``."""
        if self._imported not in (None, release):
            found = f"Dataface {release} is installed, and this process has imported {self._imported}: start it anew"
            return Part("prompt", "prompt", "absent", found)
        self._imported = release
        error: Exception | None = None
        with _clock() as took:
            with _watched_below(entry) as below:
                try:
                    check_prompt.build(root)
                except check_prompt.NoPrompt as why:
                    return Part("prompt", "prompt", "absent", str(why))
                except Exception as raised:
                    error = raised
            part = _prompt(below, error)
            return replace(part, seconds=took(), reasons=tuple(sorted(below.reasons)))


def _prompt(below: _Below, error: Exception | None) -> Part:
    built = [each for each in below.operations if each.name == _BUILD]
    if error is not None:
        kind = error_class(error)
        if built:
            return Part("prompt", "prompt", "wrong", f"cannot be built: {kind}", error_type=kind)
        return Part("prompt", "prompt", "unknown", f"the project cannot be opened: {kind}", error_type=kind)
    if not built:
        return Part("prompt", "prompt", "absent", "this release builds it where nothing is observed")
    size = built[-1].attributes.get(names.DATAFACE_PAYLOAD_SIZE)
    limit = built[-1].attributes.get(names.DATAFACE_PAYLOAD_LIMIT)
    found = text.size(size) if isinstance(size, (int, float)) else "of unknown size"
    found += f" of {text.size(limit)}" if isinstance(limit, (int, float)) else ""
    return Part("prompt", "prompt", "wrong" if below.reasons else "ok", found)


@dataclass
class _Below:
    """What began directly below an operation, and all reasons that rose from there."""

    operations: list[Operation] = field(default_factory=list)
    reasons: frozenset[str] = frozenset()


@contextmanager
def _watched_below(entry: Operation) -> Iterator[_Below]:
    before, entry.risen = entry.risen, frozenset()
    below = _Below()
    entry.began_below = below.operations.append
    try:
        yield below
    finally:
        entry.began_below = None
        below.reasons = entry.risen
        entry.risen |= before


# -- the tools ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """What an MCP server listed, when it was asked (Unix time), and how long that took."""

    listed: Listed
    at: float
    seconds: float


def ask(root: Path) -> Callable[[], Asked]:
    """Begin to ask the MCP server for its lists, beside whatever else is done; the answer is waited for."""
    answers: list[Asked] = []

    def run() -> None:
        at = time.time()
        with _clock() as took:
            try:
                listed = served_tools.ask(root)
                if listed.error is not None:
                    # Servers that start together race for the port of Dataface's preview, and one may lose.
                    listed = served_tools.ask(root)
            except Exception as error:
                failsafe.caught("check.tools", error)
                listed = Listed(why="the MCP server cannot be asked", error=type(error).__name__)
            answers.append(Asked(listed, at, took()))

    thread = threading.Thread(target=run, name="context-telemetry-tools", daemon=True)
    thread.start()

    def answer() -> Asked:
        thread.join()
        return answers[0]

    return answer


def tools(asked: Asked, *, new: bool) -> Part:
    """The list of tools as a client gets it; an operation where it has been asked for ``new``."""
    listed = asked.listed
    if listed.tools is None and listed.error is None:
        return Part("tools", "tools", "absent", listed.why or "there is no MCP server")
    size = None
    if new:
        # A server that serves has been started long before.
        seconds = asked.seconds if listed.seconds is None else listed.seconds
        op = Operation(_BUILD, start=int((asked.at + asked.seconds - seconds) * 1e9))
        op.attach()
        try:
            if listed.error is not None:
                op.failed(listed.error)
            else:
                size = tool_list_size(list(listed.as_sent))
                op.payload(size, kind="tool_list")
        finally:
            op.duration_ns = max(1, int(seconds * 1e9))
            op.finish()
            op.detach()
    if listed.error is not None:
        found = listed.why or listed.error
        return Part("tools", "tools", "wrong", found, asked.seconds, error_type=listed.error)
    found = text.counted(len(listed.tools or ()), "tool")
    if size is None:
        return Part("tools", "tools", "ok", f"{found}, asked {text.ago(asked.at, time.time())}")
    return Part("tools", "tools", "ok", f"{found}, {text.size(size)}", asked.seconds)


# -- sources, contract, manifest against warehouse ------------------------------------------------


class _SourceClock:
    """When each source was read, by what a comparison says that it looks at next; others are told of it too."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self.sources: dict[str, tuple[int, int]] = {}
        """Begin (Unix time) and duration in nanoseconds."""
        self._current: tuple[str, int, float] | None = None

    def __call__(self, what: str) -> None:
        self._tell(what)
        now, clock = time.time_ns(), time.perf_counter()
        if self._current is not None:
            name, began, then = self._current
            self.sources[name] = began, int((clock - then) * 1e9)
        kind, _, name = what.partition(" ")
        self._current = (name, now, clock) if kind == "source" else None


def compare(
    place: Place, listed: Listed | None, recorded: Recorded | None, tell: Tell = progress.nobody
) -> Compared:
    """Every source by one metadata query, and the project as it is now beside its contract and its manifest.

    But for sources that were left out of the contract: nothing is asked of those.
    """
    from context_telemetry.cli.warehouse_connection import fetch_for
    from context_telemetry.contract import catalogue
    from context_telemetry.contract import look as looks

    steps = _SourceClock(tell)
    with _clock() as took, catalogue.connect() as connection:
        look = looks.compare(
            connection,
            place.root,
            tools=listed.tools if listed else None,
            resources=listed.resources if listed else None,
            recorded=recorded,
            fetch=fetch_for(place.root),
            progress=steps,
        )
        if look.now is None:
            problem = look.comparison.problem or "the project cannot be read"
            part = Part("contract", "project", "unknown", problem, took(), error_type="ProjectFileError")
            return Compared((part,), look.comparison)
        not_there = _not_there(look.now, look.report, recorded)
        sources = tuple(_sources(look.now, look.comparison, not_there, steps))
        rest = took() - sum(duration for _, duration in steps.sources.values()) / 1e9
        others = (*_faces(look.now), *_contract(place, look, recorded, rest), *_drift(look))
        return Compared((*sources, *others), look.comparison, look.report, not_there)


def _not_there(now: Snapshot, report: Report | None, recorded: Recorded | None) -> tuple[NotThere, ...]:
    """Names that lead nowhere now, and did not when the contract was accepted."""
    accepted = report.accepted.contract.unknown if report else ()
    unexplained = report.unknown if report else now.unknown
    found: dict[tuple[str | None, str], tuple[dict[Hit, None], list[bool], list[date | None]]] = {}
    for use in now.unknown:
        if use.missing is None or use in accepted:
            continue
        hits, explained, until = found.setdefault((use.source, use.missing), ({}, [], []))
        served = None if recorded is None else recorded.served.get(use.consumer, 0)
        hits[Hit(use.consumer, (use.part,) if use.part else (), served)] = None
        explained.append(use not in unexplained)
        until.append(_accepted_until(use, report))
    return tuple(
        NotThere(source, name, _merged(hits), all(explained), _first_of(until))
        for (source, name), (hits, explained, until) in sorted(
            found.items(), key=lambda item: (item[0][0] or "", item[0][1])
        )
    )


def _accepted_until(use: UnknownUse, report: Report | None) -> date | None:
    """The last day of an exception for the change that takes this very name from whoever uses it."""
    name = f".{use.missing}".casefold()
    for each in report.changes if report else ():
        if each.exception is None or not f".{each.change.object}".casefold().endswith(name):
            continue
        if any(hit.consumer == use.consumer and use.part in hit.parts for hit in each.hits):
            return each.exception.until
    return None


def _first_of(days: Iterable[date | None]) -> date | None:
    """The first of them; None where one is not known."""
    known = list(days)
    return None if None in known else min(day for day in known if day)


def _merged(hits: Mapping[Hit, None]) -> tuple[Hit, ...]:
    """Each consumer once, the most served first."""
    merged: dict[object, Hit] = {}
    for hit in hits:
        known = merged.get(hit.consumer)
        parts = tuple(sorted({*hit.parts, *(known.parts if known else ())}))
        merged[hit.consumer] = replace(hit, parts=parts)
    return tuple(sorted(merged.values(), key=lambda hit: (-(hit.served or 0), hit.consumer.name)))


def _sources(
    now: Snapshot, comparison: Comparison, not_there: tuple[NotThere, ...], steps: _SourceClock
) -> Iterator[Part]:
    counts = {
        source: (tables, columns)
        for source, tables, columns in now.catalogue.connection.execute(
            f'SELECT "source", count(DISTINCT ("schema", "table")), count(*) FROM {now.catalogue.columns} GROUP BY 1'
        ).fetchall()
    }
    for state in now.catalogue.sources:
        began, duration = steps.sources.get(state.name, (time.time_ns(), 0))
        why = comparison.unread.get(state.name)
        if why is None and state.unread:
            yield Part("source", state.name, "absent", "left out of the contract, so nothing is asked of it")
            continue
        nowhere = [each for each in not_there if each.source == state.name]
        accepted = [each for each in nowhere if each.until]
        unresolved = len(nowhere) - len(accepted)
        op = Operation(
            "catalog.resolve",
            {names.DATAFACE_CATALOG_SOURCE: state.name, names.DATAFACE_CATALOG_SOURCE_CONFIGURED: True},
            start=began,
        )
        op.duration_ns = max(1, duration)
        op.layers = ("metadata_sql",)
        if why is not None:
            op.degraded("layer_unavailable")
        if state.unread:
            op.failed(now.errors.get(state.name, "_OTHER"))
        if unresolved:
            op.degraded("object_unknown")
            op.unresolved = unresolved
        op.finish()
        tables, columns = counts.get(state.name, (0, 0))
        found = f"{text.counted(tables, 'table')}, {text.counted(columns, 'column')}"
        if why is not None:
            found = f"cannot be read: {why}" if state.unread else f"{found}; not in full: {why}"
        if unresolved:
            are = "is" if unresolved == 1 else "are"
            found += f", {text.counted(unresolved, 'name')} in faces that {are} not there"
        if accepted:
            told = "that is" if len(accepted) == 1 else "that are"
            until = _first_of(each.until for each in accepted)
            found += f", {text.counted(len(accepted), 'name')} {told} not there accepted until {until}"
        broken, advice = _ADVICE.get(now.causes.get(state.name), (False, ""))
        verdict: State = "wrong" if unresolved or broken else "unknown" if why is not None else "ok"
        reasons, seconds = tuple(op.reasons), duration / 1e9
        yield Part("source", state.name, verdict, found, seconds, reasons, op.error_type, advice)


# Whether a source that cannot be read for this cause stays so until somebody repairs it, and what to do.
_ADVICE: Final[Mapping[Cause | None, tuple[bool, str]]] = {
    "gone": (True, "build it (`dbt build`), or correct its path in dataface.yml"),
    "no_database": (True, "put the file back, or build it anew (`dbt build`)"),
    "held": (False, "wait until that process is done, or end it"),
}


def _faces(now: Snapshot) -> Iterator[Part]:
    """Faces that nobody can read; no part where all can be."""
    broken = [use for use in now.unknown if use.is_all]
    if broken:
        named = "; ".join(use.why for use in broken[:_FACES_NAMED])
        more = f" and {len(broken) - _FACES_NAMED:,} more" if len(broken) > _FACES_NAMED else ""
        found = f"{text.counted(len(broken), 'face')} cannot be read: {named}{more}"
        yield Part("faces", "faces", "wrong", found, reasons=("face_unreadable",))


_FACES_NAMED: Final = 3


def _contract(place: Place, look: Look, recorded: Recorded | None, seconds: float) -> Iterator[Part]:
    from context_telemetry.cli.contract_screen import in_short, settled

    if look.comparison.problem is not None:
        found = look.comparison.problem
        yield Part("contract", "contract", "unknown", found, seconds, error_type="ContractError")
    elif look.report is None:
        command = place.command("contract", "snapshot")
        yield Part(
            "contract", "contract", "absent", f"none was accepted; to accept what is served now: {command}"
        )
    else:
        state: State = _OF_REPORT[look.report.exit_code]
        reasons = ("contract_broken",) if state == "wrong" else ()
        found = f"holds ({settled(look.report)})" if state == "ok" else in_short(look.report, recorded)
        yield Part("contract", "contract", state, found, seconds, reasons)


def _drift(look: Look) -> Iterator[Part]:
    """What the manifest declares and the warehouse does not have so; no part where there is no manifest.

    It is wrong where somebody uses what drifted, and no exception of the contract covers that.
    """
    comparison, now = look.comparison, look.now
    if comparison.drift is None or now is None:
        return
    if not comparison.drift:
        if comparison.unread:
            yield Part("drift", "drift", "unknown", f"not known of {', '.join(comparison.unread)}")
        elif all(state.unread for state in now.catalogue.sources):
            yield Part("drift", "drift", "absent", "no source was read")
        else:
            yield Part("drift", "drift", "ok", "the warehouse has what the manifest declares")
        return
    excepted = accepted_until(look.report)
    drifted = [each for each in look.met if each.reason == "schema_drift"]
    until = [day for each in drifted if (day := excepted.get((each.table, each.column)))]
    rest = [each for each in drifted if (each.table, each.column) not in excepted]
    unused = sum(not each.consumers for each in rest)
    found = f"{text.counted(comparison.drift, 'object')} otherwise than the manifest declares"
    if until:
        found += f", {len(until):,} accepted until {min(until)}"
    if unused:
        found += f", {unused:,} that nobody uses"
    if unused < len(rest):
        yield Part("drift", "drift", "wrong", found, reasons=("schema_drift",))
    else:
        yield Part("drift", "drift", "ok", found)


def accepted_until(report: Report | None) -> dict[tuple[TableKey | None, str | None], date]:
    """Tables and columns that an exception covers today, and its last day."""
    return {
        (each.change.table, each.change.column): each.exception.until
        for each in (report.changes if report else ())
        if each.exception is not None and each.change.table is not None
    }
