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

from context_telemetry.instrumentation import manifest
from context_telemetry.observe import fingerprint, project
from context_telemetry.observe.operation import Operation

# Envelopes with more objects, and metadata results with more rows, are not digested: what was given is then unknown.
MOST_OBJECTS = 10_000
MOST_ROWS = 100
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


# -- the manifest --------------------------------------------------------------------------------

_digests: dict[str, str] = {}


def _remember(root: Path, content: dict[str, Any]) -> None:
    """In the worker, once for each version of the file."""
    _digests[str(root)] = digest_manifest(content)


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


def _manifest_part() -> tuple[str, str | None] | None:
    """The manifest of the project that this process serves: one `stat` per request."""
    root = project.root()
    watched = manifest.watched(root) if root is not None else None
    if watched is None:
        return None
    state = watched.known_state()
    if state in ("ok", "stale"):
        return "manifest", _digests.get(str(watched.root))
    if state == "missing" and (watched.root / _SNAPSHOT).exists():
        return "manifest", None  # an older one is read in its place, and nobody has read that one here
    return "manifest", state


manifest.consumers.append(_remember)
fingerprint.standing.append(_manifest_part)


# -- the catalogue -------------------------------------------------------------------------------


def envelope_seen(op: Operation, envelope: dict[str, Any]) -> None:
    """Note what of the catalogue a resolver's answer holds, and for the operation that asked how many tables."""
    lines: list[str] = []
    tables = 0
    for source, branch in _members(envelope, "sources"):
        lines.append(source)
        for schema, members in _members(branch, "schemas"):
            lines.append(f"{source}\t{schema}")
            for table, about in _members(members, "tables"):
                tables += 1
                path = f"{source}\t{schema}\t{table}"
                lines.append(f"{path}\t{about.get('description')}")
                lines += [
                    f"{path}\t{column}\t{_facts(facts)}" for column, facts in _members(about, "columns")
                ]
                if len(lines) > MOST_OBJECTS:
                    break
    if op.parent is not None and op.parent.name == "context.build":
        op.parent.notes[TABLES] = op.parent.notes.get(TABLES, 0) + tables
    op.context_part("objects", _digest(lines) if len(lines) <= MOST_OBJECTS else None)


def _facts(facts: dict[str, Any]) -> str:
    return f"{facts.get('actual_type') or facts.get('declared_type')}\t{facts.get('description')}"


def _members(branch: dict[str, Any], level: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, member in (branch.get(level) or {}).items():
        if isinstance(member, dict):
            yield name, member


def rows_seen(op: Operation, rows: list[Any]) -> None:
    """Note what SQL on the warehouse's own metadata answered: that is how newer releases read the catalogue."""
    lines = [str(list(row.values()) if isinstance(row, dict) else row) for row in rows[: MOST_ROWS + 1]]
    op.context_part("objects", _digest(lines) if len(lines) <= MOST_ROWS else None)


def _digest(lines: list[str]) -> str:
    """The digest of lines whose order says nothing."""
    return fingerprint.digest("\n".join(sorted(lines)).encode("utf-8", "replace"))
