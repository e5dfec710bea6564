"""What the SDK's metrics leave locked in a child that was forked while another thread collected or recorded.

Hand-written OpenTelemetry hangs so in four forks of five made during a collection: the SDK renews the locks of its
traces and logs and not these. There is no public way to them, so none is called by its name here.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any

import opentelemetry.metrics._internal as _metrics_globals

_KINDS = (type(threading.Lock()), type(threading.RLock()))
_OURS_TO_RENEW = "opentelemetry.sdk."


def renew(provider: Any) -> None:
    """In a child, while it has one thread: new locks for ``provider`` (None: the process's own) and all its parts."""
    provider = _metrics_globals._METER_PROVIDER if provider is None else provider
    waiting, seen = [provider], set()
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, Mapping):
            waiting += [*part.keys(), *part.values()]
        elif isinstance(part, (list, tuple, set, frozenset)):
            waiting += part
        elif any(kind.__module__.startswith(_OURS_TO_RENEW) for kind in type(part).__mro__):
            waiting += _renewed(part)


def _renewed(part: Any) -> Iterator[Any]:
    for name, value in list(getattr(part, "__dict__", {}).items()):
        if isinstance(value, _KINDS[0]):
            setattr(part, name, threading.Lock())
        elif isinstance(value, _KINDS[1]):
            setattr(part, name, threading.RLock())
        else:
            yield value
