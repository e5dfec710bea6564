"""The comparisons notice what they are for: each fault here is put into what a sound run left, and has to be found."""

from __future__ import annotations

import copy
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
from opentelemetry.sdk.metrics.export import HistogramDataPoint, MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Status, StatusCode

from context_telemetry.conventions.derive import measurements
from soundness.observing import Outcome, observe_all
from soundness.telemetry import (
    DEFINED,
    Labels,
    comparable,
    context_of,
    forms,
    identity,
    pointing,
    same,
    totals,
)
from soundness.workload import IDENTITY, plan, run, timed, walk

_PLANS = plan(4, 400)
_TOLD = timed(step for roots in _PLANS for step in walk(roots))
_OF_TOLD = (
    "mcp.server.operation.duration",
    "gen_ai.client.operation.duration",
    "http.server.request.duration",
)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "60")
        return observe_all("hand", tmp_path_factory.mktemp("sharp"), lambda way: run(_PLANS, way))


# -- spans --------------------------------------------------------------------------------------------------


def _changed(
    spans: list[ReadableSpan], which: Callable[[ReadableSpan], object], **changes: Any
) -> list[ReadableSpan]:
    """The spans, with one of those that ``which`` is true of replaced by a changed copy."""
    index = next(number for number, span in enumerate(spans) if which(span))
    changed = copy.copy(spans[index])
    for name, value in changes.items():
        setattr(changed, f"_{name}", value(spans[index]) if callable(value) else value)
    return [*spans[:index], changed, *spans[index + 1 :]]


def _without_one(attributes: Any) -> dict[str, Any]:
    kept = dict(attributes)
    del kept["dataface.outcome"]
    return kept


_SPAN_FAULTS: dict[str, Callable[[list[ReadableSpan]], list[ReadableSpan]]] = {
    "lost": lambda spans: spans[1:],
    "twice": lambda spans: [*spans, spans[3]],
    "an attribute lost": lambda spans: _changed(
        spans,
        lambda span: "dataface.outcome" in (span.attributes or {}),
        attributes=lambda span: _without_one(span.attributes),
    ),
    "renamed": lambda spans: _changed(spans, lambda span: True, name="another"),
    "an error forgotten": lambda spans: _changed(
        spans, lambda span: span.status.status_code is StatusCode.ERROR, status=Status()
    ),
    "an event lost": lambda spans: _changed(
        spans, lambda span: span.events, events=lambda span: span.events[1:]
    ),
    "a link lost": lambda spans: _changed(spans, lambda span: span.links, links=lambda span: span.links[1:]),
    "an orphan": lambda spans: _changed(
        spans, lambda span: span.parent and not span.parent.is_remote, parent=None
    ),
    "another's child": lambda spans: _changed(
        spans,
        lambda span: span.parent and not span.parent.is_remote,
        parent=lambda span: next(
            each.context
            for each in spans
            if each.context.trace_id == span.parent.trace_id and each.context != span.parent
        ),
    ),
    "another trace than its parent": lambda spans: _changed(
        spans,
        lambda span: span.parent is not None,
        parent=lambda span: next(
            each.context for each in spans if each.context.trace_id != span.context.trace_id
        ),
    ),
}


@pytest.mark.parametrize("fault", _SPAN_FAULTS)
def test_a_fault_of_spans_is_noticed(sound: Outcome, fault: str) -> None:
    expected = forms(sound.spans)
    same(expected, forms(list(sound.spans)))
    with pytest.raises(AssertionError):
        same(expected, forms(_SPAN_FAULTS[fault](list(sound.spans))))


# -- points -------------------------------------------------------------------------------------------------

Batches = list[MetricsData]


def _point(
    batches: Batches, change: Callable[[Any], Any], name: str = "dataface.payload.size", nth: int = 0
) -> Batches:
    """The batches, with the first point of the ``nth`` metric of that name changed; see `_points`."""
    return _points(batches, change, name, nth)


def _points(batches: Batches, change: Callable[[Any], Any], name: str, nth: int | None = None) -> Batches:
    """The batches, with the points of that metric changed, or taken away where the change is None.

    ``nth``: of the metrics of that name in all batches only this one's first point.
    """
    made, seen = [], 0
    for batch in batches:
        resources = []
        for resource in batch.resource_metrics:
            scopes = []
            for scope in resource.scope_metrics:
                metrics = []
                for metric in scope.metrics:
                    points: list[Any] = list(metric.data.data_points)
                    if metric.name == name:
                        these = slice(None) if nth is None else slice(seen == nth)
                        points[these] = [each for each in map(change, points[these]) if each is not None]
                        seen += 1
                    data: Any = replace(cast(Any, metric.data), data_points=points)
                    metrics.append(replace(metric, data=data))
                scopes.append(replace(scope, metrics=metrics))
            resources.append(replace(resource, scope_metrics=scopes))
        made.append(replace(batch, resource_metrics=resources))
    assert seen > (nth or 0)
    return made


def _moved(point: HistogramDataPoint) -> HistogramDataPoint:
    """One measurement in the bucket beside its own."""
    counts = list(point.bucket_counts)
    index = next(number for number, count in enumerate(counts) if count)
    counts[index] -= 1
    counts[index - 1] += 1
    return replace(point, bucket_counts=counts)


_DELTA_FAULTS: dict[str, Callable[[Batches], Batches]] = {
    "a point lost": lambda batches: _point(batches, lambda point: None),
    "a collection lost": lambda batches: batches[:1] + batches[2:],
    "a collection twice": lambda batches: [*batches, batches[0]],
    "a measurement lost": lambda batches: _point(
        batches,
        lambda point: replace(point, count=point.count - 1, bucket_counts=_fewer(point.bucket_counts)),
    ),
    "a request not counted": lambda batches: _point(
        batches, lambda point: replace(point, value=point.value - 1), "dataface.context.served"
    ),
    "the wrong bucket": lambda batches: _point(batches, _moved),
    "a byte too many": lambda batches: _point(batches, lambda point: replace(point, sum=point.sum + 1)),
    "another maximum": lambda batches: _point(batches, lambda point: replace(point, max=point.max + 10**8)),
    "another label": lambda batches: _point(
        batches, lambda point: replace(point, attributes={**point.attributes, "dataface.surface": "cli"})
    ),
    "an interval that overlaps": lambda batches: [
        *batches[:-1],
        *_point([batches[-1]], lambda point: replace(point, start_time_unix_nano=1)),
    ],
    "counts that are not those of the buckets": lambda batches: _point(
        batches, lambda point: replace(point, count=point.count + 1)
    ),
}
_CUMULATIVE_FAULTS: dict[str, Callable[[Batches], Batches]] = {
    "a series that starts anew": lambda batches: _point(
        batches, lambda point: replace(point, start_time_unix_nano=point.start_time_unix_nano + 1), nth=1
    ),
    "a count that falls": lambda batches: [*batches, *_point(batches[-1:], _later_and_less)],
    "temporalities mixed": lambda batches: batches,
}


def _later_and_less(point: HistogramDataPoint) -> HistogramDataPoint:
    return replace(
        point,
        time_unix_nano=point.time_unix_nano + 1,
        count=point.count - 1,
        bucket_counts=_fewer(point.bucket_counts),
    )


def _fewer(counts: Any) -> list[int]:
    made = list(counts)
    made[next(number for number, count in enumerate(made) if count)] -= 1
    return made


@pytest.mark.parametrize("fault", _DELTA_FAULTS)
def test_a_fault_of_deltas_is_noticed(sound: Outcome, fault: str) -> None:
    expected = comparable(totals(sound.readers.kept["cumulative"].batches, delta=False))
    batches = sound.readers.kept["delta"].batches
    same(expected, comparable(totals(batches, delta=True)))
    with pytest.raises(AssertionError):
        same(expected, comparable(totals(_DELTA_FAULTS[fault](batches), delta=True)))


@pytest.mark.parametrize("fault", _CUMULATIVE_FAULTS)
def test_a_fault_of_cumulative_points_is_noticed(sound: Outcome, fault: str) -> None:
    batches = sound.readers.kept["cumulative"].batches
    with pytest.raises(AssertionError):
        totals(_CUMULATIVE_FAULTS[fault](batches), delta=fault == "temporalities mixed")


# -- exemplars ----------------------------------------------------------------------------------------------


def _pointing(
    sound: Outcome, metric: str, span: Callable[[Any, ReadableSpan], ReadableSpan | None]
) -> Batches:
    """The batches, with the first exemplar of ``metric`` that ``span`` has another one for pointing at that."""
    by_id = {each.context.span_id: each for each in sound.spans}
    changed: list[ReadableSpan] = []

    def change(point: Any) -> Any:
        exemplars = list(point.exemplars)
        for index, exemplar in enumerate(exemplars):
            other = span(point, by_id[exemplar.span_id])
            if other is not None and not changed:
                changed.append(other)
                ids = {"trace_id": context_of(other).trace_id, "span_id": context_of(other).span_id}
                exemplars[index] = replace(exemplar, **ids)
        return replace(point, exemplars=exemplars)

    batches = _points(sound.readers.kept["cumulative"].batches, change, metric)
    assert changed
    return batches


def _wrong(batches: Batches, spans: list[ReadableSpan]) -> list[str]:
    return pointing(batches, spans, _TOLD, timed=False).wrong


def _size(span: ReadableSpan) -> Any:
    return (span.attributes or {}).get("dataface.payload.size")


def _measured(metric: str, span: ReadableSpan) -> list[tuple[Labels, float]]:
    """By their series, the values that ``metric`` has of a span."""
    attributes = span.attributes or {}
    seconds = _TOLD.get(identity(span), 0.0)
    return list(measurements(DEFINED[metric], attributes, seconds)) if IDENTITY in attributes else []


def _alike(sound: Outcome, metric: str, point: Any, right: ReadableSpan) -> ReadableSpan | None:
    """Another span that the same point has counted, in the same bucket; None where there is none."""
    ((labels, value),) = _measured(metric, right)
    bucket = bisect_left(point.explicit_bounds, value)
    for span in sound.spans:
        for its, another in _measured(metric, span):
            if its == labels and span is not right and bisect_left(point.explicit_bounds, another) == bucket:
                return span
    return None


@pytest.mark.parametrize(
    "fault", ["none", "a foreign span", "a span of another size", "no span", "another span of that bucket"]
)
@pytest.mark.parametrize("metric", ["dataface.payload.size", "mcp.server.operation.duration"])
def test_an_exemplar_that_points_at_a_wrong_span_is_noticed(sound: Outcome, metric: str, fault: str) -> None:
    def other(point: Any, right: ReadableSpan) -> ReadableSpan | None:
        if fault == "a foreign span":
            return next(span for span in sound.spans if span.name.startswith("foreign"))
        if fault == "a span of another size":
            return next(span for span in sound.spans if _size(span) not in (None, _size(right)))
        return _alike(sound, metric, point, right) if fault == "another span of that bucket" else right

    spans = sound.spans
    if fault == "no span":
        spans = [span for span in spans if not _measured(metric, span)]
    assert bool(_wrong(_pointing(sound, metric, other), spans)) == (fault != "none")


def test_no_two_calls_have_a_value_in_common_by_which_an_exemplar_could_be_mistaken(sound: Outcome) -> None:
    for metric in (
        "dataface.payload.size",
        "dataface.conversation.size",
        "dataface.staleness.age",
        *_OF_TOLD,
    ):
        values = [each for span in sound.spans for each in _measured(metric, span)]
        assert values
        assert len(values) == len(set(values)), metric


def test_a_run_is_sound_before_a_fault_is_put_into_it(sound: Outcome) -> None:
    assert _wrong(sound.readers.kept["cumulative"].batches, sound.spans) == []
    assert (sound.errors, sound.drops) == ({}, {})
