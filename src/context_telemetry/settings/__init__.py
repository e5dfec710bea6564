"""What a user may set, where it is read from, and where this project's telemetry is kept.

Importing this costs nothing: the pydantic model and the loader come at first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from context_telemetry.settings.project import find_project_root, project_folder
from context_telemetry.settings.switch import is_disabled

if TYPE_CHECKING:
    from context_telemetry.settings.loading import SettingsError, load, load_lenient
    from context_telemetry.settings.model import Retention, Settings

__all__ = [
    "Retention",
    "Settings",
    "SettingsError",
    "find_project_root",
    "is_disabled",
    "load",
    "load_lenient",
    "project_folder",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from context_telemetry.settings import loading, model

        return getattr(model if name in ("Retention", "Settings") else loading, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
