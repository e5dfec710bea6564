"""YAML with line numbers: read so that every mistake is told with file, line, key and fix; written always alike.

Reads data only: no tags, no anchors, no key twice. What the keys mean is for whoever reads.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml

KeyPath: TypeAlias = tuple[str | int, ...]
"""Where a value stands: keys of mappings and indexes of lists, from the top of the document."""

_DEEPEST: Final = 20  # no document here nests deeper than six; what does is a mistake or an attack


class DocumentError(Exception):
    """A document is wrong. Each of ``problems`` names file, line, key, mistake and fix."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True)
class Document:
    """A mapping that was read, and the line (from 1) that each of its keys and items stands in."""

    name: str
    values: Mapping[str, Any]
    lines: Mapping[KeyPath, int] = field(default_factory=dict)

    def line(self, path: KeyPath) -> int:
        """The line of what stands at ``path``, or of the nearest thing around it; 1 where there is none."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def problem(self, path: KeyPath, words: str) -> str:
        """One line for a person: `owners.yaml:12: components.catalogue: WORDS`."""
        key = f"{dotted(path)}: " if path else ""
        return f"{self.name}:{self.line(path)}: {key}{words}"

    def in_order(self, problems: Iterable[str]) -> list[str]:
        """Problems in the order of their lines."""
        line = re.compile(rf"{re.escape(self.name)}:(\d+): ")
        found = [(int(at[1]) if (at := line.match(each)) else 0, each) for each in problems]
        return [each for _, each in sorted(found, key=lambda one: one[0])]


def dotted(path: KeyPath) -> str:
    """The path as it is told: `roles.catalogue-owner.page[0]`."""
    told = ""
    for part in path:
        told += f"[{part}]" if isinstance(part, int) else f".{part}" if told else part
    return told


def meant(word: str, known: Iterable[str]) -> str:
    """The fix for a word that is not one of ``known``: the likeliest of them, or all of them."""
    there = sorted(known)
    close = difflib.get_close_matches(word, there, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]}?"
    return f"there is {', '.join(there)}" if there else "there is none"


# -- reading -------------------------------------------------------------------------------------------------


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, without a byte order mark, lines ended as here. Raises `DocumentError`."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DocumentError([f"{path}: there is no such file; correct the path"]) from None
    except IsADirectoryError:
        raise DocumentError([f"{path}: is a folder; name the file in it"]) from None
    except UnicodeDecodeError as error:
        raise DocumentError([f"{path}: is not UTF-8 (byte {error.start}); save it as UTF-8"]) from None
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise DocumentError([f"{path}: cannot be read: {why.lower()}"]) from None


def parse(text: str, name: str) -> Document:
    """The YAML mapping in ``text``, which errors call ``name``. Raises `DocumentError` with every problem."""
    document, problems = parse_all(text, name)
    if problems:
        raise DocumentError(problems)
    return document


def parse_all(text: str, name: str) -> tuple[Document, list[str]]:
    """The same, with what is wrong inside of it told and left out. Raises `DocumentError` for what is no mapping."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise DocumentError([_unreadable(text, name, error)]) from None
    except RecursionError:
        raise DocumentError([f"{name}:1: is nested too deeply"]) from None
    if root is None:
        raise DocumentError(
            [f"{name}:1: is empty; `context-telemetry ops build DIR` writes one to begin with"]
        )
    if not isinstance(root, yaml.MappingNode):
        line = root.start_mark.line + 1
        raise DocumentError([f"{name}:{line}: is not a mapping; write keys with a colon, as `version: 1`"])
    reading = _Reading(name)
    values = reading.value(root, ())
    return Document(name, values, reading.lines), reading.problems


class _Reading:
    """One walk over the nodes: values, lines, and what is wrong with them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: dict[KeyPath, int] = {}
        self.problems: list[str] = []
        self._seen: set[int] = set()
        self._scalars = yaml.SafeLoader("")

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        self.lines.setdefault(path, node.start_mark.line + 1)
        # An alias is the anchor's own node again, and a cycle where the anchor is around it.
        if id(node) in self._seen:
            self._wrong(node, path, "an alias (*name) is not read here; write the value out")
            return None
        self._seen.add(id(node))
        if len(path) > _DEEPEST:
            self._wrong(node, path[:3], "is nested too deeply")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        try:
            return self._scalars.construct_object(node)
        except (yaml.YAMLError, ValueError):
            self._wrong(node, path, f"{node.value!r} is not read here; put it in quotes")
            return None

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == "tag:yaml.org,2002:merge":
                self._wrong(key_node, path, "a key is a plain word here")
                continue
            here = (*path, key)
            if key in values:
                first = self.lines[here]
                self._wrong(key_node, here, f"is there twice, first in line {first}; keep one of them")
                continue
            self.lines[here] = key_node.start_mark.line + 1
            values[key] = self.value(value_node, here)
        return values

    def _wrong(self, node: yaml.Node, path: KeyPath, words: str) -> None:
        key = f"{dotted(path)}: " if path else ""
        self.problems.append(f"{self.name}:{node.start_mark.line + 1}: {key}{words}")


def _unreadable(text: str, name: str, error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return (
            f"{name}:{line}: has a character that YAML does not allow (#x{error.character:04x}); take it out"
        )
    mark = getattr(error, "problem_mark", None)
    line = mark.line + 1 if mark else 1
    lines = text.splitlines()
    if mark and mark.line < len(lines) and "\t" in lines[mark.line][: mark.column + 1]:
        return f"{name}:{line}: has a tab where blanks are to be; indent with two blanks"
    why = getattr(error, "problem", None) or "cannot be read"
    return f"{name}:{line}: is not valid YAML: {why}; correct it there"


# -- writing -------------------------------------------------------------------------------------------------


class _Dumper(yaml.SafeDumper):
    """Lists indented below their key, texts of several lines as blocks, no aliases: as a person would write."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def dump(value: Any, comment: str = "") -> str:
    """``value`` as YAML in the order that it has, with ``comment`` above it; the same text on every machine."""
    above = "".join(f"# {line}\n" if line else "#\n" for line in comment.splitlines())
    # Lines are never folded: where PyYAML would break them depends on its version.
    return above + yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**9)
