"""The MCP entry: one SERVER span per request, from the message that came in to the message that went out.

The two streams of `Server.run` see every request, those included that reach no handler (invalid parameters, unknown
methods, a call before initialisation), and the exact answer. Handlers only get the request's context. Names and
status follow OpenTelemetry's MCP conventions (semantic-conventions-genai, status Development).
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakSet

from opentelemetry import context as otel_context
from opentelemetry import propagate
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind, get_current_span
from opentelemetry.util.types import AttributeValue

from context_telemetry.conventions import names
from context_telemetry.instrumentation.hooks import Hook
from context_telemetry.limits.clients import client_id
from context_telemetry.limits.payloads import is_static_resource, is_static_tool
from context_telemetry.observe import failsafe, fingerprint, recorder
from context_telemetry.observe.fork import renew_in_child
from context_telemetry.observe.observed import tap
from context_telemetry.observe.operation import Operation, error_class
from context_telemetry.observe.payload import utf8_size
from context_telemetry.observe.reading import Call

_SURFACE = "mcp"
_METHOD_OPERATIONS = {
    "tools/call": "tool.call",
    "resources/read": "resource.read",
    "initialize": "mcp.initialize",
    "tools/list": "mcp.list",
    "resources/list": "mcp.list",
    "resources/templates/list": "mcp.list",
    "prompts/list": "mcp.list",
}
# What a client sends is cut to this many characters where it becomes an attribute.
_LONGEST = 256
# A liveness check says nothing about context; clients send it every few seconds.
_NOT_OBSERVED = frozenset({"ping"})

_servers: WeakSet[Any] = WeakSet()
_open_sessions: set[_Session] = set()
renew_in_child(_open_sessions.clear)  # the parent's sessions end in the parent
_transport_key = otel_context.create_key("context-telemetry-mcp-transport")


@dataclass(eq=False)
class _Session:
    """One client connection: what initialisation said, and the requests that are not answered yet."""

    transport: str | None
    started: float = field(default_factory=time.monotonic)
    client: str = "other"
    protocol: str | None = None
    tools: str | None = None
    """The digest of the list of tools that the client was given."""
    pending: dict[str | int | None, Operation] = field(default_factory=dict)

    # -- what comes in and goes out ---------------------------------------------------------------

    def received(self, message: Any) -> None:
        """A message from the client: a request begins an operation."""
        request: Any = getattr(getattr(message, "message", None), "root", None)
        # An id that JSON-RPC forbids makes a notification of it for the SDK, which nobody answers.
        if type(request).__name__ != "JSONRPCRequest" or request.method in _NOT_OBSERVED:
            return
        try:
            params = request.params if isinstance(request.params, dict) else {}
            self._begin(request.id, request.method, params)
        except Exception as error:
            failsafe.caught("mcp request", error)

    def sent(self, message: Any) -> None:
        """A message to the client: an answer ends the operation of its request."""
        answer: Any = getattr(getattr(message, "message", None), "root", None)
        if answer is None or getattr(answer, "method", None) is not None:
            return
        op = self.pending.pop(getattr(answer, "id", None), None)
        if op is None:
            return
        try:
            error = getattr(answer, "error", None)
            if error is not None:
                op.failed(str(error.code))
                op.attributes[names.RPC_RESPONSE_STATUS_CODE] = str(error.code)
            else:
                self._read(op, answer.result)
        except Exception as problem:
            failsafe.caught("mcp answer", problem)
        op.finish()

    def closed(self, error: BaseException | None) -> None:
        """The connection is gone: what is still unanswered ends, and so does the session. Idempotent."""
        if self not in _open_sessions:
            return
        _open_sessions.discard(self)
        for op in list(self.pending.values()):
            op.failed("_OTHER")
            op.finish()
        self.pending.clear()
        attributes: dict[str, AttributeValue] = {
            names.DATAFACE_SESSION_DURATION: time.monotonic() - self.started,
            names.DATAFACE_CLIENT_NAME: self.client,
            **self._common(),
        }
        if error is not None:
            attributes[names.ERROR_TYPE] = error_class(error)
        recorder.event(names.EVENT_DATAFACE_SESSION_ENDED, attributes, warning=False)

    # -- one request ------------------------------------------------------------------------------

    def _begin(self, request_id: str | int, method: str, params: Mapping[str, Any]) -> None:
        if recorder.heard() is None:
            return
        attributes: dict[str, AttributeValue] = {
            names.MCP_METHOD_NAME: method[:_LONGEST],
            names.JSONRPC_REQUEST_ID: str(request_id)[:_LONGEST],
            **self._common(),
        }
        target = None
        if method == "tools/call":
            target = params.get("name")
            attributes[names.GEN_AI_OPERATION_NAME] = "execute_tool"
            if isinstance(target, str):
                attributes[names.GEN_AI_TOOL_NAME] = target[:_LONGEST]
        elif method == "resources/read" and isinstance(params.get("uri"), str):
            attributes[names.MCP_RESOURCE_URI] = params["uri"].partition("?")[0][:_LONGEST]
        elif method == "initialize":
            information = params.get("clientInfo")
            if isinstance(information, dict):
                self.client = client_id(str(information.get("name", "")))
        parent, links = _parent(params.get("_meta"))
        op = Operation(
            _METHOD_OPERATIONS.get(method),
            attributes,
            span_name=_span_name(method, target),
            kind=SpanKind.SERVER,
            surface=_SURFACE,
            context=parent,
            links=links,
        )
        op.client = self.client
        if self.tools is not None:
            op.context_part("tool_list", self.tools)
        former = self.pending.pop(request_id, None)
        if former is not None:  # the client used its id again, and no answer will tell the two apart
            former.failed("_OTHER")
            former.finish()
        self.pending[request_id] = op

    def _read(self, op: Operation, result: Any) -> None:
        if not isinstance(result, dict):
            return
        if op.name == "tool.call":
            size = sum(_content_size(part) for part in result.get("content", ()))
            op.payload(size, "tool_result", is_static_tool(str(op.attributes.get(names.GEN_AI_TOOL_NAME))))
            if result.get("isError"):
                op.failed("tool_error")
        elif op.name == "resource.read":
            size = sum(_content_size(part) for part in result.get("contents", ()))
            op.payload(size, "resource", is_static_resource(str(op.attributes.get(names.MCP_RESOURCE_URI))))
        elif isinstance(result.get("tools"), list):
            size, self.tools = fingerprint.measure(result["tools"])
            op.payload(size, "tool_list")
            op.context_part("tool_list", self.tools)
        elif op.name == "mcp.initialize":
            self.protocol = str(result.get("protocolVersion", "")) or None
            op.attributes.update(self._common())

    def _common(self) -> dict[str, AttributeValue]:
        common: dict[str, AttributeValue] = {}
        if self.transport is not None:
            common[names.NETWORK_TRANSPORT] = self.transport
        if self.protocol is not None:
            common[names.MCP_PROTOCOL_VERSION] = self.protocol
        return common


def _span_name(method: str, target: Any) -> str:
    """``{method} {tool}``, of what is known only: clients can invent the rest, and names of spans must stay few."""
    methods, tools = names.BOUNDS[names.MCP_METHOD_NAME].known, names.BOUNDS[names.GEN_AI_TOOL_NAME].known
    if methods is not None and method not in methods:
        return "_OTHER"
    return f"{method} {target}" if tools is not None and target in tools else method


def _content_size(part: Any) -> int:
    """UTF-8 bytes of one content part: its text, or its base64 data as it is sent."""
    if not isinstance(part, dict):
        return 0
    for key in ("text", "data", "blob"):
        value = part.get(key)
        if isinstance(value, str):
            return utf8_size(value)
    resource = part.get("resource")
    return _content_size(resource) if isinstance(resource, dict) else 0


def _parent(meta: Any) -> tuple[Context | None, tuple[Link, ...]]:
    """The parent context from ``params._meta``, and the ambient span as a link when there is another parent."""
    if not isinstance(meta, dict):
        return None, ()
    carrier = {key: value for key, value in meta.items() if isinstance(value, str)}
    if "traceparent" not in carrier and "baggage" not in carrier:
        return None, ()
    ambient = get_current_span().get_span_context()
    extracted = propagate.extract(carrier)
    remote = get_current_span(extracted).get_span_context()
    if not remote.is_valid or remote == ambient:
        return extracted, ()
    return extracted, (Link(ambient),) if ambient.is_valid else ()


class _ReadStream:
    """The stream from the client, seen. Everything else is the stream's own."""

    def __init__(self, stream: Any, session: _Session) -> None:
        self._stream = stream
        self._session = session

    async def receive(self) -> Any:
        message = await self._stream.receive()
        self._session.received(message)
        return message

    def __aiter__(self) -> _ReadStream:
        return self

    async def __anext__(self) -> Any:
        message = await self._stream.__anext__()
        self._session.received(message)
        return message

    async def __aenter__(self) -> _ReadStream:
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *raised: Any) -> Any:
        return await self._stream.__aexit__(*raised)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _WriteStream:
    """The stream to the client, seen. Everything else is the stream's own."""

    def __init__(self, stream: Any, session: _Session) -> None:
        self._stream = stream
        self._session = session

    async def send(self, message: Any) -> None:
        self._session.sent(message)
        await self._stream.send(message)

    async def __aenter__(self) -> _WriteStream:
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *raised: Any) -> Any:
        return await self._stream.__aexit__(*raised)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def close_sessions() -> None:
    """End every open session: the process is about to go, and its streams will not be closed before."""
    for session in list(_open_sessions):
        session.closed(None)


# -- hooks ---------------------------------------------------------------------------------------


def _tap_create_server(call: Call) -> None:
    if call.result is not None:
        _servers.add(call.result)


def _wrap_run_server(run_server: Any) -> Any:
    """`run_server` speaks over the process's pipes; a host that calls `create_server` may use any transport."""

    @functools.wraps(run_server)
    async def observed(*args: Any, **kwargs: Any) -> Any:
        token = otel_context.attach(otel_context.set_value(_transport_key, "pipe"))
        try:
            return await run_server(*args, **kwargs)
        finally:
            otel_context.detach(token)

    return observed


def _wrap_run(run: Any) -> Any:
    @functools.wraps(run)
    async def observed(self: Any, read_stream: Any, write_stream: Any, *args: Any, **kwargs: Any) -> Any:
        if self not in _servers:  # another MCP server in the same process is none of our business
            return await run(self, read_stream, write_stream, *args, **kwargs)
        transport = otel_context.get_value(_transport_key)
        session = _Session(transport if isinstance(transport, str) else None)
        _open_sessions.add(session)
        read, write = _ReadStream(read_stream, session), _WriteStream(write_stream, session)
        failure: BaseException | None = None
        try:
            return await run(self, read, write, *args, **kwargs)
        except Exception as error:
            failure = error
            raise
        finally:
            session.closed(failure)

    return observed


def _wrap_handle_message(handle: Any) -> Any:
    """Give the handler the context of its request, which is found through the streams of its session.

    Not at `_handle_request`: neighbours wrap that, some after us, and their spans of a request are to be below ours.
    """

    @functools.wraps(handle)
    async def observed(self: Any, message: Any, session: Any, *args: Any, **kwargs: Any) -> Any:
        ours = getattr(getattr(session, "_write_stream", None), "_session", None)
        op = ours.pending.get(getattr(message, "request_id", None)) if isinstance(ours, _Session) else None
        if op is None:
            return await handle(self, message, session, *args, **kwargs)
        token = otel_context.attach(op.context)
        try:
            return await handle(self, message, session, *args, **kwargs)
        finally:
            otel_context.detach(token)

    return observed


HOOKS = (
    Hook("dataface.ai.mcp.server", "create_server", tap(_tap_create_server, outside=True)),
    Hook("dataface.ai.mcp.server", "run_server", _wrap_run_server),
    Hook(
        "mcp.server.lowlevel.server",
        "Server.run",
        _wrap_run,
        parameters=("read_stream", "write_stream"),
    ),
    Hook(
        "mcp.server.lowlevel.server",
        "Server._handle_message",
        _wrap_handle_message,
        parameters=("message", "session"),
    ),
)
