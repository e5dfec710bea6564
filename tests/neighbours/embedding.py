"""A host whose own application asks Dataface: `python embedding.py WAY PIPELINE SPANS`, in the folder of a project.

WAY and SPANS are those of `host.py`. Its application is asked twice, each time in a trace that the asker names: as it
is, and with the instrumentations of threads and logging. Above, between and below operations of Dataface lie spans of
the host's own: by the process's provider where PIPELINE is `shared`, by a second one where it is `local`.
"""

from __future__ import annotations

import importlib
import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from typing import Any

import wrapt
from host import configured, local_of, provide
from inprocess import opened
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

import context_telemetry
from context_telemetry import context_build, operation

AS_IT_IS, INSTRUMENTED = "55" * 16, "66" * 16
ASKER = "77" * 8
LINE = "line %(otelTraceID)s %(otelSpanID)s %(message)s"
HOST = "host"
"""Its tracer and its logger."""
QUERY = {"sql": "SELECT count(*) AS orders FROM fct_orders", "source": "shop"}

log = logging.getLogger(HOST)


def application(tracer: trace.Tracer, dataface: Any) -> Any:
    """What answers `/ask`."""
    from dataface.ai.tools import dispatch_tool_call

    # No import statement: the environment of `lint` has it not.
    app: Any = importlib.import_module("fastapi").FastAPI()
    pool = ThreadPoolExecutor(1)

    def query() -> None:
        assert dispatch_tool_call("execute_query", dict(QUERY), context=dataface)["success"]

    @context_build
    def build() -> str:
        log.warning("building")
        with operation("catalog.search"):
            # What it is told makes this one go on as a span of the SDK's.
            trace.get_current_span().set_attribute("host.note", "seen")
            with tracer.start_as_current_span("look"):
                pass
        with tracer.start_as_current_span("gather"):
            thread = Thread(target=query)
            thread.start()
            thread.join()
            pool.submit(query).result()
        return "what an agent is given"

    def ask() -> str:
        with tracer.start_as_current_span("answer"):
            return build()

    app.get("/ask")(ask)
    return app


def watch_warehouse(tracer: trace.Tracer) -> None:
    """A span around each statement, as instrumentations of drivers make it: DuckDB's connection cannot be wrapped."""

    def executed(execute: Any, _: Any, args: Any, kwargs: Any) -> Any:
        with tracer.start_as_current_span("statement"):
            return execute(*args, **kwargs)

    wrapt.wrap_function_wrapper(
        "dataface.core.execute.adapters.duckdb_adapter", "DuckDBAdapter._execute_duckdb", executed
    )


def instrument_threads_and_logging() -> None:
    from opentelemetry.instrumentation.logging import LoggingInstrumentor
    from opentelemetry.instrumentation.threading import ThreadingInstrumentor

    ThreadingInstrumentor().instrument()
    LoggingInstrumentor().instrument(inject_trace_context=True)
    lines = logging.StreamHandler()
    lines.setFormatter(logging.Formatter(LINE))
    log.addHandler(lines)


def main() -> None:
    from starlette.testclient import TestClient

    _, way, pipeline, file = sys.argv
    spans, instance = Path(file), None
    if way == "host":
        provide(spans)
        context_telemetry.instrument()
    tracer = trace.get_tracer(HOST)
    if pipeline == "local":
        instance = configured(local_of(spans), local=True)
        tracer = instance.config.get_tracer_provider().get_tracer(HOST)
    with ExitStack() as until_the_end:
        with tracer.start_as_current_span("start"):
            dataface, _ = until_the_end.enter_context(opened(Path.cwd()))
        watch_warehouse(tracer)
        app = application(tracer, dataface)
        if instance is not None:
            instance.instrument_fastapi(app)
            trace.set_tracer_provider(TracerProvider())  # too late: OpenTelemetry keeps the first
        asker = until_the_end.enter_context(TestClient(app))
        for asked in (AS_IT_IS, INSTRUMENTED):
            if asked == INSTRUMENTED:
                instrument_threads_and_logging()
            asker.get("/ask", headers={"traceparent": f"00-{asked}-{ASKER}-01"}).raise_for_status()


if __name__ == "__main__":
    main()
