"""`replay` against a receiver that speaks OTLP/HTTP on loopback and can be told to fail in each way.

The receiver is a real HTTP server of this file, not a Collector: tests/stack/test_replay.py has that. The
command runs in a process of its own, and is killed there.
"""

from __future__ import annotations

import gzip
import json
import os
import queue
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
from conftest import Observed
from otlp_files import Process, healthy, traffic, write_spans

from context_telemetry.pipeline.replay import (
    SIGNALS,
    Endpoint,
    EndpointError,
    Patience,
    Plan,
    Replay,
    Unreachable,
    sender,
)
from context_telemetry.rehearsal.driver import resource, tool
from context_telemetry.rehearsal.sample import Sample
from context_telemetry.settings import project_folder

_SECONDS = 60.0


@dataclass
class Reply:
    """What the receiver does with one request."""

    status: int = 200
    body: bytes = b'{"partialSuccess":{}}'
    headers: dict[str, str] = field(default_factory=dict)
    takes: bool = True
    """Whether it keeps what was sent."""
    cuts: bool = False
    """Ends the connection without an answer."""
    until: threading.Event | None = None
    """Holds the answer back."""
    reached: threading.Event = field(default_factory=threading.Event)
    """Set when the request is read and kept."""


class Receiver:
    """Takes OTLP/HTTP with JSON, and does with the next requests what `replies` says."""

    def __init__(self, server: ThreadingHTTPServer, scheme: str = "http") -> None:
        self.server, self.scheme = server, scheme
        self.replies: queue.SimpleQueue[Reply] = queue.SimpleQueue()
        self.spans: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.decide: Callable[[str], Reply | None] = lambda _: None
        """Is asked with the body before `replies`."""

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server.server_address[1]}"

    def then(self, *replies: Reply) -> None:
        for reply in replies:
            self.replies.put(reply)

    def reply(self, body: str) -> Reply:
        decided = self.decide(body)
        if decided is not None:
            return decided
        try:
            return self.replies.get_nowait()
        except queue.Empty:
            return Reply()

    def keep(self, body: str) -> None:
        request = json.loads(body)
        for resource_spans in request.get("resourceSpans", ()):
            for scope in resource_spans["scopeSpans"]:
                self.spans.update(span["spanId"] for span in scope["spans"])
        for resource_logs in request.get("resourceLogs", ()):
            for scope in resource_logs["scopeLogs"]:
                self.events.update(json.dumps(record) for record in scope["logRecords"])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    receiver: Receiver

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            raw = gzip.decompress(raw)
        self.receiver.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
        body = raw.decode()
        reply = self.receiver.reply(body)
        if reply.takes and reply.status == 200:
            self.receiver.keep(body)
        reply.reached.set()
        if reply.until is not None:
            reply.until.wait(_SECONDS)
        if reply.cuts:
            self.close_connection = True
            return
        self.send_response(reply.status)
        for name, value in {"content-length": str(len(reply.body)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that was killed is part of the test."""


def serve(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    handler = type("Handler", (_Handler,), {})
    with _Server(("127.0.0.1", 0), handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        made = handler.receiver = Receiver(server, "http" if tls is None else "https")  # type: ignore[attr-defined] # made here
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    yield from serve()


@dataclass(frozen=True)
class Shop:
    """A project folder, and where its telemetry is."""

    root: Path
    state: Path

    @property
    def folder(self) -> Path:
        return project_folder(self.state, self.root)

    @property
    def ledgers(self) -> str:
        return "".join(path.read_text("utf-8") for path in sorted(self.folder.glob("replay-*.json")))

    def recorded(self) -> set[str]:
        """The ids of all spans in the files."""
        return {
            span["spanId"]
            for path in self.folder.glob("traces-*.jsonl")
            for line in path.read_text("utf-8").splitlines()
            for resource_spans in json.loads(line)["resourceSpans"]
            for scope in resource_spans["scopeSpans"]
            for span in scope["spans"]
        }

    def start(self, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        cleared = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("CONTEXT_TELEMETRY_", "OTEL_"))
        }
        return subprocess.Popen(
            [sys.executable, "-m", "context_telemetry.cli", "replay", *arguments],
            cwd=self.root,
            env={**cleared, "CONTEXT_TELEMETRY_STATE_DIR": str(self.state), **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def replay(self, *arguments: str, **environ: str) -> Ended:
        with self.start(*arguments, "--json", **environ) as process:
            return ended(process)


@dataclass(frozen=True)
class Ended:
    """How a replay ended. `told` is its JSON document."""

    code: int
    stdout: str
    stderr: str

    @property
    def told(self) -> dict[str, Any]:
        told = json.loads(self.stdout)
        assert isinstance(told, dict)
        assert told["exit_code"] == self.code
        return told


def ended(process: subprocess.Popen[str]) -> Ended:
    stdout, stderr = process.communicate(timeout=_SECONDS)
    return Ended(process.returncode, stdout, stderr)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    root = tmp_path / "shop"
    root.mkdir()
    (root / "dataface.yml").write_text("{}\n", "utf-8")
    return Shop(root, tmp_path / "state")


def record(shop: Shop, calls: int = 40, *, pid: int = 4242, batch: int = 8) -> Path:
    """Record some traffic of one process; its file. Each call has three spans, each line `batch` spans."""
    process = Process(shop.folder, pid=pid, seed=pid)
    for number in range(calls):
        process.call(healthy(60.0 + number))
    process.state()
    return process.flush(batch=batch)


def record_much(shop: Shop) -> None:
    """A few requests' worth."""
    write_spans(shop.folder, 6000, processes=3)


# Everything arrives, once


@pytest.mark.real
def test_all_that_a_real_session_recorded_arrives_once(
    sample: Sample, observed: Observed, receiver: Receiver
) -> None:
    calls = [
        tool("execute_query", sql="SELECT 1 AS one", source="nowhere"),
        tool("render_dashboard", path="faces/customers.yml"),
        resource("dataface://docs/error-reference"),
    ]
    recorded = observed(sample.root, calls)
    shop = Shop(sample.root, recorded.state_dir)
    first = shop.replay("--to", receiver.url)
    assert first.code == 0, first.stderr
    assert receiver.spans == Counter(span.span_id for span in recorded.spans)
    assert receiver.events.total() == len(recorded.events)
    assert (first.told["spans"], first.told["events"]) == (len(recorded.spans), len(recorded.events))
    assert {path for path, _ in receiver.requests} == {"/v1/traces", "/v1/logs"}

    again = shop.replay("--to", receiver.url)
    assert (again.code, again.told["spans"], again.told["sent_before_files"]) == (0, 0, 2)
    assert set(receiver.spans.values()) == {1}


def test_what_is_appended_between_two_replays_is_sent_by_the_second(shop: Shop, receiver: Receiver) -> None:
    process = Process(shop.folder)
    process.call(healthy(90.0))
    process.flush()
    assert shop.replay("--to", receiver.url).told["spans"] == 3
    process.call(healthy(60.0))
    process.call(healthy(30.0))
    process.flush()
    assert shop.replay("--to", receiver.url).told["spans"] == 6
    assert receiver.spans == Counter(shop.recorded())


def test_half_a_line_waits_until_it_is_whole(shop: Shop, receiver: Receiver) -> None:
    path = record(shop, 4)
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    first = shop.replay("--to", receiver.url)
    assert (first.code, first.told["being_written"]) == (0, [path.name])
    assert 0 < len(receiver.spans) < 12
    with path.open("ab") as stream:
        stream.write(whole[-40:])
    assert shop.replay("--to", receiver.url).code == 0
    assert receiver.spans == Counter(shop.recorded())


def test_the_bytes_of_a_line_are_sent_as_they_are(shop: Shop, receiver: Receiver) -> None:
    path = record(shop, 3, batch=100)
    bodies: list[str] = []
    receiver.decide = lambda body: bodies.append(body)
    assert shop.replay("--to", receiver.url).code == 0
    assert path.read_text("utf-8").strip() in bodies


def test_a_replay_that_is_killed_when_its_request_was_taken_loses_nothing_and_says_what_came_twice(
    shop: Shop, receiver: Receiver
) -> None:
    record_much(shop)
    taken = Reply(until=threading.Event())
    receiver.then(Reply(), Reply(), taken)
    with shop.start("--to", receiver.url) as process:
        assert taken.reached.wait(_SECONDS)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert taken.until is not None
    taken.until.set()
    before = len(receiver.spans)
    assert 0 < before < len(shop.recorded())

    second = shop.replay("--to", receiver.url)
    assert second.code == 0
    assert set(receiver.spans) == shop.recorded()
    twice = [span for span, count in receiver.spans.items() if count > 1]
    assert 0 < len(twice) < before
    assert second.told["perhaps_twice"] == len(twice)
    assert shop.replay("--to", receiver.url).told["perhaps_twice"] == 0


def test_wherever_it_is_killed_nothing_is_missing_in_the_end(shop: Shop, receiver: Receiver) -> None:
    record_much(shop)
    for number in range(6):
        taken = Reply()
        receiver.then(taken)
        with shop.start("--to", receiver.url) as process:
            assert taken.reached.wait(_SECONDS)
            time.sleep(0.002 * number)  # before the answer, in the ledger, in the next request
            process.kill()
            process.wait()
    assert shop.replay("--to", receiver.url).code == 0
    assert set(receiver.spans) == shop.recorded()


def test_a_second_replay_waits_for_the_first_and_finds_nothing_left(shop: Shop, receiver: Receiver) -> None:
    record_much(shop)
    held = Reply(until=threading.Event())
    receiver.then(held)
    with shop.start("--to", receiver.url) as first:
        assert held.reached.wait(_SECONDS)
        with shop.start("--to", receiver.url, "--json") as second:
            assert second.stderr is not None
            assert f"another replay of this project runs (process {first.pid})" in second.stderr.readline()
            assert held.until is not None
            held.until.set()
            assert ended(first).code == 0
            assert ended(second).told["spans"] == 0
    assert receiver.spans == Counter(shop.recorded())


def test_ctrl_c_ends_it_after_the_request_on_its_way_and_the_ledger_is_right(
    shop: Shop, receiver: Receiver
) -> None:
    record_much(shop)
    held = Reply(until=threading.Event())
    receiver.then(Reply(), held)
    with shop.start("--to", receiver.url) as process:
        assert held.reached.wait(_SECONDS)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert "stopping when the request on its way is answered" in process.stderr.readline()
        assert held.until is not None
        held.until.set()
        stopped = ended(process)
    assert stopped.code == 130
    assert "the ledger is right" in stopped.stderr
    assert 0 < len(receiver.spans) < len(shop.recorded())
    assert shop.replay("--to", receiver.url).told["perhaps_twice"] == 0
    assert receiver.spans == Counter(shop.recorded())


def test_another_receiver_gets_everything_and_another_spelling_of_one_nothing(
    shop: Shop, receiver: Receiver
) -> None:
    record(shop)
    assert shop.replay("--to", receiver.url).told["spans"] == 120
    assert shop.replay("--to", f"{receiver.url.replace('http', 'HTTP')}/").told["spans"] == 0
    assert shop.replay("--to", receiver.url.replace("127.0.0.1", "localhost")).told["spans"] == 0
    assert shop.replay("--to", f"{receiver.url}/other").told["spans"] == 120


def test_each_tenant_of_one_receiver_gets_everything(shop: Shop, receiver: Receiver) -> None:
    record(shop)
    for headers in ("X-Scope-OrgID=a", "X-Scope-OrgID=b", "", "authorization=Basic YTpvbmU="):
        first = shop.replay("--to", receiver.url, OTEL_EXPORTER_OTLP_HEADERS=headers)
        assert first.told["spans"] == 120, headers
        assert shop.replay("--to", receiver.url, OTEL_EXPORTER_OTLP_HEADERS=headers).told["spans"] == 0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("authorization=Bearer old", "authorization=Bearer new"),
        ("authorization=Basic YTpvbmU=", "authorization=basic YTp0d28="),  # a:one, a:two
        ("authorization=Basic no-base64", "authorization=Basic neither"),
        ("X-Scope-OrgID=a,x-more=1", "x-more=1,x-scope-orgid=a"),
    ],
)
def test_a_renewed_token_or_another_spelling_of_the_headers_makes_no_new_receiver(
    one: str, other: str
) -> None:
    first, second = (
        Endpoint.of(SIGNALS[0], None, {"OTEL_EXPORTER_OTLP_HEADERS": headers}) for headers in (one, other)
    )
    assert first.key == second.key


def test_the_names_of_this_machine_are_one_receiver_and_its_ports_are_several() -> None:
    keys = [
        Endpoint.of(SIGNALS[0], to, {}).key
        for to in (
            "http://localhost:4318",
            "http://127.0.0.1:4318",
            "http://[::1]:4318/",
            "http://LOCALHOST:4318",
        )
    ]
    assert len(set(keys)) == 1
    assert Endpoint.of(SIGNALS[0], "http://localhost:4319", {}).key not in keys


# What the files have that cannot be sent


def test_a_broken_line_is_skipped_named_and_told_once(shop: Shop, receiver: Receiver) -> None:
    path = record(shop)
    lines = path.read_text("utf-8").splitlines()
    lines[1] = lines[1][:-30]
    lines[3] = '{"resourceLogs":[]}'
    lines[4] = lines[4].replace('"flags":256', '"flags":NaN', 1)
    path.write_text("\n".join(lines) + "\n", "utf-8")
    first = shop.replay("--to", receiver.url)
    assert (first.code, first.told["broken_lines"]) == (1, 3)
    assert first.told["broken"] == [
        {"file": path.name, "line": 2, "why": "not JSON"},
        {"file": path.name, "line": 4, "why": "no OTLP request with resourceSpans"},
        {"file": path.name, "line": 5, "why": "not JSON"},
    ]
    assert len(receiver.spans) == 120 - 3 * 8
    assert shop.replay("--to", receiver.url).code == 0


def test_a_last_line_that_a_crash_cut_is_told_once(shop: Shop, receiver: Receiver) -> None:
    path = record(shop, 4)
    path.write_bytes(path.read_bytes()[:-40])
    os.utime(path, (time.time() - 120, time.time() - 120))
    first = shop.replay("--to", receiver.url)
    assert (first.code, first.told["cut"]) == (1, [{"file": path.name, "line": 2}])
    assert shop.replay("--to", receiver.url).code == 0


def test_a_file_that_is_none_of_ours_stops_nothing(shop: Shop, receiver: Receiver) -> None:
    record(shop)
    (shop.folder / "traces-20260101T000000Z-1-1.jsonl").write_bytes(bytes(range(256)) * 4000)
    (shop.folder / "traces-20260101T000000Z-1-2.jsonl").mkdir()
    (shop.folder / "traces-20260101T000000Z-1-3.jsonl").symlink_to("nowhere")
    first = shop.replay("--to", receiver.url)
    assert (first.code, first.told["broken_lines"]) == (1, 4000)
    assert len(first.told["broken"]) == 100
    assert [each["why"] for each in first.told["unreadable"]] == [
        "no regular file",
        "no such file or directory",
    ]
    assert receiver.spans == Counter(span for span in receiver.spans)
    assert len(receiver.spans) == 120


def test_files_that_were_removed_are_told_and_are_no_error(shop: Shop, receiver: Receiver) -> None:
    sent, unsent = record(shop, pid=4242), record(shop, pid=4343)
    receiver.decide = lambda body: Reply(400, b"{}") if unsent_id in body else None
    unsent_id = json.loads(unsent.read_text("utf-8").splitlines()[5])["resourceSpans"][0]["scopeSpans"][0]
    unsent_id = unsent_id["spans"][0]["spanId"]
    assert shop.replay("--to", receiver.url).code == 1
    left = unsent.stat().st_size - sum(map(len, unsent.read_bytes().splitlines(keepends=True)[:5]))
    sent.unlink()
    unsent.unlink()
    second = shop.replay("--to", receiver.url)
    assert second.code == 0
    assert second.told["removed"] == [
        {"file": sent.name, "unsent_bytes": 0},
        {"file": unsent.name, "unsent_bytes": left},
    ]
    assert shop.replay("--to", receiver.url).told["removed"] == []


def test_another_file_of_the_same_name_is_sent_from_its_start(shop: Shop, receiver: Receiver) -> None:
    path = record(shop)
    assert shop.replay("--to", receiver.url).code == 0
    path.unlink()
    other = record(shop, 80, pid=4343)
    other.rename(path)
    second = shop.replay("--to", receiver.url)
    assert (second.code, second.told["spans"], second.told["replaced"]) == (0, 240, [path.name])


def test_files_last_written_before_since_stay_where_they_are(shop: Shop, receiver: Receiver) -> None:
    old, _ = record(shop, 10, pid=4242), record(shop, 20, pid=4343)
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    first = shop.replay("--to", receiver.url, "--since", "1h")
    assert (first.told["spans"], first.told["older_files"]) == (60, 1)
    assert shop.replay("--to", receiver.url).told["spans"] == 30


def test_a_dry_run_says_what_would_be_sent_and_touches_nothing(shop: Shop, receiver: Receiver) -> None:
    record(shop)
    before = sorted(path.name for path in shop.folder.iterdir())
    dry = shop.replay("--to", receiver.url, "--dry-run")
    assert (dry.code, dry.told["spans"], dry.told["events"], dry.told["lines"]) == (0, 120, 1, 16)
    assert sorted(path.name for path in shop.folder.iterdir()) == before
    assert not receiver.requests


def test_a_project_without_recordings_is_told_and_no_folder_is_made(shop: Shop, receiver: Receiver) -> None:
    with shop.start("--to", receiver.url) as process:
        told = ended(process)
    assert (told.code, told.stderr) == (0, "")
    assert "nothing is recorded of shop" in told.stdout
    assert not shop.state.exists()


# What the receiver says


def test_rejected_spans_are_counted_and_not_sent_again(shop: Shop, receiver: Receiver) -> None:
    record(shop)
    partial = {"partialSuccess": {"rejectedSpans": "7", "errorMessage": "too\x1b[31m old\n"}}
    receiver.then(Reply(body=json.dumps(partial).encode()))
    first = shop.replay("--to", receiver.url)
    assert first.code == 1
    (rejected,) = first.told["rejected"]
    assert (rejected["items"], rejected["why"]) == (7, "too [31m old")
    assert shop.replay("--to", receiver.url).told["spans"] == 0


@pytest.mark.parametrize("status", [429, 503])
def test_a_receiver_that_asks_to_wait_is_waited_for(shop: Shop, receiver: Receiver, status: int) -> None:
    record(shop)
    receiver.then(Reply(status, b"", {"retry-after": "1"}))
    started = time.monotonic()
    told = shop.replay("--to", receiver.url)
    assert (told.code, told.told["perhaps_twice"]) == (0, 0)
    assert time.monotonic() - started > 1
    assert f"it answers {status}; the next try in 1 s" in told.stderr
    assert receiver.spans == Counter(shop.recorded())


def test_a_receiver_that_asks_to_wait_too_long_is_left(shop: Shop, receiver: Receiver) -> None:
    record(shop)
    receiver.then(Reply(503, b"", {"retry-after": "3600"}))
    told = shop.replay("--to", receiver.url)
    assert told.code == 3
    assert "asks to be left alone for 3600 s: run this again then" in told.stderr
    assert shop.replay("--to", receiver.url).told["perhaps_twice"] == 0


def test_patience_ends(shop: Shop, receiver: Receiver) -> None:
    record(shop)
    receiver.decide = lambda _: Reply(503, b"")
    endpoints = {each.kind: Endpoint.of(each, receiver.url, {}) for each in SIGNALS}
    plan = Plan(shop.folder, endpoints, patience=Patience(first=0.05, most=0.1, total=0.4))
    with pytest.raises(Unreachable, match=r"it answers 503, for 0 s now: run this again later"):
        Replay(plan, Silent(), threading.Event()).run()
    assert 4 <= len(receiver.requests) <= 12


class Silent:
    """Nobody watches."""

    def expects(self, count: int) -> None: ...
    def sent(self, count: int) -> None: ...
    def waiting(self, seconds: float, why: str) -> None: ...
    def another(self, pid: str) -> None: ...


@pytest.mark.parametrize("status", [400, 413])
def test_a_line_that_is_not_wanted_stops_it_and_is_named(shop: Shop, receiver: Receiver, status: int) -> None:
    path = record(shop)
    unwanted = json.loads(path.read_text("utf-8").splitlines()[5])["resourceSpans"][0]["scopeSpans"][0]
    unwanted = unwanted["spans"][0]["spanId"]
    receiver.decide = lambda body: (
        Reply(status, b'{"code":3,"message":"a bad id"}') if unwanted in body else None
    )
    first = shop.replay("--to", receiver.url)
    assert first.code == 1
    assert (
        f"does not want {path}:6: {status} (a bad id); nothing of that line and after it is marked"
        in first.stderr
    )
    assert len(receiver.spans) == 5 * 8
    assert (first.told["spans"], first.told["stopped_at"]) == (5 * 8, f"{path.name}:6")

    passed = shop.replay("--to", receiver.url, "--skip-refused")
    assert passed.code == 1
    assert passed.told["rejected"] == [
        {"first": f"{path.name}:6", "last": f"{path.name}:6", "items": 8, "why": f"{status} (a bad id)"}
    ]
    assert len(receiver.spans) == 120 - 8
    assert set(receiver.spans.values()) == {1}
    assert shop.replay("--to", receiver.url).code == 0


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(404, b"not here"), "it answers 404 to /v1/traces: nothing takes OTLP/HTTP there"),
        (Reply(401, b""), "it answers 401 to /v1/traces: it wants other credentials"),
        (Reply(200, b"<html>", takes=False), "not as an OTLP receiver does"),
        (Reply(200, b"[]", takes=False), "not as an OTLP receiver does"),
        (Reply(302, b"", {"location": "/login"}), "it answers 302"),
        (Reply(500, b"broken"), "it answers 500 (broken): look into its log"),
    ],
)
def test_an_endpoint_that_takes_nothing_is_told_and_nothing_is_marked(
    shop: Shop, receiver: Receiver, reply: Reply, words: str
) -> None:
    path = record(shop)
    receiver.then(reply)
    told = shop.replay("--to", receiver.url)
    assert told.code == 3
    assert words in told.stderr
    assert told.told["stopped_at"] == f"{path.name}:1"
    assert len(receiver.requests) == 1
    assert shop.replay("--to", receiver.url).told["spans"] == 120


def test_an_endpoint_where_nobody_is_is_told_at_once_with_what_to_do(shop: Shop, receiver: Receiver) -> None:
    record(shop)
    receiver.server.server_close()
    started = time.monotonic()
    told = shop.replay("--to", receiver.url)
    assert time.monotonic() - started < 10
    assert told.code == 3
    assert "nothing listens there: start the Collector there, or name another with --to" in told.stderr
    assert '"offset"' not in shop.ledgers


def test_an_endpoint_that_speaks_grpc_is_told_with_the_port_that_it_usually_is_instead(shop: Shop) -> None:
    record(shop)
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        told = shop.replay("--to", f"http://127.0.0.1:{port}")
    finally:
        server.stop(None)
    assert told.code == 3
    assert "it speaks gRPC, and replay OTLP/HTTP: name that address with --to" in told.stderr
    assert "often the same host's port 4318" in told.stderr
    assert '"offset"' not in shop.ledgers


def test_whatever_is_wrong_at_the_usual_port_of_grpc_is_told_with_the_other_port(
    shop: Shop, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(shop)
    receiver.server.server_close()
    endpoints = {each.kind: Endpoint.of(each, receiver.url, {}) for each in SIGNALS}
    monkeypatch.setattr(sender, "_GRPC_PORT", endpoints["traces"].port)  # 4317 may be somebody's here
    with pytest.raises(Unreachable, match=r"is usually the port for gRPC, 4318 the one for OTLP/HTTP"):
        Replay(Plan(shop.folder, endpoints), Silent(), threading.Event()).run()


def test_an_endpoint_that_is_silent_is_given_its_timeout(shop: Shop, receiver: Receiver) -> None:
    record(shop)
    silent = Reply(until=threading.Event())
    receiver.then(silent)
    told = shop.replay("--to", receiver.url, OTEL_EXPORTER_OTLP_TIMEOUT="0.5")
    assert silent.until is not None
    silent.until.set()
    assert told.code == 3
    assert "no answer in 0.5 s" in told.stderr
    assert shop.replay("--to", receiver.url).told["perhaps_twice"] == 120


def test_a_connection_that_breaks_before_the_answer_is_tried_again_and_told(
    shop: Shop, receiver: Receiver
) -> None:
    record_much(shop)
    receiver.then(Reply(), Reply(cuts=True))
    told = shop.replay("--to", receiver.url)
    assert told.code == 0
    assert "the connection broke" in told.stderr
    twice = [span for span, count in receiver.spans.items() if count == 2]
    assert told.told["perhaps_twice"] == len(twice) > 0
    assert set(receiver.spans) == shop.recorded()


# Where and how


def test_the_standard_variables_say_where_and_with_what(shop: Shop, receiver: Receiver) -> None:
    record(shop)
    told = shop.replay(
        OTEL_EXPORTER_OTLP_ENDPOINT=f"{receiver.url.replace('http://', 'http://user:hidden1@')}/base?key=hidden2",
        OTEL_EXPORTER_OTLP_LOGS_ENDPOINT=f"{receiver.url}/own/logs",
        OTEL_EXPORTER_OTLP_HEADERS="X-Token=hidden3%20b,authorization=Bearer hidden4",
        OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
        HTTP_PROXY="http://127.0.0.1:9",
        http_proxy="http://127.0.0.1:9",
    )
    assert told.code == 0, told.stderr
    (traces, sent), (logs, _) = receiver.requests
    assert (traces, logs) == ("/base/v1/traces?key=hidden2", "/own/logs")
    assert sent["content-type"] == "application/json"
    assert sent["content-encoding"] == "gzip"
    assert sent["x-token"] == "hidden3 b"
    assert len(receiver.spans) == 120
    assert "hidden" not in told.stdout + told.stderr + shop.ledgers


def test_tls_is_checked_against_the_certificate_that_the_variable_names(shop: Shop, tmp_path: Path) -> None:
    record(shop)
    own, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own, key)
    for receiver in serve(context):
        refused = shop.replay("--to", receiver.url)
        assert refused.code == 3
        assert "TLS fails" in refused.stderr
        assert "OTEL_EXPORTER_OTLP_CERTIFICATE" in refused.stderr
        assert shop.replay("--to", receiver.url, OTEL_EXPORTER_OTLP_CERTIFICATE=str(own)).code == 0
        assert len(receiver.spans) == 120


# Reaches this machine like an address on loopback, but is none: what the environment says to `requests` holds for it.
_NOT_LOOPBACK = "0.0.0.0"
_NO_PROXY = {"NO_PROXY": _NOT_LOOPBACK, "no_proxy": _NOT_LOOPBACK}


def test_the_certificate_holds_whatever_the_environment_has_for_other_programs(
    shop: Shop, tmp_path: Path
) -> None:
    record(shop)
    own, key = certificate(tmp_path)
    (tmp_path / "others").mkdir()
    others, _ = certificate(tmp_path / "others")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own, key)
    for receiver in serve(context):
        told = shop.replay(
            "--to",
            receiver.url.replace("127.0.0.1", _NOT_LOOPBACK),
            OTEL_EXPORTER_OTLP_CERTIFICATE=str(own),
            REQUESTS_CA_BUNDLE=str(others),
            **_NO_PROXY,
        )
        assert told.code == 0, told.stderr
        assert len(receiver.spans) == 120


@pytest.mark.parametrize(
    ("user", "headers", "sent"),
    [
        ("", "authorization=Bearer mine", "Bearer mine"),
        ("", "", None),
        ("a:one@", "", "Basic YTpvbmU="),
        ("a:one@", "authorization=Bearer mine", "Basic YTpvbmU="),
    ],
)
def test_who_asks_is_said_by_the_address_or_the_headers_and_never_by_netrc(
    shop: Shop, receiver: Receiver, tmp_path: Path, user: str, headers: str, sent: str | None
) -> None:
    record(shop)
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine {_NOT_LOOPBACK} login somebody password else\n", "utf-8")
    netrc.chmod(0o600)
    told = shop.replay(
        "--to",
        receiver.url.replace("127.0.0.1", f"{user}{_NOT_LOOPBACK}"),
        OTEL_EXPORTER_OTLP_HEADERS=headers,
        NETRC=str(netrc),
        **_NO_PROXY,
    )
    assert told.code == 0, told.stderr
    assert {headers.get("authorization") for _, headers in receiver.requests} == {sent}


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that it signed itself, and its key."""
    from datetime import datetime, timedelta, timezone
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(timezone.utc)
    names = x509.SubjectAlternativeName(
        [x509.IPAddress(ip_address(each)) for each in ("127.0.0.1", _NOT_LOOPBACK)]
    )
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    own, private = folder / "own.pem", folder / "own.key"
    own.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return own, private


_OTLP = "OTEL_EXPORTER_OTLP_"


@pytest.mark.parametrize(
    ("to", "environ", "words"),
    [
        ("127.0.0.1:4318", {}, "--to: no address of a receiver; write it as http://localhost:4318"),
        ("http://", {}, "--to: no address of a receiver"),
        ("http://[::1", {}, "--to: no address of a receiver"),
        ("http://127.0.0.1:port", {}, "--to: no address of a receiver"),
        ("ftp://127.0.0.1", {}, "--to: no address of a receiver"),
        ("http://127.0.0.1:4318/v1/traces", {}, "--to: leave v1/traces out"),
        (None, {"ENDPOINT": "collector"}, "OTEL_EXPORTER_OTLP_ENDPOINT: no address"),
        (None, {"TRACES_ENDPOINT": "collector"}, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: no address"),
        (
            None,
            {"ENDPOINT": "http://127.0.0.1:4317", "PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL is grpc, and replay speaks OTLP/HTTP",
        ),
        (None, {"TIMEOUT": "soon"}, "OTEL_EXPORTER_OTLP_TIMEOUT=soon: write seconds"),
        (None, {"TIMEOUT": "0"}, "OTEL_EXPORTER_OTLP_TIMEOUT=0: write seconds"),
        (None, {"COMPRESSION": "zstd"}, "OTEL_EXPORTER_OTLP_COMPRESSION=zstd: write gzip"),
        (None, {"CERTIFICATE": "/no/such"}, "OTEL_EXPORTER_OTLP_CERTIFICATE: /no/such is not there"),
        (None, {"TRACES_HEADERS": "hidden"}, "OTEL_EXPORTER_OTLP_TRACES_HEADERS: write name=value"),
    ],
)
def test_what_is_wrong_of_an_endpoint_is_named_with_the_fix(
    to: str | None, environ: dict[str, str], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(EndpointError) as raised:
        Endpoint.of(SIGNALS[0], to, {f"{_OTLP}{name}": value for name, value in environ.items()})
    assert words in str(raised.value)
    assert "hidden" not in str(raised.value) + caplog.text


def test_wrong_usage_is_one_line_and_exit_code_2(shop: Shop) -> None:
    record(shop)
    for arguments in (["--to", "collector"], ["--since", "soon"]):
        told = shop.replay(*arguments)
        assert (told.code, told.stdout, len(told.stderr.splitlines())) == (2, "", 1)


def test_a_spoiled_ledger_stops_it_before_anything_is_sent(shop: Shop, receiver: Receiver) -> None:
    record(shop)
    assert shop.replay("--to", receiver.url).code == 0
    (ledger,) = shop.folder.glob("replay-traces-*.json")
    ledger.write_text('{"schema": "another/1"}', "utf-8")
    receiver.requests.clear()
    told = shop.replay("--to", receiver.url)
    assert told.code == 1
    assert f"{ledger}: this is no ledger" in told.stderr
    assert "delete it, and everything is sent again" in told.stderr
    assert not receiver.requests


def test_a_ledger_that_cannot_be_written_stops_it_before_anything_is_sent(
    shop: Shop, receiver: Receiver
) -> None:
    record(shop)
    endpoint = Endpoint.of(SIGNALS[0], receiver.url, {})
    (shop.folder / f"replay-traces-{endpoint.key}.tmp").mkdir()
    told = shop.replay("--to", receiver.url)
    assert told.code == 1
    assert "the ledger cannot be written: is a directory" in told.stderr
    assert not receiver.requests


def test_many_small_files_of_short_sessions_go_in_few_requests(shop: Shop, receiver: Receiver) -> None:
    for pid in range(5000, 5200):
        record(shop, 1, pid=pid)
    assert shop.replay("--to", receiver.url).told["files"] == 400
    assert len(receiver.spans) == 600
    assert len(receiver.requests) == 2


def test_memory_does_not_grow_with_the_files(shop: Shop, receiver: Receiver) -> None:
    process = Process(shop.folder)
    for call in traffic(3000):
        process.call(call)
    path = process.flush()
    receiver.decide = lambda _: Reply(takes=False)
    small = peak(shop, receiver)
    for number in range(8):
        shutil.copy(path, path.with_name(f"traces-20260101T000000Z-1-{number}.jsonl"))
    large = peak(shop, receiver)
    assert large < small + 10_000
    assert large < 100_000


_PEAK = """
import resource, subprocess, sys
assert subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL) == 0
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def peak(shop: Shop, receiver: Receiver) -> int:
    """The most KiB of memory that a replay had (Linux's unit)."""
    command = [sys.executable, "-m", "context_telemetry.cli", "replay", "--to", receiver.url]
    asked = [
        sys.executable,
        "-c",
        _PEAK,
        *command,
        "--project",
        str(shop.root),
        "--state-dir",
        str(shop.state),
    ]
    return int(subprocess.run(asked, check=True, capture_output=True, text=True).stdout)
