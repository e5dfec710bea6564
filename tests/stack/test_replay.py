"""Recorded files of real sessions, replayed to the real Collector: all arrives in Jaeger and in the derived metrics."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import Span, events_in, observe, spans_in
from otlp_files import write_spans

from context_telemetry.conventions import names
from context_telemetry.health.promql import prometheus_name
from context_telemetry.rehearsal.driver import resource, tool
from context_telemetry.rehearsal.sample import Sample
from context_telemetry.settings import project_folder
from stack.traffic import BY_NAME, Series, keeping, log_records
from tools.processes import wait_until
from tools.stack import Stack

pytestmark = pytest.mark.stack

CALLS = [
    tool("execute_query", sql="SELECT 1 AS one", source="nowhere"),
    tool("render_dashboard", path="faces/customers.yml"),
    tool("execute_query", sql="SELECT count(*) FROM fct_orders", source="shop"),
    resource("dataface://docs/error-reference"),
]


@dataclass(frozen=True)
class Running:
    """A stack that keeps every trace, and what its Collector was sent."""

    stack: Stack
    received: Path

    def replay(self, root: Path, state: Path, *more: str) -> dict[str, Any]:
        done = subprocess.run(command(self, root, state, *more), capture_output=True, text=True, timeout=300)
        told = json.loads(done.stdout)
        assert isinstance(told, dict)
        assert done.returncode == 0, done.stderr
        return told

    def in_jaeger(self) -> Counter[tuple[str, str]]:
        return Counter(
            (span["traceID"].zfill(32), span["spanID"].zfill(16))
            for trace in self.stack.traces()
            for span in trace["spans"]
        )

    def served(self) -> float:
        return Series.at(self.stack.metrics_url).total(
            prometheus_name(BY_NAME[names.METRIC_DATAFACE_CONTEXT_SERVED])
        )


def command(running: Running, root: Path, state: Path, *more: str) -> list[str]:
    place = ["--project", str(root), "--state-dir", str(state), "--to", running.stack.otlp_http]
    return [sys.executable, "-m", "context_telemetry.cli", "replay", *place, "--json", *more]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    overlay = keeping(tmp_path)
    parts = ("collector", "jaeger")
    env = {"COLLECTOR_KEEP_PERCENT": "100", "COLLECTOR_DECISION_WAIT": "1s"}
    with Stack.up(tmp_path / "stack", parts=parts, overlays=[overlay], env=env) as stack:
        yield Running(stack, tmp_path / "received")


def marked(folder: Path) -> bool:
    """Whether a ledger says that something was accepted."""
    entries = [json.loads(path.read_text("utf-8"))["files"] for path in folder.glob("replay-*.json")]
    return any(each["offset"] for files in entries for each in files.values())


def ids(spans: list[Span]) -> set[tuple[str, str]]:
    return {(span.trace_id, span.span_id) for span in spans}


def test_what_real_sessions_recorded_arrives_in_jaeger_and_is_counted_once(
    running: Running, sample: Sample, tmp_path: Path
) -> None:
    state = observe(tmp_path / "observed", sample.root, CALLS).state_dir
    told = running.replay(sample.root, state)
    spans, events = spans_in(state), events_in(state)
    assert (told["spans"], told["events"]) == (len(spans), len(events))
    wait_until("all spans are in Jaeger", lambda: set(running.in_jaeger()) == ids(spans))

    entries = sum(span.entry for span in spans)
    assert wait_until("the entries are counted", lambda: running.served() == entries or None)
    wait_until("all events arrive", lambda: len(list(log_records(running.received))) == len(events))

    assert running.replay(sample.root, state)["spans"] == 0
    assert running.served() == entries


def test_after_a_kill_in_the_middle_the_next_replay_brings_what_is_missing(
    running: Running, tmp_path: Path
) -> None:
    root, state = tmp_path / "shop", tmp_path / "state"
    root.mkdir()
    (root / "dataface.yml").write_text("{}\n", "utf-8")
    folder = project_folder(state, root)
    write_spans(folder, 12_000)
    with subprocess.Popen(command(running, root, state), stdout=subprocess.DEVNULL) as process:
        wait_until("something is marked", lambda: marked(folder), every=0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    told = running.replay(root, state)
    spans = spans_in(state)
    assert 0 < told["spans"] < len(spans)
    wait_until("all spans are in Jaeger", lambda: set(running.in_jaeger()) == ids(spans))
