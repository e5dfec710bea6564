"""`status`: the verdict of a window, as one screen or as one JSON document."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from context_telemetry.cli import text
from context_telemetry.cli.place import Place
from context_telemetry.conventions import names
from context_telemetry.health import EVERYWHERE, WHAT_TO_DO, Facts, Finding, Verdict, evaluate, facts
from context_telemetry.history import History, ProcessSeen, Traffic

SCHEMA = "context-telemetry.status/1"

EXIT = {"healthy": 0, "unhealthy": 1, "unknown": 3}

_WATCHED_EVERY = 2.0
_REASONS_SHOWN = 5
_PROCESSES_SHOWN = 6
_IN_A_LINE = 2  # so many alike need no table to be told apart
_FILES_NAMED = 3


@dataclass(frozen=True)
class Status:
    """What one look at a window gave."""

    place: Place
    history: History
    facts: Facts
    verdict: Verdict
    now: float
    seconds: float | None


def look(place: Place, seconds: float | None) -> Status:
    """Read the last `seconds` (None: everything) of a project and judge them."""
    now = time.time()
    history = History(place.folder, since=None if seconds is None else now - seconds)
    known = facts(history)
    return Status(place, history, known, evaluate(known, place.limits), now, seconds)


def once(place: Place, seconds: float | None, *, as_json: bool) -> int:
    """Print the status; the exit code."""
    seen = look(place, seconds)
    if as_json:
        print(json.dumps(document(seen), indent=2))
    else:
        text.console().print(screen(seen))
    return EXIT[seen.verdict.state]


def watch(place: Place, seconds: float | None) -> int:
    """Show the status and renew it until interrupted; the last exit code."""
    from rich.live import Live

    console = text.console()
    seen = look(place, seconds)
    with (
        suppress(KeyboardInterrupt),
        Live(screen(seen), console=console, screen=True, auto_refresh=False) as live,
    ):
        while True:
            time.sleep(_WATCHED_EVERY)
            seen = look(place, seconds)
            live.update(screen(seen), refresh=True)
    console.print(screen(seen))
    return EXIT[seen.verdict.state]


# The screen


def screen(seen: Status) -> RenderableType:
    """One screen: the verdict, who was served what, what is wrong and what to do."""
    parts: list[RenderableType] = [_headline(seen)]
    if seen.facts.traffic:
        parts += [Text(), _traffic(seen)]
    if seen.facts.traffic or seen.verdict.state != "unknown":
        parts += [Text(), *_indicators(seen.verdict)]
    if seen.facts.reasons:
        parts += [Text(), *_reasons(seen)]
    if footer := [*_processes(seen), *_footer(seen)]:
        parts += [Text(), *footer]
    return Group(*parts)


def _headline(seen: Status) -> RenderableType:
    state = seen.verdict.state
    style = text.STATE_STYLE[state]
    head = Text.assemble((f" {state.upper()} ", f"bold reverse {style}"), " ", (seen.place.name, "bold"))
    window = "everything recorded" if seen.seconds is None else f"last {text.lasting(seen.seconds)}"
    served = sum(row.served for row in seen.facts.traffic)
    head.append(f"  {window}, {text.counted(served, 'call')}", "dim")
    reason = Text(seen.verdict.reason, style)
    if not seen.facts.traffic:
        reason.append("".join(f"\n{line}" for line in _why_nothing(seen)), "dim")
    return Group(head, reason)


def _why_nothing(seen: Status) -> Iterator[str]:
    """Why nothing is in the window, as far as this environment and the project's files can tell."""
    from context_telemetry.pipeline.destination import destination
    from context_telemetry.settings import is_disabled

    last, chosen, why = seen.history.files.last_written, destination(), ""
    if is_disabled():
        why = "recording is switched off in this environment (CONTEXT_TELEMETRY_DISABLED, OTEL_SDK_DISABLED)"
    elif seen.place.settings.disabled:
        why = f"recording is switched off by `disabled` in the files of {seen.place.root}"
    elif chosen.mode == "otlp":
        why = "telemetry goes to OTLP, not to local files (OTEL_EXPORTER_* in this environment)"
    elif not chosen.exporters.get("traces"):
        why = "traces are switched off (OTEL_TRACES_EXPORTER=none in this environment)"
    if why:
        yield why
    if last is not None:
        yield f"last written {text.ago(last, seen.now)}: look further back with --since"
    elif not why:
        yield f"no files in {seen.place.folder}: start a command with `context-telemetry run --`"


def _table(*columns: tuple[str, str]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for name, justify in columns:
        table.add_column(name, justify="right" if justify == "right" else "left", no_wrap=True)
    return table


def _traffic(seen: Status) -> RenderableType:
    cells: dict[str, Callable[[Traffic], RenderableType]] = {
        "surface": lambda row: row.surface,
        "client": lambda row: row.client,
        "calls": lambda row: f"{row.served:,}",
        "ok": lambda row: f"{row.ok:,}",
        "degr.": lambda row: _count(row.degraded, "yellow"),
        "failed": lambda row: _count(row.failed, "red"),
        "p95": lambda row: text.took(row.p95_seconds),
        "largest": lambda row: _against(text.size, row.largest_bytes, row.largest_limit),
        "oldest": lambda row: _against(text.lasting, row.oldest_age, row.oldest_limit),
    }

    def make(without: AbstractSet[str]) -> Table:
        shown = [name for name in cells if name not in without]
        table = _table(*((name, "left" if name in ("surface", "client") else "right") for name in shown))
        for row in seen.facts.traffic:
            table.add_row(*(cells[name](row) for name in shown))
        return table

    return text.Fitting(make, ("p95", "oldest", "largest"))


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


def _indicators(verdict: Verdict) -> Iterator[RenderableType]:
    table = _table(
        ("", "left"), ("indicator", "left"), ("surface", "left"), ("value", "right"), ("limit", "right")
    )
    table.add_column("")
    for finding in [*verdict.of("unhealthy"), *_notable_unknown(verdict)]:
        style = text.STATE_STYLE[finding.state]
        table.add_row(
            Text(text.STATE_MARK[finding.state], style),
            Text(finding.indicator.name, style),
            "" if finding.surface == EVERYWHERE else finding.surface,
            _value(finding),
            _limit(finding),
            _last(finding.detail or (finding.indicator.bad if finding.state == "unknown" else "")),
        )
    if table.row_count:
        yield table
    bad = {finding.indicator.name for finding in verdict.of("unhealthy")}
    good = dict.fromkeys(
        each.indicator.good for each in verdict.of("healthy") if each.indicator.name not in bad
    )
    if good:
        yield Text.assemble((text.STATE_MARK["healthy"] + " ", "green"), (", ".join(good), "dim"))


def _notable_unknown(verdict: Verdict) -> list[Finding]:
    return [finding for finding in verdict.of("unknown") if finding.indicator.required]


def _value(finding: Finding) -> str:
    if finding.value is None:
        return "unknown"
    return text.ratio(finding.value) if finding.indicator.unit == "ratio" else f"{finding.value:,.0f}"


def _limit(finding: Finding) -> str:
    if finding.indicator.name == "telemetry_silent":
        return ""
    return text.ratio(finding.limit) if finding.indicator.unit == "ratio" else f"{finding.limit:,.0f}"


def _reasons(seen: Status) -> Iterator[RenderableType]:
    table = _table(("reason", "left"), ("calls", "right"), ("last", "left"), ("trace", "left"))
    table.add_column("what to do")
    shown, more = seen.facts.reasons[:_REASONS_SHOWN], seen.facts.reasons[_REASONS_SHOWN:]
    if len(more) == 1:  # the line that would tell of it has room for it
        shown, more = seen.facts.reasons, []
    for reason in shown:
        table.add_row(
            Text(reason.reason, "yellow"),
            f"{reason.count:,}",
            text.ago(reason.last, seen.now),
            reason.trace_id[: text.SHOWN_ID],
            _last(WHAT_TO_DO.get(reason.reason, "")),
        )
    yield table
    if more:
        yield Text(f"and {len(more)} more: context-telemetry traces", "dim")


def _processes(seen: Status) -> Iterator[RenderableType]:
    """Who recorded, the sick first: a project may be served by many processes at once, of more than one release."""
    known = seen.facts.processes
    if not known:
        return
    if len(known) <= _IN_A_LINE and len({each.release for each in known}) == 1:
        named = (
            f"{each.pid or '-'} (Dataface {each.release}, {text.ago(each.last, seen.now)})" for each in known
        )
        yield Text(f"processes {', '.join(named)}", "dim")
        return
    shown = known[:_PROCESSES_SHOWN] if len(known) > _PROCESSES_SHOWN + 1 else known
    cells: dict[str, Callable[[ProcessSeen], RenderableType]] = {
        "process": lambda each: str(each.pid or "-"),
        "Dataface": lambda each: each.release,
        "surface": lambda each: ", ".join(each.surfaces) or "-",
        "client": lambda each: ", ".join(each.clients) or "-",
        "since": lambda each: text.ago(each.first, seen.now),
        "last": lambda each: text.ago(each.last, seen.now),
        "calls": lambda each: f"{each.calls:,}",
        "not ok": lambda each: _count(each.not_ok, "yellow"),
    }

    def make(without: AbstractSet[str]) -> Table:
        named = [name for name in cells if name not in without]
        table = _table(*((name, "right" if name in ("calls", "not ok") else "left") for name in named))
        for each in shown:
            table.add_row(*(cells[name](each) for name in named))
        return table

    yield text.Fitting(make, ("client", "since"))
    if len(shown) < len(known):
        quiet = known[len(shown) :]
        releases = ", ".join(sorted({each.release for each in quiet}))
        bad = sum(each.not_ok for each in quiet)
        yield Text(f"and {len(quiet)} more (Dataface {releases}), {text.counted(bad, 'call')} not ok", "dim")


def _footer(seen: Status) -> Iterator[RenderableType]:
    unreadable = seen.history.unreadable
    if unreadable:
        named = ", ".join(f"{each.name} ({each.why})" for each in unreadable[:_FILES_NAMED])
        more_files = f" and {len(unreadable) - _FILES_NAMED} more" if len(unreadable) > _FILES_NAMED else ""
        yield Text(f"! {text.counted(len(unreadable), 'file')} skipped: {named}{more_files}", "yellow")
    if cut := seen.history.cut_lines:
        named = ", ".join(list(cut)[:_FILES_NAMED])
        yield Text(f"! {text.counted(sum(cut.values()), 'cut line')} skipped in {named}", "yellow")


# The document


def document(seen: Status) -> dict[str, Any]:
    """The status as JSON, of the schema that `schema` names: while its number stands, keys are only added.

    Times are ISO 8601 in UTC, durations and ages seconds, sizes bytes, ratios 0 to 1; null is "not known".
    """
    verdict, history = seen.verdict, seen.history
    return {
        "schema": SCHEMA,
        "state": verdict.state,
        "reason": verdict.reason,
        "exit_code": EXIT[verdict.state],
        "project": {"name": seen.place.name, "root": str(seen.place.root)},
        "folder": str(seen.place.folder),
        "generated_at": _iso(seen.now),
        "since": _iso(history.since) if history.since is not None else None,
        "window_seconds": seen.seconds,
        "traffic": [
            {
                "surface": row.surface,
                "client": row.client,
                "served": row.served,
                "ok": row.ok,
                "degraded": row.degraded,
                "failed": row.failed,
                "p95_seconds": row.p95_seconds,
                "largest_payload": {"bytes": row.largest_bytes, "limit": row.largest_limit},
                "oldest": {
                    "age_seconds": row.oldest_age,
                    "layer": row.oldest_layer,
                    "promise": row.oldest_limit,
                },
            }
            for row in seen.facts.traffic
        ],
        "indicators": [
            {
                "name": finding.indicator.name,
                "surface": finding.surface,
                "state": finding.state,
                "value": finding.value,
                "limit": finding.limit,
                "unit": finding.indicator.unit,
                "count": finding.count,
                "severity": finding.indicator.severity,
                "measures": finding.indicator.measures,
                "notices": finding.indicator.notices,
                "detail": finding.detail,
            }
            for finding in verdict.findings
        ],
        "reasons": [
            {
                **asdict(reason),
                "first": _iso(reason.first),
                "last": _iso(reason.last),
                "what_to_do": WHAT_TO_DO.get(reason.reason),
            }
            for reason in seen.facts.reasons
        ],
        "served": [asdict(row) for row in history.served()],
        "payloads": [asdict(row) for row in seen.facts.sizes],
        "ages": [asdict(row) for row in seen.facts.ages],
        "durations": [asdict(row) for row in history.durations()],
        "artifacts": [
            {"time": _iso(event.time), **event.attributes}
            for event in history.last_events(names.EVENT_DATAFACE_ARTIFACT_CHANGED, names.DATAFACE_ARTIFACT)
        ],
        "processes": [
            {**asdict(process), "first": _iso(process.first), "last": _iso(process.last)}
            for process in seen.facts.processes
        ],
        "unreadable": [asdict(each) for each in history.unreadable],
        "cut_lines": dict(history.cut_lines),
    }


def _iso(moment: float) -> str:
    return (
        datetime.fromtimestamp(moment, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )
