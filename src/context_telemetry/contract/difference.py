"""What changed between what was accepted and what is served: the tables of rules, run over objects before and after.

It knows no rule and reads nothing: who compares two catalogues hands in what differs, and gets changes in one order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from context_telemetry.contract import renames
from context_telemetry.contract.json_schema import compare
from context_telemetry.contract.model import (
    Change,
    ColumnFacts,
    ColumnKey,
    ResourceFacts,
    TableFacts,
    TableKey,
    ToolFacts,
)
from context_telemetry.contract.rules import COLUMN_RULES, SOURCE_RULES, TABLE_RULES, Rule
from context_telemetry.contract.tool_rules import (
    INPUT_RULES,
    OUTPUT_RULES,
    RESOURCE_RULES,
    TOOL_RULES,
    Property,
    properties,
)

F = TypeVar("F")
Pair = (
    tuple[TableKey, TableFacts | None, TableFacts | None]
    | tuple[ColumnKey, ColumnFacts | None, ColumnFacts | None]
)
"""A table or column with its facts before and after; None: it is not there. One of the two always is."""


@dataclass
class _Columns:
    """The columns of one table that differ."""

    before: dict[str, ColumnFacts] = field(default_factory=dict)
    after: dict[str, ColumnFacts] = field(default_factory=dict)


def differences(pairs: Iterable[Pair]) -> list[Change]:
    """The changes of tables and columns, by source, schema, table and column.

    What is the same may be left out of `pairs`, and their order does not matter. Of a table that is gone or new all
    columns have to be there, for its columns tell whether it was renamed. They make no changes of their own.
    """
    tables: dict[TableKey, tuple[TableFacts | None, TableFacts | None]] = {}
    columns: dict[TableKey, _Columns] = defaultdict(_Columns)
    for where, before, after in pairs:
        if isinstance(where, ColumnKey):
            of_table = columns[TableKey(where.source, where.schema, where.table)]
            if isinstance(before, ColumnFacts):
                of_table.before[where.column] = before
            if isinstance(after, ColumnFacts):
                of_table.after[where.column] = after
        else:
            tables[where] = (
                before if isinstance(before, TableFacts) else None,
                after if isinstance(after, TableFacts) else None,
            )
    gone = {
        where: renames.Table(old, columns[where].before)
        for where, (old, new) in tables.items()
        if old and not new
    }
    came = {
        where: renames.Table(new, columns[where].after)
        for where, (old, new) in tables.items()
        if new and not old
    }
    changes = []
    for renamed in renames.tables(gone, came):
        old, new = gone.pop(renamed.before), came.pop(renamed.after)
        del tables[renamed.before], tables[renamed.after], columns[renamed.after]
        changes.append(_renamed(TABLE_RULES, "table_renamed", renamed, ".".join, renamed.before))
        tables[renamed.before] = (old.facts, new.facts)
        columns[renamed.before] = _Columns(dict(old.columns), dict(new.columns))
    for where, (before_table, after_table) in tables.items():
        changes += _judged(TABLE_RULES, ".".join(where), before_table, after_table, where)
    for where, differing in columns.items():
        if where not in gone and where not in came:
            changes += _column_changes(where, differing)
    order = [*(rule.id for rule in TABLE_RULES), *(rule.id for rule in COLUMN_RULES)]
    return sorted(
        changes, key=lambda change: (change.table or (), change.column or "", order.index(change.rule))
    )


def source_differences(removed: Iterable[str]) -> list[Change]:
    """One change for each source that is no longer configured; its tables and columns make none of their own."""
    rule = _rule(SOURCE_RULES, "source_removed")
    return [
        _changed(rule, f"source {name}", None, None, "no longer in dataface.yml", TableKey(name, "", ""))
        for name in removed
    ]


def _column_changes(where: TableKey, columns: _Columns) -> list[Change]:
    gone = {name: facts for name, facts in columns.before.items() if name not in columns.after}
    came = {name: facts for name, facts in columns.after.items() if name not in columns.before}
    pairs = {name: (facts, columns.after.get(name)) for name, facts in columns.before.items()}
    changes = []
    renamed_to = set()
    for renamed in renames.columns(gone, came):
        renamed_to.add(renamed.after)
        pairs[renamed.before] = (gone[renamed.before], came[renamed.after])
        changes.append(
            _renamed(
                COLUMN_RULES,
                "column_renamed",
                renamed,
                lambda name: ".".join((*where, name)),
                where,
                renamed.before,
            )
        )
    for name, (before, after) in pairs.items():
        changes += _judged(COLUMN_RULES, ".".join((*where, name)), before, after, where, name)
    for name in came.keys() - renamed_to:
        changes += _judged(COLUMN_RULES, ".".join((*where, name)), None, came[name], where, name)
    return changes


def tool_differences(before: Mapping[str, ToolFacts], after: Mapping[str, ToolFacts]) -> list[Change]:
    """The changes of MCP tools, by name, argument and field; `before` and `after` are whole lists of tools."""
    changes = []
    for name, new_name, evidence in _paired(before, after, renames.tools):
        old, new = before.get(name), after.get(new_name)
        what = f"tool {name}"
        if evidence:
            changes.append(_changed(_rule(TOOL_RULES, "tool_renamed"), what, name, new_name, evidence))
        changes += _judged(TOOL_RULES, what, old, new)
        if old is None or new is None:
            continue
        changes += _property_changes(INPUT_RULES, f"{what}: input", old.input_schema, new.input_schema)
        if old.output_schema is not None and new.output_schema is not None:
            changes += _property_changes(
                OUTPUT_RULES, f"{what}: output", old.output_schema, new.output_schema
            )
    return changes


def resource_differences(
    before: Mapping[str, ResourceFacts], after: Mapping[str, ResourceFacts]
) -> list[Change]:
    """The changes of MCP resources and templates, by address; `before` and `after` are whole lists of them."""
    changes = []
    for name, new_name, evidence in _paired(before, after, renames.resources):
        what = f"resource {name}"
        if evidence:
            changes.append(
                _changed(_rule(RESOURCE_RULES, "resource_renamed"), what, name, new_name, evidence)
            )
        changes += _judged(RESOURCE_RULES, what, before.get(name), after.get(new_name))
    return changes


def _paired(
    before: Mapping[str, F],
    after: Mapping[str, F],
    renamed: Callable[[Mapping[str, F], Mapping[str, F]], list[renames.Rename[str]]],
) -> list[tuple[str, str, str]]:
    """The name before, the name after, and what speaks for a rename, by name; one that is gone or new has one name."""
    gone = {name: facts for name, facts in before.items() if name not in after}
    came = {name: facts for name, facts in after.items() if name not in before}
    found = renamed(gone, came)
    pairs = {name: (name, name, "") for name in (*before, *after)}
    for each in found:
        del pairs[each.after]
        pairs[each.before] = (each.before, each.after, each.evidence)
    return [pairs[name] for name in sorted(pairs)]


def _property_changes(
    rules: tuple[Rule[Property], ...], what: str, before: Mapping[str, object], after: Mapping[str, object]
) -> list[Change]:
    (old, old_others), (new, new_others) = properties(before), properties(after)
    names = old.keys() | new.keys()
    if names != old.keys() & new.keys() and compare(before, after).verdict == "equal":
        names = old.keys() & new.keys()  # the others are said elsewhere in the schema
    changes = _judged(rules, what, old_others, new_others)
    for name in sorted(names):
        changes += _judged(rules, f"{what}.{name}", old.get(name, old_others), new.get(name, new_others))
    return changes


def _judged(
    rules: Iterable[Rule[F]],
    what: str,
    before: F | None,
    after: F | None,
    table: TableKey | None = None,
    column: str | None = None,
) -> list[Change]:
    """What the rules say of one object."""
    return [
        _changed(
            rule,
            what,
            None if before is None else rule.shows(before),
            None if after is None else rule.shows(after),
            "" if before is None or after is None else rule.example(before, after),
            table,
            column,
        )
        for rule in rules
        if rule.fires(before, after)
    ]


def _renamed(
    rules: Iterable[Rule[F]],
    rule: str,
    renamed: renames.Rename[renames.K],
    said: Callable[[renames.K], str],
    table: TableKey,
    column: str | None = None,
) -> Change:
    before, after = said(renamed.before), said(renamed.after)
    return _changed(_rule(rules, rule), before, before, after, renamed.evidence, table, column)


def _rule(rules: Iterable[Rule[F]], name: str) -> Rule[F]:
    return next(rule for rule in rules if rule.id == name)


def _changed(
    rule: Rule[F],
    what: str,
    before: str | None,
    after: str | None,
    evidence: str = "",
    table: TableKey | None = None,
    column: str | None = None,
) -> Change:
    return Change(
        rule.id, rule.level, rule.direction, rule.perspective, what, before, after, table, column, evidence
    )
