"""The shape of what `declared` holds: attributes with their types, signals with their levels. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Attribute:
    """What may stand in an attribute."""

    type: str
    """string, int, double or boolean, with [] for a list of them."""
    members: frozenset[str] | None = None
    """The closed list, where there is one."""
    every_run: bool = True
    """A full run shows every member, or the attribute; False where what is seen depends on who connects, what goes
    wrong, or which release is installed."""


@dataclass(frozen=True, slots=True)
class Signal:
    """What a span type, a metric or an event may carry, and has to."""

    name: str
    levels: Mapping[str, str]
    """Attribute to requirement level: required, conditionally_required, recommended, opt_in."""
    kind: str = ""
    """Of a span: server, client, internal."""
    operations: frozenset[str] = frozenset()
    """Of a span type: the operations that it is the span of."""
