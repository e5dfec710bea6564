"""Instrument and uninstrument: choose the rows for the installed release, place them, report where they stand."""

from __future__ import annotations

import importlib
import importlib.metadata
import threading
import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor

from context_telemetry.conventions import names
from context_telemetry.instrumentation import (
    agent,
    catalog,
    commands,
    context,
    direct_renders,
    enrichment,
    freshness,
    given,
    manifest,
    manifest_watch,
    mcp,
    pages,
    private,
    queries,
    rendering,
    session,
    tools,
)
from context_telemetry.instrumentation.hooks import Hook, HookState, Installation, version
from context_telemetry.observe import failsafe, fingerprint, recorder
from context_telemetry.observe.fork import forget_all, renew_in_child

Phase = Literal["began", "changed", "ended"]
"""The values of `context_telemetry.phase`."""

HOOKS: tuple[Hook, ...] = (
    *mcp.HOOKS,
    *session.HOOKS,
    *tools.HOOKS,
    *queries.HOOKS,
    *catalog.HOOKS,
    *manifest.HOOKS,
    *rendering.HOOKS,
    *direct_renders.HOOKS,
    *context.HOOKS,
    *agent.HOOKS,
    *pages.HOOKS,
    *commands.HOOKS,
    *freshness.HOOKS,
    *private.HOOKS,
)

# What is read of the manifest besides its state.
manifest_watch.consumers += (given.CONSUMER, enrichment.CONSUMER)

OLDEST = min((hook.since for hook in HOOKS), key=version)
"""The oldest Dataface release that is observed."""

NEWEST = "0.4.0"
"""The newest Dataface release that the rows were tried on; a newer one is tried with the same rows."""

_lock = threading.RLock()
_installation: Installation | None = None


def installed_release() -> str | None:
    """The version of the installed Dataface, None when there is none."""
    try:
        return importlib.metadata.version("dataface")
    except importlib.metadata.PackageNotFoundError:
        return None


class DatafaceInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # see its import
    """Places the hooks for the installed Dataface release, before or after Dataface is imported."""

    def instrumentation_dependencies(self) -> Collection[str]:
        return ("dataface >= 0.1.2",)

    def _instrument(self, **kwargs: Any) -> None:
        global _installation
        with _lock:
            if _installation is not None:
                return
            recorder.use(
                kwargs.get("tracer_provider"), kwargs.get("meter_provider"), kwargs.get("logger_provider")
            )
            recorder.set_error_code_reader(tools.error_code)
            release = installed_release()
            rows = tuple(hook for hook in HOOKS if release is not None and hook.serves(version(release)))
            if release is None:
                failsafe.warn("there is no Dataface here to observe")
            elif not rows:
                failsafe.warn(f"Dataface {release} is not observed: this version knows {OLDEST} and later")
            # What a consumer is given whatever is asked.
            fingerprint.standing.append(given.manifest_part)
            _installation = Installation(rows)
            _installation.place()

    def _uninstrument(self, **kwargs: Any) -> None:
        global _installation
        with _lock:
            if _installation is None:
                return
            _installation.remove()
            _installation = None
            forget_all()


def _renew() -> None:
    global _lock
    _lock = threading.RLock()
    if _installation is not None:
        _installation.renew_lock()


renew_in_child(_renew)


def hook_states() -> list[HookState]:
    """Where every hook of the current installation stands; empty when nothing is instrumented."""
    return list(_installation.states.values()) if _installation is not None else []


def probe() -> list[HookState]:
    """Try every hook for the installed release by importing what it patches, and tell where it stands.

    For `doctor`: it imports Dataface into this process, and leaves it as it was before.
    """
    instrumentor = DatafaceInstrumentor()
    fresh = _installation is None
    if fresh:
        instrumentor.instrument(skip_dep_check=True)
    try:
        if _installation is not None:
            _installation.settle()
        for state in hook_states():
            if state.state == "unneeded":
                continue
            module = state.id.partition(":")[0]
            try:
                importlib.import_module(module)
            except Exception as error:
                state.state, state.detail = "absent", f"{type(error).__name__}: {module} cannot be imported"
        return [HookState(each.id, each.state, each.detail) for each in hook_states()]
    finally:
        if fresh:
            instrumentor.uninstrument()


@dataclass(frozen=True)
class _Said:
    """What the state said last: errors and drops by place so far, and when that was, on the monotonic clock."""

    errors: Counter[str] = field(default_factory=Counter)
    drops: Counter[str] = field(default_factory=Counter)
    at: float = float("-inf")
    flawed: bool = False
    """Or sampled: what holds until the process ends, and is judged by who spoke of it in a window."""


_said = _Said()
_saying = threading.RLock()
_SAID_AGAIN_AFTER = 15.0
# A flaw that lasts is said again, for it counts for an hour: a process may live for weeks.
_FLAW_SAID_AGAIN_AFTER = 1800.0


def _forget_said() -> None:
    global _said, _saying
    _said, _saying = _Said(), threading.RLock()


renew_in_child(_forget_said)


def report_changes(*, last: bool = False) -> None:
    """Report the state again where there is need to: a watch for the worker.

    Where errors or drops have come since it was said, every 15 seconds at most, or now if there is no later (``last``);
    where there is a flaw, every half hour.
    """
    since = time.monotonic() - _said.at
    told = (failsafe.errors(), failsafe.drops()) == (_said.errors, _said.drops)
    if told:
        is_due = _said.flawed and not last and since >= _FLAW_SAID_AGAIN_AFTER
    else:
        is_due = last or since >= _SAID_AGAIN_AFTER
    if is_due:
        report_state()


def report_state(phase: Phase = "changed") -> None:
    """Emit where the hooks stand and what the library has caught and dropped, as the event that gauges are views of.

    ``phase`` tells why it is said now: whoever counts processes judges by it, never by how often one has spoken.
    """
    if _installation is not None:
        _installation.settle()
    by = recorder.heard()  # this may start a pipeline, which waits for nobody who reports
    if by is None:
        return
    with _saying:
        _report(by, phase)


def _report(by: recorder.Recorder, phase: Phase) -> None:
    global _said
    states = hook_states()
    counted = {name: sum(each.state == name for each in states) for name in ("active", "absent", "failed")}
    missing = [each.id for each in states if each.state in ("absent", "failed")]
    errors, drops = Counter(failsafe.errors()), Counter(failsafe.drops())
    added_errors, added_drops = errors - _said.errors, drops - _said.drops
    wrong = failsafe.by_part(errors).get("settings", 0)
    sampler = by.sampler
    _said = _Said(errors, drops, time.monotonic(), bool(missing or wrong or sampler))
    recorder.event(
        names.EVENT_CONTEXT_TELEMETRY_STATE,
        {
            names.CONTEXT_TELEMETRY_PHASE: phase,
            names.CONTEXT_TELEMETRY_HOOKS_ACTIVE: counted["active"],
            names.CONTEXT_TELEMETRY_HOOKS_ABSENT: counted["absent"],
            names.CONTEXT_TELEMETRY_HOOKS_FAILED: counted["failed"],
            names.CONTEXT_TELEMETRY_HOOKS_MISSING: missing,
            names.CONTEXT_TELEMETRY_ERRORS: sum(errors.values()),
            names.CONTEXT_TELEMETRY_DROPPED: sum(drops.values()),
            names.CONTEXT_TELEMETRY_SETTINGS_WRONG: wrong,
            **({names.CONTEXT_TELEMETRY_RECORDER_FALLBACKS: by.fallbacks} if by.fallbacks else {}),
            **({names.CONTEXT_TELEMETRY_SAMPLER: sampler} if sampler else {}),
            **_by_place(names.METRIC_CONTEXT_TELEMETRY_ERRORS, added_errors),
            **_by_place(names.METRIC_CONTEXT_TELEMETRY_DROPPED, added_drops),
        },
        warning=bool(missing),
    )


def _by_place(metric: str, counts: Mapping[str, int]) -> dict[str, int]:
    """The attributes that ``metric`` reads its points from, one per part of the library, also where it is none."""
    parts = next(each.parts for each in names.METRICS if each.name == metric) or {}
    found = failsafe.by_part(counts)
    return {attribute: found.get(part, 0) for part, attribute in parts.items()}
