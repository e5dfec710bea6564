"""Spans that the host's sampler can only drop: they are told from its rule, and the SDK is not asked to make them.

To make a span that records nothing takes the SDK half of what a whole sampled-out call costs here. Two rules of its own
are known, by their code and by what they say of themselves: always off, and parent-based below a parent that is not
sampled. Any other sampler is asked each time, and what it drops is the SDK's business.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, get_current_span

from context_telemetry.observe import older_sdk
from context_telemetry.observe.fork import before_fork
from context_telemetry.observe.operation import SPAN_KEY

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.id_generator import IdGenerator

Dropping = Callable[[Context], "DroppedSpan | None"]
"""The span below a context where it can only be dropped; None where the sampler is to be asked."""

# OpenTelemetry before 1.42 has no such flag, and id generators that say nothing of it.
RANDOM: Final = int(getattr(TraceFlags, "RANDOM_TRACE_ID", 0))
_COUNTS = "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED"
_BELOW_UNSAMPLED = ("_remote_parent_not_sampled", "_local_parent_not_sampled")

# Who it is is not to be made up twice, in a parent and in its child.
before_fork(lambda: get_current_span().get_span_context())


class DroppedSpan(NonRecordingSpan):
    """A span that nobody records. Who it is, is made up when somebody asks: a propagator, a span below, a logger."""

    ids: IdGenerator
    first: DroppedSpan | SpanContext | None = None
    """The first span of the trace that was dropped, or the parent of that one; None: this is the trace's first."""
    _identity: SpanContext | None = None

    def get_span_context(self) -> SpanContext:
        if self._identity is not None:
            return self._identity
        ids, first = self.ids, self.first
        if isinstance(first, DroppedSpan):
            first = first.get_span_context()
        if first is None:
            trace_id, state = ids.generate_trace_id(), None
            random = RANDOM if RANDOM and ids.is_trace_id_random() else 0
        else:
            trace_id, state, random = first.trace_id, first.trace_state, first.trace_flags & RANDOM
        made = SpanContext(trace_id, ids.generate_span_id(), False, TraceFlags(random), state)
        # Of several threads that ask at once, the first one says it.
        return self.__dict__.setdefault("_identity", made)  # type: ignore[no-any-return]  # one that was made here

    def __repr__(self) -> str:
        return f"DroppedSpan({self.get_span_context()!r})"


def dropping(tracer: Any) -> Dropping | None:
    """What drops spans in place of ``tracer``; None where it is not the SDK's own, or its sampler may keep any."""
    sdk: Any = sys.modules.get("opentelemetry.sdk.trace")
    if sdk is None or type(tracer) is not sdk.Tracer or sdk_counts_spans() or older_sdk.counts_unasked():
        return None
    if not getattr(tracer, "_is_enabled", lambda: True)():  # it hands on the parent's span
        return None
    always = drops_all(tracer.sampler)
    if always or drops_below_dropped(tracer.sampler):
        return _dropped(tracer.id_generator, always=always)
    return None


def drops_all(sampler: Any) -> bool:
    """Whether it is known to drop every span."""
    return _decides_as(sampler, "StaticSampler") and sampler.get_description() == "AlwaysOffSampler"


def drops_below_dropped(sampler: Any) -> bool:
    """Whether it is known to drop whatever has a parent that is not sampled."""
    return _decides_as(sampler, "ParentBased") and all(
        drops_all(getattr(sampler, each, None)) for each in _BELOW_UNSAMPLED
    )


def _decides_as(sampler: Any, name: str) -> bool:
    # Not by its class alone: the SDK's configurator makes some that have one of their own and change nothing.
    kind = getattr(sys.modules.get("opentelemetry.sdk.trace.sampling"), name, None)
    return kind is not None and getattr(type(sampler), "should_sample", None) is kind.should_sample


def sdk_counts_spans() -> bool:
    """Whether the SDK is asked to count the spans that it begins, dropped ones included."""
    return os.environ.get(_COUNTS, "").strip().lower() == "true"


def _dropped(ids: IdGenerator, *, always: bool) -> Dropping:
    """What drops every span, or those that have a parent which is not sampled."""

    def dropped(parent: Context) -> DroppedSpan | None:
        above: Any = parent.get(SPAN_KEY) if parent else None
        first: DroppedSpan | SpanContext | None = None
        if type(above) is DroppedSpan:
            first = above.first or above
        elif above is not None and (always or type(above) is NonRecordingSpan):
            known = above.get_span_context()
            first = known if known.is_valid and (always or not known.trace_flags.sampled) else None
        if first is None and not always:
            return None
        # Not by a constructor: to pass through an abstract class takes longer than all of this.
        span = object.__new__(DroppedSpan)
        span.ids, span.first = ids, first
        return span

    return dropped
