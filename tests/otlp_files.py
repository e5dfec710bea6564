"""Makes the local files that an observed process leaves behind, through the real SDK and the real encoder.

Only the clock and the ids are ours: time stands where a test puts it, and traces can be named in a test.
Run as a script it writes a large set to measure with: `python tests/otlp_files.py FOLDER SPANS`.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.json.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.json.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

Value = str | bool | int | float | Sequence[str]
Attributes = Mapping[str, Value]

SCOPE = "context_telemetry"
NANO = 1_000_000_000


@dataclass(frozen=True)
class Inner:
    """An inner operation, as a span below its entry."""

    operation: str
    attributes: Attributes = field(default_factory=dict)
    outcome: str = "ok"
    reasons: tuple[str, ...] = ()
    seconds: float = 0.01
    scope: str = SCOPE
    children: tuple[Inner, ...] = ()


@dataclass(frozen=True)
class Call:
    """An entry: one MCP request and what it did. `ago` is how many seconds ago it ended."""

    ago: float = 60.0
    method: str = "tools/call"
    tool: str = "execute_query"
    operation: str = "tool.call"
    surface: str = "mcp"
    client: str = "cursor"
    outcome: str = "ok"
    reasons: tuple[str, ...] = ()
    seconds: float = 0.05
    attributes: Attributes = field(default_factory=dict)
    inner: tuple[Inner, ...] = ()


class _Kept(SpanExporter):
    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans.extend(spans)
        return SpanExportResult.SUCCESS


class _SeededIds(RandomIdGenerator):
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def generate_span_id(self) -> int:
        return self._random.getrandbits(64) or 1

    def generate_trace_id(self) -> int:
        return self._random.getrandbits(128) or 1


class Process:
    """One observed process: its resource, its files. Spans are written when `flush` is called."""

    def __init__(
        self,
        folder: Path,
        *,
        pid: int = 4242,
        release: str = "0.4.0",
        seed: int = 1,
        now: float | None = None,
    ) -> None:
        self.folder, self.pid = folder, pid
        self.now = time.time() if now is None else now
        self.resource = Resource(
            {
                "service.name": "dataface",
                "service.namespace": "shop",
                "service.version": release,
                "service.instance.id": f"00000000-0000-4000-8000-{pid:012d}",
                "process.pid": pid,
                "telemetry.distro.name": "context-telemetry",
                "telemetry.distro.version": "0.1.0",
            }
        )
        self._kept = _Kept()
        provider = TracerProvider(resource=self.resource, id_generator=_SeededIds(seed * 1_000_003 + pid))
        provider.add_span_processor(SimpleSpanProcessor(self._kept))
        self._provider = provider
        self._request = 0

    def call(self, call: Call) -> str:
        """Record one entry with its inner operations; its trace id as hex."""
        end = int((self.now - call.ago) * NANO)
        start = end - int(call.seconds * NANO)
        self._request += 1
        attributes: dict[str, Value] = {
            "dataface.operation.name": call.operation,
            "dataface.entry": True,
            "dataface.surface": call.surface,
            "dataface.client.name": call.client,
            "mcp.method.name": call.method,
            "mcp.protocol.version": "2025-11-25",
            "network.transport": "pipe",
            "jsonrpc.request.id": str(self._request),
            "dataface.outcome": call.outcome,
        }
        name = call.method
        if call.operation == "tool.call":
            attributes |= {"gen_ai.tool.name": call.tool, "gen_ai.operation.name": "execute_tool"}
            name = f"{call.method} {call.tool}"
        if call.reasons:
            attributes["dataface.degradation.reasons"] = call.reasons
        attributes |= call.attributes
        tracer = self._provider.get_tracer(SCOPE, "0.1.0", "https://context-telemetry.dev/schemas/0.1.0")
        span = tracer.start_span(name, kind=SpanKind.SERVER, attributes=attributes, start_time=start)
        context = set_span_in_context(span)
        moment = start + 1_000_000
        for inner in call.inner:
            moment = self._inner(inner, context, moment, call)
        if "error.type" in attributes:
            span.set_status(Status(StatusCode.ERROR))
        span.end(end)
        return f"{span.get_span_context().trace_id:032x}"

    def _inner(self, inner: Inner, context: Context, start: int, call: Call) -> int:
        attributes: dict[str, Value] = {}
        if inner.scope == SCOPE:
            attributes = {
                "dataface.operation.name": inner.operation,
                "dataface.entry": False,
                "dataface.surface": call.surface,
                "dataface.client.name": call.client,
                "dataface.outcome": inner.outcome,
            }
            if inner.reasons:
                attributes["dataface.degradation.reasons"] = inner.reasons
        attributes |= inner.attributes
        kind = SpanKind.CLIENT if inner.operation == "query.execute" else SpanKind.INTERNAL
        span = self._provider.get_tracer(inner.scope).start_span(
            inner.operation,
            context=context,
            kind=kind,
            attributes=attributes,
            start_time=start,
        )
        moment = start
        for child in inner.children:
            moment = self._inner(child, set_span_in_context(span), moment, call)
        if "error.type" in attributes:
            span.set_status(Status(StatusCode.ERROR))
        end = start + int(inner.seconds * NANO)
        span.end(end)
        return end

    def flush(self, number: int = 1, *, batch: int = 64) -> Path:
        """Write what was recorded since the last flush as one more file; the file."""
        spans, self._kept.spans = self._kept.spans, []
        begun = min((span.start_time or 0) for span in spans) / NANO if spans else self.now
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(begun))
        path = self.folder / f"traces-{stamp}-{self.pid}-{number}.jsonl"
        self.folder.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as lines:
            for at in range(0, len(spans), batch):
                lines.write(_line(encode_spans(spans[at : at + batch]).to_dict()))
        return path

    def event(self, name: str, attributes: Mapping[str, Value], *, ago: float = 60.0) -> Path:
        """Append one event to the process's events file; the file."""
        record = LogRecord(
            timestamp=int((self.now - ago) * NANO),
            severity_number=SeverityNumber.INFO,
            severity_text="INFO",
            event_name=name,
            attributes=dict(attributes),
        )
        readable = ReadableLogRecord(record, self.resource, InstrumentationScope(SCOPE, "0.1.0"))
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self.now - 3600))
        path = self.folder / f"events-{stamp}-{self.pid}-1.jsonl"
        self.folder.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as lines:
            lines.write(_line(encode_logs([readable]).to_dict()))
        return path

    def state(
        self,
        *,
        phase: str = "began",
        active: int = 41,
        absent: int = 0,
        failed: int = 0,
        errors: int = 0,
        dropped: int = 0,
        places: Mapping[str, int] | None = None,
        missing: Sequence[str] = (),
        sampler: str | None = None,
        ago: float = 60.0,
    ) -> Path:
        """Append a `context_telemetry.state` event."""
        places = {"other": errors} if places is None else places
        attributes: dict[str, Value] = {
            "context_telemetry.phase": phase,
            "context_telemetry.hooks.active": active,
            "context_telemetry.hooks.absent": absent,
            "context_telemetry.hooks.failed": failed,
            "context_telemetry.errors": errors,
            "context_telemetry.dropped": dropped,
            "context_telemetry.settings.wrong": places.get("settings", 0),
            "context_telemetry.drop_count.other": dropped,
            **{f"context_telemetry.error_count.{place}": count for place, count in places.items()},
        }
        if missing:
            attributes["context_telemetry.hooks.missing"] = missing
        if sampler:
            attributes["context_telemetry.sampler"] = sampler
        return self.event("context_telemetry.state", attributes, ago=ago)


def _line(request: Mapping[str, object]) -> str:
    return json.dumps(request, separators=(",", ":")) + "\n"


def payload(size: int, kind: str = "tool_result", limit: int = 100_000) -> dict[str, Value]:
    return {"dataface.payload.size": size, "dataface.payload.kind": kind, "dataface.payload.limit": limit}


def age(seconds: float, layer: str = "dbt_manifest", limit: float | None = None) -> dict[str, Value]:
    promised: dict[str, Value] = {} if limit is None else {"dataface.staleness.limit": limit}
    return {"dataface.staleness.age": seconds, "dataface.staleness.layer": layer, **promised}


def database(rows: int = 50) -> dict[str, Value]:
    return {
        "db.system.name": "duckdb",
        "db.response.returned_rows": rows,
        "dataface.catalog.source": "shop",
    }


def healthy(ago: float, *, seconds: float = 0.05, size: int = 8625, client: str = "cursor") -> Call:
    """A query by a tool that went well, with the manifest beside it."""
    return Call(
        ago=ago,
        client=client,
        seconds=seconds,
        attributes=payload(size) | age(3600.0),
        inner=(
            Inner(
                "manifest.load", {"dataface.catalog.layers": ("dbt_manifest",), **age(3600.0)}, seconds=0.006
            ),
            Inner("query.execute", database(), seconds=0.02),
        ),
    )


def substituted(ago: float, *, client: str = "cursor") -> Call:
    """A query that named a source configured nowhere and was answered from another database."""
    return Call(
        ago=ago,
        client=client,
        outcome="degraded",
        reasons=("source_substituted",),
        attributes=payload(168),
        inner=(
            Inner(
                "query.execute",
                database(1) | {"dataface.catalog.source": "nosrc", "dataface.catalog.unresolved": 1},
                outcome="degraded",
                reasons=("source_substituted",),
                seconds=0.012,
            ),
        ),
    )


def not_there(ago: float) -> Call:
    """A page whose address leads nowhere, as a mistyped one does."""
    return Call(
        ago=ago,
        operation="page.serve",
        surface="dashboard",
        client="other",
        outcome="degraded",
        reasons=("resource_unknown",),
        attributes={"dataface.page": "/{face}", "dataface.catalog.unresolved": 1},
    )


def traffic(count: int, *, span: float = 3600.0, seed: int = 7, faults: bool = True) -> Iterator[Call]:
    """An hour (or `span` seconds) of mixed traffic with two clients and, unless told, a few faults."""
    chance = random.Random(seed)
    for number in range(count):
        ago = span * (1 - number / count)
        client = chance.choice(("cursor", "claude_code", "claude_code"))
        dice = chance.random()
        seconds = chance.lognormvariate(-3.2, 0.6)
        if faults and dice < 0.01:
            yield substituted(ago, client=client)
        elif faults and dice < 0.013:
            yield Call(
                ago=ago,
                client=client,
                seconds=seconds,
                outcome="failed",
                attributes={
                    **payload(675),
                    "error.type": "tool_error",
                    "dataface.error.code": "ERR-WAREHOUSE-RUNTIME",
                },
                inner=(
                    Inner(
                        "query.execute", database(0) | {"error.type": "CatalogException"}, outcome="failed"
                    ),
                ),
            )
        elif dice < 0.25:
            yield Call(
                ago=ago,
                method="resources/read",
                operation="resource.read",
                client=client,
                seconds=seconds,
                attributes={
                    "mcp.resource.uri": "dataface://docs/charts",
                    **payload(16_011, "resource", 262_144),
                },
            )
        elif dice < 0.45:
            yield Call(
                ago=ago,
                tool="render_dashboard",
                client=client,
                seconds=seconds * 3,
                attributes={**payload(6161), **age(5400.0)},
                inner=(
                    Inner(
                        "dashboard.render",
                        {
                            "dataface.face": "faces/orders.yml",
                            "dataface.charts.total": 4,
                            "dataface.charts.failed": 0,
                        },
                        seconds=seconds * 2,
                        children=(
                            Inner("query.execute", database(4)),
                            Inner("query.execute", database(30)),
                            Inner(
                                "catalog.resolve",
                                {"dataface.catalog.layers": ("dbt_adapter", "dbt_manifest")},
                            ),
                        ),
                    ),
                ),
            )
        else:
            yield healthy(ago, seconds=seconds, size=chance.randrange(200, 30_000), client=client)


def write_troubled(folder: Path, *, now: float | None = None) -> dict[str, str]:
    """A quarter of an hour in which much went wrong, in two processes; trace ids by what they show."""
    process = Process(folder, pid=4242, now=now)
    for number in range(40):
        process.call(healthy(900.0 - 20 * number))
    shown = {"substituted": process.call(substituted(180.0))}
    shown["charts"] = process.call(
        Call(
            ago=240.0,
            tool="render_dashboard",
            outcome="degraded",
            reasons=("charts_failed", "manifest_stale"),
            seconds=0.31,
            attributes={**payload(5120), **age(190_000.0, limit=86_400.0)},
            inner=(
                Inner(
                    "dashboard.render",
                    {
                        "dataface.face": "faces/orders.yml",
                        "dataface.charts.total": 3,
                        "dataface.charts.failed": 1,
                    },
                    outcome="degraded",
                    reasons=("charts_failed",),
                    seconds=0.24,
                    children=(
                        Inner("query.execute", database(12), seconds=0.03),
                        Inner(
                            "query.execute",
                            database(0)
                            | {
                                "error.type": "BinderException",
                                "dataface.error.code": "ERR-BINDER-UNKNOWN-COLUMN",
                            },
                            outcome="failed",
                            seconds=0.02,
                        ),
                        Inner(
                            "connect",
                            {"net.peer": "x"},
                            scope="opentelemetry.instrumentation.dbapi",
                            seconds=0.02,
                        ),
                    ),
                ),
                Inner(
                    "manifest.load",
                    {"dataface.catalog.layers": ("dbt_manifest",), **age(190_000.0, limit=86_400.0)},
                    outcome="degraded",
                    reasons=("manifest_stale",),
                    seconds=0.006,
                ),
            ),
        )
    )
    process.state(failed=1, active=40, missing=("dataface.core.dashboard:render_dashboard",), ago=890.0)
    process.flush()
    other = Process(folder, pid=4343, now=now, seed=2)
    for number in range(12):
        other.call(healthy(600.0 - 20 * number, client="claude_code"))
    shown["large"] = other.call(
        Call(
            ago=95.0,
            client="claude_code",
            tool="list_skills",
            outcome="degraded",
            reasons=("payload_over_budget",),
            seconds=0.04,
            attributes=payload(140_242, limit=50_000),
        )
    )
    shown["unknown"] = other.call(
        Call(
            ago=30.0,
            client="claude_code",
            method="resources/read",
            operation="resource.read",
            outcome="degraded",
            reasons=("resource_unknown",),
            seconds=0.004,
            attributes={"mcp.resource.uri": "dataface://docs/error-reference", **payload(43, "resource")},
        )
    )
    shown["failed"] = other.call(
        Call(
            ago=20.0,
            client="claude_code",
            outcome="failed",
            attributes={
                **payload(675),
                "error.type": "tool_error",
                "dataface.error.code": "ERR-WAREHOUSE-RUNTIME",
            },
            inner=(
                Inner("query.execute", {"error.type": "CatalogException", **database(0)}, outcome="failed"),
            ),
        )
    )
    other.state()
    path = other.flush()
    with path.open("a", encoding="utf-8") as lines:
        lines.write('{"resourceSpans": [{"resource": {"attri')
    (folder / "traces-20260101T000000Z-1-1.jsonl").write_bytes(bytes(range(256)))
    return shown


def write_spans(
    folder: Path, spans: int, *, processes: int = 4, faults: bool = True, span: float = 3600.0
) -> int:
    """Write at least `spans` spans of an hour's traffic, as several processes; how many were written."""
    written = 0
    for number in range(processes):
        process = Process(folder, pid=4000 + number, seed=number)
        for call in traffic(spans // processes * 10 // 24, span=span, seed=number, faults=faults):
            process.call(call)
        process.state()
        written += len(process._kept.spans)
        process.flush()
    return written


if __name__ == "__main__":
    print(write_spans(Path(sys.argv[1]), int(sys.argv[2])), "spans")
