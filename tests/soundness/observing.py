"""Runs a workload by one of the three ways, with several readers at once, and keeps all that came out.

``hand``: hand-written OpenTelemetry. ``host``: the library, on providers that a host has. ``owned``: the library, on
a pipeline of its own.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import (
    Counter,
    Histogram,
    MeterProvider,
    ObservableCounter,
)
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    InMemoryMetricReader,
    MetricExporter,
    MetricExportResult,
    MetricReader,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.metrics.view import Aggregation, ExponentialBucketHistogramAggregation
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import SpanContext

from context_telemetry.observe import board, failsafe, recorder
from context_telemetry.pipeline import providers
from context_telemetry.pipeline.destination import Destination
from context_telemetry.pipeline.guard import GuardedSpanExporter
from context_telemetry.settings import Settings
from soundness.ways import ByHand, Observed

WAYS = ("hand", "host", "owned")
LIBRARY = ("host", "owned")

_DELTA: dict[type, AggregationTemporality] = dict.fromkeys(
    (Counter, ObservableCounter, Histogram), AggregationTemporality.DELTA
)
_EXPONENTIAL: dict[type, Aggregation] = {Histogram: ExponentialBucketHistogramAggregation()}

# Foreign code that writes on ended spans, and odd values, are part of the workload: each is a warning of the SDK's.
for _name in ("opentelemetry.sdk.trace", "opentelemetry.attributes"):
    logging.getLogger(_name).setLevel(logging.ERROR)


class KeptReader(MetricReader):
    """Keeps everything that it is given, whoever asked for the collection."""

    def __init__(self, delta: bool, exponential: bool = False) -> None:
        super().__init__(
            preferred_temporality=_DELTA if delta else None,
            preferred_aggregation=_EXPONENTIAL if exponential else None,
        )
        self.batches: list[MetricsData] = []

    def _receive_metrics(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> None:
        self.batches.append(metrics_data)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None: ...


class KeptExporter(MetricExporter):
    """Keeps everything that a periodic reader exports."""

    def __init__(self, delta: bool) -> None:
        super().__init__(preferred_temporality=_DELTA if delta else None)
        self.batches: list[MetricsData] = []

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        self.batches.append(metrics_data)
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None: ...


class Readers:
    """Of each kind one, side by side; those that prefer ``exponential`` histograms only where it is asked for."""

    def __init__(self, exponential: bool = False) -> None:
        self.periodic = {True: KeptExporter(delta=True), False: KeptExporter(delta=False)}
        self.kept = {
            "delta": KeptReader(delta=True),
            "cumulative": KeptReader(delta=False),
        }
        if exponential:
            self.kept["exponential"] = KeptReader(delta=False, exponential=True)
            self.kept["exponential delta"] = KeptReader(delta=True, exponential=True)
        self.memory = InMemoryMetricReader()
        self.prometheus = _prometheus()

    @property
    def batches(self) -> dict[str, tuple[bool, list[MetricsData]]]:
        """What each received, and whether it is of deltas."""
        return {
            "periodic delta": (True, self.periodic[True].batches),
            "periodic cumulative": (False, self.periodic[False].batches),
            **{name: ("delta" in name, reader.batches) for name, reader in self.kept.items()},
        }

    @property
    def all(self) -> list[Any]:
        """As a pipeline is given them: exporters, and readers that are made already."""
        made: list[Any] = [self.periodic[True], self.periodic[False], *self.kept.values(), self.memory]
        return made if self.prometheus is None else [*made, self.prometheus.reader]

    def collect(self) -> None:
        """What somebody who asks for metrics does at any time."""
        for reader in self.kept.values():
            reader.collect()
        self.memory.get_metrics_data()
        if self.prometheus is not None:
            self.prometheus.samples()


@dataclass
class Prometheus:
    """A Prometheus endpoint without its HTTP."""

    reader: Any
    registry: Any

    def samples(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """What is scraped now of our metrics."""
        from prometheus_client.exposition import generate_latest
        from prometheus_client.parser import text_string_to_metric_families

        ours = ("dataface_", "mcp_", "http_", "gen_ai_")
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(generate_latest(self.registry).decode())
            for sample in family.samples
            if sample.name.startswith(ours)
        }


def _prometheus() -> Prometheus | None:
    try:
        from opentelemetry.exporter.prometheus import PrometheusMetricReader
        from prometheus_client import CollectorRegistry
    except ImportError:
        return None
    registry = CollectorRegistry()
    try:
        reader = PrometheusMetricReader(registry=registry)
    except TypeError:  # OpenTelemetry before 1.42 knows the registry of the whole process alone
        reader = PrometheusMetricReader()
        registry.register(reader._collector)
    return Prometheus(reader, registry)


@dataclass
class Outcome:
    """All that came out of one run."""

    way: str
    spans: list[ReadableSpan]
    logs: list[ReadableLogRecord]
    readers: Readers
    memory: MetricsData | None
    prometheus: dict[Any, float] | None
    seen: dict[str, SpanContext]
    errors: dict[str, int]
    drops: dict[str, int]
    collections: int
    seconds: float
    began: int
    ended: int


@dataclass
class Started:
    """A way with somewhere to record to."""

    name: str
    way: Any
    tracer_provider: Any
    meter_provider: Any
    flush: Callable[[float], Any]
    shutdown: Callable[[float], Any]
    spans: Callable[[], list[ReadableSpan]]
    logs: Callable[[], list[ReadableLogRecord]]
    readers: Readers
    processors: list[Any] = field(default_factory=list)


@contextmanager
def started(
    name: str,
    root: Path,
    *,
    guarded: bool = False,
    exponential: bool = False,
    processors: tuple[Any, ...] = (),
) -> Iterator[Started]:
    """The way ``name`` until the end of the block. `OTEL_*` variables apply as they are now."""
    span_exporter, log_exporter = InMemorySpanExporter(), InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
    readers = Readers(exponential)
    recorder.forget()
    if name == "owned":
        pipeline = providers.assemble(
            Destination("otlp", {"traces": ("memory",), "metrics": ("memory",), "logs": ("memory",)}),
            {"traces": [span_exporter], "metrics": readers.all, "logs": [log_exporter]},
            root=root,
            settings=Settings(content=not guarded),
            set_global=False,
        )
        for processor in processors:
            pipeline.tracer_provider.add_span_processor(processor)
        recorder.install(pipeline.recorder)
        made = Started(
            name,
            Observed(pipeline.tracer_provider),
            pipeline.tracer_provider,
            pipeline.meter_provider,
            pipeline.flush,
            pipeline.shutdown,
            lambda: list(span_exporter.get_finished_spans()),
            lambda: list(log_exporter.get_finished_logs()),
            readers,
        )
    else:
        sampler = None if os.environ.get("OTEL_TRACES_SAMPLER") else ALWAYS_ON
        tracers = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        for processor in processors:
            tracers.add_span_processor(processor)
        exporter = GuardedSpanExporter(span_exporter) if guarded else span_exporter
        tracers.add_span_processor(SimpleSpanProcessor(exporter))
        made_readers = [
            PeriodicExportingMetricReader(each) if isinstance(each, MetricExporter) else each
            for each in readers.all
        ]
        meters = MeterProvider(made_readers, shutdown_on_exit=False)
        loggers = LoggerProvider(shutdown_on_exit=False)
        loggers.add_log_record_processor(SimpleLogRecordProcessor(log_exporter))
        if name == "host":
            recorder.use(tracers, meters, loggers)

        def end(seconds: float) -> None:
            meters.shutdown(seconds * 1e3)
            tracers.shutdown()

        made = Started(
            name,
            ByHand(tracers, meters, loggers) if name == "hand" else Observed(tracers),
            tracers,
            meters,
            lambda seconds: meters.force_flush(seconds * 1e3),
            end,
            lambda: list(span_exporter.get_finished_spans()),
            lambda: list(log_exporter.get_finished_logs()),
            readers,
        )
    try:
        yield made
    finally:
        made.shutdown(5)
        recorder.forget()
        board.forget()


def observe_all(
    name: str,
    root: Path,
    work: Callable[[Any], object],
    *,
    guarded: bool = False,
    collecting: bool = True,
    exponential: bool = False,
    processors: tuple[Any, ...] = (),
) -> Outcome:
    """Run ``work`` with the way ``name``, while somebody collects all the time, and give all that came out."""
    errors, drops = failsafe.errors(), failsafe.drops()
    with started(name, root, guarded=guarded, exponential=exponential, processors=processors) as made:
        stop, collections = threading.Event(), [0]

        def collect() -> None:
            while not stop.wait(0.03):
                made.readers.collect()
                collections[0] += 1
                if collections[0] % 5 == 0:
                    made.flush(5)

        collector = threading.Thread(target=collect, daemon=True)
        began, clock = time.time_ns(), time.monotonic()
        if collecting:
            collector.start()
        work(made.way)
        seconds, ended = time.monotonic() - clock, time.time_ns()
        stop.set()
        if collecting:
            collector.join()
        assert made.flush(20) is not False, f"{name}: a flush took longer than 20 s"
        made.readers.collect()
        memory = made.readers.memory.get_metrics_data()
        prometheus = None if made.readers.prometheus is None else made.readers.prometheus.samples()
    return Outcome(
        name,
        made.spans(),
        made.logs(),
        made.readers,
        memory,
        prometheus,
        made.way.seen,
        _since(errors, failsafe.errors()),
        _since(drops, failsafe.drops()),
        collections[0],
        seconds,
        began,
        ended,
    )


def _since(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {
        place: count - before.get(place, 0) for place, count in after.items() if count != before.get(place, 0)
    }
