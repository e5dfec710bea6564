"""The recorder that uses any providers through the public API: a real span per record, and its points when collected.

Imported when the first record is made: who only decorates pays for no metrics API.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import opentelemetry.trace
from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import Span, Status, StatusCode, Tracer, TracerProvider
from opentelemetry.util.types import AttributeValue

from context_telemetry.conventions import names
from context_telemetry.observe import dropped_spans, lost_spans, process_providers, samplers
from context_telemetry.observe.fork import renew_in_child
from context_telemetry.observe.points import Points

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider

    from context_telemetry.observe.operation import Operation

ERROR = Status(StatusCode.ERROR)
QUICK_NS = 10_000_000
"""A healthy call that took less has no exemplar, which costs a sixth of a point: nobody will look for that call."""


class OpenTelemetryRecorder:
    """Spans, metric points and events through the OpenTelemetry API, by default to the process's own providers.

    ``points`` are used in place of ones that record to ``meter_provider``. ``fallbacks`` are the reasons for which
    calls are recorded like this, as the conventions name them.
    """

    fallbacks: tuple[str, ...] = ("host",)
    comes_first = False
    """Whether whom it records for is shown the end of a span before all others."""

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        logger_provider: LoggerProvider | None = None,
        points: Points | None = None,
    ) -> None:
        self._tracer_provider = tracer_provider
        self._tracer = self._make_tracer()
        self._dropping: dropped_spans.Dropping | None = None
        self._knows_sampler = False
        self._logger_provider = logger_provider
        self._logger: Any = None
        self._meter_provider = meter_provider  # held: what counts for it knows it weakly
        self._metered = meter_provider is not None
        if points is not None and meter_provider is not None:
            _keep(meter_provider, points)
        self._points = points or _points_of(meter_provider)

    @property
    def sampler(self) -> str | None:
        # Of a new tracer: the first may be from before the process had a provider.
        return samplers.may_leave_out(getattr(self._make_tracer(), "sampler", None))

    def fell_back(self, why: str) -> None:
        """Say one more reason."""
        if why not in self.fallbacks:
            self.fallbacks = (*self.fallbacks, why)

    def _make_tracer(self) -> Tracer:
        return opentelemetry.trace.get_tracer(
            names.SCOPE, names.VERSION, self._tracer_provider, schema_url=names.SCHEMA_URL
        )

    def start(self, op: Operation, parent: Context) -> Span:
        if self._dropping is not None:
            dropped = self._dropping(parent)
            if dropped is not None:
                return dropped
        op.started_with = op.attributes.copy()
        try:
            # The last two: no exception is recorded, and none sets the status.
            return self._tracer.start_span(
                op.span_name, parent, op.kind, op.attributes, op.links, op.start_ns, False, False
            )
        except Exception as error:
            return lost_spans.at_start(error, parent)

    def finish(self, op: Operation) -> None:
        span, ended = op.span, op.start_ns + op.duration_ns
        try:
            recorded = span.is_recording()
            if recorded:
                # Only what was not known when it began: setting an attribute again costs as much as setting it.
                attributes = op.attributes.copy()
                for name, value in op.started_with.items():
                    if attributes.get(name) is value:
                        del attributes[name]
                span.set_attributes(attributes)
                if op.error_type is not None and op.marks_error:
                    span.set_status(ERROR)
            if self._metered or self._is_metered():
                took, exemplar = op.duration_ns, None
                if recorded and (took >= QUICK_NS or op.outcome != "ok"):
                    context = span.get_span_context()
                    exemplar = context if context.trace_flags.sampled else None
                # A copy: whoever still tells the operation something is too late.
                self._points.count((op.attributes.copy(), took / 1e9, exemplar, ended))
            if not recorded and not self._knows_sampler:
                self._know_sampler()
        finally:
            if not op.adopted:
                try:
                    span.end(ended)
                except Exception as error:
                    lost_spans.at_end(error, kept=self.comes_first)

    def _know_sampler(self) -> None:
        """Look at the sampler once it has dropped a span: before, there may be no provider yet, and no need."""
        if self._tracer_provider is None and process_providers.tracer_provider() is None:
            return
        self._knows_sampler = True
        self._dropping = dropped_spans.dropping(self._make_tracer())

    def _is_metered(self) -> bool:
        self._metered = process_providers.meter_provider() is not None  # and then it stays
        return self._metered

    def shares(self, span: Span) -> bool:
        of_process = process_providers.tracer_provider()
        if self._tracer_provider is not None and self._tracer_provider is not of_process:
            return False
        # A neighbour may have a provider beside the process's. What is not recorded does not tell whose it is.
        ours, theirs = getattr(of_process, "resource", None), getattr(span, "resource", None)
        return ours is None or theirs is None or theirs is ours

    def event(self, name: str, attributes: Mapping[str, AttributeValue], warning: bool) -> None:
        from opentelemetry import _logs

        if self._logger is None:
            self._logger = _logs.get_logger(
                names.SCOPE, names.VERSION, self._logger_provider, names.SCHEMA_URL
            )
        severity = _logs.SeverityNumber.WARN if warning else _logs.SeverityNumber.INFO
        now = time.time_ns()
        self._logger.emit(
            timestamp=now,
            event_name=name,
            attributes=dict(attributes),
            severity_number=severity,
            severity_text=severity.name,
        )
        self._points.event(name, attributes, now)


# By identity: a provider need not be hashable (logfire's is a dataclass).
_points: dict[int, Points] = {}
# Made while the process had no provider: they are those of the first that it gets.
_early_points: Points | None = None
# Two threads whose first calls come at once would make two for one provider.
_making = threading.RLock()


def _renew() -> None:
    global _making
    _making = threading.RLock()


renew_in_child(_renew)


def _points_of(provider: MeterProvider | None) -> Points:
    """The points of ``provider``; what records to it comes and goes, what was counted stays."""
    global _early_points
    with _making:
        of_process = process_providers.meter_provider()
        provider = provider or of_process
        if provider is None:
            _early_points = _early_points or Points(None)
            return _early_points
        if _early_points is not None and provider is of_process:
            _keep(provider, _early_points)
            _early_points = None
        if id(provider) not in _points:
            _keep(provider, Points(provider))
        return _points[id(provider)]


def _keep(provider: MeterProvider, points: Points) -> None:
    """Keep them as long as the provider is there: another one may get its identity afterwards."""
    _points[id(provider)] = points
    weakref.finalize(provider, _points.pop, id(provider), None).atexit = False
