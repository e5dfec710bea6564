"""OpenTelemetry's private names that the library uses: where a release has not got one, the process goes on without it.

The table of them is in docs/design.md. A name is taken away from this library alone; OpenTelemetry itself has it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import entry_points
import pytest
from missing import take_away
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricReader
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation
from opentelemetry.sdk.trace import TracerProvider, sampling
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from context_telemetry import operation
from context_telemetry.observe import recorder
from context_telemetry.observe.samplers import OTHER, may_leave_out
from context_telemetry.pipeline.components import components
from context_telemetry.pipeline.destination import Destination
from context_telemetry.pipeline.light_span import LightSpan
from context_telemetry.pipeline.providers import assemble
from context_telemetry.settings import Settings

_DURATION = "dataface.operation.duration"


def _reader() -> InMemoryMetricReader:
    """As OTLP's exporters prefer it."""
    return InMemoryMetricReader(preferred_aggregation={Histogram: ExplicitBucketHistogramAggregation()})


def _counted(reader: InMemoryMetricReader) -> int:
    data: Any = reader.get_metrics_data()
    return sum(
        point.count
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == _DURATION
        for point in metric.data.data_points
    )


_OF_READERS: tuple[tuple[type, str], ...] = (
    (MetricReader, "_collect"),
    (MetricReader, "_set_collect_callback"),
    (MetricReader, "_instrument_class_aggregation"),
    (MetricReader, "_instrument_class_temporality"),
    (ExplicitBucketHistogramAggregation, "_boundaries"),
    (MeterProvider, "_sdk_config"),
)


@pytest.mark.parametrize(("owner", "name"), _OF_READERS)
def test_without_what_our_histograms_need_the_sdks_count_and_spans_are_light(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: type, name: str
) -> None:
    take_away(monkeypatch, owner, name)
    spans, reader = InMemorySpanExporter(), _reader()
    pipeline = assemble(
        Destination("otlp", {"traces": ("memory",), "metrics": ("memory",)}),
        {"traces": [spans], "metrics": [reader], "logs": []},
        tmp_path,
        Settings(state_dir=tmp_path),
        set_global=False,
    )
    recorder.install(pipeline.recorder)
    try:
        with operation("catalog.resolve") as op:
            assert type(op.span) is LightSpan
        assert pipeline.flush(5)
        assert pipeline.recorder.fallbacks == ("unknown_sdk",)
        assert [span.name for span in spans.get_finished_spans()] == ["catalog.resolve"]
        assert _counted(reader) == 1
    finally:
        recorder.forget()
        pipeline.shutdown(5)


@pytest.mark.parametrize(("owner", "name"), _OF_READERS)
def test_a_reader_that_a_host_adds_and_that_has_lost_a_name_is_said_and_raises_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    owner: type,
    name: str,
) -> None:
    reader, late = _reader(), _reader()
    pipeline = assemble(
        Destination("otlp", {"metrics": ("memory",)}),
        {"traces": [], "metrics": [reader], "logs": []},
        tmp_path,
        Settings(state_dir=tmp_path),
        set_global=False,
    )
    recorder.install(pipeline.recorder)
    try:
        with monkeypatch.context() as patch:
            take_away(patch, owner, name)
            assert pipeline.meter_provider is not None
            pipeline.meter_provider.add_metric_reader(late)
        with operation("catalog.resolve"):
            pass
        assert _counted(reader) == 1
    finally:
        recorder.forget()
        pipeline.shutdown(5)
    assert "cannot be given the histograms of this library" in capsys.readouterr().err


_OF_SAMPLERS = [
    *(
        pytest.param(sampling.ParentBased, name, sampling.DEFAULT_OFF, id=name)
        for name in (
            "_root",
            "_remote_parent_sampled",
            "_remote_parent_not_sampled",
            "_local_parent_sampled",
            "_local_parent_not_sampled",
        )
    ),
    *(
        pytest.param(around, "_root", around(sampling.ALWAYS_OFF), id=around.__name__)
        for around in (getattr(sampling, "AlwaysRecordSampler", None),)  # not in 1.39
        if around is not None
    ),
]


@pytest.mark.parametrize(("owner", "name", "sampler"), _OF_SAMPLERS)
def test_a_sampler_of_which_is_not_known_what_it_asks_is_told_as_another(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str, sampler: Any
) -> None:
    described = sampler.get_description()
    assert may_leave_out(sampler) == described
    take_away(monkeypatch, owner, name)
    assert may_leave_out(sampler) == OTHER
    assert sampler.get_description() == described, "the SDK has it"


def on(scope: object) -> object:
    """Somebody's configurator."""
    raise AssertionError


@pytest.mark.parametrize(("owner", "kind"), [(TracerProvider, "tracer"), (MeterProvider, "meter")])
def test_a_configurator_that_no_provider_takes_is_said_and_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: type, kind: str
) -> None:
    point = (f"_opentelemetry_{kind}_configurator", "somebodys")
    entry_points.install(tmp_path / "packages", monkeypatch, {point: f"{__name__}:{on.__name__}"})
    variable = f"OTEL_PYTHON_{kind.upper()}_CONFIGURATOR"
    assert components({variable: "somebodys"}).configurators == {kind: on}
    monkeypatch.delattr(owner, f"_set_{kind}_configurator")
    chosen = components({variable: "somebodys"})
    assert chosen.configurators == {}
    assert chosen.problems == (f"{variable}=somebodys cannot be used (AttributeError): every {kind} is on",)


# -- in a process of its own: what it has of providers it has until its end ------------------------------------

_START = """
import importlib, os, sys
sys.path[:0] = [{tests!r}]
import pytest
from missing import take_away
from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from context_telemetry import catalog_resolution, instrument
from context_telemetry.observe import process_providers, recorder
from context_telemetry.pipeline import auto, providers

take = pytest.MonkeyPatch()

@catalog_resolution
def resolve():
    return "answered"

def counted(reader):
    data = reader.get_metrics_data()
    return sum(
        point.count
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "dataface.operation.duration"
        for point in metric.data.data_points
    )
"""


def _run(tmp_path: Path, program: str, **environ: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", _START.format(tests=str(Path(__file__).parent)) + program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"CONTEXT_TELEMETRY_STATE_DIR": str(tmp_path / "state")} | environ,
    )
    assert done.returncode == 0, done.stderr
    return done


_PROMETHEUS = {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": "0"}
_GLOBALS = {
    "tracer": "take_away(take, trace, '_TRACER_PROVIDER')",
    "meter": "take_away(take, importlib.import_module('opentelemetry.metrics._internal'), '_METER_PROVIDER')",
    "metrics": "take_away(take, metrics, '_internal')",
    "logger": "take_away(take, importlib.import_module('opentelemetry._logs._internal'), '_LOGGER_PROVIDER')",
    "logs": "take_away(take, _logs, '_internal')",
}


@pytest.mark.parametrize("gone", _GLOBALS)
def test_without_a_global_the_process_has_providers_as_before(tmp_path: Path, gone: str) -> None:
    """None at first; those of the host as soon as it has some, and no light span any more."""
    program = f"""
{_GLOBALS[gone]}
spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
print(resolve(), recorder.heard(), process_providers.has_any())
tracers = TracerProvider()
tracers.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(tracers)
metrics.set_meter_provider(MeterProvider([reader]))
by = recorder.heard()
print(resolve(), by.fallbacks, by.shares(trace.INVALID_SPAN), process_providers.has_any())
print(len(spans.get_finished_spans()), counted(reader))
"""
    assert _run(tmp_path, program).stdout.splitlines() == [
        "answered None False",
        "answered ('host',) True True",
        "1 1",
    ]


@pytest.mark.parametrize("gone", _GLOBALS)
def test_without_a_global_our_providers_are_the_processs_and_a_hosts_are_left(
    tmp_path: Path, gone: str
) -> None:
    program = f"""
{_GLOBALS[gone]}
hosts = LoggerProvider()
_logs.set_logger_provider(hosts)
auto.activate()
print(resolve(), recorder.heard().fallbacks)
ours = auto.current()
print(trace.get_tracer_provider() is ours.tracer_provider, metrics.get_meter_provider() is ours.meter_provider)
print(_logs.get_logger_provider() is hosts)
auto.uninstrument()
"""
    done = _run(tmp_path, program, **_PROMETHEUS)
    assert done.stdout.splitlines() == ["answered ()", "True True", "True"]
    assert "Overriding" not in done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_without_a_way_to_forget_a_childs_counts_go_on_from_its_parents(tmp_path: Path) -> None:
    program = """
from opentelemetry.sdk.metrics._internal._view_instrument_match import _ViewInstrumentMatch
if {taken}:
    take_away(take, _ViewInstrumentMatch, "_attributes_aggregation")
reader = InMemoryMetricReader()
trace.set_tracer_provider(TracerProvider())
metrics.set_meter_provider(MeterProvider([reader]))
resolve(), resolve(), resolve()
counted(reader)
child = os.fork()
if child == 0:
    print(resolve(), counted(reader), flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""
    assert _run(tmp_path, program.format(taken=False)).stdout == "answered 1\n"
    assert _run(tmp_path, program.format(taken=True)).stdout == "answered 4\n"
