"""What the conformance tests share: OTLP/JSON lines as plain records, the comparison of two counts.

Not for the library: `history` reads files at size, this reads a test's few lines exactly.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from memory import Memory

from context_telemetry.conventions import names
from context_telemetry.conventions.check import check, unused
from context_telemetry.conventions.derive import Point, derive

Record = dict[str, Any]


def read_folder(folder: Path) -> tuple[list[Record], list[Record]]:
    """The spans and events of our scope in every local file below ``folder``."""
    lines = [
        json.loads(line)
        for path in sorted(folder.rglob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    return list(spans_of(lines)), list(events_of(lines))


def spans_of(requests: Iterable[Mapping[str, Any]]) -> Iterator[Record]:
    """The spans of our scope, or with an operation of ours, in OTLP/JSON ExportTraceServiceRequests."""
    for scope, resource, span in _records(requests, "resourceSpans", "scopeSpans", "spans"):
        yield {
            "name": span["name"],
            "kind": span["kind"],
            "start": int(span["startTimeUnixNano"]),
            "end": int(span["endTimeUnixNano"]),
            "attributes": attributes_of(span),
            "resource": resource,
            "scope": scope,
        }


def events_of(requests: Iterable[Mapping[str, Any]]) -> Iterator[Record]:
    """The events of our scope in OTLP/JSON ExportLogsServiceRequests."""
    for _, resource, record in _records(requests, "resourceLogs", "scopeLogs", "logRecords"):
        yield {
            "event_name": record["eventName"],
            "time": int(record.get("timeUnixNano") or record["observedTimeUnixNano"]),
            "attributes": attributes_of(record),
            "resource": resource,
        }


def points_of(data: Any) -> list[Point]:
    """What the SDK aggregated (a MetricsData, cumulative), as points of `derive`; our scope only."""
    instruments = {metric.name: metric for metric in names.METRICS}
    points = []
    for resource in data.resource_metrics if data is not None else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics if scope.scope.name == names.SCOPE else ():
                for point in metric.data.data_points:
                    attributes = dict(sorted(point.attributes.items()))
                    if instruments.get(metric.name, names.METRICS[0]).instrument == "histogram":
                        buckets = tuple(point.bucket_counts)
                        points.append(Point(metric.name, attributes, point.sum, point.count, buckets))
                    else:
                        points.append(Point(metric.name, attributes, float(point.value)))
    return sorted(points, key=lambda point: (point.name, str(point.attributes)))


def assert_conforms(folder: Path, *, complete: bool = False) -> None:
    """Everything in ``folder`` is as declared; with ``complete``, nothing declared is missing from it."""
    spans, events = read_folder(folder)
    assert spans, f"no spans in {folder}"
    points = derive(spans, events)
    assert_none(check(spans, events, points))
    if complete:
        assert_none(unused(spans, events, points))


def differences(left: Iterable[Point], right: Iterable[Point]) -> list[str]:
    """Where two ways of counting disagree. Sums may differ in the last digits, counts and buckets may not."""
    sides = [
        {(point.name, tuple(point.attributes.items())): point for point in side} for side in (left, right)
    ]
    found = []
    for key in sorted(set(sides[0]) | set(sides[1]), key=str):
        one, other = sides[0].get(key), sides[1].get(key)
        if one is None or other is None:
            found.append(f"{key}: only on the {'right' if one is None else 'left'}")
        elif (one.count, one.buckets) != (other.count, other.buckets) or not _near(one.value, other.value):
            found.append(f"{key}: {one} and {other}")
    return found


def _near(one: float, other: float) -> bool:
    return abs(one - other) <= 1e-6 * max(1.0, abs(one))


def _records(
    requests: Iterable[Mapping[str, Any]], resources: str, scopes: str, records: str
) -> Iterator[tuple[str, Record, Record]]:
    for request in requests:
        for resource in request.get(resources, ()):
            about = attributes_of(resource.get("resource", {}))
            for scope in resource[scopes]:
                name = scope.get("scope", {}).get("name", "")
                for record in scope[records]:
                    if name == names.SCOPE or names.DATAFACE_OPERATION_NAME in attributes_of(record):
                        yield name, about, record


def attributes_of(holder: Mapping[str, Any]) -> Record:
    """The attributes of an OTLP/JSON span, log record or resource as a plain dict."""
    return {pair["key"]: _plain(pair["value"]) for pair in holder.get("attributes", ())}


def _plain(value: Mapping[str, Any]) -> Any:
    ((kind, inner),) = value.items()
    if kind == "intValue":
        return int(inner)
    if kind == "doubleValue":
        return float(inner)
    return [_plain(item) for item in inner.get("values", ())] if kind == "arrayValue" else inner


def records_of(memory: Memory) -> tuple[list[Record], list[Record]]:
    """The spans and events that were recorded in memory, in the shape of those that are read from files."""
    spans = [
        {
            "name": span.name,
            "kind": span.kind.value + 1,
            "start": span.start_time,
            "end": span.end_time,
            "attributes": dict(span.attributes or {}),
            "resource": {},
            "scope": span.instrumentation_scope.name,
        }
        for span in memory.spans
        if span.instrumentation_scope is not None
        and (
            span.instrumentation_scope.name == names.SCOPE
            or names.DATAFACE_OPERATION_NAME in (span.attributes or {})
        )
    ]
    events = [
        {"event_name": name, "time": number, "attributes": said, "resource": {}}
        for number, (name, said) in enumerate(memory.events)
    ]
    return spans, events


def assert_memory_conforms(memory: Memory) -> None:
    """What was recorded is as declared, and the process counted what its spans and events give."""
    spans, events = records_of(memory)
    assert spans
    derived = derive(spans, events)
    assert_none(check(spans, events, derived))
    assert_none(differences(points_of(memory.metrics_data()), derived))


def assert_none(findings: list[str]) -> None:
    """Fail with the findings, one a line, if there are any."""
    assert not findings, "\n".join(dict.fromkeys(findings))
