"""The catalogue of a real DuckDB file is written, read back and compared; a change is found, and nothing else is."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import duckdb
import pytest
from contract.catalogues import change, desk, served

from context_telemetry.contract import catalogue
from context_telemetry.contract.catalogue import Catalogue, CatalogueError, Names, SourceState
from context_telemetry.contract.model import ColumnFacts, ColumnKey, TableFacts, TableKey

ORDERS = TableKey("shop", "main", "fct_orders")


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with desk() as made:
        yield made


def small(connection: duckdb.DuckDBPyConnection, *columns: str, source: str = "duckdb") -> Catalogue:
    """One table with these columns."""
    made = catalogue.new(connection).with_source(SourceState("shop", source, "shop", "main"))
    made.add_tables([{"source": "shop", "schema": "main", "table": "orders", "kind": "table"}])
    made.add_columns(
        {
            "source": "shop",
            "schema": "main",
            "table": "orders",
            "column": name,
            "type": "INT",
            "position": number,
        }
        for number, name in enumerate(columns, 1)
    )
    return made


def changes(before: Catalogue, after: Catalogue) -> list[tuple[str, str]]:
    """The names of what changed, and how."""
    return [
        (".".join(key[2:]), "came" if was is None else "went" if now is None else "differs")
        for key, was, now in catalogue.changed(before, after)
    ]


# -- a snapshot -----------------------------------------------------------------------------------


def test_a_snapshot_that_is_read_back_is_the_same(
    connection: duckdb.DuckDBPyConnection, project: Path, tmp_path: Path
) -> None:
    now = served(connection, project)
    catalogue.write(now, tmp_path / "contract.parquet")
    again = catalogue.read(connection, tmp_path / "contract.parquet")
    assert again.sources == now.sources
    assert again.count() == now.count() == (16, 69)
    assert list(catalogue.changed(now, again)) == []


def test_every_fact_of_a_table_and_a_column_survives_the_file(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    table = TableFacts("view", "model.shop.a", True, ("a", "b"), True, math.inf, "growth")
    column = ColumnFacts(
        "DECIMAL(18,2)",
        "numeric",
        False,
        "unique",
        True,
        3,
        True,
        False,
        ("a'b", "c"),
        "t.id",
        -math.inf,
        2.5,
    )
    made = catalogue.new(connection).with_source(SourceState("shop", "duckdb"))
    key = {"source": "shop", "schema": "main", "table": "o'\"x"}
    made.add_tables([{**key, **{f.name: _json(getattr(table, f.name)) for f in fields(table)}}])
    made.add_columns(
        [{**key, "column": "ä", **{f.name: _json(getattr(column, f.name)) for f in fields(column)}}]
    )
    catalogue.write(made, tmp_path / "contract.parquet")
    again = catalogue.read(connection, tmp_path / "contract.parquet")
    empty = catalogue.new(connection).with_source(SourceState("shop", "duckdb"))
    assert list(catalogue.changed(empty, again)) == [
        (TableKey("shop", "main", "o'\"x"), None, table),
        (ColumnKey("shop", "main", "o'\"x", "ä"), None, column),
    ]


def _json(value: object) -> object:
    return str(value) if isinstance(value, float) else value


def test_a_snapshot_is_written_whole_or_not_at_all(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "contract.parquet"
    catalogue.write(small(connection, "a"), path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(CatalogueError, match=r"^contract.parquet: cannot be written: .*No space left"):
        catalogue.write(small(connection, "a", "b"), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "is not there; make it with: context-telemetry contract snapshot"),
        (lambda path: path.write_text("a,b\n1,2\n"), "is no Parquet file that can be read"),
        (lambda path: duckdb.sql(f"COPY (SELECT 1 AS a) TO '{path}'"), "does not say what it is"),
        (
            lambda path: duckdb.sql(
                f"COPY (SELECT 1 AS a) TO '{path}' (FORMAT parquet, KV_METADATA {{version: '99', sources: '[]'}})"
            ),
            "is of version 99, newer than 1, the newest that is understood here; update context-telemetry",
        ),
        (
            lambda path: duckdb.sql(
                f"COPY (SELECT 1 AS source) TO '{path}' (FORMAT parquet, KV_METADATA {{version: '1', sources: '[]'}})"
            ),
            "has no column schema, table",
        ),
    ],
)
def test_what_is_no_snapshot_is_refused_with_its_name_and_the_fix(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, make: object, said: str
) -> None:
    assert callable(make)
    make(tmp_path / "contract.parquet")
    with pytest.raises(CatalogueError, match=f"^contract.parquet: .*{said}"):
        catalogue.read(connection, tmp_path / "contract.parquet")


def test_why_a_source_was_not_read_stays_out_of_the_file(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    made = catalogue.new(connection).with_source(
        SourceState("dwh", "postgres", unread="no route to db.internal")
    )
    catalogue.write(made, tmp_path / "contract.parquet")
    (source,) = catalogue.read(connection, tmp_path / "contract.parquet").sources
    assert source.unread == "could not be read when the snapshot was made"
    assert b"db.internal" not in (tmp_path / "contract.parquet").read_bytes()


# -- what changed ---------------------------------------------------------------------------------


def test_a_dropped_a_renamed_and_a_retyped_column_are_named_and_nothing_else(
    connection: duckdb.DuckDBPyConnection, project: Path
) -> None:
    before = served(connection, project)
    change(
        project / "shop.duckdb",
        "ALTER TABLE fct_orders DROP COLUMN payment_method",
        "ALTER TABLE fct_orders RENAME COLUMN status TO state",
        "ALTER TABLE fct_orders ALTER COLUMN order_revenue TYPE VARCHAR",
    )
    after = served(connection, project)
    assert changes(before, after) == [
        ("fct_orders.order_revenue", "differs"),
        ("fct_orders.payment_method", "went"),
        ("fct_orders.state", "came"),
        ("fct_orders.status", "went"),
    ]
    found = {key[-1]: (was, now) for key, was, now in catalogue.changed(before, after)}
    was, now = found["order_revenue"]
    assert isinstance(was, ColumnFacts)
    assert isinstance(now, ColumnFacts)
    assert (was.type, now.type) == ("DOUBLE", "VARCHAR")
    came = found["state"][1]
    assert isinstance(came, ColumnFacts)
    assert came.position == 4, "evidence for the rename"


def test_a_table_that_came_and_one_that_went_bring_all_their_columns(
    connection: duckdb.DuckDBPyConnection, project: Path
) -> None:
    before = served(connection, project)
    change(project / "shop.duckdb", "ALTER TABLE daily_revenue RENAME TO revenue_by_day")
    assert changes(before, served(connection, project)) == [
        ("daily_revenue", "went"),
        ("daily_revenue.order_count", "went"),
        ("daily_revenue.order_date", "went"),
        ("daily_revenue.revenue", "went"),
        ("revenue_by_day", "came"),
        ("revenue_by_day.order_count", "came"),
        ("revenue_by_day.order_date", "came"),
        ("revenue_by_day.revenue", "came"),
    ]


def test_columns_that_only_moved_are_no_change(connection: duckdb.DuckDBPyConnection) -> None:
    assert changes(small(connection, "a", "b"), small(connection, "b", "a")) == []


@pytest.mark.parametrize(
    ("source", "expected"), [("duckdb", []), ("postgres", [("orders.A", "came"), ("orders.a", "went")])]
)
def test_another_case_is_a_change_only_where_the_warehouse_tells_names_apart_by_it(
    connection: duckdb.DuckDBPyConnection, source: str, expected: list[tuple[str, str]]
) -> None:
    assert changes(small(connection, "a", source=source), small(connection, "A", source=source)) == expected


def test_a_source_that_cannot_be_read_is_no_drop_of_all_that_it_had(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    before = small(connection, "a")
    after = catalogue.new(connection).with_source(
        SourceState("shop", "duckdb", unread="the file is not there")
    )
    assert changes(before, after) == []
    assert [source.unread for source in catalogue.unreadable(before, after)] == ["the file is not there"]


def test_a_source_that_is_not_configured_any_more_takes_its_tables_with_it(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    assert changes(small(connection, "a"), catalogue.new(connection)) == [
        ("orders", "went"),
        ("orders.a", "went"),
    ]


# -- names ----------------------------------------------------------------------------------------


def test_names_are_found_as_the_warehouse_finds_them(
    connection: duckdb.DuckDBPyConnection, project: Path
) -> None:
    names = Names(served(connection, project))
    assert names.table("shop", "MAIN", "Fct_Orders") == ORDERS
    assert names.column(ORDERS, "STATUS") == "status"
    assert names.column(ORDERS, "gone") is None
    assert names.columns(ORDERS)[:2] == ("order_id", "customer_id")
    assert names.table("shop", "raw", "fct_orders") is None
    assert len(names.tables("shop", "raw")) == 5
    assert "CREATE VIEW stg_orders" in (names.definition(TableKey("shop", "main", "stg_orders")) or "")


def test_names_of_a_source_that_minds_case_are_found_in_that_case_alone(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    names = Names(small(connection, "a", source="postgres"))
    assert names.table("shop", "main", "ORDERS") is None
    assert names.column(TableKey("shop", "main", "orders"), "A") is None
