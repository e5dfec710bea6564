"""Histograms of our own, put into what the readers of our meter provider collect.

The SDK takes 4 to 8 us for each value of a histogram, most of it for finding the series again. Here a series is found
once and then adds up by itself. Temporality, start times, buckets and exemplars are as the SDK's.
"""

from __future__ import annotations

import os
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opentelemetry.sdk.metrics import Exemplar, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    HistogramDataPoint,
    MetricReader,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.metrics.export import Histogram as HistogramData
from opentelemetry.sdk.metrics.export import Metric as MetricData
from opentelemetry.sdk.metrics.view import DefaultAggregation, ExplicitBucketHistogramAggregation
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext
from opentelemetry.util.types import AttributeValue

from context_telemetry.conventions import names
from context_telemetry.conventions.metric import Metric
from context_telemetry.observe.fork import renew_in_child
from context_telemetry.observe.points import RecordValue
from context_telemetry.pipeline.components import EXEMPLAR_FILTER

_TRACE_BASED = "trace_based"  # the filter that these histograms have, and the SDK's default
_MOST_SERIES = 2_000  # the SDK's limit for one instrument
_OVERFLOW: Mapping[str, AttributeValue] = {"otel.metric.overflow": True}
_TOGETHER = 1_024  # values of one series that are added up at a time
_SCOPE = InstrumentationScope(names.SCOPE, names.VERSION, names.SCHEMA_URL)
_BRIEFS = {metric.name: metric.brief for metric in names.METRICS}
_UNITS = {metric.name: metric.unit for metric in names.METRICS}


class _Series:
    """One set of labels for one reader: what was added up since the reader's last collection, or since it began."""

    __slots__ = ("began", "bounds", "counts", "exemplars", "high", "labels", "low", "total")

    def __init__(self, labels: Mapping[str, AttributeValue], bounds: tuple[float, ...], began: int) -> None:
        self.labels, self.bounds, self.began = labels, bounds, began
        self.reset()

    def reset(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)
        self.total: float = 0
        self.low, self.high = float("inf"), float("-inf")
        self.exemplars: dict[int, tuple[float, int, SpanContext]] = {}

    def add(self, counts: list[int], total: float, low: float, high: float) -> None:
        self.counts = [one + another for one, another in zip(self.counts, counts, strict=True)]
        self.total += total
        self.low, self.high = min(self.low, low), max(self.high, high)

    def point(self, now: int) -> HistogramDataPoint:
        exemplars = [
            Exemplar({}, value, at, span.span_id, span.trace_id)
            for _, (value, at, span) in sorted(self.exemplars.items())
        ]
        self.exemplars = {}
        return HistogramDataPoint(
            attributes=self.labels,
            start_time_unix_nano=self.began,
            time_unix_nano=now,
            count=sum(self.counts),
            sum=self.total,
            bucket_counts=tuple(self.counts),
            explicit_bounds=self.bounds,
            min=self.low,
            max=self.high,
            exemplars=exemplars,
        )


class _Stream:
    """The values of one series on their way: they are added up together, for all readers at once.

    Whoever records appends to ``values`` and takes no lock; `add_up` takes from their front, under its owner's.
    """

    __slots__ = ("_bounds", "labels", "metric", "series", "values")

    def __init__(self, metric: Metric, labels: Mapping[str, AttributeValue], series: list[_Series]) -> None:
        self.metric, self.labels, self.series = metric, labels, series
        self._bounds = metric.boundaries
        self.values: list[float] = []

    def point_at(self, value: float, span: SpanContext, at: int) -> None:
        if span.trace_flags.sampled:
            bucket = bisect_left(self._bounds, value)
            for each in self.series:
                each.exemplars[bucket] = (value, at, span)

    def add_up(self) -> None:
        many = len(self.values)
        values = self.values[:many]
        del self.values[:many]
        if not values:
            return
        counts = [0] * (len(self._bounds) + 1)
        for value in values:
            counts[bisect_left(self._bounds, value)] += 1
        for each in self.series:
            each.add(counts, sum(values), min(values), max(values))


class _Kept:
    """All series for one reader."""

    def __init__(self, temporality: AggregationTemporality) -> None:
        self.temporality = temporality
        self.series: dict[str, dict[tuple[object, ...], _Series]] = {}
        self.collected = 0

    def find(self, metric: Metric, labels: Mapping[str, AttributeValue], began: int) -> _Series:
        known = self.series.setdefault(metric.name, {})
        key = tuple(sorted(labels.items()))
        if key not in known and len(known) >= _MOST_SERIES:
            labels, key = _OVERFLOW, tuple(_OVERFLOW.items())
        found = known.get(key)
        if found is None:
            delta = self.temporality is AggregationTemporality.DELTA
            found = known[key] = _Series(
                labels, metric.boundaries, self.collected if delta and self.collected else began
            )
        return found

    def collect(self, now: int) -> list[MetricData]:
        collected = []
        delta = self.temporality is AggregationTemporality.DELTA
        for name, series in self.series.items():
            points = [each.point(now) for each in series.values() if any(each.counts)]
            for each in series.values() if delta else ():
                each.reset()
                each.began = now
            if points:
                data = HistogramData(points, self.temporality)
                collected.append(MetricData(name, _BRIEFS[name], _UNITS[name], data))
        self.collected = now
        return collected


class Histograms:
    """All histograms of ours, for every reader; `series` is what `Points` makes them by."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._kept: list[_Kept] = []
        self._streams: dict[tuple[int, ...], _Stream] = {}
        renew_in_child(self._renew)

    def _renew(self) -> None:
        self._lock = threading.RLock()
        self._streams.clear()
        for kept in self._kept:
            kept.series.clear()

    def series(self, metric: Metric, labels: Mapping[str, AttributeValue], began: int) -> RecordValue:
        with self._lock:
            series = [kept.find(metric, labels, began) for kept in self._kept]
            key = tuple(id(each) for each in series)  # labels beyond the limit have one series together
            stream = self._streams.get(key)
            if stream is None:
                stream = self._streams[key] = _Stream(metric, labels, series)
        values, append = stream.values, stream.values.append

        def record(value: float, exemplar: SpanContext | None, at: int) -> None:
            if exemplar is not None:
                self._show(stream, value, exemplar, at)
                return
            append(value)
            if len(values) >= _TOGETHER:
                with self._lock:
                    stream.add_up()

        return record

    def _show(self, stream: _Stream, value: float, exemplar: SpanContext, at: int) -> None:
        with self._lock:  # no collection may come in between: it would have the one without the other
            stream.values.append(value)
            stream.point_at(value, exemplar, at)

    def attach(self, provider: MeterProvider, readers: Sequence[MetricReader]) -> None:
        """Put these histograms into all that ``readers`` of ``provider`` collect. Raises AttributeError for a new SDK.

        It is how the SDK's provider itself is asked by a reader, and in no public way.
        """
        asked: list[tuple[MetricReader, Callable[..., MetricsData | None], _Kept]] = []
        for reader in readers:
            collect: Any = reader._collect
            asked.append((reader, collect, _Kept(_of(reader._instrument_class_temporality))))
        for reader, collect, kept in asked:
            with self._lock:  # one that comes late has what comes after it
                for stream in self._streams.values():
                    stream.add_up()
                    stream.series.append(kept.find(stream.metric, stream.labels, time.time_ns()))
                self._kept.append(kept)
            both: Any = self._collecting(
                provider, collect, kept
            )  # not what the SDK's annotation says it calls
            reader._set_collect_callback(both)

    def _collecting(
        self, provider: MeterProvider, collect: Callable[..., MetricsData | None], kept: _Kept
    ) -> Callable[..., MetricsData | None]:
        def both(reader: MetricReader, *args: Any, **kwargs: Any) -> MetricsData | None:
            found = collect(reader, *args, **kwargs)  # which lets `Points` take over what waits
            with self._lock:
                for stream in self._streams.values():
                    stream.add_up()
                ours = kept.collect(time.time_ns())
            return _merged(found, ours, provider) if ours else found

        return both


def why_not(provider: MeterProvider, readers: Sequence[MetricReader]) -> str | None:
    """Why ``readers`` of ``provider`` need the SDK's own histograms, as a recorder's `fallbacks` say it; None: not."""
    if os.environ.get(EXEMPLAR_FILTER, _TRACE_BASED) != _TRACE_BASED:
        return "exemplar_filter"
    try:
        _ = provider._sdk_config.resource  # looked at when nothing but ours is collected
        for reader in readers:
            _ = reader._collect, reader._set_collect_callback, _of(reader._instrument_class_temporality)
            aggregation = _of(reader._instrument_class_aggregation)
            known = isinstance(aggregation, DefaultAggregation) or (
                isinstance(aggregation, ExplicitBucketHistogramAggregation)
                and aggregation._boundaries is None
            )
            if not known:
                return "aggregation"
    except (AttributeError, KeyError):
        return "unknown_sdk"
    return None


def _of(by_class: Mapping[Any, Any]) -> Any:
    """What a reader has for histograms: by the SDK's inner class, which its public one is the base of."""
    for kind, found in by_class.items():
        if issubclass(kind, Histogram):
            return found
    raise KeyError("Histogram")


def _merged(found: MetricsData | None, ours: list[MetricData], provider: MeterProvider) -> MetricsData:
    if found is None or not found.resource_metrics:
        resource = provider._sdk_config.resource
        scope = ScopeMetrics(_SCOPE, ours, names.SCHEMA_URL)
        return MetricsData([ResourceMetrics(resource, [scope], resource.schema_url)])
    first, *others = found.resource_metrics
    scopes = list(first.scope_metrics)
    for position, scope in enumerate(scopes):
        if scope.scope == _SCOPE:
            scopes[position] = ScopeMetrics(scope.scope, [*scope.metrics, *ours], scope.schema_url)
            break
    else:
        scopes.append(ScopeMetrics(_SCOPE, ours, names.SCHEMA_URL))
    return MetricsData([ResourceMetrics(first.resource, scopes, first.schema_url), *others])
