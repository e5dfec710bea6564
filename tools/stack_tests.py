"""Runs tests/stack on the real Collector, Jaeger, Prometheus and Alertmanager: `python3 dev.py stack`.

All of it takes 20 minutes on two quiet cores and up to an hour on busy ones: 200 sessions, outages, kills, every
command of every page. That it has passed is kept in tests/stack/proven.json. `--core`, for CI, is the way of one fault,
and of one change that nobody asked for: from the configurations and the rules as shipped, over the derived numbers and
the verdict of two engines, to every panel and the page that the owner gets. With
`--if-changed`, what has passed on this very tree is not run again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from tools import proven
from tools.programs import StackError, program

PROOF = proven.ROOT / "tests" / "stack" / "proven.json"
# What the outcome depends on.
TESTED = (
    "src",
    "tests/stack",
    "tests/releases",
    ":(exclude,glob)tests/releases/test_*.py",
    ":(exclude)tests/releases/results.json",
    ":(glob)tests/*.py",
    ":(exclude,glob)tests/test_*.py",
    "tools",
    "pyproject.toml",
    "constraints.txt",
    "dev.py",
)
PARTS = ("collector", "jaeger", "prometheus", "alertmanager", "victoria")
CORE = (
    "tests/stack/test_page.py",
    "tests/stack/test_contract.py",
    "tests/stack/test_fleet.py",
    "tests/stack/test_dashboards.py",
    "tests/stack/test_alerts.py::test_promtool_accepts_the_rules_with_every_lint",
    "tests/stack/test_alerts.py::test_the_shipped_unit_tests_pass",
    "tests/stack/test_alerts.py::test_amtool_accepts_the_routes_and_finds_every_owners_receiver",
    "tests/stack/test_collector.py::test_every_shipped_configuration_is_valid_and_names_nothing_by_an_old_name",
    "tests/stack/test_collector.py::test_a_real_server_is_counted_as_the_conventions_count_its_spans",
    "tests/stack/test_collector.py::test_our_own_counters_are_dropped_and_those_of_others_pass_on",
    "tests/stack/test_collector.py::test_content_that_a_sender_left_in_does_not_get_through",
)


def main() -> int:
    """The exit code of pytest; 1 where a part cannot be had."""
    parser = argparse.ArgumentParser(prog="python3 dev.py stack", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--core", action="store_true", help="the core alone; keeps nothing")
    parser.add_argument("--if-changed", action="store_true", help="nothing, if all has passed on this tree")
    parser.add_argument("pytest", nargs="*", help="only these tests, or options of pytest; keeps nothing")
    asked, more = parser.parse_known_args()
    chosen = [*asked.pytest, *more, *(CORE if asked.core else ())]
    if proven.holds(PROOF, TESTED):
        print("stack: the whole of it has passed on this very tree", flush=True)
        if asked.if_changed:
            return 0
    else:
        print("stack: the whole of it has not passed on this very tree yet: python3 dev.py stack", flush=True)
    try:
        for part in PARTS:  # a test that waits for a build would be a test that hangs
            program(part)
    except StackError as error:
        print(f"stack: {error}", file=sys.stderr)
        return 1
    paths = chosen if any(each.startswith("tests/") for each in chosen) else ["tests/stack", *chosen]
    code = subprocess.call([sys.executable, "-m", "pytest", "-m", "stack", *paths], cwd=proven.ROOT)
    if code == 0 and not chosen:
        proven.keep(PROOF, TESTED)
    return code


if __name__ == "__main__":
    sys.exit(main())
