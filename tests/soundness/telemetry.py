"""What came out of a workload, in forms that can be compared: span by span, series by series, reader by reader."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
)
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext

from context_telemetry.conventions import names
from context_telemetry.conventions.derive import measurements
from soundness.workload import FOREIGN, IDENTITY

DEFINED = {metric.name: metric for metric in names.METRICS}
UNTIMED = frozenset({"dataface.operation.duration"})
"""Metrics of real durations: two runs have the same counts and not the same sums."""

_MOMENT_NS = 3_000_000_000

Labels = tuple[tuple[str, Any], ...]
SeriesKey = tuple[str, Labels]


# -- spans --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SpanForm:
    """A span without ids and times. Parents and links are told by identity, or by their ids where they are remote."""

    name: str
    kind: str
    parent: str | None
    scope: tuple[str, str | None, str | None]
    status: tuple[str, str | None]
    attributes: tuple[tuple[str, str], ...]
    links: tuple[tuple[str, str, str], ...]
    events: tuple[tuple[str, str, int | None], ...]
    dropped: tuple[int, int, int]
    trace_state: str
    sampled: bool


def identity(span: ReadableSpan) -> str:
    """Which call or foreign span this is. Raises KeyError where it does not say."""
    attributes = span.attributes or {}
    return str(attributes[IDENTITY] if IDENTITY in attributes else attributes[FOREIGN])


def forms(spans: Iterable[ReadableSpan]) -> dict[str, SpanForm]:
    """Every span's form, by identity. Raises AssertionError where a span was exported twice."""
    spans = list(spans)
    known = {context_of(span).span_id: identity(span) for span in spans}
    assert len(known) == len(spans), f"{len(spans)} spans with {len(known)} span ids"
    made = {identity(span): _form(span, known) for span in spans}
    assert len(made) == len(spans), f"{len(spans)} spans of {len(made)} calls"
    return made


def context_of(span: ReadableSpan) -> SpanContext:
    """The span's own context."""
    context = span.get_span_context()
    assert context is not None
    return context


def _form(span: ReadableSpan, known: Mapping[int, str]) -> SpanForm:
    scope = span.instrumentation_scope
    assert scope is not None
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.start_time <= span.end_time
    context = context_of(span)
    assert context.is_valid
    assert not context.is_remote
    if span.parent is not None:
        assert span.parent.trace_id == context.trace_id, (
            f"{identity(span)} is in another trace than its parent"
        )
        assert span.parent.is_remote == (span.parent.span_id not in known)
    return SpanForm(
        span.name,
        span.kind.name,
        None if span.parent is None else _who(span.parent, known),
        (scope.name, scope.version, scope.schema_url),
        (span.status.status_code.name, span.status.description),
        _plain(span.attributes),
        tuple(
            (_who(each.context, known), str(each.context.is_remote), str(_plain(each.attributes)))
            for each in span.links
        ),
        tuple(
            (
                each.name,
                str(_plain(each.attributes)),
                each.timestamp if each.timestamp < 1_750_000_000 * 10**9 else None,
            )
            for each in span.events
        ),
        (span.dropped_attributes, span.dropped_events, span.dropped_links),
        context.trace_state.to_header(),
        context.trace_flags.sampled,
    )


def _who(context: SpanContext, known: Mapping[int, str]) -> str:
    return known.get(context.span_id) or f"{context.trace_id:032x}-{context.span_id:016x}"


def _plain(attributes: Mapping[str, Any] | None) -> tuple[tuple[str, str], ...]:
    """Names and values, where a stack trace has only to be there."""
    return tuple(
        (key, "..." if key == "exception.stacktrace" and value else f"{type(value).__name__} {value!r}")
        for key, value in sorted((attributes or {}).items())
    )


# -- metric points ------------------------------------------------------------------------------------------


@dataclass
class Total:
    """What a series has counted over all that a reader has received, and how its points followed each other."""

    kind: str
    value: float = 0.0
    count: int = 0
    buckets: tuple[int, ...] = ()
    bounds: tuple[float, ...] = ()
    least: float = math.inf
    most: float = -math.inf
    first_start: int = 0
    last_time: int = 0
    unit: str = ""
    brief: str = ""
    times: list[tuple[int, int, float]] = field(default_factory=list)
    """Start, time and what was counted by then, of each point."""


def series(batch: MetricsData) -> Iterator[tuple[SeriesKey, Metric, Any]]:
    """Every point of ours in what a reader received."""
    for resource in batch.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                if metric.name not in DEFINED:
                    continue
                assert scope.scope.name == names.SCOPE
                assert scope.scope.version == names.VERSION
                assert scope.scope.schema_url == names.SCHEMA_URL
                for point in metric.data.data_points:
                    yield (metric.name, tuple(sorted((point.attributes or {}).items()))), metric, point


def totals(batches: Iterable[MetricsData], delta: bool) -> dict[SeriesKey, Total]:
    """What each series came to. Raises AssertionError where its points do not follow each other as they must."""
    found: dict[SeriesKey, list[tuple[Metric, Any]]] = {}
    for batch in batches:
        for resource in batch.resource_metrics:  # one metric is in a collection once
            mine = [each.name for scope in resource.scope_metrics for each in scope.metrics]
            assert len(mine) == len(set(mine)), f"twice in one collection: {sorted(mine)}"
        seen: set[SeriesKey] = set()
        for key, metric, point in series(batch):
            assert key not in seen, f"{key} twice in one collection"
            seen.add(key)
            found.setdefault(key, []).append((metric, point))
    return {key: _total(key, points, delta) for key, points in found.items()}


def _total(key: SeriesKey, points: list[tuple[Metric, Any]], delta: bool) -> Total:
    points.sort(key=lambda each: each[1].time_unix_nano)
    metric = points[0][0]
    total = Total(type(metric.data).__name__, unit=metric.unit or "", brief=metric.description or "")
    sums = total.kind != "Gauge"
    if sums:
        wanted = AggregationTemporality.DELTA if delta else AggregationTemporality.CUMULATIVE
        assert metric.data.aggregation_temporality is wanted, key  # type: ignore[union-attr]
    if total.kind == "Sum":
        assert metric.data.is_monotonic, key  # type: ignore[union-attr]
    before: Any = None
    for _, point in points:
        if sums:
            _follows(key, before, point, delta)
        if before is None:
            total.first_start = point.start_time_unix_nano or 0
        _take(total, point, add=delta and sums)
        total.last_time = point.time_unix_nano
        total.times.append((point.start_time_unix_nano or 0, point.time_unix_nano, _amount(point)))
        before = point
    return total


def _follows(key: SeriesKey, before: Any, point: Any, delta: bool) -> None:
    # The SDK's clock of a collection stops when it begins: a series may be born, and counted, a moment later.
    assert 0 < point.start_time_unix_nano < point.time_unix_nano + _MOMENT_NS, f"{key} starts after its end"
    if isinstance(point, HistogramDataPoint):
        assert sum(point.bucket_counts) == point.count, (
            f"{key}: buckets {point.bucket_counts} of {point.count}"
        )
        assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
    if before is None:
        return
    if delta:
        assert point.start_time_unix_nano >= before.time_unix_nano, f"{key}: intervals overlap"
    else:
        assert point.start_time_unix_nano == before.start_time_unix_nano, f"{key} started twice"
        assert point.time_unix_nano >= before.time_unix_nano
        assert _amount(point) >= _amount(before), f"{key} fell from {_amount(before)} to {_amount(point)}"


def _amount(point: Any) -> float:
    return float(point.value if isinstance(point, NumberDataPoint) else point.count)


def _take(total: Total, point: Any, add: bool) -> None:
    if isinstance(point, NumberDataPoint):
        total.value = point.value + (total.value if add else 0)
        return
    total.value = point.sum + (total.value if add else 0)
    total.count = point.count + (total.count if add else 0)
    total.least = min(point.min, total.least) if add else point.min
    total.most = max(point.max, total.most) if add else point.max
    if isinstance(point, ExponentialHistogramDataPoint):
        inside = sum(point.positive.bucket_counts) + sum(point.negative.bucket_counts) + point.zero_count
        assert inside == point.count, f"{inside} in the buckets of {point.count}"
        return
    total.bounds = tuple(point.explicit_bounds)
    total.buckets = (
        tuple(a + b for a, b in zip(total.buckets, point.bucket_counts, strict=True))
        if add and total.buckets
        else tuple(point.bucket_counts)
    )


def comparable(found: Mapping[SeriesKey, Total]) -> dict[SeriesKey, tuple[Any, ...]]:
    """What is equal between two runs of one workload, of each series that counted anything."""
    made: dict[SeriesKey, tuple[Any, ...]] = {}
    for (name, labels), total in found.items():
        described = (total.kind, total.unit, total.brief)
        if total.kind in ("Sum", "Gauge"):
            if total.value:
                made[name, labels] = (*described, total.value)
        elif total.count:
            exact = (total.value, total.least, total.most, total.buckets)
            made[name, labels] = (
                *described,
                total.count,
                total.bounds,
                *(() if name in UNTIMED else (rounded(exact[0]), *exact[1:])),
            )
    return made


def rounded(value: float) -> float:
    """A sum of floats depends on the order in which they were added; those of the workload have fewer digits."""
    return float(f"{value:.12g}")


def same(expected: Mapping[Any, Any], found: Mapping[Any, Any], most: int = 5) -> None:
    """Raises AssertionError with the first differences, where there are any."""
    lines = [f"missing: {key}: {expected[key]}" for key in expected if key not in found]
    lines += [f"too many: {key}: {found[key]}" for key in found if key not in expected]
    lines += [
        f"differs: {key}: {_difference(expected[key], found[key])}"
        for key in expected
        if key in found and expected[key] != found[key]
    ]
    assert not lines, "\n".join([f"{len(lines)} differences", *lines[:most]])


def _difference(expected: Any, found: Any) -> str:
    if isinstance(expected, SpanForm):
        return "; ".join(
            f"{each.name}: {getattr(expected, each.name)} -> {getattr(found, each.name)}"
            for each in fields(expected)
            if getattr(expected, each.name) != getattr(found, each.name)
        )
    return f"{expected} -> {found}"


def derived(spans: Sequence[ReadableSpan]) -> dict[SeriesKey, tuple[int, float]]:
    """How many measurements, and of what sum, the conventions' own reference derives from spans of ours."""
    found: dict[SeriesKey, tuple[int, float]] = {}
    for span in spans:
        if IDENTITY not in (span.attributes or {}):
            continue
        seconds = ((span.end_time or 0) - (span.start_time or 0)) / 1e9
        for metric in names.METRICS:
            if metric.source == "span":
                for labels, value in measurements(metric, span.attributes or {}, seconds):
                    count, total = found.get((metric.name, labels), (0, 0.0))
                    found[metric.name, labels] = (count + 1, total + value)
    return found


def exemplars(batches: Iterable[MetricsData]) -> Iterator[tuple[SeriesKey, Any, Any]]:
    """Every exemplar that a reader received: its series, its point, itself."""
    for batch in batches:
        for key, _, point in series(batch):
            for exemplar in point.exemplars or ():
                yield key, point, exemplar


@dataclass
class Pointing:
    """What exemplars point at. An exemplar that several readers and collections have is one."""

    pairs: set[tuple[SeriesKey, int]] = field(default_factory=set)
    """Series of spans' metrics, and the ids of the spans that their exemplars point at."""
    alone: set[tuple[SeriesKey, int]] = field(default_factory=set)
    """Those of them whose span is the only one that the series can have this value from."""
    wrong: list[str] = field(default_factory=list)


def pointing(
    batches: Iterable[MetricsData],
    spans: Sequence[ReadableSpan],
    told: Mapping[str, float],
    *,
    timed: bool,
    together: bool = True,
) -> Pointing:
    """What the exemplars point at, and what is wrong with them.

    An exemplar is right when its span was exported and is one that its series counts, with its value. ``told`` has the
    seconds of calls whose duration is no matter of their span. ``timed``: all other durations are those of the spans
    themselves, as the library makes them. ``together``: an exemplar comes with the count of its value; the SDK takes a
    moment from one to the other, and a collection can come in between.
    """
    makers: dict[tuple[SeriesKey, float], set[int]] = {}
    series_of: dict[int, set[SeriesKey]] = {context_of(span).span_id: set() for span in spans}
    traces = {context_of(span).span_id: context_of(span).trace_id for span in spans}
    for span in spans:
        attributes, span_id = span.attributes or {}, context_of(span).span_id
        if IDENTITY not in attributes:
            continue
        own = ((span.end_time or 0) - (span.start_time or 0)) / 1e9
        seconds = told.get(identity(span), own)
        for metric in names.METRICS:
            if metric.source == "span":
                for labels, value in measurements(metric, attributes, seconds):
                    makers.setdefault(((metric.name, labels), value), set()).add(span_id)
                    series_of[span_id].add((metric.name, labels))
    found = Pointing()
    for key, point, exemplar in exemplars(batches):
        if exemplar.span_id is not None and traces.get(exemplar.span_id) != exemplar.trace_id:
            found.wrong.append(f"{key}: no span was exported for {exemplar}")
        elif DEFINED[key[0]].source == "span":
            _judge(found, key, point, exemplar, series_of, makers, timed or key[0] not in UNTIMED, together)
    return found


def _judge(
    found: Pointing,
    key: SeriesKey,
    point: Any,
    exemplar: Any,
    series_of: Mapping[int, set[SeriesKey]],
    makers: Mapping[tuple[SeriesKey, float], set[int]],
    exact: bool,
    together: bool,
) -> None:
    pair = key, exemplar.span_id
    found.pairs.add(pair)
    if key not in series_of.get(exemplar.span_id, ()):
        found.wrong.append(f"{key}: points at a span that it does not count: {exemplar}")
    if not exact:
        return
    made_by = makers.get((key, exemplar.value), set())
    if exemplar.span_id not in made_by:
        found.wrong.append(f"{key}: points at another span than the {len(made_by)} of {exemplar}")
    elif len(made_by) == 1:
        found.alone.add(pair)
    if together and bucket(point, exemplar.value) == 0:
        found.wrong.append(f"{key}: {exemplar.value} is in no bucket that counted")


def bucket(point: Any, value: float) -> int | None:
    """What the bucket of ``value`` counted in a delta or cumulative point; None where there are no such buckets."""
    if not isinstance(point, HistogramDataPoint):
        return None
    index = sum(bound < value for bound in point.explicit_bounds)
    return point.bucket_counts[index]
