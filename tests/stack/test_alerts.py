"""The shipped rules and routes in the real promtool, amtool, Alertmanager and Collector.

Unit tests are those that are shipped; here they are run, with other limits too, and shown to fail for a broken rule.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml

from context_telemetry.limits import Limits
from context_telemetry.ops import alert_routes, alert_tests, alerts, inputs, owners, series_names
from context_telemetry.ops.alert_routes import pairs, receiver
from context_telemetry.ops.inputs import Inputs
from stack.traffic import entry, post, spans_body
from tools.processes import free_ports, get_text, wait_until
from tools.programs import program
from tools.stack import Stack

pytestmark = pytest.mark.stack

DEFAULTS = inputs.defaults()


def written(folder: Path, of: Inputs = DEFAULTS) -> Path:
    """The folder `alerts/` for these inputs."""
    for generator in (alerts, alert_tests, alert_routes):
        for path, text in generator.files(of).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, "utf-8")
    return folder / "alerts"


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `alerts/` of the defaults."""
    return written(tmp_path_factory.mktemp("ops"))


def asked(tool: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(program(tool)), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def failures(folder: Path) -> str:
    """What promtool says of the unit tests; empty where all pass."""
    tests = (folder / "rules_test.yaml", folder / "rules_days_test.yaml")
    done = asked("promtool", "test", "rules", *tests)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def only(folder: Path, name: str) -> None:
    """Leaves of rules and unit tests those of one alert: all of them take promtool a minute."""
    rules = yaml.safe_load((folder / "rules.yaml").read_text("utf-8"))
    alerting = [rule for group in rules["groups"] for rule in group["rules"] if rule.get("alert") == name]
    of = {None, alerting[0]["labels"].get("indicator")}
    for group in rules["groups"]:
        group["rules"] = [
            rule
            for rule in group["rules"]
            if rule in alerting or ("record" in rule and rule.get("labels", {}).get("sloth_slo") in of)
        ]
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules), "utf-8")
    for file in ("rules_test.yaml", "rules_days_test.yaml"):
        tests = yaml.safe_load((folder / file).read_text("utf-8"))
        tests["tests"] = [each for each in tests["tests"] if each["name"].startswith(f"{name}:")]
        (folder / file).write_text(yaml.safe_dump(tests), "utf-8")


# -- rules ---------------------------------------------------------------------------------------------------


def test_promtool_accepts_the_rules_with_every_lint(shipped: Path) -> None:
    done = asked("promtool", "check", "rules", "--lint=all", "--lint-fatal", shipped / "rules.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_shipped_unit_tests_pass(shipped: Path) -> None:
    failed = failures(shipped)
    assert not failed, failed


@pytest.mark.parametrize(
    "objectives",
    [
        {"window": 60, "page_minimum": 1, "degraded_ratio": 0.3, "degraded_minimum": 4, "artifact_age": 120},
        {"window": 7200, "failed_ratio": 1, "tail_ratio": 0.5, "tail_minimum": 1, "payload_size": 1_000_000},
    ],
    ids=["small", "large"],
)
def test_rules_for_other_limits_pass_their_own_unit_tests(
    objectives: Mapping[str, float], tmp_path: Path
) -> None:
    limits = Limits.model_validate({"objectives": objectives})
    failed = failures(written(tmp_path, Inputs(DEFAULTS.owners, limits, DEFAULTS.owners_text)))
    assert not failed, failed


# What is broken in the rules, and the unit tests that must fail for it.
BROKEN: Mapping[str, tuple[str, str, str]] = {
    "the long window of a page": (
        r"ratio_rate1h\{sloth_slo=\"degraded_ratio\"\} > 0.144",
        "ratio_rate1h > 2",
        "",
    ),
    "the short windows of a page": (
        r"\n\s+and slo:sli_error:ratio_rate(5m|30m)\{sloth_slo=\"degraded[^\n]*",
        "",
        "",
    ),
    "the minimum of a page": (
        r"(dataface:bad:increase1h\{sloth_slo=\"degraded_ratio\"\}) >= 10",
        r"\1 >= 9",
        "",
    ),
    "the minimum, as if it were one more": (
        r"(increase\d.\{sloth_slo=\"degraded_ratio\"\}) >= 10",
        r"\1 >= 11",
        "",
    ),
    "the owner of a surface": (
        r"eq \$labels.dataface_surface \"ide\"",
        'eq $labels.dataface_surface "idea"',
        "",
    ),
    "series that are born": (
        r"( or )(last_over_time\(dataface_context_served_total\{dataface_outcome=\"degraded\"[^}]*\}\[\w+\]\)\))",
        r"\1 0 * \2",
        "",
    ),
    "pages that are not there": (r"resource_unknown", "resource_unknowable", ""),
    "a check as if it were a call": (r", dataface_operation_name!=\"check.run\"(\}\[)", r"\1", ""),
    "silence behind checks": (
        r"(dataface_context_served_total)\{dataface_operation_name!=\"check.run\"\}\[",
        r"\1[",
        "TelemetrySilent",
    ),
    "the last word of a contract": (
        r"last_over_time(\(dataface_contract_open)",
        r"max_over_time\1",
        "ContractOpen",
    ),
    "a contract whose process has stopped": (
        r"last_over_time\((dataface_contract_open\{[^}]*\})\[1d\]\)",
        r"\1",
        "ContractOpen",
    ),
    "the level of a change": (r"\{dataface_contract_level=\"breaking\"\}", "", "ContractOpen"),
    "a contract where nobody is served": (
        r"\n\s+and on \([^)]*\) \(\n.*:entries:.*\n\s+\)",
        "",
        "ContractOpen",
    ),
    "a contract that only a check looks at": (
        r"(and on [^\n]*\n[^\n]*)dataface:entries:",
        r"\1dataface:served:",
        "ContractOpen",
    ),
    "a part of a contract": (r", dataface_contract_part(\) \(last_over_time)", r"\1", "ContractOpen"),
    "what a check finds beside calls alone": (
        r"(dataface:bad:increase\w+\{sloth_slo=\"manifest_stale\"\}\s+/ on \([^)]*\)\s+)dataface:entries:",
        r"\1dataface:served:",
        "ManifestStale",
    ),
    "calls as if they were checks": (
        r"dataface_operation_name=\"check.run\"(\}\[)",
        r'dataface_operation_name!="check.run"\1',
        "ChecksFailing",
    ),
    "names that are not there": (
        r"dataface_references_unknown_total\[",
        'dataface_references_unknown_total{dataface_surface="cli"}[',
        "UnknownReferences",
    ),
    "a flaw that is said for the first time": (
        r" or last_over_time\(context_telemetry_flaws_total\{[^}]*\}\[1h\]\)\) > 0",
        ") > 0",
        "HooksLost",
    ),
    "an artefact of a process that has stopped": (
        r"last_over_time\((dataface_artifact_built_at_seconds)\[7d\]\)",
        r"\1",
        "ArtifactAge",
    ),
    "a counter that begins anew": (
        r" and resets\(context_telemetry_dropped_total\[70m\]\) == 0",
        "",
        "TelemetryDropped",
    ),
    "a gap in scraping": (
        r"(context_telemetry_dropped_total)\[10m\] offset 1h",
        r"\1[1m] offset 1h",
        "TelemetryDropped",
    ),
    "a series that has ended": (
        r"last_over_time\((context_telemetry_dropped_total)\[1h\]\)",
        r"\1",
        "TelemetryDropped",
    ),
    "silence of one project": (r"unless\s+sum by", "or sum by", "TelemetrySilent"),
    "a project that was shut down": (r"(dataface:served:increase1d\)) > 0", r"\1", "TelemetrySilent"),
    "one Collector of two": (r"(expr: up\{job=\"collector\"\}) == 0", r"\1 == 2", "CollectorDown"),
    "a tail": (r"le=~\"100000[^\"]*\"", 'le="65536"', "PayloadP95"),
    "a queue that is stuck": (
        r"and otelcol_exporter_queue_size(\{[^}]*\}) offset 5m > 0",
        "> 1e9",
        "CollectorExportFailing",
    ),
    "a label that is lost": (
        r"max by \(dataface_surface, service_namespace, ",
        "max by (service_namespace, ",
        "",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_rule_fails_its_unit_test(what: str, tmp_path: Path) -> None:
    pattern, instead, about = BROKEN[what]
    folder = written(tmp_path)
    text = (folder / "rules.yaml").read_text("utf-8")
    broken, count = re.subn(pattern, instead, text)
    assert count
    (folder / "rules.yaml").write_text(broken, "utf-8")
    only(folder, f"Dataface{about or 'DegradedRatio'}")
    failed = failures(folder)
    assert "FAILED" in failed
    assert "exp:" in failed, failed  # and not for a rule that does not parse


# -- routes --------------------------------------------------------------------------------------------------


def test_amtool_accepts_the_routes_and_finds_every_owners_receiver(shipped: Path) -> None:
    config = shipped / "alertmanager.yaml"
    done = asked("amtool", "check-config", config)
    assert done.returncode == 0, done.stdout + done.stderr
    for owner, severity in pairs(DEFAULTS.owners):
        told = asked(
            "amtool",
            *("config", "routes", "test", f"--config.file={config}"),
            *(f"--verify.receivers={receiver(owner, severity)}", f"owner={owner}", f"severity={severity}"),
        )
        assert told.returncode == 0, told.stdout + told.stderr
    for labels, expected in (
        (["alertname=DatafaceWatchdog", "severity=none"], "watchdog"),
        (["owner=nobody", "severity=page"], receiver(DEFAULTS.owners.default, "ticket")),
    ):
        told = asked("amtool", "config", "routes", "test", f"--config.file={config}", *labels)
        assert told.stdout.split() == [expected]


def test_amtool_accepts_every_kind_of_receiver_that_its_release_has(tmp_path: Path) -> None:
    text = owners.default_text()
    for name, kind in {
        "catalogue": "{kind: email, to: a@example.org, from: b@example.org, smarthost: 'mail.example.org:587', "
        "auth_username: b, auth_password_file: /run/secrets/mail}",
        "ai-context": "{kind: pagerduty, routing_key_file: /run/secrets/key}",
        "dashboards": "{kind: slack, api_url_file: /run/secrets/chat, channel: '#dashboards'}",
        "editor": "{kind: webhook, url: 'https://hooks.example.org/x', credentials_file: /run/secrets/token}",
    }.items():
        text = re.sub(rf"\n  {name}: \{{.*", f"\n  {name}: {kind}", text)
    of = Inputs(owners.loads(text, "owners.yaml"), Limits(), text)
    done = asked("amtool", "check-config", written(tmp_path, of) / "alertmanager.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[Stack]:
    """An Alertmanager with the shipped routes, whose receivers are at a free port and wait for less."""
    (port,) = free_ports(1)
    text = owners.default_text().replace("127.0.0.1:5001", f"127.0.0.1:{port}")
    folder = written(tmp_path / "ops", Inputs(owners.loads(text, "owners.yaml"), Limits(), text))
    config = folder / "alertmanager.yaml"
    hurried = config.read_text("utf-8").replace("group_wait: 10s", "group_wait: 1s")
    config.write_text(hurried.replace("group_interval: 1m", "group_interval: 1s"), "utf-8")
    with Stack.up(tmp_path / "stack", ops_dir=tmp_path / "ops", parts=("alertmanager",)) as stack:
        yield stack


PLACE = {"service_namespace": "shop", "deployment_environment_name": "production"}


def raised(stack: Stack, *labels: Mapping[str, str], ended: bool = False) -> None:
    """Alerts as Prometheus sends them."""
    now = datetime.now(timezone.utc)
    ends = now if ended else now + timedelta(hours=1)
    told = [
        {"labels": dict(each), "annotations": {"summary": "x"}, "endsAt": ends.isoformat()} for each in labels
    ]
    request = urllib.request.Request(
        f"{stack.alertmanager_url}/api/v2/alerts",
        json.dumps(told).encode(),
        {"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=10).close()


def alert(name: str, severity: str, owner: str, **more: str) -> dict[str, str]:
    return {"alertname": name, "severity": severity, "owner": owner, **more}


def heard(stack: Stack) -> dict[str, set[str]]:
    """Which alerts each receiver was told of, by the path of its address."""
    assert stack.pages is not None
    told: dict[str, set[str]] = {}
    for page in stack.pages.all:
        told.setdefault(page.path.strip("/"), set()).update(
            f"{each['labels']['alertname']} {each['labels']['severity']}" for each in page.alerts
        )
    return told


def test_an_alert_reaches_its_owner_and_whoever_was_woken_gets_no_ticket_of_the_same(
    alertmanager: Stack,
) -> None:
    mcp, pages = {"dataface_surface": "mcp", **PLACE}, {"dataface_surface": "dashboard", **PLACE}
    raised(
        alertmanager,
        alert("DatafaceDegradedRatio", "page", "ai-context-owner", **mcp),
        alert("DatafaceDegradedRatio", "ticket", "ai-context-owner", **mcp),
        alert("DatafaceDegradedRatio", "ticket", "dashboards-owner", **pages),
        alert("DatafaceWatchdog", "none", "telemetry-owner"),
        alert("SomethingElse", "page", "nobody"),
    )
    expected = {
        "ai-context-owner": {"DatafaceDegradedRatio page"},
        "dashboards-owner": {"DatafaceDegradedRatio ticket"},
        "watchdog": {"DatafaceWatchdog none"},
        "launch-coordinator": {"SomethingElse page"},
    }
    wait_until("every owner is told", lambda: set(heard(alertmanager)) == set(expected))
    time.sleep(3)  # several times what it waits for more
    assert heard(alertmanager) == expected


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (
            PLACE,
            {
                "telemetry-owner": {"DatafaceTelemetrySilent ticket"},
                "catalogue-owner": {"DatafaceArtifactAge ticket"},
            },
        ),
        ({}, {"telemetry-owner": {"DatafaceTelemetrySilent ticket"}}),
    ],
    ids=["one project", "everywhere"],
)
def test_what_is_silent_is_not_told_to_be_old(
    place: Mapping[str, str], expected: dict[str, set[str]], alertmanager: Stack
) -> None:
    silent = alert("DatafaceTelemetrySilent", "ticket", "telemetry-owner", **place)
    raised(alertmanager, silent)  # first: what is told already is not taken back
    wait_until("the silence is told", lambda: heard(alertmanager))
    raised(
        alertmanager,
        silent,
        alert("DatafaceArtifactAge", "ticket", "catalogue-owner", dataface_artifact="dbt_manifest", **PLACE),
        alert(
            "DatafaceArtifactAge",
            "ticket",
            "catalogue-owner",
            service_namespace="other",
            deployment_environment_name="production",
        ),
    )
    time.sleep(4)
    assert heard(alertmanager) == expected
    assert alertmanager.pages is not None
    old = [each["labels"].get("service_namespace") for page in alertmanager.pages.all for each in page.alerts]
    assert "other" in old if place else "other" not in old


def test_where_the_collector_is_down_nobody_is_told_of_silence(alertmanager: Stack) -> None:
    down = alert("DatafaceCollectorDown", "page", "telemetry-owner")
    one = alert("DatafaceCollectorDown", "ticket", "telemetry-owner", instance="gateway:8888")
    raised(alertmanager, down, one)
    wait_until("that it is down is told", lambda: heard(alertmanager))
    raised(alertmanager, down, alert("DatafaceTelemetrySilent", "ticket", "telemetry-owner", **PLACE))
    time.sleep(4)
    assert heard(alertmanager) == {"telemetry-owner": {"DatafaceCollectorDown page"}}


# -- the Collector's own metrics -----------------------------------------------------------------------------

# Series that the Collector makes at its first loss of that kind, which cannot be had of every kind on a healthy one.
LOSSES = re.compile(
    r"otelcol_exporter_(send|enqueue)_failed_\w+|otelcol_receiver_refused_(metric_points|log_records)"
)


def test_a_running_collector_has_the_metrics_that_rules_and_panels_read(tmp_path: Path) -> None:
    # Of signals that were not sent it has no series either.
    healthy = {name for name in series_names.COLLECTOR if not LOSSES.fullmatch(name)}
    of_spans = {name for name in healthy if not name.endswith(("_metric_points", "_log_records"))}
    with Stack.up(tmp_path / "stack", parts=("collector", "jaeger")) as stack:
        post(stack.otlp_http, "traces", spans_body([entry(outcome="degraded")]))
        wait_until("each has been told", lambda: of_spans <= _metrics(stack), 60)
    read = {name for rule in _rules() for name in series_names.series_in(rule["expr"])}
    assert {name for name in read if name.startswith("otelcol_")} <= series_names.COLLECTOR


def _metrics(stack: Stack) -> set[str]:
    """The names of what the Collector says of itself."""
    return set(re.findall(r"^(otelcol_\w+)", get_text(stack.telemetry_url), re.MULTILINE))


def _rules() -> list[dict[str, Any]]:
    return [rule for group in alerts.rules(DEFAULTS)["groups"] for rule in group["rules"]]
