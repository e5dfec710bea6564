"""The table of failures: every row is there, and every surface of it names a test that exists, or why there is none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from test_on_faults import SURFACE_CASES

from context_telemetry.rehearsal.faults import FAULTS

ROOT = Path(__file__).resolve().parent.parent
SURFACES = ("mcp", "dashboard", "cli", "agent", "library")
_TEST = re.compile(r"(test_\w+\.py)::(test_\w+)")
_CASE = re.compile(r"(fault|shown) (\w+)")


def _rows(page: str) -> list[list[str]]:
    lines = (ROOT / "docs" / page).read_text("utf-8").splitlines()
    return [
        [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        for line in lines
        if line.startswith("| ") and not line.startswith("| ---")
    ]


HEAD, *TABLE = _rows("failures.md")
GAPS = {row[0] for row in _rows("gaps.md")}


def _what_is_wrong(cell: str, surface: str) -> str:
    """What a cell says that is not so; empty where all of it is."""
    if cell.startswith("not shown: "):
        return "" if len(cell) > len("not shown: ") else "no reason"
    if cell.startswith("gap: "):
        return "" if cell.removeprefix("gap: ") in GAPS else "no such row in gaps.md"
    for entry in cell.split(", "):
        if test := _TEST.fullmatch(entry):
            file, name = test.groups()
            found = [path for path in (ROOT / "tests").rglob(file) if path.is_file()]
            if not any(
                re.search(rf"^(async )?def {name}\(", path.read_text("utf-8"), re.MULTILINE) for path in found
            ):
                return f"no such test: {entry}"
        elif case := _CASE.fullmatch(entry):
            kind, name = case.groups()
            there = {fault.name for fault in FAULTS} if kind == "fault" else SURFACE_CASES.get(surface, set())
            if name not in there:
                return f"no such case: {entry}"
        else:
            return f"neither a test nor a reason: {entry}"
    return ""


def test_the_table_of_failures_has_a_column_for_each_surface() -> None:
    assert tuple(HEAD[3:]) == SURFACES


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0])
def test_each_surface_of_a_failure_has_its_test_or_says_why_not(row: list[str]) -> None:
    assert len(row) == len(HEAD)
    wrong = {
        surface: wrong
        for surface, cell in zip(SURFACES, row[3:], strict=True)
        if (wrong := _what_is_wrong(cell, surface))
    }
    assert wrong == {}


def test_every_fault_of_the_rehearsal_is_in_the_table() -> None:
    told = {
        name for row in TABLE for cell in row[3:] for kind, name in _CASE.findall(cell) if kind == "fault"
    }
    assert {fault.name for fault in FAULTS} - told == {"model_edited"}  # freshness, and no failure
