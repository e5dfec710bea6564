"""Writes spans and events as OTLP JSON lines into a project's folder, and deletes the oldest there.

One process writes one series of files for each signal. A line is a batch, a small one while nobody waits for it, and
is appended whole or not at all; nothing is opened before there is something to write. Reading them back is
`history`'s business.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from context_telemetry.observe import failsafe
from context_telemetry.pipeline import line, otlp_json

if TYPE_CHECKING:
    from context_telemetry.settings import Retention

Item = TypeVar("Item")

_NAME = re.compile(r"(?:traces|events)-\d{8}T\d{6}Z-(\d+)-\d+\.jsonl")
_DAY = 86_400.0
# Another process's file that was written this recently is likely to be in use.
_FRESH = 60.0
# See `Batcher`. So many take half a millisecond at most. With fewer, and a thread of the host
# that never lets go of the interpreter by itself, a queue would not be written in time.
PIECE: Final = 32


class Folder:
    """A project's folder of files. Other processes write and delete there too."""

    def __init__(self, path: Path, retention: Retention) -> None:
        self.path = path
        self.retention = retention
        self._in_use: dict[Path, int] = {}

    def create(self, kind: str, number: int) -> tuple[int, Path, int]:
        """Make room for a file of ``kind``, and make it: its descriptor, path and number, ``number`` or
        above.
        """
        # The state folder itself too: what projects there are is nobody else's business.
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.mkdir(mode=0o700, exist_ok=True)
        self.prune()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        while True:
            stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            path = self.path / f"{kind}-{stamp}-{os.getpid()}-{number}.jsonl"
            try:
                descriptor = os.open(path, flags, 0o600)
            except FileExistsError:  # containers that share the folder have the same process ids
                number += 1
                continue
            self._in_use[path] = os.getpid()
            return descriptor, path, number

    def release(self, path: Path) -> None:
        """Say that a file will not be written to any more."""
        self._in_use.pop(path, None)

    def prune(self) -> None:
        """Delete the oldest until age and bytes are within the retention, with room for one more file."""
        now = time.time()
        room = self.retention.max_bytes - self.retention.file_bytes
        found = sorted(self._files())
        total = sum(size for _, size, _ in found)
        for modified, size, path in found:
            age = now - modified
            if age <= self.retention.max_age_days * _DAY and total <= room:
                return
            if self._in_use.get(path) == os.getpid() or (age < _FRESH and _others_alive(path)):
                continue
            # Another process may have been quicker, and an open file cannot be deleted on Windows.
            with contextlib.suppress(OSError):
                path.unlink()
                total -= size

    def _files(self) -> list[tuple[float, int, Path]]:
        files = []
        for path in self.path.iterdir():
            if _NAME.fullmatch(path.name):
                with contextlib.suppress(OSError):
                    stat = path.stat()
                    files.append((stat.st_mtime, stat.st_size, path))
        return files


def _others_alive(path: Path) -> bool:
    """Whether the process that the name tells is another one and lives, as far as can be known."""
    match = _NAME.fullmatch(path.name)
    pid = int(match[1]) if match else 0
    if pid == os.getpid():
        return False
    if os.name == "nt":  # where asking with os.kill would end it
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        pass
    return True


class _Lines:
    """One series of files of this process."""

    def __init__(self, folder: Folder, kind: str) -> None:
        self._folder, self._kind = folder, kind
        self._descriptor: int | None = None
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._number = 1
        self._size = 0
        self._path: Path | None = None

    def write(self, line: bytes) -> None:
        """Append one whole line. Raises OSError when it could not be, and then nothing of it is left."""
        if self._pid != os.getpid():  # forked: the parent's file and its lock, held or not, stay the parent's
            inherited, self._descriptor = self._descriptor, None
            if inherited is not None:
                os.close(inherited)
            self._begin()
        with self._lock:
            if self._descriptor is not None and (self._is_full(line) or self._is_deleted(self._descriptor)):
                self._close()
                self._number += 1
            if self._descriptor is None:
                self._descriptor, self._path, self._number = self._folder.create(self._kind, self._number)
                self._size = 0
            self._append(self._descriptor, line)

    def _is_full(self, line: bytes) -> bool:
        return self._size + len(line) > self._folder.retention.file_bytes

    def _is_deleted(self, descriptor: int) -> bool:
        return os.fstat(descriptor).st_nlink == 0

    def _append(self, descriptor: int, line: bytes) -> None:
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, self._size)
            raise
        self._size += len(line)

    def close(self) -> None:
        """Close the file, unless a write hangs in it: its number would come to mean another file."""
        if self._pid == os.getpid() and self._lock.acquire(timeout=0.1):
            try:
                self._close()
            finally:
                self._lock.release()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
        if self._path is not None:
            self._folder.release(self._path)


def _write(lines: _Lines, encode: Callable[[Sequence[Item]], str], items: Sequence[Item], place: str) -> None:
    """A line with all of ``items``, or as many as it takes for each to be one that is read."""
    text = encode(items)
    if not text:
        return
    encoded = text.encode() + b"\n"
    if len(encoded) <= line.LONGEST:
        lines.write(encoded)
    elif len(items) == 1:
        failsafe.dropped(place, 1, "it is too long to be read")
    else:
        half = len(items) // 2
        _write(lines, encode, items[:half], place)
        _write(lines, encode, items[half:], place)


class FileSpanExporter(SpanExporter):
    """Spans, a line a batch, in `traces-*.jsonl`. `export` raises OSError."""

    def __init__(self, folder: Folder) -> None:
        self._lines = _Lines(folder, "traces")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        _write(self._lines, otlp_json.spans_request, spans, "spans")
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self._lines.close()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


class FileLogExporter(LogRecordExporter):
    """Log records, a line a batch, in `events-*.jsonl`. `export` raises OSError."""

    def __init__(self, folder: Folder) -> None:
        self._lines = _Lines(folder, "events")

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        _write(self._lines, otlp_json.logs_request, batch, "logs")
        return LogRecordExportResult.SUCCESS

    def shutdown(self) -> None:
        self._lines.close()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True
