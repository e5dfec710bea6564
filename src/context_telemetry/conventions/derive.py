"""The metrics of the conventions, computed from spans and events: the reference for every way of counting.

Pure Python over plain records, one pass. A span is {"name", "kind", "start", "end" (ns), "attributes"}, an
event {"event_name", "time" (ns), "attributes"}; other keys are ignored. What sampling took away
is not guessed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from context_telemetry.conventions import names
from context_telemetry.conventions.metric import Metric

Attributes = Mapping[str, Any]
Labels = tuple[tuple[str, Any], ...]
"""A point's labels, sorted by name."""

OTHER = "_OTHER"


@dataclass(frozen=True, slots=True)
class Point:
    """One series of a metric, aggregated over all that was given."""

    name: str
    attributes: Mapping[str, Any]
    value: float
    """The sum of a counter or histogram, the last value of a gauge, in the metric's unit."""
    count: int = 0
    """How many measurements a histogram holds."""
    buckets: tuple[int, ...] = ()
    """Measurements per bucket of a histogram; one more bucket than the metric has boundaries."""


def derive(spans: Iterable[Mapping[str, Any]], events: Iterable[Mapping[str, Any]] = ()) -> list[Point]:
    """Every point of every metric that ``spans`` and ``events`` give, sorted by metric and labels."""
    series: dict[tuple[str, Labels], list[float]] = {}
    from_spans = [metric for metric in names.METRICS if metric.source == "span"]
    for span in spans:
        seconds = (span["end"] - span["start"]) / 1e9
        for metric in from_spans:
            for labels, value in measurements(metric, span["attributes"], seconds):
                series.setdefault((metric.name, labels), []).append(value)
    last: dict[tuple[str, Labels], tuple[int, float]] = {}
    for event in events:
        for metric in names.METRICS:
            if metric.when.get("event") != event["event_name"]:
                continue
            for labels, value in measurements(metric, event["attributes"]):
                key = (metric.name, labels)
                if metric.instrument != "gauge":
                    series.setdefault(key, []).append(value)
                elif key not in last or last[key][0] <= event["time"]:  # a gauge is what was said last
                    last[key] = (event["time"], value)
    for key, (_, value) in last.items():
        series[key] = [value]
    by_name = {metric.name: metric for metric in names.METRICS}
    points = [_point(by_name[name], labels, values) for (name, labels), values in series.items()]
    return sorted(points, key=lambda point: (point.name, str(point.attributes)))


def measurements(
    metric: Metric, attributes: Attributes, seconds: float = 0.0
) -> Iterator[tuple[Labels, float]]:
    """What one span or event adds to ``metric``, as (labels, number); nothing when it does not count there.

    Of an event the caller has compared the name.
    """
    if not applies(metric, attributes):
        return
    if metric.parts is not None and metric.each is not None:
        for part, name in metric.parts.items():
            if name in attributes:
                yield _labels(metric, {**attributes, metric.each: part}), float(attributes[name])
        return
    if isinstance(metric.value, int):
        value = float(metric.value)
    elif metric.value == "duration":
        value = seconds
    elif metric.value in attributes:
        value = float(attributes[metric.value])
    else:
        return
    if metric.each is None:
        yield _labels(metric, attributes), value
    else:
        for item in dict.fromkeys(attributes[metric.each]):
            yield _labels(metric, {**attributes, metric.each: item}), value


def bounded(label: str, value: Any, attributes: Attributes) -> Any:
    """``value``, or "_OTHER" where a client can have invented it."""
    bound = names.BOUNDS.get(label)
    if bound is None:
        return value
    known = bound.known is None or value in bound.known
    return value if known and all(attributes.get(name) in values for name, values in bound.where) else OTHER


def applies(metric: Metric, attributes: Attributes) -> bool:
    """Whether ``metric`` counts a span or event that carries these attributes."""
    when = metric.when
    return (
        (not when.get("entry") or attributes.get(names.DATAFACE_ENTRY) is True)
        and all(name in attributes for name in when.get("has", ()))
        and not any(name in attributes for name in when.get("not_has", ()))
    )


def _labels(metric: Metric, attributes: Attributes) -> Labels:
    found = []
    for label in metric.attributes:
        items = _items(attributes.get((metric.read_from or {}).get(label, label)))
        if items:
            found.append((label, bounded(label, items[0], attributes)))
    return tuple(sorted(found))


def _items(value: Any) -> tuple[Any, ...]:
    if value is None:
        return ()
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def _point(metric: Metric, labels: Labels, values: list[float]) -> Point:
    if metric.instrument != "histogram":
        return Point(metric.name, dict(labels), sum(values))
    buckets = [0] * (len(metric.boundaries) + 1)
    for value in values:
        buckets[bisect_left(metric.boundaries, value)] += 1
    return Point(metric.name, dict(labels), sum(values), len(values), tuple(buckets))
