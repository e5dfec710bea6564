"""The catalogue: which layers answered and how old they are, and what did not resolve though nothing was raised."""

from __future__ import annotations

import datetime
import importlib
import importlib.util
import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from inprocess import entry_of, instrumented, opened, with_client
from memory import Memory
from opentelemetry.sdk.trace import ReadableSpan
from scenario import scenario

from context_telemetry.rehearsal.driver import Client, tool
from context_telemetry.rehearsal.sample import Sample

pytestmark = pytest.mark.real

NO_VERBS = "0.3.0 and later have no schema verbs: agents query the metadata themselves"
POSTGRES = """\
  pg:
    type: postgres
    host: localhost
    port: 1
    user: u
    password: "{{ env_var('PW', 'x') }}"
    dbname: d
"""


@pytest.fixture
def memory() -> Iterator[Memory]:
    with instrumented() as memory:
        yield memory


@contextmanager
def resolver(project: Path, cache: Any = None) -> Iterator[Any]:
    """The resolver of an open project."""
    with opened(project) as (_, registry):
        yield built(registry, cache)


def built(registry: Any, cache: Any = None) -> Any:
    return importlib.import_module("dataface.core.inspect.cache_factory").build_resolver(
        registry, cache_source=cache
    )


def add_source(project: Path, source: str) -> None:
    settings = project / "dataface.yml"
    settings.write_text(settings.read_text("utf-8") + source, "utf-8")


def asked(memory: Memory, call: Callable[[], Any]) -> ReadableSpan:
    """The entry of one call; an exception is the host's to see, and has its class there."""
    memory.clear()
    raised = None
    try:
        call()
    except Exception as error:
        raised = type(error).__name__
    (found,) = [span for span in memory.spans if span.parent is None]
    assert said(found, "error.type") == raised
    return found


def said(span: ReadableSpan, name: str) -> Any:
    return (span.attributes or {}).get(name)


def outcome(span: ReadableSpan) -> tuple[str, tuple[str, ...], int]:
    """Outcome, reasons and how many objects did not resolve."""
    reasons = said(span, "dataface.degradation.reasons") or ()
    return said(span, "dataface.outcome"), tuple(reasons), said(span, "dataface.catalog.unresolved") or 0


def layers(span: ReadableSpan) -> tuple[str, ...]:
    return tuple(said(span, "dataface.catalog.layers") or ())


def below(memory: Memory, span: ReadableSpan) -> list[ReadableSpan]:
    """The spans right below one, in the order in which they began."""
    inner = [
        each
        for each in memory.spans
        if each.parent is not None
        and span.context is not None
        and each.parent.span_id == span.context.span_id
    ]
    return sorted(inner, key=lambda each: each.start_time or 0)


def unresolved(memory: Memory) -> list[tuple[dict[str, Any], float]]:
    return memory.points().get("dataface.resolution.failures", [])


OK = ("ok", (), 0)
LIVE, DOCUMENTED = ("dbt_adapter",), ("dbt_adapter", "dbt_manifest")


# -- what was asked, from which layer, how old ---------------------------------------------------


@scenario("catalogue")
def test_an_answer_names_what_was_asked_the_layers_it_came_from_and_their_age(
    sample: Sample, memory: Memory
) -> None:
    generated = json.loads(sample.manifest.read_text("utf-8"))["metadata"]["generated_at"]
    built_at = datetime.datetime.fromisoformat(generated.replace("Z", "+00:00")).timestamp()
    with resolver(sample.root) as catalogue:
        found = [
            asked(memory, lambda: catalogue.list_schemas("shop")),
            asked(memory, lambda: catalogue.list_tables("shop", "main")),
            asked(memory, lambda: catalogue.profile_table("shop", "main", "fct_orders")),
            asked(memory, lambda: catalogue.profile_column("shop", "main", "fct_orders", "order_id")),
        ]
    assert [span.name for span in found] == ["catalog.resolve"] * 2 + ["catalog.profile"] * 2
    assert [outcome(span) for span in found] == [OK] * 4
    assert [layers(span) for span in found] == [LIVE, DOCUMENTED, DOCUMENTED, DOCUMENTED]
    names = [f"dataface.catalog.{name}" for name in ("source", "schema", "table", "column")]
    assert [[said(span, name) for name in names] for span in found] == [
        ["shop", None, None, None],
        ["shop", "main", None, None],
        ["shop", "main", "fct_orders", None],
        ["shop", "main", "fct_orders", "order_id"],
    ]
    assert said(found[0], "dataface.staleness.age") is None
    # The resolver holds the manifest that it read for the second call; the others have its age as well.
    for span in found[1:]:
        assert said(span, "dataface.staleness.layer") == "dbt_manifest"
        assert said(span, "dataface.staleness.age") == pytest.approx(time.time() - built_at, abs=20)


@scenario("catalogue")
def test_each_way_to_the_warehouse_stands_below_the_answer_that_it_was_made_for(
    sample: Sample, memory: Memory
) -> None:
    with resolver(sample.root) as catalogue:
        found = asked(memory, lambda: catalogue.profile_table("shop", "main", "fct_orders"))
    live = [span for span in below(memory, found) if span.name.startswith("catalog.")]
    assert [(span.name, layers(span), said(span, "dataface.catalog.table")) for span in live] == [
        ("catalog.resolve", LIVE, None),
        ("catalog.resolve", LIVE, None),
        ("catalog.profile", LIVE, "fct_orders"),
    ]
    assert {said(span, "dataface.catalog.source") for span in live} == {"shop"}
    assert len([span for span in memory.spans if span.name == "manifest.load"]) == 2


# -- what does not resolve -----------------------------------------------------------------------


@scenario("catalogue")
def test_what_is_named_and_not_there_is_unknown_though_nothing_is_raised(
    sample: Sample, memory: Memory
) -> None:
    def unknown(*path: str) -> tuple[str, tuple[str, ...], int]:
        method = ("list_tables", "profile_table", "profile_column")[len(path) - 1]
        return outcome(asked(memory, lambda: getattr(catalogue, method)("shop", *path)))

    with resolver(sample.root) as catalogue:
        assert unknown("nope") == ("degraded", ("object_unknown",), 1)
        assert unknown("main", "nope") == ("degraded", ("object_unknown",), 1)
        assert unknown("main", "fct_orders", "nope") == ("degraded", ("object_unknown",), 1)
        assert unknown("main,nope") == ("degraded", ("object_unknown",), 1)
        assert unknown("main", "fct_orders, nope|neither") == ("degraded", ("object_unknown",), 2)
        labels = {"dataface.degradation.reason": "object_unknown", "dataface.catalog.source": "shop"}
        assert unresolved(memory) == [({**labels, "dataface.surface": "library"}, 6)]


@scenario("catalogue")
def test_globs_and_lists_of_what_is_there_are_healthy(sample: Sample, memory: Memory) -> None:
    with resolver(sample.root) as catalogue:
        for call in (
            lambda: catalogue.profile_table("shop", "main", "zz*"),
            lambda: catalogue.profile_table("shop", "nope*", "fct_orders*"),
            lambda: catalogue.profile_table("shop", "main", "fct_orders,zz*"),
            lambda: catalogue.profile_table("shop", "main,raw", "fct_orders"),
            lambda: catalogue.list_tables("shop", "*"),
        ):
            assert outcome(asked(memory, call)) == OK
    assert unresolved(memory) == []


@scenario("catalogue")
def test_an_unknown_source_fails_with_its_code_and_counts_once(sample: Sample, memory: Memory) -> None:
    with resolver(sample.root) as catalogue:
        found = asked(memory, lambda: catalogue.list_tables("nosrc", "main"))
    assert outcome(found) == ("failed", (), 1)
    assert said(found, "error.type") == "DatafaceError"
    assert said(found, "dataface.error.code").endswith("-SOURCE-NOT-FOUND")
    (labels, count) = unresolved(memory)[0]
    assert (labels["error.type"], labels["dataface.catalog.source"], count) == ("DatafaceError", "_OTHER", 1)


@scenario("catalogue")
def test_a_project_without_sources_is_unconfigured(project: Path, memory: Memory) -> None:
    (project / "dataface.yml").write_text("{}\n", "utf-8")
    with resolver(project) as catalogue:
        found = asked(memory, lambda: catalogue.list_tables("shop", "main"))
    assert outcome(found) == ("failed", ("source_unconfigured",), 1)
    assert said(found, "dataface.error.code").endswith("-SOURCE-NOT-FOUND-EMPTY")


@scenario("catalogue")
def test_a_warehouse_that_is_gone_fails_the_answer_and_the_way_to_it_and_counts_once(
    project: Path, memory: Memory
) -> None:
    (project / "shop.duckdb").unlink()
    with resolver(project) as catalogue:
        found = asked(memory, lambda: catalogue.list_tables("shop", "main"))
    assert outcome(found) == ("failed", (), 1)
    (live,) = below(memory, found)
    assert outcome(live) == ("failed", (), 0)
    assert said(found, "error.type") == said(live, "error.type") == "IOException"
    assert sum(count for _, count in unresolved(memory)) == 1


@scenario("catalogue")
def test_a_live_source_that_nobody_asked_through_a_resolver_says_itself_what_it_does_not_know(
    sample: Sample, memory: Memory
) -> None:
    with resolver(sample.root) as catalogue:
        catalogue.list_schemas("shop")
        live = catalogue._dbt_for("shop")
        assert outcome(asked(memory, lambda: live.profile_table("main", "fct_orders"))) == OK
        found = asked(memory, lambda: live.profile_table("main", "nope"))
        assert (outcome(found), layers(found)) == (("degraded", ("object_unknown",), 1), LIVE)
        assert outcome(asked(memory, lambda: live.list_tables("nope")))[1] == ("object_unknown",)


@scenario("catalogue")
def test_a_query_that_the_live_source_describes_is_ok_and_one_that_it_cannot_fails(
    sample: Sample, memory: Memory
) -> None:
    with resolver(sample.root) as catalogue:
        catalogue.list_schemas("shop")
        live = catalogue._dbt_for("shop")
        found = asked(memory, lambda: live.describe_query("SELECT status FROM fct_orders"))
        assert said(found, "dataface.operation.name") == "query.describe"
        assert (outcome(found), layers(found)) == (OK, LIVE)
        gone = asked(memory, lambda: live.describe_query("SELECT no_such_column FROM fct_orders"))
        assert outcome(gone)[0] == "failed"
        assert said(gone, "error.type") != "_OTHER"


@scenario(
    "catalogue",
    until="0.1.5",
    because="0.2.0 and later keep the connection of one resolver when another is made",
)
def test_a_resolver_whose_connection_another_one_closed_fails_with_its_class(
    sample: Sample, memory: Memory
) -> None:
    with opened(sample.root) as (_, registry):
        first, second = built(registry), built(registry)
        first.list_schemas("shop")
        second.list_schemas("shop")
        found = asked(memory, lambda: first.list_tables("shop", "main"))
        assert outcome(found) == ("failed", (), 1)
        assert said(found, "error.type") in ("ReferenceError", "DbtRuntimeError")
        assert outcome(asked(memory, lambda: second.list_tables("shop", "main"))) == OK


# -- layers that are not there, and several at once ----------------------------------------------


class Cache:
    """A stand-in for the private package's profile cache, in the shapes that Dataface's resolver reads.

    It knows one table of ``main``, and was made an hour ago.
    """

    generated_at = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)

    def list_schemas(self) -> dict[str, Any]:
        return {"schemas": {"main": {"table_count": 1}}}

    def list_tables(self, schema: str) -> dict[str, Any] | None:
        return {"tables": {"fct_orders": {"kind": "table"}}} if schema == "main" else None

    def profile_table(self, schema: str, table: str) -> dict[str, Any] | None:
        known = (schema, table) == ("main", "fct_orders")
        return {"columns": {"order_id": {"actual_type": "INTEGER"}}} if known else None


@scenario("catalogue")
def test_an_answer_from_several_layers_names_all_of_them_and_the_oldest_age(
    sample: Sample, memory: Memory
) -> None:
    with resolver(sample.root, Cache()) as catalogue:
        cached = asked(memory, lambda: catalogue.profile_table("shop", "main", "fct_orders"))
        mixed = asked(memory, lambda: catalogue.list_tables("shop", "main"))
        fresh = asked(memory, lambda: catalogue.profile_table("shop", "main", "dim_customers"))
        missing = asked(memory, lambda: catalogue.profile_column("shop", "main", "fct_orders", "nope"))
    assert [outcome(span) for span in (cached, mixed, fresh)] == [OK] * 3
    assert layers(cached)[0] == "super_schema"
    assert layers(mixed) == ("super_schema", *DOCUMENTED)
    assert layers(fresh) == DOCUMENTED
    assert outcome(missing) == ("degraded", ("object_unknown",), 1)
    for span in (cached, mixed):
        assert said(span, "dataface.staleness.layer") == "super_schema"
        assert 3600 <= said(span, "dataface.staleness.age") < 7200  # an hour when this file was imported
    assert said(fresh, "dataface.staleness.layer") == "dbt_manifest"


def adapter_of_the_host(settings: dict[str, Any]) -> Any:
    raise ImportError("not here")


@scenario("catalogue")
def test_a_cache_that_answers_alone_says_that_the_live_layer_is_not_there(
    project: Path, memory: Memory
) -> None:
    add_source(project, POSTGRES)
    with resolver(project, Cache()) as catalogue:
        alone = asked(memory, lambda: catalogue.list_tables("pg", "main"))
        healthy = asked(memory, lambda: catalogue.list_tables("shop", "main"))
        # A table that the cache has needs no live source.
        cached = asked(memory, lambda: catalogue.profile_table("pg", "main", "fct_orders"))
        # A host may make the live sources' adapters itself.
        catalogue._adapter_factory = adapter_of_the_host
        hosted = asked(memory, lambda: catalogue.list_tables("pg", "main"))
    assert (outcome(alone), layers(alone)) == (("degraded", ("layer_unavailable",), 0), ("super_schema",))
    assert outcome(hosted) == outcome(alone)
    assert outcome(healthy) == outcome(cached) == OK


@scenario("catalogue")
def test_without_a_cache_an_adapter_that_is_not_installed_fails_the_answer(
    project: Path, memory: Memory
) -> None:
    add_source(project, POSTGRES)
    with resolver(project) as catalogue:
        found = asked(memory, lambda: catalogue.list_schemas("pg"))
    assert outcome(found) == ("failed", ("layer_unavailable",), 1)
    assert said(found, "error.type") == "ImportError"


@scenario("catalogue")
def test_when_tables_were_last_loaded_is_the_age_of_the_live_layer(
    sample: Sample, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    # DuckDB does not tell it: what another warehouse's adapter would answer stands in.
    dbt = importlib.import_module("dataface.core.inspect.sources.dbt")
    loaded = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=2)
    monkeypatch.setattr(dbt.DbtSchemaSource, "_fetch_last_modified", lambda self, relation: loaded)
    with resolver(sample.root) as catalogue:
        found = asked(memory, lambda: catalogue.profile_table("shop", "main", "fct_orders"))
    assert outcome(found) == OK
    assert said(found, "dataface.staleness.layer") == "dbt_adapter"
    assert said(found, "dataface.staleness.age") == pytest.approx(2 * 86400, abs=60)


@scenario("catalogue", since="0.1.5", because="0.1.2 to 0.1.4 cannot introspect SQLite")
def test_sqlite_is_a_live_layer_too(project: Path, memory: Memory) -> None:
    add_source(project, "  lite:\n    type: sqlite\n    path: lite.db\n")
    connection = sqlite3.connect(project / "lite.db")
    connection.execute("create table t (a integer)")
    connection.close()
    with resolver(project) as catalogue:
        found = asked(memory, lambda: catalogue.profile_table("lite", "main", "t"))
        assert (outcome(found), layers(found)) == (OK, LIVE)
        assert "catalog.profile" in [span.name for span in below(memory, found)]
        missing = asked(memory, lambda: catalogue.profile_table("lite", "main", "nope"))
        assert outcome(missing) == ("degraded", ("object_unknown",), 1)


# -- whole sources, relationships, faces ---------------------------------------------------------


@scenario("catalogue", since="0.3.0", because="whole sources are not read at once before 0.3.0", deep=True)
def test_a_whole_source_is_one_resolution_over_metadata_sql(sample: Sample, memory: Memory) -> None:
    bulk = importlib.import_module("dataface.core.inspect.bulk_schema")
    with opened(sample.root) as (_, registry):
        found = asked(memory, lambda: bulk.bulk_schema("shop", registry))
        unknown = asked(memory, lambda: bulk.bulk_schema("nosrc", registry))
        counted = sum(count for _, count in unresolved(memory))
    assert (found.name, outcome(found), layers(found)) == ("catalog.resolve", OK, ("metadata_sql",))
    assert (outcome(unknown), counted) == (("failed", (), 1), 1)


@scenario("catalogue", since="0.2.0", because="foreign keys are not looked up before 0.2.0", deep=True)
def test_the_foreign_keys_of_a_table_come_from_the_manifest_or_say_that_it_is_missing(
    project: Path, memory: Memory
) -> None:
    keys = importlib.import_module("dataface.core.execute.adapters.schema_adapter")
    with opened(project) as (_, registry):
        found = asked(memory, lambda: keys.fetch_fk_edges(registry, "fct_orders"))
        assert (found.name, outcome(found), layers(found)) == ("catalog.resolve", OK, ("dbt_manifest",))
        assert said(found, "dataface.staleness.layer") == "dbt_manifest"
        (project / "target/manifest.json").unlink()
        found = asked(memory, lambda: keys.fetch_fk_edges(registry, "fct_orders"))
        assert (outcome(found), layers(found)) == (("degraded", ("manifest_missing",), 0), ())


def catalogue_face(project: Path, table: str) -> str:
    """A face with one query of the catalogue, as the installed release spells it."""
    adapter = importlib.util.find_spec("dataface.core.execute.adapters.schema_resolver_adapter")
    kind = "schema_resolver" if adapter is not None else "schema"
    (project / f"faces/{table}.yml").write_text(
        f"title: C\nqueries: {{a: {{type: {kind}, source: shop, schema: main, table: {table}}}}}\n"
        "charts: {c: {title: C, query: a, type: table}}\nrows: [c]\n",
        "utf-8",
    )
    return f"faces/{table}.yml"


@scenario("catalogue")
def test_a_face_that_queries_the_catalogue_for_what_is_not_there_says_so_up_to_the_request(
    project: Path, memory: Memory
) -> None:
    paths = catalogue_face(project, "fct_orders"), catalogue_face(project, "nope")

    async def render(client: Client) -> None:
        for path in paths:
            await client.send(tool("render_dashboard", path=path, format="json"))

    with_client(project, render)
    healthy, faulty = [span for span in memory.spans if span.name.startswith("tools/call")]
    assert outcome(healthy)[:2] == ("ok", ())
    assert "object_unknown" in outcome(faulty)[1]
    query, other = sorted(
        (span for span in memory.spans if span.name == "query.execute"),
        key=lambda span: said(span, "dataface.outcome"),
    )
    assert (outcome(query), outcome(other)) == (("failed", ("object_unknown",), 0), OK)
    (profile,) = below(memory, query)
    assert outcome(profile) == ("degraded", ("object_unknown",), 1)
    assert sum(count for _, count in unresolved(memory)) == 1


# -- the verbs that agents had -------------------------------------------------------------------


def calls(project: Path, memory: Memory, name: str, **arguments: Any) -> ReadableSpan:
    """The entry of one tool call over MCP."""
    memory.clear()

    async def call(client: Client) -> None:
        await client.send(tool(name, **arguments))

    with_client(project, call)
    return entry_of(memory.spans)


@scenario("catalogue", until="0.2.0", because=NO_VERBS)
def test_the_schema_tool_fails_on_what_is_not_there_and_the_resolver_counts_it_once(
    sample: Sample, memory: Memory
) -> None:
    path = {"source": "shop", "schema": "main", "table": "fct_orders"}
    healthy = calls(sample.root, memory, "schema", **path)
    assert outcome(healthy)[:2] == ("ok", ())
    (verb,) = [span for span in below(memory, healthy) if span.name.startswith("catalog.")]
    assert (verb.name, outcome(verb)) == ("catalog.profile", OK)
    for level, code in (("schema", "SCHEMA"), ("table", "TABLE"), ("column", "COLUMN")):
        before = sum(count for _, count in unresolved(memory))
        unknown = calls(sample.root, memory, "schema", **{**path, level: "nope"})
        assert outcome(unknown)[:2] == ("failed", ("object_unknown",))
        assert said(unknown, "dataface.error.code") == f"DF-EXECUTE-{code}-NOT-FOUND"
        assert sum(count for _, count in unresolved(memory)) - before == 1
    nowhere = calls(sample.root, memory, "schema", source="nosrc", schema="main")
    assert outcome(nowhere)[:2] == ("failed", ())
    assert said(nowhere, "dataface.error.code") == "DF-EXECUTE-SOURCE-NOT-FOUND"
    # What was asked wrongly is nobody's missing object.
    assert outcome(calls(sample.root, memory, "schema", schema="main"))[:2] == ("failed", ())


@scenario("catalogue", until="0.2.0", because=NO_VERBS)
def test_a_search_that_could_not_reach_a_source_is_a_success_without_it(
    sample: Sample, project: Path, memory: Memory
) -> None:
    healthy = calls(sample.root, memory, "schema_search", keyword="customer")
    assert outcome(healthy)[:2] == ("ok", ())
    (search,) = [span for span in below(memory, healthy) if span.name.startswith("catalog.")]
    walked = [span.name for span in below(memory, search)]
    assert search.name == "catalog.search"
    assert walked.count("catalog.resolve") == 3  # the schemas, and the tables of each
    assert walked.count("catalog.profile") > 10  # and then every table by itself
    add_source(project, "  gone:\n    type: duckdb\n    path: gone.duckdb\n")
    without = calls(project, memory, "schema_search", keyword="customer")
    assert outcome(without)[:2] == ("degraded", ("layer_unavailable",))
    wrong = calls(project, memory, "schema_search")
    assert outcome(wrong)[:2] == ("failed", ())


@scenario("catalogue", until="0.2.0", because=NO_VERBS)
def test_listing_the_sources_is_a_resolution_without_layers(sample: Sample, memory: Memory) -> None:
    found = calls(sample.root, memory, "schema")
    (verb,) = [span for span in below(memory, found) if span.name.startswith("catalog.")]
    assert (verb.name, outcome(verb), layers(verb)) == ("catalog.resolve", OK, ())


@scenario("catalogue", until="0.1.4", because="0.1.5 and later open a database for both in the same way")
def test_a_catalogue_that_queries_have_locked_out_fails_with_the_driver_s_class(
    project: Path, memory: Memory
) -> None:
    async def query_and_look_up(client: Client) -> None:
        await client.send(tool("execute_query", sql="select 1 as a from fct_orders limit 1", source="shop"))
        await client.send(tool("schema", source="shop", schema="main"))

    with_client(project, query_and_look_up)
    query, catalogue = [span for span in memory.spans if span.name.startswith("tools/call")]
    assert outcome(query)[:2] == ("ok", ())
    assert outcome(catalogue)[:2] == ("failed", ())
    resolved = [span for span in memory.spans if span.name == "catalog.resolve"]
    assert {said(span, "error.type") for span in resolved} == {"ConnectionException"}
