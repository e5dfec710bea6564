"""The content guard, over scopes that are not ours: what it takes out, what it leaves, what it does not
touch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, Status, StatusCode

from context_telemetry.observe import failsafe
from context_telemetry.pipeline import guard


def _span(attributes: Mapping[str, Any] | None = None, **options: Any) -> ReadableSpan:
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    with provider.get_tracer("fastapi").start_as_current_span(
        "GET /", attributes=attributes, **options
    ) as span:
        span.set_status(Status(StatusCode.OK))
    return kept.get_finished_spans()[0]


@pytest.mark.parametrize(
    "key",
    [
        "url.query",
        "url.full",
        "http.url",
        "db.query.text",
        "db.statement",
        "db.query.parameter.0",
        "exception.message",
        "exception.stacktrace",
        "gen_ai.input.messages",
        "gen_ai.output.messages",
        "gen_ai.tool.call.arguments",
        "gen_ai.tool.call.result",
        "gen_ai.system_instructions",
        "mcp.tool.arguments",
        "llm.prompt",
        "gen_ai.content.completion",
        "input.value",
        "output.value",
        "code.filepath",
        "code.file.path",
        "user.email",
        "enduser.id",
        "http.request.header.authorization",
    ],
)
def test_an_attribute_that_carries_content_is_dropped(key: str) -> None:
    assert dict(guard.span(_span({key: "SECRET", "http.route": "/faces"})).attributes or {}) == {
        "http.route": "/faces"
    }


@pytest.mark.parametrize(
    "value",
    [
        "/home/ann/shop/faces/a.yml",
        "file:///home/ann/shop.duckdb",
        "/Users/Ann Smith/shop",
        "C:\\Users\\ann\\shop",
        "postgres://ann:pa/ss@db.internal/shop",
        "cannot open '/home/ann/x y/z'",
        "host=db password=SECRET",
    ],
)
def test_a_value_loses_credentials_and_paths_that_name_a_user(value: str) -> None:
    safe = guard.text(value)
    assert guard.REDACTED in safe
    assert not {"ann", "Ann", "Smith", "SECRET", "ss@", "z"} & set(
        safe.replace("'", " ").replace("/", " ").split()
    )


@pytest.mark.parametrize(
    "value",
    [
        "faces/home/ann.yml",
        "dataface://docs/charts",
        "https://example.org/mcp",
        "tools/call execute_query",
        "2.0",
        "/mcp",
    ],
)
def test_an_ordinary_value_is_left_as_it_is(value: str) -> None:
    assert guard.text(value) is value


def test_an_address_keeps_what_comes_before_the_query_string() -> None:
    given = {"mcp.resource.uri": "dataface://docs/all?token=1"}
    assert dict(guard.span(_span(given)).attributes or {}) == {"mcp.resource.uri": "dataface://docs/all"}


@pytest.mark.parametrize("key", ["http.target", "url.path"])
def test_of_the_path_that_somebody_asked_for_it_is_kept_that_there_was_one(key: str) -> None:
    assert dict(guard.span(_span({key: "/secret-alice/report/"})).attributes or {}) == {key: guard.REDACTED}


def test_a_long_value_is_cut() -> None:
    (value,) = (guard.span(_span({"note": "x" * 5_000})).attributes or {}).values()
    assert value == "x" * guard.MAX_LENGTH


def test_values_in_lists_are_judged_one_by_one() -> None:
    assert dict(guard.span(_span({"files": ("a.yml", "/home/ann/b")})).attributes or {}) == {
        "files": ("a.yml", guard.REDACTED)
    }


def test_an_exception_keeps_its_type_alone_and_a_status_its_code_alone() -> None:
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    with (
        pytest.raises(ValueError, match="SECRET"),
        provider.get_tracer("other").start_as_current_span("work"),
    ):
        raise ValueError("SECRET")
    original = kept.get_finished_spans()[0]
    safe = guard.span(original)
    assert [(event.name, dict(event.attributes or {})) for event in safe.events] == [
        ("exception", {"exception.type": "ValueError"})
    ]
    assert (safe.status.status_code, safe.status.description) == (StatusCode.ERROR, None)
    assert "SECRET" not in safe.to_json()
    assert "SECRET" in original.to_json(), "other processors still see the span as it was"


def test_a_link_is_guarded_and_still_points_where_it_pointed() -> None:
    context = _span().get_span_context()
    assert context is not None
    (link,) = guard.span(_span(links=[Link(context, {"url.query": "SECRET"})])).links
    assert (link.context, dict(link.attributes or {})) == (context, {})


def test_a_span_without_content_is_passed_on_as_it_is() -> None:
    span = _span(
        {"dataface.outcome": "ok", "dataface.degradation.reasons": ("manifest_missing",), "n": 1, "f": 0.5}
    )
    assert guard.span(span) is span


@pytest.mark.parametrize("value", ["ok", 1, 0.5, True, (), ("manifest_missing", "layer_unavailable")])
def test_what_our_own_spans_have_is_told_to_be_harmless_at_a_look(value: Any) -> None:
    assert guard.is_harmless({"dataface.outcome": value})


@pytest.mark.parametrize(
    "value",
    [
        "/home/ann",
        "x" * 65,
        ("ok", "/home/ann"),
        ("ok", "x" * 65),
        ("ok", 1),
        ("ok", ("ok",)),
        ["ok"],
        b"ok",
        None,
    ],
)
def test_anything_else_is_looked_at_one_by_one(value: Any) -> None:
    assert not guard.is_harmless({"dataface.outcome": value})
    assert not guard.is_harmless({"url.query": "ok"})


def _log(scope: str, body: Any, attributes: Mapping[str, Any]) -> ReadableLogRecord:
    record = LogRecord(body=body, attributes=attributes, severity_number=SeverityNumber.ERROR)
    return ReadableLogRecord(record, Resource({}), InstrumentationScope(scope))


def test_a_foreign_log_loses_its_body_and_all_of_an_exception_but_the_type() -> None:
    given = _log(
        "uvicorn.error",
        "SECRET",
        {"exception.type": "KeyError", "exception.message": "S", "exception.x": "S"},
    )
    safe = guard.log(given).log_record
    assert (safe.body, dict(safe.attributes or {})) == (None, {"exception.type": "KeyError"})
    assert safe.severity_number is SeverityNumber.ERROR
    assert given.log_record.body == "SECRET"


def test_a_body_of_ours_stays() -> None:
    given = _log("context_telemetry", "said by us", {"a": 1})
    assert guard.log(given) is given


def test_what_cannot_be_judged_is_dropped_and_counted_and_the_rest_exported() -> None:
    exported, before = InMemorySpanExporter(), failsafe.drops().get("guard", 0)
    judged = _span({"a": 1})
    guard.GuardedSpanExporter(exported).export([None, judged])  # type: ignore[list-item]
    assert exported.get_finished_spans() == (judged,)
    assert failsafe.drops()["guard"] == before + 1
