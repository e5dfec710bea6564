"""The rules and routes as they are written: thresholds, windows, owners, links. What Prometheus and Alertmanager make
of them is in tests/stack/test_alerts.py.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from context_telemetry.conventions import names
from context_telemetry.health.indicators import INDICATORS
from context_telemetry.health.promql import duration
from context_telemetry.limits import Limits, Objectives
from context_telemetry.ops import alert_routes, alert_tests, alerts, inputs, owners, series_names
from context_telemetry.ops.alerts import BURNS, threshold
from context_telemetry.ops.inputs import Inputs

DEFAULTS = inputs.defaults()


def with_objectives(**changes: Any) -> Inputs:
    limits = Limits.model_validate({"objectives": changes})
    return Inputs(DEFAULTS.owners, limits, DEFAULTS.owners_text)


def rules(of: Inputs = DEFAULTS) -> list[dict[str, Any]]:
    document = yaml.safe_load(alerts.files(of)[alerts.RULES])
    return [rule for group in document["groups"] for rule in group["rules"]]


def firing(of: Inputs = DEFAULTS) -> dict[tuple[str, str], dict[str, Any]]:
    return {(rule["alert"], rule["labels"]["severity"]): rule for rule in rules(of) if "alert" in rule}


# -- which alerts there are ----------------------------------------------------------------------------------


def test_every_indicator_has_its_alert_and_a_share_that_pages_a_ticket_of_the_same_name_too() -> None:
    made = set(firing())
    for indicator in INDICATORS:
        assert (indicator.alert, indicator.severity) in made
        assert ((indicator.alert, "page") in made) == (indicator.severity == "page")
        waits = indicator.severity == "ticket" or indicator.kind == "ratio"
        assert ((indicator.alert, "ticket") in made) == waits
    others = made - {(each.alert, severity) for each in INDICATORS for severity in ("page", "ticket")}
    assert others == {
        ("DatafaceCollectorDown", "page"),
        ("DatafaceCollectorDown", "ticket"),
        ("DatafaceCollectorRefusing", "ticket"),
        ("DatafaceCollectorExportFailing", "ticket"),
        ("DatafaceCollectorQueueFilling", "ticket"),
        ("DatafaceWatchdog", "none"),
    }


def test_every_alert_is_fed_to_promtool_firing_and_not_firing() -> None:
    cases = alert_tests.cases(Objectives())
    fires = {
        (firing.alert.name, firing.alert.severity)
        for case in cases
        for told in case.fires.values()
        for firing in told
    }
    assert fires == set(firing())
    # That a case holds series of which no alert is expected cannot be read off it in general: at least one step of
    # the name must expect fewer alerts than it has series, or none.
    quiet = {
        case.alert
        for case in cases
        for told in case.fires.values()
        if len({tuple(sorted(each.labels.items())) for each in told}) < max(1, len(case.series))
    }
    assert quiet == {name for name, _ in firing()} - {"DatafaceWatchdog"}


# -- shares --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "page", "ticket"),
    [
        (0.01, (0.144, 0.06), (0.03, 0.01)),
        (0.05, (0.525, 0.3), (0.15, 0.05)),
        (0.2, (0.6, 0.6), (0.6, 0.2)),  # 2.88 of all calls cannot fail: half of what is left above the limit
        (1.0, (1.0, 1.0), (1.0, 1.0)),  # switched off: no share is above 1
    ],
)
def test_a_burn_is_judged_in_multiples_of_the_limit_as_far_as_there_can_be_so_many(
    limit: float, page: tuple[float, float], ticket: tuple[float, float]
) -> None:
    assert tuple(threshold(limit, burn.factor) for burn in BURNS["page"]) == page
    assert tuple(threshold(limit, burn.factor) for burn in BURNS["ticket"]) == ticket


def test_a_page_is_asked_of_two_pairs_of_windows_with_a_minimum_and_lasts_a_minute() -> None:
    rule = firing()["DatafaceDegradedRatio", "page"]
    assert rule["expr"] == (
        "max by (dataface_surface, service_namespace, deployment_environment_name) (\n"
        '  slo:sli_error:ratio_rate1h{sloth_slo="degraded_ratio"} > 0.144\n'
        '  and slo:sli_error:ratio_rate5m{sloth_slo="degraded_ratio"} > 0.144\n'
        '  and dataface:bad:increase1h{sloth_slo="degraded_ratio"} >= 10\n'
        "  or\n"
        '  slo:sli_error:ratio_rate6h{sloth_slo="degraded_ratio"} > 0.06\n'
        '  and slo:sli_error:ratio_rate30m{sloth_slo="degraded_ratio"} > 0.06\n'
        '  and dataface:bad:increase6h{sloth_slo="degraded_ratio"} >= 10\n'
        ")"
    )
    assert rule["for"] == "1m"
    assert firing()["DatafaceDegradedRatio", "ticket"]["for"] == "5m"


def test_a_contract_that_is_broken_wakes_its_owner_by_the_last_word_of_a_place_that_lives() -> None:
    rule = firing()["DatafaceContractOpen", "page"]
    place = "service_namespace, deployment_environment_name"
    open_ones, lives = rule["expr"].split(f"\nand on ({place}) (\n")
    assert open_ones == (
        f"sum by ({place}) (max by ({place}, dataface_contract_level, dataface_contract_part) "
        '(last_over_time(dataface_contract_open{dataface_contract_level="breaking"}[1d]))) > 0'
    )
    assert lives == f"sum by ({place}) (dataface:entries:increase1d) > 0\n)"
    assert (rule["for"], rule["labels"]["owner"]) == ("1m", "catalogue-owner")
    assert rule["annotations"]["summary"].startswith(
        "What consumers rely on has changed and nobody accepted it: {{ $value | humanize }}"
    )


def test_a_check_is_no_call_in_any_rule_about_calls() -> None:
    for rule in rules():
        asked = re.findall(r"dataface_context_served_total(?:\{([^}]*)\})?", rule["expr"])
        of_checks = rule.get("labels", {}).get("sloth_slo") == "checks_failing"
        if not of_checks and not rule.get("record", "").startswith("dataface:entries:"):
            assert all('dataface_operation_name!="check.run"' in each for each in asked), rule
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    assert {each.replace("served", "entries") for each in recorded if ":served:" in each} <= recorded


def test_what_a_check_can_find_too_is_a_share_of_calls_and_checks() -> None:
    among = {
        rule["labels"]["sloth_slo"]: rule["expr"].rsplit("\n", 1)[1]
        for rule in rules()
        if rule.get("record") == "slo:sli_error:ratio_rate1h"
    }
    assert among["degraded_ratio"] == among["failed_ratio"] == "dataface:served:increase1h"
    of_what_tells = {
        indicator.name
        for indicator in INDICATORS
        if all(names.DATAFACE_OPERATION_NAME in each.of.attributes for each in indicator.bad)
        or indicator.among == indicator.bad[0]  # a share of itself
    }
    assert {among[name] for name in among.keys() - of_what_tells} == {"dataface:entries:increase1h"}
    assert {"manifest_stale", "resolution_failures", "unknown_references"} <= among.keys() - of_what_tells


def test_windows_minimum_and_limit_are_those_of_the_objectives() -> None:
    made = firing(with_objectives(window=600, page_minimum=3, degraded_ratio=0.05))
    page = made["DatafaceDegradedRatio", "page"]
    assert 'ratio_rate10m{sloth_slo="degraded_ratio"} > 0.525' in page["expr"]
    assert 'ratio_rate50s{sloth_slo="degraded_ratio"} > 0.525' in page["expr"]
    assert 'dataface:bad:increase10m{sloth_slo="degraded_ratio"} >= 3' in page["expr"]
    assert page["for"] == "10s"
    assert "allowed 5%" in page["annotations"]["summary"]


def test_no_expression_is_evaluated_twice_and_what_is_recorded_is_read() -> None:
    recorded = [
        (rule["record"], str(rule.get("labels")), rule["expr"]) for rule in rules() if "record" in rule
    ]
    assert len({expr for *_, expr in recorded}) == len(recorded)
    read = {name for rule in rules() for name in series_names.series_in(rule["expr"])}
    assert {record for record, *_ in recorded} <= read
    windows = {
        duration(part * 3600)
        for pairs in BURNS.values()
        for burn in pairs
        for part in (burn.long, burn.short)
    }
    assert windows == {"5m", "30m", "1h", "2h", "6h", "1d", "3d"}
    assert {f"slo:sli_error:ratio_rate{window}" for window in windows} <= {record for record, *_ in recorded}


def test_rules_read_only_series_that_the_conventions_the_collector_or_other_rules_make() -> None:
    read = {str(rule.get("alert") or rule["record"]): str(rule["expr"]) for rule in rules()}
    made = {rule["record"] for rule in rules() if "record" in rule}
    assert series_names.unknown(read, made) == []


def test_an_expression_about_a_series_that_nobody_makes_is_told_with_the_likeliest() -> None:
    read = {"rules.yaml: DatafaceX": "sum(rate(dataface_degradation_total[5m])) > 0"}
    assert series_names.unknown(read, ()) == [
        "rules.yaml: DatafaceX: there is no series dataface_degradation_total; "
        "did you mean dataface_degradations_total?"
    ]


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("vector(1)", ()),
        ('sum by (a, b) (x{c="d or e"} offset 5m) / on (a) group_left (b) y_total', ("x", "y_total")),
        ("rate(x[$__range]) > bool 0.5 and 1e3 < up", ("x", "up")),
        ('histogram_quantile(0.95, sum by (le) (rate(x_bucket{le=~"5(\\\\.0)?"}[1h])))', ("x_bucket",)),
        (
            'slo:sli_error:ratio_rate1h{x="{}"} unless absent_over_time(z[7d])',
            ("slo:sli_error:ratio_rate1h", "z"),
        ),
        ("time() - max by (a) (last_over_time(t[7d])) > Inf", ("t",)),
        ('count({__name__=~"a|b"}) or {__name__="c"}', ("c",)),
    ],
)
def test_the_series_of_an_expression_are_found(expression: str, names: tuple[str, ...]) -> None:
    assert series_names.series_in(expression) == set(names)


# -- what is told --------------------------------------------------------------------------------------------


def test_every_alert_says_who_owns_it_what_users_notice_and_where_to_go_on() -> None:
    for (name, severity), rule in firing().items():
        assert set(rule["labels"]) >= {"severity", "component", "owner"}, name
        told = rule["annotations"]
        assert set(told) == {
            "summary",
            "description",
            "runbook_url",
            "dashboard_url",
            "traces_url",
            "contact",
            "escalation",
        }
        assert told["runbook_url"].endswith(f"/runbooks/{name}.md")
        assert all(told.values()), (name, severity)
        assert "[[" not in str(rule)


def test_a_page_about_a_surface_leads_to_the_traces_of_that_surface_and_outcome() -> None:
    told = firing()["DatafaceFailedRatio", "page"]["annotations"]["traces_url"]
    assert told == (
        "http://127.0.0.1:16686/search?service=dataface&lookback=1h&tags=%7B%22dataface.entry%22%3A%22true%22%2C%22"
        "dataface.outcome%22%3A%22failed%22%2C%22dataface.surface%22%3A%22{{ $labels.dataface_surface }}%22%7D"
    )


@pytest.mark.parametrize("name", ["DatafaceHooksLost", "DatafaceSettingsWrong"])
def test_what_processes_say_again_and_again_is_told_without_how_often(name: str) -> None:
    told = firing()[name, "ticket"]["annotations"]["summary"]
    assert "$value" not in told
    assert ", as processes said in the last 1h" in told
    shorter = firing(with_objectives(window=600))[name, "ticket"]["annotations"]["summary"]
    assert ", as processes said in the last 1h" in shorter  # they say it every half hour


def test_what_is_filled_in_is_in_the_page() -> None:
    text = owners.default_text().replace("    names: []", "    names: [Role Holder]", 1)
    text = text.replace('    contact: ""', '    contact: "+00 000"', 1)
    of = Inputs(owners.loads(text, "owners.yaml"), Limits(), text)
    told = firing(of)["DatafaceManifestStale", "ticket"]
    assert told["labels"]["owner"] == "catalogue-owner"
    assert told["annotations"]["contact"] == "Role Holder, +00 000"
    assert told["annotations"]["escalation"] == "telemetry-owner, then launch-coordinator"
    not_filled = firing(of)["DatafacePayloadP95", "ticket"]["annotations"]
    assert not_filled["contact"] == "ai-context-owner (not filled in: owners.yaml)"
    assert not_filled["escalation"].startswith("catalogue-owner (Role Holder, +00 000), then ")


# -- routes --------------------------------------------------------------------------------------------------


def test_every_owner_has_a_route_for_every_severity_and_all_else_goes_to_the_default() -> None:
    made = alert_routes.configuration(DEFAULTS)
    routes = {tuple(each["matchers"]): each["receiver"] for each in made["route"]["routes"]}
    for owner in DEFAULTS.owners.roles:
        for severity in ("page", "ticket"):
            assert routes[f'owner="{owner}"', f'severity="{severity}"'] == f"{owner}-{severity}"
    assert routes[('alertname="DatafaceWatchdog"',)] == "watchdog"
    assert made["route"]["receiver"] == "launch-coordinator-ticket"
    assert {each["name"] for each in made["receivers"]} == set(routes.values())


def test_only_a_collector_that_is_down_altogether_takes_the_place_of_silence() -> None:
    (rule,) = [
        each
        for each in alert_routes.configuration(DEFAULTS)["inhibit_rules"]
        if 'alertname="DatafaceCollectorDown"' in each["source_matchers"]
    ]
    assert 'severity="page"' in rule["source_matchers"]


def test_a_broken_contract_takes_the_place_of_no_other_alert() -> None:
    for rule in alert_routes.configuration(DEFAULTS)["inhibit_rules"]:
        assert "Contract" not in str(rule)


def test_each_kind_of_receiver_reads_its_secret_from_a_file() -> None:
    text = owners.default_text()
    for name, receiver in {
        "catalogue": "{kind: email, to: a@example.org, from: b@example.org, smarthost: 'mail.example.org:587', "
        "auth_username: b, auth_password_file: /run/secrets/mail}",
        "ai-context": "{kind: pagerduty, routing_key_file: /run/secrets/key}",
        "dashboards": "{kind: slack, api_url_file: /run/secrets/chat, channel: '#dashboards'}",
        "editor": "{kind: webhook, url: 'https://hooks.example.org/x', credentials_file: /run/secrets/token}",
        "telemetry": "{kind: webhook, url_file: /run/secrets/url}",
    }.items():
        before, _, rest = text.partition(f"\n  {name}: {{")
        text = f"{before}\n  {name}: {receiver}\n" + rest.partition("\n")[2]
    of = Inputs(owners.loads(text, "owners.yaml"), Limits(), text)
    made = {each.pop("name"): each for each in alert_routes.configuration(of)["receivers"]}
    (mail,) = made["catalogue-owner-page"]["email_configs"]
    assert (mail["smarthost"], mail["auth_password_file"]) == ("mail.example.org:587", "/run/secrets/mail")
    assert made["ai-context-owner-page"]["pagerduty_configs"][0]["routing_key_file"] == "/run/secrets/key"
    assert made["dashboards-owner-ticket"]["slack_configs"][0]["api_url_file"] == "/run/secrets/chat"
    (hook,) = made["editor-owner-page"]["webhook_configs"]
    assert hook["http_config"] == {"authorization": {"credentials_file": "/run/secrets/token"}}
    assert made["telemetry-owner-page"]["webhook_configs"] == [
        {"send_resolved": True, "url_file": "/run/secrets/url"}
    ]


def test_a_role_with_two_receivers_is_told_by_both() -> None:
    text = owners.default_text().replace("    page: [catalogue]", "    page: [catalogue, support]", 1)
    of = Inputs(owners.loads(text, "owners.yaml"), Limits(), text)
    made = {each["name"]: each for each in alert_routes.configuration(of)["receivers"]}
    assert len(made["catalogue-owner-page"]["webhook_configs"]) == 2
    assert len(made["catalogue-owner-ticket"]["webhook_configs"]) == 1


def test_the_same_inputs_give_the_same_files() -> None:
    for generator in (alerts, alert_tests, alert_routes):
        assert generator.files(inputs.defaults()) == generator.files(inputs.defaults())
