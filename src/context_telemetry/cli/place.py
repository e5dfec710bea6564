"""Which project a command is about: its root, its settings and the folder of its local files."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
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


def _none_in(folder: Path) -> NoProject:
    return NoProject(
        f"no Dataface project in {folder} or above: name one with --project DIR or {PROJECT_VARIABLE}"
    )
