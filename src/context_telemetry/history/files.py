"""Finds the local files of a project and says which can be read; it does not look into their lines.

One process writes one series of files, each named for when it began; a file that was last written before the
window asked for holds nothing of it and is not opened.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

# A span ends before its batch is written, and clocks of file systems differ a little from ours.
_SLACK = 5.0
_SNIFFED = 4096


@dataclass(frozen=True)
class Unreadable:
    """A file that was skipped, and why in a few words."""

    name: str
    why: str


@dataclass(frozen=True)
class Files:
    """What a folder offers for a window: files to read, files that cannot be, how many are older."""

    readable: tuple[Path, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
    older: int = 0
    total_bytes: int = 0
    last_written: float | None = None


def find(folder: Path, kind: str, since: float | None = None) -> Files:
    """The files of one kind (`traces` or `events`) in a folder; a folder that is not there has none."""
    readable: list[Path] = []
    unreadable: list[Unreadable] = []
    older = 0
    total = 0
    last: float | None = None
    for path in sorted(folder.glob(f"{kind}-*.jsonl")):
        try:
            stat = path.stat()
        except OSError as error:
            # A file that rotation removed between listing and looking is no finding; a broken link is.
            if path.is_symlink() or not isinstance(error, FileNotFoundError):
                unreadable.append(Unreadable(path.name, _reason(error)))
            continue
        total += stat.st_size
        last = max(last or 0.0, stat.st_mtime)
        if since is not None and stat.st_mtime < since - _SLACK:
            older += 1
        elif why := _unreadable(path):
            unreadable.append(Unreadable(path.name, why))
        elif stat.st_size:
            readable.append(path)
    return Files(tuple(readable), tuple(unreadable), older, total, last)


def _unreadable(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            start = file.read(_SNIFFED)
    except OSError as error:
        return _reason(error)
    if b"\0" in start:
        return "binary, not JSON lines"
    if start and start.lstrip()[:1] != b"{":
        return "not JSON lines"
    return None


def _reason(error: OSError) -> str:
    return (error.strerror or os.strerror(error.errno or 0)).lower()
