"""The command line. `main` is the entry point; importing it costs nothing: `run` starts a server."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper


def main() -> None:
    """Run the command that `sys.argv` names, and exit with its code."""
    arguments = sys.argv[1:]
    if arguments[:2] == ["run", "--"] and arguments[2:]:
        # Not through the parser: what follows belongs to the command, and it is not to start later for us.
        from context_telemetry.pipeline.launch import run_command

        sys.exit(run_command(arguments[2:]))
    for stream in (sys.stdout, sys.stderr):
        # A mark that the terminal's encoding lacks is a question mark, and never exit code 1 (unhealthy).
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        from context_telemetry.cli.app import app

        try:
            app(prog_name="context-telemetry")
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:  # before a command began; from then on `interrupts` tells
        print("context-telemetry: interrupted; nothing was done", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        if error.filename is not None:  # nothing that was written, which has none
            raise
        _not_told(error)


def _not_told(error: OSError) -> None:
    """End, where stdout takes nothing (a full disk): the verdict is not known there, and 1 would be unhealthy."""
    # Python writes once more when it ends, and fails: into nothing, then.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not isinstance(error, BrokenPipeError):
        why = (error.strerror or type(error).__name__).lower()
        print(f"context-telemetry: cannot write to stdout: {why}", file=sys.stderr)
    sys.exit(3)
