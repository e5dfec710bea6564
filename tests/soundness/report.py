"""Keeps what the soundness tests counted, for `python -m tests.soundness`, which says it."""

from __future__ import annotations

import json
import os
from pathlib import Path

_FILE = "SOUNDNESS_REPORT"


def count(claim: str, **numbers: int) -> None:
    """Note numbers for a claim of `claims`: those of several tests add up, but of ``most_...`` the largest is kept."""
    if path := os.environ.get(_FILE):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps([claim, numbers]) + "\n")


def read(path: Path) -> dict[str, dict[str, int]]:
    """What is noted in the file, by claim."""
    found: dict[str, dict[str, int]] = {}
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        claim, numbers = json.loads(line)
        noted = found.setdefault(claim, {})
        for name, number in numbers.items():
            before = noted.get(name, 0)
            noted[name] = max(before, number) if name.startswith("most_") else before + number
    return found
