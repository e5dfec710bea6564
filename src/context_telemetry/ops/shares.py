"""How many are bad of an indicator that is a share, in PromQL: the same sum for rules and for panels."""

from __future__ import annotations

from collections.abc import Callable

from context_telemetry.health.indicators import Indicator
from context_telemetry.health.sums import Sum
from context_telemetry.limits.model import Objectives


def bad_ones(indicator: Indicator, objectives: Objectives, increase: Callable[[Sum], str], none: str) -> str:
    """What is bad less what of it is not, with ``increase`` as the expression of each sum.

    ``none`` has a 0 wherever anything was served: a part that nobody counted is 0 there, and the sum is not nothing.
    """
    bad, but = indicator.counted(objectives)
    parts = [f"({increase(each)}\n or {none})" for each in bad]
    without = [f"({increase(each)}\n or {none})" for each in but]
    return "\n- ".join(["\n+ ".join(parts), *without])
