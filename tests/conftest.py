"""What the tests share: the sample project, built once, and a server observed with a state folder of its own.

Tests drive real Dataface; the fixtures start servers one after the other, and each stops what it started.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from inprocess import instrumented
from memory import Memory

from context_telemetry.rehearsal import driver
from context_telemetry.rehearsal.driver import Answer, Call
from context_telemetry.rehearsal.sample import Sample, create

# They need packages of an environment of their own: python3 dev.py neighbours.
collect_ignore = [] if importlib.util.find_spec("openinference") else ["neighbours"]
pytest_plugins = ["matrix"]  # tests/releases/matrix.py: which scenarios run here, and what became of them
# A shell that puts the tests into the background has them ignore it, and what they start would too.
signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class Span:
    """A span as it lies in the local files, with plain attribute values."""

    name: str
    attributes: Mapping[str, Any]
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    scope: str
    start: int
    end: int
    status: Mapping[str, Any] = field(default_factory=dict)

    @property
    def reasons(self) -> frozenset[str]:
        return frozenset(self.attributes.get("dataface.degradation.reasons", ()))

    @property
    def outcome(self) -> str | None:
        value = self.attributes.get("dataface.outcome")
        return None if value is None else str(value)

    @property
    def entry(self) -> bool:
        return bool(self.attributes.get("dataface.entry"))


@dataclass(frozen=True)
class Event:
    """A log event as it lies in the local files."""

    name: str
    attributes: Mapping[str, Any]
    severity: str
    time: int


@dataclass(frozen=True)
class Recorded:
    """What an observed process answered and left behind."""

    answers: list[Answer]
    spans: list[Span]
    events: list[Event]
    state_dir: Path
    stderr: str

    @property
    def entries(self) -> list[Span]:
        return [span for span in self.spans if span.entry]

    @property
    def requested(self) -> list[Span]:
        """The entries of the calls that were sent, one for each and in their order (without lists)."""
        methods = ("tools/call", "resources/read")
        return [span for span in self.entries if span.attributes.get("mcp.method.name") in methods]

    def tool_calls(self, name: str | None = None) -> list[Span]:
        """The entries of tool calls in the order they were called."""
        calls = [span for span in self.entries if span.attributes.get("mcp.method.name") == "tools/call"]
        return [span for span in calls if name in (None, span.attributes.get("gen_ai.tool.name"))]

    def below(self, entry: Span) -> list[Span]:
        """The other spans of the same trace."""
        return [span for span in self.spans if span.trace_id == entry.trace_id and span is not entry]


Observed = Callable[..., Recorded]

WATCH = "CONTEXT_TELEMETRY_CONTRACT_WATCH"
"""Off here, but for tests of what it starts: a process beside each server would be most of what a test costs."""


@pytest.fixture(autouse=True, scope="session")
def _isolated_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's own folders, or an endpoint that the shell has set."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.setenv("XDG_STATE_HOME", str(home / "state"))
        for name in [name for name in os.environ if name.startswith(driver.STEERING)]:
            patch.delenv(name)
        patch.setenv(WATCH, "false")
        yield


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """The sample project, built by dbt once per session: read it, and take `project` to change it."""
    return create(tmp_path_factory.mktemp("sample") / "shop")


@pytest.fixture
def project(sample: Sample, tmp_path: Path) -> Path:
    """A copy of the sample project that belongs to the test."""
    return sample.copy(tmp_path / "shop").root


@pytest.fixture(scope="module")
def everything() -> Iterator[Memory]:
    """Dataface observed in this process for all tests of a module, and what was recorded."""
    with instrumented() as made:
        yield made


@pytest.fixture
def memory(everything: Memory) -> Memory:
    """The same, of this test alone."""
    everything.clear()
    return everything


@pytest.fixture
def observed(tmp_path: Path) -> Observed:
    """`observe`, with a new folder for what each run leaves behind."""
    runs = itertools.count()
    return lambda *args, **options: observe(tmp_path / f"run-{next(runs)}", *args, **options)


def observe(
    folder: Path,
    project: Path,
    calls: Sequence[Call],
    *,
    env: Mapping[str, str] | None = None,
    before: Mapping[int, Callable[[], object]] | None = None,
    **options: Any,
) -> Recorded:
    """Runs a server observed, sends it the calls, stops it, and returns its spans and events from the files.

    A function in `before` runs before the call with its index is sent; other options as `driver.session`.
    """
    state_dir, log = folder / "state", folder / "stderr.txt"
    folder.mkdir(parents=True)

    async def send(client: driver.Client) -> list[Answer]:
        for index, call in enumerate(calls):
            (before or {}).get(index, lambda: None)()
            await client.send(call)
        return client.answers

    with log.open("w") as stderr:
        answers = driver.with_session(
            project,
            send,
            env={"CONTEXT_TELEMETRY_STATE_DIR": str(state_dir), WATCH: "false", **(env or {})},
            stderr=stderr,
            **options,
        )
    return Recorded(answers, spans_in(state_dir), events_in(state_dir), state_dir, log.read_text())


def spans_in(state_dir: Path) -> list[Span]:
    """Every span in the local files below a state folder, by start time."""
    spans = [
        Span(
            name=span["name"],
            attributes=_attributes(span),
            trace_id=span["traceId"],
            span_id=span["spanId"],
            parent_id=span.get("parentSpanId", ""),
            kind=span.get("kind", 0),
            scope=scope["scope"]["name"],
            start=int(span["startTimeUnixNano"]),
            end=int(span["endTimeUnixNano"]),
            status=span.get("status", {}),
        )
        for scope in _scopes(state_dir, "traces", "resourceSpans", "scopeSpans")
        for span in scope["spans"]
    ]
    return sorted(spans, key=lambda span: span.start)


def events_in(state_dir: Path) -> list[Event]:
    """Every log event in the local files below a state folder, in time order."""
    events = [
        Event(
            name=record.get("eventName", ""),
            attributes=_attributes(record),
            severity=record.get("severityText", ""),
            time=int(record.get("timeUnixNano", 0)),
        )
        for scope in _scopes(state_dir, "events", "resourceLogs", "scopeLogs")
        for record in scope["logRecords"]
    ]
    return sorted(events, key=lambda event: event.time)


def _scopes(state_dir: Path, kind: str, resources: str, scopes: str) -> Iterator[dict[str, Any]]:
    for path in sorted(state_dir.glob(f"*/{kind}-*.jsonl")):
        for line in path.read_text("utf-8").splitlines():
            for resource in json.loads(line)[resources]:
                yield from resource[scopes]


def _attributes(carrier: Mapping[str, Any]) -> dict[str, Any]:
    return {pair["key"]: _value(pair["value"]) for pair in carrier.get("attributes", ())}


def _value(value: Mapping[str, Any]) -> Any:
    (kind, content), *_ = value.items()
    if kind == "arrayValue":
        return [_value(item) for item in content.get("values", ())]
    return int(content) if kind == "intValue" else content
