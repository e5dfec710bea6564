"""The profiler."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from dataface_super_schema.inspect.connection import InspectConnection

PROFILER_CONTRACT_VERSION = "stand-in"


@dataclass
class TableInspection:
    """One table's profile."""

    schema: str
    table: str
    profiled_at: datetime
    columns: dict[str, dict[str, Any]]

    def to_json_dict(self) -> dict[str, Any]:
        return {"kind": "table", "profiled_at": self.profiled_at.isoformat(), "columns": self.columns}


class TableInspector:
    def __init__(self, source_config: dict[str, Any]) -> None:
        self._source_config = source_config

    def __enter__(self) -> TableInspector:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def inspect_table(self, model: str) -> TableInspection:
        with InspectConnection(self._source_config) as connection:
            found = connection.execute(
                "select table_schema, column_name, data_type from information_schema.columns where table_name = ?",
                [model],
            ).fetchall()
        if not found:
            raise LookupError(model)
        columns = {name: {"actual_type": kind} for _, name, kind in found}
        return TableInspection(found[0][0], model, datetime.now(timezone.utc), columns)
