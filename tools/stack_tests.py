"""Runs tests/stack on the real Collector, Jaeger, Prometheus and Alertmanager: `python3 dev.py stack`.

All of it takes the better part of an hour where the parts are built anew; what has passed is kept in
tests/stack/proven.json, and `--if-changed` then runs a cut.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from tools import proven
from tools.stack import StackError, program

PROOF = proven.ROOT / "tests" / "stack" / "proven.json"
# What the outcome depends on.
TESTED = (
    "src",
    "tests/stack",
    "tests/conftest.py",
    "tests/otlp_files.py",
    "tools",
    "pyproject.toml",
    "constraints.txt",
)
PARTS = ("collector", "jaeger", "prometheus", "alertmanager", "victoria")
CUT = ("tests/stack/test_alerts.py", "tests/stack/test_page.py")
"""What every CI run does: the rules as shipped, and one real fault up to the page."""


def main() -> int:
    """The exit code of pytest."""
    parser = argparse.ArgumentParser(prog="python3 dev.py stack", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--if-changed", action="store_true", help="all, unless it passed on this tree; else a cut"
    )
    parser.add_argument(
        "pytest", nargs="*", help="only these tests, or options of pytest behind --; keeps nothing"
    )
    asked, more = parser.parse_known_args()
    chosen = [*asked.pytest, *more]
    unchanged = asked.if_changed and proven.holds(PROOF, TESTED)
    if unchanged:
        print("stack: all has passed on this very tree; only the cut is run", flush=True)
        chosen = list(CUT)
    paths = chosen if any(each.startswith("tests/") for each in chosen) else ["tests/stack", *chosen]
    try:
        for part in PARTS:  # a test that waits for a build would be a test that hangs
            program(part)
    except StackError as error:
        print(f"stack: {error}", file=sys.stderr)
        return 1
    code = subprocess.call([sys.executable, "-m", "pytest", "-m", "stack", *paths], cwd=proven.ROOT)
    if code == 0 and not chosen:
        proven.keep(PROOF, TESTED)
    return code


if __name__ == "__main__":
    sys.exit(main())
