"""The text of `context-contract.yaml`: a contract as YAML that a person can review, and back, with every mistake told.

One line for each thing that is likely to change alone; what is as it mostly is, is left out. It opens no file: `file`
does, and keeps the whole catalogue beside it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import date
from typing import Any, Final, Literal, TypeAlias, get_args, get_origin, get_type_hints

import yaml

from context_telemetry.contract.catalogue import Missing, SourceState
from context_telemetry.contract.model import (
    ColumnFacts,
    ColumnKey,
    Consumer,
    ResourceFacts,
    TableFacts,
    TableKey,
    ToolFacts,
    UnknownUse,
    Use,
)
from context_telemetry.contract.project_files import ProjectFileError, parse_yaml
from context_telemetry.contract.rules import COLUMN_RULES, TABLE_RULES
from context_telemetry.contract.tool_rules import INPUT_RULES, OUTPUT_RULES, RESOURCE_RULES, TOOL_RULES

VERSION: Final = 1
"""Of the format; a newer one is refused, not misread."""

RULES: Final = frozenset(
    rule.id
    for table in (TABLE_RULES, COLUMN_RULES, TOOL_RULES, INPUT_RULES, OUTPUT_RULES, RESOURCE_RULES)
    for rule in table
)

_ABOVE: Final = """\
# What the consumers of this project's context rely on. Review it as you review code.
# `exceptions` and `prompts` are yours to write. The rest is written anew by: context-telemetry contract snapshot
"""

Path: TypeAlias = tuple[str | int, ...]
"""Where a value stands in the document: keys and indexes."""


class ContractError(Exception):
    """A contract cannot be used. Each of ``problems`` names file, line, key, mistake and fix."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True)
class Excepted:
    """A change that is accepted until a day, with the reason; ``line`` is where the file says so."""

    rule: str
    object: str
    reason: str
    until: date
    """The last day on which it counts."""
    line: int = 0


@dataclass(frozen=True)
class Contract:
    """What was accepted: what consumers rely on with its facts, who uses what, and which changes are excepted."""

    sources: tuple[SourceState, ...] = ()
    tables: Mapping[TableKey, TableFacts] = field(default_factory=dict)
    columns: Mapping[ColumnKey, ColumnFacts] = field(default_factory=dict)
    tools: Mapping[str, ToolFacts] | None = None
    """None: nobody asked for them."""
    resources: Mapping[str, ResourceFacts] | None = None
    uses: tuple[Use, ...] = ()
    unknown: tuple[UnknownUse, ...] = ()
    missing: tuple[Missing, ...] = ()
    prompts: tuple[str, ...] = ()
    """Prompts that tell agents of every table and column."""
    exceptions: tuple[Excepted, ...] = ()
    digest: str | None = None
    """Of the snapshot beside it, the whole catalogue."""
    counted: tuple[int, int] = (0, 0)
    """Tables and columns in that."""

    @property
    def read(self) -> frozenset[Consumer]:
        """Consumers that could be read when it was accepted, in part at least."""
        return frozenset(
            {use.consumer for use in self.uses} | {use.consumer for use in self.unknown if use.part}
        )

    @property
    def declared(self) -> tuple[TableKey, ...]:
        """Tables that it says something of out of dbt's manifest."""
        return tuple(sorted(table for table, facts in self.tables.items() if facts.model is not None))


# -- names ----------------------------------------------------------------------------------------

_PLAIN: Final = re.compile(r'[^."]+')
_PART: Final = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^."]+))\s*(\.|$)')


def dotted(parts: Sequence[str]) -> str:
    """`shop.main.fct_orders`; a part with a dot in it stands in quotes."""
    return ".".join(part if _PLAIN.fullmatch(part) else '"' + part.replace('"', '""') + '"' for part in parts)


def parted(text: str) -> tuple[str, ...] | None:
    """The parts of such a name; None where it is none."""
    parts, at = [], 0
    while match := _PART.match(text, at):
        parts.append(match[2] if match[1] is None else match[1].replace('""', '"'))
        at = match.end()
        if not match[3]:
            return tuple(parts)
    return None


# -- what is left out -----------------------------------------------------------------------------

_KEYED: Final = frozenset({"duckdb", "sqlite"})
"""Sources that say of every column whether it is a key."""

# What a table and a column are where the manifest knows them and says nothing (see `model`).
_DECLARED_TABLE: Final[Mapping[str, Any]] = {
    "described": False,
    "grain": (),
    "enforced": False,
    "freshness_seconds": float("inf"),
    "owner": "",
}
_DECLARED_COLUMN: Final[Mapping[str, Any]] = {
    "described": False,
    "not_null": False,
    "unique": False,
    "accepted_values": (),
    "references": "",
    "minimum": float("-inf"),
    "maximum": float("inf"),
    "unit": "",
    "timezone": "",
}
_ELSEWHERE: Final = frozenset({"position"})
"""Facts that are in the snapshot alone: they would change with every column before."""


def _usual_table(model: str | None) -> dict[str, Any]:
    names = (one.name for one in fields(TableFacts))
    return {**dict.fromkeys(names), "kind": "table", **(_DECLARED_TABLE if model else {})}


def _usual_column(source: str | None, model: str | None) -> dict[str, Any]:
    usual: dict[str, Any] = {
        **dict.fromkeys(one.name for one in fields(ColumnFacts) if one.name not in _ELSEWHERE),
        "nullable": True,
        **(_DECLARED_COLUMN if model else {}),
    }
    return {**usual, "key": "none"} if source in _KEYED else usual


def _said(facts: Any, usual: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that are not as usual; what is usually known and is not, is null."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, default in usual.items()
        if (value := getattr(facts, name)) != default
    }


# -- writing --------------------------------------------------------------------------------------


def dump(contract: Contract) -> str:
    """The text of a contract: the same contract gives the same text."""
    kinds = {state.name: state.type for state in contract.sources}
    document: dict[str, Any] = {"version": VERSION}
    if contract.digest:
        counted = dict(zip(("tables", "columns"), contract.counted, strict=True))
        document["catalogue"] = {**counted, "digest": contract.digest}
    document["sources"] = {
        state.name: {
            name: value
            for name, value in (("type", state.type), ("database", state.database), ("schema", state.schema))
            if value is not None
        }
        | ({"unread": True} if state.unread else {})
        for state in sorted(contract.sources, key=lambda state: state.name)
    }
    document["consumers"] = _consumers(contract.uses)
    if contract.prompts:
        document["prompts"] = sorted(contract.prompts)
    if contract.unknown:
        document["unknown"] = [
            {"consumer": use.consumer.name, "part": use.part, "why": use.why}
            | ({"missing": use.missing} if use.missing else {})
            for use in sorted(contract.unknown, key=lambda use: (use.consumer.name, use.part, use.why))
        ]
    if contract.missing:
        document["missing"] = [
            {"object": dotted((*each.table, *([each.column] if each.column else []))), "why": each.why}
            for each in sorted(contract.missing, key=lambda each: (each.table, each.column or ""))
        ]
    columns: dict[TableKey, dict[str, ColumnFacts]] = {}
    for key, one in sorted(contract.columns.items()):
        columns.setdefault(TableKey(*key[:3]), {})[key.column] = one
    document["tables"] = {
        dotted(table): _table(facts, columns.get(table, {}), kinds.get(table.source))
        for table, facts in sorted(contract.tables.items())
    }
    if contract.tools is not None:
        document["tools"] = {name: _tool(facts) for name, facts in sorted(contract.tools.items())}
    if contract.resources is not None:
        document["resources"] = {
            address: {"description": facts.description}
            | ({"mime_type": facts.mime_type} if facts.mime_type else {})
            for address, facts in sorted(contract.resources.items())
        }
    if contract.exceptions:
        document["exceptions"] = [
            {"rule": each.rule, "object": each.object, "reason": each.reason, "until": each.until}
            for each in contract.exceptions
        ]
    return _ABOVE + _text(document)


def _consumers(uses: Iterable[Use]) -> dict[str, Any]:
    """By consumer, part and table. Two queries of one name in one face are told as one."""
    merged: dict[tuple[str, str, TableKey], Use] = {}
    for use in sorted(uses, key=lambda use: use.how):
        key = (use.consumer.name, use.part, use.table)
        had = merged.setdefault(key, use)
        both = None if had.columns is None or use.columns is None else had.columns | use.columns
        merged[key] = replace(had, columns=both)
    found: dict[str, Any] = {}
    for (name, part, table), use in sorted(merged.items(), key=lambda item: item[0]):
        columns: Any = "all" if use.columns is None else sorted(use.columns)
        found.setdefault(name, {}).setdefault(part, {})[dotted(table)] = (
            columns if use.how == "sql" else _LISTED if _is_listed(use) else {use.how: columns}
        )
    return found


_LISTED: Final = "listed"
"""Of a table in a list of tables: that it is there, and no column."""


def _is_listed(use: Use) -> bool:
    return use.how == "schema" and use.columns == frozenset()


def _table(facts: TableFacts, columns: Mapping[str, ColumnFacts], source: str | None) -> dict[str, Any]:
    usual = _usual_column(source, facts.model)
    said = {name: _said(one, usual) for name, one in columns.items()}
    return _said(facts, _usual_table(facts.model)) | ({"columns": said} if said else {})


def _tool(facts: ToolFacts) -> dict[str, Any]:
    said: dict[str, Any] = {"description": facts.description, "input": dict(facts.input_schema)}
    if facts.output_schema is not None:
        said["output"] = dict(facts.output_schema)
    return said | ({"annotations": dict(facts.annotations)} if facts.annotations else {})


_LONGEST: Final = 100
"""Characters up to which a small mapping or list stays in one line."""


class _Dumper(yaml.SafeDumper):
    """What is small and shallow in one line, a section never, text of several lines as a block, no anchors."""

    def represent(self, data: Any) -> None:
        root = self.represent_data(data)
        for _, section in root.value:
            if any(isinstance(_of(item), yaml.CollectionNode) for item in section.value):
                section.flow_style = False
        self.serialize(root)

    def represent_mapping(self, tag: Any, mapping: Any, flow_style: bool | None = None) -> Any:
        return _in_one_line(super().represent_mapping(tag, mapping, flow_style))

    def represent_sequence(self, tag: Any, sequence: Any, flow_style: bool | None = None) -> Any:
        return _in_one_line(super().represent_sequence(tag, sequence, flow_style))

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _of(item: yaml.Node | tuple[yaml.Node, yaml.Node]) -> yaml.Node:
    """A list's item, or the value of a mapping's."""
    return item[1] if isinstance(item, tuple) else item


def _in_one_line(node: yaml.CollectionNode) -> yaml.CollectionNode:
    node.flow_style = _depth(node) <= 2 and _length(node) <= _LONGEST
    return node


def _depth(node: yaml.Node) -> int:
    if not isinstance(node, yaml.CollectionNode):
        return 0
    return 1 + max((_depth(_of(item)) for item in node.value), default=0)


def _length(node: yaml.Node) -> int:
    if isinstance(node, yaml.ScalarNode):
        return _LONGEST + 1 if "\n" in node.value else len(node.value) + 2
    pairs = (part for item in node.value for part in (item if isinstance(item, tuple) else (item,)))
    return 2 + sum(map(_length, pairs))


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
    ),
)


def _text(document: Any) -> str:
    # Lines are never folded: where PyYAML would break them depends on its version.
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**9)


# -- reading --------------------------------------------------------------------------------------


def parse(text: str, name: str) -> Contract:
    """The contract in a text that errors call ``name``. Raises ContractError with every problem.

    An exception that is over is read as one: who judges says that it counts no more.
    """
    try:
        document = parse_yaml(text, name)
    except ProjectFileError as error:
        raise ContractError([_conflict(text, name) or str(error)]) from error
    reading = _Reading(text, name)
    if document is None:
        raise ContractError([f"{name}:1: is empty; write it with: context-telemetry contract snapshot"])
    if not isinstance(document, dict):
        raise ContractError(
            [f"{name}:1: is not a mapping; write it with: context-telemetry contract snapshot"]
        )
    reading.version(document)
    contract = reading.contract(document)
    if reading.problems:
        raise ContractError(reading.problems)
    return contract


def _conflict(text: str, name: str) -> str | None:
    """What git leaves where two changes of a contract meet."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("<<<<<<< "):
            return (
                f"{name}:{number}: is a merge conflict; keep either side, then write both files anew with: "
                "context-telemetry contract snapshot"
            )
    return None


_TOP: Final = (
    "version", "catalogue", "sources", "consumers", "prompts", "unknown", "missing", "tables", "tools",
    "resources", "exceptions",
)  # fmt: skip
_HOW: Final = ("sql", "ref", "source", "schema")


class _Reading:
    """One walk through a document; what is wrong is collected and left out."""

    def __init__(self, text: str, name: str) -> None:
        self.problems: list[str] = []
        self._text, self._name = text, name
        self._root: yaml.Node | None = None
        self._scalars = yaml.SafeLoader("")

    def wrong(self, path: Path, words: str) -> None:
        told = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(
            "."
        )
        self.problems.append(f"{self._name}:{self.line(path)}: {f'{told}: ' if told else ''}{words}")

    def line(self, path: Path) -> int:
        """The line (from 1) of what stands there, or of the nearest thing around it."""
        if self._root is None:
            self._root = yaml.compose(self._text, Loader=yaml.SafeLoader)
        node, line = self._root, 1
        for part in path:
            if isinstance(part, int) and isinstance(node, yaml.SequenceNode) and part < len(node.value):
                node = node.value[part]
                line = node.start_mark.line + 1
            elif isinstance(node, yaml.MappingNode):
                pair = next((pair for pair in node.value if self._key(pair[0]) == str(part)), None)
                if pair is None:
                    break
                line, node = pair[0].start_mark.line + 1, pair[1]
            else:
                break
        return line

    def _key(self, node: yaml.Node) -> str:
        """As it is told: `no` without quotes is False to YAML."""
        return str(self._scalars.construct_object(node, deep=True))

    # -- pieces

    def version(self, document: Mapping[Any, Any]) -> None:
        """Before all else: what a newer version means by its keys is not known. Raises ContractError."""
        version = document.get("version")
        if isinstance(version, int) and not isinstance(version, bool) and version > VERSION:
            self.wrong(
                ("version",),
                f"{version} is newer than {VERSION}, the newest that is understood here; update context-telemetry",
            )
        elif version != VERSION or isinstance(version, bool):
            self.wrong(("version",), f"is not {VERSION}; write `version: {VERSION}`")
        if self.problems:
            raise ContractError(self.problems)

    def mapping(self, value: Any, path: Path, known: Iterable[str] | None = None) -> dict[str, Any]:
        """With text for keys, and none but the known ones; empty where it is wrong or not there."""
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.wrong(path, "is not a mapping; write keys with a colon")
            return {}
        read = {}
        for key, one in value.items():
            if not isinstance(key, str):
                self.wrong((*path, str(key)), "is no text; put the key in quotes")
            elif known is not None and key not in known:
                self.wrong((*path, key), f"is not known; {_meant(key, known)}")
            else:
                read[key] = one
        return read

    def items(self, value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
        if value is None:
            return
        if not isinstance(value, list):
            self.wrong(path, "is not a list; begin each item with a dash")
            return
        for index, item in enumerate(value):
            yield (*path, index), item

    def text(self, value: Any, path: Path, *, empty: bool = False) -> str:
        if isinstance(value, str) and (empty or value.strip()):
            return value
        self.wrong(path, "is empty" if value in (None, "") else "is no text; put it in quotes")
        return ""

    def texts(self, value: Any, path: Path) -> tuple[str, ...]:
        return tuple(self.text(item, where) for where, item in self.items(value, path))

    def key(self, text: str, path: Path, *lengths: int) -> tuple[str, ...] | None:
        parts = parted(text)
        if parts is None or len(parts) not in lengths:
            shape = "source.schema.table" + (".column" if 4 in lengths else "")
            self.wrong(path, f"is no name; write {shape}, a part that has a dot in double quotes")
            return None
        return parts

    # -- sections

    def contract(self, document: Any) -> Contract:
        top = self.mapping(document, (), _TOP)
        catalogue = self.mapping(top.get("catalogue"), ("catalogue",), ("tables", "columns", "digest"))
        sources = tuple(self._sources(top.get("sources")))
        tables, columns = self._tables(top.get("tables"), {state.name: state.type for state in sources})
        counted = tuple(
            one if isinstance(one, int) else 0 for one in map(catalogue.get, ("tables", "columns"))
        )
        return Contract(
            sources=sources,
            tables=tables,
            columns=columns,
            tools=self._tools(top["tools"]) if "tools" in top else None,
            resources=self._resources(top["resources"]) if "resources" in top else None,
            uses=tuple(self._uses(top.get("consumers"), tables, columns)),
            unknown=tuple(self._unknown(top.get("unknown"))),
            missing=tuple(self._missing(top.get("missing"))),
            prompts=self.texts(top.get("prompts"), ("prompts",)),
            exceptions=tuple(self._exceptions(top.get("exceptions"))),
            digest=catalogue.get("digest") if isinstance(catalogue.get("digest"), str) else None,
            counted=(counted[0], counted[1]),
        )

    def _sources(self, value: Any) -> Iterator[SourceState]:
        for name, said in self.mapping(value, ("sources",)).items():
            path: Path = ("sources", name)
            keys = self.mapping(said, path, ("type", "database", "schema", "unread"))
            texts = {key: self.text(keys[key], (*path, key)) for key in ("database", "schema") if key in keys}
            unread = keys.get("unread", False)
            if not isinstance(unread, bool):
                self.wrong((*path, "unread"), "is neither true nor false")
            yield SourceState(
                name,
                self.text(keys.get("type"), (*path, "type")),
                texts.get("database"),
                texts.get("schema"),
                "was left out when the contract was accepted" if unread else None,
            )

    def _uses(
        self, value: Any, tables: Mapping[TableKey, Any], columns: Mapping[ColumnKey, Any]
    ) -> Iterator[Use]:
        for name, parts in self.mapping(value, ("consumers",)).items():
            for part, used in self.mapping(parts, ("consumers", name)).items():
                path: Path = ("consumers", name, part)
                for text, named in self.mapping(used, path).items():
                    where: Path = (*path, text)
                    key = self.key(text, where, 3)
                    if key is None:
                        continue
                    table = TableKey(*key)
                    if table not in tables:
                        self.wrong(where, "is not among the tables; add it there, or take it out here")
                        continue
                    how, names = self._read(named, where)
                    for column in sorted(names or ()):
                        if ColumnKey(*table, column) not in columns:
                            self.wrong(
                                where,
                                f"{column} is not among the table's columns; add it there, or take it out here",
                            )
                    yield Use(Consumer("face", name), part, table, names, how)

    def _read(self, value: Any, path: Path) -> tuple[Any, frozenset[str] | None]:
        """How a table is read, and which columns of it."""
        how: Any = "sql"
        if value == _LISTED:
            return "schema", frozenset()
        if isinstance(value, dict):
            how, value = next(iter(self.mapping(value, path, _HOW).items()), ("sql", []))
        return how, None if value == "all" else frozenset(self.texts(value, path))

    def _unknown(self, value: Any) -> Iterator[UnknownUse]:
        for path, item in self.items(value, ("unknown",)):
            said = self.mapping(item, path, ("consumer", "part", "why", "missing"))
            yield UnknownUse(
                Consumer("face", self.text(said.get("consumer"), (*path, "consumer"))),
                self.text(said.get("part", ""), (*path, "part"), empty=True),
                self.text(said.get("why"), (*path, "why")),
                self.text(said["missing"], (*path, "missing")) if "missing" in said else None,
            )

    def _missing(self, value: Any) -> Iterator[Missing]:
        for path, item in self.items(value, ("missing",)):
            said = self.mapping(item, path, ("object", "why"))
            text = self.text(said.get("object"), (*path, "object"))
            why = self.text(said.get("why"), (*path, "why"))
            if text and (key := self.key(text, (*path, "object"), 3, 4)):
                yield Missing(TableKey(*key[:3]), key[3] if key[3:] else None, why)

    def _tables(
        self, value: Any, kinds: Mapping[str, str]
    ) -> tuple[dict[TableKey, TableFacts], dict[ColumnKey, ColumnFacts]]:
        tables: dict[TableKey, TableFacts] = {}
        columns: dict[ColumnKey, ColumnFacts] = {}
        for name, said in self.mapping(value, ("tables",)).items():
            path: Path = ("tables", name)
            key = self.key(name, path, 3)
            if key is None:
                continue
            table = TableKey(*key)
            if table.source not in kinds:
                self.wrong(path, f"{table.source} is not among the sources; {_meant(table.source, kinds)}")
            facts = self.mapping(said, path, (*_TABLE_FACTS, "columns"))
            model = facts.get("model") if isinstance(facts.get("model"), str) else None
            usual = _usual_table(model)
            tables[table] = TableFacts(**self._facts(facts, usual, _TABLE_FACTS, path))
            usual = _usual_column(kinds.get(table.source), model)
            for column, about in self.mapping(facts.get("columns"), (*path, "columns")).items():
                where: Path = (*path, "columns", column)
                given = self.mapping(about, where, [one for one in _COLUMN_FACTS if one not in _ELSEWHERE])
                columns[ColumnKey(*table, column)] = ColumnFacts(
                    **self._facts(given, usual, _COLUMN_FACTS, where)
                )
        return tables, columns

    def _facts(
        self, given: Mapping[str, Any], usual: Mapping[str, Any], hints: Mapping[str, Any], path: Path
    ) -> dict[str, Any]:
        return {
            name: self._fact(given[name], hints[name], (*path, name)) if name in given else default
            for name, default in usual.items()
        }

    def _fact(self, value: Any, hint: Any, path: Path) -> Any:
        """A value of a fact's type; null is "not known"."""
        if value is None:
            return None
        if get_origin(hint) is Literal:
            if value not in get_args(hint):
                self.wrong(path, f"{value} is not known; {_meant(str(value), get_args(hint))}")
            return value
        if hint is bool and not isinstance(value, bool):
            self.wrong(path, "is neither true nor false")
        elif hint is float:
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                return float(value)
            self.wrong(path, "is no number")
        elif hint is str:
            return self.text(value, path, empty=True)
        elif get_origin(hint) is tuple:
            return tuple(self.text(item, where, empty=True) for where, item in self.items(value, path))
        return value

    def _tools(self, value: Any) -> dict[str, ToolFacts]:
        found = {}
        for name, said in self.mapping(value, ("tools",)).items():
            path: Path = ("tools", name)
            keys = self.mapping(said, path, ("description", "input", "output", "annotations"))
            found[name] = ToolFacts(
                self.text(keys.get("description", ""), (*path, "description"), empty=True),
                self.mapping(keys.get("input"), (*path, "input")),
                self.mapping(keys["output"], (*path, "output")) if "output" in keys else None,
                self.mapping(keys.get("annotations"), (*path, "annotations")),
            )
        return found

    def _resources(self, value: Any) -> dict[str, ResourceFacts]:
        found = {}
        for name, said in self.mapping(value, ("resources",)).items():
            path: Path = ("resources", name)
            keys = self.mapping(said, path, ("description", "mime_type"))
            mime = self.text(keys["mime_type"], (*path, "mime_type")) if "mime_type" in keys else None
            text = self.text(keys.get("description", ""), (*path, "description"), empty=True)
            found[name] = ResourceFacts(text, mime)
        return found

    def _exceptions(self, value: Any) -> Iterator[Excepted]:
        for path, item in self.items(value, ("exceptions",)):
            said = self.mapping(item, path, ("rule", "object", "reason", "until"))
            if lacking := [key for key in ("rule", "object", "reason", "until") if key not in said]:
                self.wrong(
                    path, f"has no {' and no '.join(lacking)}; an exception has rule, object, reason, until"
                )
                continue
            rule = self.text(said["rule"], (*path, "rule"))
            if rule and rule not in RULES:
                self.wrong(
                    (*path, "rule"), f"{rule} is no rule; {_meant(rule, RULES)} (docs/contract-rules.md)"
                )
            until = said["until"]
            if not isinstance(until, date) or hasattr(until, "hour"):
                self.wrong((*path, "until"), "is no day; write it as 2026-12-31, without quotes")
                continue
            yield Excepted(
                rule,
                self.text(said["object"], (*path, "object")),
                self.text(said["reason"], (*path, "reason")),
                until,
                self.line(path),
            )


def _hints(facts: type[Any]) -> Mapping[str, Any]:
    return {
        name: next(one for one in get_args(hint) if one is not type(None))
        for name, hint in get_type_hints(facts).items()
    }


_TABLE_FACTS: Final = _hints(TableFacts)
_COLUMN_FACTS: Final = _hints(ColumnFacts)


def _meant(word: str, known: Iterable[Any]) -> str:
    """The fix for a word that is not known: the likeliest of those that are, or all where they are few."""
    there = sorted(map(str, known))
    if close := difflib.get_close_matches(word, there, n=1, cutoff=0.6):
        return f"did you mean {close[0]}?"
    if len(there) > len(_TOP):
        return "none is like it"
    return f"there is {', '.join(there)}" if there else "there is none"
