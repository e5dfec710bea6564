"""Dashboards on every release: charts that failed, faces that were left out, and threads that keep their request."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from inprocess import answered, instrumented
from memory import Memory, attributes
from opentelemetry.sdk.trace import ReadableSpan
from scenario import scenario

from context_telemetry import operation
from context_telemetry.instrumentation import rendering
from context_telemetry.observe import failsafe
from context_telemetry.rehearsal.driver import resource, tool
from context_telemetry.rehearsal.sample import Sample

pytestmark = pytest.mark.real

FINE, GONE = "SELECT status, 1 AS n FROM fct_orders LIMIT 3", "SELECT no_such_column FROM fct_orders"
OK: tuple[str, tuple[str, ...]] = ("ok", ())
SEARCH, LIST = tool("search_dashboards", query="revenue"), resource("dataface://dashboards")


@pytest.fixture
def memory() -> Iterator[Memory]:
    with instrumented() as made:
        yield made


def face(project: Path, name: str, *queries: str) -> str:
    """A face with one chart for each query; returns its path in the project."""
    charts = {f"c{number}": sql for number, sql in enumerate(queries)}
    content = {
        "title": name,
        "source": "shop",
        "queries": {f"q_{chart}": {"sql": sql} for chart, sql in charts.items()},
        "charts": {chart: {"type": "table", "query": f"q_{chart}"} for chart in charts},
        "rows": list(charts),
    }
    (project / "faces" / f"{name}.yml").write_text(json.dumps(content))  # JSON is YAML
    return f"faces/{name}.yml"


def told(span: ReadableSpan) -> tuple[str, tuple[str, ...]]:
    found = attributes(span)
    return found["dataface.outcome"], found.get("dataface.degradation.reasons", ())


def inner(memory: Memory, name: str, entry: ReadableSpan) -> list[ReadableSpan]:
    assert entry.context is not None
    trace = entry.context.trace_id
    return [
        span for span in memory.spans if span.name == name and span.context and span.context.trace_id == trace
    ]


@scenario("dashboards")
@pytest.mark.parametrize(
    ("queries", "reasons", "failed"),
    [
        ((FINE, FINE, FINE), (), 0),
        ((FINE, GONE, FINE), ("charts_failed",), 1),
        ((GONE, GONE), ("all_charts_failed",), 2),
    ],
    ids=["none", "one", "all"],
)
def test_charts_that_failed_are_counted_in_a_render_that_mcp_calls_a_success(
    project: Path, memory: Memory, queries: tuple[str, ...], reasons: tuple[str, ...], failed: int
) -> None:
    path = face(project, "counted", *queries)
    ((answer, entry),) = answered(project, memory, tool("render_dashboard", path=path, format="text"))
    assert not answer.is_error
    (render,) = inner(memory, "dashboard.render", entry)
    assert told(render) == told(entry) == ("degraded" if reasons else "ok", reasons)
    counted = attributes(render)
    assert (counted["dataface.charts.total"], counted["dataface.charts.failed"]) == (len(queries), failed)
    assert counted["dataface.face"] == path
    assert ("dataface.error.code" in counted) == bool(failed)


def control(project: Path, options: str) -> str:
    """A face with a drop-down, whose options are what a query gives, and a chart; returns its path."""
    file = project / face(project, "control", FINE)
    content = json.loads(file.read_text())
    content["queries"]["choices"] = {"sql": options}
    content["variables"] = {"status": {"input": "select", "options": {"query": "choices"}}}
    file.write_text(json.dumps(content))
    return "faces/control.yml"


@scenario(
    "dashboards", since="0.1.5", because="its page fails as a whole, and the other formats ask for no options"
)
@pytest.mark.parametrize("form", ["json", "svg"])
def test_a_variable_without_its_options_makes_a_render_degraded_though_no_chart_failed(
    project: Path, memory: Memory, form: str
) -> None:
    for options, reasons in (
        ("SELECT DISTINCT status FROM fct_orders", ()),
        ("SELECT DISTINCT status FROM fct_orders WHERE FALSE", ()),  # none is an answer, too
        (GONE, ("charts_failed",) if form == "svg" else ()),  # a model gets all that there is
    ):
        path = control(project, options)
        ((answer, entry),) = answered(project, memory, tool("render_dashboard", path=path, format=form))
        assert not answer.is_error
        (render,) = inner(memory, "dashboard.render", entry)
        assert told(render) == told(entry) == ("degraded" if reasons else "ok", reasons)
        said = attributes(render)
        assert (said["dataface.charts.total"], said["dataface.charts.failed"]) == (1, 0)


@scenario("dashboards", until="0.1.4", because="from 0.1.5 on the render is drawn without them")
def test_a_variable_without_its_options_fails_the_drawing_and_no_other_format(
    project: Path, memory: Memory
) -> None:
    path = control(project, GONE)
    ((drawn, failed),) = answered(project, memory, tool("render_dashboard", path=path, format="svg"))
    assert drawn.is_error
    assert told(failed) == ("failed", ())
    ((_, entry),) = answered(project, memory, tool("render_dashboard", path=path, format="json"))
    assert told(entry) == OK
    assert len(inner(memory, "query.execute", entry)) == 1


@scenario(
    "dashboards",
    since="0.1.5",
    until="0.1.5",
    because="has no chart type of layers, or does not ask for them first",
)
@pytest.mark.parametrize(
    ("second", "reasons"), [(FINE, ()), (GONE, ("all_charts_failed",))], ids=["whole", "part"]
)
def test_a_chart_whose_layer_has_no_data_has_failed_in_the_formats_for_models_too(
    project: Path, memory: Memory, second: str, reasons: tuple[str, ...]
) -> None:
    file = project / face(project, "layers", FINE)
    content = json.loads(file.read_text())
    content["queries"]["second"] = {"sql": second}
    layers = [{"type": "bar", "y": "n"}, {"type": "line", "y": "n", "query": "second"}]
    content["charts"]["c0"] = {"type": "layered", "query": "q_c0", "x": "status", "layers": layers}
    file.write_text(json.dumps(content))
    for form in ("json", "svg"):
        ((_, entry),) = answered(
            project, memory, tool("render_dashboard", path="faces/layers.yml", format=form)
        )
        assert told(entry) == ("degraded" if reasons else "ok", reasons)


@scenario("dashboards")
def test_a_face_that_does_not_compile_fails_the_render_with_dataface_s_code(
    project: Path, memory: Memory
) -> None:
    (project / "faces" / "wrong.yml").write_text("title: T\nno_such_field: 1\nrows: []\n")
    ((answer, entry),) = answered(project, memory, tool("render_dashboard", path="faces/wrong.yml"))
    assert answer.is_error
    (render,) = inner(memory, "dashboard.render", entry)
    assert told(render) == told(entry) == ("failed", ())
    assert attributes(render)["dataface.error.code"] == attributes(entry)["dataface.error.code"]


@scenario("dashboards", since="0.4.0", because="before 0.4.0 such a render raises: YAML has no word for it")
def test_a_tool_whose_answer_only_says_that_something_failed_tells_the_code_of_what_failed_inside(
    project: Path, memory: Memory
) -> None:
    path = face(project, "gone", GONE)
    ((answer, entry),) = answered(project, memory, tool("render_dashboard", path=path, format="yaml"))
    assert answer.is_error
    (render,) = inner(memory, "dashboard.render", entry)
    for span in (render, entry):
        assert attributes(span)["dataface.outcome"] == "failed"
        assert attributes(span)["dataface.error.code"].endswith("-BINDER-UNKNOWN-COLUMN")


@scenario("dashboards")
def test_query_threads_of_a_render_stay_below_their_request(project: Path, memory: Memory) -> None:
    queries = tuple(f"SELECT {number} AS n" for number in range(6))
    path = face(project, "threads", *queries)
    ((_, entry),) = answered(project, memory, tool("render_dashboard", path=path, format="text"))
    executed = [span for span in memory.spans if span.name == "query.execute"]
    assert inner(memory, "query.execute", entry) == executed
    assert len(executed) == len(queries)
    (render,) = inner(memory, "dashboard.render", entry)
    assert render.context is not None
    assert {span.parent.span_id for span in executed if span.parent} == {render.context.span_id}


@scenario("dashboards")
def test_a_face_that_does_not_parse_is_left_out_of_searches_and_lists_again_and_again(
    project: Path, memory: Memory
) -> None:
    (project / "faces" / "broken.yml").write_text("title: [\n")
    asked = answered(project, memory, SEARCH, SEARCH, LIST, LIST)
    assert [answer.is_error for answer, _ in asked] == [False] * 4
    assert [told(span) for _, span in asked] == [("degraded", ("face_unreadable",))] * 4
    searches = [span for span in memory.spans if span.name == "dashboard.search"]
    assert [attributes(span)["dataface.face"] for span in searches] == ["faces/broken.yml"] * 4


@scenario("dashboards")
def test_a_list_in_place_of_a_face_is_left_out_as_well(project: Path, memory: Memory) -> None:
    (project / "faces" / "list.yml").write_text("- a\n- b\n")
    asked = answered(project, memory, SEARCH, LIST)
    assert [told(span) for _, span in asked] == [("degraded", ("face_unreadable",))] * 2


@scenario("dashboards")
def test_the_view_of_yaml_takes_what_yaml_takes_and_never_fails_its_reader(memory: Memory) -> None:
    import yaml

    def broken(_op: object, _content: object) -> None:
        raise LookupError

    search = importlib.import_module("dataface.agent_api.dashboards")
    failing = rendering._view(broken)(yaml)
    before = sum(failsafe.errors().values())
    for load in (search.yaml.safe_load, failing.safe_load):
        with operation("dashboard.search"):
            assert load("a: 1") == load(stream="a: 1") == {"a": 1}
            with pytest.raises(yaml.YAMLError):
                load("a: [")
            with pytest.raises(TypeError):
                load()
    assert sum(failsafe.errors().values()) == before + 4
    assert load("a: 1") == {"a": 1}
    assert sum(failsafe.errors().values()) == before + 4


@scenario("dashboards")
def test_empty_files_and_other_yaml_of_the_project_are_no_lost_faces(project: Path, memory: Memory) -> None:
    (project / "faces" / "meta.yaml").write_text("# defaults for this folder\n")
    (project / "faces" / "empty.yml").write_text("")
    (project / "packages.yml").write_text("")
    (project / "macros.yml").write_text("title: [\n")
    asked = answered(project, memory, SEARCH, SEARCH, LIST)
    assert [told(span) for _, span in asked] == [OK] * 3


@scenario("dashboards")
def test_a_face_that_was_repaired_is_found_by_the_next_search_that_looks(
    project: Path, memory: Memory
) -> None:
    """0.1.2 to 0.1.5 keep their index, without it, until any other face changes: until then it is still missing."""
    broken = project / "faces" / "broken.yml"
    broken.write_text("title: [\n")
    ((_, before),) = answered(project, memory, SEARCH)
    face(project, "broken", FINE)
    face(project, "another", FINE)
    ((_, after),) = answered(project, memory, SEARCH)
    assert (told(before), told(after)) == (("degraded", ("face_unreadable",)), OK)


@scenario("dashboards", deep=True)
def test_a_chart_on_a_tab_that_is_not_drawn_counts_as_failed(project: Path, memory: Memory) -> None:
    file = project / face(project, "tabs", FINE, GONE)
    content = json.loads(file.read_text())
    first, second = content.pop("rows")
    content["tabs"] = {"items": [{"title": "A", "rows": [first]}, {"title": "B", "rows": [second]}]}
    file.write_text(json.dumps(content))
    ((_, entry),) = answered(project, memory, tool("render_dashboard", path="faces/tabs.yml", format="svg"))
    assert told(entry) == ("degraded", ("charts_failed",))


@scenario("dashboards")
def test_a_path_outside_of_the_project_is_not_exported(
    sample: Sample, memory: Memory, tmp_path: Path
) -> None:
    outside = tmp_path / "elsewhere.yml"
    outside.write_text("title: T\n")
    ((answer, entry),) = answered(sample.root, memory, tool("render_dashboard", path=str(outside)))
    assert answer.is_error
    values = [str(value) for span in memory.spans for value in attributes(span).values()]
    assert [value for value in values if str(tmp_path) in value] == []
    assert told(entry) == ("failed", ())


@scenario(
    "dashboards",
    since="0.1.5",
    because="a warehouse is asked in the thread of its query: there is no second pool",
)
def test_a_pool_of_warehouse_connections_keeps_the_request_too(project: Path, memory: Memory) -> None:
    """An adapter that is not installed is found out in the pool's thread, two threads away from the request."""
    configured = project / "dataface.yml"
    text = configured.read_text()
    assert text.count("sources:\n") == 1
    configured.write_text(
        text.replace(
            "sources:\n",
            "sources:\n  far:\n    type: postgres\n    host: localhost\n    user: u\n    dbname: d\n"
            '    password: \'{{ env_var("NO_SUCH_PASSWORD", "x") }}\'\n',
        )
    )
    path = face(project, "far", FINE)
    file = project / path
    file.write_text(file.read_text().replace('"shop"', '"far"'))
    ((_, entry),) = answered(project, memory, tool("render_dashboard", path=path, format="text"))
    assert told(entry) == ("degraded", ("all_charts_failed", "layer_unavailable"))
