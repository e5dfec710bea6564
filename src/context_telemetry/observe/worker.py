"""One bounded background thread for what a reader must not do itself: reading files, hashing, comparing.

Work is coalesced by key and dropped (counted) when the queue is full. The thread is a daemon: it never keeps a
process alive, and a forked child gets one of its own at its first need.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from context_telemetry.observe import failsafe

_CAPACITY = 256
# Watches are repeated after this many seconds, or after this many times what a round took, but never later than
# `_LATEST`: a fault is known two seconds after it happened.
_PERIOD = 0.5
_REST = 20.0
_LATEST = 1.5

_condition = threading.Condition()
_queue: dict[str, Callable[[], None]] = {}
_watches: dict[str, Callable[[], None]] = {}
_thread: threading.Thread | None = None


def submit(key: str, task: Callable[[], None]) -> None:
    """Run ``task`` soon; a task with the same ``key`` that still waits is replaced by it."""
    with _condition:
        if key not in _queue and len(_queue) >= _CAPACITY:
            failsafe.dropped("worker", 1, "its queue is full")
            return
        _queue[key] = task
        _ensure_thread()
        _condition.notify()


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
    due = 0.0
    while True:
        with _condition:
            if not _queue:
                _condition.wait(max(0.0, due - time.monotonic()) if _watches else None)
            tasks = list(_queue.items())
            _queue.clear()
            watches = list(_watches.items()) if time.monotonic() >= due else []
        started = time.monotonic()
        for key, task in [*tasks, *watches]:
            try:
                task()
            except Exception as error:
                failsafe.caught(f"worker: {key}", error)
        if watches:
            due = time.monotonic() + min(_LATEST, max(_PERIOD, _REST * (time.monotonic() - started)))


def _after_fork() -> None:
    global _condition, _thread
    _condition = threading.Condition()
    _thread = None
    _queue.clear()
    if _watches:
        with _condition:
            _ensure_thread()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
