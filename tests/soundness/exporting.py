"""Exporters that append a line per export to a file: what is left of a process when it has ended, however it ended.

Found by their entry points (`test_ends` makes a distribution that has them), as an operator's own exporters are.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk.metrics import Counter, Histogram, ObservableCounter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    MetricExporter,
    MetricExportResult,
    MetricsData,
)
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

FOLDER = "SOUNDNESS_FOLDER"


def _append(name: str, value: Any) -> None:
    file = os.open(os.path.join(os.environ[FOLDER], name), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, (json.dumps(value) + "\n").encode())
    os.close(file)


class FileSpans(SpanExporter):
    """Appends the tables of the spans, which tell the calls apart."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        _append("spans", [(span.attributes or {}).get("dataface.catalog.table") for span in spans])
        return SpanExportResult.SUCCESS


class FileMetrics(MetricExporter):
    """Appends what each metric has counted since the last time."""

    def __init__(self) -> None:
        super().__init__(
            preferred_temporality=dict.fromkeys(
                (Counter, ObservableCounter, Histogram), AggregationTemporality.DELTA
            )
        )

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        counted: dict[str, float] = {}
        for resource in metrics_data.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        counted[metric.name] = counted.get(metric.name, 0) + getattr(
                            point, "count", getattr(point, "value", 0)
                        )
        _append("metrics", counted)
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None: ...
