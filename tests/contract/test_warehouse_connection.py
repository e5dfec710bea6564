"""The connection of the installed Dataface: every row of the one query, and plain reasons without a host or a secret.

This environment has no adapter of a server's warehouse; on a real PostgreSQL it is tested in `test_postgres`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from contract.catalogues import change, desk
from contract.test_warehouse import unread

from context_telemetry.cli import warehouse_connection
from context_telemetry.cli.warehouse_connection import fetch_for, unread_because
from context_telemetry.contract import catalogue, warehouse
from context_telemetry.contract.sources import SourceConfig, sources
from context_telemetry.contract.warehouse import Unread

OPTIONS = {
    "host": "db7",
    "port": 5499,
    "user": "analyst",
    "password": "open sesame",
    "dbname": "shop",
    "keyfile_json": {"private_key": "opal"},
}
POSTGRES = SourceConfig("dwh", "postgres", OPTIONS)
UNKNOWN = "Dataface's connection to it fails: OperationalError"
WITH_SECRETS = (
    "Runtime Error Credentials in profile \"dft_postgres\" invalid: 'sesame' is not valid; opal at /home/u/key.pem",
    "connected as analyst to db7: open sesame",
    "FATAL: something odd for user Alice on host Zeus with password Sesame",  # plain words, and no option
    "column secret of table Employees is {weird} {0} broken",
)

# Packages that stand before the installed one.
ABSENT = "raise ModuleNotFoundError(\"No module named 'dataface'\", name='dataface')\n"
HANGS = "import time\ntime.sleep(600)\n"
ENDS = "import os\nos._exit(7)\n"


def project(root: Path, text: str) -> Path:
    root.mkdir(exist_ok=True)
    (root / "dataface.yml").write_text("sources:\n  shop:\n" + text)
    return root


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    change(
        tmp_path / "shop.duckdb", "CREATE TABLE numbers AS SELECT i, 'n' || i AS name FROM range(5000) r(i)"
    )
    return project(tmp_path, "    type: duckdb\n    path: shop.duckdb\n")


def test_all_rows_come_whatever_dataface_gives_to_others(shop: Path) -> None:
    (config,) = sources(shop).configs
    rows = list(fetch_for(shop)(config, "SELECT i, name FROM numbers ORDER BY i"))
    assert rows[-1] == [4999, "n4999"]
    assert len(rows) == 5000


def test_what_was_written_since_is_in_the_next_answer(shop: Path) -> None:
    (config,) = sources(shop).configs
    for rows in (5000, 5001):
        assert list(fetch_for(shop)(config, "SELECT count(*) AS n FROM numbers")) == [[rows]]
        change(shop / "shop.duckdb", "INSERT INTO numbers VALUES (-1, 'new')")


def test_nothing_but_a_select_gets_through(shop: Path) -> None:
    (config,) = sources(shop).configs
    with pytest.raises(Unread):
        fetch_for(shop)(config, "DROP TABLE numbers")
    assert list(fetch_for(shop)(config, "SELECT count(*) AS n FROM numbers")) == [[5000]]


def test_a_folder_that_is_told_from_here_is_found(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shop.parent)
    (config,) = sources(shop).configs
    assert list(fetch_for(Path(shop.name))(config, "SELECT 1 AS one")) == [[1]]


def test_an_adapter_that_is_not_installed_is_named_with_what_installs_it(tmp_path: Path) -> None:
    root = project(
        tmp_path,
        "    {type: snowflake, account: x1, user: reader, database: shop, warehouse: small, "
        "password: \"{{ env_var('PW', 'sesame') }}\"}\n",
    )
    (config,) = sources(root).configs
    with desk() as connection:
        served = warehouse.read(catalogue.new(connection), config, root, fetch_for(root))
        assert unread(served) == "dbt-snowflake is not installed: pip install dbt-snowflake"


def test_a_warehouse_that_dataface_has_no_connection_to_is_told(tmp_path: Path) -> None:
    root = project(
        tmp_path,
        "    {type: mysql, host: db7, user: reader, password: \"{{ env_var('PW', 'sesame') }}\", database: shop}\n",
    )
    (config,) = sources(root).configs
    with pytest.raises(Unread) as caught:
        fetch_for(root)(config, warehouse.statement(config))
    assert str(caught.value) == "Dataface has no connection to mysql"


def test_a_secret_that_is_written_out_is_refused_as_dataface_does_and_not_told(tmp_path: Path) -> None:
    root = project(tmp_path, "    {type: mysql, host: db7, user: reader, password: sesame, database: shop}\n")
    (config,) = sources(root).configs
    with pytest.raises(Unread) as caught:
        fetch_for(root)(config, warehouse.statement(config))
    assert str(caught.value) == (
        "Dataface refuses dataface.yml: sources.shop.password is written out; refer to it with env_var()"
    )


@pytest.mark.parametrize(
    ("module", "seconds", "said"),
    [
        (ABSENT, 60, "Dataface is not installed beside this command"),
        (HANGS, 2, "gave no answer within 2 s"),
        (ENDS, 60, "the process that asks it ended with 7 and no answer"),
    ],
)
def test_a_process_that_cannot_ask_is_a_reason_and_no_error(
    shop: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    seconds: float,
    said: str,
) -> None:
    folder = tmp_path_factory.mktemp("before")
    (folder / "dataface").mkdir()
    (folder / "dataface" / "__init__.py").write_text(module)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    )
    (config,) = sources(shop).configs
    with pytest.raises(Unread) as caught:
        fetch_for(shop, seconds)(config, "SELECT 1 AS one")
    assert str(caught.value) == said


@pytest.mark.parametrize("name", ["dataface", "logging", "json"])
def test_a_file_of_the_project_that_is_called_as_a_module_is_not_executed(shop: Path, name: str) -> None:
    (shop / f"{name}.py").write_text("open('executed', 'w').close()\nraise SystemExit(9)\n")
    (config,) = sources(shop).configs
    assert list(fetch_for(shop)(config, "SELECT 1 AS one")) == [[1]]
    assert not (shop / "executed").exists()


def test_importing_it_loads_nothing_of_dataface() -> None:
    assert warehouse_connection.__name__ in sys.modules
    done = os.popen(
        f'{sys.executable} -c "import sys, context_telemetry.cli.warehouse_connection; '
        "print([name for name in sys.modules if name.split('.')[0] in ('dataface', 'dbt')])\""
    ).read()
    assert done.strip() == "[]"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            'Database Error\n  connection to server at "db7" (10.1.2.3), port 5499 failed: Connection refused\n\t'
            "Is the server running on that host and accepting TCP/IP connections?",
            "the server refuses connections: it is down, or listens elsewhere",
        ),
        (
            'could not translate host name "db7.corp.example" to address: Name or service not known',
            "the name of the server leads nowhere",
        ),
        (
            'FATAL:  password authentication failed for user "analyst"',
            "user or password are not accepted",
        ),
        ('FATAL:  database "shop" does not exist', "the database is not there"),
        (
            'FATAL:  permission denied for database "shop"\nDETAIL:  User does not have CONNECT privilege.',
            "the role has no right to read it",
        ),
        (
            "dbt-postgres is not installed. Install it with: pip install dbt-postgres",
            "dbt-postgres is not installed: pip install dbt-postgres",
        ),
        ("", UNKNOWN),
        *((each, UNKNOWN) for each in WITH_SECRETS),
    ],
)
def test_what_a_driver_says_is_told_in_words_of_ours_alone(error: str, said: str) -> None:
    assert str(unread_because(error, "OperationalError", POSTGRES)) == said


def test_what_is_no_class_and_no_code_of_dataface_s_is_not_told() -> None:
    for kind in ("", "open sesame", "db7:5499", "x" * 81):
        assert str(unread_because("odd", kind, POSTGRES)) == "Dataface's connection to it fails"
    assert str(unread_because("odd", "ERR-WAREHOUSE-RUNTIME", POSTGRES)).endswith(": ERR-WAREHOUSE-RUNTIME")


def test_the_kind_of_an_error_is_kept_for_machines() -> None:
    said = "FATAL: password authentication failed"
    assert isinstance(unread_because(said, "", POSTGRES).__cause__, PermissionError)
    assert isinstance(unread_because("Connection refused", "", POSTGRES).__cause__, ConnectionRefusedError)
    assert isinstance(unread_because("nobody knows", "", POSTGRES).__cause__, RuntimeError)
