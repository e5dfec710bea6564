"""What healthy means, said once: every indicator with its measure, its limit and what a user notices.

An indicator measures; `evaluate` compares. Local verdicts come from here, as rules and panels are to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from context_telemetry.conventions import names
from context_telemetry.health.words import counted, lasting, processes
from context_telemetry.history import Event, ProcessSeen, ReasonSeen, Spread, Traffic, Unresolved

EVERYWHERE = "*"
"""Stands for the surface where an indicator is about the observation and not about one surface."""

Unit = Literal["ratio", "count"]
Severity = Literal["page", "ticket"]


@dataclass(frozen=True)
class Facts:
    """What indicators measure: the answers of a history for one window."""

    traffic: Sequence[Traffic]
    reasons: Sequence[ReasonSeen]
    unresolved: Sequence[Unresolved]
    sizes: Sequence[Spread]
    ages: Sequence[Spread]
    processes: Sequence[ProcessSeen]
    states: Sequence[Event]
    """The last `context_telemetry.state` of each process that was active in the window."""


@dataclass(frozen=True)
class Measured:
    """`bad` ones among `count`. Nothing counted is nothing known."""

    surface: str | None
    bad: int
    count: int
    detail: str = ""


@dataclass(frozen=True)
class Indicator:
    """What is measured and what it means.

    A `ratio` is bad above the objective `limit` once there are `minimum` bad ones, both fields of
    `Limits.objectives`; its window there is the one that rules use. A `count` is bad from the first on.
    """

    name: str
    measures: str
    good: str
    bad: str
    unit: Unit
    severity: Severity
    notices: str
    measure: Callable[[Facts], Iterable[Measured]]
    limit: str | None = None
    minimum: str | None = None
    required: bool = False
    """Whether the whole is unknown while this is. Of the others nothing was served, and that is no flaw."""


def _telemetry_silent(facts: Facts) -> Iterable[Measured]:
    served = sum(row.served for row in facts.traffic)
    yield Measured(EVERYWHERE, 0, served, counted(served, "call") if served else "no call was recorded")


def _degraded(facts: Facts) -> Iterable[Measured]:
    for surface, served in _served(facts).items():
        # A page that is not there says so to whoever mistyped its address: a name that does not resolve, counted below.
        rows = [row for row in facts.traffic if row.surface == surface]
        not_there = sum(row.not_there for row in rows)
        degraded = sum(row.degraded for row in rows) - not_there
        seen = {each.reason: each.count for each in facts.reasons if each.surface == surface}
        if seen.get("resource_unknown") == not_there:
            del seen["resource_unknown"]
        yield Measured(surface, degraded, served, ", ".join(seen) if degraded else "")


def _failed(facts: Facts) -> Iterable[Measured]:
    for surface, served in _served(facts).items():
        failed = sum(row.failed for row in facts.traffic if row.surface == surface)
        yield Measured(surface, failed, served, f"{failed:,} of {counted(served, 'call')}" if failed else "")


def _unresolved(facts: Facts) -> Iterable[Measured]:
    found = {row.surface: row for row in facts.unresolved}
    for surface, served in _served(facts).items():
        row = found.get(surface)
        detail = f"{counted(row.objects, 'object')} in {counted(row.calls, 'call')}" if row else ""
        yield Measured(surface, row.calls if row else 0, served, detail)


def _manifest_stale(facts: Facts) -> Iterable[Measured]:
    stale = {seen.surface: seen.count for seen in facts.reasons if seen.reason == "manifest_stale"}
    ages = {row.surface: row for row in facts.ages if row.name == "dbt_manifest"}
    for surface in dict.fromkeys((*stale, *ages)):
        row = ages.get(surface)
        count = max(row.count if row else 0, stale.get(surface, 0))
        bad = max(row.over if row else 0, stale.get(surface, 0))
        yield Measured(surface, bad, count, _age(row) if row else "")


def _age(row: Spread) -> str:
    promise = f", promised {lasting(row.limit)}" if row.limit is not None else ", no promise"
    return f"oldest {lasting(row.largest)}{promise}"


def _over_budget(facts: Facts) -> Iterable[Measured]:
    for surface in dict.fromkeys(row.surface for row in facts.sizes):
        rows = [row for row in facts.sizes if row.surface == surface]
        count, over = sum(row.count for row in rows), sum(row.over for row in rows)
        worst = ", ".join(
            f"{row.over:,} of {counted(row.count, row.name or 'payload')}" for row in rows if row.over
        )
        yield Measured(surface, over, count, worst)


def _hooks_lost(facts: Facts) -> Iterable[Measured]:
    lost = _total(facts, names.CONTEXT_TELEMETRY_HOOKS_ABSENT, names.CONTEXT_TELEMETRY_HOOKS_FAILED)
    missing: list[str] = []
    for state in facts.states:
        ids = state.attributes.get(names.CONTEXT_TELEMETRY_HOOKS_MISSING)
        missing += [str(each) for each in ids] if isinstance(ids, tuple) else []
    yield Measured(EVERYWHERE, lost, len(facts.states), ", ".join(dict.fromkeys(missing)))


def _dropped(facts: Facts) -> Iterable[Measured]:
    total = _total(facts, names.CONTEXT_TELEMETRY_DROPPED)
    yield Measured(EVERYWHERE, total, len(facts.states), _places(facts, _DROPPED_BY_PLACE))


def _errors(facts: Facts) -> Iterable[Measured]:
    total = _total(facts, names.CONTEXT_TELEMETRY_ERRORS) - _total(facts, _SETTINGS)
    places = {place: name for place, name in _ERRORS_BY_PLACE.items() if name != _SETTINGS}
    yield Measured(EVERYWHERE, total, len(facts.states), _places(facts, places))


def _settings_wrong(facts: Facts) -> Iterable[Measured]:
    wrong = _total(facts, _SETTINGS)
    detail = f"see stderr of {_processes(facts, [_SETTINGS])}" if wrong else ""
    yield Measured(EVERYWHERE, wrong, len(facts.states), detail)


def _by_place(metric: str) -> Mapping[str, str]:
    return next(each.parts for each in names.METRICS if each.name == metric) or {}


_ERRORS_BY_PLACE = _by_place(names.METRIC_CONTEXT_TELEMETRY_ERRORS)
_DROPPED_BY_PLACE = _by_place(names.METRIC_CONTEXT_TELEMETRY_DROPPED)
_SETTINGS = names.CONTEXT_TELEMETRY_ERROR_COUNT_SETTINGS


def _places(facts: Facts, attributes: Mapping[str, str]) -> str:
    """In which parts of the library, and in which processes: `export 3, hooks 1 in process 4242`."""
    counts = {place: _total(facts, attribute) for place, attribute in attributes.items()}
    told = ", ".join(f"{place} {count:,}" for place, count in counts.items() if count)
    return f"{told} in {_processes(facts, attributes.values())}" if told else ""


def _processes(facts: Facts, attributes: Iterable[str]) -> str:
    met = [state.pid for state in facts.states if any(state.attributes.get(each) for each in attributes)]
    return processes(list(dict.fromkeys(pid for pid in met if pid is not None)))


def _total(facts: Facts, *attributes: str) -> int:
    counts = (state.attributes.get(attribute) for state in facts.states for attribute in attributes)
    return sum(count for count in counts if isinstance(count, int))


def _served(facts: Facts) -> dict[str | None, int]:
    served: dict[str | None, int] = {}
    for row in facts.traffic:
        served[row.surface] = served.get(row.surface, 0) + row.served
    return served


INDICATORS: tuple[Indicator, ...] = (
    Indicator(
        name="telemetry_silent",
        measures="calls that were recorded",
        good="calls arrive",
        bad="nothing is known: no calls were recorded",
        unit="count",
        severity="ticket",
        notices="nothing; that is the danger",
        measure=_telemetry_silent,
        required=True,
    ),
    Indicator(
        name="degraded_ratio",
        measures="calls answered partially, stale, oversized, unresolved or from another place than asked, "
        "but for pages that say themselves that they are not there",
        good="answers are whole",
        bad="answers look right and are not",
        unit="ratio",
        limit="degraded_ratio",
        minimum="degraded_minimum",
        severity="page",
        notices="an agent or a dashboard works with less than it asked for, without an error",
        measure=_degraded,
        required=True,
    ),
    Indicator(
        name="failed_ratio",
        measures="calls without a usable answer",
        good="calls are answered",
        bad="calls end in errors",
        unit="ratio",
        limit="failed_ratio",
        minimum="failed_minimum",
        severity="page",
        notices="tools answer with errors",
        measure=_failed,
        required=True,
    ),
    Indicator(
        name="resolution_failures",
        measures="calls that asked for a source, table, column, resource or page that did not resolve",
        good="what is asked for exists",
        bad="names that consumers rely on do not resolve",
        unit="ratio",
        # Most are an agent's query that it corrects, or an address mistyped; what is served instead counts above.
        limit="failed_ratio",
        minimum="failed_minimum",
        severity="page",
        notices="empty catalogue answers, queries against another database",
        measure=_unresolved,
        required=True,
    ),
    Indicator(
        name="manifest_stale",
        measures="calls served with a dbt manifest that is older than promised or than its models",
        good="descriptions are those of today's models",
        bad="descriptions and lineage are those of former models",
        unit="ratio",
        limit="degraded_ratio",
        minimum="degraded_minimum",
        severity="ticket",
        notices="columns without descriptions, or with wrong ones",
        measure=_manifest_stale,
    ),
    Indicator(
        name="payload_over_budget",
        measures="calls whose content is larger than its limit",
        good="answers fit into their consumer",
        bad="answers are cut or push other context out",
        unit="ratio",
        limit="degraded_ratio",
        minimum="degraded_minimum",
        severity="ticket",
        notices="an agent forgets, truncates or refuses the answer",
        measure=_over_budget,
    ),
    Indicator(
        name="hooks_lost",
        measures="hook points that are absent or failed, in the last state of each process",
        good="everything that this release has is observed",
        bad="part of Dataface is not observed",
        unit="count",
        severity="ticket",
        notices="nothing; health is judged on part of the calls",
        measure=_hooks_lost,
        required=True,
    ),
    Indicator(
        name="telemetry_dropped",
        measures="records that were dropped, in the last state of each process",
        good="everything is recorded",
        bad="counts are too low",
        unit="count",
        severity="ticket",
        notices="nothing; calls are missing here",
        measure=_dropped,
        required=True,
    ),
    Indicator(
        name="telemetry_errors",
        measures="errors that the library caught in itself, but for settings, in the last state of each process",
        good="every result is read",
        bad="some results are recorded without a reading",
        unit="count",
        severity="ticket",
        notices="nothing; some degradations may go unseen",
        measure=_errors,
        required=True,
    ),
    Indicator(
        name="settings_wrong",
        measures="settings that are wrong and were left out, in the last state of each process",
        good="settings are in effect",
        bad="a setting is wrong, and not in effect",
        unit="count",
        severity="ticket",
        notices="nothing; calls are judged by other limits, or named otherwise, than was meant",
        measure=_settings_wrong,
        required=True,
    ),
)
