"""`context-telemetry run -- COMMAND...`: becomes the command, with a `sitecustomize` in its way that observes the first
Python with Dataface that the command turns out to be, or starts.

On POSIX the command takes this process over, so its exit code, signals and streams are its own; on Windows it
is a child that is waited for.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from context_telemetry.observe import failsafe
from context_telemetry.pipeline import kept_out
from context_telemetry.settings import is_disabled

_SITE = str(Path(__file__).parent / "site")

NOT_FOUND = 127
NOT_EXECUTABLE = 126


def run_command(argv: Sequence[str]) -> int:
    """Run the command, observed. Returns an exit code when it could not be started (or on Windows, when it
    has ended).

    Switched off, the command's environment is what it would be without us.
    """
    if not argv:
        failsafe.warn("run: a command is missing: context-telemetry run -- COMMAND...")
        return 2
    environ = dict(os.environ)
    if not is_disabled(environ):
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, (_SITE, environ.get("PYTHONPATH"))))
        reason = kept_out.why(argv, environ, _SITE)
        if reason is not None:
            failsafe.warn(reason)
    try:
        return _spawn(argv, environ) if os.name == "nt" else _become(argv, environ)
    except (FileNotFoundError, NotADirectoryError):
        failsafe.warn(f"run: {argv[0]}: command not found")
        return NOT_FOUND
    except OSError as error:
        failsafe.warn(f"run: {argv[0]}: {(error.strerror or type(error).__name__).lower()}")
        return NOT_EXECUTABLE


def _become(argv: Sequence[str], environ: dict[str, str]) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    # Python ignores these two, and a command inherits what is ignored.
    restored = {name: signal.signal(name, signal.SIG_DFL) for name in (signal.SIGPIPE, signal.SIGXFSZ)}
    try:
        os.execvpe(argv[0], list(argv), environ)
    finally:
        for name, handler in restored.items():
            signal.signal(name, handler)


def _spawn(argv: Sequence[str], environ: dict[str, str]) -> int:
    with subprocess.Popen(list(argv), env=environ) as command:
        # Ctrl-C reaches the whole console: the command decides what it means.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return command.wait()
