"""The same call made bare, observed by hand-written OpenTelemetry, and decorated; the telemetry compared.

By hand is what a careful author writes: `start_as_current_span`, six attributes, two histograms, a counter.
A further way of recording is a further class here, and its name in `SIDES`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import opentelemetry.metrics
import opentelemetry.trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

from benchmarks.measure import Side
from context_telemetry import Call, Reading, context_build
from context_telemetry.conventions import names
from context_telemetry.observe import recorder

Shape = Literal["function", "raising", "coroutine", "generator", "async generator"]
Telemetry = Literal["dropped", "batched", "sampled out", "nothing", "kept"]

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


# -- where telemetry goes: the same kind of providers for every side, each side its own ---------------------


class _Dropped(SpanProcessor):
    """Receives spans and does nothing with them: what is left is the cost of making them."""


class _Nowhere(SpanExporter):
    def export(self, spans: Any) -> SpanExportResult:
        return SpanExportResult.SUCCESS


class Providers:
    """Real SDK providers in memory."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.exporter = InMemorySpanExporter()
        self.reader = InMemoryMetricReader()
        self.tracing = TracerProvider(
            sampler=ALWAYS_OFF if telemetry == "sampled out" else ALWAYS_ON, shutdown_on_exit=False
        )
        self.metering = MeterProvider([self.reader], shutdown_on_exit=False)
        if telemetry == "kept":
            self.tracing.add_span_processor(SimpleSpanProcessor(self.exporter))
        elif telemetry == "batched":
            self.tracing.add_span_processor(BatchSpanProcessor(_Nowhere()))
        else:
            self.tracing.add_span_processor(_Dropped())

    def shutdown(self) -> None:
        self.tracing.shutdown()
        self.metering.shutdown()


# -- the sides ----------------------------------------------------------------------------------------------


class Bare:
    """The call itself."""

    def __init__(self, shape: Shape, providers: Providers | None) -> None:
        self.providers = providers
        self.call = BARE[shape]

    def close(self) -> None:
        """Leave nothing behind for the next benchmark."""
        if self.providers is not None:
            self.providers.shutdown()


class ByHand(Bare):
    """Hand-written OpenTelemetry, to the process's providers where none are given."""

    def __init__(self, shape: Shape, providers: Providers | None) -> None:
        super().__init__(shape, providers)
        tracing, metering = (providers.tracing, providers.metering) if providers else (None, None)
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
    """The library's decorator with a reader, recording to the providers that are given."""

    def __init__(self, shape: Shape, providers: Providers | None) -> None:
        super().__init__(shape, providers)
        recorder.forget()
        if providers is not None:
            recorder.use(providers.tracing, providers.metering)
        self.call = context_build(reader=_read)(BARE[shape])

    def close(self) -> None:
        recorder.forget()
        super().close()


class Returning(Decorated):
    """The same decorated call where it does not raise and nothing is read: what raising adds is the difference."""

    def __init__(self, shape: Shape, providers: Providers | None) -> None:
        super().__init__(shape, providers)
        self.call = context_build(reader=lambda call: None)(function)


def _read(call: Call) -> Reading | None:
    if call.error is not None or not isinstance(call.result, str):
        return None
    return Reading(payload_size=len(call.result), payload_kind="schema_context")


SIDES: dict[str, type[Bare]] = {
    "bare": Bare,
    "by hand": ByHand,
    "decorated": Decorated,
    "decorated, returning": Returning,
}


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
    if contestant.providers is None:
        return Side(run[shape])
    return Side(run[shape], contestant.providers.reader.get_metrics_data)


# -- equality -----------------------------------------------------------------------------------------------


class UnequalError(RuntimeError):
    """The sides do not emit the same telemetry, so that their costs cannot be compared."""


@dataclass(frozen=True)
class Emitted:
    """What a few calls emitted: spans with their attributes, points with their labels and counts or sums."""

    spans: tuple[tuple[object, ...], ...]
    points: frozenset[tuple[object, ...]]

    @property
    def attributes(self) -> int:
        """Attributes of one span."""
        return len(self.spans[0]) - 3


def emitted(name: str, shape: Shape, calls: int = 3) -> Emitted:
    """What side ``name`` emits for ``calls`` calls."""
    providers = Providers("kept")
    contestant = SIDES[name](shape, providers)
    try:
        side(contestant, shape).run(calls)
        found: set[tuple[object, ...]] = set()
        data = providers.reader.get_metrics_data()
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        labels = tuple(sorted((point.attributes or {}).items()))
                        histogram = isinstance(point, HistogramDataPoint)
                        amount = point.count if histogram else point.value  # type: ignore[union-attr]
                        found.add((metric.name, amount, labels))
        spans = providers.exporter.get_finished_spans()
        return Emitted(tuple(_comparable(span) for span in spans), frozenset(found))
    finally:
        contestant.close()


def verify_equal(shape: Shape, sides: tuple[str, ...]) -> Emitted:
    """What each of ``sides`` emits for three calls. Raises UnequalError where one differs from the first."""
    first, *others = sides
    reference = emitted(first, shape)
    for other in others:
        found = emitted(other, shape)
        if found != reference:
            raise UnequalError(f"{shape}: {first} emits {reference}, {other} emits {found}")
    return reference


def _comparable(span: ReadableSpan) -> tuple[object, ...]:
    return (span.name, span.kind, span.status.status_code, *sorted((span.attributes or {}).items()))
