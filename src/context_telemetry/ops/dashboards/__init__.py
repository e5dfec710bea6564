"""Builds `dashboards/`: five dashboards, for Perses and for Grafana, out of one definition of their panels."""

from __future__ import annotations

from context_telemetry.ops.dashboards import grafana, perses
from context_telemetry.ops.dashboards.model import Dashboard, Panel
from context_telemetry.ops.dashboards.panels import dashboards
from context_telemetry.ops.dashboards.readme import readme
from context_telemetry.ops.inputs import Inputs

FOLDER = "dashboards"


def files(inputs: Inputs) -> dict[str, str]:
    """Every file below `dashboards/` as relative path to text; the same text for the same inputs."""
    made = {f"{FOLDER}/README.md": readme(inputs)}
    for shown in dashboards(inputs):
        made[f"{FOLDER}/perses/{shown.name}.json"] = perses.dashboard(shown, inputs)
        made[f"{FOLDER}/grafana/{shown.name}.json"] = grafana.dashboard(shown, inputs)
    return made


def address(indicator: str, inputs: Inputs) -> str:
    """Where an alert's panel is in Grafana, below `links.dashboards`, for its annotation.

    Raises KeyError for an indicator that no panel shows.
    """
    shown, panel = panel_of(indicator, inputs)
    base = inputs.owners.links.dashboards
    return f"{base}/{shown.name}?viewPanel={grafana.number(shown, panel.name)}"


def panel_of(indicator: str, inputs: Inputs) -> tuple[Dashboard, Panel]:
    """The panel that an indicator's alert points at, with its dashboard. Raises KeyError where there is none."""
    for shown in dashboards(inputs):
        for panel in shown.panels:
            if indicator in panel.indicators:
                return shown, panel
    raise KeyError(f"no panel shows the indicator {indicator}")


__all__ = ["FOLDER", "address", "dashboards", "files", "panel_of"]
