"""Many processes of one project on one machine share one view, and it tells them apart."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import WATCH, spans_in
from httpserver import serving

from context_telemetry.instrumentation.instrumentor import installed_release
from context_telemetry.rehearsal.driver import observed, plain, session, tool

pytestmark = pytest.mark.real

HERE = Path(__file__).parent
OTHER = "0.2.0" if installed_release() != "0.2.0" else "0.4.0"
"""The release beside the one that is installed here. CI's matrix has made its environment by then: it is in its cut."""
HEALTHY = tool("execute_query", sql="SELECT count(*) AS orders FROM fct_orders", source="shop")
SUBSTITUTED = tool("execute_query", sql="SELECT 1 AS one", source="nowhere")
MADE_WITHIN = 900.0


@pytest.fixture(scope="module")
def other_python() -> Path:
    """The Python of an environment with the other release, which `dev.py` makes where there is none: minutes, once."""
    code = "import sys; print(sys.executable)"
    made = subprocess.run(
        [sys.executable, "dev.py", "on", OTHER, "-c", code],
        cwd=HERE.parent,
        capture_output=True,
        text=True,
        timeout=MADE_WITHIN,
        check=False,
    )
    assert made.returncode == 0, f"no environment with Dataface {OTHER}:\n{made.stdout}{made.stderr}"
    return Path(made.stdout.strip().splitlines()[-1])


class Machine:
    """One project, one state folder, and commands that are observed there."""

    def __init__(self, project: Path, state: Path) -> None:
        self.project, self.state = project, state
        self.environ = {"CONTEXT_TELEMETRY_STATE_DIR": str(state), WATCH: "false"}

    def run(self, command: Sequence[str], **more: str) -> None:
        subprocess.run(
            observed(command),
            cwd=self.project,
            env={**os.environ, **self.environ, **more},
            check=True,
            capture_output=True,
            timeout=120,
        )

    def dft(self, surface: str | None) -> None:
        more = {} if surface is None else {"CONTEXT_TELEMETRY_SURFACE": surface}
        self.run([plain()[0], "docs"], **more)

    def agent(self) -> None:
        """A turn whose model is a fake, see agent_host.py."""
        path = os.pathsep.join((str(HERE.parent / "src"), str(HERE)))
        host = [sys.executable, str(HERE / "agent_host.py"), str(self.project)]
        self.run(host, PYTHONPATH=path)

    @contextmanager
    def pages(self, log: Path) -> Iterator[None]:
        with serving(self.project, log, env=self.environ) as server:
            assert server.get("/orders/").status == 200
            yield

    def status(self, *options: str) -> str:
        return subprocess.run(
            [
                sys.executable,
                "-m",
                "context_telemetry.cli",
                "status",
                "--state-dir",
                str(self.state),
                *options,
            ],
            cwd=self.project,
            env={**os.environ, "COLUMNS": "100"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        ).stdout


def mcp_server(python: Path) -> list[str]:
    """`dft mcp serve`, observed, of the environment that an interpreter is in."""
    folder = python.parent
    return [str(folder / "context-telemetry"), "run", "--", str(folder / "dft"), "mcp", "serve"]


@pytest.mark.timeout(MADE_WITHIN + 300)
def test_servers_of_two_releases_pages_an_agent_and_commands_at_once_are_told_apart(
    project: Path, tmp_path: Path, other_python: Path
) -> None:
    machine = Machine(project, tmp_path / "state")
    here = Path(sys.executable)

    async def all_at_once() -> None:
        async with (
            session(
                project, command=mcp_server(other_python), env=machine.environ, client_name="cursor"
            ) as old,
            session(project, command=mcp_server(here), env=machine.environ, client_name="claude-code") as new,
        ):
            for client in (old, new):
                assert not (await client.send(HEALTHY)).is_error
            await asyncio.to_thread(the_others)
            # Both have lived all the while, and answer.
            for client, call in ((old, SUBSTITUTED), (new, HEALTHY), (old, HEALTHY)):
                assert not (await client.send(call)).is_error

    def the_others() -> None:
        with machine.pages(tmp_path / "serve.log"), ThreadPoolExecutor(3) as pool:
            runs = [
                pool.submit(machine.dft, None),
                pool.submit(machine.dft, "ide"),
                pool.submit(machine.agent),
            ]
            for each in runs:
                each.result()

    asyncio.run(all_at_once())

    document: dict[str, Any] = json.loads(machine.status("--json"))
    processes = document["processes"]
    told = [
        (each["release"], each["surfaces"], each["clients"], each["calls"], each["not_ok"])
        for each in processes
    ]
    this = installed_release()
    # A session is two calls before the first: it is opened, and lists the tools. A look at /health is no page.
    assert told[0] == (OTHER, ["mcp"], ["cursor"], 2 + 3, 1)
    assert sorted(told[1:], key=str) == [
        (this, ["agent"], [], 1, 0),
        (this, ["cli"], [], 1, 0),
        (this, ["dashboard"], ["other"], 1, 0),
        (this, ["ide"], [], 1, 0),
        (this, ["mcp"], ["claude_code"], 2 + 2, 0),
    ]
    by_release = {each["release"]: each for each in processes if each["surfaces"] == ["mcp"]}
    assert by_release[OTHER]["first"] < by_release[this]["first"] < by_release[OTHER]["last"]
    assert len({each["instance"] for each in processes}) == len({each["pid"] for each in processes}) == 6
    assert all(each["first"] <= each["last"] for each in processes)
    # Nothing is lost, and nothing told twice.
    entries = [span for span in spans_in(machine.state) if span.entry]
    assert len(entries) == sum(each["calls"] for each in processes) == 13
    assert len({(span.trace_id, span.span_id) for span in entries}) == 13

    lines = machine.status().splitlines()
    (head,) = [number for number, line in enumerate(lines) if line.startswith("process ")]
    table = [line.split() for line in lines[head : head + 7]]
    assert table[0] == ["process", "Dataface", "surface", "client", "since", "last", "calls", "not", "ok"]
    assert (table[1][1:4], table[1][-2:]) == ([OTHER, "mcp", "cursor"], ["5", "1"])
    assert {(row[1], row[2]) for row in table[2:]} == {
        (this, surface) for surface in ("agent", "cli", "dashboard", "ide", "mcp")
    }
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100
