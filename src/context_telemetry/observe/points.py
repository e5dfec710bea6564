"""The metric points of records and events, as the conventions' table derives them.

Which instruments exist, what they count and by which attributes is that table; this module only walks it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import Any

from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Histogram, Meter, Observation
from opentelemetry.util.types import AttributeValue

from context_telemetry.conventions import names
from context_telemetry.conventions.derive import applies, bounded
from context_telemetry.conventions.metric import Metric
from context_telemetry.observe.fork import renew_in_child

# An exemplar costs a sixth of a point. A healthy call below this many seconds goes without: nobody will look for it,
# and only of a quick call is the cost a part that counts. The context that says so is not empty, because the SDK takes
# an empty one for "the current context".
_QUICK = 0.01
_NO_EXEMPLAR = Context({"context-telemetry": "no exemplar"})
# Label sets are remembered by the raw values that they were made from. Clients can vary those: forget at this many.
_REMEMBERED = 4_096


class _Series:
    """One set of labels of one metric, with its running value where the SDK asks for it."""

    __slots__ = ("labels", "value")

    def __init__(self, labels: dict[str, AttributeValue]) -> None:
        self.labels = labels
        self.value: float = 0


class _Step:
    """One metric that counts spans of a certain shape: where its labels come from, and which it has had."""

    __slots__ = ("each", "labels", "metric", "raw", "record", "remembered", "value")

    def __init__(
        self, metric: Metric, histogram: Histogram | None, attributes: Mapping[str, AttributeValue]
    ) -> None:
        self.metric = metric
        self.each = metric.each
        self.record = None if histogram is None else histogram.record
        self.value = None if metric.value == "duration" else metric.value
        read_from = metric.read_from or {}
        self.labels = tuple((label, read_from.get(label, label)) for label in metric.attributes)
        bounds = [names.BOUNDS[label] for label in metric.attributes if label in names.BOUNDS]
        sources = [source for _, source in self.labels]
        guards = [guard for bound in bounds for guard, _ in bound.where]
        decisive = dict.fromkeys(
            each for each in (*sources, *guards) if each in attributes and each != metric.each
        )
        # Whatever decides about the labels, as one value that can be looked up.
        self.raw: Callable[[Any], object] = itemgetter(*decisive) if decisive else lambda attributes: None
        self.remembered: dict[object, _Series] = {}


class Points:
    """Records points and keeps the running numbers of counters and gauges.

    Which metrics count a span depends on which attributes it has, so that is decided once per shape. Counters and
    gauges are numbers of ours that the SDK asks for when it collects: a fifth of the cost of telling it each time.
    """

    def __init__(self, meter: Meter) -> None:
        self._lock = threading.Lock()
        self._plans: dict[tuple[object, ...], tuple[_Step, ...]] = {}
        self._remembered = 0
        self._series: dict[str, dict[tuple[object, ...], _Series]] = {
            metric.name: {} for metric in names.METRICS
        }
        self._histograms: dict[str, Histogram] = {}
        for metric in names.METRICS:
            name, unit, brief = metric.name, metric.unit, metric.brief
            if metric.instrument == "histogram":
                self._histograms[name] = meter.create_histogram(
                    name, unit, brief, explicit_bucket_boundaries_advisory=metric.boundaries
                )
            elif metric.instrument == "counter":
                meter.create_observable_counter(name, [self._observer(name)], unit, brief)
            else:
                meter.create_observable_gauge(name, [self._observer(name)], unit, brief)

        renew_in_child(self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        for series in self._series.values():
            for each in series.values():
                each.value = 0

    def span(self, attributes: Mapping[str, Any], duration: float, context: Context) -> None:
        """Count one finished span."""
        shape = (attributes.get(names.DATAFACE_ENTRY), *attributes)
        steps = self._plans.get(shape)
        if steps is None:
            steps = self._plan(shape, attributes)
        if duration < _QUICK and attributes.get(names.DATAFACE_OUTCOME) == "ok":
            context = _NO_EXEMPLAR
        for step in steps:
            raw = step.raw(attributes)
            series = step.remembered.get(raw)
            if series is None:
                series = self._remember(raw, step, attributes)
            if step.record is not None:
                value = duration if step.value is None else attributes[step.value]  # type: ignore[index]  # a name
                step.record(value, series.labels, context)
            elif step.each is None:
                self._add(series, _number(step.value, attributes))
            else:
                self._add_each(step, series, attributes)

    def event(self, name: str, attributes: Mapping[str, Any]) -> None:
        """Take over what an event says: gauges and cumulative numbers are set, durations recorded."""
        for metric in names.METRICS:
            if (
                metric.source != "event"
                or metric.when.get("event") != name
                or not applies(metric, attributes)
            ):
                continue
            labels = {each: attributes[each] for each in metric.attributes if each in attributes}
            if metric.parts is not None and metric.each is not None:
                for part, attribute in metric.parts.items():
                    if attribute in attributes:
                        series = self._canonical(metric.name, {**labels, metric.each: part})
                        self._set(series, attributes[attribute])
            elif metric.instrument == "histogram":
                self._histograms[metric.name].record(attributes[str(metric.value)], labels)
            else:
                self._set(self._canonical(metric.name, labels), attributes[str(metric.value)])

    def _plan(self, shape: tuple[object, ...], attributes: Mapping[str, AttributeValue]) -> tuple[_Step, ...]:
        steps = tuple(
            _Step(metric, self._histograms.get(metric.name), attributes)
            for metric in names.METRICS
            if metric.source == "span" and applies(metric, attributes)
        )
        with self._lock:
            if len(self._plans) >= _REMEMBERED:
                self._plans.clear()
            self._plans[shape] = steps
        return steps

    def _remember(self, raw: object, step: _Step, attributes: Mapping[str, AttributeValue]) -> _Series:
        labels: dict[str, AttributeValue] = {}
        for label, source in step.labels:
            value = attributes.get(source)
            if value is None or source == step.metric.each:
                continue
            if isinstance(value, (tuple, list)):
                value = value[0]
            labels[label] = bounded(label, value, attributes)
        # Where a list is exploded, these are only the labels that its items have in common, no series of their own.
        series = (
            _Series(labels) if step.metric.each is not None else self._canonical(step.metric.name, labels)
        )
        with self._lock:
            self._remembered += 1
            if self._remembered > _REMEMBERED:
                self._plans.clear()
                self._remembered = 0
            step.remembered[raw] = series
        return series

    def _canonical(self, metric: str, labels: dict[str, AttributeValue]) -> _Series:
        key = tuple(labels.items())
        known = self._series[metric]
        with self._lock:
            series = known.get(key)
            if series is None:
                series = known[key] = _Series(labels)
            return series

    def _add_each(self, step: _Step, common: _Series, attributes: Mapping[str, Any]) -> None:
        each = step.metric.each
        label = next(label for label, source in step.labels if source == each)
        for item in attributes[each]:  # type: ignore[index]  # the caller has looked
            series = self._canonical(step.metric.name, {**common.labels, label: item})
            self._add(series, _number(step.value, attributes))

    def _add(self, series: _Series, value: float) -> None:
        with self._lock:
            series.value += value

    def _set(self, series: _Series, value: Any) -> None:
        with self._lock:
            series.value = value

    def _observer(self, metric: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_options: CallbackOptions) -> Iterable[Observation]:
            with self._lock:
                return [Observation(series.value, series.labels) for series in self._series[metric].values()]

        return observe


def _number(value: str | int | None, attributes: Mapping[str, Any]) -> float:
    return value if isinstance(value, int) else attributes[value]  # type: ignore[index]  # counts
