"""Which values have an exemplar, and when: an older SDK mixes them up where one comes while it collects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
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


class _Reservoir(ExemplarReservoir):
    """The SDK's, which says that it was offered a value."""

    def __init__(self, offered: Callable[[], None], boundaries: Any) -> None:
        self._offered, self._kept = offered, AlignedHistogramBucketExemplarReservoir(boundaries)

    def offer(self, *measurement: Any, **named: Any) -> None:
        self._offered()
        self._kept.offer(*measurement, **named)

    def collect(self, point_attributes: Any) -> list[Exemplar]:
        return self._kept.collect(point_attributes)


class Host:
    """A host's providers, and how many values with an exemplar came when."""

    def __init__(self) -> None:
        self.offered: Counter[str] = Counter()
        self._now = "between"
        self.reader = KeptReader(delta=True)
        view = View(instrument_type=HistogramInstrument, exemplar_reservoir_factory=self._factory)
        self._meters = MeterProvider([self.reader], views=[view], shutdown_on_exit=False)
        recorder.use(TracerProvider(shutdown_on_exit=False), self._meters)

    def _factory(self, _aggregation: type) -> Any:
        return lambda boundaries=(), **_: _Reservoir(self._offer, boundaries)

    def _offer(self) -> None:
        self.offered[self._now] += 1

    def collect(self) -> int:
        """Collect; how many exemplars came of it."""
        self._now = "collecting"
        self.reader.collect()
        self._now = "between"
        found = [exemplar.span_id for *_, exemplar in exemplars(self.reader.batches[-1:])]
        assert all(found)
        return len(found)

    @property
    def counted(self) -> int:
        """The calls that all collections together have told of."""
        of_calls = totals(self.reader.batches, delta=True)
        return sum(total.count for key, total in of_calls.items() if key[0] == "dataface.operation.duration")


def _fail(times: int) -> None:
    for _ in range(times):
        with suppress(LookupError), operation("context.build"):
            raise LookupError


@pytest.mark.parametrize("mixes", [False, True])
def test_an_sdk_that_mixes_exemplars_up_is_given_them_while_it_collects_and_at_no_other_time(
    monkeypatch: pytest.MonkeyPatch, mixes: bool
) -> None:
    asked: list[Callable[[], None]] = []
    monkeypatch.setattr(older_sdk, "mixes_exemplars", lambda: mixes)
    monkeypatch.setattr(worker, "soon", asked.append)
    host = Host()
    _fail(points._MANY + 1)
    asked.pop()()  # as the worker does with so many
    assert bool(host.offered["between"]) != mixes
    _fail(1)
    assert host.collect() >= 1
    assert host.offered["collecting"] >= 1
    assert host.counted == points._MANY + 2


@pytest.mark.parametrize("mixes", [False, True])
def test_a_failure_that_happens_once_has_its_exemplar(monkeypatch: pytest.MonkeyPatch, mixes: bool) -> None:
    monkeypatch.setattr(older_sdk, "mixes_exemplars", lambda: mixes)
    host = Host()
    _fail(1)
    assert (host.collect(), host.counted) == (1, 1)


def test_what_waits_for_a_collection_is_bounded_and_counted_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(older_sdk, "mixes_exemplars", lambda: True)
    monkeypatch.setattr(points, "_UNSHOWN", 3)
    host = Host()
    counting: Any = recorder.active()
    for _ in range(5):
        _fail(1)
        counting._points.take_over()
    assert len(counting._points._unshown) == 3
    assert (host.collect(), host.offered) == (1, {"collecting": 3})
    assert host.counted == 5


def test_which_sdk_mixes_them_up_is_told_from_its_release() -> None:
    assert older_sdk.mixes_exemplars() != hasattr(AlignedHistogramBucketExemplarReservoir(()), "_lock")
