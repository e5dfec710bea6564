"""The health board: a reason is told when it begins and when it clears, for the object that it is about."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from memory import Memory, recording

from context_telemetry import operation
from context_telemetry.conventions import names
from context_telemetry.observe import board, failsafe, recorder
from context_telemetry.observe.operation import Operation


@pytest.fixture
def memory() -> Iterator[Memory]:
    with recording() as made:
        yield made


def told(memory: Memory) -> list[tuple[Any, Any, Any]]:
    """The events, as (state, reason, object)."""
    keys = ("state", "reason", "object")
    return [
        tuple(said[f"dataface.degradation.{key}"] for key in keys)
        for name, said in memory.events
        if name == "dataface.degradation"
    ]


def held(memory: Memory) -> set[tuple[Any, Any]]:
    """What has begun and not cleared, as (reason, object)."""
    holds: set[tuple[Any, Any]] = set()
    for state, reason, what in told(memory):
        (holds.add if state == "began" else holds.discard)((reason, what))
    return holds


def resolve(*reasons: str, table: str = "orders", source: str = "shop") -> None:
    with operation("catalog.resolve", source=source, table=table) as op:
        if reasons:
            op.degraded(*reasons)


def test_a_reason_begins_once_and_clears_with_the_next_call_that_does_not_meet_it(memory: Memory) -> None:
    resolve()
    resolve("layer_unavailable")
    resolve("layer_unavailable")
    assert told(memory) == [("began", "layer_unavailable", "shop.orders")]
    resolve()
    resolve()
    assert told(memory)[1:] == [("cleared", "layer_unavailable", "shop.orders")]
    resolve("layer_unavailable")
    assert told(memory)[2:] == [("began", "layer_unavailable", "shop.orders")]


def test_names_that_callers_make_up_are_one_reason_of_their_source_for_as_long_as_they_do(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(board.MOST + 44):
        resolve("object_unknown", table=f"invented_{number}")
        resolve()
    assert told(memory) == [("began", "object_unknown", "shop")]
    monkeypatch.setattr(board, "REST", 0)
    board.forget()
    resolve("object_unknown", "layer_unavailable", table="invented")
    resolve(source="lake")
    assert held(memory) == {("object_unknown", "shop"), ("layer_unavailable", "shop.invented")}
    resolve()
    assert held(memory) == {("layer_unavailable", "shop.invented")}


def test_what_a_watch_tells_of_a_table_is_not_told_by_each_query_that_meets_it_and_does_not(
    memory: Memory,
) -> None:
    board.told("contract_broken", "shop.main.orders.status", True, "contract")
    for _ in range(3):
        with operation("query.execute", source="shop") as op:
            op.degraded("contract_broken", "failure_cached")
        with operation("query.execute", source="shop"):
            pass
    assert told(memory) == [
        ("began", "contract_broken", "shop.main.orders.status"),
        ("began", "failure_cached", "shop"),
    ]


def test_what_a_source_as_a_whole_lacks_is_not_cleared_by_a_call_on_one_of_its_tables(
    memory: Memory,
) -> None:
    with operation("catalog.resolve", source="shop") as op:
        op.degraded("layer_unavailable")
    resolve()
    assert held(memory) == {("layer_unavailable", "shop")}


def test_a_call_about_another_object_or_of_another_operation_clears_nothing(memory: Memory) -> None:
    resolve("layer_unavailable")
    resolve(table="customers")
    with operation("catalog.profile", source="shop", table="orders"):
        pass
    assert [state for state, *_ in told(memory)] == ["began"]
    assert held(memory) == {("layer_unavailable", "shop.orders")}


def test_a_reason_that_two_operations_meet_begins_once_and_clears_with_the_last_of_them(
    memory: Memory,
) -> None:
    resolve("layer_unavailable")
    with operation("catalog.profile", source="shop", table="orders") as op:
        op.degraded("layer_unavailable")
    resolve()
    assert [state for state, *_ in told(memory)] == ["began"]
    with operation("catalog.profile", source="shop", table="orders"):
        pass
    assert [state for state, *_ in told(memory)] == ["began", "cleared"]


def test_each_reason_of_an_object_has_its_own_beginning_and_end(memory: Memory) -> None:
    resolve("source_unconfigured", "layer_unavailable")
    resolve("layer_unavailable")
    assert [each[:2] for each in told(memory)] == [
        ("began", "source_unconfigured"),
        ("began", "layer_unavailable"),
        ("cleared", "source_unconfigured"),
    ]


def test_a_reason_belongs_to_the_operation_that_met_it_and_not_to_those_that_it_rose_to(
    memory: Memory,
) -> None:
    with operation("dashboard.render"), operation("query.execute", source="nosrc") as query:
        query.degraded("source_substituted")
    assert told(memory) == [("began", "source_substituted", "nosrc")]


def test_a_call_that_began_before_the_reason_was_last_met_does_not_clear_it(memory: Memory) -> None:
    slow = Operation("catalog.resolve", {names.DATAFACE_CATALOG_SOURCE: "shop"})
    with operation("catalog.resolve", source="shop") as op:
        op.degraded("layer_unavailable")
    slow.finish()
    assert [state for state, *_ in told(memory)] == ["began"]


def test_a_watch_begins_a_reason_and_clears_it_for_every_call_that_met_it(memory: Memory) -> None:
    board.told("manifest_stale", "dbt_manifest", True)
    board.told("manifest_stale", "dbt_manifest", True)
    load = {names.DATAFACE_ARTIFACT: "dbt_manifest"}
    for reasons in (("manifest_stale",), ()):  # a call cannot clear what a watch still says
        op = Operation("manifest.load", load)
        if reasons:
            op.degraded(*reasons)
        op.finish()
    assert told(memory) == [("began", "manifest_stale", "dbt_manifest")]
    board.told("manifest_stale", "dbt_manifest", False)
    assert told(memory)[1:] == [("cleared", "manifest_stale", "dbt_manifest")]
    assert held(memory) == set()


def test_a_reason_that_two_watches_say_of_projects_of_their_own_clears_with_the_last_of_them(
    memory: Memory,
) -> None:
    board.told("manifest_stale", "dbt_manifest", True, "here")
    board.told("manifest_stale", "dbt_manifest", False, "there")
    board.told("manifest_stale", "dbt_manifest", True, "there")
    board.told("manifest_stale", "dbt_manifest", False, "here")
    assert told(memory) == [("began", "manifest_stale", "dbt_manifest")]
    board.told("manifest_stale", "dbt_manifest", False, "there")
    assert told(memory)[1:] == [("cleared", "manifest_stale", "dbt_manifest")]


@pytest.mark.parametrize(
    ("name", "attributes", "about"),
    [
        ("manifest.load", {names.DATAFACE_ARTIFACT: "dbt_manifest"}, "dbt_manifest"),
        ("dashboard.render", {names.DATAFACE_FACE: "faces/orders.yml"}, "faces/orders.yml"),
        ("dashboard.search", {names.DATAFACE_FACE: "faces/broken.yml"}, "dashboard.search"),
        ("tool.call", {names.GEN_AI_TOOL_NAME: "execute_query"}, "execute_query"),
        ("resource.read", {names.MCP_RESOURCE_URI: "dataface://docs/charts"}, "dataface://docs"),
        ("resource.read", {names.MCP_RESOURCE_URI: "a client's own words"}, "_OTHER"),
        ("context.build", {names.DATAFACE_PAYLOAD_KIND: "system_prompt"}, "system_prompt"),
        ("agent.turn", {}, "agent.turn"),
    ],
)
def test_the_object_is_the_most_specific_thing_that_the_call_was_about(
    name: str, attributes: dict[str, str], about: str
) -> None:
    assert board.about(Operation(name, attributes)) == about


def test_the_board_is_bounded_and_what_it_gives_up_is_cleared_and_is_no_telemetry_that_was_lost(
    memory: Memory, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board, "_is_full", False)
    before = failsafe.drops()
    board.told("manifest_stale", "dbt_manifest", True)  # a watch says so once, and it holds
    for number in range(board.MOST + 3):
        resolve("layer_unavailable", table=f"table_{number}")
    assert len(held(memory)) == board.MOST + 1
    assert failsafe.drops() == before
    assert capsys.readouterr().err.count("objects are degraded") == 1
    cleared = [what for state, _, what in told(memory) if state == "cleared"]
    assert cleared == ["shop.table_0", "shop.table_1", "shop.table_2"]  # those that were met longest ago


def test_many_threads_tell_each_beginning_and_end_once_and_in_its_order(memory: Memory) -> None:
    def work() -> None:
        for number in range(50):
            resolve(*(("layer_unavailable",) if number % 2 else ()))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    states = [state for state, *_ in told(memory)]
    assert states == ["began", "cleared"] * (len(states) // 2) + ["began"] * (len(states) % 2)


def test_an_exporter_that_is_observed_itself_does_not_lock_the_board(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = []

    def event(_: str, attributes: dict[str, Any], **__: Any) -> None:
        sent.append(attributes["dataface.degradation.object"])
        resolve("layer_unavailable", table="from_the_exporter")

    monkeypatch.setattr(recorder, "event", event)
    resolve("layer_unavailable")
    assert sent == ["shop.orders", "shop.from_the_exporter"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_begins_with_an_empty_board(memory: Memory) -> None:
    resolve("layer_unavailable")
    with board._lock:  # a thread of the parent may hold it
        child = os.fork()
        if child == 0:
            resolve("layer_unavailable")
            os._exit(0 if [state for state, *_ in told(memory)] == ["began", "began"] else 1)
    assert os.waitpid(child, 0)[1] == 0
    resolve("layer_unavailable")
    assert told(memory) == [("began", "layer_unavailable", "shop.orders")]


def test_a_healthy_call_on_an_empty_board_is_not_looked_at(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board, "about", lambda op: pytest.fail("it was looked at"))
    resolve()
    assert told(memory) == []
