"""One thing that `doctor` looked at, and how all of them read on a screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

State = Literal["ok", "note", "wrong"]

_STYLE = {"ok": "green", "note": "yellow", "wrong": "red"}
_MARK = {"ok": "✓", "note": "!", "wrong": "✗"}
# Of whom a section speaks, where that is not plain.
_SPEAKS_OF = {
    "hooks": "as tried here, by this Python",
    "recorded": "by the processes that were observed, as each said last",
}


@dataclass(frozen=True)
class Check:
    """One thing looked at: `wrong` is to be repaired, a `note` is worth knowing."""

    section: str
    name: str
    state: State
    found: str
    advice: str = ""


def table(checks: Sequence[Check]) -> RenderableType:
    """The checks below the names of their sections."""
    section = ""
    rows = Table.grid(padding=(0, 2, 0, 0))
    rows.add_column(no_wrap=True)
    rows.add_column(no_wrap=True)
    rows.add_column(overflow="fold")
    for check in checks:
        if check.section != section:
            section = check.section
            rows.add_row("", Text(section, "bold"), Text(_SPEAKS_OF.get(section, ""), "dim"))
        found = Text(check.found)
        if check.advice:
            found.append(f"\n{check.advice}", _STYLE[check.state])
        rows.add_row(Text(_MARK[check.state], _STYLE[check.state]), check.name, found)
    return rows
