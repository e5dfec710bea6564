"""The process beside a serving one that compares: it looks when it is told to, and says what a question met.

`python -m context_telemetry.cli.comparator ROOT` answers one JSON document on each line of stdin with one on stdout,
and ends with stdin, or when nobody asks for a while. It is a process of its own because closing a DuckDB file inside of
the host would drop the host's lock on it, and so that neither DuckDB nor a parser of SQL takes the host's memory or
interpreter.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import queue
import signal
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from context_telemetry.cli.served_uses import WEEK, recorded_uses
from context_telemetry.contract.comparator import Comparator
from context_telemetry.contract.impact import Recorded

IDLE: Final = 60.0
"""Seconds without a question after which the process ends."""
_NICE: Final = 10


def serve(comparator: Comparator, questions: Iterable[bytes], answers: BinaryIO) -> None:
    """Answer each line; a mistake is answered with its class alone, for its text may quote the question."""
    for line in questions:
        asked: Any = None
        try:
            asked = json.loads(line)
            if not isinstance(asked, dict):
                raise TypeError("a question is a mapping")
            answer = comparator.answer(asked)
        except Exception as error:
            answer = {
                "id": asked.get("id") if isinstance(asked, dict) else None,
                "error": type(error).__name__,
            }
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


def _lines(stream: BinaryIO, idle: float) -> Iterator[bytes]:
    """The lines of a stream, until its end or until none came for so many seconds."""
    read: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def pump() -> None:
        while line := stream.readline():
            read.put(line)
        read.put(b"")

    threading.Thread(target=pump, name="questions", daemon=True).start()
    with contextlib.suppress(queue.Empty):
        while line := read.get(timeout=idle):
            yield line


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m context_telemetry.cli.comparator")
    parser.add_argument("root", type=Path)
    parser.add_argument("--idle", type=float, default=IDLE, help="seconds without a question until it ends")
    parser.add_argument(
        "--history", type=Path, help="folder of a history that has how often faces were served"
    )
    arguments = parser.parse_args()
    # It is the host that is interrupted, and that ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(_NICE)
    logging.disable()
    warnings.simplefilter("ignore")
    # Whatever prints does not print among the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def recorded() -> Recorded | None:
        # Numbers are all that a history which cannot be read costs.
        return recorded_uses(arguments.history, WEEK, raises=False) if arguments.history else None

    with contextlib.suppress(BrokenPipeError):
        serve(Comparator(arguments.root, recorded), _lines(sys.stdin.buffer, arguments.idle), answers)
    # The thread may wait for stdin still, and an interpreter that ends in order would wait for it.
    os._exit(0)


if __name__ == "__main__":
    main()
