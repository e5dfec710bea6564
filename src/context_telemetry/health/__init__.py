"""What healthy means, and the verdict over a history."""

from context_telemetry.health.advice import WHAT_TO_DO, how, what_to_do
from context_telemetry.health.indicators import EVERYWHERE, INDICATORS, Facts, Indicator, Measured
from context_telemetry.health.verdict import Finding, State, Verdict, evaluate, facts

__all__ = [
    "EVERYWHERE",
    "INDICATORS",
    "WHAT_TO_DO",
    "Facts",
    "Finding",
    "Indicator",
    "Measured",
    "State",
    "Verdict",
    "evaluate",
    "facts",
    "how",
    "what_to_do",
]
