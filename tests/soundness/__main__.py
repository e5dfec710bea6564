"""`python -m tests.soundness [--baseline] [PYTEST OPTIONS]`: the soundness tests, and what they counted.

``--baseline`` also forks hand-written OpenTelemetry 250 times, which takes minutes because children hang.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

_HERE = Path(__file__).parent


def main(arguments: list[str]) -> int:
    """Run the tests and print the report; the exit status is pytest's."""
    baseline = "--baseline" in arguments
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "report"
        os.environ["SOUNDNESS_REPORT"] = str(told)
        status = int(pytest.main([str(_HERE), "-q", *(each for each in arguments if each != "--baseline")]))
        print(told.read_text("utf-8") if told.exists() else "nothing was counted", end="")
    if baseline:
        for moment, forks in (("random", 250), ("collecting", 50)):
            subprocess.run(
                [sys.executable, str(_HERE / "forking.py"), "hand", str(forks), moment], check=False
            )
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
