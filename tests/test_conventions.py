"""The conventions: the registry's shape, what is generated, how metrics derive, what the check finds."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from context_telemetry.conventions import declared, names
from context_telemetry.conventions.check import check, unused
from context_telemetry.conventions.derive import Point, derive

ROOT = Path(__file__).resolve().parent.parent
REGISTRY = ROOT / "src" / "context_telemetry" / "conventions" / "registry"
TOOL = ROOT / "tools" / "generate_conventions.py"

# What weaver's definition/2 schema allows at each place (schemas/semconv.schema.v2.json of weaver 0.25).
COMMON = {"brief", "note", "stability", "deprecated", "annotations"}
KEYS = {
    "attributes": COMMON | {"key", "type", "examples"},
    "attribute_groups": COMMON | {"id", "visibility", "attributes"},
    "spans": COMMON | {"type", "kind", "name", "requirement_level", "attributes", "entity_associations"},
    "metrics": COMMON
    | {"name", "instrument", "unit", "requirement_level", "attributes", "entity_associations"},
    "metric_refinements": COMMON | {"id", "ref", "attributes", "entity_associations"},
    "events": COMMON | {"name", "requirement_level", "attributes", "entity_associations"},
}
REF_KEYS = COMMON | {"ref", "requirement_level", "examples"}
MEMBER_KEYS = COMMON | {"id", "value"}
TYPES = {f"{kind}{many}" for kind in ("string", "int", "double", "boolean") for many in ("", "[]")}
STABILITIES = {"stable", "development", "alpha", "beta", "release_candidate"}
LEVELS = {"required", "conditionally_required", "recommended", "opt_in"}
NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")


def _generator() -> Any:
    spec = importlib.util.spec_from_file_location("generate_conventions", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


generator = _generator()
registry = generator.read_registry()


def _sections() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(REGISTRY.glob("*.yaml")):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        if path.name == "manifest.yaml":
            continue
        assert content.pop("file_format") == "definition/2", path
        for section, entries in content.items():
            for entry in entries:
                yield section, entry


def _refs(entry: dict[str, Any]) -> list[dict[str, Any]]:
    return [ref for ref in entry.get("attributes", ()) if "ref" in ref]


# -- the registry ---------------------------------------------------------------------------------


def test_the_registry_has_only_keys_and_values_that_weaver_accepts() -> None:
    for section, entry in _sections():
        assert set(entry) <= KEYS[section], entry
        if "stability" in entry:
            assert entry["stability"] in STABILITIES
        for ref in entry.get("attributes", ()):
            assert set(ref) <= REF_KEYS or set(ref) == {"ref_group"}, ref
        if section == "attributes":
            assert {"key", "type", "brief", "stability"} <= set(entry)
            assert (
                entry["type"] in TYPES
                if isinstance(entry["type"], str)
                else set(entry["type"]) == {"members"}
            )
        if section == "metrics":
            assert entry["instrument"] in {"counter", "updowncounter", "gauge", "histogram"}
        if section == "spans":
            assert entry["kind"] in {"client", "server", "producer", "consumer", "internal"}
            assert set(entry["name"]) == {"note"}


def test_the_manifest_names_a_versioned_schema_and_versioned_dependencies() -> None:
    manifest = yaml.safe_load((REGISTRY / "manifest.yaml").read_text(encoding="utf-8"))
    assert set(manifest) <= {"schema_url", "description", "stability", "dependencies"}
    for holder in (manifest, *manifest["dependencies"]):
        assert re.fullmatch(r"https://[^ ]+/v?\d+\.\d+\.\d+", holder["schema_url"])
    tables = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nversion = "{names.VERSION}"\n' in tables


def test_every_attribute_of_a_signal_has_a_requirement_level_and_is_defined() -> None:
    for _, entry in _sections():
        for ref in _refs(entry):
            assert ref["ref"] in registry.attributes
            level = ref["requirement_level"]
            assert (level if isinstance(level, str) else next(iter(level))) in LEVELS, ref


def test_names_are_dotted_snake_case_and_members_say_what_they_are() -> None:
    for attribute in registry.attributes.values():
        assert NAME.fullmatch(attribute.key)
        for member in attribute.members:
            assert set(member) <= MEMBER_KEYS
            assert member["brief"]
            assert member["stability"] in STABILITIES
            assert re.fullmatch(r"[a-z][a-z0-9_]*", member["id"])
            if "/" not in member["value"]:  # a route is no word
                assert member["id"] == member["value"].replace(".", "_").replace(" ", "_")
        if "values_of" in attribute.annotations:
            assert registry.members(attribute.key)
    for signal in (*registry.spans, *registry.metrics, *registry.events):
        assert NAME.fullmatch(signal.name)


def test_every_reason_says_its_condition_outcome_healthy_twin_and_what_to_do() -> None:
    for member in registry.members("dataface.degradation.reason"):
        facts = member["annotations"]
        assert set(facts) == set(generator.REASON_FACTS)
        assert facts["outcome"] in names.OUTCOMES - {"ok"}
        assert isinstance(facts["silent"], bool)
        for sentence in ("condition", "healthy_twin", "what_to_do"):
            assert facts[sentence].endswith(".")
            assert facts[sentence].count(". ") == 0, "one sentence"


def test_every_operation_has_exactly_one_span_type_beside_the_mcp_one() -> None:
    held = [operation for span in registry.spans[1:] for operation in span.annotations["operations"]]
    assert sorted(held) == sorted(
        {*names.OPERATIONS, "chat"}
    )  # a model call has GenAI's operation name alone
    assert frozenset(registry.spans[0].annotations["operations"]) <= names.ENTRY_OPERATIONS


# -- metrics --------------------------------------------------------------------------------------


def test_every_histogram_has_rising_boundaries_and_nothing_else_has_any() -> None:
    for metric in names.METRICS:
        assert bool(metric.boundaries) == (metric.instrument == "histogram")
        assert list(metric.boundaries) == sorted(set(metric.boundaries))


def test_known_thresholds_are_boundaries() -> None:
    boundaries = {metric.name: set(metric.boundaries) for metric in names.METRICS}
    # Published budgets, what known clients are known to take, and the MiB that a proxy may cut at.
    assert {10240, 40000, 100000, 262144, 1000000, 1048576} <= boundaries[names.METRIC_DATAFACE_PAYLOAD_SIZE]
    assert {3600, 86400, 604800} <= boundaries[names.METRIC_DATAFACE_STALENESS_AGE]
    mcp = boundaries[names.METRIC_MCP_SERVER_OPERATION_DURATION]
    assert mcp == boundaries[names.METRIC_MCP_SERVER_SESSION_DURATION]
    assert boundaries[names.METRIC_DATAFACE_OPERATION_DURATION] == mcp | {0.001, 0.002, 0.005}


def test_a_derivation_names_only_what_its_signal_carries() -> None:
    spans = {name for span in declared.SPANS for name in span.levels}
    events = {event.name: set(event.levels) for event in declared.EVENTS}
    for metric in names.METRICS:
        carried = spans if metric.source == "span" else events[metric.when["event"]]
        used = [*metric.when.get("has", ()), *metric.when.get("not_has", ()), *(metric.parts or {}).values()]
        used += (metric.read_from or {}).values()
        if isinstance(metric.value, str) and metric.value != "duration":
            used.append(metric.value)
        assert set(used) <= carried
        assert set(metric.read_from or {}) <= set(metric.attributes)


# -- generated files and the lock -----------------------------------------------------------------


def test_every_generated_file_is_what_the_registry_gives() -> None:
    done = subprocess.run([sys.executable, str(TOOL), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_name_leaves_only_by_deprecation_and_changes_only_with_the_changelog() -> None:
    old = {
        "attribute dataface.face": "string, development",
        "metric dataface.degradations": "counter 1, beta",
    }
    renamed = {"attribute dataface.page": "string, development"} | {
        name: what for name, what in old.items() if name != "attribute dataface.face"
    }
    assert [problem.split(" was")[0] for problem in generator.lock_problems(old, renamed, "")] == [
        "attribute dataface.face"
    ]
    changed = old | {"attribute dataface.face": "string[], development"}
    assert len(generator.lock_problems(old, changed, "nothing of it")) == 1
    assert generator.lock_problems(old, changed, "`dataface.face` is a list now") == []
    assert generator.lock_problems(old, old | {"event dataface.more": "development"}, "") == []


def test_importing_the_names_loads_nothing_but_their_shape() -> None:
    before = "import sys, typing, collections.abc, context_telemetry; seen = set(sys.modules); "
    code = before + (
        "[sys.modules.pop(n) for n in list(sys.modules) if n.startswith('context_telemetry.conventions')]; "
        "import context_telemetry.conventions.names; print(*sorted(set(sys.modules) - seen))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


# -- deriving -------------------------------------------------------------------------------------


def _span(seconds: float = 0.05, kind: str = "internal", **attributes: Any) -> dict[str, Any]:
    given = {key.replace("__", "."): value for key, value in attributes.items()}
    return {
        "name": "x",
        "kind": kind,
        "start": 10**18,
        "end": 10**18 + round(seconds * 1e9),
        "attributes": given,
    }


def _entry(seconds: float = 0.05, **attributes: Any) -> dict[str, Any]:
    usual = {
        "dataface__operation__name": "tool.call",
        "dataface__entry": True,
        "dataface__outcome": "ok",
        "dataface__surface": "mcp",
        "dataface__client__name": "cursor",
        "mcp__method__name": "tools/call",
        "gen_ai__tool__name": "execute_query",
    }
    return _span(seconds, "server", **(usual | attributes))


def _inner(
    operation: str, seconds: float = 0.01, kind: str = "internal", **attributes: Any
) -> dict[str, Any]:
    usual = {
        "dataface__operation__name": operation,
        "dataface__entry": False,
        "dataface__outcome": "ok",
        "dataface__surface": "mcp",
    }
    return _span(seconds, kind, **(usual | attributes))


def _event(name: str, time: int = 1, process: str = "a", **attributes: Any) -> dict[str, Any]:
    given = {key.replace("__", "."): value for key, value in attributes.items()}
    return {
        "event_name": name,
        "time": time,
        "attributes": given,
        "resource": {"service.instance.id": process},
    }


def _named(points: list[Point], name: str) -> list[Point]:
    return [point for point in points if point.name == name]


def test_requests_and_degradations_are_counted_from_entries_only() -> None:
    reasons = ["source_substituted", "manifest_missing", "source_substituted"]
    points = derive(
        [
            _entry(),
            _entry(dataface__outcome="degraded", dataface__degradation__reasons=reasons),
            _inner("query.execute", dataface__degradation__reasons=["source_substituted"]),
        ]
    )
    served = _named(points, names.METRIC_DATAFACE_CONTEXT_SERVED)
    assert {point.attributes["dataface.outcome"]: point.value for point in served} == {"ok": 1, "degraded": 1}
    degraded = _named(points, names.METRIC_DATAFACE_DEGRADATIONS)
    assert {point.attributes["dataface.degradation.reason"]: point.value for point in degraded} == {
        "source_substituted": 1,
        "manifest_missing": 1,
    }


def test_a_span_has_one_duration_the_standard_one_where_there_is_one() -> None:
    points = derive([_entry(), _inner("manifest.load", 0.01)])
    (request,) = _named(points, names.METRIC_MCP_SERVER_OPERATION_DURATION)
    (inner,) = _named(points, names.METRIC_DATAFACE_OPERATION_DURATION)
    assert (request.count, inner.count) == (1, 1)
    assert inner.attributes["dataface.operation.name"] == "manifest.load"
    # 10 ms is a bound, and bounds are inclusive.
    assert inner.buckets.index(1) == 3


def test_what_a_client_invents_does_not_become_a_label() -> None:
    points = derive(
        [
            _entry(gen_ai__tool__name="drop_everything", mcp__method__name="made/up"),
            _inner(
                "query.execute",
                dataface__catalog__source="nosrc",
                dataface__catalog__unresolved=2,
                dataface__degradation__reasons=["source_substituted"],
            ),
            _inner(
                "catalog.resolve",
                dataface__catalog__source="shop",
                dataface__catalog__source__configured=True,
                dataface__catalog__unresolved=1,
            ),
            _inner("catalog.resolve", dataface__catalog__source="invented", dataface__catalog__unresolved=1),
        ]
    )
    (request,) = _named(points, names.METRIC_MCP_SERVER_OPERATION_DURATION)
    assert request.attributes["gen_ai.tool.name"] == request.attributes["mcp.method.name"] == "_OTHER"
    failures = _named(points, names.METRIC_DATAFACE_RESOLUTION_FAILURES)
    assert sorted((point.attributes["dataface.catalog.source"], point.value) for point in failures) == [
        ("_OTHER", 1),
        ("_OTHER", 2),
        ("shop", 1),
    ]


def test_counters_from_events_add_up_and_gauges_say_the_last() -> None:
    def state(time: int, process: str, errors: int, active: int) -> dict[str, Any]:
        counts = {
            "context_telemetry__hooks__active": active,
            "context_telemetry__hooks__absent": 1,
            "context_telemetry__error_count__export": errors,
        }
        return _event("context_telemetry.state", time, process, **counts)

    points = derive([], [state(3, "a", 5, 40), state(1, "a", 2, 41), state(2, "b", 1, 39)])
    (errors,) = _named(points, names.METRIC_CONTEXT_TELEMETRY_ERRORS)
    assert (dict(errors.attributes), errors.value) == ({"context_telemetry.place": "export"}, 8)
    hooks = _named(points, names.METRIC_CONTEXT_TELEMETRY_HOOKS)
    assert {point.attributes["context_telemetry.hook.state"]: point.value for point in hooks} == {
        "active": 40,
        "absent": 1,
    }


def test_the_derived_histogram_is_the_one_that_the_sdk_would_have_made() -> None:
    metric = next(each for each in names.METRICS if each.name == names.METRIC_DATAFACE_PAYLOAD_SIZE)
    sizes = [0, 255, 256, 257, 100_000, 100_001, 5_000_000]
    reader = InMemoryMetricReader()
    meter = MeterProvider(metric_readers=[reader]).get_meter(names.SCOPE)
    instrument = meter.create_histogram(
        metric.name, explicit_bucket_boundaries_advisory=list(metric.boundaries)
    )
    for size in sizes:
        instrument.record(size)
    data: Any = reader.get_metrics_data()
    expected = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points[0]
    kinds: dict[str, Any] = {"dataface__payload__kind": "tool_result"}
    points = derive([_entry(dataface__payload__size=size, **kinds) for size in sizes])
    (derived,) = _named(points, metric.name)
    assert (derived.count, derived.value, derived.buckets) == (
        expected.count,
        expected.sum,
        tuple(expected.bucket_counts),
    )


# -- checking -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attributes", "finding"),
    [
        ({"dataface__invented": 1}, "dataface.invented is not declared here"),
        ({"dataface__outcome": "fine"}, "dataface.outcome=fine is not in its closed list"),
        ({"dataface__degradation__reasons": ["bad_luck"]}, "reasons=bad_luck is not in its closed list"),
        ({"dataface__degradation__reasons": "manifest_stale"}, "reasons is to be a string[]"),
        ({"dataface__charts__failed": True}, "dataface.charts.failed is to be a int"),
        ({"db__system__name": "duckdb"}, "db.system.name is not declared here"),
        ({"dataface__operation__name": "tool.guess"}, "operation.name=tool.guess is not in its closed list"),
    ],
)
def test_an_emitted_thing_that_is_not_declared_is_found(attributes: dict[str, Any], finding: str) -> None:
    (found,) = check([_entry(**attributes)], [], [])
    assert found.endswith(finding)


def test_what_is_required_and_missing_is_found_and_so_is_a_wrong_kind() -> None:
    span = _inner("query.execute")
    del span["attributes"]["dataface.outcome"]
    kind, outcome = check([span], [], [])
    assert kind.endswith("kind is internal, declared client")
    assert outcome.endswith("dataface.outcome is required and missing")


def test_undeclared_events_metrics_and_operations_are_found() -> None:
    found = check(
        [_inner("lunch.break")], [_event("dataface.surprise")], [Point("dataface.nonsense", {}, 1.0)]
    )
    assert [each.split(":")[0] for each in found] == [
        "span x",
        "event dataface.surprise",
        "metric dataface.nonsense",
    ]


def test_declared_traffic_passes_in_any_notation_of_the_kind() -> None:
    spans = [
        _entry(),
        _inner("query.execute", kind="SPAN_KIND_CLIENT"),
        _inner("manifest.load") | {"kind": 1},
    ]
    assert check(spans, [], derive(spans)) == []


def test_what_is_declared_and_never_seen_is_found() -> None:
    spans = [_entry()]
    found = unused(spans, [], derive(spans))
    assert "metric dataface.degradations: never emitted" in found
    assert "event dataface.session.ended: never emitted" in found
    assert "attribute db.system.name: never emitted" in found
    assert "value dataface.operation.name=query.execute: never emitted" in found
    assert "value dataface.operation.name=tool.call: never emitted" not in found
    # Who connects is not up to a run.
    assert not any(each.startswith("value dataface.client.name") for each in found)
