"""The health board: which reasons hold for which objects, told as an event when one begins and when it clears.

It is a sink of finished operations, and is told by the watches of the worker. It judges nothing: a reason is what a
reader or a watch said. Nothing is sent per call, and a healthy process pays one look at an empty board.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from typing import TYPE_CHECKING

from context_telemetry.conventions import names
from context_telemetry.observe import failsafe, recorder
from context_telemetry.observe.fork import renew_in_child

if TYPE_CHECKING:
    from context_telemetry.observe.operation import Operation

MOST = 256
"""So many objects of an operation are kept; beyond, the one that was met longest ago is given up and counted."""

_COORDINATES = (
    names.DATAFACE_CATALOG_SOURCE,
    names.DATAFACE_CATALOG_SCHEMA,
    names.DATAFACE_CATALOG_TABLE,
    names.DATAFACE_CATALOG_COLUMN,
)
# What an operation is about where it has no coordinates, the most specific first.
_OBJECTS = (
    names.DATAFACE_FACE,
    names.GEN_AI_TOOL_NAME,
    names.DATAFACE_PAGE,
    names.DATAFACE_COMMAND_NAME,
    names.GEN_AI_AGENT_NAME,
    names.DATAFACE_PAYLOAD_KIND,
)
# Operations on many objects: what they name is one that was missing, and their next call would not name it again.
_ON_MANY = frozenset({"dashboard.search"})
_RESOURCE_KIND = re.compile(r"[a-z][a-z0-9+.-]{0,31}://[\w-]{0,64}")

# By operation and object, least recently met first: each reason with the Unix time in nanoseconds at which the last
# call ended that met it. A watch has no operation.
_Key = tuple["str | None", str]
_met: dict[_Key, dict[str, int]] = {}
_changes: deque[tuple[str, str, bool]] = deque()
_lock = threading.Lock()
_saying = threading.Lock()


def finished(op: Operation) -> None:
    """A finished operation begins the reasons that are its own, and clears those that it does not meet any more."""
    if not op.reasons and not _met:
        return
    if op.name is None:
        return
    key = (op.name, about(op))
    if not op.reasons and key not in _met:
        return
    with _lock:
        known = _met.get(key, {})
        for reason in [reason for reason, ended in known.items() if ended <= op.start_ns]:
            if reason not in op.reasons:
                _clear(key, reason)
        if op.reasons:
            ended = op.start_ns + op.duration_ns
            for reason in op.reasons:
                _meet(key, reason, ended)
            _met[key] = _met.pop(key)
            _make_room()
    _say()


def told(reason: str, about: str, holds: bool) -> None:
    """A watch says that ``reason`` holds for an object, or that it does not: that clears it for every operation."""
    if reason not in names.REASONS:
        failsafe.misused("board.told", f"unknown reason {reason!r}")
        return
    with _lock:
        if holds:
            _meet((None, about), reason, 0)
            _make_room()
        else:
            for key in [key for key, reasons in _met.items() if key[1] == about and reason in reasons]:
                _clear(key, reason)
    _say()


def held() -> set[tuple[str, str]]:
    """The reasons that hold now, with their objects."""
    with _lock:
        return {(reason, about) for (_, about), reasons in _met.items() for reason in reasons}


def forget() -> None:
    """Forget everything, without saying that it has cleared."""
    with _lock:
        _met.clear()
        _changes.clear()


def about(op: Operation) -> str:
    """What an operation's reasons are about: the most specific thing that its attributes name, else the operation."""
    attributes = op.attributes
    artifact = attributes.get(names.DATAFACE_ARTIFACT)
    if artifact is not None:
        return str(artifact)
    coordinates = [str(attributes[name]) for name in _COORDINATES if name in attributes]
    if coordinates:
        return ".".join(coordinates)
    if op.name in _ON_MANY:
        return op.name or ""
    uri = attributes.get(names.MCP_RESOURCE_URI)
    if isinstance(uri, str):
        kind = _RESOURCE_KIND.match(uri)
        return kind.group() if kind is not None else "_OTHER"
    for name in _OBJECTS:
        if name in attributes:
            return str(attributes[name])
    return op.name or ""


def _is_held(reason: str, about: str) -> bool:
    return any(key[1] == about and reason in reasons for key, reasons in _met.items())


def _meet(key: _Key, reason: str, ended: int) -> None:
    reasons = _met.setdefault(key, {})
    if reason not in reasons and not _is_held(reason, key[1]):
        _changes.append((reason, key[1], True))
    reasons[reason] = max(ended, reasons.get(reason, 0))


def _clear(key: _Key, reason: str) -> None:
    reasons = _met[key]
    del reasons[reason]
    if not reasons:
        del _met[key]
    if not _is_held(reason, key[1]):
        _changes.append((reason, key[1], False))


def _make_room() -> None:
    while len(_met) > MOST:
        given_up = _met.pop(next(iter(_met)))
        failsafe.dropped("health board", len(given_up), f"more than {MOST} objects are degraded")


def _say() -> None:
    """Send what has changed, in its order and outside of the lock: an exporter may take its time, or call us."""
    while _changes and _saying.acquire(blocking=False):
        try:
            while _changes:
                reason, about, began = _changes.popleft()
                recorder.event(
                    names.EVENT_DATAFACE_DEGRADATION,
                    {
                        names.DATAFACE_DEGRADATION_REASON: reason,
                        names.DATAFACE_DEGRADATION_STATE: "began" if began else "cleared",
                        names.DATAFACE_DEGRADATION_OBJECT: about,
                    },
                    warning=began,
                )
        finally:
            _saying.release()


def _renew() -> None:
    """In a forked child: what its parent has met is for its parent to tell."""
    global _lock, _saying
    _lock, _saying = threading.Lock(), threading.Lock()
    _met.clear()
    _changes.clear()


renew_in_child(_renew)
