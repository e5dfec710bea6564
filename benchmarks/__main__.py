"""`python -m benchmarks`: measure, write `benchmarks/results.json` and the tables in `docs/cost.md`.

`--smoke` runs a few rounds of everything and writes nothing: it shows that the benchmarks work and that the sides emit
the same. Its numbers are not to be trusted; a ratio that is more than twice what it may be, there and in a run of the
full length, makes it fail.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
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

_TRACELOOP = "traceloop-sdk==0.62.4"


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
    asked = parser.parse_args()
    unknown = set(asked.tables) - set(report.TABLES)
    if unknown:
        parser.error(f"there is no table {', '.join(sorted(unknown))}")
    without_steering()
    if asked.tables == ["peers"] and not asked.smoke and not peers.are_here():
        sys.exit(_among_neighbours(sys.argv[1:]))
    tables = asked.tables or [name for name in report.TABLES if name != "peers"]
    load, results, failed = report.load(), list[Result](), list[str]()
    for benchmark in _benchmarks(asked.project):
        if benchmark.table not in tables or asked.only not in benchmark.name:
            continue
        found = (benchmark.small() if asked.smoke else benchmark).run()
        if asked.smoke and report.far_off(found):
            found = benchmark.run()  # a few rounds say little: it is no failure before many say the same
            failed += report.far_off(found)
        for result in found:
            print(*report.lines(result), sep="\n", flush=True)
        results += found
    document = report.document(results, load)
    if asked.smoke or asked.only:
        for name, entries in document.items():
            report.table(name, entries)
    else:
        report.write(document)
    if failed:
        sys.exit("\n".join(("more than twice what it may take:", *failed)))


def _among_neighbours(arguments: Sequence[str]) -> int:
    """The same in an environment that has the others, which is made if need be; the exit code."""
    from dev import NEIGHBOURS

    # It brings some thirty instrumentations along, which the tests beside neighbours do without.
    among = replace(NEIGHBOURS, purpose="peers", pinned=(_TRACELOOP,))
    among.prepare()
    return among.run("-m", "benchmarks", *arguments)


def _benchmarks(given: Path | None) -> Sequence[Benchmark]:
    project = served.Project(given)
    return [
        *calls.MATRIX,
        pieces.Pieces(),
        *latency.benchmarks(project),
        *memory.MATRIX,
        *processes.IMPORTS,
        *processes.starts(project),
        *contract.MATRIX,
        *looks.MATRIX,
        *questions.MATRIX,
        *peers.benchmarks(project),
    ]


if __name__ == "__main__":
    main()
