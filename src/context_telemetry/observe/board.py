"""The health board: which reasons hold for which objects, told as an event when one begins and when it clears.

It is told of finished operations, and by the watches of the worker. It judges nothing: a reason is what a
reader or a watch said. Nothing is sent per call, and a healthy process pays one look at an empty board.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from context_telemetry.conventions import names
from context_telemetry.observe import failsafe, recorder
from context_telemetry.observe.fork import on_forget, renew_in_child
from context_telemetry.observe.reading import COORDINATES

if TYPE_CHECKING:
    from context_telemetry.observe.operation import Operation

MOST = 256
"""So many objects of operations are kept; beyond, the one that was met longest ago is given up, and told as cleared."""

REST = 60
"""Seconds for which a reason of single calls on a source lasts: good calls come between the bad ones."""

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
# Reasons of one query among many: names that a caller may have made up, or a failure that was kept. There is no end
# to queries, so they are told of the source.
_OF_ONE_QUERY = frozenset({"object_unknown", "failure_cached"})
# What a watch tells of each table and column: the calls that meet it are about other things, too.
_OF_WATCHES = frozenset({"contract_broken", "schema_drift"})
_RESOURCE_KIND = re.compile(r"[a-z][a-z0-9+.-]{0,31}://[\w-]{0,64}")

# By operation and object, least recently met first: each reason with the Unix time in nanoseconds from which on a call
# clears it that does not meet it: the end of the last call that did.
_Key = tuple[str, str]
met: dict[_Key, dict[str, int]] = {}
# By reason and object, the watches that say it; an earlier process is one of them.
_EARLIER = "an earlier process"
_watched: dict[tuple[str, str], set[str]] = {}
_changes: deque[tuple[str, str, bool]] = deque()
_lock = threading.Lock()
_saying = threading.Lock()
_is_full = False


def finished(op: Operation) -> None:
    """A finished operation begins the reasons that are its own, and clears those that it does not meet any more.

    One without reasons need not be told of while nothing has been `met`.
    """
    name = op.name
    if name is None:
        return
    object_, source = about(op), str(op.attributes.get(names.DATAFACE_CATALOG_SOURCE, name))
    reasons = [reason for reason in op.reasons if reason not in _OF_WATCHES]
    if not reasons and (name, object_) not in met and (name, source) not in met:
        return

    def key_of(reason: str) -> _Key:
        return (name, source if reason in _OF_ONE_QUERY else object_)

    with _lock:
        for key in {(name, object_), (name, source)}:
            for reason, clears in list(met.get(key, {}).items()):
                if clears <= op.start_ns and reason not in reasons and key == key_of(reason):
                    _clear(key, reason)
        ended = op.start_ns + op.duration_ns
        for reason in reasons:
            _meet(key_of(reason), reason, ended + (REST * 10**9 if reason in _OF_ONE_QUERY else 0))
        _make_room()
    _say()


def told(reason: str, what: str, holds: bool, watch: str = "") -> None:
    """A watch says that ``reason`` holds for an object, or not. When no watch says it, it is cleared for every call."""
    if reason not in names.REASONS:
        failsafe.misused("board.told", f"unknown reason {reason!r}")
        return
    with _lock:
        was_held = _is_held(reason, what)
        watches = _watched.setdefault((reason, what), set())
        (watches.add if holds else watches.discard)(watch)
        if not watches:
            del _watched[reason, what]
            for key in [key for key, reasons in met.items() if key[1] == what and reason in reasons]:
                _remove(key, reason)
        if _is_held(reason, what) != was_held:
            _changes.append((reason, what, not was_held))
    _say()


def recall(held: Iterable[tuple[str, str]]) -> None:
    """What an earlier process has said and not cleared, as `settle` gave it: it is not said to begin again."""
    with _lock:
        for reason, what in held:
            if reason in names.REASONS:
                _watched.setdefault((reason, what), set()).add(_EARLIER)


def settle(is_known: Callable[[str, str], bool]) -> list[tuple[str, str]]:
    """Clear what was recalled and has not been met since, as far as that is known now; all that holds, to be recalled.

    For processes that look once and end: between them they say each beginning and each end once.
    """
    with _lock:
        kept = set[tuple[str, str]]()
        for (reason, what), watches in list(_watched.items()):
            if _EARLIER not in watches:
                continue
            if not is_known(reason, what):
                kept.add((reason, what))
                continue
            watches.discard(_EARLIER)
            if not watches:
                del _watched[reason, what]
            if not _is_held(reason, what):
                _changes.append((reason, what, False))
        held = {(reason, key[1]) for key, reasons in met.items() for reason in reasons}
        held |= kept | set(_watched)
    _say()
    return sorted(held)[:MOST]


def forget() -> None:
    """Forget everything, without saying that it has cleared."""
    with _lock:
        met.clear()
        _watched.clear()
        _changes.clear()


on_forget(forget)


def about(op: Operation) -> str:
    """What an operation's reasons are about: the most specific thing that its attributes name, else the operation."""
    attributes = op.attributes
    artifact = attributes.get(names.DATAFACE_ARTIFACT)
    if artifact is not None:
        return str(artifact)
    coordinates = [str(attributes[name]) for name in COORDINATES.values() if name in attributes]
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


def _is_held(reason: str, what: str) -> bool:
    return (reason, what) in _watched or any(
        key[1] == what and reason in reasons for key, reasons in met.items()
    )


def _meet(key: _Key, reason: str, clears: int) -> None:
    reasons = met.get(key, {})
    if reason not in reasons and not _is_held(reason, key[1]):
        _changes.append((reason, key[1], True))
    reasons[reason] = max(clears, reasons.get(reason, 0))
    met.pop(key, None)
    met[key] = reasons


def _remove(key: _Key, reason: str) -> None:
    reasons = met[key]
    del reasons[reason]
    if not reasons:
        del met[key]


def _clear(key: _Key, reason: str) -> None:
    _remove(key, reason)
    if not _is_held(reason, key[1]):
        _changes.append((reason, key[1], False))


def _make_room() -> None:
    """Nothing that was recorded is lost with what is given up: if it still holds, the next call begins it again."""
    global _is_full
    while len(met) > MOST:
        key = next(iter(met))
        for reason in list(met[key]):
            _clear(key, reason)
        if not _is_full:
            _is_full = True
            failsafe.warn(f"more than {MOST} objects are degraded: the oldest of them are told as cleared")


def _say() -> None:
    """Send what has changed, in its order and outside of the lock: an exporter may take its time, or call us."""
    while _changes and _saying.acquire(blocking=False):
        try:
            while _changes:
                reason, what, began = _changes.popleft()
                recorder.event(
                    names.EVENT_DATAFACE_DEGRADATION,
                    {
                        names.DATAFACE_DEGRADATION_REASON: reason,
                        names.DATAFACE_DEGRADATION_STATE: "began" if began else "cleared",
                        names.DATAFACE_DEGRADATION_OBJECT: what,
                    },
                    warning=began,
                )
        finally:
            _saying.release()


def _renew() -> None:
    """In a forked child: what its parent has met is for its parent to tell."""
    global _lock, _saying
    _lock, _saying = threading.Lock(), threading.Lock()
    met.clear()
    _watched.clear()
    _changes.clear()


renew_in_child(_renew)
