"""The files that dbt reads as models: one that lies among them and that a manifest does not know was added since.

They are looked for as dbt-core 1 does it (`dbt/parser/read_files.py`). Where a project says more than its plain
`model-paths` about what dbt reads, nothing is said. For the background worker: it lists folders.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from context_telemetry.instrumentation.hooks import version

_PROJECT_FILE, _IGNORE_FILE = "dbt_project.yml", ".dbtignore"
_DEFAULT_PATHS = ("models",)
# What dbt-core from 1.3 on takes for a model: each such file gives a node, an empty one too, or an entry in `disabled`.
_SUFFIXES, _LEFT_OUT = (".sql", ".py"), ("!", ".", "#", "~")
_SINCE, _BEFORE = (1, 3, 0), (2, 0, 0)
# More folders and files than these are not looked through, and no larger project file is read.
_MOST = 10_000
_MAX_PROJECT_FILE = 1024 * 1024
# The time of a folder's last change is as fine as the kernel's clock: a listing of one that changed just now may miss
# what came in the same tick.
_SETTLED = 2.0

_Listing = tuple[list[str], list[str]]


@dataclass(frozen=True)
class Models:
    """The models that a manifest knows of its own project."""

    project: str
    files: frozenset[str]
    """Where they lie in it, those of disabled models included."""


def models_of(manifest: dict[str, Any]) -> Models | None:
    """What a manifest knows; None where it does not say all that dbt read."""
    metadata, nodes, disabled = (manifest.get(each) for each in ("metadata", "nodes", "disabled"))
    if not (isinstance(metadata, dict) and isinstance(nodes, dict) and isinstance(disabled, dict)):
        return None
    project = metadata.get("project_name")
    if not isinstance(project, str) or not _SINCE <= version(str(metadata.get("dbt_version"))) < _BEFORE:
        return None
    lists = [each for each in disabled.values() if isinstance(each, list)]
    there = [node for node in (*nodes.values(), *chain(*lists)) if isinstance(node, dict)]
    files = {node.get("original_file_path") for node in there if node.get("package_name") == project}
    return Models(project, frozenset(os.path.normpath(each) for each in files if isinstance(each, str)))


@dataclass
class ModelFiles:
    """The model files of the project at ``root`` as they are on disk; each look lists the folders that changed."""

    root: str
    _project_file: tuple[int, int, int] | None = None
    _project: dict[str, Any] = field(default_factory=dict)
    _listed: dict[str, tuple[int, _Listing]] = field(default_factory=dict)

    def has_more_than(self, known: Models) -> bool:
        """Whether a model file is there that is not among the ``known``; False where it is not told what dbt reads."""
        waiting, left, more = self._model_paths(known.project), _MOST, False
        listed: dict[str, tuple[int, _Listing]] = {}
        while waiting and left > 0:
            folder = waiting.pop()
            folders, files = self._list(folder, listed)
            waiting += [os.path.join(folder, each) for each in folders]
            left -= 1 + len(files)
            more = more or any(os.path.join(folder, each) not in known.files for each in files)
        self._listed = listed
        return more and left > 0

    def _model_paths(self, name: str) -> list[str]:
        """The folders of the project's models, in its root; none where something else says what dbt reads there."""
        project = self._read_project()
        paths = project.get("model-paths", _DEFAULT_PATHS)
        if project.get("name") != name or "source-paths" in project or not isinstance(paths, (list, tuple)):
            return []
        plain = all(isinstance(path, str) and self._is_plain(path) for path in paths)
        ignores = os.path.exists(os.path.join(self.root, _IGNORE_FILE))
        return [os.path.normpath(path) for path in paths] if plain and not ignores else []

    @staticmethod
    def _is_plain(path: str) -> bool:
        """Whether it is the name of a folder inside of the project, and no template or pattern."""
        normal = os.path.normpath(path)
        outside = os.path.isabs(normal) or normal.split(os.sep)[0] in (os.curdir, os.pardir)
        return not outside and not set(path) & set("{}*?[")

    def _read_project(self) -> dict[str, Any]:
        import yaml  # Dataface has it; who only decorates needs none

        path = Path(self.root, _PROJECT_FILE)
        try:
            found = path.stat()
            identity = found.st_ino, found.st_mtime_ns, found.st_size
            if identity != self._project_file:
                small = found.st_size <= _MAX_PROJECT_FILE
                content = yaml.safe_load(path.read_text("utf-8")) if small else None
                self._project = content if isinstance(content, dict) else {}
                self._project_file = identity
        except (OSError, ValueError, RecursionError, yaml.YAMLError):
            self._project, self._project_file = {}, None
        return self._project

    def _list(self, folder: str, listed: dict[str, tuple[int, _Listing]]) -> _Listing:
        """The names of the folders and of the model files in ``folder``; dbt does not follow links to folders."""
        path = os.path.join(self.root, folder)
        try:
            changed = os.stat(path).st_mtime_ns
            former = self._listed.get(folder)
            if former is not None and former[0] == changed:
                found = former[1]
            else:
                found = [], []
                with os.scandir(path) as entries:
                    for entry in entries:
                        if entry.is_dir():
                            found[0].extend([] if entry.is_symlink() else [entry.name])
                        elif entry.name.lower().endswith(_SUFFIXES) and not entry.name.startswith(_LEFT_OUT):
                            found[1].append(entry.name)
        except OSError:
            return [], []
        if time.time() - changed / 1e9 > _SETTLED:
            listed[folder] = changed, found
        return found
