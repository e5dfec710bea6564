"""What a fault is: a change of a project, the calls that meet it, what they are read as, and how it is healed.

Nothing here knows which faults there are.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from context_telemetry.conventions import names
from context_telemetry.instrumentation import OLDEST, version
from context_telemetry.rehearsal.driver import Call
from context_telemetry.rehearsal.sample import RehearsalError


@dataclass(frozen=True)
class _Since:
    """A row that holds for the releases from `since` to `until`, both included."""

    since: str = field(default=OLDEST, kw_only=True)
    until: str | None = field(default=None, kw_only=True)

    def serves(self, release: str) -> bool:
        here = version(release)
        return version(self.since) <= here and (self.until is None or here <= version(self.until))


@dataclass(frozen=True)
class Meeting(_Since):
    """A call that meets a fault: its entry's outcome and exact reasons, and whether Dataface says error."""

    call: Call
    outcome: str
    reasons: frozenset[str] = frozenset()
    is_error: bool = False

    def __post_init__(self) -> None:
        unknown = (self.reasons - names.REASONS) | ({self.outcome} - names.OUTCOMES)
        if unknown:
            raise ValueError(f"not in the conventions: {', '.join(sorted(unknown))}")


@dataclass(frozen=True)
class Fault(_Since):
    """One fault; `touches` are the files, relative to the project, that `change` writes, moves or removes.

    `twins` are the healthy calls most like those that meet the fault, one for each release: they end `ok` once the
    fault is healed. Where releases need another change of the project, the fault has a row for each.
    `settles` is how many seconds after the injection the calls carry its reasons, with one to spare. `new_server`
    faults show only in a server that has not resolved the catalogue yet: one that has keeps the former database open.
    `because` says why the releases outside of the range do not have it.
    """

    name: str
    simulates: str
    meetings: tuple[Meeting, ...]
    twins: tuple[Meeting, ...]
    touches: tuple[str, ...] = ()
    change: Callable[[Path], None] | None = None
    settles: float = 0.0
    new_server: bool = False
    because: str = ""

    @property
    def reasons(self) -> frozenset[str]:
        """All reasons that calls which meet it carry."""
        return frozenset().union(*(meeting.reasons for meeting in self.meetings))

    @property
    def twin(self) -> Call:
        """The healthy call of a fault that is `on` one release."""
        (twin,) = self.twins
        return twin.call

    def on(self, release: str) -> Fault:
        """The fault as `release` has it: with its meetings and its twin alone."""

        def there(rows: tuple[Meeting, ...]) -> tuple[Meeting, ...]:
            return tuple(row for row in rows if row.serves(release))

        return replace(self, meetings=there(self.meetings), twins=there(self.twins))

    def inject(self, project: Path) -> None:
        """Makes the fault, and keeps what was there in a folder beside the project."""
        if self.change is None:
            return
        kept = self._kept(project)
        if kept.exists():
            raise RehearsalError(f"the fault {self.name} is already injected in {project}")
        kept.mkdir(parents=True)
        for path in self.touches:
            if (project / path).exists():
                (kept / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(project / path, kept / path)
        self.change(project)

    def heal(self, project: Path) -> None:
        """Puts back what was there before the injection; does nothing where there was none."""
        kept = self._kept(project)
        if not kept.exists():
            return
        for path in self.touches:
            (project / path).unlink(missing_ok=True)
            if (kept / path).exists():
                shutil.move(kept / path, project / path)
        shutil.rmtree(kept)

    @contextmanager
    def injected(self, project: Path) -> Iterator[None]:
        self.inject(project)
        try:
            yield
        finally:
            self.heal(project)

    def _kept(self, project: Path) -> Path:
        # Not in the project: Dataface and its agents read what lies there.
        return project.parent / f"{project.name}.before" / self.name


def ok(call: Call, since: str = OLDEST, until: str | None = None) -> Meeting:
    return Meeting(call, "ok", since=since, until=until)


def degraded(call: Call, *reasons: str, since: str = OLDEST, until: str | None = None) -> Meeting:
    return Meeting(call, "degraded", frozenset(reasons), since=since, until=until)


def failed(call: Call, *reasons: str, since: str = OLDEST, until: str | None = None) -> Meeting:
    return Meeting(call, "failed", frozenset(reasons), is_error=True, since=since, until=until)
