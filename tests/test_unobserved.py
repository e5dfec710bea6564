"""A Python of ours beside this one: what it loads, and from where."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from context_telemetry.observe import unobserved


def run(folder: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        unobserved.command(module, *arguments),
        cwd=folder,
        env=unobserved.environment(),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("path", [None, os.pathsep])
def test_files_of_the_folder_that_it_runs_in_are_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str | None
) -> None:
    for name in ("runpy", "logging", "json", "duckdb", "dataface", "context_telemetry"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('loaded')")
    if path is not None:
        monkeypatch.setenv("PYTHONPATH", path + os.environ.get("PYTHONPATH", ""))
    done = run(tmp_path, "context_telemetry.cli.comparator", "--help")
    assert done.returncode == 0, done.stderr
    assert "--idle" in done.stdout


def test_what_is_on_the_path_from_here_is_on_it_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    (tmp_path / "here/told.py").write_text("import sys; print(*sys.argv[1:])")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "here")
    assert run(tmp_path / "there", "told", "one", "--two").stdout == "one --two\n"


def test_what_observes_this_process_is_not_started_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('observed')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert run(tmp_path, "context_telemetry.cli.comparator", "--help").stdout.startswith("usage")
    assert unobserved.environment()["CONTEXT_TELEMETRY_DISABLED"] == "true"


def test_a_program_that_is_no_python_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    assert unobserved.is_possible()
    monkeypatch.setattr(sys, "executable", "/opt/host/server")
    assert not unobserved.is_possible()
