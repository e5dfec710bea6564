"""`status`: the verdict of a window, as one screen; `documents` has it as JSON."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from context_telemetry.cli import documents, text, watching
from context_telemetry.cli.place import Place, broken_file, unusable
from context_telemetry.conventions import names
from context_telemetry.health import (
    EVERYWHERE,
    Facts,
    Finding,
    Local,
    SamplerSeen,
    Verdict,
    evaluate,
    how,
    samplers,
    urgency,
    what_to_do,
)
from context_telemetry.health.words import processes, sampler, some_of
from context_telemetry.history import ChecksSeen, ErrorSeen, Event, History, ProcessSeen, ReasonSeen, Traffic

if TYPE_CHECKING:
    from context_telemetry.health.fleet import ServedRow

    Served: TypeAlias = Traffic | ServedRow
    """How the calls of one client on one surface ended."""

EXIT = {"healthy": 0, "unhealthy": 1, "unknown": 3}

_REASONS_SHOWN = 5
_PROCESSES_SHOWN = 8
_KINDS_SHOWN = 4
_IN_A_LINE = 2  # so many alike need no table to be told apart
_FILES_NAMED = 3
_ADVICE = "what to do"


@dataclass(frozen=True)
class Status:
    """What one look at a window gave."""

    place: Place
    history: History
    facts: Facts
    verdict: Verdict
    now: float
    seconds: float | None
    broken: str = ""
    """Why Dataface cannot read the project's own file now; empty where it can."""

    @property
    def ended(self) -> set[int]:
        """The ids of the processes that said that they end, but for those that another one has now."""
        found = self.facts.processes
        running = {each.pid for each in found if each.ended is None}
        return {each.pid for each in found if each.pid is not None and each.pid not in running}


def look(place: Place, seconds: float | None) -> Status:
    """Read the last `seconds` (None: everything) of a project and judge them."""
    now = time.time()
    history = History(place.folder, since=None if seconds is None else now - seconds)
    local = Local(history, now)
    verdict, broken = evaluate(local, place.limits), broken_file(place.root)
    if broken and verdict.state == "healthy":  # what was well before says nothing of what is served now
        verdict = replace(verdict, state="unknown", reason=f"{broken}: nothing that reads it works now")
    return Status(place, history, local.facts, verdict, now, seconds, broken)


def once(place: Place, seconds: float | None, *, as_json: bool) -> int:
    """Print the status; the exit code."""
    seen = look(place, seconds)
    code = EXIT[seen.verdict.state]
    if as_json:
        documents.show(documents.status(seen, code))
    else:
        text.console().print(screen(seen))
    return code


def watch(place: Place, seconds: float | None) -> NoReturn:
    """Show the status and renew it until interrupted. Raises KeyboardInterrupt."""
    watching.watch(lambda: look(place, seconds), screen)


# The screen


def screen(seen: Status) -> RenderableType:
    """One screen: the verdict, who was served what, what is wrong and what to do, and last what is good."""
    met = _met(seen)
    return text.Filling(lambda rows: Group(*_parts(seen, met, rows)), min(_REASONS_SHOWN, len(met)), len(met))


def _parts(seen: Status, met: Sequence[_Met], rows: int) -> list[RenderableType]:
    parts: list[RenderableType] = [_headline(seen)]
    if seen.broken:
        words = f"! {seen.broken}: repair it, nothing that reads it works now"
        parts.append(Text(words, "red", overflow="fold"))
    parts += [Text(f"! {each}", "yellow", overflow="fold") for each in _sampled(seen.facts.samplers)]
    if seen.facts.traffic:
        parts += [Text(), _traffic(seen)]
    judged = seen.facts.traffic or seen.verdict.state != "unknown"
    if judged and (bad := beyond(seen.verdict, traffic=bool(seen.facts.traffic))):
        parts += [Text(), bad]
    if met:
        parts += [Text(), *_reasons(seen, met, rows)]
    if judged:
        checked = seen.facts.checks.reasons if seen.facts.checks else ()
        met_at_all = {*(each.reason for each in seen.facts.reasons), *checked}
        parts += [Text(), *good(seen.verdict, met_at_all, sampled=bool(seen.facts.samplers))]
    if seen.facts.checks:
        parts += [Text(), _checks(seen, seen.facts.checks)]
    if footer := [*_processes(seen), *_footer(seen)]:
        parts += [Text(), *footer]
    return parts


def _sampled(found: Iterable[SamplerSeen]) -> Iterator[str]:
    """What has left calls out of all that is counted, perhaps."""
    for each in found:
        yield f"calls may be missing: {processes(each.pids)} recorded what was sampled ({sampler(each.sampler)})"


def _headline(seen: Status) -> RenderableType:
    window = "everything recorded" if seen.seconds is None else f"last {text.lasting(seen.seconds)}"
    head, reason = headline(seen.verdict, seen.place.name, window, seen.facts.traffic)
    if not seen.facts.traffic:
        reason.append("".join(f"\n{line}" for line in _why_nothing(seen)), "dim")
    return Group(head, reason)


def headline(verdict: Verdict, whose: str, window: str, traffic: Sequence[Served]) -> tuple[Text, Text]:
    """The state, of whom and of what, and below it the reason."""
    style = text.STATE_STYLE[verdict.state]
    head = Text.assemble((f" {verdict.state.upper()} ", f"bold reverse {style}"), " ", (whose, "bold"))
    head.append(f"  {window}, {text.counted(sum(row.served for row in traffic), 'call')}", "dim")
    return head, Text(verdict.reason, style)


def _why_nothing(seen: Status) -> Iterator[str]:
    """Why nothing is in the window, as far as this environment and the project's files can tell."""
    from context_telemetry.pipeline.destination import OFF, chosen_by, destination, why_no_traces
    from context_telemetry.settings import is_disabled

    last, chosen, why = seen.history.files.last_written, destination(), ""
    if is_disabled():
        why = "recording is switched off in this environment (CONTEXT_TELEMETRY_DISABLED, OTEL_SDK_DISABLED)"
    elif seen.place.settings.disabled:
        why = f"recording is switched off by `disabled` in the files of {seen.place.root}"
    elif no_traces := why_no_traces(chosen):
        what = "traces are switched off" if no_traces == OFF else "no traces are recorded"
        why = f"{what} in this environment: {no_traces}"
    elif chosen.mode == "otlp":
        why = f"telemetry goes to OTLP, not to local files ({chosen_by()} in this environment)"
    if why:
        yield why
    if seen.facts.checks:
        yield "checks alone were recorded: look further back with --since"
    elif last is not None:
        yield f"last written {text.ago(last, seen.now)}: look further back with --since"
    elif not why:
        start = f"no files in {seen.place.folder}: start a command with `context-telemetry run --`"
        yield from [*_who_waits(seen)] or [unusable(seen.place.folder) or start]


def _who_waits(seen: Status) -> Iterator[str]:
    """Who records and was not called: judged by the last that a process said of its beginning or end."""
    last: dict[str | None, Event] = {}
    for each in seen.history.events:
        if each.name != names.EVENT_CONTEXT_TELEMETRY_STATE:
            continue
        if _phase(each) == "changed":  # says neither, unless its file is all that rotation has left
            last.setdefault(each.instance, each)
        else:
            last[each.instance] = each

    def told(which: Iterable[Event], what: str) -> str:
        newest = sorted(which, key=lambda each: each.time, reverse=True)
        pids = list(dict.fromkeys(each.pid for each in newest if each.pid is not None))
        return f"{processes(pids)} {what} {text.ago(newest[0].time, seen.now)}"

    if waiting := [each for each in last.values() if _phase(each) != "ended"]:
        yield f"no calls recorded yet: {told(waiting, 'began to record')}"
        if not seen.facts.samplers:  # of the window, which have been told
            yield from _sampled(samplers(waiting))
    elif last:
        yield f"no calls recorded: {told(last.values(), 'ended')} without one"


def _phase(state: Event) -> object:
    return state.attributes.get(names.CONTEXT_TELEMETRY_PHASE)


def plain_table(*columns: tuple[str, str]) -> Table:
    """A table without lines, of (name, `left` or `right`) columns."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for name, justify in columns:
        table.add_column(name, justify="right" if justify == "right" else "left", no_wrap=True)
    return table


SERVED: Mapping[str, Callable[[Served], RenderableType]] = {
    "surface": lambda row: row.surface or "-",
    "client": lambda row: row.client or "-",
    "calls": lambda row: f"{row.served:,}",
    "ok": lambda row: f"{row.ok:,}",
    "degr.": lambda row: _count(row.degraded, "yellow"),
    "failed": lambda row: _count(row.failed, "red"),
}
"""The columns of every table of calls."""


def _traffic(seen: Status) -> RenderableType:
    cells: dict[str, Callable[[Traffic], RenderableType]] = {
        **SERVED,
        "p95": lambda row: text.took(row.p95_seconds),
        "largest": lambda row: _against(text.size, row.largest_bytes, row.largest_limit),
        "oldest": lambda row: _against(text.lasting, row.oldest_age, row.oldest_limit),
    }

    def make(without: AbstractSet[str]) -> Table:
        return served_table({name: cells[name] for name in cells if name not in without}, seen.facts.traffic)

    return text.Fitting(make, ("p95", "oldest", "largest"))


def served_table(cells: Mapping[str, Callable[[Any], RenderableType]], traffic: Iterable[Served]) -> Table:
    """A line for each client on each surface."""
    table = plain_table(*((name, "left" if name in ("surface", "client") else "right") for name in cells))
    for row in traffic:
        table.add_row(*(cell(row) for cell in cells.values()))
    return table


def _last(words: str) -> Text:
    """Words for the last column, the only one that a narrow terminal cuts."""
    return Text(words, "dim", no_wrap=True, overflow="ellipsis")


def _count(count: int, style: str) -> Text:
    return Text(f"{count:,}", style if count else "dim")


def _against(form: Any, value: float | None, limit: float | None) -> Text:
    if value is None:
        return Text("-", "dim")
    over = limit is not None and value > limit
    shown = Text(form(value), "yellow" if over else "")
    return shown.append(f"/{form(limit)}", "dim") if limit is not None else shown


def beyond(verdict: Verdict, *, traffic: bool) -> RenderableType | None:
    """What is beyond its limit, unknown or too few to judge, each in a line; None where nothing is."""
    unknown = _notable_unknown(verdict) if traffic else []  # else the headline has said it of all
    table = plain_table(
        ("", "left"), ("indicator", "left"), ("surface", "left"), ("value", "right"), ("limit", "right")
    )
    table.add_column("")
    too_few = [finding for finding in verdict.of("healthy") if finding.too_few]
    for finding in [*verdict.of("unhealthy"), *unknown, *too_few]:
        doubtful = finding.state == "healthy"
        style = "dim" if doubtful else text.STATE_STYLE[finding.state]
        table.add_row(
            Text("~" if doubtful else text.STATE_MARK[finding.state], style),
            Text(finding.indicator.name, style),
            "" if finding.surface == EVERYWHERE else finding.surface or "-",
            _value(finding),
            _limit(finding),
            _last(_detail(finding)),
        )
    return table if table.row_count else None


def good(verdict: Verdict, met: AbstractSet[str], *, sampled: bool = False) -> Iterator[RenderableType]:
    """What is good, in a line; what has a few bad ones within its limit; and what the rest leaves open.

    What is ``sampled`` is not all there was.
    """
    healthy = verdict.of("healthy")
    told = {each.indicator.name for each in [*verdict.of("unhealthy"), *healthy] if _is_told(each)}
    fine = [each for each in healthy if each.indicator.name not in told]
    few = [each for each in fine if each.bad and each.indicator.kind == "ratio"]
    told |= {each.indicator.name for each in few}
    none = [each for each in fine if each.indicator.name not in told]
    left_open = dict.fromkeys(
        each.indicator.name
        for each in none
        if each.most_went_wrong
        or each.indicator.denied_by & met
        or (sampled and each.indicator.denied_by_samplers)
    )
    mark = (text.STATE_MARK["healthy"] + " ", "green")
    if said := dict.fromkeys(each.indicator.good for each in none if each.indicator.name not in left_open):
        yield Text.assemble(mark, (", ".join(said), "dim"))
    if few:
        words = ", ".join(
            " ".join((each.indicator.name, each.surface or "-", _value(each), "of", _limit(each)))
            for each in few
        )
        yield Text.assemble(mark, (f"within their limits: {words}", "dim"))
    if left_open:
        yield Text(f"- left open by what is above: {', '.join(left_open)}", "dim")


def _is_told(finding: Finding) -> bool:
    return finding.state == "unhealthy" or finding.too_few


def _detail(finding: Finding) -> str:
    """What the last column says, which always has something to say."""
    if finding.too_few:
        return f"too few to judge: {finding.bad:,} of {finding.minimum:,}"
    if finding.detail or finding.state == "unknown":
        return finding.detail or "nothing to judge by"
    if finding.indicator.kind == "ratio" and finding.indicator.unit == "ratio":
        return f"{finding.bad:,} of {finding.count:,}"
    return finding.indicator.wrong


def _notable_unknown(verdict: Verdict) -> list[Finding]:
    return [finding for finding in verdict.of("unknown") if finding.indicator.required or finding.too_few]


_FORMS: Mapping[str, Callable[[float], str]] = {
    "ratio": text.ratio,
    "per_call": text.per_call,
    "seconds": text.lasting,
    "count": lambda value: f"{value:,.0f}",
}


def _value(finding: Finding) -> str:
    if finding.value is None:
        return "unknown"
    unit = finding.indicator.unit
    return _FORMS[unit](finding.value) + (" per call" if unit == "per_call" else "")


def _limit(finding: Finding) -> str:
    if finding.indicator.kind == "silent":
        return ""
    return _FORMS[finding.indicator.unit](finding.limit)


@dataclass(frozen=True)
class _Met:
    """A reason, or an error without one, that calls of one surface had."""

    name: str
    surface: str | None
    count: int
    last: float
    trace_id: str
    pids: tuple[int, ...]
    advice: str
    style: str


def _met(seen: Status) -> list[_Met]:
    """What calls met, first what one repair ends; of what is as urgent what most calls met."""
    rows: list[tuple[ReasonSeen | ErrorSeen, str, str, str]] = [
        *(
            (each, each.reason, what_to_do(each.reason, each.pids, seen.ended), "yellow")
            for each in seen.facts.reasons
        ),
        *(
            (each, each.error, f"open the trace: {some_of(each.targets)}", "red")
            for each in seen.facts.errors
        ),
    ]
    met = [
        _Met(name, each.surface, each.count, each.last, each.trace_id, each.pids, advice, style)
        for each, name, advice, style in rows
    ]
    of_all = Counter[str]()
    for each in met:
        of_all[each.name] += each.count
    return sorted(met, key=lambda each: (urgency(each.name), -of_all[each.name], each.name, -each.count))


def _reasons(seen: Status, met: Sequence[_Met], rows: int) -> Iterator[RenderableType]:
    """What is wrong, where, and what to do. Surfaces and processes are told where there are several."""
    shown, more = met[:rows], met[rows:]
    if len(more) == 1:  # the lines that would tell of it have room for it
        shown, more = met, []
    cells: dict[str, Callable[[_Met], RenderableType]] = {
        "reason": lambda each: Text(each.name, each.style),
        "surface": lambda each: each.surface or "-",
        "calls": lambda each: f"{each.count:,}",
        "last": lambda each: text.ago(each.last, seen.now),
        "trace": lambda each: each.trace_id[: text.SHOWN_ID],
        "process": lambda each: _pids(each.pids),
        _ADVICE: lambda each: _last(each.advice),
    }
    alike = set()
    if len({row.surface for row in seen.facts.traffic}) == 1:
        alike.add("surface")
    if len(seen.facts.processes) == 1:
        alike.add("process")

    def make(without: AbstractSet[str]) -> Table:
        named = [name for name in cells if name not in without | alike]
        table = plain_table(*((name, "right" if name == "calls" else "left") for name in named[:-1]))
        table.add_column(_ADVICE)
        for each in shown:
            table.add_row(*(cells[name](each) for name in named))
        return table

    yield text.Fitting(make, ("process", "last"), whole=_ADVICE)
    if more:
        named = ", ".join(dict.fromkeys(each.name for each in more))
        command = seen.place.command("status", "--since", text.since(seen.seconds))
        yield Text(f"and {len(more)} more: {named}\n{command} | cat", "dim", overflow="fold")
    for reason in dict.fromkeys(each.name for each in shown):
        if words := how(reason, seen.place.folder):
            yield Text(f"{reason}: {words}", "dim", overflow="fold")
    if not_there := sum(row.not_there for row in seen.facts.traffic):
        pages = f"{text.counted(not_there, 'page')} not there, by names that are not recorded"
        words = f"resource_unknown: {pages}; they count in resolution_failures, not in degraded_ratio"
        yield Text(words, "dim", overflow="fold")


def _checks(seen: Status, checks: ChecksSeen) -> Text:
    """What looks of `check` found, in a line; they are nobody's calls."""
    told = Text(text.counted(checks.count, "check"))
    if checks.not_ok:
        told.append(f", {checks.not_ok:,} not well", "yellow")
        told.append(f": {', '.join(checks.reasons)}" if checks.reasons else "")
    told.append(f"  last {text.ago(checks.last, seen.now)}", "dim")
    if checks.not_ok:
        told.append(f"; {seen.place.command('check')} says what is wrong now", "dim")
    return told


def _pids(pids: tuple[int, ...]) -> str:
    return f"{pids[0] if pids else '-'}{f' +{len(pids) - 1}' if pids[1:] else ''}"


def _processes(seen: Status) -> Iterator[RenderableType]:
    """Who recorded: a project may be served by many processes at once, of more than one release.

    Those that run first, the sick before the others, and last those that nobody has called.
    """
    known = sorted(
        seen.facts.processes, key=lambda each: (not each.calls, each.ended is not None, not each.not_ok)
    )
    if not known:
        return
    if len(known) <= _IN_A_LINE and len({each.release for each in known}) == 1:
        named = (
            f"{each.pid or '-'} (Dataface {each.release or '-'}, {_heard(each, seen.now)})" for each in known
        )
        yield Text(f"processes {', '.join(named)}", "dim")
        return
    shown = known[:_PROCESSES_SHOWN] if len(known) > _PROCESSES_SHOWN + 1 else known
    cells: dict[str, Callable[[ProcessSeen], RenderableType]] = {
        "process": lambda each: str(each.pid or "-"),
        "Dataface": lambda each: each.release or "-",
        "surface": lambda each: ", ".join(each.surfaces) or "-",
        "client": lambda each: ", ".join(each.clients) or "-",
        "since": lambda each: text.ago(min(each.began or each.first, each.first), seen.now),
        "last": lambda each: _heard(each, seen.now),
        "calls": lambda each: f"{each.calls:,}",
        "not ok": lambda each: _count(each.not_ok, "yellow"),
    }

    def make(without: AbstractSet[str]) -> Table:
        named = [name for name in cells if name not in without]
        table = plain_table(*((name, "right" if name in ("calls", "not ok") else "left") for name in named))
        for each in shown:
            table.add_row(*(cells[name](each) for name in named))
        return table

    yield text.Fitting(make, ("client", "since"))
    if len(shown) < len(known):
        yield Text(_more_processes(seen, known[len(shown) :]), "dim", overflow="fold")


def _heard(process: ProcessSeen, now: float) -> str:
    """Its last call, or its end: one that was killed says no end, as one that nobody calls."""
    if process.ended is not None:
        return f"ended {text.ago(process.ended, now)}"
    return text.ago(process.last, now)


def _more_processes(seen: Status, rest: Sequence[ProcessSeen]) -> str:
    """The processes that have no line of their own: how many of which kind, and the command that lists them."""
    kinds = Counter(
        " ".join(
            (
                ", ".join(each.surfaces) or "no calls",
                *([", ".join(each.clients)] if each.clients else []),
                f"on {each.release or '-'}",
            )
        )
        for each in rest
    ).most_common()
    told = [f"{count} {kind}" for kind, count in kinds[:_KINDS_SHOWN]]
    if others := sum(count for _, count in kinds[_KINDS_SHOWN:]):
        told.append(f"{others} other{'s' if others > 1 else ''}")
    bad = sum(each.not_ok for each in rest)
    calls = f"; {text.counted(bad, 'call')} not ok" if bad else ""
    command = seen.place.command("status", "--since", text.since(seen.seconds), "--json")
    return f"and {len(rest)} more processes: {', '.join(told)}{calls}\n{command}"


def _footer(seen: Status) -> Iterator[RenderableType]:
    if seen.facts.traffic:  # else the headline has said it
        yield from _of_this_environment()
    unreadable = seen.history.unreadable
    if unreadable:
        named = ", ".join(f"{each.name} ({each.why})" for each in unreadable[:_FILES_NAMED])
        more_files = f" and {len(unreadable) - _FILES_NAMED} more" if len(unreadable) > _FILES_NAMED else ""
        yield Text(f"! {text.counted(len(unreadable), 'file')} skipped: {named}{more_files}", "yellow")
    if cut := seen.history.cut_lines:
        named = ", ".join(list(cut)[:_FILES_NAMED])
        yield Text(f"! {text.counted(sum(cut.values()), 'cut line')} skipped in {named}", "yellow")


def _of_this_environment() -> Iterator[RenderableType]:
    """What makes the local files less than all that is served, as far as this environment tells."""
    from context_telemetry.pipeline.destination import chosen_by, destination

    if destination().mode == "otlp":
        words = f"telemetry goes elsewhere now ({chosen_by()}): these are the local files from before"
        yield Text(f"! {words}", "yellow")
