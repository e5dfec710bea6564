"""The process beside a serving one that compares, as its host has it: starts it, asks it, ends it.

It is `context_telemetry.cli.comparator`: one JSON document on each line, there and back.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from context_telemetry.observe import unobserved

MODULE: Final = "context_telemetry.cli.comparator"


class ComparatorError(Exception):
    """The comparator does not do what it is there for."""


class NotStarted(ComparatorError):
    """There is none to be had here."""


class Ended(ComparatorError):
    """It has ended by itself, as it does when nobody asks."""


class Died(ComparatorError):
    """It has ended otherwise."""


class Silent(ComparatorError):
    """It does not answer in time."""


class Refused(ComparatorError):
    """It answers with an error."""


class ComparatorProcess:
    """One comparator of the project at ``root``. One thread uses it; `end` and `abandon` are anybody's.

    ``history`` is the folder of the project's local files, which tell how often faces and tools were served.
    """

    def __init__(self, root: Path, history: Path | None = None) -> None:
        if not unobserved.is_possible():
            raise NotStarted
        told = ("--history", str(history)) if history is not None else ()
        try:
            self._process = subprocess.Popen(
                unobserved.command(MODULE, *told, str(root)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                env=unobserved.environment(),
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except (OSError, ValueError) as error:
            raise NotStarted from error
        self._answers: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, name="context-telemetry-contract-answers", daemon=True).start()

    def ask(self, message: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """The answer to one message, within so many seconds. Raises ComparatorError."""
        line = memoryview(json.dumps(message, separators=(",", ":")).encode() + b"\n")
        pipe = self._process.stdin
        assert pipe is not None
        # Where nobody reads any more, or another thread has ended it, its answers end too.
        with contextlib.suppress(OSError, ValueError):
            while line:
                line = line[pipe.write(line) or 0 :]
        try:
            answer = self._answers.get(timeout=seconds)
        except queue.Empty:
            raise Silent from None
        if answer is None:
            self._answers.put(None)
            raise Ended if self._process.wait() == 0 else Died
        document = json.loads(answer)
        if not isinstance(document, dict) or "error" in document:
            raise Refused
        return document

    def end(self) -> None:
        """End it, whatever it is doing: it only reads."""
        with contextlib.suppress(OSError):
            self._process.kill()
        self.abandon()

    def abandon(self) -> None:
        """Hold it no longer: in a forked child, too, it ends with the process that started it."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def abandon_in_child(self) -> None:
        """The same of what a forked child has inherited: it is not its child, and its answers are not for it."""
        self.abandon()
        if self._process.stdout is not None:
            with contextlib.suppress(OSError):
                self._process.stdout.close()
        self._process.returncode = 0

    def _read(self) -> None:
        pipe, rest = self._process.stdout, b""
        assert pipe is not None
        with contextlib.suppress(OSError, ValueError):
            while chunk := pipe.read(65_536):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._answers.put(line)
        self._process.wait()
        with contextlib.suppress(OSError):
            pipe.close()
        self._answers.put(None)
