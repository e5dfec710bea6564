"""Spans, metrics and events in memory, for tests in one process. Real SDK providers; nothing is faked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler

from context_telemetry.observe import board, recorder


class Memory:
    """What was recorded, and the providers that it was recorded by."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self._spans = InMemorySpanExporter()
        self._logs = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]  # the SDK has not typed it
        self._reader = InMemoryMetricReader()
        self.tracer_provider = TracerProvider(sampler=sampler)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self.logger_provider = LoggerProvider()
        self.logger_provider.add_log_record_processor(SimpleLogRecordProcessor(self._logs))
        self.meter_provider = MeterProvider([self._reader])

    @property
    def providers(self) -> dict[str, Any]:
        return {
            "tracer_provider": self.tracer_provider,
            "meter_provider": self.meter_provider,
            "logger_provider": self.logger_provider,
        }

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._spans.get_finished_spans())

    def span(self, name: str) -> ReadableSpan:
        """The only span of that name."""
        (found,) = [span for span in self.spans if span.name == name]
        return found

    def clear(self) -> None:
        self._spans.clear()

    @property
    def events(self) -> list[tuple[str, dict[str, Any]]]:
        records = [each.log_record for each in self._logs.get_finished_logs()]
        return [(str(record.event_name), dict(record.attributes or {})) for record in records]

    def metrics_data(self) -> Any:
        """What the SDK aggregated so far."""
        return self._reader.get_metrics_data()

    def points(self) -> dict[str, list[tuple[dict[str, Any], float]]]:
        """Every metric's points: labels, and the value of a sum or gauge or the count of a histogram."""
        found: dict[str, list[tuple[dict[str, Any], float]]] = {}
        data = self.metrics_data()
        for resource in data.resource_metrics if data is not None else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    found[metric.name] = [
                        (dict(point.attributes or {}), getattr(point, "count", getattr(point, "value", 0)))
                        for point in metric.data.data_points
                    ]
        return found


@contextmanager
def recording(sampler: Sampler | None = None) -> Iterator[Memory]:
    """Record to memory inside the block, and to nothing afterwards."""
    memory = Memory(sampler)
    recorder.use(**memory.providers)
    try:
        yield memory
    finally:
        recorder.forget()
        board.forget()


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})
