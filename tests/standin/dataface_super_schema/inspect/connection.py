"""A connection to what is profiled: here, to a copy of a DuckDB file, which Dataface may have open in its own way."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any


def source_config_from_url(url: str, dialect: str) -> dict[str, Any]:
    return {"type": dialect, "path": url.removeprefix("duckdb:///")}


class InspectConnection:
    def __init__(self, source_config: dict[str, Any], read_only: bool = True) -> None:
        import duckdb

        self._folder = tempfile.TemporaryDirectory()
        copy = Path(self._folder.name, "copy.duckdb")
        shutil.copyfile(str(source_config["path"]), copy)
        self._connection = duckdb.connect(str(copy), read_only=read_only)

    def __enter__(self) -> Any:
        return self._connection

    def __exit__(self, *error: object) -> None:
        self._connection.close()
        self._folder.cleanup()
