"""Queries: what was asked, which connection answered, and why one that ran is not the one that was asked for."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from inprocess import opened
from memory import Memory, attributes
from opentelemetry.sdk.trace import ReadableSpan
from scenario import scenario

from context_telemetry.rehearsal.sample import Sample

pytestmark = pytest.mark.real

RUNS_SOURCELESS = "0.3.0 and later refuse SQL that names no source"
REFUSED = "before 0.3.0 SQL that names no source is run"
TABLES = "select table_name from information_schema.tables"
ORDERS = "select count(*) as orders from fct_orders"


@pytest.fixture(scope="module")
def registry(sample: Sample, everything: Memory) -> Iterator[Any]:
    with opened(sample.root) as (_, made):
        yield made


def execute(registry: Any, sql: str, source: str | None) -> Any:
    from dataface.agent_api.query import execute_query

    return execute_query(sql, source=source, adapter_registry=registry)


def operation(memory: Memory, name: str) -> ReadableSpan:
    (found,) = [span for span in memory.spans if attributes(span).get("dataface.operation.name") == name]
    return found


def told(span: ReadableSpan) -> tuple[Any, tuple[Any, ...], Any]:
    """The outcome, the reasons and the class of error that a span says."""
    said = attributes(span)
    reasons = tuple(said.get("dataface.degradation.reasons", ()))
    return said["dataface.outcome"], reasons, said.get("error.type")


# -- the source that was asked for ---------------------------------------------------------------


@scenario("queries")
def test_a_query_on_a_configured_source_is_ok_with_its_rows_and_database(
    registry: Any, memory: Memory
) -> None:
    assert execute(registry, ORDERS, "shop").success
    query = operation(memory, "query.execute")
    assert told(query) == ("ok", (), None)
    said = attributes(query)
    assert said["dataface.catalog.source"] == "shop"
    assert (said["db.system.name"], said["db.response.returned_rows"]) == ("duckdb", 1)


@scenario("queries")
def test_an_unknown_source_that_is_answered_anyway_was_substituted(registry: Any, memory: Memory) -> None:
    assert execute(registry, "select 1", "nosrc").success
    assert told(operation(memory, "query.execute")) == ("degraded", ("source_substituted",), None)


@scenario("queries")
def test_a_query_that_fails_because_its_source_was_substituted_says_so(registry: Any, memory: Memory) -> None:
    assert not execute(registry, ORDERS, "nosrc").success
    assert told(operation(memory, "query.execute")) == ("failed", ("source_substituted",), "CatalogException")


@scenario("queries")
def test_the_catalogue_of_an_unknown_source_is_that_of_another_database(
    registry: Any, memory: Memory
) -> None:
    assert execute(registry, TABLES, "nosrc").data == []
    asked = operation(memory, "catalog.resolve")
    assert told(asked) == ("degraded", ("source_substituted",), None)
    assert attributes(asked)["dataface.catalog.layers"] == ("metadata_sql",)


@scenario("queries")
def test_the_catalogue_of_a_configured_source_is_ok(registry: Any, memory: Memory) -> None:
    assert len(execute(registry, TABLES, "shop").data) > 10
    assert told(operation(memory, "catalog.resolve")) == ("ok", (), None)


@scenario(
    "queries",
    since="0.2.0",
    because="before 0.2.0 a source that is named is never answered by dbt's own connection",
)
def test_a_source_that_is_dbt_s_own_target_is_no_substitute(project: Path, memory: Memory) -> None:
    sql = "select count(*) as orders from {{ ref('fct_orders') }}"
    with opened(project) as (_, registry):
        assert execute(registry, sql, "dev").data == [{"orders": 1200}]
    assert told(operation(memory, "query.execute")) == ("ok", (), None)


@scenario(
    "queries",
    since="0.2.0",
    because="before 0.2.0 a source that is named is never answered by dbt's own connection",
)
def test_dbt_s_connection_in_place_of_an_unknown_source_is_a_substitute(
    project: Path, memory: Memory
) -> None:
    with opened(project) as (_, registry):
        assert execute(registry, "select count(*) from {{ ref('fct_orders') }}", "nosrc").success
    assert told(operation(memory, "query.execute")) == ("degraded", ("source_substituted",), None)


@scenario("queries")
def test_a_second_source_is_a_source_of_its_own(project: Path, memory: Memory) -> None:
    with (project / "dataface.yml").open("a") as file:
        file.write("  again:\n    type: duckdb\n    path: shop.duckdb\n")
    with opened(project) as (_, registry):
        assert execute(registry, ORDERS, "again").data == [{"orders": 1200}]
    assert told(operation(memory, "query.execute")) == ("ok", (), None)


@scenario("queries")
def test_a_source_that_is_configured_at_last_clears_what_its_absence_began(
    sample: Sample, project: Path, memory: Memory
) -> None:
    known = len(memory.events)
    with opened(sample.root) as (_, registry):
        execute(registry, "select 1", "later")
        execute(registry, "select 1", "later")
        execute(registry, "select 1", "shop")
    with (project / "dataface.yml").open("a") as file:
        file.write("  later:\n    type: duckdb\n    path: shop.duckdb\n")
    with opened(project) as (_, registry):
        execute(registry, "select 1", "later")
    degradations = [said for name, said in memory.events[known:] if name == "dataface.degradation"]
    assert [
        (said["dataface.degradation.state"], said["dataface.degradation.reason"])
        for said in degradations
        if said["dataface.degradation.object"] == "later"
    ] == [("began", "source_substituted"), ("cleared", "source_substituted")]


# -- no source -----------------------------------------------------------------------------------


@scenario("queries", until="0.2.0", because=RUNS_SOURCELESS)
def test_without_a_source_what_needs_none_is_ok(registry: Any, memory: Memory) -> None:
    assert execute(registry, "select 1", None).success
    assert told(operation(memory, "query.execute")) == ("ok", (), None)


@scenario("queries", until="0.2.0", because=RUNS_SOURCELESS)
def test_without_a_source_a_table_is_looked_for_in_an_empty_database(registry: Any, memory: Memory) -> None:
    assert not execute(registry, ORDERS, None).success
    assert told(operation(memory, "query.execute")) == ("failed", ("source_substituted",), "CatalogException")


@scenario("queries", until="0.2.0", because=RUNS_SOURCELESS)
def test_without_a_source_the_catalogue_is_that_of_an_empty_database(registry: Any, memory: Memory) -> None:
    assert execute(registry, TABLES, None).data == []
    assert told(operation(memory, "catalog.resolve")) == ("degraded", ("source_substituted",), None)


@scenario("queries", until="0.2.0", because=RUNS_SOURCELESS)
def test_without_a_source_a_ref_is_answered_by_dbt_s_connection(project: Path, memory: Memory) -> None:
    with opened(project) as (_, registry):
        found = execute(registry, "select count(*) as orders from {{ ref('fct_orders') }}", None)
        assert found.data == [{"orders": 1200}]
    assert told(operation(memory, "query.execute")) == ("ok", (), None)


@scenario("queries", until="0.1.5", because="0.2.0 and later have no default source")
def test_the_project_s_default_source_stands_for_none(project: Path, memory: Memory) -> None:
    config = project / "dataface.yml"
    config.write_text(config.read_text().replace("sources:\n", "sources:\n  default: shop\n"))
    with opened(project) as (_, registry):
        assert execute(registry, ORDERS, None).data == [{"orders": 1200}]
    query = operation(memory, "query.execute")
    assert told(query) == ("ok", (), None)
    assert attributes(query)["db.system.name"] == "duckdb"


@scenario("queries", since="0.3.0", because=REFUSED)
def test_without_a_source_a_query_is_refused_and_no_source_is_at_fault(registry: Any, memory: Memory) -> None:
    assert not execute(registry, "select 1", None).success
    query = operation(memory, "query.execute")
    assert told(query) == ("failed", (), "_OTHER")
    assert attributes(query)["dataface.error.code"] == "ERR-NO-DEFAULT-SOURCE"


# -- a project without sources -------------------------------------------------------------------


@pytest.fixture
def bare(project: Path) -> Path:
    (project / "dataface.yml").write_text("{}\n")
    return project


@scenario("queries")
def test_where_no_source_is_configured_the_one_named_is_substituted(bare: Path, memory: Memory) -> None:
    with opened(bare) as (_, registry):
        assert not execute(registry, ORDERS, "shop").success
    outcome, reasons, error = told(operation(memory, "query.execute"))
    assert (outcome, sorted(reasons), error) == (
        "failed",
        ["source_substituted", "source_unconfigured"],
        "CatalogException",
    )


@scenario("queries", until="0.2.0", because=RUNS_SOURCELESS)
def test_where_no_source_is_configured_a_table_cannot_be_found(bare: Path, memory: Memory) -> None:
    with opened(bare) as (_, registry):
        assert not execute(registry, ORDERS, None).success
    assert told(operation(memory, "query.execute")) == (
        "failed",
        ("source_unconfigured",),
        "CatalogException",
    )


@scenario("queries", since="0.3.0", because=REFUSED)
def test_where_no_source_is_configured_a_query_is_refused_for_that(bare: Path, memory: Memory) -> None:
    with opened(bare) as (_, registry):
        assert not execute(registry, "select 1", None).success
    assert told(operation(memory, "query.execute")) == ("failed", ("source_unconfigured",), "_OTHER")


@pytest.fixture
def elsewhere(bare: Path) -> Path:
    """A project without sources whose dbt profile, which has the name `shop`, is a database with 3 orders."""
    duckdb = importlib.import_module("duckdb")
    (bare / "old").mkdir()
    with duckdb.connect(str(bare / "old/shop.duckdb")) as connection:
        connection.execute("create table fct_orders as select unnest([1, 2, 3]) as order_id")
    # 0.3.0 reads no more of a profile than it knows of a source.
    (bare / "profiles.yml").write_text(
        "shop:\n  target: dev\n  outputs:\n    dev:\n      type: duckdb\n      path: old/shop.duckdb\n"
    )
    return bare


COUNTED = "select count(*) as orders from {{ ref('fct_orders') }}"
OF_DBT_S_NAME = scenario(
    "queries",
    since="0.2.0",
    because="before 0.2.0 a source that is named is never answered by dbt's own connection",
)


@OF_DBT_S_NAME
@pytest.mark.parametrize("named", ["shop", "dev"])
def test_where_no_source_is_configured_dbt_s_own_connection_of_that_name_answers_and_it_says_so(
    elsewhere: Path, memory: Memory, named: str
) -> None:
    with opened(elsewhere) as (_, registry):
        assert execute(registry, COUNTED, named).data == [{"orders": 3}]
    query = operation(memory, "query.execute")
    assert told(query) == ("degraded", ("source_unconfigured",), None)
    assert attributes(query)["db.system.name"] == "duckdb"
    assert attributes(query)["dataface.catalog.unresolved"] == 1


@OF_DBT_S_NAME
def test_a_source_of_the_dbt_profile_s_name_that_the_project_configures_is_ok(
    elsewhere: Path, memory: Memory
) -> None:
    config = elsewhere / "dataface.yml"
    config.write_text("sources:\n  shop:\n    type: dbt_profile\n    profile: shop\n")
    with opened(elsewhere) as (_, registry):
        assert execute(registry, ORDERS, "shop").data == [{"orders": 3}]
    assert told(operation(memory, "query.execute")) == ("ok", (), None)


@OF_DBT_S_NAME
def test_a_face_s_query_on_dbt_s_own_connection_in_a_project_without_sources_says_so(
    elsewhere: Path, memory: Memory
) -> None:
    from dataface.ai.tools import dispatch_tool_call

    face = f"queries:\n  orders:\n    source: shop\n    sql: {COUNTED}\n"
    (elsewhere / "faces/mine.yml").write_text(f"title: Mine\n{face}rows: []\n")
    with opened(elsewhere) as (context, _):
        arguments = {"name": "orders", "path": "faces/mine.yml"}
        answer = dispatch_tool_call("query_face", arguments, context=context)
    assert (answer["success"], answer["data"]) == (True, [{"orders": 3}])
    assert told(operation(memory, "tool.call")) == ("degraded", ("source_unconfigured",), None)


@scenario("queries", until="0.2.0", because=RUNS_SOURCELESS)
def test_where_no_source_is_configured_and_none_is_named_dbt_s_connection_is_what_was_asked_for(
    bare: Path, memory: Memory
) -> None:
    with opened(bare) as (_, registry):
        assert execute(registry, COUNTED, None).data == [{"orders": 1200}]
    assert told(operation(memory, "query.execute")) == ("ok", (), None)


# -- connections and their errors ----------------------------------------------------------------


@scenario("queries")
def test_a_source_whose_adapter_is_not_installed_is_a_layer_that_is_not_there(
    project: Path, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKE", "secret")
    with (project / "dataface.yml").open("a") as file:
        file.write(
            "  lake:\n    type: snowflake\n    account: a\n    user: u\n    password: \"{{ env_var('LAKE') }}\"\n"
            "    database: d\n    warehouse: w\n    schema: s\n"
        )
    with opened(project) as (_, registry):
        assert not execute(registry, "select 1", "lake").success
    query = operation(memory, "query.execute")
    assert told(query) == ("failed", ("layer_unavailable",), "ImportError")
    assert attributes(query)["db.system.name"] == "snowflake"


@scenario("queries")
def test_the_driver_s_own_class_tells_a_missing_table_from_a_missing_column(
    registry: Any, memory: Memory
) -> None:
    for sql, kind in (
        ("select * from nope", "CatalogException"),
        ("select nope from fct_orders", "BinderException"),
    ):
        memory.clear()
        assert not execute(registry, sql, "shop").success
        assert told(operation(memory, "query.execute")) == ("failed", (), kind)


@scenario("queries")
def test_no_text_of_a_query_or_an_error_is_recorded(registry: Any, memory: Memory) -> None:
    execute(registry, "select 'a secret' from nope_at_all", "shop")
    execute(registry, "select 'a secret'", "select * from where")
    recorded = " ".join(span.to_json() for span in memory.spans)
    assert recorded
    assert not [text for text in ("secret", "nope_at_all", "from where") if text in recorded]


# -- the verbs around it -------------------------------------------------------------------------


def describe(registry: Any, sql: str, source: str) -> Any:
    module = importlib.import_module("dataface.agent_api.describe_query")
    return module.describe_query(sql, source=source, adapter_registry=registry)


@scenario("queries")
def test_describing_a_query_is_an_operation_of_its_own(registry: Any, memory: Memory) -> None:
    assert describe(registry, "select order_id from fct_orders", "shop").success
    asked = operation(memory, "query.describe")
    assert told(asked) == ("ok", (), None)
    assert attributes(asked)["dataface.catalog.source"] == "shop"


@scenario("queries")
def test_describing_on_an_unknown_source_fails_with_dataface_s_code(registry: Any, memory: Memory) -> None:
    assert not describe(registry, "select 1", "nosrc").success
    asked = operation(memory, "query.describe")
    assert told(asked) == ("failed", (), "DatafaceError")
    assert str(attributes(asked)["dataface.error.code"]).endswith("SOURCE-NOT-FOUND")
    assert attributes(asked)["dataface.catalog.unresolved"] == 1


@scenario("queries")
def test_a_query_that_cannot_be_parsed_is_not_described(registry: Any, memory: Memory) -> None:
    assert not describe(registry, "selec", "shop").success
    assert told(operation(memory, "query.describe")) == ("failed", (), "ParserException")


@scenario(
    "queries", since="0.3.0", because="before 0.3.0 the answer holds an absolute path, which is not exported"
)
def test_a_query_that_was_asked_for_by_its_name_tells_its_face(project: Path, memory: Memory) -> None:
    from dataface.ai.tools import dispatch_tool_call

    face = "queries:\n  orders:\n    source: shop\n    sql: select * from fct_orders\n"
    (project / "faces/mine.yml").write_text(f"title: Mine\n{face}rows: []\n")
    with opened(project) as (context, _):
        arguments = {"name": "orders", "path": "faces/mine.yml"}
        assert dispatch_tool_call("query_face", arguments, context=context)["success"]
        assert not dispatch_tool_call("query_face", {**arguments, "name": "zzz"}, context=context)["success"]
    found, unknown = [
        span for span in memory.spans if attributes(span).get("dataface.operation.name") == "tool.call"
    ]
    assert told(found) == ("ok", (), None)
    assert attributes(found)["dataface.face"] == "faces/mine.yml"
    assert told(unknown)[:2] == ("failed", ())
    assert "dataface.face" not in attributes(unknown)


@scenario("queries")
def test_checking_a_query_is_an_operation_where_somebody_asks_for_it(registry: Any, memory: Memory) -> None:
    importlib.import_module("dataface.agent_api.validate_query").validate_query("select 1")
    checked = operation(memory, "query.validate")
    assert told(checked) == ("ok", (), None)
    memory.clear()
    execute(registry, "select 1", "shop")  # Dataface checks it too: that is no operation
    assert [attributes(span)["dataface.operation.name"] for span in memory.spans] == ["query.execute"]
