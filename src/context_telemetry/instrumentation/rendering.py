"""Dashboards: how many of a face's charts failed, which faces a search left out, and threads that keep their context.

A render whose every chart failed is a success for MCP, and its result does not say how many charts the face has.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.util.types import AttributeValue

from context_telemetry.conventions import names
from context_telemetry.instrumentation.hooks import Hook
from context_telemetry.instrumentation.tools import known_code
from context_telemetry.observe.observed import Plan, observe, tap
from context_telemetry.observe.operation import current
from context_telemetry.observe.reading import Call, Reading, reader

_DASHBOARD_SEARCH = "dashboard.search"
# An error answer of a resource is this small; a longer text is content.
_ERROR_TEXT_LIMIT = 4_096


# -- rendering -----------------------------------------------------------------------------------


# Channels that are references to columns of the chart's query in every chart type that has them.
_COLUMN_CHANNELS = ("x", "y", "theta", "value")


def _charts(layout: Any) -> Iterator[Any]:
    """Every chart of a layout, those of nested faces included."""
    for item in getattr(layout, "items", None) or ():
        if getattr(item, "chart", None) is not None:
            yield item.chart
        if getattr(item, "face", None) is not None:
            yield from _charts(item.face.layout)


def _needed_columns(chart: Any) -> Iterator[str]:
    for channel in _COLUMN_CHANNELS:
        value = getattr(chart, channel, None)
        yield from (each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str))


def _lacks_data(chart: Any, failed: Any, columns: dict[str, frozenset[str]]) -> bool:
    """Whether the query of a chart failed, or came back without a column that the chart is drawn from."""
    if chart.query_name in failed:
        return True
    found = columns.get(chart.query_name, frozenset())
    return bool(found) and not found.issuperset(_needed_columns(chart))


def _tap_render(call: Call) -> None:
    """The one place that has the face and its executor: the charts that the layout has, and those without their data.

    The result names only charts that were drawn: neither one on a tab that is not shown, nor, in the formats for
    models, one whose column is gone.
    """
    op = current()
    if op is None or op.name != "dashboard.render":
        return
    charts = list(_charts(getattr(call.argument("face"), "layout", None)))
    failed = getattr(call.argument("executor"), "_query_errors", {})
    columns = op.notes.get("columns", {})
    op.notes["charts"] = frozenset(str(chart.id) for chart in charts)
    op.notes["charts_without_data"] = frozenset(
        str(chart.id) for chart in charts if _lacks_data(chart, failed, columns)
    )


@reader(reasons=("charts_failed", "all_charts_failed"))
def read_render(call: Call) -> Reading | None:
    """The outcome of a render from its status and its structured errors."""
    op, result = current(), call.result
    if result is None:
        return None
    attributes: dict[str, AttributeValue] = {}
    face_path = getattr(getattr(call.argument("face"), "path", None), "relpath", None)
    if isinstance(face_path, str):
        attributes[names.DATAFACE_FACE] = face_path
    notes = op.notes if op is not None else {}
    charts: frozenset[str] | None = notes.get("charts")
    failed = _failed_charts(result.chart_errors) | notes.get("charts_without_data", frozenset())
    if charts is not None:
        attributes[names.DATAFACE_CHARTS_TOTAL] = len(charts)
        attributes[names.DATAFACE_CHARTS_FAILED] = len(failed)
    reasons: tuple[str, ...] = ()
    if failed:
        reasons = ("all_charts_failed" if charts and len(failed) >= len(charts) else "charts_failed",)
    if result.status == "failed":
        errors = [result.face_error] if result.face_error is not None else list(result.validation_errors)
    else:
        errors = list(result.chart_errors)
    return Reading(
        outcome="failed" if result.status == "failed" else "ok",
        reasons=reasons,
        error_code=known_code(getattr(errors[0], "code", None)) if errors else None,
        attributes=attributes,
    )


def _failed_charts(errors: Any) -> frozenset[str]:
    """The charts that the errors are about; an error that names no chart stands for one of its own.

    0.4.0 leaves ``chart`` empty and names it in the error's fields and authoring path (``charts.NAME``).
    """
    return frozenset(
        str(error.chart or error.fields.get("chart_id") or error.path or f"error {number}").removeprefix(
            "charts."
        )
        for number, error in enumerate(errors)
    )


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


def _left_out() -> None:
    op = current()
    if op is not None and op.name == _DASHBOARD_SEARCH:
        op.degraded("face_unreadable")
        if "reading" in op.notes:
            op.attributes.setdefault(names.DATAFACE_FACE, op.notes["reading"])


def _wrap_yaml(yaml: Any) -> Any:
    """A face that does not parse is left out, by search without a word: a view of the yaml module of its own tells."""

    class SeenYaml:
        def __getattr__(self, name: str) -> Any:
            return getattr(yaml, name)

        @staticmethod
        def safe_load(text: Any) -> Any:
            try:
                content = yaml.safe_load(text)
            except Exception:
                _left_out()
                raise
            if content is not None and not isinstance(
                content, dict
            ):  # an empty file is no face, and no lost one
                _left_out()
            return content

    return SeenYaml()


def _tap_read_text(call: Call) -> None:
    op = current()
    if op is None or op.name != _DASHBOARD_SEARCH:
        return
    op.notes["reading"] = getattr(call.argument("self"), "relpath", None)
    if isinstance(call.error, OSError):
        _left_out()


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
    errors = call.result.errors
    op.error_code = known_code(getattr(errors[0], "code", None)) if errors else None


HOOKS = (
    Hook(
        "dataface.core.dashboard",
        "render_dashboard",
        lambda function: observe(function, Plan("dashboard.render", reader=read_render)),
        aliases=(
            "dataface.core.serve.server:render_dashboard",
            "dataface.integrations.markdown:render_dashboard",
        ),
        parameters=("face",),
    ),
    Hook("dataface.core.dashboard", "render", tap(_tap_render), parameters=("face",)),
    Hook("dataface.core.execute.parallel", "ThreadPoolExecutor", _wrap_pool),
    Hook(
        "dataface.agent_api.search",
        "search_dashboards",
        lambda function: observe(function, Plan(_DASHBOARD_SEARCH)),
    ),
    Hook("dataface.agent_api.search", "yaml", _wrap_yaml),
    Hook("dataface.core.project", "ProjectPath.read_text", tap(_tap_read_text)),
    Hook(
        "dataface.agent_api.dashboards",
        "list_dashboards",
        lambda function: observe(function, Plan(_DASHBOARD_SEARCH)),
    ),
    Hook("dataface.agent_api.dashboards", "yaml", _wrap_yaml),
    Hook("dataface.agent_api.dashboards", "get_dashboard", tap(_tap_dashboard)),
    Hook("dataface.ai.mcp.server", "_read_resource_content", tap(_tap_resource)),
)
