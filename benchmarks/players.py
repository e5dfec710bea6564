"""A process that plays one side: it is told what to do in a line of JSON, does it, and answers with another.

For sides that cannot take turns in one process, because they patch what they find. Between its turns a player is
stopped (SIGSTOP, where there is one): what it has put off, such as an export, is then done in its own turns, and
disturbs nobody else's.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import IO, Any


class Player:
    """The driver's end. Several can be started at once: each is waited for when it is asked."""

    def __init__(self, module: str, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self._name = " ".join((module, *arguments))
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # read when the process fails
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    @cached_property
    def first(self) -> Any:
        """What the process has to say when it is ready. Raises RuntimeError when it has ended instead."""
        said = self._answer()
        self._pause("SIGSTOP")
        return said

    def turn(self, told: Any) -> Any:
        """What the process answers. Raises RuntimeError when it has ended instead."""
        assert self.first is not None  # it is ready
        self._pause("SIGCONT")
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        self._pause("SIGSTOP")
        return answer

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            raise RuntimeError(f"{self._name} ended: {self._errors.read().decode()[-2_000:]}")
        return json.loads(line)

    def _pause(self, name: str) -> None:
        if hasattr(signal, name):
            self._process.send_signal(getattr(signal, name))

    def close(self) -> None:
        """End the process by closing its input, and wait for it."""
        self._pause("SIGCONT")
        self._process.communicate()
        self._errors.close()


def turns(answers: IO[str], first: Any) -> Iterator[Any]:
    """The process's end: ``first`` is said, and then comes what is told in each turn; `answer` is to be called."""
    answer(answers, first)
    for line in sys.stdin:
        yield json.loads(line)


def answer(answers: IO[str], given: Any) -> None:
    print(json.dumps(given), file=answers, flush=True)
