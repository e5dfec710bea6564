"""Queues finished spans and log records and hands them to an exporter in batches, from a thread of its own.

It obeys the SDK's `OTEL_BSP_*` and `OTEL_BLRP_*` and differs from the SDK's processors where an observed host
needs it to: it sleeps while nothing is recorded, flush and close keep to their timeouts, and what has to go
is counted.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk._logs import LogRecordProcessor, ReadableLogRecord, ReadWriteLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from context_telemetry.observe import failsafe
from context_telemetry.observe.fork import renew_in_child

# Seconds; enough for a thread that waits for the interpreter to get it. By itself it is handed over every 5 ms.
_PAUSE = 0.001

Item = TypeVar("Item")
Made = TypeVar("Made")


@dataclass(frozen=True)
class BatchLimits:
    """Seconds that an item may wait, and how many items a queue and a batch hold."""

    # At most a second is lost on kill -9: half of it here, the rest for writing. A hot loop overruns the
    # SDK's 2,048.
    delay: float = 0.5
    queue: int = 8_192
    batch: int = 512

    @classmethod
    def from_environ(cls, prefix: str, environ: Mapping[str, str] = os.environ) -> BatchLimits:
        """As ``prefix`` (`OTEL_BSP` or `OTEL_BLRP`) says; a wrong value is warned of and counts as unset."""

        def number(name: str, default: int) -> int:
            text = environ.get(f"{prefix}_{name}", "").strip()
            if not text:
                return default
            if text.isdecimal() and int(text) > 0:
                return int(text)
            problem = f"{prefix}_{name} is not a positive whole number; {default} is used"
            failsafe.misused(f"settings: {problem}", problem)
            return default

        size = number("MAX_QUEUE_SIZE", cls.queue)
        return cls(
            number("SCHEDULE_DELAY", int(cls.delay * 1000)) / 1000,
            size,
            min(number("MAX_EXPORT_BATCH_SIZE", cls.batch), size),
        )


@dataclass(frozen=True)
class _Request:
    """What wakes the thread: work (``done`` is None), or somebody who waits for it to be finished."""

    done: threading.Event | None = None
    last: bool = False


_WORK = _Request()


class Batcher(Generic[Item]):
    """One queue, one thread, one exporter. ``export`` says whether it succeeded; it may raise.

    ``piece`` is how many items at a time are exported, with pauses for the host in between, while nobody waits,
    there is no crowd, and the pauses have not taken half the delay yet; None: whole batches always.
    """

    def __init__(
        self,
        place: str,
        limits: BatchLimits,
        export: Callable[[Sequence[Item]], bool],
        close: Callable[[], Any],
        piece: int | None = None,
    ) -> None:
        self._place, self._limits, self._export, self._close = place, limits, export, close
        self._piece = limits.batch if piece is None else min(piece, limits.batch)
        self._crowd = min(2 * limits.batch, limits.queue // 2)
        self._closed = False
        self._begin()
        # At once, because an interpreter that is shutting down starts no threads.
        self._ensure_thread()
        renew_in_child(self._begin)

    def _begin(self) -> None:
        # A forked child begins anew: the parent exports what was queued, and its thread does not live here.
        self._queue: deque[Item] = deque()
        self._wake: queue.SimpleQueue[_Request] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._awaited: deque[threading.Event] = deque()
        self._awake = self._hurried = False

    def add(self, item: Item) -> None:
        """Queue one item. Waits for nobody: only the first item and a dropped one take a lock, for a moment."""
        if self._closed:
            return
        if len(self._queue) >= self._limits.queue:
            failsafe.dropped(self._place, 1, "its queue is full")
            return
        self._queue.append(item)
        if not self._awake:
            self._awake = True
            self._wake.put(_WORK)
            if self._thread is None:
                self._ensure_thread()
        elif not self._hurried and len(self._queue) >= self._limits.batch:
            self._hurried = True
            self._wake.put(_WORK)

    def ask(self, *, last: bool = False) -> threading.Event:
        """Export what is queued, then close if this is the ``last`` request; the event is set when done."""
        done = threading.Event()
        was_closed, self._closed = self._closed, self._closed or last
        if self._thread is None or was_closed:
            done.set()
        else:
            self._awaited.append(done)
            self._wake.put(_Request(done, last))
        return done

    def _ensure_thread(self) -> None:
        with self._lock:
            if self._thread is None:
                name = f"context-telemetry-{self._place}"
                self._thread = threading.Thread(target=self._run, name=name, daemon=True)
                self._thread.start()

    def _run(self) -> None:
        with suppress_instrumentation():
            request = _WORK
            while not request.last:
                request = self._wake.get()
                if request is _WORK and not self._hurried:
                    request = self._gather()
                self._awake = self._hurried = False
                self._drain()
                if request.last:
                    self._finish()
                if request.done is not None:
                    self._awaited.popleft()  # whichever it is: it is their number that tells
                    request.done.set()

    def _gather(self) -> _Request:
        """Let a batch gather until somebody is in a hurry."""
        request, until = _WORK, time.monotonic() + self._limits.delay
        with contextlib.suppress(queue.Empty):
            while request is _WORK and not self._hurried:
                request = self._wake.get(timeout=max(0.0, until - time.monotonic()))
        return request

    def _drain(self) -> None:
        left = len(self._queue)  # what comes meanwhile gathers for the next time
        # Where threads of the host keep the interpreter, each pause takes its 5 ms from every one of them.
        until = time.monotonic() + self._limits.delay / 2
        while self._queue and (left > 0 or self._closed):
            is_calm = not self._awaited and len(self._queue) <= self._crowd and time.monotonic() < until
            size = min(self._piece if is_calm else self._limits.batch, len(self._queue))
            self._export_counted([self._queue.popleft() for _ in range(size)])
            left -= size
            if is_calm and left > 0 and self._piece < self._limits.batch:
                time.sleep(_PAUSE)

    def _export_counted(self, batch: Sequence[Item]) -> None:
        try:
            why = "" if self._export(batch) else "its exporter failed"
        except OSError as error:
            why = (error.strerror or type(error).__name__).lower()
        except Exception as error:
            why = type(error).__name__
        if why:
            failsafe.dropped(self._place, len(batch), why)

    def _finish(self) -> None:
        try:
            self._close()
        except Exception as error:
            failsafe.caught(self._place, error)


def finish(batchers: Sequence[Batcher[Any]], timeout: float, *, last: bool) -> bool:
    """Flush (or close, if ``last``) all of them side by side; whether that took ``timeout`` seconds at
    most.
    """
    deadline = time.monotonic() + timeout
    waiting = [batcher.ask(last=last) for batcher in batchers]
    late = [done for done in waiting if not done.wait(max(0.0, deadline - time.monotonic()))]
    return not late


def one_by_one(make: Callable[[Item], Made], batch: Sequence[Item], place: str) -> list[Made]:
    """What ``make`` makes of each. One that it cannot do is dropped, counted, and does not take the rest with it."""
    made = []
    for each in batch:
        try:
            made.append(make(each))
        except Exception as error:
            failsafe.dropped(place, 1, type(error).__name__)
    return made


class BatchedSpans(SpanProcessor):
    """Feeds a `Batcher` with what ends sampled.

    ``assemble`` makes a span for export of whatever is put into the batcher, in its thread. ``piece`` is the
    `Batcher`'s.
    """

    def __init__(
        self,
        exporter: SpanExporter,
        limits: BatchLimits,
        assemble: Callable[[Any], ReadableSpan],
        piece: int | None = None,
    ) -> None:
        def export(spans: Sequence[Any]) -> bool:
            return exporter.export(one_by_one(assemble, spans, "spans")) is SpanExportResult.SUCCESS

        self.batcher: Batcher[Any] = Batcher("spans", limits, export, exporter.shutdown, piece)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        pass

    def on_end(self, span: ReadableSpan) -> None:
        context = span.get_span_context()
        if context is not None and context.trace_flags.sampled:
            self.batcher.add(span)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return finish([self.batcher], timeout_millis / 1000, last=False)

    def shutdown(self) -> None:
        finish([self.batcher], 2.0, last=True)


class BatchedLogs(LogRecordProcessor):
    """Feeds a `Batcher` with every log record. ``piece`` is the `Batcher`'s."""

    def __init__(self, exporter: LogRecordExporter, limits: BatchLimits, piece: int | None = None) -> None:
        def export(records: Sequence[ReadableLogRecord]) -> bool:
            return exporter.export(records) is LogRecordExportResult.SUCCESS

        self.batcher: Batcher[ReadableLogRecord] = Batcher("logs", limits, export, exporter.shutdown, piece)

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        self.batcher.add(
            ReadableLogRecord(
                log_record.log_record,
                log_record.resource or Resource.get_empty(),
                log_record.instrumentation_scope,
                log_record.limits,
            )
        )

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return finish([self.batcher], timeout_millis / 1000, last=False)

    def shutdown(self) -> None:
        finish([self.batcher], 2.0, last=True)
