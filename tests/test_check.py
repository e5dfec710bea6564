"""`context-telemetry check`: what it looks at, what it says and records, and whom it leaves alone."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import httpserver
import pytest
from conftest import Span, events_in, spans_in
from contract.looks import held
from contract.shops import SERVER, Accepted, Shop, accept
from memory import Memory, attributes, recording
from otlp_files import Call, Inner, Process

from context_telemetry.cli import check, check_screen, place, served_tools, warehouse_connection
from context_telemetry.cli.check import Checked, Checker, Options
from context_telemetry.cli.check_memory import FILE
from context_telemetry.cli.check_parts import Part
from context_telemetry.contract.sources import SourceConfig
from context_telemetry.contract.warehouse import Unread
from context_telemetry.instrumentation import manifest_watch
from context_telemetry.rehearsal.driver import Raw, plain
from context_telemetry.rehearsal.sample import Sample
from context_telemetry.settings import project_folder

DOCS = Path(__file__).parent.parent / "docs"
QUICK = ("--no-tools", "--no-prompts")
OFF = Options(None, tools=False, prompts=False)
DROPPED = "ALTER TABLE fct_orders DROP COLUMN status"
RESTORED = "ALTER TABLE fct_orders ADD COLUMN status VARCHAR"
STATUS = "shop.main.fct_orders.status"
FACES = {"faces/catalog.yml", "faces/order_list.yml", "faces/orders.yml"}
COMPARED = "dataface.contract.compared"


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


def except_status(shop: Shop, until: str = "2099-12-31") -> None:
    with shop.contract.open("a", encoding="utf-8") as contract:
        contract.write(
            f"exceptions:\n- {{rule: column_removed, object: {STATUS}, reason: r, until: {until}}}\n"
        )


def test_a_change_that_is_accepted_is_healthy_with_its_names_and_its_drift(shop: Shop) -> None:
    shop.sql(DROPPED)
    except_status(shop)
    checked, memory = looked(shop)
    assert (checked.exit_code, checked.reasons) == (0, ())
    assert "accepted until 2099-12-31" in part(checked, "source").found
    assert "1 accepted until 2099-12-31" in part(checked, "drift").found
    assert attributes(memory.span("check.run"))["dataface.outcome"] == "ok"
    assert {name.until for name in checked.compared.not_there} == {date(2099, 12, 31)}
    done = run(shop, *QUICK)
    assert done.returncode == 0
    assert "accepted until 2099-12-31: r" in done.stdout


def test_an_exception_covers_its_own_object_alone(shop: Shop) -> None:
    shop.sql(DROPPED, "ALTER TABLE fct_orders DROP COLUMN payment_method")
    except_status(shop)
    checked, _ = looked(shop)
    assert checked.exit_code == 1
    assert {"contract_broken", "schema_drift"} <= set(checked.reasons)
    assert "1 accepted until 2099-12-31" in part(checked, "drift").found
    face = (shop.root / "faces" / "orders.yml").read_text("utf-8").replace("status", "stat")
    shop.sql("ALTER TABLE fct_orders ADD COLUMN payment_method VARCHAR")
    (shop.root / "faces" / "orders.yml").write_text(face, "utf-8")
    checked, _ = looked(shop)
    assert (checked.exit_code, checked.reasons) == (1, ("object_unknown",))


def test_an_exception_that_is_over_covers_nothing(shop: Shop) -> None:
    shop.sql(DROPPED)
    except_status(shop, "2020-01-01")
    checked, _ = looked(shop)
    assert (checked.exit_code, checked.reasons) == (1, ("contract_broken", "object_unknown", "schema_drift"))


def test_a_change_that_hits_nobody_is_healthy(shop: Shop) -> None:
    shop.sql("ALTER TABLE daily_revenue DROP COLUMN order_count")
    without_dbt(shop)
    checked, _ = looked(shop)
    assert (checked.exit_code, checked.reasons) == (0, ())


def test_drift_that_nobody_uses_is_told_and_fails_nothing(shop: Shop) -> None:
    shop.sql("ALTER TABLE daily_revenue DROP COLUMN order_count")
    checked, memory = looked(shop)
    assert (checked.exit_code, checked.reasons) == (0, ())
    assert part(checked, "drift").found == (
        "1 object otherwise than the manifest declares, 1 that nobody uses"
    )
    compared = dict(memory.events)["dataface.contract.compared"]
    assert compared["dataface.contract.drift"] == 1


def test_a_name_that_a_new_face_gets_wrong_is_told_with_the_face(shop: Shop) -> None:
    face = (shop.root / "faces" / "orders.yml").read_text("utf-8").replace("fct_orders", "fct_order")
    (shop.root / "faces" / "typo.yml").write_text(face, "utf-8")
    checked, memory = looked(shop)
    assert (checked.exit_code, checked.reasons) == (1, ("object_unknown",))
    (name,) = checked.compared.not_there
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
    assert {hit.consumer.name for each in checked.compared.not_there for hit in each.hits} == {
        "faces/orders.yml",
        "faces/order_list.yml",
    }


def test_a_face_that_cannot_be_read_is_wrong_and_named(shop: Shop) -> None:
    (shop.root / "faces" / "orders.yml").write_text("queries: [\n", "utf-8")
    checked, memory = looked(shop)
    assert (checked.exit_code, checked.reasons) == (1, ("face_unreadable",))
    assert "faces/orders.yml" in part(checked, "faces").found
    assert attributes(memory.span("check.run"))["dataface.degradation.reasons"] == ("face_unreadable",)
    done = run(shop, *QUICK)
    assert done.returncode == 1
    assert "faces/orders.yml" in done.stdout
    assert "face_unreadable: `dft validate` the faces" in done.stdout
    assert said(memory, "dataface.degradation") == [("face_unreadable", "began")]


def test_a_source_that_is_configured_no_more_is_one_change_with_all_who_use_it(shop: Shop) -> None:
    (shop.root / "dataface.yml").write_text("sources: {}\n", "utf-8")
    checked, _ = looked(shop)
    assert (checked.exit_code, checked.reasons) == (1, ("contract_broken",))
    assert checked.compared.report is not None
    (gone,) = checked.compared.report.changes
    assert (gone.change.rule, gone.change.object) == ("source_removed", "source shop")
    assert {hit.consumer.name for hit in gone.hits} > FACES
    assert (part(checked, "drift").state, part(checked, "drift").found) == ("absent", "no source was read")


def test_whoever_is_hit_by_a_name_is_listed_up_to_a_number(shop: Shop) -> None:
    face = (shop.root / "faces" / "orders.yml").read_text("utf-8").replace("fct_orders", "fct_order")
    for number in range(40):
        (shop.root / "faces" / f"typo{number}.yml").write_text(face, "utf-8")
    done = run(shop, *QUICK)
    assert "40 dashboards" in done.stdout
    assert len([line for line in done.stdout.splitlines() if "faces/typo" in line]) < 40
    assert "more" in done.stdout.splitlines()[-1]


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
    with held(shop.root / "shop.duckdb") as pid:
        done = run(shop, *QUICK)
        assert done.returncode == 3
        assert f"the process {pid}" in done.stdout
        assert "layer_unavailable: wait until that process is done, or end it" in done.stdout
        resolve = next(span for span in spans_in(shop.state) if span.name == "catalog.resolve")
        assert (resolve.outcome, resolve.attributes["error.type"]) == ("failed", "IOException")
        assert resolve.reasons == {"layer_unavailable"}
    assert run(shop, *QUICK).returncode == 0


def _gone(database: Path) -> None:
    database.unlink()


def _cut(database: Path) -> None:
    database.write_bytes(b"cut")


def _folder(database: Path) -> None:
    database.unlink()
    database.mkdir()


@pytest.mark.parametrize(
    ("spoil", "why", "advice"),
    [
        (_gone, "the file is not there", "build it (`dbt build`)"),
        (_cut, "the file is no DuckDB database", "put the file back"),
        (_folder, "a folder is in the place of the file", "put the file back"),
    ],
)
def test_a_warehouse_that_only_a_repair_brings_back_is_wrong_with_what_to_do(
    shop: Shop, spoil: Callable[[Path], None], why: str, advice: str
) -> None:
    spoil(shop.root / "shop.duckdb")
    checked, memory = looked(shop)
    assert (checked.exit_code, checked.reasons) == (1, ("layer_unavailable",))
    source = part(checked, "source")
    assert (source.state, source.found) == ("wrong", f"cannot be read: {why}")
    assert attributes(memory.span("catalog.resolve"))["dataface.outcome"] == "failed"
    done = run(shop, *QUICK)
    assert f"layer_unavailable: {advice}" in done.stdout


def test_what_is_broken_decides_before_what_cannot_be_looked_at(shop: Shop) -> None:
    (shop.root / "target" / "manifest.json").write_text("{", "utf-8")
    with held(shop.root / "shop.duckdb"):
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
    assert looked(shop)[0].exit_code == 1
    assert shop.run("snapshot", "--without", "lake").exit_code == 0
    checked, memory = looked(shop)
    assert checked.exit_code == 0
    assert len([span for span in memory.spans if span.name == "catalog.resolve"]) == 1


def test_a_warehouse_that_is_no_file_and_was_left_out_is_asked_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def refuse(config: SourceConfig, _query: str) -> list[Any]:
        asked.append(config.name)
        raise Unread("not reached from here")

    monkeypatch.setattr(warehouse_connection, "fetch_for", lambda _root: refuse)
    with (shop.root / "dataface.yml").open("a", encoding="utf-8") as configured:
        configured.write("  lake: {type: postgres, host: db7, user: reader, dbname: lake}\n")
    assert shop.run("snapshot", "--without", "lake").exit_code == 0
    assert asked == []
    checked, _ = looked(shop)
    assert (checked.exit_code, asked) == (0, [])
    assert [each.state for each in checked.parts if each.name == "lake"] == ["absent"]


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
    with held(shop.root / "shop.duckdb"):
        _, memory = looked(shop)
    assert said(memory, "dataface.contract.changed") == []
    assert said(memory, "dataface.degradation") == [("layer_unavailable", "began")]
    again = looked(shop)[1]
    assert said(again, "dataface.contract.changed") == []
    assert said(again, "dataface.degradation") == [("layer_unavailable", "cleared")]


@pytest.mark.parametrize("options", [OFF, Options(None, prompts=False)], ids=["not asked", "does not answer"])
def test_a_tool_that_was_broken_is_not_mended_by_a_look_that_knows_no_tools(
    shop: Shop, options: Options
) -> None:
    shop.tools(lambda tools: tools.pop("execute_query"))
    first, broken = looked(shop, Options(None, prompts=False))
    assert first.exit_code == 1
    assert said(broken, "dataface.contract.changed") == [("contract_broken", "opened")]
    parts = [each["dataface.contract.part"] for name, each in broken.events if name == COMPARED]
    assert sorted(parts) == ["tables", "tools"]
    shop.lists.write_text("no list", "utf-8")
    checked, memory = looked(shop, options)
    assert checked.compared.comparison is not None
    assert "tools" not in checked.compared.comparison.open
    assert said(memory, "dataface.contract.changed") == []
    assert [each["dataface.contract.part"] for name, each in memory.events if name == COMPARED] == ["tables"]
    assert ("contract_broken", "cleared") not in said(memory, "dataface.degradation")


def test_what_was_not_delivered_is_said_again_by_the_next_look_of_the_same_process(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed, degraded = "dataface.contract.changed", "dataface.degradation"
    with recording() as memory:
        checker = Checker(place.find(shop.root, shop.state), OFF)

        def look(delivered: bool) -> tuple[list[tuple[Any, ...]], ...]:
            """What is said by one look more."""
            before = [said(memory, name) for name in (changed, degraded)]
            monkeypatch.setattr(checker, "_deliver", lambda: delivered)
            checker.look()
            after = [said(memory, name) for name in (changed, degraded)]
            return tuple(
                sorted((Counter(new) - Counter(old)).elements())
                for new, old in zip(after, before, strict=True)
            )

        look(True)
        shop.sql(DROPPED)
        told = look(False)
        assert told[0] == [("contract_broken", "opened"), ("schema_drift", "opened")]
        assert {state for _, state in told[1]} == {"began"}
        assert look(False) == told
        assert look(True) == told
        assert look(True) == ([], [])


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


def test_a_sink_that_is_not_there_is_told_in_one_line_of_ours(shop: Shop) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    began = time.monotonic()
    done = run(
        shop, "--json", *QUICK, OTEL_EXPORTER_OTLP_ENDPOINT=address, OTEL_EXPORTER_OTLP_PROTOCOL="grpc"
    )
    took = time.monotonic() - began
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert "could not be delivered to the Collector within 3 s" in line
    assert took < json.loads(done.stdout)["seconds"] + 30.0  # the interpreter's start is not in it


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
        with held(shop.root / "shop.duckdb"):
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
            time.sleep(0.05)  # between two tries
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


@pytest.mark.parametrize("as_json", [True, False])
def test_a_look_that_fails_prints_that_nothing_is_known(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    def fail(_checker: Checker) -> Checked:
        raise ZeroDivisionError("of ours")

    whole = check_screen.document(looked(shop)[0])
    monkeypatch.setattr(Checker, "look", fail)
    monkeypatch.setattr(check, "_observed", lambda _place: nullcontext())
    assert check.once(place.find(shop.root, shop.state), OFF, as_json=as_json) == 3
    told = capsys.readouterr().out
    assert "could not be looked at: ZeroDivisionError" in told
    assert "of ours" not in told
    if as_json:
        document = json.loads(told)
        assert (document["state"], document["exit_code"], document["delivered"]) == ("unknown", 3, None)
        assert document.keys() == whole.keys()


def test_what_is_looked_at_is_told_on_a_terminal_and_never_beside_the_document(shop: Shop) -> None:
    leads, follows = pty.openpty()
    told: list[bytes] = []

    def read() -> None:
        with suppress(OSError):
            while chunk := os.read(leads, 4096):
                told.append(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    done = subprocess.run(
        command("--json", *QUICK),
        cwd=shop.root,
        env=environment(shop),
        stdout=subprocess.PIPE,
        stderr=follows,
    )
    os.close(follows)
    reader.join(10)
    os.close(leads)
    assert json.loads(done.stdout)["state"] == "healthy"
    assert b"looking at" in b"".join(told)
    assert "looking at" not in run(shop, *QUICK).stderr


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
