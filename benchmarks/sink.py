"""A process that takes OTLP over HTTP and answers 200 at once: `python -m benchmarks.sink`, which prints its port.

What has arrived is looked at only when it is asked for (GET), so that reading it takes nobody's CPU meanwhile. It ends
with its standard input.
"""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_requests: dict[str, list[bytes]] = {"/v1/traces": [], "/v1/metrics": []}


class _Sink(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept

    def do_POST(self) -> None:
        _requests[self.path].append(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(b"")

    def do_GET(self) -> None:
        self._answer(json.dumps(_arrived()).encode())

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


def _arrived() -> Mapping[str, Any]:
    """All spans, and by name how often a metric was recorded to, as the last collection has it (it is cumulative)."""
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    spans, counts = 0, Counter[str]()
    for body in _requests["/v1/traces"]:
        traces = ExportTraceServiceRequest.FromString(body).resource_spans
        spans += sum(len(scope.spans) for resource in traces for scope in resource.scope_spans)
    for body in _requests["/v1/metrics"][-1:]:
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
                counts[metric.name] += sum(point.as_int for point in metric.sum.data_points)
                counts[metric.name] += sum(point.count for point in metric.histogram.data_points)
    return {"spans": spans, "counts": counts}


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Sink)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.buffer.read()


if __name__ == "__main__":
    main()
