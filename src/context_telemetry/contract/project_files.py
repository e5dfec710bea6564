"""Reads the YAML files of a Dataface project as Dataface does, and says file, line and fix where one cannot be read.

Knows nothing of what is in them.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml


class ProjectFileError(Exception):
    """A file of the project cannot be used; the text names the file (as in the project), line, key and fix."""

    def __init__(self, name: str, words: str, line: int | None = None) -> None:
        self.name, self.line, self.words = name, line, words
        super().__init__(f"{name}:{line}: {words}" if line else f"{name}: {words}")


class _Loader(yaml.SafeLoader):
    """Plain data, and no key twice: Dataface refuses a file where one is."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._keys: dict[yaml.Node, Hashable] = {}

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError as error:  # it looks like a date or a number, and is none
            key = f"{self._keys[node]}: " if node in self._keys else ""
            raise yaml.MarkedYAMLError(
                problem=f"{key}{node.value}: {error}; correct it, or write it in quotes where it is a text",
                problem_mark=node.start_mark,
            ) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[Hashable, int] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if isinstance(key, Hashable) and key in seen and key != "<<":
                raise yaml.MarkedYAMLError(
                    problem=f"{key}: is there twice, first in line {seen[key]}; keep one of them",
                    problem_mark=key_node.start_mark,
                )
            if isinstance(key, Hashable):
                seen[key] = line
                self._keys[value_node] = key
        return super().construct_mapping(node, deep)


def read_text(path: Path, root: Path) -> str:
    """Raises ProjectFileError when the file is not there or is not text."""
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ProjectFileError(told(path, root), "is not UTF-8; save it as UTF-8") from error
    except OSError as error:
        raise ProjectFileError(told(path, root), f"cannot be read: {error.strerror or error}") from error


def read_yaml(path: Path, root: Path) -> Any:
    """The document of a file; None when it is empty. Raises ProjectFileError."""
    return parse_yaml(read_text(path, root), told(path, root))


def parse_yaml(text: str, name: str, first_line: int = 1) -> Any:
    """``first_line``: where in the file the text begins, for what is said of it. Raises ProjectFileError."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + first_line if mark else None
        raise ProjectFileError(name, error.problem or "is not YAML", line) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ProjectFileError(name, f"is not YAML: {error}") from error


def told(path: Path, root: Path) -> str:
    """The path as it is told: from the project's root, or its name alone where it lies elsewhere."""
    try:
        return path.relative_to(root).as_posix()
    except ValueError:
        return path.name


def line_of(text: str, *keys: str) -> int | None:
    """The line (from 1) in which a key stands, found by the keys around it; None where there is no such key."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    line = None
    for key in keys:
        if not isinstance(node, yaml.MappingNode):
            return line
        here = next(((name, value) for name, value in node.value if name.value == key), None)
        if here is None:
            return line
        line, node = here[0].start_mark.line + 1, here[1]
    return line
