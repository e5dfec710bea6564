"""A full queue makes nobody wait and loses nothing in silence: it is recorded at once, or counted as dropped."""

from __future__ import annotations

import gc
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExportResult
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from context_telemetry.observe import board, failsafe, recorder, worker
from context_telemetry.pipeline import providers
from context_telemetry.pipeline.destination import Destination
from context_telemetry.settings import Settings
from soundness import report
from soundness.observing import LIBRARY, KeptExporter, KeptReader
from soundness.telemetry import series
from soundness.ways import Observed
from soundness.workload import Step, perform

MANY = 20_000
"""More than two queues of the library's."""
FEW = 4_000
WAIT = 0.4
"""Seconds that no single call may take: another thread's turn on a busy machine, but nobody's timeout."""


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

    def call(self, count: int, thread: int = 9) -> float:
        """Make that many calls; how many seconds the slowest took, garbage collection left out."""
        slowest = 0.0
        gc.disable()
        for index in range(count):
            step = Step(
                f"{thread}.{index}",
                "function",
                "context.build",
                size=10,
                error="LookupError" if index % 50 == 0 else None,
            )
            began = time.perf_counter()
            perform(step, self.way)
            slowest = max(slowest, time.perf_counter() - began)
            self.way.seen.clear()
        gc.enable()
        return slowest

    def calls(self, count: int) -> float:
        """The same from four threads at once."""
        slowest: list[float] = []
        threads = [
            threading.Thread(target=lambda n=n: slowest.append(self.call(count // 4, n))) for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return max(slowest)

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


def test_spans_that_an_endpoint_does_not_take_are_counted_and_keep_nobody_waiting(tmp_path: Path) -> None:
    with _recording("owned", tmp_path) as made:
        made.calls(MANY)
        slowest = made.call(FEW)
        assert slowest < WAIT
        all_of_them = MANY + FEW
        assert (made.counted, made.served) == (all_of_them, all_of_them)  # while the endpoint still hangs
        assert 0 < made.dropped < all_of_them
        made.gate.open.set()
        assert made.pipeline.flush(20)
        assert made.gate.exported + made.dropped == all_of_them
        report.say(
            f"{all_of_them:,} calls with an endpoint that hangs: {made.gate.exported:,} exported, {made.dropped:,} "
            f"counted as dropped, all in the metrics; the slowest call took {slowest * 1e3:.0f} ms"
        )


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
        assert made.call(FEW) < WAIT
        made.pipeline.flush(3)
        assert made.gate.exported + made.dropped == MANY + FEW
        assert made.counted == MANY + FEW
        hanging.open.set()
        assert made.pipeline.flush(20)
        # What an earlier flush was left with goes out by itself, before or after this one's.
        deadline = time.monotonic() + 20
        while _durations(hanging) < MANY + FEW and time.monotonic() < deadline:
            time.sleep(0.01)  # between two looks at what has come
        assert _durations(hanging) == MANY + FEW


def _durations(gate: MetricGate) -> int:
    """How many durations the endpoint has been given."""
    points = [each for batch in list(gate.batches) for each in series(batch)]
    return sum(point.count for key, _, point in points if key[0].endswith("n.duration"))


@pytest.mark.parametrize("name", LIBRARY)
def test_points_that_nobody_collects_are_all_there_when_somebody_does(tmp_path: Path, name: str) -> None:
    with _recording(name, tmp_path) as made:
        made.gate.open.set()
        made.calls(MANY)
        slowest = made.call(FEW)
        assert slowest < WAIT
        assert (made.counted, made.served) == (MANY + FEW, MANY + FEW)
        report.say(
            f"{MANY + FEW:,} calls by {name} before the first collection: all in it, {slowest * 1e3:.0f} ms at most"
        )


@pytest.mark.parametrize("name", LIBRARY)
def test_points_are_all_there_when_the_background_thread_is_busy_and_nobody_collects(
    tmp_path: Path, name: str
) -> None:
    """Then the queue is really full."""
    busy = threading.Event()
    worker.soon(cast(Callable[[], None], busy.wait))
    try:
        with _recording(name, tmp_path) as made:
            made.gate.open.set()
            made.calls(MANY)
            slowest = made.call(FEW)
            assert slowest < WAIT
            assert (made.counted, made.served) == (MANY + FEW, MANY + FEW)
    finally:
        busy.set()


@pytest.mark.parametrize("name", LIBRARY)
def test_a_collection_that_takes_its_time_keeps_no_call_waiting(tmp_path: Path, name: str) -> None:
    """A neighbour's observable instrument that blocks, with the SDK's lock held."""
    with _recording(name, tmp_path) as made:
        made.gate.open.set()
        inside, leave = threading.Event(), threading.Event()

        def slow(_options: CallbackOptions) -> list[Observation]:
            inside.set()
            leave.wait(20)
            return [Observation(1)]

        made.call(10)
        made.meters.get_meter("neighbour").create_observable_gauge("neighbour.slow", [slow])
        collecting = threading.Thread(target=made.reader.collect)
        collecting.start()
        assert inside.wait(10)
        made.calls(MANY)
        slowest = made.call(FEW)
        leave.set()
        collecting.join()
        assert slowest < WAIT
        assert made.counted == MANY + FEW + 10


@pytest.mark.parametrize("name", LIBRARY)
def test_memory_does_not_grow_with_what_nobody_takes(tmp_path: Path, name: str) -> None:
    with _recording(name, tmp_path) as made:
        made.calls(MANY)
        tracemalloc.start()
        made.calls(2_000)
        before, _ = tracemalloc.get_traced_memory()
        made.calls(MANY // 2)
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        grown = (after - before) / 2**20
        # A queue of entries comes and goes between the two: 8,192 of at most a kilobyte.
        assert grown < 10, f"{grown:.1f} MiB for {MANY // 2} calls"
        report.say(f"{MANY // 2:,} calls by {name} with full queues: memory grew by {grown:.1f} MiB")


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
        assert grown < 2**19
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
