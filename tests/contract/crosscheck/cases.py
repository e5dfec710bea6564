"""The changes that both judge, we and `datacontract breaking`, and why we judge some of them otherwise.

To add one, add a `Case` and run `python3 dev.py contracts --record`. `WHY` explains each difference, by name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from context_telemetry.contract.difference import Pair
from context_telemetry.contract.model import ColumnFacts, ColumnKey, TableFacts, TableKey

Tables = Mapping[str, tuple[TableFacts, Mapping[str, ColumnFacts]]]
"""By `schema.table`: the facts of the table, and those of its columns by name."""

C = ColumnFacts

PLAIN = C(
    type="VARCHAR", nullable=True, key="none", described=True, not_null=False, unique=False, accepted_values=(),
    references="", minimum=-math.inf, maximum=math.inf, unit="", timezone="", expression="",
)  # fmt: skip
COLUMNS = {
    "id": replace(PLAIN, type="INTEGER", position=1, nullable=False),
    "status": replace(PLAIN, position=2, accepted_values=("new", "paid", "sent")),
    "revenue": replace(PLAIN, type="DECIMAL(18,2)", position=3, unit="EUR", expression="price * pieces"),
    "ordered_at": replace(PLAIN, type="TIMESTAMP", position=4, timezone="UTC"),
    "pieces": replace(PLAIN, type="INTEGER", position=5, minimum=1, maximum=100),
    "customer_id": replace(PLAIN, type="INTEGER", position=6, references="customers.id"),
}
TABLE = TableFacts(
    kind="table", model="model.shop.orders", described=True, grain=("id",), enforced=True,
    freshness_seconds=3600, owner="finance",
)  # fmt: skip
ORDERS = "main.orders"
CUSTOMERS = (
    replace(TABLE, model="model.shop.customers"),
    {"id": COLUMNS["id"], "name": replace(PLAIN, position=2)},
)
START: Tables = {ORDERS: (TABLE, COLUMNS), "main.customers": CUSTOMERS}


@dataclass(frozen=True)
class Case:
    """One change of the shop's catalogue."""

    name: str
    before: Tables
    after: Tables

    def pairs(self) -> Iterable[Pair]:
        """What the rules are handed: all tables and columns of either side."""
        for name in dict.fromkeys((*self.before, *self.after)):
            old, old_columns = self.before.get(name, (None, {}))
            new, new_columns = self.after.get(name, (None, {}))
            where = TableKey("shop", *name.split("."))
            yield where, old, new
            for column in dict.fromkeys((*old_columns, *new_columns)):
                yield ColumnKey(*where, column), old_columns.get(column), new_columns.get(column)


def _without(name: str, tables: Tables = START) -> Tables:
    return {each: facts for each, facts in tables.items() if each != name}


def _table(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Case:
    """The same columns, other facts of the table."""
    sides = ({**START, ORDERS: (replace(TABLE, **facts), COLUMNS)} for facts in (before, after))
    return Case(name, *sides)


def _columns(name: str, before: Mapping[str, ColumnFacts], after: Mapping[str, ColumnFacts]) -> Case:
    """The same table, other columns."""
    return Case(name, {**START, ORDERS: (TABLE, before)}, {**START, ORDERS: (TABLE, after)})


def _column(name: str, column: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Case:
    """Other facts of one column."""
    sides = ({**COLUMNS, column: replace(COLUMNS[column], **facts)} for facts in (before, after))
    return _columns(name, *sides)


def _type(name: str, before: str, after: str) -> Case:
    return _column(
        name, "status", {"type": before, "accepted_values": ()}, {"type": after, "accepted_values": ()}
    )


def _renamed(old: str, new: str) -> dict[str, ColumnFacts]:
    return {new if name == old else name: facts for name, facts in COLUMNS.items()}


CASES: tuple[Case, ...] = (
    Case("nothing changed", START, START),
    Case("table removed", START, _without("main.customers")),
    Case("table added", _without("main.customers"), START),
    Case("table renamed", START, {**_without(ORDERS), "main.fct_orders": START[ORDERS]}),
    Case("table moved to another schema", START, {**_without(ORDERS), "mart.orders": START[ORDERS]}),
    _table("view became a table", {"kind": "view"}, {"kind": "table"}),
    _table("made by another dbt node", {}, {"model": "model.shop.orders_v2"}),
    _table("grain removed", {}, {"grain": ()}),
    _table("grain changed", {}, {"grain": ("id", "ordered_at")}),
    _table("grain added", {"grain": ()}, {}),
    _table("contract enforcement off", {}, {"enforced": False}),
    _table("contract enforcement on", {"enforced": False}, {}),
    _table("freshness promise loosened", {}, {"freshness_seconds": 86400}),
    _table("freshness promise removed", {}, {"freshness_seconds": math.inf}),
    _table("freshness promise tightened", {}, {"freshness_seconds": 60}),
    _table("freshness promise added", {"freshness_seconds": math.inf}, {}),
    _table("table description removed", {}, {"described": False}),
    _table("table description added", {"described": False}, {}),
    _table("owner changed", {}, {"owner": "growth"}),
    _columns("column removed", COLUMNS, {name: each for name, each in COLUMNS.items() if name != "pieces"}),
    _columns("nullable column added", COLUMNS, {**COLUMNS, "note": replace(PLAIN, position=7)}),
    _columns(
        "required column added", COLUMNS, {**COLUMNS, "note": replace(PLAIN, position=7, nullable=False)}
    ),
    _columns("column renamed", COLUMNS, _renamed("revenue", "revenue_eur")),
    _columns("columns in another order", COLUMNS, dict(reversed(COLUMNS.items()))),
    _type("type changed", "INTEGER", "VARCHAR"),
    _type("time zone added to the type", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE"),
    _type("whole number widened", "INTEGER", "BIGINT"),
    _type("decimal widened", "DECIMAL(10,2)", "DECIMAL(18,2)"),
    _type("text widened", "VARCHAR(20)", "VARCHAR(40)"),
    _type("whole number narrowed", "BIGINT", "INTEGER"),
    _type("text narrowed", "VARCHAR(40)", "VARCHAR(20)"),
    _type("type under another word", "VARCHAR", "TEXT"),
    _type("type under an alias", "NUMERIC(18,2)", "DECIMAL(18, 2)"),
    _column("declared type changed", "pieces", {"declared_type": "integer"}, {"declared_type": "numeric"}),
    _column(
        "warehouse departs from the declaration",
        "customer_id",
        {"declared_type": "integer"},
        {"declared_type": "integer", "type": "VARCHAR"},
    ),
    _column("required removed", "id", {}, {"nullable": True}),
    _column("required added", "status", {}, {"nullable": False}),
    _column("not-null test removed", "status", {"not_null": True}, {}),
    _column("not-null test added", "status", {}, {"not_null": True}),
    _column("not-null test became a constraint", "status", {"not_null": True}, {"nullable": False}),
    _column("primary key removed", "id", {"key": "primary"}, {}),
    _column("primary key added", "id", {}, {"key": "primary"}),
    _column("unique test removed", "id", {"unique": True}, {}),
    _column("unique test added", "id", {}, {"unique": True}),
    _column("accepted value added", "status", {}, {"accepted_values": ("new", "paid", "sent", "back")}),
    _column("accepted value removed", "status", {}, {"accepted_values": ("new", "paid")}),
    _column("accepted value replaced", "status", {}, {"accepted_values": ("new", "paid", "back")}),
    _column("accepted values no more listed", "status", {}, {"accepted_values": ()}),
    _column("accepted values listed", "status", {"accepted_values": ()}, {}),
    _column("accepted values in another order", "status", {}, {"accepted_values": ("sent", "paid", "new")}),
    _column("bounds loosened", "pieces", {}, {"maximum": 1000}),
    _column("bounds tightened", "pieces", {}, {"maximum": 10}),
    _column("bounds moved", "pieces", {}, {"minimum": 50, "maximum": 150}),
    _column("bound removed", "pieces", {}, {"maximum": math.inf}),
    _column("bound added", "pieces", {"maximum": math.inf}, {}),
    _column("relationship removed", "customer_id", {}, {"references": ""}),
    _column("relationship to another column", "customer_id", {}, {"references": "customers.name"}),
    _column("relationship added", "customer_id", {"references": ""}, {}),
    _column("unit changed", "revenue", {}, {"unit": "cent"}),
    _column("time zone changed", "ordered_at", {}, {"timezone": "Europe/Berlin"}),
    _column("expression changed", "revenue", {}, {"expression": "price * pieces - discount"}),
    _column("column description removed", "status", {}, {"described": False}),
    _column("column description added", "status", {"described": False}, {}),
)

_NOT_TESTED = (
    "Its tests do not read it (`{}` in the standard), so it is metadata to it; "
    "a query gives another answer, so it breaks a dashboard."
)
_AGENTS = "It is metadata to it; agents choose what they query by the description, so its loss misleads them."
_WIDER = "It compares types as texts; every value still fits, and queries go on."
_SPELLING = "It compares types as texts; it is the same type under another word."
_PROMISE = "It has no such field (a custom property is metadata to it); dbt's promise to keep the columns went or came."
_GRAIN = "It has the grain as a description, which is metadata to it; joins and sums rely on it."

WHY: Mapping[str, str] = {
    "grain removed": _GRAIN,
    "grain changed": _GRAIN,
    "grain added": _GRAIN,
    "contract enforcement off": _PROMISE,
    "contract enforcement on": _PROMISE,
    "table description removed": _AGENTS,
    "column description removed": _AGENTS,
    "table description added": _AGENTS,
    "column description added": _AGENTS,
    "whole number widened": _WIDER,
    "decimal widened": _WIDER,
    "text widened": _WIDER,
    "whole number narrowed": "Both call it breaking; it sees another text, we see that fewer values fit.",
    "text narrowed": "Both call it breaking; it sees another text, we see that fewer values fit.",
    "type under another word": _SPELLING,
    "type under an alias": _SPELLING,
    "declared type changed": "It has one type; a declaration beside what is served misleads, and breaks no query.",
    "not-null test became a constraint": "It has one flag for both; a warehouse refuses what a test only reports.",
    "accepted value removed": "A tighter list harms no test; a filter on the value that went finds nothing any more.",
    "unit changed": _NOT_TESTED.format("customProperties"),
    "time zone changed": _NOT_TESTED.format("customProperties"),
    "expression changed": _NOT_TESTED.format("transformLogic"),
}
"""Of each case that is judged otherwise, why."""
