"""The table of releases: it is refused where a scenario was not run and nothing says why; what it is a table of."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tools import generate_release_table, proven, release_matrix

FAULT = {"concern": "faults", "scenario": "a fault is read"}


def cell(release: str, *rows: dict[str, Any], **about: Any) -> dict[str, Any]:
    return {"dataface": release, "python": "3.11", "mcp": "1.30.0", "scenarios": list(rows), **about}


def result(said: str, *, here: bool = True) -> dict[str, Any]:
    return {**FAULT, "result": said, "here": here}


PASSED = cell("0.4.0", result("pass"))


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results for the generator are put here, and the page is written beside them."""
    monkeypatch.setattr(generate_release_table, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(generate_release_table, "PAGE", tmp_path / "releases.md")
    monkeypatch.setattr("sys.argv", ["generate_release_table.py"])
    return tmp_path


@pytest.mark.parametrize(
    "hole",
    [cell("0.2.0"), cell("0.2.0", result("not run")), cell("0.2.0", result("skipped"))],
    ids=["unknown there", "never begun", "skipped"],
)
def test_a_scenario_that_was_not_run_without_a_reason_is_refused_by_name(
    written: Path, capsys: pytest.CaptureFixture[str], hole: dict[str, Any]
) -> None:
    (written / "results.json").write_text(json.dumps({"cells": [hole, PASSED]}), "utf-8")
    assert generate_release_table.main() == 1
    assert "faults: a fault is read: 0.2.0 on Python 3.11" in capsys.readouterr().out
    assert not (written / "releases.md").exists()


@pytest.mark.parametrize(
    ("other", "mark"),
    [
        (cell("0.2.0", result("0.2.0 has no faults", here=False)), "1"),
        (cell("0.2.0", missing="there is no Python 3.11 on this machine"), "1"),
        (cell("0.2.0", result("failed")), "**failed**"),
    ],
    ids=["a reason", "no such Python", "failed"],
)
def test_a_scenario_with_a_reason_or_a_result_is_in_the_table(
    written: Path, other: dict[str, Any], mark: str
) -> None:
    (written / "results.json").write_text(json.dumps({"cells": [other, PASSED]}), "utf-8")
    assert generate_release_table.main() == 0
    assert f"| a fault is read | {mark} | pass |" in (written / "releases.md").read_text("utf-8")


@pytest.mark.parametrize(("cells", "code"), [([PASSED], 0), ([cell("0.2.0"), PASSED], 1)])
def test_the_matrix_itself_fails_where_there_is_such_a_hole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cells: list[Any], code: int
) -> None:
    outcomes = [{**each, "passed": True} for each in cells]
    monkeypatch.setattr(release_matrix, "_run_all", lambda *_: outcomes)
    monkeypatch.setattr("sys.argv", ["release_matrix.py", "--cut"])
    assert release_matrix.main() == code
    assert ("nothing says why" in capsys.readouterr().out) == bool(code)


def test_results_are_of_what_the_scenarios_run_and_what_their_environments_are_made_of() -> None:
    tested = {str(path.relative_to(proven.ROOT)) for path in proven.files(release_matrix.TESTED)}
    package = {
        str(path.relative_to(proven.ROOT))
        for path in (proven.ROOT / "src" / "context_telemetry").rglob("*.py")
        if "ops" not in path.parts
    }
    assert package < tested
    assert {"dev.py", "pyproject.toml", "constraints.txt", "tests/inprocess.py"} < tested
    assert {"tests/contract/looks.py", "tests/releases/test_on_check.py"} < tested
    assert not any(name.startswith(("docs/", "tests/test_", "tests/contract/test_")) for name in tested)


def test_where_the_time_is_over_the_cut_runs_and_the_others_are_said_not_to_have(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    results = tmp_path / "results.json"
    monkeypatch.setattr(release_matrix, "RESULTS", results)
    monkeypatch.setattr(release_matrix, "unexplained", lambda outcomes: [])
    ran: list[str] = []

    def run(cell: release_matrix.Cell, arguments: list[str]) -> dict[str, object]:
        ran.append(cell.release)
        return {"passed": True}

    monkeypatch.setattr(release_matrix, "run", run)
    monkeypatch.setattr(sys, "argv", ["matrix", "--if-changed", "--minutes", "0"])
    assert release_matrix.main() == 0
    assert set(ran) == set(release_matrix.CUT)
    said = capsys.readouterr().out
    left_out = {cell.release for cell in release_matrix.all_cells()} - set(release_matrix.CUT)
    assert left_out
    assert all(f"NOT RUN, 0 minutes were over: dataface {release} " in said for release in left_out)
    assert not results.exists()
