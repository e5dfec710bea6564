"""One comparison with the contract and the manifest, said as telemetry: events, and reasons on the health board.

It remembers what was said, so that each change is said once. What is not known now, because a source, the contract or
the manifest cannot be read, is neither opened nor closed. Nothing is compared here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry.util.types import AttributeValue

from context_telemetry.conventions import names
from context_telemetry.observe import board, recorder

if TYPE_CHECKING:
    from context_telemetry.contract.comparison import Comparison, Finding
    from context_telemetry.contract.model import Level

_SAID_AGAIN = 1800.0
"""Seconds after which the counts are said again: whoever reads them forgets what nobody says."""

# So many findings that hold are told to the board; so many that were said are remembered.
_MOST_HELD = 64
_MOST_REMEMBERED = 1024
_CONTRACT, _DRIFT = "contract_broken", "schema_drift"
_OPEN: Mapping[Level, str] = {
    "breaking": names.DATAFACE_CONTRACT_OPEN_BREAKING,
    "warning": names.DATAFACE_CONTRACT_OPEN_WARNING,
    "info": names.DATAFACE_CONTRACT_OPEN_INFO,
}


class _Key(NamedTuple):
    """By what one finding is the same as another one later."""

    reason: str
    rule: str
    object: str


class _Told(NamedTuple):
    """What was said of a finding, and the source without which nothing new is known of it."""

    level: Level
    consumers: int
    served: int | None
    source: str | None


class Said:
    """What was said of one project. Not thread-safe: one thread, or one process at a time, owns it.

    ``memory`` is what `memory` of an earlier process gave; anything else counts as nothing. ``watch`` names who tells
    the board; empty: nobody does, as where the process ends before anything could clear. The counts are said ``again``
    after so many seconds.
    """

    def __init__(
        self, memory: Mapping[str, Any] | None = None, *, watch: str = "", again: float = _SAID_AGAIN
    ) -> None:
        self._watch, self._again = watch, again
        self._counts, self._at, self._open = _remembered(memory)
        self._held: set[tuple[str, str]] = set()

    def memory(self) -> dict[str, Any]:
        """What has been said, as JSON can hold it."""
        return {
            "counts": self._counts,
            "at": self._at,
            "open": [[*key, *told] for key, told in self._open.items()],
        }

    def say(self, comparison: Comparison) -> None:
        """Say what is different from what was said before, and the counts again each half hour.

        Where there never was anything to compare with, nothing.
        """
        if self._counts is None and not _has_something(comparison):
            return
        found = {_Key(each.reason, each.rule, each.object): _told(each) for each in comparison.findings}
        unknown = {
            key: told
            for key, told in self._open.items()
            if key not in found and _is_unknown(key, told, comparison)
        }
        self._say_counts(comparison, unknown)
        for key, told in self._open.items():
            if key not in unknown and (key not in found or found[key].level != told.level):
                _changed(key, told, "closed")
        for key, told in found.items():
            if key not in self._open or self._open[key].level != told.level:
                _changed(key, told, "opened")
        self._open = dict([*found.items(), *unknown.items()][:_MOST_REMEMBERED])
        if self._watch:
            self._hold([(key.reason, key.object) for key, told in self._open.items() if _holds(key, told)])

    def leave(self) -> None:
        """Nobody compares any more: the board forgets what this held."""
        self._hold([])

    def _say_counts(self, comparison: Comparison, unknown: Mapping[_Key, _Told]) -> None:
        """With what was open in a source that cannot be read now; of a contract that was taken away, zeros once."""
        counts: dict[str, int] = {names.DATAFACE_CONTRACT_UNREAD: len(comparison.unread)}
        open_still = [
            _OPEN[told.level] if key.reason == _CONTRACT else names.DATAFACE_CONTRACT_DRIFT
            for key, told in unknown.items()
            if told.source in comparison.unread
        ]
        was_accepted = any((self._counts or {}).get(name) for name in _OPEN.values())
        if comparison.accepted or (was_accepted and comparison.problem is None):
            for level, name in _OPEN.items():
                counts[name] = comparison.open[level] + open_still.count(name)
        if comparison.drift is not None:
            counts[names.DATAFACE_CONTRACT_DRIFT] = comparison.drift + open_still.count(
                names.DATAFACE_CONTRACT_DRIFT
            )
        now = time.time()
        if counts == self._counts and abs(now - self._at) < self._again:
            return
        self._counts, self._at = counts, now
        recorder.event(names.EVENT_DATAFACE_CONTRACT_COMPARED, counts, warning=False)

    def _hold(self, holding: list[tuple[str, str]]) -> None:
        holds = set(list(dict.fromkeys(holding))[:_MOST_HELD])
        for reason, what in sorted(self._held - holds):
            board.told(reason, what, False, self._watch)
        for reason, what in sorted(holds - self._held):
            board.told(reason, what, True, self._watch)
        self._held = holds


def _has_something(comparison: Comparison) -> bool:
    """Whether there is a contract or a manifest, even one that cannot be read."""
    problems = (comparison.problem, comparison.manifest_problem)
    return comparison.accepted or comparison.drift is not None or problems != (None, None)


def _told(finding: Finding) -> _Told:
    source = finding.table.source if finding.table is not None else None
    return _Told(finding.level, finding.consumers, finding.served, source)


def _holds(key: _Key, told: _Told) -> bool:
    return key.reason == _DRIFT or told.level == "breaking"


def _is_unknown(key: _Key, told: _Told, comparison: Comparison) -> bool:
    """Whether a finding that is not there may still hold: it could not be looked for, or worse ones took its place."""
    from context_telemetry.contract.comparison import MOST

    if told.source in comparison.unread or len(comparison.findings) >= MOST:
        return True
    return (comparison.manifest_problem if key.reason == _DRIFT else comparison.problem) is not None


def _changed(key: _Key, told: _Told, state: str) -> None:
    attributes: dict[str, AttributeValue] = {
        names.DATAFACE_CONTRACT_RULE: key.rule,
        names.DATAFACE_CONTRACT_LEVEL: told.level,
        names.DATAFACE_CONTRACT_OBJECT: key.object,
        names.DATAFACE_CONTRACT_STATE: state,
        names.DATAFACE_DEGRADATION_REASON: key.reason,
        names.DATAFACE_CONTRACT_CONSUMERS: told.consumers,
    }
    if told.served is not None:
        attributes[names.DATAFACE_CONTRACT_SERVED] = told.served
    warning = state == "opened" and told.level == "breaking"
    recorder.event(names.EVENT_DATAFACE_CONTRACT_CHANGED, attributes, warning=warning)


def _remembered(
    memory: Mapping[str, Any] | None,
) -> tuple[dict[str, int] | None, float, dict[_Key, _Told]]:
    if memory is None:
        return None, 0.0, {}
    try:
        said = {_Key(*each[:3]): _Told(*each[3:]) for each in memory["open"]}
        return dict(memory["counts"]), float(memory["at"]), said
    except (KeyError, TypeError, ValueError):
        return None, 0.0, {}
