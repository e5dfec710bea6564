"""The recorder that uses any providers through the public API: one span per record, and its points at once.

Imported when the first record is made: who only decorates pays for no metrics API.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import opentelemetry.metrics
import opentelemetry.metrics._internal as _metrics_globals
import opentelemetry.trace
from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import Span, Status, StatusCode, TracerProvider
from opentelemetry.util.types import AttributeValue

from context_telemetry.conventions import names
from context_telemetry.observe.points import Points

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider

    from context_telemetry.observe.operation import Operation

_ERROR = Status(StatusCode.ERROR)


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
        self._tracer_provider = tracer_provider
        self._logger_provider = logger_provider
        self._logger: Any = None
        self._metered = meter_provider is not None
        self._points = Points(
            opentelemetry.metrics.get_meter(
                names.SCOPE, names.VERSION, meter_provider, schema_url=names.SCHEMA_URL
            )
        )

    def start(self, op: Operation, parent: Context | None) -> Span:
        op.started_with = dict(op.attributes)
        return self._tracer.start_span(
            op.span_name,
            parent,
            op.kind,
            op.started_with,
            op.links,
            op.start_ns,
            record_exception=False,
            set_status_on_exception=False,
        )

    def finish(self, op: Operation) -> None:
        span = op.span
        try:
            if span.is_recording():
                known = op.started_with
                # Only what is new: setting an attribute again costs as much as setting it.
                span.set_attributes(
                    {k: v for k, v in op.attributes.items() if k not in known or known[k] is not v}
                )
                if op.error_type is not None and op.marks_error:
                    span.set_status(_ERROR)
            if self._metered or _metrics_globals._METER_PROVIDER is not None:
                self._points.span(op.attributes, op.duration_ns / 1e9, op.context)
        finally:
            if not op.adopted:
                span.end(op.start_ns + op.duration_ns)

    def shares_spans(self) -> bool:
        own = self._tracer_provider
        return own is None or own is opentelemetry.trace._TRACER_PROVIDER

    def event(self, name: str, attributes: Mapping[str, AttributeValue], warning: bool) -> None:
        from opentelemetry import _logs

        if self._logger is None:
            self._logger = _logs.get_logger(
                names.SCOPE, names.VERSION, self._logger_provider, names.SCHEMA_URL
            )
        severity = _logs.SeverityNumber.WARN if warning else _logs.SeverityNumber.INFO
        self._logger.emit(
            timestamp=time.time_ns(),
            event_name=name,
            attributes=dict(attributes),
            severity_number=severity,
            severity_text=severity.name,
        )
        self._points.event(name, attributes)
