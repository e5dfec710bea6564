"""Sends what the files have and the ledger does not, and counts what became of it.

At least once: the ledger is written after an answer, never before. A line is given up only where no Collector
could read it, or where the user says so; each of those is told.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from context_telemetry.pipeline.replay import recorded
from context_telemetry.pipeline.replay.endpoint import Endpoint
from context_telemetry.pipeline.replay.ledger import Gone, Interrupted, Ledger, alone
from context_telemetry.pipeline.replay.recorded import (
    SIGNALS,
    Batch,
    Broken,
    Line,
    RecordedFile,
    Signal,
    Unfinished,
    Unreadable,
)
from context_telemetry.pipeline.replay.sender import Accepted, Declined, Patience, Sender, Unreachable

# Broken lines that are named; a file that is none of ours has millions.
_KEPT = 100


class Watcher(Protocol):
    """Is told how far it is, from the thread that sends."""

    def expects(self, count: int) -> None:
        """So many bytes are to be sent."""

    def sent(self, count: int) -> None:
        """So many bytes more are done."""

    def waiting(self, seconds: float, why: str) -> None:
        """The endpoint takes nothing at the moment."""

    def another(self, pid: str) -> None:
        """Another replay of the project runs: it is waited for."""


class Refused(Exception):
    """The endpoint does not want a line; nothing of it and after it is marked. The message names the line."""


@dataclass(frozen=True)
class Plan:
    """What to send where."""

    folder: Path
    """Of the project's local files."""
    endpoints: Mapping[str, Endpoint]
    """By `Signal.kind`."""
    since: float | None = None
    """Unix seconds: files that were last written before stay where they are."""
    dry_run: bool = False
    """Read and count, send nothing, write nothing."""
    skip_refused: bool = False
    """Pass over a line that the endpoint does not want, and tell it."""
    patience: Patience = field(default=Patience())


@dataclass(frozen=True)
class Rejected:
    """Items that the endpoint did not take: of lines `first` to `last`, in one file or from one to the other."""

    first: str
    last: str
    items: int
    why: str


@dataclass
class Summary:
    """What became of it so far."""

    files: int = 0
    """Files with something new in them."""
    lines: int = 0
    items: dict[str, int] = field(default_factory=lambda: {signal.kind: 0 for signal in SIGNALS})
    bytes: int = 0
    requests: int = 0
    again: int = 0
    """Items that were on their way when an earlier replay ended, or when the connection broke."""
    done: int = 0
    """Files that had nothing new."""
    older: int = 0
    broken_lines: int = 0
    broken: list[Broken] = field(default_factory=list)
    """The first of them."""
    rejected: list[Rejected] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    """What the endpoint said beside accepting."""
    unfinished: list[Unfinished] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    gone: list[Gone] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    ledgers: list[Path] = field(default_factory=list)
    interrupted: bool = False
    stopped_at: str = ""
    """File and line with which the request began that was not accepted."""

    @property
    def cut(self) -> list[Unfinished]:
        return [each for each in self.unfinished if not each.written]

    @property
    def flawless(self) -> bool:
        """Whether everything that was to be sent was sent and taken."""
        return not (self.broken_lines or self.rejected or self.unreadable or self.cut)


class Replay:
    """One replay of one project. `summary` is right at any time, also after `run` raised."""

    def __init__(self, plan: Plan, watcher: Watcher, stop: threading.Event) -> None:
        self.plan, self.summary = plan, Summary()
        self._watcher, self._stop = watcher, stop
        self._sending: dict[str, int] = {}

    def run(self) -> None:
        """Send. Setting ``stop`` ends it after the request that is on its way (`Summary.interrupted`).

        Raises Refused, Unreachable, LedgerError, EndpointError.
        """
        if not self.plan.folder.is_dir():
            return
        try:
            with self._alone():
                for signal in SIGNALS:
                    if signal.kind in self.plan.endpoints:
                        self._signal(signal, self.plan.endpoints[signal.kind])
        except Interrupted:
            self.summary.interrupted = True

    def _alone(self) -> contextlib.AbstractContextManager[None]:
        if self.plan.dry_run:
            return contextlib.nullcontext()
        return alone(self.plan.folder, self._watcher.another, self._stop)

    def _signal(self, signal: Signal, endpoint: Endpoint) -> None:
        found, unreadable, older = recorded.listed(self.plan.folder, signal, self.plan.since)
        self.summary.unreadable += unreadable
        self.summary.older += older
        ledger = Ledger(Ledger.place(self.plan.folder, signal.kind, endpoint.key), endpoint.name)
        self.summary.ledgers.append(ledger.path)
        new = list(self._new(found, ledger))
        self._watcher.expects(sum(each.file.size - each.offset for each in new))
        self.summary.gone += ledger.gone(lambda name: (self.plan.folder / name).exists())
        lines = self._lines(new, signal, ledger)
        if self.plan.dry_run:
            for batch in recorded.batches(signal, lines):
                if self._stop.is_set():
                    raise Interrupted
                self._count(batch)
            return
        sender = Sender(endpoint, signal, self.plan.patience, self._stop, self._watcher)
        with contextlib.closing(sender), contextlib.closing(ledger):
            for batch in recorded.batches(signal, lines):
                if self._stop.is_set():
                    raise Interrupted
                ledger.begin(batch.ends())
                try:
                    self._deliver(batch, sender, ledger)
                except (Refused, Unreachable, Interrupted):
                    if not sender.unsure:
                        ledger.retract()
                    raise

    def _new(self, found: list[RecordedFile], ledger: Ledger) -> Iterator[_Rest]:
        """What of each file is to be sent."""
        for file in found:
            try:
                known, other = ledger.entry(file)
            except OSError as error:
                self._unreadable(file, 0, error)
                continue
            if other:
                self.summary.replaced.append(file.name)
                ledger.forget(file)
            if known.offset == file.size or known.cut_at == file.size:
                self.summary.done += 1
            else:
                yield _Rest(file, known.offset, known.lines, known.sending)

    def _lines(self, new: list[_Rest], signal: Signal, ledger: Ledger) -> Iterator[Line | Broken]:
        for rest in new:
            self.summary.files += 1
            self._sending[rest.file.name] = rest.sending
            try:
                for each in recorded.read(rest.file, signal, rest.offset, rest.lines):
                    if isinstance(each, Unfinished):
                        self.summary.unfinished.append(each)
                        if not each.written:
                            ledger.cut(rest.file)
                        continue
                    yield each
            except OSError as error:
                self._unreadable(rest.file, rest.offset, error)

    def _unreadable(self, file: RecordedFile, offset: int, error: OSError) -> None:
        if isinstance(error, FileNotFoundError):  # rotation was quicker
            self.summary.gone.append(Gone(file.name, file.size - offset))
        else:
            self.summary.unreadable.append(Unreadable(file.name, recorded.reason(error)))

    def _deliver(self, batch: Batch, sender: Sender, ledger: Ledger) -> None:
        """Send a batch and mark it; where it is declined, look for the line that is."""
        answer: Accepted | Declined = Accepted()
        if lines := batch.lines:
            self.summary.stopped_at = _place(lines[0])
            answer = sender.send(batch.request())
            self.summary.stopped_at = ""
        if isinstance(answer, Accepted):
            ledger.mark(batch.ends())
            self._accepted(batch, answer)
            self.summary.again += batch.items if sender.unsure else 0
        elif len(lines) > 1:
            for half in batch.halves():
                self._deliver(half, sender, ledger)
        elif self.plan.skip_refused:
            ledger.mark(batch.ends())
            self._passed(batch)
            self.summary.rejected.append(_rejected(batch, batch.items, _why(answer)))
        else:
            (line,) = lines
            self.summary.stopped_at = _place(line)
            raise Refused(
                f"{sender.endpoint.name} does not want {line.file.path}:{line.number}: {_why(answer)}; nothing of "
                "that line and after it is marked. --skip-refused passes over such lines"
            )

    def _accepted(self, batch: Batch, answer: Accepted) -> None:
        self._count(batch)
        self.summary.requests += bool(batch.lines)
        if answer.rejected:
            self.summary.rejected.append(_rejected(batch, answer.rejected, answer.message))
        elif answer.message and answer.message not in self.summary.warnings:
            self.summary.warnings.append(answer.message)

    def _count(self, batch: Batch) -> None:
        lines = batch.lines
        self.summary.lines += len(lines)
        self.summary.items[batch.signal.kind] += batch.items
        self.summary.bytes += sum(line.end - line.start for line in lines)
        self.summary.again += sum(line.items for line in lines if line.start < self._sending[line.file.name])
        self._passed(batch)

    def _passed(self, batch: Batch) -> None:
        broken = batch.broken
        self.summary.broken_lines += len(broken)
        self.summary.broken += broken[: _KEPT - len(self.summary.broken)]
        self._watcher.sent(sum(each.end - each.start for each in batch.found))


@dataclass(frozen=True)
class _Rest:
    """What of a file is still to be sent: after `offset`, where `lines` end."""

    file: RecordedFile
    offset: int
    lines: int
    sending: int


def _rejected(batch: Batch, items: int, why: str) -> Rejected:
    first, last = batch.lines[0], batch.lines[-1]
    return Rejected(_place(first), _place(last), items, why)


def _place(line: Line) -> str:
    return f"{line.file.name}:{line.number}"


def _why(answer: Declined) -> str:
    return f"{answer.status}{f' ({answer.message})' if answer.message else ''}"
