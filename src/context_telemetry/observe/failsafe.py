"""What happens when the library fails inside a host: it is counted, warned of once per place, and the host goes on.

Nothing here raises, and nothing here writes to standard output, which belongs to the host.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections import Counter
from collections.abc import Mapping

# The conventions' closed list of parts (`context_telemetry.place`), by the first word of a place.
_PARTS = {
    **dict.fromkeys(("hook", "activate", "instrument", "uninstrument"), "hooks"),
    **dict.fromkeys(("reader", "tap", "begin", "item", "end", "operation"), "observation"),
    **dict.fromkeys(("mcp", "agent", "page", "http", "command"), "observation"),
    **dict.fromkeys(
        ("worker", "project", "manifest", "contract", "check", "board", "health", "fork"), "background"
    ),
    "recorder": "recording",
    **dict.fromkeys(("guard", "spans", "logs", "exporter", "pipeline"), "export"),
    "settings": "settings",
}
_FIRST_WORD = re.compile(r"\w+")

_lock = threading.Lock()
_errors: Counter[str] = Counter()
_dropped: Counter[str] = Counter()
_not_ours: Counter[str] = Counter()


def caught(place: str, error: BaseException) -> None:
    """Count an error of ours at ``place``; the first one is named on standard error (its class, never its text)."""
    _note(_errors, place, 1, f"{type(error).__name__} in {place}")


def misused(place: str, what: str) -> None:
    """Count a name that a caller got wrong at a call, where raising would reach the host."""
    _note(_errors, place, 1, what)


def dropped(place: str, count: int, why: str = "") -> None:
    """Count ``count`` pieces of telemetry that had to be dropped at ``place``."""
    _note(_dropped, place, count, f"telemetry dropped in {place}" + (f": {why}" if why else ""))


def not_ours(place: str, what: str) -> None:
    """Say once what somebody else did wrong at ``place``: it is no error of ours, and costs no telemetry."""
    _note(_not_ours, place, 1, what)


def errors() -> dict[str, int]:
    """The caught errors so far, by place."""
    with _lock:
        return dict(_errors)


def drops() -> dict[str, int]:
    """The dropped pieces of telemetry so far, by place."""
    with _lock:
        return dict(_dropped)


def part_of(place: str) -> str:
    """The part of the library that ``place`` is in: one of the conventions' places."""
    word = _FIRST_WORD.match(place)
    return _PARTS.get(word[0], "other") if word else "other"


def by_part(counts: Mapping[str, int]) -> dict[str, int]:
    """Numbers by place, as numbers by part; parts without any are left out."""
    parts: Counter[str] = Counter()
    for place, count in counts.items():
        parts[part_of(place)] += count
    return dict(parts)


def warn(message: str) -> None:
    """One line on standard error; a closed or broken standard error is nobody's problem."""
    try:
        print(f"context-telemetry: {message}", file=sys.stderr, flush=True)
    except (OSError, ValueError, AttributeError):
        return


def _renew() -> None:
    """In a forked child: the parent's lock may be held by a thread that is not here, its numbers are not ours."""
    global _lock
    _lock = threading.Lock()
    for counter in (_errors, _dropped, _not_ours):
        counter.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


def _note(counter: Counter[str], place: str, count: int, message: str) -> None:
    with _lock:
        first = place not in counter
        counter[place] += count
    if first:
        warn(message)
