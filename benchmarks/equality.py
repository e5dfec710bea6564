"""Whether sides emit the same telemetry and lose none of it: otherwise their costs cannot be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from opentelemetry.sdk.metrics.export import HistogramDataPoint, MetricsData
from opentelemetry.sdk.trace import ReadableSpan

from benchmarks.homes import Memory, Telemetry
from benchmarks.shapes import Shape, is_per_item, spans_of
from benchmarks.sides import SIDES, Bare, side

_WITH_EXEMPLARS: tuple[Shape, ...] = ("slow", "degraded")
"""Where points have exemplars on every side. In other calls by hand has them and ours do not."""
_CALLS = 3


class UnequalError(RuntimeError):
    """The sides do not emit the same telemetry, or one of them loses some."""


@dataclass(frozen=True)
class Emitted:
    """What a few calls emitted.

    Spans: names, kinds, statuses, attributes with values, and the attributes of the parent. Points: labels, buckets,
    counts, sums of sizes; and whether points of a histogram have exemplars, all of which are spans that were emitted.
    """

    spans: Counter[tuple[object, ...]]
    points: frozenset[tuple[object, ...]]
    calls: int

    def __str__(self) -> str:
        """One call's."""
        spans = sum(self.spans.values()) // self.calls
        attributes = sum((len(each) - 4) * times for each, times in self.spans.items()) // self.calls
        counts = {"span": spans, "attribute": attributes, "series of metrics": len(self.points)}
        return ", ".join(
            f"{n or 'no'} {what}{'s' * (n != 1 and what[-1] != 's')}" for what, n in counts.items()
        )


def verify_equal(shape: Shape, telemetry: Telemetry, sides: Sequence[str]) -> Emitted:
    """What each of ``sides`` emits for three calls. Raises UnequalError where one differs from the first."""
    first, *others = sides
    reference = _emitted(first, shape, telemetry)
    for other in others:
        found = _emitted(other, shape, telemetry)
        if found != reference:
            theirs, ours = _apart(reference, found), _apart(found, reference)
            raise UnequalError(f"{shape}, {telemetry}: only {first} emits {theirs}, only {other} {ours}")
    return reference


def _apart(one: Emitted, other: Emitted) -> list[object]:
    return [*(one.spans - other.spans).items(), *(one.points - other.points)]


def verify_complete(name: str, contestant: Bare, shape: Shape, units: int, turns: int) -> None:
    """Raises UnequalError where side ``name`` has exported or counted another number than it was called in its turns.

    Every call is counted, whatever becomes of its spans.
    """
    if contestant.home is None:
        return
    home, place = contestant.home, contestant.home.place
    calls = turns if is_per_item(shape) else units * turns
    spans = calls * spans_of(shape)
    home.collect()
    if (arrived := place.spans()) != (spans if home.exports else 0):
        raise UnequalError(f"{name} exported {arrived} of the {spans} spans of {calls} calls")
    counted = place.counts() if place.readers else {}
    for metric, times in (("dataface.context.served", calls), ("dataface.operation.duration", spans)):
        if place.readers and counted[metric] != times:
            raise UnequalError(f"{name} counted {counted[metric]} of {times} in {metric}")


def _emitted(name: str, shape: Shape, telemetry: Telemetry) -> Emitted:
    contestant = SIDES[name](shape, telemetry, keep=True)
    try:
        made = side(contestant, shape)
        made.before()
        made.run(_CALLS)
        home = contestant.home
        assert home is not None
        place = home.place
        assert isinstance(place, Memory)
        # First of all: exemplars are gone with the first collection.
        data = place.reader.get_metrics_data() if place.readers else None
        home.collect()
        kept = place.exporter.kept or []
        ids = {context.span_id for span in kept if (context := span.get_span_context())}
        shows = shape in _WITH_EXEMPLARS
        points = frozenset(_points(data, ids if shows else None))
        spans = Counter(_comparable(span, kept) for span in kept)
        return Emitted(spans, points, 1 if is_per_item(shape) else _CALLS)
    finally:
        contestant.close()


def _points(data: MetricsData | None, spans: set[int] | None) -> Iterator[tuple[object, ...]]:
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    labels = tuple(sorted((point.attributes or {}).items()))
                    if not isinstance(point, HistogramDataPoint):
                        yield (metric.name, point.value, labels)  # type: ignore[union-attr]  # a number's
                        continue
                    # How long each call took is nobody's to repeat, how much it returned is.
                    amount = point.sum if "size" in metric.name else None
                    shown = {each.span_id for each in point.exemplars} if spans is not None else set()
                    right = bool(shown) and shown <= (spans or set())
                    yield (metric.name, point.count, amount, tuple(point.explicit_bounds), labels, right)


def _comparable(span: ReadableSpan, others: Sequence[ReadableSpan]) -> tuple[object, ...]:
    above = span.parent and next((each for each in others if _id(each) == span.parent.span_id), None)
    parent = tuple(sorted((above.attributes or {}).items())) if above else ()
    attributes = sorted((span.attributes or {}).items())
    return (span.name, span.kind, span.status.status_code, parent, *attributes)


def _id(span: ReadableSpan) -> int:
    context = span.get_span_context()
    return context.span_id if context else 0
