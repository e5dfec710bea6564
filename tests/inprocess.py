"""A real Dataface MCP server and a real MCP client in one process, joined by the SDK's in-memory streams.

For what needs many calls: the process imports Dataface once. What needs a process of its own uses `observed`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from memory import Memory
from opentelemetry.sdk.trace import ReadableSpan

from context_telemetry.instrumentation import DatafaceInstrumentor
from context_telemetry.rehearsal.driver import Client

T = TypeVar("T")


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


def with_client(project: Path, use: Callable[[Client], Awaitable[T]], **options: Any) -> T:
    """Run ``use`` with a client of a fresh server for ``project``."""

    async def run() -> T:
        from dataface.agent_api.project_session import ProjectSession
        from dataface.ai.context import DatafaceAIContext
        from dataface.ai.mcp.server import create_server
        from dataface.core.execute.adapters import LOCAL_AUTHORING_REGISTRY_KWARGS
        from mcp.shared.memory import create_connected_server_and_client_session

        with ProjectSession.open(project, **LOCAL_AUTHORING_REGISTRY_KWARGS) as session:
            server = create_server(DatafaceAIContext(project_session=session, server_port=1))
            async with create_connected_server_and_client_session(server, **options) as client:
                return await use(Client(client))

    return asyncio.run(run())


def entry_of(spans: list[ReadableSpan]) -> ReadableSpan:
    """The only tool call or resource read among the spans."""
    (entry,) = [span for span in spans if span.name.startswith(("tools/call", "resources/read"))]
    return entry


def exchange(project: Path, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Send raw JSON-RPC messages, one after the other, and return the answers to those that have an id."""

    async def run() -> list[dict[str, Any]]:
        import anyio
        from dataface.agent_api.project_session import ProjectSession
        from dataface.ai.context import DatafaceAIContext
        from dataface.ai.mcp.server import create_server
        from mcp.shared.memory import create_client_server_memory_streams
        from mcp.shared.message import SessionMessage
        from mcp.types import JSONRPCMessage

        answers = []
        with ProjectSession.open(project) as session:
            server = create_server(DatafaceAIContext(project_session=session, server_port=1))
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
