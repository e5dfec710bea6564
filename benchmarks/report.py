"""What a run leaves behind: the numbers as JSON, and the table in `docs/cost.md` that is made from them."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.measure import Result

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
PAGE = HERE.parent / "docs" / "cost.md"
BEGIN, END = "<!-- begin: python -m benchmarks -->", "<!-- end -->"


def document(results: Sequence[Result]) -> dict[str, Any]:
    """Everything that was measured and where, as one JSON object."""
    return {
        "where": {
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
            "cores": os.cpu_count(),
            "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
            "opentelemetry-sdk": version("opentelemetry-sdk"),
        },
        "results": [_entry(result) for result in results],
    }


def read() -> dict[str, Any]:
    """The numbers of the last full run."""
    found: dict[str, Any] = json.loads(RESULTS.read_text("utf-8"))
    return found


def write(found: Mapping[str, Any]) -> None:
    """Write the JSON, and its table into the page."""
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    write_page(found)


def write_page(found: Mapping[str, Any]) -> None:
    """Put the table of ``found`` where the page has it; the prose around it stays."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{table(found)}\n{END}{after}", "utf-8")


def table(found: Mapping[str, Any]) -> str:
    """A Markdown table: a row per benchmark, medians by side, comparisons, and what they are held to."""
    lines = [
        "| what | each side | compared | at most | held |",
        "|---|---|---|---|---|",
    ]
    for entry in found["results"]:
        if entry["not_run"]:
            lines.append(f"| {_title(entry)} | not run: {entry['not_run']} | | | |")
            continue
        unit = entry["unit"]
        sides = ", ".join(f"{name} {side['median']:.4g}" for name, side in entry["sides"].items())
        compared = "; ".join(
            f"{each['ratio']:.2f} of {each['over']}, {each['added']:+.3g} {unit}"
            for each in entry["compared"]
        )
        limits = "; ".join(_limit(each, unit) for each in entry["targets"])
        held = ", ".join("yes" if each["held"] else "**no**" for each in entry["targets"])
        lines.append(f"| {_title(entry)} | {sides} {unit} | {compared} | {limits} | {held} |")
    where = found["where"]
    lines += [
        "",
        f"Python {where['python']}, {where['system']}, {where['cores']} cores, "
        f"opentelemetry-sdk {where['opentelemetry-sdk']}. Medians; quartiles are in `results.json`.",
    ]
    return "\n".join(lines)


def line(result: Result) -> str:
    """One result for the screen."""
    if result.not_run:
        return f"{result.name:32} not run: {result.not_run}"
    sides = "  ".join(f"{name} {result.value(name):.4g}" for name in result.rounds)
    verdicts = "  ".join(
        f"{each.figure} {result.figure(each):.3g} of at most {each.limit:g}" for each in result.targets
    )
    return f"{result.name:32} {sides} {result.unit}  {verdicts}"


def _entry(result: Result) -> dict[str, Any]:
    sides = list(result.rounds)
    last = sides[-1] if sides else ""
    return {
        "name": result.name,
        "what": result.what,
        "unit": result.unit,
        "rounds": len(next(iter(result.rounds.values()), ())),
        "not_run": result.not_run,
        "sides": {
            side: {
                "median": result.value(side),
                "quartiles_apart": result.spread(side),
                "least": min(values),
                **({"later": sorted(result.later[side])[len(values) // 2]} if side in result.later else {}),
            }
            for side, values in result.rounds.items()
        },
        "compared": [
            {"side": last, "over": over, "ratio": result.ratio(last, over), "added": result.added(last, over)}
            for over in sides[:-1]
        ],
        "targets": [
            {**asdict(target), "found": result.figure(target), "held": result.figure(target) <= target.limit}
            for target in result.targets
        ],
    }


def _title(entry: Mapping[str, Any]) -> str:
    return f"**{entry['name']}**: {entry['what']}"


def _limit(target: Mapping[str, Any], unit: str) -> str:
    if target["figure"] == "ratio":
        return f"{target['limit']:g} of {target['over']}"
    return f"{'+' if target['figure'] == 'added' else ''}{target['limit']:g} {unit}"
