"""All hook points of a release are placed, wherever it has a name for them, and taken out again."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from inprocess import instrumented
from memory import attributes
from scenario import scenario

from context_telemetry.instrumentation import probe

pytestmark = pytest.mark.real


@scenario("hook points")
def test_every_hook_point_of_the_release_is_placed() -> None:
    elsewhere = ("active", "unneeded")  # unneeded: of a package that is not installed here
    assert [(each.id, each.state, each.detail) for each in probe() if each.state not in elsewhere] == []


EVERY_NAME = """
import contextlib, importlib, json, pkgutil, sys, types

import context_telemetry
from context_telemetry.instrumentation import instrumentor


def import_all():
    import dataface

    with contextlib.redirect_stdout(sys.stderr):
        for module in pkgutil.walk_packages(dataface.__path__, "dataface.", onerror=print):
            if not module.name.endswith("__main__"):
                with contextlib.suppress(Exception):  # what an extra is not installed for
                    importlib.import_module(module.name)


def names(objects):
    wanted = {id(each) for each in objects}
    return [
        f"{name}:{key}"
        for name, module in sys.modules.items()
        if name.partition(".")[0] == "dataface"
        for key, value in vars(module).items()
        if id(value) in wanted
    ]


when = sys.argv[1]
if when == "before":
    import_all()
context_telemetry.instrument()
if when == "after":
    import_all()
placed = [each for each in instrumentor._installation._placed if each.wrapper is not None]
found = {"placed": len(placed), "modules": sum(name.startswith("dataface.") for name in sys.modules)}
# A row for what a module has from elsewhere (`yaml`, a pool of threads), or for a table, is for that place alone.
rows = {hook.id for hook in instrumentor._installation.hooks}
functions = [each.original for each in placed if isinstance(each.original, types.FunctionType)]
found["unobserved"] = names(each for each in functions if f"{each.__module__}:{each.__qualname__}" in rows)
context_telemetry.uninstrument()
found["left"] = names(each.wrapper for each in placed)
print(json.dumps(found))
"""


@scenario("hook points")
@pytest.mark.parametrize("when", ["before", "after"])
def test_no_module_of_dataface_has_a_name_that_is_not_observed_or_that_stays_so(when: str) -> None:
    """Whether all of Dataface is imported before `instrument`, or after it."""
    done = subprocess.run(
        [sys.executable, "-c", EVERY_NAME, when], stdout=subprocess.PIPE, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert found["placed"] > 70
    assert found["modules"] > 250
    assert found["unobserved"] == []
    assert found["left"] == []


def dft(*arguments: str) -> dict[str, Any]:
    """What the entry of a command says that is run in a process which had imported it long before."""
    from dataface.cli.main import app
    from typer.testing import CliRunner

    with instrumented() as memory:
        CliRunner().invoke(app, arguments)
    (entry,) = [attributes(each) for each in memory.spans if attributes(each).get("dataface.entry")]
    return entry


@scenario("hook points")
@pytest.mark.parametrize("broken", [True, False])
def test_a_command_that_was_imported_before_tells_what_its_search_left_out(
    project: Path, monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    importlib.import_module("dataface.cli.commands.search")
    monkeypatch.chdir(project)
    if broken:
        (project / "faces" / "broken.yml").write_text("title: [\n")
    entry = dft("search", "revenue")
    assert entry["dataface.outcome"] == ("degraded" if broken else "ok")
    assert entry.get("dataface.degradation.reasons", ()) == (("face_unreadable",) if broken else ())


@scenario("hook points", since="0.4.0", because="there is no such command")
def test_a_command_that_was_imported_before_tells_the_code_of_its_failure(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    importlib.import_module("dataface.cli.commands.board_artifact")
    monkeypatch.chdir(project)
    entry = dft("board", "render", "nope.json", "nope.json")
    assert entry["dataface.outcome"] == "failed"
    assert entry["error.type"] == entry["dataface.error.code"] == "ERR-FILE-NOT-FOUND"
