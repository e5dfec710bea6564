"""Chooses the scenarios that the installed release has, and writes what became of each: ``--matrix FILE``."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from scenario import RELEASE, why_not


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--matrix", type=Path, help="write the outcome of every scenario to this file, as JSON")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    kept: list[pytest.Item] = []
    elsewhere: list[pytest.Item] = []
    rows: dict[str, dict[str, Any]] = {}
    for item in items:
        mark = item.get_closest_marker("scenario")
        if mark is None:
            kept.append(item)
            continue
        concern, *limits = mark.args
        reason = why_not(*limits)
        (elsewhere if reason else kept).append(item)
        rows[item.nodeid] = {
            "concern": concern,
            "scenario": item.name.removeprefix("test_").replace("_", " "),
            "result": reason or "not run",
            "here": not reason,
        }
    config.stash[_ROWS] = rows
    if elsewhere:
        config.hook.pytest_deselected(items=elsewhere)
        items[:] = kept


_ROWS = pytest.StashKey[dict[str, dict[str, Any]]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    row = item.config.stash[_ROWS].get(item.nodeid)
    if row is not None and (report.when == "call" or not report.passed):
        row["result"] = "pass" if report.passed else report.outcome
        row["seconds"] = round(report.duration, 2)
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    target = session.config.getoption("--matrix")
    rows = session.config.stash.get(_ROWS, {})
    if target is not None:
        about = {
            "dataface": RELEASE,
            "mcp": importlib.metadata.version("mcp"),
            "python": platform.python_version(),
        }
        target.write_text(json.dumps({**about, "scenarios": list(rows.values())}, indent=1) + "\n", "utf-8")
