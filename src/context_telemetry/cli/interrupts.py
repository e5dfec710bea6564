"""Ctrl-C: a command ends with exit code 130 and one line that says what is done and what is not, whatever it was doing.

`run` does not take part once it has become its command, nor `replay` while it sends, which ends in order.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import typer
from typer.core import TyperGroup

INTERRUPTED: Final = 130

_left: str | Callable[[], str] = "nothing was changed"


def leaves(words: str | Callable[[], str]) -> None:
    """From now on, a command that is interrupted leaves behind what ``words`` say."""
    global _left
    _left = words


class Commands(TyperGroup):
    """Commands that end so."""

    def make_context(self, *arguments: Any, **more: Any) -> Any:
        """Read the command line, which imports what shows its mistakes."""
        with _told():
            return super().make_context(*arguments, **more)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named."""
        with _told():
            return super().invoke(ctx)


@contextmanager
def _told() -> Iterator[None]:
    """Where SIGINT is ignored, or somebody else's, it stays so."""
    asked = False

    def ask(number: int, frame: Any) -> None:
        nonlocal asked
        asked = True
        signal.default_int_handler(number, frame)

    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, ask)
    try:
        yield
    except (KeyboardInterrupt, Exception) as error:
        # DuckDB raises an error of its own in the place of the interruption.
        if not asked and not isinstance(error, KeyboardInterrupt):
            raise
        left = _left() if callable(_left) else _left
        print(f"context-telemetry: interrupted; {left}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
