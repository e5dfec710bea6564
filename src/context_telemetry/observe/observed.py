"""Turning a function into an observed one: sync, async, generator or async generator, decided once when it is made.

The decorators and the hooks are the same thing: a `Plan` and `observe(function, plan)`. When a decorated function is
hooked as well, the inner one joins the operation of the outer one instead of making a second span.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, overload

from opentelemetry import context as otel_context
from opentelemetry.util.types import AttributeValue

from context_telemetry.conventions import names
from context_telemetry.observe import failsafe, recorder
from context_telemetry.observe.operation import (
    COORDINATES,
    Operation,
    conclude_error,
    current,
    is_interruption,
)
from context_telemetry.observe.reading import AnyReader, Call, Signature, check_names

F = TypeVar("F", bound="Callable[..., Any] | classmethod[Any, Any, Any] | staticmethod[Any, Any]")

_MARK = "__context_telemetry__"


@dataclass(frozen=True)
class Plan:
    """How to observe one function.

    ``before`` looks at the arguments before the span starts: it gives the operation that this call really is, and
    attributes for it.
    """

    operation: str
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    reader: AnyReader | None = None
    before: Callable[[Call], tuple[str, Mapping[str, AttributeValue]]] | None = None

    def __post_init__(self) -> None:
        check_names("operation", (self.operation,), names.OPERATIONS)


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
    """Begins and ends the operation of one observed function. Neither raises."""

    __slots__ = ("_asked", "_inner_mark", "_key", "plan", "signature")

    def __init__(self, function: Callable[..., Any], plan: Plan) -> None:
        self.plan = plan
        self.signature = Signature(function)
        self._asked = tuple(name for name in COORDINATES if name in self.signature)
        self._key = inspect.unwrap(function)
        self._inner_mark = _is_marked(function)

    def begin(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Operation | None, bool]:
        """The operation of this call and whether it is this call's own; (None, False) when it could not be made."""
        try:
            context = otel_context.get_current()  # once, for all who would look it up
            running = current(context)
            if running is not None and running.pending is self._key:
                running.pending = None
                return running, False
            plan = self.plan
            name, attributes = plan.operation, plan.attributes
            if plan.before is not None:
                name, extra = plan.before(Call(self.signature, args, kwargs))
                attributes = {**attributes, **extra}
            op = Operation(name, attributes, context=context)
            for asked in self._asked:
                value = self.signature.value(asked, args, kwargs)
                if isinstance(value, str):
                    op.coordinates(**{asked: value})
            if self._inner_mark:
                op.pending = self._key
            return op, True
        except Exception as error:
            failsafe.caught(f"begin of {self.plan.operation}", error)
            return None, False

    def end(
        self,
        op: Operation | None,
        own: bool,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        result: Any,
        error: BaseException | None,
    ) -> None:
        """Read the result or the exception, and finish the operation if it is this call's own."""
        if op is None:
            return
        try:
            if error is not None:
                conclude_error(op, error)
            if self.plan.reader is not None and (error is None or not is_interruption(error)):
                op.apply(self.plan.reader, Call(self.signature, args, kwargs, result, error))
        except Exception as problem:
            failsafe.caught(f"end of {self.plan.operation}", problem)
        if own:
            op.finish()


def _function(function: Callable[..., Any], observer: _Observer) -> Callable[..., Any]:
    def observed(*args: Any, **kwargs: Any) -> Any:
        if not recorder.live():
            return function(*args, **kwargs)
        op, own = observer.begin(args, kwargs)
        if own:
            op.attach()  # type: ignore[union-attr]  # one's own operation is never None
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            observer.end(op, own, args, kwargs, None, error)
            raise
        else:
            observer.end(op, own, args, kwargs, result, None)
            return result
        finally:
            if own:
                op.detach()  # type: ignore[union-attr]

    return observed


def _coroutine(function: Callable[..., Any], observer: _Observer) -> Callable[..., Any]:
    async def observed(*args: Any, **kwargs: Any) -> Any:
        if not recorder.live():
            return await function(*args, **kwargs)
        op, own = observer.begin(args, kwargs)
        if own:
            op.attach()  # type: ignore[union-attr]
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            observer.end(op, own, args, kwargs, None, error)
            raise
        else:
            observer.end(op, own, args, kwargs, result, None)
            return result
        finally:
            if own:
                op.detach()  # type: ignore[union-attr]

    return observed


class _Steps:
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
        if not recorder.live():
            return (yield from function(*args, **kwargs))
        op, own = observer.begin(args, kwargs)
        body, steps = function(*args, **kwargs), _Steps(op)
        result: Any = None
        failure: BaseException | None = None
        try:
            item = steps.run(body.send, None)
            while True:
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
            observer.end(op, own, args, kwargs, result, failure)

    return observed


def _async_generator(function: Callable[..., Any], observer: _Observer) -> Callable[..., Any]:
    async def observed(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        live = recorder.live()
        op, own = observer.begin(args, kwargs) if live else (None, False)
        body, steps = function(*args, **kwargs), _Steps(op)
        failure: BaseException | None = None
        try:
            item = await steps.run_async(body.asend, None)
            while True:
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
            observer.end(op, own, args, kwargs, None, failure)

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
