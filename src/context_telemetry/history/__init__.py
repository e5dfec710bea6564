"""The recorded past of a project, read back from its local files with DuckDB."""

from context_telemetry.history.files import Files, Unreadable
from context_telemetry.history.records import (
    Call,
    ChecksSeen,
    ErrorSeen,
    Event,
    ObjectServed,
    ProcessSeen,
    ReasonSeen,
    Served,
    Span,
    Spread,
    Traffic,
    Unresolved,
)
from context_telemetry.history.store import History, TraceNotFound

__all__ = [
    "Call",
    "ChecksSeen",
    "ErrorSeen",
    "Event",
    "Files",
    "History",
    "ObjectServed",
    "ProcessSeen",
    "ReasonSeen",
    "Served",
    "Span",
    "Spread",
    "TraceNotFound",
    "Traffic",
    "Unreadable",
    "Unresolved",
]
