"""`context-telemetry check`: what it looks at, what it says and records, and whom it leaves alone."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import httpserver
import pytest
from conftest import Span, events_in, spans_in
from contract.shops import SERVER, Accepted, Shop, accept
from memory import Memory, attributes, recording
from otlp_files import Call, Inner, Process

from context_telemetry.cli import check, check_screen, place, served_tools
from context_telemetry.cli.check import Checked, Checker, Options
from context_telemetry.cli.check_memory import FILE
from context_telemetry.cli.check_parts import Part
from context_telemetry.instrumentation import manifest_watch
from context_telemetry.rehearsal.driver import Raw, plain
from context_telemetry.rehearsal.sample import Sample
from context_telemetry.settings import project_folder

DOCS = Path(__file__).parent.parent / "docs"
QUICK = ("--no-tools", "--no-prompts")
OFF = Options(None, tools=False, prompts=False)
DROPPED = "ALTER TABLE fct_orders DROP COLUMN status"
RESTORED = "ALTER TABLE fct_orders ADD COLUMN status VARCHAR"
FACES = {"faces/catalog.yml", "faces/order_list.yml", "faces/orders.yml"}
HELD = """
import duckdb, sys
connection = duckdb.connect(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def accepted(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Accepted:
    return accept(sample, tmp_path_factory.mktemp("accepted"))


@pytest.fixture
def shop(accepted: Accepted, tmp_path: Path) -> Iterator[Shop]:
    yield accepted.copy(tmp_path)
    manifest_watch.forget()


def looked(shop: Shop, options: Options = OFF) -> tuple[Checked, Memory]:
    """One look in this process, as the first of a process that is new, and what was recorded."""
    with recording() as memory, served(shop):
        checked = Checker(place.find(shop.root, shop.state), options).look()
    manifest_watch.forget()
    return checked, memory


@contextmanager
def served(shop: Shop) -> Iterator[None]:
    """What is asked for tools is the list of the test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(served_tools, "plain", lambda: [sys.executable, str(SERVER), str(shop.lists)])
        yield


def environment(shop: Shop, **more: str) -> dict[str, str]:
    return {**os.environ, "CONTEXT_TELEMETRY_STATE_DIR": str(shop.state), **more}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "context_telemetry.cli", "check", *arguments]


def run(shop: Shop, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, in the project."""
    return subprocess.run(
        command(*arguments),
        cwd=shop.root,
        env=environment(shop, **more),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def part(checked: Checked, kind: str) -> Part:
    (found,) = [each for each in checked.parts if each.kind == kind]
    return found


def states(checked: Checked) -> dict[str, str]:
    return {each.kind: each.state for each in checked.parts}


# -- a healthy project ----------------------------------------------------------------------------


def files(root: Path) -> dict[str, int]:
    """Every file of a project, with when it was written."""
    return {str(path): path.stat().st_mtime_ns for path in root.rglob("*")}


@pytest.mark.real
def test_a_healthy_project_is_well_in_every_part_and_recorded_as_serving_is(shop: Shop) -> None:
    before = files(shop.root)
    done = run(shop, "--json")
    document = json.loads(done.stdout)
    assert (done.returncode, document["state"], document["reasons"]) == (0, "healthy", []), done.stdout
    assert files(shop.root) == before
    assert {each["state"] for each in document["parts"]} == {"ok"}
    assert document["delivered"] is True
    (entry,) = [span for span in spans_in(shop.state) if span.entry]
    assert (entry.name, entry.outcome, entry.attributes["dataface.surface"]) == ("check.run", "ok", "cli")
    assert entry.trace_id == document["trace_id"]
    by_name: dict[str, list[Span]] = {}
    for span in spans_in(shop.state):
        by_name.setdefault(span.name, []).append(span)
    assert by_name.keys() == {"check.run", "manifest.load", "catalog.resolve", "context.build"}
    (resolve,) = by_name["catalog.resolve"]
    assert resolve.attributes["dataface.catalog.source"] == "shop"
    kinds = {span.attributes["dataface.payload.kind"] for span in by_name["context.build"]}
    assert kinds == {"system_prompt", "schema_context", "tool_list"}


@pytest.mark.real
def test_the_list_of_tools_is_as_large_as_a_client_gets_it(shop: Shop) -> None:
    _, memory = looked(shop, Options(None, prompts=False))
    with Raw(shop.root, command=plain()) as server:
        server.initialize()
        listed = server.request("tools/list")["result"]["tools"]
    sent = json.dumps(listed, separators=(",", ":"), ensure_ascii=False)
    built = attributes(memory.span("context.build"))
    assert built["dataface.payload.kind"] == "tool_list"
    assert built["dataface.payload.size"] == len(sent.encode())


def test_a_look_without_prompts_calls_no_resolver_and_imports_no_dataface(shop: Shop) -> None:
    script = (
        "import sys\nfrom context_telemetry.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    code = end.code\n"
        "assert not any(name.partition('.')[0] == 'dataface' for name in sys.modules)\nsys.exit(code)"
    )
    shop.sql(DROPPED)
    done = subprocess.run(
        [sys.executable, "-c", script, "check", "--json", *QUICK],
        cwd=shop.root,
        env=environment(shop),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    names = {span.name for span in spans_in(shop.state)}
    assert names == {"check.run", "manifest.load", "catalog.resolve"}


# -- what is broken -------------------------------------------------------------------------------

CHANGES = {
    "a column is dropped": (DROPPED, "column_removed", "shop.main.fct_orders.status", FACES),
    "a column is renamed": (
        "ALTER TABLE dim_customers RENAME COLUMN country_name TO country",
        "column_renamed",
        "shop.main.dim_customers.country_name",
        {"faces/customers.yml"},
    ),
    "a column has another type": (
        "ALTER TABLE fct_orders ALTER COLUMN status TYPE INTEGER USING 1",
        "type_changed",
        "shop.main.fct_orders.status",
        FACES,
    ),
}


@pytest.mark.parametrize(("statement", "rule", "what", "faces"), CHANGES.values(), ids=CHANGES)
def test_a_change_is_seen_by_the_next_look_with_every_face_that_uses_it(
    shop: Shop, statement: str, rule: str, what: str, faces: set[str]
) -> None:
    assert looked(shop)[0].exit_code == 0
    shop.sql(statement)
    checked, memory = looked(shop)
    assert checked.exit_code == 1
    assert "contract_broken" in checked.reasons
    assert checked.compared.report is not None
    (broken,) = checked.compared.report.open
    assert (broken.change.rule, broken.change.object) == (rule, what)
    assert faces <= {hit.consumer.name for hit in broken.hits}
    assert [span.name for span in memory.spans] == ["manifest.load", "catalog.resolve", "check.run"]
    entry = attributes(memory.span("check.run"))
    assert entry["dataface.outcome"] == "degraded"
    assert set(entry["dataface.degradation.reasons"]) == set(checked.reasons)


def test_whoever_is_hit_is_told_with_its_recorded_uses(shop: Shop) -> None:
    process = Process(project_folder(shop.state, shop.root))
    render = Inner("dashboard.render", {"dataface.face": "faces/order_list.yml"})
    for ago in (40.0, 30.0):
        process.call(Call(ago=ago, tool="render_dashboard", inner=(render,)))
    process.flush()
    shop.sql(DROPPED)
    done = run(shop, *QUICK, "--since", "1h")
    assert "1 breaking change hits 3 dashboards, 1 of them opened 2 times in the last hour" in done.stdout
    assert all(face in done.stdout for face in FACES)


def without_dbt(shop: Shop) -> None:
    """Nothing is declared, so that the contract alone judges."""
    (shop.root / "dbt_project.yml").unlink()
    (shop.root / "target" / "manifest.json").unlink()


def test_a_change_that_is_accepted_is_healthy(shop: Shop) -> None:
    shop.sql(DROPPED)
    with shop.contract.open("a", encoding="utf-8") as contract:
        contract.write(
            "exceptions:\n- {rule: column_removed, object: shop.main.fct_orders.status, reason: r, until: 2099-12-31}\n"
        )
    without_dbt(shop)
    for face in ("orders", "order_list", "catalog"):
        (shop.root / "faces" / f"{face}.yml").unlink()
    checked, _ = looked(shop)
    assert (checked.exit_code, checked.reasons) == (0, ())


def test_a_change_that_hits_nobody_is_healthy(shop: Shop) -> None:
    shop.sql("ALTER TABLE daily_revenue DROP COLUMN order_count")
    without_dbt(shop)
    checked, _ = looked(shop)
    assert (checked.exit_code, checked.reasons) == (0, ())


def test_a_warehouse_that_is_not_what_the_manifest_declares_has_drifted(shop: Shop) -> None:
    shop.sql("ALTER TABLE daily_revenue DROP COLUMN order_count")
    checked, memory = looked(shop)
    assert (checked.exit_code, checked.reasons) == (1, ("schema_drift",))
    assert part(checked, "drift").state == "wrong"
    compared = dict(memory.events)["dataface.contract.compared"]
    assert compared["dataface.contract.drift"] == 1


def test_a_name_that_a_new_face_gets_wrong_is_told_with_the_face(shop: Shop) -> None:
    face = (shop.root / "faces" / "orders.yml").read_text("utf-8").replace("fct_orders", "fct_order")
    (shop.root / "faces" / "typo.yml").write_text(face, "utf-8")
    checked, memory = looked(shop)
    assert (checked.exit_code, checked.reasons) == (1, ("object_unknown",))
    (name,) = checked.compared.nowhere
    assert (name.source, [hit.consumer.name for hit in name.hits]) == ("shop", ["faces/typo.yml"])
    resolve = attributes(memory.span("catalog.resolve"))
    assert resolve["dataface.catalog.unresolved"] == 1
    assert resolve["dataface.outcome"] == "degraded"


def test_without_a_contract_it_says_how_to_make_one_and_is_healthy(shop: Shop) -> None:
    shop.contract.unlink()
    done = run(shop, *QUICK)
    assert done.returncode == 0
    assert "context-telemetry contract snapshot" in done.stdout


def test_without_a_contract_a_dropped_column_is_told_by_the_faces_that_use_it(shop: Shop) -> None:
    shop.contract.unlink()
    shop.sql(DROPPED)
    checked, _ = looked(shop)
    assert (checked.exit_code, checked.reasons) == (1, ("object_unknown", "schema_drift"))
    assert {hit.consumer.name for each in checked.compared.nowhere for hit in each.hits} == {
        "faces/orders.yml",
        "faces/order_list.yml",
    }


# -- the manifest ---------------------------------------------------------------------------------


def _stale(manifest: Path) -> None:
    model = next((manifest.parents[1] / "models").rglob("fct_orders.sql"))
    model.write_text("SELECT 1 AS id", "utf-8")


MANIFESTS: dict[str, Callable[[Path], object]] = {
    "manifest_missing": Path.unlink,
    "manifest_unreadable": lambda manifest: manifest.write_text("{", "utf-8"),
    "manifest_incomplete": lambda manifest: manifest.write_text("{}", "utf-8"),
    "manifest_stale": _stale,
    "manifest_substituted": lambda manifest: manifest.rename(manifest.parents[1] / "manifest.snapshot.json"),
}


@pytest.mark.parametrize(("reason", "spoil"), MANIFESTS.items(), ids=MANIFESTS)
def test_a_manifest_that_is_not_right_has_its_reason(
    shop: Shop, reason: str, spoil: Callable[[Path], object]
) -> None:
    spoil(shop.root / "target" / "manifest.json")
    checked, memory = looked(shop)
    assert checked.exit_code == 1
    assert part(checked, "manifest").reasons == (reason,)
    load = attributes(memory.span("manifest.load"))
    assert load["dataface.degradation.reasons"] == (reason,)


def test_a_project_that_is_not_of_dbt_needs_no_manifest(shop: Shop) -> None:
    without_dbt(shop)
    checked, memory = looked(shop)
    assert "manifest" not in states(checked)
    assert "manifest.load" not in {span.name for span in memory.spans}


# -- what cannot be looked at ---------------------------------------------------------------------


def test_a_file_that_a_writer_holds_is_unknown_and_it_is_told_who_holds_it(shop: Shop) -> None:
    with holding(shop) as writer:
        done = run(shop, *QUICK)
        assert done.returncode == 3
        assert f"the process {writer.pid}" in done.stdout
        resolve = next(span for span in spans_in(shop.state) if span.name == "catalog.resolve")
        assert (resolve.outcome, resolve.attributes["error.type"]) == ("failed", "IOException")
        assert resolve.reasons == {"layer_unavailable"}
    assert run(shop, *QUICK).returncode == 0


@contextmanager
def holding(shop: Shop) -> Iterator[subprocess.Popen[str]]:
    """Another process has the file open for writing."""
    with subprocess.Popen(
        [sys.executable, "-c", HELD, str(shop.root / "shop.duckdb")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "open\n"
        try:
            yield writer
        finally:
            writer.communicate("")


def test_what_is_broken_decides_before_what_cannot_be_looked_at(shop: Shop) -> None:
    (shop.root / "target" / "manifest.json").write_text("{", "utf-8")
    with holding(shop):
        assert looked(shop)[0].exit_code == 1


def test_a_contract_that_cannot_be_read_is_unknown(shop: Shop) -> None:
    shop.contract.write_text("version: 99\n", "utf-8")
    checked, memory = looked(shop)
    assert (checked.exit_code, part(checked, "contract").state) == (3, "unknown")
    assert attributes(memory.span("check.run"))["error.type"] == "ContractError"


def test_a_project_file_with_a_mistake_is_unknown_and_named(shop: Shop) -> None:
    (shop.root / "dataface.yml").write_text("sources: [shop]\n", "utf-8")
    checked, _ = looked(shop)
    assert checked.exit_code == 3
    assert "dataface.yml" in part(checked, "contract").found


def test_a_source_that_was_left_out_of_the_contract_is_not_asked(shop: Shop) -> None:
    with (shop.root / "dataface.yml").open("a", encoding="utf-8") as configured:
        configured.write("  lake:\n    type: duckdb\n    path: lake.duckdb\n")
    assert looked(shop)[0].exit_code == 3
    assert shop.run("snapshot", "--without", "lake").exit_code == 0
    checked, memory = looked(shop)
    assert checked.exit_code == 0
    assert len([span for span in memory.spans if span.name == "catalog.resolve"]) == 1


def test_a_server_that_does_not_list_its_tools_is_wrong(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served_tools, "plain", lambda: [sys.executable, "-c", "pass"])
    with recording() as memory:
        checked = Checker(place.find(shop.root, shop.state), Options(None, prompts=False)).look()
    assert (checked.exit_code, part(checked, "tools").state) == (1, "wrong")
    built = attributes(memory.span("context.build"))
    assert (built["dataface.outcome"], built["error.type"]) == ("failed", part(checked, "tools").error_type)


# -- each change is said once ---------------------------------------------------------------------


def said(memory: Memory, name: str) -> list[tuple[Any, ...]]:
    keys = {
        "dataface.contract.changed": ("dataface.degradation.reason", "dataface.contract.state"),
        "dataface.degradation": ("dataface.degradation.reason", "dataface.degradation.state"),
    }
    return sorted(tuple(event[key] for key in keys[name]) for each, event in memory.events if each == name)


def test_over_the_processes_of_a_cron_each_change_is_said_once_and_its_end_too(shop: Shop) -> None:
    assert said(looked(shop)[1], "dataface.contract.changed") == []
    shop.sql(DROPPED)
    first, second = looked(shop)[1], looked(shop)[1]
    opened = [("contract_broken", "opened"), ("schema_drift", "opened")]
    assert said(first, "dataface.contract.changed") == opened
    assert {state for _, state in said(first, "dataface.degradation")} == {"began"}
    for name in ("dataface.contract.changed", "dataface.degradation"):
        assert said(second, name) == []
    shop.sql(RESTORED)
    repaired = looked(shop)[1]
    closed = [(reason, "closed") for reason, _ in opened]
    assert [each for each in said(repaired, "dataface.contract.changed") if each[1] == "closed"] == closed
    began = {reason for reason, _ in said(first, "dataface.degradation")}
    assert {("object_unknown", "cleared"), ("schema_drift", "cleared")} <= set(
        said(repaired, "dataface.degradation")
    )
    assert {reason for reason, _ in said(repaired, "dataface.degradation")} <= began


def test_what_was_not_looked_at_is_not_over(shop: Shop) -> None:
    shop.sql(DROPPED)
    looked(shop)
    with holding(shop):
        _, memory = looked(shop)
    assert said(memory, "dataface.contract.changed") == []
    assert said(memory, "dataface.degradation") == [("layer_unavailable", "began")]
    again = looked(shop)[1]
    assert said(again, "dataface.contract.changed") == []
    assert said(again, "dataface.degradation") == [("layer_unavailable", "cleared")]


def test_a_memory_that_cannot_be_read_or_written_stops_no_look(shop: Shop) -> None:
    folder = project_folder(shop.state, shop.root)
    folder.mkdir(parents=True)
    (folder / FILE).write_text('{"format": 1, "said": 7, "held": [[1], "x"]}', "utf-8")
    assert looked(shop)[0].exit_code == 0
    (folder / FILE).unlink()
    (folder / FILE).mkdir()
    assert looked(shop)[0].exit_code == 0


# -- where it goes --------------------------------------------------------------------------------


def test_a_sink_that_does_not_answer_changes_no_verdict_and_is_told(shop: Shop) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        done = run(
            shop,
            "--json",
            *QUICK,
            OTEL_EXPORTER_OTLP_ENDPOINT=address,
            OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
        )
        took = time.monotonic() - began
    document = json.loads(done.stdout)
    assert (done.returncode, document["delivered"]) == (0, False)
    assert "could not be delivered to the Collector" in done.stderr
    assert took < 60.0


def test_a_state_folder_that_cannot_be_written_changes_no_verdict_and_is_told(shop: Shop) -> None:
    shop.state.write_text("no folder", "utf-8")
    done = run(shop, *QUICK)
    assert done.returncode == 0
    assert "could not be delivered" in done.stderr


def test_switched_off_it_looks_all_the_same_and_records_nothing(shop: Shop) -> None:
    shop.sql(DROPPED)
    done = run(shop, "--json", *QUICK, CONTEXT_TELEMETRY_DISABLED="true")
    document = json.loads(done.stdout)
    assert (done.returncode, document["delivered"], document["trace_id"]) == (1, None, None)
    assert "contract_broken" in document["reasons"]
    assert not shop.state.exists()


def test_a_check_that_is_started_each_minute_is_no_process_to_be_told_of(shop: Shop) -> None:
    from context_telemetry.history import History

    assert run(shop, *QUICK).returncode == 0
    assert History(project_folder(shop.state, shop.root)).processes() == []
    assert not [event for event in events_in(shop.state) if event.name == "context_telemetry.state"]


# -- beside others --------------------------------------------------------------------------------


@pytest.mark.real
def test_it_runs_beside_a_server_of_dashboards_and_one_of_mcp_on_the_same_file(
    shop: Shop, tmp_path: Path
) -> None:
    query = {
        "name": "execute_query",
        "arguments": {"sql": "SELECT count(*) AS n FROM fct_orders", "source": "shop"},
    }
    with (
        httpserver.serving(shop.root, tmp_path / "serve.log", observed=False) as dashboards,
        Raw(shop.root, command=plain()) as tools,
    ):
        tools.initialize()
        page = dashboards.get("/faces/orders.yml")
        answer = tools.request("tools/call", query)["result"]
        done = run(shop, "--json", "--no-tools")
        assert done.returncode == 0, done.stdout + done.stderr
        assert dashboards.get("/faces/orders.yml").status == page.status
        assert tools.request("tools/call", query)["result"] == answer
        assert not answer["isError"]


def test_it_takes_no_lock_for_writing_and_keeps_none(shop: Shop) -> None:
    """While it looks others may read, which a lock for writing would forbid; between looks others may write."""
    database = str(shop.root / "shop.duckdb")
    reader = (
        "import duckdb, sys\nprint('ready', flush=True)\nwhile not sys.stdin.closed:\n"
        "    duckdb.connect(sys.argv[1], read_only=True).close()\n    print('read', flush=True)\n"
    )
    with (
        subprocess.Popen(
            [sys.executable, "-c", reader, database], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as reading,
        served(shop),
        recording(),
    ):
        assert reading.stdout is not None
        assert reading.stdout.readline() == "ready\n"
        drain = threading.Thread(target=lambda: list(reading.stdout or ()), daemon=True)
        drain.start()
        checker = Checker(place.find(shop.root, shop.state), OFF)
        looks = [checker.look().exit_code for _ in range(5)]
        assert reading.poll() is None  # it was never refused
        reading.kill()
        assert looks == [0] * 5
        reading.wait()
        with holding(shop):
            assert checker.look().exit_code == 3
        assert checker.look().exit_code == 0
        duckdb.connect(database).close()


# -- a check that stays ---------------------------------------------------------------------------


@contextmanager
def staying(shop: Shop, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command("--every", "1", *QUICK, *arguments),
        cwd=shop.root,
        env=environment(shop),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_check_that_stays_prints_a_line_for_each_look_and_sees_what_changes(shop: Shop) -> None:
    with staying(shop) as process:
        assert process.stdout is not None
        assert re.fullmatch(r"\S+Z healthy all well \(.+\)\n", process.stdout.readline())
        shop_sql_when_free(shop, DROPPED)
        lines = [process.stdout.readline() for _ in range(2)]
        assert " unhealthy 1 breaking change hits 3 dashboards" in lines[1]
        process.send_signal(signal.SIGTERM)
        process.wait(15)
    assert len([span for span in spans_in(shop.state) if span.name == "check.run"]) >= 3


def shop_sql_when_free(shop: Shop, statement: str) -> None:
    """A writer that is refused for the moment in which somebody reads tries again."""
    for _ in range(50):
        try:
            shop.sql(statement)
            return
        except duckdb.IOException:
            time.sleep(0.05)
    raise AssertionError("the file was never free")


def test_a_check_that_stays_prints_its_document_in_a_line_and_ends_with_ctrl_c(shop: Shop) -> None:
    with staying(shop, "--json") as process:
        assert process.stdout is not None
        for _ in range(2):
            assert json.loads(process.stdout.readline())["state"] == "healthy"
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=15)
    assert process.returncode == 130
    assert "interrupted" in told


def test_a_check_that_stays_asks_for_tools_again_when_something_has_changed(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []
    ask = served_tools.ask

    def counted(root: Path) -> served_tools.Listed:
        asked.append(root)
        return ask(root)

    monkeypatch.setattr(served_tools, "ask", counted)
    with recording() as memory, served(shop):
        checker = Checker(place.find(shop.root, shop.state), Options(None, prompts=False))
        checker.look()
        checked = checker.look()
        assert len(asked) == 1
        assert part(checked, "tools").state == "ok"
        configured = shop.root / "dataface.yml"
        configured.write_text(configured.read_text("utf-8") + "\n", "utf-8")
        checker.look()
        assert len(asked) == 2
        monkeypatch.setattr(check, "TOOLS_SECONDS", 0.0)
        checker.look()
        assert len(asked) == 3
        monkeypatch.setattr(check, "installed_release", lambda: "9.9.9")
        monkeypatch.setattr(check, "TOOLS_SECONDS", 3600.0)
        checker.look()
        assert len(asked) == 4
    assert len([span for span in memory.spans if span.name == "context.build"]) == 4


@pytest.mark.real
def test_a_prompt_of_another_release_than_the_installed_one_is_not_built(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    with recording():
        checker = Checker(place.find(shop.root, shop.state), Options(None, tools=False))
        checker.look()
        monkeypatch.setattr(check, "installed_release", lambda: "9.9.9")
        checked = checker.look()
    assert part(checked, "prompt").state == "absent"
    assert "start it anew" in part(checked, "prompt").found


# -- wrong usage, and the document ----------------------------------------------------------------


@pytest.mark.parametrize("wrong", [("--every", "0"), ("--since", "soon"), ("--project", "/nowhere")])
def test_wrong_usage_has_a_code_of_its_own(shop: Shop, wrong: tuple[str, ...]) -> None:
    assert run(shop, *wrong).returncode == 2


def test_every_key_of_the_document_is_in_the_page(shop: Shop) -> None:
    shop.sql(DROPPED)
    checked, _ = looked(shop, Options(None, prompts=False))
    document = check_screen.document(checked)
    page = (DOCS / "json.md").read_text("utf-8")
    (section,) = re.findall(r"## `check --json`\n\n(.*?)\n(?=\n## |$)", page, re.DOTALL)
    rows = {line.split("`")[1]: line for line in section.splitlines() if line.startswith("| `")}
    assert set(rows) == set(document)
    for key, value in document.items():
        for each in value if isinstance(value, list) else ():
            if isinstance(each, dict):
                assert set(each) <= set(re.findall(r"`(\w+)`", rows[key])), key
    assert document["not_there"][0]["explained"] is True
