"""Every command of a runbook that is for one machine, run in the state that the runbook is for.

Diagnosis shows what the page says and changes nothing, the mitigation heals, the rollback undoes it. The states are
made on copies of the sample project with real faults and real calls. Where a state needs what cannot be had here (a
private package, a slow warehouse), a host of the library's public API stands for it, and its row says so.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path

import pytest
from conftest import WATCH, spans_in

from context_telemetry.conventions import names
from context_telemetry.ops import inputs, runbooks
from context_telemetry.ops.runbooks import Block, blocks
from context_telemetry.rehearsal import driver
from context_telemetry.rehearsal.driver import Call, tool
from context_telemetry.rehearsal.faults import fault
from context_telemetry.rehearsal.sample import DATABASE, MANIFEST, Sample

PAGES = {
    Path(path).stem: text for path, text in runbooks.files(inputs.defaults()).items() if path.endswith(".md")
}
LOCAL = {name for name, page in PAGES.items() if any(block.where == "local" for block in blocks(page))}

Step = Callable[["Machine"], None]


@dataclass
class Machine:
    """One machine that serves a project: where it is, and what a shell there knows."""

    project: Path
    state_dir: Path
    variables: dict[str, str]
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def environ(self) -> dict[str, str]:
        scripts = str(Path(sys.executable).parent)
        return {
            **os.environ,
            "PATH": os.pathsep.join([scripts, os.environ["PATH"]]),
            "COLUMNS": "160",
            "CONTEXT_TELEMETRY_STATE_DIR": str(self.state_dir),
            **self.variables,
        }

    def shell(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-e", "-c", command],
            cwd=self.project,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )

    def serve(
        self, *calls: Call, before: Mapping[int, Callable[[], object]] | None = None, shell: str = ""
    ) -> None:
        """One session of an observed server, which gets the calls in turn."""

        async def send(client: driver.Client) -> None:
            for index, call in enumerate(calls):
                (before or {}).get(index, lambda: None)()
                await client.send(call)

        start = ["sh", "-c", f'{shell} exec "$@"', "sh", *driver.observed()] if shell else driver.observed()
        # Off, as for other tests: a process beside each server costs time.
        steered = {name: value for name, value in self.variables.items() if name.startswith(driver.STEERING)}
        env = {"CONTEXT_TELEMETRY_STATE_DIR": str(self.state_dir), WATCH: "false", **steered}
        driver.with_session(self.project, send, command=start, env=env)

    def host(self, code: str) -> None:
        """A host program that uses the library's public API in this project."""
        start = "import time, context_telemetry\nfrom context_telemetry import operation\n"
        env = {**self.environ, "CONTEXT_TELEMETRY_PROJECT": str(self.project)}
        subprocess.run([sys.executable, "-c", start + code], cwd=self.project, env=env, check=True)

    def files(self) -> dict[str, bytes]:
        """What the project consists of, without what dbt, git and renders leave beside it."""
        left = {".git", "renders", "logs", "__pycache__"}
        return {
            str(path): (self.project / path).read_bytes()
            for path in sorted(
                each.relative_to(self.project) for each in self.project.rglob("*") if each.is_file()
            )
            if not left & set(path.parts) and (path.parts[0] != "target" or path == MANIFEST)
        }


@dataclass(frozen=True)
class State:
    """How a machine gets into the state of a runbook, what its reader knows, and what users do once it is repaired."""

    make: Step
    variables: Mapping[str, str] = field(default_factory=dict)
    asked_again: Step = lambda machine: None


# -- the states


def meet(name: str, times: int = 1) -> Step:
    """A session in which the fault begins after a healthy call, with the calls that meet it, so often."""

    def make(machine: Machine) -> None:
        met = fault(name)

        def begin() -> None:
            met.inject(machine.project)
            time.sleep(met.settles)  # so long the worker may take to see it, as the fault's row says

        calls = [meeting.call for meeting in met.meetings] * times
        machine.serve(met.twin, *calls, before={1: begin})

    return make


def _twin(name: str) -> Step:
    return lambda machine: machine.serve(fault(name).twin)


def _unobserved(machine: Machine) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [driver.plain()[0], "serve", "--port", str(port)]
    null = subprocess.DEVNULL
    machine.running.append(
        subprocess.Popen(
            command, cwd=machine.project, env=machine.environ, stdin=null, stdout=null, stderr=null
        )
    )


def _asked_about_a_failed_call(machine: Machine) -> None:
    """The reader has the error code and the fingerprint of a call that met it."""
    meet("sources_removed")(machine)
    (call,) = (each for each in spans_in(machine.state_dir) if each.entry and each.outcome == "failed")
    machine.variables["CODE"] = str(call.attributes[names.DATAFACE_ERROR_CODE])
    machine.variables["FINGERPRINT"] = str(call.attributes[names.DATAFACE_CONTEXT_FINGERPRINT])


def _database_replaced(machine: Machine) -> None:
    def replace() -> None:
        shutil.copy2(machine.project / DATABASE, machine.project / "other.duckdb")
        os.replace(machine.project / "other.duckdb", machine.project / DATABASE)

    machine.serve(_CATALOGUE, _CATALOGUE, before={1: replace})


def _manifest_of_forty_days_ago(machine: Machine) -> None:
    manifest = machine.project / MANIFEST
    built = datetime.now(timezone.utc) - timedelta(days=40)
    content = json.loads(manifest.read_text("utf-8"))
    content["metadata"]["generated_at"] = built.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    manifest.write_text(json.dumps(content), "utf-8")
    machine.serve(_CATALOGUE)


def _descriptions_lost(machine: Machine) -> None:
    """Seen once with all of them; then a change takes one away and dbt runs."""
    wait = partial(time.sleep, 2.0)
    machine.serve(_CATALOGUE, before={0: wait})
    file = machine.project / "models/marts/marts.yml"
    text = file.read_text("utf-8")
    first = re.search(r"\n\s+description: [^\n]+", text[text.index("columns:") :])
    assert first is not None
    file.write_text(text.replace(first[0], "", 1), "utf-8")
    assert machine.shell("dbt parse").returncode == 0
    machine.serve(_CATALOGUE, _CATALOGUE, before={0: wait})


def _has_said(machine: Machine, event: str) -> None:
    """Waits until a process has said an event, in its files; for what is compared beside the calls."""
    deadline = time.monotonic() + 60
    while not any(
        f'"{event}"' in path.read_text("utf-8") for path in machine.state_dir.rglob("events-*.jsonl")
    ):
        assert time.monotonic() < deadline, f"nobody has said {event}"
        time.sleep(0.2)  # between two looks at the files


def _contract_accepted(machine: Machine) -> None:
    who = "-c user.name=deployment -c user.email=deployment@localhost"
    accept = f"context-telemetry contract snapshot --no-tools && git add . && git {who} commit -q -m accepted"
    done = machine.shell(accept)
    assert done.returncode == 0, done.stdout


def _contract_broken(machine: Machine) -> None:
    """A column that faces use goes past dbt; a server that was started after it meets that."""
    _contract_accepted(machine)
    met = fault("column_dropped")
    met.inject(machine.project)
    compared = partial(_has_said, machine, names.EVENT_DATAFACE_CONTRACT_COMPARED)
    orders = met.meetings[1].call
    machine.serve(
        met.meetings[-1].call,
        tool("execute_query", sql="SELECT 1", source="shop"),
        orders,
        before={2: compared},
    )


def _warehouse_cut(machine: Machine) -> None:
    """The file was cut as it was copied, nobody asks, and checks go on."""
    _contract_accepted(machine)
    machine.variables["BACKUP"] = str(machine.state_dir.with_name("backup.duckdb"))
    (machine.project / DATABASE).rename(machine.variables["BACKUP"])
    (machine.project / DATABASE).write_bytes(b"cut")
    for _ in range(2):
        done = machine.shell("context-telemetry check --no-tools --no-prompts")
        assert done.returncode == 1, done.stdout


_GUESSED = """\
title: Lost and found
queries:
  orders: {sql: "SELECT count(*) AS orders FROM fct_invoices", source: shop}
charts:
  orders: {query: orders, type: table}
rows: [orders]
"""


def _names_guessed(machine: Machine) -> None:
    """A face and an agent name a table that there never was, the agent again and again."""
    _contract_accepted(machine)
    (machine.project / "faces/lost.yml").write_text(_GUESSED, "utf-8")
    lost = tool("render_dashboard", path="faces/lost.yml", format="text")
    guess = tool("execute_query", sql="SELECT count(*) AS orders FROM fct_invoices", source="shop")
    told = partial(_has_said, machine, names.EVENT_DATAFACE_REFERENCE_UNKNOWN)
    machine.serve(lost, *[guess] * 12, lost, before={13: told})


def _wrong_setting(machine: Machine) -> None:
    (machine.project / "context-telemetry.toml").write_text("[limits]\nresult = 50000\n", "utf-8")
    machine.serve(tool("docs"))


def _host(code: str, start: str = "context_telemetry.instrument()\n") -> Step:
    return lambda machine: machine.host(start + code)


_CATALOGUE = tool("render_dashboard", path="faces/catalog.yml")
_OVERSIZED = fault("result_oversized").meetings[0].call
_TWO_THAT_NEED_BOTH = (fault("sources_removed").twin, fault("manifest_cut").twin)
_RESOLVED = 'with operation("catalog.resolve", source="shop"): pass\n'
# Stands for a release in which a function that is hooked is gone.
_HOOK_GONE = """
import dataface.agent_api.search
del dataface.agent_api.search.search_dashboards
context_telemetry.instrument()
"""
# Stands for the private package, whose profiles nobody has here.
_OLD_PROFILE = """
with operation("catalog.profile", source="shop", schema="main", table="fct_orders") as op:
    op.age("super_schema", 40 * 86400.0)
    op.degraded("profile_stale")
"""
# Stands for a warehouse that takes its time: longer than the 5 s of `objectives.context_duration`.
_SLOW = (
    _RESOLVED
    + """
import threading
def resolve():
    with operation("catalog.resolve", source="shop"):
        time.sleep(5.2)
threads = [threading.Thread(target=resolve) for _ in range(12)]
for each in threads: each.start()
for each in threads: each.join()
"""
)
_BROKEN_READER = """
@context_telemetry.catalog_resolution(reader=context_telemetry.reader()(lambda call: 1 / 0))
def resolve(source): return {}
resolve("shop")
"""

_ORDERS, _CUSTOMERS = {"FACE": "faces/orders.yml"}, {"FACE": "faces/customers.yml"}
_WATCHED = {WATCH: "true"}
_SOURCES_FILE = {"FILE": "dataface.yml", **_ORDERS}

STATES: Mapping[str, State] = {
    "DatafaceTelemetrySilent": State(_unobserved, _ORDERS),
    "DatafaceDegradedRatio": State(meet("sources_removed"), _SOURCES_FILE),
    "DatafaceFailedRatio": State(meet("sources_unreadable", times=12), _SOURCES_FILE),
    "DatafaceResolutionFailures": State(
        meet("table_unknown", times=12),
        {"FILE": "faces/lost.yml", "FACE": "faces/lost.yml", "BAD": "fct_invoices", "GOOD": "fct_orders"},
    ),
    "DatafaceContractOpen": State(
        _contract_broken,
        {
            **_WATCHED,
            **_ORDERS,
            "FILE": "models/marts/fct_orders.sql",
            "MODEL": "fct_orders",
            "WAREHOUSE": DATABASE.name,
            "RULE": "column_removed",
            "OBJECT": "shop.main.fct_orders.payment_method",
            "UNTIL": f"{datetime.now(timezone.utc) + timedelta(days=3):%Y-%m-%d}",
        },
    ),
    "DatafaceChecksFailing": State(_warehouse_cut, {**_ORDERS, "WAREHOUSE": DATABASE.name}),
    "DatafaceUnknownReferences": State(
        _names_guessed,
        {
            **_WATCHED,
            "FILE": "faces/lost.yml",
            "FACE": "faces/lost.yml",
            "BAD": "fct_invoices",
            "GOOD": "fct_orders",
        },
    ),
    "DatafaceManifestStale": State(meet("model_edited"), _CUSTOMERS),
    "DatafaceProfileStale": State(_host(_OLD_PROFILE), asked_again=_host(_RESOLVED)),
    "DatafaceResultStale": State(_database_replaced, asked_again=lambda machine: machine.serve(_CATALOGUE)),
    "DatafaceArtifactAge": State(_manifest_of_forty_days_ago, _CUSTOMERS),
    "DatafaceEnrichmentLost": State(_descriptions_lost, {"FILE": "models/marts/marts.yml", **_CUSTOMERS}),
    "DatafacePayloadOverBudget": State(meet("result_oversized"), asked_again=_twin("result_oversized")),
    "DatafacePayloadP95": State(meet("result_oversized", times=11), asked_again=_twin("result_oversized")),
    "DatafaceContextLatency": State(_host(_SLOW), asked_again=_host(_RESOLVED)),
    "DatafaceHooksLost": State(_host(_RESOLVED, start=_HOOK_GONE), asked_again=_host(_RESOLVED)),
    "DatafaceTelemetryDropped": State(
        # A file that cannot grow, as on a disk that is full. Blocks of 512 bytes.
        lambda machine: machine.serve(*[_CATALOGUE] * 8, shell="ulimit -f 20;"),
        asked_again=lambda machine: machine.serve(_CATALOGUE),
    ),
    "DatafaceTelemetryErrors": State(_host(_BROKEN_READER), asked_again=_host(_RESOLVED)),
    "DatafaceSettingsWrong": State(
        _wrong_setting,
        {"FILE": "context-telemetry.toml", "BAD": "result", "GOOD": "results", **_ORDERS},
    ),
    "playbook": State(_asked_about_a_failed_call, {"SURFACE": "mcp", "CLIENT": "other"}),
    "rollback": State(
        meet("sources_removed"),
        _SOURCES_FILE,
        asked_again=lambda machine: machine.serve(*_TWO_THAT_NEED_BOTH),
    ),
}


# -- running them


@pytest.fixture
def machine(sample: Sample, tmp_path: Path) -> Machine:
    """The sample project under git, as it is deployed, and an empty folder for what is replaced."""
    project = sample.copy(tmp_path / "shop").root
    (tmp_path / "kept").mkdir()
    made = Machine(project, tmp_path / "state", {"KEPT": str(tmp_path / "kept")})
    (project / ".gitignore").write_text("target/\n*.duckdb*\nrenders/\nlogs/\n", "utf-8")
    who = "-c user.name=deployment -c user.email=deployment@localhost"
    done = made.shell(f"git init -q . && git add . && git {who} commit -q -m 'as deployed'")
    assert done.returncode == 0, done.stdout
    return made


def _what_is_missing(block: Block, done: subprocess.CompletedProcess[str]) -> list[str]:
    """What the page says and the command does not show; empty where all of it is there."""
    missing = [] if done.returncode == block.exit_code else [f"exit {block.exit_code}, not {done.returncode}"]
    lines = done.stdout.splitlines()
    return missing + [
        f"a line with {pattern.pattern}" for pattern in block.patterns if not any(map(pattern.search, lines))
    ]


def _run(machine: Machine, block: Block) -> None:
    done = machine.shell(block.command)
    missing = _what_is_missing(block, done)
    assert not missing, f"{block.command}\n\nshows\n\n{done.stdout}\n\nand not {', '.join(missing)}"
    if " traces" in block.command and (found := re.search(r"\b[0-9a-f]{8}\b", done.stdout)):
        machine.variables["TRACE"] = found[0]


def _diagnose(machine: Machine, page: Sequence[Block]) -> None:
    before = machine.files()
    for block in page:
        _run(machine, block)
    assert machine.files() == before, "a diagnosis changed the project"


_STARTS = 1.5
"""Seconds that a command takes to begin, at most."""


def _mitigate(machine: Machine, page: Sequence[Block], asked_again: Step) -> None:
    time.sleep(_STARTS)  # no bad call is to be as near to the repair as a command takes to begin
    repaired = time.time()
    for block in page:
        if "SINCE" in block.variables:
            asked_again(machine)
            # `status` reckons from when it looks, and needs this long to begin.
            machine.variables["SINCE"] = f"{time.time() - repaired + _STARTS:.1f}s"
        _run(machine, block)
        if not {"SINCE", "FACE"} & set(block.variables):
            repaired = time.time()


def _prepare(machine: Machine, name: str) -> tuple[State, list[Block]]:
    """The machine in the state of a page, and the page's commands for one machine."""
    state = STATES[name]
    machine.variables.update(state.variables)
    state.make(machine)
    return state, [block for block in blocks(PAGES[name]) if block.where == "local"]


@pytest.mark.real
@pytest.mark.parametrize("name", [name for name in STATES if name.startswith("Dataface")])
def test_the_commands_of_a_runbook_show_what_it_says(name: str, machine: Machine) -> None:
    state, page = _prepare(machine, name)
    ill = machine.files()
    try:
        _diagnose(machine, [block for block in page if block.section == "Diagnosis"])
        assert all(process.poll() is None for process in machine.running), (
            "it has ended: another one was seen"
        )
    finally:
        for process in machine.running:
            process.terminate()
            process.wait(30)
    _mitigate(machine, [block for block in page if block.section == "Mitigation"], state.asked_again)
    for block in (block for block in page if block.section == "Rollback"):
        _run(machine, block)
    assert machine.files() == ill, "the rollback does not undo the mitigation"


@pytest.mark.real
def test_the_commands_of_the_playbook_show_what_it_says_and_change_nothing(machine: Machine) -> None:
    _diagnose(machine, _prepare(machine, "playbook")[1])


@pytest.mark.real
def test_the_playbooks_searches_by_code_and_by_fingerprint_find_the_call(machine: Machine) -> None:
    _, page = _prepare(machine, "playbook")
    asked = [block for block in page if {"CODE", "FINGERPRINT"} & set(block.variables)]
    assert len(asked) == 2
    for block in asked:
        found = re.search(r"\b[0-9a-f]{8,32}\b", machine.shell(block.command).stdout)
        assert found, block.command
        told = machine.shell(f"context-telemetry trace {found[0]} --json").stdout
        assert all(
            machine.variables[name] in told for name in ("CODE", "FINGERPRINT") if name in block.variables
        )


@pytest.mark.real
def test_the_commands_of_the_rollback_go_back_and_forward_again(machine: Machine) -> None:
    state, page = _prepare(machine, "rollback")
    ill = machine.files()
    (look,) = (block for block in page if "SINCE" in block.variables)
    (forward,) = (block for block in page if 'cp -p "$KEPT/before"' in block.command)
    for block in page:
        if block not in (look, forward):
            _run(machine, block)
    _mitigate(machine, [look], state.asked_again)
    _run(machine, forward)
    assert machine.files() == ill


def test_every_page_with_commands_for_one_machine_has_a_state() -> None:
    assert set(STATES) == LOCAL
