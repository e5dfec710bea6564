"""What healthy means, and the verdict over local files or a Prometheus-compatible API."""

from context_telemetry.health.advice import WHAT_TO_DO, how, urgency, what_to_do
from context_telemetry.health.indicators import INDICATORS, Indicator
from context_telemetry.health.local import Facts, Local, SamplerSeen, lost_descriptions, samplers
from context_telemetry.health.sums import Sum
from context_telemetry.health.verdict import EVERYWHERE, Finding, Source, State, Verdict, evaluate

__all__ = [
    "EVERYWHERE",
    "INDICATORS",
    "WHAT_TO_DO",
    "Facts",
    "Finding",
    "Indicator",
    "Local",
    "SamplerSeen",
    "Source",
    "State",
    "Sum",
    "Verdict",
    "evaluate",
    "how",
    "lost_descriptions",
    "samplers",
    "urgency",
    "what_to_do",
]
