"""The dbt manifest as a file: in which state it is, and whether the model files still are those it was built from.

The background worker looks at it every second or so while a project is served, and tells what is different; calls look
up its verdict. Who else wants to know what is in it, reads it with the worker and not once more.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from context_telemetry.conventions import names
from context_telemetry.instrumentation.model_files import ModelFiles, Models, models_of
from context_telemetry.instrumentation.moments import seconds_since, unix_time
from context_telemetry.observe import board, failsafe, project, recorder, worker
from context_telemetry.observe.fork import on_forget, renew_in_child

TARGET = "target/manifest.json"
SUBSTITUTE = "manifest.snapshot.json"
"""What Dataface reads where there is no other."""
ARTIFACT = "dbt_manifest"
"""What the manifest is called in events, and its layer in the catalogue."""
# A larger manifest is not parsed a second time in the background: parsing holds the interpreter for its whole length.
_MAX_PARSED = 32 * 1024 * 1024
# The node types that are built from a file of their own, and the files whose checksum dbt takes from their contents.
_CHECKED_TYPES = frozenset({"model", "seed", "snapshot"})
_CHECKED_SUFFIXES = (".sql", ".py", ".csv")

# So many projects are watched at once; beyond, the one that was opened longest ago is left. One whose folder is gone
# is left after so many seconds: a deployment may take it away for a moment.
_MOST_WATCHED = 32
# When a file was built is said again after so many seconds: a Collector forgets what nobody says for days.
_SAID_AGAIN = 86_400.0
_GONE = 60.0

_Identity = tuple[str, int, int, int]


@dataclass(frozen=True)
class Consumer:
    """Who else wants the manifest of a watched project.

    ``take`` is called in the worker with the project's root and the parsed file, once for each version; nothing of it
    is kept for the next time. ``leave`` is told the root of a project that is watched no more. ``finds`` are reasons
    that the consumer finds in it: each is asked at every call that loads the manifest, so it only looks up.
    """

    take: Callable[[Path, dict[str, Any]], None]
    leave: Callable[[Path], None]
    finds: Mapping[str, Callable[[Path], bool]] = field(default_factory=dict)


consumers: list[Consumer] = []
"""Filled where the hooks are put together (instrumentor.py)."""


# -- what a manifest is --------------------------------------------------------------------------


def exists(served: Any, path: str) -> bool:
    """Whether the project, or the folder of one, has the file; one that may not be looked at is there."""
    try:
        return (served / path).exists() if isinstance(served, Path) else bool(served.exists(path))
    except OSError:
        return True


def is_manifest(content: Any) -> bool:
    """Whether a file's content can be read as a manifest: a mapping, whose nodes are mappings if it has any."""
    nodes = content.get("nodes") if isinstance(content, dict) else ()
    if not nodes:
        return isinstance(content, dict)
    return isinstance(nodes, dict) and isinstance(next(iter(nodes.values())), dict)


def generated_at(manifest: Any) -> float | None:
    """The Unix time at which dbt wrote the manifest (``metadata.generated_at``), None when it does not say."""
    metadata = manifest.get("metadata") if isinstance(manifest, dict) else None
    return unix_time(metadata.get("generated_at")) if isinstance(metadata, dict) else None


def age(manifest: Any) -> float | None:
    """How many seconds ago dbt wrote the manifest, None when it does not say."""
    return seconds_since(generated_at(manifest))


def root_of(served: Any) -> Path | None:
    """The folder of a project, None where it lies in none. Releases before 0.2.0 hand the folder itself around."""
    root = (
        served if isinstance(served, Path) else getattr(served, "root", None)
    )  # a path has a `root` of its own
    return root if isinstance(root, Path) else None


# -- the worker's side ---------------------------------------------------------------------------


def identity_of(path: str | Path | None) -> _Identity | None:
    """Which version of a file is there; None: none."""
    try:
        found = os.stat(path) if path is not None else None
    except OSError:
        return None
    return None if found is None else (str(path), found.st_ino, found.st_mtime_ns, found.st_size)


@dataclass(eq=False)
class _Watched:
    """One project's manifest: the verdict for the file as it is now, and what it was reached from."""

    root: Path
    key: str = ""
    file: str = ""
    """The root and the file as texts: joining paths is most of what a request's look at it would cost."""
    identity: _Identity | None = None
    stale: bool = False
    state: str | None = None
    left: bool = False
    _built: float | None = None
    _told_at: float = float("-inf")
    _last_there: float = 0.0
    _models: Models | None = None
    _files: ModelFiles = field(init=False)
    _expected: dict[str, tuple[str, str]] = field(default_factory=dict)
    _seen: dict[str, tuple[_Identity | None, bool]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.key, self.file = str(self.root), str(self.root / TARGET)
        self._last_there = time.monotonic()
        self._files = ModelFiles(self.key)

    def is_current(self) -> bool:
        """Whether the verdict is about the manifest file as it is on disk now."""
        return self.identity is not None and self.identity == identity_of(self.file)

    def known_state(self) -> str | None:
        """The state of the file that is on disk now; None while that has not been looked at, or is too large to be."""
        identity = identity_of(self.file)
        if identity != self.identity or (identity is not None and identity[3] > _MAX_PARSED):
            return None
        return self.state

    def look(self) -> None:
        """Read the manifest if it is new, compare the model files that changed, and say what is different."""
        self._look()
        if self.left:  # while this looked: what was handed on since is taken back
            _tell_leaving(self)

    def leave(self) -> None:
        """Nobody watches it any more: what it says does not hold any more either."""
        self.left = True
        worker.unwatch(f"manifest {self.key}")
        _tell_leaving(self)

    def is_gone(self) -> bool:
        """Whether the folder is away for longer than a deployment takes; never that of the project served here."""
        if self.root.is_dir() or _watched.get(str(project.root())) is self:
            self._last_there = time.monotonic()
        return time.monotonic() - self._last_there > _GONE

    def _look(self) -> None:
        identity = identity_of(self.file)
        if identity is None:
            if self.is_gone():
                _leave(self)
                return
            self._conclude(None, False, "missing")
            return
        if identity != self.identity:
            manifest = self._parse(identity)
            if manifest is None:
                self._conclude(identity, False, "unreadable")
                return
            self._expected, self._seen = _checksums(manifest), {}
            self._models = models_of(manifest)
            built = generated_at(manifest)
            if not manifest.get("nodes"):
                self._conclude(identity, False, "incomplete", built)
                return
            if identity[3] <= _MAX_PARSED:
                self._hand_on(manifest)
        elif self.state in ("unreadable", "incomplete"):
            return
        else:
            built = self._built
        stale = self._has_sources() and (
            any(self._differs(path, *expected) for path, expected in self._expected.items())
            or (self._models is not None and self._files.has_more_than(self._models))
        )
        self._conclude(identity, stale, "stale" if stale else "ok", built)

    def _has_sources(self) -> bool:
        """Whether any of the model files is here: an image may carry the manifest alone, and nothing to compare."""
        return any((self.root / path).exists() for path in self._expected)

    def _parse(self, identity: _Identity) -> dict[str, Any] | None:
        if identity[3] > _MAX_PARSED:
            return {"nodes": {"": {}}}
        try:
            manifest = json.loads((self.root / TARGET).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        return manifest if is_manifest(manifest) else None

    def _hand_on(self, manifest: dict[str, Any]) -> None:
        for consumer in consumers:
            try:
                consumer.take(self.root, manifest)
            except Exception as error:
                failsafe.caught("manifest consumer", error)

    def _differs(self, path: str, algorithm: str, checksum: str) -> bool:
        identity = identity_of(str(self.root / path))
        known = self._seen.get(path)
        if known is not None and known[0] == identity:
            return known[1]
        differs = identity is None or not _matches(self.root / path, algorithm, checksum)
        self._seen[path] = (identity, differs)
        return differs

    def _conclude(
        self, identity: _Identity | None, stale: bool, state: str, built: float | None = None
    ) -> None:
        was_stale, was_state, was_identity = self.stale, self.state, self.identity
        self.identity, self.stale, self.state, self._built = identity, stale, state, built
        changed = (state, identity) != (was_state, was_identity) and not (
            state == "missing" and was_state is None
        )
        if changed or (built is not None and time.monotonic() - self._told_at >= _SAID_AGAIN):
            self._told_at = time.monotonic()
            artifact_changed(ARTIFACT, state, built, warning=state != "ok")
        if stale != was_stale:
            board.told("manifest_stale", ARTIFACT, stale, self.key)


def artifact_changed(artifact: str, state: str, built: float | None, warning: bool) -> None:
    """Say what an artefact was found to be, with the Unix time at which it was built where it has one."""
    attributes: dict[str, Any] = {names.DATAFACE_ARTIFACT: artifact, names.DATAFACE_ARTIFACT_STATE: state}
    if built is not None:
        attributes[names.DATAFACE_ARTIFACT_BUILT_AT] = built
    recorder.event(names.EVENT_DATAFACE_ARTIFACT_CHANGED, attributes, warning=warning)


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


# By root, as it was opened and as it really is, the one that was opened last at the end.
_watched: dict[str, _Watched] = {}
_lock = threading.Lock()


def watch(served: Any) -> None:
    """Keep a verdict on the manifest of a project that lies in a folder, if it is a dbt project at all.

    ``served`` is a project of Dataface, or the folder of one.
    """
    root = root_of(served)
    if root is None:
        return
    with _lock:
        key = str(root)
        known = _watched.get(key)
        if known is None and not (exists(served, "dbt_project.yml") or exists(served, TARGET)):
            return
        real = known.root if known is not None else root.resolve()
        watched = known or _watched.get(str(real)) or _Watched(real)
        for name in [name for name, each in _watched.items() if each is watched]:
            _watched[name] = _watched.pop(name)
        _watched[key] = _watched[watched.key] = watched
        there = list(dict.fromkeys(_watched.values()))
        served_here = _watched.get(str(project.root()))
        too_many = [each for each in there if each is not served_here][: max(0, len(there) - _MOST_WATCHED)]
    for each in too_many:
        _leave(each)
    if known is None:
        worker.watch(f"manifest {watched.key}", watched.look)


def _leave(watched: _Watched) -> None:
    with _lock:
        for key in [key for key, each in _watched.items() if each is watched]:
            del _watched[key]
    watched.leave()


def _tell_leaving(watched: _Watched) -> None:
    if watched.stale:
        watched.stale = False
        board.told("manifest_stale", ARTIFACT, False, watched.key)
    for consumer in consumers:
        consumer.leave(watched.root)


def watched(root: Path) -> _Watched | None:
    """What is known of the manifest of the project at ``root``; None where nobody watches it."""
    return _watched.get(str(root))


def found(served: Any) -> list[str]:
    """What the worker has found in the manifest file as it is on disk now; of one that is new to it, nothing yet."""
    watched = _watched.get(str(root_of(served)))
    if watched is None or not watched.is_current():
        return []
    stale = ["manifest_stale"] if watched.stale else []
    return stale + [
        reason for each in consumers for reason, holds in each.finds.items() if holds(watched.root)
    ]


@dataclass(frozen=True)
class Seen:
    """A manifest as somebody who asked found it."""

    state: str
    """One of the conventions' states of an artefact; `missing` where none was ever there, too."""
    reasons: tuple[str, ...]
    age: float | None


def look_once(served: Path, seconds: float) -> Seen | None:
    """The worker's verdict on the manifest of a project as it is now; None where it is no dbt project.

    For who looks now and then: nothing watches it in between. Raises TimeoutError after so many seconds.
    """
    watch(served)
    here = _watched.get(str(served))
    if here is None:
        return None
    done = threading.Event()

    def look() -> None:
        worker.unwatch(f"manifest {here.key}")
        try:
            here.look()
        finally:
            done.set()

    worker.soon(look)
    if not done.wait(seconds):
        raise TimeoutError
    state = here.state or "missing"
    if state == "missing" and (here.root / SUBSTITUTE).exists():
        reasons = ["manifest_substituted"]
    else:
        reasons = [f"manifest_{state}"] if state in ("missing", "unreadable", "incomplete") else found(served)
    return Seen(state, tuple(reasons), seconds_since(here._built))


def _renew() -> None:
    global _lock
    _lock = threading.Lock()


renew_in_child(_renew)


@on_forget
def forget() -> None:
    """Stop all watches."""
    with _lock:
        for watched in _watched.values():
            watched.left = True  # a look that has begun takes back what it hands on
            worker.unwatch(f"manifest {watched.root}")
        _watched.clear()
