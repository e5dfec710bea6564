"""`python -m tests.soundness [--baseline] [PYTEST OPTIONS]`: the soundness tests, and what they counted.

Without options of pytest's, what was counted becomes ``counts.json`` and the table in docs/soundness.md.
``--baseline`` also forks hand-written OpenTelemetry 250 times, which takes minutes because children hang.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from soundness import claims, report

_HERE = Path(__file__).parent


class _Passed:
    """How many cases of each test passed, by ``file::function``."""

    def __init__(self) -> None:
        self.cases: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            file, _, function = report.nodeid.partition("::")
            self.cases[f"{Path(file).stem}::{function.partition('[')[0]}"] += 1


def main(arguments: list[str]) -> int:
    """Run the tests and say what they counted; the exit status is pytest's."""
    options = [each for each in arguments if each != "--baseline"]
    passed = _Passed()
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "report"
        os.environ["SOUNDNESS_REPORT"] = str(told)
        without = f"--ignore={_HERE / 'test_claims.py'}"  # it judges what the run before this one counted
        status = int(pytest.main([str(_HERE), "-q", without, *options], [passed]))
        found = claims.document(passed.cases, report.read(told))
    print(claims.table(found))
    if not options and status == 0:
        claims.write(found)
    if "--baseline" in arguments:
        for moment, forks in (("random", 250), ("collecting", 50)):
            subprocess.run(
                [sys.executable, str(_HERE / "forking.py"), "hand", str(forks), moment], check=False
            )
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
