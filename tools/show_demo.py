"""Puts what `context-telemetry demo` prints into docs/first-five-minutes.md; `--check [FOLDER]` compares.

Two runs differ in times, ids, process ids, and the order of what runs side by side. All else is compared.
"""

from __future__ import annotations

import difflib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "first-five-minutes.md"
WIDTH = 100
_BLOCK = re.compile(
    r"(<!-- demo screen: begin[^\n]*-->\n```\n)(.*?)(```\n<!-- demo screen: end -->)", re.DOTALL
)
# Each with what it becomes, in this order.
_OF_ONE_RUN = (
    ("[│├└]─?", ""),
    (r"\b\d{2} [A-Z][a-z]{2} \d{4}\b", "DATE"),
    (r"\b\d{2}:\d{2}:\d{2}\b", "TIME"),
    (r"\b[0-9a-f]{32}\b|\b[0-9a-f]{16}\b|\b(?=[0-9a-f]*\d)[0-9a-f]{8}\b", "ID"),
    (r"\b\d{3,7}(?= \(Dataface)|(?<=process )\d+|(?<=  )\d{3,7}(?=  )", "PID"),
    (r"just now|\b\d+ (?:s|min) ago", "AGO"),
    (r"\b[\d.]+ (?:ms|s|min)\b", "TOOK"),
    (r"\b[\d.]+ (?:B|KB|MB)\b", "SIZE"),
    (r"[━─]{2,}|━", "BAR"),
    (r"\s+", " "),
)


def shown(place: Path) -> str:
    """What a run of the demo in this new folder prints, with names in place of this machine's folders."""
    done = subprocess.run(
        [sys.executable, "-m", "context_telemetry.cli", "demo", "--dir", str(place)],
        env={**os.environ, "COLUMNS": str(WIDTH), "PYTHONIOENCODING": "utf-8"},
        stdout=subprocess.PIPE,
        encoding="utf-8",
        check=True,
    )
    # Not resolved: a virtual environment's own folder is meant.
    text = done.stdout.replace(str(place), "DIR").replace(str(Path(sys.executable).parent), "BIN")
    return "".join(line.rstrip() + "\n" for line in text.splitlines())


def common(text: str) -> list[str]:
    """The lines of a run without what is of that run alone, in an order that is not the run's."""
    lines = []
    for line in text.splitlines():
        for pattern, name in _OF_ONE_RUN:
            line = re.sub(pattern, name, line)
        lines.append(line.strip())
    return sorted(lines)


def main(arguments: list[str]) -> int:
    """Write the block, or say where it differs."""
    page = PAGE.read_text("utf-8")
    block = _BLOCK.search(page)
    assert block is not None
    with tempfile.TemporaryDirectory() as folder:
        printed = shown(Path(*arguments[1:] or (folder, "demo")).resolve())
    if arguments[:1] != ["--check"]:
        PAGE.write_text(page[: block.start(2)] + printed + page[block.end(2) :], "utf-8")
        return 0
    differ = [
        *difflib.unified_diff(common(block[2]), common(printed), "the page", "the demo", lineterm="", n=0)
    ]
    for line in differ:
        print(line)
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
