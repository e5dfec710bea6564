"""One comparison with the contract and the manifest, said as telemetry: events, and reasons on the health board.

It remembers what was said, so that each change is said once. What is not known now, because a source, the contract, the
manifest or the list of tools cannot be read, is neither opened nor closed, and nobody says that it is in order. Nothing
is compared here.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry.util.types import AttributeValue

from context_telemetry.conventions import names
from context_telemetry.observe import board, recorder

if TYPE_CHECKING:
    from context_telemetry.contract.comparison import Comparison, Finding, Part
    from context_telemetry.contract.model import Level

_SAID_AGAIN = 1790.0
"""Seconds after which the counts are said again: whoever reads them forgets what nobody says. A server that looks each
half hour says them each time."""

# So many findings that hold are told to the board; so many that were said are remembered.
_MOST_HELD = 64
_MOST_REMEMBERED = 1024
_CONTRACT, _DRIFT = "contract_broken", "schema_drift"
_PARTS: tuple[Part, ...] = ("tables", "tools")
_OPEN: Mapping[Level, str] = {
    "breaking": names.DATAFACE_CONTRACT_OPEN_BREAKING,
    "warning": names.DATAFACE_CONTRACT_OPEN_WARNING,
    "info": names.DATAFACE_CONTRACT_OPEN_INFO,
}

_Counts = dict[str, int]


class _Key(NamedTuple):
    """By what one finding is the same as another one later."""

    reason: str
    rule: str
    object: str


class _Difference(NamedTuple):
    """What is said of a finding, and by what it is known whether it was looked for."""

    level: Level
    part: Part
    source: str | None
    consumers: int
    served: int | None
    faces: tuple[str, ...]


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
            "counts": {part: dict(counts) for part, counts in self._counts.items()},
            "at": dict(self._at),
            "open": [[*key, *each[:-1], list(each.faces)] for key, each in self._open.items()],
        }

    def say(self, comparison: Comparison) -> None:
        """Say what is different from what was said before, and the counts again each half hour.

        Where there never was anything to compare with, nothing.
        """
        if not self._counts and not _has_something(comparison):
            return
        found = {_Key(each.reason, each.rule, each.object): _difference(each) for each in comparison.findings}
        unknown = {
            key: each
            for key, each in self._open.items()
            if key not in found and _is_unknown(key, each, comparison)
        }
        for part in _PARTS:
            self._say_counts(part, comparison, unknown)
        for key, each in self._open.items():
            if key not in unknown and (key not in found or found[key].level != each.level):
                _changed(key, each, "closed")
        for key, each in found.items():
            if key not in self._open or self._open[key].level != each.level:
                _changed(key, each, "opened")
        self._open = dict([*found.items(), *unknown.items()][:_MOST_REMEMBERED])
        if self._watch:
            self._hold([(key.reason, key.object) for key, each in self._open.items() if _holds(key, each)])

    def _say_counts(self, part: Part, comparison: Comparison, unknown: Mapping[_Key, _Difference]) -> None:
        former = self._counts.get(part, {})
        unseen = Counter(
            _OPEN[each.level] if key.reason == _CONTRACT else names.DATAFACE_CONTRACT_DRIFT
            for key, each in unknown.items()
            if each.source in comparison.unread
        )
        counts = _open_counts(part, comparison, unseen, former)
        if part == "tables":
            counts[names.DATAFACE_CONTRACT_UNREAD] = len(comparison.unread)
            if comparison.drift is not None:
                drift = names.DATAFACE_CONTRACT_DRIFT
                counts[drift] = comparison.drift + unseen[drift]
        now = time.time()
        if not counts or (counts == former and abs(now - self._at.get(part, 0.0)) < self._again):
            return
        self._counts[part], self._at[part] = counts, now
        told = {names.DATAFACE_CONTRACT_PART: part, **counts}
        recorder.event(names.EVENT_DATAFACE_CONTRACT_COMPARED, told, warning=False)

    def _hold(self, holding: list[tuple[str, str]]) -> None:
        holds = set(list(dict.fromkeys(holding))[:_MOST_HELD])
        for reason, what in sorted(self._held - holds):
            board.told(reason, what, False, self._watch)
        for reason, what in sorted(holds - self._held):
            board.told(reason, what, True, self._watch)
        self._held = holds


def _open_counts(
    part: Part, comparison: Comparison, unseen: Mapping[str, int], former: Mapping[str, int]
) -> _Counts:
    """What is open of a part, with what was open in sources that cannot be read now; empty where that is not known.

    Zeros clear what anybody has said. Who has seen the whole part says them, and who has said otherwise before: also of
    a contract that was taken away, once.
    """
    was_open = any(former.get(name) for name in _OPEN.values())
    levels = comparison.open.get(part)
    if levels is None:
        is_gone = not comparison.accepted and comparison.problem is None
        return dict.fromkeys(_OPEN.values(), 0) if is_gone and was_open else {}
    if part == "tools":
        return {name: levels[level] for level, name in _OPEN.items()}
    counts = {name: levels[level] + unseen.get(name, 0) for level, name in _OPEN.items()}
    return counts if not comparison.unread or was_open or any(counts.values()) else {}


def _has_something(comparison: Comparison) -> bool:
    """Whether there is a contract or a manifest, even one that cannot be read."""
    problems = (comparison.problem, comparison.manifest_problem)
    return comparison.accepted or comparison.drift is not None or problems != (None, None)


def _difference(finding: Finding) -> _Difference:
    source = finding.table.source if finding.table is not None else None
    return _Difference(
        finding.level, finding.part, source, finding.consumers, finding.served, tuple(finding.faces)
    )


def _holds(key: _Key, difference: _Difference) -> bool:
    return key.reason == _DRIFT or difference.level == "breaking"


def _is_unknown(key: _Key, difference: _Difference, comparison: Comparison) -> bool:
    """Whether a finding that is not there may still hold: it could not be looked for, or worse ones took its place."""
    from context_telemetry.contract.comparison import MOST

    if difference.source in comparison.unread or len(comparison.findings) >= MOST:
        return True
    if key.reason == _DRIFT:
        problems = (comparison.problem, comparison.manifest_problem)
        return comparison.drift is None and problems != (None, None)
    if comparison.accepted:
        return difference.part not in comparison.open
    return comparison.problem is not None


def _changed(key: _Key, difference: _Difference, state: str) -> None:
    attributes: dict[str, AttributeValue] = {
        names.DATAFACE_CONTRACT_RULE: key.rule,
        names.DATAFACE_CONTRACT_LEVEL: difference.level,
        names.DATAFACE_CONTRACT_OBJECT: key.object,
        names.DATAFACE_CONTRACT_STATE: state,
        names.DATAFACE_DEGRADATION_REASON: key.reason,
        names.DATAFACE_CONTRACT_CONSUMERS: difference.consumers,
    }
    if difference.served is not None:
        attributes[names.DATAFACE_CONTRACT_SERVED] = difference.served
    if difference.faces:
        attributes[names.DATAFACE_CONTRACT_FACES] = difference.faces
    warning = state == "opened" and difference.level == "breaking"
    recorder.event(names.EVENT_DATAFACE_CONTRACT_CHANGED, attributes, warning=warning)


def _remembered(
    memory: Mapping[str, Any] | None,
) -> tuple[dict[Part, _Counts], dict[Part, float], dict[_Key, _Difference]]:
    if memory is None:
        return {}, {}, {}
    try:
        counts = {part: dict(memory["counts"][part]) for part in _PARTS if part in memory["counts"]}
        at = {part: float(memory["at"][part]) for part in counts}
        said: dict[_Key, _Difference] = {}
        for reason, rule, what, *told in memory["open"]:
            level, part, source, consumers, served, faces = told
            difference = _Difference(level, part, source, consumers, served, tuple(faces))
            said[_Key(reason, rule, what)] = difference
        return counts, at, said
    except (KeyError, TypeError, ValueError):
        return {}, {}, {}
