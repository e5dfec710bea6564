"""What one observed call costs on the caller's path: the matrix of shapes and of where telemetry goes."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.measure import Result, Target, take_turns
from benchmarks.sides import SIDES, Providers, Shape, Telemetry, side, verify_equal

ALL = ("bare", "by hand", "decorated")
ONLY_OURS = ("bare", "decorated")


@dataclass(frozen=True)
class Calls:
    """One row: a call of this shape, with telemetry going there, made by these sides in turn."""

    name: str
    what: str
    shape: Shape = "function"
    telemetry: Telemetry = "dropped"
    sides: tuple[str, ...] = ALL
    targets: tuple[Target, ...] = ()
    units: int = 400
    collect_garbage: bool = False
    rounds: int = 60

    def run(self) -> list[Result]:
        """Raises UnequalError when the sides do not emit the same."""
        what = self.what
        if len(self.sides) > 2:
            found = verify_equal(
                self.shape, tuple(each for each in self.sides if each in ("by hand", "decorated"))
            )
            if self.telemetry in ("dropped", "batched"):
                what += f": 1 span, {found.attributes} attributes, {len(found.points)} points"
        contestants = {
            name: SIDES[name](self.shape, None if self.telemetry == "nothing" else Providers(self.telemetry))
            for name in self.sides
        }
        try:
            calling, later = take_turns(
                {name: side(contestant, self.shape) for name, contestant in contestants.items()},
                rounds=self.rounds,
                units=self.units,
                collect_garbage=self.collect_garbage,
            )
        finally:
            for contestant in contestants.values():
                contestant.close()
        return [Result(self.name, what, "us", calling, later, self.targets)]


MATRIX: tuple[Calls, ...] = (
    Calls("call", "one call", targets=(Target("ratio", "decorated", "by hand", 0.95),)),
    Calls("call, batched", "with a batch processor", telemetry="batched"),
    Calls("call, collected", "with garbage collections counted", collect_garbage=True, units=2_000),
    Calls("call, sampled out", "a sampler that drops every span", telemetry="sampled out"),
    Calls(
        "call, nothing configured",
        "no providers",
        telemetry="nothing",
        targets=(Target("added", "decorated", "bare", 1.0),),
        units=4_000,
    ),
    Calls(
        "raise",
        "a call that raises, beside the same call returning",
        "raising",
        sides=(*ALL, "decorated, returning"),
        targets=(Target("added", "decorated", "decorated, returning", 25.0),),
    ),
    Calls("async call", "a coroutine", "coroutine"),
    Calls(
        "async call, nothing configured",
        "a coroutine, no providers",
        "coroutine",
        telemetry="nothing",
        units=4_000,
    ),
    Calls("generator", "per item", "generator", sides=ONLY_OURS, units=4_000),
    Calls("async generator", "per item", "async generator", sides=ONLY_OURS, units=4_000),
    Calls(
        "generator, nothing configured",
        "per item, no providers",
        "generator",
        telemetry="nothing",
        sides=ONLY_OURS,
        units=4_000,
    ),
)
