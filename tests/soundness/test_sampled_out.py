"""What the host's sampler can only drop is not asked of the SDK, and nobody around can tell the difference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
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


UNSAMPLED = remote("above", 0)


@pytest.mark.parametrize(
    ("sampler", "parent"),
    [
        pytest.param(ALWAYS_OFF, None, id="always off"),
        pytest.param(ALWAYS_OFF, remote("sampled", 1), id="always off, below a sampled parent"),
        pytest.param(DEFAULT_ON, UNSAMPLED, id="the default, below an unsampled parent"),
        pytest.param(ParentBased(NEVER), UNSAMPLED, id="a ratio, below an unsampled parent"),
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
    ],
    ids=["a subclass", "a static subclass", "samples below unsampled", "one in another"],
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
