"""Real traffic for the dashboards: Dataface on four surfaces, each on a project of its own, healthy, broken and healed.

Nothing here judges. What cannot be had is a language model: the agent's is a FAKE (tests/agent_fakes.py).
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from httpserver import Server, serving

from context_telemetry.rehearsal import driver
from context_telemetry.rehearsal.driver import Client
from context_telemetry.rehearsal.fault import Fault
from context_telemetry.rehearsal.faults import fault
from context_telemetry.rehearsal.sample import Sample

TESTS: Final = Path(__file__).resolve().parent.parent / "tests"
SURFACES: Final = ("mcp", "dashboard", "cli", "agent")
CLIENTS: Final = ("cursor", "vscode", "windsurf")
"""Clients that take every healthy answer whole; Claude Code and Gemini CLI have lower limits (limits/clients.py)."""
PAGES: Final = ("/", "/orders", "/customers", "/revenue")
COMMANDS: Final = (("render", "faces/orders.yml", "--format", "json"), ("context", "build"))

_CALLS_AT_ONCE: Final = 8
_WAIT_SECONDS: Final = 2.0

_CHECK: Final = ("context_telemetry", "check", "--no-tools", "--no-prompts")


@dataclass(frozen=True)
class Phase:
    """From this share of the time on these faults are in every project, and no others."""

    begins: float
    faults: tuple[str, ...] = ()


PHASES: Final = (
    Phase(0.0),
    Phase(0.4, ("source_unknown_answered", "manifest_cut")),
    Phase(0.5, ("result_oversized", "model_edited")),
    Phase(0.6, ("column_dropped", "table_unknown", "sql_typo")),
    Phase(0.7),
)


def serve(sample: Sample, folder: Path, environment: Mapping[str, str], seconds: float) -> None:
    """Serves for that long. ``environment`` says where the processes send what they observe."""
    began = time.monotonic()
    there: list[Fault] = []
    with processes(sample, folder, environment) as served:
        while (gone := time.monotonic() - began) < seconds:
            there = served.change(there, _due(gone / seconds))
            served.once(there)
            # A machine that does nothing else would show what it can do, and not what it does.
            time.sleep(_WAIT_SECONDS)


@contextmanager
def processes(sample: Sample, folder: Path, environment: Mapping[str, str]) -> Iterator[Served]:
    """A copy of the project for each surface, and the dashboard server on its own."""
    projects = {surface: sample.copy(folder / surface / "shop").root for surface in SURFACES}
    env = {
        **environment,
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=rehearsal",
        "CONTEXT_TELEMETRY_CONTRACT_WATCH": "true",
        "CONTEXT_TELEMETRY_STATE_DIR": str(folder / "state"),
    }
    _accept(projects["dashboard"])
    with serving(projects["dashboard"], folder / "serve.log", env=env) as web:
        yield Served(projects, env, web)


def _accept(project: Path) -> None:
    """The project's contract, as it is while it is healthy: the server of its pages says what breaks it."""
    command = [sys.executable, "-m", "context_telemetry", "contract", "snapshot", "--no-tools"]
    subprocess.run(command, cwd=project, check=True, capture_output=True)


def _due(share: float) -> list[Fault]:
    phase = max((each for each in PHASES if each.begins <= share), key=lambda each: each.begins)
    return [fault(name) for name in phase.faults]


class Served:
    """The projects, the processes on them, and what they are asked in turn."""

    def __init__(self, projects: Mapping[str, Path], env: Mapping[str, str], web: Server) -> None:
        self._projects, self._env, self._web = projects, env, web
        self._calls, self._clients = itertools.cycle(driver.HEALTHY_TOOLS), itertools.cycle(CLIENTS)
        self._commands, self._rounds = itertools.cycle(COMMANDS), itertools.count()

    def change(self, there: Sequence[Fault], due: list[Fault]) -> list[Fault]:
        """Heals what is ``there`` and not ``due`` in every project, and injects the others; what is there now."""
        for root in self._projects.values():
            for each in there:
                if each not in due:
                    each.heal(root)
            for each in due:
                if each not in there:
                    each.inject(root)
        return due

    def once(self, there: Sequence[Fault]) -> None:
        """A session of an MCP client, some pages, a command, now and then a turn of an agent, or a check."""
        number = next(self._rounds)
        driver.with_session(
            self._projects["mcp"],
            lambda client: self._session(client, there),
            env=self._env,
            client_name=next(self._clients),
        )
        for page in PAGES:
            self._web.get(page)
        if number % 4 == 0:
            self._web.get("/a-page-that-is-not-there")
        dft = driver.plain()[0]
        self._run("cli", driver.observed([dft, *next(self._commands)]))
        if number % 2 == 0:
            self._run("dashboard", [sys.executable, "-m", *_CHECK])
        if number % 3 == 0:
            host = str(TESTS / "agent_host.py")
            self._run("agent", driver.observed([sys.executable, host, str(self._projects["agent"])]))

    async def _session(self, client: Client, there: Sequence[Fault]) -> None:
        await client.session.list_tools()
        for call in itertools.islice(self._calls, _CALLS_AT_ONCE):
            await client.send(call)
        for call in driver.TEMPLATE_RESOURCES:
            await client.send(call)
        for each in there:
            await client.send(each.meetings[0].call)

    def _run(self, surface: str, command: Sequence[str]) -> None:
        # With a fault in the project a command may well fail: that is what is to be seen.
        subprocess.run(
            command,
            cwd=self._projects[surface],
            env={**os.environ, **self._env, "PWD": str(self._projects[surface])},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
