"""Where telemetry goes: the same kind of place for every side, each side its own.

A place is the end of the way (memory, files, a process that answers OTLP) and knows what has arrived there. A home is
the pipeline that leads to it: a host's, made of the SDK's own parts, or one of ours as it is in production.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    HistogramDataPoint,
    InMemoryMetricReader,
    MetricReader,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBasedTraceIdRatio, Sampler

from benchmarks.environment import changed
from context_telemetry.pipeline import providers
from context_telemetry.pipeline.batch import BatchLimits
from context_telemetry.pipeline.destination import Destination, local
from context_telemetry.settings import Settings

Telemetry = Literal[
    "dropped",
    "exported",
    "spans alone",
    "local files",
    "local sink",
    "sampled out",
    "sampled out by a ratio",
    "nothing",
]
"""What becomes of spans and points.

`dropped`: a host's processor drops a span as it ends. `exported`: a batch processor hands it to an exporter that drops
it. A pipeline of ours always has its worker, so for that the two are the same. `spans alone`: likewise, and there are
no metrics. `local files`: spans are written to files as `run` does where nothing is configured, and there are no
metrics, because those derive from the files. `local sink`: spans and metrics go by OTLP over HTTP to a process that
answers 200. `sampled out`: the sampler drops every span, `sampled out by a ratio`: one that looks at the parent first
does, as a ratio of 0 of the traces says. `nothing`: there are no providers.
"""

_FLUSH_SECONDS = 60.0
_NEVER_MS = 1e9


# -- places -------------------------------------------------------------------------------------------------


class Place(Protocol):
    """Exporter and readers, and what has arrived there."""

    exporter: SpanExporter
    readers: Sequence[MetricReader]

    def spans(self) -> int:
        """How many have arrived."""
        ...

    def counts(self) -> Counter[str]:
        """How often each metric was recorded to, by its name."""
        ...

    def close(self) -> None:
        """Leave nothing behind."""
        ...


class Dropping(SpanExporter):
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


class Memory:
    """Spans are dropped, metrics stay in a reader."""

    def __init__(self, *, keep: bool = False, metrics: bool = True) -> None:
        self.exporter, self.reader = Dropping(keep=keep), InMemoryMetricReader()
        self.readers: Sequence[MetricReader] = [self.reader] if metrics else []

    def spans(self) -> int:
        return self.exporter.count

    def counts(self) -> Counter[str]:
        counts = Counter[str]()
        data = self.reader.get_metrics_data() if self.readers else None
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        number: Any = point  # a histogram's has a count, a counter's a value
                        is_histogram = isinstance(point, HistogramDataPoint)
                        counts[metric.name] += number.count if is_histogram else number.value
        return counts

    def close(self) -> None:
        self.exporter.gate.set()  # whoever waits there can go


class Files:
    """Spans are written below a folder of their own."""

    readers: Sequence[MetricReader] = ()

    def __init__(self) -> None:
        from context_telemetry.pipeline.files import FileSpanExporter, Folder

        self._kept = tempfile.TemporaryDirectory()
        self._folder = Path(self._kept.name)
        self.settings = Settings(state_dir=self._folder)
        self.exporter = FileSpanExporter(Folder(self._folder / "host", self.settings.retention))

    def spans(self) -> int:
        return sum(path.read_bytes().count(b'"spanId":') for path in self._folder.rglob("traces-*"))

    def counts(self) -> Counter[str]:
        return Counter()

    def close(self) -> None:
        self._kept.cleanup()


class Sink:
    """Spans and metrics go to `benchmarks.sink` in a process of its own."""

    def __init__(self) -> None:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.sink"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        self._url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"
        self.exporter = OTLPSpanExporter(f"{self._url}/v1/traces")
        metrics = OTLPMetricExporter(f"{self._url}/v1/metrics")
        # Only when it is asked to, with the collection.
        self.readers: Sequence[MetricReader] = [
            PeriodicExportingMetricReader(metrics, export_interval_millis=_NEVER_MS)
        ]

    def spans(self) -> int:
        return int(self._arrived()["spans"])

    def counts(self) -> Counter[str]:
        return Counter(self._arrived()["counts"])

    def _arrived(self) -> dict[str, Any]:
        with urllib.request.urlopen(self._url) as response:
            arrived: dict[str, Any] = json.load(response)
        return arrived

    def close(self) -> None:
        self._process.communicate()  # it ends with its input


def _place(telemetry: Telemetry, keep: bool) -> Memory | Files | Sink:
    if telemetry == "local files" and not keep:
        return Files()
    if telemetry == "local sink" and not keep:
        return Sink()
    return Memory(keep=keep, metrics=telemetry not in ("local files", "spans alone"))


# -- homes --------------------------------------------------------------------------------------------------


class Home(Protocol):
    """A pipeline and the place that it leads to."""

    place: Any
    exports: bool
    """Whether every span that was made must have arrived after `collect`; otherwise none must have."""

    def collect(self) -> bool:
        """Export what is queued, and collect metrics; whether all of that was done."""
        ...

    def close(self) -> object:
        """Leave nothing behind for the next benchmark."""
        ...


class _Dropped(SpanProcessor):
    """Receives spans and does nothing with them: what is left is the cost of making them."""


_SAMPLERS: dict[str, tuple[Sampler, dict[str, str]]] = {
    "sampled out": (ALWAYS_OFF, {"OTEL_TRACES_SAMPLER": "always_off"}),
    "sampled out by a ratio": (
        ParentBasedTraceIdRatio(0.0),
        {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.0"},
    ),
}
"""The host's sampler, and how an operator says so to a pipeline of ours."""


class Hosts:
    """Providers as a host sets them up: the SDK's own parts. ``keep``: spans stay in memory, to be looked at."""

    def __init__(self, telemetry: Telemetry, *, keep: bool = False) -> None:
        self.place = _place(telemetry, keep)
        sampler, _ = _SAMPLERS.get(telemetry, (ALWAYS_ON, {}))
        self.tracing = TracerProvider(
            sampler=sampler, shutdown_on_exit=False, meter_provider=NoOpMeterProvider()
        )
        self.metering = (
            MeterProvider(self.place.readers, shutdown_on_exit=False) if self.place.readers else None
        )
        batched = telemetry != "dropped" or keep
        self.exports = batched and telemetry not in _SAMPLERS
        if batched:
            # As large a queue as that of our pipeline: the SDK's 2,048 overruns in a hot loop, and to drop is cheap.
            self.tracing.add_span_processor(
                BatchSpanProcessor(
                    self.place.exporter, max_queue_size=BatchLimits.queue, meter_provider=NoOpMeterProvider()
                )
            )
        else:
            self.tracing.add_span_processor(_Dropped())

    def collect(self) -> bool:
        flushed = self.tracing.force_flush(int(_FLUSH_SECONDS * 1e3))
        return flushed and (self.metering is None or self.metering.force_flush(_FLUSH_SECONDS * 1e3))

    def close(self) -> None:
        if isinstance(self.place, Memory):
            self.place.exporter.gate.set()  # whoever waits there can go
        self.tracing.shutdown()
        if self.metering is not None:
            self.metering.shutdown()
        self.place.close()


class Own:
    """A pipeline of ours as it is in production, content guard included."""

    def __init__(self, telemetry: Telemetry, *, keep: bool = False) -> None:
        self.place = _place(telemetry, keep)
        _, environment = _SAMPLERS.get(telemetry, (ALWAYS_ON, {}))
        self.exports = telemetry not in _SAMPLERS
        where = Destination("otlp", {"traces": ("benchmark",), "metrics": ("benchmark",), "logs": ()})
        made: dict[str, list[Any]] = {
            "traces": [self.place.exporter],
            "metrics": list(self.place.readers),
            "logs": [],
        }
        settings = Settings()
        if isinstance(self.place, Files):
            where, made, settings = local({}), {"traces": [], "metrics": [], "logs": []}, self.place.settings
        unset = dict.fromkeys(("OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"))
        with changed(**{**unset, **environment}):
            self.pipeline = providers.assemble(where, made, Path.cwd(), settings, set_global=False)

    def collect(self) -> bool:
        return self.pipeline.flush(_FLUSH_SECONDS)

    def close(self) -> None:
        if isinstance(self.place, Memory):
            self.place.exporter.gate.set()
        self.pipeline.shutdown(10.0)
        self.place.close()
