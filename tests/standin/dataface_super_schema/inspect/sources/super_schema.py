"""The cache as the first layer of the catalogue."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any


class SuperSchemaSource:
    def __init__(self, storage: Any) -> None:
        self._storage = storage

    @property
    def generated_at(self) -> datetime | None:
        raw = self._read_raw()
        return datetime.fromisoformat(raw["generated_at"]) if raw else None

    def list_schemas(self) -> dict[str, Any] | None:
        schemas = self._schemas()
        return (
            {"schemas": {name: {"table_count": len(each)} for name, each in schemas.items()}}
            if schemas
            else None
        )

    def list_tables(self, schema: str) -> dict[str, Any] | None:
        tables = self._schemas().get(schema)
        return {"tables": {name: {"kind": each["kind"]} for name, each in tables.items()}} if tables else None

    def profile_table(self, schema: str, table: str) -> dict[str, Any] | None:
        profile: dict[str, Any] | None = self._schemas().get(schema, {}).get(table)
        return profile

    def _schemas(self) -> dict[str, dict[str, Any]]:
        raw = self._read_raw()
        return raw["schemas"] if raw else {}

    def _read_raw(self) -> dict[str, Any] | None:
        try:
            content = json.loads(self._storage.read_text() or "null")
        except ValueError:
            return None
        return content if isinstance(content, dict) else None
