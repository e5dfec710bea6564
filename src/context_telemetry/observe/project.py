"""The project that this process serves, bound once by whoever first opens one.

The pipeline waits for it to know where telemetry goes; the instrumentation says it. The pipeline in turn knows where
what is known of a project may be kept from process to process. Neither knows the other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from context_telemetry.observe import failsafe
from context_telemetry.observe.fork import on_forget, renew_in_child

_Callback = Callable[["Path | None", "str | None"], None]

_lock = threading.Lock()
_waiting: list[_Callback] = []
_bound: tuple[Path | None, str | None] | None = None
_place: Callable[[Path], Path] | None = None


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


def is_bound() -> bool:
    """Whether a project has been opened and observing it has not ended since."""
    return _bound is not None


def root() -> Path | None:
    """The folder of the project that was opened, where it has one."""
    return _bound[0] if _bound is not None else None


def keep_state(place: Callable[[Path], Path]) -> None:
    """Say which folder of the user's is for what is kept of the project at a root: beside its local files."""
    global _place
    _place = place


def local_state(root: Path) -> Path | None:
    """That folder, which need not exist nor be writable; None where nothing is to be kept."""
    return _place(root) if _place is not None else None


@on_forget
def forget() -> None:
    """Unbind, for the next `instrument` after an `uninstrument`."""
    global _bound, _place
    with _lock:
        _bound = _place = None
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
