"""The dashboards as files: what they name exists, and both emitters draw the same panels."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import pytest

from context_telemetry.conventions import names
from context_telemetry.health import INDICATORS
from context_telemetry.health.promql import ENVIRONMENT, NAMESPACE, known_names, label, prometheus_name
from context_telemetry.limits import Limits
from context_telemetry.ops import dashboards
from context_telemetry.ops.alerts import all_alerts
from context_telemetry.ops.dashboards.model import COLUMNS, Dashboard, Panel
from context_telemetry.ops.inputs import Inputs, defaults
from context_telemetry.ops.queries import query

INPUTS = defaults()
SHOWN = dashboards.dashboards(INPUTS)
FILES = dashboards.files(INPUTS)
PANELS = [
    pytest.param(shown, panel, id=f"{shown.name}-{panel.name}") for shown in SHOWN for panel in shown.panels
]

BY_SURFACE = {
    prometheus_name(metric, part)
    for metric in names.METRICS
    if names.DATAFACE_SURFACE in metric.attributes
    for part in ("", "_bucket", "_count", "_sum")
}
# Metrics that are not ours: Prometheus' own, and those of every scrape. The Collector's are asked for on a real one.
OF_PROMETHEUS = {"ALERTS", "ALERTS_FOR_STATE", "up"}
_LABELS_OF_OTHERS = {
    "alertname",
    "alertstate",
    "severity",
    "owner",
    "job",
    "instance",
    "exporter",
    "le",
    "__name__",
}
_WORDS = {"and", "or", "on", "by", "ignoring", "offset", "unless", "bool"}


def variant(**objectives: float) -> Inputs:
    """The defaults with other objectives."""
    limits = Limits.model_validate({"objectives": objectives})
    return Inputs(INPUTS.owners, limits, INPUTS.owners_text)


def perses(shown: Dashboard, files: dict[str, str] = FILES) -> Any:
    return json.loads(files[f"dashboards/perses/{shown.name}.json"])


def grafana(shown: Dashboard, files: dict[str, str] = FILES) -> Any:
    return json.loads(files[f"dashboards/grafana/{shown.name}.json"])


def metrics(expression: str) -> set[str]:
    """The names of the series that an expression reads, those that it gives as a pattern too."""
    found = {
        each for pattern in re.findall(r'__name__=~"([^"]+)"', expression) for each in pattern.split("|")
    }
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"\{[^}]*\}", " ", bare)
    bare = re.sub(r"\b(by|on|ignoring) \([^)]*\)", "", bare)
    bare = re.sub(r"\[[^\]]*\]|\boffset \w+", "", bare)
    return found | (set(re.findall(r"\b[a-zA-Z_]\w*(?!\w| *\()", bare)) - _WORDS)


def labels(expression: str) -> set[str]:
    """The labels that an expression selects or sums by."""
    grouped = re.findall(r"\b(?:by|on|ignoring) \(([^)]*)\)", expression)
    matched = re.findall(r'(\w+)(?:=~|!~|!=|=)"', expression)
    return {each.strip() for group in grouped for each in group.split(",") if each.strip()} | set(matched)


@pytest.mark.parametrize(("shown", "panel"), PANELS)
def test_a_panel_reads_no_metric_that_nobody_emits(shown: Dashboard, panel: Panel) -> None:
    read = {name for each in panel.queries for name in metrics(each.expression)}
    strange = {name for name in read if not name.startswith("otelcol_")} - known_names() - OF_PROMETHEUS
    assert not strange


@pytest.mark.parametrize(("shown", "panel"), PANELS)
def test_a_panel_reads_no_label_that_its_metrics_do_not_have(shown: Dashboard, panel: Panel) -> None:
    known = {label(attribute) for metric in names.METRICS for attribute in metric.attributes}
    read = {name for each in panel.queries for name in labels(each.expression)}
    assert read <= known | {NAMESPACE, ENVIRONMENT} | _LABELS_OF_OTHERS


@pytest.mark.parametrize(("shown", "panel"), PANELS)
def test_a_panel_asks_something_answers_it_and_says_what_its_silence_means(
    shown: Dashboard, panel: Panel
) -> None:
    assert panel.title
    assert panel.answers.endswith(".")
    assert bool(panel.text) == (panel.kind == "text")
    assert bool(panel.queries) == bool(panel.empty) == (panel.kind != "text")
    assert all(query(name, INPUTS.limits.objectives).traceql() for name in panel.traces)


@pytest.mark.parametrize(("shown", "panel"), PANELS)
def test_no_panel_draws_a_zero_that_rests_on_nothing(shown: Dashboard, panel: Panel) -> None:
    assert not any("vector(" in each.expression for each in panel.queries)


@pytest.mark.parametrize("indicator", INDICATORS, ids=lambda each: each.name)
def test_every_indicator_has_a_panel_that_its_alert_can_point_at(indicator: Any) -> None:
    shown, panel = dashboards.panel_of(indicator.name, INPUTS)
    address = dashboards.address(indicator.name, INPUTS)
    number = int(address.rpartition("viewPanel=")[2])
    (drawn,) = [each for each in grafana(shown)["panels"] if each["id"] == number]
    assert drawn["title"] == panel.title
    assert address.startswith(f"{INPUTS.owners.links.dashboards}/{grafana(shown)['uid']}?")
    assert any(indicator.alert in each["url"] for each in drawn["links"])


def test_an_indicator_without_a_panel_is_an_error() -> None:
    with pytest.raises(KeyError, match="no panel shows the indicator contract_closed"):
        dashboards.panel_of("contract_closed", INPUTS)


def test_the_same_inputs_give_the_same_files() -> None:
    assert dashboards.files(defaults()) == FILES
    assert all(text.endswith("\n") and "\r" not in text for text in FILES.values())


def test_the_limits_are_the_lines_and_the_window_is_the_one_that_alerts_judge() -> None:
    other = variant(degraded_ratio=0.25, window=1800.0)
    files = dashboards.files(other)
    (health, *_) = dashboards.dashboards(other)
    now = next(panel for panel in health.panels if panel.name == "degraded_ratio_now")
    assert [each.value for each in now.thresholds] == [0.25]
    assert now.title == "Degraded, last 30m"
    assert "[30m]" in now.queries[0].expression
    steps = perses(health, files)["spec"]["panels"]["degraded_ratio_now"]["spec"]["plugin"]["spec"][
        "thresholds"
    ]["steps"]
    assert [step["value"] for step in steps] == [0.25]
    drawn = next(each for each in grafana(health, files)["panels"] if each["title"] == now.title)
    assert [step["value"] for step in drawn["fieldConfig"]["defaults"]["thresholds"]["steps"]] == [None, 0.25]


def test_of_several_places_the_oldest_artefact_is_shown_and_each_is_as_old_as_its_alert_says() -> None:
    asked = {
        panel.name: panel.queries[0].expression for shown in SHOWN for panel in shown.panels if panel.queries
    }
    (alert,) = [each for each in all_alerts(INPUTS.limits.objectives) if each.indicator == "artifact_age"]
    of_alert = alert.expression.partition(" > ")[0]
    for name in ("artifact_age", "artifact_age_now"):
        bare = re.sub(r"\{[^}]*\}", "", asked[name])
        assert bare == f"max by (dataface_artifact) ({of_alert})"


def test_a_promise_is_a_line_on_the_ages() -> None:
    inputs = Inputs(
        INPUTS.owners, Limits.model_validate({"promises": {"dbt_manifest": 86400.0}}), INPUTS.owners_text
    )
    catalogue = dashboards.dashboards(inputs)[1]
    panel = next(each for each in catalogue.panels if each.name == "staleness")
    assert [(each.value, each.words) for each in panel.thresholds] == [(86400.0, "promise: dbt_manifest")]


@pytest.mark.parametrize(("shown", "panel"), PANELS)
def test_a_query_asks_for_what_is_chosen_above_and_for_nothing_that_cannot_be(
    shown: Dashboard, panel: Panel
) -> None:
    there = {variable.name for variable in shown.variables}
    for each in panel.queries:
        asked = set(re.findall(r"\$(\w+)", each.expression))
        assert asked <= there
        if metrics(each.expression) & BY_SURFACE and "__name__" not in each.expression:
            assert asked == there
    for name, what in re.findall(r'(\w+)=~"\$(\w+)', " ".join(each.expression for each in panel.queries)):
        assert name in {variable.label for variable in shown.variables if variable.name == what}


@pytest.mark.parametrize("shown", SHOWN, ids=lambda each: each.name)
def test_panels_lie_beside_one_another_and_not_over_one_another(shown: Dashboard) -> None:
    places = [tuple(panel["gridPos"][key] for key in "xywh") for panel in grafana(shown)["panels"]]
    assert all(x + w <= COLUMNS for x, _, w, _ in places)
    for (ax, ay, aw, ah), (bx, by, bw, bh) in itertools.combinations(places, 2):
        assert ax + aw <= bx or bx + bw <= ax or ay + ah <= by or by + bh <= ay
    for grid in perses(shown)["spec"]["layouts"]:
        items = [tuple(item[key] for key in ("x", "y", "width", "height")) for item in grid["spec"]["items"]]
        for (ax, ay, aw, ah), (bx, by, bw, bh) in itertools.combinations(items, 2):
            assert ax + aw <= bx or bx + bw <= ax or ay + ah <= by or by + bh <= ay


@pytest.mark.parametrize("shown", SHOWN, ids=lambda each: each.name)
def test_perses_and_grafana_draw_the_same_panels_from_the_same_queries(shown: Dashboard) -> None:
    ours = {panel.title: [each.expression for each in panel.queries] for panel in shown.panels}
    assert len(ours) == len(list(shown.panels))
    in_perses = {
        panel["spec"]["display"]["name"]: [
            each["spec"]["plugin"]["spec"]["query"] for each in panel["spec"].get("queries", [])
        ]
        for panel in perses(shown)["spec"]["panels"].values()
    }
    in_grafana = {
        panel["title"]: [each["expr"] for each in panel.get("targets", [])]
        for panel in grafana(shown)["panels"]
        if panel["type"] != "row"
    }
    assert in_perses == in_grafana == ours


@pytest.mark.parametrize("shown", SHOWN, ids=lambda each: each.name)
def test_a_perses_dashboard_has_what_perses_needs(shown: Dashboard) -> None:
    made = perses(shown)
    assert (made["kind"], made["metadata"]["name"]) == ("Dashboard", shown.name)
    refs = [item["content"]["$ref"] for grid in made["spec"]["layouts"] for item in grid["spec"]["items"]]
    assert sorted(refs) == sorted(f"#/spec/panels/{name}" for name in made["spec"]["panels"])
    kinds = {panel["spec"]["plugin"]["kind"] for panel in made["spec"]["panels"].values()}
    assert kinds <= {"StatChart", "TimeSeriesChart", "Table", "Markdown"}
    for variable in made["spec"]["variables"]:
        assert variable["spec"]["plugin"]["kind"] == "PrometheusLabelValuesVariable"


@pytest.mark.parametrize("shown", SHOWN, ids=lambda each: each.name)
def test_a_grafana_dashboard_has_what_grafana_needs(shown: Dashboard) -> None:
    made = grafana(shown)
    assert {"uid", "title", "schemaVersion", "panels", "templating", "time"} <= made.keys()
    assert len(made["uid"]) <= 40
    numbers = [panel["id"] for panel in made["panels"]]
    assert len(numbers) == len(set(numbers))
    for panel in made["panels"]:
        assert panel["type"] in ("row", "stat", "timeseries", "table", "text")
        for target in panel.get("targets", []):
            assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert target["instant"] != target["range"]


def test_the_readme_lists_every_dashboard_and_what_no_data_means_on_each_panel() -> None:
    readme = FILES["dashboards/README.md"]
    for shown in SHOWN:
        assert f"`{shown.name}`: {shown.title}" in readme
        for panel in shown.panels:
            assert not panel.queries or f"| {panel.title} | `{shown.name}` | {panel.empty} |" in readme
