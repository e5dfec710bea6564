"""Every fault of the rehearsal on every release: the exact outcome and reasons of each call that meets it, and of none.

Each fault has a copy of the project, and a server of its own before and after it is healed: what a server of an older
release once read it keeps.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from agent_fakes import FakeModel, turn
from conftest import Observed
from contract.looks import held
from httpserver import application, browser
from inprocess import entry_of, opened, with_client
from memory import Memory, attributes
from scenario import RELEASE, scenario
from test_on_freshness import cached

from context_telemetry.instrumentation import version
from context_telemetry.observe import failsafe
from context_telemetry.rehearsal.driver import Call, Client, tool
from context_telemetry.rehearsal.fault import Fault, Meeting
from context_telemetry.rehearsal.faults import FAULTS
from context_telemetry.rehearsal.sample import DATABASE, Sample

pytestmark = pytest.mark.real

Action = Callable[[], object]
Reading = tuple[str, str, frozenset[str], bool]
Seen = tuple[str, str, frozenset[str]]

KEEPS_ITS_FILES = version(RELEASE) < version("0.1.5")
"""What such a process has read of a project it never reads again."""


@pytest.fixture
def memory(everything: Memory) -> Iterator[Memory]:
    everything.clear()
    before = failsafe.errors()
    yield everything
    assert failsafe.errors() == before


def moved(project: Path) -> Path:
    """The project in another folder: a process knows nothing of it yet."""
    return Sample(project).copy(project.with_name("moved")).root


def met(
    project: Path, memory: Memory, meetings: tuple[Meeting, ...], running: Action = lambda: None
) -> list[Reading]:
    """What the answers of a new server were read as; ``running`` happens once it runs."""
    found = []

    async def send(client: Client) -> None:
        running()
        for meeting in meetings:
            memory.clear()
            answer = await client.send(meeting.call)
            said = attributes(entry_of(memory.spans))
            reasons = frozenset(said.get("dataface.degradation.reasons", ()))
            found.append((str(meeting.call), said["dataface.outcome"], reasons, answer.is_error))

    with_client(project, send)
    return found


def expected(meetings: tuple[Meeting, ...]) -> list[Reading]:
    return [(str(each.call), each.outcome, each.reasons, each.is_error) for each in meetings]


def where(fault: str, rows: Iterable[Fault] = FAULTS) -> dict[str, Any]:
    """Which releases have a fault, in one row or several, and why the others have not: what a scenario takes."""
    found = [row for row in rows if row.name == fault]
    untils = [row.until for row in found if row.until is not None]
    return {
        "since": min((row.since for row in found), key=version),
        "until": max(untils, key=version) if len(untils) == len(found) else None,
        "because": found[0].because,
    }


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=scenario("faults", **where(name)))
        for name in dict.fromkeys(fault.name for fault in FAULTS)
    ],
)
def test_a_fault_is_read_from_every_call_that_meets_it_and_from_none_once_it_is_healed(
    name: str, project: Path, memory: Memory
) -> None:
    fault = HERE[name]

    def settle() -> None:  # from the moment at which a project is served, too
        time.sleep(fault.settles)

    def inject() -> None:
        fault.inject(project)
        settle()

    if fault.new_server or KEEPS_ITS_FILES:
        fault.inject(project)
        found = met(project, memory, fault.meetings, running=settle)
    else:
        found = met(project, memory, fault.meetings, running=inject)
    assert found == expected(fault.meetings)
    fault.heal(project)
    healed = moved(project) if KEEPS_ITS_FILES else project
    assert met(healed, memory, fault.twins, running=settle) == expected(fault.twins)


# -- the same faults on the other surfaces ---------------------------------------------------------


Ask = Callable[[Path, Memory, "Action | None"], object]
"""Uses Dataface in a project; with an action twice in one process, which happens between the two."""


def page(*paths: str) -> Ask:
    def ask(project: Path, memory: Memory, between: Action | None) -> None:
        with browser(application(project)) as client:
            if between is not None:
                client.get(paths[0])
                between()
            for path in paths:
                memory.clear()
                client.get(path)

    return ask


def command(*arguments: str) -> Ask:
    """A command of `dft`, each of which is a process of its own."""

    def ask(project: Path, memory: Memory, between: Action | None) -> None:
        from dataface.cli.main import app
        from typer.testing import CliRunner

        if between is not None:
            between()
        memory.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(project)
            CliRunner().invoke(app, list(arguments))

    return ask


def in_session(use: Callable[[Any, Any], object]) -> Ask:
    """What has the project open: a context for tools, and an adapter registry."""

    def ask(project: Path, memory: Memory, between: Action | None) -> None:
        with opened(project) as session:
            if between is not None:
                use(*session)
                between()
            memory.clear()
            use(*session)

    return ask


def agent(call: Call, **options: Any) -> Ask:
    """A turn in which a FAKE model makes the call and then says that it is done."""

    def take(context: Any, _: Any) -> None:
        list(turn(context, FakeModel([(str(call.tool), call.arguments)], ["Done."]), **options))

    return in_session(take)


def library(use: Callable[[Any], object]) -> Ask:
    """A host that calls Dataface's functions itself."""

    def call(_: Any, registry: Any) -> None:
        with contextlib.suppress(Exception):
            use(registry)

    return in_session(call)


def client(call: Call) -> Ask:
    def ask(project: Path, memory: Memory, between: Action | None) -> None:
        async def send(client: Client) -> None:
            if between is not None:
                await client.send(call)
                between()
            memory.clear()
            await client.send(call)

        with_client(project, send)

    return ask


def tables(registry: Any) -> object:
    factory = importlib.import_module("dataface.core.inspect.cache_factory")
    return factory.build_resolver(registry).list_tables("shop", "main")


def query(sql: str) -> Callable[[Any], object]:
    def run(registry: Any) -> object:
        from dataface.agent_api.query import execute_query

        return execute_query(sql, source="shop", adapter_registry=registry)

    return run


SETTING_UP = ("mcp.initialize", "mcp.list")


def entries(memory: Memory) -> list[Seen]:
    """Surface, outcome and reasons of each entry that asked for something."""
    found = [attributes(span) for span in memory.spans]
    return [
        (
            each["dataface.surface"],
            each["dataface.outcome"],
            frozenset(each.get("dataface.degradation.reasons", ())),
        )
        for each in found
        if each.get("dataface.entry") and each["dataface.operation.name"] not in SETTING_UP
    ]


@dataclass(frozen=True)
class Shown:
    """What a surface shows of a fault: outcome and exact reasons of what is asked there, and none once it is healed.

    ``twin`` is asked then. ``running``: the fault comes about in a process that has answered already. ``what`` tells
    it from the others of that fault and surface. Where only a tool fails that an agent calls, the turn is ``ok``: its
    model was told. ``limits`` are those releases that show it, where they are fewer than have the fault.
    """

    fault: str
    surface: str
    what: str
    ask: Ask
    outcome: str
    reasons: frozenset[str]
    twin: Ask
    running: bool
    limits: dict[str, str]

    @property
    def mark(self) -> pytest.MarkDecorator:
        return scenario("faults", deep=True, **{**where(self.fault, ALL), **self.limits})

    def __str__(self) -> str:
        return f"{self.fault}-{self.surface}" + (f"-{self.what}" if self.what else "")


def shown(
    fault: str,
    asks: dict[str, Ask],
    *reasons: str,
    what: str = "",
    twins: dict[str, Ask] | None = None,
    command_fails: bool = True,
    running: bool = False,
    **limits: str,
) -> list[Shown]:
    """The fault on each surface that is asked; commands and functions that served less than all of it have failed."""
    outcomes = dict.fromkeys(asks, "degraded" if reasons else "failed")
    outcomes["library"] = "failed"
    if command_fails:
        outcomes["cli"] = "failed"
    if not reasons:
        outcomes["agent"] = "ok"
    return [
        Shown(
            fault,
            surface,
            what,
            ask,
            outcomes[surface],
            frozenset(reasons),
            (twins or asks)[surface],
            running,
            limits,
        )
        for surface, ask in asks.items()
    ]


def face(name: str) -> dict[str, Ask]:
    """The face as a page, by the command that draws it, and by the tool of an agent."""
    path = f"faces/{name}.yml"
    return {
        "dashboard": page(f"/{name}/"),
        "cli": command("render", path, "--format", "text"),
        "agent": agent(tool("render_dashboard", path=path, format="text")),
    }


def sql(source: str, text: str) -> dict[str, Ask]:
    return {
        "cli": command("query", source, text),
        "agent": agent(tool("execute_query", sql=text, source=source)),
    }


SOURCES, ELSEWHERE, REVENUE = "dataface.yml", "faces/elsewhere.yml", "faces/revenue.yml"
COUNT = "SELECT count(*) AS orders FROM fct_orders"
ORDERS, CATALOG, LOST = face("orders"), face("catalog"), face("lost")
QUERY = sql("shop", COUNT)


def _two_sources(project: Path) -> None:
    both = "sources:\n  shop: {type: duckdb, path: shop.duckdb}\n  annex: {type: duckdb, path: shop.duckdb}\n"
    (project / SOURCES).write_text(both, "utf-8")


def _face_elsewhere(project: Path) -> None:
    (project / ELSEWHERE).write_text(
        "title: Elsewhere\nqueries:\n  one: {source: shopp, sql: SELECT 1 AS one}\n"
        "charts:\n  one: {query: one, type: table}\nrows: [one]\n",
        "utf-8",
    )


def _unknown_type(project: Path) -> None:
    (project / SOURCES).write_text("sources:\n  shop: {type: nosuch, path: shop.duckdb}\n", "utf-8")


def _replaced(project: Path) -> None:
    shutil.copy2(project / DATABASE, project / "other.duckdb")
    os.replace(project / "other.duckdb", project / DATABASE)


class Locked(Fault):
    """Another process has the database open for as long as it lasts."""

    def inject(self, project: Path) -> None:
        HOLDERS.enter_context(held(project / DATABASE))

    def heal(self, project: Path) -> None:
        HOLDERS.close()


HOLDERS = contextlib.ExitStack()
OWN = (
    Fault("several_sources", "more than one source", (), (), (SOURCES,), _two_sources),
    Fault(
        "face_elsewhere", "a face that names no source of the project", (), (), (ELSEWHERE,), _face_elsewhere
    ),
    Fault("face_gone", "a face that was deleted", (), (), (REVENUE,), lambda at: (at / REVENUE).unlink()),
    Fault("source_of_no_type", "a source of a type that there is not", (), (), (SOURCES,), _unknown_type),
    Fault("database_replaced", "another file in an open one's place", (), (), (str(DATABASE),), _replaced),
    Locked("database_locked", "another process writes the database", (), ()),
)
ALL = (*FAULTS, *OWN)
HERE = {fault.name: fault.on(RELEASE) for fault in ALL if fault.serves(RELEASE)}
PROMPTED = {"agent": agent(tool("docs"), built=True)}
SHOWN = [
    *shown("source_unknown", sql("shopp", COUNT), "source_substituted", twins=QUERY),
    *shown(
        "face_elsewhere",
        face("elsewhere") | {"mcp": client(tool("render_dashboard", path=ELSEWHERE))},
        twins=ORDERS | {"mcp": client(tool("render_dashboard", path="faces/orders.yml", format="text"))},
    ),
    *shown("face_gone", {"dashboard": page("/revenue/")}, "resource_unknown"),
    *shown(
        "face_gone",
        {
            "mcp": client(tool("render_dashboard", path=REVENUE, format="text")),
            "cli": command("render", REVENUE, "--format", "text"),
            "agent": face("revenue")["agent"],
        },
    ),
    *shown("sources_removed", ORDERS, "all_charts_failed", "source_substituted", "source_unconfigured"),
    *shown("sources_removed", {"library": library(tables)}, "source_unconfigured"),
    *shown("sources_unreadable", CATALOG, running=True),
    *shown("source_with_a_password", CATALOG, running=True),
    *shown(
        "source_of_no_type",
        CATALOG | {"mcp": client(tool("execute_query", sql=COUNT, source="shop"))},
        running=True,
    ),
    *shown("profile_gone", ORDERS, "all_charts_failed", "source_unconfigured"),
    *shown("profile_gone", {"library": library(query(COUNT))}, "source_unconfigured"),
    *shown("profile_not_introspected", CATALOG, "all_charts_failed"),
    *shown("profile_not_introspected", {"library": library(tables)}),
    *shown("adapter_missing", sql("warehouse", "SELECT 1"), "layer_unavailable", twins=QUERY),
    *shown(
        "adapter_missing",
        {"dashboard": page("/lost/")},
        "charts_failed",
        "layer_unavailable",
        twins=CATALOG,
    ),
    *shown("manifest_cut", CATALOG, "manifest_unreadable", command_fails=False),
    *shown("manifest_not_utf8", CATALOG, "all_charts_failed", "manifest_unreadable"),
    *shown("manifest_snapshot", CATALOG, "manifest_substituted", command_fails=False),
    *shown("face_broken", {"dashboard": page("/lost/")}, twins=ORDERS),
    *shown("face_broken", {"cli": command("validate", "faces/lost.yml")}, twins=ORDERS),
    *shown(
        "face_broken",
        {"cli": command("search", "revenue")},
        "face_unreadable",
        what="search",
        command_fails=False,
    ),
    *shown("face_broken", {"agent": agent(tool("search_dashboards", query="revenue"))}, "face_unreadable"),
    *shown("column_dropped", ORDERS, "charts_failed"),
    *shown("column_dropped", {"library": library(query("SELECT payment_method FROM fct_orders LIMIT 1"))}),
    *shown(
        "column_dropped",
        {"dashboard": page("/orders/", "/orders/")},
        "charts_failed",
        "failure_cached",
        what="again",
        twins=CATALOG,
    ),
    *shown(
        "database_replaced",
        {
            "mcp": client(tool("render_dashboard", path="faces/catalog.yml")),
            # What it has shown it shows again from its cache; what is new it asks of the open connection.
            "dashboard": page("/catalog/", "/orders/"),
            "agent": CATALOG["agent"],
        },
        "handle_outlived_file",
        running=True,
    ),
    *shown("database_gone", ORDERS, "all_charts_failed"),
    *shown("database_gone", {"library": library(query(COUNT))}),
    *shown("database_locked", ORDERS, "all_charts_failed"),
    *shown(
        "database_locked",
        {
            "mcp": client(tool("execute_query", sql=COUNT, source="shop")),
            "library": library(query(COUNT)),
        },
    ),
    *shown("schema_unknown", LOST, "charts_failed", "object_unknown", twins=CATALOG),
    *shown("table_unknown", LOST, "charts_failed", "object_unknown", twins=CATALOG),
    *shown("column_unknown", LOST, "charts_failed", "object_unknown", twins=CATALOG),
    *shown("arguments_invalid", {"agent": agent(tool("execute_query", source="shop"))}, twins=QUERY),
    *shown("table_dropped", {"agent": face("revenue")["agent"]}, "all_charts_failed"),
    *shown("reference_undefined", face("customers"), "all_charts_failed", twins=ORDERS),
    *shown(
        "reference_undefined",
        {"library": library(query("SELECT 1 FROM {{ ref('dim_customers') }}"))},
        twins={"library": library(query(COUNT))},
    ),
    *shown(
        "database_gone",
        PROMPTED,
        "context_is_error_text",
        what="prompt",
        until="0.2.0",
        because="from 0.3.0 on a prompt has no schema in it",
    ),
    *shown(
        "several_sources",
        PROMPTED,
        "context_is_error_text",
        until="0.2.0",
        because="from 0.3.0 on a prompt lists the names of all sources",
    ),
]


@pytest.mark.parametrize("shown", [pytest.param(each, id=str(each), marks=each.mark) for each in SHOWN])
def test_a_fault_is_read_on_every_surface_that_shows_it(shown: Shown, project: Path, memory: Memory) -> None:
    fault = HERE[shown.fault]
    if not shown.running:
        fault.inject(project)
    shown.ask(project, memory, (lambda: fault.inject(project)) if shown.running else None)
    assert entries(memory) == [(shown.surface, shown.outcome, shown.reasons)]
    if (shown.surface, shown.outcome) == ("agent", "ok"):
        assert attributes(memory.span("tool.call"))["dataface.outcome"] == "failed"
    fault.heal(project)
    shown.twin(moved(project) if shown.running else project, memory, None)
    assert entries(memory) == [(shown.surface, "ok", frozenset())]


@scenario(
    "faults", since="0.3.0", because="to 0.2.0 a prompt says that there is no source where there are two"
)
def test_a_prompt_that_names_both_of_two_sources_is_ok(project: Path, memory: Memory) -> None:
    HERE["several_sources"].inject(project)
    model = FakeModel(["Done."])
    with opened(project) as (context, _):
        list(turn(context, model, built=True))
    (asked,) = model.asked
    assert all(source in asked["system_prompt"] for source in ("shop", "annex"))
    assert entries(memory) == [("agent", "ok", frozenset())]


RENDER = tool("render_dashboard", path="faces/mine.yml", format="text")
SOME_FAILED = frozenset({"charts_failed"})


@scenario("faults")
def test_a_server_with_a_cache_that_lasts_answers_an_earlier_failure_and_says_so(
    project: Path, tmp_path: Path, observed: Observed
) -> None:
    with cached(project, tmp_path):
        pass  # before 0.2.0 the file must be there
    environ = {"DFT_CACHE_PATH": str(tmp_path / "results.duckdb")}
    told = [(each.outcome, each.reasons) for each in observed(project, [RENDER] * 2, env=environ).requested]
    assert told == [("degraded", SOME_FAILED), ("degraded", SOME_FAILED | {"failure_cached"})]


@scenario(
    "faults", since="0.1.5", because="before 0.1.5 a turn's prompt locks its queries out of a DuckDB file"
)
def test_an_agent_whose_host_brings_a_cache_is_told_an_earlier_failure_and_its_turn_says_so(
    project: Path, tmp_path: Path, memory: Memory
) -> None:
    call = (str(RENDER.tool), RENDER.arguments)
    with cached(project, tmp_path) as context:
        for _ in range(2):
            list(turn(context, FakeModel([call], ["Done."])))
    assert entries(memory) == [
        ("agent", "degraded", SOME_FAILED),
        ("agent", "degraded", SOME_FAILED | {"failure_cached"}),
    ]
