"""Faults that really happen to a Dataface project, each with the calls that meet it and what is true of them.

What such a call should be read as is written in the conventions' words, beside what Dataface answers; that it
is read so is for the tests to show. The list holds for Dataface 0.4.0 over MCP on the sample project.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from context_telemetry.conventions import names
from context_telemetry.rehearsal.driver import ALWAYS_UNKNOWN, Call, resource, tool
from context_telemetry.rehearsal.sample import DATABASE, MANIFEST, RehearsalError

_MANIFEST = MANIFEST.as_posix()
_DATABASE = DATABASE.as_posix()


@dataclass(frozen=True)
class Meeting:
    """A call that meets a fault: its entry's outcome and exact reasons, and whether Dataface says error."""

    call: Call
    outcome: str
    reasons: frozenset[str] = frozenset()
    is_error: bool = False

    def __post_init__(self) -> None:
        unknown = (self.reasons - names.REASONS) | ({self.outcome} - names.OUTCOMES)
        if unknown:
            raise ValueError(f"not in the conventions: {', '.join(sorted(unknown))}")


@dataclass(frozen=True)
class Fault:
    """One fault; `touches` are the files, relative to the project, that `change` writes, moves or removes.

    `twin` is the healthy call most like those that meet the fault: it ends `ok` once the fault is healed.
    `settles` is how many seconds after the injection the calls carry its reasons. `new_server` faults show
    only in a server that has not resolved the catalogue yet: one that has keeps the former database open.
    """

    name: str
    simulates: str
    meetings: tuple[Meeting, ...]
    twin: Call
    touches: tuple[str, ...] = ()
    change: Callable[[Path], None] | None = None
    settles: float = 0.0
    new_server: bool = False

    @property
    def reasons(self) -> frozenset[str]:
        """All reasons that calls which meet it carry."""
        return frozenset().union(*(meeting.reasons for meeting in self.meetings))

    def inject(self, project: Path) -> None:
        """Makes the fault, and keeps what was there in a folder beside the project."""
        if self.change is None:
            return
        kept = self._kept(project)
        if kept.exists():
            raise RehearsalError(f"the fault {self.name} is already injected in {project}")
        kept.mkdir(parents=True)
        for path in self.touches:
            if (project / path).exists():
                (kept / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(project / path, kept / path)
        self.change(project)

    def heal(self, project: Path) -> None:
        """Puts back what was there before the injection; does nothing where there was none."""
        kept = self._kept(project)
        if not kept.exists():
            return
        for path in self.touches:
            (project / path).unlink(missing_ok=True)
            if (kept / path).exists():
                shutil.move(kept / path, project / path)
        shutil.rmtree(kept)

    @contextmanager
    def injected(self, project: Path) -> Iterator[None]:
        self.inject(project)
        try:
            yield
        finally:
            self.heal(project)

    def _kept(self, project: Path) -> Path:
        # Not in the project: Dataface and its agents read what lies there.
        return project.parent / f"{project.name}.before" / self.name


def ok(call: Call) -> Meeting:
    return Meeting(call, "ok")


def degraded(call: Call, *reasons: str) -> Meeting:
    return Meeting(call, "degraded", frozenset(reasons))


def failed(call: Call, *reasons: str) -> Meeting:
    return Meeting(call, "failed", frozenset(reasons), is_error=True)


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


def _schema_face(*queries: dict[str, str]) -> str:
    """A face with one table chart for each schema query; JSON is YAML."""
    named = {f"q{number}": {"type": "schema", **query} for number, query in enumerate(queries)}
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
_ONE = "SELECT 1 AS one"
_COUNT = "SELECT count(*) AS orders FROM fct_orders"
_WIDE = (
    "SELECT * FROM fct_order_items JOIN fct_orders USING (order_id)"
    " JOIN dim_products USING (product_id) JOIN dim_customers USING (customer_id)"
)

_query_one = tool("execute_query", sql=_ONE, source="shop")
_query_count = tool("execute_query", sql=_COUNT, source="shop")
_query_ref = tool("query_face", name="by_country", path="faces/customers.yml")
_render_ref = tool("render_dashboard", path="faces/customers.yml")
_render_orders = tool("render_dashboard", path="faces/orders.yml")
_render_catalog = tool("render_dashboard", path="faces/catalog.yml")
_render_lost = tool("render_dashboard", path=_LOST_FACE)
_search = tool("search_dashboards", query="revenue")
_list = resource("dataface://dashboards")

_TABLES = {"source": "shop", "schema": "main"}


def _manifest_fault(name: str, simulates: str, reason: str, change: Callable[[Path], None]) -> Fault:
    return Fault(
        name=name,
        simulates=simulates,
        meetings=(failed(_query_ref, reason), degraded(_render_ref, reason, "all_charts_failed")),
        twin=_query_ref,
        touches=(_MANIFEST,),
        change=change,
    )


def _schema_fault(level: str, lost: dict[str, str]) -> Fault:
    return Fault(
        name=f"{level}_unknown",
        simulates=f"a face asks the catalogue for a {level} that was dropped or renamed",
        meetings=(degraded(_render_lost, "object_unknown", "charts_failed"),),
        twin=_render_catalog,
        touches=(_LOST_FACE,),
        change=_write(_LOST_FACE, _schema_face(_TABLES, lost)),
    )


FAULTS: tuple[Fault, ...] = (
    # -- sources
    Fault(
        name="source_unknown_answered",
        simulates="a call names a source that nobody configured, and the query needs no table",
        meetings=(degraded(tool("execute_query", sql=_ONE, source="shopp"), "source_substituted"),),
        twin=_query_one,
    ),
    Fault(
        name="source_unknown",
        simulates="a call names a source that nobody configured, and the table is not where the query ran",
        meetings=(failed(tool("execute_query", sql=_COUNT, source="shopp"), "source_substituted"),),
        twin=_query_count,
    ),
    Fault(
        name="sources_removed",
        simulates="a deployment whose dataface.yml has lost its sources",
        meetings=(
            degraded(_query_one, "source_substituted", "source_unconfigured"),
            failed(_query_count, "source_substituted", "source_unconfigured"),
        ),
        twin=_query_count,
        touches=(_SOURCES_FILE,),
        change=_write(_SOURCES_FILE, "sources: {}\n"),
    ),
    Fault(
        name="profile_gone",
        simulates="a source that stands in a dbt profile, and a profiles.yml that was not deployed",
        meetings=(failed(_query_count, "source_unconfigured"),),
        twin=_query_count,
        touches=(_SOURCES_FILE, "profiles.yml"),
        change=_all(
            _write(_SOURCES_FILE, "sources:\n  shop:\n    type: dbt_profile\n    profile: shop\n"),
            _remove("profiles.yml"),
        ),
    ),
    Fault(
        name="adapter_missing",
        simulates="a source whose dbt adapter is not installed where Dataface runs",
        meetings=(
            degraded(_render_lost, "layer_unavailable", "charts_failed"),
            failed(tool("describe_query", sql=_ONE, source="warehouse"), "layer_unavailable"),
            failed(tool("execute_query", sql=_ONE, source="warehouse"), "layer_unavailable"),
        ),
        twin=_render_catalog,
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
        twin=_query_count,
        touches=(_SOURCES_FILE, "profiles.yml"),
        change=_all(
            _write(_SOURCES_FILE, "sources:\n  shop:\n    type: dbt_profile\n    profile: shop\n"),
            _write(
                "profiles.yml",
                "shop:\n  target: dev\n  outputs:\n    dev:\n      type: postgres\n      host: localhost\n"
                "      port: 5432\n      user: shop\n      dbname: shop\n      schema: main\n      pass: unset\n",
            ),
        ),
    ),
    # -- the manifest
    _manifest_fault(
        "manifest_cut", "a manifest that was copied in part", "manifest_unreadable", _cut_manifest
    ),
    _manifest_fault("manifest_gone", "a deployment without target/", "manifest_missing", _remove(_MANIFEST)),
    _manifest_fault(
        "manifest_empty", "a manifest that holds nothing", "manifest_incomplete", _write(_MANIFEST, "{}")
    ),
    _manifest_fault(
        "manifest_of_another_kind",
        "a file of that name whose nodes are no nodes",
        "manifest_unreadable",
        _write(_MANIFEST, '{"nodes": {"model.shop.x": null}}'),
    ),
    _manifest_fault("manifest_list", "another file's JSON", "manifest_unreadable", _write(_MANIFEST, "[]")),
    _manifest_fault(
        "manifest_null", "a template that was not filled", "manifest_unreadable", _write(_MANIFEST, "null")
    ),
    _manifest_fault("manifest_not_utf8", "a rewrite in Latin-1", "manifest_unreadable", _manifest_not_utf8),
    Fault(
        name="manifest_snapshot",
        simulates="a manifest that is gone while an older snapshot lies beside it",
        meetings=(
            degraded(_query_ref, "manifest_substituted"),
            degraded(_render_ref, "manifest_substituted"),
        ),
        twin=_query_ref,
        touches=(_MANIFEST, "manifest.snapshot.json"),
        change=_manifest_as_snapshot,
    ),
    Fault(
        name="model_edited",
        simulates="a model that was changed after the manifest was made",
        meetings=(degraded(_query_ref, "manifest_stale"), degraded(_render_catalog, "manifest_stale")),
        twin=_query_ref,
        touches=("models/marts/dim_customers.sql",),
        change=_edit_model,
        settles=2.0,
    ),
    # -- faces
    Fault(
        name="face_broken",
        simulates="a face that was saved in the middle of an edit",
        meetings=(degraded(_search, "face_unreadable"), degraded(_list, "face_unreadable")),
        twin=_search,
        touches=(_LOST_FACE,),
        change=_write(_LOST_FACE, "title: Revenue\nqueries: [\n"),
    ),
    Fault(
        name="face_dangling",
        simulates="a face that is a link to a file which is gone",
        meetings=(degraded(_search, "face_unreadable"), degraded(_list, "face_unreadable")),
        twin=_list,
        touches=(_LOST_FACE,),
        change=_dangling_face,
    ),
    # -- the warehouse
    Fault(
        name="column_dropped",
        simulates="a column that a chart needs was renamed in the warehouse",
        meetings=(
            degraded(_render_orders, "charts_failed"),
            failed(tool("render_dashboard", path="faces/orders.yml", format="yaml"), "charts_failed"),
        ),
        twin=_render_orders,
        touches=(_DATABASE,),
        change=_sql("ALTER TABLE fct_orders RENAME COLUMN payment_method TO paid_with"),
        new_server=True,
    ),
    Fault(
        name="column_of_a_chart_dropped",
        simulates="a column is gone that a chart is drawn from, while its query asks for all that there are",
        meetings=(
            degraded(_render_lost, "charts_failed"),
            degraded(tool("render_dashboard", path=_LOST_FACE, format="svg"), "charts_failed"),
        ),
        twin=_render_orders,
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
        meetings=(degraded(tool("render_dashboard", path="faces/revenue.yml"), "all_charts_failed"),),
        twin=tool("render_dashboard", path="faces/revenue.yml"),
        touches=(_DATABASE,),
        change=_sql("DROP TABLE fct_order_items"),
        new_server=True,
    ),
    Fault(
        name="database_gone",
        simulates="the warehouse is away",
        meetings=(degraded(_render_orders, "all_charts_failed"), failed(_query_count)),
        twin=_render_orders,
        touches=(_DATABASE,),
        change=_remove(_DATABASE),
        new_server=True,
    ),
    # -- the catalogue
    _schema_fault("schema", {"source": "shop", "schema": "finance"}),
    _schema_fault("table", {**_TABLES, "table": "fct_invoices"}),
    _schema_fault("column", {**_TABLES, "table": "fct_orders", "column": "discount"}),
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
        twin=resource("dataface://docs/errors"),
    ),
    Fault(
        name="resource_listed_unknown",
        simulates="Dataface lists two resources that it does not have",
        meetings=tuple(degraded(resource(uri), "resource_unknown") for uri in ALWAYS_UNKNOWN),
        twin=resource("dataface://docs/charts"),
    ),
    # -- size
    Fault(
        name="result_oversized",
        simulates="an agent asks for as many wide rows as the tool gives",
        meetings=(
            degraded(tool("execute_query", sql=_WIDE, source="shop", limit=1000), "payload_over_budget"),
        ),
        twin=tool("execute_query", sql=_WIDE, source="shop", limit=10),
    ),
    # -- failures that say so themselves
    Fault(
        name="arguments_invalid",
        simulates="an agent leaves out a required argument",
        meetings=(failed(tool("execute_query", source="shop")),),
        twin=_query_one,
    ),
    Fault(
        name="tool_unknown",
        simulates="an agent calls a tool of another release",
        meetings=(failed(tool("schema_search", query="orders")),),
        twin=_search,
    ),
    Fault(
        name="sql_typo",
        simulates="an agent writes SQL that does not parse, and SQL on a column that never was",
        meetings=(
            failed(tool("execute_query", sql="SELEC 1", source="shop")),
            failed(tool("execute_query", sql="SELECT discount FROM fct_orders", source="shop")),
        ),
        twin=_query_one,
    ),
)


def fault(name: str) -> Fault:
    """The fault of that name; raises KeyError with the names that there are."""
    for each in FAULTS:
        if each.name == name:
            return each
    raise KeyError(f"no fault {name!r}; there are {', '.join(each.name for each in FAULTS)}")
