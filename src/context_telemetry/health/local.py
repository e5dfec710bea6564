"""What indicators measure, taken from a history of local files: the `Source` of `status`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from context_telemetry.conventions import names
from context_telemetry.conventions.derive import Labels, measurements
from context_telemetry.conventions.metric import Metric
from context_telemetry.health.indicators import OWN_ERRORS, Indicator
from context_telemetry.health.promql import KEPT
from context_telemetry.health.sums import Sum, some
from context_telemetry.health.verdict import EVERYWHERE
from context_telemetry.health.words import counted, lasting, processes, some_of, told_reasons
from context_telemetry.history import (
    ChecksSeen,
    ErrorSeen,
    Event,
    History,
    ProcessSeen,
    ReasonSeen,
    Spread,
    Traffic,
    Unresolved,
)
from context_telemetry.history.records import Value


@dataclass(frozen=True)
class SamplerSeen:
    """A sampler that may have left calls out, as the conventions name it, and the processes that had it."""

    sampler: str
    pids: tuple[int, ...]


@dataclass(frozen=True)
class Facts:
    """The answers of a history for one window, as screens show them."""

    traffic: Sequence[Traffic]
    reasons: Sequence[ReasonSeen]
    """Of calls; of checks they are in ``checks``."""
    errors: Sequence[ErrorSeen]
    """Of calls that failed without a reason."""
    checks: ChecksSeen | None
    unresolved: Sequence[Unresolved]
    sizes: Sequence[Spread]
    ages: Sequence[Spread]
    processes: Sequence[ProcessSeen]
    states: Sequence[Event]
    """The last `context_telemetry.state` of each process that was active in the window."""

    samplers: Sequence[SamplerSeen]
    """What may have left calls out, by those states and the last ones of a day of processes that have not ended: where
    every call is left out, there is nothing else in the window. Where there is none, every call is recorded."""


class Local:
    """A history as a source, with the facts that were taken from it; until now, or until ``now`` in Unix seconds."""

    def __init__(self, history: History, now: float | None = None) -> None:
        self.history, self._now = history, time.time() if now is None else now
        self.facts = _facts(history, self._now)

    def added(self, each: Sum) -> Mapping[str | None, float]:
        """As `Source` says."""
        if each.of.source == "span":
            found = self.history.added(each.of, each.where, each.unless, each.above)
            return found if each.by_surface else {EVERYWHERE: sum(found.values())}
        told: dict[str | None, float] = {} if each.by_surface else {EVERYWHERE: 0.0}
        for event in self.events(each.of):
            for labels, value in _matching(each, event):
                surface = dict(labels).get(names.DATAFACE_SURFACE) if each.by_surface else EVERYWHERE
                told[surface] = told.get(surface, 0.0) + value
        return told

    def latest(self, each: Sum) -> Sequence[float]:
        """As `Source` says. Of itself a process says it while it serves; what is said of an artefact holds.

        All else holds for a day, or for the window where that is longer, as it does in a fleet.
        """
        if each.of.when.get("event") == names.EVENT_CONTEXT_TELEMETRY_STATE:
            return [
                0.0 if _is_over(labels, state) else value
                for state in self.facts.states
                for labels, value in _matching(each, state)
            ]
        last: dict[Labels, float] = {}
        for event in self._all(each.of) if each.of.unit == "s" else self._kept(each.of):
            last.update(_matching(each, event))
        return list(last.values())

    def told_by(self) -> int:
        """As `Source` says."""
        return len(self.facts.states)

    def now(self) -> float:
        """As `Source` says."""
        return self._now

    def detail(self, indicator: Indicator, surface: str | None) -> str:
        """As `Source` says."""
        words = _DETAILS.get(indicator.name)
        if words is not None:
            return words(self, surface)
        return _met(self, indicator.reasons, surface) if len(indicator.reasons) > 1 else ""

    def events(self, metric: Metric) -> list[Event]:
        """The events of the window that a metric derives from, oldest first."""
        since = self.history.since or 0.0
        return [event for event in self._all(metric) if event.time >= since]

    def _kept(self, metric: Metric) -> list[Event]:
        since = min(self.history.since or 0.0, self._now - KEPT)
        return [event for event in self._all(metric) if event.time >= since]

    def _all(self, metric: Metric) -> list[Event]:
        return [event for event in self.history.events if event.name == metric.when.get("event")]


def _facts(history: History, now: float) -> Facts:
    """What the screens need of a history."""
    seen = history.processes()
    active = {process.instance for process in seen}
    since = history.since or 0.0
    said = history.last_events(names.EVENT_CONTEXT_TELEMETRY_STATE)

    def is_of_window(state: Event) -> bool:
        return state.instance in active or state.time >= since

    def may_run(state: Event) -> bool:
        """One that was killed says no end: what it said is taken to hold for a day, as all else."""
        return not _has_ended(state) and state.time >= now - KEPT

    states = [state for state in said if is_of_window(state)]
    return Facts(
        traffic=history.traffic(),
        reasons=history.reasons(),
        errors=history.errors(),
        checks=history.checks(),
        unresolved=history.unresolved(),
        sizes=history.sizes(),
        ages=history.ages(),
        processes=_lived(seen, history),
        states=states,
        samplers=samplers(state for state in said if is_of_window(state) or may_run(state)),
    )


def samplers(states: Iterable[Event]) -> list[SamplerSeen]:
    """What may have left calls out, as the processes whose states these are say."""
    pids: dict[str, list[int]] = {}
    for state in states:
        said = state.attributes.get(names.CONTEXT_TELEMETRY_SAMPLER)
        if isinstance(said, str):
            pids.setdefault(said, []).extend([] if state.pid is None else [state.pid])
    return [SamplerSeen(sampler, tuple(dict.fromkeys(each))) for sampler, each in pids.items()]


def _lived(seen: Iterable[ProcessSeen], history: History) -> list[ProcessSeen]:
    """With when each began and ended, by what it said of itself. One that began again after its end has not ended."""
    began: dict[str | None, float] = {}
    ended: dict[str | None, float] = {}
    for event in history.events:
        if event.name != names.EVENT_CONTEXT_TELEMETRY_STATE:
            continue
        phase = event.attributes.get(names.CONTEXT_TELEMETRY_PHASE)
        if phase == "began":
            began.setdefault(event.instance, event.time)
            ended.pop(event.instance, None)
        elif phase == "ended":
            ended[event.instance] = event.time
    return [replace(each, began=began.get(each.instance), ended=ended.get(each.instance)) for each in seen]


def _matching(each: Sum, event: Event) -> Iterable[tuple[Labels, float]]:
    for labels, value in measurements(each.of, event.attributes):
        said = dict(labels)
        wanted = all(said.get(name) in values for name, values in each.where.items())
        if wanted and not any(said.get(name) in values for name, values in each.unless.items()):
            yield labels, value


def _is_over(labels: Labels, state: Event) -> bool:
    """Whether a flaw has gone with its process: a setting is wrong for those who still run without it.

    What served without a hook is another matter: that part of the window is not known, whoever has ended since.
    """
    return dict(labels).get(names.CONTEXT_TELEMETRY_FLAW) == "setting_wrong" and _has_ended(state)


def _has_ended(state: Event) -> bool:
    return state.attributes.get(names.CONTEXT_TELEMETRY_PHASE) == "ended"


def lost_descriptions(history: History) -> list[str]:
    """The models whose descriptions are gone, as `shop.main.fct_orders`: by the process that counted them last."""
    held: dict[str | None, dict[str, None]] = {}
    counted: Event | None = None
    for event in history.events:
        said = event.attributes
        if event.name == names.EVENT_DATAFACE_ENRICHMENT_CHANGED:
            counted = event
        elif said.get(names.DATAFACE_DEGRADATION_REASON) == "enrichment_lost":
            of, what = held.setdefault(event.instance, {}), str(said.get(names.DATAFACE_DEGRADATION_OBJECT))
            if said.get(names.DATAFACE_DEGRADATION_STATE) == "began":
                of[what] = None
            else:
                of.pop(what, None)
    if counted is None or not counted.attributes.get(names.DATAFACE_ENRICHMENT_LOST):
        return []
    # Calls that met it are about the manifest, a source or a query: a model is told with its schema.
    return [each for each in held.get(counted.instance, ()) if "." in each and each not in names.OPERATIONS]


# -- a few words about what was measured --------------------------------------------------------------


def _met(local: Local, reasons: frozenset[str], surface: str | None) -> str:
    """How often each of several reasons was met: `traces --reason` takes these, and no indicator's name."""
    return told_reasons(
        (each.reason, each.count)
        for each in local.facts.reasons
        if each.surface == surface and each.reason in reasons
    )


def _checks(local: Local, _surface: str | None) -> str:
    checks = local.facts.checks
    if checks is None or not checks.not_ok:
        return ""
    why = f": {', '.join(checks.reasons)}" if checks.reasons else ""
    return f"{checks.not_ok:,} of {counted(checks.count, 'check')}{why}"


def _degraded(local: Local, surface: str | None) -> str:
    facts = local.facts
    rows = [row for row in facts.traffic if row.surface == surface]
    not_there = sum(row.not_there for row in rows)
    seen = {each.reason: each.count for each in facts.reasons if each.surface == surface}
    if seen.get("resource_unknown") == not_there:
        del seen["resource_unknown"]
    return ", ".join(seen) if sum(row.degraded for row in rows) > not_there else ""


def _failed(local: Local, surface: str | None) -> str:
    facts = local.facts
    rows = [row for row in facts.traffic if row.surface == surface]
    failed, served = sum(row.failed for row in rows), sum(row.served for row in rows)
    return f"{failed:,} of {counted(served, 'call')}" if failed else ""


def _unresolved(local: Local, surface: str | None) -> str:
    facts = local.facts
    row = next((each for each in facts.unresolved if each.surface == surface), None)
    return f"{counted(row.objects, 'object')} in {counted(row.calls, 'call')}" if row else ""


def _manifest(local: Local, surface: str | None) -> str:
    facts = local.facts
    row = next((each for each in facts.ages if (each.name, each.surface) == ("dbt_manifest", surface)), None)
    if row is None:
        return ""
    promise = f"promised {lasting(row.limit)}" if row.limit is not None else "no promise"
    return f"oldest {lasting(row.largest)}, {promise}"


def _over_budget(local: Local, surface: str | None) -> str:
    facts = local.facts
    rows = [row for row in facts.sizes if row.surface == surface and row.over]
    return ", ".join(f"{row.over:,} of {counted(row.count, row.name or 'payload')}" for row in rows)


def _contract(local: Local, _surface: str | None) -> str:
    """What is changed, where the changes that were told are those that were counted."""
    opened: dict[tuple[Value, Value], str] = {}
    for event in local.history.events:
        said = event.attributes
        if (
            event.name != names.EVENT_DATAFACE_CONTRACT_CHANGED
            or said.get(names.DATAFACE_CONTRACT_LEVEL) != "breaking"
        ):
            continue
        change = said.get(names.DATAFACE_CONTRACT_RULE), said.get(names.DATAFACE_CONTRACT_OBJECT)
        opened.pop(change, None)
        if said.get(names.DATAFACE_CONTRACT_STATE) == "opened":
            opened[change] = str(change[1])
    counts = local.latest(some(names.METRIC_DATAFACE_CONTRACT_OPEN, level="breaking"))
    if sum(counts) != len(opened):  # a process ended before it could tell that one is closed
        return ""
    return some_of(list(dict.fromkeys(opened.values())))


def _references(local: Local, surface: str | None) -> str:
    """The names that are asked for most."""
    asked: Counter[str] = Counter()
    metric = Sum(names.METRIC_DATAFACE_REFERENCES_UNKNOWN).of
    for event in local.events(metric):
        if event.attributes.get(names.DATAFACE_SURFACE) == surface:
            count = event.attributes.get(names.DATAFACE_REFERENCE_COUNT)
            named = str(event.attributes.get(names.DATAFACE_REFERENCE_NAME))
            asked[named] += count if isinstance(count, int) else 0
    return some_of([f"{name} {count:,}" for name, count in asked.most_common()])


def _hooks(local: Local, _surface: str | None) -> str:
    facts = local.facts
    missing: list[str] = []
    for state in facts.states:
        ids = state.attributes.get(names.CONTEXT_TELEMETRY_HOOKS_MISSING)
        missing += [str(each) for each in ids] if isinstance(ids, tuple) else []
    return ", ".join(dict.fromkeys(missing))


def _dropped(local: Local, _surface: str | None) -> str:
    return _places(local, Sum(names.METRIC_CONTEXT_TELEMETRY_DROPPED))


def _errors(local: Local, _surface: str | None) -> str:
    return _places(local, OWN_ERRORS)


def _settings(local: Local, _surface: str | None) -> str:
    wrong = [
        state
        for state in local.facts.states
        if state.attributes.get(names.CONTEXT_TELEMETRY_SETTINGS_WRONG) and not _has_ended(state)
    ]
    # Settings are read once: what was repaired since has no effect on a process that runs.
    return f"restart {_processes(wrong)}, see {'their' if wrong[1:] else 'its'} stderr" if wrong else ""


def _lost_descriptions(local: Local, _surface: str | None) -> str:
    return some_of(lost_descriptions(local.history))


def _places(local: Local, each: Sum) -> str:
    """In which parts of the library, and in which processes: `export 3, hooks 1 in process 4242`."""
    counts: Counter[str] = Counter()
    met = []
    for event in local.events(each.of):
        found = {
            str(dict(labels)[names.CONTEXT_TELEMETRY_PLACE]): value
            for labels, value in _matching(each, event)
        }
        counts.update({place: int(value) for place, value in found.items()})
        met += [event] if any(found.values()) else []
    told = ", ".join(f"{place} {count:,}" for place, count in counts.items() if count)
    return f"{told} in {_processes(met)}" if told else ""


def _processes(events: Iterable[Event]) -> str:
    return processes(list(dict.fromkeys(event.pid for event in events if event.pid is not None)))


_DETAILS: Mapping[str, Callable[[Local, str | None], str]] = {
    "degraded_ratio": _degraded,
    "failed_ratio": _failed,
    "resolution_failures": _unresolved,
    "contract_open": _contract,
    "checks_failing": _checks,
    "unknown_references": _references,
    "manifest_stale": _manifest,
    "payload_over_budget": _over_budget,
    "enrichment_lost": _lost_descriptions,
    "hooks_lost": _hooks,
    "telemetry_dropped": _dropped,
    "telemetry_errors": _errors,
    "settings_wrong": _settings,
}
