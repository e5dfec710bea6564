"""`python -m benchmarks`: measure, write `benchmarks/results.json` and the tables in `docs/cost.md`.

`--smoke` runs a few rounds of everything and writes nothing: it shows that the benchmarks work and that the sides emit
the same, and no more.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from benchmarks import (
    calls,
    contract,
    latency,
    looks,
    memory,
    peers,
    pieces,
    processes,
    questions,
    report,
    served,
)
from benchmarks.environment import without_steering
from benchmarks.measure import Result


class Benchmark(Protocol):
    """Something that is measured and belongs to a table. `small` is the same, quick and not to be trusted."""

    @property
    def name(self) -> str: ...

    @property
    def table(self) -> str: ...

    def small(self) -> Benchmark: ...

    def run(self) -> Sequence[Result]: ...


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What observing costs.")
    parser.add_argument(
        "tables",
        nargs="*",
        metavar="TABLE",
        help=f"any of {', '.join(report.TABLES)} (default: all but peers, which has an environment of its own)",
    )
    parser.add_argument("--smoke", action="store_true", help="two rounds of each; writes nothing")
    parser.add_argument(
        "--only", metavar="TEXT", default="", help="those with TEXT in their name; writes nothing"
    )
    parser.add_argument(
        "--project", type=Path, help="Dataface project that is served (default: makes one in ten seconds)"
    )
    parser.add_argument("--page", action="store_true", help="make the page's tables again, from results.json")
    asked = parser.parse_args()
    unknown = set(asked.tables) - set(report.TABLES)
    if unknown:
        parser.error(f"there is no table {', '.join(sorted(unknown))}")
    if asked.page:
        report.write_page(report.read())
        return
    without_steering()
    if asked.tables == ["peers"] and not asked.smoke and not peers.are_here():
        sys.exit(_among_neighbours(sys.argv[1:]))
    tables = asked.tables or [name for name in report.TABLES if name != "peers"]
    results: list[Result] = []
    for benchmark in _benchmarks(asked.project):
        if benchmark.table not in tables or asked.only not in benchmark.name:
            continue
        for result in (benchmark.small() if asked.smoke else benchmark).run():
            print(*report.lines(result), sep="\n", flush=True)
            results.append(result)
    document = report.document(results)
    if asked.smoke or asked.only:
        for name, found in document.items():
            report.table(name, found)
    else:
        report.write(document)


def _among_neighbours(arguments: Sequence[str]) -> int:
    """The same in the environment that has the others, which is made if need be; the exit code."""
    from dev import NEIGHBOURS

    NEIGHBOURS.prepare()
    return NEIGHBOURS.run("-m", "benchmarks", *arguments)


def _benchmarks(given: Path | None) -> Sequence[Benchmark]:
    project = served.Project(given)
    return [
        *calls.MATRIX,
        pieces.Pieces(),
        *latency.benchmarks(project),
        *memory.MATRIX,
        processes.Imports(),
        processes.Starts(project),
        *contract.MATRIX,
        *looks.MATRIX,
        *questions.MATRIX,
        *peers.benchmarks(project),
    ]


if __name__ == "__main__":
    main()
