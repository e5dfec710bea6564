"""How numbers, times and states read on a screen; nothing here knows where they come from."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TextIO

from rich.console import (
    Console,
    ConsoleOptions,
    ConsoleRenderable,
    RenderableType,
    RenderHook,
    RenderResult,
)
from rich.measure import Measurement
from rich.rule import Rule
from rich.segment import Segment
from rich.table import Column, Table

from context_telemetry.health.words import counted, lasting

__all__ = ["Filling", "Fitting", "ago", "console", "counted", "lasting", "ratio", "size", "took", "window"]

STATE_STYLE = {"healthy": "green", "unhealthy": "red", "unknown": "yellow"}
STATE_MARK = {"healthy": "✓", "unhealthy": "✗", "unknown": "?"}
OUTCOME_STYLE = {"ok": "green", "degraded": "yellow", "failed": "red"}

# As many digits of a trace id as are shown. Among many thousands two may begin alike: `trace` then asks for more.
SHOWN_ID = 8

_UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_WINDOW = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|d|w)")
# Ten years: longer than anything is kept, and short of where dates end.
_LONGEST = 315_360_000.0

# Where there is no terminal nothing is cut or wrapped: grep is to see every line whole.
_UNBOUNDED = 10_000
_RULE = 100


def console(stream: TextIO | None = None, *, markup: bool = False) -> Console:
    """A console for stdout (or `stream`): coloured only on a terminal.

    What is not a terminal is as wide as its lines, unless `COLUMNS` says how wide it is: as `watch` does.
    Its lines end where their words do.
    """
    file = stream or sys.stdout
    width = None if file.isatty() or os.environ.get("COLUMNS") else _UNBOUNDED
    made = Console(file=file, width=width, highlight=False, emoji=False, markup=markup, legacy_windows=False)
    if not file.isatty():
        made.push_render_hook(_Unfilled())
    return made


class _Unfilled(RenderHook):
    """Leaves out the blanks that fill the last column of a table, or a line."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Trimmed(each) for each in renderables]


@dataclass(frozen=True)
class _Trimmed:
    whole: ConsoleRenderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        segments = list(console.render(self.whole, options))
        lines = list(Segment.split_lines(segments))
        open_ended = not segments or not segments[-1].text.endswith("\n")
        for number, line in enumerate(lines, 1):
            yield from _trimmed(line)
            if number < len(lines) or not open_ended:
                yield Segment.line()


def _trimmed(line: Sequence[Segment]) -> Iterator[Segment]:
    words = [segment for segment in line if not segment.control]
    while words and not words[-1].text.rstrip():
        words.pop()
    yield from (segment for segment in line if segment.control)
    yield from words[:-1]
    if words:
        yield Segment(words[-1].text.rstrip(), words[-1].style)


@dataclass(frozen=True)
class Fitting:
    """A table that leaves out columns, the first of `spare` first, until it fits the terminal uncut."""

    make: Callable[[AbstractSet[str]], Table]
    spare: Sequence[str]
    """`make` gives the table without the columns that it is called with."""
    whole: str = ""
    """A column that is cut only where nothing is left to be left out."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        unbounded = options.update(max_width=_UNBOUNDED)
        for count in range(len(self.spare) + 1):
            table = self.make(frozenset(self.spare[:count]))
            gaps = sum(table.padding[1::2]) * (len(table.columns) - 1)
            if (
                gaps + sum(self._needed(console, unbounded, each) for each in table.columns)
                <= options.max_width
            ):
                break
        yield table

    def _needed(self, console: Console, options: ConsoleOptions, column: Column) -> int:
        measured = [Measurement.get(console, options, each) for each in (column.header, *column.cells)]
        whole = column.no_wrap or column.header == self.whole
        return max(each.maximum if whole else each.minimum for each in measured)


_PROMPT = 2  # of the terminal, for what the shell says after it


@dataclass(frozen=True)
class Filling:
    """A screen with as many rows as the terminal is high, ``least`` at any rate; all where there is no terminal."""

    make: Callable[[int], RenderableType]
    """The screen with so many rows."""
    least: int
    most: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows = self.most
        while console.is_terminal and rows > self.least:
            over = self._lines(console, options, rows) - (console.size.height - _PROMPT)
            if over <= 0:
                break
            rows = max(self.least, rows - over)
        yield self.make(rows)

    def _lines(self, console: Console, options: ConsoleOptions, rows: int) -> int:
        whole = options.update(height=None)
        return len(console.render_lines(self.make(rows), whole, pad=False))


@dataclass(frozen=True)
class Title:
    """A line with words in it, no longer than a screen is wide."""

    words: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = min(options.max_width, _RULE)
        yield from Rule(self.words, align="left").__rich_console__(console, options.update(width=width))


def window(text: str) -> float | None:
    """Seconds of a window like `90s`, `30min`, `1h`, `7d`, `2w`; None for `all`. Raises ValueError."""
    if text == "all":
        return None
    match = _WINDOW.fullmatch(text.strip())
    if not match or float(match[1]) == 0:
        raise ValueError(f"{text!r} is no length of time: write 90s, 30min, 1h, 7d, 2w or all")
    seconds = float(match[1]) * _UNITS[match[2]]
    if seconds > _LONGEST:
        raise ValueError(f"{text!r} is longer than ten years: write all")
    return seconds


def since(seconds: float | None) -> str:
    """A length of time as `window` reads it."""
    if seconds is None:
        return "all"
    unit = next(unit for unit in ("d", "h", "min", "s") if unit == "s" or not seconds % _UNITS[unit])
    return f"{seconds / _UNITS[unit]:.12g}{unit}"


def ago(moment: float, now: float) -> str:
    """How long ago, in whole units: `just now`, `3 min ago`."""
    seconds = now - moment
    if seconds < 2:
        return "just now"
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit} ago"
    return f"{int(seconds)} s ago"


def took(seconds: float) -> str:
    """The duration of a call: `0.4 ms`, `12 ms`, `1.2 s`."""
    if seconds >= 10:
        return f"{seconds:.0f} s"
    if seconds >= 1:
        return f"{seconds:.1f} s"
    milliseconds = seconds * 1000
    return f"{milliseconds:.0f} ms" if milliseconds >= 1 else f"{milliseconds:.1f} ms"


def size(count: float | None) -> str:
    """Bytes in decimal units, as the limits are written: `168 B`, `97.7 KB`, `1.2 MB`."""
    if count is None:
        return "-"
    for unit, length in (("MB", 1e6), ("KB", 1e3)):
        if count >= length:
            return f"{count / length:.3g} {unit}" if count < 100 * length else f"{count / length:.0f} {unit}"
    return f"{count:.0f} B"


def per_call(value: float) -> str:
    """How many there are for each call: `0.2`, `1.5`, `12`."""
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def ratio(value: float) -> str:
    """A share in percent; small ones keep a digit that tells them from none."""
    percent = value * 100
    return f"{percent:.0f} %" if percent >= 10 or percent == round(percent) else f"{percent:.2g} %"
