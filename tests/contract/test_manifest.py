"""What a real dbt declares is laid over what a real DuckDB file serves; what is not promised is known to be absent."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from contract.catalogues import change, desk, served

from context_telemetry.contract import catalogue, manifest
from context_telemetry.contract.catalogue import Catalogue
from context_telemetry.contract.manifest import ManifestError
from context_telemetry.contract.model import ColumnFacts, ColumnKey, TableFacts, TableKey
from context_telemetry.contract.sources import sources


def facts(found: Catalogue) -> dict[TableKey | ColumnKey, Any]:
    empty = catalogue.new(found.connection)
    return {key: now for key, _, now in catalogue.changed(empty, found)}


def column(found: Catalogue, name: str) -> ColumnFacts:
    schema, table, of = name.split(".")
    made = facts(found)[ColumnKey("shop", schema, table, of)]
    assert isinstance(made, ColumnFacts)
    return made


def test_tests_descriptions_and_keys_of_the_project_are_facts_of_its_tables(project: Path) -> None:
    with desk() as connection:
        found = served(connection, project)
        order_id, customer = (
            column(found, "main.fct_orders.order_id"),
            column(found, "main.fct_orders.customer_id"),
        )
        status = column(found, "main.fct_orders.status")
        assert (order_id.not_null, order_id.unique, order_id.described) == (True, True, True)
        assert customer.references == "dim_customers.customer_id"
        assert status.accepted_values == ("completed", "placed", "returned", "shipped")
        assert facts(found)[TableKey("shop", "main", "fct_orders")] == TableFacts(
            kind="table",
            model="model.shop.fct_orders",
            described=True,
            grain=("order_id",),
            enforced=False,
            freshness_seconds=math.inf,
            owner="",
        )


def test_what_a_manifest_does_not_promise_is_absent_and_without_one_it_is_not_known(project: Path) -> None:
    with desk() as connection:
        quiet = column(served(connection, project), "main.fct_orders.item_count")
        (project / "target/manifest.json").unlink()
        unknown = column(served(connection, project), "main.fct_orders.item_count")
    assert (quiet.not_null, quiet.accepted_values, quiet.references, quiet.maximum) == (
        False,
        (),
        "",
        math.inf,
    )
    assert (unknown.not_null, unknown.accepted_values, unknown.references, unknown.maximum) == (None,) * 4


def test_tables_of_no_node_have_no_declared_facts(project: Path) -> None:
    change(project / "shop.duckdb", "CREATE TABLE by_hand (a INTEGER)")
    with desk() as connection:
        assert column(served(connection, project), "main.by_hand.a").described is None


def test_what_is_declared_and_not_served_is_missing(project: Path) -> None:
    change(project / "shop.duckdb", "DROP TABLE daily_revenue", "ALTER TABLE fct_orders DROP COLUMN status")
    declared = manifest.read(project)
    assert declared is not None
    with desk() as connection:
        found = served(connection, project)
        missing = manifest.declare(found, declared)
    assert [(one.table.table, one.column, one.why) for one in missing] == [
        ("daily_revenue", None, "model.shop.daily_revenue declares it"),
        ("fct_orders", "status", "the manifest declares it"),
    ]


def test_all_that_dbt_can_declare_is_read() -> None:
    """Nodes in the form of dbt 1.11, of kinds that the sample project does not have."""
    declared = manifest.parse(
        {
            "nodes": {
                "model.s.a": {
                    "unique_id": "model.s.a",
                    "resource_type": "model",
                    "name": "a",
                    "alias": "a_v2",
                    "database": "db",
                    "schema": "m",
                    "relation_name": '"db"."m"."a_v2"',
                    "config": {"materialized": "table", "contract": {"enforced": True}, "group": "finance"},
                    "constraints": [
                        {"type": "primary_key", "columns": ["x", "y"]},
                        {"type": "foreign_key", "columns": ["z"], "to": '"db"."m"."b"', "to_columns": ["id"]},
                    ],
                    "columns": {
                        "x": {"name": "x", "data_type": "integer", "constraints": [{"type": "not_null"}]},
                        "z": {"name": "z", "config": {"meta": {"unit": "EUR", "timezone": "UTC"}}},
                    },
                },
                "model.s.e": {
                    "unique_id": "model.s.e",
                    "resource_type": "model",
                    "name": "e",
                    "config": {"materialized": "ephemeral"},
                },
                "test.s.range": _test("accepted_range", "x", {"min_value": 0, "max_value": 10}),
                "test.s.some": _test("unique", "z", {}, where="day > '2026-01-01'"),
            },
            "sources": {
                "source.s.raw.o": {
                    "unique_id": "source.s.raw.o",
                    "resource_type": "source",
                    "source_name": "raw",
                    "name": "o",
                    "identifier": "orders_export",
                    "schema": "raw",
                    "meta": {"owner": "ingest"},
                    "freshness": {
                        "warn_after": {"count": 6, "period": "hour"},
                        "error_after": {"count": 1, "period": "day"},
                    },
                }
            },
            "groups": {
                "group.s.finance": {"name": "finance", "owner": {"name": None, "email": "finance@shop"}}
            },
        }
    )
    model, source = declared.tables
    assert model.name == "a_v2"
    assert model.facts["grain"] == ["x", "y"]
    assert model.facts["enforced"] is True
    assert model.facts["owner"] == "finance@shop"
    x, z = model.columns["x"], model.columns["z"]
    assert (x["declared_type"], x["not_null"], x["minimum"], x["maximum"]) == ("integer", True, 0.0, 10.0)
    assert (z["unit"], z["timezone"], z["references"]) == ("EUR", "UTC", "b.id")
    assert z["unique"] is False, "a test of some rows promises nothing of all"
    assert source.name == "orders_export"
    assert (source.facts["freshness_seconds"], source.facts["owner"]) == (86400.0, "ingest")
    assert set(declared.refs) == {"a"}, "an ephemeral model is no table"
    assert declared.sources["raw", "o"] is source


def _test(name: str, of: str, kwargs: dict[str, Any], **config: Any) -> dict[str, Any]:
    return {
        "resource_type": "test",
        "name": name,
        "attached_node": "model.s.a",
        "column_name": of,
        "config": config,
        "test_metadata": {"name": name, "kwargs": kwargs},
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "target/manifest.json: cannot be read"),
        (
            "[]",
            "target/manifest.json: has no nodes, so it is no manifest of dbt; make it anew with: dbt parse",
        ),
        (
            json.dumps({"nodes": {"a": {"resource_type": "model"}}}),
            "target/manifest.json: a node is not as dbt writes",
        ),
    ],
)
def test_a_manifest_that_cannot_be_read_is_told_and_not_taken_for_none(
    tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target/manifest.json").write_text(text)
    with pytest.raises(ManifestError, match=said):
        manifest.read(tmp_path)


def test_the_snapshot_of_a_manifest_counts_where_there_is_no_target(project: Path) -> None:
    (project / "target/manifest.json").rename(project / "manifest.snapshot.json")
    assert manifest.read(project) is not None
    (project / "manifest.snapshot.json").unlink()
    assert manifest.read(project) is None
    assert sources(project).get("shop") is not None


def test_a_test_of_one_column_is_not_taken_for_one_of_another_that_is_described_alike() -> None:
    columns = {name: {"name": name, "description": "Described."} for name in ("x", "y")}
    model = {"unique_id": "model.s.a", "resource_type": "model", "name": "a", "columns": columns}
    nodes = {"model.s.a": model, "test.s.x": _test("not_null", "x", {})}
    (declared,) = manifest.parse({"nodes": nodes}).tables
    assert (declared.columns["x"]["not_null"], declared.columns["y"]["not_null"]) == (True, False)


def test_a_table_of_a_database_that_a_source_has_is_looked_for_there_alone(project: Path) -> None:
    change(project / "other.duckdb", "CREATE TABLE fct_orders (mine INTEGER)")
    (project / "dataface.yml").write_text(
        "sources:\n  shop: {type: duckdb, path: shop.duckdb}\n  other: {type: duckdb, path: other.duckdb}\n"
    )
    declared = manifest.read(project)
    assert declared is not None
    with desk() as connection:
        found = served(connection, project)
        assert manifest.declare(found, declared) == ()
        assert facts(found)[TableKey("other", "main", "fct_orders")].model is None
