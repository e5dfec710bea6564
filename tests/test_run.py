"""The ways in, on a real `dft mcp serve` over stdio: observed by one word in front, and otherwise as before."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Observed, events_in, spans_in

from context_telemetry.rehearsal.driver import Raw, observed, plain, resource, tool
from context_telemetry.rehearsal.sample import Sample

pytestmark = pytest.mark.real

CALLS = [
    tool("execute_query", sql="SELECT 1 AS one", source="nowhere"),
    tool("render_dashboard", path="faces/customers.yml"),
    resource("dataface://docs/error-reference"),
]
EXPECTED = [
    ("tools/call execute_query", "degraded", {"source_substituted"}),
    ("tools/call render_dashboard", "ok", set()),
    ("resources/read", "degraded", {"resource_unknown"}),
]

# A host of its own: it calls `instrument` and serves as `dft mcp serve` does.
HOST = """
import asyncio, pathlib
import context_telemetry
context_telemetry.instrument()
context_telemetry.instrument()
from dataface.ai.mcp import run_server
from dataface.cli.filesystem_project import FilesystemProject
asyncio.run(run_server(FilesystemProject(pathlib.Path.cwd()), None))
"""


def bin_of(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(None, id="run"),
        pytest.param(
            [bin_of("opentelemetry-instrument"), bin_of("dft"), "mcp", "serve"], id="opentelemetry-instrument"
        ),
        pytest.param([sys.executable, "-c", HOST], id="instrument"),
    ],
)
def test_every_way_in_records_the_same(sample: Sample, observed: Observed, command: list[str] | None) -> None:
    recorded = observed(
        sample.root, CALLS, client_name="claude-code", **({"command": command} if command else {})
    )
    entries = [
        (entry.name, entry.outcome, set(entry.reasons))
        for entry in recorded.entries
        if entry.name.startswith(("tools/call", "resources/read"))
    ]
    assert entries == EXPECTED
    for entry in recorded.entries:
        assert entry.attributes["dataface.surface"] == "mcp"
        assert entry.attributes["dataface.client.name"] == "claude_code"
        assert entry.attributes["network.transport"] == "pipe"
    assert [event.name for event in recorded.events].count("dataface.session.ended") == 1
    states = [event for event in recorded.events if event.name == "context_telemetry.state"]
    assert [state.attributes["context_telemetry.phase"] for state in states] == ["began", "ended"]
    assert states[-1].attributes["context_telemetry.hooks.failed"] == 0
    assert states[-1].attributes["context_telemetry.hooks.absent"] == 0
    assert states[-1].attributes["context_telemetry.errors"] == 0
    assert "context-telemetry:" not in recorded.stderr


@pytest.mark.parametrize("switch", [{"CONTEXT_TELEMETRY_DISABLED": "1"}, {"OTEL_SDK_DISABLED": "true"}])
def test_disabled_it_is_as_if_the_library_were_not_there(
    sample: Sample, observed: Observed, switch: dict[str, str]
) -> None:
    recorded = observed(sample.root, CALLS[:1], env=switch)
    assert not recorded.state_dir.exists()
    assert recorded.answers[0].json()["success"] is True


def test_nothing_is_written_into_the_project_or_to_standard_output(project: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in project.rglob("*")}
    with Raw(project, env={"CONTEXT_TELEMETRY_STATE_DIR": str(tmp_path / "state")}) as raw:
        raw.initialize()
        raw.request("tools/call", {"name": "render_dashboard", "arguments": {"path": "faces/orders.yml"}})
        assert raw.close() == 0
        assert all(json.loads(line)["jsonrpc"] == "2.0" for line in raw.received)
    after = {path: path.stat().st_mtime_ns for path in project.rglob("*")}
    assert {path for path in after if before.get(path) != after[path]} == set()
    assert spans_in(tmp_path / "state")


def test_the_streams_of_a_session_are_equal_with_and_without_observation(
    sample: Sample, tmp_path: Path
) -> None:
    sessions = [
        session_of(sample.root, command, {"CONTEXT_TELEMETRY_STATE_DIR": str(tmp_path / "state")})
        for command in (plain(), observed())
    ]
    assert sessions[0][0] == sessions[1][0]
    assert len(sessions[0][1]) == len(sessions[1][1])
    for without, with_observation in zip(sessions[0][1], sessions[1][1], strict=True):
        assert settled(without) == settled(with_observation)
    assert spans_in(tmp_path / "state")


def session_of(
    project: Path, command: list[str], env: dict[str, str]
) -> tuple[list[bytes], list[dict[str, Any]]]:
    """Everything that a long mixed session sends and gets, malformed requests included."""
    with Raw(project, command=command, env=env) as raw:
        raw.initialize()
        for method in (
            "tools/list",
            "resources/list",
            "resources/templates/list",
            "prompts/list",
            "ping",
            "no/such",
        ):
            raw.request(method)
        for name, arguments in (
            (
                "execute_query",
                {"sql": "SELECT * FROM fct_orders ORDER BY order_id", "source": "shop", "limit": 200},
            ),
            ("execute_query", {"sql": "SELECT 1", "source": "nowhere"}),
            ("execute_query", {}),
            ("render_dashboard", {"path": "faces/orders.yml"}),
            ("render_dashboard", {"path": "faces/orders.yml", "format": "svg"}),
            ("render_dashboard", {"path": "faces/catalog.yml"}),
            ("search_dashboards", {"query": "revenue"}),
            ("describe_query", {"sql": "SELECT * FROM fct_orders", "source": "shop"}),
            ("no_such_tool", {}),
        ):
            raw.request("tools/call", {"name": name, "arguments": arguments, "_meta": {"progressToken": 1}})
        for uri in (
            "dataface://dashboards",
            "dataface://docs/error-reference",
            "dataface://dashboard/orders.yml",
        ):
            raw.request("resources/read", {"uri": uri})
        raw.request("tools/call", {"arguments": {}})
        assert raw.close() == 0
        return raw.sent, [json.loads(line) for line in raw.received]


def settled(message: dict[str, Any]) -> str:
    """A message without what differs between any two runs: times, the preview's port, which query thread was first."""
    for part in message.get("result", {}).get("content", ()):
        if '"board_query_data_ages"' in part["text"]:
            answer = json.loads(part["text"])
            answer["board_query_data_ages"].sort()
            part["text"] = json.dumps(answer)
    text = json.dumps(message, sort_keys=True)
    for pattern, instead in (
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)?", "TIME"),
        (r"\b\d\d:\d\d UTC", "CLOCK"),
        (r"localhost:\d+", "PREVIEW"),
        (r"\b[0-9a-f]{8,32}\b", "ID"),
    ):
        text = re.sub(pattern, instead, text)
    return text


@pytest.mark.parametrize(
    ("end", "status"), [("close", 0), (signal.SIGTERM, -signal.SIGTERM), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_what_was_served_is_on_disk_however_the_server_ends(
    sample: Sample, tmp_path: Path, end: Any, status: int
) -> None:
    state = tmp_path / "state"
    with Raw(sample.root, env={"CONTEXT_TELEMETRY_STATE_DIR": str(state)}) as raw:
        raw.initialize()
        raw.request("tools/call", {"name": "docs", "arguments": {}})
        if end == "close":
            code = raw.close()
        else:
            if end is signal.SIGKILL:
                time.sleep(2.0)  # at most a second is lost, as soundness/test_ends measures it
            raw.process.send_signal(end)
            code = raw.process.wait(15)
    assert code == status
    assert [span.name for span in spans_in(state) if span.entry] == ["initialize", "tools/call docs"]
    ended = [event for event in events_in(state) if event.name == "dataface.session.ended"]
    assert len(ended) == (0 if end is signal.SIGKILL else 1)


def test_our_own_pipeline_records_what_a_client_s_traceparent_says_not_to(
    sample: Sample, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
    with Raw(sample.root, env={"CONTEXT_TELEMETRY_STATE_DIR": str(state)}) as raw:
        raw.initialize()
        raw.request("tools/call", {"name": "docs", "arguments": {}, "_meta": {"traceparent": parent}})
        raw.close()
        (docs,) = [span for span in spans_in(state) if span.name == "tools/call docs"]
    assert docs.trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert docs.parent_id == "b7ad6b7169203331"


def test_wrong_settings_warn_once_and_the_server_serves(project: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    (project / "context-telemetry.toml").write_text("[limits]\nresuls = 5\n")
    with Raw(project, env={"CONTEXT_TELEMETRY_STATE_DIR": str(state)}) as raw:
        raw.initialize()
        raw.request("tools/call", {"name": "docs", "arguments": {}})
        raw.close()
        ours = [line for line in raw.stderr.splitlines() if line.startswith("context-telemetry:")]
    assert len(ours) == 1
    assert "resuls" in ours[0]
    assert "context-telemetry.toml" in ours[0]
    states = [event for event in events_in(state) if event.name == "context_telemetry.state"]
    assert states[-1].attributes["context_telemetry.errors"] == 1


# -- commands that keep the library out ------------------------------------------------------------

DFT = [bin_of("dft"), "docs"]


def ran(folder: Path, *command: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """A command behind `run`, and the names of the entries that it left."""
    state = folder / "state"
    environ = {**os.environ, "CONTEXT_TELEMETRY_STATE_DIR": str(state)}
    done = subprocess.run(
        observed(command), cwd=folder, env=environ, capture_output=True, text=True, check=False
    )
    return done, [span.name for span in spans_in(state) if span.entry] if state.exists() else []


def script(folder: Path, *lines: str) -> str:
    """An executable script that starts with these lines and is `dft` of this interpreter."""
    path = folder / "mine"
    path.write_text("\n".join([*lines, "from dataface.cli.main import app", "app()"]))
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("command", "kept_out_by"),
    [
        *(
            ([sys.executable, option, *DFT], f"{Path(sys.executable).name} {option}")
            for option in ("-I", "-E")
        ),
        ([sys.executable, "-W", "ignore", "-sIB", *DFT], f"{Path(sys.executable).name} -I"),
        (["env", "-i", *DFT], "env -i"),
        (["env", "-u", "PYTHONPATH", *DFT], "env -u PYTHONPATH"),
        (["env", "PYTHONPATH=", *DFT], "env PYTHONPATH=..."),
        (["env", "A=B", sys.executable, "-E", *DFT], f"{Path(sys.executable).name} -E"),
    ],
    ids=lambda each: " ".join(each).replace(sys.executable, "python") if isinstance(each, list) else "",
)
def test_a_command_that_keeps_the_library_out_runs_and_one_line_says_why_it_is_not_observed(
    project: Path, command: list[str], kept_out_by: str
) -> None:
    done, entries = ran(project, *command)
    (line,) = done.stderr.splitlines()
    assert re.fullmatch(
        f"context-telemetry: this (command|Python) is not observed: {kept_out_by} keeps the library out", line
    )
    assert (done.returncode, entries) == (0, [])
    assert done.stdout == subprocess.run(DFT, cwd=project, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    "first_lines",
    [
        pytest.param(["#!{python} -I"], id="python"),
        pytest.param(["#!/usr/bin/env -S {python} -sE"], id="env -S"),
        pytest.param(["#!/bin/sh", "'''exec' '{python}' -I \"$0\" \"$@\"", "' '''"], id="sh"),
    ],
)
def test_a_script_whose_first_line_keeps_the_library_out_says_so_too(
    project: Path, first_lines: list[str]
) -> None:
    mine = script(project, *(line.format(python=sys.executable) for line in first_lines))
    done, entries = ran(project, mine, "docs")
    (line,) = done.stderr.splitlines()
    assert re.fullmatch(
        r"context-telemetry: this Python is not observed: python[\d.]* -[IE] keeps the library out", line
    )
    assert (done.returncode, entries) == (0, [])


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, *DFT, "-I"],
        [sys.executable, "-s", "-X", "utf8", *DFT],
        ["env", "-u", "A", "B=-i", *DFT],
        ["script"],
    ],
    ids=["the command's own -I", "other options", "env", "first line"],
)
def test_a_command_that_keeps_nothing_out_is_observed_and_nothing_is_said(
    project: Path, command: list[str]
) -> None:
    if command == ["script"]:
        command = [script(project, f"#!{sys.executable}"), "docs"]
    done, entries = ran(project, *command)
    assert entries == ["dft docs"]
    assert "context-telemetry" not in done.stderr


@pytest.mark.parametrize("switch", ["CONTEXT_TELEMETRY_DISABLED", "OTEL_SDK_DISABLED"])
def test_switched_off_nothing_is_said_of_what_would_not_be_observed(
    project: Path, monkeypatch: pytest.MonkeyPatch, switch: str
) -> None:
    monkeypatch.setenv(switch, "true")
    done, entries = ran(project, sys.executable, "-I", *DFT)
    assert (done.returncode, done.stderr, entries) == (0, "", [])


def test_dataface_s_command_line_as_a_module_is_an_entry(project: Path) -> None:
    done, entries = ran(project, sys.executable, "-m", "dataface.cli.main", "docs")
    assert (done.returncode, done.stderr, entries) == (0, "", ["dft docs"])
    failed, both = ran(project, sys.executable, "-m", "dataface.cli.main", "docs", "no-such-topic")
    assert (failed.returncode, both) == (1, ["dft docs"] * 2)
