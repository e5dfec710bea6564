"""What a shell has set, out of the way of what is measured here and in processes of our own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache

from context_telemetry.rehearsal.driver import STEERING


def without_steering() -> None:
    """Take from this process what would send telemetry elsewhere, or observe otherwise, than a benchmark says."""
    for name in [name for name in os.environ if name.startswith(STEERING)]:
        del os.environ[name]


def for_processes(seed: int = 0) -> dict[str, str]:
    """This environment without steering, with modules compiled as installed ones are. ``seed`` is for hashes."""
    steering = (*STEERING, "PYTHONDONTWRITEBYTECODE")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(steering)}
    return {**kept, "PYTHONPYCACHEPREFIX": _compiled().name, "PYTHONHASHSEED": str(seed)}


@cache
def _compiled() -> tempfile.TemporaryDirectory[str]:
    """Where all processes of this one find modules that are compiled already; it is gone with this process."""
    return tempfile.TemporaryDirectory()


@contextmanager
def changed(**values: str | None) -> Iterator[None]:
    """These variables inside the block (None: not set), and what they were after it."""
    before = {name: os.environ.get(name) for name in values}
    try:
        _set(values)
        yield
    finally:
        _set(before)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
