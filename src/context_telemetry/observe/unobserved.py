"""A Python of ours beside this one, which nobody observes: how it is started.

It takes this interpreter and what is installed there. The folder that it runs in may be a project of somebody else's,
with files that are called as modules are: it is never on its path.
"""

from __future__ import annotations

import os
import sys
from typing import Final

# `-m` would have that folder first on the path, and `-c` does until the first line; `-P` came with Python 3.11.
_PROGRAM: Final = (
    "import sys; sys.path[:] = filter(None, sys.path); del sys.argv[0]; "
    "import runpy; runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
)


def is_possible() -> bool:
    """Whether `sys.executable` is a Python: where one is embedded or frozen, it is the host itself."""
    name = os.path.basename(sys.executable or "").lower()
    return name.startswith(("python", "pypy")) and not getattr(sys, "frozen", False)


def command(module: str, *arguments: str) -> list[str]:
    """What runs a module of ours as `python -m` does."""
    return [sys.executable, "-W", "ignore", "-c", _PROGRAM, module, *arguments]


def environment() -> dict[str, str]:
    """This process's environment, with paths as they are from here and nothing that would observe the other one."""
    told = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    paths = [os.path.abspath(each) for each in told if each]
    kept = [each for each in paths if not os.path.exists(os.path.join(each, "sitecustomize.py"))]
    environment = {**os.environ, "CONTEXT_TELEMETRY_DISABLED": "true", "OTEL_SDK_DISABLED": "true"}
    environment.pop("PYTHONPATH", None)
    return {**environment, "PYTHONPATH": os.pathsep.join(kept)} if kept else environment
