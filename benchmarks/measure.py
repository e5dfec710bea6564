"""How a cost is measured: sides take turns in one process, on CPU clocks; medians speak.

Times drift by a factor of two on a busy machine; the ratio of two neighbouring turns does not. So a figure that
is judged is the median over rounds of a comparison inside each round. Knows nothing of telemetry.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Literal

WARM_UP = 2
_IDLE_SECONDS = 0.1
_RESAMPLED = 1_000


def nothing() -> bool:
    """Does nothing, and has: what a side does that has nothing to do."""
    return True


class UncollectedError(RuntimeError):
    """A side says that it could not do all that its calls have left to be done: its numbers are too low."""


@dataclass(frozen=True)
class Side:
    """One way of doing the same.

    ``before()`` makes it this side's turn and is not timed. ``run(units)`` is the caller's path. ``collect()`` does
    what that left to be done (export what is queued, collect metrics), returns when other threads have done it, and
    says whether they have.
    """

    run: Callable[[int], object]
    collect: Callable[[], bool] = nothing
    before: Callable[[], object] = nothing


Rounds = Mapping[str, Sequence[float]]
"""By side, one number per round."""

Interval = tuple[float, float]
"""Between these two lies a figure in 95 of 100 repetitions."""


@dataclass(frozen=True)
class Target:
    """The most that a figure of ``side`` may be: its ratio to ``over``, what it adds, or its own value.

    ``where`` is for a limit that is a time: what by hand takes on the machine that it is for. The figure is then told
    as it would be there, because one machine is five times as fast as another.
    """

    figure: Literal["ratio", "added", "value"]
    side: str
    over: str
    limit: float
    measure: str = "caller"
    where: float | None = None


@dataclass(frozen=True)
class Result:
    """What one benchmark gave in ``unit``, by measure (such as `caller` and `total`).

    ``table`` is where the page shows it, ``over`` the side that others are compared with, ``notes`` what is to be said
    of a side besides its numbers. ``added_within`` has, by measure and side, between what the figure lies that a table
    shows for what a side adds: a difference whose interval includes 0 is noise. What could not run says why in
    ``not_run``.
    """

    table: str
    name: str
    what: str
    unit: str
    measures: Mapping[str, Rounds]
    over: str = ""
    targets: tuple[Target, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)
    added_within: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)
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
        scale = 1.0 if target.where is None else target.where / self.value(target.measure, "by hand")
        if target.figure == "value":
            return scale * self.value(target.measure, target.side)
        compare = self.ratio if target.figure == "ratio" else self.added
        return scale * compare(target.measure, target.side, target.over)


def joined(rounds: Rounds, more: Rounds) -> Rounds:
    return {side: [*rounds.get(side, ()), *values] for side, values in more.items()}


def without(rounds: Rounds, alone: str) -> Rounds:
    """What each side adds to ``alone`` in its round."""
    return {
        side: [value - least for value, least in zip(values, rounds[alone], strict=True)]
        for side, values in rounds.items()
        if side != alone
    }


def interval(figure: Callable[[Sequence[int]], float], rounds: int) -> Interval:
    """Between what ``figure`` lies, a function of numbers of rounds: by drawing rounds with replacement (bootstrap).

    It draws the same every time, so that the same numbers give the same interval.
    """
    draw = random.Random(0).choices
    found = sorted(figure(draw(range(rounds), k=rounds)) for _ in range(_RESAMPLED))
    return found[_RESAMPLED // 40], found[-_RESAMPLED // 40 - 1]


MEASURES = ("caller", "collection", "total", "wall")


def take_turns(
    sides: Mapping[str, Side], *, rounds: int, units: int, threads: int = 1, collect_garbage: bool = False
) -> dict[str, dict[str, list[float]]]:
    """Microseconds per unit by measure, side and round.

    `caller`: CPU of the threads that call, while they call. `collection`: CPU of the whole process from the last call
    to the end of the collection that follows. `total`: CPU of the whole process from the first call to that end, so
    with every worker: less `caller` and `collection` it is what workers did while calls went on. What the process takes
    to idle that long is subtracted from both. `wall`: from the first call to the last by the wall clock. ``units`` are
    shared out among ``threads``.

    The order of the sides is reversed every round, so that none always runs in another's wake. Garbage is
    collected before each turn and not during it, unless ``collect_garbage``: then what it provokes counts.

    Raises UncollectedError.
    """
    measures: dict[str, dict[str, list[float]]] = {
        measure: {name: [] for name in sides} for measure in MEASURES
    }
    names = list(sides)
    with ThreadPoolExecutor(threads) as pool:
        idle = _idle()
        for number in range(-WARM_UP, rounds):
            for name in names:
                turn = _turn(name, sides[name], units, threads, pool, idle, collect_garbage)
                if number >= 0:
                    for measure, nanoseconds in zip(MEASURES, turn, strict=True):
                        measures[measure][name].append(nanoseconds / units / 1000)
            names.reverse()
    return measures


def _turn(
    name: str,
    side: Side,
    units: int,
    threads: int,
    pool: ThreadPoolExecutor,
    idle: float,
    collect_garbage: bool,
) -> tuple[float, ...]:
    side.before()
    gc.collect()
    if not collect_garbage:
        gc.disable()
    try:
        began, clock = time.process_time_ns(), time.perf_counter_ns()
        caller = _spread(side.run, units, threads, pool)
        called, clock_called = time.process_time_ns(), time.perf_counter_ns()
        collected = side.collect()
        ended, clock_ended = time.process_time_ns(), time.perf_counter_ns()
    finally:
        gc.enable()
    if not collected:
        raise UncollectedError(f"{name} has not exported or collected all that its calls have left")
    collection = ended - called - idle * (clock_ended - clock_called)
    return caller, collection, ended - began - idle * (clock_ended - clock), clock_called - clock


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
