"""Every example in docs/contract.md: commands are run, files are read, what is shown is what is said."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from contract.pages import blocks
from contract.shops import Accepted, Shop, accept
from otlp_files import Call, Inner, Process

from context_telemetry.contract.document import Contract, dump, parse
from context_telemetry.contract.model import TableKey
from context_telemetry.rehearsal.sample import Sample
from context_telemetry.settings import project_folder

PAGE = (Path(__file__).parents[2] / "docs" / "contract.md").read_text("utf-8")


@pytest.fixture(scope="module")
def accepted(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Accepted:
    return accept(sample, tmp_path_factory.mktemp("accepted"))


@pytest.fixture
def shop(accepted: Accepted, tmp_path: Path) -> Shop:
    return accepted.copy(tmp_path)


def commands(text: str) -> list[list[str]]:
    """The arguments of each `context-telemetry contract` in some lines of a shell."""
    return [
        shlex.split(line.partition(">>")[0], comments=True)[2:]
        for line in text.splitlines()
        if line.startswith("context-telemetry contract ")
    ]


def test_the_commands_of_the_first_example_run(shop: Shop) -> None:
    (text,) = blocks(PAGE, "shell")
    names = []
    for words in commands(text):
        names += words
        done = shop.run(*words)
        assert done.exit_code == 0, done.output
    assert names == ["snapshot", "diff", "check"]


def test_the_file_that_is_explained_is_a_contract() -> None:
    contract = parse(_file(), "docs/contract.md")
    assert contract.tables.keys() == {
        TableKey("shop", "main", "daily_revenue"),
        TableKey("shop", "main", "fct_orders"),
    }
    assert [each.rule for each in contract.exceptions] == ["column_removed"]
    assert parse(dump(contract), "again").tables == contract.tables


def test_every_key_of_the_file_is_explained() -> None:
    rows = re.findall(r"^\| (`[^|]+`) \|", PAGE, re.MULTILINE)
    told = {key for row in rows for key in re.findall(r"`(\w+)`", row)}
    assert set(yaml.safe_load(_file())) - {"version"} <= told
    assert {"missing", "resources"} <= told
    assert Contract.__dataclass_fields__.keys() - {"uses", "digest", "counted", "columns"} <= told


def _file() -> str:
    (text,) = [block for block in blocks(PAGE, "yaml") if block.startswith("version:")]
    return text


def test_the_exception_that_is_explained_covers_its_change(shop: Shop) -> None:
    shop.sql("ALTER TABLE fct_orders DROP COLUMN status")
    assert shop.check("--no-tools")[0] == 1
    with shop.contract.open("a", encoding="utf-8") as contract:
        contract.write(_file()[_file().index("exceptions:") :])
    assert shop.check("--no-tools")[0] == 0


def test_what_the_screen_shows_is_what_the_page_shows(shop: Shop) -> None:
    process = Process(project_folder(shop.state, shop.root))
    render = Inner("dashboard.render", {"dataface.face": "faces/order_list.yml"})
    for ago in (40.0, 30.0, 20.0, 10.0):
        process.call(Call(ago=ago, tool="render_dashboard", inner=(render,)))
    process.flush()
    shop.sql("ALTER TABLE fct_orders DROP COLUMN status")
    assert shop.run("check").stdout == next(block for block in blocks(PAGE, "text") if "BROKEN" in block)


def test_the_mistake_that_is_shown_is_told_so(shop: Shop) -> None:
    (shown,) = [block.strip() for block in blocks(PAGE, "text") if "acepted" in block]
    text = shop.contract.read_text("utf-8").replace("accepted_values: [garden", "acepted_values: [garden")
    shop.contract.write_text(text)
    told = shop.run("check", "--no-tools").stderr.strip().removeprefix("context-telemetry: ")
    assert re.sub(r":\d+:", ":N:", told) == re.sub(r":\d+:", ":N:", shown)


def test_the_ci_workflow_comments_what_a_pull_request_changes_and_fails_when_the_contract_is_broken(
    shop: Shop,
) -> None:
    (text,) = [block for block in blocks(PAGE, "yaml") if block.startswith("name:")]
    steps = yaml.safe_load(text)["jobs"]["contract"]["steps"]
    (diff, check) = [
        words
        for step in steps
        for words in commands(step.get("run", "").replace("origin/$GITHUB_BASE_REF", "main"))
    ]
    author = ["-c", "user.name=maintainer", "-c", "user.email=maintainer@example.invalid"]
    for words in (["init", "--initial-branch", "main"], ["add", "."], ["commit", "-m", "accepted"]):
        subprocess.run(["git", *author, *words], cwd=shop.root, check=True, capture_output=True)
    assert shop.run(*check).exit_code == 0
    shop.sql("ALTER TABLE fct_orders DROP COLUMN status")
    done = shop.run(*diff)
    assert done.exit_code == 0
    assert "| **breaking** | `column_removed` | `shop.main.fct_orders.status` |" in done.stdout
    assert shop.run(*check).exit_code == 1
