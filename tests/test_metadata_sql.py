"""Which SQL counts as reading the catalogue: a bounded scan that is not fooled by comments, strings or columns."""

from __future__ import annotations

import pytest

from context_telemetry.instrumentation.metadata_sql import reads_metadata


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT table_name FROM information_schema.tables",
        "select * from shop.INFORMATION_SCHEMA.COLUMNS where table_name = 'x'",
        'select * from "information_schema"."tables"',
        "select * from `project.dataset`.INFORMATION_SCHEMA.TABLES",
        "-- what is there?\nSHOW TABLES",
        "DESCRIBE fct_orders",
        "select * from duckdb_tables()",
        "select c.name from orders o join pragma_table_info('orders') c on true",
        "with t as (select * from pg_catalog.pg_class) select count(*) from t",
        "select * from orders, information_schema.tables",
    ],
)
def test_reads_of_the_warehouse_s_metadata_are_recognised(sql: str) -> None:
    assert reads_metadata(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "select 1",
        "select 'from information_schema.tables' as text from orders",
        "select * from orders -- not from information_schema.tables",
        "select * from orders /* from information_schema.tables */",
        "select information_schema from orders",
        "select duckdb_tables from orders",
        "DESCRIBE (select * from orders)",
        "DESCRIBE select * from orders",
        "select show, describe from orders",
        "select id, pg_class from orders",
        "",
    ],
)
def test_everything_else_is_not(sql: str) -> None:
    assert not reads_metadata(sql)


@pytest.mark.parametrize("open_end", ["/* ", "' \" ", '"` ', "-- '"])
def test_sql_that_never_ends_its_comments_and_strings_is_scanned_once(open_end: str) -> None:
    import time

    before = time.thread_time()
    reads_metadata("select pg_ from " + open_end * 4_000)
    assert (
        time.thread_time() - before < 0.1
    )  # quadratic behaviour takes seconds; this is a bound, not a benchmark


def test_only_the_beginning_of_long_sql_is_scanned() -> None:
    assert not reads_metadata("select 1" + " " * 10_000 + "from information_schema.tables")
