"""The accepted contract against what is served now: every change with who is hit, and which changes stay open.

A change is open when it is breaking, something in the contract relies on it, and no exception covers it today. It
reads nothing: both sides, and how often consumers were served, are handed in.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Final

from context_telemetry.contract.catalogue import Missing, Names, Pair, SourceState, changed
from context_telemetry.contract.consumers import uses as uses_of
from context_telemetry.contract.difference import (
    differences,
    resource_differences,
    source_differences,
    tool_differences,
)
from context_telemetry.contract.document import Excepted
from context_telemetry.contract.file import Accepted
from context_telemetry.contract.impact import NEW, Hit, Recorded, by_table, hits
from context_telemetry.contract.model import Change, Level, TableKey, UnknownUse, Use
from context_telemetry.contract.snapshot import Snapshot

_ORDER: Final[tuple[Level, ...]] = ("breaking", "warning", "info")


@dataclass(frozen=True)
class Judged:
    """One change, whom it hits, and the exception that covers it today."""

    change: Change
    hits: tuple[Hit, ...] = ()
    relied_on: bool = False
    exception: Excepted | None = None

    @property
    def open(self) -> bool:
        return self.change.level == "breaking" and self.relied_on and self.exception is None


@dataclass(frozen=True)
class Report:
    """What changed, worst and most used first, and what could not be told."""

    accepted: Accepted
    now: Snapshot
    changes: tuple[Judged, ...]
    unread: tuple[SourceState, ...]
    """Sources of which nothing is known now, and which were not left out when the contract was accepted; and those that
    may not be read where consumers read them."""
    left_out: tuple[SourceState, ...]
    """Sources that were left out then: nothing is compared of them."""
    missing: tuple[Missing, ...]
    """Declared and not served, not so when the contract was accepted, and explained by no change here."""
    unknown: tuple[UnknownUse, ...]
    """What consumers read now and could not be told, and is explained by no change here."""
    unreadable: tuple[UnknownUse, ...]
    """Faces that cannot be read now, and could when the contract was accepted: what they rely on may have changed."""
    over: tuple[Excepted, ...]
    """Exceptions whose last day is past."""
    unneeded: tuple[Excepted, ...]
    """Exceptions that cover no change."""
    tools_known: bool
    """Whether tools were compared: they were accepted, and somebody asked now."""

    @property
    def open(self) -> tuple[Judged, ...]:
        return tuple(each for each in self.changes if each.open)

    @property
    def exit_code(self) -> int:
        """1 open changes, 3 a source or a face is not known, 0 neither."""
        return 1 if self.open else 3 if self.unread or self.unreadable else 0


def judge(accepted: Accepted, now: Snapshot, today: date, recorded: Recorded | None = None) -> Report:
    """Both in the same connection of `catalogue.connect`; exceptions count up to ``today``."""
    contract = accepted.contract
    removed = _removed(accepted, now)
    found = [*source_differences(removed), *differences(_pairs(accepted, now, removed))]
    if contract.tools is not None and now.tools is not None:
        found += tool_differences(contract.tools, now.tools)
    if contract.resources is not None and now.resources is not None:
        found += resource_differences(contract.resources, now.resources)
    read = by_table(dict.fromkeys((*contract.uses, *_uses_now(accepted, now))))
    judged = [_judged(change, accepted, read, today, recorded) for change in found]
    states = {state.name: state for state in contract.sources}
    unread = [state for state in now.unread if state.name not in states or states[state.name].unread is None]
    unread += refused(now, contract.uses)
    covered = {(each.change.rule, each.change.object) for each in judged}
    hit = {
        (one.consumer, part)
        for each in judged
        if each.change.level == "breaking"
        for one in each.hits
        for part in one.parts
    }
    gone = {(each.change.table, each.change.column) for each in judged if each.change.level == "breaking"}
    known = {(each.table, each.column) for each in contract.missing} | gone
    return Report(
        accepted=accepted,
        now=now,
        changes=tuple(sorted(judged, key=_weight)),
        unread=tuple(unread),
        left_out=tuple(state for state in contract.sources if state.unread),
        missing=tuple(each for each in now.missing if (each.table, each.column) not in known),
        unknown=tuple(
            use for use in now.unknown if use not in contract.unknown and (use.consumer, use.part) not in hit
        ),
        unreadable=tuple(use for use in now.unreadable if use.consumer in contract.read),
        over=tuple(each for each in contract.exceptions if each.until < today),
        unneeded=tuple(each for each in contract.exceptions if (each.rule, each.object) not in covered),
        tools_known=contract.tools is not None and now.tools is not None,
    )


def refused(now: Snapshot, uses: Iterable[Use]) -> Iterator[SourceState]:
    """Sources that serve what is read, and not to whoever looked: what consumers get of it is not known."""
    found: dict[str, set[str]] = {}
    for use in uses:
        if use.table not in now.refused or use.how == "schema":  # that a table is listed needs no right
            continue
        columns = now.refused[use.table]
        table = ".".join((use.table.schema, use.table.table))
        if columns is None:
            found.setdefault(use.table.source, set()).add(table)
        elif read := columns if use.columns is None else columns & use.columns:
            found.setdefault(use.table.source, set()).update(f"{table}.{column}" for column in read)
    for state in now.catalogue.sources:
        if names := sorted(found.get(state.name, ())):
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            yield replace(state, unread=f"the role may not read {', '.join(names[:_NAMED])}{more}")


_NAMED: Final = 3


def _removed(accepted: Accepted, now: Snapshot) -> tuple[str, ...]:
    """Sources that the project does not name any more."""
    return tuple(
        state.name
        for state in accepted.contract.sources
        if not state.unread and now.configs.get(state.name) is None
    )


def _pairs(accepted: Accepted, now: Snapshot, removed: Collection[str]) -> Iterable[Pair]:
    """What differs; where only what is relied on is known, nothing can be called new."""
    for pair in changed(accepted.catalogue, now.catalogue):
        if pair[0].source not in removed and (accepted.whole or pair[1] is not None):
            yield pair


def _uses_now(accepted: Accepted, now: Snapshot) -> Iterable[Use]:
    """The uses of the faces as they are now, with the names that were accepted: also of what is gone since."""
    if not accepted.whole:
        return ()
    return uses_of(now.root, Names(accepted.catalogue), now.configs, now.declared).known


def _judged(
    change: Change,
    accepted: Accepted,
    read: Mapping[TableKey, Sequence[Use]],
    today: date,
    recorded: Recorded | None,
) -> Judged:
    contract = accepted.contract
    found = hits(change, read, contract.prompts, recorded)
    # What agents may call or read is there for all of them: every tool and resource of the contract is relied on.
    relied_on = bool(found) or (change.table is None and change.rule not in NEW)
    exception = next(
        (
            each
            for each in contract.exceptions
            if (each.rule, each.object) == (change.rule, change.object) and each.until >= today
        ),
        None,
    )
    return Judged(change, found, relied_on, exception)


def _weight(judged: Judged) -> tuple[int, bool, int, int, str, str]:
    served = sum(hit.served or 0 for hit in judged.hits)
    change = judged.change
    return (
        _ORDER.index(change.level),
        not judged.open,
        -served,
        -len(judged.hits),
        change.object,
        change.rule,
    )
