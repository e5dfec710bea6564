"""Catalogue and profiles: what did not resolve, how long it takes, how old it is, how much is described."""

from __future__ import annotations

from context_telemetry.conventions import names
from context_telemetry.health.indicators import CALLS, DEGRADATIONS
from context_telemetry.health.promql import REMEMBERED
from context_telemetry.health.sums import Sum, some
from context_telemetry.health.words import lasting
from context_telemetry.ops.dashboards import expressions as ex
from context_telemetry.ops.dashboards.model import Dashboard, Panel, Query, Row, Threshold
from context_telemetry.ops.dashboards.shapes import NO_CALLS, Shapes, indicator, legend

_UNRESOLVED = Sum(names.METRIC_DATAFACE_RESOLUTION_FAILURES)
_AGE = Sum(names.METRIC_DATAFACE_STALENESS_AGE)
_COVERAGE = Sum(names.METRIC_DATAFACE_ENRICHMENT_COVERAGE_RATIO)
_DURATION = names.METRIC_DATAFACE_OPERATION_DURATION
# The operations that make context, as `context_latency` has them.
_CONTEXT = frozenset({"catalog.resolve", "context.build", "manifest.load"})
_STALE_INDICATORS = {"manifest_stale": "manifest", "profile_stale": "profile", "result_stale": "result"}


def dashboard(s: Shapes) -> Dashboard:
    return Dashboard(
        "dataface-catalogue",
        "Dataface: catalogue and profiles",
        "What did not resolve, how long resolving takes, how old what is served is, and how much of it is described.",
        (
            Row(
                "Now",
                5,
                (
                    s.share_now("resolution_failures", "Not resolved, each call", 5),
                    _stale_now(s),
                    s.share_now("enrichment_lost", "Descriptions lost", 5),
                    _age_now(s),
                    _coverage(s),
                ),
            ),
            Row(
                "What did not resolve",
                8,
                (s.share_over_time("resolution_failures"), _unresolved(s)),
            ),
            Row("How long it takes", 8, (_latency(s), _too_slow(s))),
            Row("How old it is", 8, (_staleness(s), _stale_over_time(s))),
            Row(
                "Profiles and descriptions",
                8,
                (_profiles(s), _artifact_age(s), coverage_over_time(s)),
            ),
        ),
        ex.OF_SURFACES,
    )


def _age_now(s: Shapes) -> Panel:
    built = indicator("artifact_age")
    return Panel(
        name="artifact_age_now",
        title="Built, time ago",
        answers="How long ago the manifest and the profiles that are served were built; of several places the oldest.",
        kind="stat",
        width=4,
        unit="seconds",
        queries=(Query(ex.age(built.bad[0], REMEMBERED), legend(ex.ARTIFACT)),),
        empty="No process has said in seven days which artefact it serves from.",
        thresholds=s.limit(built),
        indicators=("artifact_age",),
    )


def _stale_now(s: Shapes) -> Panel:
    served = ex.increase(CALLS, s.window, ())
    return Panel(
        name="stale_now",
        title=f"Stale answers, {s.last}",
        answers="The share of calls that were served with a manifest, a profile or a result older than it may be.",
        kind="stat",
        width=5,
        unit="share",
        queries=tuple(
            Query(
                f"{ex.or_none(ex.increase(indicator(name).bad[0], s.window, ()), s.window, ())} / ({served} > 0)",
                what,
            )
            for name, what in _STALE_INDICATORS.items()
        ),
        empty=NO_CALLS,
        thresholds=s.limit(indicator("manifest_stale")),
        traces=("manifest_stale",),
        indicators=tuple(_STALE_INDICATORS),
    )


def _coverage(s: Shapes) -> Panel:
    return Panel(
        name="coverage",
        title="Described columns",
        answers="Which share of the columns in the manifest has a description.",
        kind="stat",
        width=5,
        unit="share",
        queries=(Query(ex.lowest(_COVERAGE, REMEMBERED)),),
        empty="No process has said in seven days how much is described.",
    )


def _unresolved(s: Shapes) -> Panel:
    by = (ex.REASON, ex.ERROR)
    return Panel(
        name="unresolved_over_time",
        title=f"Objects that did not resolve, {s.recent}",
        answers="Sources, tables, columns, resources and pages that were asked for and are not there, by reason.",
        kind="areas",
        width=12,
        many=True,
        queries=(
            Query(
                ex.row_if_none(
                    f"{ex.increase(_UNRESOLVED, ex.RECENT, by)} > 0",
                    ex.REASON,
                    "none",
                    ex.increase(CALLS, ex.RECENT, ()),
                ),
                legend(ex.REASON, ex.ERROR),
            ),
        ),
        empty=NO_CALLS,
        traces=("object_unknown",),
    )


def _latency(s: Shapes) -> Panel:
    made = some(_DURATION, name=_CONTEXT)
    return Panel(
        name="latency",
        title=f"Time to resolve, load and build, {s.recent}",
        answers="How long 95 of 100 calls took to resolve the catalogue, load the manifest and build AI context.",
        kind="lines",
        width=12,
        unit="seconds",
        queries=(
            Query(ex.quantile(0.95, made, ex.RECENT, (ex.OPERATION,)), legend(ex.OPERATION, after="p95")),
        ),
        empty="None of these was called.",
        thresholds=(Threshold(s.objectives.context_duration, "limit for 95 of 100"),),
        traces=("slow",),
    )


def _too_slow(s: Shapes) -> Panel:
    return s.share_over_time("context_latency", traces=("slow",))


def _staleness(s: Shapes) -> Panel:
    promises = [(layer, seconds) for layer, seconds in s.inputs.limits.promises if seconds is not None]
    told = ", ".join(f"{layer} {lasting(seconds)}" for layer, seconds in promises) or "none is made"
    return Panel(
        name="staleness",
        title=f"Age when served, by layer, {s.recent}",
        answers=f"How old 95 of 100 answers were at the moment of serving. Promises: {told}.",
        kind="lines",
        width=12,
        unit="seconds",
        queries=(Query(ex.quantile(0.95, _AGE, ex.RECENT, (ex.LAYER,)), legend(ex.LAYER, after="p95")),),
        empty="Nothing that has an age was served.",
        thresholds=tuple(Threshold(seconds, f"promise: {layer}") for layer, seconds in promises),
    )


def _stale_over_time(s: Shapes) -> Panel:
    counted = [each.where.values() for name in _STALE_INDICATORS for each in indicator(name).bad]
    stale = frozenset[str]().union(*(reasons for where in counted for reasons in where))
    return s.added(
        "stale_over_time",
        "Stale answers by reason",
        "Calls that were served with something older than it may be.",
        Sum(DEGRADATIONS, {names.DATAFACE_DEGRADATION_REASON: stale}),
        (ex.REASON,),
        12,
    )


def _profiles(s: Shapes) -> Panel:
    return s.added(
        "profiles",
        "Tables profiled",
        "Profiles that were made, and how that ended. None where nobody asked for one.",
        some(_DURATION, name="catalog.profile"),
        (ex.OUTCOME,),
        8,
    )


def _artifact_age(s: Shapes) -> Panel:
    built = indicator("artifact_age")
    return Panel(
        name="artifact_age",
        title="Time since built",
        answers=f"A line that only rises is an artefact that nobody builds any more; the limit is "
        f"{lasting(built.limit_in(s.objectives))}.",
        kind="lines",
        width=8,
        unit="seconds",
        queries=(Query(ex.age(built.bad[0], REMEMBERED), legend(ex.ARTIFACT)),),
        empty="No process has said in seven days which artefact it serves from.",
    )


def coverage_over_time(s: Shapes, width: int = 8) -> Panel:
    return Panel(
        name="coverage_over_time",
        title="Described columns over time",
        answers="A step down is descriptions that were lost, or columns that came without.",
        kind="lines",
        width=width,
        unit="share",
        queries=(Query(ex.lowest(_COVERAGE, REMEMBERED, (ex.SOURCE,)), legend(ex.SOURCE)),),
        empty="No process has said in seven days how much is described.",
    )
