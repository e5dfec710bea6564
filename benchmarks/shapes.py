"""The calls that are observed, as cheap as can be, so that what is measured is the observing; and how they are made.

The slow one waits as long as a call of Dataface takes at least, without taking CPU meanwhile: many wait at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Literal

from context_telemetry.observe.opentelemetry_recorder import QUICK_NS

Shape = Literal[
    "function", "slow", "degraded", "request", "raising", "coroutine", "generator", "async generator"
]

CONTEXT = "orders: one row per order. " * 8
INNER = 4
"""Inner operations of a request."""
REASON = "manifest_missing"
"""What is wrong with a degraded call."""

# Long enough for an exemplar with either recorder.
_SLOW_SECONDS = 1.2 * QUICK_NS / 1e9
_AT_ONCE = 250
_loop = asyncio.new_event_loop()
_gate = asyncio.Event()


def function(topic: str) -> str:
    return CONTEXT


def inner(topic: str) -> str:
    """What a request asks for so often."""
    return topic


def raising(topic: str) -> str:
    raise LookupError(topic)


async def coroutine(topic: str) -> str:
    return CONTEXT


async def slow(topic: str) -> str:
    await _gate.wait()
    return CONTEXT


def request_of(ask: Callable[[str], str]) -> Callable[[str], str]:
    """A request that asks ``ask``, which is observed or not."""

    def request(topic: str) -> str:
        for _ in range(INNER):
            ask(topic)
        return topic

    return request


def generator(items: int) -> Iterator[int]:
    yield from range(items)


async def async_generator(items: int) -> AsyncIterator[int]:
    for item in range(items):
        yield item


BARE: dict[Shape, Callable[..., Any]] = {
    "function": function,
    "slow": slow,
    "degraded": function,
    "request": request_of(inner),
    "raising": raising,
    "coroutine": coroutine,
    "generator": generator,
    "async generator": async_generator,
}


def spans_of(shape: Shape) -> int:
    """Spans of one call."""
    return 1 + INNER if shape == "request" else 1


def is_per_item(shape: Shape) -> bool:
    """Whether a unit is an item of a generator, and not a call."""
    return "generator" in shape


def run(call: Callable[..., Any], shape: Shape) -> Callable[[int], None]:
    """What makes so many units: calls, of a generator items of one call."""

    def calls(units: int) -> None:
        for _ in range(units):
            call("orders")

    def raises(units: int) -> None:
        for _ in range(units):
            try:  # noqa: SIM105  # suppress() would cost as much as what is measured
                call("orders")
            except LookupError:
                pass

    def awaits(units: int) -> None:
        async def all_of_them() -> None:
            for _ in range(units):
                await call("orders")

        _loop.run_until_complete(all_of_them())

    def waits(units: int) -> None:
        async def all_of_them() -> None:
            for begun in range(0, units, _AT_ONCE):
                _gate.clear()
                waiting = [_loop.create_task(call("orders")) for _ in range(min(_AT_ONCE, units - begun))]
                await asyncio.sleep(0)  # so that all have begun
                await asyncio.sleep(_SLOW_SECONDS)
                _gate.set()
                for each in waiting:
                    await each

        _loop.run_until_complete(all_of_them())

    def items(units: int) -> None:
        for _ in call(units):
            pass

    def async_items(units: int) -> None:
        async def all_of_them() -> None:
            async for _ in call(units):
                pass

        _loop.run_until_complete(all_of_them())

    by_shape: dict[Shape, Callable[[int], None]] = {
        "function": calls,
        "slow": waits,
        "degraded": calls,
        "request": calls,
        "raising": raises,
        "coroutine": awaits,
        "generator": items,
        "async generator": async_items,
    }
    return by_shape[shape]
