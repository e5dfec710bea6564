"""Which project is served: bound when the first project session is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from context_telemetry.instrumentation import manifest
from context_telemetry.instrumentation.hooks import Hook
from context_telemetry.observe import project
from context_telemetry.observe.observed import tap
from context_telemetry.observe.reading import Call


def _opened(call: Call) -> None:
    served: Any = call.argument("project")
    root = getattr(served, "root", None)
    if isinstance(root, Path):
        manifest.watch(served)
        project.opened(root, str(getattr(served, "name", root.name)))


HOOKS = (
    Hook(
        "dataface.agent_api.project_session",
        "ProjectSession.__init__",
        tap(_opened, outside=True),
        parameters=("project",),
    ),
)
