"""Beside other instrumentations: one SERVER span per request and page, read as alone, in the host's pipeline or ours.

Where there are two, a test says whose; docs/neighbours.md is the same for people. These tests need packages that
nothing else here needs, in an environment of their own: `python3 dev.py neighbours`.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpserver
import pytest
from host import NEIGHBOURS, local_of
from told import Told, of_files, of_host

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

Way = Literal["host", "run"]
"""Whose pipeline it is: the host's own providers, or the library's, by `context-telemetry run`."""

# Spans that a neighbour adds to a request, below ours and never as a second server's.
ADDED = {
    "traceloop": {"ResponseStreamWriter"},
    "logfire": {"MCP server handle request: tools/call", "MCP server handle request: tools/list"},
}
# With a pipeline of ours those that can share it are switched on together, in as few servers: what each does by itself
# the host's way says.
SERVED = [
    *(("host", each) for each in NEIGHBOURS if each not in ("alone", "logfire_local")),
    ("run", "threading+logging+openinference+traceloop"),
    ("run", "logfire"),
]
VISITED = [
    *(("host", each) for each in NEIGHBOURS),
    ("run", "threading+logging+fastapi"),
    ("run", "asgi_inside"),
    ("run", "asgi_around"),
    ("run", "logfire"),
    ("run", "logfire_local"),
]


@dataclass(frozen=True)
class Left:
    """What a process has left: the spans that the host's providers got, ours, and those of an instance of logfire."""

    host: list[Told]
    ours: list[Told]
    local: list[Told]


def command(way: Way, neighbours: str, spans: Path) -> list[str]:
    """The `dft` of that host."""
    host = [sys.executable, str(HOST), way, neighbours, str(spans)]
    return driver.observed(host) if way == "run" else host


def left(spans: Path) -> Left:
    by_host = [of_host(each) if each.exists() else [] for each in (spans, local_of(spans))]
    return Left(by_host[0], of_files(state_of(spans)), by_host[1])


def state_of(spans: Path) -> Path:
    return spans.parent / "state"


def recorded(way: Way, neighbours: str, found: Left) -> list[Told]:
    """The spans of the pipeline in which ours are; there are none in the other."""
    ours = (
        way == "run" and neighbours != "logfire"
    )  # which brings the process's provider, so that we bring none
    here, elsewhere = (found.ours, found.host) if ours else (found.host, found.ours)
    assert elsewhere == []
    assert len({each.id for each in here}) == len(here)
    return here


def serve(folder: Path, project: Path, way: Way, neighbours: str) -> tuple[list[Answer], list[Told]]:
    """The answers of a real server beside ``neighbours``, and all spans of the process."""
    spans = folder / "spans.jsonl"

    async def send(client: Client) -> list[Answer]:
        for call in CALLS:
            await client.send(call)
        return client.answers

    answers = driver.with_session(
        project,
        send,
        command=[*command(way, neighbours, spans), "mcp", "serve"],
        env={
            "CONTEXT_TELEMETRY_STATE_DIR": str(state_of(spans)),
            "CONTEXT_TELEMETRY_CONTRACT_WATCH": "false",
        },
    )
    return answers, recorded(way, neighbours, left(spans))


Served = tuple[list[Answer], list[Told]]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, sample: Sample) -> Served:
    folder = tmp_path_factory.mktemp("alone")
    return serve(folder, sample.copy(folder / "shop").root, "host", "alone")


@pytest.fixture(scope="module", params=SERVED, ids=" ".join)
def beside(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, sample: Sample) -> Any:
    folder = tmp_path_factory.mktemp("beside")
    way, neighbours = request.param
    return neighbours, *serve(folder, sample.copy(folder / "shop").root, way, neighbours)


def test_each_request_has_one_server_span_and_the_reading_that_it_has_alone(
    beside: Any, alone: Served
) -> None:
    neighbours, answers, spans = beside
    assert [each.is_error for each in answers] == [each.is_error for each in alone[0]]
    assert [each.text for each in answers[:2]] == [
        each.text for each in alone[0][:2]
    ]  # a render says when it was
    assert readings(spans) == readings(alone[1])
    assert [outcome for _, outcome, _ in readings(spans) if outcome != "ok"] == ["degraded"]
    others = Counter(each.name for each in spans) - Counter(each.name for each in alone[1])
    assert set(others) == set().union(*(ADDED.get(each, set()) for each in neighbours.split("+")))


def test_what_is_below_a_request_is_in_its_trace_with_that_of_the_neighbour_between(beside: Any) -> None:
    neighbours, _, spans = beside
    by_id = {each.id: each for each in spans}
    inner = [each for each in spans if each.attributes.get("dataface.entry") is False]
    assert {each.name for each in inner} >= {"dashboard.render", "query.execute"}
    # The answer to `initialize` is written by the session itself, outside of a request.
    apart = [each for each in spans if each.parent is None and each.kind != "SERVER"]
    assert [each.name for each in apart] == ["ResponseStreamWriter"] * ("traceloop" in neighbours)
    for each in spans:
        if each in apart:
            continue
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
APART = "logfire_local"
"""Beside this one a page has a server span in each of two pipelines: ours is none of the other's business."""


@dataclass(frozen=True)
class Visited:
    """The pages of a server beside a neighbour, by their path, and the spans of each."""

    answers: Mapping[str, httpserver.Answer]
    spans: Mapping[str, list[Told]]
    local: Mapping[str, list[Told]]
    """Those of a pipeline beside."""


def visit(folder: Path, project: Path, way: Way, neighbours: str) -> Visited:
    spans = folder / "spans.jsonl"
    env = {"CONTEXT_TELEMETRY_STATE_DIR": str(state_of(spans))}
    with httpserver.serving(
        project, folder / "serve.log", env=env, dft=command(way, neighbours, spans)
    ) as server:
        answers = {
            path: server.get(path, {"traceparent": f"00-{trace}-{CALLER}-01"})
            for path, (trace, _) in PAGES.items()
        }
    found = left(spans)
    return Visited(
        answers,
        by_page(recorded(way, neighbours, found)),
        by_page(found.local),
    )


def by_page(spans: list[Told]) -> Mapping[str, list[Told]]:
    return {path: [each for each in spans if each.trace == trace] for path, (trace, _) in PAGES.items()}


@pytest.fixture(scope="module")
def visited_alone(tmp_path_factory: pytest.TempPathFactory, sample: Sample) -> Visited:
    folder = tmp_path_factory.mktemp("alone")
    return visit(folder, sample.copy(folder / "shop").root, "host", "alone")


@pytest.fixture(scope="module", params=VISITED, ids=" ".join)
def visited(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, sample: Sample) -> Any:
    way, neighbours = request.param
    if request.param == ("host", "alone"):
        return way, neighbours, request.getfixturevalue("visited_alone")
    folder = tmp_path_factory.mktemp("visited")
    return way, neighbours, visit(folder, sample.copy(folder / "shop").root, way, neighbours)


def test_each_page_is_answered_as_alone_and_one_span_of_its_caller_s_trace_has_its_reading(
    visited: Any, visited_alone: Visited
) -> None:
    _, _, beside = visited
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
    way, neighbour, beside = visited
    for path, spans in beside.spans.items():
        servers = [each for each in spans if each.kind == "SERVER"]
        assert all(top(each) for each in servers)
        without = [each for each in servers if "dataface.outcome" not in each.attributes]
        assert len(servers) == len(without) + 1
        assert [each.name for each in without] == ([f"GET {path}"] if neighbour == TWICE else [])
        # It is the contributed middleware's, and the other one FastAPI's own. Our pipeline lets no path through.
        shown = "[redacted]" if way == "run" else path
        assert [each.attributes["http.target"] for each in without] == [shown] * len(without)
        assert not any(name.startswith("dataface.") for each in without for name in each.attributes)


def test_an_instrumentation_with_a_pipeline_of_its_own_has_its_server_span_there_and_the_reading_is_with_ours(
    visited: Any,
) -> None:
    _, neighbour, beside = visited
    for spans in beside.local.values():
        apart = [(each.kind, top(each)) for each in spans if each.kind == "SERVER"]
        assert apart == ([("SERVER", True)] if neighbour == APART else [])
        assert not any(name.startswith("dataface.") for each in spans for name in each.attributes)


def top(span: Told) -> bool:
    """Whether the caller is what is above it."""
    return span.parent == CALLER


def test_the_page_for_people_has_a_row_for_each_neighbour_and_its_tests() -> None:
    rows = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ")]
    for neighbour in NEIGHBOURS:
        (row,) = [row for row in rows if f"`{neighbour}`" in row]
        assert ("two" in row.split("|")[3]) is (neighbour in (TWICE, APART))
