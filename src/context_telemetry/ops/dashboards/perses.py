"""Draws the dashboards for Perses 0.54: one `kind: Dashboard` each, in JSON. What they show is `panels`' to say."""

from __future__ import annotations

import json
from typing import Any, Final

from context_telemetry.ops.dashboards.links import Link, links
from context_telemetry.ops.dashboards.model import Dashboard, Panel, Row, Unit, Variable, places
from context_telemetry.ops.inputs import Inputs

Json = dict[str, Any]

PROJECT: Final = "dataface"
DURATION: Final = "1h"
REFRESH: Final = "1m"

GOOD, BAD, PLAIN = "#2e7d32", "#c62828", "#37474f"

_FORMATS: Final[dict[Unit, Json]] = {
    "share": {"unit": "percent-decimal"},
    "per_call": {"unit": "decimal"},
    "seconds": {"unit": "seconds"},
    "bytes": {"unit": "bytes", "shortValues": True},
    "count": {"unit": "decimal", "shortValues": True},
    "per_second": {"unit": "counts/sec"},
}


def dashboard(shown: Dashboard, inputs: Inputs) -> str:
    """One dashboard as a file's text."""
    value = {
        "kind": "Dashboard",
        "metadata": {"name": shown.name, "project": PROJECT},
        "spec": {
            "display": {"name": shown.title, "description": shown.answers},
            "duration": DURATION,
            "refreshInterval": REFRESH,
            "variables": [_variable(each) for each in shown.variables],
            "layouts": [_grid(row) for row in shown.rows],
            "panels": {panel.name: _panel(panel, inputs) for panel in shown.panels},
        },
    }
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _variable(variable: Variable) -> Json:
    return {
        "kind": "ListVariable",
        "spec": {
            "name": variable.name,
            "display": {"name": variable.title},
            "allowMultiple": True,
            "allowAllValue": True,
            "customAllValue": ".*",
            "defaultValue": ["$__all"],
            "sort": "alphabetical-asc",
            "plugin": {
                "kind": "PrometheusLabelValuesVariable",
                "spec": {"labelName": variable.label, "matchers": [variable.matcher]},
            },
        },
    }


def _grid(row: Row) -> Json:
    items = [
        {
            "x": place.x,
            "y": place.y,
            "width": place.width,
            "height": place.height,
            "content": {"$ref": f"#/spec/panels/{place.panel.name}"},
        }
        for place in places(row)
    ]
    return {
        "kind": "Grid",
        "spec": {"display": {"title": row.title, "collapse": {"open": True}}, "items": items},
    }


def _panel(panel: Panel, inputs: Inputs) -> Json:
    spec: Json = {
        "display": {"name": panel.title, "description": panel.answers},
        "plugin": _PLUGINS[panel.kind](panel),
    }
    if panel.queries:
        spec["queries"] = [
            {
                "kind": "TimeSeriesQuery",
                "spec": {
                    "plugin": {
                        "kind": "PrometheusTimeSeriesQuery",
                        "spec": {"query": query.expression, "seriesNameFormat": query.legend},
                    }
                },
            }
            for query in panel.queries
        ]
    if found := links(panel, inputs):
        spec["links"] = [_link(each) for each in found]
    return {"kind": "Panel", "spec": spec}


def _link(link: Link) -> Json:
    return {"name": link.name, "tooltip": link.tells, "url": link.url, "targetBlank": True}


def _stat(panel: Panel) -> Json:
    steps = [{"value": each.value, "color": BAD, "name": each.words} for each in panel.thresholds]
    spec = {
        "calculation": "last",
        "format": _FORMATS[panel.unit],
        # Side by side for as many series as there are surfaces and kinds, or alone.
        "valueFontSize": 20 if any(each.legend for each in panel.queries) else 32,
        "thresholds": {"defaultColor": GOOD if steps else PLAIN, "steps": steps},
    }
    return {"kind": "StatChart", "spec": spec}


def _graph(panel: Panel) -> Json:
    stacked = panel.kind == "areas"
    spec: Json = {
        "legend": {"position": "right" if panel.many else "bottom", "mode": "list", "size": "small"},
        "yAxis": {"format": _FORMATS[panel.unit], "min": 0},
        "visual": {
            "lineWidth": 1.5,
            "areaOpacity": 0.4 if stacked else 0.05,
            "stack": "all" if stacked else "none",
            "palette": {"mode": "categorical"},
        },
    }
    if panel.thresholds:
        spec["thresholds"] = {
            "steps": [{"value": each.value, "color": BAD, "name": each.words} for each in panel.thresholds]
        }
    return {"kind": "TimeSeriesChart", "spec": spec}


def _table(panel: Panel) -> Json:
    columns = [
        {
            "name": column.label,
            "header": column.header,
            **({"width": column.width} if column.width else {}),
            **(
                {"format": _FORMATS[panel.unit], "align": "right", "enableSorting": True, "sort": "desc"}
                if column.label == "value"
                else {}
            ),
        }
        for column in panel.columns
    ]
    hidden = [{"name": "timestamp", "hide": True}]
    return {
        "kind": "Table",
        "spec": {"density": "compact", "defaultColumnWidth": "auto", "columnSettings": [*columns, *hidden]},
    }


def _text(panel: Panel) -> Json:
    return {"kind": "Markdown", "spec": {"text": panel.text}}


_PLUGINS: Final = {"stat": _stat, "lines": _graph, "areas": _graph, "table": _table, "text": _text}
