"""Which series a PromQL expression reads, and whether anything makes them: a rule about nothing never fires.

Reads names alone; whether an expression is right is for promtool to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from context_telemetry.health import promql
from context_telemetry.ops.documents import meant
from context_telemetry.ops.shared import SIGNALS

# What the Collector 0.159 says of itself with the reader that collector/gateway.yaml has, which leaves out the suffixes
# for units and totals. A test asks a running one.
COLLECTOR: Final = frozenset(
    {
        "otelcol_exporter_queue_size",
        "otelcol_exporter_queue_capacity",
        "otelcol_deltatocumulative_datapoints",
        "otelcol_process_memory_rss",
        "otelcol_process_uptime",
    }
    | {f"otelcol_receiver_{what}_{signal}" for what in ("accepted", "refused") for signal in SIGNALS}
    | {
        f"otelcol_exporter_{what}_{signal}"
        for what in ("sent", "send_failed", "enqueue_failed")
        for signal in SIGNALS
    }
)
# What Prometheus makes of its own accord.
PROMETHEUS: Final = frozenset({"up", "ALERTS", "ALERTS_FOR_STATE"})

_KEYWORDS: Final = frozenset(
    {
        "and",
        "or",
        "unless",
        "offset",
        "bool",
        "inf",
        "nan",
        "atan2",
        "start",
        "end",
        "group_left",
        "group_right",
    }
)
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'')
_NAMED: Final = re.compile(r'__name__\s*=\s*"([^"]*)"')
_LABELS: Final = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_RANGE: Final = re.compile(r"\[[^\]]*\]")
_OFFSET: Final = re.compile(r"\boffset\s+-?(?:\d+(?:ms|[smhdwy]))+|\boffset\s+\$\w+")
_NAME: Final = re.compile(r"(?<![\w:.$])([a-zA-Z_:][\w:]*)(?!\s*\()(?![\w:])")


def series_in(expression: str) -> frozenset[str]:
    """The names of the series that an expression reads; none of a selector without a plain name."""
    named = set(_NAMED.findall(expression))
    text = _STRING.sub('""', expression)
    text = re.sub(r"\{[^}]*\}", "", text)
    for pattern in (_OFFSET, _LABELS, _RANGE):
        text = pattern.sub(" ", text)
    # A word before a bracket is a function, or an operator with its labels behind it.
    words = {word for word in _NAME.findall(text) if not word.isdigit() and word.lower() not in _KEYWORDS}
    aggregated = set(re.findall(r"\b(\w+)\s+\(", text))
    return frozenset((words - aggregated - {"by", "without", "on", "ignoring"}) | named)


def recorded(rules: Mapping[str, Any]) -> frozenset[str]:
    """The names of the series that recording rules make."""
    every = (rule for group in rules["groups"] for rule in group["rules"])
    return frozenset(rule["record"] for rule in every if "record" in rule)


def unknown(expressions: Mapping[str, str], made: Iterable[str]) -> list[str]:
    """What expressions read that nothing makes, as `WHERE: there is no series X; did you mean Y?`."""
    known = promql.known_names() | COLLECTOR | PROMETHEUS | frozenset(made)
    return [
        f"{where}: there is no series {name}; {meant(name, known)}"
        for where, expression in expressions.items()
        for name in sorted(series_in(expression) - known)
    ]
