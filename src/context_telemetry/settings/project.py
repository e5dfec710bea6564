"""Where a project is and where its telemetry is kept: in a folder of the user's, never inside the project."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

MARKERS: Final = ("dataface.yml", "dataface.yaml", "dbt_project.yml")


def find_project_root(start: Path) -> Path | None:
    """The nearest folder, from ``start`` upwards, that holds one of `MARKERS`."""
    start = start.resolve()
    for folder in (start, *start.parents):
        if any((folder / marker).is_file() for marker in MARKERS):
            return folder
    return None


def project_folder(state_dir: Path | None, root: Path) -> Path:
    """The folder for the telemetry of the project at ``root``; it need not exist.

    Two projects of one name are told apart by where they are. ``state_dir`` None: the platform's.
    """
    if state_dir is None:
        from platformdirs import user_state_path

        state_dir = user_state_path("context-telemetry", appauthor=False)
    root = root.resolve()
    place = hashlib.sha256(str(root).encode()).hexdigest()[:8]
    return state_dir / f"{root.name or 'root'}-{place}"
