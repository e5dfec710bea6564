"""The recorder of a pipeline that is ours: an identity and an append on the caller's path, the rest in our threads.

The operation itself stands for its span in the context: children, propagators and samplers see a span like any other.
When anybody but us touches it (adds an event, sets an attribute, reads what only the SDK's spans have), it goes on as a
real span of the SDK's with the same identity, so that limits, links and statuses are the SDK's business. Untouched, a
span is put together for export from the finished operation.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from random import getrandbits
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider as AnyMeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import (
    ReadableSpan,
    SpanLimits,
    SpanProcessor,
    TracerProvider,
)
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Decision, Sampler, SamplingResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)
from opentelemetry.util.types import Attributes, AttributeValue

from context_telemetry.conventions import names
from context_telemetry.observe import worker
from context_telemetry.observe.fork import renew_in_child
from context_telemetry.observe.opentelemetry_recorder import ERROR, OpenTelemetryRecorder
from context_telemetry.observe.operation import SPAN_KEY, Operation
from context_telemetry.observe.points import Points

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import LoggerProvider

    from context_telemetry.pipeline.batch import Batcher

_UNSET = Status(StatusCode.UNSET)
_SCOPE = InstrumentationScope(names.SCOPE, names.VERSION, names.SCHEMA_URL)
_SAMPLED: Final = int(TraceFlags.SAMPLED)
_RANDOM: Final = int(TraceFlags.RANDOM_TRACE_ID)
_ROOT: Final = _SAMPLED | _RANDOM
_PLAIN = frozenset({str, bool, int, float})
_NOBODY = Context()

_NO_STATE = TraceState()


class OwnedRecorder(OpenTelemetryRecorder):
    """Records into ``batchers``, and counts by ``points`` (None: no metrics are asked for).

    `step_back` makes it record by the SDK's spans from then on, as its base does; ``fallbacks`` says why.
    """

    def __init__(
        self,
        tracers: TracerProvider,
        meters: AnyMeterProvider | None,
        loggers: LoggerProvider,
        points: Points | None,
        batchers: Sequence[Batcher[Any]],
        taken: Taken,
        assembly: Assembly,
    ) -> None:
        super().__init__(tracers, meters, loggers, points)
        self._assembly = assembly
        self._late: list[SpanProcessor] = []
        self.fallbacks = ()
        self._stepped_back = False
        self._add = [batcher.add for batcher in batchers]
        self._sampler: Sampler | None = None if tracers.sampler is ALWAYS_ON else tracers.sampler
        self._taken = taken
        self._renew()
        renew_in_child(self._renew)

    def _renew(self) -> None:
        self._lock = threading.RLock()

    def step_back(self, why: str, processor: SpanProcessor | None = None) -> None:
        """Record by the SDK's own spans from now on; ``processor`` sees the end of those that have begun."""
        self._stepped_back = True
        self.fell_back(why)
        if processor is not None:
            self._late.append(processor)

    def start(self, op: Operation, parent: Context) -> Span | None:
        if self._stepped_back or op.links:
            return super().start(op, parent)
        above: Any = parent.get(SPAN_KEY) if parent else None
        if above is None:
            op.trace_id, op.flags = getrandbits(128) or 1, _ROOT
        elif type(above) is Operation and above.span is None:
            op.above, op.trace_id = above, above.trace_id
            op.flags = above.flags | _SAMPLED
            if above.trace_state is not None:
                op.trace_state = above.trace_state
        else:
            self._begin_below(op, above.get_span_context())
        op.span_id = getrandbits(64) or 1
        return None if self._sampler is None else self._sampled(self._sampler, op, parent)

    def _begin_below(self, op: Operation, above: SpanContext) -> None:
        if not above.is_valid:
            op.trace_id, op.flags = getrandbits(128) or 1, _ROOT
            return
        op.above, op.trace_id, op.trace_state = above, above.trace_id, above.trace_state or None
        op.flags = above.trace_flags & _RANDOM | _SAMPLED

    def _sampled(self, sampler: Sampler, op: Operation, parent: Context) -> Span | None:
        given = op.attributes
        found = sampler.should_sample(parent, op.trace_id, op.span_name, op.kind, given, op.links)
        op.trace_state = found.trace_state or None
        if found.decision is not Decision.RECORD_AND_SAMPLE:
            op.flags &= ~_SAMPLED
        if found.decision is Decision.DROP:
            return NonRecordingSpan(self.identity(op))
        if found.decision is Decision.RECORD_ONLY or found.attributes != given:
            return self._go_on(op, found.attributes or {})
        return None

    def identity(self, op: Operation) -> SpanContext:
        found: SpanContext | None = op.identity
        if found is None:
            state = op.trace_state or _NO_STATE
            found = op.identity = SpanContext(op.trace_id, op.span_id, False, TraceFlags(op.flags), state)
        return found

    def records(self, op: Operation) -> bool:
        return not op.finished

    def real(self, op: Operation) -> Span:
        with self._lock:
            if op.span is None:
                if op.finished:
                    return NonRecordingSpan(self.identity(op))
                op.span = self._go_on(op, op.attributes)
            return op.span

    def _go_on(self, op: Operation, attributes: Mapping[str, AttributeValue]) -> Span:
        op.started_with = tuple(op.attributes.values())
        above = identity_of(op.above)
        context = _NOBODY if above is None else set_span_in_context(NonRecordingSpan(above), _NOBODY)
        return self._taken.start(op, context, attributes)

    def finish(self, op: Operation) -> None:
        if op.span is not None:
            super().finish(op)
            return
        if op.flags & _SAMPLED:
            for add in self._add:
                add(op)
            for processor in self._late:
                processor.on_end(self._assembly(op))
        self._count(op, op)  # type: ignore[arg-type]  # it stands for its span


def identity_of(above: Operation | SpanContext | None) -> SpanContext | None:
    """The identity of the span above an operation's, None of a root."""
    return above.get_span_context() if isinstance(above, Operation) else above


class Taken(IdGenerator, Sampler):
    """Makes the SDK begin a span whose ids are taken already, and whose sampling is decided."""

    def __init__(self, resource: Resource, processors: Sequence[SpanProcessor]) -> None:
        self._now = threading.local()
        self.provider = TracerProvider(self, resource, shutdown_on_exit=False, id_generator=self)
        for processor in processors:
            self.provider.add_span_processor(processor)
        self._tracer = self.provider.get_tracer(names.SCOPE, names.VERSION, schema_url=names.SCHEMA_URL)

    def start(self, op: Operation, context: Context, attributes: Mapping[str, AttributeValue]) -> Span:
        """The span that ``op`` has stood for, from its start."""
        self._now.op = op
        try:
            return self._tracer.start_span(
                op.span_name,
                context,
                op.kind,
                attributes,
                (),
                op.start_ns,
                record_exception=False,
                set_status_on_exception=False,
            )
        finally:
            self._now.op = None

    def generate_span_id(self) -> int:
        return int(self._now.op.span_id)

    def generate_trace_id(self) -> int:
        return int(self._now.op.trace_id)

    def is_trace_id_random(self) -> bool:
        return bool(self._now.op.flags & _RANDOM)

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
        op = self._now.op
        decision = Decision.RECORD_AND_SAMPLE if op.flags & _SAMPLED else Decision.RECORD_ONLY
        return SamplingResult(decision, attributes, op.trace_state or _NO_STATE)

    def get_description(self) -> str:
        return "what an operation was sampled as"


class Assembly:
    """Puts finished light spans together for export, as the SDK would have made them."""

    def __init__(self, tracers: TracerProvider) -> None:
        self._tracers = tracers
        limits = SpanLimits()
        self._most, self._longest = limits.max_span_attributes, limits.max_span_attribute_length

    def __call__(self, item: Any) -> ReadableSpan:
        if type(item) is not Operation:
            return item  # type: ignore[no-any-return]  # a neighbour's, or a real one of ours
        status = ERROR if item.error_type is not None and item.marks_error else _UNSET
        # By position (events, links and a deprecated scope are left out), at half of what keywords cost.
        return ReadableSpan(
            item.span_name,
            item.get_span_context(),
            identity_of(item.above),
            self._tracers.resource,
            self._bounded(item.attributes),
            (),
            (),
            item.kind,
            None,
            status,
            item.start_ns,
            item.start_ns + item.duration_ns,
            _SCOPE,
        )

    def _bounded(self, attributes: dict[str, AttributeValue]) -> Attributes:
        if self._longest is None and (self._most is None or len(attributes) <= self._most):
            for value in attributes.values():
                if type(value) not in _PLAIN and not (
                    type(value) is tuple and all(type(item) is str for item in value)
                ):
                    break
            else:
                return attributes
        from opentelemetry.attributes import BoundedAttributes

        return BoundedAttributes(self._most, attributes, immutable=True, max_value_len=self._longest)


class OwnedTracerProvider(TracerProvider):
    """The process's provider for neighbours' spans, which tells when somebody adds a processor of their own."""

    recorder: OwnedRecorder | None = None

    def add_span_processor(self, span_processor: SpanProcessor) -> None:
        super().add_span_processor(span_processor)
        if self.recorder is not None:
            from context_telemetry.instrumentation import report_state

            self.recorder.step_back("span_processor", span_processor)
            worker.soon(report_state)


def why_not() -> str | None:
    """Why the SDK's own spans are needed, as `fallbacks` say it; None where nobody could tell the difference."""
    if os.environ.get("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "").strip().lower() == "true":
        return "sdk_metrics"
    return None
