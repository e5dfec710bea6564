"""Which project is served: bound when the first project session is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from context_telemetry.instrumentation import manifest_watch
from context_telemetry.instrumentation.hooks import Hook
from context_telemetry.observe import project
from context_telemetry.observe.observed import tap
from context_telemetry.observe.reading import Call


def opened(served: Any) -> None:
    """``served`` is the project that this process serves: Dataface's object for it, or its folder."""
    root = served if isinstance(served, Path) else getattr(served, "root", None)
    if isinstance(root, Path):
        project.opened(root, str(getattr(served, "name", root.name)))
        # After it, because what the watch finds is recorded by the pipeline that has begun now. Where the project's
        # settings have switched all of this off, it is bound no more.
        if project.is_bound():
            manifest_watch.watch(served)


def _opened(call: Call) -> None:
    opened(call.argument("project") or call.argument("project_root"))


def _row(module: str, target: str, parameter: str, since: str, until: str | None = None) -> Hook:
    wrap = tap(_opened, outside=True)
    return Hook(module, target, wrap, parameters=(parameter,), since=since, until=until)


HOOKS = (
    _row("dataface.agent_api.project_session", "ProjectSession.__init__", "project", "0.2.0"),
    _row("dataface.agent_api.project", "Project.__init__", "project_root", "0.1.5", "0.1.5"),
    # These have no session: whoever opens a project builds a registry for it.
    _row(
        "dataface.core.execute.adapters.adapter_registry",
        "AdapterRegistry.__init__",
        "project_root",
        "0.1.2",
        "0.1.4",
    ),
)
