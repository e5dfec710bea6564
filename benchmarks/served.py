"""Real Dataface in this process: an MCP session in memory, the application of `dft serve`, and who observes them.

For the newest supported Dataface release. What is not Dataface's says so: a tool and a page that answer as many bytes
as they are asked for.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from context_telemetry.instrumentation import DatafaceInstrumentor
from context_telemetry.observe import recorder
from context_telemetry.pipeline import providers
from context_telemetry.pipeline.destination import local
from context_telemetry.rehearsal.sample import create
from context_telemetry.settings import Settings

# Of all tools the one whose arguments the MCP SDK takes least time to validate.
PADDED_TOOL, PADDED_PAGE = "list_skills", "/padded/"


def missing() -> str:
    """What is needed here and not installed; empty when all is."""
    return ", ".join(each for each in ("dataface", "mcp", "httpx") if find_spec(each) is None)


class Project:
    """The Dataface project that is served: the one that is given, or the sample project, made when first asked for."""

    def __init__(self, given: Path | None = None) -> None:
        self._given = given

    @cached_property
    def root(self) -> Path:
        if self._given is not None:
            return self._given.resolve()
        self._folder = tempfile.TemporaryDirectory()  # gone with this object
        return create(Path(self._folder.name) / "project").root


@contextmanager
def unobserved(folder: Path) -> Iterator[None]:
    """Dataface as it is."""
    yield


@contextmanager
def observed(folder: Path) -> Iterator[None]:
    """Dataface with the hooks, recording to a pipeline of ours that writes local files below ``folder``."""
    pipeline = providers.assemble(
        local({}),
        {"traces": [], "metrics": [], "logs": []},
        Path.cwd(),
        Settings(state_dir=folder),
        set_global=False,
    )
    instrumentor = DatafaceInstrumentor()
    instrumentor.instrument(skip_dep_check=True)
    recorder.install(pipeline.recorder)
    try:
        yield
    finally:
        instrumentor.uninstrument()
        pipeline.shutdown(10.0)


@asynccontextmanager
async def session(root: Path, prepare: Callable[[Any], object] = lambda server: None) -> AsyncIterator[Any]:
    """A client session of an MCP server for the project, as `dft mcp serve` opens it, joined in memory.

    ``prepare`` is given the server before anybody connects.
    """
    from dataface.agent_api.project_session import ProjectSession
    from dataface.ai.context import DatafaceAIContext
    from dataface.ai.mcp.server import create_server
    from dataface.core.execute.adapters import LOCAL_AUTHORING_REGISTRY_KWARGS
    from mcp.shared.memory import create_connected_server_and_client_session

    with _in(root), ProjectSession.open(root, **LOCAL_AUTHORING_REGISTRY_KWARGS) as opened:
        server = create_server(DatafaceAIContext(project_session=opened, server_port=1))
        prepare(server)
        async with create_connected_server_and_client_session(server) as client:
            yield client


@asynccontextmanager
async def browser(root: Path) -> AsyncIterator[Any]:
    """An HTTP client of the application that `dft serve` runs for the project, joined in memory."""
    import httpx
    from dataface.cli.filesystem_project import FilesystemProject
    from dataface.core.serve.server import create_server

    with _in(root):
        application = create_server(FilesystemProject(root))
        _serve_padded(application)
        async with (
            application.router.lifespan_context(application),
            httpx.AsyncClient(
                transport=httpx.ASGITransport(application), base_url="http://dataface", follow_redirects=True
            ) as client,
        ):
            yield client


@contextmanager
def padded_tool() -> Iterator[None]:
    """The tool `list_skills` answers as it does, with a text of ``size`` where it is asked for one.

    A fake: no tool of Dataface returns a size that one can choose. Dispatch, serialisation and protocol are real.
    """
    from dataface.ai.tools import TOOL_HANDLERS

    handler = TOOL_HANDLERS[PADDED_TOOL]

    def padded(arguments: Any, *rest: Any, **options: Any) -> Any:
        if "size" not in arguments:
            return handler(arguments, *rest, **options)
        return {"success": True, "skills": [{"name": "padded", "description": padding(arguments["size"])}]}

    TOOL_HANDLERS[PADDED_TOOL] = padded
    try:
        yield
    finally:
        TOOL_HANDLERS[PADDED_TOOL] = handler


_PADDINGS: dict[int, str] = {}


def padding(size: int) -> str:
    """ASCII of that length, always the same object, so that making it costs nothing."""
    return _PADDINGS.setdefault(size, "orders: one row per order. " * (size // 27) + "." * (size % 27))


def _serve_padded(application: Any) -> None:
    """A page of the size that its path says, before all others: a fake, for the same reason."""
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def padded(request: Any) -> Any:
        return PlainTextResponse(padding(int(request.path_params["size"])))

    application.router.routes.insert(0, Route(PADDED_PAGE + "{size:int}", padded))


@contextmanager
def _in(folder: Path) -> Iterator[None]:
    here = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(here)
