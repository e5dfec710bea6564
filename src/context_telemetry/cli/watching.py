"""`--watch`: one look after the other on the same screen, until it is interrupted, as every command can be."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn, TypeVar

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.segment import Segment
from rich.text import Text

from context_telemetry.cli import interrupts, text

T = TypeVar("T")
_EVERY = 2.0


@dataclass(frozen=True)
class _Marked:
    """As much of a screen as the terminal is high, and in its last line how much more there is."""

    whole: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(self.whole, options.update(height=None), pad=False)
        height = console.size.height
        below = len(lines) - (height - 1) if len(lines) > height else 0
        for line in lines[: len(lines) - below]:
            yield from line
            yield Segment.line()
        if below:
            words = f"... {text.counted(below, 'more line')} below: Ctrl-C shows them, or a higher terminal"
            yield Text(words, "reverse", no_wrap=True, overflow="ellipsis", end="")


def watch(
    look: Callable[[], T], screen: Callable[[T], RenderableType], waits_for: tuple[type[Exception], ...] = ()
) -> NoReturn:
    """Show every look for two seconds, and leave the last one on the terminal.

    Raises KeyboardInterrupt, and what the first look raises. Of later ones, what is among ``waits_for`` is told above
    the last that there was.
    """
    from rich.live import Live

    console, seen = text.console(), look()
    interrupts.leaves("the last look is above")
    live = Live(_Marked(screen(seen)), console=console, screen=True, auto_refresh=False)
    try:
        # Not by `with`: an interruption as it begins would leave the terminal as it is then.
        live.start(refresh=True)
        while True:
            time.sleep(_EVERY)  # the pace of a screen that a person reads
            try:
                seen = look()
                live.update(_Marked(screen(seen)), refresh=True)
            except waits_for as error:
                told = Text(f"! {error}", "yellow")
                live.update(_Marked(Group(told, Text(), screen(seen))), refresh=True)
    finally:
        live.stop()
        console.print(screen(seen))
