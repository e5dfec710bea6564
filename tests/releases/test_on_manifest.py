"""The dbt manifest: absent, broken, empty, substituted, out of date or fine, for the catalogue and for queries."""

from __future__ import annotations

import contextlib
import importlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from inprocess import entry_of, instrumented, opened, with_client
from memory import Memory
from opentelemetry.sdk.trace import ReadableSpan
from scenario import RELEASE, scenario

from context_telemetry.instrumentation import manifest_watch
from context_telemetry.rehearsal.driver import Client, tool
from context_telemetry.rehearsal.sample import Sample

pytestmark = pytest.mark.real

FILE = "target/manifest.json"


@pytest.fixture
def memory() -> Iterator[Memory]:
    with instrumented() as memory:
        yield memory


def tables_of(project: Path, memory: Memory) -> ReadableSpan:
    """The entry of a listing of tables, by a resolver that is new."""
    with opened(project) as (_, registry):
        return listed(registry, memory)


def listed(registry: Any, memory: Memory) -> ReadableSpan:
    catalogue = importlib.import_module("dataface.core.inspect.cache_factory").build_resolver(registry)
    memory.clear()
    with contextlib.suppress(UnicodeDecodeError):
        catalogue.list_tables("shop", "main")
    (found,) = [span for span in memory.spans if span.parent is None]
    return found


def said(span: ReadableSpan, name: str) -> Any:
    return (span.attributes or {}).get(name)


def outcome(span: ReadableSpan) -> tuple[str, tuple[str, ...]]:
    return said(span, "dataface.outcome"), tuple(said(span, "dataface.degradation.reasons") or ())


def loads(memory: Memory) -> list[tuple[str, tuple[str, ...]]]:
    return [outcome(span) for span in memory.spans if span.name == "manifest.load"]


def queried(project: Path, memory: Memory, sql: str, **arguments: Any) -> ReadableSpan:
    """The entry of one query over MCP."""
    memory.clear()

    async def call(client: Client) -> None:
        await client.send(tool("execute_query", sql=sql, **arguments))

    with_client(project, call)
    return entry_of(memory.spans)


def events(memory: Memory, name: str) -> list[tuple[Any, Any]]:
    """State and reason, or state and artefact, of the events of that name."""
    keys = ("dataface.degradation.state", "dataface.degradation.reason")
    if name == "dataface.artifact.changed":
        keys = ("dataface.artifact.state", "dataface.artifact")
    return [(found.get(keys[0]), found.get(keys[1])) for event, found in memory.events if event == name]


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)  # between looks: the worker has its own time
    assert condition()


# -- what the catalogue was given ----------------------------------------------------------------


@scenario("manifest")
def test_a_whole_manifest_is_healthy_and_has_an_age(sample: Sample, memory: Memory) -> None:
    found = tables_of(sample.root, memory)
    assert outcome(found) == ("ok", ())
    assert loads(memory) == [("ok", ())]
    (load,) = [span for span in memory.spans if span.name == "manifest.load"]
    assert said(load, "dataface.catalog.layers") == ("dbt_manifest",)
    assert said(load, "dataface.staleness.age") > 0


@scenario("manifest")
@pytest.mark.parametrize(
    ("content", "reason", "layers"),
    [
        pytest.param(None, "manifest_missing", ("dbt_adapter",), id="is_missing"),
        pytest.param(b'{"nodes": ', "manifest_unreadable", ("dbt_adapter",), id="is_cut_off"),
        pytest.param(b"{}", "manifest_incomplete", ("dbt_adapter",), id="has_no_nodes"),
    ],
)
def test_answers_without_descriptions_say_that_the_manifest(
    project: Path, memory: Memory, content: bytes | None, reason: str, layers: tuple[str, ...]
) -> None:
    (project / FILE).unlink()
    if content is not None:
        (project / FILE).write_bytes(content)
    found = tables_of(project, memory)
    assert outcome(found) == ("degraded", (reason,))
    assert loads(memory) == [("degraded", (reason,))]
    # The layers are Dataface's own words, and they do not tell this from health.
    assert said(found, "dataface.catalog.layers") == layers


@scenario("manifest")
def test_an_older_snapshot_read_in_the_manifest_s_place_is_a_substitute(
    project: Path, memory: Memory
) -> None:
    (project / FILE).rename(project / "manifest.snapshot.json")
    found = tables_of(project, memory)
    assert outcome(found) == ("degraded", ("manifest_substituted",))
    assert said(found, "dataface.catalog.layers") == ("dbt_adapter", "dbt_manifest")


@scenario("manifest")
def test_a_snapshot_beside_the_manifest_is_healthy(project: Path, memory: Memory) -> None:
    (project / "manifest.snapshot.json").write_bytes((project / FILE).read_bytes())
    assert outcome(tables_of(project, memory)) == ("ok", ())


@scenario("manifest")
def test_a_manifest_that_is_not_utf_8_fails_the_answer(project: Path, memory: Memory) -> None:
    (project / FILE).write_bytes(b'{"nodes": {"\xff": {}}}')
    found = tables_of(project, memory)
    assert outcome(found) == ("failed", ("manifest_unreadable",))
    assert said(found, "error.type") == "UnicodeDecodeError"


@scenario("manifest")
def test_a_project_that_is_not_dbt_s_needs_no_manifest(project: Path, memory: Memory) -> None:
    (project / FILE).unlink()
    (project / "dbt_project.yml").unlink()
    assert outcome(tables_of(project, memory)) == ("ok", ())
    assert loads(memory) == [("ok", ())]


# -- queries -------------------------------------------------------------------------------------


REFERENCE = "select 1 as a from {{ ref('fct_orders') }} limit 1"
NO_REF = "select 1 as a from fct_orders limit 1"


def reference(project: Path, memory: Memory) -> ReadableSpan:
    """A query with a ``ref()``, which 0.2.0 resolves only where no source is named."""
    source = {} if RELEASE == "0.2.0" else {"source": "shop"}
    return queried(project, memory, REFERENCE, **source)


@scenario(
    "manifest",
    until="0.2.0",
    because="0.3.0 has no ref() on DuckDB, later ones load nothing for other queries",
)
def test_a_manifest_that_is_loaded_for_every_query_concerns_only_those_that_refer_to_a_model(
    project: Path, memory: Memory
) -> None:
    (project / FILE).unlink()
    assert outcome(queried(project, memory, NO_REF, source="shop")) == ("ok", ())
    assert outcome(reference(project, memory)) == ("failed", ("manifest_missing",))


@scenario("manifest", deep=True)
def test_a_query_that_refers_to_a_model_reads_the_manifest_and_has_its_age(
    project: Path, memory: Memory
) -> None:
    found = reference(project, memory)
    assert outcome(found) == ("ok", ())
    assert said(found, "dataface.staleness.layer") == "dbt_manifest"


@scenario("manifest", deep=True)
def test_a_query_that_refers_to_a_model_says_what_is_wrong_with_the_manifest(
    project: Path, memory: Memory
) -> None:
    unresolved = "degraded" if RELEASE == "0.3.1" else "failed"  # 0.3.1 goes on with the name as it stands
    (project / FILE).write_text('{"nodes": ', "utf-8")
    assert outcome(reference(project, memory)) == ("failed", ("manifest_unreadable",))
    assert outcome(queried(project, memory, NO_REF, source="shop")) == ("ok", ())
    (project / FILE).write_text("[]", "utf-8")
    assert outcome(reference(project, memory)) == (unresolved, ("manifest_unreadable",))
    (project / FILE).write_text("{}", "utf-8")
    assert outcome(reference(project, memory)) == (unresolved, ("manifest_incomplete",))
    (project / FILE).unlink()
    assert outcome(reference(project, memory)) == ("failed", ("manifest_missing",))


@scenario("manifest", deep=True)
def test_a_query_that_the_snapshot_resolved_is_degraded(project: Path, memory: Memory) -> None:
    (project / FILE).rename(project / "manifest.snapshot.json")
    assert outcome(reference(project, memory)) == ("degraded", ("manifest_substituted",))


# -- the watch -----------------------------------------------------------------------------------


@scenario("manifest")
def test_a_model_that_changed_makes_the_manifest_stale_until_it_is_as_it_was(
    project: Path, memory: Memory
) -> None:
    model = next((project / "models").rglob("fct_orders.sql"))
    original = model.read_text("utf-8")
    with opened(project) as (_, registry):
        wait_for(lambda: ("ok", "dbt_manifest") in events(memory, "dataface.artifact.changed"))
        assert outcome(listed(registry, memory)) == ("ok", ())
        model.write_text(original + "\n-- and more\n", "utf-8")
        wait_for(lambda: ("stale", "dbt_manifest") in events(memory, "dataface.artifact.changed"))
        assert outcome(listed(registry, memory)) == ("degraded", ("manifest_stale",))
        model.write_text(original, "utf-8")
        wait_for(lambda: events(memory, "dataface.artifact.changed")[-1] == ("ok", "dbt_manifest"))
        assert outcome(listed(registry, memory)) == ("ok", ())


@scenario("manifest", deep=True)
def test_a_manifest_that_goes_and_comes_back_is_an_event_each_time(project: Path, memory: Memory) -> None:
    content = (project / FILE).read_bytes()

    def changes() -> list[str]:
        return [state for state, _ in events(memory, "dataface.artifact.changed")]

    with opened(project) as (_, registry):
        wait_for(lambda: changes() == ["ok"])
        (project / FILE).unlink()
        wait_for(lambda: changes() == ["ok", "missing"])
        (project / FILE).write_bytes(b"{")
        wait_for(lambda: changes() == ["ok", "missing", "unreadable"])
        assert outcome(listed(registry, memory)) == ("degraded", ("manifest_unreadable",))
        (project / FILE).write_bytes(content)
        wait_for(lambda: changes()[-1] == "ok")
        assert outcome(listed(registry, memory)) == ("ok", ())


@scenario("manifest", deep=True)
def test_whoever_wants_the_parsed_manifest_gets_each_version_once_and_harms_nobody(
    project: Path, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Path, str]] = []

    def broken(root: Path, content: dict[str, Any]) -> None:
        raise RuntimeError("a consumer's own fault")

    def note(root: Path, content: dict[str, Any]) -> None:
        seen.append((root, content["metadata"]["project_name"]))

    kept = [manifest_watch.Consumer(take, lambda root: None) for take in (broken, note)]
    monkeypatch.setattr(manifest_watch, "consumers", kept)
    with opened(project):
        wait_for(lambda: seen)
        content = json.loads((project / FILE).read_text("utf-8"))
        content["metadata"]["project_name"] = "renamed"
        (project / FILE).write_text(json.dumps(content), "utf-8")
        wait_for(lambda: len(seen) == 2)
        time.sleep(1.2)  # two more rounds of the worker, in which nothing is new
    assert [root.resolve() for root, _ in seen] == [project.resolve()] * 2
    assert [name for _, name in seen][1] == "renamed"
