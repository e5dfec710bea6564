"""What the history answers with: small records. Times are Unix seconds, durations seconds, sizes bytes.

What a span does not say is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from context_telemetry.conventions import names

Value = str | int | float | bool | tuple["Value", ...] | None


@dataclass(frozen=True)
class Served:
    """How many entries of one operation ended in one outcome."""

    surface: str | None
    client: str | None
    operation: str
    outcome: str | None
    count: int


@dataclass(frozen=True)
class ObjectServed:
    """How often a face (`dataface.face`) or a tool (`gen_ai.tool.name`) was served."""

    kind: str
    """`face` or `tool`."""
    name: str
    count: int
    """Of a face the traces that it is in, of a tool its calls."""


@dataclass(frozen=True)
class Traffic:
    """Everything that one client was served over one surface."""

    surface: str | None
    client: str | None
    served: int
    ok: int
    degraded: int
    failed: int
    not_there: int
    """Of the degraded, pages with nothing wrong but that the address leads nowhere."""
    p95_seconds: float
    largest_bytes: int | None
    """Of an agent's turn what its model was given at the last call."""
    largest_limit: int | None
    oldest_age: float | None
    oldest_layer: str | None
    oldest_limit: float | None


@dataclass(frozen=True)
class ReasonSeen:
    """One reason on the entries of one surface; `trace_id` is that of the last one, whose process comes first."""

    reason: str
    surface: str | None
    count: int
    first: float
    last: float
    trace_id: str
    pids: tuple[int, ...]


@dataclass(frozen=True)
class ErrorSeen:
    """One error of the failed entries of one surface that have no reason; the rest as of `ReasonSeen`."""

    error: str
    """Dataface's own code, where it gives one, else `error.type`."""
    surface: str | None
    count: int
    first: float
    last: float
    trace_id: str
    pids: tuple[int, ...]
    targets: tuple[str, ...]
    """What was asked for, tools, resources, faces or pages, the most often first."""


@dataclass(frozen=True)
class ChecksSeen:
    """Looks of `check`: how many, how many of them were not well and why; `trace_id` is the last of those."""

    count: int
    not_ok: int
    reasons: tuple[str, ...]
    last: float
    trace_id: str


@dataclass(frozen=True)
class Call:
    """One entry."""

    time: float
    trace_id: str
    surface: str | None
    client: str | None
    operation: str
    target: str
    outcome: str | None
    reasons: tuple[str, ...]
    error_type: str | None
    error_code: str | None
    seconds: float
    payload_bytes: int | None
    """Of an agent's turn what its model was given at the last call."""
    payload_limit: int | None
    pid: int | None
    release: str | None


@dataclass(frozen=True)
class Spread:
    """How sizes, ages or durations are spread. `limit` is the lowest applied, `over` counts those above theirs."""

    name: str | None
    surface: str | None
    count: int
    p50: float
    p95: float
    largest: float
    limit: float | None = None
    over: int = 0


@dataclass(frozen=True)
class Unresolved:
    """Objects that were asked for over a surface and did not resolve, and the entries they were asked in."""

    surface: str | None
    objects: int
    calls: int


@dataclass(frozen=True)
class ProcessSeen:
    """An observed process, by what it wrote in the window."""

    pid: int | None
    instance: str | None
    release: str | None
    first: float
    last: float
    clients: tuple[str, ...]
    calls: int
    surfaces: tuple[str, ...] = ()
    not_ok: int = 0
    """Entries that ended degraded or failed."""
    began: float | None = None
    """When it began to record, perhaps before the window."""
    ended: float | None = None
    """When it said that it ends. One that was killed says nothing, as one that nobody calls."""


@dataclass(frozen=True)
class Event:
    """One event record with the process that wrote it."""

    time: float
    name: str
    instance: str | None
    release: str | None
    pid: int | None
    attributes: Mapping[str, Value]


@dataclass(frozen=True)
class Span:
    """One span of a trace, of whichever scope."""

    trace_id: str
    span_id: str
    parent_id: str
    scope: str
    name: str
    kind: int
    start: float
    end: float
    failed: bool
    pid: int | None
    release: str | None
    attributes: Mapping[str, Value]

    @property
    def ours(self) -> bool:
        """Whether it is a span of ours, or a neighbour's that carries an operation of ours."""
        return self.scope == names.SCOPE or names.DATAFACE_OPERATION_NAME in self.attributes

    @property
    def seconds(self) -> float:
        return self.end - self.start
