"""A full queue makes nobody wait and loses nothing in silence: it is recorded at once, or counted as dropped.

Nothing is timed: a call that waited for an endpoint, a collection or a thread would not return while those are held.
"""

from __future__ import annotations

import resource
import threading
import time
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExportResult
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from context_telemetry import catalog_resolution
from context_telemetry.observe import board, failsafe, recorder, worker
from context_telemetry.observe.points import QUEUED
from context_telemetry.pipeline import providers
from context_telemetry.pipeline.batch import BatchLimits
from context_telemetry.pipeline.destination import Destination
from context_telemetry.pipeline.histograms import _TOGETHER
from context_telemetry.settings import Settings
from soundness import report
from soundness.observing import LIBRARY, KeptExporter, KeptReader
from soundness.telemetry import series
from soundness.ways import Observed
from soundness.workload import Step, perform

MANY = 12_000
"""More than a queue of the library's holds."""
FEW = 2_000
THREADS = 4
"""So many may find one place left at once, and each take it."""


class Gate(SpanExporter):
    """An endpoint that answers when its gate is open, and fails where it is said to."""

    def __init__(self, result: SpanExportResult = SpanExportResult.SUCCESS, *, raises: bool = False) -> None:
        self.open = threading.Event()
        self.exported = 0
        self._result, self._raises = result, raises

    def export(self, spans: Any) -> SpanExportResult:
        self.open.wait()
        if self._raises:
            raise ConnectionError("nobody there")
        if self._result is SpanExportResult.SUCCESS:
            self.exported += len(spans)
        return self._result


class MetricGate(KeptExporter):
    """The same for metrics."""

    def __init__(self) -> None:
        super().__init__(delta=True)
        self.open = threading.Event()

    def export(self, metrics_data: Any, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        self.open.wait()
        return super().export(metrics_data, timeout_millis, **kwargs)


class Fixture:
    """One way with an endpoint behind a gate, and readers that are not behind it."""

    def __init__(self, name: str, root: Path, gate: Gate, metrics: tuple[Any, ...] = ()) -> None:
        self.gate = gate
        self.reader = KeptReader(delta=False)
        self._drops = failsafe.drops()
        recorder.forget()
        if name == "owned":
            self.pipeline = providers.assemble(
                Destination("otlp", {"traces": ("gate",), "metrics": ("kept",), "logs": ()}),
                {"traces": [gate], "metrics": [self.reader, *metrics], "logs": []},
                root=root,
                settings=Settings(),
                set_global=False,
            )
            recorder.install(self.pipeline.recorder)
            self.meters: Any = self.pipeline.meter_provider
            self.way = Observed(self.pipeline.tracer_provider)
            self.close: Callable[[], object] = lambda: self.pipeline.shutdown(1.0)
        else:
            tracers = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
            self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
            recorder.use(tracers, self.meters)
            self.way = Observed(tracers)
            self.close = self.meters.shutdown

    @property
    def points(self) -> Any:
        """What counts calls: both recorders have it, and no other."""
        by: Any = recorder.active()
        return by._points

    def call(self, count: int, thread: int = 9) -> None:
        """Make that many calls."""
        for index in range(count):
            step = Step(
                f"{thread}.{index}",
                "function",
                "context.build",
                size=10,
                error="LookupError" if index % 50 == 0 else None,
            )
            perform(step, self.way)
            self.way.seen.clear()

    def calls(self, count: int) -> None:
        """The same from some threads at once."""
        threads = [
            threading.Thread(target=self.call, args=(count // THREADS, number)) for number in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    @property
    def counted(self) -> int:
        """What a collection now has in its histogram of durations."""
        self.reader.collect()
        return sum(
            point.count
            for key, _, point in series(self.reader.batches[-1])
            if key[0] == "dataface.operation.duration"
        )

    @property
    def served(self) -> int:
        """And in its counter."""
        self.reader.collect()
        return sum(
            point.value
            for key, _, point in series(self.reader.batches[-1])
            if key[0] == "dataface.context.served"
        )

    @property
    def dropped(self) -> int:
        """What has been counted as dropped since the beginning."""
        return sum(failsafe.drops().values()) - sum(self._drops.values())


class Watched(deque[Any]):
    """A queue that notes how long it was."""

    def __init__(self) -> None:
        super().__init__()
        self.lengths = [0]

    def append(self, item: Any) -> None:
        super().append(item)
        self.lengths.append(len(self))


@contextmanager
def _busy_worker() -> Iterator[None]:
    """The library's background thread does nothing until the end of the block."""
    begun, leave = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        leave.wait()

    worker.soon(hold)
    begun.wait()
    try:
        yield
    finally:
        leave.set()


@contextmanager
def _recording(
    name: str, root: Path, gate: Gate | None = None, metrics: tuple[Any, ...] = ()
) -> Iterator[Fixture]:
    gate = gate or Gate()
    made = Fixture(name, root, gate, metrics)
    try:
        yield made
    finally:
        gate.open.set()
        for each in metrics:
            each.open.set()
        made.close()
        recorder.forget()
        board.forget()


@pytest.mark.parametrize("name", LIBRARY)
def test_a_call_that_says_a_list_of_names_is_counted(tmp_path: Path, name: str) -> None:
    sources: Any = {"dataface.catalog.source": ["shop", "stock"]}
    with _recording(name, tmp_path) as made:
        for _ in range(3):
            catalog_resolution(attributes=sources)(str)()
        assert (made.counted, made.served) == (3, 3)


@pytest.mark.parametrize("name", LIBRARY)
def test_a_collection_ends_however_many_calls_come_meanwhile(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _recording(name, tmp_path) as made, _busy_worker():
        points = made.points
        record, records = points._record, 0

        def record_while_calls_go_on(entries: Any) -> None:
            nonlocal records
            record(entries)
            records += 1
            if records < 50:
                made.call(200)

        made.call(600)
        monkeypatch.setattr(points, "_record", record_while_calls_go_on)
        assert made.counted >= 600
        assert records < 10  # 600 calls are counted in five goes


def test_spans_that_an_endpoint_does_not_take_are_counted_and_keep_nobody_waiting(tmp_path: Path) -> None:
    with _recording("owned", tmp_path) as made:
        made.calls(MANY)
        assert (made.counted, made.served) == (MANY, MANY)  # while the endpoint still hangs
        assert 0 < made.dropped < MANY
        made.gate.open.set()
        assert made.pipeline.flush(20)
        assert made.gate.exported + made.dropped == MANY


@pytest.mark.parametrize("name", LIBRARY)
def test_no_queue_is_longer_than_stated_and_what_does_not_fit_is_recorded_at_once_or_counted(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The endpoint hangs, the background thread is busy, and nobody collects: then the queues are really full."""
    with _recording(name, tmp_path) as made:
        points = made.points
        at_once: list[int] = []  # with how many waited then
        record = points._record
        with _busy_worker():
            waiting, leaving = Watched(), Watched()

            def record_now(entry: Any) -> None:
                at_once.append(len(waiting))
                record(entry)

            points._queue = waiting
            monkeypatch.setattr(points, "_record", record_now)
            if name == "owned":
                (batcher,) = made.pipeline._batchers
                batcher._queue = leaving
            made.calls(MANY)
            assert max(waiting.lengths) <= QUEUED + THREADS
            assert max(at_once, default=0) >= QUEUED
            assert len(waiting) + len(at_once) == MANY
            recorded_at_once = len(at_once)
            if name == "owned":
                assert max(leaving.lengths) <= BatchLimits.queue + THREADS
                assert made.dropped > 0
                streams = made.meters.histograms._streams.values()
                assert max(len(stream.values) for stream in streams) <= _TOGETHER
        assert (made.counted, made.served) == (MANY, MANY)
        if name == "owned":
            made.gate.open.set()
            assert made.pipeline.flush(20)
            assert made.gate.exported + made.dropped == MANY
        report.count(
            "queue",
            calls=MANY,
            recorded_at_once=recorded_at_once,
            dropped=made.dropped,
            most_waiting=max(waiting.lengths),
            most_allowed=QUEUED,
        )


@pytest.mark.skipif(not hasattr(resource, "RUSAGE_THREAD"), reason="Linux counts what a thread waits")
@pytest.mark.parametrize("name", LIBRARY)
def test_a_call_that_finds_full_queues_gives_its_processor_to_nobody(tmp_path: Path, name: str) -> None:
    """All other threads are held, so that every wait of the caller's is one that a call caused."""

    def waits() -> int:
        return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw

    with _recording(name, tmp_path) as made, _busy_worker():
        made.call(MANY)
        before = waits()
        made.call(FEW)
        assert waits() - before < FEW / 200


@pytest.mark.parametrize(
    "gate", [Gate(SpanExportResult.FAILURE), Gate(raises=True)], ids=["says that it failed", "raises"]
)
def test_spans_that_an_endpoint_refuses_are_counted(tmp_path: Path, gate: Gate) -> None:
    with _recording("owned", tmp_path, gate) as made:
        gate.open.set()
        made.calls(2_000)
        made.pipeline.flush(10)
        assert (made.dropped, made.counted) == (2_000, 2_000)


def test_a_metrics_endpoint_that_hangs_keeps_no_call_waiting_and_no_span(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "50")
    hanging = MetricGate()
    with _recording("owned", tmp_path, metrics=(hanging,)) as made:
        made.gate.open.set()
        made.calls(MANY)
        made.pipeline.flush(3)
        assert made.gate.exported + made.dropped == MANY
        assert made.counted == MANY
        hanging.open.set()
        assert made.pipeline.flush(20)
        # What an earlier flush was left with goes out by itself, before or after this one's.
        deadline = time.monotonic() + 20
        while _durations(hanging) < MANY and time.monotonic() < deadline:
            time.sleep(0.01)  # between two looks at what has come
        assert _durations(hanging) == MANY


def _durations(gate: MetricGate) -> int:
    """How many durations the endpoint has been given."""
    points = [each for batch in list(gate.batches) for each in series(batch)]
    return sum(point.count for key, _, point in points if key[0].endswith("n.duration"))


@pytest.mark.parametrize("name", LIBRARY)
def test_points_that_nobody_collects_are_all_there_when_somebody_does(tmp_path: Path, name: str) -> None:
    with _recording(name, tmp_path) as made:
        made.gate.open.set()
        made.calls(MANY)
        assert (made.counted, made.served) == (MANY, MANY)


@pytest.mark.parametrize("name", LIBRARY)
def test_a_collection_that_takes_its_time_keeps_no_call_waiting(tmp_path: Path, name: str) -> None:
    """A neighbour's observable instrument that blocks, with the SDK's lock held."""
    with _recording(name, tmp_path) as made:
        made.gate.open.set()
        inside, leave = threading.Event(), threading.Event()

        def slow(_options: CallbackOptions) -> list[Observation]:
            inside.set()
            leave.wait()
            return [Observation(1)]

        made.call(10)
        made.meters.get_meter("neighbour").create_observable_gauge("neighbour.slow", [slow])
        collecting = threading.Thread(target=made.reader.collect)
        collecting.start()
        assert inside.wait(10)
        made.calls(MANY)
        assert collecting.is_alive()
        leave.set()
        collecting.join()
        assert made.counted == MANY + 10


@pytest.mark.parametrize("name", LIBRARY)
def test_memory_does_not_grow_with_what_nobody_takes(tmp_path: Path, name: str) -> None:
    with _recording(name, tmp_path) as made, _busy_worker():
        made.calls(MANY)  # the queues are full
        tracemalloc.start()
        made.calls(1_000)
        before, _ = tracemalloc.get_traced_memory()
        made.calls(FEW)
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        grown = (after - before) / FEW
        assert grown < 50, f"{grown:.0f} bytes for each call"  # one that waits has 500


def test_a_host_without_metrics_pays_no_memory_for_points(tmp_path: Path) -> None:
    recorder.forget()
    tracers = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
    recorder.use(tracers)
    try:
        way = Observed(tracers)
        for index in range(200):
            perform(Step(f"{index}", "function", "context.build", size=1), way)
        way.seen.clear()
        tracemalloc.start()
        for index in range(FEW):
            perform(Step(f"{index}", "function", "context.build", size=1), way)
            way.seen.clear()
        grown, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert grown / FEW < 50
    finally:
        recorder.forget()
        board.forget()


def test_an_end_with_an_endpoint_that_hangs_keeps_to_its_time(tmp_path: Path) -> None:
    with _recording("owned", tmp_path) as made:
        made.calls(2_000)
        began = time.monotonic()
        assert not made.pipeline.flush(0.5)
        assert not made.pipeline.shutdown(0.5)
        assert time.monotonic() - began < 2.5
