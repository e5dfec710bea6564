"""What a careful author writes with the OpenTelemetry API: the same telemetry as the library's, in the plainest way.

`start_as_current_span`, an attribute at a time, a point at a time; each function is written out, as it would be.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import opentelemetry.metrics
import opentelemetry.trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider, use_span

from benchmarks.shapes import (
    INNER,
    REASON,
    Shape,
    async_generator,
    coroutine,
    function,
    generator,
    inner,
    raising,
    slow,
)
from context_telemetry.conventions import names


def observed(
    shape: Shape, tracing: TracerProvider | None, metering: MeterProvider | None
) -> Callable[..., Any]:
    """The call of that shape with its telemetry; None are the process's own providers."""
    tracer = opentelemetry.trace.get_tracer(names.SCOPE, names.VERSION, tracing)
    meter = opentelemetry.metrics.get_meter(names.SCOPE, names.VERSION, metering)
    boundaries = {metric.name: metric.boundaries for metric in names.METRICS}
    served = meter.create_counter("dataface.context.served")
    degradations = meter.create_counter("dataface.degradations")
    durations, sizes = (
        meter.create_histogram(name, explicit_bucket_boundaries_advisory=boundaries[name])
        for name in ("dataface.operation.duration", "dataface.payload.size")
    )

    def last(operation: str, outcome: str, began: float) -> None:
        durations.record(
            time.perf_counter() - began,
            {
                "dataface.operation.name": operation,
                "dataface.surface": "library",
                "dataface.outcome": outcome,
            },
        )

    def count(outcome: str, began: float) -> None:
        last("context.build", outcome, began)
        served.add(
            1,
            {
                "dataface.operation.name": "context.build",
                "dataface.surface": "library",
                "dataface.outcome": outcome,
            },
        )

    def size(result: str) -> None:
        sizes.record(len(result), {"dataface.payload.kind": "schema_context", "dataface.surface": "library"})

    def observed_function(topic: str) -> str:
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
            size(result)
        return result

    def observed_degraded(topic: str) -> str:
        began = time.perf_counter()
        with tracer.start_as_current_span("context.build") as span:
            span.set_attribute("dataface.operation.name", "context.build")
            span.set_attribute("dataface.entry", True)
            span.set_attribute("dataface.surface", "library")
            result = function(topic)
            span.set_attribute("dataface.outcome", "degraded")
            span.set_attribute("dataface.degradation.reasons", (REASON,))
            span.set_attribute("dataface.payload.size", len(result))
            span.set_attribute("dataface.payload.kind", "schema_context")
            count("degraded", began)
            size(result)
            degradations.add(1, {"dataface.degradation.reason": REASON, "dataface.surface": "library"})
        return result

    def observed_coroutine(wanted: Callable[[str], Any]) -> Callable[[str], Any]:
        async def observed_wanted(topic: str) -> Any:
            began = time.perf_counter()
            with tracer.start_as_current_span("context.build") as span:
                span.set_attribute("dataface.operation.name", "context.build")
                span.set_attribute("dataface.entry", True)
                span.set_attribute("dataface.surface", "library")
                result = await wanted(topic)
                span.set_attribute("dataface.outcome", "ok")
                span.set_attribute("dataface.payload.size", len(result))
                span.set_attribute("dataface.payload.kind", "schema_context")
                count("ok", began)
                size(result)
            return result

        return observed_wanted

    def observed_inner(topic: str) -> str:
        began = time.perf_counter()
        with tracer.start_as_current_span("catalog.resolve") as span:
            span.set_attribute("dataface.operation.name", "catalog.resolve")
            span.set_attribute("dataface.entry", False)
            span.set_attribute("dataface.surface", "library")
            result = inner(topic)
            span.set_attribute("dataface.outcome", "ok")
            last("catalog.resolve", "ok", began)
        return result

    def observed_request(topic: str) -> str:
        began = time.perf_counter()
        with tracer.start_as_current_span("context.build") as span:
            span.set_attribute("dataface.operation.name", "context.build")
            span.set_attribute("dataface.entry", True)
            span.set_attribute("dataface.surface", "library")
            for _ in range(INNER):
                observed_inner(topic)
            span.set_attribute("dataface.outcome", "ok")
            count("ok", began)
        return topic

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

    def observed_generator(items: int) -> Iterator[int]:
        """The span is the current one while an item is made, and not while somebody has it."""
        began = time.perf_counter()
        span = tracer.start_span("context.build")
        span.set_attribute("dataface.operation.name", "context.build")
        span.set_attribute("dataface.entry", True)
        span.set_attribute("dataface.surface", "library")
        with use_span(span):
            given = generator(items)
        while True:
            try:
                with use_span(span, record_exception=False, set_status_on_exception=False):
                    item = next(given)
            except StopIteration:
                break
            yield item
        with use_span(span, end_on_exit=True):
            span.set_attribute("dataface.outcome", "ok")
            count("ok", began)

    async def observed_async_generator(items: int) -> AsyncIterator[int]:
        began = time.perf_counter()
        span = tracer.start_span("context.build")
        span.set_attribute("dataface.operation.name", "context.build")
        span.set_attribute("dataface.entry", True)
        span.set_attribute("dataface.surface", "library")
        given = async_generator(items)
        while True:
            try:
                with use_span(span, record_exception=False, set_status_on_exception=False):
                    item = await anext(given)
            except StopAsyncIteration:
                break
            yield item
        with use_span(span, end_on_exit=True):
            span.set_attribute("dataface.outcome", "ok")
            count("ok", began)

    by_shape: dict[Shape, Callable[..., Any]] = {
        "function": observed_function,
        "slow": observed_coroutine(slow),
        "degraded": observed_degraded,
        "request": observed_request,
        "raising": observed_raising,
        "coroutine": observed_coroutine(coroutine),
        "generator": observed_generator,
        "async generator": observed_async_generator,
    }
    return by_shape[shape]
