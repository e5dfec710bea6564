"""What is claimed of the recorders, the tests that show it, and how docs/soundness.md says what they counted."""

from __future__ import annotations

import json
import os
import platform
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
COUNTS = HERE / "counts.json"
PAGE = HERE.parents[1] / "docs" / "soundness.md"
BEGIN, END = "<!-- begin: python3 dev.py soundness -->", "<!-- end -->"


@dataclass(frozen=True)
class Claim:
    """A sentence; the tests that show it, as `file` or `file::function`; what they counted, as a format."""

    says: str
    tests: tuple[str, ...]
    counted: str = ""


CLAIMS: dict[str, Claim] = {
    "equal": Claim(
        "Calls from four threads at once (nested, raising, awaited, generators, with foreign spans around and "
        "inside), while somebody collects: both recorders make the spans that OpenTelemetry by hand makes, and every "
        "reader receives the same points: periodic and asked for, delta and cumulative, in memory, Prometheus, "
        "exponential histograms",
        (
            "test_equal::test_the_same_spans_are_made",
            "test_equal::test_what_was_current_inside_of_a_call_is_what_is_exported_of_it",
            "test_equal::test_every_reader_receives_the_same_points",
            "test_equal::test_the_sdks_own_reader_in_memory_receives_the_same_points",
            "test_equal::test_prometheus_scrapes_the_same_numbers",
            "test_equal::test_a_reader_that_prefers_exponential_histograms_receives_them",
            "test_equal::test_a_value_at_the_edge_of_a_bucket_is_in_the_bucket_in_which_the_sdk_has_it",
            "test_equal::test_the_points_are_those_that_the_conventions_derive_from_the_spans",
            "test_equal::test_through_the_content_guard_the_spans_are_the_same",
        ),
        "{calls:,} calls, {spans:,} spans, {series:,} series, {collections:,} collections",
    ),
    "exemplars": Claim(
        "No exemplar points at a wrong span",
        ("test_equal::test_exemplars_never_point_at_a_wrong_span", "test_exemplars"),
        "{exemplars:,} pairs of a series and a span; the value of {alone:,} is no other span's",
    ),
    "environment": Claim(
        "It ran on the OpenTelemetry that the environment is for: the oldest that is declared in one, a newer in the "
        "other",
        ("test_environment",),
    ),
    "sharp": Claim(
        "The comparisons notice what they are for: a span lost, twice, under another parent; a measurement lost, in "
        "the wrong bucket; an exemplar at another span of its bucket",
        ("test_sharp",),
    ),
    "samplers": Claim(
        "Samplers decide about spans and never about metrics; what a dropped call hands on is what the SDK hands on",
        (
            "test_equal::test_a_sampler_decides_about_spans_and_never_about_metrics",
            "test_samplers",
            "test_sampled_out",
        ),
    ),
    "limits": Claim(
        "Limits of spans are the SDK's and touch no metric",
        ("test_equal::test_limits_of_spans_are_the_sdks_and_touch_no_metric",),
    ),
    "processors": Claim(
        "A span processor of somebody else's sees each span begin and end as with the SDK, whenever it comes",
        (
            "test_equal::test_a_foreign_processor_sees_each_span_begin_and_end_as_with_the_sdk",
            "test_equal::test_a_processor_that_comes_late_sees_what_begins_after_it",
            "test_equal::test_a_processor_that_came_in_the_middle_of_a_call_sees_it_end",
        ),
    ),
    "foreign": Claim(
        "Foreign code may do with the current span what it may do with the SDK's",
        (
            "test_equal::test_foreign_code_reads_the_current_span_as_it_would_the_sdks",
            "test_equal::test_a_span_that_foreign_code_ends_is_ended_and_its_call_is_counted",
            "test_edges",
        ),
    ),
    "ends": Claim(
        "Nothing is lost at the end, `sys.exit`, an exception, SIGTERM, SIGINT, in `atexit`, or after a flush, "
        "whatever comes then",
        ("test_ends::test_nothing_is_lost_at_an_end_that_can_be_seen_coming",),
        "{ends} ends of {calls:,} calls",
    ),
    "kills": Claim(
        "At SIGKILL and `os._exit` the spans of the last second are lost at most, and what metrics counted since "
        "their last export: by default, to a real OTLP/HTTP endpoint, and where a host exports as often",
        (
            "test_ends::test_an_end_that_nothing_helps_against_costs_what_the_hosts_providers_have_kept_and_nothing_besides",
            "test_ends::test_by_default_such_an_end_costs_a_second_of_spans_and_an_interval_of_metrics",
        ),
        "{ends} ends, {calls:,} calls that had ended a second before",
    ),
    "forks": Claim(
        "A child that is forked at any moment (of a call, a collection, a request to a real OTLP/HTTP endpoint) does "
        "not hang and exports what it recorded and nothing of its parent's, which loses nothing",
        ("test_fork",),
        "{forks} forks, {in_a_request} of them in a request; {hung} children hung",
    ),
    "queue": Claim(
        "No queue is longer than its bound, but for one entry of each thread that calls, and a full one makes nobody "
        "wait and loses nothing in silence: it is recorded at once, or counted as dropped",
        ("test_queue",),
        "{calls:,} calls in bursts, {most_waiting:,} waiting at most (bound: {most_allowed:,}), "
        "{recorded_at_once:,} recorded at once, {dropped:,} counted as dropped",
    ),
    "first": Claim(
        "Threads whose first calls come at once count together; providers may come late, be named later, and be used "
        "again",
        (
            "test_first_calls",
            "test_equal::test_a_host_whose_metrics_come_late_and_are_named_later_still_counts_every_call",
            "test_equal::test_a_recorder_that_is_replaced_loses_nothing_and_counts_nothing_twice",
            "test_equal::test_a_second_recorder_on_the_same_providers_counts_on",
        ),
    ),
}


def shows(test: str, ran: str) -> bool:
    """Whether a test that ran, as ``file::function``, is one of those that ``test`` names."""
    return ran == test or ran.partition("::")[0] == test


def document(passed: Mapping[str, int], numbers: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """All that a run counted: ``passed`` cases by test, and the ``numbers`` of `report`."""
    return {
        "where": {
            "opentelemetry-sdk": version("opentelemetry-sdk"),
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
            "cores": os.cpu_count(),
            "date": datetime.now(timezone.utc).date().isoformat(),
        },
        "claims": {
            key: {
                "passed": {each: _cases(each, passed) for each in claim.tests},
                "numbers": dict(numbers.get(key, {})),
            }
            for key, claim in CLAIMS.items()
        },
    }


def _cases(test: str, passed: Mapping[str, int]) -> int:
    return sum(cases for ran, cases in passed.items() if shows(test, ran))


def table(found: Mapping[str, Any]) -> str:
    """What a run counted as a table in Markdown; a claim of which a test did not run, or pass, is not shown."""
    lines = ["| claim | shown by, in `tests/soundness` | counted |", "|---|---|---|"]
    for key, claim in CLAIMS.items():
        entry = found["claims"].get(key, {"passed": {}, "numbers": {}})
        cases = [entry["passed"].get(test, 0) for test in claim.tests]
        counted = (
            [claim.counted.format_map(defaultdict(int, entry["numbers"]))]
            if claim.counted and all(cases)
            else []
        )
        said = "; ".join([*counted, f"{sum(cases)} cases"]) if all(cases) else "**not shown**"
        tests = ", ".join(f"`{re.sub('.*::', '', test)}`" for test in claim.tests)
        lines.append(f"| {claim.says} | {tests} | {said} |")
    where = found["where"]
    lines += [
        "",
        f"{where['date']}, opentelemetry-sdk {where['opentelemetry-sdk']}, Python {where['python']}, "
        f"{where['system']}, {where['cores']} cores.",
    ]
    return "\n".join(lines)


def read() -> dict[str, Any]:
    """What the last run counted."""
    found: dict[str, Any] = json.loads(COUNTS.read_text("utf-8"))
    return found


def write(found: Mapping[str, Any]) -> None:
    """Keep what was counted, and put its table into the page."""
    COUNTS.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{table(found)}\n{END}{rest.partition(END)[2]}", "utf-8")
