"""What whole processes pay: to import the decorators, to start `dft mcp serve`. A process per turn."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import served
from benchmarks.environment import for_processes
from benchmarks.measure import Result, Target

_PROBE = """
import os, resource, sys, time

def resident():
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:  # no /proc: the peak, which is as good while memory only grows
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

size, clock = resident(), time.process_time()
{statement}
print((time.process_time() - clock) * 1e3, (resident() - size) / 2**20)
"""
_API = "import opentelemetry.trace, opentelemetry.metrics"
_DECORATORS = "from context_telemetry import catalog_resolution"
_ANSWER_SECONDS = 120.0


@dataclass(frozen=True)
class Imports:
    """The import of the decorators beside that of the OpenTelemetry API, which whoever instruments pays."""

    name: str = "import"
    rounds: int = 25
    table: str = "processes"

    def small(self) -> Imports:
        """To see that it works."""
        return replace(self, rounds=2)

    def run(self) -> list[Result]:
        """CPU milliseconds and resident MiB, both from the same processes."""
        statements = {"opentelemetry-api": _API, "decorators": _DECORATORS}
        found: dict[str, list[tuple[float, float]]] = {side: [] for side in statements}
        with tempfile.TemporaryDirectory() as folder:
            environment = for_processes(Path(folder))
            for number in range(-1, self.rounds):  # the first turn compiles
                for side, statement in statements.items():
                    probe = [sys.executable, "-c", _PROBE.format(statement=statement)]
                    done = subprocess.run(probe, env=environment, capture_output=True, text=True, check=True)
                    if number >= 0:
                        milliseconds, size = map(float, done.stdout.split())
                        found[side].append((milliseconds, size))
        what = f"`{_DECORATORS}`"
        return [
            Result(
                self.table,
                self.name,
                what,
                unit,
                {label: {side: [each[index] for each in values] for side, values in found.items()}},
                "opentelemetry-api",
                (Target("value", "decorators", "", limit, label),),
            )
            for index, (label, unit, limit) in enumerate((("CPU", "ms", 55.0), ("memory", "MiB", 6.0)))
        ]


@dataclass(frozen=True)
class Starts:
    """`dft mcp serve` from its spawn to its answer to `initialize`, observed and not, by the wall clock."""

    project: served.Project
    name: str = "server start"
    rounds: int = 9
    table: str = "processes"

    def small(self) -> Starts:
        """To see that it works."""
        return replace(self, rounds=1)

    def run(self) -> list[Result]:
        """What cannot run here says why in the result."""
        what = "`dft mcp serve` to its first answer"
        needed = ("dataface", "mcp", "context_telemetry.pipeline.launch")
        missing = [each for each in needed if not _importable(each)]
        if missing:
            return [Result(self.table, self.name, what, "ms", {}, not_run=f"needs {', '.join(missing)}")]
        from context_telemetry.rehearsal.driver import observed, plain

        commands = {"plain": plain(), "observed": observed()}
        taken: dict[str, list[float]] = {side: [] for side in commands}
        with tempfile.TemporaryDirectory() as folder:
            environment = {
                **for_processes(Path(folder) / "bytecode"),
                "CONTEXT_TELEMETRY_STATE_DIR": str(Path(folder) / "state"),
            }
            order = list(commands)
            for number in range(-1, self.rounds):
                for side in order:
                    try:
                        seconds = _answer_after(commands[side], self.project.root, environment)
                    except RuntimeError as error:
                        return [Result(self.table, self.name, what, "ms", {}, not_run=f"{side}, {error}")]
                    if number >= 0:
                        taken[side].append(seconds * 1e3)
                order.reverse()
        target = Target("ratio", "observed", "plain", 1.10, "wall")
        return [Result(self.table, self.name, what, "ms", {"wall": taken}, "plain", (target,))]


def _answer_after(command: list[str], project: Path, environment: Mapping[str, str]) -> float:
    """Seconds from the spawn to the answer to `initialize`. Raises RuntimeError when there is none."""
    request = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "benchmark", "version": "1"},
        },
    }
    began = time.perf_counter()
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            command,
            cwd=project,
            env={**environment, "PWD": str(project)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        ) as process,
    ):
        impatient = threading.Timer(_ANSWER_SECONDS, process.kill)
        impatient.start()
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            answer = process.stdout.readline()
            seconds = time.perf_counter() - began
            process.stdin.close()
            process.wait()
        finally:
            impatient.cancel()
        if b'"serverInfo"' not in answer:
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip().splitlines()
            raise RuntimeError(f"no answer to initialize: {said[-1] if said else 'nothing on stderr'}")
        return seconds


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
