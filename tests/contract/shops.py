"""What the tests of the contract's commands share: the sample project with an accepted contract, to be changed.

The tools are those that a real `dft mcp serve` listed; a change of them is served over stdio by `listing_server`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest
from typer.testing import CliRunner, Result

from context_telemetry.cli import served_tools
from context_telemetry.cli.contract import app
from context_telemetry.rehearsal.driver import Raw, plain
from context_telemetry.rehearsal.sample import Sample

METHODS = ("tools/list", "resources/list", "resources/templates/list")
SERVER = Path(__file__).with_name("listing_server.py")

Edit = Callable[[dict[str, Any]], object]


def lists_of(root: Path) -> dict[str, Any]:
    """What a real server of this environment's Dataface lists."""
    with Raw(root, command=plain()) as server:
        server.initialize()
        return {method: server.request(method)["result"] for method in METHODS}


@dataclass(frozen=True)
class Shop:
    """A project with a contract that belongs to the test. Its state folder is empty until something is recorded."""

    root: Path
    state: Path
    lists: Path

    def run(self, *arguments: str) -> Result:
        """A command in this process; what it asks for tools is `listing_server`."""
        command = [sys.executable, str(SERVER), str(self.lists)]
        place = ["--project", str(self.root)]
        if arguments[0] != "snapshot":
            place += ["--state-dir", str(self.state)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(served_tools, "plain", lambda: command)
            return CliRunner().invoke(app, [*arguments, *place])

    def check(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """The exit code of `contract check`, and its document."""
        done = self.run("check", "--json", *arguments)
        assert done.stdout, done.output
        return done.exit_code, json.loads(done.stdout)

    @property
    def contract(self) -> Path:
        return self.root / "context-contract.yaml"

    def sql(self, *statements: str) -> None:
        with duckdb.connect(str(self.root / "shop.duckdb")) as connection:
            for statement in statements:
                connection.execute(statement)

    def manifest(self, edit: Edit) -> None:
        """As if dbt had written it anew."""
        _edited(self.root / "target" / "manifest.json", edit)

    def tools(self, edit: Edit) -> None:
        """The server's lists are others: tools and resources by their names and addresses."""

        def edit_lists(lists: dict[str, Any]) -> None:
            listed = lists["tools/list"]["tools"]
            by_name = {one["name"]: one for one in listed}
            edit(by_name)
            lists["tools/list"]["tools"] = list(by_name.values())

        _edited(self.lists, edit_lists)

    def resources(self, edit: Edit) -> None:
        def edit_lists(lists: dict[str, Any]) -> None:
            by_address = {one["uri"]: one for one in lists["resources/list"]["resources"]}
            edit(by_address)
            lists["resources/list"]["resources"] = list(by_address.values())

        _edited(self.lists, edit_lists)


def _edited(path: Path, edit: Edit) -> None:
    document = json.loads(path.read_text("utf-8"))
    edit(document)
    path.write_text(json.dumps(document), "utf-8")


@dataclass(frozen=True)
class Accepted:
    """The sample project, its contract accepted by the command itself, and what a real server lists."""

    sample: Sample
    lists: Path

    def copy(self, folder: Path) -> Shop:
        lists = folder / "lists.json"
        lists.write_bytes(self.lists.read_bytes())
        return Shop(self.sample.copy(folder / "shop").root, folder / "state", lists)


def accept(sample: Sample, folder: Path) -> Accepted:
    """Ask a real server once, and accept what is served."""
    copied = sample.copy(folder / "shop")
    lists = folder / "lists.json"
    lists.write_text(json.dumps(lists_of(copied.root)), "utf-8")
    done = Shop(copied.root, folder / "state", lists).run("snapshot")
    assert done.exit_code == 0, done.output
    return Accepted(copied, lists)
