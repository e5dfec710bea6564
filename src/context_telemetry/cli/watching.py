"""`--watch`: one look after the other on the same screen, until it is interrupted."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from rich.console import Group, RenderableType
from rich.text import Text

from context_telemetry.cli import text

T = TypeVar("T")
_EVERY = 2.0


def watch(
    look: Callable[[], T], screen: Callable[[T], RenderableType], waits_for: tuple[type[Exception], ...] = ()
) -> T:
    """Show every look for two seconds, and leave the last one on the terminal; that one.

    Raises what the first look raises. Of later ones, what is among ``waits_for`` is told below the last that there was.
    """
    from rich.live import Live

    console, seen = text.console(), look()
    with (
        suppress(KeyboardInterrupt),
        Live(screen(seen), console=console, screen=True, auto_refresh=False) as live,
    ):
        while True:
            time.sleep(_EVERY)  # the pace of a screen that a person reads; Ctrl-C ends it
            try:
                seen = look()
                live.update(screen(seen), refresh=True)
            except waits_for as error:
                live.update(Group(screen(seen), Text(), Text(f"! {error}", "yellow")), refresh=True)
    console.print(screen(seen))
    return seen
