"""What is kept in memory while nothing can be exported, and what a million calls cost: a process for each turn.

`python -m benchmarks.memory traced|resident|million SIDE CALLS` is such a process; it prints one JSON object.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.environment import for_processes
from benchmarks.measure import Result, Target
from benchmarks.sides import EMITTING, SIDES, Bare, side
from context_telemetry.pipeline.batch import BatchLimits

_MIB = 2**20
# Often enough that no queue of any side is full when it is emptied.
_CALLS_BETWEEN_COLLECTIONS = 4_000
# The most that may be kept where nothing can be exported (docs/cost.md). By hand and decorated, spans wait in the
# host's own processor, so of the decorated side only what it keeps besides counts: points that wait for a collection.
_BOUND = (
    Target("added", "decorated", "by hand", 2.0, "traced"),
    Target("value", "owned", "", 16.0, "traced"),
    Target("value", "owned", "", 16.0, "resident"),
    Target("value", "owned", "", 1.0, "again"),
)


@dataclass(frozen=True)
class Full:
    """Memory that full queues take: the exporter hangs, nobody collects, and calls go on until nothing is added."""

    name: str = "full queues"
    table: str = "memory"
    rounds: int = 3
    calls: int = 4 * BatchLimits.queue

    def small(self) -> Full:
        """To see that it works."""
        return replace(self, rounds=1, calls=BatchLimits.queue)

    def run(self) -> list[Result]:
        measures = {
            **_in_processes("traced", EMITTING, self.rounds, self.calls),
            **_in_processes("resident", EMITTING, self.rounds, self.calls),
        }
        what = f"an exporter hangs for {self.calls:,} calls; again: what as many more add"
        return [Result(self.table, self.name, what, "MiB", measures, targets=_BOUND)]


@dataclass(frozen=True)
class Million:
    """CPU and memory of a million calls, from ``calls``: metrics are collected and spans exported all the time."""

    name: str = "a million calls"
    table: str = "memory"
    rounds: int = 3
    calls: int = 200_000

    def small(self) -> Million:
        """To see that it works."""
        return replace(self, rounds=1, calls=2 * _CALLS_BETWEEN_COLLECTIONS)

    def run(self) -> list[Result]:
        measures = _in_processes("million", ("bare", *EMITTING), self.rounds, self.calls)
        what = f"extrapolated from {self.calls:,}"
        kept = {"resident": measures.pop("resident")}
        return [
            Result(self.table, self.name, f"CPU, {what}", "s", measures, "by hand"),
            Result(self.table, self.name, f"memory that grows, {what}", "MiB", kept),
        ]


MATRIX = (Full(), Million())


def _in_processes(
    what: str, sides: tuple[str, ...], rounds: int, calls: int
) -> dict[str, dict[str, list[float]]]:
    """What the processes print, by measure and side; the sides take turns."""
    found: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        environment = for_processes(Path(folder))
        for _ in range(rounds):
            for name in sides:
                command = [sys.executable, "-m", "benchmarks.memory", what, name, str(calls)]
                done = subprocess.run(command, env=environment, capture_output=True, text=True)
                if done.returncode:
                    raise RuntimeError(f"{' '.join(command[1:])} failed: {done.stderr[-2_000:]}")
                for measure, value in json.loads(done.stdout).items():
                    found.setdefault(measure, {}).setdefault(name, []).append(value)
    return found


# -- in a process of its own ----------------------------------------------------------------------


def _traced(name: str, calls: int) -> dict[str, float]:
    """MiB that full queues take as Python counts what it allocates, and what as many calls again add to that."""
    tracemalloc.start()
    full, again = _fill(name, calls, lambda: tracemalloc.get_traced_memory()[0])
    return {"traced": full, "again": again}


def _in_system(name: str, calls: int) -> dict[str, float]:
    """MiB that full queues take as the system counts the pages of the process."""
    full, _ = _fill(name, calls, _resident)
    return {"resident": full}


def _fill(name: str, calls: int, measure: Callable[[], float]) -> tuple[float, float]:
    contestant = SIDES[name]("function", "exported")
    home, made = contestant.home, side(contestant, "function")
    assert home is not None
    made.before()
    made.run(1_000)
    made.collect()
    home.exporter.gate.clear()
    sizes = []
    for number in (0, calls, calls):
        made.run(number)
        gc.collect()
        sizes.append(measure() / _MIB)
    return sizes[1] - sizes[0], sizes[2] - sizes[1]


def _million(name: str, calls: int) -> dict[str, float]:
    """CPU seconds and growth in MiB of a million calls; the first tenth is not counted, it makes what stays."""
    contestant: Bare = SIDES[name]("function", "exported")
    made = side(contestant, "function")
    made.before()
    turns = max(2, calls // _CALLS_BETWEEN_COLLECTIONS)
    for _ in range(max(1, turns // 10)):
        made.run(_CALLS_BETWEEN_COLLECTIONS)
        made.collect()
    gc.collect()
    resident, began, called = _resident(), time.process_time(), 0.0
    for _ in range(turns):
        caller = time.thread_time()
        made.run(_CALLS_BETWEEN_COLLECTIONS)
        called += time.thread_time() - caller
        made.collect()
    total = time.process_time() - began
    gc.collect()
    scale = 1e6 / (turns * _CALLS_BETWEEN_COLLECTIONS)
    grown = (_resident() - resident) / _MIB
    contestant.close()
    return {"caller": called * scale, "total": total * scale, "resident": grown * scale}


def _resident() -> float:
    """Bytes of this process in memory; without /proc the most that it ever had, which is as good while it grows."""
    try:
        return float(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return float(peak * (1 if sys.platform == "darwin" else 1024))


_MEASURES = {"traced": _traced, "resident": _in_system, "million": _million}


def main() -> None:
    what, name, calls = sys.argv[1:]
    logging.disable()  # the SDK says of each span that it has dropped it
    print(json.dumps(_MEASURES[what](name, int(calls))), flush=True)
    os._exit(0)  # whatever still hangs


if __name__ == "__main__":
    main()
