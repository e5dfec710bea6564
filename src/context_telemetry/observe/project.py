"""The project that this process serves, bound once by whoever first opens one.

The pipeline waits for it to know where telemetry goes; the instrumentation says it. Neither knows the other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from context_telemetry.observe import failsafe
from context_telemetry.observe.fork import renew_in_child

_Callback = Callable[["Path | None", "str | None"], None]

_lock = threading.Lock()
_waiting: list[_Callback] = []
_bound: tuple[Path | None, str | None] | None = None


def on_open(callback: _Callback) -> None:
    """Call ``callback(root, name)`` once, when the first project is opened (at once if one is)."""
    with _lock:
        if _bound is None:
            _waiting.append(callback)
            return
        bound = _bound
    _tell(callback, bound)


def opened(root: Path | None, name: str | None = None) -> None:
    """Say that the project at ``root`` is being served. Only the first call counts; no root: no project."""
    global _bound
    with _lock:
        if _bound is not None:
            return
        _bound = (root, name)
        waiting, _waiting[:] = list(_waiting), []
    for callback in waiting:
        _tell(callback, (root, name))


def forget() -> None:
    """Unbind, for the next `instrument` after an `uninstrument`."""
    global _bound
    with _lock:
        _bound = None
        _waiting.clear()


def _renew() -> None:
    global _lock
    _lock = threading.Lock()


renew_in_child(_renew)


def _tell(callback: _Callback, bound: tuple[Path | None, str | None]) -> None:
    try:
        callback(*bound)
    except Exception as error:
        failsafe.caught("project", error)
