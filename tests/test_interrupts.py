"""Ctrl-C: exit code 130, one line that says what was done, and never a traceback, wherever a command is just then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_SECONDS = 60.0

# A command that is inside of DuckDB, which raises an error of its own for an interruption.
_IN_DUCKDB = """
import duckdb, typer
from context_telemetry.cli import interrupts

app = typer.Typer(cls=interrupts.Commands)

@app.callback()
def options() -> None: ...

@app.command()
def count() -> None:
    interrupts.leaves("nothing was counted")
    print("counting", flush=True)
    duckdb.sql("SELECT count(*) FROM range(1000000000) a, range(1000) b WHERE hash(a.range + b.range) = 1").fetchall()

app()
"""


def start(arguments: Sequence[str | Path], folder: Path, **variables: str) -> subprocess.Popen[str]:
    environ = {**os.environ, "CONTEXT_TELEMETRY_STATE_DIR": str(folder / "state"), **variables}
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def interrupted(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code of a process that is sent Ctrl-C now, and what it said on stderr."""
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=_SECONDS)
    return process.returncode, said


def reads(path: Path) -> int:
    """Waits until somebody reads the pipe at ``path``, and leaves them waiting; the end to close."""
    return os.open(path, os.O_WRONLY)


def test_a_build_that_is_interrupted_says_that_nothing_was_written(tmp_path: Path) -> None:
    owners = tmp_path / "owners.yaml"
    os.mkfifo(owners)
    command = ("-m", "context_telemetry.cli", "ops", "build", "ops", "--owners", owners)
    with start(command, tmp_path) as process:
        end = reads(owners)
        code, said = interrupted(process)
        os.close(end)
    assert (code, said) == (130, "context-telemetry: interrupted; nothing was written\n")
    assert not (tmp_path / "ops").exists()


def test_a_build_that_is_interrupted_while_it_writes_says_what_finishes_it(tmp_path: Path) -> None:
    # What it writes beside is there already, as after a kill: the next build waits for whoever has the folder.
    (tmp_path / "ops" / ".ops-build.new").mkdir(parents=True)
    os.mkfifo(tmp_path / "ops" / ".ops-build.new" / "plan.json")
    with start(("-m", "context_telemetry.cli", "ops", "build", "ops"), tmp_path) as process:
        end = reads(tmp_path / "ops" / ".ops-build.new" / "plan.json")
        code, said = interrupted(process)
        os.close(end)
    assert code == 130
    assert said == (
        "context-telemetry: interrupted; it was writing: `context-telemetry ops build ops` finishes or undoes that\n"
    )


def test_a_comparison_that_is_interrupted_says_that_nothing_was_changed(tmp_path: Path) -> None:
    (tmp_path / "dataface.yml").write_text("sources: {}\n", "utf-8")
    # Stands for a git that takes its time.
    (tmp_path / "git").write_text(f"#!/bin/sh\nread never < {tmp_path}/pipe\n", "utf-8")
    (tmp_path / "git").chmod(0o755)
    os.mkfifo(tmp_path / "pipe")
    command = ("-m", "context_telemetry.cli", "contract", "diff", "--no-tools", "--against", "main")
    with start(command, tmp_path, PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}") as process:
        end = reads(tmp_path / "pipe")
        code, said = interrupted(process)
        os.close(end)
    assert (code, said) == (130, "context-telemetry: interrupted; nothing was changed\n")


def test_what_is_interrupted_inside_of_duckdb_ends_as_all_else(tmp_path: Path) -> None:
    with start(("-c", _IN_DUCKDB, "count"), tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "counting\n"
        code, said = interrupted(process)
    assert (code, said) == (130, "context-telemetry: interrupted; nothing was counted\n")
