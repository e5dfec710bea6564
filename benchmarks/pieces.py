"""Where the time of one call goes, by leaving pieces out: each piece is the difference of two sides that take turns.

Nothing is looked at from inside: a profiler would cost more than most pieces do. A process has by hand or one of our
recorders, and there are several of each; so pieces are shares of that side's total in the same round, and what a call
takes is said by `calls` alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span
from opentelemetry.util.types import AttributeValue

from benchmarks.environment import for_processes
from benchmarks.homes import Hosts, Telemetry
from benchmarks.measure import Result, Rounds, joined, take_turns
from benchmarks.shapes import CONTEXT, Shape, function
from benchmarks.sides import SIDES, Bare, ByHand, Decorated, side
from context_telemetry import Operation, context_build
from context_telemetry.observe import recorder


class _Nobody:
    """A recorder that records nothing: what is left is what observing costs before anybody records."""

    fallbacks: tuple[str, ...] = ()
    sampler: str | None = None

    def start(self, op: Operation, parent: Context) -> Span:
        return INVALID_SPAN

    def finish(self, op: Operation) -> None: ...

    def shares(self, span: Span) -> bool:
        return False

    def event(self, name: str, attributes: Mapping[str, AttributeValue], warning: bool) -> None: ...


class _ForNobody(Decorated):
    """The decorator with its reader, recording nothing."""

    def record_to(self, telemetry: Telemetry, keep: bool) -> recorder.Recorder:
        return _Nobody()


class _Unread(_ForNobody):
    """The decorator without a reader, recording nothing."""

    def __init__(self, shape: Shape, telemetry: Telemetry, *, keep: bool = False) -> None:
        super().__init__(shape, telemetry, keep=keep)
        self.call = context_build(function)


class _Unobserved(Decorated):
    """The decorator where nothing is configured."""

    def __init__(self, shape: Shape, telemetry: Telemetry, *, keep: bool = False) -> None:
        super().__init__(shape, "nothing")


class _SpanByHand(Bare):
    """As by hand, the span alone."""

    attributes: tuple[tuple[str, Any], ...] = ()

    def __init__(self, shape: Shape, telemetry: Telemetry, *, keep: bool = False) -> None:
        super().__init__(shape, telemetry)
        self.home = hosts = Hosts(telemetry)
        tracer, attributes = hosts.tracing.get_tracer("by hand"), self.attributes

        def observed(topic: str) -> str:
            time.perf_counter()
            with tracer.start_as_current_span("context.build") as span:
                result = function(topic)
                for key, value in attributes:
                    span.set_attribute(key, value)
            return result

        self.call = observed


class _AttributesByHand(_SpanByHand):
    """As by hand, the span with its attributes and no metric."""

    attributes = (
        ("dataface.operation.name", "context.build"),
        ("dataface.entry", True),
        ("dataface.surface", "library"),
        ("dataface.outcome", "ok"),
        ("dataface.payload.size", len(CONTEXT)),
        ("dataface.payload.kind", "schema_context"),
    )


_SIDES: dict[str, type[Bare]] = {
    "bare": Bare,
    "nothing configured": _Unobserved,
    "unread": _Unread,
    "for nobody": _ForNobody,
    "decorated": SIDES["decorated"],
    "owned": SIDES["owned"],
    "span by hand": _SpanByHand,
    "attributes by hand": _AttributesByHand,
    "by hand": ByHand,
}

# What each piece is: the caller's time of one side without that of another.
_OURS = {
    "wrapper, and the look whether anybody records": ("nothing configured", "bare"),
    "operation: context, clocks, attributes, outcome": ("unread", "nothing configured"),
    "reader, payload and its limit": ("for nobody", "unread"),
}
_PIECES: dict[str, dict[str, tuple[str, str]]] = {
    "by hand": {
        "span": ("span by hand", "bare"),
        "attributes": ("attributes by hand", "span by hand"),
        "points": ("by hand", "attributes by hand"),
    },
    "decorated": {**_OURS, "recorder": ("decorated", "for nobody")},
    "owned": {**_OURS, "recorder": ("owned", "for nobody")},
}
_WORKERS, _COLLECTION = "workers, while calls go on", "the collection and flush that follow"
# What comes on top of the total: all that is done where spans (and points) arrive, less that where they are dropped.
_ON_TOP: dict[str, tuple[Telemetry, Telemetry]] = {
    "*on top*: encoding, and writing local files": ("local files", "spans alone"),
    "*on top*: encoding, and OTLP over HTTP": ("local sink", "exported"),
}


@dataclass(frozen=True)
class Pieces:
    """One table of pieces: hand-written, and each recorder, as percentages of what it takes in total."""

    name: str = "pieces"
    table: str = "pieces"
    units: int = 600  # more than a batch
    rounds: int = 10
    processes: int = 3

    def small(self) -> Pieces:
        """To see that it works."""
        return replace(self, rounds=2, units=200, processes=1)

    def run(self) -> list[Result]:
        shares: dict[str, Rounds] = {name: {} for name in _PIECES}
        for seed in range(self.processes):
            for name in _PIECES:
                command = [sys.executable, "-m", "benchmarks.pieces", name, str(self.rounds), str(self.units)]
                done = subprocess.run(command, env=for_processes(seed), capture_output=True, text=True)
                if done.returncode:
                    raise RuntimeError(f"{' '.join(command[1:])} failed: {done.stderr[-2_000:]}")
                shares[name] = joined(shares[name], json.loads(done.stdout))
        return [Result(self.table, name, "", "%", {"share": found}) for name, found in shares.items()]


def play(name: str, rounds: int, units: int) -> Rounds:
    """The share of each piece in what side ``name`` takes in total, in percent and by round."""
    pieces = _PIECES[name]
    wanted: dict[str, tuple[type[Bare], Telemetry]] = {
        each: (_SIDES[each], "exported") for each in dict.fromkeys(sum(pieces.values(), ()))
    }
    for telemetry in dict.fromkeys(sum(_ON_TOP.values(), ())):
        if telemetry != "exported":
            wanted[telemetry] = (_SIDES[name], telemetry)
    contestants = {each: made("function", telemetry) for each, (made, telemetry) in wanted.items()}
    try:
        sides = {each: side(contestant, "function") for each, contestant in contestants.items()}
        measures = take_turns(sides, rounds=rounds, units=units)
    finally:
        for contestant in contestants.values():
            contestant.close()
    caller, collection, total = (measures[each] for each in ("caller", "collection", "total"))
    taken = {piece: _less(caller[a], caller[b]) for piece, (a, b) in pieces.items()}
    taken[_WORKERS] = _less(_less(total[name], caller[name]), collection[name])
    taken[_COLLECTION] = collection[name]
    of = {**total, "exported": total[name]}
    taken.update({piece: _less(of[a], of[b]) for piece, (a, b) in _ON_TOP.items()})
    return {
        piece: [100 * part / whole for part, whole in zip(parts, total[name], strict=True)]
        for piece, parts in taken.items()
    }


def _less(values: Sequence[float], others: Sequence[float]) -> list[float]:
    return [value - other for value, other in zip(values, others, strict=True)]


def main() -> None:
    """`python -m benchmarks.pieces SIDE ROUNDS UNITS`: the rounds of one process, as JSON on standard output."""
    name, rounds, units = sys.argv[1:]
    print(json.dumps(play(name, int(rounds), int(units))))


if __name__ == "__main__":
    main()
