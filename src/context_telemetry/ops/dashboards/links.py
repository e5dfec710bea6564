"""Where to go on from a panel: its runbook, and the traces of the calls that it counts."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode

from context_telemetry.health import INDICATORS
from context_telemetry.ops.dashboards.model import Panel
from context_telemetry.ops.inputs import Inputs
from context_telemetry.ops.queries import query


@dataclass(frozen=True)
class Link:
    """A link with what it leads to."""

    name: str
    tells: str
    url: str


def links(panel: Panel, inputs: Inputs) -> list[Link]:
    """The panel's runbooks, then its traces in Jaeger."""
    base = inputs.owners.links
    alerts = {each.name: each.alert for each in INDICATORS}
    found = [
        Link(f"Runbook {alerts[name]}", "What it means and what to do", f"{base.runbooks}/{alerts[name]}.md")
        for name in panel.indicators
    ]
    for name in panel.traces:
        search = query(name, inputs.limits.objectives)
        where = urlencode({**search.jaeger(), "lookback": "1h"})
        found.append(
            Link(
                f"Traces: {name.replace('_', ' ')}",
                f"{search.question} Tempo: {search.traceql()}",
                f"{base.traces}/search?{where}",
            )
        )
    return found
