"""The command line. `main` is the entry point; importing it costs nothing: `run` starts a server."""

from __future__ import annotations

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
    from context_telemetry.cli.app import app

    app(prog_name="context-telemetry")
