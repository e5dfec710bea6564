"""Compares what was counted with the limits; unknown is a state of its own and never healthy.

The numbers come from a `Source`: a history of local files, or a Prometheus-compatible API. Nothing here asks which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from context_telemetry.health.indicators import ASKED, CALLS, INDICATORS, Indicator
from context_telemetry.health.sums import Sum
from context_telemetry.health.words import counted, lasting

if TYPE_CHECKING:
    from context_telemetry.limits import Limits, Objectives

State = Literal["healthy", "unhealthy", "unknown"]

FEW = 2
"""So many calls that went wrong on one surface decide nothing where others are well."""

EVERYWHERE = "*"
"""Stands for the surface where an indicator is about the observation and not about one surface."""


class Source(Protocol):
    """Whoever can say how much of a metric there was in one window."""

    def added(self, each: Sum) -> Mapping[str | None, float]:
        """What came to a counter or histogram in the window, by surface; `EVERYWHERE` where it says none."""
        ...

    def latest(self, each: Sum) -> Sequence[float]:
        """What a gauge's series said last; none where it is not known."""
        ...

    def told_by(self) -> int:
        """How many processes, or sets of them, have said how they are."""
        ...

    def now(self) -> float:
        """Until when the window goes, in Unix seconds."""
        ...

    def detail(self, indicator: Indicator, surface: str | None) -> str:
        """A few words about what was measured; empty where there is nothing to say."""
        ...


@dataclass(frozen=True)
class Finding:
    """The state of one indicator on one surface.

    `limit` is the highest value that is healthy. Below `minimum` bad ones a value above it is healthy, too, where most
    that was asked for on the surface went well; else it is unknown.
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
    most_went_wrong: bool = False
    """Of what was asked for on its surface: what the few others were is then no sign of health."""

    @property
    def too_few(self) -> bool:
        """Whether it is beyond its limit, and by so few bad ones that this is no judgement."""
        return self.state != "unhealthy" and self.value is not None and self.value > self.limit


@dataclass(frozen=True)
class Verdict:
    """The whole: unhealthy when one indicator is, unknown when a required one is, healthy otherwise."""

    state: State
    reason: str
    findings: Sequence[Finding]

    def of(self, state: State) -> list[Finding]:
        return [finding for finding in self.findings if finding.state == state]


@dataclass(frozen=True)
class _Measured:
    """`bad` ones among `count`, and the value that is compared. Nothing counted is nothing known."""

    surface: str | None
    bad: float
    count: float
    value: float
    detail: str = ""


def evaluate(source: Source, limits: Limits) -> Verdict:
    """The verdict over the source's window. Raises what the source raises."""
    objectives = limits.objectives
    served = source.added(CALLS)
    well, ill = (source.added(each) for each in ASKED)
    asked = {surface for surface in (*well, *ill) if well.get(surface, 0.0) + ill.get(surface, 0.0)}
    # A call or two that went wrong on a surface that is hardly used say nothing of what is well elsewhere.
    fewest = FEW if any(well.values()) else 0
    in_trouble = {surface for surface, count in ill.items() if count > max(well.get(surface, 0.0), fewest)}
    findings: list[Finding] = []
    for indicator in INDICATORS:
        if indicator.kind == "silent":
            measured = [_heard(sum(served.values()), bool(asked))]
        else:
            measured = [
                each
                for each in _measure(indicator, source, objectives, served)
                if each.bad or each.surface in asked or each.surface not in served
            ] or [_Measured(EVERYWHERE, 0, 0, 0.0)]
        findings += [
            _compare(indicator, each, source, objectives, mostly_ill=each.surface in in_trouble)
            for each in measured
        ]
    return Verdict(*_whole(findings), findings)


def _heard(calls: float, asked: bool) -> _Measured:
    """Whether anything was asked for. Clients that connect and ask for nothing leave nothing to judge."""
    if asked:
        return _Measured(EVERYWHERE, 0, calls, 0.0, counted(int(calls), "call"))
    words = f"{counted(int(calls), 'call')} to connect, none that asks for anything" if calls else ""
    return _Measured(EVERYWHERE, 0, 0, 0.0, words or "no calls were recorded")


def _measure(
    indicator: Indicator, source: Source, objectives: Objectives, served: Mapping[str | None, float]
) -> list[_Measured]:
    bad, but = indicator.counted(objectives)
    if indicator.kind == "ratio":
        among = served if indicator.among == CALLS else source.added(indicator.among)
        parts = [(1, source.added(each)) for each in bad] + [(-1, source.added(each)) for each in but]
        rows = []
        for surface, count in sorted(among.items(), key=lambda each: str(each[0])):
            found = sum(sign * part.get(surface, 0.0) for sign, part in parts)
            rows.append(_Measured(surface, found, count, found / count if count else 0.0))
        return rows
    if indicator.kind == "count":
        added = sum(sum(source.added(each).values()) for each in bad)
        return [_Measured(EVERYWHERE, added, source.told_by(), added)]
    told = [value for each in bad for value in source.latest(each)]
    if indicator.kind == "state":
        return [_Measured(EVERYWHERE, sum(told), source.told_by() if told else 0, sum(told))]
    if not told:
        return []
    if indicator.kind == "said":
        return [_Measured(EVERYWHERE, sum(told), len(told), sum(told))]
    oldest = source.now() - min(told)
    over = sum(source.now() - each > indicator.limit_in(objectives) for each in told)
    return [_Measured(EVERYWHERE, over, len(told), oldest, f"oldest {lasting(oldest)}")]


def _compare(
    indicator: Indicator, measured: _Measured, source: Source, objectives: Objectives, *, mostly_ill: bool
) -> Finding:
    limit, minimum = indicator.limit_in(objectives), indicator.minimum_in(objectives)
    state: State = "unknown"
    if measured.count and measured.value <= limit:
        state = "healthy"
    elif measured.count and measured.bad >= minimum:
        state = "unhealthy"
    elif measured.count:  # one that fails among many is normal work; where most do, few are no sign of health
        state = "unknown" if mostly_ill else "healthy"
    return Finding(
        indicator,
        measured.surface,
        state,
        measured.value if measured.count else None,
        limit,
        round(measured.count),
        round(measured.bad),
        minimum,
        measured.detail or source.detail(indicator, measured.surface),
        mostly_ill,
    )


def _off(finding: Finding) -> float:
    """How many times its limit a value is; of what has none, how many there are."""
    return (finding.value or 0.0) / (finding.limit or 1.0)


def _unclear(finding: Finding) -> str:
    """Why nothing can be said of what is needed."""
    if finding.too_few:
        few = f"{finding.bad:,} {'is' if finding.bad == 1 else 'are'} too few to judge by"
        return f"{finding.indicator.wrong}; {few}, but most of what was asked for went wrong"
    return (
        f"nothing is known: {finding.detail}"
        if finding.indicator.kind == "silent"
        else finding.indicator.wrong
    )


def _whole(findings: Sequence[Finding]) -> tuple[State, str]:
    bad = [finding for finding in findings if finding.state == "unhealthy"]
    if bad:
        # The headline is for the one who is woken: what pages comes first, then what is furthest off.
        worst = min(bad, key=lambda finding: (finding.indicator.severity != "page", -_off(finding)))
        more = f", and {counted(len(bad) - 1, 'more indicator')}" if len(bad) > 1 else ""
        return "unhealthy", f"{worst.indicator.name}: {worst.indicator.wrong}{more}"
    unknown = [finding for finding in findings if finding.state == "unknown" and finding.indicator.required]
    if unknown:
        return "unknown", f"{unknown[0].indicator.name}: {_unclear(unknown[0])}"
    return "healthy", "what was served was whole, fresh and within its limits, as far as objectives ask"
