"""What the tests of comparisons share: the sample project with an accepted contract, without a server of tools."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from contract.catalogues import desk

from context_telemetry.contract import file
from context_telemetry.contract.comparison import Comparison
from context_telemetry.contract.look import compare
from context_telemetry.contract.snapshot import take
from context_telemetry.rehearsal.sample import Sample

HOLDER = """
import duckdb, sys
connection = duckdb.connect(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""

HOLDER_OF_SQLITE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("open", flush=True)
sys.stdin.read()
"""


class Told(NamedTuple):
    """A finding at a glance."""

    reason: str
    rule: str
    level: str
    object: str


def broken(rule: str, what: str, level: str = "breaking") -> Told:
    return Told("contract_broken", rule, level, f"shop.main.{what}")


def drift(rule: str, what: str) -> Told:
    return Told("schema_drift", rule, "warning", f"shop.main.{what}")


def accept(root: Path) -> None:
    """What is served now is the contract; who asks no server has no tools in it."""
    with desk() as connection:
        now = take(connection, root)
        file.write(root, now, file.contract_of(now))


def accepted(sample: Sample, folder: Path) -> Sample:
    copied = sample.copy(folder)
    accept(copied.root)
    return copied


def look(root: Path, **given: Any) -> Comparison:
    with desk() as connection:
        return compare(connection, root, **given).comparison


def told(comparison: Comparison) -> list[Told]:
    return [Told(each.reason, each.rule, each.level, each.object) for each in comparison.findings]


def except_(root: Path, rule: str, what: str, until: date | None = None) -> None:
    """Accept one change in the contract of a project until a day, or else until tomorrow."""
    until = until or date.today() + timedelta(days=1)
    with (root / file.NAME).open("a", encoding="utf-8") as contract:
        contract.write(
            f"exceptions:\n  - rule: {rule}\n    object: {what}\n    reason: the faces follow\n    until: {until}\n"
        )


@contextmanager
def held(database: Path, program: str = HOLDER) -> Iterator[int]:
    """Another process has a warehouse open for writing; its number."""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(database)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "open\n"
        try:
            yield holder.pid
        finally:
            holder.communicate("")
