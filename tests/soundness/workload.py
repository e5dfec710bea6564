"""A deterministic workload: what is called, what is nested in what, and what foreign code does meanwhile.

It knows no recorder: a `Way` observes the calls. Equal seeds give equal plans, and every span can be told by an
identity that its call gives it, so that what two ways made of one plan can be compared span by span.
"""

from __future__ import annotations

import asyncio
import random
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from time import sleep
from typing import Any, Protocol

from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    TraceState,
    set_span_in_context,
)

from context_telemetry.observe.surface import surface

IDENTITY = "dataface.catalog.table"
"""The attribute that says which call one of our spans is of."""
FOREIGN = "soundness.foreign"
"""The attribute that says which of the foreign spans a foreign span is."""

SYNC = ("function", "generator", "block", "request", "model", "adopted")
ASYNC = ("coroutine", "async generator")
TOLD = ("request", "model", "adopted")
"""The shapes whose calls are told when they began, as servers and callbacks tell it."""
ERRORS: dict[str, type[BaseException]] = {
    "LookupError": LookupError,
    "ValueError": ValueError,
    "PermissionError": PermissionError,
    "CancelledError": asyncio.CancelledError,
}


@dataclass(frozen=True)
class Step:
    """One observed call: how it is observed, what it answers, what happens inside of it."""

    ident: str
    shape: str
    operation: str
    source: str | None = None
    configured: bool = False
    size: int | None = None
    kind: str = "tool_result"
    conversation: int | None = None
    reasons: tuple[str, ...] = ()
    age: tuple[str, float] | None = None
    unresolved: int = 0
    layers: tuple[str, ...] = ()
    error: str | None = None
    touches: tuple[str, ...] = ()
    duration_ns: int = 0
    """How long before its call a request says that it began, and ended with it: its points can be compared exactly."""
    remote: int | None = None
    """The flags of the remote parent of a request that has one."""
    pause: float = 0.0
    abandoned: bool = False
    """Whether the consumer of a generator leaves it after an item."""
    in_thread: bool = False
    gathered: bool = False
    """Whether the children of a coroutine run side by side."""
    under_foreign: bool = False
    surface: str | None = None
    baggage: str | None = None
    late: bool = False
    """Whether foreign code still writes on the span when it has ended."""
    outlives: bool = False
    """Whether a block's operation begins inside of its parent and ends after it."""
    children: tuple[Step, ...] = ()

    @property
    def remote_parent(self) -> SpanContext | None:
        """The span of another process that a request is a child of."""
        return None if self.remote is None else remote(self.ident, self.remote)


def remote(ident: str, flags: int) -> SpanContext:
    """A span of another process: the same one for the same identity."""
    source = random.Random(f"remote {ident}")
    state = TraceState([("vendor", ident.replace(".", "-"))])
    return SpanContext(
        source.getrandbits(127) + 1, source.getrandbits(63) + 1, True, TraceFlags(flags), state
    )


class Way(Protocol):
    """A way to observe: each method runs `work` (or its kin) for the step, observed."""

    foreign: Tracer
    """A neighbour's, of the same provider."""
    seen: dict[str, SpanContext]
    """The context of the current span inside each call, by identity; of foreign spans too."""

    def function(self, step: Step) -> Any: ...
    def generator(self, step: Step) -> Iterator[int]: ...
    def block(self, step: Step) -> Any: ...
    def request(self, step: Step) -> Any: ...
    def model(self, step: Step) -> Any: ...
    def adopted(self, step: Step) -> Any: ...
    async def coroutine(self, step: Step) -> Any: ...
    def async_generator(self, step: Step) -> AsyncIterator[int]: ...
    def outliving(self, step: Step) -> Callable[[], None]:
        """Begin a block and return what ends it."""
        ...

    def event(self, name: str, attributes: dict[str, Any], warning: bool) -> None: ...


# -- the plan -----------------------------------------------------------------------------------------------

_INNER = ("catalog.resolve", "catalog.profile", "context.build", "query.execute", "manifest.load")
_REASONS = ("source_substituted", "object_unknown", "manifest_missing", "face_unreadable", "charts_failed")
_KINDS = ("tool_result", "resource", "schema_context", "system_prompt")
# Values begin at these and go up by a running number, within their bucket: no two calls of a series have the same one,
# so that an exemplar's value says whose it is.
_SIZES = (0, 257, 1_025, 4_097, 10_241, 40_001, 65_537, 262_145, 1_048_577, 9_000_000)
_CONVERSATIONS = (1_025, 70_000)
_AGES = (0.0, 59.5, 60.0, 4e3, 3e6)
_DURATIONS_NS = (500_000, 5_000_000, 10_000_000, 30_000_000, 3_000_000_000)
_TOUCHES = (
    "attributes", "override", "events", "exception", "status ok", "status error",
    "rename", "link", "child", "odd", "baggage", "mutable", "event", "raising child",
)  # fmt: skip


def plan(seed: int, calls: int, threads: int = 4) -> list[list[Step]]:
    """The roots that each thread runs one after the other: ``calls`` calls in all."""
    each, more = divmod(calls, threads)
    return [_Plan(seed, thread, threads, each + (thread < more)).roots() for thread in range(threads)]


def count(steps: Sequence[Step]) -> int:
    """How many calls these steps and everything below them are."""
    return sum(1 + count(step.children) for step in steps)


def timed(steps: Iterable[Step]) -> dict[str, float]:
    """By identity, the seconds that the points of those calls say which are told when they began."""
    return {each.ident: each.duration_ns / 1e9 for each in steps if each.shape in TOLD}


def walk(steps: Sequence[Step]) -> Iterator[Step]:
    """These steps and everything below them."""
    for step in steps:
        yield step
        yield from walk(step.children)


class _Plan:
    def __init__(self, seed: int, thread: int, threads: int, calls: int) -> None:
        self._random = random.Random(f"{seed}.{thread}")
        self._thread, self._threads, self._left, self._next = thread, threads, calls, 0
        self._given: Counter[object] = Counter()

    def _own(self, among: object) -> int:
        """A number that no other call has ``among`` those."""
        self._given[among] += 1
        return (self._given[among] - 1) * self._threads + self._thread

    def roots(self) -> list[Step]:
        made = []
        while self._left > 0:
            made.append(self._step(0, can_await=self._random.random() < 0.4))
        return made

    def _step(self, depth: int, *, can_await: bool) -> Step:
        chance, choice = self._random.random, self._random.choice
        self._left -= 1
        self._next += 1
        ident = f"t{self._thread}.{self._next}"
        shape = choice(ASYNC if can_await and (depth == 0 or chance() < 0.5) else SYNC)
        outlives = shape == "block" and depth > 0 and chance() < 0.1
        error = choice(tuple(ERRORS)[:3]) if chance() < 0.15 else None
        if shape == "coroutine" and chance() < 0.03:
            error = "CancelledError"
        operation = {"request": "tool.call", "adopted": "page.serve"}.get(shape) or choice(_INNER)
        abandoned = (
            "generator" in shape and chance() < 0.2
        )  # what it would call after its first item, it never calls
        children: list[Step] = []
        if not outlives and not abandoned:
            wanted = choice((0, 1, 1, 2, 3)) if depth == 0 else choice((0, 0, 1, 2)) if depth == 1 else 0
            while wanted > len(children) and self._left > 0:
                children.append(self._step(depth + 1, can_await=shape in ASYNC))
        plain = shape == "model"
        kind, size, conversation, age = choice(_KINDS), choice(_SIZES), choice(_CONVERSATIONS), choice(_AGES)
        return Step(
            ident,
            shape,
            operation,
            source=choice((None, "shop", "wh")),
            configured=chance() < 0.5,
            size=size + self._own((size, kind)) if chance() < 0.8 and not plain else None,
            kind=kind,
            conversation=conversation + self._own(conversation) if chance() < 0.1 and not plain else None,
            reasons=tuple(self._random.sample(_REASONS, choice((1, 2, 3))))
            if chance() < 0.2 and not plain
            else (),
            age=(choice(("dbt_manifest", "result_cache")), age + self._own(age) / 1_024)
            if chance() < 0.2 and not plain
            else None,
            unresolved=choice((1, 2)) if chance() < 0.15 and not plain else 0,
            layers=("dbt_manifest", "metadata_sql") if chance() < 0.3 and not plain else (),
            error=error,
            touches=tuple(self._random.sample(_TOUCHES, choice((1, 2, 4)))) if chance() < 0.3 else (),
            duration_ns=choice(_DURATIONS_NS) + 10 * self._own("duration"),
            remote=choice((None, 0, 1)) if shape == "request" else None,
            # Long enough for an exemplar, which a quick and healthy call goes without.
            pause=0.011 if chance() < 0.008 else 0.0,
            abandoned=abandoned,
            in_thread=depth > 0 and shape in SYNC and chance() < 0.05,
            gathered=chance() < 0.5,
            under_foreign=chance() < 0.2,
            surface=choice(("ide", "agent")) if depth == 0 and chance() < 0.2 else None,
            baggage=ident if chance() < 0.2 else None,
            late=chance() < 0.03,
            outlives=outlives,
            children=tuple(children),
        )


# -- running it ---------------------------------------------------------------------------------------------


def run(plans: list[list[Step]], way: Way, *, switch: float = 2e-4) -> None:
    """Run each thread's roots in a thread; ``switch``: how often threads interrupt each other, in seconds."""
    failures: list[BaseException] = []
    barrier = threading.Barrier(len(plans))

    def runs(number: int, roots: list[Step]) -> None:
        loop = asyncio.new_event_loop()
        try:
            barrier.wait()
            for index, root in enumerate(roots):
                if root.shape in ASYNC:
                    loop.run_until_complete(perform_async(root, way))
                else:
                    perform(root, way)
                if index % 200 == 0:
                    _occurrences(number, index, way)
                assert otel_context.get_current() == {}, f"{root.ident} left its context behind"
        except BaseException as error:
            failures.append(error)
        finally:
            loop.close()

    before = sys.getswitchinterval()
    sys.setswitchinterval(switch)
    try:
        threads = [threading.Thread(target=runs, args=each) for each in enumerate(plans)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    if failures:
        raise failures[0]


def _occurrences(thread: int, index: int, way: Way) -> None:
    """What no call carries: events with a gauge and with a histogram, labelled so that no two threads meet."""
    way.event(
        "dataface.artifact.changed",
        {"dataface.artifact": f"a{thread}", "dataface.artifact.built_at": 1.7e9 + index},
        False,
    )
    way.event(
        "dataface.session.ended",
        {"dataface.session.duration": 0.25 * (thread + 1), "network.transport": f"pipe{thread}"},
        False,
    )


@contextmanager
def _around(step: Step, way: Way) -> Iterator[None]:
    """What is current when the call begins."""
    with ExitStack() as stack:
        if step.baggage is not None:
            token = otel_context.attach(baggage.set_baggage("soundness", step.baggage))
            stack.callback(otel_context.detach, token)
        if step.surface is not None:
            stack.enter_context(surface(step.surface))
        if step.under_foreign:
            stack.enter_context(_foreign(f"{step.ident}/above", way))
        yield


@contextmanager
def _foreign(ident: str, way: Way, **options: Any) -> Iterator[Span]:
    with way.foreign.start_as_current_span(
        f"foreign {ident}", attributes={FOREIGN: ident}, **options
    ) as span:
        way.seen[ident] = span.get_span_context()
        yield span


def perform(step: Step, way: Way) -> None:
    """Make one call that is not awaited, and survive it."""
    if step.in_thread:
        _in_thread(step, way)
        return
    with _around(step, way):
        _made(step, way)


def _made(step: Step, way: Way) -> None:
    try:
        if step.shape == "generator":
            items = way.generator(step)
            for _ in items:
                if step.abandoned:
                    break
            items.close()  # type: ignore[attr-defined]  # a generator has it
        else:
            {
                "function": way.function,
                "block": way.block,
                "request": way.request,
                "model": way.model,
                "adopted": way.adopted,
            }[step.shape](step)
    except tuple(ERRORS.values()) as error:
        if str(error) != step.ident:
            raise
    _too_late(step)


def _in_thread(step: Step, way: Way) -> None:
    """As an executor does whose tasks are given the context that they were submitted in."""
    context = otel_context.get_current()

    def inside() -> None:
        token = otel_context.attach(context)
        try:
            with _around(step, way):
                _made(step, way)
        finally:
            otel_context.detach(token)

    with ThreadPoolExecutor(1) as executor:
        executor.submit(inside).result()


async def perform_async(step: Step, way: Way) -> None:
    """Make one call, await it where that is its kind, and survive it."""
    if step.shape in SYNC:
        perform(step, way)
        return
    with _around(step, way):
        try:
            if step.shape == "coroutine":
                await way.coroutine(step)
            else:
                items = way.async_generator(step)
                async for _ in items:
                    if step.abandoned:
                        break
                await items.aclose()  # type: ignore[attr-defined]  # an asynchronous generator has it
        except tuple(ERRORS.values()) as error:
            if str(error) != step.ident:
                raise
    _too_late(step)


# -- what happens inside of a call --------------------------------------------------------------------------

_kept: dict[str, Span] = {}


def work(step: Step, way: Way) -> Step:
    """The body of an observed call."""
    _begin(step, way)
    ends = []
    for child in step.children:
        if child.outlives:
            ends.append(way.outliving(child))
        else:
            perform(child, way)
    _finish_later(step, ends)
    return _answer(step)


async def work_async(step: Step, way: Way) -> Step:
    """The body of an observed coroutine."""
    _begin(step, way)
    await asyncio.sleep(0)
    children = [child for child in step.children if not child.outlives]
    ends = [way.outliving(child) for child in step.children if child.outlives]
    if step.gathered:
        await asyncio.gather(*(perform_async(child, way) for child in children))
    else:
        for child in children:
            await perform_async(child, way)
    _finish_later(step, ends)
    return _answer(step)


def items(step: Step, way: Way) -> Iterator[int]:
    """The body of an observed generator."""
    _begin(step, way)
    yield 0
    for index, child in enumerate(step.children):
        if not child.outlives:
            perform(child, way)
        else:
            way.outliving(child)()
        yield index + 1
    _answer(step)


async def items_async(step: Step, way: Way) -> AsyncIterator[int]:
    """The body of an observed asynchronous generator."""
    _begin(step, way)
    yield 0
    for index, child in enumerate(step.children):
        await asyncio.sleep(0)
        if not child.outlives:
            await perform_async(child, way)
        else:
            way.outliving(child)()
        yield index + 1
    _answer(step)


_ends: dict[str, list[Callable[[], None]]] = {}


def _finish_later(step: Step, ends: list[Callable[[], None]]) -> None:
    if ends:
        _ends[step.ident] = ends


def _begin(step: Step, way: Way) -> None:
    span = trace.get_current_span()
    way.seen[step.ident] = span.get_span_context()
    if step.late:
        _kept[step.ident] = span
    for touch in step.touches:
        _touch(touch, span, step, way)


def _answer(step: Step) -> Step:
    if step.pause:
        sleep(step.pause)
    if step.error is not None:
        raise ERRORS[step.error](step.ident)
    return step


def _too_late(step: Step) -> None:
    for end in _ends.pop(step.ident, ()):
        end()
    span = _kept.pop(step.ident, None)
    if span is None or not step.late:
        return
    span.set_attribute("soundness.late", True)
    span.add_event("late")
    span.update_name("late")
    span.set_status(Status(StatusCode.ERROR, "late"))
    span.add_link(remote("late", 1))


def begun(step: Step, way: Way) -> None:
    """What happens in a block that outlives its parent."""
    _begin(step, way)


def ended(step: Step) -> None:
    """The end of the same."""
    _too_late(step)


def _touch(touch: str, span: Span, step: Step, way: Way) -> None:
    """What foreign code does to the span that is current, which is ours."""
    if touch == "attributes":
        span.set_attribute("soundness.text", "one")
        span.set_attribute("soundness.text", "two")
        span.set_attributes({"soundness.number": 7, "soundness.share": 0.5, "soundness.flag": True})
        span.set_attribute("soundness.list", ["a", "b"])
    elif touch == "override":  # what ours says at its end wins, what it said at its start does not
        span.set_attribute("dataface.outcome", "theirs")
        span.set_attribute("dataface.catalog.schema", "theirs")
    elif touch == "events":
        span.add_event("plain")
        span.add_event("with", {"n": 1, "list": ("x", "y")}, timestamp=1_700_000_000_000_000_000)
    elif touch == "exception":
        try:
            raise KeyError(step.ident)
        except KeyError as error:
            span.record_exception(error, {"soundness.handled": True})
    elif touch == "status ok":
        span.set_status(Status(StatusCode.OK))
    elif touch == "status error":
        span.set_status(StatusCode.ERROR, "theirs")
    elif touch == "rename":
        span.update_name(f"renamed {step.operation}")
    elif touch == "link":
        span.add_link(remote(step.ident + "/linked", 1), {"why": "because"})
        span.add_link(trace.INVALID_SPAN_CONTEXT)
    elif touch == "child":
        with (
            _foreign(f"{step.ident}/below", way, kind=SpanKind.CLIENT),
            _foreign(f"{step.ident}/deep", way) as deep,
        ):
            deep.add_event("inside")
    elif touch == "raising child":
        try:
            with _foreign(f"{step.ident}/raises", way):
                raise LookupError(step.ident)
        except LookupError:
            pass
    elif touch == "odd":
        odd: Any = [None, object(), {"a": 1}, b"bytes", [1, "mixed"], float("inf"), ""]
        for index, value in enumerate(odd):
            span.set_attribute(f"soundness.odd{index}", value)
        span.set_attribute("", "no key")
    elif touch == "baggage":
        span.set_attribute("soundness.baggage", str(baggage.get_baggage("soundness")))
    elif touch == "mutable":
        values, attributes = ["kept"], {"kept": 1}
        span.set_attribute("soundness.mutable", values)
        span.add_event("mutable", attributes)
        values.append("not kept")
        attributes["not kept"] = 1
    elif touch == "event":
        way.event(
            "dataface.degradation",
            {"dataface.degradation.reason": "manifest_missing", "dataface.soundness": step.ident},
            True,
        )


def request_context(step: Step) -> tuple[Context, list[Link]]:
    """The parent context of a request, and its links: where the remote one is the parent, the ambient one is a link."""
    current = otel_context.get_current()
    parent = step.remote_parent
    if parent is None:
        return current, []
    ambient = trace.get_current_span(current).get_span_context()
    links = [Link(ambient, {"ambient": True})] if ambient.is_valid else []
    links.append(Link(remote(step.ident + "/other", 0)))
    return set_span_in_context(NonRecordingSpan(parent), Context()), links
