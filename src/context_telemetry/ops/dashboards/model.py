"""What a dashboard is, whoever draws it: rows of panels with their queries, limits and links. Data only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["stat", "lines", "areas", "table", "text"]
"""`lines` may be drawn over one another; `areas` are stacked, as parts of a sum."""

Unit = Literal["share", "per_call", "seconds", "bytes", "count", "per_second"]

COLUMNS = 24
"""How wide a row is; Perses and Grafana agree on it."""


@dataclass(frozen=True)
class Query:
    """One expression in PromQL. `legend` names its series: `{{label}}` stands for a label's value."""

    expression: str
    legend: str = ""


@dataclass(frozen=True)
class Threshold:
    """From `value` on it is bad; `words` say whose limit it is."""

    value: float
    words: str


@dataclass(frozen=True)
class Column:
    """A column of a table: one of the labels, or `value`."""

    label: str
    header: str
    width: int | None = None
    """In pixels, where the tool's own guess would cut what stands in it."""


@dataclass(frozen=True)
class Panel:
    """One question and its answer.

    `empty` says what no data means. It is never "all is well": what is known to be none is drawn as 0.
    """

    name: str
    """Unique on its dashboard; links point at it, so it stays."""
    title: str
    answers: str
    kind: Kind
    width: int
    unit: Unit = "count"
    queries: tuple[Query, ...] = ()
    empty: str = ""
    thresholds: tuple[Threshold, ...] = ()
    columns: tuple[Column, ...] = ()
    text: str = ""
    """Markdown; of a panel of kind `text` and of no other."""
    many: bool = False
    """So many series that their names stand beside the graph, one below the other."""
    traces: tuple[str, ...] = ()
    """Searches of `ops.queries` that find the calls which it counts."""
    indicators: tuple[str, ...] = ()
    """Whose alerts point here. The first also gives the link to the runbook."""


@dataclass(frozen=True)
class Row:
    """Panels beside one another, as high as `height` grid units; what does not fit goes below."""

    title: str
    height: int
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Variable:
    """A choice above the panels: the values of a label, one or several; at first all."""

    name: str
    title: str
    label: str
    matcher: str
    """The series that have the label."""


@dataclass(frozen=True)
class Dashboard:
    """`name` is the last part of its address."""

    name: str
    title: str
    answers: str
    rows: tuple[Row, ...]
    variables: tuple[Variable, ...]

    @property
    def panels(self) -> Iterator[Panel]:
        for row in self.rows:
            yield from row.panels


@dataclass(frozen=True)
class Place:
    """Where a panel is drawn, in grid units."""

    panel: Panel
    x: int
    y: int
    width: int
    height: int


def places(row: Row, top: int = 0) -> list[Place]:
    """A row's panels from left to right, in further lines where the width is used up."""
    placed: list[Place] = []
    x, y = 0, top
    for panel in row.panels:
        if x + panel.width > COLUMNS:
            x, y = 0, y + row.height
        placed.append(Place(panel, x, y, panel.width, row.height))
        x += panel.width
    return placed
