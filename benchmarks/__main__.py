"""`python -m benchmarks`: run the matrix, write `benchmarks/results.json` and the table in `docs/cost.md`.

`--smoke` runs a few rounds of everything and writes nothing: it shows that the benchmarks work, and no more.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from benchmarks import calls, processes, report
from benchmarks.measure import Result

Benchmark = calls.Calls | processes.Imports | processes.Starts


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What observing costs.")
    parser.add_argument("--smoke", action="store_true", help="two rounds of each; writes nothing")
    parser.add_argument(
        "--only", metavar="TEXT", default="", help="those with TEXT in their name; writes nothing"
    )
    parser.add_argument(
        "--project", type=Path, help="Dataface project whose server starts (default: makes one)"
    )
    parser.add_argument("--table", action="store_true", help="make the page's table again, from results.json")
    asked = parser.parse_args()
    if asked.table:
        report.write_page(report.read())
        return
    benchmarks: list[Benchmark] = [
        *calls.MATRIX,
        processes.Imports(),
        processes.Starts(project=asked.project),
    ]
    results: list[Result] = []
    for benchmark in benchmarks:
        if asked.only not in benchmark.name:
            continue
        for result in (replace(benchmark, rounds=2) if asked.smoke else benchmark).run():
            print(report.line(result), flush=True)
            results.append(result)
    document = report.document(results)
    if asked.smoke or asked.only:
        report.table(document)
    else:
        report.write(document)


if __name__ == "__main__":
    main()
