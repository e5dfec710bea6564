"""`contract check` on a real PostgreSQL, by Dataface's own connection: what changed, what is not known, and why.

`python3 dev.py postgres` runs it: it needs dbt-postgres, and PostgreSQL, which tools/programs.py gets.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from contract.catalogues import desk
from typer.testing import CliRunner, Result

from context_telemetry.cli.contract import app
from context_telemetry.cli.warehouse_connection import fetch_for
from context_telemetry.contract import catalogue, warehouse
from context_telemetry.contract.sources import sources
from context_telemetry.contract.warehouse import Unread
from tools.processes import free_ports
from tools.programs import program

pytestmark = pytest.mark.stack

READY_SECONDS = 60.0
PASSWORD = "sesame-4711"

TABLES = """
CREATE SCHEMA crm;
CREATE TABLE orders (
    id integer PRIMARY KEY, status varchar(20) NOT NULL, amount numeric(18,2), paid integer, created timestamptz,
    note text
);
CREATE TABLE crm.customers (id integer PRIMARY KEY, name text, "null" text);
CREATE VIEW paid_orders AS SELECT id, paid FROM orders;
CREATE MATERIALIZED VIEW by_month AS
    SELECT date_trunc('month', created) AS month, sum(amount) AS total FROM orders GROUP BY 1;
GRANT USAGE ON SCHEMA crm TO reader;
GRANT SELECT ON ALL TABLES IN SCHEMA public, crm TO reader;
"""
FACES = {
    "orders": "by_status: SELECT status, sum(amount) AS amount FROM orders GROUP BY status",
    "paid": "latest: SELECT id, paid FROM paid_orders",
    "months": "all: SELECT month, total FROM public.by_month",
    "customers": 'names: SELECT name, "null" FROM crm.customers',
}
SOURCES = """
sources:
  shop:
    type: postgres
    host: 127.0.0.1
    port: "{{ env_var('SHOP_PORT') }}"
    dbname: "{{ env_var('SHOP_DATABASE') }}"
    user: "{{ env_var('SHOP_USER', 'reader') }}"
    password: "{{ env_var('SHOP_PASSWORD') }}"
"""
BY_PROFILE = """
sources:
  shop: {type: dbt_profile, profile: shop}
"""
PROFILES = """
shop:
  target: prod
  outputs:
    prod:
      type: postgres
      host: 127.0.0.1
      port: "{{ env_var('SHOP_PORT') | as_number }}"
      dbname: "{{ env_var('SHOP_DATABASE') }}"
      schema: public
      user: reader
      password: "{{ env_var('SHOP_PASSWORD') }}"
      threads: 4
"""


# -- the server -----------------------------------------------------------------------------------


@dataclass
class Server:
    """A PostgreSQL of its own: data in a temporary folder, a free port of this machine, ended by its process id."""

    folder: Path
    binaries: Path
    port: int
    running: subprocess.Popen[bytes] | None = None
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def _user(self) -> str | None:
        return "postgres" if os.geteuid() == 0 else None  # it refuses to run as root

    def make(self) -> None:
        word = self.folder / "password"
        word.write_text(PASSWORD)
        if self._user:
            for path in (self.folder, word):
                shutil.chown(path, self._user)
        subprocess.run(
            [self.binaries / "initdb", "-D", self.folder / "data", "-U", "owner", "--pwfile", word, "--no-sync",
             "-A", "scram-sha-256", "-E", "UTF8"],
            check=True, capture_output=True, user=self._user,
        )  # fmt: skip
        self.start()
        self.sql("postgres", f"CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'", "CREATE DATABASE shop")
        self.sql("shop", *TABLES.split(";\n"))

    def start(self) -> None:
        options = {
            "port": str(self.port), "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"
        }  # fmt: skip
        with (self.folder / "log").open("ab") as log:
            self.running = subprocess.Popen(
                [self.binaries / "postgres", "-D", self.folder / "data",
                 *(word for name, value in options.items() for word in ("-c", f"{name}={value}"))],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, user=self._user,
            )  # fmt: skip
        deadline = time.monotonic() + READY_SECONDS
        while subprocess.run(
            [self.binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)], check=False
        ).returncode:
            assert self.running.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.05)  # between two looks at whether it answers

    def stop(self) -> None:
        if self.running is not None:
            self.running.send_signal(signal.SIGQUIT)  # at once: nothing of it is kept, or it recovers
            self.running.wait(READY_SECONDS)
            self.running = None

    def sql(self, database: str, *statements: str) -> None:
        import psycopg2

        connection = psycopg2.connect(
            host="127.0.0.1", port=self.port, dbname=database, user="owner", password=PASSWORD
        )
        connection.autocommit = True
        with connection.cursor() as cursor:
            for statement in filter(str.strip, statements):
                cursor.execute(statement)
        connection.close()

    def copy(self) -> str:
        """A database like `shop`, to be changed."""
        name = f"shop_{next(self._numbers)}"
        self.sql("postgres", f"CREATE DATABASE {name} TEMPLATE shop")
        return name


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    binaries = program("postgres").resolve().parent
    with tempfile.TemporaryDirectory(prefix="context-telemetry-postgres-") as folder:
        made = Server(Path(folder), binaries, free_ports(1)[0])
        try:
            made.make()
            yield made
        finally:
            made.stop()


# -- a project on it ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shop:
    root: Path
    server: Server
    database: str

    def sql(self, *statements: str) -> None:
        self.server.sql(self.database, *statements)

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--no-tools", "--project", str(self.root)])

    def check(self) -> tuple[int, dict[str, Any]]:
        done = self.run("check", "--json")
        assert done.stdout, done.output
        return done.exit_code, json.loads(done.stdout)

    def why(self) -> str:
        """Why the source cannot be read; it has exit code 3 and no change."""
        code, document = self.check()
        assert (code, document["state"], document["changes"]) == (3, "unknown", [])
        ((name, why),) = [(each["name"], each["why"]) for each in document["unread"]]
        assert name == "shop"
        return str(why)


def project(root: Path, text: str) -> Path:
    (root / "faces").mkdir(parents=True)
    (root / "dataface.yml").write_text(text)
    for name, query in FACES.items():
        (root / "faces" / f"{name}.yml").write_text(
            f"title: {name}\nsource: shop\nqueries:\n  {query}\n"
            f"charts: {{c: {{query: {query.partition(':')[0]}, type: table}}}}\nrows: [c]\n"
        )
    if text == BY_PROFILE:
        (root / "dbt_project.yml").write_text("name: shop\nprofile: shop\n")
        (root / "profiles.yml").write_text(PROFILES)
    return root


@pytest.fixture(scope="module")
def accepted(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose contract was accepted on the database `shop`."""
    root = project(tmp_path_factory.mktemp("accepted") / "shop", SOURCES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOP_PORT", str(server.port))
        patch.setenv("SHOP_DATABASE", "shop")
        patch.setenv("SHOP_PASSWORD", PASSWORD)
        done = Shop(root, server, "shop").run("snapshot")
    assert done.exit_code == 0, done.output
    assert "4 consumers rely on 8 of 13 columns in 4 of 4 tables" in done.output
    return root


@pytest.fixture
def untouched(accepted: Path, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """The accepted project on the database as it was accepted."""
    monkeypatch.setenv("SHOP_PORT", str(server.port))
    monkeypatch.setenv("SHOP_DATABASE", "shop")
    monkeypatch.setenv("SHOP_PASSWORD", PASSWORD)
    return Shop(Path(shutil.copytree(accepted, tmp_path / "shop")), server, "shop")


@pytest.fixture
def shop(untouched: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """The same with a database of its own, to be changed."""
    database = untouched.server.copy()
    monkeypatch.setenv("SHOP_DATABASE", database)
    return replace(untouched, database=database)


# -- what is served -------------------------------------------------------------------------------


def test_tables_views_and_materialised_views_are_read_with_their_types(untouched: Shop) -> None:
    (config,) = sources(untouched.root).configs
    with desk() as connection:
        served = warehouse.read(catalogue.new(connection), config, untouched.root, fetch_for(untouched.root))
        rows = connection.execute(
            'SELECT "schema", "table", "column", "type", "nullable" '
            f'FROM {served.catalogue.columns} ORDER BY "schema", "table", "position"'
        ).fetchall()
    assert rows == [
        ("crm", "customers", "id", "integer", False),
        ("crm", "customers", "name", "text", True),
        ("crm", "customers", "null", "text", True),
        ("public", "by_month", "month", "timestamp with time zone", True),
        ("public", "by_month", "total", "numeric", True),
        ("public", "orders", "id", "integer", False),
        ("public", "orders", "status", "character varying(20)", False),
        ("public", "orders", "amount", "numeric(18,2)", True),
        ("public", "orders", "paid", "integer", True),
        ("public", "orders", "created", "timestamp with time zone", True),
        ("public", "orders", "note", "text", True),
        ("public", "paid_orders", "id", "integer", True),
        ("public", "paid_orders", "paid", "integer", True),
    ]


CHANGES: dict[str, tuple[tuple[str, ...], int, list[tuple[str, str, list[str]]]]] = {
    "nothing": ((), 0, []),
    "a column is dropped": (
        ("ALTER TABLE orders DROP COLUMN status",),
        1,
        [("column_removed", "public.orders.status", ["orders"])],
    ),
    "a column that nobody uses is dropped": (
        ("ALTER TABLE orders DROP COLUMN note",),
        0,
        [("column_removed", "public.orders.note", [])],
    ),
    "a column is renamed": (
        ("ALTER TABLE orders RENAME COLUMN status TO order_status",),
        1,
        [("column_renamed", "public.orders.status", ["orders"])],
    ),
    "a column has another type": (
        ("ALTER TABLE crm.customers ALTER COLUMN name TYPE integer USING 0",),
        1,
        [("type_changed", "crm.customers.name", ["customers"])],
    ),
    "a table is dropped": (
        ("DROP TABLE crm.customers",),
        1,
        [("table_removed", "crm.customers", ["customers"])],
    ),
    "a materialised view is dropped": (
        ("DROP MATERIALIZED VIEW by_month",),
        1,
        [("table_removed", "public.by_month", ["months"])],
    ),
    "a column is dropped with the view that reads it": (
        ("ALTER TABLE orders DROP COLUMN paid CASCADE",),
        1,
        [("column_removed", "public.orders.paid", []), ("table_removed", "public.paid_orders", ["paid"])],
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_told_with_whom_it_hits(shop: Shop, change: str) -> None:
    statements, code, told = CHANGES[change]
    shop.sql(*statements)
    ended, document = shop.check()
    found = [
        (
            each["rule"],
            each["object"].removeprefix("shop."),
            [
                hit["name"].removeprefix("faces/").removesuffix(".yml")
                for hit in each["hits"]
                if hit["kind"] == "face"
            ],
        )
        for each in document["changes"]
        if each["level"] == "breaking"
    ]
    assert (ended, sorted(found), document["unread"]) == (code, sorted(told), [])


def test_a_dbt_profile_leads_to_the_same_warehouse(shop: Shop, tmp_path: Path) -> None:
    root = project(tmp_path / "profile", BY_PROFILE)
    for name in ("context-contract.yaml", "context-contract.parquet"):
        shutil.copy(shop.root / name, root / name)
    by_profile = Shop(root, shop.server, shop.database)
    assert by_profile.check()[0] == 0
    shop.sql("ALTER TABLE orders DROP COLUMN status")
    code, document = by_profile.check()
    assert (code, [each["object"] for each in document["changes"]]) == (1, ["shop.public.orders.status"])


# -- what is not known ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("REVOKE SELECT ON crm.customers FROM reader", "the role may not read crm.customers"),
        ("REVOKE USAGE ON SCHEMA crm FROM reader", "the role may not read crm.customers"),
        (
            "REVOKE SELECT ON orders FROM reader; GRANT SELECT (id, amount, paid, created) ON orders TO reader",
            "the role may not read public.orders.status",
        ),
    ],
)
def test_a_right_that_was_revoked_is_unknown_and_not_removed(shop: Shop, statement: str, why: str) -> None:
    shop.sql(statement)
    assert shop.why() == why


def test_a_right_that_was_revoked_is_told_with_the_line_of_the_source(shop: Shop) -> None:
    shop.sql("REVOKE SELECT ON crm.customers, by_month FROM reader")
    done = shop.run("check")
    assert done.exit_code == 3
    assert (
        "dataface.yml:3: sources.shop: cannot be read in full: the role may not read crm.customers, public.by_month"
        in done.stderr
    )


def test_a_right_that_nobody_needs_is_no_question(shop: Shop) -> None:
    shop.sql("CREATE TABLE secrets (id integer)", "REVOKE SELECT ON orders FROM reader")
    shop.sql("GRANT SELECT (id, status, amount, paid, created) ON orders TO reader")
    code, document = shop.check()
    assert (code, document["unread"]) == (0, [])


def test_a_database_that_the_role_may_not_enter_is_unknown(shop: Shop) -> None:
    shop.sql(f"REVOKE CONNECT ON DATABASE {shop.database} FROM PUBLIC")
    assert shop.why() == "the role has no right to read it"


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("SHOP_PASSWORD", "mellon-0815", "user or password are not accepted"),
        ("SHOP_DATABASE", "gone", "the database is not there"),
        (
            "SHOP_PORT",
            str(free_ports(1)[0]),
            "the server refuses connections: it is down, or listens elsewhere",
        ),
    ],
)
def test_a_warehouse_that_cannot_be_reached_is_unknown_and_says_why_without_what_is_secret(
    untouched: Shop, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, why: str
) -> None:
    monkeypatch.setenv(variable, value)
    done = untouched.run("check")
    assert done.exit_code == 3
    assert f"dataface.yml:3: sources.shop: cannot be read, so nothing is known of it: {why}" in done.stderr
    for secret in ("127.0.0.1", str(untouched.server.port), PASSWORD, value, str(untouched.root)):
        assert secret not in done.output


def test_a_variable_that_is_not_set_is_named(untouched: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHOP_PASSWORD")
    assert untouched.why() == "the environment variable SHOP_PASSWORD is not set"


def test_a_server_that_went_down_keeps_the_accepted_contract(untouched: Shop) -> None:
    before = (untouched.root / "context-contract.yaml").read_bytes()
    untouched.server.stop()
    try:
        assert untouched.why() == "the server refuses connections: it is down, or listens elsewhere"
        done = untouched.run("snapshot")
    finally:
        untouched.server.start()
    assert done.exit_code == 3
    assert "--without shop" in done.stderr
    assert (untouched.root / "context-contract.yaml").read_bytes() == before
    assert untouched.check()[0] == 0, "it is up again"


def test_a_server_that_says_nothing_is_given_up(untouched: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("SHOP_PORT", str(silent.getsockname()[1]))
        (config,) = sources(untouched.root).configs
        with pytest.raises(Unread) as caught:
            fetch_for(untouched.root, seconds=5)(config, warehouse.statement(config))
        assert str(caught.value) in ("gave no answer within 5 s", "gave no answer in time")
