"""One look at a project has all of it, asks no resolver, and says what it could not tell."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

import duckdb
import pytest
from contract.catalogues import change, desk, write

from context_telemetry.contract import judgement
from context_telemetry.contract.model import TableKey
from context_telemetry.contract.project_files import ProjectFileError
from context_telemetry.contract.snapshot import take, tool_facts
from context_telemetry.observe import project as observed_project


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with desk() as made:
        yield made


def test_a_snapshot_has_the_catalogue_the_uses_and_what_is_declared(
    connection: duckdb.DuckDBPyConnection, project: Path
) -> None:
    seen: list[str] = []
    now = take(connection, project, progress=seen.append)
    assert now.catalogue.count() == (16, 69)
    assert {use.consumer.name for use in now.uses} == {
        f"faces/{name}.yml" for name in ("catalog", "customers", "order_list", "orders", "revenue")
    }
    assert (now.unknown, now.missing, now.unread, now.manifest_problem) == ((), (), (), None)
    assert seen[:2] == ["source shop", "manifest"]
    assert "faces/orders.yml" in seen
    assert not observed_project.is_bound(), "no resolver was called and no session opened"


def test_a_snapshot_imports_no_dataface(project: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from context_telemetry.contract import catalogue, file, judgement, snapshot\n"
        "with catalogue.connect() as connection: snapshot.take(connection, Path(sys.argv[1]))\n"
        "print([name for name in sys.modules if name.partition('.')[0] in ('dataface', 'mcp', 'dbt')])"
    )
    done = subprocess.run([sys.executable, "-c", program, str(project)], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_what_is_declared_and_gone_and_a_use_of_it_are_told(
    connection: duckdb.DuckDBPyConnection, project: Path
) -> None:
    change(project / "shop.duckdb", "ALTER TABLE fct_orders DROP COLUMN status", "DROP TABLE dim_products")
    now = take(connection, project)
    gone = {(each.table.table, each.column) for each in now.missing}
    assert {("fct_orders", "status"), ("dim_products", None)} <= gone
    assert ("faces/orders.yml", "by_status", "status") in {
        (use.consumer.name, use.part, use.missing) for use in now.unknown
    }


def test_a_view_that_fails_whoever_reads_it_is_missing(
    connection: duckdb.DuckDBPyConnection, project: Path
) -> None:
    change(project / "shop.duckdb", "ALTER TABLE raw.payments DROP COLUMN method")
    assert TableKey("shop", "main", "stg_payments") in [
        each.table for each in take(connection, project).missing
    ]


def test_a_source_that_cannot_be_read_and_one_that_is_left_out_are_told_apart_by_their_reason(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    sources = "sources:\n  gone: {type: duckdb, path: gone.duckdb}\n  far: {type: postgres, dbname: x}\n"
    root = write(tmp_path, {"dataface.yml": sources})
    now = take(connection, root, without=frozenset({"far"}))
    assert {state.name: state.unread for state in now.unread} == {
        "far": "was left out",
        "gone": "the file is not there",
    }


def test_a_remote_warehouse_is_asked_by_whoever_is_handed_in(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    sources = "sources:\n  far: {type: postgres, dbname: x}\n"
    face = (
        "title: F\nsource: far\nqueries: {q: SELECT id FROM orders}\n"
        "charts: {c: {query: q, type: table}}\nrows: [c]\n"
    )
    root = write(tmp_path, {"dataface.yml": sources, "faces/f.yml": face})
    rows = [
        ("public", "orders", "TABLE", "id", 1, "integer", "NO"),
        ("public", "orders", "TABLE", "at", 2, "date", "YES"),
    ]
    now = take(connection, root, fetch=lambda config, sql: rows)
    (use,) = now.uses
    assert (use.table, use.columns) == (TableKey("far", "public", "orders"), frozenset({"id"}))


@pytest.mark.parametrize(
    ("query", "refused", "told"),
    [
        ("SELECT id FROM orders", {"id", "at"}, "the role may not read public.orders"),
        ("SELECT id FROM orders", {"id"}, "the role may not read public.orders.id"),
        ("SELECT * FROM orders", {"at"}, "the role may not read public.orders.at"),
        ("SELECT id FROM orders", {"at"}, None),
        ("SELECT id FROM orders", (), None),
    ],
)
def test_what_is_read_and_may_not_be_read_makes_its_source_unknown(
    connection: duckdb.DuckDBPyConnection,
    tmp_path: Path,
    query: str,
    refused: Collection[str],
    told: str | None,
) -> None:
    face = (
        f"title: F\nsource: far\nqueries: {{q: '{query}'}}\n"
        "charts: {c: {query: q, type: table}}\nrows: [c]\n"
    )
    root = write(
        tmp_path, {"dataface.yml": "sources:\n  far: {type: postgres, dbname: x}\n", "faces/f.yml": face}
    )
    rows = [
        ("public", "orders", "TABLE", name, place, kind, "NO", "NO" if name in refused else "YES")
        for place, (name, kind) in enumerate([("id", "integer"), ("at", "date")], 1)
    ]
    now = take(connection, root, fetch=lambda config, sql: rows)
    assert now.catalogue.count() == (1, 2), "it is there all the same"
    assert [state.unread for state in judgement.refused(now, now.uses)] == ([told] if told else [])


def test_a_manifest_that_is_broken_leaves_what_it_declares_unknown(
    connection: duckdb.DuckDBPyConnection, project: Path
) -> None:
    (project / "target" / "manifest.json").write_text("{")
    now = take(connection, project)
    assert now.manifest_problem is not None
    assert now.manifest_problem.startswith("target/manifest.json: cannot be read")
    assert now.catalogue.count() == (16, 69)


def test_a_project_file_with_a_mistake_is_an_error(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    with pytest.raises(ProjectFileError, match=r"dataface\.yml:1: sources: is not a mapping"):
        take(connection, write(tmp_path, {"dataface.yml": "sources: [shop]\n"}))


def test_a_tools_schema_keeps_what_a_caller_can_tell_and_a_property_that_is_called_title() -> None:
    listed = {
        "name": "t",
        "description": "First. \n    Second.",
        "inputSchema": {
            "title": "TArgs",
            "description": "the same again",
            "type": "object",
            "properties": {
                "title": {
                    "title": "Title",
                    "type": "string",
                    "description": "Kept.",
                    "default": {"title": "x"},
                }
            },
            "$defs": {"title": {"title": "Title", "enum": ["a"]}},
        },
        "annotations": {"title": "T", "readOnlyHint": True},
    }
    facts = tool_facts(listed)
    assert facts.description == "First.\n    Second."
    assert facts.input_schema == {
        "type": "object",
        "properties": {"title": {"type": "string", "description": "Kept.", "default": {"title": "x"}}},
        "$defs": {"title": {"enum": ["a"]}},
    }
    assert (facts.output_schema, facts.annotations) == (None, {"readOnlyHint": True})
