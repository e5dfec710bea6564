"""Tools and resources on every release: what they answer, read by the shapes that each release answers in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from inprocess import answered, instrumented, opened, with_client
from memory import Memory, attributes
from opentelemetry.sdk.trace import ReadableSpan
from scenario import scenario

from context_telemetry.rehearsal.driver import (
    ALWAYS_UNKNOWN,
    FORMER_TOOLS,
    HEALTHY_TOOLS,
    Answer,
    Call,
    Client,
    every_resource,
    resource,
    tool,
)
from context_telemetry.rehearsal.sample import Sample

pytestmark = pytest.mark.real

BROKEN = "title: [\n"


@pytest.fixture
def memory() -> Iterator[Memory]:
    with instrumented() as made:
        yield made


def told(span: ReadableSpan) -> tuple[str, tuple[str, ...], str | None]:
    found = attributes(span)
    return found["dataface.outcome"], found.get("dataface.degradation.reasons", ()), found.get("error.type")


def codes(answer: Answer) -> list[str]:
    """The codes of the structured errors in an answer, in their order."""
    found: list[str] = []

    def walk(value: Any) -> None:
        for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            if (
                isinstance(each, str)
                and value is not each
                and isinstance(value, dict)
                and value.get("code") == each
            ):
                found.append(each)
            walk(each)

    walk(answer.json())
    return found


OK = ("ok", (), None)
FAILED = ("failed", (), "tool_error")
UNKNOWN = ("degraded", ("resource_unknown",), None)

# What each release answers whole: faces that this project has for newer ones, and the tools of the catalogue, which
# 0.1.2 to 0.1.4 cannot use in one process with a query on the same DuckDB file, are left to others.
WHOLE = [
    each
    for each in (*HEALTHY_TOOLS, *FORMER_TOOLS)
    if each.tool not in ("render_dashboard", "query_face", "schema", "schema_search")
]


@scenario("tools and resources")
def test_a_healthy_session_is_ok_and_sized_in_the_bytes_that_the_client_got(
    sample: Sample, memory: Memory
) -> None:
    async def everything(client: Client) -> list[Answer]:
        listed = {each.name for each in (await client.session.list_tools()).tools}
        memory.clear()
        calls = [
            *(each for each in WHOLE if each.tool in listed),
            tool("render_dashboard", path="faces/orders.yml", format="text"),
            tool("query_face", name="by_status", path="faces/orders.yml"),
        ]
        for each in calls:
            await client.send(each)
        await every_resource(client)
        return client.answers

    answers = with_client(sample.root, everything)
    spans = [each for each in memory.spans if each.name.startswith(("tools/call", "resources/read"))]
    outcomes = {str(answer.call): told(span) for answer, span in zip(answers, spans, strict=True)}
    unknown = {
        uri: UNKNOWN for uri in ALWAYS_UNKNOWN if uri in outcomes
    }  # listed, and answered with an error
    assert {call: outcome for call, outcome in outcomes.items() if outcome != OK} == unknown
    sizes = [attributes(span)["dataface.payload.size"] for span in spans]
    assert sizes == [answer.size for answer in answers]


@scenario("tools and resources")
def test_a_query_that_fails_is_a_failed_call_with_no_reason(sample: Sample, memory: Memory) -> None:
    broken, healthy = (
        tool("execute_query", sql=f"SELECT {column} FROM fct_orders", source="shop")
        for column in ("no_such_column", "status")
    )
    (failed, seen), (fine, well) = answered(sample.root, memory, broken, healthy)
    assert (failed.is_error, fine.is_error) == (True, False)
    assert (told(seen), told(well)) == (FAILED, OK)


@scenario("tools and resources")
@pytest.mark.parametrize("name", ["validate_dashboard", "describe_dashboard", "render_dashboard"])
def test_a_face_that_does_not_parse_fails_its_tools_with_dataface_s_code(
    project: Path, memory: Memory, name: str
) -> None:
    (project / "faces" / "broken.yml").write_text(BROKEN)
    options: dict[str, Any] = {"format": "text"} if name == "render_dashboard" else {}
    (failed, seen), (_, well) = answered(
        project,
        memory,
        *(tool(name, path=f"faces/{face}.yml", **options) for face in ("broken", "orders")),
    )
    assert failed.is_error
    assert (told(seen), told(well)) == (FAILED, OK)
    assert attributes(seen)["dataface.error.code"] == codes(failed)[0]
    assert codes(failed)[0].startswith(("ERR-", "DF-"))


@scenario("tools and resources")
def test_a_handler_s_exception_keeps_its_class_outside_of_mcp(sample: Sample, memory: Memory) -> None:
    """Dispatch answers with the text alone; the host here is no MCP server."""
    from dataface.ai.tools import dispatch_tool_call

    with opened(sample.root) as (context, _):
        memory.clear()
        refused = dispatch_tool_call("render_dashboard", {"format": 5}, context=context)
        healthy = dispatch_tool_call("docs", {}, context=context)
    assert (refused["success"], healthy["success"]) == (False, True)
    failed, fine = (span for span in memory.spans if span.name == "tool.call")
    assert (told(failed), told(fine)) == (("failed", (), "ValidationError"), OK)
    assert attributes(failed)["dataface.entry"] is True
    assert attributes(failed)["dataface.surface"] == "library"
    assert attributes(failed)["gen_ai.tool.name"] == "render_dashboard"


@scenario("tools and resources")
def test_a_tool_that_a_model_has_invented_is_not_exported_by_whatever_it_is_called(
    sample: Sample, memory: Memory
) -> None:
    from dataface.ai.tools import dispatch_tool_call

    with opened(sample.root) as (context, _):
        memory.clear()
        for name in ("run SELECT secret", "x" * 4_000, "no_such_tool", "docs"):
            dispatch_tool_call(name, {}, context=context)
    named = [attributes(span)["gen_ai.tool.name"] for span in memory.spans if span.name == "tool.call"]
    assert named == ["_OTHER", "_OTHER", "no_such_tool", "docs"]


@scenario("tools and resources")
def test_a_resource_that_does_not_exist_is_answered_and_degraded(sample: Sample, memory: Memory) -> None:
    unknown: list[Call] = [
        resource("dataface://docs/no-such-topic"),
        resource("dataface://guide/no-such-guide"),
        resource("dataface://dashboard/no-such-face.yml"),
        resource("dataface://something"),
    ]
    healthy = [resource("dataface://docs/charts"), resource("dataface://dashboard/orders.yml")]
    asked = answered(sample.root, memory, *unknown, *healthy)
    assert [answer.is_error for answer, _ in asked] == [False] * 6
    assert [told(span) for _, span in asked] == [UNKNOWN] * 4 + [OK] * 2
    assert attributes(asked[2][1])["dataface.error.code"] == codes(asked[2][0])[0]


@scenario("tools and resources")
def test_a_dashboard_that_does_not_compile_is_an_unknown_resource(project: Path, memory: Memory) -> None:
    (project / "faces" / "broken.yml").write_text(BROKEN)
    ((answer, span),) = answered(project, memory, resource("dataface://dashboard/broken.yml"))
    assert not answer.is_error
    assert told(span) == UNKNOWN
    assert attributes(span)["dataface.error.code"] == codes(answer)[0]


@scenario("tools and resources")
def test_a_result_over_its_budget_is_degraded_and_one_within_is_not(sample: Sample, memory: Memory) -> None:
    rows = "SELECT * FROM fct_orders AS a CROSS JOIN (SELECT 1 AS one) AS b"
    large, small = (tool("execute_query", sql=rows, source="shop", limit=limit) for limit in (1_000, 5))
    (big, seen), (_, well) = answered(sample.root, memory, large, small)
    found = attributes(seen)
    assert found["dataface.payload.size"] == big.size > found["dataface.payload.limit"]
    assert told(seen) == ("degraded", ("payload_over_budget",), None)
    assert told(well) == OK
