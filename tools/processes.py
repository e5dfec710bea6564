"""Starts and ends one program on free loopback ports, by its process id, and asks it things over HTTP."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tools.programs import StackError

READY_SECONDS: Final = 60.0
STOP_SECONDS: Final = 20.0


@dataclass
class Process:
    """One started program; it can be stopped, killed and started again with the same ports and folders."""

    name: str
    command: Sequence[str]
    log: Path
    ready: str
    """A URL that answers with 200 when it is."""
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it and waits for its health. Raises StackError with the end of its log when it does not come."""
        with self.log.open("ab") as log:
            self.running = subprocess.Popen(
                self.command,
                cwd=self.cwd,
                env={**os.environ, **self.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + READY_SECONDS
        while not _answers(self.ready):
            ended = self.running.poll()
            if ended is not None or time.monotonic() > deadline:
                self.stop()
                what = "is not ready" if ended is None else f"ended with {ended}"
                last = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
                raise StackError(f"{self.name} {what}, see {self.log}:\n{last}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Asks it to end, and kills it where it does not."""
        if self.running is None:
            return
        self.running.terminate()
        try:
            self.running.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.running.kill()
            self.running.wait()
        self.running = None

    def kill(self) -> None:
        """Ends it at once, as an out-of-memory killer does."""
        if self.running is not None:
            self.running.send_signal(signal.SIGKILL)
            self.running.wait()
            self.running = None

    @property
    def cpu_seconds(self) -> float:
        """Processor time that it has taken so far."""
        assert self.running is not None
        fields = Path(f"/proc/{self.running.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def memory_bytes(self) -> int:
        """Resident memory."""
        assert self.running is not None
        status = Path(f"/proc/{self.running.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        return int(found.group(1)) * 1024 if found else 0


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different."""
    with ExitStack() as opened:
        sockets = [opened.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def get_json(url: str) -> Any:
    """What an API answers. Raises URLError."""
    with urllib.request.urlopen(url, timeout=60) as answer:
        return json.load(answer)


def get_text(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def wait_until(
    what: str, true: Callable[[], Any], seconds: float = READY_SECONDS, every: float = 0.25
) -> Any:
    """What ``true`` gives once that is true. Raises AssertionError with ``what`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        found = None
        with contextlib.suppress(OSError):  # whom it asks may be starting
            found = true()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what} (last: {found!r})")
        time.sleep(every)


def exit_on_sigterm() -> None:
    """From now on SIGTERM ends this process as an exit does: what it has started is ended, too."""

    def leave(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_IGN)  # a second one does not end the ending
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, leave)
