"""`contract check` after real changes of a real DuckDB file, a real dbt project and a real list of tools.

Each change is named with its rule, its level and everybody who is hit, and the exit code says whether it may go on.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from contract.looks import held as held_open
from contract.shops import Accepted, Shop, accept
from otlp_files import Call, Inner, Process

from context_telemetry.cli import served_tools
from context_telemetry.contract.sources import SourceConfig
from context_telemetry.rehearsal.driver import Raw, plain
from context_telemetry.rehearsal.sample import Sample
from context_telemetry.settings import project_folder


@pytest.fixture(scope="module")
def accepted(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Accepted:
    return accept(sample, tmp_path_factory.mktemp("accepted"))


@pytest.fixture
def shop(accepted: Accepted, tmp_path: Path) -> Shop:
    return accepted.copy(tmp_path)


# -- the changes ----------------------------------------------------------------------------------

ORDERS, LIST, CUSTOMERS, REVENUE, CATALOG = "orders", "order_list", "customers", "revenue", "catalog"


class Said(NamedTuple):
    """One change: rule, level, object, and who is hit, as `face: query query` or `tool`."""

    rule: str
    level: str
    object: str
    hits: frozenset[str] = frozenset()


def said(rule: str, level: str, what: str, *hits: str) -> Said:
    return Said(rule, level, what if " " in what else f"shop.{what}", frozenset(hits))


def changes_in(document: dict[str, Any]) -> list[Said]:
    def told(hit: dict[str, Any]) -> str:
        name = hit["name"].removeprefix("faces/").removesuffix(".yml")
        return f"{name}: {' '.join(hit['parts'])}" if hit["parts"] else name

    return [
        Said(each["rule"], each["level"], each["object"], frozenset(map(told, each["hits"])))
        for each in document["changes"]
    ]


CATALOG_ORDERS = f"{CATALOG}: order_columns"
OF_STATUS = (f"{ORDERS}: by_status", f"{LIST}: latest", CATALOG_ORDERS)
OF_REVENUE = (f"{ORDERS}: by_payment", f"{LIST}: latest", f"{CUSTOMERS}: best_customers", CATALOG_ORDERS)
OF_CUSTOMER = (f"{LIST}: latest", f"{CUSTOMERS}: best_customers", CATALOG_ORDERS)
OF_ORDER = (f"{LIST}: latest", CATALOG_ORDERS)
OF_CATEGORY = (f"{REVENUE}: by_product total",)
OF_PRODUCTS = (f"{REVENUE}: by_product total", f"{CATALOG}: tables")
ALL_ORDERS = (
    f"{ORDERS}: by_payment by_status",
    f"{LIST}: latest",
    f"{CUSTOMERS}: best_customers",
    f"{CATALOG}: order_columns tables",
)
BY_DAY = (f"{ORDERS}: by_day",)
OF_DAYS = (*BY_DAY, f"{CATALOG}: tables")
LISTED = (f"{CATALOG}: tables",)

# What is done to the DuckDB file, the exit code of `check`, every change that is told.
SQL: dict[str, tuple[tuple[str, ...], int, list[Said]]] = {
    "a column is dropped": (
        ("ALTER TABLE fct_orders DROP COLUMN status",),
        1,
        [said("column_removed", "breaking", "main.fct_orders.status", *OF_STATUS)],
    ),
    "a column that one face uses is dropped": (
        ("ALTER TABLE fct_orders DROP COLUMN payment_method",),
        1,
        [
            said(
                "column_removed",
                "breaking",
                "main.fct_orders.payment_method",
                f"{ORDERS}: by_payment",
                CATALOG_ORDERS,
            )
        ],
    ),
    "a column that nobody uses is dropped": (
        ("ALTER TABLE daily_revenue DROP COLUMN order_count",),
        0,
        [said("column_removed", "breaking", "main.daily_revenue.order_count")],
    ),
    "a column is renamed": (
        ("ALTER TABLE dim_customers RENAME COLUMN country_name TO country",),
        1,
        [
            said("column_renamed", "breaking", "main.dim_customers.country_name", f"{CUSTOMERS}: by_country"),
            said(
                "column_description_removed",
                "warning",
                "main.dim_customers.country_name",
                f"{CUSTOMERS}: by_country",
            ),
        ],
    ),
    "a number becomes text": (
        ("ALTER TABLE fct_orders ALTER order_revenue TYPE VARCHAR",),
        1,
        [said("type_changed", "breaking", "main.fct_orders.order_revenue", *OF_REVENUE)],
    ),
    "a number gets fewer digits": (
        ("ALTER TABLE fct_orders ALTER order_revenue TYPE FLOAT",),
        1,
        [said("type_narrowed", "breaking", "main.fct_orders.order_revenue", *OF_REVENUE)],
    ),
    "a count gets smaller": (
        ("ALTER TABLE fct_orders ALTER item_count TYPE INTEGER",),
        1,
        [said("type_narrowed", "breaking", "main.fct_orders.item_count", CATALOG_ORDERS)],
    ),
    "a key gets wider": (
        ("ALTER TABLE fct_orders ALTER customer_id TYPE HUGEINT",),
        0,
        [said("type_widened", "warning", "main.fct_orders.customer_id", *OF_CUSTOMER)],
    ),
    "a date becomes a time": (
        ("ALTER TABLE daily_revenue ALTER order_date TYPE TIMESTAMP",),
        1,
        [said("type_changed", "breaking", "main.daily_revenue.order_date", *BY_DAY)],
    ),
    "a column takes no NULL any more": (
        ("ALTER TABLE fct_orders ALTER order_id SET NOT NULL",),
        0,
        [said("required_added", "warning", "main.fct_orders.order_id", *OF_ORDER)],
    ),
    "a column is added": (
        ("ALTER TABLE fct_orders ADD COLUMN note VARCHAR",),
        0,
        [said("column_added", "info", "main.fct_orders.note")],
    ),
    "a table is dropped": (
        ("DROP TABLE daily_revenue",),
        1,
        [said("table_removed", "breaking", "main.daily_revenue", *OF_DAYS)],
    ),
    "a table is renamed": (
        ("ALTER TABLE dim_products RENAME TO products",),
        1,
        [said("table_renamed", "breaking", "main.dim_products", *OF_PRODUCTS)],
    ),
    "a table moves to another schema": (
        (
            "CREATE SCHEMA marts",
            "CREATE TABLE marts.daily_revenue AS FROM daily_revenue",
            "DROP TABLE daily_revenue",
        ),
        1,
        [said("table_renamed", "breaking", "main.daily_revenue", *OF_DAYS)],
    ),
    "a table becomes a view": (
        ("ALTER TABLE daily_revenue RENAME TO days", "CREATE VIEW daily_revenue AS FROM days"),
        0,
        [
            said("table_kind_changed", "info", "main.daily_revenue", *OF_DAYS),
            said("table_added", "info", "main.days"),
        ],
    ),
    "a table is added": (
        ("CREATE TABLE refunds (id INTEGER)",),
        0,
        [said("table_added", "info", "main.refunds")],
    ),
    "a view is dropped that a face lists": (
        ("DROP VIEW stg_payments",),
        1,
        [said("table_removed", "breaking", "main.stg_payments", *LISTED)],
    ),
    "what a view reads is dropped": (
        ("ALTER TABLE raw.payments DROP COLUMN method",),
        1,
        [
            said("table_removed", "breaking", "main.stg_payments", *LISTED),
            said("column_removed", "breaking", "raw.payments.method"),
        ],
    ),
}


def _test_of(name: str, column: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def found(manifest: dict[str, Any]) -> dict[str, Any]:
        node: dict[str, Any]
        (node,) = [
            node
            for key, node in manifest["nodes"].items()
            if key.startswith(f"test.shop.{name}_") and f"_{column}" in key
        ]
        return node

    return found


def without_test(name: str, column: str) -> Callable[[dict[str, Any]], None]:
    def edit(manifest: dict[str, Any]) -> None:
        node = _test_of(name, column)(manifest)
        del manifest["nodes"][node["unique_id"]]

    return edit


def with_values(column: str, change: Callable[[list[str]], object]) -> Callable[[dict[str, Any]], object]:
    return lambda manifest: change(
        _test_of("accepted_values", column)(manifest)["test_metadata"]["kwargs"]["values"]
    )


def of_model(name: str, **said_: Any) -> Callable[[dict[str, Any]], None]:
    def edit(manifest: dict[str, Any]) -> None:
        manifest["nodes"][f"model.shop.{name}"].update(said_)

    return edit


def of_column(model: str, column: str, **said_: Any) -> Callable[[dict[str, Any]], None]:
    def edit(manifest: dict[str, Any]) -> None:
        manifest["nodes"][f"model.shop.{model}"]["columns"][column].update(said_)

    return edit


MANIFEST: dict[str, tuple[Callable[[dict[str, Any]], object], int, list[Said]]] = {
    "a test for NULL is removed": (
        without_test("not_null", "fct_orders_order_revenue"),
        1,
        [said("not_null_removed", "breaking", "main.fct_orders.order_revenue", *OF_REVENUE)],
    ),
    "a new state is accepted": (
        with_values("fct_orders_status", lambda values: values.append("lost")),
        1,
        [said("accepted_values_loosened", "breaking", "main.fct_orders.status", *OF_STATUS)],
    ),
    "a state is accepted no more": (
        with_values("fct_orders_status", lambda values: values.remove("placed")),
        0,
        [said("accepted_values_tightened", "warning", "main.fct_orders.status", *OF_STATUS)],
    ),
    "a department has another name": (
        with_values("dim_products_category", lambda values: values.__setitem__(0, "yard")),
        1,
        [said("accepted_values_changed", "breaking", "main.dim_products.category", *OF_CATEGORY)],
    ),
    "nothing lists the states any more": (
        without_test("accepted_values", "fct_orders_status"),
        1,
        [said("accepted_values_removed", "breaking", "main.fct_orders.status", *OF_STATUS)],
    ),
    "a relationship is tested no more": (
        without_test("relationships", "fct_orders_customer_id"),
        1,
        [said("relationship_removed", "breaking", "main.fct_orders.customer_id", *OF_CUSTOMER)],
    ),
    "a relationship points elsewhere": (
        lambda manifest: _test_of("relationships", "fct_orders_customer_id")(manifest)["test_metadata"][
            "kwargs"
        ].update(to="ref('stg_customers')"),
        1,
        [said("relationship_changed", "breaking", "main.fct_orders.customer_id", *OF_CUSTOMER)],
    ),
    "a column is described no more": (
        of_column("fct_orders", "status", description=""),
        0,
        [said("column_description_removed", "warning", "main.fct_orders.status", *OF_STATUS)],
    ),
    "a table is described no more": (
        of_model("fct_orders", description=""),
        0,
        [said("table_description_removed", "warning", "main.fct_orders", *ALL_ORDERS)],
    ),
    "a row stands for something else": (
        of_model("fct_orders", primary_key=["order_id", "payment_method"]),
        1,
        [said("grain_changed", "breaking", "main.fct_orders", *ALL_ORDERS)],
    ),
    "dbt enforces the contract": (
        of_model("fct_orders", config={"contract": {"enforced": True}, "materialized": "table"}),
        0,
        [said("enforcement_added", "info", "main.fct_orders", *ALL_ORDERS)],
    ),
    "the manifest declares another type than is served": (
        of_column("fct_orders", "status", data_type="integer"),
        0,
        [said("type_not_as_declared", "warning", "main.fct_orders.status", *OF_STATUS)],
    ),
}


def argument(tool: str, name: str, **said_: Any) -> Callable[[dict[str, Any]], None]:
    def edit(tools: dict[str, Any]) -> None:
        tools[tool]["inputSchema"]["properties"].setdefault(name, {}).update(said_)

    return edit


def required(tool: str, name: str) -> Callable[[dict[str, Any]], object]:
    return lambda tools: tools[tool]["inputSchema"].setdefault("required", []).append(name)


def both(*edits: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], None]:
    def edit(tools: dict[str, Any]) -> None:
        for one in edits:
            one(tools)

    return edit


TOOLS: dict[str, tuple[Callable[[dict[str, Any]], object], int, list[Said]]] = {
    "a tool is gone": (
        lambda tools: tools.pop("query_face"),
        1,
        [said("tool_removed", "breaking", "tool query_face", "query_face")],
    ),
    "a tool has another name": (
        lambda tools: tools.update(run_query={**tools.pop("execute_query"), "name": "run_query"}),
        1,
        [said("tool_renamed", "breaking", "tool execute_query", "execute_query")],
    ),
    "a tool is new": (
        lambda tools: tools.update(ping={"name": "ping", "inputSchema": {"type": "object"}}),
        0,
        [said("tool_added", "info", "tool ping")],
    ),
    "a tool needs one more argument": (
        both(argument("execute_query", "warehouse", type="string"), required("execute_query", "warehouse")),
        1,
        [said("required_input_added", "breaking", "tool execute_query: input.warehouse", "execute_query")],
    ),
    "an argument has to be given": (
        required("execute_query", "source"),
        1,
        [said("input_made_required", "breaking", "tool execute_query: input.source", "execute_query")],
    ),
    "an argument takes fewer values": (
        argument("docs", "limit", maximum=10),
        1,
        [said("input_narrowed", "breaking", "tool docs: input.limit", "docs")],
    ),
    "an argument takes more values": (
        argument("docs", "limit", maximum=500),
        0,
        [said("input_widened", "info", "tool docs: input.limit", "docs")],
    ),
    "an argument is another by default": (
        argument("docs", "limit", default=20),
        0,
        [said("input_default_changed", "warning", "tool docs: input.limit", "docs")],
    ),
    "an argument is gone where others are refused": (
        lambda tools: tools["docs"]["inputSchema"]["properties"].pop("limit"),
        1,
        [said("input_removed", "breaking", "tool docs: input.limit", "docs")],
    ),
    "other arguments are refused": (
        lambda tools: tools["execute_query"]["inputSchema"].update(additionalProperties=False),
        1,
        [said("inputs_closed", "breaking", "tool execute_query: input", "execute_query")],
    ),
    "a tool is described otherwise": (
        lambda tools: tools["execute_query"].update(description="Runs SQL."),
        0,
        [said("tool_description_changed", "warning", "tool execute_query", "execute_query")],
    ),
    "a tool's title is another, which nobody judges": (
        lambda tools: tools["execute_query"]["inputSchema"].update(title="Other", description="Other"),
        0,
        [],
    ),
}


@pytest.mark.parametrize("name", SQL)
def test_after_a_change_of_the_duckdb_file_check_names_it_and_who_is_hit(shop: Shop, name: str) -> None:
    statements, code, expected = SQL[name]
    shop.sql(*statements)
    found, document = shop.check()
    assert (found, changes_in(document)) == (code, expected)


@pytest.mark.parametrize("name", MANIFEST)
def test_after_a_change_of_the_dbt_project_check_names_it_and_who_is_hit(shop: Shop, name: str) -> None:
    edit, code, expected = MANIFEST[name]
    shop.manifest(edit)
    found, document = shop.check()
    assert (found, changes_in(document)) == (code, expected)


@pytest.mark.parametrize("name", TOOLS)
def test_after_a_change_of_the_tools_check_names_it_and_who_is_hit(shop: Shop, name: str) -> None:
    edit, code, expected = TOOLS[name]
    shop.tools(edit)
    found, document = shop.check()
    assert (found, changes_in(document)) == (code, expected)


def test_each_of_more_than_thirty_changes_is_another() -> None:
    assert len({*SQL, *MANIFEST, *TOOLS}) == len(SQL) + len(MANIFEST) + len(TOOLS) >= 30


def test_a_resource_that_is_gone_breaks_the_contract_and_one_of_another_kind_too(shop: Shop) -> None:
    def edit(resources: dict[str, Any]) -> None:
        del resources["dataface://docs/all"]
        resources["dataface://dashboards"]["mimeType"] = "text/plain"

    shop.resources(edit)
    code, document = shop.check()
    assert code == 1
    assert ("resource_removed", "breaking", "resource dataface://docs/all", frozenset()) in changes_in(
        document
    )
    assert {each["rule"] for each in document["changes"]} == {"resource_removed", "mime_type_changed"}
    assert {each["who"] for each in document["changes"]} == {"agents that read it"}
    assert document["reason"] == "2 breaking changes"


def test_what_dbt_itself_writes_after_a_change_of_the_models_is_judged(shop: Shop) -> None:
    models = shop.root / "models" / "marts" / "marts.yml"
    models.write_text(
        models.read_text("utf-8").replace("[placed, shipped, completed, returned]", "[placed, lost]")
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("DBT_")}
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "dbt.cli.main",
        "--quiet",
        "parse",
        "--profiles-dir",
        ".",
    ]
    done = subprocess.run(command, cwd=shop.root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    code, document = shop.check("--no-tools")
    assert code == 1
    assert changes_in(document) == [
        said("accepted_values_changed", "breaking", "main.fct_orders.status", *OF_STATUS)
    ]


# -- nothing changed ------------------------------------------------------------------------------


def test_nothing_changed_is_exit_0_and_a_second_snapshot_writes_nothing(shop: Shop) -> None:
    before = {path.name: path.read_bytes() for path in shop.root.glob("context-contract.*")}
    assert sorted(before) == ["context-contract.parquet", "context-contract.yaml"]
    code, document = shop.check()
    assert (code, document["state"], document["changes"], document["tools_compared"]) == (
        0,
        "holds",
        [],
        True,
    )
    done = shop.run("snapshot")
    assert "as they were" in done.stdout
    assert {path.name: path.read_bytes() for path in shop.root.glob("context-contract.*")} == before


def test_what_is_accepted_anew_holds_again(shop: Shop) -> None:
    shop.sql("ALTER TABLE dim_customers RENAME COLUMN country_name TO country")
    assert shop.check("--no-tools")[0] == 1
    assert shop.run("snapshot", "--no-tools").exit_code == 0
    code, document = shop.check()
    assert (code, document["changes"]) == (0, [])
    (unknown,) = yaml.safe_load(shop.contract.read_text("utf-8"))["unknown"]
    assert (unknown["consumer"], unknown["missing"]) == ("faces/customers.yml", "country_name")


def test_diff_tells_every_change_and_exits_0_where_check_exits_1(shop: Shop) -> None:
    shop.sql("ALTER TABLE fct_orders DROP COLUMN status", "ALTER TABLE fct_orders ADD COLUMN note VARCHAR")
    diff, check = shop.run("diff", "--no-tools"), shop.run("check", "--no-tools")
    assert (diff.exit_code, check.exit_code) == (0, 1)
    assert "column_removed" in diff.stdout
    assert "column_added" in diff.stdout
    assert "column_removed" in check.stdout
    assert "column_added" not in check.stdout
    assert "BROKEN" in check.stdout


def test_markdown_has_a_row_for_each_change_and_names_who_is_hit(shop: Shop) -> None:
    shop.sql("ALTER TABLE fct_orders DROP COLUMN status", 'ALTER TABLE fct_orders ADD COLUMN "a|`b<" VARCHAR')
    told = shop.run("diff", "--no-tools", "--markdown").stdout
    assert told.startswith("### Context contract: 1 breaking change hits 3 dashboards\n")
    assert (
        "| **breaking** | `column_removed` | `shop.main.fct_orders.status` | VARCHAR -> nothing | 3" in told
    )
    assert "  - `faces/orders.yml`: `by_status`" in told
    (added,) = [line for line in told.splitlines() if "column_added" in line]
    assert added.replace("\\|", "").count("|") == 6, "what is in a name begins no other cell"


# -- who is hit, and how much ---------------------------------------------------------------------


def test_who_is_hit_is_weighed_by_the_recorded_uses_of_the_window(shop: Shop) -> None:
    process = Process(project_folder(shop.state, shop.root))
    for ago in (60.0, 50.0, 40.0, 3 * 86_400.0):
        render = Inner("dashboard.render", {"dataface.face": "faces/order_list.yml"})
        process.call(Call(ago=ago, tool="render_dashboard", inner=(render,)))
    process.flush()
    shop.sql("ALTER TABLE fct_orders DROP COLUMN status")
    shop.tools(lambda tools: tools.pop("render_dashboard"))
    _, document = shop.check()
    column, tool = (
        next(each for each in document["changes"] if each["rule"] == rule)
        for rule in ("column_removed", "tool_removed")
    )
    assert column["who"] == "3 dashboards, 1 of them opened 4 times this week"
    assert [(hit["name"], hit["served"]) for hit in column["hits"]] == [
        ("faces/order_list.yml", 4),
        ("faces/catalog.yml", 0),
        ("faces/orders.yml", 0),
    ]
    assert tool["who"] == "agents that call render_dashboard: 4 times this week"
    _, day = shop.check("--since", "1d", "--no-tools")
    assert day["changes"][0]["who"] == "3 dashboards, 1 of them opened 3 times in the last day"


def test_what_is_used_most_comes_first(shop: Shop) -> None:
    process = Process(project_folder(shop.state, shop.root))
    render = Inner("dashboard.render", {"dataface.face": "faces/customers.yml"})
    process.call(Call(tool="render_dashboard", inner=(render,)))
    process.flush()
    shop.sql(
        "ALTER TABLE fct_orders DROP COLUMN status", "ALTER TABLE dim_customers DROP COLUMN country_name"
    )
    _, document = shop.check("--no-tools")
    assert [each["column"] for each in document["changes"]] == ["country_name", "status"]


def test_a_face_that_began_to_use_a_column_since_is_hit_too(shop: Shop) -> None:
    (shop.root / "faces" / "new.yml").write_text(
        "title: New\nsource: shop\nqueries: {days: SELECT order_count FROM daily_revenue}\n"
        "charts: {c: {query: days, type: table}}\nrows: [c]\n"
    )
    shop.sql("ALTER TABLE daily_revenue DROP COLUMN order_count")
    code, document = shop.check("--no-tools")
    assert code == 1
    assert changes_in(document) == [
        said("column_removed", "breaking", "main.daily_revenue.order_count", "new: days")
    ]


def test_a_prompt_that_tells_of_everything_is_hit_by_every_column(shop: Shop) -> None:
    text = shop.contract.read_text("utf-8")
    shop.contract.write_text(text.replace("\nconsumers:", "\nprompts: [format_bulk_schema]\nconsumers:"))
    shop.sql("ALTER TABLE daily_revenue DROP COLUMN order_count")
    code, document = shop.check("--no-tools")
    assert (code, document["changes"][0]["who"]) == (1, "1 prompt")
    assert shop.run("snapshot", "--no-tools").exit_code == 0
    assert "prompts: [format_bulk_schema]" in shop.contract.read_text("utf-8"), (
        "it is a person's word, and stays"
    )


# -- exceptions -----------------------------------------------------------------------------------


def except_(shop: Shop, rule: str, what: str, until: date) -> None:
    with shop.contract.open("a", encoding="utf-8") as file:
        file.write(
            f"exceptions:\n  - rule: {rule}\n    object: {what}\n"
            f"    reason: the faces follow in the next release\n    until: {until}\n"
        )


def test_an_exception_covers_its_change_until_its_last_day(shop: Shop) -> None:
    shop.sql("ALTER TABLE fct_orders DROP COLUMN status")
    except_(shop, "column_removed", "shop.main.fct_orders.status", date.today())
    code, document = shop.check("--no-tools")
    assert code == 0
    assert document["changes"][0]["exception"]["reason"] == "the faces follow in the next release"
    assert "accepted until" in shop.run("check", "--no-tools").stdout


def test_an_exception_that_is_over_counts_no_more_and_is_told_with_its_line(shop: Shop) -> None:
    shop.sql("ALTER TABLE fct_orders DROP COLUMN status")
    line = shop.contract.read_text("utf-8").count("\n") + 2
    except_(shop, "column_removed", "shop.main.fct_orders.status", date.today() - timedelta(days=1))
    done = shop.run("check", "--no-tools")
    assert done.exit_code == 1
    assert (
        f"context-contract.yaml:{line}: exceptions: column_removed of shop.main.fct_orders.status"
        in done.stderr
    )
    assert "counts no more" in done.stderr


def test_an_exception_of_another_rule_or_object_covers_nothing_and_is_told(shop: Shop) -> None:
    shop.sql("ALTER TABLE fct_orders DROP COLUMN status")
    except_(shop, "type_changed", "shop.main.fct_orders.status", date.today())
    done = shop.run("check", "--no-tools")
    assert done.exit_code == 1
    assert "covers no change; take it out" in done.stderr


def test_a_snapshot_keeps_the_exceptions(shop: Shop) -> None:
    except_(shop, "column_removed", "shop.main.fct_orders.status", date(2099, 1, 1))
    assert shop.run("snapshot").exit_code == 0
    assert "until: 2099-01-01" in shop.contract.read_text("utf-8")


# -- what cannot be read --------------------------------------------------------------------------


@pytest.fixture
def held(shop: Shop) -> Iterator[int]:
    """A process that serves the warehouse and has it open for writing; its id."""
    with held_open(shop.root / "shop.duckdb") as pid:
        yield pid


def test_a_warehouse_that_another_process_holds_is_unknown_and_not_dropped(shop: Shop, held: int) -> None:
    code, document = shop.check("--no-tools")
    assert (code, document["state"], document["changes"]) == (3, "unknown", [])
    done = shop.run("check", "--no-tools")
    assert (
        f"dataface.yml:2: sources.shop: cannot be read, so nothing is known of it: the process {held}"
        in done.stderr
    )


def test_a_snapshot_of_a_warehouse_that_is_held_writes_nothing(shop: Shop, held: int) -> None:
    before = shop.contract.read_bytes()
    done = shop.run("snapshot")
    assert done.exit_code == 3
    assert f"dataface.yml:2: sources.shop: cannot be read: the process {held}" in done.stderr
    assert "--without shop" in done.stderr
    assert shop.contract.read_bytes() == before
    assert not list(shop.root.glob(".context-contract*"))


def test_a_source_that_is_left_out_is_told_and_not_compared(shop: Shop, held: int) -> None:
    done = shop.run("snapshot", "--no-tools", "--without", "shop")
    assert done.exit_code == 0
    assert "shop: left out" in done.stdout
    code, document = shop.check("--no-tools")
    assert (code, [each["name"] for each in document["left_out"]]) == (0, ["shop"])


def test_a_source_that_is_left_out_is_not_asked_any_more(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def fetch_for(root: Path) -> Callable[[SourceConfig, str], list[tuple[Any, ...]]]:
        def fetch(config: SourceConfig, query: str) -> list[tuple[Any, ...]]:
            asked.append(config.name)
            return []

        return fetch

    monkeypatch.setattr("context_telemetry.cli.warehouse_connection.fetch_for", fetch_for)
    with (shop.root / "dataface.yml").open("a", encoding="utf-8") as project_file:
        project_file.write("  far: {type: postgres, dbname: x}\n")
    assert shop.run("diff", "--no-tools").exit_code == 0
    assert asked == ["far"]
    assert shop.run("snapshot", "--no-tools", "--without", "far").exit_code == 0
    for command in ("check", "diff"):
        assert shop.run(command, "--no-tools").exit_code == 0
    assert asked == ["far"]


def test_a_warehouse_that_is_gone_is_unknown(shop: Shop) -> None:
    (shop.root / "shop.duckdb").unlink()
    code, document = shop.check("--no-tools")
    assert (code, document["unread"]) == (
        3,
        [{"name": "shop", "type": "duckdb", "why": "the file is not there"}],
    )


def test_a_source_that_the_project_names_no_more_is_one_change_that_hits_all_who_read_it(shop: Shop) -> None:
    text = (shop.root / "dataface.yml").read_text("utf-8")
    (shop.root / "dataface.yml").write_text(text.replace("  shop:", "  store:"))
    code, document = shop.check("--no-tools")
    assert code == 1
    (gone,) = [each for each in document["changes"] if each["open"]]
    assert (gone["rule"], gone["object"], gone["who"]) == ("source_removed", "source shop", "5 dashboards")
    assert gone["table"] == {"source": "shop", "schema": None, "table": None}


def test_a_project_file_with_a_mistake_is_told_with_its_line(shop: Shop) -> None:
    (shop.root / "dataface.yml").write_text("sources:\n  shop: duckdb\n")
    done = shop.run("check", "--no-tools")
    assert done.exit_code == 3
    assert "dataface.yml:2: sources.shop: is not a mapping" in done.stderr


def test_a_project_without_a_contract_is_unknown_and_says_how_to_get_one(shop: Shop) -> None:
    shop.contract.unlink()
    done = shop.run("check", "--no-tools")
    assert done.exit_code == 3
    assert "context-telemetry contract snapshot" in done.stderr


def test_a_hand_edited_mistake_is_told_with_file_line_key_and_fix(shop: Shop) -> None:
    text = shop.contract.read_text("utf-8").replace("accepted_values: [garden", "acepted_values: [garden")
    line = next(number for number, each in enumerate(text.splitlines(), 1) if "acepted" in each)
    shop.contract.write_text(text)
    for command in ("check", "diff", "snapshot"):
        done = shop.run(command, "--no-tools")
        assert done.exit_code == 3
        assert (
            f"context-contract.yaml:{line}: tables.shop.main.dim_products.columns.category.acepted_values: "
            "is not known; did you mean accepted_values?"
        ) in done.stderr
    assert shop.contract.read_text("utf-8") == text


def test_a_contract_of_a_newer_version_is_refused(shop: Shop) -> None:
    shop.contract.write_text(shop.contract.read_text("utf-8").replace("version: 1", "version: 2\nfuture: {}"))
    done = shop.run("check", "--no-tools")
    assert done.exit_code == 3
    assert "context-contract.yaml:3: version: 2 is newer than 1" in done.stderr


def test_a_manifest_that_cannot_be_read_is_told_and_nothing_of_it_is_a_change(shop: Shop) -> None:
    (shop.root / "target" / "manifest.json").write_text("{")
    done = shop.run("check", "--no-tools")
    assert done.exit_code == 0, done.output
    assert "nothing is known of what dbt declares: target/manifest.json" in done.stderr


def test_wrong_usage_is_exit_2(shop: Shop) -> None:
    assert shop.run("check", "--json", "--markdown").exit_code == 2
    assert shop.run("check", "--since", "soon").exit_code == 2
    assert shop.run("snapshot", "--no-tools", "--without", "nothing").exit_code == 2


# -- tools that cannot be asked -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ([sys.executable, "-c", "pass"], "the MCP server did not answer: the server closed its output"),
        ([sys.executable, "-c", "print('no JSON', flush=True); input()"], "the MCP server cannot be asked"),
        (["/nowhere/dft", "mcp", "serve"], "the MCP server cannot be asked: dft: No such file or directory"),
    ],
)
def test_tools_of_a_server_that_cannot_be_asked_are_unknown_and_never_removed(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, command: list[str], why: str
) -> None:
    monkeypatch.setattr(Shop, "run", _run_with(command))
    done = shop.run("check", "--json")
    document = json.loads(done.stdout)
    assert (done.exit_code, document["changes"], document["tools_compared"]) == (0, [], False)
    assert why in document["tools_unknown"]
    assert "tools and resources are not known" in done.stderr


def _run_with(command: list[str]) -> Callable[..., Any]:
    from typer.testing import CliRunner

    from context_telemetry.cli.contract import app

    def run(shop: Shop, *arguments: str) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(served_tools, "plain", lambda: command)
            return CliRunner().invoke(app, [*arguments, "--project", str(shop.root)])

    return run


def test_a_snapshot_without_tools_keeps_those_that_were_accepted(shop: Shop) -> None:
    assert shop.run("snapshot", "--no-tools").exit_code == 0
    shop.tools(lambda tools: tools.pop("query_face"))
    assert changes_in(shop.check()[1]) == [said("tool_removed", "breaking", "tool query_face", "query_face")]


def test_the_real_server_lists_what_was_accepted(shop: Shop) -> None:
    listed = served_tools.ask(shop.root)
    assert listed.why is None
    assert listed.tools is not None
    assert {"execute_query", "render_dashboard"} <= set(listed.tools)
    assert listed.resources is not None
    assert "dataface://dashboard/{path}" in listed.resources
    wanted = json.loads(shop.lists.read_text("utf-8"))["tools/list"]["tools"]
    assert sorted(listed.tools) == sorted(one["name"] for one in wanted)


def test_a_project_is_checked_while_a_real_server_serves_it(shop: Shop) -> None:
    query = {
        "name": "execute_query",
        "arguments": {"sql": "SELECT count(*) FROM fct_orders", "source": "shop"},
    }
    with Raw(shop.root, command=plain()) as server:
        server.initialize()
        assert not server.request("tools/call", query)["result"].get("isError")
        assert shop.check("--no-tools")[0] == 0
        assert not server.request("tools/call", query)["result"].get("isError")


# -- against another contract ---------------------------------------------------------------------


@pytest.fixture
def repository(shop: Shop) -> Shop:
    """The project in a folder of a git repository, its contract committed, and then changed and accepted anew."""
    git = shutil.which("git")
    assert git, "CI has git"
    root = shop.root.parent

    def run(*arguments: str) -> None:
        author = ["-c", "user.name=maintainer", "-c", "user.email=maintainer@example.invalid"]
        subprocess.run([git, *author, *arguments], cwd=root, check=True, capture_output=True)

    run("init", "--initial-branch", "main")
    run("add", "shop/context-contract.yaml", "shop/context-contract.parquet")
    run("commit", "-m", "accepted")
    shop.sql("ALTER TABLE dim_customers RENAME COLUMN country_name TO country")
    assert shop.run("snapshot", "--no-tools").exit_code == 0
    return shop


def test_what_is_served_is_compared_with_the_contract_of_a_git_revision(repository: Shop) -> None:
    assert repository.run("check", "--no-tools").exit_code == 0, "it was accepted"
    done = repository.run("diff", "--no-tools", "--json", "--against", "main")
    document = json.loads(done.stdout)
    assert (done.exit_code, document["contract"], document["whole"]) == (
        0,
        "main:context-contract.yaml",
        True,
    )
    assert changes_in(document)[0] == said(
        "column_renamed", "breaking", "main.dim_customers.country_name", f"{CUSTOMERS}: by_country"
    )


def test_a_revision_that_is_not_there_or_has_no_contract_is_told(repository: Shop) -> None:
    for revision in ("v99", "--output=/tmp/x"):
        done = repository.run("diff", "--no-tools", f"--against={revision}")
        assert done.exit_code == 3
        assert f"{revision}: is neither a file nor a revision" in done.stderr


def test_what_is_served_is_compared_with_the_contract_in_a_file(shop: Shop, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    for name in ("context-contract.yaml", "context-contract.parquet"):
        shutil.copy(shop.root / name, kept / name)
    shop.sql("ALTER TABLE dim_customers RENAME COLUMN country_name TO country")
    done = shop.run("diff", "--no-tools", "--json", "--against", str(kept / "context-contract.yaml"))
    assert changes_in(json.loads(done.stdout))[0].rule == "column_renamed"


def test_without_the_whole_catalogue_what_is_relied_on_is_compared_all_the_same(shop: Shop) -> None:
    (shop.root / "context-contract.parquet").unlink()
    assert shop.check("--no-tools")[0] == 0
    shop.sql(
        "ALTER TABLE fct_orders DROP COLUMN status",
        "ALTER TABLE daily_revenue DROP COLUMN order_count",
        "CREATE TABLE refunds (id INTEGER)",
    )
    done = shop.run("check", "--no-tools", "--json")
    assert done.exit_code == 1
    document = json.loads(done.stdout)
    assert changes_in(document) == [said("column_removed", "breaking", "main.fct_orders.status", *OF_STATUS)]
    assert document["not_whole"] == "context-contract.parquet is not beside it"


def test_a_catalogue_of_another_contract_is_not_believed(shop: Shop) -> None:
    path = shop.root / "context-contract.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    _, document = shop.check("--no-tools")
    assert document["not_whole"] == "context-contract.parquet is not the one that it was written with"


def test_what_a_person_writes_in_the_contract_counts_before_the_catalogue(shop: Shop) -> None:
    text = shop.contract.read_text("utf-8").replace(
        "item_count: {type: HUGEINT", "item_count: {type: TINYINT"
    )
    shop.contract.write_text(text)
    _, document = shop.check("--no-tools")
    assert [(each["rule"], each["before"], each["after"]) for each in document["changes"]] == [
        ("type_widened", "TINYINT", "HUGEINT")
    ]


# -- what would go silently, and what is said of it ------------------------------------------------

BROKEN_FACE = "queries: [\n"


def test_a_face_that_cannot_be_read_makes_the_contract_unknown_and_is_named(shop: Shop) -> None:
    (shop.root / "faces" / "orders.yml").write_text(BROKEN_FACE)
    done = shop.run("check", "--no-tools")
    assert done.exit_code == 3
    assert "UNKNOWN" in done.stdout
    assert "1 face cannot be read: faces/orders.yml" in done.stdout
    assert "! faces/orders.yml:2: " in done.stdout
    assert "nothing is known of what faces/orders.yml reads now" in done.stdout
    _, document = shop.check("--no-tools")
    assert [each["name"] for each in document["unreadable"]] == ["faces/orders.yml"]
    told = shop.run("diff", "--no-tools", "--markdown")
    assert (told.exit_code, "faces/orders.yml:2" in told.stdout) == (0, True)


def test_what_an_unreadable_face_relied_on_breaks_the_contract_all_the_same(shop: Shop) -> None:
    (shop.root / "faces" / "orders.yml").write_text(BROKEN_FACE)
    shop.sql("ALTER TABLE fct_orders DROP COLUMN status")
    code, document = shop.check("--no-tools")
    assert code == 1
    assert changes_in(document) == [said("column_removed", "breaking", "main.fct_orders.status", *OF_STATUS)]


def test_a_new_face_that_cannot_be_read_breaks_nothing_that_was_accepted_and_is_told(shop: Shop) -> None:
    (shop.root / "faces" / "new.yml").write_text(BROKEN_FACE)
    done = shop.run("check", "--no-tools")
    assert done.exit_code == 0
    assert "! not known: faces/new.yml: faces/new.yml:2: " in done.stdout
    assert shop.run("snapshot", "--no-tools").exit_code == 0, "the contract has nothing of it to lose"


def test_a_snapshot_does_not_drop_a_face_that_cannot_be_read_unless_it_is_told_to(shop: Shop) -> None:
    before = shop.contract.read_bytes()
    (shop.root / "faces" / "orders.yml").write_text(BROKEN_FACE)
    done = shop.run("snapshot", "--no-tools")
    assert done.exit_code == 3
    assert "faces/orders.yml:2: " in done.stderr
    assert "(consumers.faces/orders.yml)" in done.stderr
    assert "--without faces/orders.yml" in done.stderr
    assert shop.contract.read_bytes() == before
    done = shop.run("snapshot", "--no-tools", "--without", "faces/orders.yml")
    assert done.exit_code == 0, done.output
    document = yaml.safe_load(shop.contract.read_text("utf-8"))
    assert "faces/orders.yml" not in document["consumers"]
    assert "faces/orders.yml" in [each["consumer"] for each in document["unknown"]]
    assert shop.check("--no-tools")[0] == 0, "it was accepted so"


@pytest.mark.parametrize(
    ("content", "why"),
    [(None, "target/manifest.json: is not there"), ('{"nodes": {', "target/manifest.json: cannot be read")],
)
def test_a_snapshot_does_not_drop_what_dbt_declared_unless_it_is_told_to(
    shop: Shop, content: str | None, why: str
) -> None:
    manifest = shop.root / "target" / "manifest.json"
    before = shop.contract.read_bytes()
    if content is None:
        manifest.unlink()
    else:
        manifest.write_text(content)
    done = shop.run("snapshot", "--no-tools")
    assert done.exit_code == 3
    assert why in done.stderr
    assert "dbt parse" in done.stderr
    assert "(tables.shop.main.country_names.model)" in done.stderr
    assert "--without manifest" in done.stderr
    assert shop.contract.read_bytes() == before
    checked = shop.run("check", "--no-tools")
    assert f"! nothing is known of what dbt declares: {why}" in checked.stdout
    assert shop.run("snapshot", "--no-tools", "--without", "manifest").exit_code == 0
    assert "model:" not in shop.contract.read_text("utf-8")


def test_what_can_be_read_is_not_left_out(shop: Shop) -> None:
    before = shop.contract.read_bytes()
    for name in ("manifest", "faces/orders.yml"):
        done = shop.run("snapshot", "--no-tools", "--without", name)
        assert done.exit_code == 2
        assert f"--without {name}: is no source in dataface.yml, and no face or manifest" in done.stderr
    assert shop.contract.read_bytes() == before


@pytest.mark.parametrize("command", ["check", "diff"])
def test_json_is_one_document_of_the_same_keys_where_nothing_could_be_compared(
    shop: Shop, command: str
) -> None:
    well = json.loads(shop.run(command, "--no-tools", "--json").stdout)
    shop.contract.write_text("version: 2\n")
    done = shop.run(command, "--no-tools", "--json")
    document = json.loads(done.stdout)
    assert (done.exit_code, document["exit_code"], document["state"]) == (3, 3, "unknown")
    assert document["problems"] == [document["reason"]]
    assert document["reason"].startswith("context-contract.yaml:1: version: 2 is newer than 1")
    assert document.keys() == well.keys()
    assert well["problems"] == []


def test_json_is_one_document_of_the_same_keys_where_a_snapshot_writes_nothing(shop: Shop) -> None:
    well = json.loads(shop.run("snapshot", "--no-tools", "--json").stdout)
    (shop.root / "shop.duckdb").unlink()
    done = shop.run("snapshot", "--no-tools", "--json")
    document = json.loads(done.stdout)
    assert (done.exit_code, document["exit_code"], document["files"]) == (3, 3, [])
    assert "dataface.yml:2: sources.shop: cannot be read: the file is not there" in document["problems"][0]
    assert document.keys() == well.keys()


def test_every_key_of_the_documents_is_in_the_page(shop: Shop) -> None:
    page = (Path(__file__).parents[2] / "docs" / "json.md").read_text("utf-8")
    for command in ("diff", "snapshot"):
        _, _, rest = page.partition(f"## `contract {command} --json`\n")
        section = rest.partition("\n## ")[0]
        keys = [line.split("`")[1] for line in section.splitlines() if line.startswith("| `")]
        assert set(json.loads(shop.run(command, "--no-tools", "--json").stdout)) == set(keys)


def test_the_screen_says_why_a_source_is_unread_once_and_nothing_of_each_face(shop: Shop) -> None:
    (shop.root / "shop.duckdb").unlink()
    told = shop.run("check", "--no-tools").stdout
    assert (
        "! dataface.yml:2: sources.shop: cannot be read, so nothing is known of it: the file is not there; "
        "5 consumers rely on it"
    ) in told
    assert "! not known" not in told


def test_the_screen_says_that_an_exception_has_expired(shop: Shop) -> None:
    shop.sql("ALTER TABLE fct_orders DROP COLUMN status")
    except_(shop, "column_removed", "shop.main.fct_orders.status", date.today() - timedelta(days=1))
    assert "counts no more; renew it with a reason" in shop.run("check", "--no-tools").stdout


def test_a_day_that_is_none_is_told_with_line_and_key(shop: Shop) -> None:
    line = shop.contract.read_text("utf-8").count("\n") + 5
    with shop.contract.open("a", encoding="utf-8") as file:
        file.write(
            "exceptions:\n  - rule: column_removed\n    object: shop.main.fct_orders.status\n"
            "    reason: later\n    until: 2099-13-01\n"
        )
    done = shop.run("check", "--no-tools")
    assert done.exit_code == 3
    assert f"context-contract.yaml:{line}: until: 2099-13-01: month must be in 1..12" in done.stderr


def test_what_hits_nobody_is_told_in_the_same_words_by_each_command(shop: Shop) -> None:
    shop.sql("ALTER TABLE daily_revenue DROP COLUMN order_count")
    command = [sys.executable, "-m", "context_telemetry.cli", "check", "--no-tools", "--no-prompts"]
    place = ["--project", str(shop.root), "--state-dir", str(shop.state)]
    active = subprocess.run([*command, *place], capture_output=True, text=True)
    diff = shop.run("diff", "--no-tools").stdout
    for told in (shop.run("check", "--no-tools").stdout, diff, active.stdout):
        assert "1 change that hits nobody" in told
    assert "\nunused  column_removed" in diff
    assert "breaking" not in diff


def test_of_many_who_are_hit_the_screen_names_the_first_and_says_how_many_more(shop: Shop) -> None:
    for number in range(30):
        (shop.root / "faces" / f"more_{number}.yml").write_text(
            "title: More\nsource: shop\nqueries: {q: SELECT status FROM fct_orders}\n"
            "charts: {c: {query: q, type: table}}\nrows: [c]\n"
        )
    shop.sql("ALTER TABLE fct_orders DROP COLUMN status")
    told = shop.run("check", "--no-tools").stdout
    assert "33 dashboards" in told
    assert told.count("faces/") == 10
    assert "and 23 more" in told


def test_where_dataface_is_not_installed_that_is_why_tools_are_unknown(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert served_tools.ask(shop.root).why == (
        "Dataface is not installed beside this command; install context-telemetry where Dataface is"
    )
