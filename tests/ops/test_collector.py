"""What can be told of the Collector's files without a Collector: what they are made of, and that they hang together."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from context_telemetry.conventions import names
from context_telemetry.conventions.metric import Metric
from context_telemetry.ops import collector, derivation
from context_telemetry.ops.inputs import defaults
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
