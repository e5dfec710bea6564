"""A look at a real project says what broke, what drifted and what it could not tell, and never more than that."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from contract.catalogues import change, desk, write
from contract.looks import (
    HOLDER_OF_SQLITE,
    Told,
    accept,
    accepted,
    broken,
    drift,
    except_,
    held,
    look,
    told,
)

from context_telemetry.contract import file, snapshot
from context_telemetry.contract.comparator import Comparator
from context_telemetry.contract.comparison import MOST, from_json, to_json
from context_telemetry.contract.impact import Recorded
from context_telemetry.contract.look import compare
from context_telemetry.contract.model import Consumer, ToolFacts
from context_telemetry.contract.sources import SourceConfig
from context_telemetry.rehearsal.sample import Sample

NONE = {"breaking": 0, "warning": 0, "info": 0}
NONE_OPEN = {"tables": NONE}


@pytest.fixture(scope="module")
def contracted(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return accepted(sample, tmp_path_factory.mktemp("contracted") / "shop")


@pytest.fixture
def shop(contracted: Sample, tmp_path: Path) -> Path:
    """The sample project with a contract, without tools, that belongs to the test."""
    return contracted.copy(tmp_path / "shop").root


def manifest_of(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / "target" / "manifest.json").read_text("utf-8"))
    return found


def write_manifest(root: Path, manifest: dict[str, Any]) -> None:
    (root / "target" / "manifest.json").write_text(json.dumps(manifest), "utf-8")


# -- what is found --------------------------------------------------------------------------------


def test_a_project_that_is_as_accepted_and_as_declared_has_nothing(shop: Path) -> None:
    found = look(shop)
    assert (found.accepted, found.problem, found.manifest_problem) == (True, None, None)
    assert (found.open, found.drift, found.unread, found.findings) == (NONE_OPEN, 0, {}, ())


CHANGES: dict[str, tuple[tuple[str, ...], list[Told]]] = {
    "a column is dropped": (
        ("ALTER TABLE fct_orders DROP COLUMN status",),
        [broken("column_removed", "fct_orders.status"), drift("column_missing", "fct_orders.status")],
    ),
    "a column is renamed": (
        ("ALTER TABLE dim_customers RENAME COLUMN country_name TO country",),
        [
            broken("column_renamed", "dim_customers.country_name"),
            broken("column_description_removed", "dim_customers.country_name", "warning"),
            drift("column_missing", "dim_customers.country_name"),
        ],
    ),
    "a column has another type": (
        ("ALTER TABLE daily_revenue ALTER revenue TYPE VARCHAR",),
        [broken("type_changed", "daily_revenue.revenue")],
    ),
    "a table is dropped": (
        ("DROP TABLE dim_products",),
        [broken("table_removed", "dim_products"), drift("table_missing", "dim_products")],
    ),
    "a column that nobody uses is dropped": (
        ("ALTER TABLE daily_revenue DROP COLUMN order_count",),
        [
            broken("column_removed", "daily_revenue.order_count", "info"),
            drift("column_missing", "daily_revenue.order_count"),
        ],
    ),
    "a table is new": (
        ("CREATE TABLE by_hand (a INTEGER)",),
        [broken("table_added", "by_hand", "info")],
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_change_is_found_once_by_contract_and_once_by_manifest(shop: Path, name: str) -> None:
    statements, expected = CHANGES[name]
    change(shop / "shop.duckdb", *statements)
    found = look(shop)
    assert told(found) == expected
    assert sum(found.open["tables"].values()) + (found.drift or 0) == len(found.findings)
    assert found.open["tables"]["breaking"] == sum(each.level == "breaking" for each in found.findings)
    assert from_json(json.loads(json.dumps(to_json(found)))) == found


def test_a_change_that_an_exception_covers_counts_as_info_until_its_last_day(shop: Path) -> None:
    change(shop / "shop.duckdb", "ALTER TABLE fct_orders DROP COLUMN status")
    except_(shop, "column_removed", "shop.main.fct_orders.status")
    tomorrow = date.today() + timedelta(days=1)
    assert look(shop, today=tomorrow).open == {"tables": {**NONE, "info": 1}}
    assert look(shop, today=tomorrow + timedelta(days=1)).open == {"tables": {**NONE, "breaking": 1}}


def test_consumers_and_how_often_they_were_served_are_counted(shop: Path) -> None:
    change(shop / "shop.duckdb", "ALTER TABLE fct_orders DROP COLUMN status")
    served = {Consumer("face", "faces/orders.yml"): 7, Consumer("face", "faces/order_list.yml"): 4}
    found = look(shop, recorded=Recorded(served, "this week"))
    assert [(each.consumers, each.served) for each in found.findings] == [(3, 11), (3, 11)]
    assert {each.served for each in look(shop).findings} == {None}


def test_a_tool_that_is_gone_is_found_where_somebody_asked_for_the_tools(shop: Path) -> None:
    with desk() as connection:
        now = snapshot.take(connection, shop, tools={"docs": ToolFacts("Browse.")}, resources={})
        file.write(shop, now, file.contract_of(now))
    unasked = look(shop)
    assert (unasked.findings, unasked.open) == ((), NONE_OPEN), "nobody asked, so nothing is said of tools"
    found = look(shop, tools={}, resources={})
    (gone,) = found.findings
    assert (gone.rule, gone.level, gone.object, gone.table) == (
        "tool_removed",
        "breaking",
        "tool docs",
        None,
    )
    assert (gone.part, gone.faces, found.open) == (
        "tools",
        (),
        {**NONE_OPEN, "tools": {**NONE, "breaking": 1}},
    )


def test_tools_that_were_never_accepted_are_not_compared(shop: Path) -> None:
    assert look(shop, tools={}, resources={}).open == NONE_OPEN


def test_each_finding_names_the_faces_that_are_hit_and_of_many_those_that_were_served_most(
    shop: Path,
) -> None:
    change(shop / "shop.duckdb", "ALTER TABLE fct_orders DROP COLUMN status")
    face = (shop / "faces" / "orders.yml").read_text("utf-8")
    names = [f"faces/copy_{number:02}.yml" for number in range(12)]
    write(shop, dict.fromkeys(names, face))
    served = {Consumer("face", name): number for number, name in enumerate(names)}
    found = look(shop, recorded=Recorded(served, "this week"))
    most = tuple(reversed(names[2:]))
    assert [(each.part, each.consumers, each.faces) for each in found.findings] == [("tables", 15, most)] * 2
    assert from_json(json.loads(json.dumps(to_json(found)))) == found


def test_more_findings_than_are_told_are_counted(shop: Path) -> None:
    change(shop / "shop.duckdb", *(f"CREATE TABLE t{number} (a INTEGER)" for number in range(MOST)))
    change(shop / "shop.duckdb", "ALTER TABLE fct_orders DROP COLUMN status")
    found = look(shop)
    assert found.open == {"tables": {"breaking": 1, "warning": 0, "info": MOST}}
    assert len(found.findings) == MOST
    assert told(found)[0] == broken("column_removed", "fct_orders.status")


# -- drift ----------------------------------------------------------------------------------------


def test_drift_needs_no_contract_and_tells_who_uses_what_is_gone(project: Path) -> None:
    change(project / "shop.duckdb", "ALTER TABLE fct_orders DROP COLUMN status", "DROP TABLE dim_products")
    found = look(project)
    assert (found.accepted, found.problem, found.open) == (False, None, {})
    assert sorted(told(found)) == [
        drift("column_missing", "fct_orders.status"),
        drift("table_missing", "dim_products"),
    ]
    assert {each.object: each.consumers for each in found.findings}["shop.main.fct_orders.status"] == 3


def test_a_view_that_fails_is_a_missing_table_once(project: Path) -> None:
    change(project / "shop.duckdb", "ALTER TABLE raw.payments DROP COLUMN method")
    assert told(look(project)) == [drift("table_missing", "stg_payments")]


def test_a_type_that_is_not_the_declared_one_is_drift_and_another_spelling_of_it_is_none(
    project: Path,
) -> None:
    manifest = manifest_of(project)
    columns = manifest["nodes"]["model.shop.fct_orders"]["columns"]
    columns["status"]["data_type"], columns["order_id"]["data_type"] = "string", "integer"
    write_manifest(project, manifest)
    assert look(project).drift == 0
    columns["status"]["data_type"] = "date"
    write_manifest(project, manifest)
    assert told(look(project)) == [drift("type_contradicted", "fct_orders.status")]


def test_an_ephemeral_model_and_a_disabled_one_are_no_drift(project: Path) -> None:
    manifest = manifest_of(project)
    models = manifest["nodes"]
    like = models["model.shop.fct_orders"]
    for name in ("passing", "off"):
        models[f"model.shop.{name}"] = {
            **like,
            "unique_id": f"model.shop.{name}",
            "name": name,
            "alias": name,
        }
    models["model.shop.passing"]["config"] = {**like["config"], "materialized": "ephemeral"}
    manifest["disabled"] = {"model.shop.off": [models.pop("model.shop.off")]}
    write_manifest(project, manifest)
    assert look(project).drift == 0


def test_tables_of_dbt_are_not_missed_in_another_source_beside_it(shop: Path) -> None:
    with closing(sqlite3.connect(shop / "extra.sqlite")) as connection:
        connection.executescript("CREATE TABLE fct_orders (id INTEGER); CREATE TABLE notes (id INTEGER);")
    (shop / "extra.csv").write_text("a,b\n1,2\n")
    write(
        shop,
        {
            "dataface.yml": "sources:\n  shop: {type: duckdb, path: shop.duckdb}\n"
            "  extra: {type: sqlite, path: extra.sqlite}\n"
            "  files: {type: csv, files: {extra: extra.csv, gone: gone.csv}}\n"
        },
    )
    assert look(shop).drift == 0
    change(shop / "shop.duckdb", "DROP TABLE dim_products")
    assert [each.object for each in look(shop).findings if each.reason == "schema_drift"] == [
        "shop.main.dim_products"
    ]
    with held(shop / "shop.duckdb"):
        found = look(shop)
    assert (list(found.unread), found.drift) == (["shop"], 0), (
        "what cannot be read is not looked for elsewhere"
    )


def test_a_sqlite_warehouse_is_compared_with_contract_and_manifest(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "w.sqlite")) as connection:
        connection.executescript(
            "CREATE TABLE orders (id INTEGER, state TEXT); CREATE TABLE idle (id INTEGER);"
        )
    node = {"resource_type": "model", "database": "any", "schema": "main"}
    manifest = {
        "nodes": {
            f"model.w.{name}": {**node, "unique_id": f"model.w.{name}", "name": name, "columns": columns}
            for name, columns in (("orders", {"state": {"name": "state"}}), ("idle", {}))
        }
    }
    face = (
        "source: w\nqueries: {q: SELECT state FROM orders}\ncharts: {c: {query: q, type: table}}\nrows: [c]\n"
    )
    files = {
        "dataface.yml": "sources:\n  w: {type: sqlite, path: w.sqlite}\n",
        "target/manifest.json": json.dumps(manifest),
        "faces/f.yml": face,
    }
    root = write(tmp_path, files)
    accept(root)
    assert told(look(root)) == []
    with closing(sqlite3.connect(tmp_path / "w.sqlite")) as connection:
        connection.executescript("ALTER TABLE orders RENAME COLUMN state TO status; DROP TABLE idle;")
    found = look(root)
    assert found.open["tables"]["breaking"] == 1
    assert sorted((each.rule, each.object) for each in found.findings if each.reason == "schema_drift") == [
        ("column_missing", "w.main.orders.state"),
        ("table_missing", "w.main.idle"),
    ]


# -- what is not known ----------------------------------------------------------------------------


def test_a_warehouse_that_another_process_writes_is_unread_and_nothing_of_it_is_found(shop: Path) -> None:
    change(shop / "shop.duckdb", "ALTER TABLE fct_orders DROP COLUMN status", "DROP TABLE dim_products")
    with held(shop / "shop.duckdb") as holder:
        found = look(shop)
    assert list(found.unread) == ["shop"]
    assert f"the process {holder} " in found.unread["shop"]
    assert found.unread_files, "it may be let go of, and stay the file that it was"
    assert (found.accepted, found.findings, found.open, found.drift) == (True, (), NONE_OPEN, 0)
    assert look(shop).open["tables"]["breaking"] == 2, "it is found once nobody holds the file"


def test_a_sqlite_file_that_is_locked_is_unread(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "w.sqlite")) as connection:
        connection.executescript("CREATE TABLE t (a INTEGER)")
    root = write(tmp_path, {"dataface.yml": "sources:\n  w: {type: sqlite, path: w.sqlite}\n"})
    accept(root)
    with held(tmp_path / "w.sqlite", HOLDER_OF_SQLITE):
        found = look(root)
    assert (found.unread, found.findings) == ({"w": "database is locked"}, ())


def test_a_file_that_is_replaced_is_another_one_and_what_is_in_it_is_found(shop: Path) -> None:
    built = shop / "new.duckdb"
    shutil.copy(shop / "shop.duckdb", built)
    change(built, "DROP VIEW IF EXISTS stg_payments", "ALTER TABLE fct_orders DROP COLUMN status")
    before = (shop / "shop.duckdb").stat().st_ino
    built.rename(shop / "shop.duckdb")
    found = look(shop)
    assert (shop / "shop.duckdb").stat().st_ino != before
    assert str(shop / "shop.duckdb") in found.files
    assert broken("column_removed", "fct_orders.status") in told(found)


def test_a_source_that_was_left_out_of_the_contract_is_not_told_as_unread(tmp_path: Path) -> None:
    change(tmp_path / "near.duckdb", "CREATE TABLE t (a INTEGER)")
    sources = "sources:\n  far: {type: postgres, dbname: x}\n  near: {type: duckdb, path: near.duckdb}\n"
    root = write(tmp_path, {"dataface.yml": sources})
    assert set(look(root).unread) == {"far"}
    assert not look(root).unread_files
    with desk() as connection:
        now = snapshot.take(connection, root, without=frozenset({"far"}))
        file.write(root, now, file.contract_of(now))
    assert look(root).unread == {}
    (root / "near.duckdb").unlink()
    assert look(root).unread == {"near": "the file is not there"}
    assert not look(root).unread_files, "where it comes back, there is another file"


def test_a_source_that_was_left_out_of_the_contract_is_not_asked(tmp_path: Path) -> None:
    change(tmp_path / "near.duckdb", "CREATE TABLE t (a INTEGER)")
    sources = "sources:\n  far: {type: postgres, dbname: x}\n  near: {type: duckdb, path: near.duckdb}\n"
    root = write(tmp_path, {"dataface.yml": sources})
    asked: list[str] = []

    def fetch(config: SourceConfig, query: str) -> list[tuple[Any, ...]]:
        asked.append(config.name)
        return []

    look(root, fetch=fetch)
    assert asked == ["far"]
    with desk() as connection:
        now = snapshot.take(connection, root, without=frozenset({"far"}))
        file.write(root, now, file.contract_of(now))
    look(root, fetch=fetch)
    assert asked == ["far"]


def test_a_contract_that_cannot_be_read_is_a_problem_and_drift_is_found_without_it(shop: Path) -> None:
    change(shop / "shop.duckdb", "ALTER TABLE fct_orders DROP COLUMN status")
    (shop / file.NAME).write_text("version: 1\ntabels: {}\n")
    found = look(shop)
    assert not found.accepted
    assert found.problem
    assert found.problem.startswith("context-contract.yaml:2: tabels: is not known")
    assert (found.open, told(found)) == ({}, [drift("column_missing", "fct_orders.status")])


def test_no_contract_is_no_problem(project: Path) -> None:
    found = look(project)
    assert (found.accepted, found.problem, found.findings) == (False, None, ())


def test_a_project_file_that_cannot_be_read_is_a_problem_and_nothing_is_compared(shop: Path) -> None:
    (shop / "dataface.yml").write_text("sources: [shop]\n")
    found = look(shop)
    assert (found.accepted, found.drift, found.findings, found.open) == (False, None, (), {})
    assert found.problem
    assert found.problem.startswith("dataface.yml:1: sources: is not a mapping")
    assert str(shop / "dataface.yml") in found.files


def test_a_folder_that_is_no_project_has_nothing(tmp_path: Path) -> None:
    found = look(tmp_path)
    assert (found.accepted, found.problem, found.drift, found.unread) == (False, None, None, {})


def test_without_a_manifest_that_can_be_read_nothing_is_known_of_drift(project: Path) -> None:
    change(project / "shop.duckdb", "ALTER TABLE fct_orders DROP COLUMN status", "DROP TABLE dim_products")
    (project / "target" / "manifest.json").write_text("{")
    invalid = look(project)
    (project / "target" / "manifest.json").unlink()
    missing = look(project)
    assert (invalid.drift, missing.drift) == (None, None)
    assert invalid.manifest_problem
    assert missing.manifest_problem is None
    assert invalid.findings == missing.findings == ()


def test_faces_that_cannot_be_read_stop_no_comparison(shop: Path) -> None:
    (shop / "faces" / "broken.yml").write_text("title: [\n")
    change(shop / "shop.duckdb", "ALTER TABLE fct_orders DROP COLUMN status")
    assert look(shop).open["tables"]["breaking"] == 1


@pytest.mark.parametrize("has_contract", [True, False])
@pytest.mark.parametrize(
    ("statements", "rules", "apart"),
    [
        (('ALTER TABLE t DROP COLUMN "Gone"',), {"column_removed", "column_missing"}, []),
        (("DROP TABLE t",), {"table_removed", "table_missing"}, None),
        (
            ("DROP TABLE t", "CREATE TABLE T (gone DATE, k INTEGER)"),
            {"type_changed", "type_contradicted"},
            [],
        ),
    ],
)
def test_contract_and_manifest_may_write_a_name_in_a_case_of_their_own(
    tmp_path: Path, has_contract: bool, statements: tuple[str, ...], rules: set[str], apart: list[str] | None
) -> None:
    """``apart``: what a query meets that reads another column; None: what every query does."""
    change(tmp_path / "w.duckdb", 'CREATE TABLE t ("Gone" INTEGER, k INTEGER)')
    column = {"name": "GONE", "data_type": "integer"}
    model = {
        "unique_id": "model.w.t",
        "name": "T",
        "resource_type": "model",
        "database": "w",
        "schema": "MAIN",
        "columns": {"GONE": column},
    }
    face = "source: w\nqueries: {q: SELECT gone FROM t}\ncharts: {c: {query: q, type: table}}\nrows: [c]\n"
    root = write(
        tmp_path,
        {
            "dataface.yml": "sources:\n  w: {type: duckdb, path: w.duckdb}\n",
            "target/manifest.json": json.dumps({"nodes": {"model.w.t": model}}),
            "faces/f.yml": face,
        },
    )
    if has_contract:
        accept(root)
    change(tmp_path / "w.duckdb", *statements)
    found = [each for each in look(root).findings if each.is_met]
    reasons = ["contract_broken", "schema_drift"] if has_contract else ["schema_drift"]
    assert sorted(each.reason for each in found) == reasons
    assert {each.rule for each in found} == rules if has_contract else {each.rule for each in found} < rules
    assert {(each.consumers, each.faces) for each in found} == {(1, ("faces/f.yml",))}

    comparator = Comparator(root)

    def asked(**question: Any) -> Any:
        return comparator.answer({"id": 1, **question})["reasons"]

    for name in ("gone", "GONE", "Gone"):
        assert asked(source="w", sql=f'SELECT "{name}" FROM t') == reasons
        assert asked(object=["w", "main", "T", name]) == reasons
    assert asked(source="w", sql="SELECT k FROM t") == (reasons if apart is None else apart)


# -- files, and what it costs to read a result -------------------------------------------------------


def test_every_file_that_decides_is_named_there_or_not(tmp_path: Path) -> None:
    profiles = "shop: {target: dev, outputs: {dev: {type: duckdb, path: served.duckdb}}}\n"
    sources = (
        "sources:\n  shop: {type: dbt_profile, profile: shop, profiles_dir: conf}\n"
        "  here: {type: csv, files: {a: data/a.csv, many: 'data/*.csv', all: 'data/by/**/*.csv', far: 's3://bucket/a.csv'}}\n"
        "  lite: {type: sqlite, path: l.sqlite}\n  cloud: {type: duckdb, path: 'md:shop'}\n"
    )
    root = write(
        tmp_path,
        {
            "dataface.yml": sources,
            "conf/profiles.yml": profiles,
            "faces/a/f.yml": "title: F\n",
            **dict.fromkeys(("data/b.csv", "data/by/year/c.csv"), "a\n1\n"),
        },
    )
    assert {Path(name).relative_to(root).as_posix() for name in look(root).files} == {
        "context-contract.yaml",
        "context-contract.parquet",
        "dataface.yml",
        "dataface.yaml",
        "target/manifest.json",
        "manifest.snapshot.json",
        "conf/profiles.yml",
        "profiles.yml",
        "served.duckdb",
        "served.duckdb.wal",
        "data/a.csv",
        "data",
        "data/b.csv",
        "data/by",
        "data/by/year",
        "data/by/year/c.csv",
        "l.sqlite",
        "l.sqlite-wal",
        "faces",
        "faces/a",
        "faces/a/f.yml",
    }


def test_of_very_many_files_behind_a_pattern_some_are_named_and_all_other_files_are(tmp_path: Path) -> None:
    sources = "sources:\n  a: {type: csv, files: {many: 'data/*.csv'}}\n  b: {type: duckdb, path: b.duckdb}\n"
    root = write(tmp_path, {"dataface.yml": sources, "faces/f.yml": "title: F\n"})
    write(root, {f"data/{number}.csv": "a\n" for number in range(1_200)})
    files = look(root).files
    assert 500 < len(files) < 1_100
    assert {str(root / name) for name in ("data", "b.duckdb", "faces/f.yml")} <= set(files)


def test_files_are_named_in_full_whatever_the_project_is_named(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.parent)
    assert look(Path(project.name)).files == look(project).files


def test_reading_a_result_loads_neither_duckdb_nor_a_parser() -> None:
    program = (
        "import sys; from context_telemetry.contract.comparison import from_json\n"
        "print([name for name in ('duckdb', 'sqlglot', 'yaml', 'jinja2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_a_look_gives_the_report_and_all_that_a_query_can_meet(shop: Path) -> None:
    change(shop / "shop.duckdb", "DROP TABLE dim_products")
    with desk() as connection:
        found = compare(connection, shop)
        assert found.report is not None
        assert [each.change.rule for each in found.report.open] == ["table_removed"]
        assert found.served is not None
        assert found.former is not None
        assert found.served.table("shop", "main", "dim_products") is None
        gone = found.former.table("shop", "main", "dim_products")
        assert gone is not None
        assert "category" in found.former.columns(gone)
        assert {each.reason for each in found.met} == {"contract_broken", "schema_drift"}
