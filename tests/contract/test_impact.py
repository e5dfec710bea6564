"""Who is hit by a change, in order of how often each was served, and how that is said."""

from __future__ import annotations

import pytest

from context_telemetry.contract.impact import Hit, Recorded, by_table, hits, who, words
from context_telemetry.contract.model import Change, Consumer, TableKey, Use

ORDERS = TableKey("shop", "main", "orders")
OTHERS = TableKey("shop", "main", "others")
A, B, C = (Consumer("face", f"faces/{name}.yml") for name in "abc")

USES = by_table(
    (
        Use(A, "all", ORDERS, None, "ref"),
        Use(B, "by_day", ORDERS, frozenset({"day"}), "sql"),
        Use(B, "by_state", ORDERS, frozenset({"day", "state"}), "sql"),
        Use(C, "tables", ORDERS, frozenset(), "schema"),
        Use(C, "others", OTHERS, None, "sql"),
    )
)


def change(rule: str, what: str, table: TableKey | None = None, column: str | None = None) -> Change:
    return Change(rule, "breaking", "loosens", "consumer", what, None, None, table, column)


def served(**counts: int) -> Recorded:
    return Recorded(
        {Consumer("face", f"faces/{name}.yml"): count for name, count in counts.items()}, "this week"
    )


def told(found: tuple[Hit, ...]) -> list[tuple[str, str, int | None]]:
    return [(hit.consumer.name, " ".join(hit.parts), hit.served) for hit in found]


def test_a_column_hits_what_reads_it_and_what_reads_all_columns() -> None:
    found = hits(change("column_removed", "shop.main.orders.state", ORDERS, "state"), USES)
    assert told(found) == [("faces/a.yml", "all", None), ("faces/b.yml", "by_state", None)]


def test_a_table_hits_all_that_read_it_also_what_only_lists_it() -> None:
    found = hits(change("table_removed", "shop.main.orders", ORDERS), USES)
    assert told(found) == [
        ("faces/a.yml", "all", None),
        ("faces/b.yml", "by_day by_state", None),
        ("faces/c.yml", "tables", None),
    ]


def test_what_is_new_hits_nobody() -> None:
    assert hits(change("column_added", "shop.main.orders.x", ORDERS, "x"), USES, ["prompt"]) == ()
    assert hits(change("tool_added", "tool ping"), USES) == ()


def test_what_was_served_most_comes_first_and_the_rest_by_name() -> None:
    found = hits(change("table_removed", "shop.main.orders", ORDERS), USES, (), served(c=7, b=1))
    assert [(hit.consumer.name, hit.served) for hit in found] == [
        ("faces/c.yml", 7),
        ("faces/b.yml", 1),
        ("faces/a.yml", 0),
    ]


@pytest.mark.parametrize("what", ["tool docs", "tool docs: input.limit", "tool docs: output"])
def test_a_change_of_a_tool_hits_its_callers(what: str) -> None:
    found = hits(
        change("input_narrowed", what), USES, ["prompt"], Recorded({Consumer("tool", "docs"): 12}, "today")
    )
    assert [(hit.consumer, hit.served) for hit in found] == [(Consumer("tool", "docs"), 12)]
    assert words(found, Recorded({}, "today")) == "agents that call docs: 12 times today"


def test_a_prompt_is_hit_by_every_table_and_its_use_is_not_known() -> None:
    found = hits(change("table_removed", "shop.main.others", OTHERS), USES, ["context"], served(c=2))
    assert told(found) == [("faces/c.yml", "others", 2), ("context", "", None)]
    assert words(found, served(c=2)) == "1 dashboard, opened 2 times this week; 1 prompt"


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"a": 400, "b": 9, "c": 1}, "12 dashboards, 3 of them opened 410 times this week"),
        ({"a": 1}, "12 dashboards, 1 of them opened once this week"),
        ({}, "12 dashboards, not opened this week"),
    ],
)
def test_how_many_are_hit_and_how_often_they_were_opened_is_said_in_a_line(
    counts: dict[str, int], said: str
) -> None:
    names = "abcdefghijkl"
    found = [Hit(Consumer("face", f"faces/{name}.yml"), ("q",), counts.get(name, 0)) for name in names]
    assert words(found, served(**counts)) == said
    assert words(found) == "12 dashboards", "without a history nothing is said of it"


def test_nobody_is_said_where_nobody_is_hit_and_a_tool_that_was_not_called_too() -> None:
    assert words([]) == "nobody"
    assert (
        words([Hit(Consumer("tool", "docs"), (), 0)], served())
        == "agents that call docs: not called this week"
    )
    assert words([Hit(Consumer("tool", "docs"))]) == "agents that call docs"


def test_a_resource_is_read_by_agents_of_whom_nothing_is_known() -> None:
    gone = change("resource_removed", "resource dataface://docs/all")
    assert who(gone, hits(gone, USES)) == "agents that read it"
    new = change("resource_added", "resource dataface://docs/new")
    assert who(new, hits(new, USES)) == "nobody"
