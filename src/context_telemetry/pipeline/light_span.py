"""The light span of an operation in a pipeline of ours, and what makes spans of the SDK's kind of it.

A light span is who it is and nothing else, and even that is made up when somebody asks: its children, a propagator, the
export. When anybody but us touches it (adds an event, sets an attribute, reads what only the SDK's spans have), it goes
on as a real span of the SDK's with the same identity, so that limits, links and statuses are the SDK's business.
Untouched, it is put together for export when it has ended.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from math import inf
from random import getrandbits
from typing import TYPE_CHECKING, Any, Final, Protocol

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
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
from context_telemetry.observe.dropped_spans import RANDOM
from context_telemetry.observe.fork import renew_in_child
from context_telemetry.observe.older_sdk import counted_by
from context_telemetry.observe.opentelemetry_recorder import ERROR
from context_telemetry.pipeline import guard

if TYPE_CHECKING:
    from context_telemetry.observe.operation import Operation

SAMPLED: Final = int(TraceFlags.SAMPLED)
NO_STATE: Final = TraceState()
_ROOT: Final = SAMPLED | RANDOM
_FLAGS = {flags: TraceFlags(flags) for flags in range(4)}
_UNSET = Status(StatusCode.UNSET)
_SCOPE = InstrumentationScope(names.SCOPE, names.VERSION, names.SCHEMA_URL)
_NO_PARENT = Context()

# Held while nothing but our own is done, so that nobody's lock is taken inside of it.
_deciding = threading.RLock()


def _renew() -> None:
    global _deciding
    _deciding = threading.RLock()


renew_in_child(_renew)


class Maker(Protocol):
    """What a light span asks of its recorder."""

    def promote(self, span: LightSpan, op: Operation, attributes: Mapping[str, AttributeValue]) -> Span:
        """The SDK's span that ``span`` goes on as."""
        ...

    def assemble(self, span: LightSpan) -> ReadableSpan:
        """An ended span as the SDK would have made it."""
        ...


class LightSpan(Span):
    """The span of an operation; see above."""

    # What most spans never change stands here, as in an operation.
    maker: Maker
    op: Operation | None
    """The operation until it has finished; None from the beginning where a sampler has dropped the span."""
    above: LightSpan | SpanContext | None = None
    """The parent span, which is still going on where it is a light one."""
    flags = _ROOT
    trace_state: TraceState = NO_STATE
    real: Span | None = None
    """The SDK's span that this one goes on as."""
    ended_ns = 0
    """When it ended, in Unix time; 0: it has not. Then there is also the rest of what is exported."""
    began_ns: int
    title: str
    sort: SpanKind
    told: dict[str, AttributeValue]
    is_error: bool
    _identity: SpanContext | None = None

    def get_span_context(self) -> SpanContext:
        return self._identity or self._identify()

    def _identify(self) -> SpanContext:
        with _deciding:
            unknown: list[LightSpan] = []
            above: LightSpan | SpanContext | None = self
            while isinstance(above, LightSpan) and above._identity is None:
                unknown.append(above)
                above = above.above
            known = above._identity if isinstance(above, LightSpan) else above
            for span in reversed(unknown):
                span.above = known
                trace_id = getrandbits(128) or 1 if known is None else known.trace_id
                known = span._identity = SpanContext(
                    trace_id, getrandbits(64) or 1, False, _FLAGS[span.flags], span.trace_state
                )
            assert self._identity is not None
            return self._identity

    def __repr__(self) -> str:
        return f"LightSpan({self.get_span_context()!r})"

    def parent_identity(self) -> SpanContext | None:
        """Who the parent span is, None of a root."""
        above = self.above
        return above if above is None or isinstance(above, SpanContext) else above.get_span_context()

    def sampled(self, flags: int, state: TraceState) -> None:
        """A sampler has decided so. Nobody else knows this span yet."""
        identity = self.get_span_context()
        self.flags, self.trace_state = flags, state
        self._identity = SpanContext(identity.trace_id, identity.span_id, False, _FLAGS[flags], state)

    def is_recording(self) -> bool:
        return self.op is not None if self.real is None else self.real.is_recording()

    def promoted(self) -> Span:
        """The span that does what is asked for: the SDK's, or one that does nothing where this has ended."""
        if self.real is None:
            op = self.op
            if op is None:
                return NonRecordingSpan(self.get_span_context())
            given = op.attributes.copy()
            made = self.maker.promote(self, op, given)
            with _deciding:
                if self.real is None:  # of several threads at once, one is the first
                    self.real, op.started_with = made, given
        return self.real

    def end(self, end_time: int | None = None) -> None:
        self.promoted().end(end_time)

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        self.promoted().set_attributes(attributes)

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        self.promoted().set_attribute(key, value)

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        self.promoted().add_event(name, attributes, timestamp)

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        self.promoted().add_link(context, attributes)

    def update_name(self, name: str) -> None:
        self.promoted().update_name(name)

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        self.promoted().set_status(status, description)

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        self.promoted().record_exception(exception, attributes, timestamp, escaped)


def _forward(name: str) -> property:
    def get(span: LightSpan) -> Any:
        ended = span.real is None and span.ended_ns
        return getattr(span.maker.assemble(span) if ended else span.promoted(), name)

    return property(get)


# What the SDK's spans have besides, and neighbours read. Not by `__getattr__`: Python is slow with every attribute of a
# class that has one.
for _name in vars(ReadableSpan):
    if not _name.startswith("_") and not hasattr(LightSpan, _name):
        setattr(LightSpan, _name, _forward(_name))


class DecidedSpans(IdGenerator, Sampler):
    """Makes the SDK begin a span whose ids are taken already, and whose sampling is decided."""

    def __init__(self, resource: Resource, processors: Sequence[SpanProcessor]) -> None:
        self._now = threading.local()
        self.provider = TracerProvider(
            self,
            resource,
            shutdown_on_exit=False,
            id_generator=self,
            **counted_by(None, TracerProvider),
        )
        for processor in processors:
            self.provider.add_span_processor(processor)
        self._tracer = self.provider.get_tracer(names.SCOPE, names.VERSION, schema_url=names.SCHEMA_URL)

    def start(self, span: LightSpan, op: Operation, attributes: Mapping[str, AttributeValue]) -> Span:
        """The SDK's span of that identity, from the start of its operation."""
        self._now.identity = span.get_span_context()
        above = span.parent_identity()
        context = _NO_PARENT if above is None else set_span_in_context(NonRecordingSpan(above), _NO_PARENT)
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
        return bool(self._now.identity.trace_flags & RANDOM)

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
        if type(item) is not LightSpan:
            return item  # type: ignore[no-any-return]  # a neighbour's, or a real one of ours
        name, attributes = item.title, item.told
        kept: Attributes = attributes
        made: type[ReadableSpan] = guard.Harmless
        few = len(attributes) <= self._most and self._longest is None
        if not few or not guard.is_harmless(attributes) or guard.text(name) is not name:
            kept, made = BoundedAttributes(self._limit, attributes, True, self._longest), ReadableSpan
        # By position (events, links and a deprecated scope are left out), at half of what keywords cost.
        return made(
            name,
            item.get_span_context(),
            item.parent_identity(),
            self._tracers.resource,
            kept,
            (),
            (),
            item.sort,
            None,
            ERROR if item.is_error else _UNSET,
            item.began_ns,
            item.ended_ns,
            _SCOPE,
        )
