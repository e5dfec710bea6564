"""What consumers rely on: whether something changed upstream, and whom it hits.

First what a comparison with the accepted contract tells, then what serving tells. Which column it is stands in the
events and in `contract check`: a name is no label.
"""

from __future__ import annotations

from dataclasses import replace

from context_telemetry.conventions import names
from context_telemetry.health.indicators import CALLS, CHECKS, DEGRADATIONS
from context_telemetry.health.promql import ENVIRONMENT, NAMESPACE, PLACE, SURFACE
from context_telemetry.health.sums import Sum
from context_telemetry.ops.dashboards import expressions as ex
from context_telemetry.ops.dashboards.catalogue import coverage_over_time
from context_telemetry.ops.dashboards.model import Column, Dashboard, Panel, Query, Row, Threshold
from context_telemetry.ops.dashboards.shapes import BY_SURFACE, NO_CALLS, Shapes, indicator, legend
from context_telemetry.ops.dashboards.words import sentence

_UNRESOLVED = Sum(names.METRIC_DATAFACE_RESOLUTION_FAILURES)
# The reasons that a change upstream gives: what consumers rely on is gone, renamed, or described no more.
_CHANGED = Sum(
    DEGRADATIONS,
    {
        names.DATAFACE_DEGRADATION_REASON: frozenset(
            {
                "contract_broken",
                "schema_drift",
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

_OPEN = Sum(names.METRIC_DATAFACE_CONTRACT_OPEN)
_BROKEN = Sum(
    DEGRADATIONS, {names.DATAFACE_DEGRADATION_REASON: frozenset({"contract_broken", "schema_drift"})}
)
_REFERENCES = Sum(names.METRIC_DATAFACE_REFERENCES_UNKNOWN)
_NOT_COMPARED = "No process has said in a day what is open: there is no contract, or nobody is served."


def dashboard(s: Shapes) -> Dashboard:
    return Dashboard(
        "dataface-contract",
        "Dataface: what consumers rely on",
        "Whether something changed upstream, and whom it hits: changes that break the accepted contract, "
        "names that are gone, charts that fail, descriptions that are lost.",
        (
            Row(
                "Now",
                5,
                (
                    _open_now(s),
                    s.share_now("unknown_references", "Not there, each call", 5),
                    _objects_now(s),
                    _hit_now(s),
                    s.share_now("enrichment_lost", "Descriptions lost", 5),
                ),
            ),
            Row("What was accepted and is no more", 8, (_open_over_time(s), _open(s))),
            Row("What checks find", 7, (_checks_over_time(s), _checks(s))),
            Row("Who meets it", 8, (_broken_over_time(s), _references_over_time(s))),
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


def _open_now(s: Shapes) -> Panel:
    found = indicator("contract_open")
    return Panel(
        name="contract_open_now",
        title="Breaking, open",
        answers=f"{sentence(found.measures)} {sentence(found.wrong)}",
        kind="stat",
        width=5,
        queries=(Query(ex.said(found.bad[0], (ex.LEVEL,))),),
        empty=_NOT_COMPARED,
        thresholds=(Threshold(1, "one is open"),),
        traces=("contract_broken",),
        indicators=(found.name,),
    )


def _open_over_time(s: Shapes) -> Panel:
    return Panel(
        name="contract_open_over_time",
        title="Changes open, by part and level",
        answers="Since when tables or tools differ from what was accepted. Only what is breaking fires an alert.",
        kind="lines",
        width=12,
        queries=(Query(ex.said(_OPEN, (ex.CONTRACT_PART, ex.LEVEL)), legend(ex.CONTRACT_PART, ex.LEVEL)),),
        empty=_NOT_COMPARED,
    )


def _open(s: Shapes) -> Panel:
    return Panel(
        name="contract_open",
        title="Changes open, where",
        answers="In which project, of what, of which level. `context-telemetry contract check` there names each. "
        "Tools are compared by a check alone.",
        kind="table",
        width=12,
        queries=(Query(ex.said(_OPEN, (*PLACE, ex.CONTRACT_PART, ex.LEVEL))),),
        empty=_NOT_COMPARED,
        columns=(
            Column(NAMESPACE, "Project"),
            Column(ENVIRONMENT, "Environment"),
            Column(ex.CONTRACT_PART, "Part"),
            Column(ex.LEVEL, "Level"),
            Column("value", "Changes"),
        ),
    )


_NOT_CHECKED = "No check has looked: `context-telemetry check` does, from cron or a timer."


def _checks_over_time(s: Shapes) -> Panel:
    return replace(s.share_over_time("checks_failing"), empty=_NOT_CHECKED, indicators=("checks_failing",))


def _checks(s: Shapes) -> Panel:
    by = (*PLACE, ex.OUTCOME)
    return Panel(
        name="checks",
        title=f"Checks, {s.last}",
        answers="How many looked, and how they ended. `context-telemetry check` there names what is wrong.",
        kind="table",
        width=12,
        queries=(Query(f"{ex.increase(CHECKS, s.window, by)} > 0"),),
        empty=_NOT_CHECKED,
        columns=(
            Column(NAMESPACE, "Project"),
            Column(ENVIRONMENT, "Environment"),
            Column(ex.OUTCOME, "Outcome"),
            Column("value", "Checks"),
        ),
    )


def _broken_over_time(s: Shapes) -> Panel:
    return s.added(
        "contract_broken_over_time",
        "Calls that meet a change, by surface and reason",
        "Who is served what is not as it was accepted (contract_broken), or not as the manifest declares it "
        "(schema_drift).",
        _BROKEN,
        (SURFACE, ex.REASON),
        12,
    )


def _references_over_time(s: Shapes) -> Panel:
    return s.added(
        "unknown_references_over_time",
        "Names that are not there, by surface",
        "Tables and columns that queries name and their source does not have: made up by an agent, or gone.",
        _REFERENCES,
        (SURFACE,),
        12,
    )


def _objects_now(s: Shapes) -> Panel:
    return Panel(
        name="objects_now",
        title=f"Objects not there, {s.last}",
        answers="How many sources, tables, columns, resources and pages were asked for that are not there.",
        kind="stat",
        width=5,
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
        width=4,
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
                    ex.increase(CALLS, s.window, ()),
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
                    ex.increase(CALLS, s.window, ()),
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
