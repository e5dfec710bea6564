"""Spans and log records that a process has told, by whichever exporter: a host's, local files, OTLP over HTTP."""

from __future__ import annotations

import base64
import gzip
import importlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")


@dataclass(frozen=True)
class Told:
    """One span as an exporter got it; ids are hexadecimal."""

    name: str
    kind: str
    scope: str
    id: str
    parent: str | None
    trace: str
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class Logged:
    """One log record, and the span that it says it was written in (empty: in none)."""

    logger: str
    trace: str
    span: str
    text: Any = None


def of_host(file: Path) -> list[Told]:
    """Everything that a host's exporter wrote to ``file`` (`host.py`), in the order in which it ended."""
    told = []
    for line in file.read_text("utf-8").splitlines():
        span = json.loads(line)
        context, parent = span["context"], span["parent_id"]
        told.append(
            Told(
                span["name"],
                span["kind"].removeprefix("SpanKind."),
                span["scope"] or "",
                _hex(context["span_id"]),
                parent and _hex(parent),
                _hex(context["trace_id"]),
                span["attributes"],
            )
        )
    return told


def _hex(identifier: str) -> str:
    return identifier.removeprefix("0x")


def of_files(state: Path) -> list[Told]:
    """Every span in the local files below a state folder, in the order in which it ended."""
    found = (span for scope in _lines(state, "traces", "Spans") for span in _told(scope))
    return [told for _, told in sorted(found, key=lambda each: each[0])]


def logs_of_files(state: Path) -> list[Logged]:
    """Every log record in the local files below a state folder."""
    return [record for scope in _lines(state, "events", "Logs") for record in _logged(scope)]


def _lines(state: Path, kind: str, signal: str) -> Iterator[dict[str, Any]]:
    for path in sorted(state.glob(f"*/{kind}-*.jsonl")):
        for line in path.read_text("utf-8").splitlines():
            yield from _scopes(json.loads(line), signal)


def _scopes(request: Mapping[str, Any], signal: str) -> Iterator[dict[str, Any]]:
    for resource in request[f"resource{signal}"]:
        yield from resource[f"scope{signal}"]


def _told(scope: Mapping[str, Any]) -> Iterator[tuple[int, Told]]:
    for span in scope["spans"]:
        told = Told(
            span["name"],
            _KINDS[span.get("kind", 0)],
            scope["scope"]["name"],
            span["spanId"],
            span.get("parentSpanId") or None,
            span["traceId"],
            {pair["key"]: _value(pair["value"]) for pair in span.get("attributes", ())},
        )
        yield int(span["endTimeUnixNano"]), told


def _logged(scope: Mapping[str, Any]) -> Iterator[Logged]:
    for record in scope["logRecords"]:
        where = record.get("traceId", ""), record.get("spanId", "")
        yield Logged(scope["scope"]["name"], *where, record.get("body") or None)


def _value(value: Mapping[str, Any]) -> Any:
    (kind, content), *_ = value.items()
    if kind == "arrayValue":
        return [_value(item) for item in content.get("values", ())]
    return int(content) if kind == "intValue" else content


@dataclass
class Sink:
    """What has come over OTLP: bodies by path."""

    port: int
    bodies: dict[str, list[bytes]] = field(default_factory=dict)

    @property
    def environ(self) -> dict[str, str]:
        """What sends a process's telemetry here."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        }

    def spans(self) -> list[Told]:
        """Every span, in the order in which it ended."""
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        bodies = self.bodies.get("/v1/traces", ())
        requests = (_plain(ExportTraceServiceRequest.FromString(body)) for body in bodies)
        found = (told for each in requests for scope in _scopes(each, "Spans") for told in _told(scope))
        return [told for _, told in sorted(found, key=lambda each: each[0])]

    def logs(self) -> list[Logged]:
        """Every log record."""
        from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

        bodies = self.bodies.get("/v1/logs", ())
        requests = (_plain(ExportLogsServiceRequest.FromString(body)) for body in bodies)
        return [record for each in requests for scope in _scopes(each, "Logs") for record in _logged(scope)]


def _plain(message: Any) -> dict[str, Any]:
    """OTLP's JSON of a request: Protobuf's own has ids in base64 and kinds by name."""
    # No import statement: the environment of `lint` has no types of it.
    json_format: Any = importlib.import_module("google.protobuf.json_format")
    plain: dict[str, Any] = json_format.MessageToDict(message, use_integers_for_enums=True)

    def ids(part: Any) -> None:
        for key, value in part.items() if isinstance(part, dict) else enumerate(part):
            if key in ("traceId", "spanId", "parentSpanId"):
                part[key] = base64.b64decode(value).hex()
            elif isinstance(value, (dict, list)):
                ids(value)

    ids(plain)
    return plain


@contextmanager
def sink() -> Iterator[Sink]:
    """An endpoint for OTLP over HTTP on a loopback port, which keeps what comes."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            taken.bodies.setdefault(self.path, []).append(
                gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
            )
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    taken = Sink(server.server_port)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield taken
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
