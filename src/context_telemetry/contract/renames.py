"""Tells that what is gone and what came are one object under another name, on strong evidence, and says which.

A name alone is never enough, nor is a type: two clues at least have to agree, and no other pair may be as likely.
To add a clue, add a row to the table of its kind. A rename that is missed is still told, as gone and as new.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Generic, TypeVar

from context_telemetry.contract import column_types
from context_telemetry.contract.json_schema import bare
from context_telemetry.contract.json_schema.nodes import key
from context_telemetry.contract.model import ColumnFacts, ResourceFacts, TableFacts, TableKey, ToolFacts

K = TypeVar("K", bound=Hashable)
F = TypeVar("F")

ENOUGH = 2
"""Clues that have to agree."""
SAME_COLUMNS = 0.8
"""Of all columns of two tables, how many have to be in both with one type."""
FEWEST_COLUMNS = 3
"""Below this, equal columns are no clue: many tables have an id and a name."""
MOST_ALIKE = 100
"""Tables that look the same; beyond this none of them is told from the others."""
MOST_PAIRS = 10_000
"""Pairs of tables that are all looked at; beyond this only those that share their node, name or columns are."""
_ALIKE = 0.8
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


@dataclass(frozen=True)
class Rename(Generic[K]):
    """One object under two names, and what speaks for it."""

    before: K
    after: K
    evidence: str


@dataclass(frozen=True)
class Clue(Generic[F]):
    """One thing that two objects can have in common, in words, and whether they do."""

    words: str
    holds: Callable[[str, F, str, F], bool]
    """Gets the name and the facts of either."""
    counts: int = 1


@dataclass(frozen=True)
class Table:
    """A table with its columns, all of them, as far as they are known."""

    facts: TableFacts
    columns: Mapping[str, ColumnFacts] = field(default_factory=dict)


def _equal(fact: Callable[[F], object]) -> Callable[[str, F, str, F], bool]:
    """The fact is known, not empty, and the same."""
    return lambda _old, before, _new, after: bool(fact(before)) and fact(before) == fact(after)


def _similar(old: str, _before: object, new: str, _after: object) -> bool:
    return similar(old, new)


def _arguments(facts: ToolFacts) -> str:
    """What the tool takes; empty where it takes nothing, as many tools do."""
    return key(bare(facts.input_schema)) if facts.input_schema.get("properties") else ""


COLUMN_CLUES: tuple[Clue[ColumnFacts], ...] = (
    Clue("same position", _equal(lambda facts: facts.position)),
    Clue("similar name", _similar),
    Clue("same accepted values", _equal(lambda facts: facts.accepted_values)),
    Clue("same relationship", _equal(lambda facts: facts.references)),
    Clue("same key", _equal(lambda facts: facts.key if facts.key != "none" else None)),
    Clue("both tested unique", _equal(lambda facts: facts.unique)),
    Clue("same expression", _equal(lambda facts: facts.expression)),
)
"""Of two columns of one type, in one table."""

TABLE_CLUES: tuple[Clue[Table], ...] = (
    Clue("made by the same dbt node", _equal(lambda table: table.facts.model), counts=ENOUGH),
    Clue("similar name", _similar),
    Clue(
        "all columns the same",
        lambda _old, before, _new, after: (
            len(before.columns) >= FEWEST_COLUMNS and _shared(before, after) == _every(before, after)
        ),
    ),
    Clue("same grain", _equal(lambda table: table.facts.grain)),
)
"""Of two tables of one source with nearly the same columns."""

TOOL_CLUES: tuple[Clue[ToolFacts], ...] = (
    Clue(
        "same arguments",
        _equal(_arguments),
    ),
    Clue("same description", _equal(lambda facts: facts.description)),
    Clue("similar name", _similar),
)

RESOURCE_CLUES: tuple[Clue[ResourceFacts], ...] = (
    Clue("same description", _equal(lambda facts: facts.description)),
    Clue("similar address", _similar),
)


def columns(gone: Mapping[str, ColumnFacts], came: Mapping[str, ColumnFacts]) -> list[Rename[str]]:
    """The columns of one table that have another name, in the order of the old names."""

    def judge(old: str, new: str) -> tuple[int, str]:
        before, after = gone[old], came[new]
        types = (before.type or before.declared_type, after.type or after.declared_type)
        if types[0] is None or types[1] is None or column_types.compare(types[0], types[1]) != "equal":
            return 0, ""
        return _weigh(COLUMN_CLUES, (old, before), (new, after), ["same type"])

    return _matched(((old, new) for old in gone for new in came), judge)


def tables(gone: Mapping[TableKey, Table], came: Mapping[TableKey, Table]) -> list[Rename[TableKey]]:
    """The tables that have another name or schema, within one source, in the order of the old names."""

    def judge(old: TableKey, new: TableKey) -> tuple[int, str]:
        before, after = gone[old], came[new]
        every, shared = _every(before, after), _shared(before, after)
        if old.source != new.source or not every or shared < SAME_COLUMNS * every:
            return 0, ""
        return _weigh(
            TABLE_CLUES, (old.table, before), (new.table, after), [f"{shared} of {every} columns the same"]
        )

    return _matched(_likely(gone, came), judge)


def tools(gone: Mapping[str, ToolFacts], came: Mapping[str, ToolFacts]) -> list[Rename[str]]:
    """The tools that have another name, in the order of the old names."""
    return _matched(
        ((old, new) for old in gone for new in came),
        lambda old, new: _weigh(TOOL_CLUES, (old, gone[old]), (new, came[new])),
    )


def resources(gone: Mapping[str, ResourceFacts], came: Mapping[str, ResourceFacts]) -> list[Rename[str]]:
    """The resources that have another address, in the order of the old ones."""
    return _matched(
        ((old, new) for old in gone for new in came),
        lambda old, new: _weigh(RESOURCE_CLUES, (old, gone[old]), (new, came[new])),
    )


def similar(old: str, new: str) -> bool:
    """Whether the words of one name are among those of the other, or are the same but for abbreviation or spelling.

    `revenue` and `revenue_usd`, `cust_id` and `customerId` are; `created_at` and `updated_at` are not. Names that
    differ in their numbers only are members of a series, `events_2025` and `events_2026`: none is the other.
    """
    words, others = _words(old), _words(new)
    if _without_numbers(words) == _without_numbers(others) and words != others:
        return False
    if set(words) <= set(others) or set(others) <= set(words):
        return bool(words and others)
    return len(words) == len(others) and all(map(_alike, words, others))


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(name)]


def _without_numbers(words: list[str]) -> list[str]:
    return [word for word in words if not word.isdigit()]


def _alike(word: str, other: str) -> bool:
    shorter, longer = sorted((word, other), key=len)
    if len(shorter) > 1 and longer.startswith(shorter):
        return True
    return SequenceMatcher(None, word, other, autojunk=False).ratio() >= _ALIKE


def _shared(before: Table, after: Table) -> int:
    """How many columns are in both with one type."""
    return sum(
        1
        for name, facts in before.columns.items()
        if name in after.columns and _one_type(facts.type, after.columns[name].type)
    )


def _every(before: Table, after: Table) -> int:
    return len(before.columns.keys() | after.columns.keys())


def _one_type(before: str | None, after: str | None) -> bool:
    return before == after or (
        None not in (before, after) and column_types.compare(str(before), str(after)) == "equal"
    )


def _series(old: TableKey, new: TableKey) -> bool:
    words, others = _words(old.table), _words(new.table)
    return words != others and _without_numbers(words) == _without_numbers(others)


def _likely(
    gone: Mapping[TableKey, Table], came: Mapping[TableKey, Table]
) -> Iterable[tuple[TableKey, TableKey]]:
    """The pairs worth a look: all, or those that share something, so that a schema that moved takes no hours."""
    if len(gone) * len(came) <= MOST_PAIRS:
        pairs = {(old, new) for old in gone for new in came}
    else:
        sharing: dict[Hashable, list[TableKey]] = defaultdict(list)
        for new, table in came.items():
            for mark in _marks(new, table):
                sharing[mark].append(new)
        pairs = {
            (old, new)
            for old, table in gone.items()
            for mark in _marks(old, table)
            if len(sharing.get(mark, ())) <= MOST_ALIKE
            for new in sharing.get(mark, ())
        }
    return sorted(pair for pair in pairs if not _series(*pair))


def _marks(where: TableKey, table: Table) -> list[Hashable]:
    columns = frozenset((name, facts.type) for name, facts in table.columns.items())
    return [each for each in (table.facts.model, ("name", where.table), columns) if each]


def _weigh(
    clues: Iterable[Clue[F]], before: tuple[str, F], after: tuple[str, F], besides: Iterable[str] = ()
) -> tuple[int, str]:
    """How many clues agree, and which, in words; `besides` are those that had to."""
    agreeing = [clue for clue in clues if clue.holds(*before, *after)]
    return sum(clue.counts for clue in agreeing), ", ".join([*besides, *(clue.words for clue in agreeing)])


def _matched(pairs: Iterable[tuple[K, K]], judge: Callable[[K, K], tuple[int, str]]) -> list[Rename[K]]:
    """The pairs with enough clues, where neither is as likely to belong to another."""
    judged = {pair: judge(*pair) for pair in pairs}
    counts: dict[tuple[int, K], list[int]] = defaultdict(list)
    for (old, new), (count, _) in judged.items():
        counts[0, old].append(count)
        counts[1, new].append(count)
    return [
        Rename(old, new, evidence)
        for (old, new), (count, evidence) in judged.items()
        if count >= ENOUGH and _alone(count, counts[0, old]) and _alone(count, counts[1, new])
    ]


def _alone(count: int, counts: list[int]) -> bool:
    """Whether no other is as many."""
    return count == max(counts) and counts.count(count) == 1
