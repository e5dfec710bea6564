"""Who is compared with: each way of observing a function and an MCP tool call, and the process that it plays in.

Spans go through a batch processor to an exporter that drops them, metrics to a reader in memory. What one call emits is
counted: the others make spans, with the arguments and results of the call in them, and no metrics.

`python -m benchmarks.contestants SCENE NAME PROJECT` is such a process: it says what one call emits, and answers each
number of units that it is told with what they took.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import importlib.util
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from opentelemetry import metrics, trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from benchmarks import served
from benchmarks.homes import Home, Hosts, Memory, Own
from benchmarks.measure import UncollectedError
from benchmarks.players import answer, turns
from benchmarks.shapes import function
from benchmarks.sides import SIDES
from context_telemetry.conventions import names
from context_telemetry.instrumentation import DatafaceInstrumentor
from context_telemetry.observe import recorder
from context_telemetry.pipeline.batch import BatchLimits

_TOOL_RESULT = 1_000

Call = Callable[[str], str]
Observed = tuple[Call, "Home | None"]
"""The observed function, and where its telemetry goes."""

Prepared = tuple[Callable[[Any], object], "Home | None"]
"""What is done to the MCP server before anybody connects, and where its telemetry goes."""


# -- the contestants ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contestant:
    """One way of observing: ``call`` gives the observed function, ``tool`` prepares the process for MCP.

    Both say where the telemetry goes. ``needs`` are modules that may not be installed.
    """

    needs: tuple[str, ...] = ()
    call: Callable[[], Observed] | None = None
    tool: Callable[[], Prepared] | None = None

    def missing(self) -> str:
        """What is not installed; empty when all is."""
        return ", ".join(each for each in self.needs if not _importable(each))


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _side(name: str) -> Callable[[], Observed]:
    def call() -> Observed:
        contestant = SIDES[name]("function", "exported", keep=True)
        contestant.before()
        return contestant.call, contestant.home

    return call


def _unprepared(server: Any) -> None:
    """Nothing is done to the server."""


def _provided() -> Hosts:
    """The process's own providers."""
    hosts = Hosts("exported", keep=True)
    assert hosts.metering is not None
    trace.set_tracer_provider(hosts.tracing)
    metrics.set_meter_provider(hosts.metering)
    return hosts


def _bare_tool() -> Prepared:
    return _unprepared, None


def _tool_by_hand() -> Prepared:
    """The server's public handler wrapped, and the one method of Dataface that a call goes through: what ours emits.

    A span with fifteen attributes and one below it with four, three histograms and a counter. The hash over what the
    client was given to work with is one that is known.
    """
    from dataface.agent_api.project_session import ProjectSession

    hosts = _provided()
    tracer, meter = hosts.tracing.get_tracer("by hand"), metrics.get_meter("by hand")
    boundaries = {metric.name: metric.boundaries for metric in names.METRICS}
    durations, inner_durations, sizes = (
        meter.create_histogram(name, explicit_bucket_boundaries_advisory=boundaries[name])
        for name in ("mcp.server.operation.duration", "dataface.operation.duration", "dataface.payload.size")
    )
    served_calls = meter.create_counter("dataface.context.served")
    known_parts = ("manifest=41f4459e39ec280b", "tool_list=95407b9124b67959")

    refresh = ProjectSession.refresh

    def observed_refresh(session: Any, *arguments: Any, **options: Any) -> Any:
        began = time.perf_counter()
        with tracer.start_as_current_span("session.refresh") as span:
            span.set_attribute("dataface.operation.name", "session.refresh")
            span.set_attribute("dataface.entry", False)
            span.set_attribute("dataface.surface", "mcp")
            result = refresh(session, *arguments, **options)
            span.set_attribute("dataface.outcome", "ok")
            inner_durations.record(
                time.perf_counter() - began,
                {
                    "dataface.operation.name": "session.refresh",
                    "dataface.surface": "mcp",
                    "dataface.outcome": "ok",
                },
            )
        return result

    ProjectSession.refresh = observed_refresh

    def prepare(server: Any) -> None:
        from mcp.types import CallToolRequest

        handle = server.request_handlers[CallToolRequest]

        async def observed(request: Any) -> Any:
            began, tool, context = time.perf_counter(), request.params.name, server.request_context
            version, outcome = str(context.session.client_params.protocolVersion), "ok"
            with tracer.start_as_current_span(f"tools/call {tool}", kind=trace.SpanKind.SERVER) as span:
                span.set_attribute("mcp.method.name", "tools/call")
                span.set_attribute("jsonrpc.request.id", str(context.request_id))
                span.set_attribute("mcp.protocol.version", version)
                span.set_attribute("gen_ai.operation.name", "execute_tool")
                span.set_attribute("gen_ai.tool.name", tool)
                span.set_attribute("dataface.operation.name", "tool.call")
                span.set_attribute("dataface.entry", True)
                span.set_attribute("dataface.surface", "mcp")
                span.set_attribute("dataface.client.name", "python_sdk")
                result = await handle(request)
                size = sum(len(getattr(each, "text", "").encode()) for each in result.root.content)
                if result.root.isError:
                    outcome = "failed"
                span.set_attribute("dataface.outcome", outcome)
                span.set_attribute("dataface.payload.size", size)
                span.set_attribute("dataface.payload.kind", "tool_result")
                span.set_attribute("dataface.payload.limit", 262_144)
                span.set_attribute("dataface.context.parts", known_parts)
                span.set_attribute("dataface.context.fingerprint", "07285965db335954")
                durations.record(
                    time.perf_counter() - began,
                    {
                        "mcp.method.name": "tools/call",
                        "gen_ai.tool.name": tool,
                        "mcp.protocol.version": version,
                    },
                )
                sizes.record(
                    size,
                    {
                        "dataface.payload.kind": "tool_result",
                        "dataface.surface": "mcp",
                        "dataface.client.name": "python_sdk",
                    },
                )
                served_calls.add(
                    1,
                    {
                        "dataface.operation.name": "tool.call",
                        "dataface.surface": "mcp",
                        "dataface.client.name": "python_sdk",
                        "dataface.outcome": outcome,
                    },
                )
            return result

        server.request_handlers[CallToolRequest] = observed

    return prepare, hosts


def _tool_decorated() -> Prepared:
    hosts = Hosts("exported", keep=True)
    DatafaceInstrumentor().instrument(
        skip_dep_check=True, tracer_provider=hosts.tracing, meter_provider=hosts.metering
    )
    return _unprepared, hosts


def _tool_owned() -> Prepared:
    own = Own("exported", keep=True)
    DatafaceInstrumentor().instrument(skip_dep_check=True)
    recorder.install(own.pipeline.recorder)
    return _unprepared, own


class _Theirs:
    """The providers are made by the contestant, which takes a processor of ours, and a reader where it has metrics."""

    exports = True

    def __init__(self) -> None:
        self.place = Memory(keep=True)
        self.batched = BatchSpanProcessor(self.place.exporter, max_queue_size=BatchLimits.queue)

    def collect(self) -> bool:
        for reader in self.place.readers:
            reader.collect()
        return self.batched.force_flush()

    def close(self) -> None: ...


def _logfire_home() -> _Theirs:
    import logfire

    home = _Theirs()
    logfire.configure(
        send_to_logfire=False,
        console=False,
        additional_span_processors=[home.batched],
        metrics=logfire.MetricsOptions(additional_readers=[home.place.reader]),
    )
    return home


def _logfire(**options: Any) -> Callable[[], Observed]:
    def call() -> Observed:
        import logfire

        home = _logfire_home()
        return logfire.instrument("context.build", **options)(function), home

    return call


def _logfire_tool() -> Prepared:
    import logfire

    home = _logfire_home()
    logfire.instrument_mcp()
    return _unprepared, home


def _openinference(kind: str) -> Callable[[], Observed]:
    def call() -> Observed:
        from openinference.instrumentation import OITracer, TraceConfig

        hosts = _provided()
        tracer: Any = OITracer(hosts.tracing.get_tracer("openinference"), config=TraceConfig())
        return getattr(tracer, kind)(function), hosts

    return call


def _openinference_tool() -> Prepared:
    from openinference.instrumentation.mcp import MCPInstrumentor

    hosts = _provided()
    MCPInstrumentor().instrument(tracer_provider=hosts.tracing)
    return _unprepared, hosts


def _traceloop() -> Observed:
    sdk, decorators = map(importlib.import_module, ("traceloop.sdk", "traceloop.sdk.decorators"))
    home = _Theirs()
    sdk.Traceloop.init(telemetry_enabled=False, processor=home.batched, instruments=set())
    home.place.readers = ()
    return decorators.task(name="context.build")(function), home


def _traceloop_tool() -> Prepared:
    from opentelemetry.instrumentation.mcp import McpInstrumentor

    hosts = _provided()
    McpInstrumentor().instrument(tracer_provider=hosts.tracing)
    return _unprepared, hosts


CONTESTANTS: dict[str, Contestant] = {
    "bare": Contestant((), lambda: (function, None), _bare_tool),
    "by hand": Contestant((), _side("by hand"), _tool_by_hand),
    "decorated": Contestant((), _side("decorated"), _tool_decorated),
    "owned": Contestant((), _side("owned"), _tool_owned),
    "logfire": Contestant(("logfire",), _logfire(), _logfire_tool),
    "logfire, no arguments": Contestant(("logfire",), _logfire(extract_args=False)),
    "openinference chain": Contestant(("openinference.instrumentation",), _openinference("chain")),
    "openinference tool": Contestant(("openinference.instrumentation",), _openinference("tool")),
    "openinference mcp": Contestant(("openinference.instrumentation.mcp",), None, _openinference_tool),
    "traceloop task": Contestant(("traceloop.sdk",), _traceloop),
    "traceloop mcp": Contestant(("opentelemetry.instrumentation.mcp",), None, _traceloop_tool),
}


# -- in a process of its own ----------------------------------------------------------------------

Run = Callable[[int], Awaitable[None]]


@asynccontextmanager
async def _called(contestant: Contestant) -> AsyncIterator[tuple[Run, Home | None]]:
    assert contestant.call is not None
    call, home = contestant.call()

    async def run(units: int) -> None:
        for _ in range(units):
            call("orders")

    yield run, home


@asynccontextmanager
async def _connected(contestant: Contestant, root: Path) -> AsyncIterator[tuple[Run, Home | None]]:
    assert contestant.tool is not None
    prepare, home = contestant.tool()
    with served.padded_tool():
        async with served.session(root, prepare) as client:

            async def run(units: int) -> None:
                for _ in range(units):
                    result = await client.call_tool(served.PADDED_TOOL, {"size": _TOOL_RESULT})
                    assert not result.isError, result

            yield run, home


async def _play(scene: AbstractAsyncContextManager[tuple[Run, Home | None]], answers: IO[str]) -> None:
    """Say what one call emits; then answer each number of units until there is none."""
    async with scene as (run, home):
        for units in turns(answers, await _emits(run, home)):
            gc.collect()
            gc.disable()
            process, thread = time.process_time_ns(), time.thread_time_ns()
            await run(units)
            caller = time.thread_time_ns() - thread
            if home is not None and not home.collect():
                raise UncollectedError("not everything was exported or collected")
            total = time.process_time_ns() - process
            gc.enable()
            answer(answers, {"caller": caller / units / 1000, "total": total / units / 1000})


async def _emits(run: Run, home: Home | None) -> str:
    """What one call emits; whatever is made once is made before."""
    await run(3)
    if home is None:
        return ""
    home.collect()
    before = home.place.counts().total()
    home.place.exporter.kept = kept = list[ReadableSpan]()
    await run(1)
    home.collect()
    home.place.exporter.kept = None
    attributes = sum(len(span.attributes or {}) for span in kept)
    counts = {
        "span": len(kept),
        "attribute": attributes,
        "measurement": round(home.place.counts().total() - before),
    }
    return ", ".join(f"{count} {what}{'' if count == 1 else 's'}" for what, count in counts.items())


def main(arguments: Sequence[str]) -> None:
    scene, name, root = arguments
    answers, sys.stdout = sys.stdout, sys.stderr  # what others print is no answer
    contestant = CONTESTANTS[name]
    playing = _called(contestant) if scene == "call" else _connected(contestant, Path(root))
    asyncio.run(_play(playing, answers))


if __name__ == "__main__":
    main(sys.argv[1:])
