"""Commands of `dft`: one entry each, with the outcome of what it served, and otherwise as if nobody looked."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import spans_in
from contract.looks import held
from inprocess import instrumented
from memory import attributes
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode
from scenario import RELEASE, scenario

import context_telemetry
from context_telemetry import surface
from context_telemetry.instrumentation import version
from context_telemetry.rehearsal.driver import observed
from context_telemetry.rehearsal.sample import Sample

pytestmark = pytest.mark.real

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SECRET = "4242424242"
VALIDATE = ["validate", "faces/orders.yml"]
RENDER = ["render", "faces/orders.yml"]
NO_SCHEMA = "`dft schema` is gone since 0.3.0"


def query(source: str, sql: str, *options: str) -> list[str]:
    """A query as the installed release takes it: before 0.1.5 the source is an option."""
    import typer
    from dataface.cli.main import app

    commands: Any = typer.main.get_command(app)
    by_option = any(each.name == "source" for each in commands.commands["query"].params)
    where = ["query", sql, "--source", source] if by_option else ["query", source, sql]
    return [*where, *options]


@dataclass(frozen=True)
class Ran:
    """What a command left: exit code and streams, and its spans, with the one entry among them if there is one."""

    code: int
    out: str
    err: str
    spans: list[ReadableSpan]

    @property
    def entry(self) -> ReadableSpan | None:
        entries = [span for span in self.spans if attributes(span).get("dataface.entry")]
        assert len(entries) <= 1
        return entries[0] if entries else None

    @property
    def said(self) -> dict[str, Any]:
        assert self.entry is not None
        return attributes(self.entry)


@pytest.fixture(scope="module")
def here(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the sample project, as the working directory: `dft render` writes into it."""
    root = sample.copy(tmp_path_factory.mktemp("commands") / "shop").root
    before = Path.cwd()
    os.chdir(root)
    yield root
    os.chdir(before)


def dft(arguments: list[str], *, watched: bool = True) -> Ran:
    """Run a command in this process, as the entry point would."""
    from dataface.cli.main import app
    from typer.testing import CliRunner

    if not watched:
        result = CliRunner().invoke(app, arguments)
        return Ran(result.exit_code, result.stdout, result.stderr, [])
    with instrumented() as memory:
        result = CliRunner().invoke(app, arguments)
        return Ran(result.exit_code, result.stdout, result.stderr, memory.spans)


@scenario("commands")
@pytest.mark.parametrize("command", ["validate", "render", "query"])
def test_a_healthy_command_is_one_entry_that_is_ok(here: Path, command: str) -> None:
    ran = dft({"validate": VALIDATE, "render": RENDER, "query": query("shop", "SELECT 1 AS one")}[command])
    assert ran.entry is not None
    assert (ran.code, ran.entry.name, ran.entry.kind) == (0, f"dft {command}", SpanKind.INTERNAL)
    assert ran.entry.status.status_code is StatusCode.UNSET
    said = {name: value for name, value in ran.said.items() if "staleness" not in name}
    assert said == {
        "dataface.operation.name": "command.run",
        "dataface.entry": True,
        "dataface.command.name": command,
        "dataface.surface": "cli",
        "process.exit.code": 0,
        "dataface.outcome": "ok",
    }


@scenario("commands")
def test_a_query_on_a_source_that_is_configured_nowhere_is_degraded_and_exits_with_0(here: Path) -> None:
    ran = dft(query("nowhere", "SELECT 1 AS one"))
    assert (ran.code, ran.said["process.exit.code"]) == (0, 0)
    assert ran.said["dataface.outcome"] == "degraded"
    assert ran.said["dataface.degradation.reasons"] == ("source_substituted",)


@scenario("commands")
def test_a_query_that_fails_is_failed_for_the_driver_s_reason(here: Path) -> None:
    ran = dft(query("shop", "SELECT * FROM nope"))
    assert ran.entry is not None
    assert (ran.code, ran.said["process.exit.code"]) == (1, 1)
    assert ran.said["dataface.outcome"] == "failed"
    assert ran.said["error.type"] == "CatalogException"
    assert "dataface.degradation.reasons" not in ran.said
    assert ran.entry.status.status_code is StatusCode.ERROR
    assert not ran.entry.events


FORMERLY = version(RELEASE) < version("0.3.0")
MISSING_FACE = "DF-RENDER-INPUT-INVALID" if FORMERLY else "ERR-FILE-NOT-FOUND"
NOT_VALID = "DF-COMPILE-EXTRA-FIELD" if FORMERLY else "ERR-EXTRA-FIELD"
FAILING = {
    "render faces/nope.yml": MISSING_FACE,
    "render faces/nope.yml --json-errors": MISSING_FACE,
    "render faces/wrong.yml": NOT_VALID,
    "validate faces/wrong.yml": NOT_VALID,
    "validate faces/wrong.yml --json": NOT_VALID,
    "describe faces/wrong.yml": NOT_VALID,
}


@scenario("commands")
@pytest.mark.parametrize("command", FAILING)
def test_a_command_that_prints_a_code_and_raises_no_exception_failed_of_that_code(
    here: Path, command: str
) -> None:
    (here / "faces/wrong.yml").write_text("title: wrong\nno_such_field: 1\n", "utf-8")
    ran = dft(command.split())
    assert (ran.code, ran.said["process.exit.code"], ran.said["dataface.outcome"]) == (1, 1, "failed")
    assert ran.said["error.type"] == ran.said["dataface.error.code"] == FAILING[command]


@scenario("commands", until="0.2.0", because="from 0.3.0 on a face that is not there has a code")
def test_a_code_that_says_nothing_is_not_the_type_of_a_failure(here: Path) -> None:
    said = dft(["validate", "faces/nope.yml"]).said
    assert (said["error.type"], said["dataface.error.code"]) == ("_OTHER", "DF-UNKNOWN-INTERNAL")


@scenario("commands", since="0.1.5", because="before 0.1.5 a render with failed charts exits with 0")
def test_a_render_that_is_refused_for_its_charts_failed_for_the_driver_s_reason_and_code(here: Path) -> None:
    lines = ["title: Bad", "queries:", "  bad: {source: shop, sql: SELECT nope FROM fct_orders}"]
    lines += ["charts:", "  bad: {query: bad, type: table}", "rows: [bad]"]
    (here / "faces/bad.yml").write_text("\n".join(lines) + "\n", "utf-8")
    ran = dft(["render", "faces/bad.yml", "--format", "text"])
    assert (ran.code, ran.said["dataface.outcome"]) == (1, "failed")
    assert ran.said["dataface.degradation.reasons"] == ("all_charts_failed",)
    assert ran.said["error.type"] == "BinderException"
    assert ran.said["dataface.error.code"].endswith("-BINDER-UNKNOWN-COLUMN")


@scenario(
    "commands", since="0.2.0", because="before 0.2.0 an unknown type of source is no source, and no error"
)
@pytest.mark.parametrize("command", ["render", "query"])
def test_an_exception_that_a_command_prints_or_raises_is_what_it_failed_of(here: Path, command: str) -> None:
    file = here / "dataface.yml"
    before = file.read_text("utf-8")
    file.write_text("sources:\n  shop: {type: nosuch, path: shop.duckdb}\n", "utf-8")
    try:
        ran = dft({"render": RENDER, "query": query("shop", "SELECT 1 AS one")}[command])
    finally:
        file.write_text(before, "utf-8")
    assert (ran.code, ran.said["dataface.outcome"]) == (1, "failed")
    assert ran.said["error.type"] == "CompilationError"
    assert ran.said["dataface.error.code"].endswith("-SOURCE-CONFIG-INVALID")


@scenario("commands", since="0.2.0", because="before 0.2.0 a command has no cache that lasts")
def test_a_command_with_a_cache_that_lasts_answers_an_earlier_failure_and_says_so(
    here: Path, tmp_path: Path
) -> None:
    lines = ["title: Kept", "queries:", "  kept: {source: shop, sql: SELECT never FROM fct_orders}"]
    lines += ["charts:", "  kept: {query: kept, type: table}", "rows: [kept]"]
    (here / "faces/kept.yml").write_text("\n".join(lines) + "\n", "utf-8")
    command = ["render", "faces/kept.yml", "--format", "text", "--cache", str(tmp_path / "results.duckdb")]
    first, second = dft(command), dft(command)
    assert first.said["dataface.outcome"] == second.said["dataface.outcome"] == "failed"
    assert first.said["dataface.degradation.reasons"] == ("all_charts_failed",)
    assert second.said["dataface.degradation.reasons"] == ("all_charts_failed", "failure_cached")


@scenario("commands", since="0.3.1", because="before 0.3.1 what is no project is served like one")
def test_a_command_that_ends_in_the_place_of_an_exception_failed_of_that(here: Path, tmp_path: Path) -> None:
    said = dft([*RENDER, "--project-dir", str(tmp_path)]).said
    assert (said["dataface.outcome"], said["error.type"]) == ("failed", "ProjectNotFoundError")


@scenario("commands")
def test_a_database_that_another_process_has_locked_fails_for_the_driver_s_reason(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A project of its own: before 0.3.0 this process would have the database of the others open.
    monkeypatch.chdir(project)
    with held(project / "shop.duckdb"):
        ran = dft(query("shop", "SELECT count(*) AS orders FROM fct_orders"))
    assert (ran.code, ran.said["dataface.outcome"], ran.said["error.type"]) == (1, "failed", "IOException")
    assert dft(query("shop", "SELECT count(*) AS orders FROM fct_orders")).said["dataface.outcome"] == "ok"


@scenario("commands")
def test_a_command_that_cannot_be_read_is_failed_with_exit_code_2(here: Path) -> None:
    ran = dft(["validate", "--no-such-option"])
    assert (ran.code, ran.said["process.exit.code"]) == (2, 2)
    assert (ran.said["dataface.outcome"], ran.said["error.type"]) == ("failed", "NoSuchOption")


@scenario("commands", until="0.2.0", because=NO_SCHEMA)
def test_the_schema_command_is_an_entry_with_the_catalogue_below_it(here: Path) -> None:
    ran = dft(["schema", "shop"])
    assert ran.entry is not None
    assert (ran.code, ran.entry.name, ran.said["dataface.outcome"]) == (0, "dft schema", "ok")
    assert "catalog.resolve" in [span.name for span in ran.spans]


@scenario("commands", until="0.2.0", because=NO_SCHEMA)
@pytest.mark.parametrize("level", ["schema", "table", "column"])
def test_the_schema_command_of_what_is_not_there_failed_for_that(here: Path, level: str) -> None:
    unknown = {"schema": ["finance"], "table": ["main", "nope"], "column": ["main", "fct_orders", "nope"]}
    ran = dft(["schema", "shop", *unknown[level]])
    assert (ran.code, ran.said["dataface.outcome"]) == (1, "failed")
    assert ran.said["dataface.degradation.reasons"] == ("object_unknown",)
    assert ran.said["error.type"] == f"DF-EXECUTE-{level.upper()}-NOT-FOUND"


@scenario("commands")
def test_help_and_what_serves_no_context_are_no_entries(here: Path) -> None:
    for arguments in (["--version"], ["query", "--help"], ["inspect", "templates"], ["mcp", "serve", "--no"]):
        assert dft(arguments).spans == [], arguments
    assert dft(["no-such-command", "query"]).spans == []


@scenario("commands")
def test_nothing_that_was_typed_is_exported(here: Path) -> None:
    typed = query("shop", f"SELECT {SECRET} AS one", "--limit", "7")
    for ran in (
        dft(typed),
        dft([*typed, "--no-such-option", SECRET]),
        dft(["validate", f"faces/{SECRET}.yml"]),
    ):
        assert ran.entry is not None
        assert SECRET not in str([(span.name, attributes(span), span.events) for span in ran.spans])


@scenario("commands")
def test_a_command_is_part_of_its_caller_s_trace_and_of_the_surface_that_the_caller_says(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACEPARENT", f"00-{TRACE}-{PARENT}-01")
    monkeypatch.setenv("BAGGAGE", "dataface.surface=ide")
    ran = dft(VALIDATE)
    assert ran.entry is not None
    assert ran.entry.parent is not None
    assert f"{ran.entry.parent.trace_id:032x}{ran.entry.parent.span_id:016x}" == TRACE + PARENT
    assert ran.said["dataface.surface"] == "ide"
    with surface("agent"):
        assert dft(VALIDATE).said["dataface.surface"] == "agent"
    monkeypatch.setenv("BAGGAGE", "dataface.surface=desktop")
    monkeypatch.setenv("TRACEPARENT", "nonsense")
    ran = dft(VALIDATE)
    assert ran.entry is not None
    assert (ran.entry.parent, ran.said["dataface.surface"]) == (None, "cli")


@scenario("bytes unchanged")
def test_commands_print_the_same_and_exit_alike_with_and_without_observation(here: Path) -> None:
    for arguments in (
        VALIDATE,
        RENDER,
        query("shop", "SELECT * FROM fct_orders ORDER BY order_id"),
        query("shop", "SELECT * FROM nope"),
        query("nowhere", "SELECT 1 AS one", "--json"),
        ["query", "--no-such-option"],
        ["validate", "faces/nope.yml"],
        ["render", "faces/nope.yml", "--json-errors"],
        ["docs", "charts"],
        ["query", "--help"],
    ):
        without, watched = dft(arguments, watched=False), dft(arguments)
        assert (watched.code, watched.out, watched.err) == (without.code, without.out, without.err), arguments


@scenario("bytes unchanged")
def test_a_process_that_is_observed_writes_the_same_bytes_and_leaves_its_entry(
    here: Path, tmp_path: Path
) -> None:
    # From elsewhere, with the project named: its telemetry is the project's.
    asked = query("nowhere", "SELECT 1 AS one", "--project-dir", str(here))
    command = [str(Path(sys.executable).with_name("dft")), *asked]
    library = str(Path(context_telemetry.__file__).parents[1])
    environ = os.environ | {"CONTEXT_TELEMETRY_STATE_DIR": str(tmp_path), "PYTHONPATH": library}
    plain, watched = (
        subprocess.run(each, capture_output=True, cwd=tmp_path.anchor, env=environ, check=False)
        for each in (command, observed(command))
    )
    assert (watched.returncode, watched.stdout, watched.stderr) == (0, plain.stdout, plain.stderr)
    (entry,) = [span for span in spans_in(tmp_path) if span.entry]
    assert (entry.name, entry.outcome) == ("dft query", "degraded")
    assert entry.reasons == {"source_substituted"}
    assert [folder.name.rpartition("-")[0] for folder in tmp_path.iterdir()] == ["shop"]
