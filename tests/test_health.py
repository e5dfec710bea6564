"""What healthy means: each indicator, and that unknown is a state of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from otlp_files import Call, Inner, Process, age, healthy, not_there, payload, substituted, write_troubled

from context_telemetry.conventions import names
from context_telemetry.health import (
    INDICATORS,
    WHAT_TO_DO,
    Finding,
    Local,
    Sum,
    Verdict,
    evaluate,
    how,
    urgency,
    what_to_do,
)
from context_telemetry.health.sums import some
from context_telemetry.history import History
from context_telemetry.limits import Limits, Objectives

NOW = 1_795_500_000.0


def verdict(folder: Path, limits: Limits | None = None) -> Verdict:
    return evaluate(Local(History(folder, since=NOW - 3600), NOW), limits or Limits())


def state(found: Verdict, indicator: str) -> str:
    states = {finding.state for finding in found.findings if finding.indicator.name == indicator}
    assert len(states) == 1, states
    return states.pop()


def of(found: Verdict, indicator: str) -> Finding:
    (finding,) = [finding for finding in found.findings if finding.indicator.name == indicator]
    return finding


def recorded(
    folder: Path, *calls: Call, absent: int = 0, failed: int = 0, dropped: int = 0, errors: int = 0
) -> Path:
    process = Process(folder, now=NOW)
    for call in calls:
        process.call(call)
    process.state(absent=absent, failed=failed, dropped=dropped, errors=errors)
    process.flush()
    return folder


def test_no_traffic_is_unknown_and_not_healthy(tmp_path: Path) -> None:
    found = verdict(tmp_path)
    assert found.state == "unknown"
    assert {finding.state for finding in found.findings} == {"unknown"}
    assert found.reason.startswith("telemetry_silent")


def test_traffic_before_the_window_is_unknown(tmp_path: Path) -> None:
    assert verdict(recorded(tmp_path, healthy(7200.0))).state == "unknown"


def test_healthy_traffic_is_healthy_on_every_indicator(tmp_path: Path) -> None:
    found = verdict(recorded(tmp_path, *(healthy(60.0 + n) for n in range(20))))
    assert found.state == "healthy"
    assert {finding.state for finding in found.findings if finding.indicator.required} == {"healthy"}
    assert not found.of("unhealthy")


def test_traffic_without_a_state_of_its_process_is_unknown(tmp_path: Path) -> None:
    process = Process(tmp_path, now=NOW)
    process.call(healthy(60.0))
    process.flush()
    found = verdict(tmp_path)
    assert found.state == "unknown"
    assert state(found, "hooks_lost") == "unknown"


def test_one_degraded_call_in_little_traffic_is_unhealthy(tmp_path: Path) -> None:
    found = verdict(recorded(tmp_path, substituted(60.0), *(healthy(60.0 + n) for n in range(20))))
    assert found.state == "unhealthy"
    assert state(found, "degraded_ratio") == "unhealthy"
    assert state(found, "failed_ratio") == "healthy"


def test_degraded_calls_within_the_objective_are_healthy(tmp_path: Path) -> None:
    folder = recorded(tmp_path, substituted(60.0), *(healthy(60.0 + n) for n in range(20)))
    assert verdict(folder, Limits(objectives=Objectives(degraded_ratio=0.1))).state == "healthy"
    assert verdict(folder, Limits(objectives=Objectives(degraded_minimum=2))).state == "healthy"


def test_a_degradation_that_left_the_window_is_over(tmp_path: Path) -> None:
    assert verdict(recorded(tmp_path, substituted(3700.0), healthy(60.0))).state == "healthy"


def test_failures_count_from_the_minimum_of_the_objective_on(tmp_path: Path) -> None:
    fail = Call(outcome="failed", attributes={"error.type": "tool_error"})
    few = verdict(recorded(tmp_path / "few", *[fail] * 9, *[healthy(60.0)] * 9))
    assert (state(few, "failed_ratio"), few.state) == ("healthy", "healthy")
    assert state(verdict(recorded(tmp_path / "many", *[fail] * 10)), "failed_ratio") == "unhealthy"


def test_wrong_names_in_a_few_queries_of_an_agent_are_no_outage(tmp_path: Path) -> None:
    wrong = Call(
        outcome="failed",
        attributes={names.ERROR_TYPE: "tool_error", names.DATAFACE_CATALOG_UNRESOLVED: 1},
    )
    few = verdict(recorded(tmp_path / "few", wrong, *[healthy(60.0)] * 3))
    assert few.state == state(few, "resolution_failures") == "healthy"
    many = verdict(recorded(tmp_path / "many", *[wrong] * 10))
    assert state(many, "resolution_failures") == "unhealthy"


def test_each_surface_is_judged_by_itself(tmp_path: Path) -> None:
    folder = recorded(tmp_path, substituted(60.0), *[Call(surface="dashboard")] * 500)
    found = {f.surface: f.state for f in verdict(folder).findings if f.indicator.name == "degraded_ratio"}
    assert found == {"mcp": "unhealthy", "dashboard": "healthy"}


def test_an_age_without_a_promise_is_a_number_and_not_a_fault(tmp_path: Path) -> None:
    old = Call(attributes=age(9e9))
    assert state(verdict(recorded(tmp_path / "free", old)), "manifest_stale") == "healthy"
    moved = Call(attributes=age(10.0), outcome="degraded", reasons=("manifest_stale",))
    assert state(verdict(recorded(tmp_path / "moved", moved)), "manifest_stale") == "unhealthy"


def test_a_payload_over_its_limit_is_unhealthy(tmp_path: Path) -> None:
    large = Call(attributes=payload(100_001), outcome="degraded", reasons=("payload_over_budget",))
    assert state(verdict(recorded(tmp_path, large)), "payload_over_budget") == "unhealthy"


@pytest.mark.parametrize(
    ("told", "indicator"),
    [
        ({"absent": 1}, "hooks_lost"),
        ({"failed": 1}, "hooks_lost"),
        ({"dropped": 5}, "telemetry_dropped"),
        ({"errors": 1}, "telemetry_errors"),
    ],
)
def test_a_flaw_of_the_observation_itself_is_unhealthy(
    tmp_path: Path, told: dict[str, int], indicator: str
) -> None:
    found = verdict(recorded(tmp_path, healthy(60.0), **told))
    assert found.state == "unhealthy"
    assert state(found, indicator) == "unhealthy"


def test_a_wrong_setting_is_told_from_an_error_and_names_who_said_which(tmp_path: Path) -> None:
    process = Process(tmp_path, pid=77, now=NOW)
    process.call(healthy(60.0))
    process.state(errors=1, places={"settings": 1})
    process.flush()
    found = verdict(tmp_path)
    assert state(found, "telemetry_errors") == "healthy"
    assert found.reason == "settings_wrong: a setting is wrong, and not in effect"
    assert of(found, "settings_wrong").detail == "restart process 77, see its stderr"


def test_a_wrong_setting_lasts_as_long_as_a_process_runs_without_it(tmp_path: Path) -> None:
    for pid in (77, 78):
        process = Process(tmp_path, pid=pid, now=NOW)
        process.call(healthy(60.0))
        process.state(errors=1, places={"settings": 1}, ago=50.0)
        process.flush()
    assert of(verdict(tmp_path), "settings_wrong").value == 2.0
    Process(tmp_path, pid=77, now=NOW).state(phase="ended", errors=1, places={"settings": 1}, ago=40.0)
    one = of(verdict(tmp_path), "settings_wrong")
    assert (one.value, one.detail) == (1.0, "restart process 78, see its stderr")
    Process(tmp_path, pid=78, now=NOW).state(phase="ended", errors=1, places={"settings": 1}, ago=30.0)
    over = verdict(tmp_path)
    assert (state(over, "settings_wrong"), over.state) == ("healthy", "healthy")


def test_hooks_that_a_process_lacked_count_in_its_window_after_its_end(tmp_path: Path) -> None:
    process = Process(tmp_path, now=NOW)
    process.call(healthy(60.0))
    process.state(phase="ended", failed=1, ago=30.0)
    process.flush()
    assert state(verdict(tmp_path), "hooks_lost") == "unhealthy"


def lost(process: Process, count: int, *changes: tuple[str, str], ago: float = 60.0) -> None:
    """What a process says of descriptions: how many are gone, then of which objects that begins or clears."""
    process.event(names.EVENT_DATAFACE_ENRICHMENT_CHANGED, {names.DATAFACE_ENRICHMENT_LOST: count}, ago=ago)
    for what, phase in changes:
        process.event(
            names.EVENT_DATAFACE_DEGRADATION,
            {
                names.DATAFACE_DEGRADATION_REASON: "enrichment_lost",
                names.DATAFACE_DEGRADATION_STATE: phase,
                names.DATAFACE_DEGRADATION_OBJECT: what,
            },
            ago=ago,
        )
    process.flush()


def test_the_models_that_lost_their_descriptions_are_those_of_the_process_that_counted_last(
    tmp_path: Path,
) -> None:
    met = Call(outcome="degraded", reasons=("enrichment_lost",))
    first, second = (Process(tmp_path, pid=pid, now=NOW) for pid in (1, 2))
    first.call(met)
    began = [("dbt_manifest", "began"), ("query.execute", "began"), ("main.a", "began"), ("main.b", "began")]
    lost(first, 2, *began, ago=90.0)
    assert of(verdict(tmp_path), "enrichment_lost").detail == "main.a, main.b"
    lost(first, 1, ("main.a", "cleared"), ago=80.0)
    assert of(verdict(tmp_path), "enrichment_lost").detail == "main.b"
    # A process that began later and found nothing lost has the last word, though the first could not clear any more.
    lost(second, 0, ago=70.0)
    assert of(verdict(tmp_path), "enrichment_lost").detail == ""


def test_errors_say_in_which_part_and_process_they_were_caught(tmp_path: Path) -> None:
    for pid, places in ((77, {"export": 2, "hooks": 1}), (78, {"export": 1, "settings": 1}), (79, {})):
        process = Process(tmp_path, pid=pid, now=NOW)
        process.call(healthy(60.0))
        process.state(errors=sum(places.values()), places=places)
        process.flush()
    errors = of(verdict(tmp_path), "telemetry_errors")
    assert (errors.value, errors.detail) == (4.0, "hooks 1, export 3 in processes 77, 78")


def opened(ago: float, *, outcome: str = "ok") -> tuple[Call, Call]:
    """A client that connects and reads the list of tools."""
    wrong = {"error.type": "-32602"} if outcome == "failed" else {}
    return (
        Call(ago=ago, operation="mcp.initialize", method="initialize", outcome=outcome, attributes=wrong),
        Call(ago=ago, operation="mcp.list", method="tools/list", attributes=payload(16_000, "tool_list")),
    )


def test_where_most_of_what_was_asked_for_failed_the_whole_is_unknown_however_few_they_are(
    tmp_path: Path,
) -> None:
    fail = Call(outcome="failed", attributes={"error.type": "tool_error"})
    for name, bad, good, told in (
        ("all", 3, 0, "unknown"),
        ("most", 3, 2, "unknown"),
        ("half", 3, 3, "healthy"),
        ("many", 10, 0, "unhealthy"),
    ):
        # That clients connect is no sign of health: it does not thin what they met then.
        calls = [*[fail] * bad, *[healthy(60.0)] * good, *opened(70.0), *opened(70.0), *opened(70.0)]
        found = verdict(recorded(tmp_path / name, *calls))
        assert (found.state, state(found, "failed_ratio")) == (told, told), name
    found = verdict(tmp_path / "all")
    assert found.reason == (
        "failed_ratio: calls end in errors; 3 are too few to judge by, but most of what was asked for went wrong"
    )
    assert of(found, "failed_ratio").too_few


def test_a_surface_of_failures_is_unknown_beside_one_that_is_well(tmp_path: Path) -> None:
    fail = Call(surface="dashboard", outcome="failed", attributes={"error.type": "500"})
    for count, told in ((1, "healthy"), (2, "healthy"), (3, "unknown")):
        found = verdict(recorded(tmp_path / str(count), *[fail] * count, *[healthy(60.0)] * 50))
        states = {
            each.surface: each.state for each in found.findings if each.indicator.name == "failed_ratio"
        }
        assert (found.state, states) == (told, {"mcp": "healthy", "dashboard": told})
    assert verdict(recorded(tmp_path / "alone", fail)).state == "unknown"


def test_clients_that_connect_and_ask_for_nothing_leave_nothing_to_judge(tmp_path: Path) -> None:
    found = verdict(recorded(tmp_path / "connects", *opened(60.0)))
    assert (found.state, found.reason) == (
        "unknown",
        "telemetry_silent: nothing is known: 2 calls to connect, none that asks for anything",
    )
    assert state(found, "degraded_ratio") == "unknown"
    assert verdict(recorded(tmp_path / "asks", *opened(60.0), healthy(50.0))).state == "healthy"
    refused = verdict(recorded(tmp_path / "refused", *opened(60.0, outcome="failed")))
    assert (refused.state, state(refused, "failed_ratio")) == ("unknown", "unknown")
    # One that connects on one surface takes nothing from another that serves.
    pages = [Call(surface="dashboard", operation="page.serve")] * 3
    assert verdict(recorded(tmp_path / "pages", *opened(60.0), *pages)).state == "healthy"


def test_the_row_of_answers_from_the_past_names_the_reasons_that_it_counts(tmp_path: Path) -> None:
    past = [
        Call(outcome="degraded", reasons=("handle_outlived_file",)),
        Call(outcome="degraded", reasons=("handle_outlived_file", "failure_cached")),
        Call(outcome="degraded", reasons=("source_substituted",)),
    ]
    found = of(verdict(recorded(tmp_path, *past, healthy(60.0))), "result_stale")
    assert (found.state, found.detail) == ("unhealthy", "handle_outlived_file 2, failure_cached 1")


def test_one_mistyped_page_address_is_no_alarm_and_many_are(tmp_path: Path) -> None:
    page = Call(surface="dashboard", operation="page.serve")
    one = verdict(recorded(tmp_path / "one", not_there(60.0), page, healthy(60.0)))
    assert one.state == "healthy"
    alone = verdict(recorded(tmp_path / "alone", not_there(60.0), not_there(60.0)))
    assert alone.state == "unknown"  # no page was served that could be called well
    beside = verdict(recorded(tmp_path / "beside", not_there(60.0), not_there(60.0), healthy(60.0)))
    assert beside.state == "healthy"
    assert {finding.detail for finding in one.findings if finding.indicator.name == "degraded_ratio"} == {""}
    many = verdict(recorded(tmp_path / "many", *[not_there(60.0)] * 10))
    assert state(many, "degraded_ratio") == "healthy"
    assert state(many, "resolution_failures") == "unhealthy"


def test_a_resource_that_is_answered_with_an_error_as_its_content_stays_an_alarm(tmp_path: Path) -> None:
    unknown = Call(
        operation="resource.read",
        method="resources/read",
        outcome="degraded",
        reasons=("resource_unknown",),
    )
    assert state(verdict(recorded(tmp_path, unknown)), "degraded_ratio") == "unhealthy"


def test_a_share_above_its_limit_of_too_few_says_that_they_are_too_few(tmp_path: Path) -> None:
    fail = Call(outcome="failed", attributes={"error.type": "tool_error"})
    few = of(verdict(recorded(tmp_path / "few", *[fail] * 9)), "failed_ratio")
    assert (few.too_few, few.bad, few.minimum) == (True, 9, 10)
    many = of(verdict(recorded(tmp_path / "many", *[fail] * 10)), "failed_ratio")
    assert not many.too_few
    assert not of(verdict(recorded(tmp_path / "none", healthy(60.0))), "failed_ratio").too_few


def test_states_of_processes_that_served_nothing_in_the_window_do_not_count(tmp_path: Path) -> None:
    gone = Process(tmp_path, pid=1, now=NOW)
    gone.state(failed=3, ago=9000.0)
    assert verdict(recorded(tmp_path, healthy(60.0))).state == "healthy"


def test_the_headline_is_the_worst_that_pages(tmp_path: Path) -> None:
    write_troubled(tmp_path, now=NOW)
    assert verdict(tmp_path).reason == "degraded_ratio: answers look right and are not, and 3 more indicators"


def test_every_reason_of_the_conventions_says_what_to_do() -> None:
    assert set(WHAT_TO_DO) == names.REASONS


def test_the_advice_names_the_processes_to_restart_and_the_file_that_accepts(tmp_path: Path) -> None:
    assert what_to_do("handle_outlived_file", [7]) == "file there? restart process 7"
    assert what_to_do("handle_outlived_file", [7, 8, 9, 10]) == (
        "file there? restart processes 7, 8, 9 and 1 more"
    )
    assert what_to_do("handle_outlived_file") == "file there? restart the process"
    assert what_to_do("handle_outlived_file", [7, 8], ended=[7]) == "file there? restart process 8"
    assert what_to_do("handle_outlived_file", [7], ended=[7]) == "nothing: the process has ended"
    assert what_to_do("manifest_stale", [7], ended=[7]) == "run `dbt parse`: models moved"
    assert "put it back first" in how("handle_outlived_file", tmp_path)
    assert how("enrichment_lost", tmp_path).endswith(f"delete {tmp_path / 'enrichment.json'}")
    assert not how("manifest_missing", tmp_path)


def test_what_one_repair_ends_is_more_urgent_than_what_is_to_be_looked_into() -> None:
    assert urgency("manifest_missing") < urgency("manifest_stale") < urgency("charts_failed")
    assert urgency("tool_error") < urgency("resource_unknown")


def test_every_reason_that_denies_what_an_indicator_says_exists() -> None:
    for indicator in INDICATORS:
        assert indicator.denied_by <= names.REASONS
        assert indicator.reasons <= names.REASONS
        assert not indicator.denied_by & indicator.reasons


def test_every_objective_that_an_indicator_names_exists() -> None:
    fields = Objectives.model_fields
    for indicator in INDICATORS:
        assert {indicator.limit, indicator.minimum} - {None} <= set(fields)
        assert (indicator.kind in ("ratio", "age")) == (indicator.limit is not None)
    assert len({indicator.name for indicator in INDICATORS}) == len(INDICATORS)


def test_one_payload_in_twenty_may_be_large_and_more_are_a_ticket(tmp_path: Path) -> None:
    large, small = Call(attributes=payload(100_001, limit=1_000_000)), Call(attributes=payload(100_000))
    few = of(verdict(recorded(tmp_path / "few", *[large] * 10, *[small] * 190)), "payload_p95")
    assert (few.state, few.bad, few.count) == ("healthy", 10, 200)
    assert (
        of(verdict(recorded(tmp_path / "more", *[large] * 11, *[small] * 189)), "payload_p95").state
        == "unhealthy"
    )


def test_context_that_is_built_slowly_is_told_from_a_slow_call_around_it(tmp_path: Path) -> None:
    slow = Call(seconds=30.0, inner=(Inner("catalog.resolve", {}, seconds=5.1),))
    around = Call(seconds=30.0, inner=(Inner("catalog.resolve", {}, seconds=5.0),))
    assert state(verdict(recorded(tmp_path / "slow", *[slow] * 10)), "context_latency") == "unhealthy"
    assert state(verdict(recorded(tmp_path / "around", *[around] * 10)), "context_latency") == "healthy"


def test_an_artefact_that_nobody_builds_any_more_is_a_ticket_whoever_serves(tmp_path: Path) -> None:
    process = Process(tmp_path, now=NOW)
    process.call(healthy(60.0))
    built = {"dataface.artifact": "dbt_manifest", "dataface.artifact.state": "ok"}
    process.event(
        "dataface.artifact.changed", {**built, "dataface.artifact.built_at": NOW - 2_592_001.0}, ago=86_400.0
    )
    process.flush()
    old = of(verdict(tmp_path), "artifact_age")
    assert (old.state, old.detail) == ("unhealthy", "oldest 30 d")
    process.event("dataface.artifact.changed", {**built, "dataface.artifact.built_at": NOW - 60.0}, ago=50.0)
    process.flush()
    assert state(verdict(tmp_path), "artifact_age") == "healthy"


def compared(
    process: Process, breaking: int | None, ago: float = 60.0, warning: int = 0, part: str = "tables"
) -> None:
    """What a comparison with the contract says; without one that can be read, nothing of what is open."""
    said: dict[str, int | str] = {names.DATAFACE_CONTRACT_PART: part}
    if breaking is not None:
        said[names.DATAFACE_CONTRACT_OPEN_BREAKING] = breaking
        said[names.DATAFACE_CONTRACT_OPEN_WARNING] = warning
        said[names.DATAFACE_CONTRACT_OPEN_INFO] = 0
    process.event(names.EVENT_DATAFACE_CONTRACT_COMPARED, said, ago=ago)


def changed(process: Process, what: str, state: str, ago: float = 60.0, level: str = "breaking") -> None:
    process.event(
        names.EVENT_DATAFACE_CONTRACT_CHANGED,
        {
            names.DATAFACE_CONTRACT_RULE: "column_removed",
            names.DATAFACE_CONTRACT_LEVEL: level,
            names.DATAFACE_CONTRACT_OBJECT: what,
            names.DATAFACE_CONTRACT_STATE: state,
            names.DATAFACE_DEGRADATION_REASON: "contract_broken",
            names.DATAFACE_CONTRACT_CONSUMERS: 1,
        },
        ago=ago,
    )


def server(folder: Path, pid: int = 1) -> Process:
    process = Process(folder, pid=pid, now=NOW)
    process.call(healthy(60.0))
    process.state()
    process.flush()
    return process


def test_without_a_contract_nothing_is_known_of_it_and_the_whole_is_healthy(tmp_path: Path) -> None:
    process = server(tmp_path)
    assert state(verdict(tmp_path), "contract_open") == "unknown"
    compared(process, None)
    process.flush()
    found = verdict(tmp_path)
    assert (state(found, "contract_open"), found.state) == ("unknown", "healthy")


def test_one_breaking_change_is_unhealthy_and_pages(tmp_path: Path) -> None:
    process = server(tmp_path)
    compared(process, 1, warning=7)
    process.flush()
    found = verdict(tmp_path)
    assert found.reason == "contract_open: what consumers rely on has changed and nobody accepted it"
    assert (of(found, "contract_open").value, of(found, "contract_open").surface) == (1.0, "*")


def test_changes_that_break_nothing_are_healthy(tmp_path: Path) -> None:
    process = server(tmp_path)
    compared(process, 0, warning=7)
    process.flush()
    assert state(verdict(tmp_path), "contract_open") == "healthy"


def test_the_last_word_counts_whichever_process_says_it(tmp_path: Path) -> None:
    first, second = server(tmp_path, 1), server(tmp_path, 2)
    compared(first, 2, ago=120.0)
    compared(second, 0, ago=60.0)
    first.flush()
    second.flush()
    assert state(verdict(tmp_path), "contract_open") == "healthy"
    compared(second, 1, ago=30.0)
    second.flush()
    assert of(verdict(tmp_path), "contract_open").value == 1.0


def test_a_process_that_compares_tables_alone_clears_nothing_of_tools(tmp_path: Path) -> None:
    """A check asks the MCP server for its tools, a server that serves does not."""
    checks, serves = server(tmp_path, 1), server(tmp_path, 2)
    compared(checks, 1, ago=120.0)
    compared(checks, 2, ago=120.0, part="tools")
    checks.flush()
    assert of(verdict(tmp_path), "contract_open").value == 3.0
    compared(serves, 0, ago=60.0)
    serves.flush()
    assert of(verdict(tmp_path), "contract_open").value == 2.0
    compared(checks, 0, ago=30.0, part="tools")
    checks.flush()
    assert state(verdict(tmp_path), "contract_open") == "healthy"


def test_what_was_said_of_a_contract_holds_for_a_day_and_is_then_not_known(tmp_path: Path) -> None:
    process = server(tmp_path / "today")
    compared(process, 2, ago=86_000.0)
    process.flush()
    assert state(verdict(tmp_path / "today"), "contract_open") == "unhealthy"
    process = server(tmp_path / "yesterday")
    compared(process, 2, ago=87_000.0)
    process.flush()
    assert state(verdict(tmp_path / "yesterday"), "contract_open") == "unknown"


def test_what_is_open_is_named_where_all_of_it_was_told(tmp_path: Path) -> None:
    process = server(tmp_path)
    compared(process, 1)
    changed(process, "shop.main.fct_orders.status", "opened", ago=62.0)
    changed(process, "shop.main.fct_orders.amount", "opened", ago=62.0)
    changed(process, "shop.main.fct_orders.note", "opened", ago=62.0, level="warning")
    changed(process, "shop.main.fct_orders.amount", "closed", ago=61.0)
    process.flush()
    assert of(verdict(tmp_path), "contract_open").detail == "shop.main.fct_orders.status"
    compared(process, 0, ago=30.0)  # it was closed in a process that told nothing of it
    process.flush()
    assert of(verdict(tmp_path), "contract_open").detail == ""


def named(process: Process, name: str, count: int, surface: str = "mcp", ago: float = 60.0) -> None:
    process.event(
        names.EVENT_DATAFACE_REFERENCE_UNKNOWN,
        {
            names.DATAFACE_SURFACE: surface,
            names.DATAFACE_CATALOG_SOURCE: "shop",
            names.DATAFACE_CATALOG_SOURCE_CONFIGURED: True,
            names.DATAFACE_REFERENCE_NAME: name,
            names.DATAFACE_REFERENCE_COUNT: count,
        },
        ago=ago,
    )


def test_names_that_are_not_there_are_counted_on_the_surface_that_asked_for_them(tmp_path: Path) -> None:
    process = server(tmp_path)
    process.call(Call(surface="dashboard"))
    named(process, "main.fct_order", 7)
    named(process, "main.orders", 2)
    named(process, "main.fct_order", 3)
    named(process, "main.fct_order", 99, ago=4000.0)  # before the window
    process.flush()
    found = {f.surface: f for f in verdict(tmp_path).findings if f.indicator.name == "unknown_references"}
    assert (found["mcp"].state, found["mcp"].bad, found["mcp"].detail) == (
        "unhealthy",
        12,
        "main.fct_order 10, main.orders 2",
    )
    assert (found["dashboard"].state, found["dashboard"].bad) == ("healthy", 0)


def test_a_few_names_that_an_agent_guesses_are_no_fault(tmp_path: Path) -> None:
    process = server(tmp_path)
    named(process, "main.fct_order", 9)
    process.flush()
    finding = of(verdict(tmp_path), "unknown_references")
    assert (finding.state, finding.too_few) == ("healthy", True)


def test_a_check_is_nobody_s_call(tmp_path: Path) -> None:
    check = checked("degraded")
    alone = verdict(recorded(tmp_path / "alone", *[check] * 60))
    assert (state(alone, "telemetry_silent"), state(alone, "degraded_ratio")) == ("unknown", "unknown")
    well = verdict(recorded(tmp_path / "well", *[checked("ok")] * 60))
    assert well.reason.startswith("telemetry_silent")
    beside = verdict(recorded(tmp_path / "beside", *[check] * 60, Call(surface="cli")))
    (degraded,) = [each for each in beside.findings if each.indicator.name == "degraded_ratio"]
    assert (degraded.surface, degraded.count, degraded.state) == ("cli", 1, "healthy")


def checked(outcome: str, ago: float = 60.0) -> Call:
    reasons = ("layer_unavailable",) if outcome == "degraded" else ()
    return Call(ago=ago, operation="check.run", method="", surface="cli", outcome=outcome, reasons=reasons)


@pytest.mark.parametrize("outcome", ["degraded", "failed"])
def test_a_check_that_is_not_well_is_a_ticket_also_where_nobody_calls(tmp_path: Path, outcome: str) -> None:
    found = verdict(recorded(tmp_path, checked(outcome, 30.0), checked("ok")))
    finding = of(found, "checks_failing")
    assert (finding.bad, finding.count, finding.state) == (1, 2, "unhealthy")
    assert found.reason.startswith("checks_failing: checks keep finding something")


def test_where_no_check_runs_or_all_are_well_nothing_is_said_of_them(tmp_path: Path) -> None:
    bad = Call(surface="cli", outcome="degraded", reasons=("object_unknown",))
    calls = verdict(recorded(tmp_path / "calls", bad, bad))
    assert state(calls, "checks_failing") == "unknown"
    assert calls.reason.startswith("degraded_ratio")
    well = verdict(recorded(tmp_path / "well", checked("ok"), checked("ok")))
    assert state(well, "checks_failing") == "healthy"


def test_what_checks_find_is_a_share_of_calls_and_checks(tmp_path: Path) -> None:
    """Six bad ones of one call would be 600 %."""
    check = Call(
        operation="check.run", method="", surface="cli", outcome="degraded", reasons=("manifest_stale",)
    )
    found = verdict(recorded(tmp_path, *[check] * 6, Call(operation="command.run", method="", surface="cli")))
    stale = of(found, "manifest_stale")
    assert (stale.surface, stale.bad, stale.count, stale.value) == ("cli", 6, 7, 6 / 7)
    assert (of(found, "degraded_ratio").bad, of(found, "degraded_ratio").count) == (0, 1)
    assert all(each.value <= 1 for each in found.findings if each.indicator.kind == "ratio" and each.value)


def test_errors_and_drops_of_before_the_window_are_over(tmp_path: Path) -> None:
    process = Process(tmp_path, now=NOW)
    process.call(healthy(60.0))
    process.state(errors=3, dropped=2, ago=4000.0)
    process.state(errors=0, ago=30.0, phase="changed")
    process.flush()
    assert verdict(tmp_path).state == "healthy"


def test_an_indicator_cannot_count_what_the_conventions_do_not_know() -> None:
    with pytest.raises(ValueError, match=r"there is no metric dataface\.calls"):
        Sum("dataface.calls")
    with pytest.raises(ValueError, match=r"has no label dataface\.face"):
        Sum("dataface.context.served", where={"dataface.face": frozenset({"a"})})
    with pytest.raises(
        ValueError, match=r"5000 is no boundary of dataface\.payload\.size; there are 256, 1024"
    ):
        Sum("dataface.payload.size", above=5000)


def test_a_word_that_two_labels_end_in_names_none_of_them() -> None:
    with pytest.raises(ValueError, match="more than one label that ends in name"):
        some("dataface.context.served", name="check.run")


def test_a_threshold_that_no_bucket_tells_is_refused() -> None:
    with pytest.raises(ValueError, match=r"is no boundary of dataface\.payload\.size"):
        Objectives(payload_size=100_001)
