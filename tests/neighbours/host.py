"""A host with OpenTelemetry providers of its own: `python host.py NEIGHBOUR SPANS ARGUMENTS...` runs `dft ARGUMENTS`.

It switches on one other instrumentation and this one, in the order in which a host would, and writes every span that
ends to the file SPANS, one JSON object per line. Where a neighbour wants the application of `dft serve`, it gets it
where a host that runs the application itself has it in hand: as it goes to uvicorn.
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


def alone() -> None: ...


def threading() -> None:
    from opentelemetry.instrumentation.threading import ThreadingInstrumentor

    ThreadingInstrumentor().instrument()


def logging() -> None:
    from opentelemetry.instrumentation.logging import LoggingInstrumentor

    LoggingInstrumentor().instrument(set_logging_format=False)


def fastapi() -> None:
    """The contributed instrumentation of FastAPI, which puts the ASGI middleware into every application."""
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

    FastAPIInstrumentor().instrument()


def asgi_around() -> None:
    """The middleware of ASGI around the application: `uvicorn.run(OpenTelemetryMiddleware(app))`."""
    _run_with(_middleware())


def asgi_inside() -> None:
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


def openinference() -> None:
    from openinference.instrumentation.mcp import MCPInstrumentor

    MCPInstrumentor().instrument()


def traceloop() -> None:
    from opentelemetry.instrumentation.mcp import McpInstrumentor

    McpInstrumentor().instrument()


def logfire() -> None:
    import logfire

    def instrumented(app: Any) -> Any:
        logfire.instrument_fastapi(app)
        return app

    logfire.instrument_mcp()
    _run_with(instrumented)


NEIGHBOURS: dict[str, Callable[[], None]] = {
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
    )
}


def provide(spans: Path, neighbour: str) -> None:
    """The host's own tracer provider; logfire makes it itself and takes our exporter."""
    exporter = ConsoleSpanExporter(out=spans.open("a", encoding="utf-8"), formatter=_line)
    if neighbour == "logfire":
        import logfire

        logfire.configure(
            send_to_logfire=False, console=False, additional_span_processors=[SimpleSpanProcessor(exporter)]
        )
        return
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)


def _line(span: ReadableSpan) -> str:
    return json.dumps(json.loads(span.to_json())) + "\n"


def main() -> None:
    _, neighbour, spans, *arguments = sys.argv
    provide(Path(spans), neighbour)
    NEIGHBOURS[neighbour]()
    context_telemetry.instrument()
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="dft")
    sys.argv = ["dft", *arguments]
    script.load()()


if __name__ == "__main__":
    main()
