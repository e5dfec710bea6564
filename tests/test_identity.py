"""Many processes of one project on one machine share one view, and it tells them apart."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import observe
from httpserver import serving
from otlp_files import Process, substituted

from context_telemetry.instrumentation.instrumentor import installed_release
from context_telemetry.rehearsal.driver import observed, plain, tool
from context_telemetry.rehearsal.sample import Sample
from context_telemetry.settings import project_folder

pytestmark = pytest.mark.real


def status(project: Path, state: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "context_telemetry.cli", "status", "--state-dir", str(state), *options],
        cwd=project,
        env={**os.environ, "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_servers_pages_commands_and_another_release_are_told_apart(sample: Sample, tmp_path: Path) -> None:
    state = tmp_path / "state"
    environ = {"CONTEXT_TELEMETRY_STATE_DIR": str(state)}
    release = installed_release()

    def dft(*arguments: str, **more: str) -> None:
        command = observed([plain()[0], *arguments])
        subprocess.run(
            command, cwd=sample.root, env={**os.environ, **environ, **more}, check=True, capture_output=True
        )

    for client in ("cursor", "claude-code"):
        observe(tmp_path / client, sample.root, [tool("docs")], env=environ, client_name=client)
    with serving(sample.root, tmp_path / "serve.log", env=environ) as server:
        server.get("/orders/")
        # At once, as editors and schedulers do.
        with ThreadPoolExecutor(2) as both:
            list(both.map(lambda said: dft("docs", **said), ({}, {"CONTEXT_TELEMETRY_SURFACE": "ide"})))
    # Another release on the same machine, which only its recorded file can stand for; it is the sick one.
    sick = Process(project_folder(state, sample.root), pid=4711, release="0.2.0")
    sick.call(substituted(10.0))
    sick.flush()

    document: dict[str, Any] = json.loads(status(sample.root, state, "--json").stdout)
    processes = document["processes"]
    told = [(each["release"], each["surfaces"], each["not_ok"]) for each in processes]
    assert told[0] == ("0.2.0", ["mcp"], 1)
    assert sorted(told[1:], key=str) == [
        (release, ["cli"], 0),
        (release, ["dashboard"], 0),
        (release, ["ide"], 0),
        (release, ["mcp"], 0),
        (release, ["mcp"], 0),
    ]
    assert len({each["instance"] for each in processes}) == len({each["pid"] for each in processes}) == 6
    assert all(each["first"] <= each["last"] for each in processes)
    rows = {(row["surface"], row["client"]): row["served"] - row["ok"] for row in document["traffic"]}
    assert rows == {
        ("mcp", "cursor"): 1,
        ("mcp", "claude_code"): 0,
        ("dashboard", "other"): 0,
        ("cli", None): 0,
        ("ide", None): 0,
    }

    lines = status(sample.root, state).stdout.splitlines()
    (head,) = [number for number, line in enumerate(lines) if line.startswith("process ")]
    table = [line.split() for line in lines[head : head + 7]]
    assert table[0] == ["process", "Dataface", "surface", "client", "since", "last", "calls", "not", "ok"]
    assert (table[1][:3], table[1][-1]) == (["4711", "0.2.0", "mcp"], "1")
    assert {row[2] for row in table[1:]} == {"mcp", "dashboard", "cli", "ide"}
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100
