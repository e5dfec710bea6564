"""What one observed call costs its caller and the process: the matrix of shapes and of where telemetry goes.

One process may be a tenth faster than the next for its whole life, by how its memory happens to lie: so there are
several of each row, and a figure is the median over all their rounds.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.environment import for_processes
from benchmarks.measure import WARM_UP, Result, Rounds, Target, joined, take_turns
from benchmarks.sides import EMITTING, SIDES, Shape, Telemetry, side, verify_equal, verify_nothing_lost

ALL = ("bare", *EMITTING)


def at_most(side: str, caller: float, total: float | None = None) -> tuple[Target, ...]:
    """The share of hand-written OpenTelemetry that ``side`` may take, of the caller's time and of all."""
    held = [Target("ratio", side, "by hand", caller)]
    if total is not None:
        held.append(Target("ratio", side, "by hand", total, "total"))
    return tuple(held)


HOSTS, OWNED = at_most("decorated", 0.45, 0.80), at_most("owned", 0.10, 0.20)


@dataclass(frozen=True)
class Calls:
    """One row: a call of this shape, with telemetry going there, made by these sides in turn.

    Each row of the table has the caller's time and the total; one with several ``threads`` also the wall clock.
    """

    name: str
    what: str
    shape: Shape = "function"
    telemetry: Telemetry = "dropped"
    sides: tuple[str, ...] = ALL
    targets: tuple[Target, ...] = ()
    units: int = 1_000
    threads: int = 1
    collect_garbage: bool = False
    rounds: int = 12
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
        """To see that it works."""
        return replace(self, rounds=2, processes=1, units=min(self.units, 400))

    def run(self) -> list[Result]:
        """Raises RuntimeError when the sides do not emit the same, or one loses a span while it is timed."""
        what, measures = self.what, dict[str, Rounds]()
        with tempfile.TemporaryDirectory() as folder:
            environment = for_processes(Path(folder))
            for seed in range(self.processes):
                command = [
                    sys.executable,
                    "-m",
                    "benchmarks.calls",
                    self.name,
                    str(self.rounds),
                    str(self.units),
                ]
                hashing = {**environment, "PYTHONHASHSEED": str(seed)}
                done = subprocess.run(command, env=hashing, capture_output=True, text=True)
                if done.returncode:
                    raise RuntimeError(f"{' '.join(command[1:])} failed: {done.stderr[-2_000:]}")
                what, found = json.loads(done.stdout)
                measures = {name: joined(measures.get(name, {}), rounds) for name, rounds in found.items()}
        over = "by hand" if "by hand" in self.sides else "bare"
        return [Result(self.table, self.name, what, "us", measures, over, self.targets)]

    def play(self) -> tuple[str, dict[str, dict[str, list[float]]]]:
        """What is compared, and the rounds of this process."""
        what = self.what
        compared = [each for each in self.sides if each in EMITTING]
        if len(compared) > 1 and self.telemetry != "nothing":
            found = verify_equal(self.shape, self.telemetry, compared)
            if found.spans:
                what += f": {found}"
        contestants = {name: SIDES[name](self.shape, self.telemetry) for name in self.sides}
        try:
            measures = take_turns(
                {name: side(contestant, self.shape) for name, contestant in contestants.items()},
                rounds=self.rounds,
                units=self.units,
                threads=self.threads,
                collect_garbage=self.collect_garbage,
            )
            if not self.per_item:
                for name, contestant in contestants.items():
                    verify_nothing_lost(name, contestant, self.units * (self.rounds + WARM_UP))
        finally:
            for contestant in contestants.values():
                contestant.close()
        if self.threads == 1:
            del measures["wall"]
        return what, measures

    @property
    def per_item(self) -> bool:
        """Whether a unit is an item of a generator, and not a call."""
        return "generator" in self.shape


ROWS: tuple[Calls, ...] = (
    Calls("call", "spans dropped as they end (owned: by its exporter)", targets=(*HOSTS, *OWNED)),
    Calls(
        "call, exported",
        "each side's batches go to an exporter that drops them",
        telemetry="exported",
        targets=(*HOSTS, *OWNED),
    ),
    Calls("call, collected", "with garbage collections counted", collect_garbage=True, units=4_000, rounds=8),
    Calls(
        "call, eight threads",
        "eight threads call at once, exported",
        telemetry="exported",
        units=4_000,
        threads=8,
        rounds=8,
    ),
    Calls(
        "call, sampled out",
        "a sampler that drops every span; metrics are complete",
        telemetry="sampled out",
        targets=(*at_most("decorated", 0.20), *at_most("owned", 0.20)),
    ),
    Calls(
        "call, nothing configured",
        "no providers",
        telemetry="nothing",
        sides=("bare", "by hand", "decorated"),
        targets=(Target("added", "decorated", "bare", 1.0),),
        units=4_000,
    ),
    Calls(
        "raise",
        "a call that raises, beside the same call returning",
        "raising",
        sides=(*ALL, "decorated, returning", "owned, returning"),
        targets=(
            Target("added", "decorated", "decorated, returning", 25.0),
            Target("added", "owned", "owned, returning", 10.0),
        ),
    ),
    Calls("async call", "a coroutine", "coroutine"),
    Calls(
        "async call, nothing configured",
        "a coroutine, no providers",
        "coroutine",
        telemetry="nothing",
        sides=("bare", "by hand", "decorated"),
        units=4_000,
    ),
    Calls("generator", "per item", "generator", sides=("bare", "decorated", "owned"), units=4_000),
    Calls(
        "async generator", "per item", "async generator", sides=("bare", "decorated", "owned"), units=4_000
    ),
    Calls(
        "generator, nothing configured",
        "per item, no providers",
        "generator",
        telemetry="nothing",
        sides=("bare", "decorated"),
        units=4_000,
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
