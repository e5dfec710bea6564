"""The MCP entry on real Dataface: one SERVER span per request as OpenTelemetry's MCP conventions say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from inprocess import INITIALIZE, entry_of, exchange, with_client
from memory import Memory, attributes
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from context_telemetry.rehearsal.driver import (
    HEALTHY_TOOLS,
    Client,
    every_resource,
    every_tool,
    resource,
    tool,
)
from context_telemetry.rehearsal.sample import Sample

pytestmark = pytest.mark.real

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def requests(memory: Memory) -> list[ReadableSpan]:
    return [span for span in memory.spans if "mcp.method.name" in attributes(span)]


def test_a_tool_call_is_named_and_described_as_the_conventions_say(sample: Sample, memory: Memory) -> None:
    call = {"id": 7, "method": "tools/call", "params": {"name": "docs", "arguments": {}}}
    *_, answer = exchange(sample.root, [*INITIALIZE, call])
    initialize, docs = requests(memory)
    assert (initialize.name, docs.name) == ("initialize", "tools/call docs")
    assert docs.kind is SpanKind.SERVER
    assert docs.status.status_code is StatusCode.UNSET
    text = answer["result"]["content"][0]["text"]
    found = attributes(docs)
    for what_it_had in ("dataface.context.fingerprint", "dataface.context.parts"):  # see test_identity
        found.pop(what_it_had, None)
    assert found == {
        "dataface.operation.name": "tool.call",
        "dataface.entry": True,
        "dataface.outcome": "ok",
        "dataface.surface": "mcp",
        "dataface.client.name": "claude_code",
        "dataface.payload.size": len(text.encode()),
        "dataface.payload.kind": "tool_result",
        "dataface.payload.limit": attributes(docs)["dataface.payload.limit"],
        "mcp.method.name": "tools/call",
        "mcp.protocol.version": "2025-06-18",
        "gen_ai.tool.name": "docs",
        "gen_ai.operation.name": "execute_tool",
        "jsonrpc.request.id": "7",
    }
    assert attributes(initialize)["jsonrpc.request.id"] == "first"
    assert attributes(initialize)["dataface.operation.name"] == "mcp.initialize"


@pytest.mark.parametrize(
    ("message", "code", "operation"),
    [
        ({"method": "tools/call", "params": {"arguments": {}}}, "-32602", "tool.call"),
        ({"method": "resources/read", "params": {"uri": 5}}, "-32602", "resource.read"),
        ({"method": "no/such_method"}, "-32602", None),
        ({"method": "prompts/get", "params": {"name": "x"}}, "-32601", None),
        ({"method": "prompts/list"}, "-32601", "mcp.list"),
    ],
)
def test_requests_that_reach_no_handler_are_spans_too(
    sample: Sample, memory: Memory, message: dict[str, Any], code: str, operation: str | None
) -> None:
    *_, answer = exchange(sample.root, [*INITIALIZE, {"id": 1, **message}])
    assert str(answer["error"]["code"]) == code
    span = requests(memory)[-1]
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["error.type"] == attributes(span)["rpc.response.status_code"] == code
    assert attributes(span)["mcp.method.name"] == message["method"]
    assert attributes(span).get("dataface.operation.name") == operation


def test_a_call_before_initialisation_is_seen_with_its_error(sample: Sample, memory: Memory) -> None:
    (answer,) = exchange(sample.root, [{"id": 1, "method": "tools/list"}])
    assert "error" in answer
    (span,) = requests(memory)
    assert attributes(span)["error.type"] == str(answer["error"]["code"])


def test_invalid_arguments_and_unknown_tools_are_tool_errors_without_reasons(
    sample: Sample, memory: Memory
) -> None:
    calls = [
        {"id": 1, "method": "tools/call", "params": {"name": "execute_query", "arguments": {}}},
        {"id": 2, "method": "tools/call", "params": {"name": "drop_everything", "arguments": {}}},
    ]
    exchange(sample.root, [*INITIALIZE, *calls])
    for span in requests(memory)[-2:]:
        assert attributes(span)["error.type"] == "tool_error"
        assert attributes(span)["dataface.outcome"] == "failed"
        assert "dataface.degradation.reasons" not in attributes(span)


def test_pings_are_not_observed(sample: Sample, memory: Memory) -> None:
    exchange(sample.root, [*INITIALIZE, {"id": 1, "method": "ping"}])
    assert [span.name for span in requests(memory)] == ["initialize"]


def test_the_client_s_trace_is_the_parent_and_an_ambient_span_a_link(sample: Sample, memory: Memory) -> None:
    meta = {"traceparent": f"00-{TRACE}-{PARENT}-01", "progressToken": 3}
    call = {"id": 1, "method": "tools/call", "params": {"name": "docs", "arguments": {}, "_meta": meta}}
    read = {"id": 2, "method": "resources/read", "params": {"uri": "dataface://dashboards", "_meta": meta}}
    with memory.tracer_provider.get_tracer("host").start_as_current_span("host") as host:
        exchange(sample.root, [*INITIALIZE, call, read])
    initialize, docs, dashboards = requests(memory)
    assert initialize.parent is not None
    assert initialize.parent.span_id == host.get_span_context().span_id
    for span in (docs, dashboards):
        assert span.parent is not None
        assert trace.format_span_id(span.parent.span_id) == PARENT
        assert span.context is not None
        assert trace.format_trace_id(span.context.trace_id) == TRACE
        assert [link.context.span_id for link in span.links] == [host.get_span_context().span_id]


def test_malformed_trace_context_is_ignored(sample: Sample, memory: Memory) -> None:
    for meta in ({"traceparent": "nonsense"}, {"traceparent": 5}, {"baggage": "=;;="}, {}):
        memory.clear()
        call = {"id": 1, "method": "tools/call", "params": {"name": "docs", "arguments": {}, "_meta": meta}}
        exchange(sample.root, [*INITIALIZE, call])
        span = requests(memory)[-1]
        assert span.parent is None
        assert not span.links


def test_inner_operations_stand_below_their_request_worker_threads_included(
    sample: Sample, memory: Memory
) -> None:
    async def render(client: Client) -> None:
        memory.clear()
        await client.send(tool("render_dashboard", path="faces/customers.yml"))

    with_client(sample.root, render)
    entry = entry_of(memory.spans)
    assert entry.context is not None
    by_id = {span.context.span_id: span for span in memory.spans if span.context is not None}
    spans = [
        span for span in memory.spans if span.name != "tools/list"
    ]  # the client's own look at the schemas
    names = sorted(span.name for span in spans)
    assert names.count("dashboard.render") == 1
    assert names.count("tools/call render_dashboard") == 1
    assert "query.execute" in names
    assert "manifest.load" in names
    for span in spans:
        while span.parent is not None:
            span = by_id[span.parent.span_id]
        assert span is entry
    queries = [span for span in memory.spans if span.name == "query.execute"]
    assert {span.kind for span in queries} == {SpanKind.CLIENT}
    assert all(attributes(span)["db.system.name"] == "duckdb" for span in queries)
    assert all("db.query.text" not in attributes(span) for span in queries)


def test_sql_on_the_warehouse_s_metadata_is_catalogue_access(sample: Sample, memory: Memory) -> None:
    async def ask(client: Client) -> None:
        memory.clear()
        await client.send(
            tool("execute_query", sql="SELECT * FROM information_schema.columns", source="shop")
        )

    with_client(sample.root, ask)
    (inner,) = [span for span in memory.spans if span.name == "catalog.resolve"]
    assert not [span for span in memory.spans if span.name == "query.execute"]
    assert attributes(inner)["dataface.catalog.layers"] == ("metadata_sql",)


def test_sizes_of_every_tool_and_resource_are_the_bytes_that_the_client_got(
    sample: Sample, memory: Memory
) -> None:
    async def all_of_them(client: Client) -> None:
        memory.clear()
        await every_tool(client)
        await every_resource(client)
        entries = [
            span
            for span in memory.spans
            if attributes(span).get("dataface.operation.name") in ("tool.call", "resource.read")
        ]
        assert len(entries) == len(client.answers)
        assert [attributes(span)["dataface.payload.size"] for span in entries] == [
            a.size for a in client.answers
        ]

    with_client(sample.root, all_of_them)


def test_non_ascii_payloads_are_counted_in_utf8_bytes(project: Path, memory: Memory) -> None:
    (project / "faces" / "umlauts.yml").write_text(
        "title: Größe – 大きさ\nsource: shop\nqueries: {a: {sql: select 1 as n}}\n"
        "charts: {c: {type: kpi, query: a, value: n}}\nrows: [c]\n",
        encoding="utf-8",
    )

    async def read(client: Client) -> int:
        memory.clear()
        return (await client.send(resource("dataface://dashboard/umlauts.yml"))).size

    size = with_client(project, read)
    assert attributes(entry_of(memory.spans))["dataface.payload.size"] == size


def test_an_hour_s_mix_of_healthy_calls_raises_no_reason(sample: Sample, memory: Memory) -> None:
    async def mix(client: Client) -> None:
        memory.clear()
        for _ in range(3):
            for call in HEALTHY_TOOLS:
                await client.send(call)
            await client.send(resource("dataface://dashboards"))
            await client.send(resource("dataface://docs/all"))
            await client.send(resource("dataface://docs/reference"))
            await client.send(resource("dataface://dashboard/customers.yml"))

    with_client(sample.root, mix)
    entries = [attributes(span) for span in requests(memory) if span.name != "tools/list"]
    assert len(entries) == 3 * (len(HEALTHY_TOOLS) + 4)
    assert {entry["dataface.outcome"] for entry in entries} == {"ok"}
    assert not any("dataface.degradation.reasons" in entry for entry in entries)


def test_the_end_of_a_session_is_an_event_and_a_duration(sample: Sample, memory: Memory) -> None:
    exchange(sample.root, INITIALIZE)
    name, said = [event for event in memory.events if event[0] == "dataface.session.ended"][-1]
    assert name == "dataface.session.ended"
    assert said["dataface.client.name"] == "claude_code"
    assert said["mcp.protocol.version"] == "2025-06-18"
    assert said["dataface.session.duration"] > 0
    assert memory.points()["mcp.server.session.duration"]


def test_another_mcp_server_in_the_process_is_left_alone(memory: Memory) -> None:
    import asyncio

    from mcp.server import Server
    from mcp.shared.memory import create_connected_server_and_client_session

    async def use() -> None:
        async with create_connected_server_and_client_session(Server("someone-else")) as client:
            await client.send_ping()

    asyncio.run(use())
    assert requests(memory) == []


def test_empty_files_and_directory_defaults_are_no_lost_faces(project: Path, memory: Memory) -> None:
    """`dft init` writes a meta.yaml of comments only."""
    (project / "faces" / "meta.yaml").write_text("# defaults for this folder\n")
    (project / "faces" / "empty.yml").write_text("")

    async def look(client: Client) -> None:
        memory.clear()
        await client.send(tool("search_dashboards", query="revenue"))
        await client.send(resource("dataface://dashboards"))

    with_client(project, look)
    entries = [attributes(span) for span in requests(memory) if span.name != "tools/list"]
    assert [entry["dataface.outcome"] for entry in entries] == ["ok", "ok"]


def test_a_face_that_was_left_out_is_named_on_the_operation_that_left_it_out(
    project: Path, memory: Memory
) -> None:
    (project / "faces" / "broken.yml").write_text("title: [\n")

    async def look(client: Client) -> None:
        memory.clear()
        await client.send(tool("search_dashboards", query="revenue"))

    with_client(project, look)
    assert attributes(memory.span("dashboard.search"))["dataface.face"] == "faces/broken.yml"


def test_a_glob_that_matches_nothing_is_no_unknown_object(project: Path, memory: Memory) -> None:
    (project / "faces" / "glob.yml").write_text(
        "title: G\nsource: shop\nqueries: {a: {type: schema, source: shop, schema: main, table: 'zz*'}}\n"
        "charts: {c: {type: table, query: a}}\nrows: [c]\n"
    )

    async def render(client: Client) -> None:
        memory.clear()
        await client.send(tool("render_dashboard", path="faces/glob.yml"))

    with_client(project, render)
    assert "object_unknown" not in attributes(entry_of(memory.spans)).get("dataface.degradation.reasons", ())


def test_what_is_no_name_of_an_object_is_not_exported_as_one(sample: Sample, memory: Memory) -> None:
    async def ask(client: Client) -> None:
        memory.clear()
        await client.send(tool("execute_query", sql="SELECT 1", source="select * from t where ssn = '1'"))

    with_client(sample.root, ask)
    assert attributes(memory.span("query.execute"))["dataface.catalog.source"] == "_OTHER"


def test_a_chart_on_a_tab_that_is_not_drawn_counts_as_failed(project: Path, memory: Memory) -> None:
    (project / "faces" / "tabs.yml").write_text(
        "title: T\nsource: shop\nqueries: {a: {sql: select 1 as n}, b: {sql: select gone from fct_orders}}\n"
        "charts: {one: {type: kpi, query: a, value: n}, two: {type: table, query: b}}\n"
        "tabs: {items: [{title: A, rows: [one]}, {title: B, rows: [two]}]}\n"
    )

    async def render(client: Client) -> None:
        memory.clear()
        await client.send(tool("render_dashboard", path="faces/tabs.yml", format="svg"))

    with_client(project, render)
    assert attributes(entry_of(memory.spans))["dataface.degradation.reasons"] == ("charts_failed",)
