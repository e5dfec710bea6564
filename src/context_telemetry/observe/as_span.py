"""An operation as a span, for whoever finds it in a context: OpenTelemetry's interface of spans, and nothing else.

Only who it is costs nothing. Whatever else is asked of it is done by a span of the SDK's that it goes on as.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.trace import Span, SpanContext, Status, StatusCode
from opentelemetry.util.types import Attributes, AttributeValue


class AsSpan:
    """A virtual subclass of OpenTelemetry's `Span`: a real one would be made by way of its metaclass, at three times
    the cost.
    """

    recorder: Any
    span: Span | None = None
    """What says this operation to the SDK; None where its recorder needs none, and the operation stands for it."""

    def get_span_context(self) -> SpanContext:
        """The identity of its span."""
        return self.recorder.identity(self) if self.span is None else self.span.get_span_context()

    def is_recording(self) -> bool:
        """Whether its span is recorded, and has not ended."""
        return self.recorder.records(self) if self.span is None else self.span.is_recording()

    def _real(self) -> Span:
        return self.recorder.real(self) if self.span is None else self.span

    def end(self, end_time: int | None = None) -> None:
        self._real().end(end_time)

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        self._real().set_attributes(attributes)

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        self._real().set_attribute(key, value)

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        self._real().add_event(name, attributes, timestamp)

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        self._real().add_link(context, attributes)

    def update_name(self, name: str) -> None:
        self._real().update_name(name)

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        self._real().set_status(status, description)

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        self._real().record_exception(exception, attributes, timestamp, escaped)


Span.register(AsSpan)
