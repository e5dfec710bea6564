"""The table of failures: every row is there, and every surface of it names a test that exists, or why there is none.

A scenario that it names runs on the releases of the row: on each of those that run every scenario.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from scenario import DEEP, scenario, why_not
from test_on_faults import SHOWN, where

from context_telemetry.rehearsal.faults import FAULTS
from tools.release_matrix import RELEASES

ROOT = Path(__file__).resolve().parent.parent
SURFACES = ("mcp", "dashboard", "cli", "agent", "library")
_TEST_NAMED = re.compile(r"test_\w+\.py::test_\w+")
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


def _releases(row: str) -> list[str]:
    """Those that a row is about: all, unless it says `(from X)`, `(to Y)` or `(X and Y)`."""
    if bound := re.search(r"\((from|to) ([\d.]+)\)", row):
        at = RELEASES.index(bound[2])
        return list(RELEASES[at:] if bound[1] == "from" else RELEASES[: at + 1])
    named = re.search(r"\(([\d.]+) and ([\d.]+)\)", row)
    return list(named.groups()) if named else list(RELEASES)


def _runs(marks: Iterable[pytest.Mark | pytest.MarkDecorator]) -> set[str]:
    """The releases on which scenarios with these marks run."""
    return {
        release
        for _, since, until, because, deep in (mark.args for mark in marks)
        for release in RELEASES
        if not why_not(since, until, because, deep, release)
    }


def _of_test(path: Path, name: str) -> set[str] | None:
    """The releases on which a test runs, all where it is no scenario; None where there is no such test."""
    if not re.search(rf"^(async )?def {name}\(", path.read_text("utf-8"), re.MULTILINE):
        return None
    if path.parent.name != "releases":
        return set(RELEASES)
    marks = getattr(getattr(importlib.import_module(path.stem), name), "pytestmark", ())
    return _runs(mark for mark in marks if mark.name == "scenario")


def _of_entry(entry: str, surface: str) -> set[str] | None:
    """The releases on which what a cell names runs; None where there is no such thing."""
    if test := _TEST.fullmatch(entry):
        file, name = test.groups()
        found = [_of_test(path, name) for path in (ROOT / "tests").rglob(file) if path.is_file()]
        return next((each for each in found if each is not None), None)
    if case := _CASE.fullmatch(entry):
        kind, name = case.groups()
        if kind == "fault":
            there = any(fault.name == name for fault in FAULTS)
            return _runs([scenario("faults", **where(name))]) if there else None
        marks = [each.mark for each in SHOWN if (each.fault, each.surface) == (name, surface)]
        return _runs(marks) if marks else None
    return None


def _what_is_wrong(cell: str, surface: str, row: str) -> str:
    """What a cell says that is not so; empty where all of it is."""
    if cell.startswith("not shown: "):
        return "" if len(cell) > len("not shown: ") else "no reason"
    if cell.startswith("gap: "):
        return "" if cell.removeprefix("gap: ") in GAPS else "no such row in gaps.md"
    found = {entry: _of_entry(entry, surface) for entry in cell.split(", ")}
    if unknown := [entry for entry, runs in found.items() if runs is None]:
        return f"neither a test, nor a case, nor a reason: {unknown}"
    of_row = _releases(row)
    wanted = [each for each in of_row if each in DEEP] or of_row
    missing = set(wanted).difference(*(runs or () for runs in found.values()))
    return f"run on none of {sorted(missing)}" if missing else ""


def test_the_table_of_failures_has_a_column_for_each_surface() -> None:
    assert tuple(HEAD[3:]) == SURFACES


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0])
def test_each_surface_of_a_failure_has_its_test_or_says_why_not(row: list[str]) -> None:
    assert len(row) == len(HEAD)
    wrong = {
        surface: wrong
        for surface, cell in zip(SURFACES, row[3:], strict=True)
        if (wrong := _what_is_wrong(cell, surface, row[0]))
    }
    assert wrong == {}


def test_every_fault_of_the_rehearsal_is_in_the_table() -> None:
    told = {
        name for row in TABLE for cell in row[3:] for kind, name in _CASE.findall(cell) if kind == "fault"
    }
    assert {fault.name for fault in FAULTS} - told == {"model_edited"}  # freshness, and no failure


def test_every_test_that_the_page_names_is_there() -> None:
    page = (ROOT / "docs" / "failures.md").read_text("utf-8")
    assert [entry for entry in _TEST_NAMED.findall(page) if _of_entry(entry, "") is None] == []
