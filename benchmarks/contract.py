"""What a large catalogue costs: 10,000 tables of 50 columns are written, read and compared, in a process of its own.

`python -m benchmarks.contract TABLES COLUMNS` is such a process; it prints one JSON object.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from benchmarks.environment import for_processes
from benchmarks.measure import Result, Target
from context_telemetry.contract import catalogue
from context_telemetry.contract.catalogue import Catalogue, SourceState

_MIB = 2**20
_SIDE = "catalogue"
# Issue 7: snapshot and difference in 5 s and 500 MiB.
_BOUND = (
    Target("value", _SIDE, "", 5.0, "together"),
    Target("value", _SIDE, "", 500.0, "memory"),
)
_STEPS = ("write", "read", "compare", "together")
# Of a thousand columns, one is dropped and one has another type.
_CHANGED = 1_000


@dataclass(frozen=True)
class Snapshots:
    """Seconds of each step, and the most memory that the process ever had, what makes the catalogue included."""

    name: str = "catalogue"
    table: str = "contract"
    rounds: int = 5
    tables: int = 10_000
    columns: int = 50

    def small(self) -> Snapshots:
        """To see that it works."""
        return replace(self, rounds=1, tables=100)

    def run(self) -> list[Result]:
        found: dict[str, dict[str, list[float]]] = {}
        command = [sys.executable, "-m", "benchmarks.contract", str(self.tables), str(self.columns)]
        for _ in range(self.rounds):
            done = subprocess.run(command, env=for_processes(), capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"{' '.join(command[1:])} failed: {done.stderr[-2_000:]}")
            for measure, value in json.loads(done.stdout).items():
                found.setdefault(measure, {}).setdefault(_SIDE, []).append(value)
        what = f"{self.tables:,} tables x {self.columns} columns, 2 of {_CHANGED:,} columns changed"
        times = {step: found[step] for step in _STEPS}
        return [
            Result(self.table, f"{self.name}: time", what, "s", times, targets=_BOUND[:1]),
            Result(
                self.table,
                f"{self.name}: memory",
                what,
                "MiB",
                {"memory": found["memory"], "file": found["file"]},
                targets=_BOUND[1:],
            ),
        ]


MATRIX = (Snapshots(),)


# -- in a process of its own ----------------------------------------------------------------------


def _made(connection: duckdb.DuckDBPyConnection, tables: int, columns: int) -> Catalogue:
    """As dbt and DuckDB would give it: every table and column described, one key each, some tests."""
    made = catalogue.new(connection).with_source(SourceState("shop", "duckdb", "shop", "main"))
    connection.execute(
        f'INSERT INTO {made.tables} ("source", "schema", "table", "kind", "model", "described", "grain", "owner") '
        "SELECT 'shop', 'schema_' || t % 20, 'table_' || t, 'table', 'model.shop.table_' || t, true, "
        f"['column_0'], 'team_' || t % 7 FROM range({tables}) r(t) ORDER BY ALL"
    )
    connection.execute(
        f"INSERT INTO {made.columns} "
        '("source", "schema", "table", "column", "type", "declared_type", "nullable", "key", "described", '
        '"position", "not_null", "unique", "accepted_values", "references", "minimum", "maximum", "unit", "timezone") '
        "SELECT 'shop', 'schema_' || t % 20, 'table_' || t, 'column_' || c, "
        "['VARCHAR', 'DECIMAL(18,2)', 'TIMESTAMP', 'BIGINT'][c % 4 + 1], 'as declared', c > 0, "
        "CASE WHEN c = 0 THEN 'primary' ELSE 'none' END, true, c, c = 0, c = 0, "
        "CASE WHEN c % 10 = 3 THEN ['open', 'closed', 't' || t % 100] ELSE [] END, "
        "CASE WHEN c % 10 = 5 THEN 'table_' || (t + 1) || '.column_0' ELSE '' END, '-inf', 'inf', '', '' "
        f"FROM range({tables}) r(t), range({columns}) s(c) ORDER BY ALL"
    )
    return made


def _timed(step: Callable[[], object]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def main() -> None:
    tables, columns = map(int, sys.argv[1:])
    with tempfile.TemporaryDirectory() as folder, catalogue.connect() as connection:
        path = Path(folder, "contract.parquet")
        made = _made(connection, tables, columns)
        found = {"write": _timed(lambda: catalogue.write(made, path))}
        file = path.stat().st_size / _MIB
        made.drop()
        began = time.perf_counter()
        accepted = catalogue.read(connection, path)
        found["read"] = time.perf_counter() - began
        served = catalogue.read(connection, path)
        hashed = f'hash("table", "column") % {_CHANGED}'
        connection.execute(f"DELETE FROM {served.columns} WHERE {hashed} = 0")
        connection.execute(f"UPDATE {served.columns} SET \"type\" = 'BLOB' WHERE {hashed} = 1")
        changes: list[object] = []
        found["compare"] = _timed(lambda: changes.extend(catalogue.changed(accepted, served)))
        assert abs(len(changes) - tables * columns * 2 / _CHANGED) < 10 + tables * columns / _CHANGED
    found["together"] = sum(found.values())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found["memory"] = peak / _MIB if sys.platform == "darwin" else peak / 1024
    found["file"] = file
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
