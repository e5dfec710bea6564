"""`replay`: shows how recorded files reach a Collector, and what did not. The sending is the pipeline's.

The summary is on stdout, progress and what stopped it on stderr.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import RenderableType
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from context_telemetry.cli import interrupts, text
from context_telemetry.cli.place import Place
from context_telemetry.pipeline.replay import (
    SIGNALS,
    Endpoint,
    EndpointError,
    LedgerError,
    Plan,
    Refused,
    Replay,
    Summary,
    Unreachable,
)

ALL_SENT, REJECTED, USAGE, UNREACHABLE = 0, 1, 2, 3

_NAMED = 5
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Done:
    """What became of one replay."""

    place: Place
    endpoints: Mapping[str, Endpoint]
    dry_run: bool
    seconds: float
    summary: Summary
    stopped: str
    exit_code: int

    @property
    def receivers(self) -> str:
        return " and ".join(dict.fromkeys(each.name for each in self.endpoints.values()))


def replay(
    place: Place,
    to: str | None,
    seconds: float | None,
    *,
    dry_run: bool = False,
    skip_refused: bool = False,
    as_json: bool = False,
) -> int:
    """Send the files of a place that were written in the last ``seconds``, show what became of it; the exit code.

    0 all sent, 1 something was rejected or broken, 2 wrong usage, 3 unreachable, 130 interrupted.
    """
    try:
        endpoints = {each.kind: Endpoint.of(each, to) for each in SIGNALS}
    except EndpointError as error:
        _tell(str(error))
        return USAGE
    since = None if seconds is None else time.time() - seconds
    plan = Plan(place.folder, endpoints, since, dry_run, skip_refused)
    done = _run(place, plan)
    interrupts.leaves("what was sent is in the ledger")
    if as_json:
        print(json.dumps(document(done), indent=2))
    else:
        console = text.console()
        for line in screen(done):
            console.print(line, soft_wrap=True)
    if done.stopped:
        _tell(done.stopped)
    return done.exit_code


def _run(place: Place, plan: Plan) -> Done:
    started, stop = time.monotonic(), threading.Event()
    stopped, code = "", None
    with _shown() as watcher, _asked_to_stop(stop, watcher):
        sending = Replay(plan, watcher, stop)
        try:
            sending.run()
        except Refused as error:
            stopped, code = str(error), REJECTED
        except Unreachable as error:
            stopped, code = str(error), UNREACHABLE
        except LedgerError as error:
            stopped, code = str(error), REJECTED
        except EndpointError as error:
            stopped, code = str(error), USAGE
        except KeyboardInterrupt:  # the second
            stopped, code = (
                "stopped at once; what was on its way is sent again next time",
                interrupts.INTERRUPTED,
            )
    summary = sending.summary
    if summary.interrupted:
        stopped, code = "stopped; the ledger is right, and the rest is sent next time", interrupts.INTERRUPTED
    if code is None:
        code = ALL_SENT if summary.flawless else REJECTED
    took = time.monotonic() - started
    return Done(place, plan.endpoints, plan.dry_run, took, summary, stopped, code)


def _tell(message: str) -> None:
    print(f"context-telemetry: {message}", file=sys.stderr)


# While it sends


class _Screen:
    """Progress on stderr: a bar on a terminal, else only what one has to know."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=0)
        self._expected = 0

    def expects(self, count: int) -> None:
        self._expected += count
        self._progress.update(self._task, total=self._expected)

    def sent(self, count: int) -> None:
        self._progress.update(self._task, advance=count, description="")

    def waiting(self, seconds: float, why: str) -> None:
        self.say(f"{why}; the next try in {seconds:.0f} s")

    def another(self, pid: str) -> None:
        self.say(f"another replay of this project runs (process {pid or 'unknown'}): waiting for it")

    def say(self, words: str) -> None:
        # The console of the bar: a line of anybody else would go through it.
        self._progress.console.print(Text(f"context-telemetry: {words}"), soft_wrap=True)


@contextlib.contextmanager
def _shown() -> Iterator[_Screen]:
    console = text.console(sys.stderr)
    columns = (TextColumn("sending"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
        yield _Screen(progress)


@contextlib.contextmanager
def _asked_to_stop(stop: threading.Event, watcher: _Screen) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM) ends it after the request on its way; a second one ends it at once."""

    def ask(number: int, _: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        watcher.say("stopping when the request on its way is answered; once more stops at once")

    former = {each: signal.signal(each, ask) for each in _SIGNALS}
    try:
        yield
    finally:
        for each, handler in former.items():
            signal.signal(each, handler)


# What became of it


def screen(done: Done) -> Iterator[RenderableType]:
    """The summary, line by line."""
    summary = done.summary
    yield _headline(done)
    for words in _notes(summary):
        yield Text(f"! {words}", "yellow")
    for words in _asides(done):
        yield Text(words, "dim")


def _headline(done: Done) -> Text:
    summary = done.summary
    if not done.place.folder.is_dir():
        return Text(f"nothing is recorded of {done.place.name}: there is no folder {done.place.folder}")
    if not summary.lines:
        return Text(f"nothing {'was sent' if done.stopped else 'new to send'} to {done.receivers}")
    counts = ", ".join(text.counted(summary.items[each.kind], each.noun) for each in SIGNALS)
    source = f"{text.counted(summary.lines, 'line')} of {text.counted(summary.files, 'file')}"
    verb = "would be sent" if done.dry_run else "sent"
    took = "" if done.dry_run else f", {text.took(done.seconds)}"
    style = "bold" if done.exit_code == ALL_SENT else "bold yellow"
    return Text(f"{verb} to {done.receivers}: {counts} in {source}, {text.size(summary.bytes)}{took}", style)


def _notes(summary: Summary) -> Iterator[str]:
    """What is wrong, or may be."""
    if summary.broken_lines:
        named = [f"{each.file.name}:{each.number} ({each.why})" for each in summary.broken]
        yield f"{text.counted(summary.broken_lines, 'broken line')} skipped: {_some(named, summary.broken_lines)}"
    if summary.cut:
        named = [f"{each.file.name}:{each.number}" for each in summary.cut]
        yield f"{text.counted(len(named), 'last line')} cut by a crash: {_some(named)}"
    for each in summary.rejected[:_NAMED]:
        where = each.first if each.first == each.last else f"{each.first} to {each.last}"
        yield f"{each.items:,} rejected of {where}{f': {each.why}' if each.why else ''}"
    if more := summary.rejected[_NAMED:]:
        yield f"{sum(each.items for each in more):,} rejected in {text.counted(len(more), 'more request')}"
    if summary.unreadable:
        named = [f"{each.name} ({each.why})" for each in summary.unreadable]
        yield f"{text.counted(len(named), 'file')} not read: {_some(named)}"
    if summary.replaced:
        yield f"not the file that it was, sent from its start: {_some(summary.replaced)}"
    if lost := [each for each in summary.gone if each.unsent]:
        named = [f"{each.name} ({text.size(each.unsent)})" for each in lost]
        yield f"{text.counted(len(named), 'file')} removed before all of it was sent: {_some(named)}"
    if summary.again:
        yield f"{text.counted(summary.again, 'record')} perhaps sent twice: the connection or a replay broke off"
    for words in summary.warnings[:_NAMED]:
        yield f"the endpoint says: {words}"


def _asides(done: Done) -> Iterator[str]:
    """What is as it should be, and good to know."""
    summary = done.summary
    if summary.stopped_at:
        yield f"stopped at {summary.stopped_at}"
    if summary.done:
        yield f"{text.counted(summary.done, 'file')} sent before"
    if summary.older:
        yield f"{text.counted(summary.older, 'file')} older than --since"
    if removed := sum(not each.unsent for each in summary.gone):
        yield f"{text.counted(removed, 'file')} sent before and removed since"
    if written := [each.file.name for each in summary.unfinished if each.written]:
        yield f"the last line is being written, and is for the next time: {_some(written)}"
    if summary.lines and not done.dry_run:
        yield f"ledger: {', '.join(str(each) for each in summary.ledgers if each.exists())}"


def _some(named: Sequence[str], count: int | None = None) -> str:
    more = (len(named) if count is None else count) - len(named[:_NAMED])
    return ", ".join(named[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def document(done: Done) -> dict[str, Any]:
    """The same as a JSON document."""
    summary = done.summary
    return {
        "schema": "context-telemetry.replay/1",
        "exit_code": done.exit_code,
        "stopped": done.stopped or None,
        "stopped_at": summary.stopped_at or None,
        "dry_run": done.dry_run,
        "project": {"name": done.place.name, "root": str(done.place.root)},
        "folder": str(done.place.folder),
        "endpoints": {kind: each.name for kind, each in done.endpoints.items()},
        "ledgers": [str(each) for each in summary.ledgers],
        "seconds": round(done.seconds, 3),
        "files": summary.files,
        "lines": summary.lines,
        "spans": summary.items["traces"],
        "events": summary.items["events"],
        "bytes": summary.bytes,
        "requests": summary.requests,
        "perhaps_twice": summary.again,
        "sent_before_files": summary.done,
        "older_files": summary.older,
        "broken_lines": summary.broken_lines,
        "broken": [{"file": each.file.name, "line": each.number, "why": each.why} for each in summary.broken],
        "cut": [{"file": each.file.name, "line": each.number} for each in summary.cut],
        "being_written": [each.file.name for each in summary.unfinished if each.written],
        "rejected": [asdict(each) for each in summary.rejected],
        "warnings": list(summary.warnings),
        "unreadable": [asdict(each) for each in summary.unreadable],
        "replaced": list(summary.replaced),
        "removed": [{"file": each.name, "unsent_bytes": each.unsent} for each in summary.gone],
    }
