"""The first look: is the context right on each surface, since when not, why, and who notices."""

from __future__ import annotations

from context_telemetry.health.indicators import CALLS, DEGRADATIONS
from context_telemetry.health.promql import SURFACE
from context_telemetry.health.sums import Sum
from context_telemetry.ops.dashboards import expressions as ex
from context_telemetry.ops.dashboards import stack, words
from context_telemetry.ops.dashboards.model import Column, Dashboard, Panel, Query, Row, Threshold
from context_telemetry.ops.dashboards.shapes import BY_SURFACE, NO_CALLS, Shapes


def dashboard(s: Shapes) -> Dashboard:
    return Dashboard(
        "dataface-health",
        "Dataface: is the context right?",
        "Whether each surface serves context that is whole, fresh and resolved; since when not, why, and who notices.",
        (
            Row("Now", 5, (_firing(s), *_ratios_now(s), _served(s))),
            Row(
                "Since when",
                8,
                (s.share_over_time("degraded_ratio"), s.share_over_time("failed_ratio")),
            ),
            Row("Why", 8, (_reasons(s), _reasons_over_time(s))),
            Row("Who is told", 7, (_alerts(s),)),
            Row("What was served", 8, (_outcomes(s), _clients(s))),
            Row("What users notice", 20, (_notices(s),)),
        ),
        ex.OF_SURFACES,
    )


def _firing(s: Shapes) -> Panel:
    return Panel(
        name="alerts_firing",
        title="Alerts firing",
        answers="How many alerts fire now. No data means that the rules do not run: the Watchdog always fires.",
        kind="stat",
        width=4,
        queries=(Query(stack.count()),),
        empty="The rules do not run: the Watchdog, which always fires, is not there.",
        thresholds=(Threshold(1, "one fires"),),
    )


def _ratios_now(s: Shapes) -> tuple[Panel, ...]:
    return (
        s.share_now("degraded_ratio", "Degraded", 7, traces=("degraded",)),
        s.share_now("failed_ratio", "Failed", 7, traces=("failed",)),
    )


def _served(s: Shapes) -> Panel:
    return Panel(
        name="served",
        title=f"Calls, {s.last}",
        answers="How many calls each surface answered. Nothing can be said of a surface that is not here.",
        kind="stat",
        width=6,
        queries=(Query(ex.increase(CALLS, s.window), BY_SURFACE),),
        empty=NO_CALLS,
        indicators=("telemetry_silent",),
    )


def _reasons(s: Shapes) -> Panel:
    by = (SURFACE, ex.REASON)
    return Panel(
        name="reasons",
        title=f"Reasons, {s.last}",
        answers="Why answers were degraded, on which surface, in how many calls.",
        kind="table",
        width=9,
        queries=(
            Query(
                ex.row_if_none(
                    f"{ex.increase(Sum(DEGRADATIONS), s.window, by)} > 0",
                    ex.REASON,
                    "none",
                    ex.increase(CALLS, s.window, ()),
                )
            ),
        ),
        empty=NO_CALLS,
        columns=(Column(ex.REASON, "Reason"), Column(SURFACE, "Surface"), Column("value", "Calls")),
        traces=("degraded",),
    )


def _reasons_over_time(s: Shapes) -> Panel:
    return s.added(
        "reasons_over_time",
        "Reasons",
        "When each reason began, and when it was over.",
        Sum(DEGRADATIONS),
        (ex.REASON,),
        15,
        many=True,
    )


def _alerts(s: Shapes) -> Panel:
    return Panel(
        name="alerts",
        title="Alerts firing, since when",
        answers="Which alerts fire, for how long, and whose they are. The alert has the link to its runbook.",
        kind="table",
        width=24,
        unit="seconds",
        queries=(Query(stack.since()),),
        empty="The rules do not run: the Watchdog, which always fires, is not there.",
        columns=(
            Column("alertname", "Alert", width=260),
            Column("severity", "Severity"),
            Column(SURFACE, "Surface"),
            Column("owner", "Owner"),
            Column("value", "For"),
        ),
    )


def _notices(s: Shapes) -> Panel:
    return Panel(
        name="notices",
        title="What users notice",
        answers="What each finding means for those who use a surface, and where to read on.",
        kind="text",
        width=24,
        text=words.notices(s.inputs),
    )


def _outcomes(s: Shapes) -> Panel:
    return s.added(
        "outcomes",
        "Calls by outcome",
        "How much was served, and how it ended.",
        CALLS,
        (ex.OUTCOME,),
        10,
        fill=False,
    )


def _clients(s: Shapes) -> Panel:
    return s.added(
        "clients",
        "Calls by surface and client",
        "Who asks. Clients that are not known are one; some surfaces have none.",
        CALLS,
        (SURFACE, ex.CLIENT),
        14,
        fill=False,
        many=True,
    )
