"""What a whole look costs on a large project: `contract snapshot`, `contract diff`, and the comparator beside a server.

10,000 tables of 50 columns in a DuckDB file, every table and column declared in dbt's manifest, faces that read some of
them. Each is a process of its own, as it is for a user; the comparator is asked by its own protocol.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb

from benchmarks.environment import for_processes
from benchmarks.measure import Result, Target

_MIB = 2**20
_TYPES = ("VARCHAR", "DECIMAL(18,2)", "TIMESTAMP", "BIGINT")
_SCHEMAS = 20
_FACES = 50
# So many tables lose a column that a face reads, once the contract is accepted.
_BROKEN = 10
_QUESTIONS = 200
_CONTRACT = ("-m", "context_telemetry.cli", "contract")
_COMMANDS: Mapping[str, tuple[str, ...]] = {
    # What DuckDB takes for itself, to have a file of so many tables open.
    "attach": ("-c", "import duckdb; duckdb.sql(\"ATTACH 'shop.duckdb' (READ_ONLY)\")"),
    "snapshot": (*_CONTRACT, "snapshot", "--no-tools"),
    "diff": (*_CONTRACT, "diff", "--no-tools", "--json"),
}
_BOUNDS = {
    "time": (
        Target("value", "snapshot", "", 5.0, "wall"),
        Target("value", "diff", "", 5.0, "wall"),
        Target("value", "look", "", 5.0, "wall"),
    ),
    "memory": tuple(
        Target("added", side, "attach", 500.0, "memory") for side in ("snapshot", "diff", "look")
    ),
}


@dataclass(frozen=True)
class _Found:
    """Seconds of wall and CPU time and MiB, by side."""

    wall: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)
    memory: dict[str, list[float]] = field(default_factory=dict)

    def add(self, side: str, wall: float, cpu: float) -> None:
        self.wall.setdefault(side, []).append(wall)
        self.cpu.setdefault(side, []).append(cpu)


@dataclass(frozen=True)
class Looks:
    """Time and the most resident memory of each process; the comparator's first look has its start in it.

    On a busy machine only the CPU time says something: the comparator lets everybody go before it.
    """

    name: str = "look"
    table: str = "contract"
    rounds: int = 2
    tables: int = 10_000
    columns: int = 50

    def small(self) -> Looks:
        """To see that it works."""
        return replace(self, rounds=1, tables=100)

    def run(self) -> list[Result]:
        """Raises RuntimeError where a process does not answer as it should."""
        results: list[Result] = []
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder, "project")
            environment = {**for_processes(), "CONTEXT_TELEMETRY_STATE_DIR": folder}
            _project(root, self.tables, self.columns)
            results += self._looked(root, environment, "no manifest", 0)
            _declare(root, self.tables, self.columns)
            size = (root / _MANIFEST).stat().st_size / _MIB
            results += self._looked(
                root, environment, f"each declared, in a manifest of {size:,.0f} MiB", _BROKEN
            )
        return results

    def _looked(self, root: Path, environment: Mapping[str, str], what: str, first: int) -> list[Result]:
        """What is served is accepted; then tables from ``first`` on lose a column."""
        found, asked, broken = _Found(), list[float](), range(first, first + _BROKEN)
        for _ in range(self.rounds):
            _command("attach", root, environment, found)
            _command("snapshot", root, environment, found)
        _break(root, broken)
        for _ in range(self.rounds):
            _command("diff", root, environment, found)
        for _ in range(self.rounds):
            with _comparator(root, environment) as (process, ask):
                spent = 0.0
                for side in ("start and look", "look"):
                    began = time.perf_counter()
                    comparison = ask({"look": True})["comparison"]
                    cpu = _cpu(process.pid)
                    found.add(side, time.perf_counter() - began, cpu - spent)
                    spent = cpu
                    if comparison["open"]["tables"]["breaking"] != len(broken):
                        raise RuntimeError(f"a look found {comparison['open']} open")
                for number in range(_QUESTIONS):
                    answer = ask({"id": number, "source": "shop", "sql": _sql(number % self.tables)})
                    if ("contract_broken" in answer["reasons"]) != (number % self.tables in broken):
                        raise RuntimeError(f"a question was answered with {answer}")
                asked.append((_cpu(process.pid) - spent) / _QUESTIONS * 1e3)
                found.memory.setdefault("look", []).append(_peak(process.pid))
        size = f"{self.tables:,} tables x {self.columns} columns, {what}"
        new = f"about one of {self.tables:,} tables, not asked before, {what}"
        times = {"wall": found.wall, "CPU": found.cpu}
        memory, answers = {"memory": found.memory}, {"CPU": {"look": asked}}
        return [
            Result(self.table, f"{self.name}: time", size, "s", times, targets=_BOUNDS["time"]),
            Result(self.table, f"{self.name}: memory", size, "MiB", memory, targets=_BOUNDS["memory"]),
            Result(self.table, "answer of the comparator", new, "ms", answers),
        ]


# -- the project ----------------------------------------------------------------------------------


def _project(root: Path, tables: int, columns: int) -> None:
    (root / "faces").mkdir(parents=True)
    (root / "target").mkdir()
    (root / "dataface.yml").write_text(
        "sources:\n  shop:\n    type: duckdb\n    path: shop.duckdb\n", "utf-8"
    )
    (root / "dbt_project.yml").write_text("name: shop\nversion: '1'\nprofile: shop\n", "utf-8")
    columns_ = ", ".join(f"column_{number} {_TYPES[number % len(_TYPES)]}" for number in range(columns))
    with duckdb.connect(str(root / "shop.duckdb")) as connection:
        connection.execute("BEGIN")
        for number in range(_SCHEMAS):
            connection.execute(f"CREATE SCHEMA schema_{number}")
        for number in range(tables):
            connection.execute(f"CREATE TABLE {_table(number)} ({columns_})")
        connection.execute("COMMIT")
    for number in range(min(_FACES, tables)):
        face = f'title: Face {number}\nqueries:\n  one: {{source: shop, sql: "{_sql(number)}"}}\n'
        (root / "faces" / f"face_{number}.yml").write_text(face, "utf-8")


def _declare(root: Path, tables: int, columns: int) -> None:
    nodes = dict(_model(number, columns) for number in range(tables))
    manifest = {"metadata": {"dbt_schema_version": _VERSION}, "nodes": nodes, "sources": {}}
    with (root / _MANIFEST).open("w", encoding="utf-8") as file:
        json.dump(manifest, file)


_MANIFEST = Path("target", "manifest.json")
_VERSION = "https://schemas.getdbt.com/dbt/manifest/v12.json"


def _model(number: int, columns: int) -> tuple[str, dict[str, Any]]:
    """A model as dbt writes it into its manifest."""
    name = f"model.shop.table_{number}"
    described: dict[str, dict[str, Any]] = {
        f"column_{each}": {
            "name": f"column_{each}",
            "description": f"Column {each} of table {number}, as somebody described it.",
            "meta": {},
            "data_type": _TYPES[each % len(_TYPES)].lower(),
            "constraints": [],
            "quote": None,
            "config": {"meta": {}, "tags": []},
            "tags": [],
            "granularity": None,
            "doc_blocks": [],
        }
        for each in range(columns)
    }
    return name, {
        "database": "shop",
        "schema": f"schema_{number % _SCHEMAS}",
        "name": f"table_{number}",
        "resource_type": "model",
        "package_name": "shop",
        "path": f"table_{number}.sql",
        "original_file_path": f"models/table_{number}.sql",
        "unique_id": name,
        "fqn": ["shop", f"table_{number}"],
        "alias": f"table_{number}",
        "config": {"enabled": True, "materialized": "table", "meta": {}, "tags": []},
        "tags": [],
        "description": f"Table {number}.",
        "columns": described,
        "meta": {},
        "relation_name": f'"shop"."schema_{number % _SCHEMAS}"."table_{number}"',
        "depends_on": {"macros": [], "nodes": []},
    }


def _table(number: int) -> str:
    return f"schema_{number % _SCHEMAS}.table_{number}"


def _sql(number: int) -> str:
    """A query whose text there is once; of the tables that lose a column, it reads that."""
    return (
        f"SELECT a.column_1, sum(b.column_3) AS total FROM {_table(number)} a JOIN {_table(number)} b "
        f"ON a.column_0 = b.column_0 WHERE a.column_2 > current_date GROUP BY a.column_1 ORDER BY {number % 2 + 1}"
    )


def _break(root: Path, tables: Iterable[int]) -> None:
    with duckdb.connect(str(root / "shop.duckdb")) as connection:
        for number in tables:
            connection.execute(f"ALTER TABLE {_table(number)} DROP COLUMN column_3")


# -- the processes --------------------------------------------------------------------------------


def _command(side: str, root: Path, environment: Mapping[str, str], found: _Found) -> None:
    command = [sys.executable, *_COMMANDS[side]]
    with tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=root, env=environment, stdout=subprocess.DEVNULL, stderr=errors
        )
        _, status, used = os.wait4(process.pid, 0)
        found.add(side, time.perf_counter() - began, used.ru_utime + used.ru_stime)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            raise RuntimeError(f"{side} failed: {errors.read()[-2_000:].decode(errors='replace')}")
    peak = used.ru_maxrss / (_MIB if sys.platform == "darwin" else 1024)
    found.memory.setdefault(side, []).append(peak)


@contextmanager
def _comparator(root: Path, environment: Mapping[str, str]) -> Iterator[Any]:
    command = [sys.executable, "-m", "context_telemetry.cli.comparator", str(root)]
    with subprocess.Popen(
        command, env=dict(environment), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        asks, answers = process.stdin, process.stdout
        assert asks is not None
        assert answers is not None

        def ask(question: Mapping[str, Any]) -> dict[str, Any]:
            asks.write(json.dumps(question).encode() + b"\n")
            asks.flush()
            answer: dict[str, Any] = json.loads(answers.readline() or "{}")
            if not answer or "error" in answer:
                raise RuntimeError(f"the comparator answers {answer}")
            return answer

        yield process, ask
        asks.close()


def _cpu(pid: int) -> float:
    """Seconds of CPU that a running process has taken."""
    if sys.platform == "linux":
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    minutes, _, seconds = _ps(pid, "time").rpartition(":")
    return 60.0 * float(minutes.rpartition(":")[2] or 0) + float(seconds)


def _peak(pid: int) -> float:
    """The most resident memory that a running process has had, in MiB; elsewhere than on Linux, that it has now."""
    if sys.platform == "linux":
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        return int(found[1]) / 1024 if found else 0.0
    return int(_ps(pid, "rss")) / 1024


def _ps(pid: int, what: str) -> str:
    told = subprocess.run(
        ["ps", "-o", f"{what}=", "-p", str(pid)], capture_output=True, text=True, check=True
    )
    return told.stdout.strip()


MATRIX = (Looks(),)
