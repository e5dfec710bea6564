"""A host's spans and ours in one trace, parents both ways, each once: in its own pipeline, in our files, over our OTLP.

The host is `embedding.py`, a process of its own. docs/neighbours.md is the same for people.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from embedding import AS_IT_IS, ASKER, HOST, INSTRUMENTED
from host import local_of
from told import Logged, Told, logs_of_files, of_files, of_host, sink

from context_telemetry.conventions import names
from context_telemetry.rehearsal import driver
from context_telemetry.rehearsal.sample import Sample

pytestmark = pytest.mark.real
EMBEDDING = Path(__file__).parent / "embedding.py"

Place = Literal["host", "files", "otlp"]
"""Where spans go: by the host's own providers, or under `run` to our local files, or by our OTLP to an endpoint."""

# Spans as a tree: each with what is below it. FastAPI's own are those that are named so.
Tree = tuple[str, "list[Tree]"]
QUERIED: Tree = ("tool.call", [("query.execute", [("statement", [])]), ("session.refresh", [])])
LOOKED: Tree = ("catalog.search", [("look", [])])
OF_HOST = {"answer", "gather", "look", "statement"}
OURS = {"context.build", "catalog.search", "tool.call", "query.execute", "session.refresh"}


def request(*in_threads: Tree) -> list[Tree]:
    """The whole trace of a request, with what is done in threads in it or not."""
    answered: Tree = ("answer", [("context.build", [LOOKED, ("gather", list(in_threads))])])
    below = [
        ("fastapi.dependencies", []),
        ("fastapi.endpoint", [answered]),
        ("fastapi.serialization", []),
    ]
    return [("GET /ask", below)]


@dataclass(frozen=True)
class Asked:
    """What a host has left that was asked: its spans, those of a pipeline beside, log records, and standard error."""

    spans: list[Told]
    local: list[Told]
    logs: list[Logged]
    stderr: str

    def of(self, trace: str) -> list[Told]:
        return [each for each in self.spans if each.trace == trace]


def ask(folder: Path, sample: Sample, place: Place, pipeline: str = "shared", **environ: str) -> Asked:
    spans, state = folder / "spans.jsonl", folder / "state"
    way = "host" if place == "host" else "run"
    command = [sys.executable, str(EMBEDDING), way, pipeline, str(spans)]
    env = {
        **os.environ,
        "PYTHONPATH": str(EMBEDDING.parents[1]),
        "CONTEXT_TELEMETRY_STATE_DIR": str(state),
        **environ,
    }
    with sink() as taken:
        done = subprocess.run(
            command if way == "host" else driver.observed(command),
            cwd=sample.copy(folder / "shop").root,
            env=env | (taken.environ if place == "otlp" else {}),
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    local = of_host(local_of(spans)) if pipeline == "local" else []
    if place == "host":
        return Asked(of_host(spans), local, [], done.stderr)
    assert not spans.exists()
    if place == "otlp":
        assert of_files(state) == []
        return Asked(taken.spans(), local, taken.logs(), done.stderr)
    return Asked(of_files(state), local, logs_of_files(state), done.stderr)


@pytest.fixture(scope="module", params=["host", "files", "otlp"])
def asked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, sample: Sample) -> Any:
    return request.param, ask(tmp_path_factory.mktemp("asked"), sample, request.param)


def tree(spans: Iterable[Told], parent: str | None) -> list[Tree]:
    """What is below ``parent``, by name."""
    spans = list(spans)
    return sorted((each.name, tree(spans, each.id)) for each in spans if each.parent == parent)


def test_spans_of_fastapi_and_of_the_host_are_parents_and_children_of_ours_in_the_asker_s_trace(
    asked: Any,
) -> None:
    _, left = asked
    spans = left.of(INSTRUMENTED)
    assert tree(spans, ASKER) == request(QUERIED, QUERIED)
    by_name = {each.name: (each.scope, each.kind) for each in spans}
    assert {name for name, (scope, _) in by_name.items() if scope == HOST} == OF_HOST
    assert {name for name, (scope, _) in by_name.items() if scope == names.SCOPE} == OURS
    assert by_name["GET /ask"] == ("fastapi", "SERVER")


def test_each_span_is_exported_once_also_one_of_ours_that_the_host_has_told_something(asked: Any) -> None:
    _, left = asked
    assert len({(each.trace, each.id) for each in left.spans}) == len(left.spans)
    for trace in (AS_IT_IS, INSTRUMENTED):
        (told,) = [each for each in left.of(trace) if "host.note" in each.attributes]
        assert (told.name, told.attributes["dataface.operation.name"]) == ("catalog.search", "catalog.search")
    assert sum(each.name == "statement" for each in left.spans) == 4


def test_a_call_in_a_thread_of_a_host_s_is_below_what_started_it_where_threads_are_instrumented(
    asked: Any,
) -> None:
    _, left = asked
    assert tree(left.of(AS_IT_IS), ASKER) == request()
    elsewhere = [each for each in left.spans if each.name == "tool.call" and each.trace != INSTRUMENTED]
    assert [each.parent for each in elsewhere] == [None, None]
    assert len({each.trace for each in elsewhere} | {AS_IT_IS}) == 3
    threads = [each for each in left.of(INSTRUMENTED) if each.name == "tool.call"]
    (gather,) = [each for each in left.of(INSTRUMENTED) if each.name == "gather"]
    assert [each.parent for each in threads] == [gather.id] * 2


def test_a_line_and_a_record_of_the_host_s_log_name_the_trace_and_the_span_of_ours_that_they_are_written_in(
    asked: Any,
) -> None:
    place, left = asked
    (built,) = [each for each in left.of(INSTRUMENTED) if each.name == "context.build"]
    lines = [line for line in left.stderr.splitlines() if line.startswith("line ")]
    assert lines == [f"line {built.trace} {built.id} building"]
    if place != "host":  # which has no logger provider
        assert [each for each in left.logs if each.logger == HOST] == [Logged(HOST, built.trace, built.id)]


def test_what_a_host_begins_before_the_first_project_is_opened_is_recorded_by_its_own_provider_alone(
    asked: Any,
) -> None:
    place, left = asked
    assert [each.name for each in left.spans if each.name == "start"] == ["start"] * (place == "host")


@pytest.mark.parametrize("place", ["host", "files"])
def test_beside_a_second_provider_each_records_its_own_spans_once_and_the_trace_goes_through_both(
    sample: Sample, tmp_path: Path, place: Place
) -> None:
    left = ask(tmp_path, sample, place, "local")
    ours, local = left.of(INSTRUMENTED), [each for each in left.local if each.trace == INSTRUMENTED]
    assert {each.name for each in ours} == OURS
    assert {each.name for each in local} == {"GET /ask", *OF_HOST}
    both = [*ours, *local]
    assert len({each.id for each in both}) == len(both)
    answered: Tree = ("answer", [("context.build", [LOOKED, ("gather", [QUERIED, QUERIED])])])
    assert tree(both, ASKER) == [("GET /ask", [answered])]
    # One that is set after the first is refused by OpenTelemetry, which says so, and nothing changes.
    assert "Overriding of current TracerProvider is not allowed" in left.stderr


def test_fastapi_that_is_told_to_export_by_itself_sends_each_span_of_our_pipeline_a_second_time(
    sample: Sample, tmp_path: Path
) -> None:
    left = ask(tmp_path, sample, "otlp", FASTAPI_OTEL_AUTO_CONFIGURE="true")
    assert set(Counter(each.id for each in left.spans).values()) == {2}
    each_once = {each.id: each for each in left.of(INSTRUMENTED)}
    assert tree(each_once.values(), ASKER) == request(QUERIED, QUERIED)
