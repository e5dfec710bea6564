"""What a light span and histograms of ours do where the SDK's would be at home: after the end, across forks, late."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import propagate, trace
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider, ObservableCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from context_telemetry import context_build, operation
from context_telemetry.observe import failsafe, recorder, sdk_fork
from context_telemetry.pipeline import providers
from context_telemetry.pipeline.destination import Destination
from context_telemetry.settings import Settings

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
SERVED, DURATION = "dataface.context.served", "dataface.operation.duration"


@dataclass
class Owned:
    """A pipeline of ours into memory."""

    pipeline: Any
    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        assert self.pipeline.flush(5.0)
        return self.exporter.get_finished_spans()


def own(folder: Path, reader: InMemoryMetricReader | None = None, *, traces: bool = True) -> Owned:
    exporter, reader = InMemorySpanExporter(), reader or InMemoryMetricReader()
    pipeline = providers.assemble(
        Destination("otlp", {}),
        {"traces": [exporter] if traces else [], "metrics": [reader], "logs": []},
        folder,
        Settings(),
        set_global=False,
    )
    recorder.install(pipeline.recorder)
    return Owned(pipeline, exporter, reader)


@pytest.fixture
def owned(tmp_path: Path) -> Iterator[Owned]:
    made = own(tmp_path)
    yield made
    recorder.forget()
    made.pipeline.shutdown(2.0)


def called(times: int = 1) -> None:
    for _ in range(times):
        with operation("context.build"):
            pass


def counted(reader: InMemoryMetricReader) -> dict[str, float]:
    data = reader.get_metrics_data()
    found: dict[str, float] = {}
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    number: Any = getattr(point, "count", None) or getattr(point, "value", 0)
                    found[metric.name] = found.get(metric.name, 0) + number
    return found


def test_what_an_operation_is_told_after_its_end_is_in_no_span_and_no_metric(owned: Owned) -> None:
    with operation("context.build", source="shop") as op:
        pass
    op.coordinates(source="late")
    op.attributes["dataface.outcome"] = "failed"
    (span,) = owned.spans
    assert (span.attributes or {})["dataface.catalog.source"] == "shop"
    assert (span.attributes or {})["dataface.outcome"] == "ok"


def test_a_record_that_cannot_be_put_together_does_not_take_its_batch_along(
    owned: Owned, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unsayable:
        def __eq__(self, other: object) -> bool:
            raise ValueError

        __hash__ = None  # type: ignore[assignment]  # on purpose

    dropped = failsafe.drops().get("spans", 0)
    called(3)
    with operation("context.build") as op:
        op.span_name = Unsayable()  # type: ignore[assignment]  # on purpose
    called(3)
    assert len(owned.spans) == 6
    assert failsafe.drops()["spans"] == dropped + 1


def test_a_span_that_has_ended_can_be_read_as_the_sdks(owned: Owned) -> None:
    with operation("context.build"):
        span: Any = trace.get_current_span()
    assert (span.name, dict(span.attributes)["dataface.outcome"]) == ("context.build", "ok")
    assert span.start_time <= span.end_time
    assert span.parent is None
    assert not span.is_recording()
    span.set_attribute("late", 1)
    assert "late" not in span.attributes


def test_a_span_that_is_printed_says_who_it_is(owned: Owned) -> None:
    with operation("context.build"):
        span = trace.get_current_span()
        assert repr(span.get_span_context()) in repr(span)


@forks
def test_a_child_knows_the_span_that_its_parent_forked_in(owned: Owned) -> None:
    with operation("context.build"), operation("catalog.resolve"):
        reads, writes = os.pipe()
        child = os.fork()
        if child == 0:
            context = trace.get_current_span().get_span_context()
            os.write(writes, f"{context.trace_id} {context.span_id}".encode())
            os._exit(0)
        os.waitpid(child, 0)
        context = trace.get_current_span().get_span_context()
        assert os.read(reads, 200).decode() == f"{context.trace_id} {context.span_id}"


@forks
@pytest.mark.parametrize("way", ["host", "owned"])
def test_the_numbers_of_a_child_are_its_own_whatever_the_temporality(tmp_path: Path, way: str) -> None:
    kinds = (Counter, ObservableCounter, Histogram)
    for temporality in (AggregationTemporality.DELTA, AggregationTemporality.CUMULATIVE):
        reader = InMemoryMetricReader(preferred_temporality=dict.fromkeys(kinds, temporality))
        if way == "host":
            recorder.use(meter_provider=MeterProvider([reader], shutdown_on_exit=False))
        else:
            own(tmp_path, reader)
        called(5)
        assert counted(reader)[SERVED] == 5
        reads, writes = os.pipe()
        child = os.fork()
        if child == 0:
            called(2)
            found = counted(reader)
            os.write(writes, f"{found[SERVED]:.0f} {found[DURATION]:.0f}".encode())
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(reads, 200).decode() == "2 2"
        recorder.forget()


@forks
def test_a_fork_beside_many_series_of_the_host_takes_a_child_no_second() -> None:
    provider = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    histogram = provider.get_meter("host").create_histogram("size")
    for number in range(2_000):  # the SDK's limit for one instrument
        histogram.record(number, {"number": number})
    began = time.thread_time()  # a busy machine is nobody's fault
    sdk_fork.renew(provider)
    assert time.thread_time() - began < 1.0


def test_a_chain_of_tasks_that_each_start_the_next_one_has_no_depth(tmp_path: Path) -> None:
    own(tmp_path, traces=False)
    carried: dict[str, str] = {}

    async def link(left: int) -> None:
        with operation("context.build"):
            if left:
                asyncio.get_running_loop().create_task(link(left - 1))
            else:
                propagate.inject(carried)

    async def chain() -> None:
        await link(3_000)
        while not carried:
            await asyncio.sleep(0.01)

    asyncio.run(chain())
    recorder.forget()
    gc.collect()
    assert "traceparent" in carried


def test_a_logger_that_asks_for_the_span_and_a_span_that_logs_do_not_wait_for_each_other(
    owned: Owned,
) -> None:
    asked, warned = threading.Event(), threading.Event()

    class Asks(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            asked.set()
            warned.wait(0.3)
            trace.get_current_span().get_span_context()

    handler = Asks()
    loggers = [logging.getLogger("test.edges"), logging.getLogger("opentelemetry")]
    for logger in loggers:
        logger.addHandler(handler)

    def asks() -> None:
        with operation("context.build"):
            loggers[0].warning("asks")

    def touches() -> None:
        with operation("context.build"):
            asked.wait(2.0)
            warned.set()
            trace.get_current_span().set_attribute("wrong", object())  # type: ignore[arg-type]  # it warns of it

    threads = [threading.Thread(target=each, daemon=True) for each in (asks, touches)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(5.0)
        assert not any(thread.is_alive() for thread in threads)
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


@pytest.mark.skipif(not hasattr(MeterProvider, "add_metric_reader"), reason="this SDK adds no reader later")
def test_a_reader_that_is_added_later_has_what_comes_after_it(owned: Owned) -> None:
    called(3)
    late = InMemoryMetricReader()
    owned.pipeline.meter_provider.add_metric_reader(late)
    called(2)
    assert counted(late)[DURATION] == 2
    assert counted(owned.reader)[DURATION] == 5


class Ends(SpanProcessor):
    def __init__(self, problem: Exception | None = None) -> None:
        self.names: list[str] = []
        self.problem = problem

    def on_start(self, span: Span, parent_context: Any = None) -> None: ...

    def on_end(self, span: ReadableSpan) -> None:
        self.names.append(span.name)
        if self.problem is not None:
            raise self.problem


def test_a_processor_that_is_added_in_a_call_sees_the_end_of_touched_and_untouched_spans(
    owned: Owned,
) -> None:
    late = Ends()
    with operation("context.build"), operation("catalog.resolve"):
        trace.get_current_span().set_attribute("touched", True)
        owned.pipeline.tracer_provider.add_span_processor(late)
    assert late.names == ["catalog.resolve", "context.build"]


def test_a_processor_that_raises_loses_no_metric_point(owned: Owned) -> None:
    with operation("context.build"):
        owned.pipeline.tracer_provider.add_span_processor(Ends(RuntimeError()))
    assert counted(owned.reader)[SERVED] == 1


def test_a_series_without_a_value_is_no_point(owned: Owned) -> None:
    called()
    counted(owned.reader)
    owned.pipeline.recorder._points._histogram(
        next(each for each in recorder_metrics() if each.name == DURATION), {"dataface.surface": "mcp"}, 1
    )
    data = owned.reader.get_metrics_data()
    points = [
        point
        for resource in data.resource_metrics  # type: ignore[union-attr]  # there is one
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == DURATION
        for point in metric.data.data_points
    ]
    assert [point.count for point in points] == [1]  # type: ignore[union-attr]  # of a histogram


def recorder_metrics() -> Any:
    from context_telemetry.conventions import names

    return names.METRICS


def test_an_attribute_that_is_no_attribute_is_the_sdks_business(owned: Owned) -> None:
    @context_build(attributes={"": "x"})
    def build() -> None: ...

    build()
    (span,) = owned.spans
    assert "" not in (span.attributes or {})
