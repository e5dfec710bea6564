"""How a cost is measured: sides take turns in one process, on CPU clocks; medians speak.

Times drift by a factor of two on a busy machine; the ratio of two neighbouring turns does not. So a figure that
is judged is the median over rounds of a comparison inside each round. Knows nothing of telemetry.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Literal

WARM_UP = 2
_IDLE_SECONDS = 0.1


def nothing() -> None:
    """Does nothing: what a side does that has nothing to do."""


@dataclass(frozen=True)
class Side:
    """One way of doing the same.

    ``before()`` makes it this side's turn and is not timed. ``run(units)`` is the caller's path. ``collect()`` does
    what that left to be done (export what is queued, collect metrics), and returns when other threads have done it.
    """

    run: Callable[[int], object]
    collect: Callable[[], object] = nothing
    before: Callable[[], object] = nothing


Rounds = Mapping[str, Sequence[float]]
"""By side, one number per round."""


@dataclass(frozen=True)
class Target:
    """The most that a figure of ``side`` may be: its ratio to ``over``, what it adds, or its own value."""

    figure: Literal["ratio", "added", "value"]
    side: str
    over: str
    limit: float
    measure: str = "caller"


@dataclass(frozen=True)
class Result:
    """What one benchmark gave in ``unit``, by measure (such as `caller` and `total`).

    ``table`` is where the page shows it, ``over`` the side that others are compared with, ``notes`` what is to be said
    of a side besides its numbers. What could not run says why in ``not_run``.
    """

    table: str
    name: str
    what: str
    unit: str
    measures: Mapping[str, Rounds]
    over: str = ""
    targets: tuple[Target, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)
    not_run: str = ""

    def value(self, measure: str, side: str) -> float:
        return median(self.measures[measure][side])

    def spread(self, measure: str, side: str) -> float:
        """The distance between the quartiles, in ``unit``."""
        values = self.measures[measure][side]
        if len(values) < 4:
            return max(values) - min(values)
        low, _, high = quantiles(values, n=4)
        return high - low

    def ratio(self, measure: str, side: str, over: str) -> float:
        rounds = self.measures[measure]
        return median(a / b for a, b in zip(rounds[side], rounds[over], strict=True))

    def added(self, measure: str, side: str, over: str) -> float:
        rounds = self.measures[measure]
        return median(a - b for a, b in zip(rounds[side], rounds[over], strict=True))

    def figure(self, target: Target) -> float:
        """The number that ``target`` limits."""
        if target.figure == "value":
            return self.value(target.measure, target.side)
        compare = self.ratio if target.figure == "ratio" else self.added
        return compare(target.measure, target.side, target.over)


def joined(rounds: Rounds, more: Rounds) -> Rounds:
    return {side: [*rounds.get(side, ()), *values] for side, values in more.items()}


def take_turns(
    sides: Mapping[str, Side], *, rounds: int, units: int, threads: int = 1, collect_garbage: bool = False
) -> dict[str, dict[str, list[float]]]:
    """Microseconds per unit by measure, side and round.

    `caller`: CPU of the threads that call, while they call. `total`: CPU of the whole process from the first call to
    the end of the collection, so with every worker; what it takes to idle that long is subtracted. `wall`: from the
    first call to the last by the wall clock. ``units`` are shared out among ``threads``.

    The order of the sides is reversed every round, so that none always runs in another's wake. Garbage is
    collected before each turn and not during it, unless ``collect_garbage``: then what it provokes counts.
    """
    measures: dict[str, dict[str, list[float]]] = {
        measure: {name: [] for name in sides} for measure in ("caller", "total", "wall")
    }
    names = list(sides)
    with ThreadPoolExecutor(threads) as pool:
        idle = _idle()
        for number in range(-WARM_UP, rounds):
            for name in names:
                turn = _turn(sides[name], units, threads, pool, idle, collect_garbage)
                if number >= 0:
                    for measure, nanoseconds in zip(("caller", "total", "wall"), turn, strict=True):
                        measures[measure][name].append(nanoseconds / units / 1000)
            names.reverse()
    return measures


def _turn(
    side: Side, units: int, threads: int, pool: ThreadPoolExecutor, idle: float, collect_garbage: bool
) -> tuple[float, float, float]:
    side.before()
    gc.collect()
    if not collect_garbage:
        gc.disable()
    try:
        began, clock = time.process_time_ns(), time.perf_counter_ns()
        caller = _spread(side.run, units, threads, pool)
        wall = time.perf_counter_ns() - clock
        side.collect()
        total = time.process_time_ns() - began - idle * (time.perf_counter_ns() - clock)
    finally:
        gc.enable()
    return caller, total, wall


def _spread(run: Callable[[int], object], units: int, threads: int, pool: ThreadPoolExecutor) -> int:
    """Run the units in so many threads (one: in this); nanoseconds of CPU that those threads took together."""

    def share() -> int:
        began = time.thread_time_ns()
        run(units // threads)
        return time.thread_time_ns() - began

    if threads == 1:
        return share()
    return sum(each.result() for each in [pool.submit(share) for _ in range(threads)])


def _idle() -> float:
    """The CPU that this process takes while nobody calls, as a share of the time: timers of what is set up."""
    began, clock = time.process_time_ns(), time.perf_counter_ns()
    time.sleep(_IDLE_SECONDS)
    return (time.process_time_ns() - began) / (time.perf_counter_ns() - clock)
