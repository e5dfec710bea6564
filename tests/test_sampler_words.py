"""What a process says of its sampler: the SDK's own words where it may leave spans out, and nobody else's."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import entry_points
import pytest
from memory import recording
from opentelemetry.sdk.trace import TracerProvider, sampling
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    DEFAULT_OFF,
    DEFAULT_ON,
    Decision,
    ParentBased,
    ParentBasedTraceIdRatio,
    Sampler,
    StaticSampler,
    TraceIdRatioBased,
)

from context_telemetry import operation
from context_telemetry.conventions import names
from context_telemetry.health import words
from context_telemetry.instrumentation import report_state
from context_telemetry.observe import failsafe, recorder
from context_telemetry.observe.samplers import OTHER, may_leave_out
from context_telemetry.pipeline import providers
from context_telemetry.pipeline.components import components
from context_telemetry.settings import Settings


class Private(StaticSampler):
    """Somebody's own, whose description is nobody's business."""

    def __init__(self, argument: str | None = None) -> None:
        super().__init__(Decision.RECORD_AND_SAMPLE)

    def get_description(self) -> str:
        return "customers of ACME only"


class PrivateAndDropping(Private):
    def __init__(self) -> None:
        StaticSampler.__init__(self, Decision.DROP)


class Silent(Private):
    def get_description(self) -> str:
        raise LookupError


class InDisguise(StaticSampler):
    """Describes itself by the SDK's words, and decides otherwise."""

    def should_sample(self, *arguments: Any, **named: Any) -> Any:
        return ALWAYS_OFF.should_sample(*arguments, **named)


class Choosing(TraceIdRatioBased):
    """Keeps the SDK's words, and decides otherwise."""

    def should_sample(self, *arguments: Any, **named: Any) -> Any:
        return ALWAYS_OFF.should_sample(*arguments, **named)


class OfTwo(StaticSampler):
    """Decides as one of the SDK's and describes itself as another, whose words are then not the SDK's."""

    _rate, bound, TRACE_ID_LIMIT = "customers of ACME", 1, 1
    get_description = TraceIdRatioBased.get_description


def _turned_off() -> Sampler:
    """Two functions of the SDK's own, of another sampler's."""
    sampler = StaticSampler(Decision.RECORD_AND_SAMPLE)
    sampler.should_sample = ALWAYS_OFF.should_sample  # type: ignore[method-assign]  # as a host can
    return sampler


class ByThem(StaticSampler):
    """One of the SDK's by another name."""


_BELOW_ALL = (
    "remote_parent_sampled",
    "remote_parent_not_sampled",
    "local_parent_sampled",
    "local_parent_not_sampled",
)
_ONE_OTHERWISE: list[Sampler] = [
    ParentBased(ALWAYS_ON, **{each: TraceIdRatioBased(0.01)}) for each in _BELOW_ALL
]


@pytest.mark.parametrize(
    "sampler",
    [
        ALWAYS_OFF,
        DEFAULT_ON,
        DEFAULT_OFF,
        *(TraceIdRatioBased(rate) for rate in (0, 0.0, 1e-07, 2.5e-10, 0.1, 0.999)),
        ParentBasedTraceIdRatio(0.25),
        ParentBased(DEFAULT_ON, DEFAULT_OFF),
        *_ONE_OTHERWISE,
        ParentBased(TraceIdRatioBased(0.5), *[ALWAYS_ON] * 4),
        ByThem(Decision.DROP),
    ],
    ids=lambda each: each.get_description(),
)
def test_a_sampler_of_the_sdks_that_may_leave_spans_out_is_told_in_its_words(sampler: Sampler) -> None:
    assert may_leave_out(sampler) == sampler.get_description()


@pytest.mark.parametrize(
    "sampler",
    [
        None,
        ALWAYS_ON,
        TraceIdRatioBased(1),
        TraceIdRatioBased(1.0),
        ParentBased(TraceIdRatioBased(1.0), *[ALWAYS_ON] * 4),
        ByThem(Decision.RECORD_AND_SAMPLE),
    ],
)
def test_what_keeps_every_span_is_not_told(sampler: Sampler | None) -> None:
    assert may_leave_out(sampler) is None


@pytest.mark.skipif(not hasattr(sampling, "AlwaysRecordSampler"), reason="this SDK has no such sampler")
def test_a_sampler_around_another_leaves_out_what_that_does() -> None:
    around: Any = sampling.AlwaysRecordSampler
    assert may_leave_out(around(ALWAYS_ON)) is None
    assert may_leave_out(around(TraceIdRatioBased(0.5))) == "AlwaysRecordSampler{TraceIdRatioBased{0.5}}"
    assert may_leave_out(around(Choosing(1.0))) == OTHER


@pytest.mark.parametrize(
    "sampler",
    [
        Private(),
        PrivateAndDropping(),
        Silent(),
        InDisguise(Decision.RECORD_AND_SAMPLE),
        object(),
        ParentBased(Private()),
        ParentBased(Silent()),
        ParentBased(ALWAYS_ON, remote_parent_sampled=ParentBased(Private())),
        Choosing(1.0),
        ParentBased(Choosing(1.0)),
        ParentBased(Choosing(1.0), *[ALWAYS_ON] * 4),
        *(ParentBased(ALWAYS_ON, **{each: Choosing(1.0)}) for each in _BELOW_ALL),
        ParentBased(ALWAYS_OFF, local_parent_not_sampled=PrivateAndDropping()),
        OfTwo(Decision.DROP),
        _turned_off(),
    ],
)
def test_no_word_of_anybody_elses_is_told(sampler: Any) -> None:
    assert may_leave_out(sampler) == OTHER


@pytest.mark.parametrize(
    "around", [lambda each: each, ParentBased, lambda each: ParentBased(DEFAULT_ON, each)]
)
def test_of_one_that_records_and_exports_nothing_the_sdks_word_is_not_told(around: Any) -> None:
    """It describes itself as always on."""
    assert may_leave_out(around(StaticSampler(Decision.RECORD_ONLY))) == OTHER


@pytest.mark.parametrize(
    ("sampler", "shown"),
    [
        (DEFAULT_ON, "ParentBased{root:AlwaysOnSampler,...}"),
        (
            ParentBased(ParentBasedTraceIdRatio(0.1)),
            "ParentBased{root:ParentBased{root:TraceIdRatioBased{0.1},...},...}",
        ),
        *((sampler, sampler.get_description()) for sampler in _ONE_OTHERWISE),
    ],
)
def test_what_a_parent_based_one_does_below_a_parent_is_shown_but_for_what_each_does(
    sampler: Sampler, shown: str
) -> None:
    assert words.sampler(sampler.get_description()) == shown


@pytest.mark.parametrize(
    ("sampler", "said"),
    [(ALWAYS_ON, None), (ALWAYS_OFF, "AlwaysOffSampler"), (Private(), OTHER)],
)
def test_a_process_says_what_its_hosts_sampler_is(sampler: Sampler, said: str | None) -> None:
    with recording(sampler) as memory:
        report_state()
    assert memory.events[-1][1].get(names.CONTEXT_TELEMETRY_SAMPLER) == said


def test_the_sampler_of_a_provider_that_the_process_gets_later_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    by = recorder.active()
    assert by.sampler is None
    provider = TracerProvider(ALWAYS_OFF, shutdown_on_exit=False)
    monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", provider)
    assert by.sampler == "AlwaysOffSampler"


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, None),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"}, "TraceIdRatioBased{0.1}"),
        ({"OTEL_TRACES_SAMPLER": "private"}, OTHER),
    ],
)
def test_a_process_says_what_the_sampler_of_our_pipeline_is_and_nothing_of_its_description_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], said: str | None
) -> None:
    points = {(entry_points.SAMPLERS, "private"): f"{__name__}:{Private.__name__}"}
    entry_points.install(tmp_path / "packages", monkeypatch, points)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    pipeline = providers.start(tmp_path, Settings(state_dir=tmp_path / "state"), set_global=False)
    recorder.install(pipeline.recorder)
    try:
        with operation("catalog.resolve"):
            pass
        report_state()
    finally:
        recorder.forget()
        assert pipeline.shutdown(5)
    written = "".join(path.read_text("utf-8") for path in (tmp_path / "state").glob("*/*.jsonl"))
    assert (names.CONTEXT_TELEMETRY_SAMPLER in written) is (said is not None)
    assert f'"{said}"' in written or said is None
    assert "ACME" not in written


# -- the share of a ratio ------------------------------------------------------------------------------------


def _chosen(sampler: str, argument: str) -> tuple[str | None, tuple[str, ...]]:
    found = components({"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": argument})
    return None if found.sampler is None else found.sampler.get_description(), found.problems


@pytest.mark.parametrize("argument", ["half", "1.5", "-0.1", "nan", "0,5"])
def test_a_share_that_is_none_is_told_and_goes_for_one(argument: str) -> None:
    problem = f"OTEL_TRACES_SAMPLER_ARG={argument} is no number from 0 to 1: "
    assert _chosen("traceidratio", argument) == (
        "TraceIdRatioBased{1.0}",
        (f"{problem}traceidratio goes by 1",),
    )
    described, problems = _chosen("PARENTBASED_traceidratio", argument)
    assert (described or "").startswith("ParentBased{root:TraceIdRatioBased{1.0},")
    assert problems == (f"{problem}parentbased_traceidratio goes by 1",)


@pytest.mark.parametrize(
    ("sampler", "argument"),
    [("traceidratio", ""), ("traceidratio", " 0.5 "), ("traceidratio", "1e-3"), ("always_off", "half")],
)
def test_what_is_a_share_and_what_needs_none_is_the_sdks_to_read(sampler: str, argument: str) -> None:
    assert _chosen(sampler, argument) == (None, ())


def test_a_process_counts_a_wrong_share_as_a_wrong_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(failsafe, "_errors", Counter())
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "half")
    pipeline = providers.start(tmp_path, Settings(state_dir=tmp_path / "state"), set_global=False)
    assert pipeline.shutdown(5)
    assert failsafe.by_part(failsafe.errors()) == {"settings": 1}
    assert pipeline.recorder.sampler is None
    (line,) = capsys.readouterr().err.splitlines()
    assert "OTEL_TRACES_SAMPLER_ARG=half is no number from 0 to 1" in line
