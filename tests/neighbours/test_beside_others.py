"""Beside other instrumentations and a host's own providers: one SERVER span per request and page, read as alone.

Where there are two, a test says whose; docs/neighbours.md is the same for people. These tests need packages that
nothing else here needs, in an environment of their own: `python3 dev.py neighbours`.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpserver
import pytest
from host import NEIGHBOURS

from context_telemetry.rehearsal import driver
from context_telemetry.rehearsal.driver import Answer, Client, tool
from context_telemetry.rehearsal.sample import Sample

pytestmark = pytest.mark.real
HOST = Path(__file__).parent / "host.py"
PAGE = Path(__file__).parents[2] / "docs" / "neighbours.md"

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
    return answers, spans_of(spans)


def spans_of(file: Path) -> list[Told]:
    """Everything that the host's exporter got, in the order in which it ended."""
    told = []
    for line in file.read_text("utf-8").splitlines():
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
    return told


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


# -- pages -----------------------------------------------------------------------------------------

# What a browser asks for, the trace that it says it is in, and the reading that its span has.
PAGES = {
    "/orders/": ("11" * 16, ("ok", None)),
    "/orders.yaml": ("22" * 16, ("ok", None)),
    "/nowhere/": ("33" * 16, ("degraded", ["resource_unknown"])),
}
CALLER = "44" * 8
TWICE = "asgi_around"
"""Beside this one a page has two server spans: its own, which knows nothing of FastAPI, and FastAPI's."""


@dataclass(frozen=True)
class Visited:
    """The pages of a server beside a neighbour, by their path, and the spans of each."""

    answers: Mapping[str, httpserver.Answer]
    spans: Mapping[str, list[Told]]


def visit(folder: Path, project: Path, neighbour: str) -> Visited:
    spans = folder / f"{neighbour}.jsonl"
    command = [sys.executable, str(HOST), neighbour, str(spans)]
    with httpserver.serving(project, folder / "serve.log", dft=command) as server:
        answers = {
            path: server.get(path, {"traceparent": f"00-{trace}-{CALLER}-01"})
            for path, (trace, _) in PAGES.items()
        }
    told = spans_of(spans)
    return Visited(
        answers,
        {path: [each for each in told if each.trace == f"0x{trace}"] for path, (trace, _) in PAGES.items()},
    )


@pytest.fixture(scope="module")
def visited_alone(tmp_path_factory: pytest.TempPathFactory, sample: Sample) -> Visited:
    folder = tmp_path_factory.mktemp("alone")
    return visit(folder, sample.copy(folder / "shop").root, "alone")


@pytest.fixture(scope="module", params=list(NEIGHBOURS))
def visited(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, sample: Sample) -> Any:
    folder = tmp_path_factory.mktemp("visited")
    return request.param, visit(folder, sample.copy(folder / "shop").root, request.param)


def test_each_page_is_answered_as_alone_and_one_span_of_its_caller_s_trace_has_its_reading(
    visited: Any, visited_alone: Visited
) -> None:
    _, beside = visited
    assert [each.status for each in beside.answers.values()] == [200, 200, 404]
    for path in ("/orders.yaml", "/nowhere/"):  # a page says when it was made
        assert beside.answers[path] == visited_alone.answers[path]
    for path, (_, reading) in PAGES.items():
        (read,) = [each for each in beside.spans[path] if "dataface.outcome" in each.attributes and top(each)]
        assert (read.kind, read.attributes["dataface.operation.name"]) == ("SERVER", "page.serve")
        attributes = read.attributes
        assert (attributes["dataface.outcome"], attributes.get("dataface.degradation.reasons")) == reading
        by_id = {each.id: each for each in beside.spans[path]}
        for inner in beside.spans[path]:
            if inner.attributes.get("dataface.entry") is False:
                while not top(inner):
                    inner = by_id[str(inner.parent)]
                assert inner is read


def test_each_page_has_one_server_span_and_beside_asgi_around_the_application_a_second_without_a_reading(
    visited: Any,
) -> None:
    neighbour, beside = visited
    for path, spans in beside.spans.items():
        servers = [each for each in spans if each.kind == "SERVER"]
        assert all(top(each) for each in servers)
        without = [each for each in servers if "dataface.outcome" not in each.attributes]
        assert len(servers) == len(without) + 1
        assert [each.name for each in without] == ([f"GET {path}"] if neighbour == TWICE else [])
        # It is the contributed middleware's, and the other one FastAPI's own.
        assert [each.attributes["http.target"] for each in without] == [path] * len(without)
        assert not any(name.startswith("dataface.") for each in without for name in each.attributes)


def top(span: Told) -> bool:
    """Whether the caller is what is above it."""
    return span.parent == f"0x{CALLER}"


def test_the_page_for_people_has_a_row_for_each_neighbour_and_its_tests() -> None:
    rows = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ")]
    for neighbour in NEIGHBOURS:
        (row,) = [row for row in rows if f"`{neighbour}`" in row]
        assert ("two" in row.split("|")[3]) is (neighbour == TWICE)
