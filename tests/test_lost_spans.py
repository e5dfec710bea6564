"""Spans that somebody else's part of OpenTelemetry costs: dropped, told without content, and no error of ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import entry_points
import pytest
from memory import recording
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision, StaticSampler
from opentelemetry.trace import get_current_span

from context_telemetry import operation
from context_telemetry.conventions import names
from context_telemetry.instrumentation import instrumentor, report_state
from context_telemetry.observe import failsafe, lost_spans, recorder
from context_telemetry.pipeline import providers
from context_telemetry.settings import Settings

_SECRET = "SELECT secret"


class Raising(StaticSampler):
    def __init__(self, argument: str | None = None) -> None:
        super().__init__(Decision.RECORD_AND_SAMPLE)

    def should_sample(self, *arguments: Any, **named: Any) -> NoReturn:
        raise LookupError(_SECRET)


class RaisingIds(RandomIdGenerator):
    def generate_span_id(self) -> NoReturn:
        raise LookupError(_SECRET)


class RaisingTraceIds(RandomIdGenerator):
    def generate_trace_id(self) -> NoReturn:
        raise LookupError(_SECRET)


class RaisingAboutItsIds(RandomIdGenerator):
    def is_trace_id_random(self) -> NoReturn:
        raise LookupError(_SECRET)


class RaisesAtStart(SpanProcessor):
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        raise LookupError(_SECRET)


class RaisesAtEnd(SpanProcessor):
    def on_end(self, span: ReadableSpan) -> None:
        raise LookupError(_SECRET)


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has gone wrong yet, and nothing was said."""
    for each in ("_errors", "_dropped", "_not_ours"):
        monkeypatch.setattr(failsafe, each, Counter())
    monkeypatch.setattr(instrumentor, "_said", instrumentor._Said())


def _is_told(capsys: pytest.CaptureFixture[str], *words: str) -> None:
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    for each in (*words, "LookupError"):
        assert each in line
    assert _SECRET not in line


def _host(part: object) -> TracerProvider:
    if isinstance(part, SpanProcessor):
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(part)
        return provider
    named: dict[str, Any] = {"id_generator" if isinstance(part, RandomIdGenerator) else "sampler": part}
    return TracerProvider(shutdown_on_exit=False, **named)


def _called_once(provider: TracerProvider) -> None:
    recorder.use(provider)
    try:
        with operation("catalog.resolve"):
            pass
    finally:
        recorder.forget()


_PARTS = [
    pytest.param(Raising(), "sampler", id="sampler"),
    pytest.param(RaisingIds(), "id generator", id="span ids"),
    pytest.param(RaisingTraceIds(), "id generator", id="trace ids"),
    pytest.param(
        RaisingAboutItsIds(),
        "id generator",
        id="random ids",
        marks=pytest.mark.skipif(
            not hasattr(RandomIdGenerator, "is_trace_id_random"), reason="this SDK asks no generator for that"
        ),
    ),
    pytest.param(RaisesAtStart(), "span processor", id="span processor"),
]


@pytest.mark.parametrize(("part", "whose"), _PARTS)
def test_a_span_that_a_hosts_part_keeps_from_beginning_is_dropped_and_its_call_is_counted(
    capsys: pytest.CaptureFixture[str], part: object, whose: str
) -> None:
    with recording() as memory:
        recorder.use(_host(part), memory.meter_provider, memory.logger_provider)
        for _ in range(3):
            with operation("catalog.resolve"):
                assert not get_current_span().is_recording()
        served = dict(memory.points())[names.METRIC_DATAFACE_CONTEXT_SERVED]
        report_state()
        _, state = memory.events[-1]
    assert sum(count for _, count in served) == 3
    assert failsafe.errors() == {}
    assert failsafe.by_part(failsafe.drops()) == {"recording": 3}
    assert state[names.CONTEXT_TELEMETRY_DROP_COUNT_RECORDING] == 3
    assert state[names.CONTEXT_TELEMETRY_ERRORS] == 0
    _is_told(capsys, f"the {whose} of this process raised", "the span is lost")


def test_a_hosts_processor_that_raises_at_the_end_costs_those_behind_it_the_span(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with recording() as memory:
        recorder.use(_host(RaisesAtEnd()), memory.meter_provider, memory.logger_provider)
        with operation("catalog.resolve"):
            pass
    assert failsafe.errors() == {}
    assert failsafe.by_part(failsafe.drops()) == {"recording": 1}
    _is_told(
        capsys,
        "the span processor of this process raised",
        "at the end of a span: those behind it do not see the span",
    )


class RaisingForInner(StaticSampler):
    def __init__(self) -> None:
        super().__init__(Decision.RECORD_AND_SAMPLE)

    def should_sample(self, parent_context: Any, trace_id: int, name: str, *rest: Any, **named: Any) -> Any:
        if name == "inner":
            raise LookupError(_SECRET)
        return super().should_sample(parent_context, trace_id, name, *rest, **named)


class BeginsInner(SpanProcessor):
    def __init__(self, provider: TracerProvider) -> None:
        self.provider = provider

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if span.name != "inner":
            self.provider.get_tracer("theirs").start_span("inner")


def test_of_two_parts_that_it_came_through_it_is_told_of_the_one_that_was_asked_for_our_span(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A processor begins a span of its own, and does not bear what the sampler does with that."""
    provider = _host(RaisingForInner())
    provider.add_span_processor(BeginsInner(provider))
    _called_once(provider)
    assert failsafe.drops() == {"recorder.span_processor": 1}
    _is_told(capsys, "the span processor of this process raised")


def test_at_its_end_a_span_is_kept_only_where_it_came_to_those_that_it_is_recorded_for() -> None:
    """They come first of those that see it: what raises before that has kept it from them, too."""

    def end(part: Any, function: str) -> None:
        try:
            getattr(part, function)(None)
        except LookupError as error:
            lost_spans.at_end(error, kept=True)

    end(RaisesAtEnd(), "on_end")
    assert failsafe.drops() == {}
    end(RaisesAtStart(), "on_start")
    lost_spans.at_end(LookupError(_SECRET), kept=True)
    assert failsafe.drops() == {"recorder.span_processor": 1, "recorder.tracer": 1}


def test_a_tracer_that_raises_by_itself_is_told_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    provider = _host(None)
    provider.sampler = None  # type: ignore[assignment]  # a host can do anything
    _called_once(provider)
    assert failsafe.drops() == {"recorder.tracer": 1}
    assert "the tracer of this process raised AttributeError, and the span is lost" in capsys.readouterr().err


# -- a pipeline of ours --------------------------------------------------------------------------------------


@contextmanager
def _ours(folder: Path) -> Iterator[providers.Pipeline]:
    """A pipeline of ours that records what is called, and has written it when this is over."""
    pipeline = providers.start(folder, Settings(state_dir=folder / "state"), set_global=False)
    recorder.install(pipeline.recorder)
    try:
        yield pipeline
    finally:
        recorder.forget()
        assert pipeline.shutdown(5)


def _recorded(folder: Path, processors: Sequence[SpanProcessor] = ()) -> list[str]:
    """The names of the spans in the files of a pipeline of ours that recorded two calls."""
    with _ours(folder) as pipeline:
        for each in processors:
            pipeline.tracer_provider.add_span_processor(each)
        for _ in range(2):
            with operation("catalog.resolve"):
                pass
    return _names(pipeline)


def _names(pipeline: providers.Pipeline) -> list[str]:
    assert pipeline.folder is not None
    return [
        span["name"]
        for path in pipeline.folder.glob("traces-*.jsonl")
        for line in path.read_text("utf-8").splitlines()
        for resource in json.loads(line)["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]


@pytest.mark.parametrize(
    ("variable", "group", "part", "whose"),
    [
        ("OTEL_TRACES_SAMPLER", entry_points.SAMPLERS, Raising, "sampler"),
        ("OTEL_PYTHON_ID_GENERATOR", entry_points.ID_GENERATORS, RaisingIds, "id generator"),
    ],
)
def test_what_the_operator_has_named_and_raises_costs_our_pipeline_the_spans(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variable: str,
    group: str,
    part: type,
    whose: str,
) -> None:
    points = {(group, "raises"): f"{part.__module__}:{part.__name__}"}
    entry_points.install(tmp_path / "packages", monkeypatch, points)
    monkeypatch.setenv(variable, "raises")
    assert _recorded(tmp_path) == []
    assert failsafe.errors() == {}
    assert failsafe.by_part(failsafe.drops()) == {"recording": 2}
    _is_told(capsys, f"the {whose} of this process raised", "the span is lost")


def test_a_processor_that_a_host_adds_costs_our_pipeline_what_it_keeps_from_beginning_and_nothing_at_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _recorded(tmp_path / "start", [RaisesAtStart()]) == []
    assert failsafe.by_part(failsafe.drops()) == {"recording": 2}
    capsys.readouterr()
    assert _recorded(tmp_path / "end", [RaisesAtEnd()]) == ["catalog.resolve"] * 2
    assert failsafe.by_part(failsafe.drops()) == {"recording": 2}
    assert failsafe.errors() == {}
    _is_told(capsys, "the span processor of this process raised", "in on_end, and the span is kept")


def test_a_processor_that_was_added_during_a_call_and_raises_at_its_end_costs_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with _ours(tmp_path) as pipeline, operation("catalog.resolve"):
        pipeline.tracer_provider.add_span_processor(RaisesAtEnd())
    assert (failsafe.errors(), failsafe.drops()) == ({}, {})
    _is_told(capsys, "in on_end, and the span is kept")


def test_a_processor_that_was_added_during_a_call_and_raises_at_its_span_costs_nothing_and_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with _ours(tmp_path) as pipeline, operation("catalog.resolve"):
        before = get_current_span().get_span_context()
        pipeline.tracer_provider.add_span_processor(RaisesAtStart())
        get_current_span().set_attribute("theirs", 1)
        assert get_current_span().name == "catalog.resolve"  # type: ignore[attr-defined]  # of the SDK's
        assert get_current_span().get_span_context() == before
    assert (failsafe.errors(), failsafe.drops()) == ({}, {})
    assert _names(pipeline) == ["catalog.resolve"]
    _is_told(capsys, "the span processor of this process raised", "the span is kept")


_PROGRAM = """
from pathlib import Path
from context_telemetry import operation
from context_telemetry.observe import project
project.opened(Path.cwd(), "shop")
for name in ("catalog.resolve", "catalog.search", "catalog.resolve"):
    with operation(name):
        pass
"""
_SAMPLER = """
from opentelemetry.sdk.trace.sampling import Decision, StaticSampler

class Some(StaticSampler):
    def __init__(self, argument):
        super().__init__(Decision.RECORD_AND_SAMPLE)

    def should_sample(self, context, trace_id, name, *rest, **named):
        if name == "catalog.search":
            raise LookupError("SELECT secret")
        return super().should_sample(context, trace_id, name, *rest, **named)
"""


def test_status_does_not_say_that_everything_is_recorded_where_a_sampler_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, packages = tmp_path / "shop", tmp_path / "packages"
    entry_points.install(packages, monkeypatch, {(entry_points.SAMPLERS, "some"): "some:Some"})
    (packages / "some.py").write_text(_SAMPLER, "utf-8")
    root.mkdir()
    (root / "dataface.yml").write_text("{}\n", "utf-8")

    def ended(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "context_telemetry.cli", *arguments],
            cwd=root,
            env={**os.environ, "CONTEXT_TELEMETRY_STATE_DIR": str(tmp_path / "state"), **environ},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    path = os.pathsep.join([str(packages), os.environ.get("PYTHONPATH", "")])
    ran = ended("run", "--", sys.executable, "-c", _PROGRAM, OTEL_TRACES_SAMPLER="some", PYTHONPATH=path)
    assert (ran.returncode, ran.stdout) == (0, "")
    (line,) = ran.stderr.splitlines()
    assert "the sampler of this process raised LookupError, and the span is lost" in line
    seen = ended("status")
    assert seen.returncode == 1
    assert "telemetry_dropped: counts are too low" in seen.stdout
    assert "recording 1 in process " in seen.stdout
    assert "last 1 h, 2 calls" in seen.stdout
    assert "everything is recorded" not in seen.stdout
    assert "every result is read" in seen.stdout
