"""Every example in docs/check.md: commands and units are tried, files are read, what is shown is what is said."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from contract.pages import blocks
from contract.shops import Accepted, Shop, accept
from otlp_files import Call, Inner, Process
from test_check import DROPPED, QUICK, command, environment

from context_telemetry.cli import check
from context_telemetry.conventions import names
from context_telemetry.rehearsal.sample import Sample
from context_telemetry.settings import project_folder

PAGE = (Path(__file__).parent.parent / "docs" / "check.md").read_text("utf-8")
_TOOK = re.compile(r"\d+ (?:s|min) ago|just now|\d+(?:\.\d)? m?s ")
SCRIPT = str(Path(sys.executable).with_name("context-telemetry"))


@pytest.fixture(scope="module")
def accepted(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Accepted:
    return accept(sample, tmp_path_factory.mktemp("accepted"))


@pytest.fixture
def shop(accepted: Accepted, tmp_path: Path) -> Shop:
    return accepted.copy(tmp_path)


def options_exist(arguments: list[str]) -> None:
    """Arguments of `context-telemetry` that the command line takes, with one look in place of many."""
    assert arguments[0] == "check", arguments
    told = subprocess.run(
        command("--help"), capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "200"}
    ).stdout
    for option in arguments[1:]:
        assert not option.startswith("--") or option in told, option


def test_what_the_screen_shows_is_what_the_page_shows(shop: Shop) -> None:
    process = Process(project_folder(shop.state, shop.root))
    render = Inner("dashboard.render", {"dataface.face": "faces/order_list.yml"})
    for ago in (40.0, 30.0, 20.0, 10.0):
        process.call(Call(ago=ago, tool="render_dashboard", inner=(render,)))
    process.flush()
    shop.sql(DROPPED)
    done = subprocess.run(
        command(*QUICK), cwd=shop.root, env=environment(shop), capture_output=True, text=True, check=False
    )
    (shown,) = blocks(PAGE, "text")

    def plain(text: str) -> list[str]:
        return [" ".join(_TOOK.sub("", line).split()) for line in text.splitlines()]

    assert plain(done.stdout) == plain(shown)


def test_the_commands_of_the_first_example_exist() -> None:
    (text,) = blocks(PAGE, "sh")
    for line in text.splitlines():
        options_exist(shlex.split(line)[1:])


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    units = {}
    for text in blocks(PAGE, "ini"):
        name = text.splitlines()[0].rpartition("/")[2]
        own = text.replace("/srv/shop/.venv/bin/context-telemetry", SCRIPT)
        own = own.replace("WorkingDirectory=/srv/shop", f"WorkingDirectory={tmp_path}").replace(
            "User=dataface\n", ""
        )
        units[tmp_path / name] = own
    for path, own in units.items():
        path.write_text(own, "utf-8")
    assert {path.name for path in units} == {
        "context-telemetry-check.service",
        "context-telemetry-check.timer",
    }
    (service,) = [text for path, text in units.items() if path.suffix == ".service"]
    (start,) = re.findall(r"^ExecStart=(.+)$", service, re.MULTILINE)
    options_exist(shlex.split(start)[1:])
    if verify := shutil.which("systemd-analyze"):
        done = subprocess.run(
            [verify, "verify", "--man=no", *map(str, units)], capture_output=True, text=True, check=False
        )
        complaints = [
            line for line in (done.stdout + done.stderr).splitlines() if "context-telemetry" in line
        ]
        assert complaints == []


def test_the_lines_of_the_crontab_run(shop: Shop, tmp_path: Path) -> None:
    (text,) = blocks(PAGE, "cron")
    lines = text.splitlines()
    assert [line.split()[:5] for line in lines] == [["*"] * 5, ["7", "*", "*", "*", "*"]]
    quick = lines[0].split(maxsplit=5)[5]
    assert "%" not in text  # cron takes it for the end of the line
    own = quick.replace("/srv/shop", str(shop.root)).replace(".venv/bin/context-telemetry", SCRIPT)
    own = own.replace("/tmp/shop-check.lock", str(tmp_path / "check.lock"))
    done = subprocess.run(
        ["sh", "-c", own], env=environment(shop), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_sidecars_start_a_check_that_stays() -> None:
    documents: list[Any] = [yaml.safe_load(text) for text in blocks(PAGE, "yaml")]
    (pod,) = [each for each in documents if isinstance(each, dict) and each.get("kind") == "Pod"]
    (compose,) = [each for each in documents if isinstance(each, dict) and "services" in each]
    served, checks = pod["spec"]["containers"]
    volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
    assert {mount["name"] for mount in checks["volumeMounts"]} <= volumes
    assert served["volumeMounts"][0]["mountPath"] == checks["workingDir"]
    for words in (checks["args"], compose["services"]["check"]["command"]):
        assert words[0] == "context-telemetry"
        assert words[words.index("--every") + 1] == "60"
        options_exist(words[1:])
    assert set(compose["volumes"]) == {"project"}


def test_the_step_of_ci_writes_the_document(shop: Shop) -> None:
    (steps,) = [each for text in blocks(PAGE, "yaml") if isinstance(each := yaml.safe_load(text), list)]
    (step,) = steps
    words, _, target = step["run"].partition(" > ")
    options_exist(shlex.split(words)[1:])
    assert target == "check.json"


def test_the_page_names_every_exit_code_and_only_reasons_that_exist() -> None:
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)}
    assert codes == {*check.EXIT.values(), 2, 130}
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and "`" in line]
    told = {word for row in rows for word in re.findall(r"`([a-z]+(?:_[a-z]+)+)`", row)}
    assert told <= names.REASONS
    assert {"contract_broken", "schema_drift", "object_unknown", "layer_unavailable"} <= told
