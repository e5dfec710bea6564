"""Every query of every face comes back as uses or as unknown, and a change of the warehouse names all that it hits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from contract.catalogues import Told, change, desk, served, told, used, write

from context_telemetry.contract import catalogue
from context_telemetry.contract.catalogue import Names
from context_telemetry.contract.consumers import prompt_uses, sql_uses
from context_telemetry.contract.faces import faces
from context_telemetry.contract.model import ColumnKey, Consumer, TableKey, Use
from context_telemetry.contract.sources import SourceConfig
from context_telemetry.observe import project as observed_project

SOURCES = "sources:\n  shop: {type: duckdb, path: shop.duckdb}\n  other: {type: duckdb, path: shop.duckdb}\n"
OF_THE_FOLDER = {"SELECT a FROM t WHERE k = 1", "SELECT b FROM t WHERE k = 2"}
# A project that writes queries in every way that Dataface 0.4.0 knows.
EVERYTHING = {
    "dataface.yml": SOURCES,
    "faces/meta.yaml": """
source: shop
queries:
  inherited: SELECT a FROM t WHERE k = 1
  never: SELECT b FROM t WHERE k = 2
""",
    "faces/base.yml": """
title: Base
source: shop
queries:
  from_base: {sql: SELECT k FROM t, source: shop}
charts:
  c: {query: from_base, type: table}
rows: [c]
""",
    "faces/sub/rich.yml": """
title: Rich
extends: ../base.yml
variables:
  region:
    input: select
    options: {query: "SELECT DISTINCT a FROM t"}
  kind:
    input: select
    column: u.c
  named:
    input: select
    options: {query: star, column: a}
queries:
  star: SELECT * FROM t
  composed: SELECT a FROM {{ queries.star }}
  elsewhere: ../base.queries.from_base
  api: {type: http, url: "https://example.invalid"}
  inline: {rows: [{a: 1}]}
  schemas: {type: schema, source: shop, schema: main, table: t, column: a}
charts:
  shown: {query: star, type: bar, x: a, y: b}
  inherited_chart: {query: inherited, type: table}
  with_sql: {query: "SELECT c FROM u", type: table}
  with_mapping: {query: {sql: "SELECT k FROM u", source: other}, type: table}
  external: {query: "../base.yml#from_base", type: table}
  layered: {query: star, type: bar, x: a, y: b, layers: [{type: line, query: composed, x: a, y: a}]}
  borrowed: ../base.charts.c
rows:
  - shown
  - inherited_chart
  - with_sql
  - with_mapping
  - external
  - layered
  - borrowed
  - title: Nested
    queries:
      deep: SELECT b, a FROM t
    charts:
      d: {query: deep, type: bar, x: b, y: b}
    cols: [d]
""",
    "faces/report.md": """---
status: done
face:
  source: shop
  queries:
    in_markdown: SELECT a FROM t
  charts:
    m: {query: in_markdown, type: table}
---
Text
{{ chart m }}
""",
    "faces/README.md": "No face.\n",
    "faces/target/built.yml": "queries: {no: SELECT no FROM no}\n",
}


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with desk() as made:
        yield made


@pytest.fixture
def everything(tmp_path: Path) -> Path:
    change(
        tmp_path / "shop.duckdb",
        "CREATE TABLE t (a INTEGER, b INTEGER, k INTEGER)",
        "CREATE TABLE u (k INTEGER, c INTEGER)",
    )
    return write(tmp_path, EVERYTHING)


def one_face(tmp_path: Path, text: str, **files: str) -> Path:
    change(tmp_path / "shop.duckdb", "CREATE TABLE IF NOT EXISTS t (a INTEGER, b INTEGER, k INTEGER)")
    return write(tmp_path, {"dataface.yml": SOURCES, "faces/one.yml": text, **files})


def unknown(connection: duckdb.DuckDBPyConnection, root: Path) -> list[tuple[str, str, str | None]]:
    return [(use.part, use.why, use.missing) for use in used(served(connection, root), root).unknown]


# -- the criterion --------------------------------------------------------------------------------


def hit(uses: list[Use], where: TableKey | ColumnKey) -> set[tuple[str, str]]:
    """Who reads an object: the face and its query."""
    column = where.column if isinstance(where, ColumnKey) else None
    table = TableKey(*where[:3])
    return {
        (use.consumer.name.removeprefix("faces/"), use.part)
        for use in uses
        if use.table == table and (column is None or use.columns is None or column in use.columns)
    }


OF_STATUS = {("orders.yml", "by_status"), ("order_list.yml", "latest"), ("catalog.yml", "order_columns")}
OF_REVENUE = {
    ("orders.yml", "by_payment"),
    ("order_list.yml", "latest"),
    ("customers.yml", "best_customers"),
    ("catalog.yml", "order_columns"),
}


@pytest.mark.parametrize(
    ("statement", "changed", "hits"),
    [
        ("ALTER TABLE fct_orders DROP COLUMN status", "fct_orders.status", OF_STATUS),
        ("ALTER TABLE fct_orders RENAME COLUMN status TO state", "fct_orders.status", OF_STATUS),
        ("ALTER TABLE fct_orders ALTER order_revenue TYPE VARCHAR", "fct_orders.order_revenue", OF_REVENUE),
        ("DROP TABLE daily_revenue", "daily_revenue", {("orders.yml", "by_day"), ("catalog.yml", "tables")}),
        (
            "ALTER TABLE dim_products RENAME COLUMN category TO department",
            "dim_products.category",
            {("revenue.yml", "total"), ("revenue.yml", "by_product")},
        ),
        (
            "ALTER TABLE dim_customers RENAME COLUMN country_name TO country",
            "dim_customers.country_name",
            {("customers.yml", "by_country")},
        ),
    ],
)
def test_a_change_of_the_file_is_named_with_every_face_and_query_that_reads_it_and_nobody_is_asked(
    connection: duckdb.DuckDBPyConnection,
    project: Path,
    tmp_path: Path,
    statement: str,
    changed: str,
    hits: set[tuple[str, str]],
) -> None:
    catalogue.write(served(connection, project), tmp_path / "accepted.parquet")
    change(project / "shop.duckdb", statement)

    accepted = catalogue.read(connection, tmp_path / "accepted.parquet")
    found = {
        ".".join(key[2:]): key
        for key, was, _ in catalogue.changed(accepted, served(connection, project))
        if was
    }
    assert changed in found
    uses = used(accepted, project)
    assert hit(uses.known, found[changed]) == hits
    assert uses.unknown == []
    assert not observed_project.is_bound(), "no resolver was called and no session opened"


def test_with_what_is_served_now_the_same_queries_have_names_that_lead_nowhere(
    connection: duckdb.DuckDBPyConnection, project: Path
) -> None:
    change(project / "shop.duckdb", "ALTER TABLE fct_orders DROP COLUMN status", "DROP TABLE daily_revenue")
    found = used(served(connection, project), project).unknown
    assert {(use.consumer.name, use.part, use.missing) for use in found} == {
        ("faces/order_list.yml", "latest", "status"),
        ("faces/orders.yml", "by_status", "status"),
        ("faces/orders.yml", "by_day", "daily_revenue"),
    }


def test_a_face_that_reads_a_view_is_hit_by_what_the_view_reads(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    change(
        tmp_path / "shop.duckdb",
        "CREATE TABLE raw (id INTEGER, secret VARCHAR, other INTEGER)",
        "CREATE VIEW orders AS SELECT id, other FROM raw",
    )
    root = write(
        tmp_path,
        {"dataface.yml": SOURCES, "faces/one.yml": "source: shop\nqueries: {q: SELECT id FROM orders}\n"},
    )
    accepted = served(connection, root)
    assert [told(use) for use in used(accepted, root).known] == [
        Told("q", "main.orders", "id"),
        Told("q", "main.raw", "id other"),
    ]
    change(tmp_path / "shop.duckdb", "ALTER TABLE raw DROP COLUMN other")
    went = {
        ".".join(key[2:])
        for key, _, now in catalogue.changed(accepted, served(connection, root))
        if now is None
    }
    assert went == {"raw.other", "orders", "orders.id", "orders.other"}, "a view that fails is not served"


# -- the faces of a project -----------------------------------------------------------------------


def test_the_uses_of_the_sample_project_are_all_known(
    connection: duckdb.DuckDBPyConnection, project: Path
) -> None:
    found = used(served(connection, project), project)
    assert found.unknown == []
    by_face: dict[str, list[Told]] = {}
    for use in found.known:
        by_face.setdefault(use.consumer.name, []).append(told(use))
    assert len([one for one in by_face["faces/catalog.yml"] if one.part == "tables"]) == 11
    assert by_face["faces/customers.yml"] == [
        Told("by_country", "main.dim_customers", "country_name", "ref"),
        Told("best_customers", "main.dim_customers", "customer_id customer_name", "ref"),
        Told("best_customers", "main.fct_orders", "customer_id order_revenue", "ref"),
    ]
    assert by_face["faces/revenue.yml"] == [
        Told("total", "main.dim_products", "category product_id"),
        Told("total", "main.fct_order_items", "item_revenue product_id"),
        Told("by_product", "main.dim_products", "category product_id product_name"),
        Told("by_product", "main.fct_order_items", "item_revenue product_id"),
    ]


def test_queries_are_found_wherever_a_face_can_write_them(
    connection: duckdb.DuckDBPyConnection, everything: Path
) -> None:
    found = used(served(connection, everything), everything)
    assert found.unknown == []
    rich = [told(use) for use in found.known if use.consumer.name == "faces/sub/rich.yml"]
    assert rich == [
        Told("star", "main.t", "*"),
        Told("chart shown", "main.t", "a b"),
        Told("chart layered", "main.t", "a b"),
        Told("composed", "main.t", "a"),
        Told("elsewhere", "main.t", "k"),
        Told("schemas", "main.t", "a", "schema"),
        Told("inherited", "main.t", "a k"),
        Told("with_sql", "main.u", "c"),
        Told("with_mapping", "main.u", "k"),
        Told("../base.yml#from_base", "main.t", "k"),
        Told("from_base", "main.t", "k"),
        Told("variable region", "main.t", "a"),
        Told("variable kind", "main.u", "c"),
        Told("deep", "main.t", "a b"),
    ]
    assert {use.consumer.name for use in found.known} == {
        "faces/base.yml",
        "faces/report.md",
        "faces/sub/rich.yml",
    }
    assert {use.table.source for use in found.known if use.part == "with_mapping"} == {"other"}


@pytest.mark.real
@pytest.mark.parametrize("root", ["everything", "project"])
def test_the_queries_that_are_found_are_those_that_dataface_compiles(
    root: str, request: pytest.FixtureRequest
) -> None:
    from dataface.cli.filesystem_project import FilesystemProject
    from dataface.core.compile import compiler

    folder = request.getfixturevalue(root)
    project = FilesystemProject(folder)
    for face in faces(folder):
        compiled = compiler.compile_file(project.path(face.name).read_face())
        assert compiled.errors == []
        theirs = {_text(query.sql) for query in compiled.query_registry.values() if hasattr(query, "sql")}
        ours = {_text(query.definition["sql"]) for query in face.queries if query.definition.get("sql")}
        assert ours <= theirs
        assert theirs - ours <= OF_THE_FOLDER, "compiled with each face, and run where a chart takes it"


def _text(sql: str) -> str:
    """Dataface sorts the options of a variable; that reads nothing more."""
    return sql.partition(" ORDER BY")[0]


def test_a_file_that_stands_in_a_layout_belongs_to_the_face(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    part = "queries: {in_part: SELECT b FROM t}\ncharts: {p: {query: in_part}}\nrows: [p]\n"
    root = one_face(tmp_path, "source: shop\nrows: [parts/_part.yml]\n", **{"faces/parts/_part.yml": part})
    found = used(served(connection, root), root)
    assert [(use.consumer.name, told(use)) for use in found.known] == [
        ("faces/one.yml", Told("in_part", "main.t", "b"))
    ]
    assert found.unknown == []


# -- what cannot be told --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "why", "missing"),
    [
        ("SELECT a FROM gone", "gone: the catalogue has no such table", "gone"),
        ("SELECT gone FROM t", "gone: no table that is read is known to have such a column", "gone"),
        ("SELECT a FROM {{ ref('t') }}", "ref('t'): there is no manifest of dbt that resolves it", None),
        ("SELECT a FROM {{ table }}", "the value of a variable stands where the name of a table does", None),
        ("SELECT a FROM {{ queries.gone }}", "queries.gone: there is no query gone of SQL", None),
        ("{sql: SELECT a FROM t, source: gone}", "the source gone is not in dataface.yml", None),
        ("{sql: SELECT a FROM t, source: ./data/t.csv}", "./data/t.csv: reads a file, not a table", None),
        ("{sql: SELECT a FROM t, source: {type: duckdb}}", "its source is written into the query", None),
        ("{type: sql}", "has no SQL", None),
        ("{metrics: [revenue]}", "revenue: MetricFlow writes its SQL", None),
        ("{type: cube}", "type cube: nothing is known of such queries", None),
        ("{type: {a: 1}}", "its type is not a name", None),
        ("{type: dbt_model, model: t}", "model t: the manifest has none of that name", "t"),
        ("{type: schema, source: gone}", "the catalogue has nothing of the source gone", None),
        ("{type: schema, source: shop, schema: x}", "x: the catalogue has no such schema", "x"),
        (
            "{type: schema, source: shop, schema: main, table: x}",
            "main.x: the catalogue has no such table",
            "main.x",
        ),
        (
            "{type: schema, source: shop, schema: main, table: t, column: x}",
            "main.t.x: the table has no such column",
            "main.t.x",
        ),
        ("other.queries.q", "faces/other.yml: is not there", None),
        ("../../other.queries.q", "../../other: lies outside of the project", None),
        ("one.queries.gone", "faces/one.yml has no query gone", None),
        ("one.queries.q", "faces/one.yml: refers to itself", None),
        ("7", "is no query: write SQL, or a mapping with its type", None),
    ],
)
def test_a_query_that_cannot_be_resolved_is_listed_with_its_reason(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, query: str, why: str, missing: str | None
) -> None:
    root = one_face(tmp_path, f"source: shop\nqueries:\n  q: {query}\n")
    ((part, said, name),) = unknown(connection, root)
    assert part == "q"
    assert said.startswith(why)
    assert name == missing


def test_a_query_without_any_source_is_unknown(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    root = one_face(tmp_path, "queries: {q: SELECT a FROM t}\n")
    assert unknown(connection, root) == [("q", "names no source, and nothing around it does", None)]


@pytest.mark.parametrize(
    ("text", "part", "why"),
    [
        ("queries: [\n", "", "faces/one.yml:2: "),
        ("queries: {}\nqueries: {}\n", "", "faces/one.yml:2: queries: is there twice, first in line 1"),
        ("- a\n", "", "faces/one.yml:1: is not a mapping"),
        ("rows: &again [*again]\n", "", "faces/one.yml: is nested without end"),
        ("source: shop\ncharts: {c: {query: gone}}\n", "c", "there is no query gone"),
        (
            "source: shop\ncharts: {c: {model: shop.orders}}\n",
            "c",
            "model shop.orders: MetricFlow writes its SQL",
        ),
        ("source: shop\ncharts: {c: other.charts.x}\n", "c", "faces/other.yml: is not there"),
        (
            "source: shop\nrows: ['{{ kind }}.yml']\n",
            "rows.0",
            "{{ kind }}.yml: which file it is, a variable decides",
        ),
        ("source: shop\nrows: [gone.yml]\n", "rows.0", "faces/gone.yml: is not there"),
        ("source: shop\nextends: ./gone.yml\n", "", "extends ./gone.yml, which is not there"),
        ("source: shop\nvariables: {v: {query: gone}}\n", "variable v", "there is no query gone"),
    ],
)
def test_a_part_of_a_face_that_leads_nowhere_is_listed_and_the_other_faces_are_read(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, text: str, part: str, why: str
) -> None:
    root = one_face(tmp_path, text, **{"faces/two.yml": "source: shop\nqueries: {q: SELECT a FROM t}\n"})
    found = used(served(connection, root), root)
    ((said_part, said, _),) = unknown(connection, root)
    assert said_part == part
    assert said.startswith(why)
    assert [told(use) for use in found.known] == [Told("q", "main.t", "a")]


def test_when_a_source_cannot_be_read_its_queries_are_unknown_and_none_is_dropped(
    connection: duckdb.DuckDBPyConnection, project: Path
) -> None:
    (project / "shop.duckdb").unlink()
    found = used(served(connection, project), project)
    never_read = used(catalogue.new(connection), project)
    assert len(never_read.unknown) == len(found.unknown)
    assert found.known == []
    assert len(found.unknown) == 10
    assert {use.why for use in found.unknown} == {
        "the catalogue has nothing of the source shop, so its names stand for nothing",
        "the catalogue has nothing of the source shop",
    }


# -- older releases, prompts, single texts --------------------------------------------------------


def test_queries_as_dataface_0_1_and_0_2_write_them_are_understood(
    connection: duckdb.DuckDBPyConnection, project: Path
) -> None:
    write(
        project,
        {
            "dataface.yml": "sources:\n  default: shop\n  shop: {type: duckdb, path: shop.duckdb}\n",
            "faces/meta.yaml": "{}\n",
            "faces/old.yml": """
queries:
  by_default: SELECT status FROM fct_orders
  whole: {type: dbt_model, model: fct_orders}
  part: {model: "ref('dim_products')", columns: [category, list_price]}
  resolver: {type: schema_resolver, source: shop, schema: main, table: daily_revenue}
""",
        },
    )
    found = used(served(connection, project), project)
    assert [told(use) for use in found.known if use.consumer.name == "faces/old.yml"] == [
        Told("by_default", "main.fct_orders", "status"),
        Told("whole", "main.fct_orders", "*", "ref"),
        Told("part", "main.dim_products", "category list_price", "ref"),
        Told("resolver", "main.daily_revenue", "*", "schema"),
    ]


def test_a_prompt_that_describes_the_catalogue_reads_all_of_it(
    connection: duckdb.DuckDBPyConnection, project: Path
) -> None:
    found = list(prompt_uses(Names(served(connection, project)), "schema context"))
    assert len(found) == 16
    assert {(use.consumer, use.columns) for use in found} == {(Consumer("prompt", "schema context"), None)}


def test_the_sql_of_an_agent_is_read_as_it_is(connection: duckdb.DuckDBPyConnection, project: Path) -> None:
    names = Names(served(connection, project))
    config = SourceConfig("shop", "duckdb", {"path": "shop.duckdb"})
    agent = Consumer("tool", "execute_query")
    found = sql_uses(agent, "", "SELECT status, gone FROM fct_orders", names, config)
    assert [told(use) for use in found.known] == [Told("", "main.fct_orders", "status")]
    assert [(use.consumer, use.missing) for use in found.unknown] == [(agent, "gone")]


def test_the_branches_of_a_template_are_all_read(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    text = "SELECT {% if x %}a{% else %}b{% endif %} FROM t WHERE {{ filter('k', v) }} LIMIT {{ n }}"
    root = one_face(tmp_path, f'source: shop\nqueries:\n  q: "{text}"\n')
    assert [told(use) for use in used(served(connection, root), root).known] == [Told("q", "main.t", "a b k")]
