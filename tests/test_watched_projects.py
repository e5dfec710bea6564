"""A host with many projects: what is watched of them is bounded, each has its own verdict, and nothing stays behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from memory import Memory, recording

from context_telemetry.instrumentation import enrichment, given, manifest_watch
from context_telemetry.observe import fork, worker
from context_telemetry.observe import project as bound


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Memory]:
    # A project is looked at when the test says so, also where the thread runs already.
    monkeypatch.setattr(worker, "watch", lambda key, task: None)
    with recording() as recorded:
        yield recorded
        fork.forget_all()


def made(root: Path, name: str = "shop") -> Path:
    """A dbt project with one model that is as its manifest says, but for what a test does to it."""
    node = {
        "resource_type": "model",
        "package_name": name,
        "original_file_path": "models/orders.sql",
        "checksum": {"name": "sha256", "checksum": "0" * 64},
        "columns": {"id": {"description": "Key."}},
    }
    content = {"metadata": {"project_name": name}, "nodes": {f"model.{name}.orders": node}}
    for path, text in (("target/manifest.json", json.dumps(content)), ("models/orders.sql", "select 1")):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, "utf-8")
    return root


def look(root: Path) -> None:
    watched = manifest_watch.watched(root)
    assert watched is not None
    watched.look()


def told(memory: Memory) -> list[Any]:
    return [
        said["dataface.degradation.state"] for name, said in memory.events if name == "dataface.degradation"
    ]


def kept() -> set[str]:
    """The folders of all that is kept of projects anywhere."""
    of_watches = {key.partition(" ")[2] for key in worker._watches}
    return {*of_watches, *manifest_watch._watched, *map(str, enrichment._projects), *given._digests}


def test_so_many_projects_are_watched_and_the_one_that_was_opened_longest_ago_is_left(
    memory: Memory, tmp_path: Path
) -> None:
    served, often, *others = (
        made(tmp_path / f"project_{number}") for number in range(manifest_watch._MOST_WATCHED + 3)
    )
    bound.opened(served)
    for root in (served, often, *others):
        manifest_watch.watch(root)
        manifest_watch.watch(often)
        look(root)
    assert len(kept()) == manifest_watch._MOST_WATCHED
    assert kept() == {str(root) for root in (served, often, *others[3:])}
    assert told(memory) == ["began"]  # the model of each is another one than its manifest says
    for root in (served, often, *others[3:]):
        watched = manifest_watch.watched(root)
        assert watched is not None
        manifest_watch._leave(watched)
    assert told(memory) == ["began", "cleared"]
    assert kept() == set()


def test_a_project_whose_folder_is_gone_for_good_is_left(
    memory: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = made(tmp_path / "project")
    manifest_watch.watch(root)
    look(root)
    root.rename(tmp_path / "away")
    look(root)
    (tmp_path / "away").rename(root)  # a deployment takes it away for a moment
    look(root)
    assert kept() == {str(root)}
    shutil.rmtree(root)
    monkeypatch.setattr(manifest_watch, "_GONE", -1.0)
    look(root)
    assert kept() == set()
    assert told(memory) == ["began", "cleared", "began", "cleared"]


def test_what_was_handed_on_while_a_project_was_left_is_taken_back(memory: Memory, tmp_path: Path) -> None:
    root = made(tmp_path / "project")
    manifest_watch.watch(root)
    watched = manifest_watch.watched(root)
    assert watched is not None
    manifest_watch._leave(watched)
    watched.look()  # the round of the worker that had begun
    assert kept() == set()
    assert told(memory) in ([], ["began", "cleared"])


def test_a_project_that_is_as_its_manifest_says_does_not_clear_what_holds_of_another_one(
    memory: Memory, tmp_path: Path
) -> None:
    here, there = made(tmp_path / "here"), made(tmp_path / "there")
    for root in (here, there):
        manifest_watch.watch(root)
        look(root)
    assert told(memory) == ["began"]
    (there / "models/orders.sql").unlink()  # no model is there to compare with: the manifest stands alone
    look(there)
    assert told(memory) == ["began"]
    (here / "models/orders.sql").unlink()
    look(here)
    assert told(memory) == ["began", "cleared"]


def test_what_is_handed_on_while_all_is_forgotten_is_taken_back(
    memory: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = made(tmp_path / "project")
    manifest_watch.watch(root)
    watched = manifest_watch.watched(root)
    assert watched is not None
    parse = watched._parse

    def forgetting(identity: Any) -> Any:
        fork.forget_all()
        return parse(identity)

    monkeypatch.setattr(watched, "_parse", forgetting)
    watched.look()
    assert kept() == set()
