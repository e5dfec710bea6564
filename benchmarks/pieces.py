"""Where the time of one call goes, by leaving pieces out: each piece is the difference of two sides that take turns.

Nothing is looked at from inside: a profiler would cost more than most pieces do.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span
from opentelemetry.util.types import AttributeValue

from benchmarks.measure import Result, take_turns
from benchmarks.sides import SIDES, Bare, ByHand, Decorated, Hosts, Shape, Telemetry, function, side
from context_telemetry import Operation, context_build
from context_telemetry.observe import recorder


class _Nobody:
    """A recorder that records nothing: what is left is what observing costs before anybody records."""

    fallbacks: tuple[str, ...] = ()

    def start(self, op: Operation, parent: Context) -> Span:
        return INVALID_SPAN

    def finish(self, op: Operation) -> None: ...

    def shares_spans(self) -> bool:
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
        ("dataface.payload.size", 208),
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
_REST = "left to workers and to the collection"
_PIECES: dict[str, dict[str, tuple[str, str]]] = {
    "by hand": {
        "span": ("span by hand", "bare"),
        "attributes": ("attributes by hand", "span by hand"),
        "points": ("by hand", "attributes by hand"),
    },
    "decorated": {**_OURS, "recorder": ("decorated", "for nobody")},
    "owned": {**_OURS, "recorder": ("owned", "for nobody")},
}


@dataclass(frozen=True)
class Pieces:
    """One table of pieces: hand-written, and each recorder."""

    name: str = "pieces"
    table: str = "pieces"
    units: int = 1_000
    rounds: int = 40

    def small(self) -> Pieces:
        """To see that it works."""
        return replace(self, rounds=2)

    def run(self) -> list[Result]:
        contestants = {name: made("function", "dropped") for name, made in _SIDES.items()}
        try:
            measures = take_turns(
                {name: side(contestant, "function") for name, contestant in contestants.items()},
                rounds=self.rounds,
                units=self.units,
            )
        finally:
            for contestant in contestants.values():
                contestant.close()
        caller, total = measures["caller"], measures["total"]
        return [
            Result(
                self.table,
                name,
                "",
                "us",
                {
                    "caller": {
                        **{piece: _less(caller[a], caller[b]) for piece, (a, b) in pieces.items()},
                        _REST: _less(total[name], caller[name]),
                        "**together**": total[name],
                    }
                },
            )
            for name, pieces in _PIECES.items()
        ]


def _less(values: Sequence[float], others: Sequence[float]) -> list[float]:
    return [value - other for value, other in zip(values, others, strict=True)]
