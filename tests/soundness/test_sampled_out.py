"""What the host's sampler can only drop is not asked of the SDK, and nobody around can tell the difference."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from missing import take_away
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk import trace as sdk_trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import Tracer, TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    DEFAULT_ON,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    StaticSampler,
    TraceIdRatioBased,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from context_telemetry import Operation, context_build
from context_telemetry.observe import recorder
from context_telemetry.observe.dropped_spans import DroppedSpan, dropping
from soundness.observing import LIBRARY, started
from soundness.telemetry import exemplars, series
from soundness.workload import remote

NEVER = TraceIdRatioBased(0.0)
_STATE = "vendor=1"


class CountedIds(RandomIdGenerator):
    """Ids whose making is counted: the SDK makes one for every span, also for those that it drops."""

    def __init__(self) -> None:
        self.made = 0

    def generate_span_id(self) -> int:
        self.made += 1
        return super().generate_span_id()


class Asked(Sampler):
    """Counts how often it is asked, and drops everything."""

    def __init__(self) -> None:
        self.times = 0

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        self.times += 1
        return SamplingResult(Decision.DROP)

    def get_description(self) -> str:
        return "AlwaysOffSampler"


class OwnParentBased(ParentBased):
    """Says what its base says, and does what it likes."""

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        return ALWAYS_ON.should_sample(*args, **kwargs)


class Reworded(ParentBased):
    """As a release that says the same in other words."""

    def get_description(self) -> str:
        return "by the parent"


class OwnStatic(StaticSampler):
    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        return ALWAYS_ON.should_sample(*args, **kwargs)


def _host(sampler: Sampler) -> tuple[TracerProvider, CountedIds]:
    ids = CountedIds()
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False, id_generator=ids)
    recorder.use(provider)
    _under(UNSAMPLED, 0)  # the sampler is looked at once it has dropped something
    ids.made = 0
    return provider, ids


@context_build
def _call(depth: int = 0) -> list[trace.Span]:
    """The spans that were current inside of each call, from the outermost."""
    return [trace.get_current_span(), *(_call(depth - 1) if depth else ())]


def _under(parent: trace.SpanContext, depth: int) -> list[trace.Span]:
    with trace.use_span(trace.NonRecordingSpan(parent)):
        return _call(depth)


def _named(name: str) -> Sampler:
    """The sampler that the SDK's own configurator makes of this word."""
    (point,) = entry_points(group="opentelemetry_traces_sampler", name=name)
    made = point.load()(0.0)
    assert isinstance(made, Sampler)
    return made


UNSAMPLED = remote("above", 0)


@pytest.mark.parametrize(
    ("sampler", "parent"),
    [
        pytest.param(ALWAYS_OFF, None, id="always off"),
        pytest.param(ALWAYS_OFF, remote("sampled", 1), id="always off, below a sampled parent"),
        pytest.param(DEFAULT_ON, UNSAMPLED, id="the default, below an unsampled parent"),
        pytest.param(ParentBased(NEVER), UNSAMPLED, id="a ratio, below an unsampled parent"),
        pytest.param(_named("always_off"), None, id="always off, as the environment names it"),
        pytest.param(_named("parentbased_always_on"), UNSAMPLED, id="the default, by its name"),
        pytest.param(_named("parentbased_traceidratio"), UNSAMPLED, id="a ratio, by its name"),
    ],
)
def test_a_span_that_can_only_be_dropped_is_not_asked_of_the_sdk(
    sampler: Sampler, parent: trace.SpanContext | None
) -> None:
    _, ids = _host(sampler)
    spans = _call(3) if parent is None else _under(parent, 3)
    assert ids.made == 0
    assert {type(span) for span in spans} == {DroppedSpan}
    assert not any(span.get_span_context().trace_flags.sampled for span in spans)


def test_below_a_root_that_a_ratio_has_dropped_the_sdk_is_asked_for_the_root_alone() -> None:
    _, ids = _host(ParentBased(NEVER))
    spans = _call(4)
    assert ids.made == 1
    assert [type(span) for span in spans] == [trace.NonRecordingSpan, *[DroppedSpan] * 4]


@pytest.mark.parametrize(
    "parent", [None, remote("sampled", 1), UNSAMPLED], ids=["root", "sampled", "unsampled"]
)
@pytest.mark.parametrize(
    "sampler", [ALWAYS_OFF, DEFAULT_ON, ParentBased(NEVER)], ids=lambda each: each.get_description()[:24]
)
def test_what_a_call_hands_on_is_what_the_sdk_would_hand_on(
    sampler: Sampler, parent: trace.SpanContext | None
) -> None:
    provider, _ = _host(sampler)
    tracer = provider.get_tracer("by hand")

    def by_hand(depth: int) -> list[trace.Span]:
        with tracer.start_as_current_span("call") as span:
            return [span, *(by_hand(depth - 1) if depth else ())]

    def form(spans: Sequence[trace.Span]) -> list[tuple[object, ...]]:
        contexts = [span.get_span_context() for span in spans]
        assert len({each.span_id for each in contexts} | {parent.span_id if parent else 0}) == len(spans) + 1
        (trace_id,) = {each.trace_id for each in contexts}
        assert contexts == [span.get_span_context() for span in spans]  # whoever asks again
        return [
            (
                None if parent is None else each.trace_id == parent.trace_id,
                each.is_valid,
                each.is_remote,
                int(each.trace_flags),
                each.trace_state.to_header(),
                bool(trace_id),
            )
            for each in contexts
        ]

    if parent is None:
        assert form(_call(2)) == form(by_hand(2))
        return
    parent = trace.SpanContext(
        parent.trace_id, parent.span_id, True, parent.trace_flags, trace.TraceState.from_header([_STATE])
    )
    ours = _under(parent, 2)
    with trace.use_span(trace.NonRecordingSpan(parent)):
        assert form(ours) == form(by_hand(2))
    carrier: dict[str, str] = {}
    with trace.use_span(ours[-1]):
        TraceContextTextMapPropagator().inject(carrier)
    assert carrier["tracestate"] == _STATE


def test_a_hosts_own_span_between_two_dropped_ones_is_dropped_with_them() -> None:
    provider, _ = _host(DEFAULT_ON)
    tracer = provider.get_tracer("host")

    @context_build
    def outer() -> tuple[trace.Span, trace.Span, trace.Span]:
        with tracer.start_as_current_span("host's") as between:
            return trace.get_current_span(), between, _call()[0]

    with trace.use_span(trace.NonRecordingSpan(UNSAMPLED)):
        spans = outer()
    assert {span.get_span_context().trace_id for span in spans} == {UNSAMPLED.trace_id}
    assert not any(span.get_span_context().trace_flags.sampled for span in spans)
    assert type(spans[2]) is DroppedSpan


def test_a_parent_that_is_recorded_and_not_sampled_is_not_written_on() -> None:
    """`RECORD_ONLY`: what is below is dropped, and the parent is the host's."""

    class RecordOnly(Sampler):
        def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
            return SamplingResult(Decision.RECORD_ONLY)

        def get_description(self) -> str:
            return "records only"

    provider, _ = _host(ParentBased(RecordOnly()))
    with provider.get_tracer("host").start_as_current_span("host's") as above:
        (span,) = _call()
        assert above.is_recording()
    assert not span.get_span_context().trace_flags.sampled
    assert dict(above.attributes) == {}  # type: ignore[attr-defined]  # the SDK's


def test_a_sampler_that_only_says_what_the_sdks_say_is_asked_every_time() -> None:
    asked = Asked()
    _host(asked)
    asked.times = 0
    _call(2)
    assert asked.times == 3


@pytest.mark.parametrize(
    "sampler",
    [
        OwnParentBased(ALWAYS_OFF),
        OwnStatic(Decision.DROP),
        ParentBased(ALWAYS_OFF, remote_parent_not_sampled=ALWAYS_ON),
        ParentBased(ParentBased(ALWAYS_OFF), remote_parent_not_sampled=ALWAYS_ON),
        ParentBased(ALWAYS_OFF, remote_parent_not_sampled=OwnStatic(Decision.DROP)),
        Reworded(ALWAYS_OFF, remote_parent_not_sampled=ALWAYS_ON),
    ],
    ids=[
        "a subclass",
        "a static subclass",
        "samples below unsampled",
        "one in another",
        "a static subclass in it",
        "in other words",
    ],
)
def test_a_sampler_that_keeps_what_others_drop_keeps_it(sampler: Sampler) -> None:
    provider, _ = _host(sampler)
    assert dropping(provider.get_tracer("any")) is None
    assert all(span.get_span_context().trace_flags.sampled for span in _under(UNSAMPLED, 2))


def test_where_the_sdk_counts_its_spans_it_is_asked_for_dropped_ones_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    _, ids = _host(ALWAYS_OFF)
    _call(2)
    assert ids.made == 3


@pytest.mark.skipif(not hasattr(sdk_trace, "_TracerConfig"), reason="this SDK switches no tracer off")
def test_a_tracer_that_is_switched_off_hands_on_what_the_sdk_hands_on() -> None:
    provider = TracerProvider(
        sampler=ALWAYS_OFF,
        shutdown_on_exit=False,
        _tracer_configurator=lambda scope: sdk_trace._TracerConfig(is_enabled=False),
    )
    recorder.use(provider)
    _under(UNSAMPLED, 0)
    assert [span.get_span_context() for span in _under(UNSAMPLED, 2)] == [UNSAMPLED] * 3


def test_an_operation_that_began_when_there_was_no_provider_hides_no_sampler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A host whose providers come after its first operation."""
    recorder.forget()
    monkeypatch.setattr(recorder, "_default", None)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    Operation("context.build").finish()
    ids = CountedIds()
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False, id_generator=ids)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    _call()
    ids.made = 0
    assert {type(span) for span in _call(1)} == {DroppedSpan}
    assert ids.made == 0


def test_a_chain_of_tasks_that_each_start_the_next_one_has_no_depth_where_all_are_dropped() -> None:
    _host(ALWAYS_OFF)
    context, spans = Context(), []
    for _ in range(5_000):
        op = Operation("context.build", context=context)
        context = op.context
        op.finish()
        spans.append(op.span)
    assert spans[-1].get_span_context().trace_id == spans[0].get_span_context().trace_id


def test_a_dropped_span_can_be_looked_at_like_any_other() -> None:
    _host(ALWAYS_OFF)
    (span,) = _call()
    sdks = trace.NonRecordingSpan(span.get_span_context())
    assert f"{span.get_span_context()!r}" in repr(span)
    for name in dir(sdks):
        if not name.startswith("_"):
            assert callable(getattr(span, name)) == callable(getattr(sdks, name)), name
    span.set_attribute("a", 1)
    span.add_event("b")
    span.record_exception(ValueError("c"))
    span.end()
    assert not span.is_recording()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_call_that_forks_is_one_call_in_parent_and_child_where_it_is_dropped() -> None:
    _host(ALWAYS_OFF)
    reads, writes = os.pipe()

    @context_build
    def forks() -> trace.Span:
        child = os.fork()
        if child == 0:
            os.write(writes, f"{trace.get_current_span().get_span_context().span_id:x}".encode())
            os._exit(0)
        os.waitpid(child, 0)
        return trace.get_current_span()

    assert f"{forks().get_span_context().span_id:x}" == os.read(reads, 100).decode()


def test_a_sampler_that_cannot_be_looked_at_costs_no_count() -> None:
    class Raising(StaticSampler):
        def get_description(self) -> str:
            raise LookupError

    reader = InMemoryMetricReader()
    recorder.use(
        TracerProvider(sampler=Raising(Decision.DROP), shutdown_on_exit=False),
        MeterProvider([reader], shutdown_on_exit=False),
    )
    _call()
    _call()
    batch = reader.get_metrics_data()
    assert batch is not None
    assert [point.value for key, _, point in series(batch) if key[0] == "dataface.context.served"] == [2]


@pytest.mark.parametrize("name", LIBRARY)
def test_a_call_that_is_not_sampled_takes_no_exemplar_from_one_that_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "3600000")

    @context_build
    def fails() -> None:
        raise LookupError

    def under(parent: trace.SpanContext) -> None:
        with trace.use_span(trace.NonRecordingSpan(parent)), suppress(LookupError):
            fails()

    with started(name, tmp_path) as made:
        delta = made.readers.kept["delta"]
        under(remote("first", 1))  # then its series is there
        delta.collect()
        under(remote("sampled", 1))
        under(UNSAMPLED)
        delta.collect()
        found = {exemplar.trace_id for _, _, exemplar in exemplars(delta.batches[-1:])}
    assert found == {remote("sampled", 1).trace_id}


@pytest.mark.parametrize("name", ["_remote_parent_not_sampled", "_local_parent_not_sampled"])
def test_where_the_sdk_has_renamed_what_tells_a_rule_it_is_asked_for_each_span(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    take_away(monkeypatch, ParentBased, name)
    _, ids = _host(ParentBased(ALWAYS_ON))
    _under(UNSAMPLED, 2)
    assert ids.made == 3


def test_where_the_sdk_has_renamed_what_tells_whether_a_tracer_is_on_it_is_taken_to_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    take_away(monkeypatch, Tracer, "_is_enabled")
    _, ids = _host(ALWAYS_OFF)
    _call(2)
    assert ids.made == 0


def test_a_sampler_that_raises_costs_the_span_and_leaves_the_hosts_trace_whole() -> None:
    class Raising(Sampler):
        def should_sample(self, context: Any, trace_id: int, name: str, *args: Any) -> SamplingResult:
            if name == "context.build":
                raise LookupError
            return ALWAYS_ON.should_sample(context, trace_id, name, *args)

        def get_description(self) -> str:
            return "raises"

    provider = TracerProvider(sampler=Raising(), shutdown_on_exit=False)
    recorder.use(provider)
    tracer = provider.get_tracer("host")

    @context_build
    def call() -> trace.Span:
        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier)
        assert f"{outer.get_span_context().span_id:016x}" in carrier["traceparent"]
        return tracer.start_span("below")

    with tracer.start_as_current_span("outer") as outer:
        below = call()
        assert outer.is_recording()
    assert below.parent == outer.get_span_context()  # type: ignore[attr-defined]  # the SDK's
    assert dict(outer.attributes) == {}  # type: ignore[attr-defined]
