"""How often faces and tools were served, by the local history: read only when somebody is hit, for it may be large."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Final

from context_telemetry.contract.impact import Recorded
from context_telemetry.contract.model import Consumer

WEEK: Final = 604_800.0
_WINDOWS: Final = {WEEK: "this week", 86_400.0: "in the last day", 3_600.0: "in the last hour"}


class _Served(Mapping[Consumer, int | None]):
    """The counts of one history. One that cannot be read raises, or else gives None for everybody."""

    def __init__(self, folder: Path, since: float | None, raises: bool) -> None:
        self._folder, self._since, self._raises = folder, since, raises

    @cached_property
    def _counts(self) -> Mapping[Consumer, int] | None:
        from context_telemetry.history import History

        try:
            return {
                Consumer("face" if row.kind == "face" else "tool", row.name): row.count
                for row in History(self._folder, since=self._since).objects_served()
            }
        except Exception:
            if self._raises:
                raise
            return None

    def __getitem__(self, consumer: Consumer) -> int | None:
        return None if self._counts is None else self._counts[consumer]

    def __iter__(self) -> Iterator[Consumer]:
        return iter(self._counts or ())

    def __len__(self) -> int:
        return len(self._counts or ())


def recorded_uses(folder: Path, seconds: float | None, *, raises: bool = True) -> Recorded | None:
    """Of the last ``seconds`` (None: of all there are); None where nothing was ever recorded."""
    if not folder.is_dir():
        return None
    served = _Served(folder, None if seconds is None else time.time() - seconds, raises)
    if seconds is None:
        return Recorded(served, "as far as is recorded")
    if seconds in _WINDOWS:
        return Recorded(served, _WINDOWS[seconds])
    from context_telemetry.cli import text

    return Recorded(served, f"in the last {text.lasting(seconds)}")
