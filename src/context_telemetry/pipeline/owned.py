"""The recorder of a pipeline that is ours: a light span and an append on the caller's path, the rest in our threads.

A light span is who it is and nothing else. Children, propagators and samplers see a span like any other. When anybody
but us touches it (adds an event, sets an attribute, reads what only the SDK's spans have), it goes on as a real span of
the SDK's with the same ids, so that limits, links and statuses are the SDK's business. Untouched, it is put together
from the finished record, for export.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from math import inf
from random import getrandbits
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.attributes import BoundedAttributes
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
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Decision, Sampler, SamplingResult
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
from context_telemetry.observe.opentelemetry_recorder import ERROR, QUICK_NS, OpenTelemetryRecorder
from context_telemetry.observe.operation import SPAN_KEY
from context_telemetry.observe.points import Entry, Points
from context_telemetry.pipeline import guard

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import LoggerProvider

    from context_telemetry.observe.operation import Operation
    from context_telemetry.pipeline.batch import Batcher

_UNSET = Status(StatusCode.UNSET)
_SCOPE = InstrumentationScope(names.SCOPE, names.VERSION, names.SCHEMA_URL)
_SAMPLED: Final = int(TraceFlags.SAMPLED)
_RANDOM: Final = int(TraceFlags.RANDOM_TRACE_ID)
_ROOT: Final = _SAMPLED | _RANDOM
_FLAGS = {flags: TraceFlags(flags) for flags in range(4)}
_NOBODY = Context()

_NO_STATE = TraceState()


_touching = threading.RLock()


def _renew() -> None:
    global _touching
    _touching = threading.RLock()


renew_in_child(_renew)


class LightSpan(Span):
    """The span of an operation in a pipeline of ours: who it is, and an SDK's span as soon as anybody wants more.

    Who it is is made up when somebody asks for it: its children, a propagator, or the export.
    """

    # What most spans never change stands here, as in an operation.
    recorder: OwnedRecorder
    op: Operation | None
    """The operation until it has finished; None from the beginning where a sampler has dropped the span."""
    above: LightSpan | SpanContext | None = None
    """The parent span."""
    flags = _ROOT
    trace_state: TraceState = _NO_STATE
    real: Span | None = None
    """The SDK's span that this one goes on as."""
    _identity: SpanContext | None = None

    def get_span_context(self) -> SpanContext:
        return self._identity or self._identify()

    def _identify(self) -> SpanContext:
        with _touching:
            if self._identity is None:
                above = self.parent_identity()
                trace_id = getrandbits(128) or 1 if above is None else above.trace_id
                flags = _FLAGS[self.flags]
                self._identity = SpanContext(trace_id, getrandbits(64) or 1, False, flags, self.trace_state)
            return self._identity

    def parent_identity(self) -> SpanContext | None:
        """Who the parent span is, None of a root."""
        above = self.above
        return above if above is None or isinstance(above, SpanContext) else above.get_span_context()

    def is_recording(self) -> bool:
        return self.op is not None if self.real is None else self.real.is_recording()

    def touched(self) -> Span:
        """The span that does and has what is asked for: the SDK's, or one that does nothing where this has ended."""
        with _touching:
            if self.real is None:
                if self.op is None:
                    return NonRecordingSpan(self.get_span_context())
                self.real = self.recorder.go_on(self, self.op, self.op.attributes)
            return self.real

    def end(self, end_time: int | None = None) -> None:
        self.touched().end(end_time)

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        self.touched().set_attributes(attributes)

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        self.touched().set_attribute(key, value)

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        self.touched().add_event(name, attributes, timestamp)

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        self.touched().add_link(context, attributes)

    def update_name(self, name: str) -> None:
        self.touched().update_name(name)

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        self.touched().set_status(status, description)

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        self.touched().record_exception(exception, attributes, timestamp, escaped)


def _forward(name: str) -> property:
    return property(lambda span: getattr(span.touched(), name))


# What the SDK's spans have besides, and neighbours read. Not by `__getattr__`: Python is slow with every attribute of a
# class that has one.
for _name in vars(ReadableSpan):
    if not _name.startswith("_") and not hasattr(LightSpan, _name):
        setattr(LightSpan, _name, _forward(_name))


Record = tuple[Span, str, SpanKind, dict[str, AttributeValue], int, int, bool]
"""A finished light span: itself, name, kind, attributes, start and end (Unix time in ns), whether it is an error."""


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
        self.fallbacks = ()
        self._stepped_back = False
        self._add = [batcher.add for batcher in batchers]
        self._late: list[SpanProcessor] = []
        self._sampler: Sampler | None = None if tracers.sampler is ALWAYS_ON else tracers.sampler
        self._taken, self._assembly = taken, assembly
        self._light_points = points if points is not None and points.unpacks else None

    def step_back(self, why: str, processor: SpanProcessor | None = None) -> None:
        """Record by the SDK's own spans from now on; ``processor`` sees the end of those that have begun."""
        self._stepped_back = True
        self.fell_back(why)
        if processor is not None:
            self._late.append(processor)

    def start(self, op: Operation, parent: Context) -> Span:
        if self._stepped_back or op.links:
            return super().start(op, parent)
        # Not by a constructor: to pass through the class, which is abstract above, takes longer than all of this.
        span = object.__new__(LightSpan)
        span.recorder, span.op = self, op
        if parent:
            above: Any = parent.get(SPAN_KEY)
            if type(above) is LightSpan:
                span.above, span.flags, span.trace_state = above, above.flags | _SAMPLED, above.trace_state
            elif above is not None:
                self._begin_below(span, above.get_span_context())
        if self._sampler is None:
            return span
        if self._sampler is ALWAYS_OFF:
            span.flags, span.op = span.flags & ~_SAMPLED, None
            return span
        return self._sampled(self._sampler, span, op, parent)

    def _begin_below(self, span: LightSpan, above: SpanContext) -> None:
        if above.is_valid:
            span.above, span.flags = above, above.trace_flags & _RANDOM | _SAMPLED
            span.trace_state = above.trace_state or _NO_STATE

    def _sampled(self, sampler: Sampler, span: LightSpan, op: Operation, parent: Context) -> Span:
        given, trace_id = op.attributes, span.get_span_context().trace_id
        found = sampler.should_sample(parent, trace_id, op.span_name, op.kind, given, op.links)
        flags = span.flags if found.decision is Decision.RECORD_AND_SAMPLE else span.flags & ~_SAMPLED
        state = found.trace_state or _NO_STATE
        if flags != span.flags or state != span.trace_state:
            span.flags, span.trace_state = flags, state
            span_id = span.get_span_context().span_id
            span._identity = SpanContext(trace_id, span_id, False, TraceFlags(flags), state)
        if found.decision is Decision.DROP:
            span.op = None
        elif found.decision is Decision.RECORD_ONLY or (found.attributes or {}) != given:
            span.real = self.go_on(span, op, found.attributes or {})
        return span

    def go_on(self, span: LightSpan, op: Operation, attributes: Mapping[str, AttributeValue]) -> Span:
        """The SDK's span that ``span`` is from now on."""
        op.started_with = tuple(op.attributes.values())
        above = span.parent_identity()
        context = _NOBODY if above is None else set_span_in_context(NonRecordingSpan(above), _NOBODY)
        return self._taken.start(span.get_span_context(), op, context, attributes)

    def finish(self, op: Operation) -> None:
        span = op.span
        if type(span) is not LightSpan or span.real is not None:
            super().finish(op)
            if type(span) is LightSpan:
                span.op = None
            return
        is_recorded, span.op = span.op is not None, None
        ended, is_error = op.start_ns + op.duration_ns, op.error_type is not None and op.marks_error
        record = (span, op.span_name, op.kind, op.attributes, op.start_ns, ended, is_error)
        if is_recorded:
            for add in self._add:
                add(record)
            if self._late:
                for processor in self._late:
                    processor.on_end(self._assembly(record))
        if self._light_points is not None:
            self._light_points.count_later(record)
        else:
            self._count(op, span)

    def _count(self, op: Operation, span: Span) -> None:
        if self._light_points is not None:
            ended = op.start_ns + op.duration_ns
            self._light_points.count_later(
                (span, op.span_name, op.kind, op.attributes, op.start_ns, ended, False)
            )
        else:
            super()._count(op, span)


def unpack(record: Record) -> Entry:
    """What `Points` counts of a record."""
    span, _, _, attributes, start, end, _ = record
    exemplar = span if end - start >= QUICK_NS or attributes.get(names.DATAFACE_OUTCOME) != "ok" else None
    return None, attributes, (end - start) / 1e9, exemplar, end


class Taken(IdGenerator, Sampler):
    """Makes the SDK begin a span whose ids are taken already, and whose sampling is decided."""

    def __init__(self, resource: Resource, processors: Sequence[SpanProcessor]) -> None:
        self._now = threading.local()
        self.provider = TracerProvider(self, resource, shutdown_on_exit=False, id_generator=self)
        for processor in processors:
            self.provider.add_span_processor(processor)
        self._tracer = self.provider.get_tracer(names.SCOPE, names.VERSION, schema_url=names.SCHEMA_URL)

    def start(
        self, identity: SpanContext, op: Operation, context: Context, attributes: Mapping[str, AttributeValue]
    ) -> Span:
        """A span of that identity, from the start of its operation."""
        self._now.identity = identity
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
            self._now.identity = None

    def generate_span_id(self) -> int:
        return int(self._now.identity.span_id)

    def generate_trace_id(self) -> int:
        return int(self._now.identity.trace_id)

    def is_trace_id_random(self) -> bool:
        return bool(self._now.identity.trace_flags & _RANDOM)

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
        identity = self._now.identity
        decision = Decision.RECORD_AND_SAMPLE if identity.trace_flags.sampled else Decision.RECORD_ONLY
        return SamplingResult(decision, attributes, identity.trace_state)

    def get_description(self) -> str:
        return "what a light span was sampled as"


class Assembly:
    """Puts finished light spans together for export, as the SDK would have made them."""

    def __init__(self, tracers: TracerProvider) -> None:
        self._tracers = tracers
        limits = SpanLimits()
        self._limit, self._longest = limits.max_span_attributes, limits.max_span_attribute_length
        self._most: float = inf if self._limit is None else self._limit

    def __call__(self, item: Any) -> ReadableSpan:
        if type(item) is not tuple:
            return item  # type: ignore[no-any-return]  # a neighbour's, or a real one of ours
        span, name, kind, attributes, start, end, is_error = item
        kept: Attributes = attributes
        made: type[ReadableSpan] = guard.Harmless
        few = len(attributes) <= self._most and self._longest is None
        if not few or not guard.is_harmless(attributes) or guard.text(name) is not name:
            kept, made = BoundedAttributes(self._limit, attributes, True, self._longest), ReadableSpan
        # By position (events, links and a deprecated scope are left out), at half of what keywords cost.
        return made(
            name,
            span.get_span_context(),
            span.parent_identity(),
            self._tracers.resource,
            kept,
            (),
            (),
            kind,
            None,
            ERROR if is_error else _UNSET,
            start,
            end,
            _SCOPE,
        )


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
