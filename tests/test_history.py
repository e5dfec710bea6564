"""Reading local files back: what is counted, what is skipped, and that nothing is left behind."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from otlp_files import Call, Inner, Process, age, healthy, payload, substituted, write_spans, write_troubled

from context_telemetry.history import History, TraceNotFound

NOW = 1_795_500_000.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "shop [1] 'x'"


def test_a_folder_that_is_not_there_answers_every_question_with_nothing(tmp_path: Path) -> None:
    history = History(tmp_path / "none")
    answers = [history.served(), history.traffic(), history.reasons(), history.calls(), history.sizes()]
    answers += [history.objects_served()]
    answers += [
        history.ages(),
        history.durations(),
        history.unresolved(),
        history.processes(),
        history.events,
    ]
    assert not any(answers)
    assert not history.unreadable
    assert not history.cut_lines


def test_entries_are_counted_by_surface_client_operation_and_outcome(folder: Path) -> None:
    process = Process(folder, now=NOW)
    for ago in (30.0, 20.0):
        process.call(healthy(ago))
    process.call(substituted(10.0, client="codex"))
    process.flush()
    counted = {
        (row.surface, row.client, row.operation, row.outcome): row.count for row in History(folder).served()
    }
    assert counted == {
        ("mcp", "cursor", "tool.call", "ok"): 2,
        ("mcp", "codex", "tool.call", "degraded"): 1,
    }


def test_faces_count_by_trace_and_tools_by_call_within_the_window(folder: Path) -> None:
    process = Process(folder, now=NOW)
    face = {"dataface.face": "faces/orders.yml"}
    for ago in (7200.0, 30.0, 20.0):
        render = Inner("dashboard.render", face, children=(Inner("query.execute", face),))
        process.call(Call(ago=ago, tool="render_dashboard", attributes=face, inner=(render,)))
    process.call(Call(ago=10.0, tool="execute_query"))
    skipped = Inner("dashboard.search", {"dataface.face": "faces/broken.yml"})
    process.call(Call(ago=5.0, tool="search_dashboards", inner=(skipped,)))
    process.flush()
    served = {(row.kind, row.name): row.count for row in History(folder, since=NOW - 3600).objects_served()}
    assert served == {
        ("face", "faces/orders.yml"): 2,
        ("tool", "render_dashboard"): 2,
        ("tool", "execute_query"): 1,
        ("tool", "search_dashboards"): 1,
    }
    assert History(folder).objects_served()[0].count == 3


def test_a_reason_has_its_count_its_times_and_the_last_trace(folder: Path) -> None:
    process = Process(folder, now=NOW)
    process.call(substituted(50.0))
    last = process.call(substituted(10.0))
    process.flush()
    (reason,) = History(folder).reasons()
    assert (reason.reason, reason.surface, reason.count) == ("source_substituted", "mcp", 2)
    assert [reason.first, reason.last] == pytest.approx([NOW - 50, NOW - 10])
    assert (reason.trace_id, reason.pids) == (last, (4242,))


def test_what_checks_find_is_told_apart_from_what_calls_meet(folder: Path) -> None:
    assert History(folder).checks() is None
    process = Process(folder, now=NOW)
    process.call(substituted(50.0))
    check = partial(Call, operation="check.run", method="", surface="cli")
    process.call(check(ago=40.0, outcome="degraded", reasons=("schema_drift", "object_unknown")))
    last = process.call(check(ago=30.0, outcome="degraded", reasons=("schema_drift",)))
    process.call(check(ago=20.0))
    process.flush()
    history = History(folder)
    assert [each.reason for each in history.reasons()] == ["source_substituted"]
    seen = history.checks()
    assert seen is not None
    assert (seen.count, seen.not_ok, seen.reasons) == (3, 2, ("object_unknown", "schema_drift"))
    assert seen.last == pytest.approx(NOW - 20)
    assert seen.trace_id == last


def test_a_reason_has_the_processes_that_met_it_the_last_one_first(folder: Path) -> None:
    for pid, ago in ((11, 50.0), (12, 10.0), (13, 30.0)):
        process = Process(folder, pid=pid, now=NOW)
        process.call(substituted(ago))
        process.call(substituted(60.0))
        process.flush()
    (reason,) = History(folder).reasons()
    assert (reason.count, reason.pids) == (6, (12, 13, 11))


def test_what_ended_before_the_window_is_left_out_and_old_files_are_not_opened(folder: Path) -> None:
    process = Process(folder, now=NOW)
    process.call(healthy(7200.0))
    old = process.flush(1)
    os.utime(old, (NOW - 7200, NOW - 7200))
    process.call(healthy(5000.0))
    process.call(healthy(60.0))
    new = process.flush(2)
    os.utime(new, (NOW, NOW))
    history = History(folder, since=NOW - 3600)
    assert [call.time for call in history.calls()] == [pytest.approx(NOW - 60)]
    assert history.files.readable == (new,)
    assert history.files.older == 1


def test_cut_lines_are_counted_and_the_rest_of_their_file_is_read(folder: Path) -> None:
    process = Process(folder, now=NOW)
    process.call(healthy(30.0))
    path = process.flush()
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole + whole[: len(whole) // 2], encoding="utf-8")
    history = History(folder)
    assert history.cut_lines == {path.name: 1}
    assert len(history.calls()) == 1


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (bytes(range(256)), "binary, not JSON lines"),
        (b"name,size\n1,2\n", "not JSON lines"),
        (b"{broken\n{again\n", "no line of it is JSON"),
    ],
)
def test_a_file_that_is_no_json_is_named_and_skipped(folder: Path, content: bytes, why: str) -> None:
    process = Process(folder, now=NOW)
    process.call(healthy(30.0))
    process.flush()
    (folder / "traces-x.jsonl").write_bytes(content)
    history = History(folder)
    assert [(each.name, each.why) for each in history.unreadable] == [("traces-x.jsonl", why)]
    assert len(history.calls()) == 1


def test_a_file_that_cannot_be_opened_is_named_and_skipped(folder: Path) -> None:
    process = Process(folder, now=NOW)
    process.call(healthy(30.0))
    process.flush()
    # A folder under a file's name: what no permission can open, also for root, on every system.
    (folder / "traces-x.jsonl").mkdir()
    history = History(folder)
    assert [each.name for each in history.unreadable] == ["traces-x.jsonl"]
    assert len(history.calls()) == 1


def test_a_line_that_is_no_utf8_does_not_cost_its_file(folder: Path) -> None:
    process = Process(folder, now=NOW)
    process.call(healthy(30.0))
    path = process.flush()
    path.write_bytes(path.read_bytes() + b'{"resourceSpans": "\xff"}\n')
    assert len(History(folder).calls()) == 1


def test_only_our_scope_counts_and_other_scopes_show_in_the_trace(folder: Path) -> None:
    process = Process(folder, now=NOW)
    foreign = Inner("GET /", {"dataface.entry": True, "dataface.outcome": "failed"}, scope="other.scope")
    trace_id = process.call(Call(inner=(foreign,)))
    process.flush()
    history = History(folder)
    assert [call.outcome for call in history.calls()] == ["ok"]
    assert [span.scope for span in history.trace(trace_id)] == ["context_telemetry", "other.scope"]


def test_a_trace_is_found_by_what_is_unique_of_its_id(folder: Path) -> None:
    process = Process(folder, now=NOW)
    ids = [process.call(healthy(30.0 + number)) for number in range(40)]
    process.flush(batch=8)
    history = History(folder)
    spans = history.trace(ids[3][:12].upper())
    assert {span.trace_id for span in spans} == {ids[3]}
    assert [span.name for span in spans] == ["tools/call execute_query", "manifest.load", "query.execute"]
    assert spans[0].attributes["dataface.payload.size"] == 8625
    assert spans[1].attributes["dataface.catalog.layers"] == ("dbt_manifest",)
    assert spans[1].parent_id == spans[0].span_id
    with pytest.raises(TraceNotFound, match="traces begin with"):
        next(history.trace(digit) for digit in "0123456789abcdef" if sum(id_[0] == digit for id_ in ids) > 1)
    with pytest.raises(TraceNotFound, match="no trace"):
        history.trace("f" * 32)
    with pytest.raises(TraceNotFound, match="is no trace id"):
        history.trace("x' OR 1=1")


def test_sizes_ages_and_durations_are_spread_with_their_limits(folder: Path) -> None:
    process = Process(folder, now=NOW)
    for size in (100, 200, 150_000):
        process.call(
            Call(attributes=payload(size) | age(size / 10, limit=86_400.0), inner=(Inner("query.execute"),))
        )
    process.flush()
    history = History(folder)
    (sizes,) = history.sizes()
    assert (sizes.name, sizes.count, sizes.p50, sizes.largest, sizes.limit, sizes.over) == (
        "tool_result", 3, 200.0, 150_000.0, 100_000.0, 1,
    )  # fmt: skip
    (ages,) = history.ages()
    assert (ages.name, ages.largest, ages.limit, ages.over) == ("dbt_manifest", 15_000.0, 86_400.0, 0)
    (durations,) = history.durations()
    assert (durations.name, durations.count, durations.limit) == ("query.execute", 3, None)


def test_traffic_shows_what_is_over_its_limit_before_what_is_larger(folder: Path) -> None:
    process = Process(folder, now=NOW)
    process.call(Call(attributes=payload(60_000, limit=50_000)))
    process.call(Call(attributes=payload(237_701, "resource", limit=262_144)))
    process.flush()
    (row,) = History(folder).traffic()
    assert (row.largest_bytes, row.largest_limit) == (60_000, 50_000)


def test_processes_and_their_last_states_are_told_apart(folder: Path) -> None:
    for pid in (11, 12):
        process = Process(folder, pid=pid, now=NOW, release=f"0.{pid}.0")
        process.call(healthy(30.0, client="zed"))
        process.state(failed=2, ago=50.0)
        process.state(phase="ended", failed=pid - 11, ago=10.0, missing=("a:b",))
        process.flush()
    sick = Process(folder, pid=13, now=NOW, release="0.11.0")
    sick.call(substituted(50.0))
    sick.flush()
    history = History(folder)
    processes = history.processes()
    assert {(each.pid, each.release, each.surfaces, each.calls, each.not_ok) for each in processes} == {
        (11, "0.11.0", ("mcp",), 1, 0),
        (12, "0.12.0", ("mcp",), 1, 0),
        (13, "0.11.0", ("mcp",), 1, 1),
    }
    assert [each.clients for each in processes if each.pid != 13] == [("zed",), ("zed",)]
    assert processes[0].pid == 13
    states = history.last_events("context_telemetry.state")
    assert {(state.pid, state.attributes["context_telemetry.hooks.failed"]) for state in states} == {
        (11, 0),
        (12, 1),
    }
    assert states[0].attributes["context_telemetry.hooks.missing"] == ("a:b",)


def test_the_last_event_is_the_latest_whichever_process_began_first(folder: Path) -> None:
    """As a server does that was there before a command came and went, and then has something new to say."""
    server, command = Process(folder, pid=11, now=NOW), Process(folder, pid=12, now=NOW)
    for process, ago, described in ((server, 90.0, 1), (command, 60.0, 2), (server, 30.0, 3)):
        process.event(
            "dataface.enrichment.changed", {"dataface.enrichment.columns.described": described}, ago=ago
        )
    said = History(folder).last_events("dataface.enrichment.changed")
    assert [(each.pid, each.attributes["dataface.enrichment.columns.described"]) for each in said] == [
        (12, 2),
        (11, 3),
    ]


def test_unresolved_objects_are_summed_over_all_spans(folder: Path) -> None:
    process = Process(folder, now=NOW)
    process.call(substituted(30.0))
    process.call(Call(inner=(Inner("catalog.resolve", {"dataface.catalog.unresolved": 3}),)))
    process.flush()
    (row,) = History(folder).unresolved()
    assert (row.surface, row.objects, row.calls) == ("mcp", 4, 2)


def test_calls_are_filtered_and_the_newest_comes_first(folder: Path) -> None:
    shown = write_troubled(folder, now=NOW)
    history = History(folder)
    assert [call.outcome for call in history.calls(outcome="failed")] == ["failed"]
    assert [call.trace_id for call in history.calls(reason="charts_failed")] == [shown["charts"]]
    assert [call.target for call in history.calls(operation="resource.read")] == [
        "dataface://docs/error-reference"
    ]
    assert {call.client for call in history.calls(client="claude_code")} == {"claude_code"}
    assert {call.pid for call in history.calls(pid=4242)} == {4242}
    assert not history.calls(surface="dashboard")
    times = [call.time for call in history.calls(limit=5)]
    assert len(times) == 5
    assert times == sorted(times, reverse=True)


def test_an_operation_that_is_asked_for_is_listed_inside_of_others_too(folder: Path) -> None:
    process = Process(folder, now=NOW)
    turn = Call(operation="agent.turn", method="", surface="agent", client="")
    process.call(replace(turn, inner=(Inner("tool.call", outcome="failed"), Inner("tool.call"))))
    process.flush()
    history = History(folder)
    assert [call.operation for call in history.calls()] == ["agent.turn"]
    assert not history.calls(outcome="failed")
    (failed,) = history.calls(operation="tool.call", outcome="failed")
    assert (failed.surface, failed.outcome) == ("agent", "failed")
    assert len(history.calls(operation="tool.call")) == 2


def test_a_request_outside_the_vocabulary_is_listed_by_its_method(folder: Path) -> None:
    process = Process(folder, now=NOW)
    process.call(Call(method="prompts/get", operation="prompts/get", outcome="failed"))
    process.flush()
    (call,) = History(folder).calls()
    assert (call.operation, call.target) == ("prompts/get", "prompts/get")


def test_reading_leaves_nothing_where_the_command_was_started(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    write_spans(folder, 400, processes=2)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert History(folder).served()
    assert list(project.iterdir()) == []
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
