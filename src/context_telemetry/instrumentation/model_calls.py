"""One call of an agent's model: a client span from the request to the end of its stream, with the tokens it took.

The client is the host's, and nothing here talks to a model: the loop is handed a view of it that shows its streams.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import wrapt
from opentelemetry.trace import SpanKind
from opentelemetry.util.types import AttributeValue

from context_telemetry.conventions import names
from context_telemetry.observe import failsafe
from context_telemetry.observe.fork import renew_in_child
from context_telemetry.observe.observed import Steps
from context_telemetry.observe.operation import Operation, conclude_error

_TOKENS = {
    "total_input_tokens": names.GEN_AI_USAGE_INPUT_TOKENS,
    "total_output_tokens": names.GEN_AI_USAGE_OUTPUT_TOKENS,
}


class ModelCall:
    """One call of the host's client, from its request to the end of its stream, as a client span."""

    def __init__(self, client: Any, turn: Mapping[str, AttributeValue], size: int) -> None:
        attributes: dict[str, AttributeValue] = {
            names.GEN_AI_OPERATION_NAME: "chat",
            names.GEN_AI_REQUEST_STREAM: True,
            names.DATAFACE_CONVERSATION_SIZE: size,
        }
        for shared in (names.GEN_AI_PROVIDER_NAME, names.GEN_AI_REQUEST_MODEL, names.GEN_AI_CONVERSATION_ID):
            if shared in turn:
                attributes[shared] = turn[shared]
        model = turn.get(names.GEN_AI_REQUEST_MODEL)
        self.failed: str | None = None
        self.tokens: dict[str, int] = {}
        self._first: int | None = None
        self._op = Operation(
            None, attributes, span_name=f"chat {model}" if model else "chat", kind=SpanKind.CLIENT
        )
        self._started = time.perf_counter_ns()
        self._steps = Steps(self._op)
        self._usage = Usage(client)  # last, because it counts as running from here on

    def observe(self, begin: Callable[[], Iterator[Any]]) -> Stream:
        """The stream that ``begin`` starts, seen."""
        return Stream(self.step(begin), self)

    def step(self, step: Callable[..., Any], *value: Any) -> Any:
        """One step of the client, inside of this call's context. What it raises is the client's, nothing of ours."""
        try:
            item = self._steps.run(step, *value)
        except StopIteration:
            self.finish()
            raise
        except BaseException as error:
            conclude_error(self._op, error)
            self.failed = self._op.error_type
            self.finish()
            raise
        return item

    def chunk(self) -> None:
        """Something came."""
        if self._first is None:
            self._first = time.perf_counter_ns() - self._started
            self._op.attributes[names.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK] = self._first / 1e9

    def finish(self) -> None:
        """The stream is at its end, or nobody wants the rest of it. Idempotent."""
        try:
            used = self._usage.used()
            if used:
                self.tokens = used
                self._op.attributes.update(used)
        except Exception as error:
            failsafe.caught("agent tokens", error)
        self._op.finish()


class Stream:
    """The stream of a model call. Like a ``for`` over the host's own, it closes nothing: dropping it drops that."""

    __slots__ = ("_call", "_iterator")

    def __init__(self, iterator: Iterator[Any], call: ModelCall) -> None:
        self._iterator, self._call = iterator, call

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Any:
        item = self._call.step(next, self._iterator)
        self._call.chunk()
        return item


class Client(wrapt.ObjectProxy):  # type: ignore[type-arg]  # before wrapt 2 it takes no argument
    """The host's client, to all who look at it; only the loop has this one, and ``stream`` sees its model calls."""

    def __init__(self, client: Any, stream: Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]) -> None:
        super().__init__(client)
        self._self_stream = stream

    def stream_with_tools(self, *args: Any, **kwargs: Any) -> Any:
        return self._self_stream(self.__wrapped__, args, kwargs)


class Usage:
    """The tokens of one call, from the running totals that a client keeps of all its calls.

    Two calls that run at once on one client cannot be told apart by its totals: then none is said of either.
    """

    _lock = threading.Lock()
    _running: ClassVar[dict[int, list[Usage]]] = {}

    def __init__(self, client: Any) -> None:
        self._client = client
        self._before = {total: _count(client, total) for total in _TOKENS}
        with self._lock:
            together = self._running.setdefault(id(client), [])
            together.append(self)
            self._alone = len(together) == 1
            if not self._alone:
                for each in together:
                    each._alone = False

    def used(self) -> dict[str, int]:
        """Tokens by attribute, as far as the client counts them; empty the second time."""
        client, self._client = self._client, None
        if client is None:
            return {}
        with self._lock:
            together = self._running.get(id(client), [])
            if self in together:  # not in a child that was forked since
                together.remove(self)
            if not together:
                self._running.pop(id(client), None)
        if not self._alone:
            return {}
        used = {}
        for total, attribute in _TOKENS.items():
            before, after = self._before[total], _count(client, total)
            if before is not None and after is not None and after > before:
                used[attribute] = after - before
        return used

    @classmethod
    def renew(cls) -> None:
        """In a forked child: the calls that its parent's other threads make do not end here."""
        cls._lock = threading.Lock()
        cls._running.clear()


renew_in_child(lambda: Usage.renew())


def _count(client: Any, total: str) -> int | None:
    try:
        value = getattr(client, total, None)
    except Exception as error:  # the host's property can do anything
        failsafe.caught("agent tokens", error)
        return None
    return value if isinstance(value, int) else None
