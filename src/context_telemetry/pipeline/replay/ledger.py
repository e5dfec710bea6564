"""Remembers, for one receiver of one signal, up to where each recorded file was accepted.

A file in the project's state folder, replaced whole and synced after each accepted request. It has the names
of files, offsets and digests in it, and of the receiver its scheme, host and port. Lost, it costs sending again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from context_telemetry.pipeline.replay.recorded import Ends, RecordedFile, head, reason

LOCK = "replay.lock"
_LOOK_AGAIN = 0.25


class Interrupted(Exception):
    """The user asked to stop, and what was accepted until then is known."""


class LedgerError(Exception):
    """The ledger cannot be read or written; the message names the file and what to do."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Entry(_Strict):
    """What is known of one file."""

    size: int = Field(ge=0)
    """Bytes when it was last looked at."""
    offset: int = Field(default=0, ge=0)
    """Up to here the receiver has accepted it."""
    lines: int = Field(default=0, ge=0)
    """So many lines end there."""
    head_bytes: int = Field(default=0, ge=0)
    head_sha256: str = ""
    """Of its first bytes, all of them accepted: another file of the same name is told by them."""
    sending: int = Field(default=0, ge=0)
    """Up to here it was on its way when this was written."""
    cut_at: int | None = None
    """A last line that was cut by a crash was told when the file had so many bytes."""


class _Document(_Strict):
    version: Literal["context-telemetry.replay-ledger/1"] = Field(
        default="context-telemetry.replay-ledger/1", alias="schema"
    )
    endpoint: str
    files: dict[str, Entry] = {}


@dataclass(frozen=True)
class Gone:
    """A file that was removed; `unsent` bytes of it had not been accepted."""

    name: str
    unsent: int


class Ledger:
    """Read when made; `mark` and `begin` write it. Raises LedgerError."""

    def __init__(self, path: Path, endpoint: str) -> None:
        self.path, self._endpoint = path, endpoint
        self._entries = self._read()
        self._before: dict[str, Entry | None] = {}

    @staticmethod
    def place(folder: Path, kind: str, key: str) -> Path:
        """Where the ledger of a signal and a receiver is."""
        return folder / f"replay-{kind}-{key}.json"

    def _read(self) -> dict[str, Entry]:
        try:
            return dict(_Document.model_validate_json(self.path.read_bytes()).files)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise LedgerError(f"{self.path}: the ledger cannot be read: {reason(error)}") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(each) for each in first["loc"])
            raise LedgerError(
                f"{self.path}: this is no ledger ({where + ': ' if where else ''}{first['msg']}): delete it, and "
                "everything is sent again"
            ) from None

    def entry(self, file: RecordedFile) -> tuple[Entry, bool]:
        """What is known of a file, and whether it was another one then: of that nothing holds. Raises OSError."""
        known = self._entries.get(file.name)
        if known is None:
            return Entry(size=file.size), False
        is_other = file.size < known.offset or (
            known.head_bytes > 0 and _digest(head(file)[: known.head_bytes]) != known.head_sha256
        )
        return (Entry(size=file.size), True) if is_other else (known, False)

    def begin(self, ends: Ends) -> None:
        """Say that files are on their way up to there: so that a later replay knows what it sends again."""
        self._before = {name: self._entries.get(name) for name in ends}
        for name, (file, end, _) in ends.items():
            known = self._known(file)
            self._entries[name] = known.model_copy(update={"sending": max(end, known.sending)})
        # Not synced: it is only for telling, and what a crash of the machine takes is sent again all the same.
        self._write(synced=False)

    def retract(self) -> None:
        """Say that what was begun, and was not marked, did not arrive. Written at `close`."""
        for name, before in self._before.items():
            known, sending = self._entries[name], before.sending if before else 0
            if before is None and not known.offset:
                del self._entries[name]
            else:
                kept = sending if sending > known.offset else 0
                self._entries[name] = known.model_copy(update={"sending": kept})

    def mark(self, ends: Ends) -> None:
        """Say that files are accepted up to there."""
        for name, (file, end, lines) in ends.items():
            update: dict[str, int | str] = {"offset": end, "lines": lines, "size": max(file.size, end)}
            known = self._known(file)
            if known.sending <= end:
                update["sending"] = 0
            if not known.head_sha256:
                with contextlib.suppress(OSError):  # removed meanwhile: its name will not come again
                    first = head(file)[:end]
                    update |= {"head_bytes": len(first), "head_sha256": _digest(first)}
            self._entries[name] = known.model_copy(update=update)
        self._write()

    def cut(self, file: RecordedFile) -> None:
        """Say that the cut last line of a file was told. Written with the next mark or at `close`."""
        self._entries[file.name] = self._known(file).model_copy(update={"cut_at": file.size})

    def forget(self, file: RecordedFile) -> None:
        """Say that the file is another one than it was."""
        self._entries.pop(file.name, None)

    def gone(self, present: Callable[[str], bool]) -> Iterator[Gone]:
        """Forget the files that are not there any more; what was not sent of each."""
        for name in [name for name in self._entries if not present(name)]:
            known = self._entries.pop(name)
            yield Gone(name, 0 if known.cut_at == known.size else known.size - known.offset)

    def close(self) -> None:
        """Write what is left to be written."""
        if self._entries or self.path.exists():
            self._write()

    def _known(self, file: RecordedFile) -> Entry:
        return self._entries.get(file.name) or Entry(size=file.size)

    def _write(self, *, synced: bool = True) -> None:
        document = _Document(endpoint=self._endpoint, files=self._entries)
        temporary = self.path.with_suffix(".tmp")
        try:
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
                stream.write(document.model_dump_json(by_alias=True).encode() + b"\n")
                stream.flush()
                if synced:
                    os.fsync(stream.fileno())
            os.replace(temporary, self.path)
            if synced:
                _sync_folder(self.path.parent)
        except OSError as error:
            raise LedgerError(
                f"{self.path}: the ledger cannot be written: {reason(error)}; what was accepted last may be sent again"
            ) from None


def _digest(first: bytes) -> str:
    return hashlib.sha256(first).hexdigest()


def _sync_folder(folder: Path) -> None:
    """Make a rename last; where folders cannot be opened (Windows) it does by itself."""
    if sys.platform != "win32":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def alone(folder: Path, waits: Callable[[str], None], stop: threading.Event) -> Iterator[None]:
    """Be the only replay of a folder. `waits` is called, with the other's process id, before waiting for it.

    The lock is the system's: it ends with the process, however that ends. Raises LedgerError, Interrupted.
    """
    path = folder / LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise LedgerError(f"{path}: replays cannot be kept apart: {reason(error)}") from None
    with open(descriptor, "r+") as stream:
        if not _locked(descriptor):
            waits(stream.read().strip())
            while not _locked(descriptor):
                if stop.wait(_LOOK_AGAIN):
                    raise Interrupted
        stream.seek(0)
        stream.truncate()
        stream.write(f"{os.getpid()}\n")
        stream.flush()
        yield


if sys.platform == "win32":
    import msvcrt

    def _locked(descriptor: int) -> bool:
        # Beyond what is written there: on Windows a locked byte cannot be read.
        os.lseek(descriptor, 1 << 20, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
        return True

else:
    import fcntl

    def _locked(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
