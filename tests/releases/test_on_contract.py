"""What is served beside the contract and the manifest: calls that meet a difference say so, and healthy ones do not."""

from __future__ import annotations

import importlib
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest
from contract.looks import accept
from inprocess import instrumented, opened
from memory import Memory, attributes
from opentelemetry.sdk.trace import ReadableSpan
from scenario import scenario

from context_telemetry.instrumentation import contract_watch

pytestmark = pytest.mark.real

BOTH = {"contract_broken", "schema_drift"}
STATUS = "select status, count(*) as n from fct_orders group by status"
TWIN = "select order_id, item_count from fct_orders"
FACE = """\
title: Mine
variables:
  least: {input: number, default: 1}
queries:
  by_status:
    source: shop
    sql: select status, count(*) as n from fct_orders where item_count > {{ least }} group by 1
charts:
  by_status: {query: by_status, type: table, title: Mine}
rows: [by_status]
"""


@pytest.fixture
def memory() -> Iterator[Memory]:
    with instrumented() as memory:
        yield memory


@contextmanager
def watched(project: Path) -> Iterator[tuple[Any, Any]]:
    """The project, open and compared: context and registry."""
    contract_watch.enable(True)
    with opened(project) as there:
        yield there


def change(project: Path, sql: str) -> None:
    """As another process does it: before 0.3.0 this one has the file open, and keeps it."""
    file, new = project / "shop.duckdb", project / "new.duckdb"
    shutil.copyfile(file, new)
    with duckdb.connect(str(new)) as connection:
        connection.execute(sql)
    new.replace(file)


def asks(memory: Memory, registry: Any, sql: str) -> set[str]:
    """What one query meets, whatever came of it."""
    memory.clear()
    query = importlib.import_module("dataface.agent_api.query")
    query.execute_query(sql, source="shop", adapter_registry=registry)
    return met(next(span for span in memory.spans if span.parent is None))


def met(span: ReadableSpan) -> set[str]:
    """The reasons that are told here."""
    return BOTH & set(attributes(span).get("dataface.degradation.reasons", ()))


def tool(memory: Memory, context: Any, name: str, **arguments: Any) -> ReadableSpan:
    memory.clear()
    importlib.import_module("dataface.ai.tools").dispatch_tool_call(name, arguments, context=context)
    (entry,) = [span for span in memory.spans if span.parent is None]
    return entry


def eventually(holds: Callable[[], object], seconds: float = 60.0) -> None:
    """Fail unless it holds within so many seconds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold"
        time.sleep(0.2)


def events(memory: Memory, name: str) -> list[dict[str, Any]]:
    return [attributes for event, attributes in memory.events if event == name]


def changes(memory: Memory) -> list[tuple[str, str, str]]:
    """Reason, rule and state of each change that was told, in order."""
    return [
        (
            event["dataface.degradation.reason"],
            event["dataface.contract.rule"],
            event["dataface.contract.state"],
        )
        for event in events(memory, "dataface.contract.changed")
    ]


def compared(memory: Memory) -> bool:
    return bool(events(memory, "dataface.contract.compared"))


@scenario("contract")
def test_a_query_of_a_column_that_was_dropped_has_the_reasons_and_one_of_others_has_none(
    project: Path, memory: Memory
) -> None:
    accept(project)
    with watched(project) as (_, registry):
        assert asks(memory, registry, STATUS) == set()
        assert asks(memory, registry, TWIN) == set()
        eventually(lambda: compared(memory))
        assert asks(memory, registry, STATUS) == set()
        change(project, "alter table fct_orders drop column status")
        eventually(lambda: asks(memory, registry, STATUS) == BOTH)
        assert asks(memory, registry, TWIN) == set()
    assert changes(memory) == [
        ("contract_broken", "column_removed", "opened"),
        ("schema_drift", "column_missing", "opened"),
    ]


@scenario("contract")
def test_what_is_repaired_is_closed_and_queries_are_healthy_again(project: Path, memory: Memory) -> None:
    accept(project)
    change(project, "alter table fct_orders rename column status to state")
    with watched(project) as (_, registry):
        eventually(lambda: asks(memory, registry, STATUS) == BOTH)
        change(project, "alter table fct_orders rename column state to status")
        eventually(lambda: asks(memory, registry, STATUS) == set())
    told = changes(memory)
    assert len(told) == len(set(told))
    assert {rule for _, rule, _ in told} == {"column_removed", "column_added", "column_missing"}
    assert [state for *_, state in told] == ["opened"] * 3 + ["closed"] * 3


@scenario("contract")
def test_a_table_that_was_dropped_is_met_by_queries_of_it(project: Path, memory: Memory) -> None:
    accept(project)
    with watched(project) as (_, registry):
        asks(memory, registry, STATUS)
        eventually(lambda: compared(memory))
        change(project, "drop table fct_orders cascade")
        eventually(lambda: asks(memory, registry, STATUS) == BOTH)
        assert asks(memory, registry, "select * from dim_customers") == set()


@scenario("contract")
def test_a_face_that_reads_what_is_broken_has_the_reasons_though_nobody_had_rendered_it_before(
    project: Path, memory: Memory
) -> None:
    (project / "faces/mine.yml").write_text(FACE)
    accept(project)
    with watched(project) as (context, registry):
        asks(memory, registry, TWIN)
        eventually(lambda: compared(memory))
        change(project, "alter table fct_orders drop column status")
        eventually(lambda: changes(memory))
        assert met(tool(memory, context, "render_dashboard", path="faces/mine.yml")) == BOTH
        healthy = tool(memory, context, "render_dashboard", path="faces/customers.yml")
        assert met(healthy) == set()


@scenario(
    "contract", since="0.3.1", because="from 0.2.0 on `ref` on a DuckDB source is undefined before 0.3.1"
)
def test_a_query_with_variables_and_references_is_compared_as_it_is_sent(
    project: Path, memory: Memory
) -> None:
    (project / "faces/mine.yml").write_text(FACE.replace("from fct_orders", "from {{ ref('fct_orders') }}"))
    accept(project)
    with watched(project) as (context, registry):
        tool(memory, context, "render_dashboard", path="faces/mine.yml")
        asks(memory, registry, TWIN)
        eventually(lambda: compared(memory))
        change(project, "alter table fct_orders drop column status")

        def query_of_the_face() -> set[str]:
            tool(memory, context, "render_dashboard", path="faces/mine.yml")
            queries = [
                met(span)
                for span in memory.spans
                if attributes(span).get("dataface.operation.name") == "query.execute"
            ]
            return set.intersection(*queries)

        eventually(lambda: query_of_the_face() == BOTH)


@scenario("contract")
def test_a_resolver_that_is_asked_for_what_is_broken_has_the_reasons(project: Path, memory: Memory) -> None:
    accept(project)
    build = importlib.import_module("dataface.core.inspect.cache_factory").build_resolver

    def profile(table: str, registry: Any) -> set[str]:
        memory.clear()
        build(registry, cache_source=None).profile_table("shop", "main", table)
        (entry,) = [span for span in memory.spans if span.parent is None]
        return met(entry)

    with watched(project) as (_, registry):
        profile("dim_customers", registry)  # no query before it: to 0.1.4 the two exclude each other
        eventually(lambda: compared(memory))
        change(project, "alter table fct_orders drop column status")
        eventually(lambda: changes(memory))
        eventually(lambda: profile("fct_orders", registry) == BOTH)
        assert profile("dim_customers", registry) == set()


@scenario("contract")
def test_names_that_lead_nowhere_are_told_with_their_count_and_other_mistakes_are_not(
    project: Path, memory: Memory
) -> None:
    with watched(project) as (_, registry):
        for sql in (
            "select * from fct_orderz",
            "select * from fct_orderz",
            "select 1/0 as x",
            "selec nonsense(",
        ):
            asks(memory, registry, sql)
        told = "dataface.reference.unknown"
        eventually(lambda: sum(each["dataface.reference.count"] for each in events(memory, told)) == 2)
        asks(memory, registry, "select * from fct_orderz")  # its verdict is known, and it counts
        eventually(lambda: sum(each["dataface.reference.count"] for each in events(memory, told)) == 3)
    assert {each["dataface.reference.name"] for each in events(memory, told)} == {"fct_orderz"}
    assert {each["dataface.catalog.source"] for each in events(memory, told)} == {"shop"}
    assert sum(count for _, count in memory.points()["dataface.references.unknown"]) == 3


@scenario("contract")
def test_without_a_contract_a_column_that_the_manifest_declares_and_is_gone_is_drift_alone(
    project: Path, memory: Memory
) -> None:
    change(project, "alter table fct_orders drop column status")
    with watched(project) as (_, registry):
        eventually(lambda: asks(memory, registry, STATUS) == {"schema_drift"})
        assert asks(memory, registry, TWIN) == set()
    (told,) = events(memory, "dataface.contract.compared")
    assert told == {
        "dataface.contract.part": "tables",
        "dataface.contract.unread": 0,
        "dataface.contract.drift": 1,
    }


@scenario("contract")
def test_where_there_is_neither_contract_nor_manifest_nothing_is_said(project: Path, memory: Memory) -> None:
    (project / "target/manifest.json").unlink()
    change(project, "alter table fct_orders drop column status")
    with watched(project) as (_, registry):
        asks(memory, registry, "select * from nowhere")
        eventually(lambda: events(memory, "dataface.reference.unknown"))  # so it has looked
        assert asks(memory, registry, STATUS) == set()
    assert not compared(memory)
    assert changes(memory) == []
