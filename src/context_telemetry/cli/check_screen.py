"""How one look of `check` reads: on a screen, in a line, as a JSON document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from rich.console import Group, RenderableType
from rich.text import Text

from context_telemetry.cli import documents, text
from context_telemetry.cli.check_parts import NotThere, Part, accepted_until
from context_telemetry.cli.contract_screen import change_document, changes_table, hit_lines, matters
from context_telemetry.contract.impact import words
from context_telemetry.health import what_to_do

if TYPE_CHECKING:
    from context_telemetry.cli.check import Checked
    from context_telemetry.contract.comparison import Comparison, Finding
    from context_telemetry.contract.comparison import Part as ContractPart
    from context_telemetry.contract.model import Level

_MARK: Final = {"ok": "✓", "wrong": "✗", "unknown": "?", "absent": "-"}
_STYLE: Final = {"ok": "green", "wrong": "red", "unknown": "yellow", "absent": "dim"}
_NAMED: Final = 20
"""So many of a kind are listed; the JSON document has all of them."""
# What decides first about the headline.
_FIRST: Final = ("contract", "source", "faces", "drift", "manifest", "prompt", "tools")


def show(checked: Checked) -> None:
    """Print one look as a screen."""
    text.console().print(screen(checked))


def screen(checked: Checked) -> RenderableType:
    """The verdict, a row for each part, then what is broken with everybody who is hit."""
    style = text.STATE_STYLE[checked.verdict]
    head = Text.assemble(
        (f" {checked.verdict.upper()} ", f"bold reverse {style}"), " ", (checked.place.name, "bold")
    )
    head.append(f"  {reason(checked)}", style if checked.verdict != "healthy" else "")
    return Group(head, Text(), _parts(checked.parts), *_broken(checked))


def reason(checked: Checked) -> str:
    """The headline: what decides, in words."""
    wanted = {"unhealthy": "wrong", "unknown": "unknown"}.get(checked.verdict)
    unread = [part for part in checked.parts if part.name == "project" and part.state == "unknown"]
    # Where the project itself cannot be read, all else that is wrong follows from that.
    deciding = unread + sorted(
        (part for part in checked.parts if part.state == wanted and part not in unread),
        key=lambda part: _FIRST.index(part.kind),
    )
    if not deciding:
        looked = [part.name for part in checked.parts if part.state == "ok"]
        return "all well" if looked else "nothing was looked at"
    first, *others = deciding
    named = ", ".join(dict.fromkeys(part.name for part in others if part.name != first.name))
    return _of(first) + (f"; and {named}" if named else "")


def _of(part: Part) -> str:
    """What was found, with the reasons where it does not say them in words."""
    if part.kind == "contract":
        return part.found
    reasons = part.reasons if part.kind in ("manifest", "prompt", "tools") else ()
    return f"{part.name}: {', '.join((part.found, *reasons))}"


def _parts(parts: Sequence[Part]) -> RenderableType:
    from context_telemetry.cli.status import plain_table

    table = plain_table(("", "left"), ("part", "left"), ("took", "right"))
    table.add_column("found", overflow="fold")
    for part in parts:
        name = f"source {part.name}" if part.kind == "source" else part.name
        found = Text(part.found, _STYLE[part.state] if part.state in ("wrong", "unknown") else "")
        for line in _advice(part):
            found.append(f"\n{line}", "dim")
        table.add_row(
            Text(_MARK[part.state], _STYLE[part.state]),
            name,
            "" if part.seconds is None else text.took(part.seconds),
            found,
        )
    return table


def _advice(part: Part) -> Iterator[str]:
    for reason in part.reasons if part.state in ("wrong", "unknown") else ():
        words = part.advice if reason == "layer_unavailable" and part.advice else what_to_do(reason)
        if words:
            yield f"{reason}: {words}"


def _broken(checked: Checked) -> Iterator[RenderableType]:
    compared = checked.compared
    shown = [each for each in compared.report.changes if matters(each)] if compared.report else []
    if shown:
        yield Text()
        yield changes_table(shown[:_NAMED], checked.recorded)
    told = {each.change.object for each in shown}
    findings = compared.comparison.findings if compared.comparison else ()
    excepted = accepted_until(compared.report)
    drift = [
        each
        for each in findings
        if each.reason == "schema_drift"
        and each.object not in told
        and (each.table, each.column) not in excepted
    ]
    not_there = [each for each in compared.not_there if not each.explained]
    if drift or not_there:
        yield Text()
    for each in drift[:_NAMED]:
        yield Text(f"! {each.rule} {each.object}: {_hit(each)}", "yellow")
    for name in not_there[:_NAMED]:
        yield from _uses(name, checked)
    if more := sum(max(0, len(each) - _NAMED) for each in (shown, drift, not_there)):
        command = checked.place.command("contract", "diff")
        yield Text(f"and {more:,} more: {command}", "dim")
    if compared.report and not compared.report.accepted.whole:
        yield Text(f"only what consumers rely on is compared: {compared.report.accepted.note}", "dim")


def _hit(finding: Finding) -> str:
    told = text.counted(finding.consumers, "consumer") if finding.consumers else "nobody uses it"
    if finding.served is None or not finding.consumers:
        return told
    return (
        f"{told}, served {text.counted(finding.served, 'time')}" if finding.served else f"{told}, not served"
    )


def _uses(name: NotThere, checked: Checked) -> Iterator[Text]:
    where = f"{name.source}: " if name.source else ""
    yield Text(f"! {where}{name.name} is not there: {words(name.hits, checked.recorded)}", "yellow")
    for each in hit_lines(name.hits):
        yield Text(f"    {each}", "dim")


def line(checked: Checked) -> str:
    """One line of a check that stays."""
    return f"{documents.iso(checked.at)} {checked.verdict} {reason(checked)} ({text.took(checked.seconds)})"


def document(checked: Checked) -> dict[str, Any]:
    """All that was found; docs/json.md lists the keys."""
    compared = checked.compared
    comparison = compared.comparison
    changes = compared.report.changes if compared.report else ()
    return {
        "schema": "context-telemetry.check/1",
        "state": checked.verdict,
        "reason": reason(checked),
        "exit_code": checked.exit_code,
        "project": {"name": checked.place.name, "root": str(checked.place.root)},
        "generated_at": documents.iso(checked.at),
        "seconds": checked.seconds,
        "trace_id": checked.trace_id,
        "reasons": list(checked.reasons),
        "delivered": checked.delivered,
        "window_seconds": checked.options.since,
        "recorded": checked.recorded is not None,
        "parts": [
            {
                "kind": part.kind,
                "name": part.name,
                "state": part.state,
                "found": part.found,
                "seconds": part.seconds,
                "reasons": list(part.reasons),
                "error_type": part.error_type,
                "advice": part.advice or None,
            }
            for part in checked.parts
        ],
        "contract": compared.report.accepted.name if compared.report else None,
        "counts": _counts(comparison) if comparison and comparison.accepted else None,
        "drift": comparison.drift if comparison else None,
        "changes": [change_document(each, checked.recorded) for each in changes if matters(each)],
        "findings": [_finding(each) for each in comparison.findings] if comparison else [],
        "not_there": [_not_there(each) for each in compared.not_there],
    }


def _counts(comparison: Comparison) -> dict[ContractPart, dict[Level, int]]:
    return {part: dict(levels) for part, levels in comparison.open.items()}


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "reason": finding.reason,
        "rule": finding.rule,
        "level": finding.level,
        "object": finding.object,
        "consumers": finding.consumers,
        "served": finding.served,
        "faces": list(finding.faces),
    }


def _not_there(name: NotThere) -> dict[str, Any]:
    return {
        "source": name.source,
        "name": name.name,
        "explained": name.explained,
        "accepted_until": name.until.isoformat() if name.until else None,
        "hits": [
            {
                "kind": hit.consumer.kind,
                "name": hit.consumer.name,
                "parts": list(hit.parts),
                "served": hit.served,
            }
            for hit in name.hits
        ],
    }
