"""The dbt manifest: absent, broken, empty, substituted, out of date or fine, for the catalogue and for queries."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from inprocess import entry_of, instrumented, opened, with_client
from memory import Memory
from opentelemetry.sdk.trace import ReadableSpan
from scenario import RELEASE, scenario

from context_telemetry.instrumentation import manifest_watch, model_files
from context_telemetry.instrumentation.model_files import ModelFiles, Models, models_of
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


@scenario("manifest")
def test_a_model_that_is_added_and_not_parsed_makes_the_manifest_stale_until_it_is_gone(
    project: Path, memory: Memory
) -> None:
    added = project / "models" / "more" / "fct_more.sql"
    with opened(project) as (_, registry):
        wait_for(lambda: ("ok", "dbt_manifest") in events(memory, "dataface.artifact.changed"))
        assert outcome(listed(registry, memory)) == ("ok", ())
        added.parent.mkdir()
        added.write_text("select 1 as a", "utf-8")
        wait_for(lambda: ("stale", "dbt_manifest") in events(memory, "dataface.artifact.changed"))
        assert outcome(listed(registry, memory)) == ("degraded", ("manifest_stale",))
        added.unlink()
        wait_for(lambda: events(memory, "dataface.artifact.changed")[-1] == ("ok", "dbt_manifest"))
        assert outcome(listed(registry, memory)) == ("ok", ())


ODD_MODELS = {
    "empty.sql": "",
    "comment.sql": "-- to come",
    "off.sql": "{{ config(enabled=false) }} select 1 as a",
    "passing.sql": "{{ config(materialized='ephemeral') }} select 1 as a",
    "LOUD.SQL": "select 1 as a",
    "in_python.py": "def model(dbt, session):\n    return dbt.ref('fct_orders')\n",
    "twice_v1.sql": "select 1 as a",
    "twice_v2.sql": "select 2 as a",
    ".hidden/inside.sql": "select 1 as a",
    # What dbt does not take for a model.
    ".hidden.sql": "select",
    "~copy.sql": "select",
    "#copy.sql": "select",
    "!copy.sql": "select",
    "notes.md": "no model",
    "query.sql.bak": "select",
}
VERSIONS = "models: [{name: twice, latest_version: 2, versions: [{v: 1}, {v: 2}]}]\n"


def files_of(project: Path) -> tuple[ModelFiles, Models | None]:
    return ModelFiles(str(project)), models_of(json.loads((project / FILE).read_text("utf-8")))


@scenario("manifest")
def test_what_dbt_itself_takes_for_a_model_is_known_of_its_manifest_and_what_it_does_not_is_none(
    project: Path,
) -> None:
    folder, elsewhere = project / "models" / "odd", project.parent / "elsewhere"
    for name, text in {**ODD_MODELS, "twice.yml": VERSIONS}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    elsewhere.mkdir()
    (elsewhere / "linked.sql").write_text("select 1 as a", "utf-8")
    (folder / "link").symlink_to(elsewhere)  # dbt follows no link to a folder, and one to a file
    (folder / "one_link.sql").symlink_to(elsewhere / "linked.sql")
    for other in ("macros", "analyses", "snapshots", "tests"):
        (project / other).mkdir()
    (project / "macros" / "one.sql").write_text("{% macro one() %}1{% endmacro %}", "utf-8")
    (project / "analyses" / "one.sql").write_text("select 1 as a", "utf-8")
    command = [sys.executable, "-W", "ignore", "-m", "dbt.cli.main", "--quiet", "parse"]
    subprocess.run([*command, "--project-dir", project, "--profiles-dir", project], check=True, cwd=project)
    files, known = files_of(project)
    assert known is not None
    assert "models/odd/empty.sql" in known.files
    assert not files.has_more_than(known)
    (folder / "LOUDER.SQL").write_text("select 1 as a", "utf-8")
    assert files.has_more_than(known)


@scenario("manifest")
@pytest.mark.parametrize(
    ("name", "content"),
    [
        (".dbtignore", "models/more/\n"),
        ("dbt_project.yml", "name: shop\nmodel-paths: ['{{ env_var(\"MODELS\") }}']\n"),
        ("dbt_project.yml", "name: shop\nmodel-paths: ['.']\n"),
        ("dbt_project.yml", "name: shop\nmodel-paths: [../shop/models]\n"),
        ("dbt_project.yml", "name: shop\nmodel-paths: models\n"),
        ("dbt_project.yml", "name: shop\nsource-paths: [models]\n"),
        ("dbt_project.yml", "name: another\n"),
        ("dbt_project.yml", "name: [\n"),
        ("dbt_project.yml", None),
    ],
    ids=[
        "files_to_ignore",
        "a_template",
        "the_project_itself",
        "outside_of_it",
        "no_list",
        "the_former_name",
        "another_project",
        "no_yaml",
        "no_project",
    ],
)
def test_where_it_is_not_plain_what_dbt_reads_no_model_is_said_to_be_added(
    project: Path, name: str, content: str | None
) -> None:
    files, known = files_of(project)
    assert known is not None
    (project / "models" / "more.sql").write_text("select 1 as a", "utf-8")
    assert files.has_more_than(known)
    (project / name).unlink(missing_ok=True)
    if content is not None:
        (project / name).write_text(content, "utf-8")
    assert not files.has_more_than(known)


@scenario("manifest")
@pytest.mark.parametrize(
    "paths",
    ["", "model-paths: [./models/]", "model-paths: [none, models/staging, models/marts]"],
    ids=["by_default", "one", "several"],
)
def test_models_are_looked_for_where_the_project_says(project: Path, paths: str) -> None:
    (project / "dbt_project.yml").write_text(f"name: shop\n{paths}\n", "utf-8")
    files, known = files_of(project)
    assert known is not None
    assert not files.has_more_than(known)
    (project / "models" / "marts" / "more.sql").write_text("select 1 as a", "utf-8")
    assert files.has_more_than(known)


@scenario("manifest")
@pytest.mark.parametrize(
    "change",
    [
        {"dbt_version": "2.0.0-beta.1"},
        {"dbt_version": "1.2.6"},
        {"dbt_version": None},
        {"project_name": None},
    ],
    ids=["later", "earlier", "unknown", "without_project"],
)
def test_a_manifest_of_another_making_does_not_say_all_that_was_read(
    project: Path, change: dict[str, str | None]
) -> None:
    content = json.loads((project / FILE).read_text("utf-8"))
    assert models_of(content) is not None
    assert models_of({key: value for key, value in content.items() if key != "disabled"}) is None
    assert models_of({**content, "metadata": {**content["metadata"], **change}}) is None


@scenario("manifest")
def test_a_folder_is_listed_again_when_it_has_changed_and_no_more_than_so_many_files_are_looked_at(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, known = files_of(project)
    assert known is not None
    for folder, _, _ in os.walk(project / "models"):
        os.utime(folder, (1_000_000, 1_000_000))
    assert not files.has_more_than(known)
    listed: list[str] = []
    scandir = os.scandir

    def scan(path: str) -> Any:
        listed.append(Path(path).name)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)
    assert not files.has_more_than(known)
    assert listed == []
    (project / "models" / "marts" / "more.sql").write_text("select 1 as a", "utf-8")
    assert files.has_more_than(known)
    assert files.has_more_than(known)
    assert listed == [
        "marts",
        "marts",
    ]  # it has changed just now: what comes in the same moment is not missed
    monkeypatch.setattr(model_files, "_MOST", 5)
    assert not files.has_more_than(known)


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
