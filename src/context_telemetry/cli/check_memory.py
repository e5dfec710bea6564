"""What `check` has said of a project, from run to run: so that each change is said once, also by a process a minute.

A file in the project's state folder, written as a whole or not at all. Where it cannot be written, the next run says
all that holds once more.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from context_telemetry.contract.comparison import Comparison
from context_telemetry.instrumentation.contract_events import Said
from context_telemetry.observe import board

FILE: Final = "check.json"
_FORMAT: Final = 1
_MOST_BYTES: Final = 4 * 1024 * 1024


class Memory:
    """What was said last of one project, which one process at a time owns."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._kept = _read(self._path)
        self._remember()

    def _remember(self) -> None:
        """What was kept is what was said."""
        # Whoever looks now and then says each time what it found: its telemetry may go elsewhere than the last time.
        self._said = Said(self._kept.get("said"), watch="check", again=0.0)
        self._held: list[list[str]] = []
        held = self._kept.get("held")
        pairs = held if isinstance(held, list) else []
        board.recall(
            (str(each[0]), str(each[1])) for each in pairs if isinstance(each, list) and len(each) == 2
        )

    def say(self, comparison: Comparison) -> None:
        """Say what is different from what was said."""
        self._said.say(comparison)

    def settle(self, is_known: Callable[[str, str], bool]) -> None:
        """Clear what holds no more, as far as this look can tell."""
        self._held = [list(each) for each in board.settle(is_known)]

    def keep(self) -> None:
        """Remember what was said: it has been delivered."""
        kept = {"format": _FORMAT, "said": self._said.memory(), "held": self._held}
        if kept != self._kept:
            self._kept = kept
            _write(self._path, kept)

    def drop(self) -> None:
        """What was said since it was kept last has not been delivered: the next look says it again."""
        board.forget()
        self._remember()


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            return {}
        content = json.loads(path.read_text(encoding="utf-8"))
        return content if isinstance(content, dict) and content.get("format") == _FORMAT else {}
    except (OSError, ValueError, RecursionError):
        return {}


def _write(path: Path, content: dict[str, Any]) -> None:
    new = path.with_name(f"{path.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(descriptor, "w", encoding="utf-8") as file:
                json.dump(content, file, separators=(",", ":"))
            os.replace(new, path)
        except OSError:
            new.unlink(missing_ok=True)
