"""An operation: one observed call, from its start to the record that spans and metrics are made of.

The finished `Operation` *is* the record. The first operation of a request is its entry; the reasons of every inner
operation rise to it. Nothing here knows Dataface, and nothing here raises into the call that is observed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextvars import Token
from time import perf_counter_ns, time_ns
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    Span,
    SpanKind,
    set_span_in_context,
)
from opentelemetry.util.types import AttributeValue

from context_telemetry.conventions import names
from context_telemetry.observe import board, failsafe, fingerprint, lost_spans, recorder
from context_telemetry.observe.reading import (
    COORDINATES,
    AnyReader,
    Call,
    Reader,
    Reading,
    registered_reader,
)
from context_telemetry.observe.surface import entry_surface

if TYPE_CHECKING:
    from types import EllipsisType

    from context_telemetry.observe.recorder import Recorder

_KEY = otel_context.create_key("context-telemetry-operation")
# Under which a context has its span: asked once, so that a context with both is made in one step.
(SPAN_KEY,) = set_span_in_context(INVALID_SPAN, Context())
# What every operation sets.
_NAME, _ENTRY = names.DATAFACE_OPERATION_NAME, names.DATAFACE_ENTRY
_SURFACE, _OUTCOME = names.DATAFACE_SURFACE, names.DATAFACE_OUTCOME
_PAYLOAD_KINDS = names.PAYLOAD_KINDS
_SIZE, _KIND = names.DATAFACE_PAYLOAD_SIZE, names.DATAFACE_PAYLOAD_KIND
_LIMIT = names.DATAFACE_PAYLOAD_LIMIT
_NOTHING: Mapping[str, Any] = {}
# Names, also qualified ones, lists and globs, but neither statements nor connection strings.
_OBJECT_NAME = re.compile(r"[\w.$*?\[\],|-]{1,128}")
# Error types that say nothing of the cause: what failed inside does.
_UNEXPLAINED = frozenset({"_OTHER", "tool_error"})
# Operations that are this process's side of a call to another system.
_KINDS = {"query.execute": SpanKind.CLIENT}


def current(context: Context | None = None) -> Operation | None:
    """The innermost operation that is running in ``context`` (default: here)."""
    found = otel_context.get_value(_KEY, context)
    return found if isinstance(found, Operation) else None


class Operation:
    """One observed call. ``name`` is one of the conventions' operations, or None for an MCP request outside of them.

    ``attributes`` are those known before the call, so that samplers see them. ``surface`` is this operation's, whoever
    says another; ``protocol`` is it where this is an entry and nobody does. ``context`` is the parent context (default:
    the current one), ``parent`` the operation that runs in it where the caller knows it already, ``start`` a Unix time
    in nanoseconds (default: now). ``span`` is a neighbour's span of the same call: it is told what this operation
    reads, and begun and ended by its owner.
    """

    # What most operations never change stands here: each would cost an assignment per call.
    parent: Operation | None = None
    surface: str
    kind = SpanKind.INTERNAL
    links: Sequence[Link] = ()
    client: str | None = None
    outcome = "ok"
    reasons: Sequence[str] = ()
    """What is known to be wrong with the answer of this operation itself."""
    risen: frozenset[str] = frozenset()
    """The reasons of the operations inside, at their entry."""
    error_type: str | None = None
    error_code: str | None = None
    inner_failure: tuple[str, str | None] | None = None
    """The class and code of what failed last inside: it explains a failure that has none of its own."""
    layers: tuple[str, ...] = ()
    unresolved = 0
    duration_ns = 0
    began_below: Callable[[Operation], None] | None = None
    """Told of each operation that begins directly below, before its span does."""
    before_finish: Callable[[Operation], None] | None = None
    """Called when it is about to conclude: what was not known when something asked may be known by then."""
    held = False
    """`finish` only stops the clock: whoever holds it knows the rest later, lets go of it and finishes it."""
    adopted = False
    """Whether its span is a neighbour's."""
    marks_error = True
    """Whether a failure is an error of the span too: some conventions say that a caller's own mistake is none."""
    pending: object = None
    """The function that may join this operation instead of making its own: it is decorated as well as hooked."""
    started_with: Mapping[str, AttributeValue] = _NOTHING
    """The attributes that its span has had from the start."""
    span: Span
    recorder: Recorder
    """What records it from its start to its end, whatever others are recorded by meanwhile."""
    _outer_entry: Operation | None = None
    _notes: dict[str, Any] | None = None
    _degraded = False
    _told = False
    """Whether anything was said beside a payload, an object and what layers it came from: mostly nothing is."""
    _finished = False
    _payload: tuple[int, str, bool] | None = None
    _ages: dict[str, float] | None = None
    _given: dict[str, set[str | None]] | None = None
    _token: Token[Context] | None = None
    _attached: Context | None = None

    def __init__(
        self,
        name: str | None,
        attributes: Mapping[str, AttributeValue] | None = None,
        *,
        span_name: str | None = None,
        kind: SpanKind | None = None,
        surface: str | None = None,
        protocol: str = "library",
        context: Context | None = None,
        parent: Operation | EllipsisType | None = ...,
        links: Sequence[Link] = (),
        start: int | None = None,
        span: Span | None = None,
    ) -> None:
        if context is None:
            context = otel_context.get_current()  # once, for all who would look it up
        if parent is ...:
            parent = current(context) if context else None
        if links:
            self.links = links
        if kind is not None:
            self.kind = kind
        by = recorder.active()
        self._begin(by, name, attributes, span_name, surface, protocol, context, parent, start, span)

    def _begin(
        self,
        by: Recorder,
        name: str | None,
        attributes: Mapping[str, AttributeValue] | None,
        span_name: str | None,
        surface: str | None,
        protocol: str,
        context: Context,
        parent: Operation | None,
        start: int | None = None,
        span: Span | None = None,
    ) -> None:
        # Also for the wrappers, which make many: passing keywords takes a third of making one.
        # What every operation reads, as above: Python takes three times as long for what only the class has.
        self._outer_entry = self._payload = self._given = self.client = self.error_type = None
        self.before_finish = None
        self._finished = self._told = self.held = self.adopted = False
        self.duration_ns = self.unresolved = 0
        self.layers = self.reasons = ()
        self.outcome = "ok"
        entry = None
        if parent is not None:
            self.parent, entry = parent, parent._outer_entry or parent
            # One that outlives its entry (a background task) is its own entry: nobody else would count it.
            self._outer_entry = entry = None if entry._finished else entry
        if name in _KINDS and self.kind is SpanKind.INTERNAL:
            self.kind = _KINDS[name]
        self.name = name
        self.span_name = span_name or name or "operation"
        if surface is None:
            surface = entry_surface(protocol, context) if entry is None else entry.surface
        self.surface = surface
        known: dict[str, AttributeValue] = {} if attributes is None else dict(attributes)
        if name is not None:
            known[_NAME] = name
            known[_ENTRY] = entry is None
        known[_SURFACE] = surface
        self.attributes = known
        self._parent_context = context
        if start is None:
            self.start_ns, self._clock = time_ns(), perf_counter_ns()
        else:
            self.start_ns = start
            self._clock = perf_counter_ns() - max(0, time_ns() - start)
        if parent is not None and parent.began_below is not None:
            try:
                parent.began_below(self)
            except Exception as error:
                failsafe.caught("begin below", error)
        self.recorder = by
        if span is not None:
            self.adopted, self.span = True, span
            return
        try:
            self.span = by.start(self, context)
        except Exception as error:
            self.span = lost_spans.passing_on(context)
            failsafe.caught("recorder.start", error)

    # A finished operation refers to itself nowhere, so that it is gone at once and never waits for the collector.

    @property
    def entry(self) -> Operation:
        """The operation that began the request which this one is part of; itself, if it is that."""
        return self._outer_entry or self

    @property
    def finished(self) -> bool:
        """Whether `finish` has been called."""
        return self._finished

    @property
    def context(self) -> Context:
        """The context inside of which this operation is the current one, and its span the current span."""
        if self._attached is not None:
            return self._attached
        return Context({**self._parent_context, SPAN_KEY: self.span, _KEY: self})

    @property
    def notes(self) -> dict[str, Any]:
        """What hooks deeper down noticed, for the reader of this call. Never exported."""
        if self._notes is None:
            self._notes = {}
        return self._notes

    # -- what the caller says ---------------------------------------------------------------------

    def read(self, result: Any) -> None:
        """Read ``result`` with the reader that is registered for this operation."""
        read = registered_reader(self.name or "")
        if read is None:
            failsafe.misused("operation.read", f"no reader is registered for {self.name}")
            return
        self.apply(read, Call(result=result))

    def apply(self, read: AnyReader, call: Call, part: bool = False) -> None:
        """Let ``read`` turn ``call`` into a reading and `take` it over; a reader that fails is counted."""
        try:
            reading = read(call)
            if reading is None:
                return
            if type(read) is Reader and not read.declares(reading):
                failsafe.misused(
                    "reader", f"a reader of {self.name} answered with names that it has not declared"
                )
            self.take(reading, part)
        except Exception as error:
            failsafe.caught(f"reader of {self.name}", error)

    def take(self, reading: Reading, part: bool = False) -> None:
        """Take over everything that a reading says; the failure of a mere ``part`` only as an explanation."""
        if reading.reasons:
            self.degraded(*reading.reasons)
        if reading.error_type is not None or reading.outcome == "failed":
            error_type, code = reading.error_type or "_OTHER", reading.error_code
            if not part:
                self.failed(error_type, code)
            elif error_type == "_OTHER" and self.inner_failure is not None:  # what failed inside has a name
                self.inner_failure = (self.inner_failure[0], code or self.inner_failure[1])
            else:
                self.inner_failure = (error_type, code)
        elif reading.error_code is not None:
            self.error_code = reading.error_code
        if reading.outcome == "degraded":
            self._degraded = self._told = True
        if reading.payload_size is not None:
            self.payload(reading.payload_size, reading.payload_kind or "tool_result")
        if reading.ages:
            for layer, seconds in reading.ages.items():
                self.age(layer, seconds)
        if reading.layers:
            self.layers = reading.layers
        if reading.coordinates:
            self.coordinates(**reading.coordinates)
        if reading.unresolved:
            self.unresolved += reading.unresolved
        if reading.attributes:
            self.attributes.update(reading.attributes)

    def degraded(self, *reasons: str) -> None:
        """The answer is partial, stale, oversized, unresolved or from another place than asked, for these reasons."""
        self._degraded = self._told = True
        for reason in reasons:
            if not isinstance(reason, str) or reason not in names.REASONS:
                failsafe.misused("operation.degraded", f"unknown reason {reason!r}")
            elif reason not in self.reasons:
                self.reasons = (*self.reasons, reason)

    def failed(self, error_type: str, code: str | None = None) -> None:
        """There is no usable answer. ``error_type`` is an exception class or a code, never a message."""
        self.error_type, self._told = str(error_type), True
        if code is not None:
            self.error_code = str(code)

    def payload(self, size: int, kind: str = "tool_result", static: bool = False) -> None:
        """``size`` bytes were handed to the consumer; ``static`` says that they are documentation, not results."""
        if kind not in _PAYLOAD_KINDS or not isinstance(size, int):
            failsafe.misused(
                "operation.payload", f"unknown payload kind {kind!r}, or a size that is no number"
            )
            return
        self._payload = (size, kind, static)

    def age(self, layer: str, seconds: float) -> None:
        """What ``layer`` served was ``seconds`` old at the moment of serving. The oldest of several counts."""
        if layer not in names.LAYERS or not isinstance(seconds, (int, float)):
            failsafe.misused("operation.age", f"unknown layer {layer!r}, or an age that is no number")
            return
        if self._ages is None:
            self._ages, self._told = {}, True
        self._ages[layer] = max(seconds, self._ages.get(layer, 0.0))

    def context_part(self, kind: str, digest: str | None) -> None:
        """The consumer of this request was given something to work with: equal digests, the same thing.

        None says that it is not known what. It goes into the fingerprint of the entry.
        """
        if kind not in fingerprint.KINDS:
            failsafe.misused("operation.context_part", f"unknown kind {kind!r}")
            return
        entry = self.entry
        if entry._given is None:
            entry._given = {}
        entry._given.setdefault(kind, set()).add(digest)

    def coordinates(self, **asked: str) -> None:
        """What was asked for: any of ``source``, ``schema``, ``table``, ``column``."""
        for key, value in asked.items():
            name = COORDINATES.get(key)
            if name is None:
                failsafe.misused("operation.coordinates", f"unknown coordinate {key!r}")
            elif isinstance(value, str):
                self.attributes[name] = object_name(value)

    # -- its life ---------------------------------------------------------------------------------

    def attach(self) -> None:
        """Make this the current operation of this thread or task, until `detach`."""
        own = {SPAN_KEY: self.span, _KEY: self}
        self._attached = context = Context({**self._parent_context, **own} if self._parent_context else own)
        self._token = otel_context.attach(context)

    def detach(self) -> None:
        """Undo `attach`."""
        if self._token is not None:
            otel_context.detach(self._token)
            self._token = self._attached = None

    def finish(self) -> None:
        """End the operation: decide its outcome, let its reasons rise, hand the record over. Idempotent."""
        if self._finished:
            return
        if not self.duration_ns:
            self.duration_ns = max(0, perf_counter_ns() - self._clock)
        if self.held:
            return
        self._finished = True
        try:
            if self.before_finish is not None:
                self.before_finish(self)
            self._conclude()
        except Exception as error:
            failsafe.caught("operation.conclude", error)
        try:
            self.recorder.finish(self)
        except Exception as error:
            failsafe.caught("recorder.finish", error)
        if self.reasons or board.met:
            try:
                board.finished(self)
            except Exception as error:
                failsafe.caught("operation.board", error)

    def _conclude(self) -> None:
        attributes = self.attributes
        payload = self._payload
        if payload is not None:
            size, kind, static = payload
            attributes[_SIZE], attributes[_KIND] = size, kind
            limit = recorder.limits().budget(kind, self.client or "other", static)
            if limit is not None:
                attributes[_LIMIT] = limit
                if size > limit:
                    self.degraded("payload_over_budget")
        if self._told:
            self._conclude_what_was_told(attributes)
        if self._outer_entry is None and (self._given or fingerprint.standing):
            attributes.update(fingerprint.conclude(self._given or _NOTHING))
        attributes[_OUTCOME] = self.outcome
        if self.layers:
            attributes[names.DATAFACE_CATALOG_LAYERS] = self.layers
        if self.unresolved:
            attributes[names.DATAFACE_CATALOG_UNRESOLVED] = self.unresolved
        if self.client is not None:
            attributes[names.DATAFACE_CLIENT_NAME] = self.client

    def _conclude_what_was_told(self, attributes: dict[str, AttributeValue]) -> None:
        if self._ages:
            self._conclude_ages(self._ages)
        union, entry = self.reasons, self._outer_entry
        if entry is None:
            union = sorted({*union, *self.risen})
        elif union:
            entry.risen, entry._told = entry.risen.union(union), True
        if self.error_type is not None:
            self._conclude_failure(self.error_type)
        elif union or self._degraded:
            self.outcome = "degraded"
        if self.error_code is not None and self.outcome != "ok":
            attributes[names.DATAFACE_ERROR_CODE] = self.error_code
        if union:
            attributes[names.DATAFACE_DEGRADATION_REASONS] = tuple(union)

    def _conclude_failure(self, error_type: str) -> None:
        self.outcome = "failed"
        # Only a failure that was read from a result can be another one's: an exception has a class of its own.
        if self.inner_failure is not None and error_type in _UNEXPLAINED:
            inner_type, inner_code = self.inner_failure
            error_type = inner_type if error_type == "_OTHER" else error_type
            self.error_code = self.error_code or inner_code
        self.attributes[names.ERROR_TYPE] = self.error_type = error_type
        if self.parent is not None:
            self.parent.inner_failure = (error_type, self.error_code)

    def _conclude_ages(self, ages: dict[str, float]) -> None:
        for layer, seconds in ages.items():
            promise = recorder.limits().promise(layer)
            if promise is not None and seconds > promise and layer in names.STALE_REASON:
                self.degraded(names.STALE_REASON[layer])
        if self.entry is not self:
            for layer, seconds in ages.items():
                self.entry.age(layer, seconds)
        layer = max(ages, key=lambda each: ages[each])
        promise = recorder.limits().promise(layer)
        self.attributes[names.DATAFACE_STALENESS_AGE] = float(ages[layer])
        self.attributes[names.DATAFACE_STALENESS_LAYER] = layer
        if promise is not None:
            self.attributes[names.DATAFACE_STALENESS_LIMIT] = promise


def object_name(asked: str) -> str:
    """``asked`` if it is shaped like the name of an object or of several, else ``_OTHER``: clients send anything."""
    return asked if _OBJECT_NAME.fullmatch(asked) else "_OTHER"


def conclude_error(op: Operation, error: BaseException, *, part: bool = False) -> None:
    """Mark ``op`` as failed with the class of ``error``; being closed or cancelled is not an error.

    The failure of a mere ``part`` only explains one of the whole, which may have handled it.
    """
    error_type, code = "_OTHER", None
    try:
        if is_interruption(error):
            return
        error_type = error_class(error)
        code = recorder.error_code(error)
    except Exception as problem:  # the exception is the host's: its properties can do anything
        failsafe.caught("operation.error", problem)
    if part:
        op.inner_failure = (error_type, code)
    else:
        op.failed(error_type, code)


def is_interruption(error: BaseException) -> bool:
    """Whether ``error`` only says that the consumer went away (a closed generator, a cancelled task)."""
    return isinstance(error, GeneratorExit) or type(error).__name__ == "CancelledError"


def error_class(error: BaseException) -> str:
    """The name of the exception's class where its module really has it (a finite set), else ``_OTHER``."""
    kind = type(error)
    found: Any = sys.modules.get(kind.__module__)
    for part in kind.__qualname__.split("."):
        found = getattr(found, part, None)
    return kind.__qualname__ if found is kind else "_OTHER"
