"""Faults that really happen to a Dataface project, each with the calls that meet it and what is true of them.

What such a call should be read as is written in the conventions' words, beside what Dataface answers; that it
is read so is for the tests to show. The rows hold over MCP on the sample project, each for the releases it names.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from context_telemetry.instrumentation import OLDEST
from context_telemetry.rehearsal.driver import ALWAYS_UNKNOWN, Call, resource, tool
from context_telemetry.rehearsal.fault import Fault, Meeting, degraded, failed, ok
from context_telemetry.rehearsal.sample import DATABASE, MANIFEST

_MANIFEST = MANIFEST.as_posix()
_DATABASE = DATABASE.as_posix()


def _write(path: str, content: str | bytes) -> Callable[[Path], None]:
    """A change that makes the file anew: another inode, as deployments and dbt leave it."""

    def change(project: Path) -> None:
        target = project / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)

    return change


def _remove(path: str) -> Callable[[Path], None]:
    return lambda project: (project / path).unlink()


def _sql(statement: str) -> Callable[[Path], None]:
    """A change of the data, in a new database file that takes the old one's place: open ones are locked."""

    def change(project: Path) -> None:
        import duckdb

        fresh = project / f"{_DATABASE}.new"
        shutil.copy2(project / _DATABASE, fresh)
        with duckdb.connect(str(fresh)) as connection:
            connection.execute(statement)
        os.replace(fresh, project / _DATABASE)

    return change


def _all(*changes: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(project: Path) -> None:
        for each in changes:
            each(project)

    return change


def _cut_manifest(project: Path) -> None:
    """Half of the file, as a full disk or a cut copy leaves it."""
    content = (project / MANIFEST).read_bytes()
    _write(_MANIFEST, content[: len(content) // 2])(project)


def _manifest_not_utf8(project: Path) -> None:
    content = (project / MANIFEST).read_text("utf-8")
    _write(_MANIFEST, content.replace("Key of", "Schlüssel", 1).encode("latin-1"))(project)


def _manifest_as_snapshot(project: Path) -> None:
    shutil.move(project / MANIFEST, project / "manifest.snapshot.json")


def _edit_model(project: Path) -> None:
    model = "models/marts/dim_customers.sql"
    text = (project / model).read_text("utf-8")
    _write(model, text.replace("customers.registered_on", "customers.registered_on as member_since"))(project)


def _dangling_face(project: Path) -> None:
    (project / _LOST_FACE).symlink_to("nowhere.yml")


def _schema_face(*queries: dict[str, str], kind: str = "schema") -> str:
    """A face with one table chart for each query of the catalogue; JSON is YAML."""
    named = {f"q{number}": {"type": kind, **query} for number, query in enumerate(queries)}
    return json.dumps(
        {
            "title": "Lost and found",
            "queries": named,
            "charts": {f"chart_{name}": {"query": name, "type": "table"} for name in named},
            "rows": [f"chart_{name}" for name in named],
        }
    )


_LOST_FACE = "faces/lost.yml"
_SOURCES_FILE = "dataface.yml"
_PROFILES_RUN_NOTHING = "in 0.1.2 and 0.1.3 a source of type dbt_profile runs no query"
_PROFILE_SOURCE = "sources:\n  shop:\n    type: dbt_profile\n    profile: shop\n"
_ONE = "SELECT 1 AS one"
_COUNT = "SELECT count(*) AS orders FROM fct_orders"
_REF = "SELECT count(*) AS customers FROM {{ ref('dim_customers') }}"
_LISTED = "SELECT table_name FROM information_schema.tables"
_WIDE = (
    "SELECT * FROM fct_order_items JOIN fct_orders USING (order_id)"
    " JOIN dim_products USING (product_id) JOIN dim_customers USING (customer_id)"
)

_query_one = tool("execute_query", sql=_ONE, source="shop")
_query_count = tool("execute_query", sql=_COUNT, source="shop")
_query_ref = tool("execute_query", sql=_REF, source="shop")
_query_ref_sourceless = tool("execute_query", sql=_REF)
_face_ref = tool("query_face", name="by_country", path="faces/customers.yml")
_render_ref = tool("render_dashboard", path="faces/customers.yml")
_render_orders = tool("render_dashboard", path="faces/orders.yml")
_render_revenue = tool("render_dashboard", path="faces/revenue.yml")
_render_catalog = tool("render_dashboard", path="faces/catalog.yml")
_render_lost = tool("render_dashboard", path=_LOST_FACE)
_search = tool("search_dashboards", query="revenue")
_search_schema = tool("schema_search", keyword="customer")
_list = resource("dataface://dashboards")

_TABLES = {"source": "shop", "schema": "main"}
_schema_orders = tool("schema", **_TABLES, table="fct_orders")


def _text(render: Call) -> Call:
    """The render in the shortest format; before 0.2.0 the others are beyond the budget on a healthy day."""
    return tool("render_dashboard", **{**render.arguments, "format": "text"})


def _references(meet: Callable[..., Meeting], *reasons: str) -> tuple[Meeting, ...]:
    """A query with a `ref()`: 0.2.0 resolves it only where no source is named, and 0.3.0 not on a DuckDB file."""
    return (
        meet(_query_ref, *reasons, until="0.1.5"),
        meet(_query_ref_sourceless, *reasons, since="0.2.0", until="0.2.0"),
        meet(_query_ref, *reasons, since="0.3.1"),
    )


_READS_MANIFEST = (*_references(ok), ok(_render_catalog, since="0.3.0", until="0.3.0"))


def _manifest_fault(
    name: str,
    simulates: str,
    reason: str,
    change: Callable[[Path], None],
    *also: Meeting,
    ends_catalog: bool = False,
    is_empty: bool = False,
) -> Fault:
    """It takes the descriptions from the catalogue, or `ends_catalog`, and fails each `ref()`; 0.3.1 takes a `ref()`
    for the table's name where the manifest `is_empty`."""
    all_failed = ("all_charts_failed",)
    return Fault(
        name=name,
        simulates=simulates,
        meetings=(
            failed(_query_ref, reason, until="0.1.5"),
            failed(_face_ref, reason, until="0.1.5"),
            degraded(_render_ref, reason, *all_failed, until="0.1.5"),
            failed(_query_ref_sourceless, reason, since="0.2.0", until="0.2.0"),
            (degraded if is_empty else failed)(_query_ref, reason, since="0.3.1", until="0.3.1"),
            (degraded if is_empty else failed)(_face_ref, reason, since="0.3.1", until="0.3.1"),
            degraded(_render_ref, reason, *(() if is_empty else all_failed), since="0.3.1", until="0.3.1"),
            failed(_query_ref, reason, since="0.4.0"),
            failed(_face_ref, reason, since="0.4.0"),
            degraded(_render_ref, reason, *all_failed, since="0.4.0"),
            degraded(_render_catalog, reason, *(all_failed if ends_catalog else ()), since="0.2.0"),
            *also,
        ),
        twins=_READS_MANIFEST,
        touches=(_MANIFEST,),
        change=change,
    )


def _schema_fault(level: str, lost: dict[str, str]) -> tuple[Fault, ...]:
    """In a face, whose queries of the catalogue disturb each other before 0.2.0, and by the tool that there was."""
    asked_tool = failed(tool("schema", **lost), "object_unknown", until="0.2.0")
    fault = Fault(
        name=f"{level}_unknown",
        simulates=f"a face or an agent asks the catalogue for a {level} that was dropped or renamed",
        meetings=(degraded(_render_lost, "object_unknown", "charts_failed"), asked_tool),
        twins=(ok(_render_catalog),),
        touches=(_LOST_FACE,),
        change=_write(_LOST_FACE, _schema_face(_TABLES, lost)),
        since="0.2.0",
    )
    alone = replace(
        fault,
        meetings=(degraded(_render_lost, "object_unknown", "all_charts_failed"), asked_tool),
        twins=(ok(_schema_orders),),
        change=_write(_LOST_FACE, _schema_face(lost)),
        since="0.1.5",
        until="0.1.5",
    )
    by_another_name = _write(_LOST_FACE, _schema_face(lost, kind="schema_resolver"))
    return fault, alone, replace(alone, change=by_another_name, since=OLDEST, until="0.1.4")


FAULTS: tuple[Fault, ...] = (
    # -- sources
    Fault(
        name="source_unknown_answered",
        simulates="a call names a source that nobody configured, and the query needs no table",
        meetings=(degraded(tool("execute_query", sql=_ONE, source="shopp"), "source_substituted"),),
        twins=(ok(_query_one),),
    ),
    Fault(
        name="source_unknown",
        simulates="a call names a source that nobody configured, and the table is not where the query ran",
        meetings=(
            failed(tool("execute_query", sql=_COUNT, source="shopp"), "source_substituted"),
            failed(tool("describe_query", sql=_COUNT, source="shopp")),
            failed(tool("schema", source="shopp"), until="0.2.0"),
        ),
        twins=(ok(_query_count),),
    ),
    Fault(
        name="source_not_named",
        simulates="an agent names no source",
        meetings=(
            ok(tool("execute_query", sql=_ONE), until="0.2.0"),
            failed(tool("execute_query", sql=_COUNT), "source_substituted", until="0.2.0"),
            degraded(tool("execute_query", sql=_LISTED), "source_substituted", until="0.2.0"),
            failed(tool("execute_query", sql=_ONE), since="0.3.0"),
        ),
        twins=(ok(_query_count),),
    ),
    Fault(
        name="sources_removed",
        simulates="a deployment whose dataface.yml has lost its sources",
        meetings=(
            degraded(_query_one, "source_substituted", "source_unconfigured"),
            failed(_query_count, "source_substituted", "source_unconfigured"),
        ),
        twins=(ok(_query_count),),
        touches=(_SOURCES_FILE,),
        change=_write(_SOURCES_FILE, "sources: {}\n"),
    ),
    Fault(
        name="sources_unreadable",
        simulates="a dataface.yml that was saved in the middle of an edit",
        meetings=(failed(_query_count),),
        twins=(ok(_query_count),),
        touches=(_SOURCES_FILE,),
        change=_write(_SOURCES_FILE, "sources:\n  shop: {type: duckdb\n"),
    ),
    Fault(
        name="source_with_a_password",
        simulates="a dataface.yml with a password in it, which Dataface refuses",
        meetings=(failed(_query_count),),
        twins=(ok(_query_count),),
        touches=(_SOURCES_FILE,),
        change=_write(
            _SOURCES_FILE,
            "sources:\n  shop:\n    type: postgres\n    host: localhost\n    port: 5432\n    user: shop\n"
            "    dbname: shop\n    schema: main\n    password: opensesame\n",
        ),
        since="0.2.0",
        because="before 0.2.0 a password in dataface.yml is taken",
    ),
    Fault(
        name="profile_gone",
        simulates="a source that stands in a dbt profile, and a profiles.yml that was not deployed",
        meetings=(failed(_query_count, "source_unconfigured"),),
        twins=(ok(_query_count),),
        touches=(_SOURCES_FILE, "profiles.yml"),
        change=_all(
            _write(_SOURCES_FILE, _PROFILE_SOURCE),
            _remove("profiles.yml"),
        ),
        since="0.1.4",
        because=_PROFILES_RUN_NOTHING,
    ),
    Fault(
        name="profile_unreadable",
        simulates="a source that stands in a dbt profile, and a profiles.yml that was saved in the middle of an edit",
        meetings=(failed(_query_count, "source_unconfigured"),),
        twins=(ok(_query_count),),
        touches=(_SOURCES_FILE, "profiles.yml"),
        change=_all(_write(_SOURCES_FILE, _PROFILE_SOURCE), _write("profiles.yml", "shop: [\n")),
        since="0.1.4",
        because=_PROFILES_RUN_NOTHING,
    ),
    Fault(
        name="profile_unused",
        simulates="a profiles.yml that was saved in the middle of an edit, and that nobody needs",
        meetings=(ok(_query_count), ok(_search)),
        twins=(ok(_query_count),),
        touches=("profiles.yml",),
        change=_write("profiles.yml", "shop: [\n"),
    ),
    Fault(
        name="profile_not_introspected",
        simulates="a source that stands in a dbt profile: it runs queries and has no catalogue",
        meetings=(
            ok(_query_count, since="0.1.4", until="0.2.0"),
            ok(_query_count, since="0.3.1"),
            failed(_schema_orders, until="0.2.0"),
            degraded(_search_schema, "layer_unavailable", since="0.2.0", until="0.2.0"),
            degraded(_render_catalog, "all_charts_failed", since="0.2.0"),
        ),
        twins=(ok(_schema_orders, until="0.2.0"), ok(_render_catalog, since="0.3.0")),
        touches=(_SOURCES_FILE,),
        change=_write(_SOURCES_FILE, _PROFILE_SOURCE),
        new_server=True,
    ),
    Fault(
        name="adapter_missing",
        simulates="a source whose dbt adapter is not installed where Dataface runs",
        meetings=(
            degraded(_render_lost, "layer_unavailable", "charts_failed", since="0.2.0"),
            failed(tool("describe_query", sql=_ONE, source="warehouse"), "layer_unavailable"),
            failed(tool("execute_query", sql=_ONE, source="warehouse"), "layer_unavailable"),
            degraded(_search_schema, "layer_unavailable", since="0.2.0", until="0.2.0"),
        ),
        twins=(
            ok(_query_one, until="0.1.5"),
            ok(_search_schema, since="0.2.0", until="0.2.0"),
            ok(_render_catalog, since="0.3.0"),
        ),
        touches=(_SOURCES_FILE, _LOST_FACE),
        change=_all(
            _write(
                _SOURCES_FILE,
                "sources:\n  shop:\n    type: duckdb\n    path: shop.duckdb\n"
                "  warehouse:\n    type: postgres\n"
                "    host: localhost\n    port: 5432\n    user: shop\n    dbname: shop\n    schema: main\n"
                "    password: \"{{ env_var('SHOP_PASSWORD', 'unset') }}\"\n",
            ),
            _write(_LOST_FACE, _schema_face(_TABLES, {"source": "warehouse", "schema": "main"})),
        ),
    ),
    Fault(
        name="profile_adapter_missing",
        simulates="a dbt profile of a warehouse whose dbt adapter is not installed where Dataface runs",
        meetings=(failed(_query_count, "layer_unavailable"),),
        twins=(ok(_query_count),),
        touches=(_SOURCES_FILE, "profiles.yml"),
        change=_all(
            _write(_SOURCES_FILE, _PROFILE_SOURCE),
            _write(
                "profiles.yml",
                "shop:\n  target: dev\n  outputs:\n    dev:\n      type: postgres\n      host: localhost\n"
                "      port: 5432\n      user: shop\n      dbname: shop\n      schema: main\n"
                "      password: unset\n",
            ),
        ),
        since="0.1.4",
        because=_PROFILES_RUN_NOTHING,
    ),
    # -- the manifest
    _manifest_fault(
        "manifest_cut", "a manifest that was copied in part", "manifest_unreadable", _cut_manifest
    ),
    _manifest_fault("manifest_gone", "a deployment without target/", "manifest_missing", _remove(_MANIFEST)),
    _manifest_fault(
        "manifest_empty",
        "a manifest that holds nothing",
        "manifest_incomplete",
        _write(_MANIFEST, "{}"),
        is_empty=True,
    ),
    _manifest_fault(
        "manifest_of_another_kind",
        "a file of that name whose nodes are no nodes",
        "manifest_unreadable",
        _write(_MANIFEST, '{"nodes": {"model.shop.x": null}}'),
        ends_catalog=True,
    ),
    _manifest_fault(
        "manifest_list",
        "another file's JSON",
        "manifest_unreadable",
        _write(_MANIFEST, "[]"),
        is_empty=True,
    ),
    _manifest_fault(
        "manifest_null", "a template that was not filled", "manifest_unreadable", _write(_MANIFEST, "null")
    ),
    _manifest_fault(
        "manifest_not_utf8",
        "a rewrite in Latin-1",
        "manifest_unreadable",
        _manifest_not_utf8,
        failed(_query_count, "manifest_unreadable", until="0.1.4"),
        ends_catalog=True,
    ),
    Fault(
        name="manifest_snapshot",
        simulates="a manifest that is gone while an older snapshot lies beside it",
        meetings=(
            *_references(degraded, "manifest_substituted"),
            degraded(_text(_render_ref), "manifest_substituted", until="0.1.5"),
            degraded(_render_ref, "manifest_substituted", since="0.3.1"),
            degraded(_render_catalog, "manifest_substituted", since="0.2.0"),
        ),
        twins=_READS_MANIFEST,
        touches=(_MANIFEST, "manifest.snapshot.json"),
        change=_manifest_as_snapshot,
    ),
    Fault(
        name="model_edited",
        simulates="a model that was changed after the manifest was made",
        meetings=(
            *_references(degraded, "manifest_stale"),
            degraded(_render_catalog, "manifest_stale", since="0.2.0"),
        ),
        twins=_READS_MANIFEST,
        touches=("models/marts/dim_customers.sql",),
        change=_edit_model,
        settles=3.0,
    ),
    Fault(
        name="reference_undefined",
        simulates="a face with a ref() on a named source, which only some releases resolve",
        meetings=(failed(_face_ref), degraded(_render_ref, "all_charts_failed")),
        twins=(ok(tool("query_face", name="by_status", path="faces/orders.yml")),),
        since="0.2.0",
        until="0.3.0",
        because="only 0.2.0 and 0.3.0 leave ref() undefined on a DuckDB file",
    ),
    # -- faces
    Fault(
        name="face_broken",
        simulates="a face that was saved in the middle of an edit",
        meetings=(
            degraded(_search, "face_unreadable"),
            degraded(_list, "face_unreadable"),
            failed(_render_lost),
            failed(tool("validate_dashboard", path=_LOST_FACE)),
            failed(tool("describe_dashboard", path=_LOST_FACE)),
        ),
        twins=(ok(_search),),
        touches=(_LOST_FACE,),
        change=_write(_LOST_FACE, "title: Revenue\nqueries: [\n"),
    ),
    Fault(
        name="face_dangling",
        simulates="a face that is a link to a file which is gone",
        meetings=(degraded(_search, "face_unreadable"), degraded(_list, "face_unreadable")),
        twins=(ok(_list),),
        touches=(_LOST_FACE,),
        change=_dangling_face,
    ),
    # -- the warehouse
    Fault(
        name="column_dropped",
        simulates="a column that a chart needs was renamed in the warehouse",
        meetings=(
            degraded(_render_orders, "charts_failed", since="0.2.0"),
            degraded(_text(_render_orders), "charts_failed"),
            failed(tool("render_dashboard", path="faces/orders.yml", format="yaml"), "charts_failed"),
            ok(tool("validate_dashboard", path="faces/orders.yml")),
        ),
        twins=(ok(_text(_render_orders)),),
        touches=(_DATABASE,),
        change=_sql("ALTER TABLE fct_orders RENAME COLUMN payment_method TO paid_with"),
        new_server=True,
    ),
    Fault(
        name="column_of_a_chart_dropped",
        simulates="a column is gone that a chart is drawn from, while its query asks for all that there are",
        meetings=(
            degraded(_render_lost, "charts_failed", since="0.2.0"),
            degraded(_text(_render_lost), "charts_failed"),
            degraded(tool("render_dashboard", path=_LOST_FACE, format="svg"), "charts_failed", since="0.4.0"),
        ),
        twins=(ok(_text(_render_orders)),),
        touches=(_LOST_FACE,),
        change=_write(
            _LOST_FACE,
            "title: Lost and found\nsource: shop\n"
            "queries: {all: {sql: SELECT * FROM fct_orders ORDER BY order_id LIMIT 9}}\n"
            "charts:\n  whole: {query: all, type: table}\n"
            "  lost: {query: all, type: bar, x: paid_with, y: order_id}\nrows: [whole, lost]\n",
        ),
    ),
    Fault(
        name="table_dropped",
        simulates="a table that every chart of a face needs was dropped",
        meetings=(
            degraded(_render_revenue, "all_charts_failed"),
            failed(tool("execute_query", sql="SELECT count(*) FROM fct_order_items", source="shop")),
        ),
        twins=(ok(_text(_render_revenue)),),
        touches=(_DATABASE,),
        change=_sql("DROP TABLE fct_order_items"),
        new_server=True,
    ),
    Fault(
        name="database_gone",
        simulates="the warehouse is away",
        meetings=(
            degraded(_render_orders, "all_charts_failed"),
            failed(_query_count),
            failed(tool("describe_query", sql=_COUNT, source="shop")),
            failed(tool("schema", source="shop"), until="0.2.0"),
        ),
        twins=(ok(_text(_render_orders)),),
        touches=(_DATABASE,),
        change=_remove(_DATABASE),
        new_server=True,
    ),
    # -- the catalogue
    *_schema_fault("schema", {"source": "shop", "schema": "finance"}),
    *_schema_fault("table", {**_TABLES, "table": "fct_invoices"}),
    *_schema_fault("column", {**_TABLES, "table": "fct_orders", "column": "discount"}),
    Fault(
        name="catalogue_locked_out",
        simulates="a query has opened the database in another way than the catalogue does",
        meetings=(ok(_query_count), failed(_schema_orders)),
        twins=(ok(_schema_orders),),
        until="0.1.4",
        new_server=True,
        because="0.1.5 and later open a database for both in the same way",
    ),
    # -- resources
    Fault(
        name="resource_unknown",
        simulates="a client reads resources that are not there",
        meetings=tuple(
            degraded(resource(uri), "resource_unknown")
            for uri in (
                "dataface://no-such-resource",
                "dataface://docs/no-such-topic",
                "dataface://guide/no-such-guide",
                "dataface://dashboard/no-such-face.yml",
            )
        ),
        twins=(ok(resource("dataface://docs/errors")),),
    ),
    Fault(
        name="resource_listed_unknown",
        simulates="Dataface lists two resources that it does not have",
        meetings=tuple(degraded(resource(uri), "resource_unknown") for uri in ALWAYS_UNKNOWN),
        twins=(ok(resource("dataface://docs/charts")),),
        since="0.3.0",
        because="before 0.3.0 every resource that is listed is there",
    ),
    # -- size
    Fault(
        name="result_oversized",
        simulates="an agent asks for as many wide rows as the tool gives",
        meetings=(
            degraded(tool("execute_query", sql=_WIDE, source="shop", limit=1000), "payload_over_budget"),
        ),
        twins=(ok(tool("execute_query", sql=_WIDE, source="shop", limit=10)),),
    ),
    # -- failures that say so themselves
    Fault(
        name="arguments_invalid",
        simulates="an agent leaves out a required argument",
        meetings=(failed(tool("execute_query", source="shop")),),
        twins=(ok(_query_one),),
    ),
    Fault(
        name="tool_unknown",
        simulates="an agent calls a tool of another release",
        meetings=(
            failed(tool("list_diagnostic_codes"), until="0.2.0"),
            failed(tool("schema_search", query="orders"), since="0.3.0"),
        ),
        twins=(ok(_search),),
    ),
    Fault(
        name="sql_typo",
        simulates="an agent writes SQL that does not parse, and SQL on a column that never was",
        meetings=(
            failed(tool("execute_query", sql="SELEC 1", source="shop")),
            failed(tool("execute_query", sql="SELECT discount FROM fct_orders", source="shop")),
        ),
        twins=(ok(_query_one),),
    ),
)


def faults(release: str | None = None) -> tuple[Fault, ...]:
    """The faults of a Dataface release, the installed one if none is named, each as that release has it.

    Raises PackageNotFoundError where none is named and none is installed.
    """
    here = release or importlib.metadata.version("dataface")
    return tuple(each.on(here) for each in FAULTS if each.serves(here))


def fault(name: str) -> Fault:
    """The fault of that name in the installed release; raises KeyError with the names that there are."""
    there = faults()
    for each in there:
        if each.name == name:
            return each
    raise KeyError(f"no fault {name!r}; there are {', '.join(each.name for each in there)}")
