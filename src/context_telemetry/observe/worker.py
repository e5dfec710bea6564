"""One background thread for what a reader must not do itself: reading files, hashing, comparing.

It repeats its watches while there are any. The thread is a daemon: it never keeps a process alive, and a forked child
gets one of its own.
"""

from __future__ import annotations

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
_thread: threading.Thread | None = None


def watch(key: str, task: Callable[[], None]) -> None:
    """Run ``task`` now and every half to one and a half seconds from then on, until `unwatch`."""
    with _condition:
        _watches[key] = task
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
    rest: float | None = 0.0
    while True:
        with _condition:
            if rest != 0.0:
                _condition.wait(rest)
            watches = list(_watches.items())
        started = time.monotonic()
        for key, task in watches:
            try:
                task()
            except Exception as error:
                failsafe.caught(f"worker: {key}", error)
        took = time.monotonic() - started
        rest = min(_LATEST, max(_PERIOD, _REST * took)) if watches else None


def _renew() -> None:
    global _condition, _thread
    _condition = threading.Condition()
    _thread = None
    if _watches:
        with _condition:
            _ensure_thread()


renew_in_child(_renew)
