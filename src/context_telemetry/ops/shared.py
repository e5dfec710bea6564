"""Names and numbers that rules, panels, searches and runbooks share, so that each has one meaning. Imports nothing."""

from __future__ import annotations

from typing import Final

SERVICE: Final = "dataface"
"""`service.name` of a Dataface process, unless `OTEL_SERVICE_NAME` says otherwise."""

COLLECTOR_JOB: Final = "collector"
"""The job that scrapes the Collector's own metrics (collector/prometheus.yaml): what is about it looks there."""

SIGNALS: Final = ("spans", "metric_points", "log_records")
"""What the Collector calls the items of each signal in its own metrics."""

QUEUE_FILLING: Final = 0.5
"""The share of a queue of the Collector from which on `DatafaceCollectorQueueFilling` fires."""
