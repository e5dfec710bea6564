"""A rename is told on strong evidence, which it names; on less it is something that is gone and something new."""

from __future__ import annotations

import time

import pytest

from context_telemetry.contract import renames
from context_telemetry.contract.difference import Pair, differences, resource_differences, tool_differences
from context_telemetry.contract.model import (
    Change,
    ColumnFacts,
    ColumnKey,
    ResourceFacts,
    TableFacts,
    TableKey,
    ToolFacts,
)

C, T = ColumnFacts, TableFacts
ORDERS = TableKey("shop", "main", "orders")


def of_columns(before: dict[str, ColumnFacts], after: dict[str, ColumnFacts]) -> list[Change]:
    pairs: list[Pair] = [
        (ColumnKey(*ORDERS, name), before.get(name), after.get(name)) for name in (*before, *after)
    ]
    return differences(pairs)


def of_tables(
    before: dict[str, tuple[TableFacts, dict[str, ColumnFacts]]],
    after: dict[str, tuple[TableFacts, dict[str, ColumnFacts]]],
) -> list[Change]:
    """Tables by `schema.table`."""
    pairs: list[Pair] = []
    for name in (*before, *after):
        where = TableKey("shop", *name.split("."))
        old, new = before.get(name), after.get(name)
        pairs.append((where, old and old[0], new and new[0]))
        columns = [*(old[1] if old else ()), *(new[1] if new else ())]
        pairs += [
            (ColumnKey(*where, each), old and old[1].get(each), new and new[1].get(each)) for each in columns
        ]
    return differences(pairs)


COLUMNS = {"id": C(type="INTEGER"), "revenue": C(type="DECIMAL(18,2)"), "status": C(type="VARCHAR")}


@pytest.mark.parametrize(
    ("old", "before", "new", "after", "evidence"),
    [
        ("revenue", C(type="DOUBLE", position=3), "revenue_usd", C(type="DOUBLE", position=3),
         "same type, same position, similar name"),
        ("status", C(type="TEXT", position=2, accepted_values=("a", "b")), "state",
         C(type="VARCHAR", position=2, accepted_values=("a", "b")), "same type, same position, same accepted values"),
        ("cust_id", C(type="INTEGER", references="customers.id"), "customerId",
         C(type="INT", references="customers.id"), "same type, similar name, same relationship"),
        ("number", C(type="INTEGER", key="primary", position=1), "code", C(type="INTEGER", key="primary", position=1),
         "same type, same position, same key"),
        ("margin", C(declared_type="numeric", expression="a - b", position=1), "profit",
         C(declared_type="numeric", expression="a - b", position=1), "same type, same position, same expression"),
    ],
)  # fmt: skip
def test_a_renamed_column_is_told_with_its_evidence(
    old: str, before: ColumnFacts, new: str, after: ColumnFacts, evidence: str
) -> None:
    (change,) = of_columns({old: before}, {new: after})
    assert (change.rule, change.column, change.evidence) == ("column_renamed", old, evidence)
    assert (change.before, change.after) == (f"shop.main.orders.{old}", f"shop.main.orders.{new}")


@pytest.mark.parametrize(
    ("old", "before", "new", "after"),
    [
        ("note", C(type="VARCHAR", position=9), "colour", C(type="VARCHAR", position=9)),
        ("created_at", C(type="DATE", position=3), "updated_at", C(type="DATE", position=3)),
        ("revenue", C(type="DOUBLE", position=3), "revenue_usd", C(type="VARCHAR", position=3)),
        ("revenue", C(type="DOUBLE", position=3), "revenue_usd", C(type="DOUBLE", position=4)),
        ("revenue", C(position=3), "revenue_usd", C(position=3)),
        ("q1", C(type="DOUBLE", position=3), "q2", C(type="DOUBLE", position=3)),
        (
            "a",
            C(type="TEXT", accepted_values=(), position=1),
            "b",
            C(type="TEXT", accepted_values=(), position=1),
        ),
    ],
)
def test_on_less_evidence_a_column_is_gone_and_another_is_new(
    old: str, before: ColumnFacts, new: str, after: ColumnFacts
) -> None:
    assert {(change.rule, change.column) for change in of_columns({old: before}, {new: after})} == {
        ("column_removed", old),
        ("column_added", new),
    }


def test_two_columns_that_may_both_be_the_renamed_one_are_both_new() -> None:
    target = C(type="INTEGER", references="customers.id")
    found = of_columns({"cust_id": target}, {"customer_id": target, "custom_id": target})
    assert sorted(change.rule for change in found) == ["column_added", "column_added", "column_removed"]


def test_what_else_changed_of_a_renamed_column_is_told_too() -> None:
    before = C(type="DOUBLE", position=3, described=True, accepted_values=("1",))
    after = C(type="DOUBLE", position=3, described=False, accepted_values=("1", "2"))
    found = of_columns({"revenue": before}, {"revenue_usd": after})
    assert [(change.rule, change.column) for change in found] == [
        ("column_renamed", "revenue"),
        ("accepted_values_loosened", "revenue"),
        ("column_description_removed", "revenue"),
    ]


def test_a_renamed_table_is_told_with_its_evidence_and_its_columns_are_compared() -> None:
    after = {**COLUMNS, "status": C(type="INTEGER")}
    whole = {**COLUMNS, "day": C(type="DATE"), "shop": C(type="VARCHAR")}
    (change,) = of_tables({"main.orders": (T(), COLUMNS)}, {"main.fct_orders": (T(), COLUMNS)})
    assert (change.rule, change.before, change.after) == (
        "table_renamed",
        "shop.main.orders",
        "shop.main.fct_orders",
    )
    assert change.evidence == "3 of 3 columns the same, similar name, all columns the same"
    found = of_tables(
        {"main.orders": (T(model="model.shop.orders"), whole)},
        {"main.facts": (T(model="model.shop.orders"), {**whole, "status": after["status"]})},
    )
    assert [(each.rule, each.object) for each in found] == [
        ("table_renamed", "shop.main.orders"),
        ("type_changed", "shop.main.orders.status"),
    ]
    assert found[0].evidence == "4 of 5 columns the same, made by the same dbt node"


def test_a_table_that_moved_to_another_schema_is_renamed() -> None:
    (change,) = of_tables({"main.orders": (T(), COLUMNS)}, {"mart.orders": (T(), COLUMNS)})
    assert (change.rule, change.after) == ("table_renamed", "shop.mart.orders")


@pytest.mark.parametrize(
    ("old", "new", "columns", "after"),
    [
        ("main.events_2025", "main.events_2026", COLUMNS, COLUMNS),
        ("main.orders", "main.people", COLUMNS, COLUMNS),
        ("main.orders", "main.fct_orders", COLUMNS, {"id": C(type="INTEGER")}),
        ("main.orders", "main.fct_orders", {"id": C(type="INTEGER")}, {"id": C(type="INTEGER")}),
        ("main.orders", "main.fct_orders", {}, {}),
    ],
)
def test_on_less_evidence_a_table_is_gone_and_another_is_new(
    old: str, new: str, columns: dict[str, ColumnFacts], after: dict[str, ColumnFacts]
) -> None:
    found = of_tables({old: (T(), columns)}, {new: (T(), after)})
    assert {change.rule for change in found} == {"table_removed", "table_added"}


def test_the_next_of_a_series_is_a_new_table_however_much_it_is_like_the_last() -> None:
    daily = T(grain=("id",), model="model.shop.events")
    found = of_tables({"main.events_2025": (daily, COLUMNS)}, {"main.events_2026": (daily, COLUMNS)})
    assert {change.rule for change in found} == {"table_removed", "table_added"}


def test_a_table_of_another_source_is_another_table() -> None:
    table = renames.Table(T(model="model.shop.orders"), COLUMNS)
    assert renames.tables({ORDERS: table}, {TableKey("other", "main", "orders"): table}) == []


def test_a_whole_schema_that_moved_is_told_in_time() -> None:
    def moved(schema: str) -> dict[TableKey, renames.Table]:
        return {
            TableKey("shop", schema, f"table_{word}"): renames.Table(
                T(), {f"{word}_{i}": C(type="INTEGER") for i in range(20)}
            )
            for word in (f"{a}{b}{c}" for a in "abcdefghijkl" for b in "abcdefghijkl" for c in "abcdefghijkl")
        }

    started = time.process_time()
    assert len(renames.tables(moved("main"), moved("mart"))) == 12**3
    assert time.process_time() - started < 5


def test_a_renamed_tool_is_told_with_its_evidence() -> None:
    arguments = {"type": "object", "properties": {"sql": {"type": "string"}}}
    before = {"execute_query": ToolFacts("Runs SQL.", arguments), "docs": ToolFacts("Explains.")}
    after = {"run_sql": ToolFacts("Runs SQL.", arguments), "docs": ToolFacts("Explains.")}
    (change,) = tool_differences(before, after)
    assert (change.rule, change.before, change.after) == ("tool_renamed", "execute_query", "run_sql")
    assert change.evidence == "same arguments, same description"


def test_two_tools_that_only_take_the_same_are_two_tools() -> None:
    arguments = {"type": "object", "properties": {"sql": {"type": "string"}}}
    found = tool_differences(
        {"execute_query": ToolFacts("Runs SQL.", arguments)},
        {"describe_query": ToolFacts("Tells types.", arguments)},
    )
    assert [change.rule for change in found] == ["tool_added", "tool_removed"]
    assert tool_differences({"list_faces": ToolFacts()}, {"faces": ToolFacts()})[0].rule == "tool_added"


def test_a_renamed_resource_is_told_with_its_evidence() -> None:
    facts = ResourceFacts("All faces of the project.", "application/json")
    (change,) = resource_differences({"dataface://dashboards": facts}, {"dataface://dashboards/all": facts})
    assert change.rule == "resource_renamed"
    assert change.evidence == "same description, similar address"
    found = resource_differences({"dataface://a": facts}, {"dataface://b": ResourceFacts("Other.")})
    assert [each.rule for each in found] == ["resource_removed", "resource_added"]
