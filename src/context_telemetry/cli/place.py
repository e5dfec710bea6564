"""Which project a command is about: its root, its settings and the folder of its local files."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from context_telemetry.limits import Limits
    from context_telemetry.settings import Settings


PROJECT_VARIABLE = "CONTEXT_TELEMETRY_PROJECT"


class NoProject(Exception):
    """No Dataface project is named or found; the message says how to name one."""


@dataclass(frozen=True)
class Place:
    """A project as commands see it."""

    root: Path
    folder: Path
    settings: Settings
    options: tuple[str, ...] = ()
    """How the command that runs was told of it."""

    @property
    def name(self) -> str:
        return self.root.name

    def command(self, *arguments: str) -> str:
        """Another command about it, as a shell takes it."""
        return shlex.join(("context-telemetry", *arguments, *self.options))

    @property
    def limits(self) -> Limits:
        return self.settings.limits


def find(project: Path | None, state_dir: Path | None) -> Place:
    """The place that options, environment and working directory name. Raises NoProject, SettingsError."""
    from context_telemetry import settings

    root = root_of(project)
    if root is None:
        raise _none_in(Path.cwd())
    configured = settings.load(root, {**os.environ, PROJECT_VARIABLE: str(root)})
    options = {"--project": project, "--state-dir": state_dir}
    told = tuple(word for name, value in options.items() if value for word in (name, str(value)))
    return Place(root, settings.project_folder(state_dir or configured.state_dir, root), configured, told)


def limits_of(project: Path | None) -> Limits:
    """The limits of the project that is named or found; the published ones where there is none.

    Raises NoProject for what is named and is none, and SettingsError.
    """
    from context_telemetry import settings

    return settings.load(root_of(project)).limits


def root_of(project: Path | None) -> Path | None:
    """The project's root: found from the folder that the option names, or the environment's own word, or
    found from the working directory; None when there is none there. Raises NoProject for what is named.
    """
    from context_telemetry import settings

    named = project or (Path(value) if (value := os.environ.get(PROJECT_VARIABLE)) else None)
    if named is None:
        return settings.find_project_root(Path.cwd())
    folder = named.expanduser().resolve()
    if not folder.is_dir():
        raise NoProject(f"{named} is no folder: name the project with --project DIR or {PROJECT_VARIABLE}")
    if project is None:  # as the observed process takes it: nothing is looked for
        return folder
    root = settings.find_project_root(folder)
    if root is None:
        raise _none_in(folder)
    return root


def broken_file(root: Path) -> str:
    """Why Dataface cannot read the project's own file, as `dataface.yml:2: ...`; empty where it can, or is none."""
    from context_telemetry.contract.project_files import ProjectFileError, read_yaml

    try:
        if (path := root / "dataface.yml").is_file():
            found = read_yaml(path, root)
            if not isinstance(found, (dict, NoneType)):
                return f"{path.name}: has no keys, but a {'list' if isinstance(found, list) else 'value'}"
    except ProjectFileError as error:
        return str(error)
    return ""


def not_to_be_made(folder: Path) -> str:
    """Why the folder, which is not there, could not be made either; empty when it could."""
    try:
        nearest = next(each for each in folder.parents if os.path.lexists(each))
        if not nearest.is_dir():
            return f"{nearest} is not a folder"
        # Not even root makes folders in /proc, whatever access() says.
        unreal = nearest.is_relative_to("/proc") or nearest.is_relative_to("/sys")
        return (
            f"{nearest} cannot be written to" if unreal or not os.access(nearest, os.W_OK | os.X_OK) else ""
        )
    except OSError as error:
        return (error.strerror or type(error).__name__).lower()


def unusable(folder: Path) -> str:
    """Why no local files can be in the folder, with what to set; empty when they can."""
    if folder.is_dir():
        ways = {os.R_OK | os.X_OK: "read", os.W_OK: "written to"}
        why = next((f"it cannot be {way}" for mode, way in ways.items() if not os.access(folder, mode)), "")
    else:
        why = "it is a file" if folder.exists() else not_to_be_made(folder)
    return f"no files can be kept in {folder}: {why}; set CONTEXT_TELEMETRY_STATE_DIR" if why else ""


def _none_in(folder: Path) -> NoProject:
    return NoProject(
        f"no Dataface project in {folder} or above: name one with --project DIR or {PROJECT_VARIABLE}"
    )
