"""The ends of a process: what was recorded is exported before it goes, and it goes as it would have gone.

A normal exit, `sys.exit`, an unhandled exception and a closed standard input all pass `atexit`. SIGTERM does
not, and is ours to catch only in a process that is ours (`run`, `opentelemetry-instrument`). Nothing helps
against kill -9.
"""

from __future__ import annotations

import _thread
import atexit
import queue
import signal
import threading
from collections.abc import Callable
from typing import Any

EXIT_SECONDS = 2.0
SIGTERM_SECONDS = 1.0


def at_exit(end: Callable[[float], Any]) -> None:
    """Have ``end(seconds)`` called when the interpreter exits, once."""
    atexit.unregister(end)  # once, however often it is said
    atexit.register(end, EXIT_SECONDS)


def on_sigterm(flush: Callable[[float], Any], end: Callable[[float], Any]) -> None:
    """Have ``end(seconds)`` called before SIGTERM ends this process with the status that the signal gives it.

    A handler that was there before is called after a ``flush(seconds)`` and decides. One that comes after
    (uvicorn's) replaces ours for as long as it likes; uvicorn puts ours back and raises the signal again. As
    with any handler of Python's, a call that does not return to the interpreter delays it. Does nothing
    outside the main thread, nor where SIGTERM is ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    previous = signal.getsignal(signal.SIGTERM)
    if previous is None or previous is signal.SIG_IGN:
        return

    def terminated(number: int, frame: Any) -> None:
        if callable(previous):
            _within(SIGTERM_SECONDS, flush)
            previous(number, frame)
            return
        _within(SIGTERM_SECONDS, end)
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    signal.signal(signal.SIGTERM, terminated)


def _within(seconds: float, task: Callable[[float], Any]) -> None:
    """Run ``task`` for at most ``seconds``, in another thread.

    The interrupted code may hold a lock that the task needs; then only the time is lost. `threading` would
    take a lock of its own to start the thread.
    """
    done: queue.SimpleQueue[None] = queue.SimpleQueue()

    def run() -> None:
        try:
            task(seconds)
        finally:
            done.put(None)

    try:
        _thread.start_new_thread(run, ())
        done.get(timeout=seconds)
    except (RuntimeError, queue.Empty):
        return
