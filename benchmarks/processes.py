"""What whole processes pay: to import the decorators, to start `dft mcp serve` and `dft serve`. A process per turn."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
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
_SDK = (
    "import opentelemetry.sdk.trace.export, opentelemetry.sdk.metrics.export, opentelemetry.sdk._logs.export"
)
_START = """
import context_telemetry.pipeline.launch, context_telemetry.pipeline.providers
import context_telemetry.pipeline.files, context_telemetry.pipeline.guard, context_telemetry.pipeline.owned
from context_telemetry.instrumentation import DatafaceInstrumentor
"""
_ANSWER_SECONDS = 120.0
_ASK_AGAIN_SECONDS = 0.01


@dataclass(frozen=True)
class Imports:
    """An import beside that of which it is made: CPU milliseconds and resident MiB, both from the same processes."""

    name: str
    what: str
    statements: Mapping[str, str]
    targets: tuple[Target, ...] = ()
    rounds: int = 15
    table: str = "processes"

    def small(self) -> Imports:
        """To see that it works."""
        return replace(self, rounds=2)

    def run(self) -> list[Result]:
        found: dict[str, list[tuple[float, float]]] = {side: [] for side in self.statements}
        for number in range(-1, self.rounds):  # the first turn compiles
            for side, statement in self.statements.items():
                probe = [sys.executable, "-c", _PROBE.format(statement=statement)]
                done = subprocess.run(probe, env=for_processes(), capture_output=True, text=True, check=True)
                if number >= 0:
                    milliseconds, size = map(float, done.stdout.split())
                    found[side].append((milliseconds, size))
        over, _ = self.statements
        return [
            Result(
                self.table,
                self.name,
                self.what,
                unit,
                {label: {side: [each[index] for each in values] for side, values in found.items()}},
                over,
                tuple(target for target in self.targets if target.measure == label),
            )
            for index, (label, unit) in enumerate((("CPU", "ms"), ("memory", "MiB")))
        ]


IMPORTS = (
    Imports(
        "import",
        f"`{_DECORATORS}`, beside the API, which whoever instruments pays",
        {"opentelemetry-api": _API, "decorators": _DECORATORS},
        (
            Target("ratio", "decorators", "opentelemetry-api", 1.15, "CPU"),
            Target("value", "decorators", "", 6.0, "memory"),
        ),
    ),
    Imports(
        "import of a start",
        "what an observed server imports, beside the SDK, which is part of it",
        {"opentelemetry-sdk": _SDK, "pipeline and hooks": _START},
    ),
)


@dataclass(frozen=True)
class Starts:
    """A server from its spawn to its first answer, observed and not: wall clock, and its CPU and memory by then."""

    project: served.Project
    command: tuple[str, ...]
    answer: str
    rounds: int = 5
    warm_up: int = 1
    table: str = "processes"

    @property
    def name(self) -> str:
        return f"start of `{' '.join(self.command)}`"

    def small(self) -> Starts:
        """To see that it works."""
        return replace(self, rounds=1, warm_up=0)

    def run(self) -> list[Result]:
        """What cannot run here says why in the result."""
        what = f"to {self.answer}"
        needed = ("dataface", "mcp", "context_telemetry.pipeline.launch")
        missing = [each for each in needed if not _importable(each)]
        if missing:
            return [Result(self.table, self.name, what, "ms", {}, not_run=f"needs {', '.join(missing)}")]
        from context_telemetry.rehearsal.driver import observed

        dft = str(Path(sys.executable).with_name("dft"))
        ask = _ask_mcp if "mcp" in self.command else _ask_page
        taken: dict[str, list[_Start]] = {"plain": [], "observed": []}
        with tempfile.TemporaryDirectory() as folder:
            # Compiled by the first turns; without those, whatever modules are compiled already.
            compiled = for_processes() if self.warm_up else os.environ
            environment = {**compiled, "CONTEXT_TELEMETRY_STATE_DIR": folder}
            order = list(taken)
            for number in range(-self.warm_up, self.rounds):
                for side in order:
                    command = [dft, *self.command[1:]]
                    if ask is _ask_page:
                        command += ["--port", str(_free_port())]
                    command = observed(command) if side == "observed" else command
                    try:
                        start = _started(command, self.project.root, environment, ask)
                    except RuntimeError as error:
                        return [Result(self.table, self.name, what, "ms", {}, not_run=f"{side}, {error}")]
                    if number >= 0:
                        taken[side].append(start)
                order.reverse()
        target = Target("ratio", "observed", "plain", 1.10, "wall")
        times = {
            "wall": {side: [each.seconds * 1e3 for each in starts] for side, starts in taken.items()},
            "CPU": {side: [each.cpu * 1e3 for each in starts] for side, starts in taken.items()},
        }
        memory = {"memory": {side: [each.memory for each in starts] for side, starts in taken.items()}}
        return [
            Result(self.table, self.name, what, "ms", times, "plain", (target,)),
            Result(self.table, self.name, "resident by then", "MiB", memory, "plain"),
        ]


def starts(project: served.Project) -> list[Starts]:
    """Both servers."""
    return [
        Starts(project, ("dft", "mcp", "serve"), "its answer to `initialize`"),
        Starts(project, ("dft", "serve"), "its first page (`/orders.yaml`)"),
    ]


@dataclass(frozen=True)
class _Start:
    """Seconds to the answer, and the CPU seconds and resident MiB of the process when it came."""

    seconds: float
    cpu: float
    memory: float


def _started(
    command: list[str],
    project: Path,
    environment: Mapping[str, str],
    ask: Callable[[subprocess.Popen[bytes]], bool],
) -> _Start:
    """Start a server, ask it and end it. Raises RuntimeError when there is no answer."""
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
            answered = ask(process)
            seconds = time.perf_counter() - began
            cpu, memory = _taken_by(process.pid)
            process.terminate()
            process.communicate()
        finally:
            impatient.cancel()
        if not answered:
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip().splitlines()
            raise RuntimeError(f"no answer: {said[-1] if said else 'nothing on stderr'}")
        return _Start(seconds, cpu, memory)


def _ask_mcp(process: subprocess.Popen[bytes]) -> bool:
    """Whether it answers to `initialize`."""
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
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(request).encode() + b"\n")
    process.stdin.flush()
    return b'"serverInfo"' in process.stdout.readline()


def _ask_page(process: subprocess.Popen[bytes]) -> bool:
    """Whether it answers with a page; asked again until it listens."""
    command = process.args
    assert isinstance(command, list)
    url = f"http://127.0.0.1:{command[-1]}/orders.yaml"
    while process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=_ANSWER_SECONDS) as response:
                return bool(response.status == 200)
        except urllib.error.HTTPError:
            return False
        except OSError:
            time.sleep(_ASK_AGAIN_SECONDS)
    return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def _taken_by(pid: int) -> tuple[float, float]:
    """CPU seconds and resident MiB of a process so far; not a number where there is no /proc."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return math.nan, math.nan
    ticks = int(stat[11]) + int(stat[12])
    return ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
