"""How a cost is measured: sides take turns in one process, on the thread's CPU clock; medians speak.

Times drift by a factor of two on a busy machine; the ratio of two neighbouring turns does not. So a figure that
is judged is the median over rounds of a comparison inside each round. Knows nothing of telemetry.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Literal

WARM_UP = 2


@dataclass(frozen=True)
class Side:
    """One way of doing the same: ``run(units)``, and ``settle()`` for what that leaves to be done later."""

    run: Callable[[int], None]
    settle: Callable[[], object] = lambda: None


@dataclass(frozen=True)
class Target:
    """The most that a figure of ``side`` may be: its ratio to ``over``, what it adds, or its own value."""

    figure: Literal["ratio", "added", "value"]
    side: str
    over: str
    limit: float


@dataclass(frozen=True)
class Result:
    """What one benchmark gave: one number per side and round, in ``unit``; ``later``: what was left to be done."""

    name: str
    what: str
    unit: str
    rounds: Mapping[str, Sequence[float]]
    later: Mapping[str, Sequence[float]] = field(default_factory=dict)
    targets: tuple[Target, ...] = ()
    not_run: str = ""

    def value(self, side: str) -> float:
        return median(self.rounds[side])

    def spread(self, side: str) -> float:
        """The distance between the quartiles, in ``unit``."""
        if len(self.rounds[side]) < 4:
            return max(self.rounds[side]) - min(self.rounds[side])
        low, _, high = quantiles(self.rounds[side], n=4)
        return high - low

    def ratio(self, side: str, over: str) -> float:
        return median(a / b for a, b in zip(self.rounds[side], self.rounds[over], strict=True))

    def added(self, side: str, over: str) -> float:
        return median(a - b for a, b in zip(self.rounds[side], self.rounds[over], strict=True))

    def figure(self, target: Target) -> float:
        """The number that ``target`` limits."""
        if target.figure == "value":
            return self.value(target.side)
        compare = self.ratio if target.figure == "ratio" else self.added
        return compare(target.side, target.over)


def take_turns(
    sides: Mapping[str, Side], *, rounds: int, units: int, collect_garbage: bool = False
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Microseconds of thread CPU per unit, by side and round: on the caller's path, and later in `settle`.

    The order of the sides is reversed every round, so that none always runs in another's wake. Garbage is
    collected before each turn and not during it, unless ``collect_garbage``: then what it provokes counts.
    """
    calling: dict[str, list[float]] = {name: [] for name in sides}
    later: dict[str, list[float]] = {name: [] for name in sides}
    names = list(sides)
    for number in range(-WARM_UP, rounds):
        for name in names:
            side = sides[name]
            gc.collect()
            if not collect_garbage:
                gc.disable()
            try:
                began = time.thread_time_ns()
                side.run(units)
                ran = time.thread_time_ns()
                side.settle()
                settled = time.thread_time_ns()
            finally:
                gc.enable()
            if number >= 0:
                calling[name].append((ran - began) / units / 1000)
                later[name].append((settled - ran) / units / 1000)
        names.reverse()
    return calling, later
