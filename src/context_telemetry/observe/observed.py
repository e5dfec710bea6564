"""Turning a function into an observed one: sync, async, generator or async generator, decided once when it is made.

The decorators and the hooks are the same thing: a `Plan` and `observe(function, plan)`. When a decorated function is
hooked as well, the inner one joins the operation of the outer one instead of making a second span.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, overload

from opentelemetry import context as otel_context
from opentelemetry.util.types import AttributeValue

from context_telemetry.conventions import names
from context_telemetry.observe import failsafe, recorder
from context_telemetry.observe.operation import (
    Operation,
    conclude_error,
    current,
    is_interruption,
    object_name,
)
from context_telemetry.observe.reading import COORDINATES, AnyReader, Call, Reading, Signature, check_names
from context_telemetry.observe.recorder import heard

F = TypeVar("F", bound="Callable[..., Any] | classmethod[Any, Any, Any] | staticmethod[Any, Any]")

_MARK = "__context_telemetry__"
_blank: Callable[[type[Operation]], Operation] = object.__new__


class Follower(Protocol):
    """Sees one generator at work: what a reader is for a call whose result comes in many pieces."""

    def item(self, item: Any) -> None:
        """The generator is about to yield ``item``."""
        ...

    def ended(self, error: BaseException | None) -> Reading | None:
        """It ended, with ``error`` (GeneratorExit where its consumer left it); the operation is not finished yet."""
        ...


@dataclass(frozen=True)
class Plan:
    """How to observe one function.

    A call that ``joins`` is a part of the operation around it where that is the same one, and makes no span of its own:
    its reader speaks for that operation, but whether it failed is for that one to say. One that is ``inner`` serves
    nobody by itself: outside of an operation it is not observed. ``before`` looks at the arguments before the span
    starts: it gives the operation that this call really is, and attributes for it. ``span_name`` makes the span's name
    of these; ``protocol`` is the surface where the call is an entry and nobody says another. ``follow`` begins to
    follow a generator.
    """

    operation: str
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    reader: AnyReader | None = None
    joins: bool = False
    inner: bool = False
    before: Callable[[Call], tuple[str, Mapping[str, AttributeValue]]] | None = None
    span_name: Callable[[Mapping[str, AttributeValue]], str] | None = None
    protocol: str = "library"
    follow: Callable[[Operation, Call], Follower] | None = None

    def __post_init__(self) -> None:
        check_names("operation", (self.operation,), names.OPERATIONS)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function`` observed by this plan: a wrapper, as `tap` makes one that has no span."""
        return observe(function, self)


def observe(function: Callable[..., Any], plan: Plan) -> Callable[..., Any]:
    """``function`` observed by ``plan``, of the same kind and with the same signature."""
    observer = _Observer(function, plan)
    if inspect.isasyncgenfunction(function):
        wrapper: Any = _async_generator(function, observer)
    elif inspect.isgeneratorfunction(function):
        wrapper = _generator(function, observer)
    elif inspect.iscoroutinefunction(function):
        wrapper = _coroutine(function, observer)
    else:
        wrapper = _function(function, observer)
    wrapper = functools.wraps(function)(wrapper)
    setattr(wrapper, _MARK, True)
    return wrapper  # type: ignore[no-any-return]  # functools.wraps gives back what it was given


class _Observer:
    """What is known of an observed function before it is called; begins and ends its calls. Neither raises.

    An operation and what the call is to it go from `begin` to `end`: an object for the two would cost as much as they.
    """

    __slots__ = ("asked", "inner_mark", "key", "plan", "read", "signature")

    def __init__(self, function: Callable[..., Any], plan: Plan) -> None:
        self.plan, self.read = plan, plan.reader
        self.signature = Signature(function)
        self.asked = tuple(name for name in COORDINATES if name in self.signature)
        self.key = inspect.unwrap(function)
        self.inner_mark = _is_marked(function)

    def begin(
        self, by: recorder.Recorder, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[Operation | None, str]:
        """The operation that a call is or joins, None when there is none, and what the call is to it."""
        plan = self.plan
        try:
            context = otel_context.get_current()
            running = current(context) if context else None
            if running is not None:
                if running.pending is self.key:
                    running.pending = None
                    return running, _JOINED
                if plan.joins and running.name == plan.operation:
                    return running, _PART
            elif plan.inner:
                return None, _JOINED
            name, attributes, span_name = plan.operation, plan.attributes, None
            if self.asked:
                attributes = {**attributes, **self._coordinates(args, kwargs)}
            if plan.before is not None:
                name, extra = plan.before(Call(self.signature, args, kwargs))
                attributes = {**attributes, **extra}
            if plan.span_name is not None:
                span_name = plan.span_name(attributes)
            op = _blank(Operation)
            op._begin(by, name, attributes, span_name, None, plan.protocol, context, running)
            if self.inner_mark:
                op.pending = self.key
        except Exception as error:
            failsafe.caught(f"begin of {plan.operation}", error)
            return None, _JOINED
        return op, _OWN

    def _coordinates(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, AttributeValue]:
        values = ((name, self.signature.value(name, args, kwargs)) for name in self.asked)
        return {COORDINATES[name]: object_name(value) for name, value in values if isinstance(value, str)}

    def follow(self, op: Operation | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Follower:
        """Whoever follows the generator that this call has made."""
        if op is not None and self.plan.follow is not None:
            try:
                return _SafeFollower(
                    self.plan.follow(op, Call(self.signature, args, kwargs)), self.plan.operation
                )
            except Exception as error:
                failsafe.caught(f"begin of {self.plan.operation}", error)
        return _NOBODY

    def end(
        self,
        op: Operation,
        role: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        result: Any,
        error: BaseException | None = None,
        follower: Follower | None = None,
    ) -> None:
        """Read the result or the exception, and finish the operation if it is this call's own."""
        read = self.read
        try:
            if error is not None:
                conclude_error(op, error, part=role is _PART)
            if read is not None and (error is None or not is_interruption(error)):
                op.apply(read, Call(self.signature, args, kwargs, result, error), role is _PART)
            if follower is not None:
                reading = follower.ended(error)
                if reading is not None:
                    op.take(reading)
        except Exception as problem:
            failsafe.caught(f"end of {self.plan.operation}", problem)
        if role is _OWN:
            op.finish()


# What a call is to its operation: it makes it, it is the same call seen once more, or a part of it.
_OWN, _JOINED, _PART = "own", "joined", "part"


class _SafeFollower:
    """A follower whose failures are ours."""

    __slots__ = ("_follower", "_operation")

    def __init__(self, follower: Follower, operation: str) -> None:
        self._follower, self._operation = follower, operation

    def item(self, item: Any) -> None:
        try:
            self._follower.item(item)
        except Exception as problem:
            failsafe.caught(f"item of {self._operation}", problem)

    def ended(self, error: BaseException | None) -> Reading | None:
        return self._follower.ended(error)


class _Nobody:
    """Follows nothing."""

    def item(self, item: Any) -> None:
        pass

    def ended(self, error: BaseException | None) -> Reading | None:
        return None


_NOBODY = _Nobody()


def _function(function: Callable[..., Any], observer: _Observer) -> Callable[..., Any]:
    begin, end = observer.begin, observer.end

    def observed(*args: Any, **kwargs: Any) -> Any:
        by = heard()
        if by is None:
            return function(*args, **kwargs)
        op, role = begin(by, args, kwargs)
        if op is None:
            return function(*args, **kwargs)
        if role is _OWN:
            op.attach()
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            end(op, role, args, kwargs, None, error)
            raise
        else:
            end(op, role, args, kwargs, result)
        finally:
            if role is _OWN:
                op.detach()
        return result

    return observed


def _coroutine(function: Callable[..., Any], observer: _Observer) -> Callable[..., Any]:
    begin, end = observer.begin, observer.end

    async def observed(*args: Any, **kwargs: Any) -> Any:
        by = heard()
        if by is None:
            return await function(*args, **kwargs)
        op, role = begin(by, args, kwargs)
        if op is None:
            return await function(*args, **kwargs)
        if role is _OWN:
            op.attach()
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            end(op, role, args, kwargs, None, error)
            raise
        else:
            end(op, role, args, kwargs, result)
        finally:
            if role is _OWN:
                op.detach()
        return result

    return observed


class Steps:
    """The context of a generator's body, which is current during each step and never across a ``yield``.

    Without an operation the body has its consumer's context, as any generator does.
    """

    __slots__ = ("_context",)

    def __init__(self, op: Operation | None) -> None:
        self._context = op.context if op is not None else None

    def run(self, step: Callable[..., Any], *value: Any) -> Any:
        if self._context is None:
            return step(*value)
        token = otel_context.attach(self._context)
        try:
            return step(*value)
        finally:
            self._context = otel_context.get_current()
            otel_context.detach(token)

    async def run_async(self, step: Callable[..., Any], *value: Any) -> Any:
        if self._context is None:
            return await step(*value)
        token = otel_context.attach(self._context)
        try:
            return await step(*value)
        finally:
            self._context = otel_context.get_current()
            otel_context.detach(token)


def _generator(function: Callable[..., Any], observer: _Observer) -> Callable[..., Any]:
    def observed(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        by = heard()
        if by is None:
            return (yield from function(*args, **kwargs))
        op, role = observer.begin(by, args, kwargs)
        follower = observer.follow(op if role is _OWN else None, args, kwargs)
        body, steps = function(*args, **kwargs), Steps(op)
        result: Any = None
        failure: BaseException | None = None
        try:
            item = steps.run(body.send, None)
            while True:
                follower.item(item)
                try:
                    sent = yield item
                except GeneratorExit:
                    steps.run(body.close)
                    raise
                except BaseException as thrown:
                    item = steps.run(body.throw, thrown)
                else:
                    item = steps.run(body.send, sent)
        except StopIteration as stop:
            result = stop.value
            return result
        except BaseException as error:
            failure = error
            raise
        finally:
            if op is not None:
                observer.end(op, role, args, kwargs, result, failure, follower)

    return observed


def _async_generator(function: Callable[..., Any], observer: _Observer) -> Callable[..., Any]:
    async def observed(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        by = heard()
        op, role = observer.begin(by, args, kwargs) if by is not None else (None, _JOINED)
        follower = observer.follow(op if role is _OWN else None, args, kwargs)
        body, steps = function(*args, **kwargs), Steps(op)
        failure: BaseException | None = None
        try:
            item = await steps.run_async(body.asend, None)
            while True:
                follower.item(item)
                try:
                    sent = yield item
                except GeneratorExit:
                    await steps.run_async(body.aclose)
                    raise
                except BaseException as thrown:
                    item = await steps.run_async(body.athrow, thrown)
                else:
                    item = await steps.run_async(body.asend, sent)
        except StopAsyncIteration:
            return
        except BaseException as error:
            failure = error
            raise
        finally:
            if op is not None:
                observer.end(op, role, args, kwargs, None, failure, follower)

    return observed


def tap(
    after: Callable[[Call], None], *, outside: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A wrapper that makes no span: ``after`` sees each finished call, to say something to the operation it is in.

    Calls that are in no operation are not looked at, unless ``outside`` says so.
    """

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        signature = Signature(function)

        def see(args: Any, kwargs: Any, result: Any, error: BaseException | None) -> None:
            try:
                if outside or current() is not None:
                    after(Call(signature, args, kwargs, result, error))
            except Exception as problem:
                failsafe.caught(f"tap on {function.__qualname__}", problem)

        @functools.wraps(function)
        def tapped(*args: Any, **kwargs: Any) -> Any:
            try:
                result = function(*args, **kwargs)
            except BaseException as error:
                see(args, kwargs, None, error)
                raise
            see(args, kwargs, result, None)
            return result

        return tapped

    return wrap


def _is_marked(function: Any) -> bool:
    """Whether ``function`` or anything that it wraps is already observed."""
    while function is not None:
        if _MARK in getattr(function, "__dict__", {}):
            return True
        function = getattr(function, "__wrapped__", None)
    return False


def decorate(target: F, plan: Plan) -> F:
    """`observe` for whatever stands below a decorator: functions, and class and static methods of either order."""
    if isinstance(target, (classmethod, staticmethod)):
        return type(target)(observe(target.__func__, plan))
    return observe(target, plan)  # type: ignore[return-value]


class _Decorator:
    """A decorator for one operation, bare or called: ``@profiling`` or ``@profiling(reader=..., source="shop")``."""

    def __init__(self, operation: str) -> None:
        self._operation = operation
        self.__doc__ = f"Observe a function as the operation ``{operation}``."

    @overload
    def __call__(self, function: F, /) -> F: ...

    @overload
    def __call__(
        self,
        /,
        *,
        reader: AnyReader | None = None,
        attributes: Mapping[str, AttributeValue] | None = None,
        **coordinates: str,
    ) -> Callable[[F], F]: ...

    def __call__(
        self,
        function: Any = None,
        /,
        *,
        reader: AnyReader | None = None,
        attributes: Mapping[str, AttributeValue] | None = None,
        **coordinates: str,
    ) -> Any:
        check_names("coordinate", tuple(coordinates), frozenset(COORDINATES))
        fixed = {COORDINATES[key]: value for key, value in coordinates.items()}
        plan = Plan(self._operation, {**(attributes or {}), **fixed}, reader)
        if function is None:
            return lambda each: decorate(each, plan)
        return decorate(function, plan)


catalog_resolution = _Decorator("catalog.resolve")
profiling = _Decorator("catalog.profile")
context_build = _Decorator("context.build")
