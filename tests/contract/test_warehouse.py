"""Real DuckDB and SQLite files are read without a lock; what cannot be read or served says why."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest
import sqlglot
from contract.catalogues import change, desk

from context_telemetry.contract import catalogue, warehouse
from context_telemetry.contract.sources import SourceConfig
from context_telemetry.contract.warehouse import Served

HELD = """
import duckdb, sys
connection = duckdb.connect(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with desk() as made:
        yield made


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "shop.duckdb"
    change(
        path,
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, code VARCHAR UNIQUE NOT NULL, amount DECIMAL(18,2))",
        "CREATE TABLE lines (order_id INTEGER REFERENCES orders (id), a INTEGER, b INTEGER, PRIMARY KEY (a, b))",
        "CREATE VIEW totals AS SELECT code, amount FROM orders",
        "CREATE VIEW everything AS SELECT * FROM shop.main.orders",
        "CREATE VIEW nested AS SELECT code FROM totals",
    )
    return path


def read(connection: duckdb.DuckDBPyConnection, path: Path, kind: str = "duckdb", **options: Any) -> Served:
    config = SourceConfig("shop", kind, {"path": path.name, **options})
    return warehouse.read(catalogue.new(connection), config, path.parent)


def columns(served: Served) -> dict[str, list[tuple[Any, ...]]]:
    """Name, type, nullable, key and target of each column, by table."""
    rows = served.catalogue.connection.execute(
        'SELECT "table", "column", "type", "nullable", "key", "references" '
        f'FROM {served.catalogue.columns} ORDER BY "table", "position"'
    ).fetchall()
    found: dict[str, list[tuple[Any, ...]]] = {}
    for table, *rest in rows:
        found.setdefault(table, []).append(tuple(rest))
    return found


def unread(served: Served) -> str | None:
    return served.catalogue.sources[0].unread


# -- DuckDB ---------------------------------------------------------------------------------------


def test_types_keys_and_targets_are_as_duckdb_has_them(
    connection: duckdb.DuckDBPyConnection, database: Path
) -> None:
    found = columns(read(connection, database))
    assert found["orders"] == [
        ("id", "INTEGER", False, "primary", None),
        ("code", "VARCHAR", False, "unique", None),
        ("amount", "DECIMAL(18,2)", True, "none", None),
    ]
    assert found["lines"][0] == ("order_id", "INTEGER", True, "none", "orders.id")
    assert [key for _, _, _, key, _ in found["lines"][1:]] == ["none", "none"], "neither is a key alone"
    assert found["totals"] == [
        ("code", "VARCHAR", True, "none", None),
        ("amount", "DECIMAL(18,2)", True, "none", None),
    ]


def test_a_view_that_lost_a_column_is_told_and_not_taken_for_served(
    connection: duckdb.DuckDBPyConnection, database: Path
) -> None:
    change(database, "DROP TABLE lines", "ALTER TABLE orders DROP COLUMN amount")
    served = read(connection, database)
    assert {missing.table.table: missing.why for missing in served.broken} == {
        "totals": 'Binder Error: Referenced column "amount" not found in FROM clause!',
        "nested": 'Binder Error: Referenced column "amount" not found in FROM clause!',
    }
    found = columns(served)
    assert "totals" not in found
    assert [name for name, *_ in found["everything"]] == ["id", "code"], "as it is bound, not as it was made"


def test_a_view_of_what_lies_outside_of_the_file_stays_as_it_was_made(
    connection: duckdb.DuckDBPyConnection, database: Path, tmp_path: Path
) -> None:
    (tmp_path / "outside.csv").write_text("a,b\n1,2\n")
    change(database, f"CREATE VIEW outside AS SELECT * FROM read_csv('{tmp_path / 'outside.csv'}')")
    (tmp_path / "outside.csv").write_text("x,y,z\n1,2,3\n")  # who reads it finds other columns
    served = read(connection, database)
    assert served.broken == ()
    assert [table.table for table in served.unchecked] == ["outside"]
    assert [name for name, *_ in columns(served)["outside"]] == ["a", "b"]


def test_a_file_that_another_process_writes_to_is_left_alone_and_said_to_be_held(
    connection: duckdb.DuckDBPyConnection, database: Path
) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HELD, str(database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout
        assert holder.stdout.readline() == "open\n"
        served = read(connection, database)
        assert (unread(served) or "").startswith(f"the process {holder.pid} (")
        assert served.catalogue.count() == (0, 0)
    finally:
        holder.communicate("")
    assert unread(read(connection, database)) is None


def test_reading_keeps_no_writer_out(connection: duckdb.DuckDBPyConnection, database: Path) -> None:
    served = read(connection, database)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import duckdb; duckdb.connect({str(database)!r}).execute('CREATE TABLE new (a INT)')",
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert served.catalogue.count()[0] == 5


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("gone.duckdb", "the file is not there"),
        ("junk.duckdb", "the file is no DuckDB database"),
        (":memory:", "lives in the memory of whoever serves it, so nobody else can look at it"),
        ("md:shop", "no connection to duckdb is given to this process"),
    ],
)
def test_a_duckdb_source_that_cannot_be_read_says_why_without_a_path(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, path: str, said: str
) -> None:
    (tmp_path / "junk.duckdb").write_text("junk" * 4096)
    served = warehouse.read(
        catalogue.new(connection), SourceConfig("shop", "duckdb", {"path": path}), tmp_path
    )
    assert unread(served) == said


@pytest.mark.parametrize("name", ["memory.duckdb", "system's.duckdb", "a b.duckdb", "context_contract2.db"])
def test_the_name_of_a_file_is_no_trouble(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, name: str
) -> None:
    change(tmp_path / name, "CREATE TABLE t (a INTEGER)")
    served = read(connection, tmp_path / name)
    assert unread(served) is None
    assert columns(served) == {"t": [("a", "INTEGER", True, "none", None)]}


# -- SQLite and files -----------------------------------------------------------------------------


def test_sqlite_is_read_with_its_keys_and_broken_views(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    path = tmp_path / "shop.sqlite"
    with sqlite3.connect(path) as made:
        made.executescript(
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, code TEXT UNIQUE, amount NUMERIC(18,2) NOT NULL);"
            "CREATE VIEW good AS SELECT id FROM orders; CREATE VIEW bad AS SELECT gone FROM orders;"
        )
    made.close()
    served = read(connection, path, "sqlite")
    assert columns(served) == {
        "orders": [
            ("id", "INTEGER", False, "primary", None),
            ("code", "TEXT", True, "unique", None),
            ("amount", "NUMERIC(18,2)", False, "none", None),
        ],
        "good": [("id", "INTEGER", True, "none", None)],
    }
    assert [(missing.table.table, missing.why) for missing in served.broken] == [
        ("bad", "no such column: gone")
    ]


def test_looking_leaves_nothing_beside_a_sqlite_file_with_a_write_ahead_log(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    path = tmp_path / "shop.sqlite"
    with closing(sqlite3.connect(path)) as made:
        made.executescript("PRAGMA journal_mode=wal; CREATE TABLE orders (id INTEGER);")
    assert list(columns(read(connection, path, "sqlite"))) == ["orders"]
    assert list(tmp_path.iterdir()) == [path]
    with closing(sqlite3.connect(path)) as writer:
        writer.executescript("CREATE TABLE lines (id INTEGER);")
        found = columns(read(connection, path, "sqlite"))
        assert sorted(found) == ["lines", "orders"], "what is in the log alone is read too"


def test_tables_that_are_files_have_the_columns_of_the_files(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    (tmp_path / "sales.csv").write_text("day;amount\n2026-01-01;1.5\n")
    files = {"sales": "sales.csv", "gone": "gone.csv"}
    config = SourceConfig("files", "csv", {"files": files, "delimiter": ";"})
    served = warehouse.read(catalogue.new(connection), config, tmp_path)
    assert [(name, kind) for name, kind, *_ in columns(served)["sales"]] == [
        ("day", "DATE"),
        ("amount", "DOUBLE"),
    ]
    assert [missing.table.table for missing in served.broken] == ["gone"]


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("junk.parquet", "Invalid Input Error: No magic bytes found at end of the file"),
        ("gone.parquet", "IO Error: No files found that match the pattern"),
    ],
)
def test_why_a_file_cannot_be_read_is_a_sentence_without_its_path(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, path: str, why: str
) -> None:
    (tmp_path / "junk.parquet").write_text("no parquet at all")
    config = SourceConfig("files", "parquet", {"files": {"sales": str(tmp_path / path)}})
    (missing,) = warehouse.read(catalogue.new(connection), config, tmp_path).broken
    assert missing.why == why


# -- other warehouses -----------------------------------------------------------------------------

REMOTE = (
    "athena",
    "bigquery",
    "databricks",
    "mariadb",
    "mssql",
    "mysql",
    "postgres",
    "redshift",
    "snowflake",
    "trino",
)


@pytest.mark.parametrize("kind", REMOTE)
def test_the_query_for_a_warehouse_is_sql_of_its_dialect_and_names_every_column_of_its_rows(
    kind: str,
) -> None:
    config = SourceConfig("dwh", kind, {"database": "shop", "schema": "main"})
    (parsed,) = sqlglot.parse(warehouse.statement(config), read=config.dialect)
    assert isinstance(parsed, sqlglot.exp.Select)
    named = parsed.named_selects
    assert named[:7] == [
        "in_schema", "in_table", "table_kind", "its_name", "its_place", "its_type", "takes_null"
    ]  # fmt: skip
    assert named[7:] == (["may_be_read"] if kind == "postgres" else [])


def test_bigquery_is_asked_by_region_where_it_is_known() -> None:
    options = {"project": "shop", "dataset": "main", "location": "EU"}
    assert "`shop`.`region-eu`.INFORMATION_SCHEMA" in warehouse.statement(
        SourceConfig("d", "bigquery", options)
    )
    options.pop("location")
    assert "`shop`.`main`.INFORMATION_SCHEMA" in warehouse.statement(SourceConfig("d", "bigquery", options))


def test_what_a_warehouse_answers_is_its_catalogue(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    asked: list[str] = []

    def fetch(config: SourceConfig, query: str) -> Sequence[Sequence[Any]]:
        asked.append(query)
        return [
            ("main", "orders", "BASE TABLE", "id", 1, "NUMBER(38,0)", "NO"),
            ("main", "totals", "VIEW", "amount", 1, "FLOAT", "YES"),
        ]

    config = SourceConfig("dwh", "snowflake", {"database": "shop"})
    served = warehouse.read(catalogue.new(connection), config, tmp_path, fetch)
    assert len(asked) == 1, "one query per source"
    assert columns(served) == {
        "orders": [("id", "NUMBER(38,0)", False, None, None)],
        "totals": [("amount", "FLOAT", True, None, None)],
    }


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (SourceConfig("d", "snowflake", {"database": "shop"}), "RuntimeError: no route to host"),
        (SourceConfig("d", "snowflake"), "LookupError: the source names no database"),
        (
            SourceConfig("d", "http", {"url": "x"}),
            "a source of type http has no catalogue that can be asked for",
        ),
        (SourceConfig("d", "postgres", unusable="the variable X is not set"), "the variable X is not set"),
    ],
)
def test_a_warehouse_that_is_down_or_not_configured_says_why(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, config: SourceConfig, said: str
) -> None:
    def down(config: SourceConfig, query: str) -> Sequence[Sequence[Any]]:
        raise RuntimeError("no route to host")

    assert unread(warehouse.read(catalogue.new(connection), config, tmp_path, down)) == said
