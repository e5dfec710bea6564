"""The recorder of a pipeline that is ours: a light span and an append on the caller's path, the rest in our threads.

What cannot be ours (a neighbour's span processor, the SDK's metrics of spans, an id generator that the operator has
named) makes it step back to the SDK's spans.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider as AnyMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Decision, Sampler
from opentelemetry.trace import Span, SpanContext
from opentelemetry.util.types import AttributeValue

from context_telemetry.conventions import names
from context_telemetry.observe import failsafe, lost_spans, worker
from context_telemetry.observe.dropped_spans import RANDOM, drops_all, drops_below_dropped, sdk_counts_spans
from context_telemetry.observe.opentelemetry_recorder import QUICK_NS, OpenTelemetryRecorder
from context_telemetry.observe.operation import SPAN_KEY
from context_telemetry.observe.points import Entry, Points
from context_telemetry.pipeline import histograms
from context_telemetry.pipeline.light_span import (
    NO_STATE,
    SAMPLED,
    Assembly,
    DecidedSpans,
    LightSpan,
)

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import LoggerProvider

    from context_telemetry.observe.operation import Operation
    from context_telemetry.pipeline.batch import Batcher
    from context_telemetry.pipeline.components import Components


class OwnedRecorder(OpenTelemetryRecorder):
    """Records into ``batchers``, and counts by ``points`` (None: no metrics are asked for).

    `step_back` makes it record by the SDK's spans from then on, as its base does; ``fallbacks`` says why.
    """

    comes_first = True

    def __init__(
        self,
        tracers: TracerProvider,
        meters: AnyMeterProvider | None,
        loggers: LoggerProvider,
        points: Points | None,
        batchers: Sequence[Batcher[Any]],
        decided: DecidedSpans,
        assembly: Assembly,
    ) -> None:
        super().__init__(tracers, meters, loggers, points)
        self.fallbacks = ()
        self._stepped_back = False
        self._add = [batcher.add for batcher in batchers]
        self._late: list[SpanProcessor] = []
        self._sampler: Sampler | None = None if tracers.sampler is ALWAYS_ON else tracers.sampler
        self._drops_all = drops_all(tracers.sampler)
        self._drops_below_dropped = drops_below_dropped(tracers.sampler)
        self._decided = decided
        self.assemble: Callable[[LightSpan], ReadableSpan] = assembly
        self._own_points = points

    def step_back(self, why: str, processor: SpanProcessor | None = None) -> None:
        """Record by the SDK's own spans from now on; ``processor`` sees the end of those that have begun."""
        self._stepped_back = True
        self.fell_back(why)
        if processor is not None:
            self._late.append(_Late(processor))
            self._decided.provider.add_span_processor(self._late[-1])

    def start(self, op: Operation, parent: Context) -> Span:
        if self._stepped_back or op.links:
            return super().start(op, parent)
        # Not by a constructor: to pass through the class, which is abstract above, takes longer than all of this.
        span = object.__new__(LightSpan)
        span.maker, span.op = self, op
        if parent:
            above: Any = parent.get(SPAN_KEY)
            if type(above) is LightSpan:
                # One that has ended is let go: its children's children would make a chain without an end.
                span.above = above if above.op is not None else above.get_span_context()
                span.flags, span.trace_state = above.flags | SAMPLED, above.trace_state
            elif above is not None:
                self._begin_below(span, above.get_span_context())
        if self._sampler is None:
            return span
        if self._drops_all or (self._drops_below_dropped and _is_below_dropped(span)):
            span.flags, span.op = span.flags & ~SAMPLED, None
            return span
        try:
            return self._sampled(self._sampler, span, op, parent)
        except Exception as error:
            return lost_spans.at_start(error, parent)

    def _begin_below(self, span: LightSpan, above: SpanContext) -> None:
        if above.is_valid:
            span.above, span.flags = above, above.trace_flags & RANDOM | SAMPLED
            span.trace_state = above.trace_state or NO_STATE

    def _sampled(self, sampler: Sampler, span: LightSpan, op: Operation, parent: Context) -> Span:
        given, trace_id = op.attributes, span.get_span_context().trace_id
        found = sampler.should_sample(parent, trace_id, op.span_name, op.kind, given, op.links)
        flags = span.flags if found.decision is Decision.RECORD_AND_SAMPLE else span.flags & ~SAMPLED
        state = found.trace_state or NO_STATE
        if flags != span.flags or state != span.trace_state:
            span.sampled(flags, state)
        if found.decision is Decision.DROP:
            span.op = None
        elif found.decision is Decision.RECORD_ONLY or (found.attributes or {}) != given:
            op.started_with = given.copy()
            span.real = self.promote(span, op, found.attributes or {})
        return span

    def promote(self, span: LightSpan, op: Operation, attributes: Mapping[str, AttributeValue]) -> Span:
        """The SDK's span that ``span`` goes on as."""
        return self._decided.start(span, op, attributes)

    def finish(self, op: Operation) -> None:
        span = op.span
        if type(span) is not LightSpan or span.real is not None:
            super().finish(op)
            if type(span) is LightSpan:
                span.op = None
            return
        is_recorded, span.op = span.op is not None, None
        # A copy: whoever still tells the operation something is too late.
        span.title, span.sort, span.told = op.span_name, op.kind, op.attributes.copy()
        span.is_error = op.error_type is not None and op.marks_error
        span.began_ns, span.ended_ns = op.start_ns, op.start_ns + op.duration_ns
        if is_recorded:
            for add in self._add:
                add(span)
        if self._own_points is not None:
            self._own_points.count(span)
        elif self._metered or self._is_metered():
            self._points.count(unpack(span))
        if is_recorded and self._late:
            self._show_late(span)

    def _show_late(self, span: LightSpan) -> None:
        ended = self.assemble(span)
        for processor in self._late:
            processor.on_end(ended)


class _Late(SpanProcessor):
    """A processor that came while calls went on. Ours stand before it: what it raises costs no span and no call."""

    def __init__(self, theirs: SpanProcessor) -> None:
        self._theirs = theirs

    def on_start(self, span: SdkSpan, parent_context: Context | None = None) -> None:
        try:
            self._theirs.on_start(span, parent_context)
        except Exception as error:
            lost_spans.kept_all_the_same(error)

    def on_end(self, span: ReadableSpan) -> None:
        try:
            self._theirs.on_end(span)
        except Exception as error:
            lost_spans.kept_all_the_same(error)


def _is_below_dropped(span: LightSpan) -> bool:
    above = span.above
    if above is None:
        return False
    return not (above.flags if isinstance(above, LightSpan) else above.trace_flags) & SAMPLED


def unpack(item: LightSpan | Entry) -> Entry:
    """What `Points` counts of an ended light span, by the base's rule; of any other span it was given the entry."""
    if type(item) is not LightSpan:
        return cast("Entry", item)
    took = item.ended_ns - item.began_ns
    is_shown = item.flags & SAMPLED and (took >= QUICK_NS or item.told.get(names.DATAFACE_OUTCOME) != "ok")
    exemplar = item.get_span_context() if is_shown else None
    return item.told, took / 1e9, exemplar, item.ended_ns


class OwnedTracerProvider(TracerProvider):
    """The process's provider for neighbours' spans, which tells when somebody adds a processor of their own."""

    recorder: OwnedRecorder | None = None

    def add_span_processor(self, span_processor: SpanProcessor) -> None:
        super().add_span_processor(span_processor)
        if self.recorder is not None:
            from context_telemetry.instrumentation import report_state

            self.recorder.step_back("span_processor", span_processor)
            worker.soon(report_state)


class OwnedMeterProvider(MeterProvider):
    """The process's provider for neighbours' metrics; a reader that somebody adds has our histograms too."""

    histograms: histograms.Histograms | None = None
    points: Points | None = None

    if hasattr(MeterProvider, "add_metric_reader"):  # since OpenTelemetry 1.43

        def add_metric_reader(self, metric_reader: MetricReader) -> None:
            super().add_metric_reader(metric_reader)
            if self.histograms is not None and self.points is not None:
                self.points.take_over()  # what came before it is not for it
                if histograms.why_not(self, [metric_reader]) is None:
                    self.histograms.attach(self, [metric_reader])
                else:
                    failsafe.warn(
                        "a metric reader was added that cannot be given the histograms of this library"
                    )


def why_not(chosen: Components) -> tuple[str, ...]:
    """Why the SDK's own spans are needed, as `fallbacks` say it; empty where nobody could tell the difference."""
    reasons = {
        "sdk_metrics": sdk_counts_spans(),
        "id_generator": chosen.id_generator is not None,
        "configurator": "tracer" in chosen.configurators,
    }
    return tuple(reason for reason, is_so in reasons.items() if is_so)


def why_not_histograms(
    chosen: Components, provider: MeterProvider, readers: Sequence[MetricReader]
) -> str | None:
    """Why the SDK's own histograms are needed, likewise; None: not."""
    return "configurator" if "meter" in chosen.configurators else histograms.why_not(provider, readers)
