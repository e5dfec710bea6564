"""What the tests of the catalogue share: a project's catalogue as it is served now, and a database to change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from context_telemetry.contract import catalogue, manifest, warehouse
from context_telemetry.contract.catalogue import Catalogue, Names
from context_telemetry.contract.consumers import Uses, uses
from context_telemetry.contract.model import Use
from context_telemetry.contract.sources import sources


@contextmanager
def desk() -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that catalogues are read into and compared in."""
    connection = catalogue.connect()
    try:
        yield connection
    finally:
        connection.close()


def served(connection: duckdb.DuckDBPyConnection, root: Path) -> Catalogue:
    """All that the sources of a project serve, with what its manifest declares."""
    found = catalogue.new(connection)
    for config in sources(root).configs:
        found = warehouse.read(found, config, root).catalogue
    if declared := manifest.read(root):
        manifest.declare(found, declared)
    return found


def used(found: Catalogue, root: Path) -> Uses:
    return uses(root, Names(found), sources(root), manifest.read(root))


def change(database: Path, *statements: str) -> None:
    """A change to a real DuckDB file, and nobody has it open afterwards."""
    with duckdb.connect(str(database)) as connection:
        for statement in statements:
            connection.execute(statement)


@dataclass(frozen=True)
class Told:
    """A use in a form that can be compared at a glance; columns in order, `*` for all of them."""

    part: str
    table: str
    columns: str
    how: str = "sql"


def told(use: Use) -> Told:
    columns = "*" if use.columns is None else " ".join(sorted(use.columns))
    return Told(use.part, f"{use.table.schema}.{use.table.table}", columns, use.how)


def write(root: Path, files: dict[str, str]) -> Path:
    """A project of nothing but these files."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return root
