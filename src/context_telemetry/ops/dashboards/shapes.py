"""The shapes that panels of several dashboards have, for one set of owners and limits."""

from __future__ import annotations

from context_telemetry.health import INDICATORS, Indicator
from context_telemetry.health.indicators import CALLS
from context_telemetry.health.promql import SURFACE, duration
from context_telemetry.health.sums import Sum
from context_telemetry.ops.dashboards import expressions as ex
from context_telemetry.ops.dashboards import words
from context_telemetry.ops.dashboards.model import Panel, Query, Threshold, Unit
from context_telemetry.ops.inputs import Inputs

NO_CALLS = "No calls were recorded: nothing is known."

_SHARES = {
    "degraded_ratio": "Share of calls degraded",
    "failed_ratio": "Share of calls failed",
    "resolution_failures": "Not resolved, for each call",
    "context_latency": "Share that took too long",
    "payload_over_budget": "Share of calls over budget",
    "payload_p95": "Share of payloads that are large",
    "enrichment_lost": "Share of calls without former descriptions",
    "checks_failing": "Share of checks that were not well",
    "unknown_references": "Names that are not there, for each call",
}


def legend(*labels: str, after: str = "") -> str:
    """A series is called by these labels' values."""
    return " ".join([*(f"{{{{{each}}}}}" for each in labels), *([after] if after else [])])


BY_SURFACE = legend(SURFACE)


def indicator(name: str) -> Indicator:
    """The indicator of that name."""
    return next(each for each in INDICATORS if each.name == name)


def _unit(found: Indicator) -> Unit:
    return "per_call" if found.unit == "per_call" else "share"


class Shapes:
    """Makes panels whose windows and limits are those of ``inputs``."""

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs
        self.objectives = inputs.limits.objectives
        self.window = self.objectives.window
        self.last = f"last {duration(self.window)}"
        """The window that alerts judge, in words; `recent` is the window of the graphs."""
        self.recent = f"last {duration(ex.RECENT)}"

    def share_now(self, name: str, title: str, width: int = 6, traces: tuple[str, ...] = ()) -> Panel:
        """An indicator's share as its alert judges it, by surface, in the colour of its limit."""
        found = indicator(name)
        return Panel(
            name=f"{name}_now",
            title=f"{title}, {self.last}",
            answers=f"{words.sentence(found.measures)} {words.sentence(found.wrong)}",
            kind="stat",
            width=width,
            unit=_unit(found),
            queries=(Query(ex.share(found, self.objectives, self.window), BY_SURFACE),),
            empty=NO_CALLS,
            thresholds=self.limit(found),
            traces=traces,
            indicators=(name,),
        )

    def share_over_time(self, name: str, traces: tuple[str, ...] = ()) -> Panel:
        """The same share minute by minute, with the limit as a line."""
        found = indicator(name)
        return Panel(
            name=f"{name}_over_time",
            title=f"{_SHARES[name]}, {self.recent}",
            answers=f"{words.sentence(found.measures)} The line is the limit that alerts judge by over "
            f"{duration(self.window)}, from {found.minimum_in(self.objectives)} bad ones on.",
            kind="lines",
            width=12,
            unit=_unit(found),
            queries=(Query(ex.share(found, self.objectives, ex.RECENT), BY_SURFACE),),
            empty=NO_CALLS,
            thresholds=self.limit(found),
            traces=traces,
            indicators=(name,) if name == "context_latency" else (),
        )

    def added(
        self,
        name: str,
        title: str,
        answers: str,
        what: Sum,
        by: tuple[str, ...],
        width: int,
        *,
        fill: bool = True,
        many: bool = False,
    ) -> Panel:
        """What came in the last minutes, by these labels; with ``fill`` a 0 called none where there were calls."""
        expression = f"{ex.increase(what, ex.RECENT, by)} > 0"
        if fill:
            expression = ex.row_if_none(expression, by[0], "none", ex.increase(CALLS, ex.RECENT, ()))
        return Panel(
            name=name,
            title=f"{title}, {self.recent}",
            answers=answers,
            kind="areas",
            width=width,
            many=many,
            queries=(Query(expression, legend(*by)),),
            empty=NO_CALLS,
        )

    def limit(self, of: Indicator) -> tuple[Threshold, ...]:
        """The indicator's limit."""
        return (Threshold(of.limit_in(self.objectives), "limit"),)
