"""One background thread for what a reader must not do itself: reading files, hashing, comparing.

It repeats its watches while there are any. The thread is a daemon: it never keeps a process alive, and a forked child
gets one of its own.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from context_telemetry.observe import failsafe
from context_telemetry.observe.fork import renew_in_child

# Watches are repeated after this many seconds, or after this many times what a round took, but never later than
# `_LATEST`: a fault is known two seconds after it happened.
_PERIOD = 0.5
_REST = 20.0
_LATEST = 1.5

_condition = threading.Condition()
_watches: dict[str, Callable[[], None]] = {}
_once: list[Callable[[], None]] = []
_due = 0.0  # when the watches are, on the monotonic clock
_thread: threading.Thread | None = None


def watch(key: str, task: Callable[[], None]) -> None:
    """Run ``task`` now and every half to one and a half seconds from then on, until `unwatch`."""
    global _due
    with _condition:
        _watches[key], _due = task, 0.0
        _ensure_thread()
        _condition.notify()


def soon(task: Callable[[], None]) -> None:
    """Run ``task`` once, as soon as the thread can; never where the interpreter is shutting down."""
    with _condition:
        _once.append(task)
        with contextlib.suppress(RuntimeError):  # it starts no threads any more
            _ensure_thread()
        _condition.notify()


def unwatch(key: str) -> None:
    """Stop the watch named ``key``."""
    with _condition:
        _watches.pop(key, None)


def _ensure_thread() -> None:
    global _thread
    if _thread is None or not _thread.is_alive():
        _thread = threading.Thread(target=_run, name="context-telemetry-worker", daemon=True)
        _thread.start()


def _run() -> None:
    global _due
    while True:
        with _condition:
            if not _once:
                _condition.wait(max(0.0, _due - time.monotonic()) if _watches else None)
            once, _once[:] = list(_once), []
            watches = list(_watches.items()) if time.monotonic() >= _due else []
        for task in once:
            _do("task", task)
        if not watches:
            continue
        started = time.monotonic()
        _due = planned = started + _LATEST
        for key, task in watches:
            _do(key, task)
        ended = time.monotonic()
        if _due == planned:  # and nobody has asked for a look meanwhile
            _due = ended + min(_LATEST, max(_PERIOD, _REST * (ended - started)))


def _do(key: str, task: Callable[[], None]) -> None:
    try:
        task()
    except Exception as error:
        failsafe.caught(f"worker: {key}", error)


def _renew() -> None:
    global _condition, _thread
    _condition = threading.Condition()
    _once.clear()
    _thread = None
    if _watches:
        with _condition:
            _ensure_thread()


renew_in_child(_renew, last=True)
