"""What the SDK's metrics leave behind in a child that was forked while another thread collected, recorded or waited.

Hand-written OpenTelemetry hangs so in four forks of five made during a collection: the SDK renews the locks of its
traces and logs and not these. A reader that exports by itself has an event that its thread waits for; its lock is held
for a moment every time that the wait begins or ends, and a fork may hit that moment. There is no public way to them,
so none is called by its name here. What it counted of ours in the parent is the parent's to tell.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from context_telemetry.conventions import names
from context_telemetry.observe import process_providers

_LOCK, _RLOCK = type(threading.Lock()), type(threading.RLock())
_SDK = "opentelemetry.sdk."
_WHOLE_MOMENT = 0.05
"""Seconds after which a lock of an event has been left behind: whoever lives holds it for microseconds."""


def renew(provider: Any) -> None:
    """In a child: new locks for ``provider`` (None: the process's own) and for all of the SDK's that it is made of.

    It takes 15 us for each series that the provider has, the host's own too. A provider that wraps the SDK's is not
    looked into.
    """
    provider = process_providers.meter_provider() if provider is None else provider
    waiting, seen = [provider], set()
    plain: dict[type, bool] = {}
    while waiting:
        part = waiting.pop()
        kind = type(part)
        if kind not in plain:
            # No other mapping: to look into one of OpenTelemetry's attributes takes a lock that is held here for ever.
            plain[kind] = not (issubclass(kind, (dict, list, tuple, set)) or _is_of_sdk(kind))
        if plain[kind] or id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, dict):
            waiting += [key for key in part if type(key) not in (str, tuple)]
            waiting += part.values()
        elif isinstance(part, (list, tuple, set)):
            waiting += part
        else:
            _forget_ours(part)
            waiting += _renewed(part, kind.__module__.startswith(_SDK))


def _is_of_sdk(kind: type) -> bool:
    return any(each.__module__.startswith(_SDK) for each in kind.__mro__)


def _renewed(part: Any, all_its_own: bool) -> Iterator[Any]:
    """The parts of ``part``; its locks are new then, unless it is a host's class and they may be the host's."""
    for name, value in list(getattr(part, "__dict__", {}).items()):
        kind = type(value)
        if kind is _LOCK or kind is _RLOCK:
            if all_its_own:
                setattr(part, name, threading.Lock() if kind is _LOCK else threading.RLock())
        elif kind is threading.Event:
            if all_its_own:
                _free(value)
        elif kind is not str and kind is not int:
            yield value


def _free(event: threading.Event) -> None:
    """Let go of an event's lock where its holder stayed in the parent.

    It is not replaced: the SDK has started the child's thread by now, and that waits for this one.
    """
    lock = getattr(getattr(event, "_cond", None), "_lock", None)
    if type(lock) is _LOCK:
        lock.acquire(timeout=_WHOLE_MOMENT)
        lock.release()


def _forget_ours(part: Any) -> None:
    """Let the SDK begin anew with a metric of ours: it knows the parent's numbers, and tells what was added to them."""
    scope = getattr(getattr(part, "_instrument", None), "instrumentation_scope", None)
    known = getattr(part, "_attributes_aggregation", None)
    if getattr(scope, "name", None) == names.SCOPE and isinstance(known, dict):
        known.clear()
