"""`doctor` on a release that nobody knows yet, and on settings of the environment that cannot be."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from otlp_files import Process

from context_telemetry.cli import doctor
from context_telemetry.cli.owned import owned
from context_telemetry.cli.recorded import recorded
from context_telemetry.instrumentation import instrumentor
from context_telemetry.instrumentation.hooks import Hook, version
from context_telemetry.ops import build

UNKNOWN = "9.5.0"


@pytest.fixture(scope="module")
def newer() -> Iterator[None]:
    """The installed Dataface calls itself a release that is newer than all rows."""
    real = importlib.metadata.version
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            importlib.metadata, "version", lambda name: UNKNOWN if name == "dataface" else real(name)
        )
        yield


def told(capsys: pytest.CaptureFixture[str]) -> dict[tuple[str, str], dict[str, Any]]:
    doctor.examine(None, None, as_json=True)
    checks = json.loads(capsys.readouterr().out)["checks"]
    return {(each["section"], each["name"]): each for each in checks}


@pytest.mark.skipif(
    instrumentor.installed_release() != instrumentor.NEWEST,
    reason="the newest rows are those of the newest release",
)
def test_a_release_that_nobody_knows_is_tried_with_the_newest_rows(
    newer: None, capsys: pytest.CaptureFixture[str]
) -> None:
    found = told(capsys)
    assert found["installed", "dataface"]["state"] == "note"
    assert found["installed", "dataface"]["found"] == UNKNOWN
    assert f"newer than {instrumentor.NEWEST}" in found["installed", "dataface"]["advice"]
    assert found["hooks", "hook points"]["state"] == "ok"
    assert ("hooks", "absent") not in found
    assert (found["hooks", "new"]["state"], found["hooks", "new"]["found"]) == (
        "ok",
        f"no command, tool or function that {instrumentor.NEWEST} has not",
    )


@pytest.mark.skipif(
    instrumentor.installed_release() != instrumentor.NEWEST,
    reason="the newest rows are those of the newest release",
)
def test_what_it_has_that_no_row_knows_is_told_by_name(
    newer: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main = importlib.import_module("dataface.cli.main")
    handlers = importlib.import_module("dataface.ai.tools").TOOL_HANDLERS
    api = importlib.import_module("dataface.agent_api")

    def forecast() -> None:
        """A function of the future."""

    monkeypatch.setattr(main.app, "registered_commands", [*main.app.registered_commands])
    main.app.command("forecast")(forecast)
    monkeypatch.setitem(handlers, "forecast", forecast)
    monkeypatch.setattr(api, "forecast", forecast, raising=False)
    monkeypatch.setattr(api, "__all__", [*api.__all__, "forecast"])
    came = told(capsys)["hooks", "new"]
    assert came["state"] == "note"
    assert came["found"].splitlines() == ["dft forecast", "tool forecast", "dataface.agent_api:forecast"]
    assert came["advice"].startswith("new: no row knows them")


def test_what_has_vanished_from_it_and_what_has_changed_is_told_by_id(
    newer: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def same(function: Any) -> Any:
        return function

    rows = (
        Hook("dataface.core.dashboard", "render_dashboard", same),
        Hook("dataface.core.dashboard", "render_in_future", same),
        Hook("dataface.core.no_such_module", "anything", same),
        Hook("dataface.core.dashboard", "render", same, parameters=("a_parameter_of_the_past",)),
        Hook("dataface.core.dashboard", "of_the_past", same, until="0.4.0"),
    )
    monkeypatch.setattr(instrumentor, "HOOKS", rows)
    found = told(capsys)
    assert (found["hooks", "hook points"]["state"], found["hooks", "hook points"]["found"]) == (
        "wrong",
        "2 absent, 1 active, 1 failed",
    )
    vanished, changed = found["hooks", "absent"], found["hooks", "failed"]
    assert vanished["advice"].startswith("vanished")
    assert [line.partition(" ")[0] for line in vanished["found"].splitlines()] == [rows[1].id, rows[2].id]
    assert changed["advice"].startswith("changed")
    assert changed["found"] == f"{rows[3].id} (signature changed: no parameter a_parameter_of_the_past)"


def test_what_an_older_release_has_not_got_yet_is_no_alarm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    release = instrumentor.installed_release()
    assert release is not None
    major, minor, patch = version(release)
    ahead = dataclasses.replace(instrumentor.HOOKS[0], target="later", since=f"{major}.{minor}.{patch + 1}")
    monkeypatch.setattr(instrumentor, "HOOKS", (instrumentor.HOOKS[0], ahead))
    found = told(capsys)
    assert found["hooks", "hook points"]["found"] == "1 active"
    assert ("hooks", "absent") not in found


def test_a_surface_that_is_none_is_named_with_those_that_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(instrumentor, "HOOKS", ())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONTEXT_TELEMETRY_SURFACE", "desktop")
    said = told(capsys)["telemetry", "settings"]
    assert said["state"] == "wrong"
    assert "CONTEXT_TELEMETRY_SURFACE: 'desktop' is not one of agent, cli, dashboard, ide" in said["found"]


def test_the_last_word_on_descriptions_counts_though_a_younger_process_spoke_before_it(
    tmp_path: Path,
) -> None:
    server, command = Process(tmp_path, pid=11), Process(tmp_path, pid=12)
    for process, ago, described in ((server, 90.0, 7), (command, 60.0, 7), (server, 30.0, 5)):
        process.event(
            "dataface.enrichment.changed",
            {
                "dataface.enrichment.columns.described": described,
                "dataface.enrichment.columns.total": 9,
                "dataface.enrichment.lost": 7 - described,
            },
            ago=ago,
        )
    (said,) = [check for check in recorded(tmp_path) if check.name == "descriptions"]
    assert said.state == "note"
    assert said.found.startswith("on 5 of 9 columns, ")
    assert said.advice.startswith("2 of a former manifest are gone")


def test_owners_that_are_not_filled_in_show_and_are_wrong_in_a_production_profile(tmp_path: Path) -> None:
    build.build(tmp_path / "ops")
    (trial,) = owned(tmp_path)
    assert (trial.section, trial.name, trial.state) == ("operations", "ops/owners.yaml", "note")
    assert "catalogue-owner" in trial.found
    assert trial.advice == "`context-telemetry ops check ops` lists them"
    owners = tmp_path / "ops" / "owners.yaml"
    text = owners.read_text("utf-8")
    owners.write_text(text.replace("profile: trial", "profile: production"), "utf-8")
    assert [each.state for each in owned(tmp_path)] == ["wrong"]
    owners.write_text(text.replace("catalogue: catalogue-owner", "catalogue: nobody"), "utf-8")
    (broken,) = owned(tmp_path)
    assert (broken.state, broken.found) == ("wrong", "cannot be used")
    assert f"{owners}:" in broken.advice


def test_a_project_without_an_operations_package_says_nothing_of_owners(tmp_path: Path) -> None:
    assert not list(owned(tmp_path))
