"""Keeps what the soundness tests counted, for a few lines at the end of the run."""

from __future__ import annotations

import os
from pathlib import Path

_FILE = "SOUNDNESS_REPORT"


def say(line: str) -> None:
    """Print one line of the report, and keep it in the file that `SOUNDNESS_REPORT` names."""
    print(f"soundness: {line}")
    if path := os.environ.get(_FILE):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
