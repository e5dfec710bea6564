"""A real Dataface MCP server and a real MCP client in one process, joined by the SDK's in-memory streams.

For what needs many calls: the process imports Dataface once. What needs a process of its own uses `observed`.
"""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from memory import Memory
from opentelemetry.sdk.trace import ReadableSpan

from context_telemetry.instrumentation import DatafaceInstrumentor
from context_telemetry.rehearsal.driver import Answer, Call, Client

T = TypeVar("T")

# What an open project is, and the field of DatafaceAIContext that takes it. Before 0.1.5 it is an adapter registry.
_SESSIONS = (
    ("dataface.agent_api.project_session", "ProjectSession", "project_session"),
    ("dataface.agent_api.project", "Project", "project"),
)


@contextmanager
def instrumented() -> Iterator[Memory]:
    """Dataface observed in this process, recording to memory."""
    memory = Memory()
    instrumentor = DatafaceInstrumentor()
    instrumentor.instrument(**memory.providers)
    try:
        yield memory
    finally:
        instrumentor.uninstrument()


@contextmanager
def opened(project: Path, **options: Any) -> Iterator[tuple[Any, Any]]:
    """``project`` as the installed release's ``dft mcp serve`` opens it, which runs inside of it.

    Yields the ``DatafaceAIContext`` that tools and servers take, and the adapter registry of the project. It has no
    result cache unless ``cache`` is given (0.1.5 and later); ``options`` go to the project session.
    """
    from dataface.ai.context import DatafaceAIContext
    from dataface.core.execute.adapters import LOCAL_AUTHORING_REGISTRY_KWARGS, build_adapter_registry

    options = {**LOCAL_AUTHORING_REGISTRY_KWARGS, **options}
    here = Path.cwd()
    os.chdir(project)
    try:
        for module, name, field in _SESSIONS:
            if find_spec(module) is not None:
                with getattr(importlib.import_module(module), name).open(project, **options) as session:
                    yield DatafaceAIContext(**{field: session}, server_port=1), session.adapter_registry
                return
        registry = build_adapter_registry(project, **options)
        try:
            yield DatafaceAIContext(adapter_registry=registry, server_port=1), registry
        finally:
            registry.close()
    finally:
        os.chdir(here)


def with_client(project: Path, use: Callable[[Client], Awaitable[T]], **options: Any) -> T:
    """Run ``use`` with a client of a fresh server for ``project``."""

    async def run() -> T:
        from dataface.ai.mcp.server import create_server
        from mcp.shared.memory import create_connected_server_and_client_session

        with opened(project) as (context, _):
            server = create_server(context)
            async with create_connected_server_and_client_session(server, **options) as client:
                return await use(Client(client))

    return asyncio.run(run())


def answered(project: Path, memory: Memory, *calls: Call) -> list[tuple[Answer, ReadableSpan]]:
    """Send the calls to a fresh server, one after the other: each answer, and the one span that is its entry."""

    async def send(client: Client) -> list[Answer]:
        memory.clear()
        return [await client.send(call) for call in calls]

    answers = with_client(project, send)
    entries = [span for span in memory.spans if span.name.startswith(("tools/call", "resources/read"))]
    assert len(entries) == len(answers)
    return list(zip(answers, entries, strict=True))


def entry_of(spans: list[ReadableSpan]) -> ReadableSpan:
    """The only tool call or resource read among the spans."""
    (entry,) = [span for span in spans if span.name.startswith(("tools/call", "resources/read"))]
    return entry


def exchange(project: Path, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Send raw JSON-RPC messages, one after the other, and return the answers to those that have an id."""

    async def run() -> list[dict[str, Any]]:
        import anyio
        from dataface.ai.mcp.server import create_server
        from mcp.shared.memory import create_client_server_memory_streams
        from mcp.shared.message import SessionMessage
        from mcp.types import JSONRPCMessage

        answers = []
        with opened(project) as (context, _):
            server = create_server(context)
            async with (
                create_client_server_memory_streams() as ((read, write), server_streams),
                anyio.create_task_group() as group,
            ):
                group.start_soon(server.run, *server_streams, server.create_initialization_options())
                for message in messages:
                    parsed = JSONRPCMessage.model_validate({"jsonrpc": "2.0", **message})
                    await write.send(SessionMessage(parsed))
                    if "id" in message:
                        with anyio.fail_after(30):
                            received: Any = await read.receive()
                        answers.append(
                            received.message.model_dump(by_alias=True, mode="json", exclude_none=True)
                        )
                await write.aclose()
        return answers

    return asyncio.run(run())


INITIALIZE: list[dict[str, Any]] = [
    {
        "id": "first",
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "claude-code", "version": "1"},
        },
    },
    {"method": "notifications/initialized"},
]
