"""The ends of a process: what was recorded is exported before it goes, and it goes as it would have gone.

A normal exit, `sys.exit`, an unhandled exception and a closed standard input all pass `atexit`. A child of
`multiprocessing` passes its finalizers and not that. SIGTERM passes neither, and is ours to catch only in a
process that is ours (`run`, `opentelemetry-instrument`). Nothing helps against kill -9 and a plain `os._exit`.
"""

from __future__ import annotations

import _thread
import atexit
import queue
import signal
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from context_telemetry.observe import failsafe
from context_telemetry.observe.fork import renew_in_child

if TYPE_CHECKING:
    from multiprocessing.util import Finalize

EXIT_SECONDS = 2.0
SIGTERM_SECONDS = 1.0
CHILD_SECONDS = 1.0

# After all that the host has there: its own finalizers may call Dataface.
_LAST = -1_000

_end_of_child: Callable[[float], Any] | None = None
_awaits_children = False
_finalizer: Finalize | None = None


def at_exit(end: Callable[[float], Any]) -> None:
    """Have ``end(seconds)`` called when the interpreter exits, once."""
    atexit.unregister(end)  # once, however often it is said
    atexit.register(end, EXIT_SECONDS)


def at_end_of_children(end: Callable[[float], Any]) -> None:
    """Have ``end(seconds)`` called where `multiprocessing` ends a child, this process included if it is one.

    Forked children (its default on Linux before Python 3.14, and all of a fork server's) end by `os._exit`, after
    the finalizers. Their parent waits for them, so the time is short. `multiprocessing` is not imported for it.
    """
    global _end_of_child
    _end_of_child = end
    _await_children()


def _await_children() -> None:
    """Be there when a child begins: it forgets the finalizers that it was forked with, and then calls whom it has to.

    Called again in every forked child, because the host may have imported `multiprocessing` since.
    """
    global _awaits_children
    util, process = (sys.modules.get(f"multiprocessing.{name}") for name in ("util", "process"))
    if util is None or process is None or _end_of_child is None:
        return
    if not _awaits_children:
        _awaits_children = True
        util.register_after_fork(_finish_child, lambda _: _finalize())
    if process.parent_process() is not None:
        _finalize()


def _finalize() -> None:
    global _finalizer
    from multiprocessing.util import Finalize

    if _finalizer is None or not _finalizer.still_active():
        _finalizer = Finalize(None, _finish_child, exitpriority=_LAST)


def _finish_child() -> None:
    try:
        if _end_of_child is not None:
            _end_of_child(CHILD_SECONDS)
    except Exception as error:
        failsafe.caught("pipeline.child", error)


renew_in_child(_await_children)


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
