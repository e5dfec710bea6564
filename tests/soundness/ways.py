"""The ways to observe a workload: by hand, and by the library, whose recorder whoever uses it chooses.

By hand is what a careful author writes with the OpenTelemetry API for the same telemetry: it shares the conventions'
numbers (boundaries, limits) with the library, and no code that records.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry._logs import LoggerProvider, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
from opentelemetry.trace import Span, SpanContext, SpanKind, StatusCode, TracerProvider, set_span_in_context

from context_telemetry import operation
from context_telemetry.conventions import names
from context_telemetry.limits import Limits
from context_telemetry.observe import recorder
from context_telemetry.observe.observed import Plan, observe
from context_telemetry.observe.operation import Operation, conclude_error
from context_telemetry.observe.reading import Call, Reading
from context_telemetry.observe.surface import entry_surface
from soundness.workload import (
    IDENTITY,
    Step,
    begun,
    ended,
    items,
    items_async,
    request_context,
    work,
    work_async,
)

SCHEMA = "main"
PROTOCOLS = {"request": "mcp", "adopted": "dashboard"}
MODEL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "small",
}


def request_attributes(step: Step) -> dict[str, Any]:
    """What a request is known by before it is served."""
    return {
        "mcp.method.name": "tools/call",
        "gen_ai.tool.name": "execute_query" if step.configured else "invented",
        "network.transport": "pipe",
        "mcp.protocol.version": "2025-06-18",
        IDENTITY: step.ident,
    }


def page_attributes(step: Step) -> dict[str, Any]:
    """What a page is known by before it is served."""
    return {
        "dataface.page": "face",
        "http.request.method": "GET",
        "url.scheme": "http",
        "http.route": "/{path}",
        IDENTITY: step.ident,
    }


class Observed:
    """The library's decorators, blocks and operations, recorded by whichever recorder is in use."""

    def __init__(self, tracer_provider: TracerProvider) -> None:
        self.foreign = tracer_provider.get_tracer("neighbour")
        self.seen: dict[str, SpanContext] = {}
        self._made: dict[tuple[str, str], Callable[..., Any]] = {}

    def _decorated(self, shape: str, name: str) -> Callable[..., Any]:
        made = self._made.get((shape, name))
        if made is None:
            made = self._made[shape, name] = observe(_BODIES[shape], Plan(name, reader=_read))
        return made

    def _call(self, shape: str, step: Step) -> Any:
        return self._decorated(shape, step.operation)(step, self, step.source, SCHEMA, step.ident)

    def function(self, step: Step) -> Any:
        return self._call("function", step)

    def generator(self, step: Step) -> Iterator[int]:
        return self._call("generator", step)  # type: ignore[no-any-return]

    async def coroutine(self, step: Step) -> Any:
        return await self._call("coroutine", step)

    def async_generator(self, step: Step) -> AsyncIterator[int]:
        return self._call("async generator", step)  # type: ignore[no-any-return]

    def block(self, step: Step) -> None:
        with operation(step.operation, **_coordinates(step)) as op:
            work(step, self)
            op.take(_reading(step))

    def outliving(self, step: Step) -> Callable[[], None]:
        op = Operation(step.operation, {f"dataface.catalog.{k}": v for k, v in _coordinates(step).items()})
        op.attach()
        begun(step, self)
        op.detach()

        def end() -> None:
            op.take(_reading(step))
            op.finish()
            ended(step)

        return end

    def request(self, step: Step) -> None:
        context, links = request_context(step)
        attributes = request_attributes(step)
        op = Operation(
            step.operation,
            attributes,
            span_name=f"tools/call {attributes['gen_ai.tool.name']}",
            kind=SpanKind.SERVER,
            protocol="mcp",
            context=context,
            links=links,
            start=_began(step),
        )
        op.client = "cursor"
        self._serve(op, step)

    def model(self, step: Step) -> None:
        self._serve(
            Operation(
                None,
                {**MODEL, IDENTITY: step.ident},
                span_name="chat small",
                kind=SpanKind.CLIENT,
                start=_began(step),
            ),
            step,
        )

    def adopted(self, step: Step) -> None:
        with self.foreign.start_as_current_span(
            "GET /{path}", kind=SpanKind.SERVER, record_exception=False, set_status_on_exception=False
        ) as span:
            op = Operation(
                step.operation, page_attributes(step), protocol="dashboard", span=span, start=_began(step)
            )
            self._serve(op, step)

    def _serve(self, op: Operation, step: Step) -> None:
        op.attach()
        try:
            work(step, self)
            op.take(_reading(step))
        except BaseException as error:
            conclude_error(op, error)
            raise
        finally:
            op.duration_ns = step.duration_ns
            op.finish()
            op.detach()

    def event(self, name: str, attributes: dict[str, Any], warning: bool) -> None:
        recorder.event(name, attributes, warning)


def _function(step: Step, way: Observed, source: str | None, schema: str, table: str) -> Step:
    return work(step, way)


async def _coroutine(step: Step, way: Observed, source: str | None, schema: str, table: str) -> Step:
    return await work_async(step, way)


def _generator(step: Step, way: Observed, source: str | None, schema: str, table: str) -> Iterator[int]:
    yield from items(step, way)


async def _async_generator(
    step: Step, way: Observed, source: str | None, schema: str, table: str
) -> AsyncIterator[int]:
    async for item in items_async(step, way):
        yield item


_BODIES: dict[str, Callable[..., Any]] = {
    "function": _function,
    "coroutine": _coroutine,
    "generator": _generator,
    "async generator": _async_generator,
}


def _began(step: Step) -> int:
    return time.time_ns() - step.duration_ns


def _coordinates(step: Step) -> dict[str, str]:
    found = {"schema": SCHEMA, "table": step.ident}
    return found if step.source is None else {"source": step.source, **found}


def _read(call: Call) -> Reading | None:
    return None if call.error is not None else _reading(call.argument("step"))


def _reading(step: Step) -> Reading:
    attributes: dict[str, Any] = {}
    if step.configured:
        attributes["dataface.catalog.source.configured"] = True
    if step.conversation is not None:
        attributes["dataface.conversation.size"] = step.conversation
    return Reading(
        reasons=step.reasons,
        payload_size=step.size,
        payload_kind=step.kind,
        ages={} if step.age is None else dict([step.age]),
        layers=step.layers,
        unresolved=step.unresolved,
        attributes=attributes,
    )


# -- by hand ------------------------------------------------------------------------------------------------

_RUNNING = otel_context.create_key("soundness-by-hand")
_LIMITS = Limits().compile()
_STALE = {"dbt_manifest": "manifest_stale", "result_cache": "result_stale"}


class _Call:
    """What a careful author keeps of one call while it runs."""

    def __init__(self, step: Step, surface: str, entry: _Call | None, name: str | None) -> None:
        self.step, self.surface, self.name = step, surface, name
        self.entry = entry or self
        self.reasons: list[str] = []
        self.risen: set[str] = set()
        self.age: dict[str, float] = {}
        self.client: str | None = None
        self.finished = False
        self.started = time.time_ns()
        self.began = time.perf_counter_ns()
        # In the order in which they are set, which decides what a limit on their number leaves.
        self.known: dict[str, Any] = {}
        self.span: Span = trace.INVALID_SPAN


class ByHand:
    """Hand-written OpenTelemetry."""

    def __init__(
        self, tracer_provider: TracerProvider, meter_provider: MeterProvider, logger_provider: LoggerProvider
    ) -> None:
        self.foreign = tracer_provider.get_tracer("neighbour")
        self.seen: dict[str, SpanContext] = {}
        self._tracer = tracer_provider.get_tracer(names.SCOPE, names.VERSION, schema_url=names.SCHEMA_URL)
        self._logger = logger_provider.get_logger(names.SCOPE, names.VERSION, schema_url=names.SCHEMA_URL)
        self._points = _Points(meter_provider)

    # The shapes.

    def function(self, step: Step) -> Step:
        call, start = self._begin(step, step.operation, "library", _coordinate_attributes(step))
        with (
            self._tracer.start_as_current_span(
                step.operation,
                kind=_kind(step),
                attributes=start,
                record_exception=False,
                set_status_on_exception=False,
            ) as call.span,
            _attached(call, otel_context.get_current()),
        ):
            try:
                result = work(step, self)
            except Exception as error:
                self._end(call, error=error)
                raise
            self._read(call)
            self._end(call)
            return result

    async def coroutine(self, step: Step) -> Step:
        call, start = self._begin(step, step.operation, "library", _coordinate_attributes(step))
        with (
            self._tracer.start_as_current_span(
                step.operation,
                kind=_kind(step),
                attributes=start,
                record_exception=False,
                set_status_on_exception=False,
            ) as call.span,
            _attached(call, otel_context.get_current()),
        ):
            try:
                result = await work_async(step, self)
            except BaseException as error:
                self._end(call, error=error)
                raise
            self._read(call)
            self._end(call)
            return result

    def block(self, step: Step) -> None:
        call, start = self._begin(step, step.operation, "library", _coordinate_attributes(step))
        with (
            self._tracer.start_as_current_span(
                step.operation,
                kind=_kind(step),
                attributes=start,
                record_exception=False,
                set_status_on_exception=False,
            ) as call.span,
            _attached(call, otel_context.get_current()),
        ):
            try:
                work(step, self)
            except Exception as error:
                self._end(call, error=error)
                raise
            self._read(call)
            self._end(call)

    def generator(self, step: Step) -> Iterator[int]:
        call, context = self._begin_apart(step)
        body = items(step, self)
        error: BaseException | None = None
        try:
            while True:
                with _current(context):
                    try:
                        item = next(body)
                    except StopIteration:
                        return
                try:
                    yield item
                except GeneratorExit:
                    with _current(context):
                        body.close()  # type: ignore[attr-defined]
                    raise
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._end_apart(call, error, context)

    async def async_generator(self, step: Step) -> AsyncIterator[int]:
        call, context = self._begin_apart(step)
        body = items_async(step, self)
        error: BaseException | None = None
        try:
            while True:
                with _current(context):
                    try:
                        item = await anext(body)
                    except StopAsyncIteration:
                        return
                try:
                    yield item
                except GeneratorExit:
                    with _current(context):
                        await body.aclose()  # type: ignore[attr-defined]
                    raise
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._end_apart(call, error, context)

    def outliving(self, step: Step) -> Callable[[], None]:
        call, start = self._begin(step, step.operation, "library", _coordinate_attributes(step))
        call.span = self._tracer.start_span(step.operation, kind=_kind(step), attributes=start)
        context = otel_context.set_value(_RUNNING, call, set_span_in_context(call.span))
        with _current(context):
            begun(step, self)

        def end() -> None:
            self._read(call)
            self._end(call, context=context)
            call.span.end()
            ended(step)

        return end

    def request(self, step: Step) -> None:
        parent, links = request_context(step)
        attributes = request_attributes(step)
        call, start = self._begin(step, step.operation, "mcp", attributes, parent)
        call.client = "cursor"
        call.span = self._tracer.start_span(
            f"tools/call {attributes['gen_ai.tool.name']}",
            parent,
            SpanKind.SERVER,
            start,
            links,
            call.started - step.duration_ns,
        )
        self._serve(call, otel_context.set_value(_RUNNING, call, set_span_in_context(call.span, parent)))

    def model(self, step: Step) -> None:
        call, start = self._begin(step, None, "library", {**MODEL, IDENTITY: step.ident})
        call.span = self._tracer.start_span(
            "chat small", kind=SpanKind.CLIENT, attributes=start, start_time=call.started - step.duration_ns
        )
        self._serve(call, otel_context.set_value(_RUNNING, call, set_span_in_context(call.span)))

    def _serve(self, call: _Call, context: Context) -> None:
        error: BaseException | None = None
        with _current(context):
            try:
                work(call.step, self)
                self._read(call)
            except BaseException as raised:
                error = raised
                raise
            finally:
                self._end(call, call.step.duration_ns, error=error)
                call.span.end(call.started)

    def adopted(self, step: Step) -> None:
        with self.foreign.start_as_current_span(
            "GET /{path}", kind=SpanKind.SERVER, record_exception=False, set_status_on_exception=False
        ) as span:
            call, start = self._begin(step, step.operation, "dashboard", page_attributes(step))
            call.span = span
            error: BaseException | None = None
            with _attached(call, otel_context.get_current()):
                try:
                    work(step, self)
                    self._read(call)
                except BaseException as raised:
                    error = raised
                    raise
                finally:
                    span.set_attributes(start)
                    self._end(call, step.duration_ns, error=error)

    def event(self, name: str, attributes: dict[str, Any], warning: bool) -> None:
        severity = SeverityNumber.WARN if warning else SeverityNumber.INFO
        self._logger.emit(
            timestamp=time.time_ns(),
            event_name=name,
            attributes=dict(attributes),
            severity_number=severity,
            severity_text=severity.name,
        )
        self._points.event(name, attributes)

    # What they have in common.

    def _begin(
        self,
        step: Step,
        name: str | None,
        protocol: str,
        attributes: Mapping[str, Any] | None = None,
        context: Context | None = None,
    ) -> tuple[_Call, dict[str, Any]]:
        """The call, and the attributes that its span starts with."""
        running = otel_context.get_value(_RUNNING, context)
        entry = running.entry if isinstance(running, _Call) and not running.entry.finished else None
        surface = entry.surface if entry else entry_surface(protocol, context)
        call = _Call(step, surface, entry, name)
        start = dict(attributes or {})
        if name is not None:
            start["dataface.operation.name"] = name
            start["dataface.entry"] = entry is None
        start["dataface.surface"] = surface
        return call, start

    def _begin_apart(self, step: Step) -> tuple[_Call, Context]:
        call, start = self._begin(step, step.operation, "library", _coordinate_attributes(step))
        call.span = self._tracer.start_span(step.operation, kind=_kind(step), attributes=start)
        return call, otel_context.set_value(_RUNNING, call, set_span_in_context(call.span))

    def _end_apart(self, call: _Call, error: BaseException | None, context: Context) -> None:
        if error is None:
            self._read(call)
        self._end(call, error=error, context=context)
        call.span.end()

    def _read(self, call: _Call) -> None:
        step = call.step
        call.reasons.extend(step.reasons)
        if step.age is not None:
            layer, seconds = step.age
            call.age[layer] = max(seconds, call.age.get(layer, 0.0))
        if step.configured:
            call.known["dataface.catalog.source.configured"] = True
        if step.conversation is not None:
            call.known["dataface.conversation.size"] = step.conversation

    def _end(
        self,
        call: _Call,
        duration_ns: int | None = None,
        error: BaseException | None = None,
        context: Context | None = None,
    ) -> None:
        """Say on the span how it went, and record the points."""
        if duration_ns is None:
            duration_ns = time.perf_counter_ns() - call.began
        call.finished = True
        step, known, entry, read = call.step, call.known, call.entry, error is None
        failed = isinstance(error, Exception)
        if call.age:
            for layer, seconds in call.age.items():
                promise = _LIMITS.promise(layer)
                if promise is not None and seconds > promise and _STALE[layer] not in call.reasons:
                    call.reasons.append(_STALE[layer])
                if entry is not call:
                    entry.age[layer] = max(seconds, entry.age.get(layer, 0.0))
            layer = max(call.age, key=lambda each: call.age[each])
            known["dataface.staleness.age"] = float(call.age[layer])
            known["dataface.staleness.layer"] = layer
            if (promise := _LIMITS.promise(layer)) is not None:
                known["dataface.staleness.limit"] = promise
        if step.size is not None and read:
            known["dataface.payload.size"] = step.size
            known["dataface.payload.kind"] = step.kind
            limit = _LIMITS.budget(step.kind, call.client or "other", False)
            if limit is not None:
                known["dataface.payload.limit"] = limit
                if step.size > limit:
                    call.reasons.append("payload_over_budget")
        reasons = call.reasons
        if entry is call:
            reasons = sorted({*call.reasons, *call.risen})
        else:
            entry.risen.update(call.reasons)
        if failed:
            known["error.type"] = type(error).__name__
        outcome = "failed" if failed else "degraded" if reasons else "ok"
        known["dataface.outcome"] = outcome
        if reasons:
            known["dataface.degradation.reasons"] = tuple(reasons)
        if step.layers and read:
            known["dataface.catalog.layers"] = step.layers
        if step.unresolved and read:
            known["dataface.catalog.unresolved"] = step.unresolved
        if call.client is not None:
            known["dataface.client.name"] = call.client
        if call.span.is_recording():
            for key, value in known.items():
                call.span.set_attribute(key, value)
            if failed:
                call.span.set_status(StatusCode.ERROR)
        self._points.record(call, known, outcome, reasons, duration_ns / 1e9, context)


def _kind(step: Step) -> SpanKind:
    return SpanKind.CLIENT if step.operation == "query.execute" else SpanKind.INTERNAL


def _coordinate_attributes(step: Step) -> dict[str, Any]:
    return {f"dataface.catalog.{key}": value for key, value in _coordinates(step).items()}


@contextmanager
def _current(context: Context) -> Iterator[None]:
    token = otel_context.attach(context)
    try:
        yield
    finally:
        otel_context.detach(token)


def _attached(call: _Call, context: Context) -> Any:
    return _current(otel_context.set_value(_RUNNING, call, context))


class _Points:
    """The metrics, one instrument after the other."""

    def __init__(self, meter_provider: MeterProvider) -> None:
        meter = meter_provider.get_meter(names.SCOPE, names.VERSION, names.SCHEMA_URL)
        defined = {metric.name: metric for metric in names.METRICS}

        def histogram(name: str) -> Any:
            metric = defined[name]
            return meter.create_histogram(
                name, metric.unit, metric.brief, explicit_bucket_boundaries_advisory=metric.boundaries
            )

        def counter(name: str) -> Any:
            return meter.create_counter(name, defined[name].unit, defined[name].brief)

        self._served = counter("dataface.context.served")
        self._degradations = counter("dataface.degradations")
        self._unresolved = counter("dataface.resolution.failures")
        self._durations = histogram("dataface.operation.duration")
        self._sizes = histogram("dataface.payload.size")
        self._conversations = histogram("dataface.conversation.size")
        self._ages = histogram("dataface.staleness.age")
        self._requests = histogram("mcp.server.operation.duration")
        self._sessions = histogram("mcp.server.session.duration")
        self._pages = histogram("http.server.request.duration")
        self._models = histogram("gen_ai.client.operation.duration")
        self._built: dict[str, float] = {}
        self._lock = Lock()
        built = defined["dataface.artifact.built_at"]

        def observe_built(_options: CallbackOptions) -> Iterable[Observation]:
            with self._lock:
                return [
                    Observation(value, {"dataface.artifact": name}) for name, value in self._built.items()
                ]

        meter.create_observable_gauge(built.name, [observe_built], built.unit, built.brief)

    def record(
        self,
        call: _Call,
        known: Mapping[str, Any],
        outcome: str,
        reasons: list[str],
        seconds: float,
        context: Context | None,
    ) -> None:
        step, surface, entry = call.step, call.surface, call.entry is call and call.name is not None
        client = {} if call.client is None else {"dataface.client.name": call.client}
        error = {"error.type": known["error.type"]} if "error.type" in known else {}
        if entry:
            self._served.add(
                1,
                {
                    "dataface.operation.name": step.operation,
                    "dataface.surface": surface,
                    "dataface.outcome": outcome,
                    **client,
                },
                context,
            )
            for reason in reasons:
                self._degradations.add(
                    1, {"dataface.degradation.reason": reason, "dataface.surface": surface}, context
                )
        if "dataface.catalog.unresolved" in known:
            labels: dict[str, Any] = {"dataface.surface": surface, **error}
            if reasons:
                labels["dataface.degradation.reason"] = reasons[0]
            if step.source is not None and step.shape not in ("request", "model", "adopted"):
                labels["dataface.catalog.source"] = step.source if step.configured else "_OTHER"
            self._unresolved.add(step.unresolved, labels, context)
        if step.shape == "request":
            tool = "execute_query" if step.configured else "_OTHER"
            self._requests.record(
                seconds,
                {
                    "mcp.method.name": "tools/call",
                    "gen_ai.tool.name": tool,
                    "network.transport": "pipe",
                    "mcp.protocol.version": "2025-06-18",
                    **error,
                },
                context,
            )
        elif step.shape == "model":
            self._models.record(seconds, {**MODEL, **error}, context)
        elif step.shape == "adopted":
            self._pages.record(
                seconds,
                {"http.request.method": "GET", "url.scheme": "http", "http.route": "/{path}", **error},
                context,
            )
        else:
            self._durations.record(
                seconds,
                {
                    "dataface.operation.name": step.operation,
                    "dataface.surface": surface,
                    "dataface.outcome": outcome,
                },
                context,
            )
        if "dataface.payload.size" in known:
            self._sizes.record(
                known["dataface.payload.size"],
                {"dataface.payload.kind": step.kind, "dataface.surface": surface, **client},
                context,
            )
        if entry and "dataface.conversation.size" in known:
            self._conversations.record(
                known["dataface.conversation.size"], {"dataface.surface": surface}, context
            )
        if entry and "dataface.staleness.age" in known:
            self._ages.record(
                known["dataface.staleness.age"],
                {"dataface.catalog.layer": known["dataface.staleness.layer"], "dataface.surface": surface},
                context,
            )

    def event(self, name: str, attributes: Mapping[str, Any]) -> None:
        if name == "dataface.session.ended":
            self._sessions.record(
                attributes["dataface.session.duration"],
                {"network.transport": attributes["network.transport"]},
            )
        elif name == "dataface.artifact.changed":
            with self._lock:
                self._built[attributes["dataface.artifact"]] = attributes["dataface.artifact.built_at"]
