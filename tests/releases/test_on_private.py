"""The private package by its documented names, with a stand-in: what the release's own Dataface does with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from inprocess import instrumented, opened
from memory import attributes
from scenario import RELEASE, scenario

from context_telemetry.instrumentation import version
from context_telemetry.instrumentation.instrumentor import HOOKS
from context_telemetry.instrumentation.private import _PACKAGE
from context_telemetry.rehearsal.sample import Sample

STANDIN = Path(__file__).parent.parent / "standin"
DAY = 86_400.0
Step = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def session(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `standin/session.py` did and recorded, in a process of its own: Dataface looks for the package once."""
    folder = tmp_path_factory.mktemp("private")
    project, output = sample.copy(folder / "shop").root, folder / "session.json"
    places = [STANDIN, STANDIN.parent, *filter(None, sys.path)]
    done = subprocess.run(
        [sys.executable, str(STANDIN / "session.py"), str(project), str(output)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places))},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert output.exists(), done.stderr
    result: dict[str, Any] = json.loads(output.read_text("utf-8"))
    return result


def step(session: dict[str, Any], name: str) -> Step:
    found: Step = session["steps"][name]
    assert "error" not in found, found
    return found


def entry(found: Step) -> dict[str, Any]:
    (only,) = [span for span in found["spans"] if span["dataface.entry"]]
    return only


def outcome(span: dict[str, Any]) -> tuple[str, list[str]]:
    return span["dataface.outcome"], span.get("dataface.degradation.reasons", [])


def named(found: Step, name: str) -> list[dict[str, Any]]:
    return [span for span in found["spans"] if span["name"] == name]


def states(found: Step) -> list[str]:
    """What the events said of the cache of profiles."""
    return [
        event["dataface.artifact.state"]
        for event in found["events"]
        if event["name"] == "dataface.artifact.changed" and event["dataface.artifact"] == "super_schema"
    ]


def degradations(found: Step) -> list[tuple[str, str, str]]:
    return [
        (
            event["dataface.degradation.reason"],
            event["dataface.degradation.state"],
            event["dataface.degradation.object"],
        )
        for event in found["events"]
        if event["name"] == "dataface.degradation"
    ]


@scenario("private parts")
def test_every_documented_name_that_the_release_reaches_is_hooked(session: dict[str, Any]) -> None:
    here = {hook.id for hook in HOOKS if hook.optional and hook.serves(version(RELEASE))}
    found = {hook: state for hook, (state, _) in session["states"].items() if hook.startswith(_PACKAGE)}
    assert found == dict.fromkeys(here, "active")


@scenario("private parts")
def test_doctor_names_the_versions_of_the_package_s_contracts(sample: Sample) -> None:
    places = [STANDIN, *filter(None, sys.path)]
    done = subprocess.run(
        [sys.executable, "-m", "context_telemetry.cli", "doctor", "--json"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places))},
        cwd=sample.root,
        capture_output=True,
        text=True,
        check=False,
    )
    found = [each["found"] for each in json.loads(done.stdout)["checks"] if each["name"] == "private parts"]
    assert found == ["PROFILER_CONTRACT_VERSION stand-in"]


@scenario("private parts")
def test_a_table_profiled_from_the_inspect_page_is_a_catalog_profile(session: dict[str, Any]) -> None:
    found = step(session, "profiled over HTTP")
    profiled = next(span for span in named(found, "catalog.profile") if "dataface.catalog.schema" not in span)
    assert profiled["dataface.catalog.table"] == "fct_orders"
    assert outcome(profiled) == ("ok", [])
    assert set(states(found)) == {"ok"}


@scenario("private parts")
def test_the_command_that_profiles_all_tables_is_one_operation(session: dict[str, Any]) -> None:
    profiles = named(step(session, "all inspected"), "catalog.profile")
    assert outcome(profiles[-1]) == ("ok", [])
    assert "dataface.catalog.table" not in profiles[-1]
    below = [span for span in profiles if span["parent"] == profiles[-1]["id"]]
    assert "fct_orders" in {span["dataface.catalog.table"] for span in below}
    assert len(below) == len(profiles) - 1


@scenario("private parts")
def test_a_profile_from_the_cache_is_a_layer_of_its_own_with_its_age(session: dict[str, Any]) -> None:
    found = step(session, "served from an old cache")
    (inner, _) = named(found, "catalog.profile")
    assert inner["dataface.catalog.layers"] == ["super_schema"]
    assert inner["dataface.staleness.layer"] == "super_schema"
    assert 3 * DAY <= inner["dataface.staleness.age"] < 3 * DAY + 60
    request = entry(found)
    assert request["dataface.catalog.layers"][0] == "super_schema"
    assert request["dataface.staleness.age"] >= 3 * DAY
    assert outcome(request) == ("ok", [])


@scenario("private parts")
def test_a_profile_older_than_promised_is_stale_and_a_younger_one_is_not(session: dict[str, Any]) -> None:
    old = step(session, "older than promised")
    assert outcome(entry(old)) == ("degraded", ["profile_stale"])
    assert entry(old)["dataface.staleness.limit"] == 2 * DAY
    assert outcome(entry(step(session, "younger than promised"))) == ("ok", [])


@scenario("private parts")
def test_a_cache_that_cannot_be_read_is_a_layer_that_is_unavailable(session: dict[str, Any]) -> None:
    found = step(session, "cache cut short")
    assert outcome(entry(found)) == ("degraded", ["layer_unavailable"])
    assert "super_schema" not in entry(found)["dataface.catalog.layers"]
    assert states(found) == ["unreadable"]
    assert ("layer_unavailable", "began", "super_schema") in degradations(found)


@scenario("private parts")
def test_a_cache_that_is_empty_or_not_there_is_a_cold_start_and_no_degradation(
    session: dict[str, Any],
) -> None:
    empty, none = step(session, "cache without profiles"), step(session, "no cache")
    assert outcome(entry(empty)) == outcome(entry(none)) == ("ok", [])
    assert ("layer_unavailable", "cleared", "super_schema") in degradations(empty)
    assert states(none) == ["missing"]


@scenario("private parts")
def test_relationships_that_a_validation_asks_for_are_loaded_below_it(session: dict[str, Any]) -> None:
    (loaded,) = named(step(session, "validated"), "enrichment.load")
    assert outcome(loaded) == ("ok", [])


@scenario("private parts")
def test_warnings_that_a_render_is_enriched_with_are_loaded_below_it(session: dict[str, Any]) -> None:
    found = step(session, "rendered")
    (loaded,) = named(found, "enrichment.load")
    (render,) = named(found, "dashboard.render")
    assert loaded["parent"] == render["id"]
    assert outcome(loaded) == ("ok", [])


@scenario("private parts", until="0.2.0", because="no `get_schema_context` from 0.3.0 on")
def test_the_schema_context_that_the_package_builds_is_sized(session: dict[str, Any]) -> None:
    built = named(step(session, "prompted"), "context.build")
    assert {span["dataface.payload.kind"] for span in built} == {"schema_context"}
    assert all(0 < span["dataface.payload.size"] < 4_096 for span in built)


@scenario("manifest")
def test_descriptions_that_a_former_manifest_had_are_missed_until_they_are_back(project: Path) -> None:
    path = project / "target/manifest.json"
    content = json.loads(path.read_text("utf-8"))
    column = content["nodes"]["model.shop.fct_orders"]["columns"]["order_id"]

    def described(text: str) -> None:
        column["description"] = text
        path.write_text(json.dumps(content), "utf-8")

    with instrumented() as memory, opened(project) as (_, registry):
        from dataface.core.inspect.cache_factory import build_resolver

        def reasons() -> list[str]:
            memory.clear()
            build_resolver(registry).list_tables("shop", "main")
            (found,) = [attributes(span) for span in memory.spans if attributes(span)["dataface.entry"]]
            return list(found.get("dataface.degradation.reasons", ()))

        def become(wanted: list[str]) -> list[str]:
            end = time.monotonic() + 5
            while (found := reasons()) != wanted and time.monotonic() < end:
                time.sleep(0.1)  # between looks: the worker finds it in its own time
            return found

        end = time.monotonic() + 5
        while "dataface.enrichment.changed" not in dict(memory.events) and time.monotonic() < end:
            time.sleep(0.05)  # likewise
        assert reasons() == []
        described("")
        assert become(["enrichment_lost"]) == ["enrichment_lost"]
        described("Key of the order.")
        assert become([]) == []


@scenario("private parts", deep=True)
def test_the_whole_file_s_date_counts_where_no_table_s_does(session: dict[str, Any]) -> None:
    found = step(session, "schemas older than promised")
    assert 3_600 <= entry(found)["dataface.staleness.age"] < 3_700
    assert outcome(entry(found)) == ("ok", [])


@scenario("private parts", deep=True)
def test_the_cache_says_when_it_was_built_once_for_each_version(session: dict[str, Any]) -> None:
    assert states(step(session, "served from an old cache")) == ["ok"]
    assert states(step(session, "older than promised")) == []
    assert states(step(session, "younger than promised")) == ["ok"]


@scenario("private parts", deep=True)
def test_nothing_of_the_package_s_paths_and_connections_is_exported(session: dict[str, Any]) -> None:
    text = json.dumps(session["steps"])
    for word in ("super_schema.json", "shop.duckdb", "/target", "select "):
        assert word not in text
