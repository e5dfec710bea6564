"""What is being looked at, while a command takes its time: on stderr, where that is a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from context_telemetry.cli import text

Tell = Callable[[str], None]


def nobody(_what: str) -> None:
    """Nobody is told."""


@contextlib.contextmanager
def shown() -> Iterator[Tell]:
    """To be called with what is looked at next; it is gone when the work is done."""
    if not sys.stderr.isatty():
        yield nobody
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), TextColumn("looking at {task.description}"))
    # What others print stays theirs: stdout may be a file.
    console = text.console(sys.stderr)
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as progress:
        task = progress.add_task("")
        yield lambda what: progress.update(task, description=what)
