"""Dashboards: how many of a face's charts failed, which faces a search left out, and threads that keep their context.

A render whose every chart failed is a success for MCP, and its result does not say how many charts the face has.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.util.types import AttributeValue

from context_telemetry.conventions import names
from context_telemetry.instrumentation import contract_watch, freshness
from context_telemetry.instrumentation.hooks import Hook
from context_telemetry.instrumentation.tools import first_code_of, telling_code_of
from context_telemetry.observe.fork import on_forget
from context_telemetry.observe.observed import Plan, tap
from context_telemetry.observe.operation import Operation, current
from context_telemetry.observe.reading import Call, Reading, reader

_DASHBOARD_SEARCH = "dashboard.search"
_FACES = "faces"
# An error answer of a resource is this small; a longer text is content.
_ERROR_TEXT_LIMIT = 4_096


# -- rendering -----------------------------------------------------------------------------------


# Channels that are references to columns of the chart's query in every chart type that has them.
_COLUMN_CHANNELS = ("x", "y", "theta", "value")
# They hand out what was asked for and draw nothing that asks.
_FOR_MODELS = frozenset({"json", "text", "yaml", "data"})


def _charts(layout: Any) -> Iterator[Any]:
    """Every chart of a layout, those of nested faces included."""
    for item in getattr(layout, "items", None) or ():
        if getattr(item, "chart", None) is not None:
            yield item.chart
        if getattr(item, "face", None) is not None:
            yield from _charts(item.face.layout)


def _queries(chart: Any) -> set[str]:
    """The names of the queries that a chart is drawn from: its own, and those of its layers."""
    layers = getattr(chart, "layers", None) or ()
    return {chart.query_name, *(getattr(layer, "query", None) for layer in layers)} - {None}


def _needed_columns(chart: Any) -> Iterator[str]:
    for channel in _COLUMN_CHANNELS:
        value = getattr(chart, channel, None)
        yield from (each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str))


def _lacks_data(chart: Any, failed: Any, columns: dict[str, frozenset[str]]) -> bool:
    """Whether a query of a chart failed, or its own came back without a column that the chart is drawn from."""
    if not _queries(chart).isdisjoint(failed):
        return True
    found = columns.get(chart.query_name, frozenset())
    return bool(found) and not found.issuperset(_needed_columns(chart))


def tell_charts(op: Operation, call: Call) -> None:
    """Of a call of the engine, which has the face and its executor: the layout's charts, and those without their data.

    The result names only charts that were drawn: neither one on a tab that is not shown, nor, in the formats for
    models, one whose column is gone. A query of no chart gives the options of a variable, or says whether something is
    shown: when it fails, Dataface draws the page without, and says nothing. The formats for models have no controls.
    """
    charts = list(_charts(getattr(call.argument("face"), "layout", None)))
    columns = op.notes.get("columns", {})
    # A query that was answered is there too where its rows could not be stored: they are drawn all the same.
    failed = getattr(call.argument("executor"), "_query_errors", {}).keys() - columns.keys()
    freshness.tell_age(op, call.argument("executor"))
    op.notes["charts"] = frozenset(str(chart.id) for chart in charts)
    op.notes["charts_without_data"] = frozenset(
        str(chart.id) for chart in charts if _lacks_data(chart, failed, columns)
    )
    is_drawn = call.argument("format") not in _FOR_MODELS
    op.notes["others_failed"] = is_drawn and not failed <= set().union(*map(_queries, charts))


def tap_rows(call: Call) -> None:
    """The columns that a query of a face came back with, where the registry below is not told which query it runs."""
    op = current()
    if op is None or op.name != "dashboard.render" or not call.result:
        return
    op.notes.setdefault("columns", {})[call.argument("query_name")] = frozenset(call.result[0])


@reader(reasons=("charts_failed", "all_charts_failed"))
def read_render(call: Call) -> Reading | None:
    """The outcome of a render from its status and its structured errors."""
    op, result = current(), call.result
    attributes: dict[str, AttributeValue] = {}
    face_path = _face_path(call)
    if face_path is not None:
        attributes[names.DATAFACE_FACE] = face_path
        if op is not None:
            served = call.argument("project") or call.argument("project_dir")
            contract_watch.rendered(op, served, face_path)
    notes = op.notes if op is not None else {}
    charts: frozenset[str] | None = notes.get("charts")
    failed: frozenset[str] = notes.get("charts_without_data", frozenset())
    if result is not None:
        failed |= _failed_charts(result.chart_errors)
    if charts is not None:
        attributes[names.DATAFACE_CHARTS_TOTAL] = len(charts)
        attributes[names.DATAFACE_CHARTS_FAILED] = len(failed)
    reasons: tuple[str, ...] = ()
    if charts and len(failed) >= len(charts):
        reasons = ("all_charts_failed",)
    elif failed or notes.get("others_failed"):
        reasons = ("charts_failed",)
    if result is None:  # it raised: before 0.4.0 a chart without its data cannot be written as YAML
        return Reading(reasons=reasons, attributes=attributes)
    unusable = getattr(result, "status", None) == "failed" or not getattr(result, "success", True)
    if unusable:
        errors = [result.face_error] if result.face_error is not None else list(result.validation_errors)
    else:
        errors = list(result.chart_errors)
    code = telling_code_of(errors, op)
    explain(op, code)
    return Reading(
        outcome="failed" if unusable else "ok", reasons=reasons, error_code=code, attributes=attributes
    )


@reader()
def read_replay(call: Call) -> Reading | None:
    """Whether a board's two files could be drawn."""
    result = call.result
    if result is None or result.success:
        return None
    return Reading(outcome="failed", error_code=telling_code_of(list(result.errors), current()))


def tap_replay(call: Call) -> None:
    """A board is as old as its recording: Dataface stamps it with that, as with the time of a stored result."""
    op = current()
    if op is not None and op.name == "dashboard.render" and call.error is None:
        freshness.tell_recorded(op, getattr(call.argument("recording"), "recorded_at", None))


def explain(op: Operation | None, code: str | None) -> None:
    """A render with failed charts has not failed itself: hand up the code and class that its caller may fail of."""
    caller = op.parent if op is not None else None
    if op is None or caller is None or code is None:
        return
    inner_type, inner_code = op.inner_failure or ("_OTHER", None)
    caller.inner_failure = (inner_type if inner_code == code else "_OTHER", code)
    if caller.name == "page.serve":  # it answers with what was drawn, and names no code
        caller.error_code = code


def _failed_charts(errors: Any) -> frozenset[str]:
    """The charts that the errors are about; an error that names no chart stands for one of its own.

    It is named in the error's fields; from 0.3.0 on in ``chart`` or in the authoring path (``charts.NAME``) as well.
    """
    return frozenset(
        str(
            getattr(error, "chart", None)
            or error.fields.get("chart_id")
            or getattr(error, "path", None)
            or f"error {number}"
        ).removeprefix("charts.")
        for number, error in enumerate(errors)
    )


def _face_path(call: Call) -> str | None:
    """The face's path in its project, None for one that is no file there: before 0.3.0 it is what the caller sent."""
    face_path = getattr(getattr(call.argument("face"), "path", None), "relpath", None)
    if isinstance(face_path, str):
        return face_path
    asked, served = call.argument("path"), call.argument("project")
    root = getattr(served, "root", None) or call.argument("project_dir")
    if not isinstance(asked, Path) or not isinstance(root, Path) or ".." in asked.parts:
        return None
    return face_in(root, root / asked)  # an absolute path stays what it is


def face_in(root: Path, file: Path) -> str | None:
    """A file as a face's path in the project at ``root``, None for one that is no file there."""
    return file.relative_to(root).as_posix() if file.is_relative_to(root) and file.is_file() else None


def _in_context(context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
    token = otel_context.attach(context)
    try:
        return function(*args, **kwargs)
    finally:
        otel_context.detach(token)


def _wrap_pool(pool: Any) -> Any:
    """Query threads run in the OpenTelemetry context of the render that started them, and in no other of its contexts:
    Dataface's own context variables are empty there, and must stay so."""

    class ContextPool(pool):  # type: ignore[misc]  # the base is whatever Dataface uses
        def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Any:
            return super().submit(_in_context, otel_context.get_current(), function, *args, **kwargs)

    return functools.update_wrapper(ContextPool, pool, updated=())


# -- searching and listing -----------------------------------------------------------------------
#
# A face that does not parse is left out, by search without a word: a view of the yaml module that these two modules
# use tells. From 0.2.0 on the project's paths say which face it is. Before, every YAML file below the folder is looked
# at, faces or not, search asks the listing, and the listing says what it skipped: there, only its entries count.


def _searching() -> Operation | None:
    op = current()
    return op if op is not None and op.name == _DASHBOARD_SEARCH else None


def _left_out(op: Operation, face: Any) -> None:
    op.degraded("face_unreadable")
    if isinstance(face, str):
        op.attributes.setdefault(names.DATAFACE_FACE, face)


def _view(seen: Callable[[Operation, Any], None]) -> Callable[[Any], Any]:
    """A view of the yaml module that shows what it parsed, and an exception for what it could not."""

    def show(call: Call) -> None:
        op = _searching()
        if op is not None and (call.error is None or isinstance(call.error, Exception)):
            seen(op, call.result if call.error is None else call.error)

    def wrap(yaml: Any) -> Any:
        class SeenYaml:
            def __getattr__(self, name: str) -> Any:
                return getattr(yaml, name)

            @staticmethod
            @tap(show)
            def safe_load(*args: Any, **kwargs: Any) -> Any:
                return yaml.safe_load(*args, **kwargs)

        return SeenYaml()

    return wrap


def _parsed_face(op: Operation, content: Any) -> None:
    if content is not None and not isinstance(content, dict):  # an empty file is no face, and no lost one
        _left_out(op, op.notes.get("reading"))


def _tap_read_text(call: Call) -> None:
    op = _searching()
    if op is None:
        return
    op.notes["reading"] = getattr(call.argument("self"), "relpath", None)
    if isinstance(call.error, OSError):
        _left_out(op, op.notes["reading"])


def _parsed_file(op: Operation, content: Any) -> None:
    op.notes["empty"] = content is None


def _tap_skipped(call: Call) -> None:
    op = _searching()
    if op is not None and not op.notes.pop("empty", False):
        op.notes.setdefault("skipped", []).append(call.argument("path"))


@reader(reasons=("face_unreadable",))
def read_listing(call: Call) -> Reading | None:
    """The faces among the files that a listing skipped: in a project they are those in its folder of faces."""
    op, folder = _searching(), call.argument("directory")
    skipped = op.notes.pop("skipped", ()) if op is not None else ()
    if skipped and (folder / _FACES).is_dir():
        skipped = [path for path in skipped if path.parts[0] == _FACES]
    if not skipped:
        return None
    return Reading(reasons=("face_unreadable",), attributes={names.DATAFACE_FACE: skipped[0].as_posix()})


_kept_index: tuple[Any, Any] = (None, None)
"""The index of faces that search keeps for later calls though a face is missing in it, and that face."""


@on_forget
def _forget() -> None:
    global _kept_index
    _kept_index = (None, None)


def _tap_index(call: Call) -> None:
    global _kept_index
    op = _searching()
    if op is None:
        return
    if "face_unreadable" in op.reasons:
        _kept_index = (call.result, op.attributes.get(names.DATAFACE_FACE))
    elif call.result is not None and call.result is _kept_index[0]:
        _left_out(op, _kept_index[1])


# -- resources -----------------------------------------------------------------------------------


def _tap_resource(call: Call) -> None:
    """An unknown resource is answered as content: a small JSON object with an error in it."""
    op, text = current(), call.result
    if op is None or op.name != "resource.read" or not isinstance(text, str):
        return
    # The error repeats the URI, each character of it as six at most.
    if len(text) > _ERROR_TEXT_LIMIT + 6 * len(str(call.argument("uri"))):
        return
    if text.startswith("{") and _is_error(text):
        op.degraded("resource_unknown")
        op.unresolved += 1


def _is_error(text: str) -> bool:
    try:
        content = json.loads(text)
    except ValueError:
        return False
    return isinstance(content, dict) and set(content) == {"error"} and isinstance(content["error"], str)


def _tap_dashboard(call: Call) -> None:
    """A dashboard that does not exist or does not compile is answered as content as well."""
    op = current()
    if op is None or op.name != "resource.read" or getattr(call.result, "success", True):
        return
    op.degraded("resource_unknown")
    op.unresolved += 1
    op.error_code = first_code_of(call.result.errors)


def _render(parameter: str, *, since: str, until: str | None = None) -> Hook:
    return Hook(
        "dataface.core.dashboard",
        "render_dashboard",
        Plan("dashboard.render", reader=read_render),
        parameters=(parameter,),
        since=since,
        until=until,
    )


HOOKS = (
    _render("path", since="0.1.2", until="0.2.0"),
    _render("face", since="0.3.0"),
    Hook(
        "dataface.agent_api.board_artifact",
        "render_board_from_files",
        Plan("dashboard.render", reader=read_replay),
        since="0.3.1",
    ),
    Hook(
        "dataface.core.render.board_replay",
        "render_board_from_artifact",
        tap(tap_replay),
        parameters=("recording",),
        since="0.3.1",
    ),
    Hook(
        "dataface.core.execute.executor",
        "Executor.execute_query",
        tap(tap_rows),
        parameters=("query_name",),
        until="0.2.0",
    ),
    Hook("dataface.core.execute.parallel", "ThreadPoolExecutor", _wrap_pool),
    # 0.4.0 hands its context over itself.
    Hook(
        "dataface.core.execute.adapters.sql_adapter",
        "ThreadPoolExecutor",
        _wrap_pool,
        since="0.1.5",
        until="0.3.1",
    ),
    Hook(
        "dataface.agent_api.search",
        "search_dashboards",
        Plan(_DASHBOARD_SEARCH),
    ),
    Hook("dataface.agent_api.search", "yaml", _view(_parsed_face), since="0.2.0"),
    Hook("dataface.agent_api.search", "_get_index", tap(_tap_index), until="0.1.5"),
    Hook(
        "dataface.agent_api.dashboards",
        "list_dashboards",
        Plan(_DASHBOARD_SEARCH, reader=read_listing, joins=True),
    ),
    Hook("dataface.agent_api.dashboards", "yaml", _view(_parsed_face), since="0.2.0"),
    Hook("dataface.agent_api.dashboards", "yaml", _view(_parsed_file), until="0.1.5"),
    Hook("dataface.agent_api.dashboards", "SkippedFile.__init__", tap(_tap_skipped), until="0.1.5"),
    Hook("dataface.core.project", "ProjectPath.read_text", tap(_tap_read_text), since="0.2.0"),
    Hook("dataface.agent_api.dashboards", "get_dashboard", tap(_tap_dashboard)),
    Hook("dataface.ai.mcp.server", "_read_resource_content", tap(_tap_resource)),
)
