"""One raw dialogue with the release's own stdio server, bare and observed: the streams are the same, byte for byte.

Normalised is what differs between two bare runs as well: the port of the preview, which is the next free one; the times
at which a face was compiled, a catalogue answer made and a query run; and in 0.4.0 the order of the ages of a face's
queries, which is the one in which their threads came to an end.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import Span, spans_in
from scenario import RELEASE, scenario

from context_telemetry.instrumentation import version
from context_telemetry.rehearsal.driver import (
    FORMER_TOOLS,
    HEALTHY_TOOLS,
    TEMPLATE_RESOURCES,
    Call,
    Raw,
    observed,
    plain,
    resource,
    tool,
)
from context_telemetry.rehearsal.sample import Sample

pytestmark = pytest.mark.real

_VARYING = re.compile(rb"(?<=localhost:)\d+|20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}")
_BY_THREADS = re.compile(rb"board_query_data_ages.*")  # the last of its object

RACING = "faces/catalog.yml" if version(RELEASE) < version("0.2.0") else None
"""Two schema queries at once race before 0.2.0 and give one answer or another, observed or not."""
FAILING = (
    tool("execute_query", sql="SELECT no_such_column FROM fct_orders", source="shop"),
    tool("execute_query", sql="SELECT 1 AS one", source="no_such_source"),
    tool("execute_query"),
    tool("no_such_tool"),
    tool("render_dashboard", path="faces/no_such_face.yml"),
    tool("render_dashboard", path="faces/broken.yml"),
    tool("render_dashboard", path="faces/lost.yml"),
    tool("describe_dashboard", path="faces/broken.yml"),
    tool("search_dashboards", query="orders"),
    resource("dataface://dashboards"),
    resource("dataface://dashboard/broken.yml"),
    resource("dataface://docs/no_such_topic"),
    resource("dataface://no_such_resource"),
)
RULELESS: tuple[dict[str, Any] | str, ...] = (
    {"jsonrpc": "2.0", "id": "a", "method": "tools/call", "params": {"arguments": {}}},
    {"jsonrpc": "2.0", "id": "b", "method": "no/such_method"},
    {"jsonrpc": "2.0", "id": "c", "method": "prompts/list"},
    {"jsonrpc": "2.0", "id": "d", "method": "ping"},
)
LISTS = ("tools/list", "resources/list", "resources/templates/list")
THREADED = tool("render_dashboard", path="faces/orders.yml", format="text")


def calls() -> list[Call]:
    healthy = [each for each in (*HEALTHY_TOOLS, *FORMER_TOOLS) if each.arguments.get("path", "") != RACING]
    return [*healthy, *TEMPLATE_RESOURCES, *FAILING, *[THREADED] * 5]


def normalised(line: bytes) -> bytes:
    return _BY_THREADS.sub(lambda found: bytes(sorted(found[0])), _VARYING.sub(b"*", line))


@dataclass(frozen=True)
class Run:
    """What went over the pipes, and the exit code."""

    received: list[bytes]
    code: int


def dialogue(project: Path, command: list[str], env: dict[str, str]) -> Run:
    with Raw(project, command=command, env=env) as raw:
        raw.initialize("claude-code")
        for method in LISTS:
            raw.request(method)
        for call in calls():
            if call.uri is not None:
                raw.request("resources/read", {"uri": call.uri})
            else:
                raw.request("tools/call", {"name": call.tool, "arguments": call.arguments})
        for message in RULELESS:
            raw.send(message)
            raw.receive()
        code = raw.close()
    return Run([normalised(line) for line in raw.received], code)


@dataclass(frozen=True)
class Pair:
    bare: Run
    observed: Run
    spans: list[Span]


@pytest.fixture(scope="module")
def pair(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    project = sample.copy(tmp_path_factory.mktemp("bytes") / "shop").root
    faces = project / "faces"
    (faces / "broken.yml").write_text("title: [\n")
    (faces / "lost.yml").write_text(
        "title: Lost\nsource: shop\nqueries: {a: {sql: select gone from fct_orders}}\n"
        "charts: {c: {type: table, query: a}}\nrows: [c]\n"
    )
    state = tmp_path_factory.mktemp("state")
    bare = dialogue(project, plain(), {})
    seen = dialogue(project, observed(), {"CONTEXT_TELEMETRY_STATE_DIR": str(state)})
    return Pair(bare, seen, spans_in(state))


@scenario("bytes unchanged")
def test_the_server_s_stream_is_the_same_byte_for_byte(pair: Pair) -> None:
    assert len(pair.bare.received) == 1 + len(LISTS) + len(calls()) + len(RULELESS)
    different = [
        (bare[:200], seen[:200])
        for bare, seen in zip(pair.bare.received, pair.observed.received, strict=True)
        if bare != seen
    ]
    assert different == []
    assert pair.bare.code == pair.observed.code == 0


@scenario("bytes unchanged")
def test_each_request_of_that_dialogue_is_one_span(pair: Pair) -> None:
    methods = Counter(
        span.attributes.get("mcp.method.name") for span in pair.spans if "mcp.method.name" in span.attributes
    )
    expected = Counter("resources/read" if each.uri is not None else "tools/call" for each in calls())
    assert methods == expected + Counter(
        [*LISTS, "initialize", "tools/call", "no/such_method", "prompts/list"]
    )


@scenario("MCP requests")
def test_queries_in_threads_of_the_server_are_neither_lost_nor_doubled(pair: Pair) -> None:
    """The face that is rendered five times, one after the other, has three queries, each in a thread."""
    entries = [span for span in pair.spans if span.attributes.get("gen_ai.tool.name") == "render_dashboard"][
        -5:
    ]
    by_id = {span.span_id: span for span in pair.spans}
    assert len(by_id) == len(pair.spans)
    assert {span.outcome for span in entries} == {"ok"}
    for entry in entries:
        queries = [
            span for span in pair.spans if span.trace_id == entry.trace_id and span.name == "query.execute"
        ]
        assert len(queries) == 3
        assert {by_id[by_id[query.parent_id].parent_id].span_id for query in queries} == {entry.span_id}
