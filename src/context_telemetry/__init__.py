"""OpenTelemetry for Dataface: whether the context that is served is right. The public API, and nothing else."""

from __future__ import annotations

from typing import Any

from context_telemetry.observe.block import operation
from context_telemetry.observe.observed import catalog_resolution, context_build, profiling
from context_telemetry.observe.operation import Operation
from context_telemetry.observe.reading import Call, Reader, Reading, reader, register_reader
from context_telemetry.observe.surface import surface

__all__ = [
    "Call",
    "Operation",
    "Reader",
    "Reading",
    "catalog_resolution",
    "context_build",
    "instrument",
    "operation",
    "profiling",
    "reader",
    "register_reader",
    "surface",
    "uninstrument",
]


def instrument(**providers: Any) -> None:
    """Observe Dataface in this process, before or after it is imported.

    ``tracer_provider``, ``meter_provider`` and ``logger_provider`` say where to; without them the process's own
    OpenTelemetry providers are used, and where it has none, the local files that ``context-telemetry status`` reads.
    Global providers are never set. Does nothing where ``CONTEXT_TELEMETRY_DISABLED`` or ``OTEL_SDK_DISABLED`` is true.
    Idempotent and thread-safe; never raises.
    """
    from context_telemetry.pipeline.auto import instrument as start

    start(**providers)


def uninstrument() -> None:
    """Take every hook out again and flush what was recorded. Idempotent and thread-safe; never raises."""
    from context_telemetry.pipeline.auto import uninstrument as stop

    stop()
