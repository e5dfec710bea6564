"""Brings instrumentation and pipeline together: for `run`, `opentelemetry-instrument` and a host's own call.

The hooks are placed at once; a pipeline of ours is started when the first project is opened (or the first
operation recorded) and only where the host has no providers by then. Nothing here raises into the host.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from context_telemetry.instrumentation import (
    DatafaceInstrumentor,
    close_sessions,
    contract_watch,
    report_changes,
    report_state,
)
from context_telemetry.observe import failsafe, process_providers, project, recorder, worker
from context_telemetry.observe.fork import on_forget, renew_in_child
from context_telemetry.observe.surface import set_process_surface
from context_telemetry.pipeline import shutdown
from context_telemetry.settings import find_project_root, is_disabled, project_folder

if TYPE_CHECKING:
    from context_telemetry.pipeline.providers import Pipeline

_lock = threading.RLock()
_pipeline: Pipeline | None = None
_begun = False
_undo: list[Callable[[], object]] = []


def activate(*, serves: bool = True) -> None:
    """Observe this process, which is ours: `context-telemetry run` calls it in the command that it starts.

    Without ``serves`` it only looks, as `check` does: it says nothing of itself, and has nothing compared beside it.
    """
    if is_disabled():
        return
    try:
        DatafaceInstrumentor().instrument(skip_dep_check=True)
        _await_project(ours=True, serves=serves)
    except Exception as error:
        failsafe.caught("activate", error)


def instrument(**providers: Any) -> None:
    """The public `context_telemetry.instrument`."""
    if is_disabled():
        return
    try:
        with _lock:
            if DatafaceInstrumentor().is_instrumented_by_opentelemetry:
                return
            DatafaceInstrumentor().instrument(skip_dep_check=True, **providers)
            _await_project(ours=False, given=any(providers.values()))
    except Exception as error:
        failsafe.caught("instrument", error)


def uninstrument() -> None:
    """The public `context_telemetry.uninstrument`."""
    try:
        with _lock:
            _end(shutdown.EXIT_SECONDS)
            _remove_hooks()
    except Exception as error:
        failsafe.caught("uninstrument", error)


class AutoInstrumentor(DatafaceInstrumentor):
    """What `opentelemetry-instrument` finds. Unless a distro has set providers, the process is as in `run`."""

    _instance = None  # `BaseInstrumentor` would hand out the parent's single instance

    def _instrument(self, **kwargs: Any) -> None:
        if is_disabled():
            return
        super()._instrument(**kwargs)
        given = any(kwargs.get(f"{kind}_provider") for kind in ("tracer", "meter", "logger"))
        _await_project(ours=not given, given=given)

    def _uninstrument(self, **kwargs: Any) -> None:
        _end(shutdown.EXIT_SECONDS)
        super()._uninstrument(**kwargs)


def current() -> Pipeline | None:
    """The pipeline of ours that runs in this process, if one does."""
    return _pipeline


def _await_project(*, ours: bool, given: bool = False, serves: bool = True) -> None:
    """Begin when a project is opened. ``ours``: the process is. ``given``: the providers are, by the host."""
    project.on_open(lambda root, name: _begin(root, name, ours=ours, given=given, serves=serves))
    recorder.arm(lambda: project.opened(None))
    shutdown.at_exit(_end)
    shutdown.at_end_of_children(_end_child)
    if ours:
        shutdown.on_sigterm(flush, _end)


def _begin(root: Path | None, name: str | None, *, ours: bool, given: bool, serves: bool) -> None:
    """Apply the project's settings, and start a pipeline where there is none."""
    global _pipeline, _begun
    from context_telemetry.pipeline import providers
    from context_telemetry.settings import load_lenient

    root = root or find_project_root(Path.cwd()) or Path.cwd()
    settings, problems = load_lenient(root)
    for problem in problems:
        failsafe.misused(f"settings: {problem}", problem)
    if settings.disabled:  # in the project's file
        _remove_hooks()
        return
    project.keep_state(lambda served: project_folder(settings.state_dir, settings.project or served))
    recorder.set_limits(settings.limits.compile())
    set_process_surface(settings.surface)
    with _lock:
        if _pipeline is None and not given and not process_providers.has_any():
            if settings.project is not None:
                root, name = settings.project, settings.project.name
            _pipeline = providers.start(root, settings, set_global=ours, name=name)
            recorder.install(_pipeline.recorder, private=not ours)
        _begun = serves
    if serves:
        contract_watch.enable(settings.contract_watch)
        report_state("began")
        worker.watch("state", report_changes)


def when_removed(undo: Callable[[], object]) -> None:
    """Call ``undo`` when the hooks are taken out: whoever replaced something besides them puts it back."""
    _undo.append(undo)


def _remove_hooks() -> None:
    while _undo:
        _undo.pop()()
    for instrumentor in (DatafaceInstrumentor(), AutoInstrumentor()):
        if instrumentor.is_instrumented_by_opentelemetry:
            instrumentor.uninstrument()


def _renew() -> None:
    """A forked child has not begun anything: what its parent began, its parent ends."""
    global _lock, _begun
    _lock, _begun = threading.RLock(), False


renew_in_child(_renew)
on_forget(lambda: worker.unwatch("state"))


def flush(timeout: float = shutdown.SIGTERM_SECONDS) -> None:
    """Export what was recorded so far, in at most ``timeout`` seconds."""
    if _pipeline is not None:
        _pipeline.flush(timeout)


def _say_ended(timeout: float) -> None:
    """Say how it went, where this process has begun; in a forked child or a command, what went wrong there."""
    global _begun
    if _pipeline is not None:
        _pipeline.settle(timeout / 2)  # what cannot be exported is to be in what is said
    if not _begun:
        if _pipeline is not None or process_providers.has_any():  # nothing begins at an end
            report_changes(last=True)
        return
    _begun = False
    close_sessions()
    worker.unwatch("state")
    report_state("ended")


def _end_child(timeout: float) -> None:
    """Export what is left in a child of `multiprocessing`, and go on: one that was spawned has its `atexit` to come."""
    _say_ended(timeout)
    flush(timeout)


def _end(timeout: float) -> None:
    """Say how it went, and export what is left."""
    global _pipeline
    _say_ended(timeout)
    ending, _pipeline = _pipeline, None
    if ending is not None:
        ending.shutdown(timeout)
