"""The agent loop: a turn is an entry; its model calls, its tool calls and its conversation are seen, by nobody else.

The loop is the real one of each release. Only the language model is a fake, and says so.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from agent_fakes import FakeModel, turn
from conformance import assert_memory_conforms
from inprocess import instrumented, opened
from memory import Memory, attributes
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode, get_current_span
from scenario import scenario

from context_telemetry.instrumentation import agent
from context_telemetry.instrumentation.model_calls import ModelCall
from context_telemetry.limits import Limits
from context_telemetry.observe import failsafe, recorder
from context_telemetry.observe.operation import current
from context_telemetry.rehearsal.sample import Sample

pytestmark = pytest.mark.real

# Tools that open no database file: in 0.1.2 the prompt's schema has locked it for queries before they come.
SEARCH = ("search_dashboards", {"query": "orders"})
DOCS = ("docs", {"topic": "charts"})
ANSWER = "There are 400."


@contextmanager
def watched(project: Path) -> Iterator[tuple[Memory, Any]]:
    """What is recorded of a project that is open, with the context of its agents. Nothing of ours fails meanwhile."""
    before = failsafe.errors()
    with instrumented() as memory, opened(project) as (context, _):
        yield memory, context
    assert failsafe.errors() == before


def turns(memory: Memory) -> list[ReadableSpan]:
    return [each for each in memory.spans if attributes(each).get("dataface.operation.name") == "agent.turn"]


def the_turn(memory: Memory) -> dict[str, Any]:
    (span,) = turns(memory)
    assert attributes(span)["dataface.entry"] is True
    return attributes(span)


def below(memory: Memory, parent: ReadableSpan, name: str = "") -> list[ReadableSpan]:
    """The spans directly below another, in the order in which they began."""
    found = [
        each
        for each in memory.spans
        if each.parent is not None and each.parent.span_id == parent.get_span_context().span_id  # type: ignore[union-attr]  # the SDK's spans have one
    ]
    return sorted(
        (each for each in found if each.name.startswith(name)), key=lambda each: each.start_time or 0
    )


def text_size(value: Any) -> int:
    """Bytes of all texts in a message, as the fake model got it."""
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, dict):
        return sum(map(text_size, value.values()))
    return sum(map(text_size, value)) if isinstance(value, list) else 0


def part(message: Any, name: str) -> Any:
    return message.get(name) if isinstance(message, dict) else getattr(message, name, None)


def verdict(said: dict[str, Any]) -> tuple[Any, set[str], Any]:
    """Outcome, reasons and error type."""
    return said["dataface.outcome"], set(said.get("dataface.degradation.reasons", ())), said.get("error.type")


# -- a turn ---------------------------------------------------------------------------------------


@scenario("agent")
def test_a_turn_is_one_entry_with_its_model_calls_and_its_tool_calls_below(sample: Sample) -> None:
    model = FakeModel([SEARCH, DOCS], ["There ", "are 400."])
    with watched(sample.root) as (memory, context):
        list(turn(context, model, built=True))
        (span,) = turns(memory)
        said = attributes(span)
        assert verdict(said) == ("ok", set(), None)
        assert said["dataface.surface"] == "agent"
        assert said["gen_ai.operation.name"] == "invoke_agent"
        assert said["dataface.agent.stop.reason"] == "completed"
        assert (said["dataface.agent.model_calls"], said["dataface.agent.tool_calls"]) == (2, 2)
        assert said["dataface.agent.repeated_calls"] == 0
        assert (said["gen_ai.usage.input_tokens"], said["gen_ai.usage.output_tokens"]) == (200, 20)
        assert span.status.status_code is StatusCode.UNSET
        assert [each.name for each in below(memory, span)] == [
            "context.build",
            "chat fake-1",
            "tool.call",
            "tool.call",
            "chat fake-1",
        ]
        assert sum(bool(attributes(each).get("dataface.entry")) for each in memory.spans) == 1
        served = memory.points()["dataface.context.served"]
        labels = {
            "dataface.operation.name": "agent.turn",
            "dataface.surface": "agent",
            "dataface.outcome": "ok",
        }
        assert served == [(labels, 1)]
        assert_memory_conforms(memory)


@scenario("agent", since="0.1.5", because="agents have no names before 0.1.5")
def test_a_turn_is_named_for_its_agent(sample: Sample) -> None:
    from dataface.ai.agent import AgentProfile

    analyst = AgentProfile(name="sql-specialist", tools=[], build_system_prompt=lambda _: "Answer.")
    with watched(sample.root) as (memory, context):
        list(turn(context, FakeModel([ANSWER]), built=True))
        list(turn(context, FakeModel([ANSWER]), profile=analyst))
        assert [each.name for each in turns(memory)] == [
            "invoke_agent dashboard-analyst",
            "invoke_agent sql-specialist",
        ]
        assert attributes(turns(memory)[1])["gen_ai.agent.name"] == "sql-specialist"


@scenario("agent")
def test_a_model_call_is_a_client_span_with_the_model_and_its_tokens(sample: Sample) -> None:
    with watched(sample.root) as (memory, context):
        list(turn(context, FakeModel([ANSWER])))
        chat = memory.span("chat fake-1")
        said = attributes(chat)
        assert chat.kind is SpanKind.CLIENT
        assert said["gen_ai.operation.name"] == "chat"
        assert (said["gen_ai.provider.name"], said["gen_ai.request.model"]) == ("openai", "fake-1")
        assert (said["gen_ai.usage.input_tokens"], said["gen_ai.usage.output_tokens"]) == (100, 10)
        assert 0 < said["gen_ai.response.time_to_first_chunk"] < 5
        assert "dataface.operation.name" not in said
        ((labels, count),) = memory.points()["gen_ai.client.operation.duration"]
        assert count == 1
        assert labels == {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "fake-1",
        }


@scenario("agent")
def test_two_calls_at_once_on_one_client_have_no_tokens_because_they_cannot_be_told_apart(
    sample: Sample,
) -> None:
    model = FakeModel([ANSWER, ANSWER])
    with watched(sample.root) as (memory, context):
        one, other = turn(context, model), turn(context, model)
        next(one), next(other)
        list(one), list(other)
        list(turn(context, model))
        counted = ["gen_ai.usage.input_tokens" in attributes(each) for each in turns(memory)]
        assert counted == [False, False, True]


# -- how it ends ----------------------------------------------------------------------------------


@scenario("agent")
def test_a_turn_that_its_consumer_leaves_is_abandoned_and_no_error(sample: Sample) -> None:
    model = FakeModel(["There ", "are 400."])
    with watched(sample.root) as (memory, context):
        stepping = turn(context, model)
        next(stepping)
        stepping.close()
        assert model.closed == 1  # at once, as without us
        said = the_turn(memory)
        assert verdict(said) == ("ok", set(), None)
        assert said["dataface.agent.stop.reason"] == "abandoned"
        assert verdict(attributes(memory.span("chat fake-1"))) == ("ok", set(), None)


@scenario("agent")
def test_a_turn_whose_answer_was_seen_before_its_consumer_left_is_completed(sample: Sample) -> None:
    with watched(sample.root) as (memory, context):
        for event in (stepping := turn(context, FakeModel([ANSWER]))):
            if type(event).__name__ == "AgentDone":
                break
        stepping.close()
        assert the_turn(memory)["dataface.agent.stop.reason"] == "completed"


@scenario("agent")
def test_a_turn_whose_model_call_fails_is_failed_with_its_class(sample: Sample) -> None:
    from dataface.ai.llm import LLMClientError

    with watched(sample.root) as (memory, context):
        events = list(turn(context, FakeModel([SEARCH], ["There ", LLMClientError("secret words")])))
        assert type(events[-1]).__name__ == "AgentError"
        said = the_turn(memory)
        assert verdict(said) == ("failed", set(), "LLMClientError")
        assert said["dataface.agent.stop.reason"] == "error"
        assert (said["dataface.agent.model_calls"], said["dataface.agent.tool_calls"]) == (2, 1)
        first, second = sorted(
            (each for each in memory.spans if each.name == "chat fake-1"),
            key=lambda each: each.start_time or 0,
        )
        assert verdict(attributes(first)) == ("ok", set(), None)
        assert verdict(attributes(second)) == ("failed", set(), "LLMClientError")
        assert second.status.status_code is StatusCode.ERROR
        assert "secret words" not in repr([(dict(attributes(each)), each.events) for each in memory.spans])


@scenario("agent")
def test_an_exception_of_the_client_reaches_the_host_and_the_turn_is_failed_with_its_class(
    sample: Sample,
) -> None:
    with watched(sample.root) as (memory, context):
        with pytest.raises(TimeoutError, match="slow"):
            list(turn(context, FakeModel([TimeoutError("slow")])))
        assert verdict(the_turn(memory)) == ("failed", set(), "TimeoutError")
        assert the_turn(memory)["dataface.agent.stop.reason"] == "error"


@scenario("agent")
def test_a_turn_stopped_at_its_most_model_calls_is_failed(sample: Sample) -> None:
    with watched(sample.root) as (memory, context):
        events = list(turn(context, FakeModel([SEARCH], [DOCS]), max_iterations=2))
        assert type(events[-1]).__name__ == "AgentError"
        said = the_turn(memory)
        assert verdict(said) == ("failed", set(), "max_iterations")
        assert said["dataface.agent.stop.reason"] == "max_iterations"
        assert said["dataface.agent.model_calls"] == 2
        memory.clear()
        list(turn(context, FakeModel([SEARCH], [ANSWER]), max_iterations=2))
        assert verdict(the_turn(memory)) == ("ok", set(), None)


@scenario("agent", since="0.4.0", because="the loop does not stop at identical calls before 0.4.0")
def test_a_turn_stopped_at_identical_calls_is_failed(sample: Sample) -> None:
    with watched(sample.root) as (memory, context):
        events = list(turn(context, FakeModel([SEARCH]), max_iterations=3))
        assert type(events[-1]).__name__ == "AgentError"
        said = the_turn(memory)
        assert verdict(said) == ("failed", set(), "identical_calls")
        assert said["dataface.agent.stop.reason"] == "identical_calls"
        assert (said["dataface.agent.tool_calls"], said["dataface.agent.repeated_calls"]) == (3, 2)


@scenario("agent")
def test_tool_calls_that_repeat_an_earlier_one_of_the_turn_are_counted(sample: Sample) -> None:
    other = ("search_dashboards", {"query": "revenue"})
    with watched(sample.root) as (memory, context):
        list(turn(context, FakeModel([SEARCH], [other, SEARCH], [SEARCH, DOCS], [ANSWER])))
        said = the_turn(memory)
        assert (said["dataface.agent.tool_calls"], said["dataface.agent.repeated_calls"]) == (5, 2)
        assert verdict(said) == ("ok", set(), None)
        memory.clear()
        list(turn(context, FakeModel([SEARCH], [other], [ANSWER])))
        assert the_turn(memory)["dataface.agent.repeated_calls"] == 0


# -- its tools ------------------------------------------------------------------------------------


@scenario("agent")
def test_a_tool_call_has_the_id_that_the_model_gave_it(sample: Sample) -> None:
    with watched(sample.root) as (memory, context):
        list(turn(context, FakeModel([SEARCH, DOCS], [SEARCH], [ANSWER])))
        (span,) = turns(memory)
        calls = [attributes(each) for each in below(memory, span, "tool.call")]
        assert [(each["gen_ai.tool.name"], each["gen_ai.tool.call.id"]) for each in calls] == [
            ("search_dashboards", "call-0-0"),
            ("docs", "call-0-1"),
            ("search_dashboards", "call-1-0"),
        ]


@scenario("agent")
def test_a_tool_that_fails_does_not_fail_the_turn_that_was_told(sample: Sample) -> None:
    with watched(sample.root) as (memory, context):
        list(turn(context, FakeModel([("get_skill", {"name": "no-such-skill"})], [ANSWER])))
        assert verdict(attributes(memory.span("tool.call")))[:2] == ("failed", set())
        assert verdict(the_turn(memory)) == ("ok", set(), None)


@scenario("agent", since="0.3.0", because="before 0.3.0 a host has no tools of its own")
def test_a_tool_of_the_host_is_seen_as_dataface_s_own_are(sample: Sample) -> None:
    from dataface.ai.agent import DASHBOARD_PROFILE

    said: dict[str, Any] = {"success": True, "placed": "here"}

    def broken(arguments: dict[str, Any], _context: Any) -> dict[str, Any]:
        return {"success": True, "of": {}[arguments["path"]]}

    extra, overrides = {"place": lambda _arguments, _context: said, "shelve": broken}, {"move_file": broken}
    handlers = [*extra.values(), *overrides.values()]
    profile = dataclasses.replace(
        DASHBOARD_PROFILE, build_system_prompt=lambda _: "Answer.", tool_overrides=overrides
    )
    asked = [(name, {"path": "a secret"}) for name in ("place", "shelve", "move_file", "no_such_tool")]
    with watched(sample.root) as (memory, context):
        events = list(turn(context, FakeModel(asked, [ANSWER]), profile=profile, extra_handlers=extra))
        results = [event.result for event in events if type(event).__name__ == "ToolResultEvent"]
        failed = {"success": False, "errors": ["'a secret'"]}
        assert results == [said, failed, failed, {"error": "Unknown tool: no_such_tool"}]
        tools = below(memory, turns(memory)[0], "tool.call")
        assert [verdict(attributes(each)) for each in tools] == [
            ("ok", set(), None),
            ("failed", set(), "KeyError"),
            ("failed", set(), "KeyError"),
            ("failed", set(), "_OTHER"),
        ]
        sizes = [attributes(each)["dataface.payload.size"] for each in tools]
        assert sizes == [len(json.dumps(each)) for each in results]
        assert verdict(the_turn(memory)) == ("ok", set(), None)
        assert "a secret" not in repr([(dict(attributes(each)), each.events) for each in memory.spans])
    assert [*extra.values(), *overrides.values()] == handlers


@scenario("agent")
def test_a_query_on_a_source_that_is_not_configured_makes_the_turn_degraded(sample: Sample) -> None:
    with watched(sample.root) as (memory, context):
        list(
            turn(context, FakeModel([("execute_query", {"sql": "SELECT 1", "source": "nowhere"})], [ANSWER]))
        )
        assert verdict(the_turn(memory)) == ("degraded", {"source_substituted"}, None)
        ((labels, count),) = memory.points()["dataface.degradations"]
        assert (labels, count) == (
            {"dataface.degradation.reason": "source_substituted", "dataface.surface": "agent"},
            1,
        )
        memory.clear()
        list(turn(context, FakeModel([SEARCH], [ANSWER])))
        assert verdict(the_turn(memory)) == ("ok", set(), None)


# -- a client that does not behave ----------------------------------------------------------------


class Moody:
    """A FAKE model whose totals cannot be read once it has been asked."""

    provider, model = "openai", "fake-1"

    def __init__(self, *answers: Any) -> None:
        self._model = FakeModel(*answers)

    def stream_with_tools(self, **asked: Any) -> Any:
        return self._model.stream_with_tools(**asked)

    @property
    def total_input_tokens(self) -> int:
        if self._model.llm_calls:
            raise LookupError("nobody counts")
        return 0

    total_output_tokens = total_input_tokens


class MoodyError(Exception):
    @property
    def code(self) -> str:
        raise LookupError("no code today")


@scenario("agent")
def test_a_client_whose_totals_cannot_be_read_is_served_and_has_no_tokens(sample: Sample) -> None:
    before = failsafe.errors().get("agent tokens", 0)
    with instrumented() as memory, opened(sample.root) as (context, _):
        events = list(turn(context, Moody([SEARCH], ["There ", "are 400."])))
        assert type(events[-1]).__name__ == "AgentDone"
        said = the_turn(memory)
        assert verdict(said) == ("ok", set(), None)
        assert (said["dataface.agent.model_calls"], "gen_ai.usage.input_tokens" in said) == (2, False)
        chats = [attributes(each) for each in memory.spans if each.name == "chat fake-1"]
        assert [verdict(each) for each in chats] == [("ok", set(), None)] * 2
    assert failsafe.errors()["agent tokens"] > before


@scenario("agent")
def test_an_error_of_the_client_whose_properties_raise_reaches_the_host_as_it_is(sample: Sample) -> None:
    with instrumented() as memory, opened(sample.root) as (context, _):
        with pytest.raises(MoodyError, match="slow"):
            list(turn(context, FakeModel([MoodyError("slow")])))
        assert verdict(the_turn(memory)) == ("failed", set(), "MoodyError")


@scenario("agent")
def test_a_model_call_that_could_not_be_observed_is_served_and_counts_no_other_s_tokens_again(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []

    class SecondFails(ModelCall):
        def __init__(self, *arguments: Any) -> None:
            made.append(self)
            if len(made) == 2:
                raise LookupError
            super().__init__(*arguments)

    monkeypatch.setattr(agent, "ModelCall", SecondFails)
    with instrumented() as memory, opened(sample.root) as (context, _):
        events = list(turn(context, FakeModel([SEARCH], [DOCS], [ANSWER])))
        assert type(events[-1]).__name__ == "AgentDone"
        said = the_turn(memory)
        assert (said["dataface.agent.model_calls"], said["gen_ai.usage.input_tokens"]) == (3, 200)


@scenario("agent")
def test_a_model_that_goes_by_a_path_has_no_name_in_what_is_exported(sample: Sample) -> None:
    paths = [
        "/home/alice/llama.gguf",
        "./alice.gguf",
        "~/alice.gguf",
        "C:/alice.gguf",
        "../alice",
        "a/b/alice.gguf",
        "file://alice/llama",
    ]
    models = ["gpt-5.4", "anthropic/claude-sonnet-4-5", "us.anthropic.claude:0"]
    with watched(sample.root) as (memory, context):
        for name in (*paths, *models):
            list(turn(context, FakeModel([ANSWER], model=name)))
        chats = [each.name for each in memory.spans if each.name.startswith("chat")]
        assert chats == ["chat"] * len(paths) + [f"chat {name}" for name in models]
        said = repr([(each.name, attributes(each)) for each in memory.spans]) + repr(memory.points())
        assert "alice" not in said


@scenario("agent")
def test_a_host_that_asks_ever_more_models_has_metrics_of_the_first_ones_only(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "_models", set())
    monkeypatch.setattr(agent, "_MOST_MODELS", 2)
    with watched(sample.root) as (memory, context):
        for name in ("one", "two", "three", "one", "four"):
            list(turn(context, FakeModel([ANSWER], model=name)))
        points = memory.points()["gen_ai.client.operation.duration"]
        assert {labels["gen_ai.request.model"]: count for labels, count in points} == {
            "one": 2,
            "two": 1,
            "_OTHER": 2,
        }


# -- what entered the conversation ----------------------------------------------------------------


@scenario("agent")
def test_the_sizes_of_a_conversation_are_those_of_what_the_model_was_given(sample: Sample) -> None:
    model = FakeModel([SEARCH, ("search_dashboards", {"query": "größe"})], [DOCS], [ANSWER])
    with watched(sample.root) as (memory, context):
        messages: list[Any] = []
        list(turn(context, model, "Wie viele größere?", messages=messages, built=True))
        said, last = the_turn(memory), model.asked[-1]
        results = [each for each in last["messages"] if part(each, "role") == "tool"]
        assert said["dataface.conversation.system_prompt.size"] == len(last["system_prompt"].encode())
        assert said["dataface.conversation.tool_results.size"] == sum(
            len(part(each, "content").encode()) for each in results
        )
        texts = 0
        for message in last["messages"]:
            texts += text_size(part(message, "content"))
            texts += sum(text_size(part(each, "arguments")) for each in part(message, "tool_calls") or ())
        fixed = sum(said[f"dataface.conversation.{kind}.size"] for kind in ("system_prompt", "tool_list"))
        assert said["dataface.conversation.size"] == fixed + texts
        (span,) = turns(memory)
        grown = [attributes(each)["dataface.conversation.size"] for each in below(memory, span, "chat")]
        assert grown == sorted(set(grown))
        assert grown[-1] == said["dataface.conversation.size"]
        # A second turn goes on where the first one ended.
        memory.clear()
        list(turn(context, FakeModel([ANSWER]), messages=messages))
        assert (
            the_turn(memory)["dataface.conversation.tool_results.size"]
            == said["dataface.conversation.tool_results.size"]
        )


@scenario("agent")
def test_a_tool_call_has_the_size_of_its_result_as_the_model_gets_it(sample: Sample) -> None:
    model = FakeModel([SEARCH, DOCS], [ANSWER])
    with watched(sample.root) as (memory, context):
        list(turn(context, model))
        (span,) = turns(memory)
        calls = [attributes(each) for each in below(memory, span, "tool.call")]
        given = [
            part(each, "content") for each in model.asked[-1]["messages"] if part(each, "role") == "tool"
        ]
        assert [each["dataface.payload.size"] for each in calls] == [len(each.encode()) for each in given]
        assert {each["dataface.payload.kind"] for each in calls} == {"tool_result"}
        assert [each["dataface.payload.limit"] for each in calls] == [100_000, 262_144]  # docs are static


@scenario("agent")
def test_a_result_beyond_its_limit_makes_the_turn_degraded(sample: Sample) -> None:
    with watched(sample.root) as (memory, context):
        recorder.set_limits(Limits.model_validate({"results": 300}).compile())
        list(turn(context, FakeModel([SEARCH], [ANSWER])))
        assert verdict(the_turn(memory)) == ("degraded", {"payload_over_budget"}, None)
        assert verdict(attributes(memory.span("tool.call"))) == ("degraded", {"payload_over_budget"}, None)
        recorder.set_limits(Limits().compile())
        memory.clear()
        list(turn(context, FakeModel([SEARCH], [ANSWER])))
        assert verdict(the_turn(memory)) == ("ok", set(), None)


@scenario("agent", deep=True)
def test_a_drawn_dashboard_goes_to_the_model_raw_or_in_place_of_it_a_line(sample: Sample) -> None:
    """Up to 0.2.0 the drawing itself is in the conversation, 100 KB of it; later a line says that it is left out."""
    from dataface.ai import agent

    leaves_out = hasattr(agent, "_model_facing_result")
    drawn = ("render_dashboard", {"path": "faces/orders.yml", "format": "svg"})
    with watched(sample.root) as (memory, context):
        events = list(turn(context, FakeModel([drawn], [ANSWER])))
        (result,) = [each.result for each in events if type(each).__name__ == "ToolResultEvent"]
        call = attributes(memory.span("tool.call"))
        assert len(result["data"]) > 40_000
        assert (call["dataface.payload.size"] < 5_000) is leaves_out
        over = call["dataface.payload.size"] > call["dataface.payload.limit"]
        expected = ("degraded", {"payload_over_budget"}, None) if over else ("ok", set(), None)
        assert verdict(the_turn(memory)) == expected


# -- the host does not notice ---------------------------------------------------------------------


def replayed(context: Any, answers: tuple[Any, ...], most: int | None = None) -> tuple[Any, ...]:
    """Everything that a host can see of a turn; of one that is left after ``most`` events, what it saw until then."""
    model = FakeModel(*answers)
    messages: list[Any] = []
    events, stepping = [], turn(context, model, messages=messages)
    try:
        for event in stepping:
            events.append(repr(event))
            if len(events) == most:
                break
    except Exception as error:
        events.append(repr(error))
    stepping.close()
    tokens = (model.total_input_tokens, model.llm_calls, sorted(vars(model)))
    return events, repr(messages), repr(model.asked), model.closed, tokens


@scenario("bytes unchanged")
def test_the_events_and_messages_of_a_turn_are_the_same_with_and_without_observation(sample: Sample) -> None:
    from dataface.ai.llm import LLMClientError

    scripts: list[tuple[tuple[Any, ...], int | None]] = [
        (([SEARCH, DOCS], [("execute_query", {"sql": "SELECT 1", "source": "nowhere"})], [ANSWER]), None),
        (([SEARCH], ["There ", LLMClientError("no")]), None),
        (([KeyError("broken")],), None),
        (([SEARCH, ("no_such_tool", {})], ["There ", "are ", "400."]), 5),
        (([("get_skill", {"name": "no-such-skill"})], [ANSWER]), 1),
    ]
    with opened(sample.root) as (context, _):
        plain = [replayed(context, *script) for script in scripts]
    with watched(sample.root) as (memory, context):
        observed = [replayed(context, *script) for script in scripts]
        assert len(turns(memory)) == len(scripts)
    assert observed == plain


@scenario("agent")
def test_a_turn_leaks_nothing_into_its_consumer_between_two_events(sample: Sample) -> None:
    with watched(sample.root) as (_, context):
        for _event in turn(context, FakeModel([SEARCH, DOCS], ["There ", "are 400."])):
            assert current() is None
            assert not get_current_span().get_span_context().is_valid


@scenario("agent")
def test_two_turns_that_take_steps_in_one_thread_by_turns_are_two_traces(sample: Sample) -> None:
    one, other = FakeModel([SEARCH], [ANSWER], model="one"), FakeModel([DOCS], [ANSWER], model="other")
    with watched(sample.root) as (memory, context):
        stepping = [turn(context, one), turn(context, other)]
        for _both in zip(*stepping, strict=True):
            pass
        assert_apart(memory, {"one": "search_dashboards", "other": "docs"})


@scenario("agent", deep=True)
def test_turns_that_a_host_drives_from_threads_of_a_pool_are_a_trace_each(sample: Sample) -> None:
    import anyio

    tools = {"one": SEARCH, "other": DOCS, "third": SEARCH}

    async def consume(stepping: Any) -> None:
        while await anyio.to_thread.run_sync(next, stepping, None) is not None:
            assert current() is None

    async def host(context: Any) -> None:
        models = [FakeModel([tool], [ANSWER], model=name) for name, tool in tools.items()]
        await asyncio.gather(*(consume(turn(context, model)) for model in models))

    with watched(sample.root) as (memory, context):
        asyncio.run(host(context))
        assert_apart(memory, {name: tool for name, (tool, _) in tools.items()})


def assert_apart(memory: Memory, tools: dict[str, str]) -> None:
    """Each turn is a trace of its own with two model calls and its own tool call directly below it."""
    assert {attributes(each)["gen_ai.request.model"] for each in turns(memory)} == set(tools)
    assert len({each.get_span_context().trace_id for each in turns(memory)}) == len(tools)  # type: ignore[union-attr]  # the SDK's spans have one
    for span in turns(memory):
        model = attributes(span)["gen_ai.request.model"]
        assert [each.name for each in below(memory, span, "chat")] == [f"chat {model}"] * 2
        (call,) = below(memory, span, "tool.call")
        assert attributes(call)["gen_ai.tool.name"] == tools[model]
        assert verdict(attributes(span)) == ("ok", set(), None)


# -- chat sessions --------------------------------------------------------------------------------


@scenario("agent", until="0.2.0", because="chat sessions left Dataface with 0.3.0")
def test_the_turns_of_a_chat_session_carry_its_id(project: Path) -> None:
    import inspect

    from dataface.agent_api import chat

    with watched(project) as (memory, context):
        options: dict[str, Any] = {"project_dir": project}
        if "project" in inspect.signature(chat.start_session).parameters:
            served = getattr(context, "project_session", None) or context.project
            options = {"project": getattr(served, "project", served)}
        session = chat.start_session(model="openai:fake-1", **options)
        session.client = FakeModel([SEARCH], [ANSWER])
        list(chat.send_message(session, "How many?"))
        list(chat.send_message(session, "And now?"))
        list(turn(context, FakeModel([ANSWER])))
        said = [attributes(each).get("gen_ai.conversation.id") for each in turns(memory)]
        assert said == [session.session_id, session.session_id, None]
        ids = {
            attributes(each).get("gen_ai.conversation.id") for each in memory.spans if each.name[:4] == "chat"
        }
        assert ids == {session.session_id, None}
