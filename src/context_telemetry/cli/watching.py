"""`--watch`: one look after the other on the same screen, until it is interrupted, as every command can be."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NoReturn, TypeVar

from rich.console import Group, RenderableType
from rich.text import Text

from context_telemetry.cli import interrupts, text

T = TypeVar("T")
_EVERY = 2.0


def watch(
    look: Callable[[], T], screen: Callable[[T], RenderableType], waits_for: tuple[type[Exception], ...] = ()
) -> NoReturn:
    """Show every look for two seconds, and leave the last one on the terminal.

    Raises KeyboardInterrupt, and what the first look raises. Of later ones, what is among ``waits_for`` is told below
    the last that there was.
    """
    from rich.live import Live

    console, seen = text.console(), look()
    interrupts.leaves("the last look is above")
    live = Live(screen(seen), console=console, screen=True, auto_refresh=False)
    try:
        # Not by `with`: an interruption as it begins would leave the terminal as it is then.
        live.start(refresh=True)
        while True:
            time.sleep(_EVERY)  # the pace of a screen that a person reads
            try:
                seen = look()
                live.update(screen(seen), refresh=True)
            except waits_for as error:
                live.update(Group(screen(seen), Text(), Text(f"! {error}", "yellow")), refresh=True)
    finally:
        live.stop()
        console.print(screen(seen))
