"""How a contract's changes read: on a screen, as Markdown for a pull request, as a JSON document."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from context_telemetry.cli import documents, text
from context_telemetry.cli.place import Place
from context_telemetry.cli.served_tools import Listed
from context_telemetry.contract.catalogue import Missing
from context_telemetry.contract.document import Contract, Excepted, dotted
from context_telemetry.contract.file import CATALOGUE, NAME
from context_telemetry.contract.impact import NEW, Hit, Recorded, who, words
from context_telemetry.contract.judgement import Judged, Report, refused
from context_telemetry.contract.manifest import CANDIDATES
from context_telemetry.contract.model import Level, UnknownUse
from context_telemetry.contract.project_files import line_of
from context_telemetry.contract.snapshot import Snapshot
from context_telemetry.contract.sources import PROJECT_FILES

_STYLE: Final[Mapping[Level, str]] = {"breaking": "red", "warning": "yellow", "info": "dim"}
_NAMED: Final = 20
"""So many unknown uses or missing objects are listed; the JSON document has all of them."""
_HITS: Final = 10
"""Likewise of those whom one change hits."""

show = documents.show


# -- snapshot -------------------------------------------------------------------------------------


def snapshot_lines(now: Snapshot, made: Contract, listed: Listed, changed: bool) -> Iterator[str]:
    """What was accepted, and what could not be."""
    tables, columns = made.counted
    consumers = len({use.consumer for use in made.uses})
    yield f"{NAME} and {CATALOGUE}: {'written' if changed else 'as they were'}"
    yield (
        f"{text.counted(consumers, 'consumer')} rely on {len(made.columns):,} of {text.counted(columns, 'column')} in "
        f"{len(made.tables):,} of {text.counted(tables, 'table')}"
    )
    if made.tools is not None:
        kept = "" if now.tools is not None else ", as they were accepted before"
        yield (
            f"{text.counted(len(made.tools), 'tool')} and {text.counted(len(made.resources or ()), 'resource')}{kept}"
        )
    else:
        yield f"tools and resources are not in it: {listed.why}"
    for state in now.unread:
        yield f"! {state.name}: left out, so nothing of it is in the contract"
    if now.manifest_problem:
        yield f"! nothing that dbt declares is in the contract: {now.manifest_problem}"
    yield from _listed("! not known", [_unknown(each) for each in made.unknown])
    yield from _listed("! declared and not served", [_missing(each) for each in made.missing])
    yield from _listed("! views not checked", [".".join(each) for each in now.unchecked])
    yield from _listed(
        "! not readable", [f"{state.name}: {state.unread}" for state in refused(now, now.uses)]
    )


def snapshot_document(
    place: Place, now: Snapshot, made: Contract, listed: Listed, changed: bool
) -> dict[str, Any]:
    tables, columns = made.counted
    return {
        "schema": "context-telemetry.contract-snapshot/1",
        "exit_code": 0,
        "problems": [],
        "project": {"name": place.name, "root": str(place.root)},
        "generated_at": documents.iso(time.time()),
        "files": [str(place.root / NAME), str(place.root / CATALOGUE)],
        "changed": changed,
        "tables": tables,
        "columns": columns,
        "relied_on": {"tables": len(made.tables), "columns": len(made.columns)},
        "consumers": len({use.consumer for use in made.uses}),
        "tools": None if made.tools is None else len(made.tools),
        "resources": None if made.resources is None else len(made.resources),
        "tools_unknown": listed.why,
        "manifest_unknown": now.manifest_problem,
        "left_out": [{"name": state.name, "type": state.type} for state in now.unread],
        "unknown": [_unknown_document(each) for each in made.unknown],
        "missing": [_missing_document(each) for each in made.missing],
        "unchecked": [dotted(each) for each in now.unchecked],
    }


def snapshot_problems(place: Place, problems: Sequence[str]) -> dict[str, Any]:
    """Where nothing could be written."""
    return {
        "schema": "context-telemetry.contract-snapshot/1",
        "exit_code": 3,
        "problems": list(problems),
        "project": {"name": place.name, "root": str(place.root)},
        "generated_at": documents.iso(time.time()),
        "files": [],
        "changed": False,
        "tables": None,
        "columns": None,
        "relied_on": None,
        "consumers": None,
        "tools": None,
        "resources": None,
        "tools_unknown": None,
        "manifest_unknown": None,
        "left_out": [],
        "unknown": [],
        "missing": [],
        "unchecked": [],
    }


# -- a report on a screen -------------------------------------------------------------------------


def show_report(
    place: Place, report: Report, listed: Listed, recorded: Recorded | None, *, every: bool
) -> None:
    """The headline, the changes (of a check: the breaking ones that somebody relies on), what is not known."""
    console = text.console()
    console.print(_headline(place, report, recorded))
    shown = [each for each in report.changes if every or matters(each)]
    if shown:
        console.print()
        console.print(changes_table(shown, recorded))
    if more := len(report.changes) - len(shown):
        command = place.command("contract", "diff")
        console.print(Text(f"{text.counted(more, 'other change')}: {command}", "dim"))
    for line in _notes(report, listed):
        console.print(Text(line, "yellow" if line.startswith("!") else "dim"), soft_wrap=True)


def matters(judged: Judged) -> bool:
    return judged.change.level == "breaking" and judged.relied_on


def _headline(place: Place, report: Report, recorded: Recorded | None) -> Text:
    state, style = _state(report)
    head = Text.assemble((f" {state} ", f"bold reverse {style}"), " ", (place.name, "bold"))
    head.append(f"  {in_short(report, recorded)}", style if report.open else "")
    return head


def _state(report: Report) -> tuple[str, str]:
    return {0: ("HOLDS", "green"), 1: ("BROKEN", "red"), 3: ("UNKNOWN", "yellow")}[report.exit_code]


def in_short(report: Report, recorded: Recorded | None) -> str:
    """`2 breaking changes hit 4 dashboards, 3 of them opened 410 times this week`."""
    if report.open:
        told = text.counted(len(report.open), "breaking change")
        if found := _everybody(report.open):
            told += f" hit{'s' if len(report.open) == 1 else ''} {words(found, recorded)}"
        return told
    unread = {
        "source": [state.name for state in report.unread],
        "face": [use.consumer.name for use in report.unreadable],
    }
    unknown = [
        f"{text.counted(len(listed), kind)} cannot be read: {_some(listed)}"
        for kind, listed in unread.items()
        if listed
    ]
    return "; ".join(unknown) or f"nothing breaks a consumer ({settled(report)})"


def settled(report: Report) -> str:
    """The changes that are not open: `2 changes that hit nobody, 1 warning, 1 excepted`."""
    counts = Counter(_counts_as(each) for each in report.changes if not each.open)
    nobody = counts.pop(_NOBODY, 0)
    told = [f"{text.counted(nobody, 'change')} that hit{'s' if nobody == 1 else ''} nobody"] if nobody else []
    told += [f"{counts[level]} {level}" for level in (*_STYLE, _EXCEPTED) if counts[level]]
    return ", ".join(told) or "no change"


_NOBODY: Final = "nobody"
_EXCEPTED: Final = "excepted"


def _counts_as(judged: Judged) -> str:
    if judged.exception is not None:
        return _EXCEPTED
    return judged.change.level if judged.relied_on else _NOBODY


def _some(listed: Sequence[str]) -> str:
    more = f" and {len(listed) - _HITS} more" if len(listed) > _HITS else ""
    return ", ".join(listed[:_HITS]) + more


def _everybody(changes: Sequence[Judged]) -> list[Hit]:
    """Everybody hit by some changes, once."""
    return list({hit.consumer: hit for each in changes for hit in each.hits}.values())


def changes_table(changes: Sequence[Judged], recorded: Recorded | None) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("", no_wrap=True)
    table.add_column("rule", no_wrap=True)
    table.add_column("object, and who is hit", overflow="fold")
    for each in changes:
        change = each.change
        told = Text(change.object, "bold" if each.open else "")
        for line, style in _lines(each, recorded):
            told.append(f"\n{line}", style)
        table.add_row(level(each), change.rule, told)
    return table


def level(judged: Judged) -> Text:
    """The rule's level; of a breaking one that breaks nothing, why."""
    said = judged.change.level
    if said != "breaking" or judged.open:
        return Text(said, _STYLE[said])
    return Text("excepted" if judged.exception else "unused", _STYLE["info"])


def _lines(judged: Judged, recorded: Recorded | None) -> Iterator[tuple[str, str]]:
    """What stands below an object, each line with its style."""
    if became := _became(judged):
        yield became, "dim"
    if judged.change.rule not in NEW:
        yield who(judged.change, judged.hits, recorded), ""
    for line in hit_lines([hit for hit in judged.hits if hit.consumer.kind != "tool"]):
        yield f"  {line}", "dim"
    if judged.exception:
        yield f"accepted until {judged.exception.until}: {judged.exception.reason}", "green"


def _became(judged: Judged) -> str:
    change = judged.change
    if change.before is None and change.after is None:
        return change.evidence
    before = None if change.before == change.object else change.before or "nothing"
    told = f"{before or 'now'} {'->' if before else ''} {change.after or 'nothing'}".replace("  ", " ")
    return f"{told} ({change.evidence})" if change.evidence else told


def hit_lines(hits: Sequence[Hit]) -> Iterator[str]:
    """The first of those who are hit, a line each."""
    yield from map(with_parts, hits[:_HITS])
    if len(hits) > _HITS:
        yield f"and {len(hits) - _HITS:,} more"


def with_parts(hit: Hit) -> str:
    return f"{hit.consumer.name} ({', '.join(hit.parts)})" if hit.parts else hit.consumer.name


def troubles(report: Report) -> Iterator[str]:
    """What has to be repaired so that all is known, each with its file and line where it has one."""
    for state in report.unread:
        whole = (report.now.catalogue.source(state.name) or state).unread is not None
        words = "cannot be read, so nothing is known of it" if whole else "cannot be read in full"
        readers = {use.consumer for use in report.accepted.contract.uses if use.table.source == state.name}
        told = f"; {text.counted(len(readers), 'consumer')} rel{'ies' if len(readers) == 1 else 'y'} on it"
        yield f"{where(report.now.root, state.name)}: {words}: {state.unread}{told if whole and readers else ''}"
    for use in report.unreadable:
        yield f"{use.why}; so nothing is known of what {use.consumer.name} reads now"
    if why := manifest_unknown(report.now, report.accepted.contract):
        yield f"nothing is known of what dbt declares: {why}"
    yield from expired(report)
    name = report.accepted.name
    for each in report.unneeded:
        if each not in report.over:
            yield f"{name}:{each.line}: exceptions: {each.rule} of {each.object} covers no change; take it out"
    if not report.accepted.whole:
        yield (
            f"{name}: {report.accepted.note}: only what consumers rely on is compared, and renames are not recognised; "
            f"write both anew and commit both{'' if name == NAME else ' there'}: context-telemetry contract snapshot"
        )


def expired(report: Report) -> Iterator[str]:
    """The exceptions that count no more."""
    for each in report.over:
        yield (
            f"{report.accepted.name}:{each.line}: exceptions: {each.rule} of {each.object} was accepted until "
            f"{each.until} and counts no more; renew it with a reason, or take it out"
        )


def where(root: Path, source: str) -> str:
    """`dataface.yml:2: sources.shop`."""
    for name in PROJECT_FILES:
        path = root / name
        if path.is_file():
            return f"{name}:{line_of(path.read_text('utf-8'), 'sources', source)}: sources.{source}"
    return f"sources.{source}"


def manifest_unknown(now: Snapshot, contract: Contract) -> str | None:
    """Why nothing is known of what dbt declares, where there is a manifest, or the contract has anything of one."""
    if now.declared is None and now.manifest_problem is None and contract.declared:
        return f"{CANDIDATES[0]}: is not there; make it with: dbt parse"
    return now.manifest_problem


def _notes(report: Report, listed: Listed) -> Iterator[str]:
    for line in troubles(report):
        yield f"! {line}"
    # Of a source or a face that cannot be read at all, one line says why.
    unread = {state.name for state in report.now.unread}
    unknown = [use for use in report.unknown if use.source not in unread and use not in report.unreadable]
    yield from _listed("! not known", [_unknown(each) for each in unknown])
    yield from _listed("! declared and not served", [_missing(each) for each in report.missing])
    for state in report.left_out:
        yield f"{state.name}: left out of the contract, so nothing is compared"
    if not report.tools_known:
        yield f"tools and resources were not compared: {_no_tools(report, listed)}"


def _no_tools(report: Report, listed: Listed) -> str:
    return listed.why or "the contract has none"


def _listed(title: str, lines: Sequence[str]) -> Iterator[str]:
    for line in lines[:_NAMED]:
        yield f"{title}: {line}"
    if len(lines) > _NAMED:
        yield f"{title}: and {len(lines) - _NAMED:,} more"


def _unknown(use: UnknownUse) -> str:
    return f"{use.consumer.name}{f' ({use.part})' if use.part else ''}: {use.why}"


def _missing(missing: Missing) -> str:
    return f"{dotted((*missing.table, *([missing.column] if missing.column else [])))}: {missing.why}"


# -- Markdown -------------------------------------------------------------------------------------


def markdown(report: Report, listed: Listed, recorded: Recorded | None, *, every: bool) -> str:
    """For a pull request: a table of changes, and whom each breaking one hits."""
    lines = ["### Context contract: " + _cell(in_short(report, recorded)), ""]
    shown = [each for each in report.changes if every or matters(each)]
    if shown:
        lines += ["| level | rule | object | before, after | who is hit |", "| --- | --- | --- | --- | --- |"]
        for each in shown:
            change = each.change
            told = who(change, each.hits, recorded)
            if each.exception:
                told += f"; accepted until {each.exception.until}: {each.exception.reason}"
            said = f"**{change.level}**" if each.open else level(each).plain
            cells = (said, f"`{change.rule}`", _code(change.object), _cell(_became(each)), _cell(told))
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    named = [each for each in shown if matters(each) and any(hit.parts for hit in each.hits)]
    if named:
        lines += ["<details><summary>Who is hit</summary>", ""]
        for each in named:
            lines.append(f"- {_code(each.change.object)}")
            lines += [f"  - {_hit(hit)}" for hit in each.hits]
        lines += ["", "</details>", ""]
    notes = [note.removeprefix("! ") for note in _notes(report, listed)]
    lines += [f"- {_cell(note)}" for note in notes]
    return "\n".join(lines).rstrip() + "\n"


def _hit(hit: Hit) -> str:
    parts = ": " + ", ".join(map(_code, hit.parts)) if hit.parts else ""
    return _code(hit.consumer.name) + parts + ("" if hit.served is None else f" ({hit.served:,})")


def _cell(words_: str) -> str:
    """As text of a table's cell: no column, tag or line begins in it."""
    escaped = words_.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("`", "\\`")
    return " ".join(escaped.split())


def _code(name: str) -> str:
    plain = " ".join(name.replace("|", "\\|").split())
    return f"`` {plain} ``" if "`" in plain else f"`{plain}`"


# -- JSON -----------------------------------------------------------------------------------------


def document(
    place: Place,
    report: Report,
    listed: Listed,
    recorded: Recorded | None,
    seconds: float | None,
    exit_code: int,
) -> dict[str, Any]:
    """Of `diff` and of `check`: all that is known, whatever the screen shows."""
    counts = Counter(each.change.level for each in report.changes)
    return {
        "schema": "context-telemetry.contract/1",
        "exit_code": exit_code,
        "state": _state(report)[0].lower(),
        "reason": in_short(report, recorded),
        "problems": [],
        "project": {"name": place.name, "root": str(place.root)},
        "contract": report.accepted.name,
        "whole": report.accepted.whole,
        "not_whole": report.accepted.note,
        "generated_at": documents.iso(time.time()),
        "window_seconds": seconds,
        "recorded": recorded is not None,
        "counts": {**{level: counts[level] for level in _STYLE}, "open": len(report.open)},
        "changes": [change_document(each, recorded) for each in report.changes],
        "unread": [{"name": state.name, "type": state.type, "why": state.unread} for state in report.unread],
        "unreadable": [{"name": use.consumer.name, "why": use.why} for use in report.unreadable],
        "left_out": [{"name": state.name, "type": state.type} for state in report.left_out],
        "missing": [_missing_document(each) for each in report.missing],
        "unknown": [_unknown_document(each) for each in report.unknown],
        "exceptions_over": [_exception(each) for each in report.over],
        "exceptions_unneeded": [_exception(each) for each in report.unneeded],
        "tools_compared": report.tools_known,
        "tools_unknown": None if report.tools_known else _no_tools(report, listed),
        "manifest_unknown": manifest_unknown(report.now, report.accepted.contract),
    }


def problems(place: Place, contract: str, seconds: float | None, found: Sequence[str]) -> dict[str, Any]:
    """Of `diff` and of `check`, where nothing could be compared."""
    return {
        "schema": "context-telemetry.contract/1",
        "exit_code": 3,
        "state": "unknown",
        "reason": found[0],
        "problems": list(found),
        "project": {"name": place.name, "root": str(place.root)},
        "contract": contract,
        "whole": None,
        "not_whole": None,
        "generated_at": documents.iso(time.time()),
        "window_seconds": seconds,
        "recorded": None,
        "counts": None,
        "changes": [],
        "unread": [],
        "unreadable": [],
        "left_out": [],
        "missing": [],
        "unknown": [],
        "exceptions_over": [],
        "exceptions_unneeded": [],
        "tools_compared": False,
        "tools_unknown": None,
        "manifest_unknown": None,
    }


def change_document(judged: Judged, recorded: Recorded | None) -> dict[str, Any]:
    change = judged.change
    plain = asdict(change)
    table = plain.pop("table")
    return {
        **plain,
        "table": None
        if table is None
        else {name: part or None for name, part in zip(("source", "schema", "table"), table, strict=True)},
        "evidence": change.evidence or None,
        "open": judged.open,
        "relied_on": judged.relied_on,
        "who": who(change, judged.hits, recorded),
        "hits": [
            {
                "kind": hit.consumer.kind,
                "name": hit.consumer.name,
                "parts": list(hit.parts),
                "served": hit.served,
            }
            for hit in judged.hits
        ],
        "exception": None if judged.exception is None else _exception(judged.exception),
    }


def _exception(excepted: Excepted) -> dict[str, Any]:
    return {**asdict(excepted), "until": excepted.until.isoformat()}


def _missing_document(missing: Missing) -> Mapping[str, Any]:
    return {
        "source": missing.table.source,
        "schema": missing.table.schema,
        "table": missing.table.table,
        "column": missing.column,
        "why": missing.why,
    }


def _unknown_document(use: UnknownUse) -> Mapping[str, Any]:
    return {"consumer": use.consumer.name, "part": use.part or None, "why": use.why, "missing": use.missing}
