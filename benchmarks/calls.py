"""What one observed call costs its caller and the process: the matrix of shapes and of where telemetry goes.

One process may be a tenth faster than the next for its whole life, by how its memory happens to lie: so there are
several of each row, and a figure is the median over all their rounds.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from benchmarks.environment import for_processes
from benchmarks.equality import verify_complete, verify_equal
from benchmarks.homes import Telemetry
from benchmarks.measure import WARM_UP, Result, Rounds, Target, joined, take_turns, without
from benchmarks.shapes import Shape
from benchmarks.sides import EMITTING, SIDES, side

ALL = ("bare", *EMITTING)


def at_most(side: str, limit: float, measure: str = "caller") -> Target:
    """The share of what hand-written OpenTelemetry takes that ``side`` may take."""
    return Target("ratio", side, "by hand", limit, measure)


ON_ALL = (
    at_most("decorated", 0.45),
    at_most("decorated", 0.80, "total"),
    at_most("owned", 0.10),
    at_most("owned", 0.20, "total"),
)
SAMPLED_OUT = (at_most("decorated", 0.20), at_most("owned", 0.20))
# Times are limits for a machine on which by hand takes these, as it did where they were set.
_NOTHING_BY_HAND, _RAISING_BY_HAND = 5.0, 124.0
NOTHING = (Target("added", "decorated", "bare", 1.0, where=_NOTHING_BY_HAND),)


@dataclass(frozen=True)
class Calls:
    """One row: a call of this shape, with telemetry going there, made by these sides in turn.

    Each row of the table has the caller's time, that of the collection and the total; one with several ``threads`` also
    the wall clock. ``less_bare``: what the call itself takes is not in there.
    """

    name: str
    what: str
    shape: Shape = "function"
    telemetry: Telemetry = "dropped"
    sides: tuple[str, ...] = ALL
    targets: tuple[Target, ...] = ()
    units: int = 600  # more than a batch
    threads: int = 1
    collect_garbage: bool = False
    less_bare: bool = False
    rounds: int = 8
    processes: int = 3
    table: str = "calls"

    def by_recorder(self) -> list[Calls]:
        """The row once for each recorder, as a process has one for all its life.

        Two that take turns would change types under Python's specialised instructions, at 1 us for every call.
        """
        ours = {"decorated": "the host's providers", "owned": "an owned pipeline"}
        return [
            replace(
                self,
                name=f"{self.name}, {where}",
                sides=tuple(
                    each for each in self.sides if each.partition(",")[0] not in ours or each.startswith(name)
                ),
                targets=tuple(each for each in self.targets if each.side.startswith(name)),
            )
            for name, where in ours.items()
            if name in self.sides
        ]

    def small(self) -> Calls:
        """To see that it works, without a process of its own."""
        return replace(self, rounds=2, processes=0, units=200)

    def run(self) -> list[Result]:
        """Raises RuntimeError when the sides do not emit the same, or one loses a span or a point while it is timed."""
        what, measures = self.what, dict[str, Rounds]()
        for seed in range(max(1, self.processes)):
            what, found = self._in_process(seed) if self.processes else self.play()
            measures = {name: joined(measures.get(name, {}), rounds) for name, rounds in found.items()}
        over = "by hand" if "by hand" in self.sides else "bare"
        if self.less_bare:
            what += f" (beside {median(measures['total']['bare']):.1f} us of its own)"
            measures = {name: without(rounds, "bare") for name, rounds in measures.items()}
        return [Result(self.table, self.name, what, "us", measures, over, self.targets)]

    def _in_process(self, seed: int) -> Any:
        """`play` in a process of its own."""
        command = [sys.executable, "-m", "benchmarks.calls", self.name, str(self.rounds), str(self.units)]
        done = subprocess.run(command, env=for_processes(seed), capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command[1:])} failed: {done.stderr[-2_000:]}")
        return json.loads(done.stdout)

    def play(self) -> tuple[str, dict[str, dict[str, list[float]]]]:
        """What is compared, and the rounds of this process."""
        what = self.what
        compared = [each for each in self.sides if each in EMITTING]
        if len(compared) > 1 and self.telemetry != "nothing":
            # Spans that a sampler drops are compared too: as they are where it does not.
            verify_equal(self.shape, "exported", compared)
            emitted = verify_equal(self.shape, self.telemetry, compared)
            if emitted.spans:
                what += f": {emitted}"
        contestants = {name: SIDES[name](self.shape, self.telemetry) for name in self.sides}
        try:
            measures = take_turns(
                {name: side(contestant, self.shape) for name, contestant in contestants.items()},
                rounds=self.rounds,
                units=self.units,
                threads=self.threads,
                collect_garbage=self.collect_garbage,
            )
            for name, contestant in contestants.items():
                verify_complete(name, contestant, self.shape, self.units, self.rounds + WARM_UP)
        finally:
            for contestant in contestants.values():
                contestant.close()
        if self.threads == 1:
            del measures["wall"]
        if self.telemetry == "nothing":
            del measures["collection"]
        return what, measures


ROWS: tuple[Calls, ...] = (
    Calls(
        "call, exported",
        "each side's batches go to an exporter that drops them",
        telemetry="exported",
        targets=ON_ALL,
    ),
    Calls(
        "slow call",
        "exported; it takes 12 ms, so that its points have exemplars, as those of most calls of Dataface",
        "slow",
        telemetry="exported",
        less_bare=True,
    ),
    Calls(
        "degraded call",
        "exported; with a reason, and exemplars",
        "degraded",
        telemetry="exported",
    ),
    Calls("call", "spans dropped as they end (owned: by its exporter)", targets=ON_ALL),
    Calls(
        "request",
        "exported; an entry and four inner operations",
        "request",
        telemetry="exported",
        units=200,
    ),
    Calls("call, local files", "spans alone, from which metrics derive, in files", telemetry="local files"),
    Calls(
        "call, OTLP to a local sink",
        "spans and metrics by HTTP to another process that answers 200",
        telemetry="local sink",
    ),
    Calls(
        "call, collected",
        "with garbage collections counted",
        collect_garbage=True,
        units=2_000,
    ),
    Calls(
        "call, eight threads",
        "eight threads call at once, exported",
        telemetry="exported",
        targets=ON_ALL,
        units=2_000,
        threads=8,
    ),
    Calls(
        "call, sampled out",
        "a sampler that drops every span; metrics are complete",
        telemetry="sampled out",
        targets=SAMPLED_OUT,
    ),
    Calls(
        "request, sampled out by a ratio",
        "an entry and four inner operations below a sampler that looks at the parent, and at a root by ratio 0",
        "request",
        telemetry="sampled out by a ratio",
        units=200,
    ),
    Calls(
        "call, nothing configured",
        "no providers",
        telemetry="nothing",
        sides=("bare", "by hand", "decorated"),
        targets=NOTHING,
        units=2_000,
    ),
    Calls(
        "raise",
        "a call that raises, beside the same call returning",
        "raising",
        sides=(*ALL, "decorated, returning", "owned, returning"),
        targets=(
            Target("added", "decorated", "decorated, returning", 25.0, where=_RAISING_BY_HAND),
            Target("value", "decorated", "", 25.0, where=_RAISING_BY_HAND),
            Target("added", "owned", "owned, returning", 10.0, where=_RAISING_BY_HAND),
            Target("value", "owned", "", 10.0, where=_RAISING_BY_HAND),
        ),
    ),
    Calls("async call", "a coroutine", "coroutine", targets=ON_ALL),
    Calls(
        "async call, nothing configured",
        "a coroutine, no providers",
        "coroutine",
        telemetry="nothing",
        sides=("bare", "by hand", "decorated"),
        targets=NOTHING,
        units=2_000,
    ),
    Calls("generator", "per item", "generator", units=2_000),
    Calls("async generator", "per item", "async generator", units=2_000),
    Calls(
        "generator, nothing configured",
        "per item, no providers",
        "generator",
        telemetry="nothing",
        sides=("bare", "by hand", "decorated"),
        targets=(Target("added", "decorated", "bare", 1.0),),
        units=2_000,
    ),
)

MATRIX = tuple(each for row in ROWS for each in row.by_recorder())


def main() -> None:
    """`python -m benchmarks.calls NAME ROUNDS UNITS`: the rounds of one process, as JSON on standard output."""
    name, rounds, units = sys.argv[1:]
    row = next(each for each in MATRIX if each.name == name)
    print(json.dumps(replace(row, rounds=int(rounds), units=int(units)).play()))


if __name__ == "__main__":
    main()
