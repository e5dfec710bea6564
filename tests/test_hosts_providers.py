"""Providers of a host's that are unlike the SDK's: a call is observed by them, or goes on unobserved."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from memory import Memory
from opentelemetry import trace
from opentelemetry.metrics import _internal as metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from context_telemetry import operation
from context_telemetry.observe import failsafe, opentelemetry_recorder, recorder


@pytest.fixture(autouse=True)
def first_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recorder of the process is made once more."""
    recorder.forget()
    monkeypatch.setattr(recorder, "_default", None)
    monkeypatch.setattr(opentelemetry_recorder, "_early_points", None)


@pytest.fixture
def memory() -> Iterator[Memory]:
    yield Memory()
    recorder.forget()


class Wrapped(metrics.MeterProvider):
    """A provider that compares by what it holds, as a dataclass does: it has no hash."""

    def __init__(self, inner: MeterProvider) -> None:
        self.inner = inner

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Wrapped) and other.inner is self.inner

    def get_meter(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner.get_meter(*args, **kwargs)


def test_a_meter_provider_that_has_no_hash_gets_the_points(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = InMemoryMetricReader()
    provider = Wrapped(MeterProvider([reader], shutdown_on_exit=False))
    monkeypatch.setattr(metrics, "_METER_PROVIDER", provider)
    for _ in range(3):
        with operation("context.build"):
            pass
    data: Any = reader.get_metrics_data()
    told = {each.name: each.data for each in data.resource_metrics[0].scope_metrics[0].metrics}
    assert told["dataface.operation.duration"].data_points[0].count == 3


def test_what_was_counted_for_a_provider_goes_with_it() -> None:
    provider = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    key = id(provider)
    opentelemetry_recorder._points_of(provider)
    assert key in opentelemetry_recorder._points
    del provider
    gc.collect()
    assert key not in opentelemetry_recorder._points


def test_a_provider_that_raises_stops_no_call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken(trace.TracerProvider):
        def get_tracer(self, *args: Any, **kwargs: Any) -> Any:
            raise RuntimeError("no tracer today")

    monkeypatch.setattr(trace, "_TRACER_PROVIDER", Broken())
    before = failsafe.errors().get("recorder", 0)
    for _ in range(2):
        with operation("context.build"):
            pass
    assert failsafe.errors()["recorder"] == before + 1  # once, and not at every call
    assert "no tracer today" not in capsys.readouterr().err


def test_operations_that_begin_while_providers_are_brought_wait_for_them_and_are_recorded(
    memory: Memory,
) -> None:
    begun = threading.Event()

    def bring() -> None:
        begun.set()
        time.sleep(0.05)  # a pipeline opens files
        recorder.use(**memory.providers)

    recorder.arm(bring)

    def call() -> None:
        with operation("context.build"):
            pass

    threads = [threading.Thread(target=call) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert begun.is_set()
    assert len(memory.spans) == 12
