"""Who is compared with: each way of observing a function and an MCP tool call, and the process that it plays in.

Spans go through a batch processor to an exporter that drops them, metrics to a reader in memory. What one call emits is
counted: the others make spans, with the arguments and results of the call in them, and no metrics.

`python -m benchmarks.contestants SCENE NAME PROJECT` is such a process: it answers each number of units that it is told
with what they took.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import importlib.util
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from benchmarks import served
from benchmarks.sides import SIDES, Exporter, Home, Hosts, Own, function
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
    trace.set_tracer_provider(hosts.tracing)
    metrics.set_meter_provider(hosts.metering)
    return hosts


def _bare_tool() -> Prepared:
    return _unprepared, None


def _tool_by_hand() -> Prepared:
    """The server's public handler wrapped: a span as the MCP conventions have it, two histograms, a counter."""
    hosts = _provided()
    tracer, meter = hosts.tracing.get_tracer("by hand"), hosts.metering.get_meter("by hand")
    boundaries = {metric.name: metric.boundaries for metric in names.METRICS}
    durations, sizes = (
        meter.create_histogram(name, explicit_bucket_boundaries_advisory=boundaries[name])
        for name in ("mcp.server.operation.duration", "dataface.payload.size")
    )
    served_calls = meter.create_counter("dataface.context.served")

    def prepare(server: Any) -> None:
        from mcp.types import CallToolRequest

        handle = server.request_handlers[CallToolRequest]

        async def observed(request: Any) -> Any:
            began, tool = time.perf_counter(), request.params.name
            with tracer.start_as_current_span(f"tools/call {tool}", kind=trace.SpanKind.SERVER) as span:
                span.set_attribute("mcp.method.name", "tools/call")
                span.set_attribute("gen_ai.operation.name", "execute_tool")
                span.set_attribute("gen_ai.tool.name", tool)
                result = await handle(request)
                size = sum(len(getattr(each, "text", "").encode()) for each in result.root.content)
                span.set_attribute("dataface.outcome", "failed" if result.root.isError else "ok")
                span.set_attribute("dataface.payload.size", size)
                span.set_attribute("dataface.payload.kind", "tool_result")
                labels = {"mcp.method.name": "tools/call", "gen_ai.tool.name": tool}
                durations.record(time.perf_counter() - began, labels)
                sizes.record(size, {"dataface.payload.kind": "tool_result", "dataface.surface": "mcp"})
                served_calls.add(1, {"dataface.surface": "mcp", "dataface.outcome": "ok"})
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


class _LogfireHome:
    """logfire makes the providers itself and takes a processor and a reader of ours."""

    loses_nothing = True

    def __init__(self) -> None:
        import logfire

        self.exporter, self.reader = Exporter(keep=True), InMemoryMetricReader()
        self._batched = BatchSpanProcessor(self.exporter, max_queue_size=BatchLimits.queue)
        logfire.configure(
            send_to_logfire=False,
            console=False,
            additional_span_processors=[self._batched],
            metrics=logfire.MetricsOptions(additional_readers=[self.reader]),
        )

    def collect(self) -> None:
        self._batched.force_flush()
        self.reader.collect()

    def close(self) -> None: ...


def _logfire(**options: Any) -> Callable[[], Observed]:
    def call() -> Observed:
        import logfire

        home = _LogfireHome()
        return logfire.instrument("context.build", **options)(function), home

    return call


def _logfire_tool() -> Prepared:
    import logfire

    home = _LogfireHome()
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
    hosts = _provided()
    batched = BatchSpanProcessor(hosts.exporter, max_queue_size=BatchLimits.queue)
    sdk.Traceloop.init(telemetry_enabled=False, processor=batched, instruments=set())
    return decorators.task(name="context.build")(function), hosts


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
        print(json.dumps({"emits": await _emits(run, home)}), file=answers, flush=True)
        for line in sys.stdin:
            units = int(line)
            gc.collect()
            gc.disable()
            process, thread = time.process_time_ns(), time.thread_time_ns()
            await run(units)
            caller = time.thread_time_ns() - thread
            if home is not None:
                home.collect()
            total = time.process_time_ns() - process
            gc.enable()
            turn = {"caller": caller / units / 1000, "total": total / units / 1000}
            print(json.dumps(turn), file=answers, flush=True)


async def _emits(run: Run, home: Home | None) -> str:
    await run(3)  # whatever is made once
    if home is None:
        return ""
    home.collect()
    before = _recorded(home.reader)
    kept: list[ReadableSpan] = []
    home.exporter.kept = kept
    await run(1)
    home.collect()
    home.exporter.kept = None
    measured = _recorded(home.reader) - before
    attributes = sum(len(span.attributes or {}) for span in kept)
    counts = {"span": len(kept), "attribute": attributes, "measurement": measured}
    return ", ".join(f"{count} {what}{'' if count == 1 else 's'}" for what, count in counts.items())


def _recorded(reader: InMemoryMetricReader) -> int:
    """How often a histogram was recorded to or a counter counted."""
    data = reader.get_metrics_data()
    total = 0.0
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    histogram = isinstance(point, HistogramDataPoint)
                    total += point.count if histogram else point.value  # type: ignore[union-attr]  # no third kind
    return round(total)


def main(arguments: Sequence[str]) -> None:
    scene, name, root = arguments
    answers, sys.stdout = sys.stdout, sys.stderr  # what others print is no answer
    contestant = CONTESTANTS[name]
    playing = _called(contestant) if scene == "call" else _connected(contestant, Path(root))
    asyncio.run(_play(playing, answers))


if __name__ == "__main__":
    main(sys.argv[1:])
