"""The process beside a serving one that compares: it looks when it is told to, and says what a question met.

`python -m context_telemetry.contract.comparator ROOT` answers one JSON document on each line of stdin with one on
stdout, and ends with stdin, or when nobody asks for a while. It is a process of its own because closing a DuckDB file
inside of the host would drop the host's lock on it, and so that neither DuckDB nor a parser of SQL takes the host's
memory or interpreter.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import queue
import signal
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, get_args

from context_telemetry.contract import catalogue
from context_telemetry.contract.catalogue import Names
from context_telemetry.contract.comparison import Comparison, Finding, Reason, compare, to_json
from context_telemetry.contract.model import TableKey
from context_telemetry.contract.references import Reader, Reads
from context_telemetry.contract.sources import SourceConfig, Sources

IDLE: Final = 60.0
"""Seconds without a question after which the process ends."""
_NICE: Final = 10
_MOST_MET: Final = 64
# A parser needs a second for each hundred thousand characters or so; what is longer was written by a program.
_LONGEST_SQL: Final = 200_000
_JINJA: Final = ("{{", "{%")


class Comparator:
    """The last look at one project, and the questions that it answers. Not thread-safe."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._seen: _Seen | None = None

    def answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Raises KeyError, TypeError or ValueError for a document that is no question."""
        if question.get("look") is True:
            return {"comparison": to_json(self.look())}
        if self._seen is None:
            self.look()
        assert self._seen is not None
        if "sql" in question:
            met, unknown = self._seen.sql(str(question["source"]), str(question["sql"]))
        elif "object" in question:
            met, unknown = self._seen.object(*question["object"]), []
        else:
            raise ValueError("neither a look, nor SQL, nor an object")
        reasons: dict[str, list[str]] = {reason: [] for reason in get_args(Reason)}
        for finding in met:
            if len(reasons[finding.reason]) < _MOST_MET:
                reasons[finding.reason].append(finding.object)
        meets = {reason: list(dict.fromkeys(objects)) for reason, objects in reasons.items()}
        return {"id": question.get("id"), "meets": meets, "unknown": unknown}

    def look(self) -> Comparison:
        """Look anew, and keep of it what answers need: names. Of the look before, nothing."""
        self._seen = None
        with catalogue.connect() as connection:
            look = compare(connection, self._root)
            for names in (look.served, look.former):
                if names is not None:
                    names.keep()
            if look.now is None:
                self._seen = _Seen()
            else:
                self._seen = _Seen(look.now.configs, look.served, look.former, _by_table(look.met))
        return look.comparison


def _by_table(findings: Iterable[Finding]) -> dict[TableKey, list[Finding]]:
    found: dict[TableKey, list[Finding]] = {}
    for finding in findings:
        if finding.table is not None:
            found.setdefault(finding.table, []).append(finding)
    return found


@dataclass
class _Seen:
    """What answers are read from."""

    configs: Sources = field(default_factory=Sources)
    served: Names | None = None
    former: Names | None = None
    """What is served, and what was accepted or is declared and is gone."""
    findings: Mapping[TableKey, list[Finding]] = field(default_factory=dict)
    _readers: dict[tuple[str, bool], Reader] = field(default_factory=dict)

    def sql(self, source: str, sql: str) -> tuple[list[Finding], list[str]]:
        """The findings that a query meets, and the names in it that lead nowhere."""
        config = self.configs.get(source)
        if config is None or len(sql) > _LONGEST_SQL or any(mark in sql for mark in _JINJA):
            return [], []
        now = self._reader(config, former=False).read(sql)
        reads = Reads()
        reads.add_all(now)
        if self.former is not self.served:
            reads.add_all(self._reader(config, former=True).read(sql))
        met = [
            finding
            for table, columns in reads.tables.items()
            for finding in self.findings.get(table, ())
            if finding.column is None or columns is None or finding.column in columns
        ]
        return met, [name for name in now.unknown.values() if name is not None]

    def object(
        self,
        source: str,
        schema: str | None = None,
        table: str | None = None,
        column: str | None = None,
    ) -> list[Finding]:
        """Likewise of a name: a table with all of its columns, one column of it, or a list of tables."""
        if self.former is None:
            return []
        if schema is None or table is None:
            listed = self.former.tables(source, schema)
            return [one for key in listed for one in self.findings.get(key, ()) if one.column is None]
        key = self.former.table(source, schema, table)
        found = self.findings.get(key, []) if key else []
        if key is None or column is None:
            return found
        name = self.former.column(key, column)
        return [one for one in found if one.column is None or one.column == name]

    def _reader(self, config: SourceConfig, *, former: bool) -> Reader:
        key = (config.name, former)
        if key not in self._readers:
            names = self.former if former else self.served
            assert names is not None  # a source is configured only where the project could be read
            self._readers[key] = Reader(names, config)
        return self._readers[key]


# -- the process ----------------------------------------------------------------------------------


def serve(comparator: Comparator, questions: Iterable[bytes], answers: BinaryIO) -> None:
    """Answer each line; a mistake is answered with its class alone, for its text may quote the question."""
    for line in questions:
        asked: Any = None
        try:
            asked = json.loads(line)
            if not isinstance(asked, dict):
                raise TypeError("a question is a mapping")
            answer = comparator.answer(asked)
        except Exception as error:
            answer = {
                "id": asked.get("id") if isinstance(asked, dict) else None,
                "error": type(error).__name__,
            }
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


def _lines(stream: BinaryIO, idle: float) -> Iterator[bytes]:
    """The lines of a stream, until its end or until none came for so many seconds."""
    read: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def pump() -> None:
        while line := stream.readline():
            read.put(line)
        read.put(b"")

    threading.Thread(target=pump, name="questions", daemon=True).start()
    with contextlib.suppress(queue.Empty):
        while line := read.get(timeout=idle):
            yield line


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m context_telemetry.contract.comparator")
    parser.add_argument("root", type=Path)
    parser.add_argument("--idle", type=float, default=IDLE, help="seconds without a question until it ends")
    arguments = parser.parse_args()
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # it is the host that is interrupted, and that ends this process
    if hasattr(os, "nice"):
        os.nice(_NICE)
    logging.disable()
    warnings.simplefilter("ignore")
    # Whatever prints does not print among the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with contextlib.suppress(BrokenPipeError):
        serve(Comparator(arguments.root), _lines(sys.stdin.buffer, arguments.idle), answers)
    # The thread may wait for stdin still, and an interpreter that ends in order would wait for it.
    os._exit(0)


if __name__ == "__main__":
    main()
