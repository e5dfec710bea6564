"""Makes the providers of a pipeline of our own: OTLP where an endpoint is configured, local files otherwise.

The SDK is imported when a pipeline starts, and the gRPC exporter only when it is used. When it starts is
`auto`'s business, when it ends `shutdown`'s.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from context_telemetry.conventions import names
from context_telemetry.observe import failsafe, process_providers
from context_telemetry.observe.older_sdk import counted_by
from context_telemetry.pipeline.destination import FILES, Destination, Mode, destination, local

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    from context_telemetry.observe.points import Points
    from context_telemetry.observe.recorder import Recorder
    from context_telemetry.pipeline.batch import Batcher
    from context_telemetry.pipeline.components import Components
    from context_telemetry.settings import Settings

_METRIC_INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"
# The SDK's minute loses everything of a short-lived server.
_METRIC_INTERVAL_MS = 10_000.0


class Pipeline:
    """What records, the providers that neighbours use, and how to end them. Thread-safe; nothing here raises."""

    def __init__(
        self,
        mode: Mode,
        folder: Path | None,
        recorder: Recorder,
        tracer_provider: TracerProvider,
        meter_provider: MeterProvider | None,
        logger_provider: LoggerProvider,
        batchers: Sequence[Batcher[Any]],
    ) -> None:
        self.mode, self.folder = mode, folder
        self.recorder = recorder
        self.tracer_provider = tracer_provider
        self.meter_provider = meter_provider
        self.logger_provider = logger_provider
        self._batchers = batchers
        self._ended = False

    def flush(self, timeout: float = 1.0) -> bool:
        """Export what was recorded so far; whether that took no more than ``timeout`` seconds."""
        from context_telemetry.pipeline.batch import finish

        deadline = time.monotonic() + timeout
        metrics = None
        if self.meter_provider is not None:
            # In a thread, because it exports in the caller's without heeding the timeout.
            metrics = threading.Thread(target=self._flush_metrics, args=(timeout,), daemon=True)
            metrics.start()
        done = finish(self._batchers, timeout, last=False)
        if metrics is not None:
            metrics.join(max(0.0, deadline - time.monotonic()))
            done = done and not metrics.is_alive()
        return done

    def settle(self, timeout: float) -> None:
        """Export the spans and log records so far, as far as that takes no more than ``timeout`` seconds."""
        from context_telemetry.pipeline.batch import finish

        finish(self._batchers, timeout, last=False)

    def shutdown(self, timeout: float = 2.0) -> bool:
        """Export what is left and close, within ``timeout`` seconds even if an endpoint hangs; only once."""
        if self._ended:
            return True
        self._ended = True
        deadline = time.monotonic() + timeout
        waiting = [batcher.ask(last=True) for batcher in self._batchers]
        if self.meter_provider is not None:
            try:
                self.meter_provider.shutdown(timeout_millis=timeout * 1000)
            except Exception as error:
                failsafe.caught("pipeline.metrics", error)
        late = [done for done in waiting if not done.wait(max(0.0, deadline - time.monotonic()))]
        return not late

    def _flush_metrics(self, timeout: float) -> None:
        try:
            if self.meter_provider is not None:
                self.meter_provider.force_flush(timeout * 1000)
        except Exception as error:
            failsafe.caught("pipeline.metrics", error)


def start(root: Path, settings: Settings, *, set_global: bool, name: str | None = None) -> Pipeline:
    """Start a pipeline for the project at ``root``.

    ``name`` is the project's (default: its folder's). ``set_global`` makes the providers the process's own,
    each where the host has not set one. Nothing is written before something is recorded.
    """
    where = destination()
    _say(where.problems)
    exporters = _load(where)
    if where.mode == "otlp" and not any(exporters.values()):  # what was asked for cannot be had
        where = local()
    return assemble(where, exporters, root, settings, set_global=set_global, name=name)


def assemble(
    where: Destination,
    exporters: Mapping[str, Sequence[Any]],
    root: Path,
    settings: Settings,
    *,
    set_global: bool,
    name: str | None = None,
) -> Pipeline:
    """`start` with exporters (for metrics also readers) that are made already, by signal."""
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk.trace import TracerProvider

    from context_telemetry.pipeline.batch import BatchedLogs, BatchedSpans, BatchLimits
    from context_telemetry.pipeline.components import components
    from context_telemetry.pipeline.guard import GuardedLogExporter, GuardedSpanExporter
    from context_telemetry.pipeline.light_span import Assembly, DecidedSpans
    from context_telemetry.pipeline.owned import OwnedRecorder, OwnedTracerProvider, why_not
    from context_telemetry.settings import project_folder

    spans, logs, folder, piece = list(exporters["traces"]), list(exporters["logs"]), None, None
    if where.mode == "files":
        from context_telemetry.pipeline.files import PIECE, FileLogExporter, FileSpanExporter, Folder

        folder, piece = Folder(project_folder(settings.state_dir, root), settings.retention), PIECE
        spans = [FileSpanExporter(folder)] if where.exporters["traces"] else []
        logs = [FileLogExporter(folder)] if where.exporters["logs"] else []
    if not settings.content:
        spans = [GuardedSpanExporter(exporter) for exporter in spans]
        logs = [GuardedLogExporter(exporter) for exporter in logs]

    chosen = components()
    _say(chosen.problems)
    resource = _resource(name or root.name)
    meters, points, costlier = None, None, None
    if where.mode == "otlp":
        meters, points, costlier = _metering(resource, exporters["metrics"], chosen)
    # Ends are `shutdown`'s.
    tracers = OwnedTracerProvider(
        chosen.sampler,  # None: the SDK reads the variable by itself
        resource,
        shutdown_on_exit=False,
        id_generator=chosen.id_generator,
        **counted_by(meters, TracerProvider),
    )
    loggers = LoggerProvider(resource, shutdown_on_exit=False, **counted_by(meters, LoggerProvider))
    chosen.configure("tracer", tracers)
    chosen.configure("logger", loggers)
    assembly = Assembly(tracers)
    processors = [BatchedSpans(each, BatchLimits.from_environ("OTEL_BSP"), assembly, piece) for each in spans]
    for processor in processors:
        tracers.add_span_processor(processor)
    decided = DecidedSpans(resource, processors)
    batchers: list[Batcher[Any]] = [processor.batcher for processor in processors]
    recorder = OwnedRecorder(tracers, meters, loggers, points, batchers, decided, assembly)
    tracers.recorder = recorder
    if costlier is not None:
        recorder.fell_back(costlier)
    for reason in why_not(chosen):
        recorder.step_back(reason)
    for exporter in logs:
        batched_logs = BatchedLogs(exporter, BatchLimits.from_environ("OTEL_BLRP"), piece)
        loggers.add_log_record_processor(batched_logs)
        batchers.append(batched_logs.batcher)
    if set_global:
        _set_global(tracers, meters, loggers)
    return Pipeline(where.mode, folder.path if folder else None, recorder, tracers, meters, loggers, batchers)


def _say(problems: Iterable[str]) -> None:
    for problem in problems:
        failsafe.misused(f"settings: {problem}", problem)


def _load(where: Destination) -> dict[str, list[Any]]:
    """The exporters (for metrics also readers) asked for, by signal, found and made as the SDK does."""
    made: dict[str, list[Any]] = {"traces": [], "metrics": [], "logs": []}
    for signal, wanted in where.exporters.items():
        for name in wanted:
            if name == FILES:
                continue
            try:
                (point, *_) = importlib.metadata.entry_points(
                    group=f"opentelemetry_{signal}_exporter", name=name
                )
                made[signal].append(_of_each_process(point.load()))
            except Exception as error:
                failsafe.caught(f"exporter {name} for {signal}", error)
    return made


class _OfEachProcess:
    """An exporter that a forked child makes anew: on its parent's connections it would write between their requests."""

    def __init__(self, make: Callable[[], Any], made: Any) -> None:
        self._make, self._made, self._process = make, made, os.getpid()
        self._of_parents: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        if self._process != os.getpid():
            # Kept: to free its connections would be to ask for locks that nobody lets go of here.
            self._of_parents.append(self._made)
            self._made, self._process = self._make(), os.getpid()
        return getattr(self._made, name)


def _of_each_process(make: Callable[[], Any]) -> Any:
    from opentelemetry.sdk.metrics.export import MetricReader

    made = make()
    return made if isinstance(made, MetricReader) else _OfEachProcess(make, made)


def _metering(
    resource: Resource, exporters: Sequence[Any], chosen: Components
) -> tuple[MeterProvider | None, Points | None, str | None]:
    """The provider for ``exporters``, what counts calls for it, and why the SDK's histograms do, if they do."""
    from context_telemetry.observe.points import Points
    from context_telemetry.pipeline.histograms import Histograms
    from context_telemetry.pipeline.owned import OwnedMeterProvider, unpack, why_not_histograms

    readers = _readers(exporters)
    if not readers:
        return None, None, None
    provider = OwnedMeterProvider(readers, resource, shutdown_on_exit=False)
    chosen.configure("meter", provider)
    reason = why_not_histograms(chosen, provider, readers)
    if reason is None:
        provider.histograms = histograms = Histograms()
        histograms.attach(provider, readers)
        provider.points = Points(provider, histograms.series, unpack)
        return provider, provider.points, None
    return provider, Points(provider, unpack=unpack), reason


def _readers(exporters: Sequence[Any]) -> list[MetricReader]:
    """What collects for ``exporters``; empty where a variable has a value that the SDK raises for, which is said."""
    from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader

    from context_telemetry.pipeline.components import why_no_metrics

    if not exporters:
        return []
    interval = None if os.environ.get(_METRIC_INTERVAL) else _METRIC_INTERVAL_MS
    readers: list[MetricReader] = []
    # Before a reader is made: one that no provider takes has a thread that warns for ever.
    problem = why_no_metrics()
    try:
        for each in () if problem else exporters:
            is_reader = isinstance(each, MetricReader)
            readers.append(each if is_reader else PeriodicExportingMetricReader(each, interval))
    except ValueError:
        problem = (
            f"{_METRIC_INTERVAL}={os.environ.get(_METRIC_INTERVAL)} is no interval: there are no metrics"
        )
    if not problem:
        return readers
    _say([problem])
    for each in (*readers, *exporters[len(readers) :]):
        with contextlib.suppress(Exception):
            each.shutdown()
    return []


def _resource(namespace: str) -> Resource:
    """Who speaks. What `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` say comes first."""
    from opentelemetry.sdk.resources import Resource

    from context_telemetry.pipeline.guard import attributes
    from context_telemetry.pipeline.process_resource import ProcessResource

    said = dict(Resource.create().attributes)
    if str(said["service.name"]).startswith("unknown_service"):
        del said["service.name"]
    ours: dict[str, Any] = {"service.name": "dataface", "service.namespace": namespace}
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        ours["service.version"] = importlib.metadata.version("dataface")
    ours |= said
    ours |= {"telemetry.distro.name": "context-telemetry", "telemetry.distro.version": names.VERSION}
    return ProcessResource(attributes(ours) or {})


def _set_global(tracers: TracerProvider, meters: MeterProvider | None, loggers: LoggerProvider) -> None:
    from opentelemetry import _logs, metrics, trace

    if process_providers.tracer_provider() is None:
        trace.set_tracer_provider(tracers)
    if meters is not None and process_providers.meter_provider() is None:
        metrics.set_meter_provider(meters)
    if process_providers.logger_provider() is None:
        _logs.set_logger_provider(loggers)
