"""`dft inspect` without a table: all of them."""

from __future__ import annotations

from typing import Any

from dataface_super_schema.inspect.connection import InspectConnection, source_config_from_url
from dataface_super_schema.inspect.inspector import TableInspector
from dataface_super_schema.inspect.storage import InspectionStorage


def inspect_all_command(
    connection: str | None = None, dialect: str | None = None, schema: str | None = None, **options: Any
) -> None:
    source = source_config_from_url(connection or "shop.duckdb", dialect or "duckdb")
    with InspectConnection(source) as opened:
        tables = opened.execute(
            "select table_name from information_schema.tables where table_schema = ?", [schema or "main"]
        ).fetchall()
    storage = InspectionStorage(output_path=InspectionStorage.DEFAULT_PATH)
    with TableInspector(source) as inspector:
        for (table,) in tables:
            storage.save_inspection(inspector.inspect_table(table))
