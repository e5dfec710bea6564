"""The one definition of the dashboards, for every emitter: what an operator asks, and the panels that answer it.

Every metric is one of the conventions, by its constant; every limit is an indicator's or a budget. Nothing here knows
Perses or Grafana.
"""

from __future__ import annotations

from context_telemetry.ops.dashboards import catalogue, contract, health, payloads, telemetry
from context_telemetry.ops.dashboards.model import Dashboard
from context_telemetry.ops.dashboards.shapes import Shapes
from context_telemetry.ops.inputs import Inputs


def dashboards(inputs: Inputs) -> tuple[Dashboard, ...]:
    """All of them, the first look first."""
    shapes = Shapes(inputs)
    return tuple(each.dashboard(shapes) for each in (health, catalogue, payloads, contract, telemetry))
