"""From records to telemetry: the one small interface behind which a recorder makes spans, metrics and events.

`OpenTelemetryRecorder` uses any providers through the public API. Which instruments exist, what they count and by
which attributes is the conventions' table; this module only walks it. It knows no operations and no Dataface.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import opentelemetry.metrics
import opentelemetry.metrics._internal as _metrics_globals
import opentelemetry.trace
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Histogram, MeterProvider, Observation
from opentelemetry.trace import INVALID_SPAN, Span, Status, StatusCode, TracerProvider, set_span_in_context
from opentelemetry.util.types import AttributeValue

from context_telemetry.conventions import names
from context_telemetry.conventions.metric import Metric
from context_telemetry.observe import failsafe

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider

    from context_telemetry.limits import CompiledLimits
    from context_telemetry.observe.operation import Operation

_ERROR = Status(StatusCode.ERROR)
_OTHER = "_OTHER"
# Label sets are remembered by the raw values that they were made from. Clients can vary those: forget at this many.
_REMEMBERED = 4_096


class Recorder(Protocol):
    """What `observe` hands its records to. No method raises."""

    def start(self, op: Operation, parent: Context | None) -> Span:
        """Begin the span of ``op``, as a child of ``parent`` (default: the current context)."""
        ...

    def finish(self, op: Operation) -> None:
        """Take over the finished record."""
        ...

    def event(self, name: str, attributes: Mapping[str, AttributeValue], warning: bool) -> None:
        """Emit one event of the conventions."""
        ...


class OpenTelemetryRecorder:
    """Spans, metric points and events through the OpenTelemetry API, by default to the process's own providers."""

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        logger_provider: LoggerProvider | None = None,
    ) -> None:
        self._tracer = opentelemetry.trace.get_tracer(
            names.SCOPE, names.VERSION, tracer_provider, schema_url=names.SCHEMA_URL
        )
        self._logger_provider = logger_provider
        self._logger: Any = None
        self._metered = meter_provider is not None
        self._points = _Points(
            opentelemetry.metrics.get_meter(
                names.SCOPE, names.VERSION, meter_provider, schema_url=names.SCHEMA_URL
            )
        )

    def start(self, op: Operation, parent: Context | None) -> Span:
        return self._tracer.start_span(
            op.span_name,
            parent,
            op.kind,
            op.attributes,
            op.links,
            op.start_ns,
            record_exception=False,
            set_status_on_exception=False,
        )

    def finish(self, op: Operation) -> None:
        span = op.span
        if span.is_recording():
            span.set_attributes(op.attributes)
            if op.error_type is not None:
                span.set_status(_ERROR)
        if self._metered or _metrics_globals._METER_PROVIDER is not None:
            self._points.span(op.attributes, op.duration_ns / 1e9, set_span_in_context(span))
        span.end(op.start_ns + op.duration_ns)

    def event(self, name: str, attributes: Mapping[str, AttributeValue], warning: bool) -> None:
        from opentelemetry import _logs

        if self._logger is None:
            self._logger = _logs.get_logger(
                names.SCOPE, names.VERSION, self._logger_provider, names.SCHEMA_URL
            )
        severity = _logs.SeverityNumber.WARN if warning else _logs.SeverityNumber.INFO
        self._logger.emit(
            event_name=name,
            attributes=dict(attributes),
            severity_number=severity,
            severity_text=severity.name,
        )
        self._points.event(name, attributes)


class _Series:
    """One set of labels of one metric, with its running value where the SDK asks for it."""

    __slots__ = ("labels", "value")

    def __init__(self, labels: dict[str, AttributeValue]) -> None:
        self.labels = labels
        self.value: float = 0


@dataclass(frozen=True)
class _Step:
    """One metric that counts spans of a certain shape: where its labels come from, and what guards them."""

    metric: Metric
    labels: tuple[tuple[str, str], ...]
    sources: tuple[str, ...]


class _Points:
    """The metric points of records and events, as the conventions' table derives them.

    Which metrics count a span depends on which attributes it has, so that is decided once per shape. Counters and
    gauges are numbers of ours that the SDK asks for when it collects: a fifth of the cost of telling it each time.
    """

    def __init__(self, meter: opentelemetry.metrics.Meter) -> None:
        self._lock = threading.Lock()
        self._plans: dict[tuple[object, ...], tuple[_Step, ...]] = {}
        self._remembered: dict[tuple[object, ...], _Series] = {}
        self._series: dict[str, dict[tuple[object, ...], _Series]] = {
            metric.name: {} for metric in names.METRICS
        }
        self._histograms: dict[str, Histogram] = {}
        for metric in names.METRICS:
            name, unit, brief = metric.name, metric.unit, metric.brief
            if metric.instrument == "histogram":
                self._histograms[name] = meter.create_histogram(
                    name, unit, brief, explicit_bucket_boundaries_advisory=metric.boundaries
                )
            elif metric.instrument == "counter":
                meter.create_observable_counter(name, [self._observer(name)], unit, brief)
            else:
                meter.create_observable_gauge(name, [self._observer(name)], unit, brief)

    def span(self, attributes: Mapping[str, AttributeValue], duration: float, context: Context) -> None:
        """Count one finished span."""
        shape = (attributes.get(names.DATAFACE_ENTRY), *attributes)
        steps = self._plans.get(shape)
        if steps is None:
            steps = self._plan("span", attributes)
            if len(self._plans) >= _REMEMBERED:
                self._plans.clear()
            self._plans[shape] = steps
        for step in steps:
            metric = step.metric
            raw = (metric.name, *[attributes.get(source) for source in step.sources])
            series = self._remembered.get(raw)
            if series is None:
                series = self._remember(raw, step, attributes)
            if metric.instrument == "histogram":
                value = duration if metric.value == "duration" else attributes[str(metric.value)]
                self._histograms[metric.name].record(value, series.labels, context)  # type: ignore[arg-type]  # a number
                continue
            if metric.each is None:
                self._add(series, _number(metric.value, attributes))
                continue
            for item in attributes[metric.each]:  # type: ignore[union-attr]  # `each` names a list attribute
                label = next(label for label, source in step.labels if source == metric.each)
                self._add(
                    self._canonical(metric.name, {**series.labels, label: item}),
                    _number(metric.value, attributes),
                )

    def event(self, name: str, attributes: Mapping[str, AttributeValue]) -> None:
        """Take over what an event says: gauges and cumulative numbers are set, durations recorded."""
        for metric in names.METRICS:
            if (
                metric.source != "event"
                or metric.when.get("event") != name
                or not _applies(metric, attributes)
            ):
                continue
            labels = {each: attributes[each] for each in metric.attributes if each in attributes}
            if metric.parts is not None and metric.each is not None:
                for part, attribute in metric.parts.items():
                    self._set(
                        self._canonical(metric.name, {**labels, metric.each: part}), attributes[attribute]
                    )
            elif metric.instrument == "histogram":
                self._histograms[metric.name].record(attributes[str(metric.value)], labels)  # type: ignore[arg-type]
            else:
                self._set(self._canonical(metric.name, labels), attributes[str(metric.value)])

    def _plan(self, source: str, attributes: Mapping[str, AttributeValue]) -> tuple[_Step, ...]:
        steps = []
        for metric in names.METRICS:
            if metric.source != source or not _applies(metric, attributes):
                continue
            read_from = metric.read_from or {}
            labels = tuple((label, read_from.get(label, label)) for label in metric.attributes)
            guards = [
                guard
                for label, _ in labels
                if label in names.BOUNDS
                for guard, _ in names.BOUNDS[label].unless
            ]
            exploded = () if metric.each is None else (metric.each,)
            sources = [each for each in (*[source for _, source in labels], *guards) if each not in exploded]
            steps.append(_Step(metric, labels, tuple(dict.fromkeys(sources))))
        return tuple(steps)

    def _remember(
        self, raw: tuple[object, ...], step: _Step, attributes: Mapping[str, AttributeValue]
    ) -> _Series:
        labels: dict[str, AttributeValue] = {}
        for label, source in step.labels:
            value = attributes.get(source)
            if value is None or source == step.metric.each:
                continue
            if isinstance(value, (tuple, list)):
                value = value[0]
            labels[label] = value if _may_label(label, value, attributes) else _OTHER
        # Where a list is exploded, these are only the labels that its items have in common, no series of their own.
        series = (
            _Series(labels) if step.metric.each is not None else self._canonical(step.metric.name, labels)
        )
        with self._lock:
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            self._remembered[raw] = series
        return series

    def _canonical(self, metric: str, labels: dict[str, AttributeValue]) -> _Series:
        key = tuple(labels.items())
        known = self._series[metric]
        with self._lock:
            series = known.get(key)
            if series is None:
                series = known[key] = _Series(labels)
            return series

    def _add(self, series: _Series, value: float) -> None:
        with self._lock:
            series.value += value

    def _set(self, series: _Series, value: Any) -> None:
        with self._lock:
            series.value = value

    def _observer(self, metric: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_options: CallbackOptions) -> Iterable[Observation]:
            with self._lock:
                return [Observation(series.value, series.labels) for series in self._series[metric].values()]

        return observe


def _applies(metric: Metric, attributes: Mapping[str, AttributeValue]) -> bool:
    when = metric.when
    if when.get("entry") and attributes.get(names.DATAFACE_ENTRY) is not True:
        return False
    return all(each in attributes for each in when.get("has", ())) and not any(
        each in attributes for each in when.get("not_has", ())
    )


def _may_label(label: str, value: AttributeValue, attributes: Mapping[str, AttributeValue]) -> bool:
    """Whether ``value`` may go on a metric: what a client can invent may not."""
    bound = names.BOUNDS.get(label)
    if bound is None:
        return True
    for guard, values in bound.unless:
        found = attributes.get(guard)
        if not values.isdisjoint(found if isinstance(found, (tuple, list)) else (found,)):
            return False
    return bound.known is None or value in bound.known


def _number(value: str | int, attributes: Mapping[str, AttributeValue]) -> float:
    return value if isinstance(value, int) else attributes[value]  # type: ignore[return-value]  # counts are numbers


# -- the recorder in use -------------------------------------------------------------------------

_own: OpenTelemetryRecorder | None = None
_own_is_private = False
_default: OpenTelemetryRecorder | None = None
_armed: Callable[[], None] | None = None
_limits: CompiledLimits | None = None
_read_error_code: Callable[[BaseException], str | None] = lambda error: None  # noqa: E731  # replaced by a function


def _host_configured() -> bool:
    """Whether this process has OpenTelemetry providers. The globals are read because asking costs 0.5 us a time."""
    return opentelemetry.trace._TRACER_PROVIDER is not None or _metrics_globals._METER_PROVIDER is not None


def live() -> bool:
    """Whether anybody would receive a record. Where nobody would, observing costs this one look."""
    if _own is not None or _host_configured():
        return True
    if _armed is None:
        return False
    arm = _armed
    disarm()
    arm()
    return _own is not None or _host_configured()


def arm(start: Callable[[], None]) -> None:
    """Have ``start`` called at the first operation that finds no providers, to bring some."""
    global _armed
    _armed = start


def disarm() -> None:
    """Undo `arm`."""
    global _armed
    _armed = None


def use(
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    logger_provider: LoggerProvider | None = None,
    *,
    private: bool = False,
) -> None:
    """Record to these providers. ``private`` ones give way as soon as the host has providers of its own."""
    global _own, _own_is_private
    if tracer_provider is None and meter_provider is None and logger_provider is None:
        return
    _own, _own_is_private = OpenTelemetryRecorder(tracer_provider, meter_provider, logger_provider), private


def forget() -> None:
    """Record to the process's own providers again, with default limits."""
    global _own, _own_is_private, _limits
    _own, _own_is_private, _limits = None, False, None
    disarm()


def active() -> OpenTelemetryRecorder:
    """The recorder that a new operation is recorded by."""
    global _default
    if _own is not None and not (_own_is_private and _host_configured()):
        return _own
    if _default is None:
        _default = OpenTelemetryRecorder()
    return _default


def start(op: Operation, parent: Context | None) -> Span:
    """Begin the span of ``op``; an invalid one when the SDK cannot."""
    try:
        return active().start(op, parent)
    except Exception as error:
        failsafe.caught("recorder.start", error)
        return INVALID_SPAN


def finish(op: Operation) -> None:
    """Hand over the finished record."""
    active().finish(op)


def event(name: str, attributes: Mapping[str, AttributeValue], warning: bool) -> None:
    """Emit one event of the conventions, if anybody would receive it."""
    if not live():
        return
    try:
        active().event(name, attributes, warning)
    except Exception as error:
        failsafe.caught("recorder.event", error)


def context_of(span: Span, parent: Context | None) -> Context:
    """``parent`` (default: the current context) with ``span`` as its current span."""
    return set_span_in_context(span, parent)


def limits() -> CompiledLimits:
    """The limits in force, the published defaults until somebody sets others."""
    global _limits
    if _limits is None:
        from context_telemetry.limits import Limits  # here, because it imports pydantic

        _limits = Limits().compile()
    return _limits


def set_limits(compiled: CompiledLimits) -> None:
    """Apply these limits from now on."""
    global _limits
    _limits = compiled


def error_code(error: BaseException) -> str | None:
    """The observed software's own code of an exception, None when it has none."""
    return _read_error_code(error)


def set_error_code_reader(read: Callable[[BaseException], str | None]) -> None:
    """Say how the observed software's exceptions carry their codes."""
    global _read_error_code
    _read_error_code = read
