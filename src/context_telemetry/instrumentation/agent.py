"""The agent loop: one entry per turn, its model calls and tool calls, and what entered the conversation.

`run_agent` is a generator. The turn is seen by the events that it yields, its model calls (model_calls.py) by the
client that it is given. Names follow OpenTelemetry's GenAI conventions (status Development). Sizes are those of texts
that are there anyway; arguments are compared and never kept.
"""

from __future__ import annotations

import functools
import re
import sys
import weakref
from collections import Counter, deque
from collections.abc import Callable, Generator, Mapping
from typing import Any

from opentelemetry.util.types import AttributeValue

from context_telemetry.conventions import names
from context_telemetry.instrumentation.context import prompt_size, tool_list_size
from context_telemetry.instrumentation.hooks import Hook
from context_telemetry.instrumentation.model_calls import Client, ModelCall
from context_telemetry.limits.payloads import is_static_tool
from context_telemetry.observe import failsafe
from context_telemetry.observe.fork import on_forget
from context_telemetry.observe.observed import Plan, tap
from context_telemetry.observe.operation import (
    Operation,
    current,
    is_interruption,
    object_name,
)
from context_telemetry.observe.payload import utf8_size
from context_telemetry.observe.reading import Call, Reading

_TURN = "agent.turn"
# Models are named by whoever runs the agent: `gpt-5.4`, `anthropic/claude-sonnet-4-5`, `us.anthropic.claude:0`. A path
# to a file, which a local model may go by, is no name.
_MODEL_NAME = re.compile(r"(?=.{1,128}\Z)(?![A-Za-z]:)\w[\w.:@+-]*(?:/\w[\w.:@+-]*)?")
# A model is a label of metrics: this many have their names, in one process.
_MOST_MODELS = 64
_IDENTIFIER = re.compile(r"[\w-]{1,128}")


class _Turn:
    """One turn while it runs: what the loop yields, what the model is given, and how it comes to its end."""

    def __init__(self, op: Operation, call: Call) -> None:
        self._op = op
        self._most = call.argument("max_iterations")
        self._conversation = _Conversation()
        self._asked: list[tuple[Any, Any]] = []  # every tool call that the model asked for
        self._repeated = 0
        self._unanswered: deque[Any] = deque()  # those of them that the loop has not answered yet
        self._tool: Operation | None = None
        self._model: ModelCall | None = None
        self._tokens: Counter[str] = Counter()
        self._model_calls = 0
        self._stop: str | None = None
        op.notes[_TURN] = self
        op.began_below = self._began_below

    # -- what the loop yields ---------------------------------------------------------------------

    def item(self, event: Any) -> None:
        """An event on its way to the consumer."""
        see = _EVENTS.get(type(event).__name__)
        if see is not None:
            see(self, event)

    def _asked_for(self, event: Any) -> None:
        call = (event.name, event.arguments)
        self._repeated += call in self._asked
        self._asked.append(call)
        self._unanswered.append(event)

    def _answered(self, event: Any) -> None:
        """The result is in the conversation now, as the string that the model gets: that is its size."""
        if self._unanswered:
            self._unanswered.popleft()
        op, content = self._tool, self._conversation.last_content()
        if op is not None and isinstance(content, str):
            op.payload(utf8_size(content), "tool_result", is_static_tool(event.name))
        self._let_go()

    def _done(self, event: Any) -> None:
        self._stop = "completed"

    def _gave_up(self, event: Any) -> None:
        """Why is told by what came before, and not by the event's text."""
        if self._model is not None and self._model.failed:
            self._stop = "error"
        elif self._unanswered:
            self._stop = "identical_calls"
        elif isinstance(self._most, int) and self._model_calls >= self._most:
            self._stop = "max_iterations"
        else:
            self._stop = "error"

    def ended(self, error: BaseException | None) -> Reading | None:
        """The loop has returned, raised, or lost its consumer."""
        self._let_go()
        self._end_model_call()
        # The operation must not refer to itself, here through this turn.
        self._op.began_below = None
        self._op.notes.pop(_TURN, None)
        stop = self._stop
        if stop is None and error is not None:
            stop = "abandoned" if is_interruption(error) else "error"
        attributes: dict[str, AttributeValue] = {
            names.DATAFACE_AGENT_MODEL_CALLS: self._model_calls,
            names.DATAFACE_AGENT_TOOL_CALLS: len(self._asked),
            names.DATAFACE_AGENT_REPEATED_CALLS: self._repeated,
            **self._conversation.sizes(),
            **self._tokens,
        }
        if stop is not None:
            attributes[names.DATAFACE_AGENT_STOP_REASON] = stop
        failure = None
        if stop == "error" and error is None:
            failure = (self._model and self._model.failed) or "_OTHER"
        elif stop in ("identical_calls", "max_iterations"):
            failure = stop
        return Reading(error_type=failure, attributes=attributes)

    # -- its tool calls ---------------------------------------------------------------------------

    def _began_below(self, op: Operation) -> None:
        """A tool call is held until its result is in the conversation: only then its size is known."""
        if op.name != "tool.call":
            return
        self._let_go()
        op.attributes.setdefault(names.GEN_AI_OPERATION_NAME, "execute_tool")
        asked = getattr(self._unanswered[0], "id", None) if self._unanswered else None
        if isinstance(asked, str) and _IDENTIFIER.fullmatch(asked):
            op.attributes[names.GEN_AI_TOOL_CALL_ID] = asked
        op.held, self._tool = True, op

    def _let_go(self) -> None:
        op, self._tool = self._tool, None
        if op is not None:
            op.held = False
            op.finish()

    # -- its model calls --------------------------------------------------------------------------

    def stream(self, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What ``client.stream_with_tools`` answers, as one model call."""
        try:
            self._end_model_call()
            self._model = None
            self._model_calls += 1
            self._conversation.given(kwargs.get("messages"), kwargs.get("system_prompt"), kwargs.get("tools"))
            self._model = call = ModelCall(client, self._op.attributes, self._conversation.size)
        except Exception as error:
            failsafe.caught("agent model call", error)
            return client.stream_with_tools(*args, **kwargs)
        return call.observe(lambda: iter(client.stream_with_tools(*args, **kwargs)))

    def _end_model_call(self) -> None:
        if self._model is not None:
            self._model.finish()
            self._tokens.update(self._model.tokens)


_EVENTS: Mapping[str, Callable[[_Turn, Any], None]] = {
    "ToolCallEvent": _Turn._asked_for,
    "ToolResultEvent": _Turn._answered,
    "AgentDone": _Turn._done,
    "AgentError": _Turn._gave_up,
}


class _Conversation:
    """How many bytes of text the model was given at the last call, by kind. Each message is looked at once."""

    def __init__(self) -> None:
        self._messages: Any = ()
        self._seen = 0
        self._by_role: Counter[str] = Counter()
        self._system_prompt: Any = None
        self._fixed: dict[str, int] = {}

    @property
    def size(self) -> int:
        return sum(self._by_role.values()) + sum(self._fixed.values())

    def given(self, messages: Any, system_prompt: Any, tools: Any) -> None:
        """The model is about to be asked with these."""
        if isinstance(system_prompt, str) and system_prompt is not self._system_prompt:
            self._system_prompt = system_prompt
            self._fixed[names.DATAFACE_CONVERSATION_SYSTEM_PROMPT_SIZE] = prompt_size(system_prompt)
        if isinstance(tools, list):
            self._fixed[names.DATAFACE_CONVERSATION_TOOL_LIST_SIZE] = tool_list_size(tools)
        if not isinstance(messages, list):
            return
        # Another list, or one whose past was cut away, is looked at anew.
        if messages is not self._messages or len(messages) < self._seen:
            self._messages, self._seen = messages, 0
            self._by_role.clear()
        for message in messages[self._seen :]:
            role = _part(message, "role")
            size = _text_size(_part(message, "content"))
            for call in _part(message, "tool_calls") or ():
                size += _text_size(_part(call, "arguments"))
            self._by_role[role if isinstance(role, str) else ""] += size
        self._seen = len(messages)

    def last_content(self) -> Any:
        """The content of the message that was appended last."""
        return _part(self._messages[-1], "content") if self._messages else None

    def sizes(self) -> dict[str, AttributeValue]:
        """The attributes of the turn; empty where the model was never asked."""
        if not self._seen:
            return {}
        return {
            names.DATAFACE_CONVERSATION_SIZE: self.size,
            names.DATAFACE_CONVERSATION_TOOL_RESULTS_SIZE: self._by_role["tool"],
            **self._fixed,
        }


def _part(message: Any, name: str) -> Any:
    """A field of a message: a dict up to 0.2.0, an object with a type from 0.3.0 on."""
    return message.get(name) if isinstance(message, dict) else getattr(message, name, None)


def _text_size(content: Any) -> int:
    """UTF-8 bytes of all texts in a message's content or in arguments, without what JSON would put around them."""
    if isinstance(content, str):
        return utf8_size(content)
    if isinstance(content, dict):
        return sum(map(_text_size, content.values()))
    if isinstance(content, (list, tuple)):
        return sum(map(_text_size, content))
    return 0


# -- who takes part ------------------------------------------------------------------------------


def _turn_of(call: Call) -> tuple[str, dict[str, AttributeValue]]:
    """The agent, the model and the conversation, as far as they have names."""
    attributes: dict[str, AttributeValue] = {names.GEN_AI_OPERATION_NAME: "invoke_agent"}
    profile = call.argument("profile")
    if profile is None:  # the loop takes its own then; before 0.1.5 there was none
        profile = getattr(sys.modules.get("dataface.ai.agent"), "DASHBOARD_PROFILE", None)
    agent = getattr(profile, "name", None)
    if isinstance(agent, str) and object_name(agent) == agent:
        attributes[names.GEN_AI_AGENT_NAME] = agent
    client: Any = call.argument("client")
    for field, attribute in (("provider", names.GEN_AI_PROVIDER_NAME), ("model", names.GEN_AI_REQUEST_MODEL)):
        name = getattr(client, field, None)
        if isinstance(name, str) and _MODEL_NAME.fullmatch(name):
            attributes[attribute] = _model(name) if field == "model" else name
    conversation = _conversation_id(call.argument("messages"))
    if conversation is not None:
        attributes[names.GEN_AI_CONVERSATION_ID] = conversation
    return "agent.turn", attributes


_models: set[str] = set()
on_forget(_models.clear)


def _model(name: str) -> str:
    """``name``, or ``_OTHER`` where too many have been seen already: it is also in the name of a span."""
    if name not in _models:
        if len(_models) >= _MOST_MODELS:
            return "_OTHER"
        _models.add(name)
    return name


def _span_name(attributes: Mapping[str, AttributeValue]) -> str:
    agent = attributes.get(names.GEN_AI_AGENT_NAME)
    return f"invoke_agent {agent}" if agent else "invoke_agent"


_sessions: dict[int, weakref.ref[Any]] = {}
on_forget(_sessions.clear)


def _session_opened(call: Call) -> None:
    """A chat session: its turns go by its list of messages, which is how they are recognised."""
    session: Any = call.argument("self")
    key = id(session)
    _sessions[key] = weakref.ref(session, lambda _gone: _sessions.pop(key, None))


def _conversation_id(messages: Any) -> str | None:
    if messages is None:
        return None
    for session in [reference() for reference in list(_sessions.values())]:
        if session is not None and session.messages is messages:
            known = session.session_id
            return known if isinstance(known, str) and _IDENTIFIER.fullmatch(known) else None
    return None


# -- hooks ---------------------------------------------------------------------------------------

_PLAN = Plan("agent.turn", before=_turn_of, span_name=_span_name, protocol="agent", follow=_Turn)


def _wrap_run_agent(run_agent: Any) -> Any:
    """The turn is observed around the loop, and the loop gets a client whose calls are seen."""

    @functools.wraps(run_agent)
    def loop(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        running = current()
        turn = running.notes.get(_TURN) if running is not None else None
        if turn is not None and "client" in kwargs:
            kwargs["client"] = Client(kwargs["client"], turn.stream)
        return (yield from run_agent(*args, **kwargs))

    return _PLAN(loop)


HOOKS = (
    Hook(
        "dataface.ai.agent",
        "run_agent",
        _wrap_run_agent,
        parameters=("client", "messages", "max_iterations"),
    ),
    Hook(
        "dataface.agent_api.chat",
        "ChatSession.__init__",
        tap(_session_opened, outside=True),
        parameters=("session_id", "messages"),
        until="0.2.0",
    ),
)
