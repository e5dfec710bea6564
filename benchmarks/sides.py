"""The same call bare, observed by hand-written OpenTelemetry, and decorated with either recorder; telemetry compared.

By hand is what a careful author writes: `start_as_current_span`, six attributes, two histograms, a counter.
A further way of recording is a further class here, and its name in `SIDES`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import opentelemetry.metrics
import opentelemetry.trace
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

from benchmarks.environment import changed
from benchmarks.measure import Side, nothing
from context_telemetry import Call, Reading, context_build
from context_telemetry.conventions import names
from context_telemetry.observe import recorder
from context_telemetry.pipeline import providers
from context_telemetry.pipeline.batch import BatchLimits
from context_telemetry.pipeline.destination import Destination
from context_telemetry.settings import Settings

Shape = Literal["function", "raising", "coroutine", "generator", "async generator"]

CONTEXT = "orders: one row per order. " * 8
_loop = asyncio.new_event_loop()


# -- the call that is observed: as cheap as can be, so that what is measured is the observing ---------------


def function(topic: str) -> str:
    return CONTEXT


def raising(topic: str) -> str:
    raise LookupError(topic)


async def coroutine(topic: str) -> str:
    return CONTEXT


def generator(items: int) -> Iterator[int]:
    yield from range(items)


async def async_generator(items: int) -> AsyncIterator[int]:
    for item in range(items):
        yield item


BARE: dict[Shape, Callable[..., Any]] = {
    "function": function,
    "raising": raising,
    "coroutine": coroutine,
    "generator": generator,
    "async generator": async_generator,
}


# -- where telemetry goes: the same kind of destination for every side, each side its own -------------------

Telemetry = Literal["dropped", "exported", "sampled out", "nothing"]
"""What becomes of a span.

`dropped`: a host's processor drops it as it ends. `exported`: a batch processor hands it to an exporter that drops it.
A pipeline of ours always has its worker, so for that the two are the same. `sampled out`: the sampler drops every span.
`nothing`: there are no providers.
"""


class Exporter(SpanExporter):
    """Counts the spans that it is given and drops them. It keeps them where ``keep`` says so, and waits at a gate."""

    def __init__(self, *, keep: bool = False) -> None:
        self.count = 0
        self.kept: list[ReadableSpan] | None = [] if keep else None
        self.gate = threading.Event()
        self.gate.set()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.gate.wait()
        self.count += len(spans)
        if self.kept is not None:
            self.kept += spans
        return SpanExportResult.SUCCESS


class _Dropped(SpanProcessor):
    """Receives spans and does nothing with them: what is left is the cost of making them."""


class Home(Protocol):
    """Where one side's telemetry goes, and what can be asked of it there."""

    exporter: Exporter
    reader: InMemoryMetricReader
    loses_nothing: bool
    """Whether every span that was made must have reached the exporter after `collect`."""

    def collect(self) -> object:
        """Export what is queued, and collect metrics."""
        ...

    def close(self) -> object:
        """Leave nothing behind for the next benchmark."""
        ...


class Hosts:
    """Providers as a host sets them up: the SDK's own, with a reader in memory."""

    def __init__(self, telemetry: Telemetry, *, keep: bool = False) -> None:
        self.exporter, self.reader = Exporter(keep=keep), InMemoryMetricReader()
        self.tracing = TracerProvider(
            sampler=ALWAYS_OFF if telemetry == "sampled out" else ALWAYS_ON,
            shutdown_on_exit=False,
            meter_provider=NoOpMeterProvider(),
        )
        self.metering = MeterProvider([self.reader], shutdown_on_exit=False)
        self.loses_nothing = telemetry == "exported"
        if keep or telemetry == "exported":
            # As large a queue as that of our pipeline: the SDK's 2,048 overruns in a hot loop, and to drop is cheap.
            batched = BatchSpanProcessor(
                self.exporter, max_queue_size=BatchLimits.queue, meter_provider=NoOpMeterProvider()
            )
            self.tracing.add_span_processor(batched)
        else:
            self.tracing.add_span_processor(_Dropped())

    def collect(self) -> None:
        self.tracing.force_flush()
        self.metering.force_flush()

    def close(self) -> None:
        self.exporter.gate.set()  # whoever waits there can go
        self.tracing.shutdown()
        self.metering.shutdown()


class Own:
    """A pipeline of ours as it is in production, content guard included, up to an exporter that drops."""

    def __init__(self, telemetry: Telemetry, *, keep: bool = False) -> None:
        self.exporter, self.reader = Exporter(keep=keep), InMemoryMetricReader()
        self.loses_nothing = telemetry in ("dropped", "exported")
        with changed(OTEL_TRACES_SAMPLER="always_off" if telemetry == "sampled out" else None):
            self.pipeline = providers.assemble(
                Destination("otlp", {"traces": ("benchmark",), "metrics": ("benchmark",), "logs": ()}),
                {"traces": [self.exporter], "metrics": [self.reader], "logs": []},
                Path.cwd(),
                Settings(),
                set_global=False,
            )

    def collect(self) -> bool:
        return self.pipeline.flush(60.0)

    def close(self) -> None:
        self.exporter.gate.set()
        self.pipeline.shutdown(10.0)


# -- the sides ----------------------------------------------------------------------------------------------


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
        tracing, metering = None, None
        if telemetry != "nothing":
            self.home = hosts = Hosts(telemetry, keep=keep)
            tracing, metering = hosts.tracing, hosts.metering
        tracer = opentelemetry.trace.get_tracer(names.SCOPE, names.VERSION, tracing)
        meter = opentelemetry.metrics.get_meter(names.SCOPE, names.VERSION, metering)
        boundaries = {metric.name: metric.boundaries for metric in names.METRICS}
        served = meter.create_counter("dataface.context.served")
        durations, sizes = (
            meter.create_histogram(name, explicit_bucket_boundaries_advisory=boundaries[name])
            for name in ("dataface.operation.duration", "dataface.payload.size")
        )

        def count(outcome: str, began: float) -> None:
            durations.record(
                time.perf_counter() - began,
                {
                    "dataface.operation.name": "context.build",
                    "dataface.surface": "library",
                    "dataface.outcome": outcome,
                },
            )
            served.add(
                1,
                {
                    "dataface.operation.name": "context.build",
                    "dataface.surface": "library",
                    "dataface.outcome": outcome,
                },
            )

        def observed(topic: str) -> str:
            began = time.perf_counter()
            with tracer.start_as_current_span("context.build") as span:
                span.set_attribute("dataface.operation.name", "context.build")
                span.set_attribute("dataface.entry", True)
                span.set_attribute("dataface.surface", "library")
                result = function(topic)
                span.set_attribute("dataface.outcome", "ok")
                span.set_attribute("dataface.payload.size", len(result))
                span.set_attribute("dataface.payload.kind", "schema_context")
                count("ok", began)
                sizes.record(
                    len(result), {"dataface.payload.kind": "schema_context", "dataface.surface": "library"}
                )
            return result

        async def observed_coroutine(topic: str) -> str:
            began = time.perf_counter()
            with tracer.start_as_current_span("context.build") as span:
                span.set_attribute("dataface.operation.name", "context.build")
                span.set_attribute("dataface.entry", True)
                span.set_attribute("dataface.surface", "library")
                result = await coroutine(topic)
                span.set_attribute("dataface.outcome", "ok")
                span.set_attribute("dataface.payload.size", len(result))
                span.set_attribute("dataface.payload.kind", "schema_context")
                count("ok", began)
                sizes.record(
                    len(result), {"dataface.payload.kind": "schema_context", "dataface.surface": "library"}
                )
            return result

        def observed_raising(topic: str) -> str:
            began = time.perf_counter()
            with tracer.start_as_current_span("context.build") as span:
                span.set_attribute("dataface.operation.name", "context.build")
                span.set_attribute("dataface.entry", True)
                span.set_attribute("dataface.surface", "library")
                try:
                    return raising(topic)
                except Exception as error:
                    span.set_attribute("dataface.outcome", "failed")
                    span.set_attribute("error.type", type(error).__name__)
                    count("failed", began)
                    raise

        by_shape: dict[Shape, Callable[..., Any]] = {
            "function": observed,
            "coroutine": observed_coroutine,
            "raising": observed_raising,
        }
        self.call = by_shape[shape]


class Decorated(Bare):
    """The library's decorator with a reader, recording to a host's providers."""

    def __init__(self, shape: Shape, telemetry: Telemetry, *, keep: bool = False) -> None:
        super().__init__(shape, telemetry)
        self.recorder = None if telemetry == "nothing" else self.record_to(telemetry, keep)
        self.call = context_build(reader=_read)(BARE[shape])

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
    call = contestant.call

    def calls(units: int) -> None:
        for _ in range(units):
            call("orders")

    def raises(units: int) -> None:
        for _ in range(units):
            try:  # noqa: SIM105  # suppress() would cost as much as what is measured
                call("orders")
            except LookupError:
                pass

    def awaits(units: int) -> None:
        async def all_of_them() -> None:
            for _ in range(units):
                await call("orders")

        _loop.run_until_complete(all_of_them())

    def items(units: int) -> None:
        for _ in call(units):
            pass

    def async_items(units: int) -> None:
        async def all_of_them() -> None:
            async for _ in call(units):
                pass

        _loop.run_until_complete(all_of_them())

    run: dict[Shape, Callable[[int], None]] = {
        "function": calls,
        "raising": raises,
        "coroutine": awaits,
        "generator": items,
        "async generator": async_items,
    }
    collect = nothing if contestant.home is None else contestant.home.collect
    return Side(run[shape], collect, contestant.before)


# -- equality -----------------------------------------------------------------------------------------------


class UnequalError(RuntimeError):
    """The sides do not emit the same telemetry, so that their costs cannot be compared."""


@dataclass(frozen=True)
class Emitted:
    """What a few calls emitted: spans with their attributes, points with their labels, buckets and counts or sums."""

    spans: Counter[tuple[object, ...]]
    points: frozenset[tuple[object, ...]]

    def __str__(self) -> str:
        spans = [len(each) - 3 for each in self.spans]
        return f"{len(spans)} span, {spans[0]} attributes, {len(self.points)} points"


def emitted(name: str, shape: Shape, telemetry: Telemetry, calls: int = 3) -> Emitted:
    """What side ``name`` emits for ``calls`` calls."""
    contestant = SIDES[name](shape, telemetry, keep=True)
    try:
        made = side(contestant, shape)
        made.before()
        made.run(calls)
        made.collect()
        home = contestant.home
        assert home is not None
        spans = Counter(_comparable(span) for span in home.exporter.kept or ())
        return Emitted(spans, frozenset(_points(home.reader)))
    finally:
        contestant.close()


def _points(reader: InMemoryMetricReader) -> Iterator[tuple[object, ...]]:
    data = reader.get_metrics_data()
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    labels = tuple(sorted((point.attributes or {}).items()))
                    if not isinstance(point, HistogramDataPoint):
                        yield (metric.name, point.value, labels)  # type: ignore[union-attr]  # a number's
                        continue
                    # How long each call took is nobody's to repeat, how much it returned is.
                    amount = point.sum if "size" in metric.name else None
                    yield (metric.name, point.count, amount, tuple(point.explicit_bounds), labels)


def verify_equal(shape: Shape, telemetry: Telemetry, sides: Sequence[str]) -> Emitted:
    """What each of ``sides`` emits for three calls. Raises UnequalError where one differs from the first."""
    first, *others = sides
    reference = emitted(first, shape, telemetry)
    for other in others:
        found = emitted(other, shape, telemetry)
        if found != reference:
            raise UnequalError(f"{shape}, {telemetry}: {first} emits {reference!r}, {other} emits {found!r}")
    return reference


def verify_nothing_lost(name: str, contestant: Bare, calls: int) -> None:
    """Raises UnequalError where side ``name`` has exported another number of spans than ``calls``."""
    home = contestant.home
    if home is not None and home.loses_nothing and home.exporter.count != calls:
        raise UnequalError(f"{name} exported {home.exporter.count} spans of {calls} calls")


def _comparable(span: ReadableSpan) -> tuple[object, ...]:
    return (span.name, span.kind, span.status.status_code, *sorted((span.attributes or {}).items()))
