"""What consumers rely on: whether something changed upstream, and whom it hits.

It shows what serving tells of a change. What a comparison with an accepted contract tells is not measured yet.
"""

from __future__ import annotations

from context_telemetry.conventions import names
from context_telemetry.health.indicators import DEGRADATIONS, SERVED
from context_telemetry.health.promql import SURFACE
from context_telemetry.health.sums import Sum
from context_telemetry.ops.dashboards import expressions as ex
from context_telemetry.ops.dashboards.catalogue import coverage_over_time
from context_telemetry.ops.dashboards.model import Column, Dashboard, Panel, Query, Row, Threshold
from context_telemetry.ops.dashboards.shapes import BY_SURFACE, NO_CALLS, Shapes

_UNRESOLVED = Sum(names.METRIC_DATAFACE_RESOLUTION_FAILURES)
# The reasons that a change upstream gives: what consumers rely on is gone, renamed, or described no more.
_CHANGED = Sum(
    DEGRADATIONS,
    {
        names.DATAFACE_DEGRADATION_REASON: frozenset(
            {
                "object_unknown",
                "source_substituted",
                "charts_failed",
                "all_charts_failed",
                "manifest_stale",
                "enrichment_lost",
            }
        )
    },
)


def dashboard(s: Shapes) -> Dashboard:
    return Dashboard(
        "dataface-contract",
        "Dataface: what consumers rely on",
        "Whether something changed upstream, and whom it hits: names that are gone, charts that fail, descriptions "
        "that are lost.",
        (
            Row(
                "Now",
                5,
                (
                    _objects_now(s),
                    _hit_now(s),
                    s.share_now("enrichment_lost", "Descriptions lost", 8),
                ),
            ),
            Row("What is gone", 9, (_gone(s), _gone_over_time(s))),
            Row("Whom it hits", 9, (_hit(s), _hit_over_time(s))),
            Row(
                "Descriptions",
                7,
                (s.share_over_time("enrichment_lost"), coverage_over_time(s, 12)),
            ),
        ),
        ex.OF_SURFACES,
    )


def _objects_now(s: Shapes) -> Panel:
    return Panel(
        name="objects_now",
        title=f"Objects not there, {s.last}",
        answers="How many sources, tables, columns, resources and pages were asked for that are not there.",
        kind="stat",
        width=8,
        queries=(Query(ex.or_none(ex.increase(_UNRESOLVED, s.window), s.window), BY_SURFACE),),
        empty=NO_CALLS,
        thresholds=(Threshold(1, "one is not there"),),
        traces=("object_unknown",),
    )


def _hit_now(s: Shapes) -> Panel:
    return Panel(
        name="hit_now",
        title=f"Calls hit, {s.last}",
        answers="Calls that a change upstream degraded: a name, a chart, a manifest or a description is gone.",
        kind="stat",
        width=8,
        queries=(Query(ex.or_none(ex.increase(_CHANGED, s.window), s.window), BY_SURFACE),),
        empty=NO_CALLS,
        thresholds=(Threshold(1, "one is hit"),),
        traces=("degraded",),
    )


def _gone(s: Shapes) -> Panel:
    by = (ex.SOURCE, ex.REASON, ex.ERROR, SURFACE)
    return Panel(
        name="gone",
        title=f"What did not resolve, {s.last}",
        answers="In which source, why, and for whom. The names themselves are in the traces.",
        kind="table",
        width=12,
        queries=(
            Query(
                ex.row_if_none(
                    f"{ex.increase(_UNRESOLVED, s.window, by)} > 0",
                    ex.REASON,
                    "none",
                    ex.increase(Sum(SERVED), s.window, ()),
                )
            ),
        ),
        empty=NO_CALLS,
        columns=(
            Column(ex.SOURCE, "Source"),
            Column(ex.REASON, "Reason"),
            Column(ex.ERROR, "Error"),
            Column(SURFACE, "Surface"),
            Column("value", "Objects"),
        ),
        traces=("object_unknown",),
    )


def _gone_over_time(s: Shapes) -> Panel:
    return s.added(
        "gone_over_time",
        "Objects not there, by surface",
        "Since when, and who asks for them.",
        _UNRESOLVED,
        (SURFACE,),
        12,
    )


def _hit(s: Shapes) -> Panel:
    return Panel(
        name="hit",
        title=f"Who is hit by what, {s.last}",
        answers="On which surface a change upstream shows, and how.",
        kind="table",
        width=12,
        queries=(
            Query(
                ex.row_if_none(
                    f"{ex.increase(_CHANGED, s.window, (SURFACE, ex.REASON))} > 0",
                    SURFACE,
                    "nobody",
                    ex.increase(Sum(SERVED), s.window, ()),
                )
            ),
        ),
        empty=NO_CALLS,
        columns=(Column(SURFACE, "Surface"), Column(ex.REASON, "Reason"), Column("value", "Calls")),
        traces=("degraded",),
    )


def _hit_over_time(s: Shapes) -> Panel:
    return s.added(
        "hit_over_time",
        "Calls hit, by reason",
        "When a change upstream began to show, and whether going back helped.",
        _CHANGED,
        (ex.REASON,),
        12,
    )
