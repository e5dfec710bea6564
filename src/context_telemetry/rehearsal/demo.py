"""A first look in two minutes: makes the sample project, uses it observed, breaks it, and uses it again.

It leaves the project, the telemetry and a note on what to look at; it does not judge health, `status` does.
"""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from context_telemetry.rehearsal import driver, sample
from context_telemetry.rehearsal.driver import Answer, Client
from context_telemetry.rehearsal.fault import Fault
from context_telemetry.rehearsal.faults import fault

if TYPE_CHECKING:
    from rich.console import Console

# One of each kind: where the answer comes from, what describes it, how large it is, whether it is whole.
DEMO_FAULTS = ("source_unknown_answered", "manifest_cut", "result_oversized", "column_dropped")


@dataclass(frozen=True)
class DemoResult:
    """What the demo left behind, all of it in `folder`; the faults are still in the project."""

    folder: Path
    project: Path
    state_dir: Path
    faults: list[Fault]


def run(console: Console, directory: Path | None = None) -> DemoResult:
    """Runs the demo in `directory` (created; must be empty), or in a new temporary folder.

    Raises RehearsalError, with what to do, when Dataface, dbt or the folder cannot be used.
    """
    sample.require("dataface", "mcp", "dbt.adapters.duckdb")
    base = directory if directory is not None else Path(tempfile.mkdtemp(prefix="context-telemetry-demo-"))
    base = base.expanduser().resolve()
    project, state_dir = base / "shop", base / "telemetry"
    faults = [fault(name) for name in DEMO_FAULTS]

    _step(
        console,
        "Making a dbt project: a web shop with ten models and five faces",
        lambda: sample.create(project),
    )
    healthy = _step(
        console,
        "Using it through [bold]context-telemetry run -- dft mcp serve[/bold]: every tool, every resource",
        lambda: _observed(project, state_dir, _everything),
    )
    console.print(f"    {_tally(healthy)}")
    for each in faults:
        each.inject(project)
        console.print(f"  [yellow]broken[/yellow]  {each.simulates}")
    broken = _step(
        console,
        "Using it again, with everything that is broken",
        lambda: _observed(project, state_dir, lambda client: _meet(client, faults)),
    )
    console.print(f"    {_tally(broken)}")
    (base / "README.md").write_text(_readme(faults, state_dir), "utf-8")
    return DemoResult(base, project, state_dir, faults)


async def _everything(client: Client) -> list[Answer]:
    return [*await driver.every_tool(client), *await driver.every_resource(client)]


async def _meet(client: Client, faults: list[Fault]) -> list[Answer]:
    return [await client.send(meeting.call) for each in faults for meeting in each.meetings]


def _observed(project: Path, state_dir: Path, use: driver.Use[list[Answer]]) -> list[Answer]:
    return driver.with_session(project, use, env={"CONTEXT_TELEMETRY_STATE_DIR": str(state_dir)})


def _step(console: Console, title: str, work: Callable[[], driver.T]) -> driver.T:
    with console.status(title):
        done = work()
    console.print(f"  [green]done[/green]    {title}")
    return done


def _tally(answers: list[Answer]) -> str:
    errors = sum(answer.is_error for answer in answers)
    return f"{len(answers)} requests; Dataface called {errors or 'none'} of them an error"


def ourselves() -> str:
    """How any shell calls this installation's command: what is on the path here need not be there."""
    return _beside("context-telemetry") or f"{shlex.quote(sys.executable)} -m context_telemetry"


def _beside(script: str) -> str:
    """The script of this name beside this Python, as a shell takes it; empty where there is none."""
    found = Path(sys.executable).with_name(f"{script}.exe" if os.name == "nt" else script)
    return shlex.quote(str(found)) if found.is_file() else ""


def _readme(faults: list[Fault], state_dir: Path) -> str:
    us, dft = ourselves(), _beside("dft") or "dft"
    rows = "\n".join(f"- {each.simulates}: {', '.join(sorted(each.reasons))}" for each in faults)
    return f"""# What is here

- `shop/`: a Dataface project on dbt and DuckDB, with four faults in it.
- `shop.before/`: the files as they were before.
- `telemetry/`: what was observed, as OTLP JSON lines.

The faults, and the reasons that the calls which met them carry:

{rows}

# What to look at

In this folder:

    export CONTEXT_TELEMETRY_STATE_DIR={shlex.quote(str(state_dir))}
    cd shop
    {us} status --since 1d
    {us} traces --since 1d

To see it heal, put the files back as they were, use them, and look at what was served since then alone. `status`
without `--since` looks an hour back and stays unhealthy as long: what was served was wrong.

    for each in ../shop.before/*/; do cp -R "$each." .; done
    sleep 20  # until the last 20 seconds hold nothing of before
    {us} run -- {dft} render faces/orders.yml --format json
    {us} status --since 20s
"""
