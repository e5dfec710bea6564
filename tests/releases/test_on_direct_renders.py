"""Renders without `render_dashboard`, on every release that has them: of a file, of a fence, by the engine."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from inprocess import instrumented, opened
from memory import Memory, attributes
from opentelemetry.sdk.trace import ReadableSpan
from scenario import RELEASE, scenario

from context_telemetry.instrumentation import version
from context_telemetry.observe import project as observe_project

pytestmark = pytest.mark.real

FINE, GONE = "SELECT status, 1 AS n FROM fct_orders LIMIT 3", "SELECT no_such_column FROM fct_orders"
CHARTS = pytest.mark.parametrize(
    ("queries", "reasons", "failed"),
    [
        ((FINE, FINE), (), 0),
        ((FINE, GONE), ("charts_failed",), 1),
        ((GONE, GONE), ("all_charts_failed",), 2),
    ],
    ids=["none", "one", "all"],
)
ABSENT = "there is no such function: `render_dashboard` is the way"


@pytest.fixture
def memory() -> Iterator[Memory]:
    with instrumented() as made:
        yield made


def content(*queries: str) -> str:
    """A face with one chart for each query. JSON is YAML."""
    charts = {f"c{number}": sql for number, sql in enumerate(queries)}
    return json.dumps(
        {
            "title": "T",
            "source": "shop",
            "queries": {f"q_{chart}": {"sql": sql} for chart, sql in charts.items()},
            "charts": {chart: {"type": "table", "query": f"q_{chart}"} for chart in charts},
            "rows": list(charts),
        }
    )


def written(project: Path, text: str) -> Path:
    file = project / "faces" / "direct.yml"
    file.write_text(text)
    return file


def render_file(file: Path) -> Any:
    """What the API for other programs gives for a face: found by the face alone, as its documentation has it."""
    if version(RELEASE) < (0, 1, 5):
        return importlib.import_module("dataface.core.render.face_api").render_face(file)
    module = importlib.import_module("dataface.agent_api.render_face")
    return module.render_face(file, warnings_ignore=frozenset())


def render_fence(project: Path, text: str, **options: str) -> str:
    """What a fence of a Markdown page becomes."""
    markdown = importlib.import_module("dataface.integrations.markdown")
    with markdown.project_dir_override(project):
        return str(markdown.fence_dataface(text, "dataface", "dataface", options, None))


def render_by_engine(project: Path, text: str, **options: Any) -> Any:
    """A face and an executor of one's own, as the quick start of Dataface has them."""
    compiler = importlib.import_module("dataface.core.compile")
    with opened(project) as (context, registry):
        if version(RELEASE) < (0, 1, 5):
            sources: dict[str, Any] = {"project_dir": project}
        elif version(RELEASE) < (0, 2, 0):
            sources = {"project_sources": compiler.load_project_sources(project)}
        else:
            sources = {"project_sources": context.project_session.project.sources}
        compiled = compiler.compile(text, **sources)
        assert not compiled.errors
        executor = importlib.import_module("dataface.core.execute").Executor(
            compiled.face, registry, query_registry=compiled.query_registry
        )
        return importlib.import_module("dataface.core.render").render(compiled.face, executor, **options)


def entry(memory: Memory) -> ReadableSpan:
    """The one request that there was; all else is below it."""
    (found,) = [span for span in memory.spans if attributes(span)["dataface.entry"]]
    assert (found.name, attributes(found)["dataface.surface"]) == ("dashboard.render", "library")
    assert [span.name for span in memory.spans].count("dashboard.render") == 1
    return found


def assert_told(span: ReadableSpan, charts: int, reasons: tuple[str, ...], failed: int) -> None:
    found = attributes(span)
    assert found["dataface.outcome"] == ("degraded" if reasons else "ok")
    assert found.get("dataface.degradation.reasons", ()) == reasons
    assert (found["dataface.charts.total"], found["dataface.charts.failed"]) == (charts, failed)
    assert ("dataface.error.code" in found) == bool(failed)
    assert "error.type" not in found


@scenario("dashboards", until="0.2.0", because=ABSENT)
@CHARTS
def test_a_file_that_another_program_has_rendered_tells_the_charts_that_failed(
    project: Path, memory: Memory, queries: tuple[str, ...], reasons: tuple[str, ...], failed: int
) -> None:
    assert "<svg" in render_file(written(project, content(*queries)))
    assert_told(entry(memory), len(queries), reasons, failed)
    assert attributes(entry(memory))["dataface.face"] == "faces/direct.yml"


@scenario("dashboards", until="0.2.0", because=ABSENT)
def test_a_file_is_named_as_in_its_project_where_the_process_serves_none(
    project: Path, memory: Memory, tmp_path: Path
) -> None:
    observe_project.forget()
    render_file(written(project, content(FINE)))
    assert attributes(entry(memory))["dataface.face"] == "faces/direct.yml"
    memory.clear()
    (tmp_path / "alone.yml").write_text(content(FINE))  # in no project
    with contextlib.suppress(Exception):
        render_file(tmp_path / "alone.yml")
    assert "dataface.face" not in attributes(entry(memory))


@scenario("dashboards")
@CHARTS
def test_a_fence_of_a_markdown_page_tells_the_charts_that_failed(
    project: Path, memory: Memory, queries: tuple[str, ...], reasons: tuple[str, ...], failed: int
) -> None:
    assert "<svg" in render_fence(project, content(*queries))
    assert_told(entry(memory), len(queries), reasons, failed)


@scenario("dashboards")
@CHARTS
def test_the_engine_with_a_face_and_an_executor_of_one_s_own_tells_the_charts_that_failed(
    project: Path, memory: Memory, queries: tuple[str, ...], reasons: tuple[str, ...], failed: int
) -> None:
    assert render_by_engine(project, content(*queries)).output
    assert_told(entry(memory), len(queries), reasons, failed)


def _as_file(project: Path, text: str) -> Any:
    return render_file(written(project, text))


WRONG = "title: T\nno_such_field: 1\nrows: []\n"


@scenario("dashboards", until="0.2.0", because=ABSENT)
@pytest.mark.parametrize("render", [_as_file, render_fence])
def test_what_does_not_compile_is_a_failed_render_with_dataface_s_code(
    project: Path, memory: Memory, render: Callable[[Path, str], Any]
) -> None:
    if render is _as_file:
        with pytest.raises(ValueError, match="Compilation"):
            render(project, WRONG)
    else:
        assert "dataface-error" in render(project, WRONG)
    found = attributes(entry(memory))
    assert (found["dataface.outcome"], found["error.type"]) == ("failed", "ValueError")
    assert found["dataface.error.code"].startswith("DF-COMPILE-")
    assert "dataface.degradation.reasons" not in found


@scenario(
    "dashboards", since="0.3.0", because="its fences go by other functions, whose own scenario has them"
)
def test_a_fence_that_does_not_compile_is_a_failed_render_with_dataface_s_code(
    project: Path, memory: Memory
) -> None:
    assert "dataface-error" in render_fence(project, WRONG)
    found = attributes(entry(memory))
    assert found["dataface.outcome"] == "failed"
    assert found["dataface.error.code"].startswith("ERR-")


@scenario("dashboards", until="0.2.0", because=ABSENT)
def test_a_file_that_is_not_there_is_a_failed_render(project: Path, memory: Memory) -> None:
    with pytest.raises(FileNotFoundError):
        render_file(project / "faces" / "nope.yml")
    found = attributes(entry(memory))
    assert (found["dataface.outcome"], found["error.type"]) == ("failed", "FileNotFoundError")
    assert os.fspath(project) not in json.dumps(dict(found), default=str)


@scenario("dashboards", until="0.3.1", because="YAML has a word for a chart without its data")
def test_a_render_that_raises_of_its_charts_tells_them_and_fails(project: Path, memory: Memory) -> None:
    with pytest.raises(KeyError, match="chart"):  # Dataface's own, of the chart that it has no data for
        render_by_engine(project, content(GONE), format="yaml")
    found = attributes(entry(memory))
    assert found["dataface.outcome"] == "failed"
    assert found["dataface.degradation.reasons"] == ("all_charts_failed",)
