"""Beside other instrumentations and a host's own providers: one SERVER span per MCP request, each reading as alone.

These tests need packages that nothing else here needs, in an environment of their own: `python3 dev.py neighbours`.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from host import NEIGHBOURS

from context_telemetry.rehearsal import driver
from context_telemetry.rehearsal.driver import Answer, Client, tool
from context_telemetry.rehearsal.sample import Sample

pytestmark = pytest.mark.real
HOST = Path(__file__).parent / "host.py"

HEALTHY = tool("execute_query", sql="SELECT count(*) AS orders FROM fct_orders", source="shop")
SUBSTITUTED = tool("execute_query", sql="SELECT 1 AS one", source="nowhere")
RENDERED = tool("render_dashboard", path="faces/revenue.yml")
CALLS = (HEALTHY, SUBSTITUTED, RENDERED)

# Spans that a neighbour adds to a request, below ours and never as a second server's.
ADDED = {
    "traceloop": {"ResponseStreamWriter"},
    "logfire": {"MCP server handle request: tools/call", "MCP server handle request: tools/list"},
}


@dataclass(frozen=True)
class Told:
    """One span as the host's exporter got it."""

    name: str
    kind: str
    id: str
    parent: str | None
    trace: str
    attributes: Mapping[str, Any]


def serve(folder: Path, project: Path, neighbour: str) -> tuple[list[Answer], list[Told]]:
    """The answers of a real server beside ``neighbour``, and all spans of the process."""
    spans = folder / f"{neighbour}.jsonl"
    command = [sys.executable, str(HOST), neighbour, str(spans), "mcp", "serve"]

    async def send(client: Client) -> list[Answer]:
        for call in CALLS:
            await client.send(call)
        return client.answers

    answers = driver.with_session(project, send, command=command)
    told = []
    for line in spans.read_text("utf-8").splitlines():
        span = json.loads(line)
        context = span["context"]
        told.append(
            Told(
                span["name"],
                span["kind"].removeprefix("SpanKind."),
                context["span_id"],
                span["parent_id"],
                context["trace_id"],
                span["attributes"],
            )
        )
    return answers, told


Served = tuple[list[Answer], list[Told]]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, sample: Sample) -> Served:
    folder = tmp_path_factory.mktemp("alone")
    return serve(folder, sample.copy(folder / "shop").root, "alone")


@pytest.fixture(scope="module", params=[each for each in NEIGHBOURS if each != "alone"])
def beside(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, sample: Sample) -> Any:
    folder = tmp_path_factory.mktemp("beside")
    return request.param, *serve(folder, sample.copy(folder / "shop").root, request.param)


def test_each_request_has_one_server_span_and_the_reading_that_it_has_alone(
    beside: Any, alone: Served
) -> None:
    neighbour, answers, spans = beside
    assert [each.is_error for each in answers] == [each.is_error for each in alone[0]]
    assert [each.text for each in answers[:2]] == [
        each.text for each in alone[0][:2]
    ]  # a render says when it was
    assert readings(spans) == readings(alone[1])
    assert [outcome for _, outcome, _ in readings(spans) if outcome != "ok"] == ["degraded"]
    others = Counter(each.name for each in spans) - Counter(each.name for each in alone[1])
    assert set(others) == ADDED.get(neighbour, set())


def test_what_is_below_a_request_is_in_its_trace_with_that_of_the_neighbour_between(beside: Any) -> None:
    _, _, spans = beside
    by_id = {each.id: each for each in spans}
    inner = [each for each in spans if each.attributes.get("dataface.entry") is False]
    assert {each.name for each in inner} >= {"dashboard.render", "query.execute"}
    for each in inner:
        top = each
        while top.parent is not None:
            top = by_id[top.parent]
        assert (top.kind, top.trace) == ("SERVER", each.trace)


def readings(spans: list[Told]) -> list[tuple[str, Any, Any]]:
    """Name, outcome and reasons of every server span, in the order in which they ended."""
    return [
        (
            each.name,
            each.attributes.get("dataface.outcome"),
            each.attributes.get("dataface.degradation.reasons"),
        )
        for each in spans
        if each.kind == "SERVER"
    ]
