"""The comparator is a real process that is asked over pipes: what a query met, what it names in vain, and no more."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from contract.catalogues import change
from contract.looks import accept, accepted, except_, held
from otlp_files import Call, Inner, Process

from context_telemetry.cli.served_uses import WEEK, recorded_uses
from context_telemetry.contract import file
from context_telemetry.contract.comparator import Comparator
from context_telemetry.rehearsal.sample import Sample
from context_telemetry.settings import project_folder

STATUS = "shop.main.fct_orders.status"
NOTHING: list[str] = []
BROKEN, DRIFT = ["contract_broken"], ["schema_drift"]
BOTH = BROKEN + DRIFT


class Asked:
    """A comparator and its pipes."""

    def __init__(self, root: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "context_telemetry.cli.comparator", str(root), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self, text: str) -> dict[str, Any]:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def __call__(self, **question: Any) -> dict[str, Any]:
        return self.line(json.dumps(question))

    def look(self) -> dict[str, Any]:
        found: dict[str, Any] = self(look=True)["comparison"]
        return found

    def sql(self, sql: str, source: str = "shop") -> tuple[list[str], list[str]]:
        answer = self(id=1, sql=sql, source=source)
        return answer["reasons"], answer["unknown"]

    def object(self, *name: str | None) -> list[str]:
        answer = self(id=2, object=name)
        assert answer["unknown"] == []
        reasons: list[str] = answer["reasons"]
        return reasons

    def end(self) -> tuple[str, str, int]:
        said, complained = self.process.communicate(timeout=30)
        return said, complained, self.process.returncode


@contextmanager
def asking(root: Path, *options: str) -> Iterator[Asked]:
    """Ends with its stdin, has said nothing else by then, and ended well."""
    asked = Asked(root, *options)
    try:
        yield asked
        assert asked.end() == ("", "", 0)
    finally:
        asked.process.kill()
        asked.process.communicate()


@pytest.fixture(scope="module")
def contracted(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return accepted(sample, tmp_path_factory.mktemp("contracted") / "shop")


@pytest.fixture
def shop(contracted: Sample, tmp_path: Path) -> Path:
    return contracted.copy(tmp_path / "shop").root


# -- what is met ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def changed(contracted: Sample, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """Of a project after a column was dropped and one renamed, a type changed, a table dropped and one added."""
    root = contracted.copy(tmp_path_factory.mktemp("changed") / "shop").root
    change(
        root / "shop.duckdb",
        "ALTER TABLE fct_orders DROP COLUMN status",
        "ALTER TABLE dim_customers RENAME COLUMN country_name TO country",
        "ALTER TABLE daily_revenue ALTER revenue TYPE VARCHAR",
        "ALTER TABLE daily_revenue DROP COLUMN order_count",
        "DROP TABLE dim_products",
        "CREATE TABLE by_hand (a INTEGER)",
    )
    with asking(root) as asked:
        yield asked


@pytest.mark.parametrize(
    ("sql", "reasons", "unknown"),
    [
        ("SELECT status FROM fct_orders", BOTH, []),
        (
            'SELECT count(*) FROM main."fct_orders" o WHERE o.STATUS = ?',
            BOTH,
            [],
        ),
        ("SELECT * FROM shop.main.fct_orders", BOTH, []),
        ("WITH o AS (SELECT * FROM fct_orders) SELECT order_id FROM o", NOTHING, []),
        ("SELECT order_id FROM fct_orders", NOTHING, []),
        ("SELECT count(*) FROM fct_orders", NOTHING, []),
        ("SELECT country_name FROM dim_customers", BOTH, []),
        ("SELECT country FROM dim_customers", NOTHING, []),
        ("SELECT revenue FROM daily_revenue", BROKEN, []),
        ("SELECT order_date FROM daily_revenue", NOTHING, []),
        ("SELECT order_count FROM daily_revenue", DRIFT, []),
        ("SELECT category FROM dim_products", BOTH, []),
        ("SELECT count(*) FROM dim_products", BOTH, []),
        (
            "SELECT status, category FROM fct_orders JOIN fct_order_items USING (order_id) "
            "JOIN dim_products USING (product_id)",
            BOTH,
            [],
        ),
        ("SELECT a FROM by_hand", NOTHING, []),
        ("SELECT a FROM main.nope", NOTHING, ["main.nope"]),
        ("SELECT status, nope FROM fct_orders", BOTH, ["nope"]),
        ("CREATE TEMP TABLE mine AS SELECT order_id FROM fct_orders; SELECT * FROM mine", BOTH, []),
        ("SELECT status FROM {{ ref('fct_orders') }}", NOTHING, []),
        ("SELECT FROM WHERE (", NOTHING, []),
        ("SELECT * FROM 'some/file.csv'", NOTHING, []),
        ("SELECT table_name FROM information_schema.tables", NOTHING, []),
        ("", NOTHING, []),
    ],
)
def test_a_query_meets_what_it_reads_and_names_in_vain_what_never_was_there(
    changed: Asked, sql: str, reasons: list[str], unknown: list[str]
) -> None:
    assert changed.sql(sql) == (reasons, unknown)


@pytest.mark.parametrize(
    ("sql", "unknown"),
    [
        ('SELECT order_id FROM fct_orders WHERE customer_id = "4111-1111"', ["_OTHER"]),
        ('SELECT order_id FROM fct_orders WHERE customer_id IN ("4111-1111", "4222-2222")', ["_OTHER"]),
        ('SELECT order_id FROM fct_orders o WHERE o."alice@example.org" = 1', ["_OTHER"]),
        ('SELECT * FROM "alice@example.org"', ["_OTHER"]),
        ('SELECT * FROM main."alice@example.org"', ["_OTHER"]),
        ('WITH "alice" AS (SELECT order_id FROM fct_orders) SELECT "alice".b FROM "alice"', ["_OTHER"]),
        ('SELECT "status" FROM dim_customers', ["status"]),
        ('SELECT "category" FROM "shop"."main"."fct_orders"', ["category"]),
        ('SELECT "order_count" FROM fct_orders', ["order_count"]),
        ('SELECT "country_name" FROM fct_orders', ["country_name"]),
        ("SELECT nope FROM fct_orders", ["nope"]),
        ('SELECT nope, "nope" FROM fct_orders', ["nope"]),
    ],
)
def test_what_is_in_quotes_may_be_a_value_and_is_told_where_the_project_has_such_a_name_alone(
    changed: Asked, sql: str, unknown: list[str]
) -> None:
    assert changed.sql(sql)[1] == unknown


def test_a_quoted_name_that_is_in_the_contract_alone_is_told(shop: Path) -> None:
    change(shop / "shop.duckdb", 'CREATE TABLE idle (a INTEGER, "Grand total" INTEGER)')
    accept(shop)
    change(shop / "shop.duckdb", 'ALTER TABLE idle DROP COLUMN "Grand total"')
    with asking(shop) as asked:
        assert asked.sql('SELECT "grand total" FROM idle') == (NOTHING, ["grand total"])


def test_a_query_of_a_source_that_is_not_configured_is_not_judged(changed: Asked) -> None:
    assert changed.sql("SELECT status FROM fct_orders", "elsewhere") == (NOTHING, [])


@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        (("shop", "main", "fct_orders", None), BOTH),
        (("shop", "MAIN", "FCT_ORDERS", "STATUS"), BOTH),
        (("shop", "main", "fct_orders", "order_id"), NOTHING),
        (("shop", "main", "dim_products", None), BOTH),
        (("shop", "main", "dim_products", "category"), BOTH),
        (("shop", "main", "dim_customers", "country"), NOTHING),
        (("shop", "main", "by_hand", None), NOTHING),
        (("shop", "main", "nope", None), NOTHING),
        (("shop", "main", None, None), BOTH),
        (("shop", None, None, None), BOTH),
        (("shop", "raw", None, None), NOTHING),
        (("elsewhere", "main", "fct_orders", None), NOTHING),
    ],
)
def test_a_name_meets_what_is_found_of_it(
    changed: Asked, name: tuple[str | None, ...], reasons: list[str]
) -> None:
    assert changed.object(*name) == reasons


def test_a_view_meets_what_the_tables_below_it_are_not_any_more(shop: Path) -> None:
    change(shop / "shop.duckdb", "CREATE VIEW days AS SELECT order_date, revenue FROM daily_revenue")
    change(shop / "shop.duckdb", "DROP VIEW days", "ALTER TABLE daily_revenue ALTER revenue TYPE VARCHAR")
    change(shop / "shop.duckdb", "CREATE VIEW days AS SELECT order_date, revenue FROM daily_revenue")
    with asking(shop) as asked:
        assert asked.sql("SELECT order_date FROM days") == (BROKEN, [])


def test_a_healthy_project_meets_nothing(shop: Path) -> None:
    with asking(shop) as asked:
        assert asked.sql("SELECT status FROM fct_orders") == (NOTHING, [])
        assert asked.sql("SELECT status, nope FROM fct_orders") == (NOTHING, ["nope"])
        assert asked.object("shop", "main", "fct_orders", None) == NOTHING


def test_an_exception_takes_a_change_out_of_the_contract_and_not_out_of_drift(shop: Path) -> None:
    change(shop / "shop.duckdb", "ALTER TABLE fct_orders DROP COLUMN status")
    except_(shop, "column_removed", STATUS)
    with asking(shop) as asked:
        assert asked.sql("SELECT status FROM fct_orders")[0] == DRIFT
        (shop / "target" / "manifest.json").unlink()
        asked.look()
        assert asked.sql("SELECT status FROM fct_orders")[0] == NOTHING


def test_drift_is_met_without_a_contract(project: Path) -> None:
    change(project / "shop.duckdb", "ALTER TABLE fct_orders DROP COLUMN status", "DROP TABLE dim_products")
    with asking(project) as asked:
        assert asked.sql("SELECT status FROM fct_orders")[0] == DRIFT
        assert asked.sql("SELECT 1 FROM dim_products")[0] == DRIFT


def test_more_findings_than_are_told_are_met_too(shop: Path) -> None:
    manifest = json.loads((shop / "target" / "manifest.json").read_text("utf-8"))
    like = manifest["nodes"]["model.shop.fct_orders"]
    for name in (f"gone_{number:04}" for number in range(400)):
        manifest["nodes"][f"model.shop.{name}"] = {
            **like,
            "unique_id": f"model.shop.{name}",
            "name": name,
            "alias": name,
        }
    (shop / "target" / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    with asking(shop) as asked:
        found = asked.look()
        assert (found["drift"], len(found["findings"])) == (400, 256)
        assert asked.sql("SELECT status FROM gone_0399")[0] == DRIFT
        assert asked.object("shop", None, None, None) == DRIFT


# -- looks ----------------------------------------------------------------------------------------


def test_answers_are_by_the_last_look(shop: Path) -> None:
    with asking(shop) as asked:
        assert asked.sql("SELECT status FROM fct_orders") == (NOTHING, [])
        change(shop / "shop.duckdb", "ALTER TABLE fct_orders DROP COLUMN status")
        assert asked.sql("SELECT status FROM fct_orders") == (NOTHING, [])
        assert asked.look()["open"]["tables"]["breaking"] == 1
        assert asked.sql("SELECT status FROM fct_orders") == (BOTH, [])
        change(shop / "shop.duckdb", "ALTER TABLE fct_orders ADD COLUMN status VARCHAR")
        asked.look()
        assert asked.sql("SELECT status FROM fct_orders") == (NOTHING, [])


def test_the_warehouse_is_free_for_a_writer_between_looks(shop: Path) -> None:
    with asking(shop) as asked:
        asked.look()
        change(shop / "shop.duckdb", "CREATE TABLE by_hand (a INTEGER)")
        assert asked.process.poll() is None


def test_of_a_warehouse_that_cannot_be_read_nothing_is_met_and_no_name_is_unknown(shop: Path) -> None:
    change(shop / "shop.duckdb", "ALTER TABLE fct_orders DROP COLUMN status")
    with held(shop / "shop.duckdb"), asking(shop) as asked:
        assert list(asked.look()["unread"]) == ["shop"]
        assert asked.sql("SELECT status, nope FROM fct_orders") == (NOTHING, [])
        assert asked.object("shop", "main", "fct_orders", "status") == NOTHING


@pytest.mark.parametrize("text", ["sources: [shop]\n", "sources:\n  shop: {}\n", "\x00"])
def test_a_project_file_that_cannot_be_read_is_told_and_nothing_is_met(shop: Path, text: str) -> None:
    (shop / "dataface.yml").write_text(text)
    with asking(shop) as asked:
        found = asked.look()
        assert found["problem"].startswith("dataface.yml")
        assert not found["accepted"]
        assert asked.sql("SELECT status FROM fct_orders") == (NOTHING, [])
        assert asked.object("shop", "main", "fct_orders", None) == NOTHING


def test_a_contract_that_is_repaired_counts_from_the_next_look_on(shop: Path) -> None:
    change(shop / "shop.duckdb", "ALTER TABLE fct_orders DROP COLUMN status")
    text = (shop / file.NAME).read_text("utf-8")
    (shop / file.NAME).write_text("version: [\n")
    with asking(shop) as asked:
        assert asked.look()["problem"]
        assert asked.sql("SELECT status FROM fct_orders")[0] == DRIFT
        (shop / file.NAME).write_text(text, "utf-8")
        assert asked.look()["accepted"]
        assert asked.sql("SELECT status FROM fct_orders")[0] == BOTH


def test_many_looks_and_questions_do_not_make_the_process_grow(shop: Path) -> None:
    def resident(pid: int) -> int:
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
        assert found
        return int(found[1])

    if not Path("/proc/self/status").exists():
        return
    with asking(shop) as asked:
        sizes = []
        for number in range(12):
            asked.look()
            for each in range(20):
                asked.sql(f"SELECT status, {each} FROM fct_orders WHERE order_id = {number}")
            sizes.append(resident(asked.process.pid))
    assert sizes[-1] < sizes[3] + 15_000, "KiB"


# -- how often faces were served --------------------------------------------------------------------


def served(found: dict[str, Any]) -> dict[str, int | None]:
    return {each["reason"]: each["served"] for each in found["findings"]}


def test_findings_have_how_often_the_faces_were_served_that_are_hit(shop: Path, tmp_path: Path) -> None:
    folder = project_folder(tmp_path / "state", shop)
    process = Process(folder)
    for ago in (60.0, 50.0, 8 * 86_400.0):
        render = Inner("dashboard.render", {"dataface.face": "faces/orders.yml"})
        process.call(Call(ago=ago, tool="render_dashboard", inner=(render,)))
    process.flush()
    change(shop / "shop.duckdb", "ALTER TABLE fct_orders DROP COLUMN status")
    with asking(shop, "--history", str(folder)) as asked:
        assert served(asked.look()) == dict.fromkeys(BOTH, 2)


def test_a_history_that_is_not_there_or_cannot_be_read_costs_the_numbers_alone(
    shop: Path, tmp_path: Path
) -> None:
    change(shop / "shop.duckdb", "ALTER TABLE fct_orders DROP COLUMN status")
    with asking(shop, "--history", str(tmp_path / "gone")) as asked:
        assert served(asked.look()) == dict.fromkeys(BOTH, None)
    broken = recorded_uses(tmp_path, WEEK, raises=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("context_telemetry.history.History.objects_served", lambda self: 1 / 0)
        found = Comparator(shop, lambda: broken).look()
    assert [(each.reason, each.consumers, each.served) for each in found.findings] == [
        (reason, 3, None) for reason in BOTH
    ]


def test_a_history_is_not_read_where_nobody_is_hit(shop: Path, tmp_path: Path) -> None:
    uses = recorded_uses(tmp_path, WEEK)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("context_telemetry.history.History.objects_served", lambda self: 1 / 0)
        assert Comparator(shop, lambda: uses).look().findings == ()


# -- the process ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("no JSON", {"id": None, "error": "JSONDecodeError"}),
        ("[1]", {"id": None, "error": "TypeError"}),
        ('{"id": 3}', {"id": 3, "error": "ValueError"}),
        ('{"id": 4, "sql": "SELECT 1"}', {"id": 4, "error": "KeyError"}),
        ('{"id": 5, "object": []}', {"id": 5, "error": "TypeError"}),
        ('{"id": 6, "object": 1}', {"id": 6, "error": "TypeError"}),
    ],
)
def test_what_is_no_question_is_answered_with_the_class_of_the_mistake_alone(
    changed: Asked, line: str, answer: dict[str, Any]
) -> None:
    assert changed.line(line) == answer
    assert changed.sql("SELECT 1") == (NOTHING, []), "and the next one as ever"


def test_it_ends_when_nobody_asks_for_a_while(tmp_path: Path) -> None:
    asked = Asked(tmp_path, "--idle", "0.3")
    asked.sql("SELECT 1")
    began = time.monotonic()
    assert asked.process.wait(timeout=30) == 0
    assert time.monotonic() - began < 5
    assert asked.end()[:2] == ("", "")


def test_it_outlives_an_interrupt_that_is_meant_for_its_host(tmp_path: Path) -> None:
    with asking(tmp_path) as asked:
        asked.sql("SELECT 1")
        asked.process.send_signal(signal.SIGINT)
        assert asked.sql("SELECT 1") == (NOTHING, [])


@pytest.mark.skipif(not hasattr(os, "getpriority"), reason="the system has no niceness")
def test_it_gives_way_to_its_host(tmp_path: Path) -> None:
    with asking(tmp_path) as asked:
        asked.sql("SELECT 1")
        own = os.getpriority(os.PRIO_PROCESS, 0)
        assert os.getpriority(os.PRIO_PROCESS, asked.process.pid) == min(19, own + 10)


def test_it_ends_when_nobody_reads_its_answers(tmp_path: Path) -> None:
    asked = Asked(tmp_path)
    asked.sql("SELECT 1")
    assert asked.process.stdin
    assert asked.process.stdout
    asked.process.stdout.close()
    asked.process.stdin.write('{"id": 1, "sql": "SELECT 1", "source": "shop"}\n')
    asked.process.stdin.flush()
    assert asked.process.wait(timeout=30) == 0
    asked.process.stdin.close()
    assert asked.process.stderr
    assert asked.process.stderr.read() == ""
    asked.process.stderr.close()
