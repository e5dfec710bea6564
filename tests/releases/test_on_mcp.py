"""MCP requests on every release: one span each with the outcome that the client saw, and a project and an end."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from inprocess import INITIALIZE, exchange, instrumented
from memory import Memory, attributes
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode
from scenario import RELEASE, scenario

from context_telemetry.instrumentation import version
from context_telemetry.instrumentation.instrumentor import HOOKS
from context_telemetry.observe import project
from context_telemetry.rehearsal.sample import Sample

pytestmark = pytest.mark.real

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def memory() -> Iterator[Memory]:
    with instrumented() as made:
        yield made


def call(name: str, meta: dict[str, Any] | None = None, **arguments: Any) -> dict[str, Any]:
    params: dict[str, Any] = {"name": name, "arguments": arguments}
    return {"method": "tools/call", "params": {**params, **({"_meta": meta} if meta else {})}}


def requests(memory: Memory) -> list[ReadableSpan]:
    return [span for span in memory.spans if "mcp.method.name" in attributes(span)]


def ask(
    root: Path, memory: Memory, *messages: dict[str, Any]
) -> tuple[list[dict[str, Any]], list[ReadableSpan]]:
    """The answers to the messages that are sent after initialisation, and their spans."""
    numbered = [{"id": number, **message} for number, message in enumerate(messages, 1)]
    _, *answers = exchange(root, [*INITIALIZE, *numbered])
    return answers, requests(memory)[1:]


def told(span: ReadableSpan) -> tuple[Any, ...]:
    found = attributes(span)
    return (
        found.get("dataface.operation.name"),
        found["dataface.outcome"],
        found.get("dataface.degradation.reasons", ()),
        found.get("error.type"),
    )


@scenario("MCP requests")
def test_every_request_of_a_healthy_session_is_one_server_span(sample: Sample, memory: Memory) -> None:
    answers, spans = ask(
        sample.root,
        memory,
        {"method": "tools/list"},
        {"method": "resources/list"},
        {"method": "resources/templates/list"},
        call("docs"),
        {"method": "resources/read", "params": {"uri": "dataface://dashboards"}},
        {"method": "ping"},
    )
    assert all("result" in answer for answer in answers)
    assert [(span.name, *told(span)) for span in spans] == [
        ("tools/list", "mcp.list", "ok", (), None),
        ("resources/list", "mcp.list", "ok", (), None),
        ("resources/templates/list", "mcp.list", "ok", (), None),
        ("tools/call docs", "tool.call", "ok", (), None),
        ("resources/read", "resource.read", "ok", (), None),
    ]
    assert {span.kind for span in spans} == {SpanKind.SERVER}
    assert {span.status.status_code for span in spans} == {StatusCode.UNSET}
    assert {attributes(span)["dataface.surface"] for span in spans} == {"mcp"}
    assert {attributes(span)["dataface.client.name"] for span in spans} == {"claude_code"}
    assert {attributes(span)["mcp.protocol.version"] for span in spans} == {"2025-06-18"}


@scenario("MCP requests")
def test_invalid_arguments_fail_before_the_tool_is_dispatched(sample: Sample, memory: Memory) -> None:
    answers, (blocked, healthy) = ask(
        sample.root, memory, call("execute_query"), call("docs", topic="charts")
    )
    assert answers[0]["result"]["isError"]
    assert told(blocked) == ("tool.call", "failed", (), "tool_error")
    assert told(healthy) == ("tool.call", "ok", (), None)
    assert blocked.context is not None
    assert [span.name for span in memory.spans if span.parent == blocked.context] == []


@scenario("MCP requests")
def test_an_unknown_tool_fails_and_gives_its_name_to_no_span(sample: Sample, memory: Memory) -> None:
    answers, (unknown,) = ask(sample.root, memory, call("drop_everything"))
    assert answers[0]["result"]["isError"]
    assert unknown.name == "tools/call"
    assert attributes(unknown)["gen_ai.tool.name"] == "drop_everything"
    assert told(unknown) == ("tool.call", "failed", (), "tool_error")


@scenario("MCP requests")
def test_requests_that_reach_no_handler_fail_with_the_code_that_the_client_got(
    sample: Sample, memory: Memory
) -> None:
    answers, spans = ask(
        sample.root,
        memory,
        {"method": "tools/call", "params": {"arguments": {}}},
        {"method": "no/such_method"},
        {"method": "prompts/list"},
    )
    codes = [str(answer["error"]["code"]) for answer in answers]
    assert [told(span) for span in spans] == [
        ("tool.call", "failed", (), codes[0]),
        (None, "failed", (), codes[1]),
        ("mcp.list", "failed", (), codes[2]),
    ]
    assert [attributes(span)["rpc.response.status_code"] for span in spans] == codes
    assert spans[1].name == "_OTHER"


@scenario("MCP requests")
def test_the_client_s_trace_is_the_parent_of_its_request(sample: Sample, memory: Memory) -> None:
    meta = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    _, (alone, told_whose) = ask(sample.root, memory, call("docs"), call("docs", meta))
    assert alone.parent is None
    assert told_whose.parent is not None
    assert told_whose.context is not None
    assert trace.format_span_id(told_whose.parent.span_id) == PARENT
    assert trace.format_trace_id(told_whose.context.trace_id) == TRACE


@scenario("MCP requests")
def test_the_end_of_a_session_is_an_event_and_a_duration(sample: Sample, memory: Memory) -> None:
    exchange(sample.root, INITIALIZE)
    (ended,) = [said for name, said in memory.events if name == "dataface.session.ended"]
    assert (ended["dataface.client.name"], ended["mcp.protocol.version"]) == ("claude_code", "2025-06-18")
    assert ended["dataface.session.duration"] > 0
    assert "error.type" not in ended
    ((_, sessions),) = memory.points()["mcp.server.session.duration"]
    assert sessions == 1


@scenario("MCP requests")
def test_the_project_is_bound_when_the_server_opens_it(sample: Sample, memory: Memory) -> None:
    bound: list[tuple[Path | None, str | None]] = []
    project.on_open(lambda *where: bound.append(where))
    assert bound == []
    exchange(sample.root, INITIALIZE)
    ((root, name),) = bound
    assert (root, name) == (sample.root, sample.root.name)


@scenario("hook points")
def test_afterwards_every_place_holds_what_it_held_before() -> None:
    before = _places()
    with instrumented():
        inside = _places()
    assert [
        place
        for place, found in before.items()
        if place.partition(" ")[0] == "target" and inside[place] is found
    ] == []
    assert [place for place, found in _places().items() if before[place] is not found] == []


def _places() -> dict[str, Any]:
    """What stands in each place that a row of this release replaces; a place that is not there holds None."""
    found: dict[str, Any] = {}
    for hook in HOOKS:
        if not hook.serves(version(RELEASE)) or hook.optional is not None:
            continue
        for kind, place in (
            ("target", f"{hook.module}:{hook.target}"),
            *(("alias", each) for each in hook.aliases),
        ):
            module, _, path = place.partition(":")
            try:
                owner: Any = importlib.import_module(module)
            except ImportError:
                continue
            *parents, last = path.removesuffix("[*]").split(".")
            for part in parents:
                owner = getattr(owner, part, None)
            value = inspect.getattr_static(owner, last, None)
            if path.endswith("[*]") and isinstance(value, dict):
                found.update({f"{kind} {place}/{key}": each for key, each in value.items()})
            else:
                found[f"{kind} {place}"] = value
    return found
