"""Tables and columns of a SQL text are those that a real database would read; what cannot be told has a reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from contract.catalogues import change, desk

from context_telemetry.contract import catalogue, warehouse
from context_telemetry.contract.catalogue import Names, SourceState
from context_telemetry.contract.model import TableKey
from context_telemetry.contract.references import Reader
from context_telemetry.contract.sources import SourceConfig

STAND_IN = "a_value"


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """Of a DuckDB file: t(a, b, k), U(k, C), s.t(z), and views."""
    path = tmp_path_factory.mktemp("references") / "shop.duckdb"
    change(
        path,
        "CREATE TABLE t (a INTEGER, b INTEGER, k INTEGER)",
        "CREATE TABLE U (k INTEGER, C INTEGER)",
        "CREATE SCHEMA s",
        "CREATE TABLE s.t (z INTEGER)",
        "CREATE VIEW v AS SELECT a, b FROM t",
        "CREATE VIEW s.everything AS SELECT * FROM shop.main.t",
        "CREATE VIEW deep AS SELECT a FROM v",
    )
    config = SourceConfig("shop", "duckdb", {"path": path.name})
    with desk() as connection:
        served = warehouse.read(catalogue.new(connection), config, path.parent)
        yield Reader(Names(served.catalogue), config, STAND_IN)


def read(reader: Reader, sql: str) -> dict[str, str]:
    """Columns by table, `*` for all of them, of a text of which everything can be told."""
    found = reader.read(sql)
    assert found.unknown == {}
    return _tables(found.tables)


def _tables(tables: dict[TableKey, set[str] | None]) -> dict[str, str]:
    return {
        f"{key.schema}.{key.table}".removeprefix("main."): "*" if names is None else " ".join(sorted(names))
        for key, names in tables.items()
    }


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT a FROM t", {"t": "a"}),
        ("SELECT T.A FROM T", {"t": "a"}),
        ('SELECT "A" FROM "T"', {"t": "a"}),
        ("SELECT c FROM u", {"U": "C"}),
        ("SELECT * FROM t", {"t": "*"}),
        ("FROM t", {"t": "*"}),
        ("SELECT count(*) FROM t", {"t": ""}),
        ("SELECT * EXCLUDE (a) FROM t", {"t": "b k"}),
        ("SELECT * REPLACE (a + 1 AS a) FROM t", {"t": "*"}),
        ("SELECT COLUMNS('a.*') FROM t", {"t": "*"}),
        ("SELECT t FROM t", {"t": "*"}),
        ("SELECT a.field FROM t", {"t": "a"}),
        ("SELECT rowid FROM t", {"t": ""}),
        ("SELECT x.a FROM t AS x WHERE x.b > 1 ORDER BY x.k", {"t": "a b k"}),
        ("SELECT a AS q, q + 1 FROM t ORDER BY q", {"t": "a"}),
        ("SELECT a, count(*) AS n FROM t GROUP BY a HAVING n > 1 ORDER BY n", {"t": "a"}),
        ("SELECT sum(b) FILTER (WHERE a = 1) FROM t GROUP BY ROLLUP (k)", {"t": "a b k"}),
        ("SELECT a FROM t QUALIFY row_number() OVER (PARTITION BY b ORDER BY k) = 1", {"t": "a b k"}),
        ("SELECT list_transform([1], x -> x + a) FROM t", {"t": "a"}),
        ("SELECT a, c FROM t JOIN u USING (k)", {"t": "a k", "U": "C k"}),
        ("SELECT a FROM t NATURAL JOIN u", {"t": "a k", "U": "k"}),
        ("SELECT a FROM t ASOF JOIN u ON t.k >= u.k", {"t": "a k", "U": "k"}),
        ("SELECT t.* FROM t JOIN u USING (k)", {"t": "*", "U": "k"}),
        ("SELECT a FROM t UNION ALL SELECT c FROM u ORDER BY a", {"t": "a", "U": "C"}),
        (
            "SELECT a FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.k = t.k AND c > b)",
            {"t": "a b k", "U": "C k"},
        ),
        ("SELECT x.a FROM t AS x, LATERAL (SELECT c FROM u WHERE u.k = x.k)", {"t": "a k", "U": "C k"}),
        ("WITH o AS (SELECT * FROM t) SELECT a FROM o", {"t": "a"}),
        ("WITH o AS (SELECT a, b FROM t) SELECT a FROM o", {"t": "a b"}),
        ("WITH t AS (SELECT * FROM t) SELECT a FROM t", {"t": "a"}),
        ("WITH o AS (SELECT * FROM t) SELECT * FROM o", {"t": "*"}),
        ("WITH RECURSIVE r AS (SELECT a FROM t UNION ALL SELECT a + 1 FROM r) SELECT * FROM r", {"t": "a"}),
        ("PIVOT t ON a USING sum(b)", {"t": "*"}),
        ("SELECT * FROM t PIVOT (sum(b) FOR a IN (1, 2))", {"t": "*"}),
        ("SELECT * FROM (PIVOT t ON a USING sum(b) GROUP BY k)", {"t": "*"}),
        ("SELECT p.x FROM (PIVOT t ON a USING sum(b)) p", {"t": "*"}),
        ("WITH o AS (SELECT a, b FROM t) FROM (PIVOT o ON a USING sum(b))", {"t": "a b"}),
        ("WITH p AS (PIVOT t ON a USING sum(b)) SELECT p.x, c FROM p, u", {"t": "*", "U": "C"}),
        ("FROM (UNPIVOT t ON a, b INTO NAME n VALUE v)", {"t": "*"}),
        ("SELECT * FROM t UNPIVOT (v FOR n IN (a, b))", {"t": "*"}),
        ("DESCRIBE t", {"t": "*"}),
        ("SUMMARIZE t", {"t": "*"}),
        ("SELECT main.t.a, shop.main.t.b FROM shop.main.t", {"t": "a b"}),
        ("SELECT z FROM s.t", {"s.t": "z"}),
        ("SELECT z FROM shop.s.t", {"s.t": "z"}),
        ("SELECT a FROM shop.t", {"t": "a"}),
        ("SELECT a FROM v", {"v": "a", "t": "a b"}),
        ("SELECT a FROM deep", {"deep": "a", "v": "a", "t": "a b"}),
        ("SELECT a FROM s.everything", {"s.everything": "a", "t": "*"}),
        (f"SELECT a FROM t WHERE b = {STAND_IN} AND k IN ('{STAND_IN}') LIMIT {STAND_IN}", {"t": "a b k"}),
        ("SELECT * FROM range(5)", {}),
        ("SELECT 1; SELECT a FROM t; SELECT b FROM t;", {"t": "a b"}),
        ("CREATE TEMP TABLE made AS SELECT a FROM t; SELECT * FROM made", {"t": "*"}),
        ("", {}),
    ],
)
def test_a_query_reads_what_it_names(reader: Reader, sql: str, expected: dict[str, str]) -> None:
    assert read(reader, sql) == expected


@pytest.mark.parametrize(
    ("sql", "known", "why", "missing"),
    [
        ("SELECT a FROM gone", {}, "gone: the catalogue has no such table", "gone"),
        ("SELECT a FROM s.gone", {}, "s.gone: the catalogue has no such table", "s.gone"),
        (
            "SELECT gone FROM t",
            {"t": ""},
            "gone: no table that is read is known to have such a column",
            "gone",
        ),
        ("SELECT t.gone, a FROM t", {"t": "a"}, "main.t.gone: the table has no such column", "main.t.gone"),
        (
            "SELECT a FROM t WHERE gone = 1",
            {"t": "a"},
            "gone: no table that is read is known to have",
            "gone",
        ),
        ("SELECT gone FROM (SELECT * FROM t) o", {"t": ""}, "gone: no table that is read is known", "gone"),
        (
            "SELECT o.gone FROM (SELECT * FROM t) o",
            {"t": ""},
            "o.gone: what it is selected from has no such column",
            "o.gone",
        ),
        ("SELECT x.a FROM t", {"t": ""}, "x.a: nothing of that name is read", None),
        ("SELECT * FROM gone JOIN t USING (k)", {"t": "*"}, "gone: the catalogue has no such table", "gone"),
        (
            "SELECT a, own FROM gone JOIN t USING (k)",
            {"t": "a k"},
            "gone: the catalogue has no such table",
            "gone",
        ),
        ("SELECT * FROM other.main.t", {}, "other.main.t: in another database than shop", None),
        ("SELECT x FROM 'file.csv'", {}, "file.csv: a file, which no catalogue has", None),
        ('SELECT a, x FROM t, "some/file"', {"t": "a"}, "some/file: a file, which no catalogue has", None),
        ("SELECT x FROM 's3://bucket/*.parquet'", {}, "s3://bucket/*.parquet: a file, which", None),
        ("SELECT x FROM file.parquet", {}, "file.parquet: a file, which no catalogue has", None),
        ("SELECT x FROM main.parquet", {}, "main.parquet: a file, which no catalogue has", None),
        ("SELECT x FROM parquet", {}, "parquet: the catalogue has no such table", "parquet"),
        ("SELECT x FROM (SELECT * FROM read_csv('f'))", {}, "read_csv(): reads what no catalogue has", None),
        ("SELECT x FROM read_csv('f')", {}, "read_csv(): reads what no catalogue has", None),
        (
            "SELECT 1 FROM information_schema.columns",
            {},
            "information_schema.columns: what the warehouse says",
            None,
        ),
        ("SELECT 1 FROM duckdb_tables()", {}, "duckdb_tables(): reads what no catalogue has", None),
        ("SHOW TABLES", {}, "show: a statement whose tables cannot be told", None),
        ("SELECT (", {}, "cannot be parsed as duckdb: ", None),
        (
            f"SELECT a FROM {STAND_IN}",
            {},
            "the value of a variable stands where the name of a table does",
            None,
        ),
        (
            f"SELECT sum_{STAND_IN} FROM t",
            {"t": ""},
            "the value of a variable stands in the name of a column",
            None,
        ),
        ("SELECT main.t.a, s.t.z FROM main.t, s.t", {}, "cannot be resolved: ", None),
    ],
)
def test_what_cannot_be_told_is_unknown_with_its_reason_and_the_rest_is_known(
    reader: Reader, sql: str, known: dict[str, str], why: str, missing: str | None
) -> None:
    found = reader.read(sql)
    assert _tables(found.tables) == known
    assert any(said.startswith(why) and name == missing for said, name in found.unknown.items()), (
        found.unknown
    )


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT k, x FROM (PIVOT t ON a USING sum(b) GROUP BY k)",
        "WITH p AS (PIVOT t ON a USING sum(b)) SELECT k, x FROM p",
        "SELECT n, v FROM t UNPIVOT (v FOR n IN (a, b))",
        "SELECT x FROM (SELECT * FROM 'file.csv')",
        "SELECT x FROM s.everything, (SELECT * FROM read_csv('f'))",
    ],
)
def test_a_column_that_is_made_where_nobody_can_look_leads_somewhere(reader: Reader, sql: str) -> None:
    assert set(reader.read(sql).unknown.values()) <= {None}


@pytest.mark.parametrize(
    ("sql", "quoted"),
    [
        ('SELECT a FROM t WHERE b = "Alice"', {"alice": {"alice"}}),
        ('SELECT t."Alice" FROM t', {"main.t.alice": {"alice"}}),
        ('SELECT * FROM main."Alice"', {"main.alice": {"alice"}}),
        ('SELECT gone, "gone" FROM t', {"gone": set()}),
        ("SELECT gone FROM t", {"gone": set()}),
    ],
)
def test_a_name_that_leads_nowhere_says_what_of_it_is_in_quotes(
    reader: Reader, sql: str, quoted: dict[str, set[str]]
) -> None:
    assert reader.read(sql).quoted == quoted


def test_what_is_in_quotes_and_no_column_is_a_string_in_sqlite() -> None:
    with desk() as connection:
        made = catalogue.new(connection).with_source(SourceState("s", "sqlite", None, "main"))
        key = {"source": "s", "schema": "main", "table": "orders"}
        made.add_tables([key])
        made.add_columns([{**key, "column": "status", "position": 1}])
        reader = Reader(Names(made), SourceConfig("s", "sqlite"))
        assert reader.read('SELECT "status" FROM orders WHERE status = "open"').unknown == {}
        assert list(reader.read("SELECT open FROM orders").unknown.values()) == ["open"]


def test_a_relation_of_dbt_is_found_as_it_is_quoted(reader: Reader) -> None:
    assert reader.relation('"shop"."main"."t"') == TableKey("shop", "main", "t")
    assert reader.relation("s.t") == TableKey("shop", "s", "t")
    assert reader.relation('"shop"."main"."gone"') is None


@pytest.mark.parametrize(
    ("kind", "stored", "sql", "expected"),
    [
        ("snowflake", "STATUS", "select status from orders", "STATUS"),
        ("snowflake", "status", 'select "status" from orders', "status"),
        ("snowflake", "status", "select status from orders", None),
        ("postgres", "status", "SELECT Status FROM ORDERS", "status"),
        ("postgres", "Status", "SELECT Status FROM orders", None),
        ("postgres", "Status", 'SELECT "Status" FROM orders', "Status"),
        ("bigquery", "Status", "SELECT status FROM `shop.main.orders`", "Status"),
        ("mysql", "Status", "SELECT `status` FROM orders", "Status"),
        ("redshift", "status", "SELECT STATUS FROM orders", "status"),
        ("databricks", "status", "SELECT `Status` FROM shop.main.orders", "status"),
        ("sqlserver", "Status", "SELECT [status] FROM orders", "Status"),
        ("trino", "status", "SELECT Status FROM shop.main.orders", "status"),
    ],
)
def test_case_and_quotes_count_as_they_do_in_the_warehouse(
    kind: str, stored: str, sql: str, expected: str | None
) -> None:
    table = "ORDERS" if kind == "snowflake" else "orders"
    schema = "MAIN" if kind == "snowflake" else "main"
    database = "SHOP" if kind == "snowflake" else "shop"
    with desk() as connection:
        made = catalogue.new(connection).with_source(SourceState("dwh", kind, database, schema))
        key = {"source": "dwh", "schema": schema, "table": table}
        made.add_tables([key])
        made.add_columns([{**key, "column": stored, "position": 1}])
        found = Reader(Names(made), SourceConfig("dwh", kind)).read(sql)
    assert found.tables == {TableKey("dwh", schema, table): {expected} if expected else set()}
    assert bool(found.unknown) is (expected is None)


def test_a_source_of_which_nothing_is_known_makes_every_name_unknown(tmp_path: Path) -> None:
    with desk() as connection:
        config = SourceConfig("shop", "duckdb", {"path": "gone.duckdb"})
        served = warehouse.read(catalogue.new(connection), config, tmp_path)
        assert list(Reader(Names(served.catalogue), config).read("SELECT a FROM t").unknown) == [
            "the catalogue has nothing of the source shop, so its names stand for nothing"
        ]
        other = SourceConfig("api", "http")
        assert list(Reader(Names(served.catalogue), other).read("SELECT 1").unknown) == [
            "no dialect of SQL is known for a source of type http"
        ]
