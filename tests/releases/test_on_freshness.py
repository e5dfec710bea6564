"""Freshness beyond the manifest: stored results and failures, and database files that were replaced while open."""

from __future__ import annotations

import contextlib
import datetime
import importlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from httpserver import application, browser
from inprocess import opened
from memory import Memory, attributes
from opentelemetry.sdk.trace import ReadableSpan
from scenario import RELEASE, scenario

from context_telemetry.instrumentation import freshness
from context_telemetry.instrumentation.freshness import read_cache
from context_telemetry.limits import Limits
from context_telemetry.observe import recorder
from context_telemetry.observe.reading import Call
from context_telemetry.rehearsal.sample import Sample

pytestmark = pytest.mark.real

FACE = """\
title: Mine
queries:
  orders:
    source: shop
    sql: select status, count(*) as n from fct_orders group by status
  bad:
    source: shop
    sql: select * from nope
charts:
  orders: {query: orders, type: table, title: Orders}
  bad: {query: bad, type: table, title: Bad}
rows: [orders, bad]
"""
NO_AGE = "before 0.3.0 a stored result is handed out without its age"
NEW_CACHE, ADDS = RELEASE >= "0.3.0", RELEASE < "0.2.0"
OWN_AGE = "0.3.0 and later hand out the age of a stored result"
STORED_ONCE = f"0.1.2 to 0.1.4 cannot store a result twice with this DuckDB; {OWN_AGE}"
LASTING = "from 0.3.0 on a query closes its connection"


def told(span: ReadableSpan) -> tuple[Any, tuple[Any, ...]]:
    said = attributes(span)
    return said["dataface.outcome"], tuple(said.get("dataface.degradation.reasons", ()))


def operations(memory: Memory, name: str) -> list[ReadableSpan]:
    return [span for span in memory.spans if attributes(span).get("dataface.operation.name") == name]


# -- the result cache ----------------------------------------------------------------------------


def cache_class() -> Any:
    """The class of the local result cache."""
    new = find_spec("dataface.core.execute.trivial_local_cache") is not None
    module = importlib.import_module(
        f"dataface.core.execute.{'trivial_local_cache' if new else 'duckdb_cache'}"
    )
    return module.TrivialDuckDBCache if new else module.DuckDBCache


@contextmanager
def cached(project: Path, folder: Path) -> Iterator[Any]:
    """The project, open with a result cache: what tools take. Before 0.1.5 the environment names it."""
    cache = cache_class()(db_path=folder / "results.duckdb")
    (project / "faces/mine.yml").write_text(FACE)
    with ExitStack() as stack:
        if find_spec("dataface.agent_api.cache") is None:
            cache.close()
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            patch.setenv("DFT_CACHE_PATH", str(folder / "results.duckdb"))
            yield stack.enter_context(opened(project))[0]
        else:
            stack.callback(cache.close)
            yield stack.enter_context(opened(project, cache=cache))[0]


def answer(context: Any) -> None:
    tools = importlib.import_module("dataface.ai.tools")
    tools.dispatch_tool_call("render_dashboard", {"path": "faces/mine.yml"}, context=context)


def render(memory: Memory, context: Any) -> list[ReadableSpan]:
    """Render the face as a tool does, and return the reads of the cache that found something."""
    memory.clear()
    answer(context)
    reads = operations(memory, "cache.read")
    assert reads
    return [span for span in reads if "dataface.catalog.layers" in attributes(span)]


@scenario("freshness")
def test_a_result_comes_from_the_cache_the_second_time(project: Path, tmp_path: Path, memory: Memory) -> None:
    with cached(project, tmp_path) as context:
        assert render(memory, context) == []
        assert all(told(span) == ("ok", ()) for span in operations(memory, "cache.read"))
        found = render(memory, context)
    (rows,) = [span for span in found if "db.response.returned_rows" in attributes(span)]
    assert told(rows) == ("ok", ())
    assert attributes(rows)["dataface.catalog.layers"] == ("result_cache",)
    assert attributes(rows)["db.response.returned_rows"] == 4


@scenario("freshness")
def test_a_result_that_could_not_be_stored_is_drawn_and_its_chart_has_not_failed(
    project: Path, tmp_path: Path, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for failing in (True, False):
        with cached(project, tmp_path) as context, monkeypatch.context() as patch:
            if failing:
                patch.setattr(cache_class(), "put", lambda *_, **__: (_ for _ in ()).throw(OSError("full")))
            memory.clear()
            answer(context)
        (found,) = operations(memory, "dashboard.render")
        assert told(found) == ("degraded", ("charts_failed",))  # the face has one that fails anyway
        assert attributes(found)["dataface.charts.failed"] == 1


def hits(memory: Memory) -> list[bool]:
    return sorted(attributes(span)["dataface.cache.hit"] for span in operations(memory, "cache.read"))


@scenario("freshness")
def test_a_look_into_the_cache_says_whether_it_had_the_result_or_the_failure(
    project: Path, tmp_path: Path, memory: Memory
) -> None:
    with cached(project, tmp_path) as context:
        render(memory, context)
        assert hits(memory)
        assert not any(hits(memory))
        found = render(memory, context)
    assert all(attributes(span)["dataface.cache.hit"] for span in found)
    # The rows of one query and the failure of the other, for which each is asked in turn before 0.3.0.
    assert sum(hits(memory)) == len(found) >= 2


@scenario("freshness")
def test_a_cache_that_raises_has_neither_hit_nor_missed() -> None:
    assert read_cache(Call(error=OSError())) is None


@scenario("freshness")
def test_a_failure_that_is_answered_from_the_cache_says_so_and_one_of_the_warehouse_does_not(
    project: Path, tmp_path: Path, memory: Memory
) -> None:
    with cached(project, tmp_path) as context:
        render(memory, context)
        (first,) = operations(memory, "dashboard.render")
        assert told(first) == ("degraded", ("charts_failed",))
        found = render(memory, context)
        (entry,) = operations(memory, "tool.call")
    assert {told(span) for span in found if "db.response.returned_rows" not in attributes(span)} == {
        ("degraded", ("failure_cached",))
    }
    assert told(entry) == ("degraded", ("charts_failed", "failure_cached"))
    assert operations(memory, "query.execute") == []


@scenario("freshness")
def test_a_dashboard_is_as_old_as_its_oldest_stored_result(
    project: Path, tmp_path: Path, memory: Memory
) -> None:
    with cached(project, tmp_path) as context:
        render(memory, context)
        (fresh,) = operations(memory, "dashboard.render")
        assert "dataface.staleness.age" not in attributes(fresh)
        (rows,) = [span for span in render(memory, context) if "dataface.staleness.age" in attributes(span)]
    age = attributes(rows)["dataface.staleness.age"]
    assert 0 < age < 60
    # Before 0.3.0 a query has no time to live of its own.
    assert attributes(rows).get("dataface.staleness.limit") == (86_400 if NEW_CACHE else None)
    (dashboard,), (entry,) = operations(memory, "dashboard.render"), operations(memory, "tool.call")
    for span in (dashboard, entry):
        assert attributes(span)["dataface.staleness.layer"] == "result_cache"
        assert age <= attributes(span)["dataface.staleness.age"] < age + 10


FILL = """
import sys
from pathlib import Path
from test_on_freshness import answer, cached
with cached(Path(sys.argv[1]), Path(sys.argv[2])) as context:
    answer(context)
"""


@scenario("freshness", until="0.2.0", because=OWN_AGE)
def test_a_result_that_another_process_stored_has_no_age(
    project: Path, tmp_path: Path, memory: Memory
) -> None:
    """It is no guess: the time at which it was stored is in the cache, where only a query of ours would find it."""
    before = recorder.limits()
    arguments = [sys.executable, "-c", FILL, str(project), str(tmp_path)]
    subprocess.run(arguments, check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    recorder.set_limits(Limits.model_validate({"promises": {"result_cache": 0.001}}).compile())
    try:
        with cached(project, tmp_path) as context:
            found = render(memory, context)
    finally:
        recorder.set_limits(before)
    (rows,) = [span for span in found if "db.response.returned_rows" in attributes(span)]
    assert told(rows) == ("ok", ())
    assert all("dataface.staleness.age" not in attributes(span) for span in memory.spans)


@pytest.fixture
def result_cache() -> Iterator[Any]:
    """A result cache in memory, of whatever class the installed release has."""
    cache = cache_class()()
    yield cache
    cache.close()


KEY = ("source", "query", "variables")


def put(cache: Any, rows: list[dict[str, Any]]) -> None:
    cache.put(*KEY, rows, face_slug="mine", query_name="orders", variables={})


def age_of(cache: Any, memory: Memory) -> float | None:
    """What a look into the cache says of the result's age; None: nothing."""
    memory.clear()
    cache.get(*KEY)
    (span,) = operations(memory, "cache.read")
    return attributes(span).get("dataface.staleness.age")


@scenario("freshness", since="0.1.5", until="0.2.0", because=STORED_ONCE)
def test_a_result_that_is_stored_anew_is_as_young_as_the_youngest_that_is_served(
    result_cache: Any, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before 0.2.0 rows that are stored again are added to those that are there."""
    put(result_cache, [{"n": 1}])
    monkeypatch.setattr(freshness, "_stored", {key: at - 100 for key, at in freshness._stored.items()})
    put(result_cache, [{"n": 2}])
    assert len(result_cache.get(*KEY)) == (2 if ADDS else 1)
    age = age_of(result_cache, memory)
    assert age == pytest.approx(100 if ADDS else 0, abs=5)
    put(result_cache, [])  # nothing is stored, what is there stays
    assert age_of(result_cache, memory) == pytest.approx(age, abs=5)
    result_cache.clear(*KEY)
    assert age_of(result_cache, memory) is None
    put(result_cache, [{"n": 3}])
    assert age_of(result_cache, memory) == pytest.approx(0, abs=5)
    monkeypatch.setattr(freshness, "_stored", {key: at - 100 for key, at in freshness._stored.items()})
    result_cache.clear(*KEY)  # as a forced refresh does, which looks for nothing in between
    put(result_cache, [{"n": 4}])
    assert age_of(result_cache, memory) == pytest.approx(0, abs=5)


@scenario("freshness", until="0.2.0", because=OWN_AGE)
def test_a_result_that_could_not_be_stored_leaves_what_is_there_with_its_age(
    result_cache: Any, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(result_cache, [{"n": 1}])
    monkeypatch.setattr(result_cache, "_insert_rows", lambda *_: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(MemoryError):
        put(result_cache, [{"n": 2}])
    age = age_of(result_cache, memory)
    assert (age is not None) is ADDS  # 0.2.0 has taken the former rows away by then
    assert (result_cache.get(*KEY) is not None) is ADDS


@scenario("freshness", until="0.2.0", because=OWN_AGE)
def test_no_more_than_so_many_results_are_remembered_and_the_first_are_forgotten_first(
    result_cache: Any, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freshness, "_MAX_STORED", 10)
    for number in range(25):
        result_cache.put(
            "s", str(number), "v", [{"n": 1}], face_slug="mine", query_name="orders", variables={}
        )
    assert 0 < len(freshness._stored) <= 10
    kept = [int(key[2]) for key in freshness._stored]
    assert kept == list(range(25 - len(kept), 25))
    freshness.forget()
    assert not freshness._stored


@scenario("freshness")
def test_a_stored_result_that_is_older_than_a_promise_is_stale_and_without_one_it_is_not(
    project: Path, tmp_path: Path, memory: Memory
) -> None:
    with cached(project, tmp_path) as context:
        render(memory, context)
        render(memory, context)
        (entry,) = operations(memory, "tool.call")
        assert told(entry) == ("degraded", ("charts_failed", "failure_cached"))
        before = recorder.limits()
        recorder.set_limits(Limits.model_validate({"promises": {"result_cache": 0.001}}).compile())
        try:
            found = render(memory, context)
        finally:
            recorder.set_limits(before)
        (rows,) = [span for span in found if "db.response.returned_rows" in attributes(span)]
        (entry,) = operations(memory, "tool.call")
    assert told(rows) == ("degraded", ("result_stale",))
    assert attributes(rows)["dataface.staleness.limit"] == 0.001
    assert told(entry) == ("degraded", ("charts_failed", "failure_cached", "result_stale"))


@scenario("freshness", since="0.3.0", because=NO_AGE)
def test_a_cache_that_does_not_keep_a_query_s_own_time_to_live_serves_it_stale() -> None:
    from dataface.core.execute.cache_backend import CacheHit

    now = datetime.datetime.now(datetime.timezone.utc)
    hit = CacheHit(rows=[{"n": 1}], written_at=now - datetime.timedelta(seconds=120))

    def read(ttl: float | None) -> Any:
        given = {} if ttl is None else {"ttl": datetime.timedelta(seconds=ttl)}
        return read_cache(Call(kwargs=given, result=hit))

    assert read(60).reasons == ("result_stale",)
    assert read(180).reasons == read(None).reasons == ()
    assert read(180).ages["result_cache"] == pytest.approx(120, abs=5)


@scenario(
    "freshness", since="0.1.5", because="before 0.1.5 pages have a cache only where DFT_CACHE_PATH names it"
)
def test_a_page_that_is_shown_again_is_as_old_as_its_numbers(project: Path, memory: Memory) -> None:
    face = FACE.partition("  bad:")[0]
    (project / "faces/mine.yml").write_text(
        f"{face}charts:\n  orders: {{query: orders, type: table}}\nrows: [orders]\n"
    )
    before = recorder.limits()
    with browser(application(project)) as client:
        pages = []
        for promise in (None, None, 0.001):
            promises = {} if promise is None else {"result_cache": promise}
            recorder.set_limits(Limits.model_validate({"promises": promises}).compile())
            memory.clear()
            try:
                assert client.get("/mine/").status_code == 200
            finally:
                recorder.set_limits(before)
            pages += operations(memory, "page.serve")
    assert [told(page) for page in pages] == [("ok", ()), ("ok", ()), ("degraded", ("result_stale",))]
    ages: list[Any] = [attributes(page).get("dataface.staleness.age") for page in pages]
    assert ages[0] is None
    assert 0 < ages[1] < ages[2] < 60


# -- recordings of boards ------------------------------------------------------------------------

NO_BOARDS = "before 0.3.1 dashboards are not recorded"
BOARD, RECORDING = "orders.board.json", "orders.recording.json"


@pytest.fixture
def recorded(project: Path, tmp_path: Path, memory: Memory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the two files of a board."""
    monkeypatch.chdir(project)
    ran = dft(
        "board", "emit", "faces/orders.yml",
        "--artifact", str(tmp_path / BOARD), "--recording", str(tmp_path / RECORDING),
    )  # fmt: skip
    assert ran.exit_code == 0
    return tmp_path


def dft(*arguments: str) -> Any:
    from dataface.cli.main import app
    from typer.testing import CliRunner

    return CliRunner().invoke(app, list(arguments))


def replayed(folder: Path, memory: Memory) -> ReadableSpan:
    """The entry of a board that is drawn from its recording."""
    memory.clear()
    dft("board", "render", str(folder / BOARD), str(folder / RECORDING), "-o", str(folder / "orders.svg"))
    (entry,) = operations(memory, "command.run")
    return entry


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@scenario("freshness", since="0.3.1", because=NO_BOARDS)
def test_a_board_is_recorded_by_a_command_that_asks_the_warehouse(recorded: Path, memory: Memory) -> None:
    (entry,) = operations(memory, "command.run")
    assert attributes(entry)["dataface.command.name"] == "board emit"
    assert told(entry) == ("ok", ())
    assert len(operations(memory, "query.execute")) == 3
    assert "dataface.staleness.age" not in attributes(entry)


@scenario("freshness", since="0.3.1", because=NO_BOARDS)
def test_a_board_whose_query_fails_is_not_recorded(
    project: Path, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    face = project / "faces/orders.yml"
    face.write_text(face.read_text().replace("fct_orders", "fct_gone"))
    assert dft("board", "emit", "faces/orders.yml").exit_code == 1
    (entry,) = operations(memory, "command.run")
    assert told(entry) == ("failed", ())
    assert attributes(entry)["dataface.error.code"] == "ERR-BINDER-UNKNOWN-COLUMN"


@scenario("freshness", since="0.3.1", because=NO_BOARDS)
def test_a_board_is_as_old_as_its_recording_and_stale_beyond_a_promise(
    recorded: Path, memory: Memory
) -> None:
    entry = replayed(recorded, memory)
    assert attributes(entry)["dataface.command.name"] == "board render"
    assert told(entry) == ("ok", ())
    assert 0 < attributes(entry)["dataface.staleness.age"] < 60
    assert attributes(entry)["dataface.staleness.layer"] == "result_cache"
    assert operations(memory, "query.execute") == []
    day_ago = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)
    change(recorded / RECORDING, recorded_at=day_ago.isoformat())
    entry = replayed(recorded, memory)
    assert told(entry) == ("ok", ())
    assert attributes(entry)["dataface.staleness.age"] == pytest.approx(86_400, abs=60)
    before = recorder.limits()
    recorder.set_limits(Limits.model_validate({"promises": {"result_cache": 3_600}}).compile())
    try:
        entry = replayed(recorded, memory)
    finally:
        recorder.set_limits(before)
    (drawn,) = operations(memory, "dashboard.render")
    assert told(drawn) == told(entry) == ("degraded", ("result_stale",))
    assert attributes(drawn)["dataface.catalog.layers"] == ("result_cache",)


@scenario("freshness", since="0.3.1", because=NO_BOARDS)
def test_a_recording_of_another_board_fails_its_render(recorded: Path, memory: Memory) -> None:
    change(recorded / RECORDING, rows_by_query={})
    entry = replayed(recorded, memory)
    (drawn,) = operations(memory, "dashboard.render")
    assert told(drawn) == told(entry) == ("failed", ())
    for span in (drawn, entry):
        assert attributes(span)["dataface.error.code"] == "ERR-BOARD-RECORDING-MISMATCH"
    assert "dataface.staleness.age" not in attributes(entry)


# -- files that were replaced --------------------------------------------------------------------


def execute(registry: Any) -> int:
    """The number of orders, by a query on the warehouse."""
    from dataface.agent_api.query import execute_query

    found = execute_query("select count(*) as n from fct_orders", source="shop", adapter_registry=registry)
    assert found.success, found.error
    return int(found.data[0]["n"])


def tables(registry: Any) -> set[str]:
    """The names of the tables, by a new resolver."""
    from dataface.core.inspect.cache_factory import build_resolver

    envelope = build_resolver(registry).list_tables("shop", "main")
    return set(envelope["sources"]["shop"]["schemas"]["main"]["tables"])


def replace(project: Path, tmp_path: Path) -> None:
    """Another database in place of the project's, as a deployment does it: with one order, and no other table."""
    import duckdb

    other = tmp_path / "other.duckdb"
    with duckdb.connect(str(other)) as connection:
        connection.execute("create table fct_orders as select 1 as order_id")
    os.replace(other, project / "shop.duckdb")


OUTLIVED = ("degraded", ("handle_outlived_file",))


@scenario("freshness")
def test_a_resolver_that_answers_from_a_file_that_was_replaced_says_so(
    project: Path, tmp_path: Path, memory: Memory
) -> None:
    with opened(project) as (_, registry):
        before = tables(registry)
        assert told(operations(memory, "catalog.resolve")[-1]) == ("ok", ())
        replace(project, tmp_path)
        memory.clear()
        assert tables(registry) == before
    assert len(before) > 1
    assert told(operations(memory, "catalog.resolve")[-1]) == OUTLIVED


@scenario("freshness", since="0.1.5", because="0.1.2 to 0.1.4 cannot query a file that a resolver has open")
def test_a_query_is_answered_from_the_former_file_once_a_resolver_has_it_open(
    project: Path, tmp_path: Path, memory: Memory
) -> None:
    with opened(project) as (_, registry):
        tables(registry)
        replace(project, tmp_path)
        memory.clear()
        assert execute(registry) == 1200
        assert told(operations(memory, "query.execute")[-1]) == OUTLIVED


@scenario("freshness", until="0.2.0", because=LASTING)
def test_a_query_s_own_connection_lasts_and_outlives_the_file(
    project: Path, tmp_path: Path, memory: Memory
) -> None:
    with opened(project) as (_, registry):
        execute(registry)
        replace(project, tmp_path)
        memory.clear()
        assert execute(registry) == 1200
        assert told(operations(memory, "query.execute")[-1]) == OUTLIVED
        registry.close()
        memory.clear()
        assert execute(registry) == 1
        assert told(operations(memory, "query.execute")[-1]) == ("ok", ())


@scenario("freshness", since="0.3.0", because="before 0.3.0 a query's connection lasts")
def test_queries_alone_are_answered_from_the_new_file(project: Path, tmp_path: Path, memory: Memory) -> None:
    with opened(project) as (_, registry):
        execute(registry)
        replace(project, tmp_path)
        memory.clear()
        assert execute(registry) == 1
        assert told(operations(memory, "query.execute")[-1]) == ("ok", ())


@scenario("freshness")
def test_a_file_that_was_replaced_before_it_was_opened_is_the_file(
    project: Path, tmp_path: Path, memory: Memory
) -> None:
    replace(project, tmp_path)
    with opened(project) as (_, registry):
        assert tables(registry) == {"fct_orders"}
        assert told(operations(memory, "catalog.resolve")[-1]) == ("ok", ())


@scenario("freshness")
def test_a_file_that_was_written_in_place_is_the_file(project: Path, tmp_path: Path, memory: Memory) -> None:
    with opened(project) as (_, registry):
        tables(registry)
        shutil.copyfile(project / "shop.duckdb", tmp_path / "same.duckdb")
        shutil.copyfile(tmp_path / "same.duckdb", project / "shop.duckdb")
        memory.clear()
        assert len(tables(registry)) > 1
        assert told(operations(memory, "catalog.resolve")[-1]) == ("ok", ())


@scenario("freshness", since="0.1.5", because="before 0.1.5 there are no SQLite sources")
def test_a_sqlite_file_is_opened_for_each_query_and_never_outlived(
    project: Path, tmp_path: Path, memory: Memory
) -> None:
    from dataface.agent_api.query import execute_query

    def database(path: Path, rows: int) -> Path:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("create table seen (n int)")
            connection.executemany("insert into seen values (?)", [(number,) for number in range(rows)])
            connection.commit()
        return path

    database(project / "lite.sqlite", 3)
    with (project / "dataface.yml").open("a") as configured:
        configured.write("  lite: {type: sqlite, path: lite.sqlite}\n")
    with opened(project) as (_, registry):
        for rows in (3, 7):
            found = execute_query("select count(*) as n from seen", source="lite", adapter_registry=registry)
            assert found.data == [{"n": rows}]
            assert told(operations(memory, "query.execute")[-1]) == ("ok", ())
            os.replace(database(tmp_path / "other.sqlite", 7), project / "lite.sqlite")


@scenario("freshness", deep=True)
def test_a_file_that_is_gone_and_still_answers_was_outlived(project: Path, memory: Memory) -> None:
    with opened(project) as (_, registry):
        tables(registry)
        (project / "shop.duckdb").unlink()
        memory.clear()
        assert len(tables(registry)) > 1
        assert told(operations(memory, "catalog.resolve")[-1]) == OUTLIVED


@scenario("freshness")
def test_a_descriptor_that_holds_a_former_file_is_looked_for_once_and_again_when_it_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    listed = os.listdir

    def look(path: str) -> list[str]:
        looks.append(path)
        return listed(path)

    monkeypatch.setattr(os, "listdir", look)
    freshness.forget()
    path = tmp_path / "shop.duckdb"
    path.write_text("former")
    with path.open() as first:
        assert not freshness.outlived(str(path))
        (tmp_path / "new").write_text("new")
        os.replace(tmp_path / "new", path)
        assert [freshness.outlived(str(path)) for _ in range(9)] == [True] * 9
        assert len(looks) == 1
        second = os.dup(first.fileno())
    try:
        assert freshness.outlived(str(path))  # another descriptor holds it still
        assert len(looks) == 2
    finally:
        os.close(second)
    assert not freshness.outlived(str(path))
    assert not freshness.outlived(str(path))
    assert len(looks) == 3


# -- the session ---------------------------------------------------------------------------------


@scenario("freshness", since="0.1.5", because="before 0.1.5 nothing is read again")
def test_what_a_session_holds_is_read_again_before_each_tool(sample: Sample, memory: Memory) -> None:
    tools = importlib.import_module("dataface.ai.tools")
    with opened(sample.root) as (context, _):
        memory.clear()
        tools.dispatch_tool_call("list_skills", {}, context=context)
    (refreshed,) = operations(memory, "session.refresh")
    assert told(refreshed) == ("ok", ())
