"""The dashboards on real engines: every expression parses, every panel has data, and a zero is never a guess."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from context_telemetry.ops import alerts, collector, dashboards
from context_telemetry.ops.dashboards import stack as of_stack
from context_telemetry.ops.dashboards.model import Panel, Query
from context_telemetry.ops.inputs import defaults
from context_telemetry.rehearsal.faults import fault
from context_telemetry.rehearsal.sample import Sample
from tools.dashboard_traffic import processes
from tools.processes import wait_until
from tools.programs import program
from tools.stack import Stack, query

# Three minutes where others use the machine too.
pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

SHOWN = dashboards.dashboards(defaults())
PANELS = [(shown.name, panel) for shown in SHOWN for panel in shown.panels if panel.queries]
FAULTS = ("source_unknown_answered", "result_oversized")


def chosen(expression: str, surface: str = ".*") -> str:
    """An expression as it is asked when everything, or one surface, is chosen above the panels."""
    for name, value in (("environment", ".*"), ("namespace", ".*"), ("surface", surface)):
        expression = expression.replace(f"${name}", value)
    return expression


def panel(dashboard: str, name: str) -> Panel:
    return next(each for shown, each in PANELS if shown == dashboard and each.name == name)


# -- without data of ours ------------------------------------------------------------------------------------


def promtool(folder: Path, *command: str, **documents: Any) -> None:
    """Runs promtool on the documents, written as YAML under their names."""
    for name, document in documents.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(document), "utf-8")
    done = subprocess.run([str(program("promtool")), *command], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_expression_parses(tmp_path: Path) -> None:
    rules = [
        {
            "record": f"panel:{each.name}:query{number}",
            "expr": chosen(asked.expression),
            "labels": {"shown": shown},
        }
        for shown, each in PANELS
        for number, asked in enumerate(each.queries)
    ]
    promtool(tmp_path, "check", "rules", "rules.yaml", rules={"groups": [{"name": "panels", "rules": rules}]})


# A panel of each dashboard about calls, each of another metric or label.
ABOUT_CALLS = [
    ("dataface-health", "degraded_ratio_now"),
    ("dataface-health", "failed_ratio_now"),
    ("dataface-catalogue", "resolution_failures_now"),
    ("dataface-payloads", "payload_over_budget_now"),
    ("dataface-contract", "enrichment_lost_now"),
]
_SERVED = 'dataface_context_served_total{{dataface_surface="mcp", dataface_outcome="{outcome}"}}'


@pytest.mark.parametrize(("dashboard", "name"), ABOUT_CALLS)
def test_nothing_served_is_nothing_known_and_only_good_calls_are_a_zero(
    tmp_path: Path, dashboard: str, name: str
) -> None:
    expression = chosen(panel(dashboard, name).queries[0].expression)
    served = _SERVED.format(outcome="ok")
    cases = [
        {"interval": "1m", "input_series": series, "promql_expr_test": [
            {"expr": expression, "eval_time": "90m", "exp_samples": samples}
        ]}
        for series, samples in (
            ([], []),
            ([{"series": served, "values": "0+1x90"}], [{"labels": '{dataface_surface="mcp"}', "value": 0}]),
            # Served before the window began, and not since: nothing is known of now.
            ([{"series": served, "values": "5x90"}], []),
        )
    ]  # fmt: skip
    promtool(tmp_path, "test", "rules", "tests.yaml", tests={"rule_files": [], "tests": cases})


def test_a_call_that_was_the_first_of_its_kind_counts_in_full(tmp_path: Path) -> None:
    expression = chosen(panel("dataface-health", "degraded_ratio_now").queries[0].expression)
    series = [
        {"series": _SERVED.format(outcome="ok"), "values": "0+1x30"},
        {"series": _SERVED.format(outcome="degraded"), "values": "_x20 10x10"},
    ]
    told = {
        "expr": expression,
        "eval_time": "30m",
        "exp_samples": [{"labels": '{dataface_surface="mcp"}', "value": 0.25}],
    }
    case = {"interval": "1m", "input_series": series, "promql_expr_test": [told]}
    promtool(tmp_path, "test", "rules", "tests.yaml", tests={"rule_files": [], "tests": [case]})


def test_no_alert_is_a_zero_while_the_rules_run_and_unknown_while_they_do_not(tmp_path: Path) -> None:
    watchdog = 'ALERTS{alertname="DatafaceWatchdog", alertstate="firing"}'
    fires = 'ALERTS{alertname="DatafaceFailedRatio", alertstate="firing", dataface_surface="mcp"}'
    cases = [
        {"interval": "1m", "input_series": [{"series": each, "values": "1x5"} for each in series],
         "promql_expr_test": [{"expr": chosen(of_stack.count()), "eval_time": "5m", "exp_samples": samples}]}
        for series, samples in (
            ([], []),
            ([watchdog], [{"labels": "{}", "value": 0}]),
            ([watchdog, fires], [{"labels": "{}", "value": 1}]),
        )
    ]  # fmt: skip
    promtool(tmp_path, "test", "rules", "tests.yaml", tests={"rule_files": [], "tests": cases})


# -- on the running stack ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def running(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack after real processes served on four surfaces, with two faults at last."""
    folder = tmp_path_factory.mktemp("dashboards")
    built = folder / "built"
    for name, text in {**collector.files(defaults()), **alerts.files(defaults())}.items():
        (built / name).parent.mkdir(parents=True, exist_ok=True)
        (built / name).write_text(text, "utf-8")
    parts = {"collector", "jaeger", "prometheus", "victoria"}
    with Stack.up(folder / "stack", ops_dir=built, parts=parts, scrape="1s") as stack:
        with processes(sample, folder / "projects", stack.environment()) as served:
            served.once(())
            faults = [fault(name) for name in FAULTS]
            served.change((), faults)
            served.once(faults)
        for engine in (stack.prometheus_url, stack.victoria_url):
            wait_until(f"what was served at {engine}", partial(has_everything, engine))
        yield stack


def has_everything(url: str) -> bool:
    """Whether the last thing that a run makes has arrived: the turn's size, and the reasons of the faults."""
    expected = (
        "dataface_conversation_size_bytes_count",
        "dataface_degradations_total",
        "context_telemetry_hooks",
    )
    return all(query(url, name) for name in expected)


def without_data(url: str, queries: Sequence[tuple[str, Panel, Query]]) -> list[str]:
    return [
        f"{shown}: {each.name}: {asked.expression}"
        for shown, each, asked in queries
        if not query(url, chosen(asked.expression))
    ]


def test_every_query_of_every_panel_has_data_in_prometheus(running: Stack) -> None:
    queries = [(shown, each, asked) for shown, each in PANELS for asked in each.queries]
    wait_until("data on every panel", lambda: not without_data(running.prometheus_url, queries))


def test_every_panel_has_data_in_victoriametrics_but_those_that_are_made_of_alerts(running: Stack) -> None:
    queries = [
        (shown, each, asked)
        for shown, each in PANELS
        for asked in each.queries
        if "ALERTS"
        not in asked.expression  # VictoriaMetrics leaves rules to vmalert, which the stack has not got
    ]
    wait_until("data on every panel", lambda: not without_data(running.victoria_url, queries))


def test_a_chosen_surface_is_the_only_one_that_is_shown(running: Stack) -> None:
    expression = panel("dataface-health", "served").queries[0].expression
    everything = {
        labels["dataface_surface"] for labels, _ in query(running.prometheus_url, chosen(expression))
    }
    assert {"mcp", "dashboard", "cli", "agent"} <= everything
    one = query(running.prometheus_url, chosen(expression, surface="(mcp)"))
    assert [labels for labels, _ in one] == [{"dataface_surface": "mcp"}]


def test_the_reasons_of_the_faults_stand_in_the_table(running: Stack) -> None:
    rows = query(running.prometheus_url, chosen(panel("dataface-health", "reasons").queries[0].expression))
    reasons = {labels["dataface_degradation_reason"] for labels, count in rows if count > 0}
    assert {"source_substituted", "payload_over_budget"} <= reasons


def test_the_collector_says_of_itself_what_its_panels_ask(running: Stack) -> None:
    for begin in (
        "otelcol_receiver_accepted_spans",
        "otelcol_receiver_refused_spans",
        "otelcol_exporter_sent_spans",
        "otelcol_exporter_queue_size",
        "otelcol_exporter_queue_capacity",
        "otelcol_process_memory_rss",
    ):
        assert query(running.prometheus_url, of_stack.own(begin)), begin
