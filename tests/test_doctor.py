"""`doctor` on a release that nobody knows yet, and on what the environment says, rightly or wrongly."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import entry_points
import pytest
import yaml
from missing import take_away
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from otlp_files import Process, healthy

from context_telemetry import operation
from context_telemetry.cli import doctor, status
from context_telemetry.cli.owned import owned
from context_telemetry.cli.place import find
from context_telemetry.cli.recorded import _FALLBACKS, recorded
from context_telemetry.conventions import names
from context_telemetry.instrumentation import instrumentor, report_state
from context_telemetry.instrumentation.hooks import Hook, version
from context_telemetry.observe import recorder
from context_telemetry.ops import build
from context_telemetry.pipeline.destination import Destination
from context_telemetry.pipeline.files import FileLogExporter, Folder
from context_telemetry.pipeline.providers import Pipeline, assemble
from context_telemetry.settings import Settings

UNKNOWN = "9.5.0"


@pytest.fixture(scope="module")
def newer() -> Iterator[None]:
    """The installed Dataface calls itself a release that is newer than all rows."""
    real = importlib.metadata.version
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            importlib.metadata, "version", lambda name: UNKNOWN if name == "dataface" else real(name)
        )
        yield


def told(capsys: pytest.CaptureFixture[str]) -> dict[tuple[str, str], dict[str, Any]]:
    doctor.examine(None, None, as_json=True)
    checks = json.loads(capsys.readouterr().out)["checks"]
    return {(each["section"], each["name"]): each for each in checks}


@pytest.mark.skipif(
    instrumentor.installed_release() != instrumentor.NEWEST,
    reason="the newest rows are those of the newest release",
)
def test_a_release_that_nobody_knows_is_tried_with_the_newest_rows(
    newer: None, capsys: pytest.CaptureFixture[str]
) -> None:
    found = told(capsys)
    assert found["installed", "dataface"]["state"] == "note"
    assert found["installed", "dataface"]["found"] == UNKNOWN
    assert f"newer than {instrumentor.NEWEST}" in found["installed", "dataface"]["advice"]
    assert found["hooks", "hook points"]["state"] == "ok"
    assert ("hooks", "absent") not in found
    assert (found["hooks", "new"]["state"], found["hooks", "new"]["found"]) == (
        "ok",
        f"no command, tool or function that {instrumentor.NEWEST} has not",
    )


@pytest.mark.skipif(
    instrumentor.installed_release() != instrumentor.NEWEST,
    reason="the newest rows are those of the newest release",
)
def test_what_it_has_that_no_row_knows_is_told_by_name(
    newer: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main = importlib.import_module("dataface.cli.main")
    handlers = importlib.import_module("dataface.ai.tools").TOOL_HANDLERS
    api = importlib.import_module("dataface.agent_api")

    def forecast() -> None:
        """A function of the future."""

    monkeypatch.setattr(main.app, "registered_commands", [*main.app.registered_commands])
    main.app.command("forecast")(forecast)
    monkeypatch.setitem(handlers, "forecast", forecast)
    monkeypatch.setattr(api, "forecast", forecast, raising=False)
    monkeypatch.setattr(api, "__all__", [*api.__all__, "forecast"])
    came = told(capsys)["hooks", "new"]
    assert came["state"] == "note"
    assert came["found"].splitlines() == ["dft forecast", "tool forecast", "dataface.agent_api:forecast"]
    assert came["advice"].startswith("new: no row knows them")


def test_what_has_vanished_from_it_and_what_has_changed_is_told_by_id(
    newer: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def same(function: Any) -> Any:
        return function

    rows = (
        Hook("dataface.core.dashboard", "render_dashboard", same),
        Hook("dataface.core.dashboard", "render_in_future", same),
        Hook("dataface.core.no_such_module", "anything", same),
        Hook("dataface.core.dashboard", "render", same, parameters=("a_parameter_of_the_past",)),
        Hook("dataface.core.dashboard", "of_the_past", same, until="0.4.0"),
    )
    monkeypatch.setattr(instrumentor, "HOOKS", rows)
    found = told(capsys)
    assert (found["hooks", "hook points"]["state"], found["hooks", "hook points"]["found"]) == (
        "wrong",
        "2 absent, 1 active, 1 failed",
    )
    vanished, changed = found["hooks", "absent"], found["hooks", "failed"]
    assert vanished["advice"].startswith("vanished")
    assert [line.partition(" ")[0] for line in vanished["found"].splitlines()] == [rows[1].id, rows[2].id]
    assert changed["advice"].startswith("changed")
    assert changed["found"] == f"{rows[3].id} (signature changed: no parameter a_parameter_of_the_past)"


def test_what_an_older_release_has_not_got_yet_is_no_alarm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    release = instrumentor.installed_release()
    assert release is not None
    major, minor, patch = version(release)
    ahead = dataclasses.replace(instrumentor.HOOKS[0], target="later", since=f"{major}.{minor}.{patch + 1}")
    monkeypatch.setattr(instrumentor, "HOOKS", (instrumentor.HOOKS[0], ahead))
    found = told(capsys)
    assert found["hooks", "hook points"]["found"] == "1 active"
    assert ("hooks", "absent") not in found


def test_a_surface_that_is_none_is_named_with_those_that_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(instrumentor, "HOOKS", ())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONTEXT_TELEMETRY_SURFACE", "desktop")
    said = told(capsys)["telemetry", "settings"]
    assert said["state"] == "wrong"
    assert "CONTEXT_TELEMETRY_SURFACE: 'desktop' is not one of agent, cli, dashboard, ide" in said["found"]


def test_the_last_word_on_descriptions_counts_though_a_younger_process_spoke_before_it(
    tmp_path: Path,
) -> None:
    server, command = Process(tmp_path, pid=11), Process(tmp_path, pid=12)
    for process, ago, described in ((server, 90.0, 7), (command, 60.0, 7), (server, 30.0, 5)):
        process.event(
            "dataface.enrichment.changed",
            {
                "dataface.enrichment.columns.described": described,
                "dataface.enrichment.columns.total": 9,
                "dataface.enrichment.lost": 7 - described,
            },
            ago=ago,
        )
    (said,) = [check for check in recorded(tmp_path) if check.name == "descriptions"]
    assert said.state == "note"
    assert said.found.startswith("on 5 of 9 columns, ")
    assert said.advice.startswith("2 of a former manifest are gone")


def test_owners_that_are_not_filled_in_show_and_are_wrong_in_a_production_profile(tmp_path: Path) -> None:
    build.build(tmp_path / "ops")
    (trial,) = owned(tmp_path)
    assert (trial.section, trial.name, trial.state) == ("operations", "ops/owners.yaml", "note")
    assert "catalogue-owner" in trial.found
    assert trial.advice == "`context-telemetry ops check ops` lists them"
    owners = tmp_path / "ops" / "owners.yaml"
    text = owners.read_text("utf-8")
    owners.write_text(text.replace("profile: trial", "profile: production"), "utf-8")
    assert [each.state for each in owned(tmp_path)] == ["wrong"]
    owners.write_text(text.replace("catalogue: catalogue-owner", "catalogue: nobody"), "utf-8")
    (broken,) = owned(tmp_path)
    assert (broken.state, broken.found) == ("wrong", "cannot be used")
    assert f"{owners}:" in broken.advice


def test_a_project_without_an_operations_package_says_nothing_of_owners(tmp_path: Path) -> None:
    assert not list(owned(tmp_path))


# -- why calls are recorded by the SDK -----------------------------------------------------------------------


class OthersIds(RandomIdGenerator):
    """Somebody's id generator, which the SDK has not."""


def on(scope: object) -> SimpleNamespace:
    """Somebody's configurator, which switches nothing off."""
    return SimpleNamespace(is_enabled=True)


def breaks(argument: str | None) -> NoReturn:
    raise LookupError("it cannot be made")


def _nothing(*_: object) -> None:
    pass


@dataclass(frozen=True)
class Why:
    """A reason, what doctor calls it, and how it comes about: by the environment, the SDK, or what a host does."""

    reason: str
    called: str
    environ: dict[str, str] = field(default_factory=dict)
    in_sdk: Callable[[pytest.MonkeyPatch], None] = _nothing
    by_host: Callable[[Pipeline], None] | None = None


_WHYS = (
    Why(
        "host",
        "the host's providers",
        by_host=lambda pipeline: recorder.use(
            pipeline.tracer_provider, pipeline.meter_provider, pipeline.logger_provider
        ),
    ),
    Why(
        "span_processor",
        "a span processor was added to the provider",
        by_host=lambda pipeline: pipeline.tracer_provider.add_span_processor(SpanProcessor()),
    ),
    Why(
        "sdk_metrics",
        "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED",
        {"OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED": "true"},
    ),
    Why("id_generator", "OTEL_PYTHON_ID_GENERATOR", {"OTEL_PYTHON_ID_GENERATOR": "others"}),
    Why(
        "configurator",
        "OTEL_PYTHON_TRACER_CONFIGURATOR or OTEL_PYTHON_METER_CONFIGURATOR",
        {"OTEL_PYTHON_TRACER_CONFIGURATOR": "others"},
    ),
    Why(
        "configurator",
        "OTEL_PYTHON_TRACER_CONFIGURATOR or OTEL_PYTHON_METER_CONFIGURATOR",
        {"OTEL_PYTHON_METER_CONFIGURATOR": "others"},
    ),
    Why("exemplar_filter", "OTEL_METRICS_EXEMPLAR_FILTER", {"OTEL_METRICS_EXEMPLAR_FILTER": "always_off"}),
    Why(
        "aggregation",
        "an exporter's own aggregation of histograms",
        {"OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": "base2_exponential_bucket_histogram"},
    ),
    Why(
        "unknown_sdk",
        "an OpenTelemetry SDK that is not known yet",
        in_sdk=lambda patch: take_away(patch, MetricReader, "_set_collect_callback"),
    ),
)


@pytest.fixture
def others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody's sampler, id generator and configurators are installed."""
    points = {
        (entry_points.SAMPLERS, "breaks"): breaks.__name__,
        (entry_points.ID_GENERATORS, "others"): OthersIds.__name__,
        (entry_points.TRACER_CONFIGURATORS, "others"): on.__name__,
        (entry_points.METER_CONFIGURATORS, "others"): on.__name__,
    }
    targets = {key: f"{__name__}:{name}" for key, name in points.items()}
    entry_points.install(tmp_path / "packages", monkeypatch, targets)


def test_every_reason_has_a_row_here_and_words_in_doctor_and_in_the_conventions() -> None:
    reasons = {why.reason for why in _WHYS}
    assert reasons == set(_FALLBACKS)
    registry = Path(names.__file__).with_name("registry") / "attributes.yaml"
    described = {each["key"]: each for each in yaml.safe_load(registry.read_text("utf-8"))["attributes"]}
    brief = described[names.CONTEXT_TELEMETRY_RECORDER_FALLBACKS]["brief"]
    assert set(re.findall(r"`(\w+)`", brief)) == reasons


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize("why", _WHYS, ids=[f"{why.reason} {' '.join(why.environ)}".strip() for why in _WHYS])
def test_why_calls_are_recorded_by_the_sdk_is_foretold_from_the_environment_and_told_of_a_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], why: Why
) -> None:
    monkeypatch.setattr(instrumentor, "HOOKS", ())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://127.0.0.1:9")
    for name, value in why.environ.items():
        monkeypatch.setenv(name, value)
    why.in_sdk(monkeypatch)
    said = f"recorded by the SDK ({why.called})"

    foretold = told(capsys).get(("telemetry", "recorder"))
    if why.by_host is not None:
        assert foretold is None
    else:
        assert foretold is not None
        assert (foretold["state"], foretold["found"]) == ("note", said)
        told_of_it = "what they leave on is recorded" if why.reason == "configurator" else "is the same"
        assert told_of_it in foretold["advice"]

    settings = Settings(state_dir=tmp_path)
    metrics = OTLPMetricExporter()
    pipeline = assemble(
        Destination("otlp", {"metrics": ("otlp_proto_http",)}),
        {
            "traces": [],
            "metrics": [metrics],
            "logs": [FileLogExporter(Folder(tmp_path / "kept", settings.retention))],
        },
        tmp_path,
        settings,
        set_global=False,
    )
    recorder.install(pipeline.recorder)
    try:
        if why.by_host is not None:
            why.by_host(pipeline)
        with operation("catalog.resolve"):
            pass
        by = recorder.heard()
        assert by is not None
        assert by.fallbacks == (why.reason,)
        report_state("began")
    finally:
        recorder.forget()
        metrics.shutdown()  # nobody answers
        pipeline.shutdown(5)
    (process,) = [each for each in recorded(tmp_path / "kept") if each.name.startswith("process ")]
    assert f", {said}, " in process.found


def test_a_recorder_of_ours_is_no_word_of_doctors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(instrumentor, "HOOKS", ())
    monkeypatch.chdir(tmp_path)
    assert ("telemetry", "recorder") not in told(capsys)
    # Nobody asks for the points of local files.
    monkeypatch.setenv("OTEL_METRICS_EXEMPLAR_FILTER", "always_off")
    assert ("telemetry", "recorder") not in told(capsys)


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("OTEL_TRACES_SAMPLER", "unheard_of", "OTEL_TRACES_SAMPLER=unheard_of is not installed"),
        ("OTEL_TRACES_SAMPLER", "breaks", "OTEL_TRACES_SAMPLER=breaks cannot be used (LookupError)"),
        ("OTEL_PYTHON_ID_GENERATOR", "unheard_of", "OTEL_PYTHON_ID_GENERATOR=unheard_of is not installed"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "many", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT must be"),
    ],
)
def test_what_cannot_be_had_is_wrong_and_the_sampler_that_is_none_samples_nothing_out(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variable: str,
    value: str,
    said: str,
) -> None:
    monkeypatch.setattr(instrumentor, "HOOKS", ())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, value)
    found = told(capsys)
    line = found["telemetry", "components"]
    assert line["state"] == "wrong"
    assert said in f"{line['found']} {line['advice']}"
    assert ("telemetry", "sampler") not in found


@pytest.mark.parametrize(
    ("sampler", "argument", "is_wrong", "notes"),
    [
        ("traceidratio", "half", True, ""),
        ("TraceIdRatio", "1.5", True, ""),
        ("parentbased_traceidratio", "nan", True, "ParentBased{root:TraceIdRatioBased{1.0},...}"),
        ("traceidratio", "0.5", False, "TraceIdRatioBased{0.5}"),
        ("traceidratio", "1", False, ""),
        ("traceidratio", "", False, ""),
        ("always_off", "half", False, "AlwaysOffSampler"),
    ],
)
def test_a_share_that_is_none_is_wrong_and_what_may_be_left_out_is_told_by_what_is_made_of_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    sampler: str,
    argument: str,
    is_wrong: bool,
    notes: str,
) -> None:
    monkeypatch.setattr(instrumentor, "HOOKS", ())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", argument)
    found = told(capsys)
    wrong = found.get(("telemetry", "components"), {"state": "", "found": ""})
    said = f"OTEL_TRACES_SAMPLER_ARG={argument} is no number from 0 to 1: {sampler.lower()} goes by 1"
    assert (wrong["state"], wrong["found"]) == (("wrong", said) if is_wrong else ("", ""))
    note = found.get(("telemetry", "sampler"), {"found": ""})["found"]
    assert note == (f"OTEL_TRACES_SAMPLER={sampler} ({notes})" if notes else "")


_ON = {"FASTAPI_OTEL_AUTO_CONFIGURE": "true"}
_SENT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
_SENT_ALONE = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/v1/traces"}


@pytest.mark.skipif(not doctor._fastapi_can_export(), reason="this FastAPI exports nothing by itself")
@pytest.mark.parametrize(
    ("environ", "is_told"),
    [
        ({**_SENT, "FASTAPI_OTEL_AUTO_CONFIGURE": "True"}, True),
        ({**_SENT, "FASTAPI_OTEL_AUTO_CONFIGURE": "false"}, False),
        (_ON, False),  # nor does it where there are local files
        ({**_ON, **_SENT}, True),
        ({**_ON, **_SENT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, False),
        ({**_ON, **_SENT, "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "grpc"}, False),
        ({**_ON, **_SENT, "OTEL_LOGS_EXPORTER": " None", "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "grpc"}, True),
        ({**_ON, **_SENT, "OTEL_METRICS_EXPORTER": "prometheus"}, False),
        ({**_ON, "OTEL_METRICS_EXPORTER": "prometheus"}, False),
        ({**_ON, "OTEL_TRACES_EXPORTER": "otlp"}, False),
        ({**_ON, **_SENT_ALONE, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}, False),
        ({**_ON, **_SENT_ALONE, "OTEL_METRICS_EXPORTER": "prometheus"}, True),
        (
            {
                **_ON,
                **_SENT_ALONE,
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            },
            True,
        ),
    ],
)
def test_a_fastapi_that_exports_past_the_guard_is_told_of(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    environ: dict[str, str],
    is_told: bool,
) -> None:
    monkeypatch.setattr(instrumentor, "HOOKS", ())
    monkeypatch.chdir(tmp_path)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    found = told(capsys).get(("guard", "FastAPI"))
    assert (found is not None) is is_told
    if found is not None:
        assert found["state"] == "note"
        assert "the second time unguarded" in found["advice"]


def test_a_fastapi_that_cannot_be_imported_exports_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fastapi.py").write_text("raise RuntimeError('half an installation')\n", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [each for each in sys.modules if each.partition(".")[0] == "fastapi"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(instrumentor, "HOOKS", ())
    monkeypatch.chdir(tmp_path)
    for name, value in {**_ON, **_SENT}.items():
        monkeypatch.setenv(name, value)
    assert ("guard", "FastAPI") not in told(capsys)


def test_an_exemplar_filter_that_is_none_costs_the_metrics_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(instrumentor, "HOOKS", ())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OTEL_METRICS_EXEMPLAR_FILTER", "sometimes")
    assert ("telemetry", "components") not in told(capsys), "local files have no metrics"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    found = told(capsys)
    line = found["telemetry", "components"]
    assert (line["state"], line["found"]) == (
        "wrong",
        "OTEL_METRICS_EXEMPLAR_FILTER=sometimes is no exemplar filter: there are no metrics",
    )
    assert ("telemetry", "recorder") not in found


@pytest.mark.parametrize(
    ("exporters", "is_foretold"), [("prometheus", False), ("otlp", True), ("prometheus, otlp", True)]
)
def test_an_aggregation_is_foretold_of_the_exporters_that_read_its_variable(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    exporters: str,
    is_foretold: bool,
) -> None:
    monkeypatch.setattr(instrumentor, "HOOKS", ())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", exporters)
    monkeypatch.setenv(
        "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", " BASE2_exponential_bucket_histogram"
    )
    assert (("telemetry", "recorder") in told(capsys)) is is_foretold


_COUNTING = """
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

made = []

def make(argument):
    made.append(argument)
    return ALWAYS_OFF
"""


def test_somebodys_sampler_is_not_made_by_status_and_once_by_doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    packages, root = tmp_path / "packages", tmp_path / "shop"
    entry_points.install(packages, monkeypatch, {(entry_points.SAMPLERS, "counting"): "counting:make"})
    (packages / "counting.py").write_text(_COUNTING, "utf-8")
    monkeypatch.setitem(sys.modules, "counting", None)  # it is taken out again at the end
    del sys.modules["counting"]
    monkeypatch.setattr(instrumentor, "HOOKS", ())
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "counting")
    root.mkdir()
    (root / "dataface.yml").write_text("{}\n", "utf-8")
    monkeypatch.chdir(root)
    place = find(root, tmp_path / "state")
    process = Process(place.folder)
    process.call(healthy(60.0))
    process.flush()

    status.once(place, None, as_json=False)
    capsys.readouterr()
    assert "counting" not in sys.modules, "it is not even loaded"
    found = told(capsys)["telemetry", "sampler"]["found"]
    assert found == "OTEL_TRACES_SAMPLER=counting (AlwaysOffSampler)"
    assert importlib.import_module("counting").made == [None]


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("OTEL_CONFIG_FILE", "not read under `run`"),
        ("OTEL_PYTHON_TRACER_PROVIDER", "only if the process asks for one before its first observed call"),
    ],
)
def test_what_names_a_hosts_providers_is_told_with_what_run_makes_of_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variable: str,
    said: str,
) -> None:
    monkeypatch.setattr(instrumentor, "HOOKS", ())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, "sdk_tracer_provider")
    line = told(capsys)["guard", "providers"]
    assert (line["state"], line["found"]) == ("note", f"{variable} is set")
    assert said in line["advice"]
