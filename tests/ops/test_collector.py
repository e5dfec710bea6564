"""What can be told of the Collector's files without a Collector: what they are made of, and that they hang together."""

from __future__ import annotations

import posixpath
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from context_telemetry.conventions import names
from context_telemetry.conventions.metric import Metric
from context_telemetry.limits.model import Limits, Objectives
from context_telemetry.ops import alert_routes, collector, derivation, owners
from context_telemetry.ops.inputs import Inputs, defaults
from context_telemetry.pipeline import guard

FILES = collector.files(defaults())
CONFIGURATIONS = ("agent.yaml", "gateway.yaml", "otlp_logs.yaml", "remote_write.yaml")
KINDS = ("receivers", "processors", "connectors", "exporters", "extensions")

# Go modules whose component is called otherwise than they are.
MODULES = {"otlpexporter": "otlpgrpc", "filestorage": "filestorage"}


def read(name: str) -> Any:
    return yaml.safe_load(FILES[f"collector/{name}"])


def flat(name: str) -> str:
    """A component's type without its name and underscores, as modules are called: `otlp_grpc/traces`, `otlpgrpc`."""
    return name.partition("/")[0].replace("_", "")


def test_building_twice_gives_the_same_files() -> None:
    assert collector.files(defaults()) == FILES


@pytest.mark.parametrize("name", [name for name in collector.TEMPLATES if name.endswith(".yaml")])
def test_every_yaml_file_can_be_read(name: str) -> None:
    assert list(yaml.safe_load_all(FILES[f"collector/{name}"]))


def test_every_file_says_in_its_first_lines_what_it_is_for() -> None:
    assert all(
        (text.startswith("# ") and len(text.splitlines()[0]) > 10) or "README" in name
        for name, text in FILES.items()
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_manifest_has_just_the_components_that_are_configured(kind: str) -> None:
    used = {flat(component) for name in CONFIGURATIONS for component in read(name).get(kind, {})}
    built = set()
    for row in read("builder.yaml")[kind]:
        module = row["gomod"].split()[0].rpartition("/")[2]
        built.add(MODULES.get(module, module.removesuffix(kind.removesuffix("s"))))
    assert built == used


@pytest.mark.parametrize("name", ["agent.yaml", "gateway.yaml"])
def test_every_component_that_is_configured_is_in_a_pipeline(name: str) -> None:
    config = read(name)
    pipelines = config["service"]["pipelines"].values()
    for kind in ("receivers", "processors", "exporters"):
        placed = {each for pipeline in pipelines for each in pipeline.get(kind, ())}
        assert placed - set(config.get("connectors", ())) == set(config[kind])


@pytest.mark.parametrize("name", ["agent.yaml", "gateway.yaml"])
def test_what_comes_from_outside_meets_the_memory_limit_first_and_then_the_guard(name: str) -> None:
    for signal, pipeline in read(name)["service"]["pipelines"].items():
        if "otlp" in pipeline["receivers"]:
            nets = ["filter/duplicates"] if signal.startswith("metrics") else ["transform/guard", "redaction"]
            assert pipeline["processors"] == ["memory_limiter", *nets]


def test_spans_are_counted_before_any_is_sampled_away() -> None:
    pipelines = read("gateway.yaml")["service"]["pipelines"]
    counted = next(each for each in pipelines.values() if "signal_to_metrics" in each["exporters"])
    assert not any("sampling" in processor for processor in counted["processors"])
    assert "tail_sampling" not in pipelines["traces/in"]["processors"]


def test_one_batch_after_the_other_is_counted() -> None:
    """Two at once come in the wrong order, and `delta_to_cumulative` drops what is late."""
    queue = read("gateway.yaml")["exporters"]["otlp_grpc/derive"]["sending_queue"]
    assert (queue["num_consumers"], queue["block_on_overflow"]) == (1, True)


@pytest.mark.parametrize("metric", names.METRICS, ids=lambda metric: metric.name)
def test_every_metric_is_defined_with_its_unit_and_boundaries(metric: Metric) -> None:
    connector = read("gateway.yaml")["connectors"]["signal_to_metrics"]
    rows = [
        row for row in connector["spans" if metric.source == "span" else "logs"] if row["name"] == metric.name
    ]
    assert rows
    assert {row["unit"] for row in rows} == {metric.unit}
    kind = {"counter": "sum", "gauge": "gauge", "histogram": "histogram"}[metric.instrument]
    assert all(kind in row for row in rows)
    if metric.boundaries:
        assert all(tuple(row["histogram"]["buckets"]) == metric.boundaries for row in rows)
    labels = {label["key"] for row in rows for label in row["attributes"]}
    assert labels == set(metric.attributes)


def test_no_label_tells_processes_apart() -> None:
    connector = read("gateway.yaml")["connectors"]["signal_to_metrics"]
    kept = {
        each["key"]
        for row in (*connector["spans"], *connector["logs"])
        for each in row["include_resource_attributes"]
    }
    assert kept == {"service.name", "service.namespace", "deployment.environment.name"}


def test_what_is_open_of_a_contract_is_counted_by_its_parts_and_one_series_for_a_project() -> None:
    rows = [
        row
        for row in read("gateway.yaml")["connectors"]["signal_to_metrics"]["logs"]
        if row["name"] == "dataface.contract.open"
    ]
    told = {row["attributes"][0]["default_value"]: row["gauge"]["value"] for row in rows}
    assert told == {
        level: f'Double(log.attributes["dataface.contract.open.{level}"])'
        for level in ("breaking", "warning", "info")
    }
    for row in rows:
        (condition,) = row["conditions"]
        assert 'log.event_name == "dataface.contract.compared"' in condition
        assert {"key": "dataface.contract.part", "optional": True} in row["attributes"]
        # Under another service name, another process's former word would stay beside the last one.
        assert [each["key"] for each in row["include_resource_attributes"]] == list(derivation.PROJECT_LABELS)


def test_unknown_names_are_added_up_by_surface_from_the_event() -> None:
    (row,) = [
        row
        for row in read("gateway.yaml")["connectors"]["signal_to_metrics"]["logs"]
        if row["name"] == "dataface.references.unknown"
    ]
    assert row["sum"] == {"value": 'Int(log.attributes["dataface.reference.count"])', "monotonic": True}
    assert [each["key"] for each in row["attributes"]] == ["dataface.surface"]


def test_the_second_net_has_the_keys_of_the_first() -> None:
    (deleting,) = [
        statement
        for statement in read("gateway.yaml")["processors"]["transform/guard"]["trace_statements"]
        if statement.startswith("delete_matching_keys(span.attributes")
    ]
    found = re.search(r', "(.*)"\)$', deleting)
    assert found
    expression = re.compile(found.group(1).replace("\\\\", "\\").replace("$$", "$"))
    content = {
        *guard.DROPPED_KEYS,
        *(f"{prefix}x" for prefix in guard.DROPPED_PREFIXES),
        *(f"x{suffix}" for suffix in guard.DROPPED_SUFFIXES),
    }
    assert all(guard.dropped(key) and expression.search(key) for key in content)
    ours = [
        value for name, value in vars(names).items() if name.startswith(("DATAFACE_", "MCP_", "CONTEXT_"))
    ]
    for key in [*(each for each in ours if isinstance(each, str)), "messages", "user", "db.query.texts"]:
        assert bool(expression.search(key)) == guard.dropped(key), key


@pytest.mark.parametrize(
    "value", ["postgres://shop:x@host/db", "see TOKEN=abc", "in /home/ann/shop", "C:\\Users\\ann"]
)
def test_the_second_net_knows_what_the_first_knows_of_values(value: str) -> None:
    blocked = [
        each.replace("$$", "$") for each in read("gateway.yaml")["processors"]["redaction"]["blocked_values"]
    ]
    assert guard.text(value) != value
    assert any(re.search(each, value) for each in blocked)


@pytest.mark.parametrize("value", ["models/home/orders.sql", "tools/call", "dataface://docs/charts", "12:30"])
def test_the_second_net_leaves_what_the_first_leaves(value: str) -> None:
    blocked = [
        each.replace("$$", "$") for each in read("gateway.yaml")["processors"]["redaction"]["blocked_values"]
    ]
    assert guard.text(value) == value
    assert not any(re.search(each, value) for each in blocked)


def test_a_slow_trace_is_told_by_a_boundary_of_every_histogram_of_seconds_that_has_it() -> None:
    of_calls = (
        "dataface.operation.duration",
        "mcp.server.operation.duration",
        "http.server.request.duration",
    )
    known = {metric.name: metric.boundaries for metric in names.METRICS}
    assert all(collector.SLOW_SECONDS in known[name] for name in of_calls)


def test_a_stricter_objective_keeps_the_traces_that_its_alert_points_at() -> None:
    def slow(seconds: float) -> tuple[int, str]:
        what = replace(defaults(), limits=Limits(objectives=Objectives(context_duration=seconds)))
        built = collector.files(what)
        (policy,) = (
            each
            for each in yaml.safe_load(built["collector/gateway.yaml"])["processors"]["tail_sampling"][
                "policies"
            ]
            if each["name"] == "slow"
        )
        (said,) = re.findall(r"or of (\S+) s and longer", built["collector/README.md"])
        return policy["latency"]["threshold_ms"], said

    # The policy compares whole milliseconds, and keeps what has more.
    assert slow(0.5) == (499, "0.5")
    assert slow(5) == (4999, "5")
    assert slow(30) == (collector.SLOW_SECONDS * 1000 - 1, "5")


def test_events_of_a_project_go_to_one_gateway_whatever_process_says_them() -> None:
    agent = read("agent.yaml")
    (name,) = agent["service"]["pipelines"]["logs"]["exporters"]
    exporter = agent["exporters"][name]
    assert exporter["routing_key"] == "attributes"
    assert exporter["routing_attributes"] == list(derivation.PROJECT_LABELS)
    assert set(derivation.PROJECT_LABELS) < set(
        derivation.RESOURCE_LABELS
    )  # so all of a series is there, too
    assert exporter["sending_queue"]["num_consumers"] == 1  # a gauge has what came last


def test_a_metric_by_a_list_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    row = next(metric for metric in names.METRICS if metric.name == "dataface.degradations")
    endless = row._replace(
        attributes=("db.system.name",), read_from={"db.system.name": "dataface.degradation.reasons"}
    )
    monkeypatch.setattr(names, "METRICS", (endless,))
    with pytest.raises(ValueError, match=r"dataface\.degradations: db\.system\.name has no closed list"):
        list(derivation.definitions("span"))


def test_prometheus_names_its_files_by_paths_that_are_built() -> None:
    config = read("prometheus.yaml")
    jobs = [*config["scrape_configs"], *config["alerting"]["alertmanagers"]]
    files = [file for job in jobs for sd in job["file_sd_configs"] for file in sd["files"]]
    assert {f"collector/{file}" for file in files} == {name for name in FILES if "/targets/" in name}
    assert config["rule_files"] == ["../alerts/rules.yaml"]


def test_the_readme_has_every_file_and_every_variable() -> None:
    readme = FILES["collector/README.md"]
    for name in collector.TEMPLATES:
        assert name == "README.md" or f"`{name.partition('/')[0]}" in readme, name
    for name in CONFIGURATIONS:
        for variable in re.findall(r"\$\{env:(\w+)", FILES[f"collector/{name}"]):
            assert variable == "HOSTNAME" or f"`{variable}`" in readme, variable


# The stack in containers


SECRETS = """\
  catalogue: {kind: webhook, url_file: /run/secrets/hook, credentials_file: token}
  ai-context: {kind: slack, api_url_file: ../secrets/slack}
  dashboards: {kind: pagerduty, routing_key_file: "/run/secrets/$key"}
  editor: {kind: email, to: a@b.example, from: c@b.example, smarthost: "m.example:25", auth_username: c,
    auth_password_file: /run/secrets/mail}
  telemetry: {kind: webhook, url: "http://localhost:5002/"}
  launch: {kind: webhook, url: "http://127.0.0.1:5001/"}
  support: {kind: webhook, url: "https://hooks.example/"}
  watchdog: {kind: webhook, url: "http://[::1]:5002/"}
"""


def with_secrets() -> Inputs:
    """Every receiver that reads a file, and webhooks on this machine and elsewhere."""
    text = owners.default_text().partition("receivers:\n")[0] + f"receivers:\n{SECRETS}"
    return replace(defaults(), owners=owners.loads(text, "owners.yaml"), owners_text=text)


@dataclass(frozen=True)
class Container:
    """What a service of compose.yaml finds under a path."""

    service: dict[str, Any]

    @property
    def mounts(self) -> Iterator[tuple[str, str]]:
        """(path in the container, path on the host seen from `collector/`); that of an inline file is empty."""
        for volume in self.service.get("volumes", ()):
            short = isinstance(volume, str)
            source, target = volume.split(":")[:2] if short else (volume["source"], volume["target"])
            if "/" in source:  # else it is a volume of Docker's, for data
                yield target.replace("$$", "$"), source.replace("$$", "$")
        for each in self.service.get("configs", ()):
            yield each["target"], ""

    def host(self, path: str) -> str | None:
        """What is there, seen from the built folder: "" for an inline file, None where nothing is mounted."""
        for target, source in self.mounts:
            if path == target or path.startswith(f"{target}/"):
                return source and posixpath.normpath(
                    posixpath.join("collector", source + path[len(target) :])
                )
        return None

    @property
    def configuration(self) -> str:
        """The path that its command names."""
        (found,) = (
            each.removeprefix("--config.file=") for each in self.service["command"] if each.endswith(".yaml")
        )
        return str(found)


def named(document: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every file that a configuration of Prometheus or Alertmanager names, with its key."""
    if isinstance(document, dict):
        for inner, value in document.items():
            yield from named(value, inner)
    elif isinstance(document, list):
        for value in document:
            yield from named(value, key)
    elif key.endswith("_file") or key in ("templates", "rule_files", "files"):
        yield key, document


@pytest.mark.parametrize("service", ["prometheus", "alertmanager", "collector"])
@pytest.mark.parametrize("what", [defaults(), with_secrets()], ids=["defaults", "secrets"])
def test_every_file_that_a_configuration_names_is_in_its_container(what: Inputs, service: str) -> None:
    built = {**collector.files(what), **alert_routes.files(what), "alerts/rules.yaml": ""}
    container = Container(yaml.safe_load(built["collector/compose.yaml"])["services"][service])
    configuration = container.configuration
    text = built[container.host(configuration) or ""]
    if service == "collector":
        return  # the files that it names are its data
    for key, path in named(yaml.safe_load(text)):
        found = container.host(posixpath.normpath(posixpath.join(posixpath.dirname(configuration), path)))
        if key.endswith("_file"):  # a secret: not built, and at an absolute path the same file as on the host
            assert found in (path, posixpath.normpath(f"alerts/{path}")), path
        else:
            assert found == "" or found in built, path


def test_all_kinds_of_files_are_among_those_that_are_looked_for() -> None:
    alertmanager = yaml.safe_load(alert_routes.files(with_secrets())["alerts/alertmanager.yaml"])
    assert {path for _, path in named(alertmanager)} == {
        "message.tmpl",
        "/run/secrets/hook",
        "token",
        "../secrets/slack",
        "/run/secrets/$key",
        "/run/secrets/mail",
    }
    assert ("rule_files", "../alerts/rules.yaml") in named(read("prometheus.yaml"))
    assert ("files", "targets/derived.yaml") in named(read("prometheus.yaml"))


def test_webhooks_on_loopback_are_answered_in_the_network_of_alertmanager(tmp_path: Path) -> None:
    compose = yaml.safe_load(collector.files(with_secrets())["collector/compose.yaml"])
    pages = compose["services"]["pages"]
    assert pages["network_mode"] == "service:alertmanager"
    assert pages["command"][2:] == ["5001", "5002"]
    script = tmp_path / "pages.py"
    script.write_text(
        compose["configs"]["pages"]["content"].replace(
            "int(port)), Page)", "0), Page); print(server.server_port)"
        ),
        "utf-8",
    )
    command = [sys.executable, "-u", str(script), "5001"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            request = urllib.request.Request(f"http://127.0.0.1:{port}/catalogue-owner", b'{"alerts": []}')
            with urllib.request.urlopen(request, timeout=10) as answer:
                assert answer.status == 200
            assert process.stdout.readline() == '/catalogue-owner {"alerts": []}\n'
        finally:
            process.kill()


def test_nothing_waits_for_pages_where_all_webhooks_are_elsewhere() -> None:
    text = re.sub(r"127\.0\.0\.1:5001", "hooks.example", owners.default_text())
    what = replace(defaults(), owners=owners.loads(text, "owners.yaml"), owners_text=text)
    compose = yaml.safe_load(collector.files(what)["collector/compose.yaml"])
    assert "pages" not in compose["services"]
    assert "pages" not in compose["configs"]
