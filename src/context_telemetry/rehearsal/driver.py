"""Drives an MCP server over stdio: a real client session, and a raw one that may break the rules.

It does not judge the answers; it records them.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

from context_telemetry.rehearsal.sample import require

T = TypeVar("T")
Json = dict[str, Any]

# How long a server may take to write its last lines and leave, on a busy machine.
STOP_SECONDS = 15.0
ANSWER_SECONDS = 60.0
_TURN_SECONDS = 0.05

# Variables of the shell that would steer an observed server otherwise than the caller means.
STEERING = ("OTEL_", "CONTEXT_TELEMETRY_", "DBT_", "DFT_")

# Listed by Dataface 0.3.1 and 0.4.0, and answered with an error all the same.
ALWAYS_UNKNOWN = ("dataface://docs/error-reference", "dataface://docs/warning-reference")


@dataclass(frozen=True)
class Call:
    """One request: a tool with its arguments, or a resource by its URI."""

    tool: str | None = None
    uri: str | None = None
    arguments: Json = field(default_factory=dict)

    def __str__(self) -> str:
        if self.uri is not None:
            return self.uri
        return f"{self.tool}({', '.join(f'{key}={value!r}' for key, value in self.arguments.items())})"


def tool(name: str, /, **arguments: Any) -> Call:
    return Call(tool=name, arguments=arguments)


def resource(uri: str) -> Call:
    return Call(uri=uri)


@dataclass(frozen=True)
class Answer:
    """What came back: `size` is its text in UTF-8 bytes, `error_code` JSON-RPC's where there is no result."""

    call: Call
    is_error: bool
    size: int
    seconds: float
    text: str = field(repr=False)
    error_code: int | None = None

    def json(self) -> Any:
        return json.loads(self.text)


# One healthy call of each tool at least, and of each kind of face; 0.3.0 and later answer all of them whole.
HEALTHY_TOOLS: tuple[Call, ...] = (
    tool("validate_dashboard", path="faces/orders.yml"),
    tool("render_dashboard", path="faces/orders.yml"),
    tool("render_dashboard", path="faces/customers.yml"),
    tool("render_dashboard", path="faces/order_list.yml"),
    tool("render_dashboard", path="faces/catalog.yml"),
    tool("render_dashboard", path="faces/revenue.yml", variables={"category": "toys"}),
    tool("execute_query", sql="SELECT count(*) AS orders FROM fct_orders", source="shop"),
    tool("execute_query", sql="SELECT table_name FROM information_schema.tables", source="shop"),
    tool("describe_query", sql="SELECT * FROM fct_orders", source="shop"),
    tool("query_face", name="by_country", path="faces/customers.yml"),
    tool("search_dashboards", query="revenue"),
    tool("docs"),
    tool("docs", topic="charts"),
    tool("describe_dashboard", path="faces/orders.yml"),
    tool("list_skills"),
    tool("get_skill", name="dashboard-build"),
    tool("search_skills", query="chart"),
    tool("list_diagnostic_codes"),
    tool("get_diagnostic_code", code="ERR-SOURCE-NOT-FOUND"),
)

# Likewise for the tools that only releases before 0.3.0 have.
FORMER_TOOLS: tuple[Call, ...] = (
    tool("schema", source="shop", schema="main", table="fct_orders"),
    tool("schema_search", keyword="revenue"),
    tool("list_warning_codes"),
    tool("get_warning_code", code="BAR_COLOR_1_TO_1_WITH_X"),
)

# One URI for each template that is listed.
TEMPLATE_RESOURCES: tuple[Call, ...] = (
    resource("dataface://dashboard/customers.yml"),
    resource("dataface://docs/charts"),
)


def observed(command: Sequence[str] | None = None) -> list[str]:
    """The command line that observes `command` (`dft mcp serve` if not given) with this interpreter."""
    script = Path(sys.executable).with_name("context-telemetry")
    start = [str(script)] if script.exists() else [sys.executable, "-m", "context_telemetry.cli"]
    return [*start, "run", "--", *(command or plain())]


def plain() -> list[str]:
    """`dft mcp serve` of this interpreter, unobserved."""
    require("dataface", "mcp")
    return [str(Path(sys.executable).with_name("dft")), "mcp", "serve"]


class Client:
    """An MCP client session that records its calls in `answers`; `session` is the SDK's own."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.answers: list[Answer] = []

    async def send(self, call: Call) -> Answer:
        """Calls the tool or reads the resource; an error is an answer too."""
        from mcp import McpError

        started = time.perf_counter()
        code: int | None = None
        try:
            if call.uri is not None:
                read = await self.session.read_resource(call.uri)
                is_error, texts = False, [getattr(part, "text", "") for part in read.contents]
            else:
                result = await self.session.call_tool(call.tool, call.arguments)
                is_error, texts = bool(result.isError), [getattr(part, "text", "") for part in result.content]
        except McpError as error:
            is_error, texts, code = True, [error.error.message], error.error.code
        seconds = time.perf_counter() - started
        text = "".join(texts)
        answer = Answer(call, is_error, len(text.encode()), seconds, text, code)
        self.answers.append(answer)
        return answer


@asynccontextmanager
async def session(
    project: Path,
    *,
    command: Sequence[str] | None = None,
    env: Mapping[str, str] | None = None,
    client_name: str = "context-telemetry-rehearsal",
    stderr: IO[str] | None = None,
) -> AsyncIterator[Client]:
    """Starts `command` (if not given, an observed `dft mcp serve`) in the project and opens an MCP session.

    Leaving closes the server's standard input and waits; what is still there after STOP_SECONDS is killed.
    """
    require("mcp")
    from datetime import timedelta

    import mcp.client.stdio
    from mcp import ClientSession, StdioServerParameters
    from mcp.types import Implementation

    # The SDK kills after two seconds, and offers no argument for it.
    mcp.client.stdio.PROCESS_TERMINATION_TIMEOUT = STOP_SECONDS
    program, *arguments = command if command is not None else observed()
    parameters = StdioServerParameters(
        command=program, args=arguments, cwd=project, env=_environment(project, env)
    )
    log = stderr if stderr is not None else open(os.devnull, "w")  # noqa: SIM115 (closed below, when it is ours)
    turn = _StartTurn()
    try:
        while not turn.taken():
            await asyncio.sleep(_TURN_SECONDS)
        async with mcp.client.stdio.stdio_client(parameters, errlog=log) as (read, write):
            identity = Implementation(name=client_name, version="1")
            patience = timedelta(seconds=ANSWER_SECONDS)
            async with ClientSession(read, write, patience, client_info=identity) as opened:
                await opened.initialize()
                turn.over()
                yield Client(opened)
    finally:
        turn.over()
        if stderr is None:
            log.close()


Use = Callable[[Client], Coroutine[Any, Any, T]]
"""What a session is used for: an async function of the client."""


async def every_tool(client: Client) -> list[Answer]:
    """Calls every listed tool with healthy arguments; raises KeyError for a tool that has none here."""
    listed = {listed.name for listed in (await client.session.list_tools()).tools}
    calls = (*HEALTHY_TOOLS, *FORMER_TOOLS)
    unknown = listed - {call.tool for call in calls}
    if unknown:
        raise KeyError(f"no healthy call is written down for {', '.join(sorted(unknown))}")
    return [await client.send(call) for call in calls if call.tool in listed]


async def every_resource(client: Client) -> list[Answer]:
    """Reads every resource that the server lists and one of each template; ALWAYS_UNKNOWN are among them."""
    listed = (await client.session.list_resources()).resources
    await client.session.list_resource_templates()
    plain_reads = [resource(str(entry.uri)) for entry in listed]
    calls = [*plain_reads, *(call for call in TEMPLATE_RESOURCES if call not in plain_reads)]
    return [await client.send(call) for call in calls]


def drive(project: Path, calls: Sequence[Call], **options: Any) -> list[Answer]:
    """One session that sends the calls in turn, for callers that are not async; options as `session`."""

    async def send_all(client: Client) -> list[Answer]:
        return [await client.send(call) for call in calls]

    return with_session(project, send_all, **options)


def drive_everything(project: Path, **options: Any) -> list[Answer]:
    """One session that calls every tool and reads every resource."""

    async def everything(client: Client) -> list[Answer]:
        return [*await every_tool(client), *await every_resource(client)]

    return with_session(project, everything, **options)


def with_session(project: Path, use: Use[T], **options: Any) -> T:
    """Runs `use` in a session of its own; options as `session`."""

    async def opened() -> T:
        async with session(project, **options) as client:
            return await use(client)

    return asyncio.run(opened())


class Raw:
    """JSON-RPC by hand: sends any line, and keeps every line that went and came, and what went to stderr."""

    def __init__(
        self, project: Path, *, command: Sequence[str] | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        self.sent: list[bytes] = []
        self.received: list[bytes] = []
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self._ids = iter(range(1, sys.maxsize))
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (it is read after the process has ended)
        self._turn = _StartTurn()
        while not self._turn.taken():
            time.sleep(_TURN_SECONDS)
        self.process = subprocess.Popen(
            list(command) if command is not None else observed(),
            cwd=project,
            env=_environment(project, env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.received.append(line)
            self._lines.put(line)
        self._lines.put(None)

    def send(self, message: Json | str | bytes) -> None:
        """Sends a message as one line; text and bytes go as they are."""
        line = json.dumps(message) if isinstance(message, dict) else message
        data = line.encode() if isinstance(line, str) else line
        data = data if data.endswith(b"\n") else data + b"\n"
        self.sent.append(data)
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def receive(self, timeout: float = ANSWER_SECONDS) -> Json:
        """The next message; raises TimeoutError when none comes, EOFError when the server has closed."""
        try:
            line = self._lines.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError(f"no line within {timeout} s") from None
        if line is None:
            self._lines.put(None)
            raise EOFError("the server closed its output")
        message: Json = json.loads(line)
        return message

    def request(self, method: str, params: Any = None, *, timeout: float = ANSWER_SECONDS) -> Json:
        """Sends a request with the next id and returns its response; other lines stay in `received`."""
        identifier = next(self._ids)
        message: Json = {"jsonrpc": "2.0", "id": identifier, "method": method}
        self.send(message if params is None else {**message, "params": params})
        deadline = time.monotonic() + timeout
        while True:
            response = self.receive(max(0.0, deadline - time.monotonic()))
            if response.get("id") == identifier and "method" not in response:
                return response

    def initialize(self, client_name: str = "context-telemetry-raw", protocol: str = "2025-06-18") -> Json:
        """Opens the session as a client must before anything else."""
        params = {
            "protocolVersion": protocol,
            "capabilities": {},
            "clientInfo": {"name": client_name, "version": "1"},
        }
        response = self.request("initialize", params)
        self._turn.over()
        self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return response

    def close(self, timeout: float = STOP_SECONDS) -> int:
        """Closes standard input, waits, and kills this one process if it stays; returns its exit code."""
        self._turn.over()
        assert self.process.stdin is not None
        if not self.process.stdin.closed:
            with suppress(BrokenPipeError):  # it went first
                self.process.stdin.close()
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    @property
    def stderr(self) -> str:
        """What the process has written to standard error so far."""
        return os.pread(self._stderr.fileno(), 1 << 20, 0).decode(errors="replace")


def _environment(project: Path, env: Mapping[str, str] | None) -> dict[str, str]:
    """This process's environment without what would steer the observed one, and what the caller sets."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(STEERING)}
    if paths := kept.get("PYTHONPATH"):  # it starts in the project, where what is relative to here is not
        kept["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, paths.split(os.pathsep)))
    return {**kept, "PWD": str(project), **(env or {})}


class _StartTurn:
    """Servers that start together race for the port of Dataface's preview, and one may hang: they take turns.

    A turn ends with `over` or with the process that holds it; after ANSWER_SECONDS it is taken anyway.
    """

    def __init__(self) -> None:
        path = Path(tempfile.gettempdir()) / f"context-telemetry-start-{getpass.getuser()}.lock"
        self._lock = path.open("w")
        self._deadline = time.monotonic() + ANSWER_SECONDS

    def taken(self) -> bool:
        try:
            import fcntl
        except ImportError:  # Windows: whoever starts several at once has to see to it
            return True
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return time.monotonic() > self._deadline
        return True

    def over(self) -> None:
        self._lock.close()
