"""Makes the tables in docs/cost.md from benchmarks/results.json, which `dev.py bench` writes; `--check` compares."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import report


def main() -> int:
    """0; with `--check` 1 where the page is not what the numbers give."""
    found = report.read()
    if "--check" not in sys.argv[1:]:
        report.write_page(found)
    elif report.page(found) != report.PAGE.read_text("utf-8"):
        print("docs/cost.md is not what benchmarks/results.json gives: run tools/generate_cost_tables.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
