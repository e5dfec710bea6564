"""Runs tests/releases on every Dataface release, each in its own environment: `python3 dev.py matrix`.

It writes what became of every scenario to tests/releases/results.json, and tools/generate_release_table.py makes the
page of it. It needs nothing but Python; `dev.py` makes the environments and keeps them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools.generate_release_table import unexplained
from tools.proven import digest

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "tests" / "releases" / "results.json"
RELEASES = ("0.1.2", "0.1.3", "0.1.4", "0.1.5", "0.2.0", "0.3.0", "0.3.1", "0.4.0")
ENDS = ("0.1.2", "0.4.0")
"""The releases that run on the oldest and the newest Python as well."""
OTHER_PYTHONS = ("3.10", "3.13")
LONGEST = 1_200.0
"""Seconds after which a cell has hung."""
SHOWN = 20_000
"""So many last characters are shown of what a cell that failed has said."""
CUT = ("0.2.0",)
"""What every CI run does: the last release of the older architecture. The newest is in the tests."""
DEFAULT = f"{sys.version_info[0]}.{sys.version_info[1]}"
# What the outcome of a scenario depends on: the package, whose commands are run in full, what the tests share, and what
# makes the environments. Only what alerts, boards and runbooks are made of is left out: no scenario makes any.
TESTED = (
    "src",
    ":!src/context_telemetry/ops",
    "tests/releases",
    "tests/standin",
    ":(glob)tests/*.py",
    ":(glob)tests/contract/*.py",
    ":(exclude,glob)tests/test_*.py",
    ":(exclude,glob)tests/contract/test_*.py",
    "pyproject.toml",
    "constraints.txt",
    "dev.py",
    "tools/release_matrix.py",
)


@dataclass(frozen=True)
class Cell:
    """One environment: a Dataface release on a Python."""

    release: str
    python: str

    @property
    def interpreter(self) -> str | None:
        """A working interpreter of that version, None where this machine has none."""
        found = [sys.executable] if self.python == DEFAULT else []
        found += [path for name in (f"python{self.python}",) if (path := shutil.which(name))]
        found += map(str, sorted(Path.home().glob(f".pyenv/versions/{self.python}.*/bin/python")))
        return next((each for each in found if _version(each) == self.python), None)

    def command(self, *arguments: str) -> list[str]:
        return [str(self.interpreter), "dev.py", "on", self.release, *arguments]

    def __str__(self) -> str:
        return f"dataface {self.release} on Python {self.python}"


def _version(interpreter: str) -> str:
    said = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([interpreter, "-c", said], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def all_cells() -> list[Cell]:
    """Every release on this Python, and the ends on the others."""
    here = [Cell(release, DEFAULT) for release in RELEASES]
    return here + [Cell(release, python) for python in OTHER_PYTHONS if python != DEFAULT for release in ENDS]


def run(cell: Cell, arguments: list[str]) -> dict[str, Any]:
    """The scenarios of one cell, as tests/releases/matrix.py writes them; ``missing`` says why there are none."""
    about: dict[str, Any] = {"dataface": cell.release, "python": cell.python, "scenarios": []}
    if cell.interpreter is None:
        return {**about, "missing": f"there is no Python {cell.python} on this machine"}
    with tempfile.TemporaryDirectory() as folder:
        written, log = Path(folder) / "matrix.json", Path(folder) / "log.txt"
        with log.open("w") as output:
            prepared = _call(cell.command("--version"), output)
            started = time.monotonic()
            pytest = cell.command("-m", "pytest", "tests/releases", "--matrix", str(written), *arguments)
            code = _call(pytest, output) if prepared == 0 else prepared
        seconds = round(time.monotonic() - started)
        found: dict[str, Any] = json.loads(written.read_text("utf-8")) if written.exists() else about
        outcome = {**found, "python": cell.python, "seconds": seconds, "passed": code == 0}
        if not written.exists():
            outcome["missing"] = f"the tests did not run (exit code {code})"
        print(f"matrix: {cell}: {_summary(outcome)}", flush=True)
        if code:
            print(log.read_text("utf-8", "replace")[-SHOWN:], flush=True)
    return outcome


def _call(command: list[str], output: Any) -> int:
    """The exit code of a command; -1 where it has hung and was stopped."""
    try:
        return subprocess.run(
            command,
            cwd=ROOT,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            timeout=LONGEST,
        ).returncode
    except subprocess.TimeoutExpired:
        return -1


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python3 dev.py matrix", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("releases", nargs="*", help="only these, on this Python; writes nothing")
    parser.add_argument("--cut", action="store_true", help=f"only {' and '.join(CUT)}; writes nothing")
    parser.add_argument(
        "--if-changed", action="store_true", help="all, unless results.json is of this tree; else the cut"
    )
    parser.add_argument("-k", metavar="EXPRESSION", help="only such scenarios; writes nothing")
    parser.add_argument(
        "--minutes",
        type=float,
        help="begin with the cut, and with no other release after so many: NOT RUN, it says",
    )
    asked = parser.parse_args()
    known = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    tree = digest(TESTED, RESULTS)
    unchanged = known.get("tree") == tree and known.get("passed")
    if asked.if_changed and unchanged:
        print("matrix: results.json is of this very tree; only the cut is run")
    some = asked.releases or (CUT if asked.cut or (asked.if_changed and unchanged) else None)
    cells = [Cell(release, DEFAULT) for release in some] if some else all_cells()
    outcomes = _run_all(cells, ["-k", asked.k] if asked.k else [], asked.minutes)
    is_cut_short = asked.minutes is not None and len(outcomes) < len(cells)
    for cell in cells[len(outcomes) :] if is_cut_short else ():
        print(f"matrix: NOT RUN, {asked.minutes:g} minutes were over: {cell}")
    holes = [] if asked.k else unexplained({"cells": outcomes})
    for hole in holes:
        print(f"matrix: not run, and nothing says why: {hole}")
    passed = not holes and all(outcome.get("passed") for outcome in outcomes if not _not_here(outcome))
    if not some and not asked.k and not is_cut_short:
        document = {"tree": tree, "passed": passed, "cells": outcomes}
        RESULTS.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
        if not holes:
            subprocess.run([sys.executable, "tools/generate_release_table.py"], cwd=ROOT, check=True)
    return int(not passed)


def _run_all(cells: list[Cell], arguments: list[str], minutes: float | None = None) -> list[dict[str, Any]]:
    """Two at a time: servers that are started side by side wait for each other (rehearsal/driver.py).

    After ``minutes`` none begins but those of the cut, which are the first then.
    """
    began = time.monotonic()
    if minutes is not None:
        cells.sort(key=lambda cell: cell.release not in CUT)

    def in_time(cell: Cell) -> dict[str, Any] | None:
        late = minutes is not None and time.monotonic() - began > 60 * minutes
        return None if late and cell.release not in CUT else run(cell, arguments)

    with ThreadPoolExecutor(2) as workers:
        return [outcome for outcome in workers.map(in_time, cells) if outcome is not None]


def _not_here(outcome: dict[str, Any]) -> bool:
    return "missing" in outcome and "no Python" in outcome["missing"]


def _summary(outcome: dict[str, Any]) -> str:
    if "missing" in outcome:
        return str(outcome["missing"])
    here = [row for row in outcome["scenarios"] if row["here"]]
    passed = sum(row["result"] == "pass" for row in here)
    return f"{passed} of {len(here)} scenarios pass, after {outcome['seconds']} s"


if __name__ == "__main__":
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    sys.exit(main())
