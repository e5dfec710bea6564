"""Imported by the interpreter that `context-telemetry run` starts: begins to observe it before anything runs.

First it takes itself out again (environment, path), so that children are as they would be without us, and
then lets another `sitecustomize` have its turn. It must run in any Python from 3.6 on, also one that cannot
import the library.
"""

import importlib
import os
import sys


def _take_out() -> "str | None":
    """Remove what `run` put in; the process id that it marked, None when there is none."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != here]
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    left = [entry for entry in entries if not entry or os.path.abspath(entry) != here]
    if any(left):
        os.environ["PYTHONPATH"] = os.pathsep.join(left)
    else:
        os.environ.pop("PYTHONPATH", None)
    return os.environ.pop("CONTEXT_TELEMETRY_RUN_PID", None)


def _is_meant(marked: "str | None") -> bool:
    """Whether this is the command itself, or the first Python below a command that is none, like `uvx`.

    A Python takes the mark out of its environment, so below one there is none. Windows has launchers between.
    """
    return marked is not None and (os.name == "nt" or marked in (str(os.getpid()), str(os.getppid())))


def _observe() -> None:
    try:
        from context_telemetry.pipeline.auto import activate

        activate()
    except BaseException as error:  # whatever it is, the interpreter must start
        try:
            sys.stderr.write(
                f"context-telemetry: this command is not observed: {sys.executable} cannot import the library"
                f" ({type(error).__name__})\n"
            )
            sys.stderr.flush()
        except BaseException:
            pass


def _chain() -> None:
    """Import the `sitecustomize` that would have been imported without this one."""
    this = sys.modules.pop("sitecustomize", None)
    try:
        importlib.import_module("sitecustomize")
    except ImportError as error:
        if getattr(error, "name", None) != "sitecustomize":
            raise
        if this is not None:
            sys.modules["sitecustomize"] = this


if _is_meant(_take_out()):
    _observe()
_chain()
