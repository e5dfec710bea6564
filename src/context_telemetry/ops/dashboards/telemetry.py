"""The telemetry itself: whether the other dashboards can be believed."""

from __future__ import annotations

from context_telemetry.conventions import names
from context_telemetry.health.indicators import CALLS
from context_telemetry.health.sums import Sum
from context_telemetry.ops.dashboards import expressions as ex
from context_telemetry.ops.dashboards import stack, words
from context_telemetry.ops.dashboards.model import Dashboard, Panel, Query, Row, Threshold
from context_telemetry.ops.dashboards.shapes import NO_CALLS, Shapes, indicator, legend

_HOOK_POINTS = Sum(names.METRIC_CONTEXT_TELEMETRY_HOOKS)
_ERRORS = Sum(names.METRIC_CONTEXT_TELEMETRY_ERRORS)
_SILENT = "No process has said how it is."
_DROPPED = Sum(names.METRIC_CONTEXT_TELEMETRY_DROPPED)


def dashboard(s: Shapes) -> Dashboard:
    return Dashboard(
        "dataface-telemetry",
        "Dataface: the telemetry itself",
        "Whether the other dashboards can be believed: what is observed, what was lost on the way, and what it costs.",
        (
            Row("Now", 5, (_calls(s), *_own_states(s), stack.running())),
            Row("In the serving processes", 8, (_hooks(s), _own_errors(s), _own_drops(s))),
            Row("In the Collector", 8, stack.collector()),
            Row("What it costs", 8, (stack.series(), stack.memory())),
        ),
        ex.OF_A_FLEET,
    )


def _calls(s: Shapes) -> Panel:
    return Panel(
        name="calls",
        title=f"Calls recorded, {s.last}",
        answers="Whether anything is heard at all.",
        kind="stat",
        width=4,
        queries=(Query(ex.increase_everywhere(CALLS, s.window)),),
        empty=NO_CALLS,
    )


def _own_states(s: Shapes) -> tuple[Panel, ...]:
    """What the library says of itself. A counter of which nobody spoke is 0 where the hook points were spoken of."""
    said = ex.latest(_HOOK_POINTS, s.window)

    def added(name: str) -> str:
        return f"({ex.increase(indicator(name).bad[0], s.window, ())} or on () 0 * {said})"

    def state(name: str) -> str:
        return f"({ex.latest(indicator(name).bad[0], s.window)} or on () 0 * {said})"

    return (
        _own_state("hooks_lost", "Hook points lost", state("hooks_lost")),
        _own_state("telemetry_errors", f"Own errors, {s.last}", added("telemetry_errors")),
        _own_state("telemetry_dropped", f"Dropped, {s.last}", added("telemetry_dropped")),
        _own_state("settings_wrong", "Settings wrong", state("settings_wrong")),
    )


def _own_state(name: str, title: str, expression: str) -> Panel:
    found = indicator(name)
    return Panel(
        name=name,
        title=title,
        answers=f"{words.sentence(found.measures)} From the first on {found.wrong}.",
        kind="stat",
        width=4,
        queries=(Query(expression),),
        empty=_SILENT,
        thresholds=(Threshold(1, "the first"),),
        indicators=(name,),
    )


def _hooks(s: Shapes) -> Panel:
    (lost,) = indicator("hooks_lost").bad
    return Panel(
        name="hooks",
        title="Hook points absent or failed",
        answers="Which places in Dataface should be observed and are not, as processes said in the last hour.",
        kind="areas",
        width=8,
        queries=(
            Query(
                ex.row_if_none(
                    f"{ex.latest(lost, ex.RECENT, (ex.FLAW,))} > 0",
                    ex.FLAW,
                    "none",
                    ex.latest(_HOOK_POINTS, ex.RECENT),
                ),
                legend(ex.FLAW),
            ),
        ),
        empty=_SILENT,
    )


def _own_errors(s: Shapes) -> Panel:
    return _own(
        s, "own_errors", "Errors of the library", "Errors that it caught in itself, and where.", _ERRORS
    )


def _own_drops(s: Shapes) -> Panel:
    return _own(
        s,
        "own_drops",
        "Dropped by the library",
        "Spans, points and events that were lost, and where.",
        _DROPPED,
    )


def _own(s: Shapes, name: str, title: str, answers: str, what: Sum) -> Panel:
    said = ex.latest(_HOOK_POINTS, ex.RECENT)
    return Panel(
        name=name,
        title=f"{title}, {s.recent}",
        answers=answers,
        kind="areas",
        width=8,
        queries=(
            Query(
                ex.row_if_none(
                    f"{ex.increase(what, ex.RECENT, (ex.LIBRARY_PART,))} > 0", ex.LIBRARY_PART, "none", said
                ),
                legend(ex.LIBRARY_PART),
            ),
        ),
        empty=_SILENT,
    )
