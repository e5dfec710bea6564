"""An OTLP/HTTP endpoint in this process that keeps what it is sent, by the process that sent it."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Sink:
    """``spans`` counts, by process id, what spans are called: by their table, or else by their name.

    ``counted`` has what each metric's points came to when they were sent last, also by process id: temporality is
    cumulative where nobody says otherwise.
    """

    def __init__(self, port: int) -> None:
        self.environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        }
        self.spans: defaultdict[int, Counter[str]] = defaultdict(Counter)
        self.counted: defaultdict[int, dict[str, int]] = defaultdict(dict)
        self._lock = threading.Lock()

    def take(self, path: str, body: bytes) -> None:
        """Keep the body of a request. Raises google.protobuf.message.DecodeError for what is none."""
        with self._lock:
            if path.endswith("/traces"):
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    spans = [span for scope in resource.scope_spans for span in scope.spans]
                    self.spans[_process(resource)].update(map(_called, spans))
            elif path.endswith("/metrics"):
                for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                    metrics = [metric for scope in resource.scope_metrics for metric in scope.metrics]
                    for metric in metrics:
                        self.counted[_process(resource)][metric.name] = _counted(metric)


def _process(resource: Any) -> int:
    said = {each.key: each.value for each in resource.resource.attributes}
    return int(said["process.pid"].int_value)


def _called(span: Any) -> str:
    said = {each.key: each.value.string_value for each in span.attributes}
    return str(said.get("dataface.catalog.table", span.name))


def _counted(metric: Any) -> int:
    if metric.HasField("histogram"):
        return sum(point.count for point in metric.histogram.data_points)
    return sum(point.as_int for point in metric.sum.data_points)


@contextmanager
def listening(delay: float = 0.0) -> Iterator[Sink]:
    """A sink until the end of the block, which answers each request ``delay`` seconds after it has it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # connections are kept, as those to a Collector are

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            sink.take(self.path, body)
            time.sleep(delay)  # what an answer takes
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            if not isinstance(sys.exc_info()[1], ConnectionError):  # whoever is killed says nothing more
                super().handle_error(request, client_address)

    server = Server(("127.0.0.1", 0), Handler)
    sink = Sink(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield sink
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
