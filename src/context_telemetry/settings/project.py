"""Where a project is and where its telemetry is kept: in a folder of the user's, never inside the project."""

from __future__ import annotations

import hashlib
import os
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

    Two projects of one name are told apart by where they are: by the bytes of the path, which are the same
    whatever locale a process runs in. ``state_dir`` None: the platform's.
    """
    if state_dir is None:
        from platformdirs import user_state_path

        state_dir = user_state_path("context-telemetry", appauthor=False)
    root = root.resolve()
    place = hashlib.sha256(os.fsencode(root)).hexdigest()[:8]
    # A name that is no UTF-8 becomes some: what reads the files back takes no other paths.
    name = os.fsdecode(os.fsencode(root.name).decode("utf-8", errors="replace").encode())
    return state_dir / f"{name or 'root'}-{place}"
