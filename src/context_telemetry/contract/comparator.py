"""The last look at a project, and answers by it: what a query met, and which of its names lead nowhere.

A question and its answer are plain data. Who asks, and over which wire, is not known here (cli/comparator.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from context_telemetry.contract import catalogue
from context_telemetry.contract.catalogue import Names
from context_telemetry.contract.comparison import Comparison, Finding, to_json
from context_telemetry.contract.impact import Recorded
from context_telemetry.contract.look import Look, compare
from context_telemetry.contract.model import TableKey
from context_telemetry.contract.references import Reader, Reads
from context_telemetry.contract.sources import SourceConfig, Sources

OTHER: Final = "_OTHER"
"""Instead of a name that may be a value."""
_JINJA: Final = ("{{", "{%")


class Comparator:
    """Answers about one project; ``recorded`` says at each look how often consumers were served. Not thread-safe."""

    def __init__(self, root: Path, recorded: Callable[[], Recorded | None] = lambda: None) -> None:
        self._root = root
        self._recorded = recorded
        self._seen: _Seen | None = None

    def answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Raises KeyError, TypeError or ValueError for a document that is no question.

        `{"look": true}` is answered with a comparison. `{"id", "source", "sql"}` and `{"id", "object": [source, schema,
        table, column]}` (null: not named) are answered by the last look, with the reasons that whoever asks this has.
        """
        if question.get("look") is True:
            return {"comparison": to_json(self.look())}
        if self._seen is None:
            self.look()
        assert self._seen is not None
        unknown: list[str] = []
        if "sql" in question:
            met, unknown = self._seen.sql(str(question["source"]), str(question["sql"]))
        elif "object" in question:
            met = self._seen.object(*question["object"])
        else:
            raise ValueError("neither a look, nor SQL, nor an object")
        reasons = sorted({finding.reason for finding in met})
        return {"id": question.get("id"), "reasons": reasons, "unknown": unknown}

    def look(self) -> Comparison:
        """Look anew, and keep of it what answers need: names. Of the look before, nothing."""
        self._seen = None
        with catalogue.connect() as connection:
            look = compare(connection, self._root, recorded=self._recorded())
            for names in (look.served, look.former):
                if names is not None:
                    names.keep()
            self._seen = _seen(look)
        return look.comparison


@dataclass
class _Seen:
    """What answers are read from."""

    configs: Sources = field(default_factory=Sources)
    served: Names | None = None
    former: Names | None = None
    """What is served, and what was accepted or is declared and is gone."""
    findings: Mapping[TableKey, list[Finding]] = field(default_factory=dict)
    """By tables as ``former`` has them."""
    different: frozenset[str] = frozenset()
    """Names of what was accepted or is declared and is not so any more."""
    _words: frozenset[str] | None = None
    _readers: dict[tuple[str, bool], Reader] = field(default_factory=dict)

    def sql(self, source: str, sql: str) -> tuple[list[Finding], list[str]]:
        """The findings that a query meets, and names in it that lead nowhere and that no finding explains."""
        config = self.configs.get(source)
        if config is None or any(mark in sql for mark in _JINJA):
            return [], []
        now = self._reader(config, former=False).read(sql)
        reads = Reads()
        reads.add_all(now)
        before = now if self.former is self.served else self._reader(config, former=True).read(sql)
        reads.add_all(before)
        met = [
            finding
            for table, columns in reads.tables.items()
            for finding in self.findings.get(table, ())
            if finding.column is None or columns is None or self._column(table, finding.column) in columns
        ]
        never = {name for name in before.unknown.values() if name is not None}
        names = (self._sayable(name, now.quoted[name]) for name in now.unknown.values() if name in never)
        return met, list(dict.fromkeys(names))

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
        return [one for one in found if one.column is None or self._column(key, one.column) == name]

    def _sayable(self, name: str, quoted: frozenset[str]) -> str:
        """A name that leads nowhere; not where it may be a value that somebody put into the quotes of a name."""
        if not quoted:
            return name
        if self._words is None:
            known = (self.former.words() if self.former else frozenset()), self.different
            self._words = frozenset(word.casefold() for words in known for word in words)
        return name if all(part.casefold() in self._words for part in quoted) else OTHER

    def _column(self, table: TableKey, name: str) -> str:
        """As ``former`` has it."""
        return (self.former.column(table, name) if self.former else None) or name

    def _reader(self, config: SourceConfig, *, former: bool) -> Reader:
        key = (config.name, former)
        if key not in self._readers:
            names = self.former if former else self.served
            assert names is not None  # a source is configured only where the project could be read
            self._readers[key] = Reader(names, config)
        return self._readers[key]


def _seen(look: Look) -> _Seen:
    if look.now is None or look.former is None:
        return _Seen()
    found: dict[TableKey, list[Finding]] = {}
    for finding in look.met:
        if finding.table is not None:
            # Contract and manifest may each write it in a case of its own.
            found.setdefault(look.former.table(*finding.table) or finding.table, []).append(finding)
    return _Seen(look.now.configs, look.served, look.former, found, look.different)
