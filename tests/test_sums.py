"""Three ways to count one traffic agree: the conventions' reference, the history's SQL, and PromQL's names for it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from otlp_files import Call, Inner, Process, age, payload

from context_telemetry.conventions import names
from context_telemetry.conventions.derive import derive
from context_telemetry.health import INDICATORS, Local, Sum, promql
from context_telemetry.history import History
from context_telemetry.limits import Objectives

NOW = 1_795_500_000.0


def traffic(folder: Path) -> list[dict[str, Any]]:
    """Much mixed traffic in the folder; its spans as the reference reads them."""
    chance = random.Random(7)
    process = Process(folder, now=NOW)
    for _ in range(400):
        reasons = tuple(chance.sample(sorted(names.REASONS), chance.choice((0, 0, 1, 3))))
        process.call(
            Call(
                ago=chance.uniform(1, 3000),
                surface=chance.choice(("mcp", "dashboard", "cli")),
                seconds=chance.uniform(0, 12),
                outcome="degraded" if reasons else chance.choice(("ok", "failed")),
                reasons=reasons,
                attributes={
                    **(
                        payload(chance.choice((10, 99_999, 100_000, 100_001)))
                        if chance.random() < 0.8
                        else {}
                    ),
                    **(age(chance.uniform(0, 1e6)) if chance.random() < 0.5 else {}),
                    **({names.DATAFACE_CATALOG_UNRESOLVED: chance.randint(1, 3)} if reasons else {}),
                },
                inner=(Inner("catalog.resolve", {}, seconds=chance.choice((0.1, 5.0, 5.1, 9.0))),),
            )
        )
    process.flush()
    return [span for path in sorted(folder.glob("traces-*.jsonl")) for span in read(path)]


def read(path: Path) -> list[dict[str, Any]]:
    spans = []
    for line in path.read_text("utf-8").splitlines():
        for batch in json.loads(line)["resourceSpans"]:
            for scope in batch["scopeSpans"]:
                for span in scope["spans"]:
                    plain = {each["key"]: value(each["value"]) for each in span["attributes"]}
                    start, end = int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"])
                    spans.append({"name": span["name"], "start": start, "end": end, "attributes": plain})
    return spans


def value(told: dict[str, Any]) -> Any:
    (kind, found), *_ = told.items()
    if kind == "arrayValue":
        return tuple(value(each) for each in found.get("values", ()))
    return int(found) if kind == "intValue" else found


def reference(spans: list[dict[str, Any]], each: Sum) -> dict[str | None, float]:
    """What the conventions' own derivation says."""
    found: dict[str | None, float] = {}
    for point in derive(spans):
        said = point.attributes
        if point.name != each.metric or not all(
            said.get(name) in values for name, values in each.where.items()
        ):
            continue
        if any(said.get(name) in values for name, values in each.unless.items()):
            continue
        amount = point.value
        if each.of.instrument == "histogram":
            first = 0 if each.above is None else each.of.boundaries.index(each.above) + 1
            amount = sum(point.buckets[first:])
        if amount:
            surface = said.get(names.DATAFACE_SURFACE)
            found[surface] = found.get(surface, 0.0) + amount
    return found


def sums() -> list[Sum]:
    """Every sum over spans that an indicator asks for."""
    found = []
    for indicator in INDICATORS:
        bad, but = indicator.counted(Objectives())
        found += [each for each in (*bad, *but, indicator.among) if each.of.source == "span"]
    return found


def test_the_history_counts_as_the_conventions_do(tmp_path: Path) -> None:
    spans = traffic(tmp_path)
    local = Local(History(tmp_path, since=NOW - 3600), NOW)
    for each in sums():
        counted = {surface: amount for surface, amount in local.added(each).items() if amount}
        assert counted == reference(spans, each), each
    assert sum(sum(local.added(each).values()) for each in sums()) > 2000


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        (names.METRIC_DATAFACE_CONTEXT_SERVED, "dataface_context_served_total"),
        (names.METRIC_DATAFACE_PAYLOAD_SIZE, "dataface_payload_size_bytes_count"),
        (names.METRIC_DATAFACE_OPERATION_DURATION, "dataface_operation_duration_seconds_count"),
        (names.METRIC_DATAFACE_ARTIFACT_BUILT_AT, "dataface_artifact_built_at_seconds"),
        (names.METRIC_DATAFACE_ENRICHMENT_COVERAGE_RATIO, "dataface_enrichment_coverage_ratio"),
        (names.METRIC_CONTEXT_TELEMETRY_HOOKS, "context_telemetry_hooks"),
    ],
)
def test_a_metric_has_the_name_that_prometheus_gives_it(metric: str, name: str) -> None:
    of = Sum(metric).of
    assert promql.prometheus_name(of, "_count" if of.instrument == "histogram" else "") == name


def test_a_sum_is_said_in_promql_with_its_labels_and_its_bucket() -> None:
    each = Sum(
        names.METRIC_DATAFACE_DEGRADATIONS,
        {names.DATAFACE_DEGRADATION_REASON: frozenset({"manifest_stale", "result_stale"})},
        {names.DATAFACE_SURFACE: frozenset({"mcp"})},
    )
    series = (
        'dataface_degradations_total{dataface_degradation_reason=~"manifest_stale|result_stale", '
        'dataface_surface!="mcp"}'
    )
    assert promql.selector(each) == series
    size = Sum(names.METRIC_DATAFACE_PAYLOAD_SIZE, above=100_000.0)
    assert promql.selector(size, "_bucket") == 'dataface_payload_size_bytes_bucket{le=~"100000(\\\\.0)?"}'
    huge = Sum(names.METRIC_DATAFACE_PAYLOAD_SIZE, above=1_048_576.0)
    assert promql.selector(huge, "_bucket").endswith('{le=~"1048576(\\\\.0)?|1\\\\.048576e\\\\+06"}')


@pytest.mark.parametrize(
    ("seconds", "said"), [(3600, "1h"), (300, "5m"), (86_400, "1d"), (90, "90s"), (5, "5s"), (0.5, "500ms")]
)
def test_a_window_is_said_in_the_largest_unit_that_is_exact(seconds: float, said: str) -> None:
    assert promql.duration(seconds) == said
