"""The dbt manifest: loaded or not, how old it is, and whether the model files still are those it was built from.

Dataface answers without a manifest as if nothing were missing, and never looks at its age. The checksums are compared
by the background worker, every second or so while a project is served; a call that loads the manifest looks up its
verdict.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from context_telemetry.conventions import names
from context_telemetry.instrumentation.hooks import Hook
from context_telemetry.observe import recorder, worker
from context_telemetry.observe.fork import renew_in_child
from context_telemetry.observe.observed import Plan, observe
from context_telemetry.observe.operation import current
from context_telemetry.observe.reading import Call, Reading, reader

_TARGET = "target/manifest.json"
_ARTIFACT = "dbt_manifest"
# A larger manifest is not parsed a second time in the background: parsing holds the interpreter for its whole length.
_MAX_PARSED = 32 * 1024 * 1024
# The node types that are built from a file of their own, and the files whose checksum dbt takes from their contents.
_CHECKED_TYPES = frozenset({"model", "seed", "snapshot"})
_CHECKED_SUFFIXES = (".sql", ".py", ".csv")

_Identity = tuple[str, int, int, int]


# -- the reader of `load_dbt_manifest` -----------------------------------------------------------


@reader(
    reasons=(
        "manifest_missing",
        "manifest_unreadable",
        "manifest_incomplete",
        "manifest_substituted",
        "manifest_stale",
    ),
    layers=("dbt_manifest",),
)
def read_manifest(call: Call) -> Reading | None:
    """The state and the age of the manifest that this call was given."""
    if call.error is not None:
        return Reading(reasons=("manifest_unreadable",))
    served: Any = call.argument("project")
    present = _exists(served, _TARGET)
    manifest = call.result
    if manifest is None:
        if present:
            return Reading(reasons=("manifest_unreadable",))
        needed = _exists(served, "dbt_project.yml") or _for_a_query()
        return Reading(reasons=("manifest_missing",)) if needed else None
    if not _is_manifest(manifest):
        return Reading(reasons=("manifest_unreadable",))
    reasons = []
    if not present:
        reasons.append("manifest_substituted")
    if not manifest.get("nodes"):
        reasons.append("manifest_incomplete")
    elif present and _is_stale(served):
        reasons.append("manifest_stale")
    age = _age(manifest)
    return Reading(reasons=tuple(reasons), ages={} if age is None else {_ARTIFACT: age}, layers=(_ARTIFACT,))


def _exists(served: Any, path: str) -> bool:
    """Whether the project has the file; one that may not be looked at is there."""
    try:
        return bool(served.exists(path))
    except OSError:
        return True


def _is_manifest(content: Any) -> bool:
    """Whether a file's content can be read as a manifest: a mapping, whose nodes are mappings if it has any."""
    nodes = content.get("nodes") if isinstance(content, dict) else ()
    if not nodes:
        return isinstance(content, dict)
    return isinstance(nodes, dict) and isinstance(next(iter(nodes.values())), dict)


def _for_a_query() -> bool:
    """Whether a query's ``ref()`` or ``source()`` asked for it: those need a manifest in any project."""
    op = current()
    return op is not None and op.parent is not None and op.parent.name == "query.execute"


def generated_at(manifest: Any) -> float | None:
    """The Unix time at which dbt wrote the manifest (``metadata.generated_at``), None when it does not say."""
    metadata = manifest.get("metadata") if isinstance(manifest, dict) else None
    text = metadata.get("generated_at") if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        return None
    try:
        when = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=datetime.timezone.utc)
    return when.timestamp()


def _age(manifest: Any) -> float | None:
    built = generated_at(manifest)
    return None if built is None else max(0.0, time.time() - built)


def _is_stale(served: Any) -> bool:
    root = getattr(served, "root", None)
    watched = _watched.get(str(root)) if isinstance(root, Path) else None
    return watched is not None and watched.is_stale()


# -- the worker's side ---------------------------------------------------------------------------


def _identity(path: str) -> _Identity | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (path, found.st_ino, found.st_mtime_ns, found.st_size)


@dataclass
class _Watched:
    """One project's manifest: the verdict for the file as it is now, and what it was reached from."""

    root: Path
    identity: _Identity | None = None
    stale: bool = False
    state: str | None = None
    _expected: dict[str, tuple[str, str]] = field(default_factory=dict)
    _seen: dict[str, tuple[_Identity | None, bool]] = field(default_factory=dict)

    def is_stale(self) -> bool:
        """The verdict for the manifest file as it is on disk now; no verdict yet is not stale."""
        return self.stale and self.identity == _identity(str(self.root / _TARGET))

    def look(self) -> None:
        """Read the manifest if it is new, compare the model files that changed, and say what is different."""
        identity = _identity(str(self.root / _TARGET))
        built = None
        if identity is None:
            self._conclude(None, False, "missing", built)
            return
        if identity != self.identity:
            manifest = self._parse(identity)
            if manifest is None:
                self._conclude(identity, False, "unreadable", built)
                return
            self._expected, self._seen = _checksums(manifest), {}
            built = generated_at(manifest)
            if not manifest.get("nodes"):
                self._conclude(identity, False, "incomplete", built)
                return
        elif self.state in ("unreadable", "incomplete"):
            return
        stale = self._has_sources() and any(
            self._differs(path, *expected) for path, expected in self._expected.items()
        )
        self._conclude(identity, stale, "stale" if stale else "ok", built)

    def _has_sources(self) -> bool:
        """Whether any of the model files is here: an image may carry the manifest alone, and nothing to compare."""
        return any((self.root / path).exists() for path in self._expected)

    def _parse(self, identity: _Identity) -> dict[str, Any] | None:
        if identity[3] > _MAX_PARSED:
            return {"nodes": {"": {}}}
        try:
            manifest = json.loads((self.root / _TARGET).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        return manifest if _is_manifest(manifest) else None

    def _differs(self, path: str, algorithm: str, checksum: str) -> bool:
        identity = _identity(str(self.root / path))
        known = self._seen.get(path)
        if known is not None and known[0] == identity:
            return known[1]
        differs = identity is None or not _matches(self.root / path, algorithm, checksum)
        self._seen[path] = (identity, differs)
        return differs

    def _conclude(self, identity: _Identity | None, stale: bool, state: str, built: float | None) -> None:
        was_stale, was_state, was_identity = self.stale, self.state, self.identity
        self.identity, self.stale, self.state = identity, stale, state
        if (state, identity) != (was_state, was_identity) and not (state == "missing" and was_state is None):
            attributes: dict[str, Any] = {
                names.DATAFACE_ARTIFACT: _ARTIFACT,
                names.DATAFACE_ARTIFACT_STATE: state,
            }
            if built is not None:
                attributes[names.DATAFACE_ARTIFACT_BUILT_AT] = built
            recorder.event(names.EVENT_DATAFACE_ARTIFACT_CHANGED, attributes, warning=state != "ok")
        if stale != was_stale:
            recorder.event(
                names.EVENT_DATAFACE_DEGRADATION,
                {
                    names.DATAFACE_DEGRADATION_REASON: "manifest_stale",
                    names.DATAFACE_DEGRADATION_STATE: "began" if stale else "cleared",
                    names.DATAFACE_DEGRADATION_OBJECT: _TARGET,
                },
                warning=stale,
            )


def _checksums(manifest: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """The files of the project's own nodes with the checksum that dbt took of each (algorithm, hex digest)."""
    nodes = manifest.get("nodes")
    metadata = manifest.get("metadata")
    own = metadata.get("project_name") if isinstance(metadata, dict) else None
    expected: dict[str, tuple[str, str]] = {}
    for node in nodes.values() if isinstance(nodes, dict) else ():
        if not isinstance(node, dict) or node.get("resource_type") not in _CHECKED_TYPES:
            continue
        if own is not None and node.get("package_name") != own:
            continue
        path, checksum = node.get("original_file_path"), node.get("checksum")
        if (
            not isinstance(path, str)
            or not isinstance(checksum, dict)
            or not path.endswith(_CHECKED_SUFFIXES)
        ):
            continue
        if checksum.get("name") in hashlib.algorithms_guaranteed:
            expected[path] = (checksum["name"], str(checksum.get("checksum")))
    return expected


def _matches(path: Path, algorithm: str, checksum: str) -> bool:
    """Whether the file has the checksum: dbt strips the text before it hashes, other producers may not."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return False
    except OSError:  # not to be read is not changed
        return True
    stripped = raw.decode("utf-8", "replace").strip().encode("utf-8")
    return any(hashlib.new(algorithm, data).hexdigest() == checksum for data in (stripped, raw))


_watched: dict[str, _Watched] = {}
_lock = threading.Lock()


def watch(served: Any) -> None:
    """Keep a verdict on the manifest of a project that lies in a folder, if it is a dbt project at all."""
    root = getattr(served, "root", None)
    if not isinstance(root, Path):
        return
    with _lock:
        if str(root) in _watched or not (served.exists("dbt_project.yml") or served.exists(_TARGET)):
            return
        watched = _watched[str(root)] = _Watched(root)
    worker.watch(f"manifest {root}", watched.look)


def _renew() -> None:
    global _lock
    _lock = threading.Lock()


renew_in_child(_renew)


def forget() -> None:
    """Stop all watches."""
    with _lock:
        for root in _watched:
            worker.unwatch(f"manifest {root}")
        _watched.clear()


HOOKS = (
    Hook(
        "dataface.core.execute.adapters.dbt_utils",
        "load_dbt_manifest",
        lambda function: observe(function, Plan("manifest.load", reader=read_manifest)),
        aliases=(
            "dataface.core.inspect.resolver:load_dbt_manifest",
            "dataface.core.inspect.sources.dbt:load_dbt_manifest",
        ),
        parameters=("project",),
    ),
)
