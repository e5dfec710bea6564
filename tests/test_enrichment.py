"""Coverage of descriptions, and descriptions that a former manifest had: over manifests that dbt wrote."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import Observed, events_in, spans_in
from memory import Memory, recording

from context_telemetry.instrumentation import enrichment, manifest_watch
from context_telemetry.observe import board
from context_telemetry.observe import project as bound
from context_telemetry.rehearsal.driver import tool
from context_telemetry.rehearsal.sample import MANIFEST, Sample
from context_telemetry.settings import project_folder

ORDERS = "model.shop.fct_orders"
Edit = Callable[[dict[str, Any]], object]


class Watched:
    """The worker's side without its thread: a manifest is taken when the test says so."""

    def __init__(self, root: Path, state_dir: Path | None, memory: Memory) -> None:
        self.root, self.state_dir, self._memory = root, state_dir, memory
        self.content = json.loads((root / MANIFEST).read_text("utf-8"))
        self.start()

    def start(self) -> None:
        """As a new process finds it."""
        enrichment.forget()
        bound.forget()
        board.forget()
        state_dir = self.state_dir
        if state_dir is not None:
            bound.keep_state(lambda root: project_folder(state_dir, root))

    def take(self, edit: Edit = lambda nodes: None) -> None:
        edit(self.content["nodes"])
        enrichment._take(self.root, self.content)

    def look(self) -> None:
        enrichment._projects[self.root].look()

    @property
    def lost(self) -> bool:
        return enrichment.is_lost(self.root)

    @property
    def record(self) -> Path:
        assert self.state_dir is not None
        return project_folder(self.state_dir, self.root) / enrichment.RECORD

    def events(self, name: str) -> list[dict[str, Any]]:
        return [attributes for event, attributes in self._memory.events if event == name]

    def degradations(self, what: str = "dbt_manifest") -> list[str]:
        return [
            event["dataface.degradation.state"]
            for event in self.events("dataface.degradation")
            if event["dataface.degradation.reason"] == "enrichment_lost"
            and event["dataface.degradation.object"] == what
        ]

    @property
    def named(self) -> list[str]:
        """Everything that was ever said to have lost descriptions, but for the manifest itself."""
        return [
            event["dataface.degradation.object"]
            for event in self.events("dataface.degradation")
            if event["dataface.degradation.state"] == "began"
            and event["dataface.degradation.object"] != "dbt_manifest"
        ]


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Memory]:
    monkeypatch.setattr("context_telemetry.instrumentation.enrichment.worker.watch", lambda key, task: None)
    with recording() as recorded:
        yield recorded


@pytest.fixture
def watched(sample: Sample, tmp_path: Path, memory: Memory) -> Iterator[Watched]:
    yield Watched(sample.root, tmp_path / "state", memory)
    enrichment.forget()
    bound.forget()


def undescribe_a_column(nodes: dict[str, Any]) -> None:
    nodes[ORDERS]["columns"]["order_id"]["description"] = ""


def describe_it_again(nodes: dict[str, Any]) -> None:
    nodes[ORDERS]["columns"]["order_id"]["description"] = "Another text than before."


def unlist_all_columns(nodes: dict[str, Any]) -> None:
    nodes[ORDERS]["columns"] = {}


def unlist_a_column(nodes: dict[str, Any]) -> None:
    del nodes[ORDERS]["columns"]["order_id"]


def change_the_code(nodes: dict[str, Any]) -> None:
    nodes[ORDERS]["checksum"]["checksum"] = "another"


def both(one: Edit, other: Edit) -> Edit:
    return lambda nodes: (one(nodes), other(nodes))


def drop_the_model(nodes: dict[str, Any]) -> None:
    del nodes[ORDERS]


def test_coverage_is_described_columns_of_models_over_those_that_the_manifest_lists(
    watched: Watched, memory: Memory
) -> None:
    models = [node for node in watched.content["nodes"].values() if node["resource_type"] == "model"]
    columns = [column for model in models for column in model["columns"].values()]
    described = [column for column in columns if column["description"]]
    assert 0 < len(described) <= len(columns)
    watched.take(undescribe_a_column)
    assert watched.events("dataface.enrichment.changed") == [
        {
            "dataface.enrichment.columns.total": len(columns),
            "dataface.enrichment.columns.described": len(described) - 1,
            "dataface.enrichment.coverage.ratio": (len(described) - 1) / len(columns),
            "dataface.enrichment.lost": 0,
            "dataface.catalog.source": "shop",
            "dataface.catalog.source.configured": True,
        }
    ]
    ratio = (len(described) - 1) / len(columns)
    assert memory.points()["dataface.enrichment.coverage.ratio"] == [
        ({"dataface.catalog.source": "shop"}, ratio)
    ]


def test_the_source_is_left_out_where_two_could_be_the_dbt_project_s(
    project: Path, tmp_path: Path, memory: Memory
) -> None:
    configuration = project / "dataface.yml"
    second = "  copy:\n    type: duckdb\n    path: copy.duckdb\n"
    configuration.write_text(configuration.read_text("utf-8") + second, "utf-8")
    watched = Watched(project, tmp_path / "state", memory)
    watched.take()
    (event,) = watched.events("dataface.enrichment.changed")
    assert "dataface.catalog.source" not in event
    assert event["dataface.enrichment.coverage.ratio"] > 0


def test_a_source_without_a_type_is_not_that_of_a_manifest_without_an_adapter(
    project: Path, tmp_path: Path, memory: Memory
) -> None:
    (project / "dataface.yml").write_text("sources: {odd: {path: odd.duckdb}}\n", "utf-8")
    watched = Watched(project, tmp_path / "state", memory)
    del watched.content["metadata"]["adapter_type"]
    watched.take()
    (event,) = watched.events("dataface.enrichment.changed")
    assert "dataface.catalog.source" not in event


def test_each_model_that_lost_a_description_is_named_until_it_has_it_again(watched: Watched) -> None:
    customers = "model.shop.dim_customers"
    watched.take()
    assert watched.named == []
    watched.take(undescribe_a_column)
    assert watched.named == ["shop.main.fct_orders"]
    watched.take(lambda nodes: nodes[customers].update(description=""))
    assert watched.named == ["shop.main.fct_orders", "shop.main.dim_customers"]
    watched.take(describe_it_again)
    assert watched.degradations("shop.main.fct_orders") == ["began", "cleared"]
    assert watched.degradations("shop.main.dim_customers") == ["began"]
    assert watched.degradations() == ["began"]


def test_another_model_that_takes_the_place_of_the_first_is_named_though_the_number_is_the_same(
    watched: Watched,
) -> None:
    watched.take()
    watched.take(undescribe_a_column)
    watched.take(
        both(describe_it_again, lambda nodes: nodes["model.shop.dim_customers"].update(description=""))
    )
    assert watched.degradations("shop.main.fct_orders") == ["began", "cleared"]
    assert watched.named[1:] == ["shop.main.dim_customers"]


def test_so_many_models_are_named_and_all_of_them_counted(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enrichment, "_MOST_NAMED", 2)

    def forget_all(nodes: dict[str, Any]) -> None:
        for node in nodes.values():
            node.update(description="", columns={})

    models = sum(node["resource_type"] == "model" for node in watched.content["nodes"].values())
    watched.take()
    watched.take(forget_all)
    assert models > len(watched.named) == 2
    assert watched.events("dataface.enrichment.changed")[-1]["dataface.enrichment.lost"] > models


def test_another_project_that_lost_nothing_clears_nothing_and_one_that_is_left_holds_nothing(
    watched: Watched, project: Path
) -> None:
    watched.take()
    watched.take(undescribe_a_column)
    enrichment._take(project, json.loads((project / MANIFEST).read_text("utf-8")))
    assert watched.degradations() == ["began"]
    for consumer in manifest_watch.consumers:
        consumer.leave(watched.root)
    assert not watched.lost
    assert watched.degradations() == watched.degradations("shop.main.fct_orders") == ["began", "cleared"]
    assert list(enrichment._projects) == [project]


def test_a_manifest_that_lists_no_column_has_no_coverage(watched: Watched) -> None:
    for node in watched.content["nodes"].values():
        node["columns"] = {}
    watched.take()
    (event,) = watched.events("dataface.enrichment.changed")
    assert "dataface.enrichment.coverage.ratio" not in event
    assert not watched.lost


@pytest.mark.parametrize("edit", [undescribe_a_column, unlist_all_columns, unlist_a_column])
def test_a_description_that_is_gone_while_its_model_is_unchanged_is_lost(
    watched: Watched, edit: Edit
) -> None:
    watched.take()
    assert not watched.lost
    watched.take(edit)
    assert watched.lost
    assert watched.degradations() == ["began"]


def test_the_description_of_a_model_is_one_too(watched: Watched) -> None:
    watched.take()
    watched.take(lambda nodes: nodes[ORDERS].update(description="  "))
    assert watched.lost


def test_a_model_s_code_may_change_and_its_missing_yaml_is_still_lost(watched: Watched) -> None:
    watched.take()
    watched.take(both(change_the_code, unlist_all_columns))
    assert watched.lost


@pytest.mark.parametrize(
    "edit",
    [
        lambda nodes: None,
        describe_it_again,
        drop_the_model,
        both(change_the_code, unlist_a_column),
    ],
    ids=["nothing", "another text", "a dropped model", "a column that went with a change of the model"],
)
def test_what_is_not_a_loss(watched: Watched, edit: Edit) -> None:
    watched.take()
    watched.take(edit)
    assert not watched.lost
    assert watched.degradations() == []


def test_a_loss_lasts_over_further_manifests_and_clears_when_the_descriptions_are_back(
    watched: Watched,
) -> None:
    watched.take()
    watched.take(undescribe_a_column)
    watched.take(change_the_code)
    assert watched.lost
    watched.take(describe_it_again)
    assert not watched.lost
    assert watched.degradations() == ["began", "cleared"]


def test_a_loss_clears_when_the_model_itself_goes(watched: Watched) -> None:
    watched.take()
    watched.take(undescribe_a_column)
    watched.take(drop_the_model)
    assert not watched.lost


def test_a_loss_is_known_to_the_next_process(watched: Watched) -> None:
    watched.take()
    watched.start()
    watched.take(undescribe_a_column)
    assert watched.lost
    watched.start()
    watched.take()
    assert watched.lost
    watched.start()
    watched.take(describe_it_again)
    assert not watched.lost


def test_whoever_deletes_the_record_accepts_what_is_there_now(watched: Watched) -> None:
    watched.take()
    watched.take(undescribe_a_column)
    watched.record.unlink()
    watched.look()
    assert not watched.lost
    assert watched.degradations() == watched.degradations("shop.main.fct_orders") == ["began", "cleared"]
    watched.start()
    watched.take()
    assert not watched.lost


def test_a_process_learns_from_the_record_that_another_one_has_written(
    watched: Watched, sample: Sample
) -> None:
    watched.take()
    watched.take(undescribe_a_column)
    accepted = json.loads(watched.record.read_text("utf-8"))
    key = next(key for key in accepted["models"] if key == enrichment._short(ORDERS))
    version, described = accepted["models"][key]
    rest = [each for each in described.split(",") if each != enrichment._short("order_id")]
    accepted["models"][key] = [version, ",".join(rest)]
    watched.record.write_text(json.dumps(accepted), "utf-8")
    watched.look()
    assert not watched.lost


def test_the_record_has_hashes_alone_and_lies_outside_of_the_project(watched: Watched) -> None:
    watched.take()
    text = watched.record.read_text("utf-8")
    assert len(text) < 8_192
    for word in ("order", "fct", "shop", "Key of"):
        assert word not in text
    assert watched.record.stat().st_mode & 0o077 == 0
    assert not list(watched.root.rglob(f"*{enrichment.RECORD}*"))
    assert [each.name for each in watched.record.parent.iterdir()] == [enrichment.RECORD]


def test_nothing_is_written_again_while_nothing_changes(watched: Watched) -> None:
    watched.take()
    before = watched.record.stat().st_ino
    watched.take()
    watched.look()
    assert watched.record.stat().st_ino == before
    assert len(watched.events("dataface.enrichment.changed")) == 1


@pytest.mark.parametrize("content", ["", "[]", "{", '{"format": 2}', '{"format": 1, "models": {"a": 1}}'])
def test_a_record_that_cannot_be_read_is_begun_anew(watched: Watched, content: str) -> None:
    watched.record.parent.mkdir(parents=True)
    watched.record.write_text(content, "utf-8")
    watched.take()
    assert not watched.lost
    assert json.loads(watched.record.read_text("utf-8"))["models"]
    watched.take(undescribe_a_column)
    assert watched.lost


@pytest.mark.parametrize("place", [None, "a file"])
def test_without_a_folder_to_write_to_it_is_remembered_by_the_process(
    sample: Sample, tmp_path: Path, memory: Memory, place: str | None
) -> None:
    state_dir = None if place is None else tmp_path / place
    if state_dir is not None:
        state_dir.write_text("", "utf-8")
    watched = Watched(sample.root, state_dir, memory)
    watched.take()
    watched.take(undescribe_a_column)
    watched.look()
    assert watched.lost
    watched.start()
    watched.take()
    assert not watched.lost


def test_what_is_remembered_is_bounded(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enrichment, "_MOST", 3)
    watched.take()
    models = json.loads(watched.record.read_text("utf-8"))["models"]
    assert sum(len(described.split(",")) for _, described in models.values()) <= 3


def test_nodes_of_unexpected_shapes_do_no_harm(watched: Watched) -> None:
    watched.content["nodes"]["model.shop.odd"] = {"resource_type": "model", "columns": [], "checksum": None}
    watched.content["nodes"]["model.shop.none"] = None
    watched.take()
    watched.take(lambda nodes: nodes[ORDERS].update(columns={"order_id": None}))
    assert watched.lost


def test_a_server_carries_the_reason_on_calls_that_load_the_manifest_until_it_is_accepted(
    project: Path, tmp_path: Path, observed: Observed
) -> None:
    state_dir = tmp_path / "state"
    record = project_folder(state_dir, project) / enrichment.RECORD
    manifest = project / MANIFEST
    call = tool("render_dashboard", path="faces/catalog.yml")
    served = partial(observed, project, env={"CONTEXT_TELEMETRY_STATE_DIR": str(state_dir)})

    def wait() -> None:
        time.sleep(3.0)  # the worker looks every 1.5 s at most; a busy machine takes longer

    def edit(change: Edit) -> None:
        content = json.loads(manifest.read_text("utf-8"))
        change(content["nodes"])
        manifest.write_text(json.dumps(content), "utf-8")
        wait()

    def accept() -> None:
        record.unlink()
        wait()

    served([call], before={0: wait})
    assert record.is_file()
    edit(undescribe_a_column)
    served([call, call], before={0: wait, 1: accept})
    before, lost, accepted = (
        (entry.outcome, entry.reasons) for entry in spans_in(state_dir) if entry.name.startswith("tools/call")
    )
    assert before == accepted == ("ok", frozenset())
    assert lost == ("degraded", frozenset({"enrichment_lost"}))
    told = [
        (event.attributes["dataface.degradation.object"], event.attributes["dataface.degradation.state"])
        for event in events_in(state_dir)
        if event.attributes.get("dataface.degradation.reason") == "enrichment_lost"
    ]
    assert told == [
        ("dbt_manifest", "began"), ("shop.main.fct_orders", "began"),
        ("dbt_manifest", "cleared"), ("shop.main.fct_orders", "cleared"),
    ]  # fmt: skip
    assert not list(project.rglob(f"*{enrichment.RECORD}*"))
