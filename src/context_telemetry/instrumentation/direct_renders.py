"""Renders that do not go through `render_dashboard`: the engine itself, and up to 0.2.0 the API for other programs.

They hand out the drawing alone, or raise. What became of the charts is what the engine says, which all of them call.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

from context_telemetry.conventions import names
from context_telemetry.instrumentation import contract_watch
from context_telemetry.instrumentation.hooks import Hook
from context_telemetry.instrumentation.rendering import face_in, read_render, tell_charts
from context_telemetry.instrumentation.tools import telling_code_of
from context_telemetry.observe import project
from context_telemetry.observe.observed import Plan, tap
from context_telemetry.observe.operation import Operation, current
from context_telemetry.observe.reading import Call, Reading, reader
from context_telemetry.settings import find_project_root

_RENDER, _DRAWN = "dashboard.render", "drawn"


def _rendering() -> Operation | None:
    op = current()
    return op if op is not None and op.name == _RENDER else None


def _tap_engine(call: Call) -> None:
    """What the engine gave, for whoever hands out the drawing in it alone."""
    op = _rendering()
    if op is not None:
        op.notes[_DRAWN] = call.result
        tell_charts(op, call)


@reader(reasons=("charts_failed", "all_charts_failed"))
def read_drawn(call: Call) -> Reading | None:
    """The outcome of a render that is text by the time it returns, from what the engine gave."""
    op = current()
    drawn = op.notes.get(_DRAWN) if op is not None else None
    if drawn is not None and drawn.face_error is not None:
        return Reading(outcome="failed", error_code=telling_code_of([drawn.face_error], op))
    return read_render(Call(result=drawn, error=call.error))


@reader(reasons=("charts_failed", "all_charts_failed"))
def read_engine(call: Call) -> Reading | None:
    """The outcome of the engine where a program calls it with a face and an executor of its own."""
    _tap_engine(call)
    return read_drawn(call)


@reader(reasons=("charts_failed", "all_charts_failed"))
def read_file(call: Call) -> Reading | None:
    """The outcome of a render of a file, and which face of its project that is."""
    reading, placed, op = read_drawn(call), _placed(call), current()
    if reading is not None and placed is not None and op is not None:
        root, face = placed
        contract_watch.rendered(op, call.argument("project") or root, face)
        reading.attributes = {**reading.attributes, names.DATAFACE_FACE: face}
    return reading


def _placed(call: Call) -> tuple[Path, str] | None:
    """The folder of the project that was named, or is served, or that the file lies in; and the face's path there."""
    asked, named = call.argument("face_path"), getattr(call.argument("project"), "root", None)
    named = named or call.argument("project_dir")
    if not isinstance(asked, (str, Path)):
        return None
    file = Path(os.path.abspath(asked))
    root = Path(os.path.abspath(named)) if isinstance(named, (str, Path)) else project.root()
    if root is None:
        root, file = find_project_root(file.parent), file.resolve()
    face = face_in(root, file) if root is not None else None
    return (root, face) if root is not None and face is not None else None


def _tap_compiled(call: Call) -> None:
    """The code of what did not compile: it is raised as an exception of Python's own, with a text."""
    op, errors = _rendering(), getattr(call.result, "errors", None)
    if op is not None and errors:
        op.error_code = telling_code_of(errors, op)


def _wrap_engine(render: Any) -> Any:
    """Inside of a render it is the part that has the face and its executor; elsewhere it is the render."""
    alone, inside = Plan(_RENDER, reader=read_engine)(render), tap(_tap_engine)(render)

    @functools.wraps(render)
    def observed(*args: Any, **kwargs: Any) -> Any:
        return (alone if _rendering() is None else inside)(*args, **kwargs)

    return observed


_API = "dataface.core.render.face_api"

HOOKS = (
    Hook("dataface.core.render.renderer", "render", _wrap_engine, parameters=("face", "executor")),
    Hook(
        "dataface.agent_api.render_face",
        "render_face",
        Plan(_RENDER, reader=read_file),
        parameters=("face_path",),
        since="0.1.5",
        until="0.2.0",
    ),
    Hook(_API, "render_face", Plan(_RENDER, reader=read_file), parameters=("face_path",), until="0.1.4"),
    # A file's render calls it, and so does each fence of a Markdown page.
    Hook(_API, "compile_and_render", Plan(_RENDER, reader=read_drawn, joins=True), until="0.2.0"),
    Hook(_API, "compile", tap(_tap_compiled), until="0.2.0"),
)
