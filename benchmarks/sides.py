"""The same call bare, observed by hand-written OpenTelemetry, and decorated with either recorder.

A further way of recording is a further class here, and its name in `SIDES`.
"""

from __future__ import annotations

from opentelemetry.metrics import NoOpMeterProvider

from benchmarks import by_hand
from benchmarks.homes import Home, Hosts, Own, Telemetry
from benchmarks.measure import Side, nothing
from benchmarks.shapes import BARE, REASON, Shape, function, inner, request_of, run
from context_telemetry import Call, Reading, catalog_resolution, context_build
from context_telemetry.observe import recorder


class Bare:
    """The call itself: nobody observes it, and nothing is left to be done."""

    home: Home | None = None

    def __init__(self, shape: Shape, telemetry: Telemetry, *, keep: bool = False) -> None:
        self.call = BARE[shape]

    def before(self) -> None:
        """Make it this side's turn."""

    def close(self) -> None:
        """Leave nothing behind for the next benchmark."""
        if self.home is not None:
            self.home.close()


class ByHand(Bare):
    """Hand-written OpenTelemetry, to a host's providers; where there are none, to the API's that do nothing."""

    def __init__(self, shape: Shape, telemetry: Telemetry, *, keep: bool = False) -> None:
        super().__init__(shape, telemetry)
        if telemetry == "nothing":
            self.call = by_hand.observed(shape, None, None)
        else:
            self.home = hosts = Hosts(telemetry, keep=keep)
            self.call = by_hand.observed(shape, hosts.tracing, hosts.metering or NoOpMeterProvider())


class Decorated(Bare):
    """The library's decorator with a reader, recording to a host's providers."""

    def __init__(self, shape: Shape, telemetry: Telemetry, *, keep: bool = False) -> None:
        super().__init__(shape, telemetry)
        self.recorder = None if telemetry == "nothing" else self.record_to(telemetry, keep)
        called = request_of(catalog_resolution(inner)) if shape == "request" else self.call
        reader = {"degraded": _read_degraded, "request": None}.get(shape, _read)
        self.call = context_build(reader=reader)(called)

    def record_to(self, telemetry: Telemetry, keep: bool) -> recorder.Recorder:
        """The recorder of this side, with `home` where it records to."""
        self.home = hosts = Hosts(telemetry, keep=keep)
        recorder.use(hosts.tracing, hosts.metering)
        return recorder.active()

    def before(self) -> None:
        # Not `forget` before an `install`: the limits would be compiled anew in every turn.
        if self.recorder is None:
            recorder.forget()
        else:
            recorder.install(self.recorder)

    def close(self) -> None:
        recorder.forget()
        super().close()


class Owned(Decorated):
    """The same decorator, recording to a pipeline of ours."""

    def record_to(self, telemetry: Telemetry, keep: bool) -> recorder.Recorder:
        self.home = own = Own(telemetry, keep=keep)
        return own.pipeline.recorder


class Returning(Decorated):
    """The same decorated call where it does not raise and nothing is read: what raising adds is the difference."""

    def __init__(self, shape: Shape, telemetry: Telemetry, *, keep: bool = False) -> None:
        super().__init__(shape, telemetry, keep=keep)
        self.call = context_build(reader=lambda call: None)(function)


class OwnedReturning(Returning, Owned):
    """The same, recording to a pipeline of ours."""


def _read(call: Call) -> Reading | None:
    if call.error is not None or not isinstance(call.result, str):
        return None
    return Reading(payload_size=len(call.result), payload_kind="schema_context")


def _read_degraded(call: Call) -> Reading | None:
    return Reading(
        outcome="degraded",
        reasons=(REASON,),
        payload_size=len(str(call.result)),
        payload_kind="schema_context",
    )


SIDES: dict[str, type[Bare]] = {
    "bare": Bare,
    "by hand": ByHand,
    "decorated": Decorated,
    "owned": Owned,
    "decorated, returning": Returning,
    "owned, returning": OwnedReturning,
}
EMITTING = ("by hand", "decorated", "owned")
"""The sides that must emit the same."""


def side(contestant: Bare, shape: Shape) -> Side:
    """The contestant as something to be timed: a unit is one call, of a generator one item."""
    collect = nothing if contestant.home is None else contestant.home.collect
    return Side(run(contestant.call, shape), collect, contestant.before)
