"""What the steps of a contract hand to each other: objects with their facts, uses, changes. Data only.

An object is a table, a column, a tool or a resource. Its facts are what the rules judge; None is "not known", which no
rule takes for a change. What is known to be absent is empty: no key is "none", no values and no grain are (), no
target, unit and owner are "", no bound and no promise are infinite.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Level = Literal["breaking", "warning", "info"]
"""How bad a change is: it stops a consumer from working, it may mislead one, or it harms none."""

Direction = Literal["tightens", "loosens", "neither"]
"""Whether a change promises more than before, less, or neither."""

Perspective = Literal["consumer", "producer"]
"""Who is harmed: who reads what is served, or who provides it (arguments that a tool's caller has to send)."""


class ColumnKey(NamedTuple):
    """Where a column is. Names are as the warehouse has them; compared without case where the source does so."""

    source: str
    schema: str
    table: str
    column: str


class TableKey(NamedTuple):
    """Where a table is; without schema and table, all of a source."""

    source: str
    schema: str
    table: str


@dataclass(frozen=True)
class ColumnFacts:
    """One column: as the warehouse serves it, and as the project's manifest declares it."""

    type: str | None = None
    """As served, in the words of the warehouse: `DECIMAL(18,2)`."""
    declared_type: str | None = None
    nullable: bool | None = None
    key: Literal["primary", "unique", "none"] | None = None
    described: bool | None = None
    position: int | None = None
    not_null: bool | None = None
    """Whether a dbt test or constraint says so."""
    unique: bool | None = None
    accepted_values: tuple[str, ...] | None = None
    references: str | None = None
    """`table.column` that a relationships test or foreign key points to."""
    minimum: float | None = None
    """The lowest value that a test allows; minus infinity where none is set."""
    maximum: float | None = None
    """The highest value that a test allows; infinity where none is set."""
    unit: str | None = None
    """What its numbers are in, as the manifest's `meta` says: `EUR`, `seconds`."""
    timezone: str | None = None
    """What its times are in, as the manifest's `meta` says: `UTC`."""
    expression: str | None = None
    """How a metric or measure is computed, as the semantic layer says: `sum(revenue)`."""


@dataclass(frozen=True)
class TableFacts:
    """One table or view."""

    kind: Literal["table", "view"] | None = None
    model: str | None = None
    """The dbt node that makes it: `model.shop.fct_orders`."""
    described: bool | None = None
    grain: tuple[str, ...] | None = None
    """The columns that make a row unique, as far as the manifest says."""
    enforced: bool | None = None
    """Whether dbt enforces the model's contract."""
    freshness_seconds: float | None = None
    """The promise of a dbt source: its data is never older; infinity where it promises none."""
    owner: str | None = None


@dataclass(frozen=True)
class ToolFacts:
    """One MCP tool, as `tools/list` gives it."""

    description: str = ""
    input_schema: Mapping[str, Any] = field(default_factory=dict)
    output_schema: Mapping[str, Any] | None = None
    annotations: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ResourceFacts:
    """One MCP resource or resource template, as `resources/list` and `resources/templates/list` give it."""

    description: str = ""
    mime_type: str | None = None


@dataclass(frozen=True)
class Consumer:
    """Who relies on the catalogue: a face, a prompt, or a tool."""

    kind: Literal["face", "prompt", "tool"]
    name: str
    """A face's path in the project, a prompt's or tool's name."""


@dataclass(frozen=True)
class Use:
    """That one part of a consumer reads a table, and which columns of it."""

    consumer: Consumer
    part: str
    """The query's name in a face; empty where there is none."""
    table: TableKey
    columns: frozenset[str] | None
    """None: all of them (`SELECT *`, or a table that is described as a whole)."""
    how: Literal["sql", "ref", "source", "schema"]


@dataclass(frozen=True)
class UnknownUse:
    """What a consumer reads and could not be told, with the reason in a few words."""

    consumer: Consumer
    part: str
    why: str
    missing: str | None = None
    """The name that leads nowhere in the catalogue, where that is why: `main.fct_orders.gone`."""
    source: str | None = field(default=None, compare=False)
    """Where it was looked for, as far as that is known; a contract does not say it."""
    is_all: bool = field(default=False, compare=False)
    """Whether the consumer itself cannot be read, so that nothing is known of what it reads."""


@dataclass(frozen=True)
class Change:
    """One difference between what was accepted and what is served."""

    rule: str
    """Its id in the table of rules, as `column_removed`."""
    level: Level
    direction: Direction
    perspective: Perspective
    object: str
    """`shop.main.fct_orders.revenue`, or `tool execute_query`, `tool execute_query: input.limit`."""
    before: str | None
    after: str | None
    table: TableKey | None = None
    column: str | None = None
    evidence: str = ""
    """For a rename: what speaks for it. For a tool's schema: a value on which the two disagree."""
