"""When spans may become exemplars: an older SDK mixes them up where one is shown to it while it collects."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from opentelemetry.sdk.metrics import (
    AlignedHistogramBucketExemplarReservoir,
    Exemplar,
    ExemplarReservoir,
    MeterProvider,
)
from opentelemetry.sdk.metrics import Histogram as HistogramInstrument
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.trace import TracerProvider

from context_telemetry import operation
from context_telemetry.observe import board, older_sdk, points, recorder, worker
from soundness.observing import KeptReader
from soundness.telemetry import exemplars, totals


@pytest.fixture(autouse=True)
def _as_if_nobody_had_recorded() -> Iterator[None]:
    yield
    recorder.forget()
    board.forget()


class Reservoirs:
    """Whether each span that was shown to a histogram was shown by who collects."""

    def __init__(self) -> None:
        self.shown: list[bool] = []
        self._collecting: set[int] = set()

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """This thread collects."""
        self._collecting.add(threading.get_ident())
        yield
        self._collecting.discard(threading.get_ident())

    def factory(self, _aggregation: type) -> Any:
        return lambda boundaries=(), **_: _Reservoir(self, boundaries)

    def offered(self) -> None:
        self.shown.append(threading.get_ident() in self._collecting)


class _Reservoir(ExemplarReservoir):
    def __init__(self, told: Reservoirs, boundaries: Any) -> None:
        self._told, self._kept = told, AlignedHistogramBucketExemplarReservoir(boundaries)

    def offer(self, *measurement: Any, **named: Any) -> None:
        self._told.offered()
        self._kept.offer(*measurement, **named)

    def collect(self, point_attributes: Any) -> list[Exemplar]:
        return self._kept.collect(point_attributes)


@pytest.mark.parametrize("locks", [False, True])
def test_where_the_sdks_exemplars_have_no_lock_spans_are_shown_to_it_by_who_collects(
    monkeypatch: pytest.MonkeyPatch, locks: bool
) -> None:
    asked: list[Callable[[], None]] = []
    monkeypatch.setattr(older_sdk, "mixes_exemplars", lambda: not locks)
    monkeypatch.setattr(worker, "soon", asked.append)
    told, reader, spans = Reservoirs(), KeptReader(delta=True), TracerProvider(shutdown_on_exit=False)
    view = View(instrument_type=HistogramInstrument, exemplar_reservoir_factory=told.factory)
    meters = MeterProvider([reader], views=[view], shutdown_on_exit=False)
    recorder.use(spans, meters)
    made = 0

    def fails(times: int) -> None:
        nonlocal made
        made += times
        for _ in range(times):
            with suppress(LookupError), operation("context.build"):
                raise LookupError

    fails(1)  # recorded at once, as the first of its kind
    fails(points._MANY)
    asked.pop()()  # as the worker does with so many
    assert set(told.shown) == ({False} if locks else set())
    told.shown.clear()
    fails(3)
    with told.collecting():
        reader.collect()
    assert set(told.shown) == {True}
    assert {exemplar.span_id for *_, exemplar in exemplars(reader.batches)} != {None}
    counts = {key[0]: total.count for key, total in totals(reader.batches, delta=True).items() if total.count}
    assert counts == {"dataface.operation.duration": made}


def test_which_sdk_mixes_them_up_is_told_from_its_release() -> None:
    assert older_sdk.mixes_exemplars() != hasattr(AlignedHistogramBucketExemplarReservoir(()), "_lock")
