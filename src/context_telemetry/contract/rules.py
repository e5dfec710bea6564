"""The rules for tables and columns, one row each: when it fires, how bad that is, and for whom.

To add a rule, add a row to `TABLE_RULES` or `COLUMN_RULES`, and its change and healthy twin to `tests/contract/
test_rules.py`. A rule sees one object before and after; that two objects are one under another name is told by
`renames`. The words are those of datacontract-cli, the differences to it are in `docs/contract-rules.md`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from context_telemetry.contract import column_types
from context_telemetry.contract.model import ColumnFacts, Direction, Level, Perspective, TableFacts

F = TypeVar("F")
When = Callable[[F | None, F | None], bool]


@dataclass(frozen=True)
class Rule(Generic[F]):
    """One row: the change of an object that it is about, and what that means.

    ``when`` gets the facts before and after; None is an object that is not there. One of the two always is.
    ``shows`` says the fact that it is about, of either side; None where there is nothing to show.
    """

    id: str
    level: Level
    direction: Direction
    perspective: Perspective
    means: str
    """One sentence: what happened, and what whom it concerns notices."""
    when: When[F]
    shows: Callable[[F], str | None] = lambda _facts: None
    example: Callable[[F, F], str] = lambda _before, _after: ""
    """What proves it, of a schema: a value that is refused now."""

    def fires(self, before: F | None, after: F | None) -> bool:
        return self.when(before, after)


def gone(before: object | None, after: object | None) -> bool:
    """It was there and is not."""
    return before is not None and after is None


def came(before: object | None, after: object | None) -> bool:
    """It is there and was not."""
    return before is None and after is not None


def never(before: object | None, after: object | None) -> bool:
    """Of a change that is told from two objects: `renames` finds it."""
    return False


def both(condition: Callable[[F, F], bool]) -> When[F]:
    """The condition, of an object that was there and is."""
    return lambda before, after: before is not None and after is not None and condition(before, after)


def switched(fact: Callable[[F], bool | None], on: bool) -> When[F]:
    """The fact was known to be the contrary and is now known to be `on`."""
    return both(lambda before, after: fact(before) is (not on) and fact(after) is on)


def differs(fact: Callable[[F], str | None]) -> When[F]:
    """The fact is known on both sides, and another."""
    return both(lambda before, after: len({fact(before), fact(after), None}) == 3)


def _became_empty(values: Callable[[F], tuple[str, ...] | str | None]) -> When[F]:
    """It said something and is known to say nothing any more."""
    return both(lambda before, after: bool(values(before)) and values(after) in ((), ""))


def _was_empty(values: Callable[[F], tuple[str, ...] | str | None]) -> When[F]:
    """It was known to say nothing, and says something."""
    return both(lambda before, after: values(before) in ((), "") and bool(values(after)))


def _both_differ(values: Callable[[F], tuple[str, ...] | str | None]) -> When[F]:
    """Both sides say something, and not the same."""
    return both(
        lambda before, after: bool(values(before)) and bool(values(after)) and values(before) != values(after)
    )


# --- tables


def _older(before: TableFacts, after: TableFacts) -> bool:
    """The data may be older than it might have been."""
    promised, promises = before.freshness_seconds, after.freshness_seconds
    return promised is not None and promises is not None and promised < promises


def _said(value: bool | None, yes: str, no: str) -> str | None:
    return None if value is None else yes if value else no


def _listed(values: Iterable[str] | None) -> str | None:
    return None if values is None else ", ".join(values) or "none"


def _age(facts: TableFacts) -> str | None:
    if facts.freshness_seconds is None:
        return None
    return "no promise" if math.isinf(facts.freshness_seconds) else f"{facts.freshness_seconds:g} s"


SOURCE_RULES: tuple[Rule[str], ...] = (
    Rule(
        id="source_removed",
        level="breaking",
        direction="loosens",
        perspective="consumer",
        means="The source is no longer in `dataface.yml`: every query of it fails.",
        when=gone,
    ),
)

TABLE_RULES: tuple[Rule[TableFacts], ...] = (
    Rule(
        id="table_removed",
        level="breaking",
        direction="loosens",
        perspective="consumer",
        means="The table is gone: every query that reads it fails.",
        when=gone,
    ),
    Rule(
        id="table_renamed",
        level="breaking",
        direction="neither",
        perspective="consumer",
        means="The table has another name or schema: every query that reads it under the old one fails.",
        when=never,
    ),
    Rule(
        id="table_added",
        level="info",
        direction="tightens",
        perspective="consumer",
        means="The table is new: nobody relies on it yet.",
        when=came,
    ),
    Rule(
        id="table_kind_changed",
        level="info",
        direction="neither",
        perspective="consumer",
        means="A view became a table or the reverse: queries give the same, at another cost and with another age.",
        when=differs(lambda facts: facts.kind),
        shows=lambda facts: facts.kind,
    ),
    Rule(
        id="model_changed",
        level="info",
        direction="neither",
        perspective="consumer",
        means="Another dbt node makes the table: what it serves is judged by the other rules.",
        when=differs(lambda facts: facts.model),
        shows=lambda facts: facts.model,
    ),
    Rule(
        id="grain_removed",
        level="breaking",
        direction="loosens",
        perspective="consumer",
        means="Nothing says any more what makes a row unique: joins and sums may count rows twice.",
        when=_became_empty(lambda facts: facts.grain),
        shows=lambda facts: _listed(facts.grain),
    ),
    Rule(
        id="grain_changed",
        level="breaking",
        direction="neither",
        perspective="consumer",
        means="A row stands for something else than before: joins and sums give other numbers.",
        when=_both_differ(lambda facts: facts.grain and tuple(sorted(facts.grain))),
        shows=lambda facts: _listed(facts.grain),
    ),
    Rule(
        id="grain_added",
        level="info",
        direction="tightens",
        perspective="producer",
        means="What makes a row unique is said now: who fills the table has to keep to it.",
        when=_was_empty(lambda facts: facts.grain),
        shows=lambda facts: _listed(facts.grain),
    ),
    Rule(
        id="enforcement_removed",
        level="breaking",
        direction="loosens",
        perspective="consumer",
        means="dbt no longer enforces the model's contract: its next build may drop or retype a column.",
        when=switched(lambda facts: facts.enforced, on=False),
        shows=lambda facts: _said(facts.enforced, "enforced", "not enforced"),
    ),
    Rule(
        id="enforcement_added",
        level="info",
        direction="tightens",
        perspective="producer",
        means="dbt enforces the model's contract now: a build that breaks it fails.",
        when=switched(lambda facts: facts.enforced, on=True),
        shows=lambda facts: _said(facts.enforced, "enforced", "not enforced"),
    ),
    Rule(
        id="freshness_loosened",
        level="breaking",
        direction="loosens",
        perspective="consumer",
        means="The data may be older than was promised, or nothing is promised any more.",
        when=both(_older),
        shows=_age,
    ),
    Rule(
        id="freshness_tightened",
        level="info",
        direction="tightens",
        perspective="producer",
        means="The data is promised to be fresher: who loads it has less time.",
        when=both(lambda before, after: _older(after, before)),
        shows=_age,
    ),
    Rule(
        id="table_description_removed",
        level="warning",
        direction="loosens",
        perspective="consumer",
        means="The table is no longer described: agents choose tables by their descriptions.",
        when=switched(lambda facts: facts.described, on=False),
        shows=lambda facts: _said(facts.described, "described", "not described"),
    ),
    Rule(
        id="table_description_added",
        level="info",
        direction="tightens",
        perspective="consumer",
        means="The table is described now.",
        when=switched(lambda facts: facts.described, on=True),
        shows=lambda facts: _said(facts.described, "described", "not described"),
    ),
    Rule(
        id="owner_changed",
        level="info",
        direction="neither",
        perspective="consumer",
        means="Another owner answers for the table: alerts of it go there.",
        when=differs(lambda facts: facts.owner),
        shows=lambda facts: facts.owner,
    ),
)


# --- columns


def _retyped(how: column_types.Comparison) -> When[ColumnFacts]:
    """By what the warehouse serves; where that is not known, by what the manifest declares."""

    def compared(before: ColumnFacts, after: ColumnFacts) -> bool:
        if before.type is not None and after.type is not None:
            return column_types.compare(before.type, after.type) == how
        if before.declared_type is not None and after.declared_type is not None:
            return column_types.compare(before.declared_type, after.declared_type) == how
        return False

    return both(compared)


def _shown_type(facts: ColumnFacts) -> str | None:
    return facts.type if facts.type is not None else facts.declared_type


def _redeclared(before: ColumnFacts, after: ColumnFacts) -> bool:
    """Another declaration beside a served type: where none is served, the rules above judge the declaration."""
    served = before.type is not None and after.type is not None
    if not served or before.declared_type is None or after.declared_type is None:
        return False
    return column_types.compare(before.declared_type, after.declared_type) != "equal"


def _drifted(before: ColumnFacts | None, after: ColumnFacts | None) -> bool:
    return after is not None and _off(after) and not (before is not None and _off(before))


def _off(facts: ColumnFacts) -> bool:
    if facts.type is None or facts.declared_type is None:
        return False
    return column_types.contradicts(facts.declared_type, facts.type)


def _not_null_removed(before: ColumnFacts, after: ColumnFacts) -> bool:
    """The test went, and the warehouse does not hold it either; that it let go now is `required_removed`."""
    let_go = before.nullable is False and after.nullable is True
    return before.not_null is True and after.not_null is False and after.nullable is not False and not let_go


def _is_key(facts: ColumnFacts) -> bool | None:
    return None if facts.key is None else facts.key != "none"


def _unique_removed(before: ColumnFacts, after: ColumnFacts) -> bool:
    if before.key == "primary" and after.key == "none":
        return False  # `primary_key_removed` says it
    key_went = before.key == "unique" and after.key == "none" and after.unique is not True
    test_went = before.unique is True and after.unique is False and _is_key(after) is not True
    return key_went or test_went


def _unique_added(before: ColumnFacts, after: ColumnFacts) -> bool:
    key_came = before.key == "none" and after.key == "unique" and before.unique is not True
    test_came = before.unique is False and after.unique is True and _is_key(before) is not True
    return key_came or test_came


def _shown_unique(facts: ColumnFacts) -> str | None:
    if _is_key(facts) or facts.unique:
        return "unique"
    return None if _is_key(facts) is None and facts.unique is None else "not unique"


def _values(came_some: bool, went_some: bool) -> When[ColumnFacts]:
    """Both sides list values; by whether some came and some went."""

    def compared(before: ColumnFacts, after: ColumnFacts) -> bool:
        if not before.accepted_values or not after.accepted_values:
            return False
        old, new = set(before.accepted_values), set(after.accepted_values)
        return bool(new - old) is came_some and bool(old - new) is went_some

    return both(compared)


def _bounds(looser: bool, tighter: bool) -> When[ColumnFacts]:
    """By whether a bound lets more through now, and whether one lets less."""

    def compared(before: ColumnFacts, after: ColumnFacts) -> bool:
        moved = []
        if before.minimum is not None and after.minimum is not None:
            moved.append((before.minimum > after.minimum, before.minimum < after.minimum))
        if before.maximum is not None and after.maximum is not None:
            moved.append((before.maximum < after.maximum, before.maximum > after.maximum))
        return any(up for up, _ in moved) is looser and any(down for _, down in moved) is tighter

    return both(compared)


def _shown_bounds(facts: ColumnFacts) -> str | None:
    if facts.minimum is None and facts.maximum is None:
        return None
    ends = [
        "?" if end is None else "any" if math.isinf(end) else f"{end:g}"
        for end in (facts.minimum, facts.maximum)
    ]
    return " to ".join(ends)


COLUMN_RULES: tuple[Rule[ColumnFacts], ...] = (
    Rule(
        id="column_removed",
        level="breaking",
        direction="loosens",
        perspective="consumer",
        means="The column is gone: every query that reads it fails.",
        when=gone,
        shows=_shown_type,
    ),
    Rule(
        id="column_renamed",
        level="breaking",
        direction="neither",
        perspective="consumer",
        means="The column has another name: every query that reads it under the old one fails.",
        when=never,
    ),
    Rule(
        id="column_added",
        level="info",
        direction="tightens",
        perspective="consumer",
        means="The column is new: nobody relies on it yet.",
        when=lambda before, after: came(before, after) and after is not None and after.nullable is not False,
        shows=_shown_type,
    ),
    Rule(
        id="required_column_added",
        level="warning",
        direction="tightens",
        perspective="producer",
        means="The column is new and takes no NULL: who inserts rows without it is refused.",
        when=lambda before, after: came(before, after) and after is not None and after.nullable is False,
        shows=_shown_type,
    ),
    Rule(
        id="type_changed",
        level="breaking",
        direction="neither",
        perspective="consumer",
        means="The column has another type: comparisons, sums and formats on it fail or give something else.",
        when=_retyped("changed"),
        shows=_shown_type,
    ),
    Rule(
        id="type_narrowed",
        level="breaking",
        direction="tightens",
        perspective="consumer",
        means="The type holds fewer values than before: those that do not fit are cut, or fail to load.",
        when=_retyped("narrower"),
        shows=_shown_type,
    ),
    Rule(
        id="type_widened",
        level="warning",
        direction="loosens",
        perspective="consumer",
        means="The type holds all that it held and more: queries go on, a reader with a fixed size may overflow.",
        when=_retyped("wider"),
        shows=_shown_type,
    ),
    Rule(
        id="declared_type_changed",
        level="warning",
        direction="neither",
        perspective="consumer",
        means="The manifest declares another type than before: agents read the declaration, not the warehouse.",
        when=both(_redeclared),
        shows=lambda facts: facts.declared_type,
    ),
    Rule(
        id="type_not_as_declared",
        level="warning",
        direction="neither",
        perspective="consumer",
        means="The warehouse serves another kind of type than the manifest declares, and did not before.",
        when=_drifted,
        shows=lambda facts: f"{facts.type}, declared {facts.declared_type}",
    ),
    Rule(
        id="required_removed",
        level="breaking",
        direction="loosens",
        perspective="consumer",
        means="The warehouse lets the column be NULL now: joins drop rows and averages shift.",
        when=both(
            lambda before, after: (
                before.nullable is False and after.nullable is True and after.not_null is not True
            )
        ),
        shows=lambda facts: _said(facts.nullable, "nullable", "required"),
    ),
    Rule(
        id="required_added",
        level="warning",
        direction="tightens",
        perspective="producer",
        means="The warehouse takes no NULL any more: who writes one is refused.",
        when=switched(lambda facts: facts.nullable, on=False),
        shows=lambda facts: _said(facts.nullable, "nullable", "required"),
    ),
    Rule(
        id="not_null_removed",
        level="breaking",
        direction="loosens",
        perspective="consumer",
        means="No test holds the column free of NULL any more, nor does the warehouse.",
        when=both(_not_null_removed),
        shows=lambda facts: _said(facts.not_null, "tested not null", "not tested"),
    ),
    Rule(
        id="not_null_added",
        level="info",
        direction="tightens",
        perspective="producer",
        means="A test holds the column free of NULL: who fills it has to.",
        when=switched(lambda facts: facts.not_null, on=True),
        shows=lambda facts: _said(facts.not_null, "tested not null", "not tested"),
    ),
    Rule(
        id="primary_key_removed",
        level="breaking",
        direction="loosens",
        perspective="consumer",
        means="The column is no longer in the primary key: joins on it may give rows twice.",
        when=both(lambda before, after: before.key == "primary" and after.key in ("unique", "none")),
        shows=lambda facts: facts.key,
    ),
    Rule(
        id="primary_key_added",
        level="info",
        direction="tightens",
        perspective="producer",
        means="The column is in the primary key now: who writes a value twice is refused.",
        when=both(lambda before, after: before.key in ("unique", "none") and after.key == "primary"),
        shows=lambda facts: facts.key,
    ),
    Rule(
        id="unique_removed",
        level="breaking",
        direction="loosens",
        perspective="consumer",
        means="Neither a constraint nor a test holds the values unique any more: joins may give rows twice.",
        when=both(_unique_removed),
        shows=_shown_unique,
    ),
    Rule(
        id="unique_added",
        level="info",
        direction="tightens",
        perspective="producer",
        means="The values are held unique now: who writes one twice is refused, or fails a test.",
        when=both(_unique_added),
        shows=_shown_unique,
    ),
    Rule(
        id="accepted_values_removed",
        level="breaking",
        direction="loosens",
        perspective="consumer",
        means="Nothing lists the accepted values any more: a filter or legend that names them may miss some.",
        when=_became_empty(lambda facts: facts.accepted_values),
        shows=lambda facts: _listed(facts.accepted_values),
    ),
    Rule(
        id="accepted_values_loosened",
        level="breaking",
        direction="loosens",
        perspective="consumer",
        means="New values are accepted: a filter, a CASE or a legend that names the old ones misses them.",
        when=_values(came_some=True, went_some=False),
        shows=lambda facts: _listed(facts.accepted_values),
    ),
    Rule(
        id="accepted_values_changed",
        level="breaking",
        direction="neither",
        perspective="consumer",
        means="Some values are accepted no more and others are: what names the old ones misses both.",
        when=_values(came_some=True, went_some=True),
        shows=lambda facts: _listed(facts.accepted_values),
    ),
    Rule(
        id="accepted_values_tightened",
        level="warning",
        direction="tightens",
        perspective="consumer",
        means="Some values are accepted no more: a filter that names one finds nothing.",
        when=_values(came_some=False, went_some=True),
        shows=lambda facts: _listed(facts.accepted_values),
    ),
    Rule(
        id="accepted_values_added",
        level="info",
        direction="tightens",
        perspective="producer",
        means="The accepted values are listed now: who writes another fails a test.",
        when=_was_empty(lambda facts: facts.accepted_values),
        shows=lambda facts: _listed(facts.accepted_values),
    ),
    Rule(
        id="bounds_loosened",
        level="breaking",
        direction="loosens",
        perspective="consumer",
        means="Values beyond the former bounds are allowed: scales, thresholds and CASEs were made for less.",
        when=_bounds(looser=True, tighter=False),
        shows=_shown_bounds,
    ),
    Rule(
        id="bounds_changed",
        level="breaking",
        direction="neither",
        perspective="consumer",
        means="The range of the values moved: some are allowed that were not, and the reverse.",
        when=_bounds(looser=True, tighter=True),
        shows=_shown_bounds,
    ),
    Rule(
        id="bounds_tightened",
        level="info",
        direction="tightens",
        perspective="producer",
        means="Fewer values are allowed: who writes one beyond the bounds fails a test.",
        when=_bounds(looser=False, tighter=True),
        shows=_shown_bounds,
    ),
    Rule(
        id="relationship_removed",
        level="breaking",
        direction="loosens",
        perspective="consumer",
        means="Nothing holds that the column points to a row of another table: joins may lose rows.",
        when=_became_empty(lambda facts: facts.references),
        shows=lambda facts: facts.references or "none",
    ),
    Rule(
        id="relationship_changed",
        level="breaking",
        direction="neither",
        perspective="consumer",
        means="The column points to another table or column: joins on the old one match other rows.",
        when=_both_differ(lambda facts: facts.references),
        shows=lambda facts: facts.references,
    ),
    Rule(
        id="relationship_added",
        level="info",
        direction="tightens",
        perspective="producer",
        means="The column is held to point to a row of another table.",
        when=_was_empty(lambda facts: facts.references),
        shows=lambda facts: facts.references or "none",
    ),
    Rule(
        id="unit_changed",
        level="breaking",
        direction="neither",
        perspective="consumer",
        means="The numbers are in another unit: the same query gives another answer without an error.",
        when=_both_differ(lambda facts: facts.unit),
        shows=lambda facts: facts.unit,
    ),
    Rule(
        id="timezone_changed",
        level="breaking",
        direction="neither",
        perspective="consumer",
        means="The times are in another time zone: days and hours hold other rows.",
        when=_both_differ(lambda facts: facts.timezone),
        shows=lambda facts: facts.timezone,
    ),
    Rule(
        id="expression_changed",
        level="breaking",
        direction="neither",
        perspective="consumer",
        means="The metric or measure is computed in another way: the same name stands for another number.",
        when=_both_differ(lambda facts: facts.expression),
        shows=lambda facts: facts.expression,
    ),
    Rule(
        id="column_description_removed",
        level="warning",
        direction="loosens",
        perspective="consumer",
        means="The column is no longer described: agents choose columns by their descriptions.",
        when=switched(lambda facts: facts.described, on=False),
        shows=lambda facts: _said(facts.described, "described", "not described"),
    ),
    Rule(
        id="column_description_added",
        level="info",
        direction="tightens",
        perspective="consumer",
        means="The column is described now.",
        when=switched(lambda facts: facts.described, on=True),
        shows=lambda facts: _said(facts.described, "described", "not described"),
    ),
)
