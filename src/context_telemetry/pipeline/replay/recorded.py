"""Reads recorded files for sending: whole lines from an offset on, put together to requests of bounded size.

A line that a Collector could not read is told, never sent: Collectors take any JSON and answer 200 to it.
Nothing here sends, and nothing is remembered.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn


@dataclass(frozen=True)
class Signal:
    """One kind of file, and how OTLP/JSON names what is in it."""

    kind: str
    """As the files are named: `traces-*.jsonl`."""
    noun: str
    resources: str
    scopes: str
    items: str
    path: str
    """Of the receiver, below its base address."""
    rejected: str
    """In the partial success of a response."""
    variable: str
    """In OpenTelemetry's variables: `OTEL_EXPORTER_OTLP_{variable}_ENDPOINT`."""


SIGNALS: Final = (
    Signal("traces", "span", "resourceSpans", "scopeSpans", "spans", "v1/traces", "rejectedSpans", "TRACES"),
    Signal(
        "events", "event", "resourceLogs", "scopeLogs", "logRecords", "v1/logs", "rejectedLogRecords", "LOGS"
    ),
)

# OTLP: a client must not make a larger request. https://opentelemetry.io/docs/specs/otlp/#otlphttp-request
LONGEST_LINE: Final = 64 * 1024 * 1024
# A twentieth of what a Collector takes unless told otherwise (20 MiB), and a millisecond's work for it.
BATCH_BYTES: Final = 1024 * 1024
BATCH_LINES: Final = 4096
# Enough of a file to know it again: a first line has the process's instance id and a trace id in it.
HEAD_BYTES: Final = 4096

_SKIPPED_AT_ONCE = 1024 * 1024
# Clocks of file systems differ a little from ours.
_SLACK = 5.0
# A line is appended in one go: half a line that is older than this has lost its writer.
_FRESH = 60.0


@dataclass(frozen=True)
class RecordedFile:
    """A file as it was when the folder was listed; what is appended later is the next replay's."""

    path: Path
    size: int
    modified: float

    @property
    def name(self) -> str:
        return self.path.name


@dataclass(frozen=True)
class Line:
    """A whole line that can be sent. `start` and `end` are byte offsets, `number` counts from 1."""

    file: RecordedFile
    number: int
    start: int
    end: int
    items: int
    resources: bytes = field(repr=False)
    """What stands between the brackets of the request's one list."""


@dataclass(frozen=True)
class Broken:
    """A whole line that no Collector could read; it is passed over."""

    file: RecordedFile
    number: int
    start: int
    end: int
    why: str


@dataclass(frozen=True)
class Unfinished:
    """A last line without its end: `written` where its process is at it, otherwise cut by a crash."""

    file: RecordedFile
    number: int
    written: bool


@dataclass(frozen=True)
class Unreadable:
    """A file that cannot be opened or read, and why in a few words."""

    name: str
    why: str


Ends = dict[str, tuple[RecordedFile, int, int]]
"""By a file's name: the file, the offset up to which it is done, and the number of lines before that."""


@dataclass(frozen=True)
class Batch:
    """Lines that make one request, with the broken ones that are passed over on the way, in their order."""

    signal: Signal
    found: tuple[Line | Broken, ...]

    @property
    def lines(self) -> list[Line]:
        return [each for each in self.found if isinstance(each, Line)]

    @property
    def broken(self) -> list[Broken]:
        return [each for each in self.found if isinstance(each, Broken)]

    @property
    def items(self) -> int:
        return sum(line.items for line in self.lines)

    def request(self) -> bytes:
        """One OTLP/JSON request with what the lines' requests have."""
        resources = b",".join(line.resources for line in self.lines)
        return b'{"%s":[%s]}' % (self.signal.resources.encode(), resources)

    def ends(self) -> Ends:
        """Up to where each file is done once this is accepted."""
        return {each.file.name: (each.file, each.end, each.number) for each in self.found}

    def halves(self) -> tuple[Batch, Batch]:
        """The same in two: to be sent in this order, so that what is done is done from the start."""
        lines = [at for at, each in enumerate(self.found) if isinstance(each, Line)]
        middle = lines[len(lines) // 2]
        return Batch(self.signal, self.found[:middle]), Batch(self.signal, self.found[middle:])


def listed(
    folder: Path, signal: Signal, since: float | None
) -> tuple[list[RecordedFile], list[Unreadable], int]:
    """The files of a signal, the oldest process first; those that cannot be; how many are older than `since`.

    A file that was last written before ``since`` (Unix seconds) is left where it is, whole.
    """
    found: list[RecordedFile] = []
    unreadable: list[Unreadable] = []
    older = 0
    for path in sorted(folder.glob(f"{signal.kind}-*.jsonl")):
        try:
            stat = path.stat()
        except OSError as error:
            # A file that rotation removed between listing and looking is no finding; a broken link is.
            if path.is_symlink() or not isinstance(error, FileNotFoundError):
                unreadable.append(Unreadable(path.name, reason(error)))
            continue
        if not path.is_file():
            unreadable.append(Unreadable(path.name, "no regular file"))
        elif since is not None and stat.st_mtime < since - _SLACK:
            older += 1
        elif stat.st_size:
            found.append(RecordedFile(path, stat.st_size, stat.st_mtime))
    return found, unreadable, older


def head(file: RecordedFile) -> bytes:
    """The first bytes, by which a file is known again. Raises OSError."""
    with file.path.open("rb") as stream:
        return stream.read(min(HEAD_BYTES, file.size))


def read(
    file: RecordedFile, signal: Signal, offset: int, number: int
) -> Iterator[Line | Broken | Unfinished]:
    """What stands in a file after ``offset``, where ``number`` lines end. Raises OSError."""
    with file.path.open("rb") as stream:
        stream.seek(offset)
        while offset < file.size:
            number += 1
            raw = stream.readline(min(LONGEST_LINE, file.size - offset))
            length = len(raw)
            if length == LONGEST_LINE and not raw.endswith(b"\n"):
                raw, length = _over(stream, file.size - offset - length, length)
                if raw:
                    yield Broken(file, number, offset, offset + length, "longer than 64 MiB")
            elif raw.endswith(b"\n"):
                yield _judged(file, signal, number, offset, raw)
            else:
                raw = b""
            if not raw:  # the file ends before its last line does
                yield Unfinished(file, number, time.time() - file.modified < _FRESH)
                return
            offset += length


def _over(stream: Any, left: int, length: int) -> tuple[bytes, int]:
    """The end of a line that is too long, in pieces that are forgotten: its last piece, and the line's length."""
    while left > 0:
        piece = stream.readline(min(_SKIPPED_AT_ONCE, left))
        if not piece:
            break
        length, left = length + len(piece), left - len(piece)
        if piece.endswith(b"\n"):
            return piece, length
    return b"", length


def _judged(file: RecordedFile, signal: Signal, number: int, start: int, raw: bytes) -> Line | Broken:
    end = start + len(raw)
    try:
        request = json.loads(raw, parse_constant=_no_json)
    except (ValueError, RecursionError):
        return Broken(file, number, start, end, "not JSON")
    try:
        resources = request[signal.resources]
        # Counted by what a Collector would make of it: what it does not know it takes without a word.
        items = sum(
            len(scope[signal.items]) for resource in resources for scope in resource.get(signal.scopes, ())
        )
    except (AttributeError, KeyError, TypeError):
        return Broken(file, number, start, end, f"no OTLP request with {signal.resources}")
    return Line(file, number, start, end, items, _between_brackets(raw, signal, request))


def _no_json(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")  # whatever Python's decoder thinks of NaN


def _between_brackets(raw: bytes, signal: Signal, request: dict[str, Any]) -> bytes:
    """The elements of the request's list: the bytes as they were written, where we wrote them."""
    opening, line = b'{"%s":[' % signal.resources.encode(), raw.rstrip()
    if len(request) == 1 and line.startswith(opening) and line.endswith(b"]}"):
        return line[len(opening) : -2]
    return json.dumps(request[signal.resources], separators=(",", ":")).encode()[1:-1]


def batches(signal: Signal, lines: Iterable[Line | Broken]) -> Iterator[Batch]:
    """Put lines together, over files, to requests of at most `BATCH_BYTES` (or of one line)."""
    found: list[Line | Broken] = []
    size = 0
    for each in lines:
        length = len(each.resources) if isinstance(each, Line) else 0
        if found and (size + length > BATCH_BYTES or len(found) == BATCH_LINES):
            yield Batch(signal, tuple(found))
            found, size = [], 0
        found.append(each)
        size += length
    if found:
        yield Batch(signal, tuple(found))


def reason(error: OSError) -> str:
    """An error of the file system in a few words."""
    return (error.strerror or os.strerror(error.errno or 0)).lower()
