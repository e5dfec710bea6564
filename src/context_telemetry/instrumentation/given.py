"""What consumers were given of the manifest and the catalogue, as digests for the fingerprint of their context.

Of the manifest: what it says, never when it was made. Of the catalogue: the objects, types and descriptions in the
answers, never counts and times. Names and texts stay here; only the digests are exported.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from context_telemetry.instrumentation import manifest_watch
from context_telemetry.observe import fingerprint, project
from context_telemetry.observe.fork import on_forget
from context_telemetry.observe.operation import Operation

# Envelopes with more objects, and metadata results with more rows or cells, are not digested, nor either where they
# have more characters: what was given is then unknown. Digesting is done within the call, so it has to be short.
MOST_OBJECTS = 2_000
MOST_ROWS = 100
MOST_CELLS = 1_000
MOST_CHARACTERS = 131_072
TABLES = "context tables"
"""The note that a resolver leaves to the prompt which it was asked for: how many tables its answers held so far."""

# What a node of the manifest says about itself. Times, paths on this machine and compiled text are not among it.
_SAID = (
    "alias",
    "checksum",
    "column_name",
    "columns",
    "description",
    "identifier",
    "loader",
    "meta",
    "name",
    "relation_name",
    "resource_type",
    "schema",
    "source_description",
    "source_name",
    "tags",
    "test_metadata",
)
_SNAPSHOT = "manifest.snapshot.json"

_Branches = list[tuple[str, dict[str, Any]]]


# -- the manifest --------------------------------------------------------------------------------

_digests: dict[str, str] = {}
on_forget(_digests.clear)


def _remember(root: Path, content: dict[str, Any]) -> None:
    """In the worker, once for each version of the file."""
    _digests[str(root)] = digest_manifest(content)


def _leave(root: Path) -> None:
    _digests.pop(str(root), None)


def digest_manifest(content: dict[str, Any]) -> str:
    """A digest of what a manifest says of its nodes and sources, equal for equal content whenever it was built."""
    hashed = hashlib.sha256()
    for kind in ("nodes", "sources"):
        members = content.get(kind)
        for key, node in sorted(members.items()) if isinstance(members, dict) else ():
            said: dict[str, Any] = {each: node[each] for each in _SAID if node.get(each)}
            said["above"] = sorted((node.get("depends_on") or {}).get("nodes") or ())
            hashed.update(f"{key}\n{json.dumps(said, sort_keys=True, default=str)}\n".encode())
    return hashed.hexdigest()[:16]


def manifest_part() -> tuple[str, str | None] | None:
    """The manifest of the project that this process serves: one `stat` per request."""
    root = project.root()
    watched = manifest_watch.watched(root) if root is not None else None
    if watched is None:
        return None
    state = watched.known_state()
    if state in ("ok", "stale"):
        return "manifest", _digests.get(watched.key)
    if state == "missing" and (watched.root / _SNAPSHOT).exists():
        return "manifest", None  # an older one is read in its place, and nobody has read that one here
    return "manifest", state


CONSUMER = manifest_watch.Consumer(_remember, _leave)


# -- the catalogue -------------------------------------------------------------------------------


def envelope_seen(op: Operation, envelope: dict[str, Any]) -> None:
    """Note what of the catalogue a resolver's answer holds, and for the operation that asked how many tables."""
    schemas = [
        (f"{source}\t{schema}", members)
        for source, branch in _members(envelope, "sources")
        for schema, members in _members(branch, "schemas")
    ]
    tables = [
        (f"{path}\t{table}", about)
        for path, members in schemas
        for table, about in _members(members, "tables")
    ]
    if op.parent is not None and op.parent.name == "context.build":
        op.parent.notes[TABLES] = op.parent.notes.get(TABLES, 0) + len(tables)
    objects = len(schemas) + len(tables) + sum(len(about.get("columns") or ()) for _, about in tables)
    lines = _lines(envelope, schemas, tables) if objects <= MOST_OBJECTS else None
    if lines is not None and sum(map(len, lines)) > MOST_CHARACTERS:
        lines = None
    op.context_part("objects", None if lines is None else _digest(lines))


def _lines(envelope: dict[str, Any], schemas: _Branches, tables: _Branches) -> list[str]:
    """A line for each object of an envelope."""
    lines = [source for source, _ in _members(envelope, "sources")]
    lines += [path for path, _ in schemas]
    for path, about in tables:
        lines.append(f"{path}\t{about.get('description')}")
        for column, facts in _members(about, "columns"):
            kind = facts.get("actual_type") or facts.get("declared_type")
            lines.append(f"{path}\t{column}\t{kind}\t{facts.get('description')}")
    return lines


def _members(branch: dict[str, Any], level: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, member in (branch.get(level) or {}).items():
        if isinstance(member, dict):
            yield name, member


def rows_seen(op: Operation, rows: list[Any]) -> None:
    """Note what SQL on the warehouse's own metadata answered: that is how newer releases read the catalogue."""
    op.context_part("objects", _digest([str(each) for each in _cells(rows)]) if _are_light(rows) else None)


def _cells(rows: list[Any]) -> Iterator[Any]:
    return (list(row.values()) if isinstance(row, dict) else row for row in rows)


def _are_light(rows: list[Any]) -> bool:
    """Whether writing the rows out is short work, found out before any of them is."""
    if len(rows) > MOST_ROWS:
        return False
    cells = characters = 0
    for row in _cells(rows):
        values = row if isinstance(row, (list, tuple)) else (row,)
        cells += len(values)
        if cells > MOST_CELLS:
            return False
        for value in values:
            if isinstance(value, str):
                characters += len(value)
            elif hasattr(value, "__len__"):
                characters += _weight(value)
        if characters > MOST_CHARACTERS:
            return False
    return True


def _weight(value: Any) -> int:
    """About as many characters as writing a container out takes; too many where it is long, or holds another one."""
    if isinstance(value, (bytes, bytearray)):
        return len(value)
    inner = (
        tuple(value.values() if isinstance(value, dict) else value) if len(value) <= MOST_ROWS else (value,)
    )
    if any(hasattr(each, "__len__") and not isinstance(each, str) for each in inner):
        return MOST_CHARACTERS + 1
    return sum(len(each) if isinstance(each, str) else 8 for each in inner)


def _digest(lines: list[str]) -> str:
    """The digest of lines whose order says nothing."""
    return fingerprint.digest("\n".join(sorted(lines)).encode("utf-8", "replace"))
