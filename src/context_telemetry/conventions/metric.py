"""The shape of one row of `names.METRICS`: what a metric is and how it derives from spans or events.

Data only; `derive` walks it in pure Python, `observe`'s recorder while the process runs. Every host imports
this, so it is named tuples with evaluated annotations: made in 0.5 ms, where two frozen dataclasses take 2.8.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple, TypedDict


class When(TypedDict, total=False):
    """Which spans or events a metric counts. All that is given must hold."""

    entry: Literal[True]
    """The span is an entry (`dataface.entry` is true)."""
    has: tuple[str, ...]
    """Attributes that it carries."""
    not_has: tuple[str, ...]
    """Attributes that it does not carry."""
    event: str
    """The event's name; always given, and only given, where `source` is "event"."""


class Metric(NamedTuple):
    """One metric of the conventions."""

    name: str
    instrument: Literal["counter", "histogram", "gauge"]
    unit: str
    brief: str
    boundaries: tuple[float, ...]
    """Upper bounds of the buckets, each inclusive; empty unless the instrument is a histogram."""
    attributes: tuple[str, ...]
    """What a point is labelled with, as far as the span or event has it."""
    source: Literal["span", "event"]
    when: When
    value: str | int
    """An attribute's name, "duration" (of the span, in seconds), or the number that every match counts."""
    each: str | None = None
    """A list attribute: one point per distinct item. With `parts`, the label that tells the parts apart."""
    read_from: Mapping[str, str] | None = None
    """Labels that are read from an attribute of another name; of a list its first item, or `each` item."""
    parts: Mapping[str, str] | None = None
    """Instead of `value`: one point per part, its label's value to the attribute that holds its number."""


class Bound(NamedTuple):
    """Which values of a label may go on a metric; any other becomes "_OTHER": a client can invent it."""

    known: frozenset[str] | None = None
    """The values that may; None: all, where `where` holds."""
    where: tuple[tuple[str, frozenset[str | bool]], ...] = ()
    """(attribute, values): only on a span that carries one of them is the label's value no client's invention."""
