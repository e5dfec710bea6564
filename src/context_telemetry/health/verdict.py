"""Compares what indicators measured with their limits; unknown is a state of its own and never healthy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from context_telemetry.conventions import names
from context_telemetry.health.indicators import EVERYWHERE, INDICATORS, Facts, Indicator, Measured
from context_telemetry.health.words import counted
from context_telemetry.history import History

if TYPE_CHECKING:
    from context_telemetry.limits import Limits, Objectives

State = Literal["healthy", "unhealthy", "unknown"]


@dataclass(frozen=True)
class Finding:
    """The state of one indicator on one surface.

    `limit` is the highest value that is healthy; below `minimum` bad ones a value above it is, too.
    """

    indicator: Indicator
    surface: str | None
    state: State
    value: float | None
    limit: float
    count: int
    bad: int
    minimum: int
    detail: str

    @property
    def too_few(self) -> bool:
        """Whether it is healthy only because the bad ones are too few to judge by."""
        return self.state == "healthy" and self.value is not None and self.value > self.limit


@dataclass(frozen=True)
class Verdict:
    """The whole: unhealthy when one indicator is, unknown when a required one is, healthy otherwise."""

    state: State
    reason: str
    findings: Sequence[Finding]

    def of(self, state: State) -> list[Finding]:
        return [finding for finding in self.findings if finding.state == state]


def facts(history: History) -> Facts:
    """What the indicators need of a history."""
    processes = history.processes()
    active = {process.instance for process in processes}
    since = history.since or 0.0
    states = [
        state
        for state in history.last_events(names.EVENT_CONTEXT_TELEMETRY_STATE)
        if state.instance in active or state.time >= since
    ]
    return Facts(
        traffic=history.traffic(),
        reasons=history.reasons(),
        unresolved=history.unresolved(),
        sizes=history.sizes(),
        ages=history.ages(),
        processes=processes,
        states=states,
    )


def evaluate(measured: History | Facts, limits: Limits) -> Verdict:
    """The verdict over a history's window, or over facts that were taken from one."""
    known = facts(measured) if isinstance(measured, History) else measured
    findings: list[Finding] = []
    for indicator in INDICATORS:
        values = list(indicator.measure(known)) or [Measured(EVERYWHERE, 0, 0)]
        findings += [_compare(indicator, value, limits.objectives) for value in values]
    return Verdict(*_whole(findings), findings)


def _compare(indicator: Indicator, measured: Measured, objectives: Objectives) -> Finding:
    limit = float(getattr(objectives, indicator.limit)) if indicator.limit else 0.0
    minimum = int(getattr(objectives, indicator.minimum)) if indicator.minimum else 1
    state: State = "healthy"
    value: float | None = None
    if not measured.count:
        state = "unknown"
    else:
        value = measured.bad / measured.count if indicator.unit == "ratio" else float(measured.bad)
        if measured.bad >= minimum and value > limit:
            state = "unhealthy"
    return Finding(
        indicator,
        measured.surface,
        state,
        value,
        limit,
        measured.count,
        measured.bad,
        minimum,
        measured.detail,
    )


def _whole(findings: Sequence[Finding]) -> tuple[State, str]:
    bad = [finding for finding in findings if finding.state == "unhealthy"]
    if bad:
        # The headline is for the one who is woken: what pages comes first, then what is furthest off.
        worst = min(bad, key=lambda finding: (finding.indicator.severity != "page", -(finding.value or 0.0)))
        more = f", and {counted(len(bad) - 1, 'more indicator')}" if len(bad) > 1 else ""
        return "unhealthy", f"{worst.indicator.name}: {worst.indicator.bad}{more}"
    unknown = [finding for finding in findings if finding.state == "unknown" and finding.indicator.required]
    if unknown:
        return "unknown", f"{unknown[0].indicator.name}: {unknown[0].indicator.bad}"
    return "healthy", "what was served was whole, fresh and within its limits, as far as objectives ask"
