"""A host beside whose Dataface others observe: `python host.py WAY NEIGHBOURS SPANS ARGUMENTS...` runs `dft ARGUMENTS`.

It switches on other instrumentations (NEIGHBOURS: their names with + between). On the WAY `host` it has OpenTelemetry
providers of its own, by which every span that ends goes to the file SPANS, one JSON object per line, and then switches
on this library. On the WAY `run` it does neither: `context-telemetry run` is what started it. Where a neighbour wants
the application of `dft serve`, it gets it where a host that runs the application itself has it in hand: as it goes to
uvicorn.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

import context_telemetry


def alone(_: Path) -> None: ...


def threading(_: Path) -> None:
    from opentelemetry.instrumentation.threading import ThreadingInstrumentor

    ThreadingInstrumentor().instrument()


def logging(_: Path) -> None:
    from opentelemetry.instrumentation.logging import LoggingInstrumentor

    LoggingInstrumentor().instrument(set_logging_format=False)


def fastapi(_: Path) -> None:
    """The contributed instrumentation of FastAPI, which puts the ASGI middleware into every application."""
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

    FastAPIInstrumentor().instrument()


def asgi_around(_: Path) -> None:
    """The middleware of ASGI around the application: `uvicorn.run(OpenTelemetryMiddleware(app))`."""
    _run_with(_middleware())


def asgi_inside(_: Path) -> None:
    """The same as a middleware of the application: `app.add_middleware(OpenTelemetryMiddleware)`."""

    def added(app: Any) -> Any:
        app.add_middleware(_middleware())
        return app

    _run_with(added)


def _middleware() -> Any:
    # No import statement: the environment of `lint` has neither this nor uvicorn.
    return importlib.import_module("opentelemetry.instrumentation.asgi").OpenTelemetryMiddleware


def _run_with(changed: Callable[[Any], Any]) -> None:
    uvicorn: Any = importlib.import_module("uvicorn")
    run = uvicorn.run
    uvicorn.run = lambda app, **options: run(changed(app), **options)


def openinference(_: Path) -> None:
    from openinference.instrumentation.mcp import MCPInstrumentor

    MCPInstrumentor().instrument()


def traceloop(_: Path) -> None:
    from opentelemetry.instrumentation.mcp import McpInstrumentor

    McpInstrumentor().instrument()


def logfire(spans: Path) -> None:
    """It brings the process's provider itself, whatever there is, and takes our exporter."""
    import logfire

    _logfire_pages(configured(spans))
    logfire.instrument_mcp()


def logfire_local(spans: Path) -> None:
    """An instance beside the process's own provider: two pipelines. Its spans go to the file SPANS.local."""
    _logfire_pages(configured(local_of(spans), local=True))


def configured(spans: Path, **options: Any) -> Any:
    """An instance of logfire whose spans go to a file."""
    import logfire

    to_file = [SimpleSpanProcessor(_exporter(spans))]
    return logfire.configure(
        send_to_logfire=False, console=False, additional_span_processors=to_file, **options
    )


def local_of(spans: Path) -> Path:
    """Where the spans of a pipeline beside the host's or ours go."""
    return spans.with_name(f"{spans.name}.local")


def _logfire_pages(instance: Any) -> None:
    def instrumented(app: Any) -> Any:
        instance.instrument_fastapi(app)
        return app

    _run_with(instrumented)


NEIGHBOURS: dict[str, Callable[[Path], None]] = {
    each.__name__: each
    for each in (
        alone,
        threading,
        logging,
        fastapi,
        asgi_around,
        asgi_inside,
        openinference,
        traceloop,
        logfire,
        logfire_local,
    )
}


def provide(spans: Path) -> None:
    """The host's own tracer provider."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(_exporter(spans)))
    trace.set_tracer_provider(provider)


def _exporter(spans: Path) -> ConsoleSpanExporter:
    return ConsoleSpanExporter(out=spans.open("a", encoding="utf-8"), formatter=_line)


def _line(span: ReadableSpan) -> str:
    scope = span.instrumentation_scope
    return json.dumps({**json.loads(span.to_json()), "scope": scope and scope.name}) + "\n"


def main() -> None:
    _, way, named, file, *arguments = sys.argv
    spans, neighbours = Path(file), named.split("+")
    if way == "host" and "logfire" not in neighbours:
        provide(spans)
    for neighbour in neighbours:
        NEIGHBOURS[neighbour](spans)
    if way == "host":
        context_telemetry.instrument()
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="dft")
    sys.argv = ["dft", *arguments]
    script.load()()


if __name__ == "__main__":
    main()
