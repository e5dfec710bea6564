"""A block of code as one operation: `with operation("catalog.resolve", source="shop") as op: ...`.

What authors write by hand where a decorator does not fit. Where nobody would receive a record, the block is given an
operation that keeps nothing.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, SpanKind

from context_telemetry.conventions import names
from context_telemetry.observe import recorder
from context_telemetry.observe.operation import Operation, conclude_error
from context_telemetry.observe.reading import COORDINATES, AnyReader, Call, Reading, check_names


class _Unheard(Operation):
    """What the block is given where nobody would receive a record: it takes everything and keeps nothing."""

    _finished = True
    _outer_entry = None
    kind = SpanKind.INTERNAL
    links = ()
    name = parent = None
    span = INVALID_SPAN
    span_name, surface = "operation", "library"
    start_ns = 0

    def __init__(self) -> None:
        self.attributes = {}

    @property
    def context(self) -> Context:
        return otel_context.get_current()

    @property
    def notes(self) -> dict[str, Any]:
        return {}

    def take(self, reading: Reading, part: bool = False) -> None: ...

    def apply(self, read: AnyReader, call: Call, part: bool = False) -> None: ...

    def attach(self) -> None: ...

    def detach(self) -> None: ...

    def read(self, result: Any) -> None: ...

    def degraded(self, *reasons: str) -> None: ...

    def failed(self, error_type: str, code: str | None = None) -> None: ...

    def payload(self, size: int, kind: str = "tool_result", static: bool = False) -> None: ...

    def age(self, layer: str, seconds: float) -> None: ...

    def context_part(self, kind: str, digest: str | None) -> None: ...

    def coordinates(self, **asked: str) -> None: ...

    def finish(self) -> None: ...


_UNHEARD = _Unheard()


class operation:  # a public name of the vocabulary, read as a statement: `with operation("catalog.resolve"):`
    """Observe the block as one operation: ``with operation("catalog.resolve", source="shop") as op: ...``.

    Keywords are the coordinates ``source``, ``schema``, ``table``, ``column``. Raises ValueError when made with an
    unknown operation or coordinate, never inside the block. An exception marks the operation as failed with its
    class and passes through.
    """

    __slots__ = ("_attributes", "_name", "_op")

    def __init__(self, name: str, **coordinates: str) -> None:
        check_names("operation", (name,), names.OPERATIONS)
        check_names("coordinate", tuple(coordinates), frozenset(COORDINATES))
        self._name = name
        self._attributes = {COORDINATES[key]: value for key, value in coordinates.items()}
        self._op: Operation | None = None

    def __enter__(self) -> Operation:
        if recorder.heard() is None:
            return _UNHEARD
        self._op = op = Operation(self._name, self._attributes)
        op.attach()
        return op

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        op = self._op
        if op is None:
            return
        if error is not None:
            conclude_error(op, error)
        op.finish()
        op.detach()
