"""Measures the gateway: what a span costs it, how many it takes, and what a call weighs on the wire.

`python3 dev.py python -m tools.measure_stack` prints the table of docs/scaling.md. It sends real spans, recorded from
real sessions, with new ids; senders are few and wait for each answer, so nothing is refused and nothing is guessed.
"""

from __future__ import annotations

import argparse
import http.client
import os
import platform
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from context_telemetry.rehearsal import driver
from context_telemetry.rehearsal.sample import create
from tools.processes import Process, get_text, wait_until
from tools.stack import Stack


@dataclass(frozen=True)
class Recorded:
    """Requests of one real session, as its exporter sent them."""

    requests: Sequence[bytes]

    @property
    def spans(self) -> int:
        return sum(count(request) for request in self.requests)

    @property
    def entries(self) -> int:
        return sum(
            pair.key == "dataface.entry" and pair.value.bool_value
            for request in self.requests
            for span in spans(ExportTraceServiceRequest.FromString(request))
            for pair in span.attributes
        )

    def batch(self, at_least: int) -> ExportTraceServiceRequest:
        """Its spans as often as it takes, each time with the traces' ids of a session of its own."""
        merged = ExportTraceServiceRequest()
        while sum(1 for _ in spans(merged)) < at_least:
            for request in self.requests:
                merged.resource_spans.extend(renewed(request).resource_spans)
        return merged


def spans(request: ExportTraceServiceRequest) -> Iterator[Any]:
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            yield from scope.spans


def count(request: bytes) -> int:
    return sum(1 for _ in spans(ExportTraceServiceRequest.FromString(request)))


def renewed(request: bytes) -> ExportTraceServiceRequest:
    """The same spans in new traces."""
    made = ExportTraceServiceRequest()
    made.ParseFromString(request)
    traces: dict[bytes, bytes] = {}
    for span in spans(made):
        span.trace_id = traces.setdefault(span.trace_id, os.urandom(16))
    return made


class Sink:
    """Takes OTLP over HTTP and keeps the bodies: what a session really puts on the wire."""

    def __init__(self) -> None:
        import http.server

        self.bodies: list[tuple[str, bytes]] = []
        kept = self.bodies

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                kept.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def of(self, signal: str) -> list[bytes]:
        return [body for path, body in self.bodies if path.endswith(signal)]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def record(project: Path) -> tuple[Recorded, dict[str, int], int]:
    """One session that calls every tool and reads every resource: its spans, its bytes by signal, its calls."""
    sink = Sink()
    try:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        }
        answers = driver.drive_everything(project, env=environment)
    finally:
        sink.close()
    sizes = {signal: sum(map(len, sink.of(signal))) for signal in ("traces", "logs", "metrics")}
    return Recorded(sink.of("traces")), sizes, len(answers)


@dataclass(frozen=True)
class Load:
    """What a load was and what it took."""

    spans: int
    seconds: float
    cpu_seconds: float
    memory_bytes: int
    senders: int

    @property
    def per_second(self) -> float:
        return self.spans / self.seconds

    @property
    def cpu_microseconds(self) -> float:
        return self.cpu_seconds / self.spans * 1e6


def load(
    url: str, process: Process, bodies: Sequence[tuple[bytes, int]], senders: int, seconds: float
) -> Load:
    """``senders`` threads post bodies, each after the answer to the one before, for ``seconds``."""
    address = urlsplit(url).netloc
    until = time.monotonic() + seconds
    sent = [0] * senders
    started, cpu = time.monotonic(), process.cpu_seconds

    def post(number: int) -> None:
        connection = http.client.HTTPConnection(address, timeout=60)
        turn = number
        while time.monotonic() < until:
            body, size = bodies[turn % len(bodies)]
            turn += senders
            connection.request("POST", "/v1/traces", body, {"Content-Type": "application/x-protobuf"})
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise RuntimeError(f"the gateway answered {answer.status}")
            sent[number] += size
        connection.close()

    threads = [threading.Thread(target=post, args=(number,)) for number in range(senders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - started
    return Load(sum(sent), took, process.cpu_seconds - cpu, process.memory_bytes, senders)


def series(url: str) -> int:
    return sum(not line.startswith("#") for line in get_text(url).splitlines())


def main() -> int:
    """Prints the table; 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each load lasts (default 20)")
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="measure-stack-"))
    try:
        recorded, sizes, calls = record(create(folder / "shop").root)
        print(f"{platform.platform()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        print(f"one session: {calls} calls, {recorded.entries} entries, {recorded.spans} spans")
        for signal, size in sizes.items():
            print(f"  {signal:8} {size:8,} bytes, {size / recorded.entries:7.0f} per entry")
        with Stack.up(folder / "stack", parts=("collector", "jaeger")) as stack:
            gateway = stack.process("collector")
            for at_least in (16, 512):
                # Many bodies, so that traces are new for as long as decisions are remembered.
                batches = [recorded.batch(at_least) for _ in range(2_000 if at_least == 16 else 200)]
                bodies = [(each.SerializeToString(), sum(1 for _ in spans(each))) for each in batches]
                for senders in (1, 4):
                    made = load(stack.otlp_http, gateway, bodies, senders, chosen.seconds)
                    print(
                        f"batches of {bodies[0][1]:4} spans, {senders} senders: {made.per_second:8,.0f} spans/s, "
                        f"{made.cpu_microseconds:5.0f} us CPU per span, {made.memory_bytes / 1e6:5.0f} MB"
                    )
            print(f"series: {series(stack.metrics_url)}")
            wait_until("queues are empty", lambda: _queued(stack) == 0, 120)
            errors = [line for line in get_text(stack.telemetry_url).splitlines() if 'error="' in line]
            print("dropped points:", errors or "none")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _queued(stack: Stack) -> float:
    lines = get_text(stack.telemetry_url).splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("otelcol_exporter_queue_size{"))


if __name__ == "__main__":
    sys.exit(main())
