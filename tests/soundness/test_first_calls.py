"""Two threads whose first calls come at once have one set of metrics."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from opentelemetry.metrics import _internal as metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from context_telemetry import operation
from context_telemetry.observe import opentelemetry_recorder, points, recorder


def test_threads_whose_first_calls_come_at_once_count_together(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    monkeypatch.setattr(metrics, "_METER_PROVIDER", provider)
    recorder.forget()
    monkeypatch.setattr(recorder, "_default", None)
    monkeypatch.setattr(opentelemetry_recorder, "_early_points", None)
    made = points.Points
    together = threading.Barrier(2)

    class Slow(made):  # type: ignore[misc,valid-type]  # the class is what is patched
        def __init__(self, *args: Any) -> None:
            threading.Event().wait(0.05)
            super().__init__(*args)

    monkeypatch.setattr(opentelemetry_recorder, "Points", Slow)

    def calls() -> None:
        together.wait()
        for _ in range(50):
            with operation("context.build"):
                pass

    threads = [threading.Thread(target=calls) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    data: Any = reader.get_metrics_data()
    counted = {
        metric.name: sum(
            getattr(point, "count", 0) or getattr(point, "value", 0) for point in metric.data.data_points
        )
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
    }
    assert counted == {"dataface.context.served": 100, "dataface.operation.duration": 100}
