"""Draws the dashboards for Grafana 11 and later: one JSON each. What they show is `panels`' to say."""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import quote

from context_telemetry.ops.dashboards.links import links
from context_telemetry.ops.dashboards.model import Dashboard, Panel, Place, Unit, Variable, places
from context_telemetry.ops.inputs import Inputs
from context_telemetry.ops.queries import query

Json = dict[str, Any]

SCHEMA_VERSION: Final = 39
"""Of Grafana 11.0; later ones migrate it when they load it."""

GOOD, BAD = "green", "red"
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_TEMPO: Final = "tempo"
"""The uid that the Tempo data source is expected under; dashboards/README.md says so."""

_UNITS: Final[dict[Unit, str]] = {
    "share": "percentunit",
    "per_call": "short",
    "seconds": "s",
    "bytes": "decbytes",
    "count": "short",
    "per_second": "cps",
}


def dashboard(shown: Dashboard, inputs: Inputs) -> str:
    """One dashboard as a file's text."""
    value = {
        "uid": shown.name,
        "title": shown.title,
        "description": shown.answers,
        "tags": ["dataface"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "1m",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_SOURCES, *(_variable(each) for each in shown.variables)]},
        "annotations": {"list": []},
        "links": [
            {
                "type": "dashboards",
                "title": "Dataface",
                "tags": ["dataface"],
                "asDropdown": True,
                "keepTime": True,
            }
        ],
        "panels": _panels(shown, inputs),
    }
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def number(shown: Dashboard, name: str) -> int:
    """The id of a panel, as addresses name it."""
    return next(index for index, panel in enumerate(shown.panels, 1) if panel.name == name)


_SOURCES: Final[Json] = {
    "name": "datasource",
    "label": "Prometheus",
    "type": "datasource",
    "query": "prometheus",
}


def _variable(variable: Variable) -> Json:
    return {
        "name": variable.name,
        "label": variable.title,
        "type": "query",
        "datasource": _SOURCE,
        "query": {
            "qryType": 1,
            "query": f"label_values({variable.matcher}, {variable.label})",
            "refId": variable.name,
        },
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _panels(shown: Dashboard, inputs: Inputs) -> list[Json]:
    panels: list[Json] = []
    y = 0
    for index, row in enumerate(shown.rows):
        # Panels have the numbers from 1 on, so that a row more or less moves no address.
        panels.append(
            {
                "id": 1000 + index,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "gridPos": {"x": 0, "y": y, "w": 24, "h": 1},
                "panels": [],
            }
        )
        placed = places(row, y + 1)
        panels += [_panel(shown, place, inputs) for place in placed]
        y = max(place.y + place.height for place in placed)
    return panels


def _panel(shown: Dashboard, place: Place, inputs: Inputs) -> Json:
    panel = place.panel
    made: Json = {
        "id": number(shown, panel.name),
        "title": panel.title,
        "description": panel.answers,
        "gridPos": {"x": place.x, "y": place.y, "w": place.width, "h": place.height},
        **_TYPES[panel.kind](panel),
    }
    if panel.queries:
        at_once = panel.kind in ("stat", "table")
        made["datasource"] = _SOURCE
        made["targets"] = [
            {
                "refId": chr(ord("A") + index),
                "datasource": _SOURCE,
                "editorMode": "code",
                "expr": each.expression,
                "legendFormat": each.legend or "__auto",
                "instant": at_once,
                "range": not at_once,
                "format": "table" if panel.kind == "table" else "time_series",
            }
            for index, each in enumerate(panel.queries)
        ]
    if found := [*_links(panel, inputs), *_explore(panel, inputs)]:
        made["links"] = found
    return made


def _links(panel: Panel, inputs: Inputs) -> list[Json]:
    return [{"title": each.name, "url": each.url, "targetBlank": True} for each in links(panel, inputs)]


def _explore(panel: Panel, inputs: Inputs) -> list[Json]:
    """The traces in this Grafana's own Explore, for those who keep them in Tempo."""
    found = []
    for name in panel.traces:
        search = {
            "refId": "A",
            "queryType": "traceql",
            "query": query(name, inputs.limits.objectives).traceql(),
        }
        pane = {"datasource": _TEMPO, "queries": [search], "range": {"from": "${__from}", "to": "${__to}"}}
        panes = quote(json.dumps({"traces": pane}), safe="${}")
        title = f"Traces in Tempo: {name.replace('_', ' ')}"
        found.append({"title": title, "url": f"/explore?schemaVersion=1&panes={panes}", "targetBlank": True})
    return found


def _defaults(panel: Panel) -> Json:
    steps: list[Json] = [{"color": GOOD, "value": None}]
    steps += [{"color": BAD, "value": each.value} for each in panel.thresholds]
    return {
        "unit": _UNITS[panel.unit],
        "noValue": "no data",
        "thresholds": {"mode": "absolute", "steps": steps},
    }


def _stat(panel: Panel) -> Json:
    coloured = "background" if panel.thresholds else "none"
    return {
        "type": "stat",
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": {
            "colorMode": coloured,
            "graphMode": "none",
            "textMode": "value_and_name" if any(each.legend for each in panel.queries) else "value",
            "reduceOptions": {"calcs": ["last"], "fields": "", "values": False},
        },
    }


def _graph(panel: Panel) -> Json:
    stacked = panel.kind == "areas"
    custom: Json = {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 40 if stacked else 5,
        "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
    }
    if panel.thresholds:
        custom["thresholdsStyle"] = {"mode": "line"}
    defaults = {**_defaults(panel), "min": 0, "color": {"mode": "palette-classic"}, "custom": custom}
    return {
        "type": "timeseries",
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {
            "legend": {
                "displayMode": "list",
                "placement": "right" if panel.many else "bottom",
                "showLegend": True,
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }


def _table(panel: Panel) -> Json:
    names = {"value": "Value"}
    order = {names.get(each.label, each.label): index for index, each in enumerate(panel.columns)}
    titles = {names.get(each.label, each.label): each.header for each in panel.columns}
    last = panel.columns[-1].header
    overrides = [
        {
            "matcher": {"id": "byName", "options": last},
            "properties": [{"id": "unit", "value": _UNITS[panel.unit]}],
        }
    ]
    return {
        "type": "table",
        "fieldConfig": {
            "defaults": {"noValue": "no data", "custom": {"align": "auto"}},
            "overrides": overrides,
        },
        "options": {"showHeader": True, "sortBy": [{"displayName": last, "desc": True}]},
        "transformations": [
            {
                "id": "organize",
                "options": {"excludeByName": {"Time": True}, "indexByName": order, "renameByName": titles},
            }
        ],
    }


def _text(panel: Panel) -> Json:
    return {"type": "text", "options": {"mode": "markdown", "content": panel.text}}


_TYPES: Final = {"stat": _stat, "lines": _graph, "areas": _graph, "table": _table, "text": _text}
