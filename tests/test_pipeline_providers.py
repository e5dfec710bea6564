"""Providers and batches: where telemetry goes, who it says it is from, and what a bad endpoint costs."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import entry_points
import pytest
from opentelemetry.context import Context
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics.export import (
    InMemoryMetricReader,
    MetricExporter,
    MetricExportResult,
    MetricsData,
)
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    TraceFlags,
    TraceState,
    get_current_span,
    get_tracer_provider,
    set_span_in_context,
)
from opentelemetry.util.types import Attributes

from context_telemetry import operation
from context_telemetry.conventions import names
from context_telemetry.observe import failsafe, recorder
from context_telemetry.observe.dropped_spans import RANDOM
from context_telemetry.pipeline import providers
from context_telemetry.pipeline.batch import Batcher, BatchLimits, finish
from context_telemetry.pipeline.destination import Destination, destination
from context_telemetry.settings import Settings

Start = Callable[..., providers.Pipeline]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts a pipeline of a project in the test's folder, with variables of its own; it is shut down after."""
    started: list[providers.Pipeline] = []

    def begin(settings: Settings | None = None, **variables: str) -> providers.Pipeline:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        settings = settings or Settings(state_dir=tmp_path / "state")
        (tmp_path / "shop").mkdir(exist_ok=True)
        started.append(providers.start(tmp_path / "shop", settings, set_global=False))
        return started[-1]

    yield begin
    for pipeline in started:
        pipeline.shutdown(0.5)


def _lines(pipeline: providers.Pipeline) -> str:
    assert pipeline.folder is not None
    return "".join(path.read_text() for path in sorted(pipeline.folder.glob("*.jsonl")))


# -- where to ------------------------------------------------------------------------------------------------

_configured = pytest.mark.skipif(
    not hasattr(LoggerProvider, "_set_logger_configurator"), reason="this SDK has no configurators"
)
_ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"}
_HTTP = {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}


@pytest.mark.parametrize(
    ("environ", "mode", "exporters"),
    [
        ({}, "files", {"traces": ("files",), "logs": ("files",)}),
        ({"OTEL_TRACES_EXPORTER": "none"}, "files", {"traces": (), "logs": ("files",)}),
        ({"OTEL_TRACES_EXPORTER": "console"}, "files", {"traces": ("files",), "logs": ("files",)}),
        (_ENDPOINT, "otlp", dict.fromkeys(("traces", "metrics", "logs"), ("otlp_proto_grpc",))),
        (_ENDPOINT | _HTTP, "otlp", dict.fromkeys(("traces", "metrics", "logs"), ("otlp_proto_http",))),
        (
            _ENDPOINT | _HTTP | {"OTEL_LOGS_EXPORTER": "none", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "grpc"},
            "otlp",
            {"traces": ("otlp_proto_http",), "metrics": ("otlp_proto_grpc",), "logs": ()},
        ),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4317"},
            "otlp",
            {"traces": ("otlp_proto_grpc",), "metrics": (), "logs": ()},
        ),
        (
            {"OTEL_TRACES_EXPORTER": "otlp, zipkin", "OTEL_METRICS_EXPORTER": "prometheus"},
            "otlp",
            {"traces": ("otlp_proto_grpc", "zipkin"), "metrics": ("prometheus",), "logs": ()},
        ),
    ],
)
def test_opentelemetrys_variables_decide_where_each_signal_goes(
    environ: dict[str, str], mode: str, exporters: dict[str, tuple[str, ...]]
) -> None:
    where = destination(environ)
    assert (where.mode, where.exporters) == (mode, exporters)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"OTEL_TRACES_EXPORTER": "console"}, "standard output"),
        (_ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "http/protobuf is used"),
        (_ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "carrier pigeon"}, "grpc is used"),
    ],
)
def test_what_cannot_be_done_is_said(environ: dict[str, str], said: str) -> None:
    assert said in destination(environ).problems[0]


def test_an_exporter_that_is_not_installed_leaves_local_files(start: Start) -> None:
    pipeline = start(OTEL_TRACES_EXPORTER="not_installed")
    assert pipeline.mode == "files"
    assert failsafe.errors()["exporter not_installed for traces"] == 1


# -- local files ---------------------------------------------------------------------------------------------


def test_the_resource_says_who_speaks_and_the_operator_has_the_last_word(start: Start) -> None:
    pipeline = start(OTEL_RESOURCE_ATTRIBUTES="service.namespace=north,deployment.environment.name=test")
    attributes = pipeline.tracer_provider.resource.attributes
    assert attributes["service.name"] == "dataface"
    assert attributes["service.namespace"] == "north"
    assert attributes["deployment.environment.name"] == "test"
    assert attributes["telemetry.distro.name"] == "context-telemetry"
    assert {"service.instance.id", "process.pid", "telemetry.distro.version"} <= attributes.keys()
    named = start(OTEL_SERVICE_NAME="kiosk", OTEL_RESOURCE_ATTRIBUTES="")
    assert named.tracer_provider.resource.attributes["service.name"] == "kiosk"
    assert named.tracer_provider.resource.attributes["service.namespace"] == "shop"


_UNSAMPLED = SpanContext(0xA, 0xB, is_remote=True, trace_flags=TraceFlags(0))


def test_a_clients_traceparent_cannot_switch_recording_off(start: Start) -> None:
    pipeline = start()
    parent = set_span_in_context(NonRecordingSpan(_UNSAMPLED))
    pipeline.tracer_provider.get_tracer("t").start_span("asked", context=parent).end()
    assert pipeline.flush(5)
    assert '"asked"' in _lines(pipeline)


def test_the_operators_sampler_is_obeyed(start: Start) -> None:
    pipeline = start(OTEL_TRACES_SAMPLER="always_off")
    pipeline.tracer_provider.get_tracer("t").start_span("asked").end()
    assert pipeline.flush(5)
    assert _lines(pipeline) == ""


@pytest.mark.parametrize("content", [False, True])
def test_content_is_in_the_files_only_if_it_is_asked_for(start: Start, tmp_path: Path, content: bool) -> None:
    pipeline = start(Settings(state_dir=tmp_path / "state", content=content))
    pipeline.tracer_provider.get_tracer("t").start_span("q", attributes={"db.query.text": "SECRET"}).end()
    logger_provider: LoggerProvider = pipeline.logger_provider
    logger_provider.get_logger("uvicorn").emit(body="SECRET")
    assert pipeline.flush(5)
    assert _lines(pipeline).count("SECRET") == (2 if content else 0)


def test_a_pipeline_of_a_hosts_sets_no_global_provider(start: Start) -> None:
    before = get_tracer_provider()
    start()
    assert get_tracer_provider() is before


def test_shutting_down_twice_and_recording_after_it_is_no_error(start: Start) -> None:
    pipeline = start()
    assert pipeline.shutdown()
    assert pipeline.shutdown()
    pipeline.tracer_provider.get_tracer("t").start_span("late").end()
    assert pipeline.flush()


def test_importing_the_pipeline_does_not_import_the_sdk() -> None:
    modules = ("providers", "destination", "launch", "shutdown", "auto")
    program = "".join(f"import context_telemetry.pipeline.{module}\n" for module in modules)
    program += (
        "import sys; print([n for n in ('opentelemetry.sdk.trace', 'pydantic', 'grpc') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"


# -- what OpenTelemetry's variables name besides exporters ---------------------------------------------------


class ByName(Sampler):
    """Samples the spans of one name, and those of no other."""

    def __init__(self, name: str | None) -> None:
        self._name = name

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        decision = Decision.RECORD_AND_SAMPLE if name == self._name else Decision.DROP
        return SamplingResult(decision, attributes)

    def get_description(self) -> str:
        return f"spans named {self._name}"


class Numbered(IdGenerator):
    """Ids one after the other, from a number that nobody would draw."""

    _next = itertools.count(1_000)

    def generate_span_id(self) -> int:
        return next(self._next)

    def generate_trace_id(self) -> int:
        return next(self._next)


def no_sampler(argument: str | None) -> str:
    return "this is a word"


def breaks(*arguments: object) -> NoReturn:
    raise LookupError("it cannot be made")


def off(scope: InstrumentationScope) -> SimpleNamespace:
    """Switches ours off."""
    return SimpleNamespace(is_enabled=scope.name != names.SCOPE)


@pytest.fixture
def others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody's samplers, id generators and configurators are installed."""
    points: dict[tuple[str, str], Any] = {
        (entry_points.SAMPLERS, "by_name"): ByName,
        (entry_points.SAMPLERS, "no_sampler"): no_sampler,
        (entry_points.SAMPLERS, "breaks"): breaks,
        (entry_points.ID_GENERATORS, "numbered"): Numbered,
        (entry_points.ID_GENERATORS, "breaks"): breaks,
        (entry_points.TRACER_CONFIGURATORS, "off"): off,
        (entry_points.METER_CONFIGURATORS, "off"): off,
        (entry_points.LOGGER_CONFIGURATORS, "off"): off,
    }
    targets = {key: f"{each.__module__}:{each.__name__}" for key, each in points.items()}
    entry_points.install(tmp_path / "packages", monkeypatch, targets)


def _call(pipeline: providers.Pipeline, *operations: str) -> list[SpanContext]:
    """Observed calls, recorded by the pipeline: what was current in each."""
    found = []
    recorder.install(pipeline.recorder)
    try:
        for each in operations:
            with operation(each):
                found.append(get_current_span().get_span_context())
    finally:
        recorder.forget()
    assert pipeline.flush(5)
    return found


@pytest.mark.usefixtures("others")
def test_a_sampler_that_somebody_has_installed_decides_of_our_spans_and_of_neighbours(start: Start) -> None:
    pipeline = start(OTEL_TRACES_SAMPLER="by_name", OTEL_TRACES_SAMPLER_ARG="catalog.resolve")
    for name in ("catalog.resolve", "other"):
        pipeline.tracer_provider.get_tracer("neighbour").start_span(name).end()
    resolved, searched = _call(pipeline, "catalog.resolve", "catalog.search")
    assert (resolved.trace_flags.sampled, searched.trace_flags.sampled) == (True, False)
    assert _lines(pipeline).count('"catalog.resolve"') == 2 + 1  # two names, and an attribute
    assert '"catalog.search"' not in _lines(pipeline)
    assert '"other"' not in _lines(pipeline)
    assert pipeline.recorder.fallbacks == ()


_UNUSABLE = (
    ("OTEL_TRACES_SAMPLER", "unheard_of", "is not installed"),
    ("OTEL_TRACES_SAMPLER", "breaks", "cannot be used (LookupError)"),
    ("OTEL_TRACES_SAMPLER", "no_sampler", "cannot be used (TypeError)"),
    ("OTEL_PYTHON_ID_GENERATOR", "unheard_of", "is not installed"),
    ("OTEL_PYTHON_ID_GENERATOR", "breaks", "cannot be used (LookupError)"),
    ("OTEL_PYTHON_TRACER_CONFIGURATOR", "unheard_of", "is not installed"),
    ("OTEL_PYTHON_METER_CONFIGURATOR", "unheard_of", "is not installed"),
    ("OTEL_PYTHON_LOGGER_CONFIGURATOR", "unheard_of", "is not installed"),
)


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize(("variable", "name", "why"), _UNUSABLE)
def test_what_is_named_and_cannot_be_had_is_said_once_and_is_as_if_it_were_not_named(
    start: Start, capsys: pytest.CaptureFixture[str], variable: str, name: str, why: str
) -> None:
    pipeline = start(**{variable: name})
    parent = set_span_in_context(NonRecordingSpan(_UNSAMPLED))
    pipeline.tracer_provider.get_tracer("t").start_span("asked", context=parent).end()
    (ours,) = _call(pipeline, "catalog.resolve")
    assert ours.trace_flags.sampled
    assert '"asked"' in _lines(pipeline), "a client's traceparent cannot switch recording off"
    assert pipeline.recorder.fallbacks == ()
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert f"{variable}={name} {why}" in line
    (place,) = [each for each in failsafe.errors() if f"{variable}={name}" in each]
    assert failsafe.errors()[place] == 1
    assert failsafe.part_of(place) == "settings"


@pytest.mark.parametrize("name", ["always_off", "ALWAYS_OFF", " always_off "])
def test_the_sdks_own_samplers_are_named_as_the_sdk_and_its_configurator_take_them(
    start: Start, name: str
) -> None:
    (ours,) = _call(start(OTEL_TRACES_SAMPLER=name), "catalog.resolve")
    assert not ours.trace_flags.sampled


@pytest.mark.usefixtures("others")
def test_an_id_generator_that_somebody_has_installed_makes_all_ids(start: Start) -> None:
    pipeline = start(OTEL_PYTHON_ID_GENERATOR="numbered")
    (ours,) = _call(pipeline, "catalog.resolve")
    theirs = pipeline.tracer_provider.get_tracer("neighbour").start_span("asked").get_span_context()
    for identity in (ours, theirs):
        assert 1_000 <= identity.trace_id < identity.span_id < 2_000
        assert not identity.trace_flags & RANDOM
    assert f"{ours.span_id:016x}" in _lines(pipeline)
    assert pipeline.recorder.fallbacks == ("id_generator",)
    assert start(OTEL_PYTHON_ID_GENERATOR="random").recorder.fallbacks == ()


@_configured
@pytest.mark.usefixtures("others")
def test_a_configurator_switches_our_tracer_and_our_logger_off(start: Start) -> None:
    pipeline = start(OTEL_PYTHON_TRACER_CONFIGURATOR="off", OTEL_PYTHON_LOGGER_CONFIGURATOR="off")
    _call(pipeline, "catalog.resolve")
    pipeline.recorder.event(names.EVENT_DATAFACE_DEGRADATION, {}, warning=False)
    pipeline.tracer_provider.get_tracer("neighbour").start_span("asked").end()
    assert pipeline.flush(5)
    assert '"asked"' in _lines(pipeline)
    assert names.SCOPE not in _lines(pipeline).replace('"asked"', "")
    assert pipeline.recorder.fallbacks == ("configurator",)


@_configured
@pytest.mark.usefixtures("others")
def test_a_configurator_switches_our_meter_off(start: Start) -> None:
    with _collector() as (endpoint, received):
        pipeline = start(OTEL_PYTHON_METER_CONFIGURATOR="off", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, **_HTTP)
        assert pipeline.meter_provider is not None
        pipeline.meter_provider.get_meter("neighbour").create_counter("theirs").add(1)
        _call(pipeline, "catalog.resolve")
        assert pipeline.recorder.fallbacks == ("configurator",)
        assert pipeline.shutdown(10)
    assert b"theirs" in received["/v1/metrics"]
    assert b"dataface.operation.duration" not in received["/v1/metrics"]
    assert b"catalog.resolve" in received["/v1/traces"]


_ASKS = """
from opentelemetry import trace
from context_telemetry import operation
from context_telemetry.observe import recorder
from context_telemetry.pipeline import auto
auto.activate()
if {first}:
    trace.get_tracer_provider()
with operation("catalog.resolve"):
    print(type(trace.get_tracer_provider()).__name__, recorder.heard().fallbacks)
auto.uninstrument()
"""


@pytest.mark.parametrize(
    ("first", "said"), [(False, "OwnedTracerProvider ()"), (True, "TracerProvider ('host',)")]
)
def test_a_provider_that_the_environment_names_is_the_processs_if_it_is_asked_for_before_the_first_call(
    tmp_path: Path, first: bool, said: str
) -> None:
    named = {
        "OTEL_PYTHON_TRACER_PROVIDER": "sdk_tracer_provider",
        "OTEL_CONFIG_FILE": str(tmp_path / "none.yaml"),  # nobody reads it
        "CONTEXT_TELEMETRY_STATE_DIR": str(tmp_path / "state"),
    }
    done = subprocess.run(
        [sys.executable, "-c", _ASKS.format(first=first)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=os.environ | named,
        cwd=tmp_path,
    )
    assert (done.stdout, done.stderr) == (f"{said}\n", "")


@pytest.mark.parametrize(
    ("variable", "value"),
    [("OTEL_METRICS_EXEMPLAR_FILTER", "sometimes"), ("OTEL_METRIC_EXPORT_INTERVAL", "-1")],
)
def test_a_metrics_variable_that_is_none_is_said_and_costs_the_metrics_and_nothing_else(
    start: Start, capsys: pytest.CaptureFixture[str], variable: str, value: str
) -> None:
    with _collector() as (endpoint, received):
        pipeline = start(**{variable: value}, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, **_HTTP)
        _call(pipeline, "catalog.resolve")
        assert pipeline.shutdown(10)
    assert received.keys() == {"/v1/traces"}
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{variable}={value} is no " in line
    assert line.endswith(": there are no metrics")
    (place,) = [each for each in failsafe.errors() if f"{variable}={value}" in each]
    assert failsafe.part_of(place) == "settings"


class Reader(InMemoryMetricReader):
    """Says whether it has been shut down."""

    is_shut_down = False

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        super().shutdown(timeout_millis, **kwargs)
        self.is_shut_down = True


class Exporter(MetricExporter):
    """Likewise."""

    is_shut_down = False

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        self.is_shut_down = True


@pytest.mark.parametrize(
    ("variable", "value"),
    [("OTEL_METRICS_EXEMPLAR_FILTER", "never"), ("OTEL_METRIC_EXPORT_INTERVAL", "0")],
)
def test_where_there_are_no_metrics_no_reader_lives_on_and_no_exporter_stays_open(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    variable: str,
    value: str,
) -> None:
    monkeypatch.setenv(variable, value)
    reader, exporter, before = Reader(), Exporter(), set(threading.enumerate())
    pipeline = providers.assemble(
        Destination("otlp", {"metrics": ("reader", "exporter")}),
        {"traces": [], "metrics": [reader, exporter], "logs": []},
        tmp_path,
        Settings(state_dir=tmp_path),
        set_global=False,
    )
    try:
        assert pipeline.meter_provider is None
        assert (reader.is_shut_down, exporter.is_shut_down) == (True, True)
        assert not set(threading.enumerate()) - before
        assert not caplog.records
    finally:
        pipeline.shutdown(5)


def test_an_aggregation_that_otlps_exporters_prefer_is_no_matter_of_another_exporter(start: Start) -> None:
    pipeline = start(
        OTEL_METRICS_EXPORTER="prometheus",
        OTEL_EXPORTER_PROMETHEUS_PORT="0",
        OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION="base2_exponential_bucket_histogram",
    )
    assert pipeline.meter_provider is not None
    assert pipeline.recorder.fallbacks == ()


# -- OTLP ----------------------------------------------------------------------------------------------------


@contextmanager
def _collector() -> Iterator[tuple[str, dict[str, bytes]]]:
    received: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", received
    finally:
        server.shutdown()
        server.server_close()


def test_an_endpoint_gets_all_three_signals_without_content(start: Start) -> None:
    with _collector() as (endpoint, received):
        pipeline = start(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, **_HTTP)
        assert (pipeline.mode, pipeline.folder) == ("otlp", None)
        assert pipeline.meter_provider is not None
        tracer = pipeline.tracer_provider.get_tracer("t")
        tracer.start_span("asked", attributes={"url.query": "SECRET"}).end()
        pipeline.logger_provider.get_logger("context_telemetry").emit(event_name="changed")
        pipeline.meter_provider.get_meter("t").create_counter("served").add(1)
        assert pipeline.shutdown(10)
    assert received.keys() == {"/v1/traces", "/v1/logs", "/v1/metrics"}
    assert b"asked" in received["/v1/traces"]
    assert b"changed" in received["/v1/logs"]
    assert b"served" in received["/v1/metrics"]
    assert b"SECRET" not in b"".join(received.values())


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_an_endpoint_that_hangs_holds_the_end_of_the_process_up_no_longer_than_two_seconds(
    start: Start, protocol: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        pipeline = start(
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{silent.getsockname()[1]}",
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
        )
        assert pipeline.meter_provider is not None
        pipeline.tracer_provider.get_tracer("t").start_span("asked").end()
        pipeline.logger_provider.get_logger("t").emit(event_name="changed")
        pipeline.meter_provider.get_meter("t").create_counter("served").add(1)
        began = time.monotonic()
        pipeline.shutdown(2.0)
        assert time.monotonic() - began < 5.0  # and not the exporters' ten


# -- batches -------------------------------------------------------------------------------------------------


def _batcher(
    place: str, export: Callable[[Sequence[int]], bool], limits: BatchLimits | None = None
) -> Batcher[int]:
    return Batcher(place, limits or BatchLimits(), export, lambda: None)


def test_items_are_exported_in_order_and_in_batches() -> None:
    batches: list[list[int]] = []

    def export(items: Sequence[int]) -> bool:
        batches.append(list(items))
        return True

    batcher = _batcher("order", export, BatchLimits(60, 100, 4))
    for number in range(10):
        batcher.add(number)
    assert finish([batcher], 5, last=True)
    assert [number for batch in batches for number in batch] == list(range(10))
    assert all(len(batch) <= 4 for batch in batches)


def test_a_full_batch_does_not_wait_for_the_delay() -> None:
    exported = threading.Event()

    def export(items: Sequence[int]) -> bool:
        exported.set()
        return True

    batcher = _batcher("hurry", export, BatchLimits(60, 100, 4))
    for number in range(4):
        batcher.add(number)
    assert exported.wait(5)
    finish([batcher], 5, last=True)


def test_what_does_not_fit_the_queue_is_counted_and_not_waited_for() -> None:
    release = threading.Event()
    batcher = _batcher("crowd", lambda items: release.wait(10), BatchLimits(0.001, 4, 1))
    for number in range(10):
        batcher.add(number)
    assert 5 <= failsafe.drops()["crowd"] <= 6  # the thread may have taken one
    assert not finish([batcher], 0.01, last=False), "an export that hangs is not waited for"
    release.set()
    assert finish([batcher], 5, last=True)


def test_a_batch_that_could_not_be_exported_is_counted() -> None:
    def fail(items: Sequence[int]) -> bool:
        if len(items) == 1:
            raise OSError(28, "No space left on device")
        return False

    batcher = _batcher("failing", fail)
    batcher.add(1)
    finish([batcher], 5, last=False)
    batcher.add(1)
    batcher.add(2)
    finish([batcher], 5, last=True)
    assert failsafe.drops()["failing"] == 3


def test_batches_obey_opentelemetrys_variables() -> None:
    said = {
        "OTEL_BSP_SCHEDULE_DELAY": "250",
        "OTEL_BSP_MAX_QUEUE_SIZE": "100",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "50",
    }
    assert BatchLimits.from_environ("OTEL_BSP", said) == BatchLimits(0.25, 100, 50)
    assert BatchLimits.from_environ("OTEL_BLRP", said) == BatchLimits(0.5, 8_192, 512)
    assert BatchLimits.from_environ("OTEL_BSP", {"OTEL_BSP_SCHEDULE_DELAY": "soon"}) == BatchLimits()
