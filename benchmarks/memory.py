"""What is kept in memory while nothing can be exported, and what a million calls cost: a process for each turn.

`python -m benchmarks.memory traced|resident|million|left SIDE CALLS` is such a process; it prints one JSON object.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import resource
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.environment import for_processes
from benchmarks.homes import Memory
from benchmarks.measure import Result, Side, Target, UncollectedError
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
    Target("value", "decorated", "", 1.0, "again"),
    Target("value", "owned", "", 1.0, "again"),
)
_NO_LEAK = (
    Target("value", "decorated", "", 1.0, "traced"),
    Target("value", "owned", "", 1.0, "traced"),
)


@dataclass(frozen=True)
class Full:
    """Memory that full queues take: the exporter hangs, nobody collects, and calls go on until nothing is added."""

    name: str = "full queues"
    table: str = "memory"
    rounds: int = 2
    calls: int = 2 * BatchLimits.queue

    def small(self) -> Full:
        """To see that it works."""
        return replace(self, rounds=1, calls=1_000)

    def run(self) -> list[Result]:
        measures = {
            **_in_processes("traced", EMITTING, self.rounds, self.calls),
            **_in_processes("resident", EMITTING, self.rounds, self.calls),
        }
        what = f"an exporter hangs for {self.calls:,} calls; again: what as many more add"
        return [Result(self.table, self.name, what, "MiB", measures, targets=_BOUND)]


@dataclass(frozen=True)
class Million:
    """CPU of a million calls, and the memory that calls leave: metrics are collected and spans exported meanwhile.

    CPU is extrapolated from ``calls``, garbage collections included; memory is what so many have left. The sides come
    one after the other, each in a process of its own: their shares are rougher than those of `calls`.
    """

    name: str = "a million calls"
    table: str = "memory"
    rounds: int = 5
    calls: int = 60_000

    def small(self) -> Million:
        """To see that it works."""
        return replace(self, rounds=1, calls=2_000)

    def run(self) -> list[Result]:
        sides = ("bare", *EMITTING)
        measures = _in_processes("million", sides, self.rounds, self.calls)
        kept = {
            **_in_processes("left", sides, 1, self.calls),
            "resident": measures.pop("resident"),
        }
        what = f"{self.calls:,}, garbage collections included"
        return [
            Result(self.table, self.name, f"CPU, extrapolated from {what}", "s", measures, "by hand"),
            Result(
                self.table,
                "memory that is left",
                f"by {self.calls:,} calls, all exported and collected",
                "MiB",
                kept,
                targets=_NO_LEAK,
            ),
        ]


MATRIX = (Full(), Million())


def _in_processes(
    what: str, sides: tuple[str, ...], rounds: int, calls: int
) -> dict[str, dict[str, list[float]]]:
    """What the processes print, by measure and side; the sides take turns."""
    found: dict[str, dict[str, list[float]]] = {}
    for seed in range(rounds):
        for name in sides:
            command = [sys.executable, "-m", "benchmarks.memory", what, name, str(calls)]
            done = subprocess.run(command, env=for_processes(seed), capture_output=True, text=True)
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
    assert contestant.home is not None
    place, made = contestant.home.place, side(contestant, "function")
    assert isinstance(place, Memory)
    made.before()
    made.run(1_000)
    made.collect()
    place.exporter.gate.clear()
    sizes = []
    for number in (0, calls, calls):
        made.run(number)
        gc.collect()
        sizes.append(measure() / _MIB)
    return sizes[1] - sizes[0], sizes[2] - sizes[1]


def _million(name: str, calls: int) -> dict[str, float]:
    """CPU seconds of a million calls, and MiB that so many have left as the system counts them."""
    caller, total, left = _going_on(name, calls, _resident)
    scale = 1e6 / calls
    return {"caller": caller * scale, "total": total * scale, "resident": left}


def _left(name: str, calls: int) -> dict[str, float]:
    """MiB that so many calls have left, as Python counts what it allocates."""
    tracemalloc.start()
    _, _, left = _going_on(name, calls, lambda: tracemalloc.get_traced_memory()[0])
    return {"traced": left}


def _going_on(name: str, calls: int, measure: Callable[[], float]) -> tuple[float, float, float]:
    """CPU seconds of the caller and of all, and MiB that are left. A tenth as many come before and make what stays."""
    contestant: Bare = SIDES[name]("function", "exported")
    made = side(contestant, "function")
    made.before()
    _turns(made, max(1, calls // 10))
    gc.collect()
    size, began = measure(), time.process_time()
    caller = _turns(made, calls)
    total = time.process_time() - began
    gc.collect()
    left = (measure() - size) / _MIB
    contestant.close()
    return caller, total, left


def _turns(made: Side, calls: int) -> float:
    """Make so many calls, with a collection now and then; CPU seconds of the caller."""
    caller = 0.0
    for begun in range(0, calls, _CALLS_BETWEEN_COLLECTIONS):
        began = time.thread_time()
        made.run(min(_CALLS_BETWEEN_COLLECTIONS, calls - begun))
        caller += time.thread_time() - began
        if not made.collect():
            raise UncollectedError("not everything was exported or collected")
    return caller


def _resident() -> float:
    """Bytes of this process in memory; without /proc the most that it ever had, which is as good while it grows."""
    try:
        return float(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return float(peak * (1 if sys.platform == "darwin" else 1024))


_MEASURES = {"traced": _traced, "resident": _in_system, "million": _million, "left": _left}


def main() -> None:
    what, name, calls = sys.argv[1:]
    logging.disable()  # the SDK says of each span that it has dropped it
    print(json.dumps(_MEASURES[what](name, int(calls))), flush=True)
    os._exit(0)  # whatever still hangs


if __name__ == "__main__":
    main()
