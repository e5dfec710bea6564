"""What a run leaves behind: the numbers as JSON, and the tables in `docs/cost.md` that are made from them.

`tools/generate_cost_tables.py` makes the tables again.
"""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from benchmarks.measure import Result

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
PAGE = HERE.parent / "docs" / "cost.md"
END = "<!-- end -->"


@dataclass(frozen=True)
class Layout:
    """How a table lies on the page: its lines are results or sides; beside a number stands how it compares."""

    lines: Literal["results", "sides"] = "results"
    compared: Literal["ratio", "added", ""] = "ratio"


TABLES: dict[str, Layout] = {
    "calls": Layout(),
    "pieces": Layout("sides", ""),
    "latency": Layout(compared="added"),
    "sizing": Layout(),
    "memory": Layout(),
    "processes": Layout(),
    "contract": Layout(compared=""),
    "asked": Layout(compared=""),
    "peers": Layout("sides"),
}


# -- the numbers ----------------------------------------------------------------------------------


def load() -> float | None:
    """How busy the machine is: to be asked before anything is measured, as measuring makes it so."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def document(results: Sequence[Result], load_before: float | None) -> dict[str, Any]:
    """Everything that was measured, where and when, as one JSON object by table."""
    where = {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "commit": _commit(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "load": load_before,
        "opentelemetry-sdk": version("opentelemetry-sdk"),
    }
    tables: dict[str, Any] = {}
    for result in results:
        tables.setdefault(result.table, {"where": where, "results": []})["results"].append(_entry(result))
    return tables


def _commit() -> str:
    """The commit that was measured, with a + where files were changed since; empty where git does not know."""
    told = ("git", "describe", "--always", "--dirty=+", "--exclude=*")
    try:
        return subprocess.run(told, cwd=HERE, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def read() -> dict[str, Any]:
    """The numbers of the last run of each table."""
    found: dict[str, Any] = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    return {name: found[name] for name in TABLES if name in found}


def write(found: Mapping[str, Any]) -> None:
    """Put the tables of ``found`` into the JSON and into the page; those that were not run stay as they are."""
    RESULTS.write_text(json.dumps({**read(), **found}, indent=1) + "\n", "utf-8")
    write_page(found)


def _entry(result: Result) -> dict[str, Any]:
    return {
        "name": result.name,
        "what": result.what,
        "unit": result.unit,
        "over": result.over,
        "not_run": result.not_run,
        "notes": dict(result.notes),
        "measures": {
            measure: {side: _figures(result, measure, side) for side in rounds}
            for measure, rounds in result.measures.items()
        },
        "targets": [
            {**asdict(target), "found": result.figure(target), "held": result.figure(target) <= target.limit}
            for target in result.targets
            if target.side in result.measures.get(target.measure, {})
        ],
    }


def _figures(result: Result, measure: str, side: str) -> dict[str, Any]:
    values = result.measures[measure][side]
    figures: dict[str, Any] = {
        "median": result.value(measure, side),
        "quartiles_apart": result.spread(measure, side),
        "least": min(values),
        "rounds": len(values),
    }
    if result.over in result.measures[measure] and side != result.over:
        if all(result.measures[measure][result.over]):
            figures["ratio"] = result.ratio(measure, side, result.over)
        figures["added"] = result.added(measure, side, result.over)
    within = result.added_within.get(measure, {}).get(side)
    if within is not None:
        figures["within"] = list(within)
    return figures


# -- the page and the screen ----------------------------------------------------------------------


def far_off(results: Sequence[Result]) -> list[str]:
    """What is more than twice as dear as it may be, and a quarter more than it was in the last run that was kept."""
    known = {
        (entry["name"], each["side"], each["measure"]): each["found"]
        for kept in read().values()
        for entry in kept["results"]
        for each in entry["targets"]
        if each["figure"] == "ratio"
    }
    return [
        f"{result.name}: {target.side} takes {result.figure(target):.3g} of {target.over} ({target.measure})"
        for result in results
        for target in result.targets
        if target.figure == "ratio"
        and target.side in result.measures.get(target.measure, {})
        and result.figure(target)
        > max(2 * target.limit, 1.25 * known.get((result.name, target.side, target.measure), 0.0))
    ]


def write_page(found: Mapping[str, Any]) -> None:
    """Put each table of ``found`` where the page has it; the prose around them stays."""
    PAGE.write_text(page(found), "utf-8")


def page(found: Mapping[str, Any]) -> str:
    """The page with each table of ``found``, and what all tables say in short."""
    page = PAGE.read_text("utf-8")
    for name in found:
        page = _put(page, f"<!-- begin: python -m benchmarks {name} -->", table(name, found[name]))
    try:
        return _put(page, "<!-- begin: in short -->", in_short({**read(), **found}))
    except LookupError:  # something was not run: the lines stay as they are
        return page


def _put(page: str, begin: str, text: str) -> str:
    before, there, rest = page.partition(begin)
    _, _, after = rest.partition(END)
    return f"{before}{begin}\n{text}\n{END}{after}" if there else page


def in_short(found: Mapping[str, Any]) -> str:
    """The three lines that a page of this kind is opened for."""

    def measured(table: str, name: str, measure: str, side: str, what: str = "") -> dict[str, Any]:
        fitting = [
            each["measures"][measure]
            for each in found[table]["results"]
            if each["name"] == name and measure in each["measures"] and what in each["what"]
        ]
        figures: dict[str, Any] = fitting[0][side]
        return figures

    owned = measured("calls", "call, exported, an owned pipeline", "caller", "owned")
    host = measured("calls", "call, exported, the host's providers", "caller", "decorated")
    tool = measured("latency", "MCP tool call", "p50", "observed", " of 10 KB")
    served = measured("latency", "HTTP page", "p50", "observed", " of 10 KB")
    memory = measured("processes", "start of `dft mcp serve`", "memory", "observed")
    started = measured("processes", "start of `dft serve`", "wall", "observed")
    return "\n".join(
        (
            f"- **A call** of a decorated function (a span, three metrics, exported) takes {owned['ratio']:.2f} of "
            "what the same takes by hand of its caller's time where the library owns the pipeline, and "
            f"{host['ratio']:.2f} with a host's providers: {_number(owned['median'])} and {_number(host['median'])} us "
            "on the machine of the table.",
            f"- **An MCP tool call** takes {tool['added']:.2f} ms longer, and a page {served['added']:.2f} ms (median, "
            "10 KB, of a server and its client in one process; Dataface's own tools take so long that it is lost in "
            "their noise).",
            f"- **A server** of MCP has {memory['added']:.0f} MiB more, and the first page of one of dashboards takes "
            f"{started['ratio']:.2f} times as long to come.",
        )
    )


def table(name: str, found: Mapping[str, Any]) -> str:
    """One table in Markdown, with what was not run and on what machine."""
    layout = TABLES[name]
    ran = [entry for entry in found["results"] if not entry["not_run"]]
    if layout.lines == "results":
        lines = _by_result(ran, layout)
    else:
        lines = [
            *_by_side(ran, layout),
            *(f"\n{entry['name']}: {entry['what']}." for entry in ran if entry["what"]),
        ]
    for entry in found["results"]:
        if entry["not_run"]:
            lines += ["", f"Not run: **{entry['name']}**, {entry['what']}: {entry['not_run']}"]
    where = found["where"]
    lines += [
        "",
        f"{where['date']}, commit {where['commit']}, load {where['load']} before it. Python {where['python']}, "
        f"{where['system']}, {where['cores']} cores, opentelemetry-sdk {where['opentelemetry-sdk']}. "
        "Medians; quartiles are in `results.json`.",
    ]
    return "\n".join(lines)


def _by_result(entries: Sequence[Mapping[str, Any]], layout: Layout) -> list[str]:
    """A line for each measure of each result, a column for each side, and what it is held to."""
    sides = _merged([list(rounds) for entry in entries for rounds in entry["measures"].values()])
    held = any(entry["targets"] for entry in entries)
    lines = [_line("what", "", *sides, *(("at most",) if held else ())), _rule(len(sides) + 2 + held)]
    for entry in entries:
        title = f"**{entry['name']}**: {entry['what']}"
        for measure, rounds in entry["measures"].items():
            unit = entry["unit"]
            # By hand everything is done by then: a share of next to nothing says nothing.
            beside = Layout(compared="") if measure == "collection" else layout
            cells = [_cell(rounds.get(side), beside) for side in sides]
            limits = "; ".join(_limit(each, unit) for each in entry["targets"] if each["measure"] == measure)
            lines.append(_line(title, f"{measure}, {unit}", *cells, *((limits,) if held else ())))
            title = ""
    return lines


def _by_side(entries: Sequence[Mapping[str, Any]], layout: Layout) -> list[str]:
    """A line for each side, a column for each measure of each result; a side's note stands beside its numbers."""
    columns = [(entry, measure) for entry in entries for measure in entry["measures"]]
    sides = _merged([list(entry["measures"][measure]) for entry, measure in columns])
    notes = {side: "; ".join(e["notes"][side] for e in entries if side in e["notes"]) for side in sides}
    noted = ("",) if any(notes.values()) else ()
    heads = [
        ", ".join((entry["name"], *((measure,) if len(entry["measures"]) > 1 else ()), entry["unit"]))
        for entry, measure in columns
    ]
    lines = [_line("", *heads, *noted), _rule(len(heads) + 1 + len(noted))]
    for side in sides:
        cells = [_cell(entry["measures"][measure].get(side), layout) for entry, measure in columns]
        lines.append(_line(side, *cells, *((notes[side],) if noted else ())))
    return lines


def _merged(orders: Sequence[Sequence[str]]) -> list[str]:
    """All names once, each order kept as far as that goes."""
    merged: list[str] = []
    for order in orders:
        place = 0
        for name in order:
            if name not in merged:
                merged.insert(place, name)
            place = merged.index(name) + 1
    return merged


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(columns: int) -> str:
    return "|" + "---|" * columns


def _cell(figures: Mapping[str, Any] | None, layout: Layout) -> str:
    if figures is None:
        return ""
    number = _number(figures["median"])
    within = figures.get("within")
    if layout.compared == "ratio" and "ratio" in figures:
        return f"{number} ({figures['ratio']:.2f})"
    if within is not None:
        low, high = (f"{'+' * (each > 0)}{_number(each)}" for each in within)
        if within[0] <= 0 <= within[1]:
            return f"{number} (noise: {low} to {high})"
        if "added" not in figures:
            return f"{number} ({low} to {high})"
        return f"{number} (+{_number(figures['added'])}: {low} to {high})".replace("(+-", "(-")
    if layout.compared == "added" and "added" in figures:
        return f"{number} ({'+' * (figures['added'] > 0)}{_number(figures['added'])})"
    return number


def _number(value: float) -> str:
    """Three digits, and no more than three after the point."""
    if not math.isfinite(value):
        return ""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    digits = 3 if abs(value) < 1 else 2 - math.floor(math.log10(abs(value)))
    return f"{value:.{digits}f}"


def _limit(target: Mapping[str, Any], unit: str) -> str:
    verdict = "held" if target["held"] else "**not held**"
    limit, found = f"{target['limit']:g}", _number(target["found"])
    if target["figure"] == "ratio":
        return f"{target['side']} {limit} of {target['over']}: {target['found']:.2f}, {verdict}"
    plus = "+" if target["figure"] == "added" else ""
    of = f" of {target['over']}" if target["figure"] == "added" else ""
    where = f" where by hand takes {target['where']:g}" if target.get("where") is not None else ""
    return f"{target['side']} {plus}{limit} {unit}{of}{where}: {plus}{found}, {verdict}"


def lines(result: Result) -> list[str]:
    """One result for the screen."""
    said = [
        f"{result.name}: {result.what}".rstrip(": ")
        + (f": not run: {result.not_run}" if result.not_run else "")
    ]
    for measure, rounds in result.measures.items():
        sides = "  ".join(
            f"{side} {result.value(measure, side):.4g}{_share(result, measure, side)}" for side in rounds
        )
        verdicts = "  ".join(
            f"[{each.side}: {each.figure} {result.figure(each):.3g} of at most {each.limit:g}]"
            for each in result.targets
            if each.measure == measure and each.side in rounds
        )
        said.append(f"  {measure:9} {sides} {result.unit}  {verdicts}")
    return said


def _share(result: Result, measure: str, side: str) -> str:
    ratio = None if side == "bare" else _figures(result, measure, side).get("ratio")
    return "" if ratio is None else f" ({ratio:.2f})"
