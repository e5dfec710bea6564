"""What a reader is given (`Call`) and what it answers (`Reading`): the outcome of a call, read from its result.

Readers know the shapes of one call each and nothing else; this module knows no shapes at all.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from opentelemetry.util.types import AttributeValue

from context_telemetry.conventions import names

_NOTHING: Mapping[str, Any] = MappingProxyType({})
COORDINATES = {
    "source": names.DATAFACE_CATALOG_SOURCE,
    "schema": names.DATAFACE_CATALOG_SCHEMA,
    "table": names.DATAFACE_CATALOG_TABLE,
    "column": names.DATAFACE_CATALOG_COLUMN,
}
"""What of the catalogue can be asked for, from the outside in, with the attribute that says it."""


@dataclass(
    slots=True, init=False
)  # frozen, it would take three times as long to make: treat it as if it were
class Reading:
    """What one call's result says about the context that it served.

    ``payload_size`` is in bytes, ``ages`` in seconds by layer, ``coordinates`` by ``source``, ``schema``, ``table``
    and ``column``; ``unresolved`` counts the asked-for objects that did not resolve. ``outcome`` is at least
    ``degraded`` when there are reasons and ``failed`` when there is an ``error_type``.
    """

    outcome: str
    reasons: tuple[str, ...]
    error_type: str | None
    error_code: str | None
    payload_size: int | None
    payload_kind: str | None
    ages: Mapping[str, float]
    layers: tuple[str, ...]
    coordinates: Mapping[str, str]
    unresolved: int
    attributes: Mapping[str, AttributeValue]

    def __init__(
        self,
        outcome: str = "ok",
        reasons: tuple[str, ...] = (),
        error_type: str | None = None,
        error_code: str | None = None,
        payload_size: int | None = None,
        payload_kind: str | None = None,
        ages: Mapping[str, float] = _NOTHING,
        layers: tuple[str, ...] = (),
        coordinates: Mapping[str, str] = _NOTHING,
        unresolved: int = 0,
        attributes: Mapping[str, AttributeValue] = _NOTHING,
    ) -> None:
        self.outcome = outcome
        self.reasons = reasons
        self.error_type = error_type
        self.error_code = error_code
        self.payload_size = payload_size
        self.payload_kind = payload_kind
        self.ages = ages
        self.layers = layers
        self.coordinates = coordinates
        self.unresolved = unresolved
        self.attributes = attributes


class Signature:
    """The parameters of a function, looked at once: reading an argument at a call is then an index or a key."""

    __slots__ = ("_defaults", "_positions")

    def __init__(self, function: Callable[..., Any]) -> None:
        self._positions: dict[str, int | None] = {}
        self._defaults: dict[str, Any] = {}
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):  # a builtin without a signature: only its keywords are known
            parameters = ()  # type: ignore[assignment]  # an empty tuple is as iterable as a view
        for position, parameter in enumerate(parameters):
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                continue
            self._positions[parameter.name] = None if parameter.kind is parameter.KEYWORD_ONLY else position
            if parameter.default is not parameter.empty:
                self._defaults[parameter.name] = parameter.default

    def __contains__(self, name: str) -> bool:
        return name in self._positions

    def __iter__(self) -> Any:
        return iter(self._positions)

    def value(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The value that parameter ``name`` has in a call, its default when it was not given, else None."""
        if name in kwargs:
            return kwargs[name]
        position = self._positions.get(name)
        if position is not None and position < len(args):
            return args[position]
        return self._defaults.get(name)


class Call:
    """One finished call: its arguments, and either its result or the exception that it raised."""

    __slots__ = ("_args", "_kwargs", "_signature", "error", "result")

    def __init__(
        self,
        signature: Signature | None = None,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] = _NOTHING,
        result: Any = None,
        error: BaseException | None = None,
    ) -> None:
        self._signature = signature
        self._args = args
        self._kwargs = kwargs
        self.result = result
        self.error = error

    def argument(self, name: str) -> Any:
        """The value of argument ``name`` (``self`` for the instance of a method), None when there is none."""
        if self._signature is None:
            return self._kwargs.get(name)
        return self._signature.value(name, self._args, self._kwargs)

    @property
    def arguments(self) -> dict[str, Any]:
        """All bound arguments by name, defaults included."""
        return {name: self.argument(name) for name in self._signature or self._kwargs}


class Reader:
    """A function from a `Call` to a `Reading` (or None: nothing to say), with the names that it may use.

    Raises ValueError when made with a reason or layer that the conventions do not list, never at a call.
    """

    __slots__ = ("function", "layers", "reasons")

    def __init__(
        self,
        function: Callable[[Call], Reading | None],
        reasons: tuple[str, ...] = (),
        layers: tuple[str, ...] = (),
    ) -> None:
        check_names("reason", reasons, names.REASONS)
        check_names("layer", layers, names.LAYERS)
        self.function = function
        self.reasons = reasons
        self.layers = layers

    def __call__(self, call: Call) -> Reading | None:
        return self.function(call)

    def declares(self, reading: Reading) -> bool:
        """Whether every reason and layer of ``reading`` is among those that this reader was made with."""
        return all(reason in self.reasons for reason in reading.reasons) and all(
            layer in self.layers for layer in reading.layers
        )


AnyReader = Callable[[Call], "Reading | None"]


def reader(
    *, reasons: tuple[str, ...] = (), layers: tuple[str, ...] = ()
) -> Callable[[Callable[[Call], Reading | None]], Reader]:
    """Declare a reader together with the reasons and layers that it may answer with."""

    def declare(function: Callable[[Call], Reading | None]) -> Reader:
        return Reader(function, reasons, layers)

    return declare


_registered: dict[str, AnyReader] = {}


def register_reader(operation: str, read: AnyReader) -> None:
    """Make ``read`` what ``op.read(result)`` uses for ``operation``. Raises ValueError for an unknown name."""
    check_names("operation", (operation,), names.OPERATIONS)
    _registered[operation] = read


def registered_reader(operation: str) -> AnyReader | None:
    """The reader registered for ``operation``, if there is one."""
    return _registered.get(operation)


def check_names(what: str, given: tuple[str, ...], known: frozenset[str]) -> None:
    """Raise ValueError for the first of ``given`` that is not one of the ``known`` names of the conventions."""
    for name in given:
        if name not in known:
            raise ValueError(f"unknown {what} {name!r}; known: {', '.join(sorted(known))}")
