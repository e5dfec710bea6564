"""How a case is judged by our rules and by datacontract-cli, brought into one form."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contract.crosscheck.cases import Case

from context_telemetry.contract.difference import differences

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "answers.json").read_text(encoding="utf-8"))
LEVELS = ("info", "warning", "breaking")
_LEVEL_OF = {"error": "breaking"}
_DIRECTION_OF = {"both": "neither", "undetermined": "neither"}


@dataclass(frozen=True)
class Judged:
    """What a case means for who reads the data."""

    level: str
    """The worst; `none` where nothing is seen."""
    direction: str
    """`tightens` or `loosens` where all that is seen does; else `neither`."""
    rules: tuple[str, ...]


def by_us(case: Case) -> Judged:
    """What concerns the producer alone is an info to who reads."""
    changes = differences(case.pairs())
    levels = [change.level if change.perspective == "consumer" else "info" for change in changes]
    return _judged(levels, [change.direction for change in changes], [change.rule for change in changes])


def by_them(case: Case) -> Judged:
    entries = RECORDED["cases"][case.name]["consumer"]
    graded = [entry for entry in entries if entry["direction"] != "untested"]
    return _judged(
        [_LEVEL_OF.get(entry["level"], entry["level"]) for entry in entries],
        [_DIRECTION_OF.get(entry["direction"], entry["direction"]) for entry in graded],
        [entry["rule"] for entry in graded or entries],
    )


def _judged(levels: Iterable[str], directions: Iterable[str], rules: Iterable[str]) -> Judged:
    found = set(directions)
    level = max(levels, key=LEVELS.index, default="none")
    return Judged(level, found.pop() if len(found) == 1 else "neither", tuple(dict.fromkeys(rules)))
