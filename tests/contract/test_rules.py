"""Each rule for tables and columns fires on its change, alone, and on no healthy twin of it; and each row has both."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import pytest

from context_telemetry.contract.difference import Pair, differences
from context_telemetry.contract.model import Change, ColumnFacts, ColumnKey, TableFacts, TableKey
from context_telemetry.contract.rules import COLUMN_RULES, TABLE_RULES, Rule

ORDERS = TableKey("shop", "main", "orders")
STATUS = ColumnKey(*ORDERS, "status")

Tables = tuple[TableFacts | None, TableFacts | None]
Columns = tuple[ColumnFacts | None, ColumnFacts | None]

T, C = TableFacts, ColumnFacts
ANY = (-math.inf, math.inf)


def bounds(least: float, most: float) -> ColumnFacts:
    return C(minimum=least, maximum=most)


TABLES: dict[str, tuple[Tables, Tables]] = {
    "table_removed": ((T(), None), (T(), T())),
    "table_added": ((None, T()), (T(), T())),
    "table_kind_changed": ((T(kind="view"), T(kind="table")), (T(kind="view"), T())),
    "model_changed": ((T(model="model.a.x"), T(model="model.b.x")), (T(), T(model="model.b.x"))),
    "grain_removed": ((T(grain=("id",)), T(grain=())), (T(grain=("id",)), T())),
    "grain_changed": (
        (T(grain=("id",)), T(grain=("id", "day"))),
        (T(grain=("id", "day")), T(grain=("day", "id"))),
    ),
    "grain_added": ((T(grain=()), T(grain=("id",))), (T(), T(grain=("id",)))),
    "enforcement_removed": ((T(enforced=True), T(enforced=False)), (T(enforced=True), T())),
    "enforcement_added": ((T(enforced=False), T(enforced=True)), (T(), T(enforced=True))),
    "freshness_loosened": (
        (T(freshness_seconds=3600), T(freshness_seconds=math.inf)),
        (T(freshness_seconds=math.inf), T(freshness_seconds=math.inf)),
    ),
    "freshness_tightened": (
        (T(freshness_seconds=7200), T(freshness_seconds=3600)),
        (T(), T(freshness_seconds=3600)),
    ),
    "table_description_removed": ((T(described=True), T(described=False)), (T(described=True), T())),
    "table_description_added": ((T(described=False), T(described=True)), (T(), T(described=True))),
    "owner_changed": ((T(owner="finance"), T(owner="growth")), (T(owner="finance"), T())),
}

COLUMNS: dict[str, tuple[Columns, Columns]] = {
    "column_removed": ((C(), None), (C(), C())),
    "column_added": ((None, C(nullable=True)), (C(), C(nullable=True))),
    "required_column_added": ((None, C(nullable=False)), (C(), C(nullable=False))),
    "type_changed": ((C(type="INTEGER"), C(type="VARCHAR")), (C(type="VARCHAR"), C(type="text"))),
    "type_narrowed": (
        (C(type="DECIMAL(18,2)"), C(type="DECIMAL(10,2)")),
        (C(type="DECIMAL(18,2)"), C(type="NUMERIC(18, 2)")),
    ),
    "type_widened": ((C(type="INTEGER"), C(type="BIGINT")), (C(type="INT"), C(type="INTEGER"))),
    "declared_type_changed": (
        (C(type="INTEGER", declared_type="int"), C(type="INTEGER", declared_type="bigint")),
        (C(type="INTEGER", declared_type="int"), C(type="INTEGER", declared_type="integer")),
    ),
    "type_not_as_declared": (
        (C(declared_type="numeric"), C(type="VARCHAR", declared_type="numeric")),
        (C(declared_type="numeric"), C(type="DECIMAL(18,2)", declared_type="numeric")),
    ),
    "required_removed": (
        (C(nullable=False), C(nullable=True)),
        (C(nullable=False), C(nullable=True, not_null=True)),
    ),
    "required_added": ((C(nullable=True), C(nullable=False)), (C(), C(nullable=False))),
    "not_null_removed": (
        (C(not_null=True, nullable=True), C(not_null=False, nullable=True)),
        (C(not_null=True, nullable=False), C(not_null=False, nullable=False)),
    ),
    "not_null_added": ((C(not_null=False), C(not_null=True)), (C(), C(not_null=True))),
    "primary_key_removed": ((C(key="primary"), C(key="none")), (C(key="primary"), C())),
    "primary_key_added": ((C(key="none"), C(key="primary")), (C(), C(key="primary"))),
    "unique_removed": ((C(unique=True), C(unique=False)), (C(unique=True), C(unique=False, key="unique"))),
    "unique_added": (
        (C(unique=False), C(unique=True)),
        (C(unique=False, key="unique"), C(unique=True, key="unique")),
    ),
    "accepted_values_removed": (
        (C(accepted_values=("new", "paid")), C(accepted_values=())),
        (C(accepted_values=("new", "paid")), C()),
    ),
    "accepted_values_loosened": (
        (C(accepted_values=("new",)), C(accepted_values=("new", "paid"))),
        (C(accepted_values=("new", "paid")), C(accepted_values=("paid", "new"))),
    ),
    "accepted_values_changed": (
        (C(accepted_values=("new",)), C(accepted_values=("paid",))),
        (C(accepted_values=("new",)), C(accepted_values=("new",))),
    ),
    "accepted_values_tightened": (
        (C(accepted_values=("new", "paid")), C(accepted_values=("new",))),
        (C(accepted_values=("new", "paid")), C(accepted_values=("paid", "new"))),
    ),
    "accepted_values_added": (
        (C(accepted_values=()), C(accepted_values=("new",))),
        (C(), C(accepted_values=("new",))),
    ),
    "bounds_loosened": ((bounds(0, 10), bounds(*ANY)), (bounds(0, 10), C())),
    "bounds_changed": ((bounds(0, 10), bounds(5, 15)), (bounds(5, 15), bounds(5, 15))),
    "bounds_tightened": ((bounds(*ANY), bounds(0, math.inf)), (C(), bounds(0, math.inf))),
    "relationship_removed": (
        (C(references="customers.id"), C(references="")),
        (C(references="customers.id"), C()),
    ),
    "relationship_changed": (
        (C(references="customers.id"), C(references="people.id")),
        (C(references="customers.id"), C(references="customers.id")),
    ),
    "relationship_added": (
        (C(references=""), C(references="customers.id")),
        (C(), C(references="customers.id")),
    ),
    "unit_changed": ((C(unit="EUR"), C(unit="cent")), (C(unit="EUR"), C(unit=""))),
    "timezone_changed": ((C(timezone="UTC"), C(timezone="Europe/Berlin")), (C(), C(timezone="UTC"))),
    "expression_changed": (
        (C(expression="sum(revenue)"), C(expression="sum(revenue - tax)")),
        (C(), C(expression="sum(revenue)")),
    ),
    "column_description_removed": ((C(described=True), C(described=False)), (C(described=True), C())),
    "column_description_added": ((C(described=False), C(described=True)), (C(), C(described=True))),
}

ROWS: list[Rule[Any]] = [*TABLE_RULES, *COLUMN_RULES]
RENAMES = {"table_renamed", "column_renamed"}
"""Told from two objects: tests/contract/test_renames.py."""


def changes(*pairs: Pair) -> list[Change]:
    return differences(pairs)


def rules(*pairs: Pair) -> list[str]:
    return [change.rule for change in changes(*pairs)]


def test_every_row_has_a_test() -> None:
    assert {rule.id for rule in ROWS} == TABLES.keys() | COLUMNS.keys() | RENAMES


def test_every_row_says_what_it_means_in_a_sentence_and_has_an_id_of_its_own() -> None:
    assert len({row.id for row in ROWS}) == len(ROWS)
    assert all(row.means.endswith(".") and " " in row.means for row in ROWS)


@pytest.mark.parametrize("rule", TABLES)
def test_a_table_rule_fires_on_its_change_and_no_other_does(rule: str) -> None:
    assert rules((ORDERS, *TABLES[rule][0])) == [rule]


@pytest.mark.parametrize("rule", TABLES)
def test_a_table_rule_does_not_fire_on_its_healthy_twin(rule: str) -> None:
    assert rules((ORDERS, *TABLES[rule][1])) == []


@pytest.mark.parametrize("rule", COLUMNS)
def test_a_column_rule_fires_on_its_change_and_no_other_does(rule: str) -> None:
    assert rules((STATUS, *COLUMNS[rule][0])) == [rule]


@pytest.mark.parametrize("rule", COLUMNS)
def test_a_column_rule_does_not_fire_on_its_healthy_twin(rule: str) -> None:
    assert rules((STATUS, *COLUMNS[rule][1])) == []


FULL_COLUMN = C(
    type="DECIMAL(18,2)",
    declared_type="numeric",
    nullable=False,
    key="primary",
    described=True,
    position=3,
    not_null=True,
    unique=True,
    accepted_values=("1", "2"),
    references="customers.id",
    minimum=0,
    maximum=10,
    unit="EUR",
    timezone="UTC",
    expression="sum(x)",
)
FULL_TABLE = T(
    kind="table",
    model="model.shop.orders",
    described=True,
    grain=("id",),
    enforced=True,
    freshness_seconds=3600,
    owner="finance",
)


@pytest.mark.parametrize("name", [each.name for each in fields(ColumnFacts)])
def test_what_is_not_known_of_a_column_is_no_change(name: str) -> None:
    less = replace(FULL_COLUMN, **{name: None})
    assert getattr(FULL_COLUMN, name) is not None
    assert rules((STATUS, FULL_COLUMN, less)) == []
    assert rules((STATUS, less, FULL_COLUMN)) == []


@pytest.mark.parametrize("name", [each.name for each in fields(TableFacts)])
def test_what_is_not_known_of_a_table_is_no_change(name: str) -> None:
    less = replace(FULL_TABLE, **{name: None})
    assert getattr(FULL_TABLE, name) is not None
    assert rules((ORDERS, FULL_TABLE, less)) == []
    assert rules((ORDERS, less, FULL_TABLE)) == []


def test_a_change_says_where_it_is_and_what_it_was() -> None:
    (change,) = changes((STATUS, C(type="INTEGER"), C(type="VARCHAR")))
    assert (change.object, change.table, change.column) == ("shop.main.orders.status", ORDERS, "status")
    assert (change.before, change.after) == ("INTEGER", "VARCHAR")
    assert (change.level, change.direction, change.perspective) == ("breaking", "neither", "consumer")


def test_a_column_without_a_served_type_is_judged_by_its_declaration() -> None:
    assert rules((STATUS, C(declared_type="int"), C(declared_type="text"))) == ["type_changed"]


def test_the_warehouse_that_lets_go_of_null_is_told_once_though_a_test_went_with_it() -> None:
    before, after = C(nullable=False, not_null=True), C(nullable=True, not_null=False)
    assert rules((STATUS, before, after)) == ["required_removed"]


def test_a_primary_key_that_went_is_told_once_though_its_uniqueness_went_with_it() -> None:
    assert rules((STATUS, C(key="primary", unique=True), C(key="none", unique=False))) == [
        "primary_key_removed"
    ]


def test_the_columns_of_a_table_that_is_gone_or_new_make_no_changes_of_their_own() -> None:
    gone: list[Pair] = [(ORDERS, T(), None), (STATUS, C(type="TEXT"), None)]
    assert [change.object for change in changes(*gone)] == ["shop.main.orders"]
    came: list[Pair] = [(ORDERS, None, T()), (STATUS, None, C(type="TEXT"))]
    assert [change.object for change in changes(*came)] == ["shop.main.orders"]


def test_changes_come_in_one_order_whatever_the_order_of_the_objects() -> None:
    pairs: list[Pair] = [
        (
            ColumnKey("shop", "main", name, column),
            C(type="INTEGER", described=True),
            C(type="DATE", described=False),
        )
        for name in ("b", "a")
        for column in ("y", "x")
    ]
    pairs.append((TableKey("shop", "main", "a"), T(owner="x"), T(owner="y")))
    ordered = changes(*pairs)
    assert ordered == changes(*reversed(pairs))
    assert [(change.object, change.rule) for change in ordered[:3]] == [
        ("shop.main.a", "owner_changed"),
        ("shop.main.a.x", "type_changed"),
        ("shop.main.a.x", "column_description_removed"),
    ]
