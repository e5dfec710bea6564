"""Where the warehouse is not what dbt's manifest declares: tables and columns that are gone, and other types.

With or without an accepted contract. What is in the warehouse and in no manifest is no drift, nor is anything of a
source that could not be read.
"""

from __future__ import annotations

import json
from typing import Literal, NamedTuple

from context_telemetry.contract import column_types
from context_telemetry.contract.catalogue import Catalogue, unnested
from context_telemetry.contract.model import TableKey
from context_telemetry.contract.snapshot import Snapshot
from context_telemetry.contract.sources import FILE_TYPES


class Drift(NamedTuple):
    """One object that is not as declared; no column: the whole table."""

    rule: Literal["table_missing", "column_missing", "type_contradicted"]
    table: TableKey
    column: str | None


def drifted(now: Snapshot) -> tuple[Drift, ...] | None:
    """Each object once, tables before columns before types; None where there is no manifest that can be read."""
    if now.declared is None:
        return None
    found: dict[tuple[str, ...], Drift] = {}
    for each in now.missing:
        state = now.catalogue.source(each.table.source)
        if state is None or state.type in FILE_TYPES:
            continue  # files are configured by the project, and no manifest declares them
        rule: Literal["table_missing", "column_missing"] = (
            "column_missing" if each.column else "table_missing"
        )
        # A view that fails is told by the warehouse, and again by the manifest in its own spelling.
        key = tuple(part.casefold() for part in (*each.table, each.column or ""))
        found.setdefault(key, Drift(rule, each.table, each.column))
    order = sorted(found.values(), key=lambda each: (each.column is not None, each.table, each.column or ""))
    return (*order, *_contradicted(now.catalogue))


def _contradicted(catalogue: Catalogue) -> list[Drift]:
    """Few pairs of types make up a large catalogue, so each is judged once."""
    execute = catalogue.connection.execute
    pairs = execute(
        f'SELECT DISTINCT "declared_type", "type" FROM {catalogue.columns} '
        'WHERE "declared_type" IS NOT NULL AND "type" IS NOT NULL'
    ).fetchall()
    bad = [{"declared_type": d, "type": t} for d, t in pairs if column_types.contradicts(d, t)]
    if not bad:
        return []
    rows = execute(
        f'SELECT "source", "schema", "table", "column" FROM {catalogue.columns} SEMI JOIN '
        f'({unnested({"declared_type": "VARCHAR", "type": "VARCHAR"})}) USING ("declared_type", "type") ORDER BY ALL',
        [json.dumps(bad)],
    ).fetchall()
    return [Drift("type_contradicted", TableKey(*row[:3]), row[3]) for row in rows]
