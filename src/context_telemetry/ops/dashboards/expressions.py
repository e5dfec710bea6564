"""The PromQL of the panels, out of the sums that indicators and rules are made of, for what the variables choose.

Two windows. The objectives' own is what alerts judge; the graphs move on by the last five minutes, so that they show
when a thing began and that a repair helped. Where calls were served and nothing bad was counted, that is drawn as 0;
where none were served there is nothing to draw, for nothing is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from context_telemetry.conventions import names
from context_telemetry.health import promql
from context_telemetry.health.indicators import CALLS, Indicator
from context_telemetry.health.promql import ENVIRONMENT, NAMESPACE, SURFACE
from context_telemetry.health.sums import Sum
from context_telemetry.ops.dashboards.model import Variable
from context_telemetry.ops.shares import bad_ones

if TYPE_CHECKING:
    from context_telemetry.limits import Objectives

REASON = promql.label(names.DATAFACE_DEGRADATION_REASON)
OUTCOME = promql.label(names.DATAFACE_OUTCOME)
OPERATION = promql.label(names.DATAFACE_OPERATION_NAME)
KIND = promql.label(names.DATAFACE_PAYLOAD_KIND)
CLIENT = promql.label(names.DATAFACE_CLIENT_NAME)
LAYER = promql.label(names.DATAFACE_CATALOG_LAYER)
ARTIFACT = promql.label(names.DATAFACE_ARTIFACT)
SOURCE = promql.label(names.DATAFACE_CATALOG_SOURCE)
ERROR = promql.label(names.ERROR_TYPE)
LIBRARY_PART = promql.label(names.CONTEXT_TELEMETRY_PLACE)
LEVEL = promql.label(names.DATAFACE_CONTRACT_LEVEL)
CONTRACT_PART = promql.label(names.DATAFACE_CONTRACT_PART)
FLAW = promql.label(names.CONTEXT_TELEMETRY_FLAW)

RECENT = 300.0
"""Seconds: the window of the graphs."""

_EVERY_CALL = promql.selector(CALLS)
OF_A_FLEET = (
    Variable("environment", "Environment", ENVIRONMENT, _EVERY_CALL),
    Variable("namespace", "Project", NAMESPACE, _EVERY_CALL),
)
OF_SURFACES = (*OF_A_FLEET, Variable("surface", "Surface", SURFACE, _EVERY_CALL))
"""What a reader chooses. A metric without the label is not asked for it."""


def increase(each: Sum, seconds: float, by: Sequence[str] = (SURFACE,)) -> str:
    """What came to a counter or histogram in the window, of what the variables choose."""
    return _chosen(promql.increase(each, seconds, by, _variables(each)))


def increase_everywhere(each: Sum, seconds: float) -> str:
    """The same summed up, on a dashboard where no surface is chosen."""
    return _chosen(promql.increase(each, seconds, (), _of_a_fleet()))


def or_none(expression: str, seconds: float, by: Sequence[str] = (SURFACE,)) -> str:
    """The expression, and 0 where it has nothing although calls were served: then none is what there was.

    ``by`` are the labels that both have.
    """
    return f"({expression} or on ({', '.join(by)}) 0 * {increase(CALLS, seconds, by)})"


def share(indicator: Indicator, objectives: Objectives, seconds: float) -> str:
    """A ratio by surface, as `status` and the rules have it; nothing where there was nothing to judge."""
    among = increase(indicator.among, seconds)
    counted = bad_ones(indicator, objectives, lambda each: increase(each, seconds), f"0 * {among}")
    return f"({counted}) / ({among} > 0)"


def quantile(rank: float, each: Sum, seconds: float, by: Sequence[str]) -> str:
    """The value that this share of a histogram's measurements stays below; nothing where there were none."""
    buckets = promql.selector(each, "_bucket", _variables(each))
    return _chosen(f"histogram_quantile({rank:g}, {promql.added(buckets, seconds, (*by, 'le'))}) >= 0")


def latest(each: Sum, seconds: float, by: Sequence[str] = ()) -> str:
    """What a gauge said last, and processes of themselves."""
    return _chosen(promql.latest(each, seconds, by, _variables(each)))


def said(each: Sum, by: Sequence[str]) -> str:
    """What was said last of each project that is chosen, whichever process said it."""
    return _chosen(promql.said(each, by, _variables(each)))


def lowest(each: Sum, seconds: float, by: Sequence[str] = ()) -> str:
    """The lowest that a gauge's series said last."""
    told = promql.last(each, seconds, _variables(each))
    return _chosen(f"min by ({', '.join(by)}) ({told})" if by else f"min({told})")


def age(each: Sum, seconds: float) -> str:
    """How long ago a gauge's moments are in each place, as alerts have it; of the places that are chosen the oldest."""
    labels = ", ".join(promql.label(name) for name in each.of.attributes)
    return _chosen(f"max by ({labels}) ({promql.age(each, seconds, promql.PLACE, _variables(each))})")


def row_if_none(expression: str, label: str, words: str, known: str) -> str:
    """The expression; where it has nothing and ``known`` has a series, a 0 that says so in ``label``."""
    return f'{expression} or on () label_replace(0 * {known}, "{label}", "{words}", "", "")'


def _variables(each: Sum) -> dict[str, str]:
    return {**_of_a_fleet(), **({SURFACE: "$surface"} if each.by_surface else {})}


def _of_a_fleet() -> dict[str, str]:
    return {variable.label: f"${variable.name}" for variable in OF_A_FLEET}


def _chosen(expression: str) -> str:
    """With every variable as a pattern: it stands for one value, for several, or for all."""
    return expression.replace('="$', '=~"$')
