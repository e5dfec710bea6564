"""The faces of a project and every query in them, named or in a chart, found in the files as Dataface finds them.

Defaults come from `meta.yaml` files and `extends`, queries from other files by reference. It reads no SQL: what a query
means is for `consumers`. What leads nowhere is told with the part of the face that needs it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from context_telemetry.contract.project_files import (
    ProjectFileError,
    line_of,
    parse_yaml,
    read_text,
    read_yaml,
    told,
)

FACES: Final = "faces"
_YAML: Final = (".yml", ".yaml")
_MARKDOWN: Final = (".md", ".markdown")
_META: Final = ("meta.yaml", "meta.yml")
_SKIPPED: Final = frozenset(
    {
        ".git",
        ".mypy_cache",
        ".pytest_cache",
        ".venv",
        "__pycache__",
        "build",
        "dbt_packages",
        "dist",
        "logs",
        "node_modules",
        "target",
    }
)
_DEEPEST: Final = 20

_FACE_KEYS: Final = frozenset({"queries", "charts", "rows", "cols", "grid", "tabs", "variables", "sources"})
_LAYOUT_KEYS: Final = frozenset({"rows", "cols", "grid", "tabs", "items"})
# What a chart takes from the columns of its query's result, and where it says so.
_CHANNELS: Final = (
    ("x",),
    ("y",),
    ("color",),
    ("size",),
    ("shape",),
    ("theta",),
    ("value",),
    ("values",),
    ("columns",),
    ("latitude",),
    ("longitude",),
    ("lookup",),
    ("support", "value"),
    ("sort", "by"),
    ("multiples", "rows"),
    ("multiples", "columns"),
)

_FILE: Final = r"(?:\.\./)*[A-Za-z_][\w/\-.]*"
_QUERY_OF_FILE: Final = re.compile(rf"({_FILE})\.queries\.([A-Za-z_]\w*)")
_CHART_OF_FILE: Final = re.compile(rf"({_FILE})\.charts\.([A-Za-z_]\w*)")
_VARIABLE_OF_FILE: Final = re.compile(rf"({_FILE})\.variables\.([A-Za-z_]\w*)")
_SQL: Final = re.compile(r"\s*(SELECT|WITH|FROM|PRAGMA|INSERT|UPDATE|DELETE|CREATE)\b", re.IGNORECASE)
_NAME: Final = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True)
class Scope:
    """Where a query is written: what it finds by name, and the source that it has when it names none."""

    queries: Mapping[str, tuple[Any, Scope]]
    source: str | None
    directory: Path

    def sql_of(self, name: str) -> str | None:
        """The text of a query of SQL, for those that are made of it."""
        found = self.queries.get(name)
        definition = normal(found[0]) if found else None
        sql = definition.get("sql") if definition else None
        return sql if isinstance(sql, str) else None


@dataclass(frozen=True)
class FaceQuery:
    """A query of a face: its name, or where it is written; and the columns that charts take of its result."""

    part: str
    definition: Mapping[str, Any]
    scope: Scope
    shown: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """By chart."""


@dataclass
class Face:
    """One face. ``unknown``: parts that could not be read, each with the reason; ``unreadable``: why nothing could."""

    name: str
    queries: list[FaceQuery] = field(default_factory=list)
    unknown: list[tuple[str, str]] = field(default_factory=list)
    unreadable: str | None = None


def faces(root: Path) -> Iterator[Face]:
    """The faces below `faces/`, in order of their paths. One that cannot be read comes with the reason alone."""
    for path in _paths(root):
        face = Face(told(path, root))
        try:
            _Reading(root, face).read(path)
        except ProjectFileError as error:
            face.unreadable = str(error)
        except RecursionError:  # an anchor that stands inside of itself
            face.unreadable = f"{face.name}: is nested without end"
        yield face


def files(root: Path) -> Iterator[Path]:
    """All that faces are made of, as far as it lies below `faces/`; folders too, in which new ones appear."""
    for folder, folders, names in os.walk(root / FACES):
        folders[:] = [name for name in folders if name not in _SKIPPED]
        yield Path(folder)
        yield from (Path(folder, name) for name in names if name.endswith((*_YAML, *_MARKDOWN)))


def normal(definition: Any) -> dict[str, Any] | None:
    """A query with its type, as Dataface infers it; None where it is none. A reference has no type and a `ref`."""
    if isinstance(definition, str):
        text = definition.strip()
        return {"ref": text} if _QUERY_OF_FILE.fullmatch(text) else {"type": "sql", "sql": definition}
    if not isinstance(definition, dict):
        return None
    if "type" in definition or "ref" in definition:
        return definition
    return {**definition, "type": _inferred(definition)}


def _inferred(keys: Mapping[str, Any]) -> str:
    if "model" in keys and ("columns" in keys or "sql" not in keys):
        return "dbt_model"
    if "rows" in keys or "values" in keys or "columns" in keys:
        return "values"
    if "metrics" in keys or "dimensions" in keys:
        return "metricflow"
    if "url" in keys:
        return "http"
    return "csv" if "file" in keys and "sql" not in keys else "sql"


def _paths(root: Path) -> Iterator[Path]:
    found = []
    for folder, folders, names in os.walk(root / FACES):
        folders[:] = [name for name in folders if name not in _SKIPPED]
        found += [
            Path(folder, name)
            for name in names
            if name.endswith((*_YAML, *_MARKDOWN)) and not name.startswith("_") and name not in _META
        ]
    yield from sorted(found, key=lambda path: path.relative_to(root).as_posix())


class _Reading:
    """Reads one face, and the files that it refers to."""

    def __init__(self, root: Path, face: Face) -> None:
        self._root = root
        self._face = face
        self._emitted: dict[tuple[str, int], int] = {}
        self._open: list[Path] = []

    def read(self, path: Path) -> None:
        content = self._content(path)
        if content is None:
            return
        inherited = self._inherited(path, content)
        self._in_face(content, path, inherited, "", own=True)

    # -- files ------------------------------------------------------------------------------------

    def _content(self, path: Path) -> dict[str, Any] | None:
        """The mapping of a face's file; None where it is a document and no face."""
        name = told(path, self._root)
        if path.suffix in _MARKDOWN:
            return self._front_matter(read_text(path, self._root), name)
        content = read_yaml(path, self._root)
        if content is not None and not isinstance(content, dict):
            raise ProjectFileError(name, "is not a mapping; write keys with a colon, as `title: Orders`", 1)
        return content or {}

    def _front_matter(self, text: str, name: str) -> dict[str, Any] | None:
        lines = text.splitlines()
        if not lines or lines[0].strip() != "---":
            return None
        end = next((number for number, line in enumerate(lines[1:], 1) if line.strip() == "---"), None)
        if end is None:
            raise ProjectFileError(name, "its front matter does not end; close it with ---", 1)
        content = parse_yaml("\n".join(lines[1:end]), name, first_line=2)
        face = content.get("face") if isinstance(content, dict) else None
        return face if isinstance(face, dict) else None

    def _inherited(self, path: Path, content: Mapping[str, Any]) -> Scope:
        """What the folders' `meta.yaml` and the faces that it extends give to a face: outermost first, last wins."""
        scope = Scope({}, None, path.parent)
        folders = [path.parent, *path.parent.parents]
        for folder in reversed(folders[: folders.index(self._root) + 1]):
            meta = next((folder / name for name in _META if (folder / name).is_file()), None)
            if meta and (said := self._content(meta)):
                scope = self._extended(self._below(scope, said, folder), said, meta, ())
        return self._extended(scope, content, path, ())

    def _extended(
        self, scope: Scope, content: Mapping[str, Any], path: Path, within: tuple[Path, ...]
    ) -> Scope:
        named = content.get("extends")
        for entry in named if isinstance(named, list) else (named,) if isinstance(named, str) else ():
            is_path = "/" in str(entry) or str(entry).endswith(_YAML)
            candidates = (
                [path.parent / str(entry)]
                if is_path
                else [self._root / f"{entry}{suffix}" for suffix in _YAML]
            )
            found = next((file for file in candidates if file.is_file()), None)
            if found is None:
                if is_path:  # what is no path may be a theme
                    self._face.unknown.append(("", f"extends {entry}, which is not there"))
            elif found in within or len(within) > _DEEPEST:
                self._face.unknown.append(("", f"extends {entry}, which extends itself"))
            elif said := self._content(found):
                scope = self._extended(scope, said, found, (*within, found))
                scope = self._below(scope, said, found.parent)
        return scope

    def _below(self, scope: Scope, content: Mapping[str, Any], directory: Path) -> Scope:
        """What is known inside of a mapping that has queries and a source of its own."""
        queries = content.get("queries")
        source = content.get("source")
        known: dict[str, tuple[Any, Scope]] = dict(scope.queries)
        inner = Scope(known, source if isinstance(source, str) else scope.source, directory)
        if isinstance(queries, dict):
            known.update({str(name): (definition, inner) for name, definition in queries.items()})
        return inner

    # -- what is in a face ------------------------------------------------------------------------

    def _in_face(
        self, content: Mapping[str, Any], path: Path, scope: Scope, label: str, own: bool = False
    ) -> None:
        scope = self._below(scope, content, path.parent)
        if own and isinstance(content.get("source"), dict):
            text = read_text(path, self._root)
            line = line_of(text, "source") if path.suffix in _YAML else None
            raise ProjectFileError(told(path, self._root), "source: is not a name", line)
        queries = content.get("queries")
        if isinstance(queries, dict):
            for name in queries:
                self._named(str(name), scope)
        charts = content.get("charts")
        for name, chart in charts.items() if isinstance(charts, dict) else ():
            self._chart(chart, str(name), scope, path)
        variables = content.get("variables")
        for name, variable in variables.items() if isinstance(variables, dict) else ():
            self._variable(variable, str(name), scope, path)
        for key in _LAYOUT_KEYS & set(content):
            self._layout(content[key], scope, path, f"{label}{key}")

    def _layout(self, item: Any, scope: Scope, path: Path, label: str) -> None:
        """Whatever stands in rows and columns: charts of this face or another, faces, files of faces."""
        if isinstance(item, list):
            for number, one in enumerate(item):
                self._layout(one, scope, path, f"{label}.{number}")
        elif isinstance(item, str):
            self._included(item, scope, path, label)
        elif isinstance(item, dict):
            if "query" in item or "layers" in item:
                self._chart(item, str(item.get("id") or item.get("title") or label), scope, path)
            elif _FACE_KEYS & set(item):
                self._in_face(item, path, scope, f"{label}.")
            else:
                for key, one in item.items():
                    if isinstance(one, (dict, list)) or key in ("chart", "face"):
                        self._layout(one, scope, path, f"{label}.{key}")

    def _included(self, item: str, scope: Scope, path: Path, label: str) -> None:
        text = item.strip()
        if match := _CHART_OF_FILE.fullmatch(text):
            self._chart_of_file(match, path, label)
        elif text.endswith(_YAML) and "\n" not in text:
            if "{{" in text:
                self._face.unknown.append((label, f"{text}: which file it is, a variable decides"))
                return
            file = self._file(text, path, label)
            content = self._content(file) if file else None
            if file and content is not None:
                self._open.append(file)
                self._in_face(content, file, scope, f"{label}.")
                self._open.pop()

    def _chart(self, chart: Any, name: str, scope: Scope, path: Path) -> None:
        if isinstance(chart, str) or (isinstance(chart, dict) and isinstance(chart.get("ref"), str)):
            text = chart if isinstance(chart, str) else chart["ref"]
            if match := _CHART_OF_FILE.fullmatch(text.strip()):
                self._chart_of_file(match, path, name)
            return
        if not isinstance(chart, dict):
            return
        if "query" in chart:
            self._query_of(chart["query"], name, scope, path, _shown(chart))
        elif isinstance(chart.get("model"), str):
            self._face.unknown.append((name, f"model {chart['model']}: MetricFlow writes its SQL"))
        layers = chart.get("layers")
        for layer in layers if isinstance(layers, list) else ():
            if isinstance(layer, dict) and "query" in layer:
                self._query_of(layer["query"], name, scope, path, _shown(layer))

    def _chart_of_file(self, match: re.Match[str], path: Path, label: str) -> None:
        """The chart of another file: its queries are found there and not here."""
        file = self._file(match[1], path, label)
        content = self._content(file) if file else None
        charts = content.get("charts") if content else None
        if not file or content is None:
            return
        if not isinstance(charts, dict) or match[2] not in charts:
            self._face.unknown.append((label, f"{match[0]}: there is no such chart"))
            return
        self._open.append(file)
        scope = self._below(Scope({}, None, file.parent), content, file.parent)
        self._chart(charts[match[2]], match[2], scope, file)
        self._open.pop()

    def _variable(self, variable: Any, name: str, scope: Scope, path: Path) -> None:
        part = f"variable {name}"
        if isinstance(variable, str) and (match := _VARIABLE_OF_FILE.fullmatch(variable.strip())):
            file = self._file(match[1], path, part)
            content = self._content(file) if file else None
            found = (content or {}).get("variables")
            if file and isinstance(found, dict) and match[2] in found:
                within = self._below(Scope({}, None, file.parent), content or {}, file.parent)
                self._open.append(file)
                self._variable(found[match[2]], name, within, file)
                self._open.pop()
            elif file:
                self._face.unknown.append((part, f"{variable}: there is no such variable"))
        if not isinstance(variable, dict):
            return
        options = variable.get("options")
        options = options if isinstance(options, dict) else {}
        for query in (options.get("query"), variable.get("query")):
            if query:
                self._query_of(query, part, scope, path)
        column = variable.get("column") or (None if options.get("query") else options.get("column"))
        if isinstance(column, str) and "." in column:
            table, _, of = column.rpartition(".")
            self._emit(part, {"type": "sql", "sql": f"SELECT DISTINCT {of} FROM {table}"}, scope)
        for probe in (variable.get("enabled"), variable.get("visible")):
            if isinstance(probe, dict) and probe.get("query"):
                self._query_of(probe["query"], part, scope, path)

    # -- queries ----------------------------------------------------------------------------------

    def _query_of(
        self, query: Any, part: str, scope: Scope, path: Path, columns: frozenset[str] = frozenset()
    ) -> None:
        """The query of a chart or variable: a name, a reference to a file, or the query itself."""
        shown = {part: columns} if columns else {}
        if not isinstance(query, str):
            self._emit(part, query, scope, shown)
            return
        name = query.strip().removeprefix("queries.")
        if name in scope.queries:
            self._named(name, scope, shown)
        elif "#" in name and _NAME.fullmatch(name.partition("#")[2]):
            self._of_file(name.partition("#")[0], name.partition("#")[2], name, path, shown)
        elif match := _QUERY_OF_FILE.fullmatch(name):
            self._of_file(match[1], match[2], name, path, shown)
        elif _SQL.match(query) or "\n" in query:
            self._emit(part, query, scope, shown)
        else:
            self._face.unknown.append((part, f"there is no query {name}"))

    def _named(self, name: str, scope: Scope, shown: Mapping[str, frozenset[str]] | None = None) -> None:
        """A query by its name: it has the source of where it is written, and is made of what this face knows."""
        definition, written = scope.queries[name]
        here = Scope(scope.queries, written.source or scope.source, written.directory)
        self._emit(name, definition, here, shown)

    def _of_file(
        self, file: str, name: str, part: str, path: Path, shown: Mapping[str, frozenset[str]] | None = None
    ) -> None:
        found = self._file(file, path, part)
        content = self._content(found) if found else None
        if found is None or content is None:
            return
        queries = content.get("queries")
        if not isinstance(queries, dict) or name not in queries:
            self._face.unknown.append((part, f"{told(found, self._root)} has no query {name}"))
            return
        scope = self._below(Scope({}, None, found.parent), content, found.parent)
        self._open.append(found)
        self._emit(part, queries[name], scope, shown)
        self._open.pop()

    def _emit(
        self, part: str, definition: Any, scope: Scope, shown: Mapping[str, frozenset[str]] | None = None
    ) -> None:
        query = normal(definition)
        if query is None:
            self._face.unknown.append((part, "is no query: write SQL, or a mapping with its type"))
            return
        if "ref" in query and "type" not in query:
            match = _QUERY_OF_FILE.fullmatch(str(query["ref"]).strip())
            if match is None:
                self._face.unknown.append((part, f"{query['ref']}: is no reference to a query of a file"))
            else:
                self._of_file(match[1], match[2], part, scope.directory / "face", shown)
            return
        key = (part, id(definition))
        if key in self._emitted:
            known = self._face.queries[self._emitted[key]]
            both = FaceQuery(known.part, known.definition, known.scope, {**known.shown, **(shown or {})})
            self._face.queries[self._emitted[key]] = both
            return
        self._emitted[key] = len(self._face.queries)
        self._face.queries.append(FaceQuery(part, query, scope, shown or {}))

    def _file(self, name: str, beside: Path, part: str) -> Path | None:
        """The file that is meant; told where it is not there, lies outside of the project, or is being read already."""
        path = Path(os.path.normpath(beside.parent / (name if name.endswith(_YAML) else f"{name}.yml")))
        if not path.is_relative_to(self._root):
            self._face.unknown.append((part, f"{name}: lies outside of the project"))
        elif not path.is_file():
            self._face.unknown.append((part, f"{told(path, self._root)}: is not there"))
        elif path in self._open or len(self._open) > _DEEPEST:
            self._face.unknown.append((part, f"{told(path, self._root)}: refers to itself"))
        else:
            return path
        return None


def _shown(chart: Mapping[str, Any]) -> frozenset[str]:
    """The columns that a chart takes of its result."""
    found: set[str] = set()
    for keys in _CHANNELS:
        value: Any = chart
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        values = value if isinstance(value, list) else [value]
        found.update(one for one in values if isinstance(one, str) and "{{" not in one)
    return frozenset(found)
