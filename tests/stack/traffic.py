"""What the tests of the stack share: overlays, spans sent by hand, what arrived, and the series of a Collector."""

from __future__ import annotations

import json
import re
import secrets
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from context_telemetry.conventions import names
from context_telemetry.conventions.derive import Point
from context_telemetry.health.promql import label, prometheus_name
from context_telemetry.ops.derivation import resource_labels
from tools.processes import get_text

BY_NAME = {metric.name: metric for metric in names.METRICS}
_SAMPLE = re.compile(r"^(?P<name>[\w:]+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
# What the exporter says of every series, beside the labels of the conventions.
_OF_SERIES = {"job", "instance"}


def keeping(folder: Path, *, sampled: bool = False) -> Path:
    """A further configuration with which a gateway also writes what it was sent (or kept) as `spans_in` reads it."""
    kept = folder / "received" / "gateway"
    kept.mkdir(parents=True, exist_ok=True)
    overlay: dict[str, Any] = {
        "exporters": {
            "file/spans": {"path": str(kept / "traces-0.jsonl"), "flush_interval": "100ms"},
            "file/logs": {"path": str(kept / "events-0.jsonl"), "flush_interval": "100ms"},
        },
        "service": {
            "pipelines": {
                "traces/sample": {"exporters": ["otlp_grpc/traces", "file/spans"]},
                "traces/in": {"exporters": ["otlp_grpc/derive", "forward/sample"]},
                "logs/in": {"exporters": ["otlp_grpc/derive", "file/events", "file/logs"]},
            }
        },
    }
    if not sampled:
        overlay["service"]["pipelines"]["traces/sample"]["exporters"].pop()
        overlay["service"]["pipelines"]["traces/in"]["exporters"].append("file/spans")
    path = folder / "keeping.yaml"
    path.write_text(yaml.safe_dump(overlay), "utf-8")
    return path


def resource_spans(received: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """(resource attributes, span) for every span of `traces-*.jsonl` below a folder."""
    yield from _records(received, "traces", "resourceSpans", "scopeSpans", "spans")


def log_records(received: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Likewise for the log records of `events-*.jsonl`."""
    yield from _records(received, "events", "resourceLogs", "scopeLogs", "logRecords")


def _records(
    folder: Path, kind: str, resources: str, scopes: str, items: str
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for path in sorted(folder.glob(f"**/{kind}-*.jsonl")):
        for line in path.read_text("utf-8").splitlines():
            for resource in json.loads(line)[resources]:
                attributes = plain(resource.get("resource", {}).get("attributes", ()))
                for scope in resource[scopes]:
                    for item in scope[items]:
                        yield attributes, item


def plain(pairs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """OTLP's attributes as a mapping of plain values."""
    return {pair["key"]: _plain(pair["value"]) for pair in pairs}


def _plain(value: Mapping[str, Any]) -> Any:
    if not value:
        return None
    (kind, content), *_ = value.items()
    if kind == "arrayValue":
        return [_plain(each) for each in content.get("values", ())]
    return int(content) if kind == "intValue" else content


def as_derived(resource: Mapping[str, Any], span: Mapping[str, Any]) -> dict[str, Any]:
    """A span of OTLP JSON as `conventions.derive` takes it."""
    return {
        "name": span["name"],
        "kind": span.get("kind", 0),
        "start": int(span["startTimeUnixNano"]),
        "end": int(span["endTimeUnixNano"]),
        "attributes": plain(span.get("attributes", ())),
        "resource": dict(resource),
    }


def event_as_derived(resource: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """A log record of OTLP JSON as `conventions.derive` takes it."""
    return {
        "event_name": record.get("eventName", ""),
        "time": int(record.get("timeUnixNano", 0)),
        "attributes": plain(record.get("attributes", ())),
        "resource": dict(resource),
    }


@dataclass(frozen=True)
class Series:
    """The samples of one metric in the Prometheus text format, by (name, labels)."""

    samples: Mapping[tuple[str, frozenset[tuple[str, str]]], float]

    @classmethod
    def at(cls, url: str) -> Series:
        samples = {}
        for line in get_text(url).splitlines():
            match = None if line.startswith("#") else _SAMPLE.match(line)
            if match:
                labels = frozenset(
                    (key, value.replace(r"\"", '"').replace(r"\\", "\\"))
                    for key, value in _LABEL.findall(match["labels"] or "")
                    if key not in _OF_SERIES
                )
                samples[(match["name"], labels)] = float(match["value"])
        return cls(samples)

    def total(self, name: str, **labels: str) -> float:
        """The sum over all series of a name that have these labels."""
        wanted = set(labels.items())
        return sum(v for (found, has), v in self.samples.items() if found == name and wanted <= has)

    def of(self, prefix: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        return {key: value for key, value in self.samples.items() if key[0].startswith(prefix)}


def expected(points: Sequence[Point], resource: Mapping[str, str]) -> Series:
    """The series that ``points`` are in Prometheus, where every process has the same ``resource`` labels."""
    samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for point in points:
        metric = BY_NAME[point.name]
        common = {(label(key), resource[key]) for key in resource_labels(metric) if key in resource}
        labels = common | {(label(key), _text(value)) for key, value in point.attributes.items()}
        if metric.instrument != "histogram":
            samples[(prometheus_name(metric), frozenset(labels))] = point.value
            continue
        samples[(prometheus_name(metric, "_sum"), frozenset(labels))] = point.value
        samples[(prometheus_name(metric, "_count"), frozenset(labels))] = point.count
        so_far = 0
        for bound, count in zip((*metric.boundaries, float("inf")), point.buckets, strict=True):
            so_far += count
            key = (prometheus_name(metric, "_bucket"), frozenset(labels | {("le", _bound(bound))}))
            samples[key] = so_far
    return Series(samples)


def normal(series: Series) -> Series:
    """With every boundary written in one way."""
    return Series(
        {
            (name, frozenset((key, _bound(value) if key == "le" else value) for key, value in labels)): number
            for (name, labels), number in series.samples.items()
        }
    )


def _bound(text: str | float) -> str:
    return str(float(text))


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def differences(found: Series, wanted: Series) -> list[str]:
    """What differs, series by series; sums of seconds may differ in their last digits."""
    told = []
    for key in sorted({*found.samples, *wanted.samples}, key=str):
        here, there = found.samples.get(key), wanted.samples.get(key)
        same = here is not None and there is not None and abs(here - there) <= 1e-9 * max(1.0, abs(there))
        if not same:
            told.append(f"{key[0]}{dict(key[1])}: {here} is not {there}")
    return told


def post(url: str, signal: str, body: Mapping[str, Any]) -> None:
    """Sends OTLP as JSON; raises HTTPError where it is not taken."""
    request = urllib.request.Request(
        f"{url}/v1/{signal}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60):
        pass


def pairs(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Plain values as OTLP's attributes."""
    return [{"key": key, "value": _typed(value)} for key, value in attributes.items()]


def _typed(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_typed(each) for each in value]}}
    return {"stringValue": str(value)}


def entry(
    outcome: str = "ok", milliseconds: float = 10, has: Mapping[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    """A span as of a tool call in a trace of its own, with ``has``, and with ``more`` where `__` is a dot."""
    end = time.time_ns()
    attributes: dict[str, Any] = {
        "dataface.operation.name": "tool.call",
        "dataface.entry": True,
        "dataface.surface": "mcp",
        "dataface.client.name": "cursor",
        "dataface.outcome": outcome,
        "mcp.method.name": "tools/call",
        "gen_ai.tool.name": "execute_query",
        **(has or {}),
        **{key.replace("__", "."): value for key, value in more.items()},
    }
    return {
        "traceId": secrets.token_hex(16),
        "spanId": secrets.token_hex(8),
        "name": "tools/call execute_query",
        "kind": 2,
        "startTimeUnixNano": str(end - int(milliseconds * 1e6)),
        "endTimeUnixNano": str(end),
        "attributes": pairs(attributes),
    }


RESOURCE = {"service.name": "dataface", "service.namespace": "shop", "service.instance.id": "one"}


def spans_body(
    spans: Sequence[Mapping[str, Any]], resource: Mapping[str, Any] = RESOURCE, scope: str = names.SCOPE
) -> dict[str, Any]:
    """A request with these spans."""
    scoped = {"scope": {"name": scope}, "spans": list(spans)}
    return {"resourceSpans": [{"resource": {"attributes": pairs(resource)}, "scopeSpans": [scoped]}]}


def logs_body(
    records: Sequence[Mapping[str, Any]], resource: Mapping[str, Any] = RESOURCE, scope: str = names.SCOPE
) -> dict[str, Any]:
    """A request with these log records."""
    scoped = {"scope": {"name": scope}, "logRecords": list(records)}
    return {"resourceLogs": [{"resource": {"attributes": pairs(resource)}, "scopeLogs": [scoped]}]}


def sum_body(name: str, value: int, scope: str, resource: Mapping[str, Any] = RESOURCE) -> dict[str, Any]:
    """A request with one cumulative counter."""
    point = {"asInt": str(value), "startTimeUnixNano": "1", "timeUnixNano": str(time.time_ns())}
    counter = {"name": name, "sum": {"dataPoints": [point], "aggregationTemporality": 2, "isMonotonic": True}}
    scoped = {"scope": {"name": scope}, "metrics": [counter]}
    return {"resourceMetrics": [{"resource": {"attributes": pairs(resource)}, "scopeMetrics": [scoped]}]}


def telemetry(url: str, name: str, **labels: str) -> float:
    """The sum of one of a Collector's own metrics."""
    return Series.at(url).total(name, **labels)


def dropped_points(url: str) -> float:
    """Points that `delta_to_cumulative` could not add: any of them is a number that is too low."""
    return sum(
        value
        for (name, labels), value in Series.at(url).samples.items()
        if name.startswith("otelcol_deltatocumulative_datapoints") and "error" in dict(labels)
    )
