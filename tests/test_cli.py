"""The command line as a user meets it: exit codes, what is on stdout and what is on stderr."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from otlp_files import Call, Process, healthy, not_there, substituted, write_troubled

from context_telemetry.conventions import names
from context_telemetry.health import INDICATORS
from context_telemetry.settings import project_folder


@dataclass(frozen=True)
class Shop:
    """A project folder and the state folder of its telemetry."""

    root: Path
    state: Path

    @property
    def folder(self) -> Path:
        return project_folder(self.state, self.root)

    def record_health(self) -> None:
        process = Process(self.folder)
        for number in range(5):
            process.call(healthy(60.0 + number))
        process.state()
        process.flush()


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    root = tmp_path / "shop"
    root.mkdir()
    (root / "dataface.yml").write_text("{}\n", encoding="utf-8")
    return Shop(root, tmp_path / "state")


def ct(
    shop: Shop, *arguments: str, cwd: Path | None = None, columns: int | None = 80, **environ: str
) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, in the project unless said otherwise; ``columns`` None: piped."""
    cleared = {k: v for k, v in os.environ.items() if not k.startswith(("CONTEXT_TELEMETRY_", "OTEL_"))}
    return subprocess.run(
        [sys.executable, "-m", "context_telemetry.cli", *arguments],
        cwd=cwd or shop.root,
        env={
            **cleared,
            "CONTEXT_TELEMETRY_STATE_DIR": str(shop.state),
            "COLUMNS": str(columns or ""),
            "PYTHONIOENCODING": "utf-8",
            **environ,
        },
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        timeout=120,
        check=False,
    )


def asked(shop: Shop, *arguments: str) -> dict[str, Any]:
    answer = json.loads(ct(shop, *arguments, "--json").stdout)
    assert isinstance(answer, dict)
    return answer


def test_status_of_an_empty_project_is_unknown_and_says_what_to_start(shop: Shop) -> None:
    done = ct(shop, "status")
    assert done.returncode == 3
    assert "UNKNOWN" in done.stdout
    assert "context-telemetry run --" in done.stdout
    assert not done.stderr


def test_status_of_healthy_traffic_exits_0(shop: Shop) -> None:
    shop.record_health()
    done = ct(shop, "status")
    assert done.returncode == 0, done.stdout
    assert "HEALTHY" in done.stdout


def test_status_of_troubled_traffic_exits_1_and_fits_a_narrow_terminal(shop: Shop) -> None:
    shown = write_troubled(shop.folder)
    done = ct(shop, "status")
    lines = done.stdout.splitlines()
    assert done.returncode == 1
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 32
    assert "\x1b" not in done.stdout
    for words in ("UNHEALTHY", "degraded_ratio", "140 KB/50 KB", "3 min ago", shown["substituted"][:8]):
        assert words in done.stdout
    assert "1 file skipped: traces-20260101T000000Z-1-1.jsonl (binary, not JSON lines)" in done.stdout
    assert "1 cut line skipped" in done.stdout


def test_the_status_document_keeps_its_schema(shop: Shop) -> None:
    write_troubled(shop.folder)
    found = asked(shop, "status")
    assert found["schema"] == "context-telemetry.status/1"
    assert sorted(found) == [
        "ages", "artifacts", "checks", "cut_lines", "durations", "errors", "exit_code", "folder", "generated_at",
        "indicators", "payloads", "processes", "project", "reason", "reasons", "samplers", "schema", "served",
        "since", "state", "traffic", "unreadable", "window_seconds",
    ]  # fmt: skip
    assert (found["state"], found["exit_code"], found["window_seconds"]) == ("unhealthy", 1, 3600.0)
    (claude,) = [row for row in found["traffic"] if row["client"] == "claude_code"]
    assert claude["largest_payload"] == {"bytes": 140_242, "limit": 50_000}
    assert sorted(found["indicators"][0]) == [
        "bad", "component", "count", "detail", "limit", "measures", "minimum", "name", "notices", "severity", "state",
        "surface", "too_few", "unit", "value",
    ]  # fmt: skip
    assert sorted(found["errors"][0]) == [
        "count", "error", "first", "last", "pids", "surface", "targets", "trace_id",
    ]  # fmt: skip
    assert sorted(found["processes"][0]) == [
        "began", "calls", "clients", "ended", "first", "instance", "last", "not_ok", "pid", "release", "surfaces",
    ]  # fmt: skip
    assert sorted(found["reasons"][0]) == [
        "count", "first", "last", "pids", "reason", "surface", "trace_id", "what_to_do",
    ]  # fmt: skip


def test_what_is_piped_is_never_cut(shop: Shop) -> None:
    shown = write_troubled(shop.folder)
    long = "dataface://" + "docs/" * 60
    process = Process(shop.folder, pid=4444)
    attributes = {"mcp.resource.uri": long}
    trace_id = process.call(Call(method="resources/read", operation="resource.read", attributes=attributes))
    process.flush()
    told = ct(shop, "status", columns=None).stdout
    assert "…" not in told
    assert "charts_failed, manifest_stale, payload_over_budget, resource_unknown" in told
    assert long.removeprefix("dataface://") in ct(shop, "traces", columns=None).stdout
    assert long in ct(shop, "trace", trace_id, columns=None).stdout
    tree = ct(shop, "trace", shown["charts"], columns=None).stdout
    assert "ERR-BINDER-UNKNOWN-COLUMN · BinderException" in tree


def reason_rows(shop: Shop, columns: int | None) -> list[list[str]]:
    lines = ct(shop, "status", columns=columns).stdout.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("reason "))
    return [line.split() for line in lines[start : start + 3]]


def test_checks_stand_in_a_line_of_their_own_below_what_calls_met(shop: Shop) -> None:
    process = Process(shop.folder)
    process.call(substituted(60.0))
    for ago in (50.0, 40.0, 30.0):
        process.call(
            Call(
                ago=ago, operation="check.run", method="", surface="cli",
                outcome="degraded", reasons=("schema_drift",),
            )
        )  # fmt: skip
    process.flush()
    lines = ct(shop, "status", columns=None).stdout.splitlines()
    (told,) = [line for line in lines if line.startswith("3 checks")]
    assert "3 not well: schema_drift" in told
    (row,) = [line for line in lines if "schema_drift" in line and line != told]
    assert row.startswith("✗  checks_failing")
    assert row.endswith("  3 of 3 checks: schema_drift")
    found = asked(shop, "status")
    assert [each["reason"] for each in found["reasons"]] == ["source_substituted"]
    assert (found["checks"]["count"], found["checks"]["reasons"]) == (3, ["schema_drift"])


def test_where_checks_alone_were_recorded_the_screen_says_so(shop: Shop) -> None:
    process = Process(shop.folder)
    process.call(Call(operation="check.run", method="", surface="cli"))
    process.flush()
    told = ct(shop, "status", columns=None).stdout
    assert "checks alone were recorded" in told
    assert "1 check  last " in told


def test_a_trace_names_what_had_changed_by_then(shop: Shop) -> None:
    process = Process(shop.folder)
    ids = [
        process.call(Call(ago=ago, outcome="degraded", reasons=("contract_broken", "all_charts_failed")))
        for ago in (100.0, 40.0)
    ]
    for what, state, level, ago in (
        ("shop.main.fct_orders.status", "opened", "breaking", 60.0),
        ("shop.main.fct_orders.note", "opened", "info", 60.0),
        ("shop.main.fct_orders.total", "opened", "breaking", 60.0),
        ("shop.main.fct_orders.total", "closed", "breaking", 50.0),
        ("shop.main.dim_customers", "opened", "breaking", 10.0),
    ):
        process.event(
            names.EVENT_DATAFACE_CONTRACT_CHANGED,
            {
                names.DATAFACE_CONTRACT_RULE: "column_removed",
                names.DATAFACE_CONTRACT_LEVEL: level,
                names.DATAFACE_CONTRACT_OBJECT: what,
                names.DATAFACE_CONTRACT_STATE: state,
                names.DATAFACE_DEGRADATION_REASON: "contract_broken",
            },
            ago=ago,
        )
    process.flush()
    before, after = (ct(shop, "trace", each, columns=None).stdout for each in ids)
    assert "changed then" not in before
    assert "changed then: shop.main.fct_orders.status\n" in after
    assert "open the trace" not in after


def test_the_reasons_say_where_they_were_met_when_there_is_more_than_one_surface(shop: Shop) -> None:
    for pid, call in ((4242, substituted(60.0)), (4343, not_there(30.0))):
        process = Process(shop.folder, pid=pid)
        process.call(call)
        process.state()
        process.flush()
    head, *rows = reason_rows(shop, 100)
    assert head[:6] == ["reason", "surface", "calls", "last", "trace", "process"]
    assert {(row[0], row[1]) for row in rows} == {
        ("source_substituted", "mcp"),
        ("resource_unknown", "dashboard"),
    }
    narrow = reason_rows(shop, 80)[0]
    assert narrow[:3] == ["reason", "surface", "calls"]
    assert narrow[-3:] == ["what", "to", "do"]


def test_the_reasons_of_one_surface_and_process_leave_both_out(shop: Shop) -> None:
    process = Process(shop.folder)
    process.call(substituted(60.0))
    process.flush()
    assert reason_rows(shop, None)[0] == ["reason", "calls", "last", "trace", "what", "to", "do"]


def test_a_reason_says_how_it_is_accepted_on_every_screen_that_shows_it(shop: Shop) -> None:
    process = Process(shop.folder)
    trace_id = process.call(Call(outcome="degraded", reasons=("enrichment_lost",)))
    process.event(
        "dataface.enrichment.changed",
        {
            "dataface.enrichment.columns.total": 30,
            "dataface.enrichment.columns.described": 20,
            "dataface.enrichment.lost": 4,
        },
    )
    for what in ("dbt_manifest", "shop", "shop.main.fct_orders", "shop.main.dim_customers"):
        process.event(
            names.EVENT_DATAFACE_DEGRADATION,
            {
                names.DATAFACE_DEGRADATION_REASON: "enrichment_lost",
                names.DATAFACE_DEGRADATION_STATE: "began",
                names.DATAFACE_DEGRADATION_OBJECT: what,
            },
        )
    process.state()
    process.flush()
    wanted = f"delete {shop.folder / 'enrichment.json'}"
    for command in (("status",), ("trace", trace_id), ("doctor",)):
        assert wanted in ct(shop, *command, columns=None).stdout
    for screen in ("status", "doctor"):
        told = ct(shop, screen, columns=None).stdout
        (line,) = [each for each in told.splitlines() if "fct_orders" in each]
        assert "shop.main.fct_orders, shop.main.dim_customers" in line


def process_lines(shop: Shop, columns: int | None) -> list[str]:
    lines = ct(shop, "status", columns=columns).stdout.splitlines()
    (head,) = [number for number, line in enumerate(lines) if line.startswith("process ")]
    return lines[head + 1 :]


def record_processes(shop: Shop, count: int) -> None:
    """So many that served, the later ones longer ago; one that nobody called, just now; and a sick one."""
    for number in range(count):
        process = Process(shop.folder, pid=5000 + number, release="0.3.1", seed=number)
        process.call(healthy(60.0 + number, client="claude_code"))
        process.flush()
    idle = Process(shop.folder, pid=4000, release="0.1.2", seed=98)
    idle.call(Call(ago=1.0, operation="manifest.load", method="", attributes={"dataface.entry": False}))
    idle.flush()
    sick = Process(shop.folder, pid=4001, release="0.2.0", seed=99)
    sick.call(substituted(600.0))
    sick.flush()


def test_the_sick_processes_come_first_and_those_that_nobody_called_last(shop: Shop) -> None:
    record_processes(shop, 3)
    pids = [line.split()[0] for line in process_lines(shop, 100)[:5]]
    assert pids == ["4001", "5000", "5001", "5002", "4000"]


@pytest.mark.parametrize("columns", [80, 100])
def test_processes_without_a_line_are_told_apart_and_a_command_lists_them(shop: Shop, columns: int) -> None:
    record_processes(shop, 9)
    lines = process_lines(shop, columns)
    assert [line.split()[0] for line in lines[:8]] == ["4001", *(str(5000 + number) for number in range(7))]
    assert lines[8] == "and 3 more processes: 2 mcp claude_code on 0.3.1, 1 no calls on 0.1.2"
    assert max(map(len, lines)) <= columns
    program, *arguments = shlex.split(lines[9])
    assert program == "context-telemetry"
    found = json.loads(ct(shop, *arguments).stdout)
    assert len(found["processes"]) == 11


def test_one_process_more_than_are_shown_has_a_line_in_place_of_the_hint(shop: Shop) -> None:
    record_processes(shop, 7)
    lines = process_lines(shop, 100)
    assert [line.split()[0] for line in lines[:9]] == [
        "4001", *(str(5000 + number) for number in range(7)), "4000",
    ]  # fmt: skip
    assert not [line for line in lines if "more processes" in line]


MANY = (
    "resource_unknown", "charts_failed", "face_unreadable", "manifest_stale", "object_unknown", "result_stale",
    "prompt_section_missing", "handle_outlived_file", "source_substituted", "payload_over_budget", "failure_cached",
)  # fmt: skip
"""Reasons by how many calls met them, the most first."""


def record_many_reasons(shop: Shop) -> None:
    process = Process(shop.folder)
    for number, reason in enumerate(MANY):
        for _ in range(len(MANY) - number):
            process.call(Call(outcome="degraded", reasons=(reason,), ago=60.0))
    process.state()
    process.flush()


def told_reasons(lines: list[str]) -> list[str]:
    start = next(number for number, line in enumerate(lines) if line.startswith("reason "))
    table = [line.split()[0] for line in lines[start + 1 : start + 1 + len(MANY)] if line.strip()]
    return [each for each in table if each in MANY]


def on_terminal(shop: Shop, *arguments: str, lines: int, columns: int = 100, until: str = "") -> str:
    """What the command writes to a terminal of this size; with ``until``, it is interrupted once it wrote that."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    kept = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    started = subprocess.Popen(
        [sys.executable, "-m", "context_telemetry.cli", *arguments],
        cwd=shop.root,
        env={**kept, "CONTEXT_TELEMETRY_STATE_DIR": str(shop.state), "TERM": "xterm", "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        close_fds=True,
    )
    os.close(theirs)
    late = threading.Timer(
        60.0, started.kill
    )  # so that a command that goes on ends the test, and not the day
    late.start()
    written = b""
    with contextlib.suppress(OSError):  # of a terminal that nobody has open any more
        while chunk := os.read(ours, 65_536):
            written += chunk
            if until and until.encode() in written:
                break
    if until:
        started.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):
            while os.read(ours, 65_536):
                pass
    started.wait(60)
    late.cancel()
    os.close(ours)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written.decode()).replace("\r\n", "\n")


def test_what_one_repair_ends_stands_first_and_what_is_piped_has_every_reason(shop: Shop) -> None:
    record_many_reasons(shop)
    found = told_reasons(ct(shop, "status", columns=None).stdout.splitlines())
    assert sorted(found) == sorted(MANY)
    assert found[:5] == [
        "handle_outlived_file", "source_substituted", "face_unreadable", "manifest_stale", "result_stale",
    ]  # fmt: skip
    assert found[-1] == "payload_over_budget"


def test_a_terminal_has_as_many_reasons_as_it_has_room_for_and_a_command_for_the_rest(shop: Shop) -> None:
    record_many_reasons(shop)
    options = ("--since", "90min", "--project", str(shop.root))
    high = on_terminal(shop, "status", *options, lines=60).splitlines()
    assert sorted(told_reasons(high)) == sorted(MANY)
    low = on_terminal(shop, "status", *options, lines=24, columns=200).splitlines()
    shown = told_reasons(low)
    assert 5 <= len(shown) < len(MANY)
    assert shown == told_reasons(high)[: len(shown)]
    (said,) = [
        number for number, line in enumerate(low) if line.startswith(f"and {len(MANY) - len(shown)} more")
    ]
    assert sorted([*shown, *low[said].partition(": ")[2].split(", ")]) == sorted(MANY)
    program, *arguments = shlex.split(low[said + 1])
    assert program == "context-telemetry"
    assert arguments[-2:] == ["|", "cat"]
    assert sorted(told_reasons(ct(shop, *arguments[:-2], columns=None).stdout.splitlines())) == sorted(MANY)


def test_a_watch_that_has_no_room_for_all_says_how_much_is_below(shop: Shop) -> None:
    record_many_reasons(shop)
    low = on_terminal(shop, "status", "--watch", lines=20, until="below: ")
    assert re.search(r"\.\.\. \d+ more lines below: ", low)
    assert len(low.strip().splitlines()) <= 20
    assert " below: " not in on_terminal(shop, "status", "--watch", lines=60, until="(Dataface")


@pytest.mark.parametrize("columns", [None, 80])
def test_a_share_of_too_few_is_not_shown_as_fine(shop: Shop, columns: int | None) -> None:
    process = Process(shop.folder)
    for number in range(3):
        process.call(Call(ago=30.0 + number, outcome="failed", attributes={"error.type": "tool_error"}))
    for number in range(3):
        process.call(healthy(60.0 + number))
    process.state()
    process.flush()
    done = ct(shop, "status", columns=columns)
    assert done.returncode == 0
    assert "~  failed_ratio" in done.stdout
    assert "too few to judge: 3 of 10" in done.stdout
    assert "calls are answered" not in done.stdout


def test_where_nothing_was_answered_the_screen_is_no_green_one_and_says_what_failed(shop: Shop) -> None:
    process = Process(shop.folder)
    ids = [
        process.call(Call(ago=ago, tool=tool, outcome="failed", attributes={"error.type": "tool_error"}))
        for ago, tool in ((50.0, "execute_query"), (40.0, "execute_query"), (30.0, "render_dashboard"))
    ]
    process.state()
    process.flush()
    done = ct(shop, "status", columns=None)
    assert done.returncode == 3
    assert "too few to judge: 3 of 10" in done.stdout
    row = reason_rows(shop, None)[1]
    assert 30 <= int(row.pop(2)) < 40  # a busy machine takes seconds to show it
    assert row == [
        "tool_error", "3", "s", "ago", ids[-1][:8],
        "open", "the", "trace:", "execute_query,", "render_dashboard",
    ]  # fmt: skip
    for untrue in ("answers are whole", "what is asked for exists", "descriptions are kept"):
        assert untrue not in done.stdout
    assert "everything is recorded" in done.stdout
    (error,) = asked(shop, "status")["errors"]
    assert (error["error"], error["count"], error["targets"]) == (
        "tool_error", 3, ["execute_query", "render_dashboard"],
    )  # fmt: skip


def test_a_project_file_that_cannot_be_parsed_is_named_with_its_line(shop: Shop) -> None:
    shop.record_health()
    healthy_one = ct(shop, "status", columns=None)
    assert ("!" in healthy_one.stdout, healthy_one.returncode) == (False, 0)
    for text, words in (
        ("- a\n", "dataface.yml: has no keys, but a list"),
        ("sources: [\n", "dataface.yml:2: "),
    ):
        (shop.root / "dataface.yml").write_text(text, encoding="utf-8")
        done = ct(shop, "status", columns=None)
        (told,) = [line for line in done.stdout.splitlines() if line.startswith("!")]
        assert told.startswith(f"! {words}")
        assert done.returncode == 3  # what was well before says nothing of now
        assert asked(shop, "status")["reason"].startswith(words)
    found = doctors_word(shop, "project")
    assert (found["state"], found["advice"].startswith("dataface.yml:2: ")) == ("wrong", True)


def test_no_tick_is_shown_that_a_reason_on_the_screen_denies(shop: Shop) -> None:
    process = Process(shop.folder)
    process.call(healthy(60.0))
    process.state()
    process.flush()
    well = ct(shop, "status", columns=None).stdout
    said = {each.name: each.good for each in INDICATORS}
    for reason, denied in (
        ("manifest_missing", ("manifest_stale", "enrichment_lost")),
        ("schema_drift", ("resolution_failures", "unknown_references")),
        ("payload_over_budget", ("payload_p95",)),
    ):
        process.call(Call(outcome="degraded", reasons=(reason,)))
        process.flush()
        ill = ct(shop, "status", columns=None).stdout
        (open_,) = [line for line in ill.splitlines() if line.startswith("- left open by what is above: ")]
        for name in denied:
            assert said[name] in well
            assert said[name] not in ill
            assert name in open_


def test_what_has_bad_ones_within_its_limit_is_told_as_that(shop: Shop) -> None:
    process = Process(shop.folder)
    for number in range(19):
        process.call(healthy(60.0 + number))
    process.call(Call(outcome="failed", attributes={"error.type": "tool_error"}))
    process.state()
    process.flush()
    told = ct(shop, "status", columns=None).stdout
    assert "within their limits: failed_ratio mcp 5 % of 20 %" in told
    assert "calls are answered" not in told


def test_what_a_call_may_have_several_of_is_told_for_each_call_and_not_in_percent(shop: Shop) -> None:
    process = Process(shop.folder)
    process.call(
        Call(
            surface="agent",
            operation="agent.turn",
            outcome="degraded",
            reasons=("object_unknown",),
            attributes={names.DATAFACE_CATALOG_UNRESOLVED: 2},
        )
    )
    process.state()
    process.flush()
    (row,) = [
        line
        for line in ct(shop, "status", columns=None).stdout.splitlines()
        if line[3:].startswith("resolution_failures")
    ]
    assert row.split()[:7] == ["?", "resolution_failures", "agent", "2", "per", "call", "0.2"]
    (found,) = [
        each
        for each in asked(shop, "status")["indicators"]
        if (each["name"], each["surface"]) == ("resolution_failures", "agent")
    ]
    assert (found["unit"], found["value"], found["limit"]) == ("per_call", 2.0, 0.2)


def test_every_row_beyond_its_limit_has_something_in_its_last_column(shop: Shop) -> None:
    process = Process(shop.folder)
    for reason in ("profile_stale", "enrichment_lost", "failure_cached"):
        process.call(Call(outcome="degraded", reasons=(reason,)))
    process.call(
        Call(
            operation="check.run",
            method="",
            surface="cli",
            outcome="failed",
            attributes={"error.type": "OSError"},
        )
    )
    process.state()
    process.flush()
    lines = ct(shop, "status", columns=None).stdout.splitlines()
    told = {line.split()[1]: line for line in lines if line.startswith("✗")}
    for name, words in (
        ("profile_stale", "1 of 3"),
        ("enrichment_lost", "1 of 3"),
        ("result_stale", "failure_cached 1"),
        ("checks_failing", "1 of 1 check"),
    ):
        assert told[name].endswith(f"  {words}")


def test_the_size_of_an_agents_turn_is_what_its_model_was_given(shop: Shop) -> None:
    process = Process(shop.folder)
    process.call(
        Call(
            surface="agent", operation="agent.turn", method="", client="other",
            attributes={names.DATAFACE_CONVERSATION_SIZE: 112_000},
        )
    )  # fmt: skip
    process.state()
    process.flush()
    assert "112 KB" in ct(shop, "status", columns=None).stdout
    found = asked(shop, "status")
    assert found["traffic"][0]["largest_payload"] == {"bytes": 112_000, "limit": None}
    assert [(each["name"], each["largest"]) for each in found["payloads"]] == [("conversation", 112_000.0)]


def test_a_process_is_as_old_as_its_beginning_and_says_when_it_ended(shop: Shop) -> None:
    for pid in (77, 78, 79):
        process = Process(shop.folder, pid=pid, seed=pid)
        process.state(ago=1200.0)
        process.call(healthy(60.0))
        if pid == 78:
            process.state(phase="ended", ago=50.0)
        process.flush()
    told = {line.split()[0]: " ".join(line.split()) for line in process_lines(shop, None) if line.split()}
    assert "20 min ago 1 min ago 1 0" in told["77"]
    assert re.search(r"20 min ago ended 5\d s ago 1 0", told["78"])  # a busy machine takes seconds to show it
    found = {each["pid"]: each for each in asked(shop, "status")["processes"]}
    assert (found[77]["ended"], found[78]["ended"] is None) == (None, False)
    assert found[77]["began"] < found[77]["first"]


def test_a_process_that_waits_for_its_first_call_is_named(shop: Shop) -> None:
    Process(shop.folder, pid=77).state(ago=180.0)
    done = ct(shop, "status", columns=None)
    assert done.returncode == 3
    assert "no calls recorded yet: process 77 began to record 3 min ago" in done.stdout
    Process(shop.folder, pid=77).state(phase="ended", ago=120.0)
    assert "no calls recorded: process 77 ended 2 min ago without one" in ct(shop, "status").stdout


def test_a_process_whose_recorder_stepped_back_still_waits_for_its_first_call(shop: Shop) -> None:
    process = Process(shop.folder, pid=77)
    process.state(ago=180.0)
    process.state(phase="changed", ago=120.0)
    assert "no calls recorded yet: process 77 began to record 3 min ago" in ct(shop, "status").stdout
    process.state(phase="ended", ago=60.0)
    process.state(phase="changed", ago=59.0)
    assert "no calls recorded: process 77 ended 1 min ago without one" in ct(shop, "status").stdout


def test_a_process_that_began_again_after_its_end_waits_and_others_that_ended_are_not_named(
    shop: Shop,
) -> None:
    process = Process(shop.folder, pid=77)
    process.state(ago=400.0)
    process.state(phase="ended", ago=300.0)
    process.state(ago=180.0)
    Process(shop.folder, pid=78, seed=2).state(phase="ended", ago=60.0)
    done = ct(shop, "status", columns=None)
    assert "no calls recorded yet: process 77 began to record 3 min ago\n" in done.stdout


@pytest.mark.parametrize("columns", [None, 100])
def test_no_line_that_is_piped_ends_in_blanks(shop: Shop, columns: int | None) -> None:
    shown = write_troubled(shop.folder)
    for command in (("status",), ("traces",), ("trace", shown["large"]), ("doctor",)):
        for colour in ("", "1"):
            lines = ct(shop, *command, columns=columns, FORCE_COLOR=colour).stdout.splitlines()
            assert len(lines) > 3
            plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
            assert [line for line in plain if line != line.rstrip()] == []


def test_a_wrong_setting_of_a_process_that_waits_is_all_that_is_judged(shop: Shop) -> None:
    Process(shop.folder, pid=77).state(errors=1, places={"settings": 1})
    done = ct(shop, "status")
    assert done.returncode == 1
    assert "restart process 77, see its stderr" in done.stdout
    assert "degraded_ratio" not in done.stdout


def test_a_wrong_setting_is_over_with_its_process_once_it_is_repaired(shop: Shop) -> None:
    process = Process(shop.folder, pid=77)
    process.state(errors=1, places={"settings": 1}, ago=180.0)
    process.call(healthy(60.0))
    process.flush()
    assert ct(shop, "status").returncode == 1
    process.state(phase="ended", errors=1, places={"settings": 1}, ago=30.0)
    done = ct(shop, "status")
    assert (done.returncode, "settings are in effect" in done.stdout) == (0, True)
    assert "process 77" in ct(shop, "doctor", columns=None).stdout
    assert "1 wrong setting, named on its standard error\n" in ct(shop, "doctor", columns=None).stdout


def test_a_window_without_traffic_says_when_something_was_written_last(shop: Shop) -> None:
    shop.record_health()
    done = ct(shop, "status", "--since", "1s")
    assert done.returncode == 3
    assert "look further back with --since" in done.stdout


def test_the_window_of_the_objectives_is_the_default(shop: Shop) -> None:
    (shop.root / "context-telemetry.toml").write_text(
        "[limits.objectives]\nwindow = 7200\n", encoding="utf-8"
    )
    assert asked(shop, "status")["window_seconds"] == 7200.0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("status", "--since", "soon"), "is no length of time"),
        (("status", "--since", "9999999999999999999d"), "longer than ten years"),
        (("status", "--json", "--watch"), "exclude each other"),
        (("status", "--watch"), "needs a terminal"),
        (("traces", "--reason", "bad_luck"), "source_substituted"),
        (("traces", "--outcome", "fine"), "degraded, failed, ok"),
        (("traces", "--surface", "web"), "agent, cli, dashboard"),
        (("traces", "--client", "emacs"), "claude_code"),
        (("trace", "zz"), "is no trace id"),
        (("trace", "abcdef"), "no trace in"),
        (("status", "--project", "nowhere"), "nowhere is no folder"),
        (("run",), "no command to run"),
        (("nonsense",), "No such command"),
    ],
)
def test_wrong_usage_exits_2_and_says_so_on_stderr(shop: Shop, arguments: tuple[str, ...], told: str) -> None:
    done = ct(shop, *arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert not done.stdout


def test_no_project_exits_2_and_names_the_fix(shop: Shop, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    done = ct(shop, "status", cwd=empty)
    assert done.returncode == 2
    assert "--project DIR" in done.stderr
    named = ct(shop, "status", cwd=empty, CONTEXT_TELEMETRY_PROJECT=str(shop.root))
    assert named.returncode == 3
    for command in (("status",), ("traces",), ("trace", "abc")):
        done = ct(shop, *command, "--project", str(empty))
        assert done.returncode == 2
        assert f"no Dataface project in {empty}" in done.stderr


def test_a_folder_in_a_project_names_the_project(shop: Shop, tmp_path: Path) -> None:
    (shop.root / "faces").mkdir()
    done = ct(shop, "status", "--json", "--project", str(shop.root / "faces"), cwd=tmp_path)
    assert json.loads(done.stdout)["project"]["root"] == str(shop.root)


@pytest.mark.parametrize(
    ("environ", "why"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, "goes to OTLP, not to local files"),
        ({"OTEL_TRACES_EXPORTER": "none"}, "traces are switched off"),
        ({"OTEL_METRICS_EXPORTER": "prometheus"}, "only metrics are exported (OTEL_METRICS_EXPORTER)"),
        ({"CONTEXT_TELEMETRY_DISABLED": "1"}, "switched off in this environment"),
        ({}, "start a command with"),
    ],
)
def test_nothing_recorded_says_why_and_names_no_faults(shop: Shop, environ: dict[str, Any], why: str) -> None:
    done = ct(shop, "status", columns=None, **environ)
    assert done.returncode == 3
    assert why in done.stdout
    assert "degraded_ratio" not in done.stdout


def test_a_projects_own_file_that_switches_recording_off_is_named(shop: Shop) -> None:
    (shop.root / "context-telemetry.toml").write_text("disabled = true\n", encoding="utf-8")
    assert "switched off by `disabled`" in ct(shop, "status", columns=200).stdout


@pytest.mark.parametrize(
    "environ",
    [
        {"PYTHONIOENCODING": "latin-1", "LC_ALL": "en_US.ISO-8859-1"},
        {"PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONIOENCODING": ""},
    ],
)
def test_a_terminal_without_our_marks_gets_others_and_the_same_verdict(
    tmp_path: Path, environ: dict[str, Any]
) -> None:
    shop = Shop(tmp_path / "l\u00e4den", tmp_path / "st\u00e4tus")
    shop.root.mkdir()
    (shop.root / "dataface.yml").touch()
    shop.record_health()
    done = ct(shop, "status", **environ)
    assert (done.returncode, done.stderr) == (0, "")
    assert "5 calls" in done.stdout


def test_a_narrow_terminal_keeps_outcomes_reasons_and_codes(shop: Shop) -> None:
    write_troubled(shop.folder)
    head = next(line for line in ct(shop, "status", columns=60).stdout.splitlines() if "surface" in line)
    assert head.split() == ["surface", "client", "calls", "ok", "degr.", "failed"]
    listed = ct(shop, "traces", columns=60).stdout
    for words in ("execute_query", "ERR-WAREHOUSE-RUNTIME", "payload_over_budget", "manifest_stale"):
        assert words in listed
    assert "cursor" not in listed


def test_a_wrong_setting_stops_a_command_with_the_file_and_the_key(shop: Shop) -> None:
    (shop.root / "context-telemetry.toml").write_text("[limits]\nresults = -1\n", encoding="utf-8")
    done = ct(shop, "status")
    assert done.returncode == 2
    assert "context-telemetry.toml: limits.results" in done.stderr
    assert not done.stdout


def test_traces_lists_the_newest_first_with_reasons_and_codes(shop: Shop) -> None:
    shown = write_troubled(shop.folder)
    done = ct(shop, "traces", "--limit", "4")
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    ids = [shown[name][:8] for name in ("failed", "unknown", "large")]
    assert [done.stdout.index(each) for each in ids] == sorted(done.stdout.index(each) for each in ids)
    for words in ("ERR-WAREHOUSE-RUNTIME", "resource_unknown", "payload_over_budget", "140 KB"):
        assert words in done.stdout
    only = asked(shop, "traces", "--reason", "charts_failed")
    assert [call["trace_id"] for call in only["calls"]] == [shown["charts"]]


def test_traces_are_those_of_a_surface_a_client_and_a_process(shop: Shop) -> None:
    shown = write_troubled(shop.folder)
    page = Process(shop.folder, pid=4444)
    shown["page"] = page.call(not_there(10.0))
    page.flush()
    narrow = {
        "charts": ("--pid", "4242", "--outcome", "degraded", "--reason", "charts_failed"),
        "page": ("--surface", "dashboard"),
        "large": ("--client", "claude_code", "--reason", "payload_over_budget"),
    }
    for name, options in narrow.items():
        assert [call["trace_id"] for call in asked(shop, "traces", *options)["calls"]] == [shown[name]]


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_trace_is_a_tree_whose_reasons_and_errors_are_never_cut(shop: Shop, columns: int) -> None:
    shown = write_troubled(shop.folder)
    done = ct(shop, "trace", shown["charts"][:10], columns=columns)
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= columns
    for words in (
        shown["charts"], "tools/call render_dashboard", "└─ manifest.load", "charts_failed", "manifest_stale",
        "ERR-BINDER-UNKNOWN-COLUMN", "BinderException", "faces/orders.yml", "1 of 3 charts failed", "connect",
    ):  # fmt: skip
        assert words in done.stdout


def test_a_trace_as_json_has_every_span(shop: Shop) -> None:
    shown = write_troubled(shop.folder)
    found = asked(shop, "trace", shown["charts"])
    assert found["trace_id"] == shown["charts"]
    assert [span["kind"] for span in found["spans"]][:2] == ["server", "internal"]
    assert len(found["spans"]) == 6


def test_doctor_says_what_is_installed_observed_and_where_it_goes(shop: Shop) -> None:
    shop.record_health()
    done = ct(shop, "doctor")
    assert done.returncode == 0, done.stdout
    for words in ("opentelemetry-sdk", "hook points", "goes to files", "2 files", "is not exported"):
        assert words in done.stdout


def test_doctor_finds_an_endpoint_that_does_not_answer(shop: Shop) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    endpoint = f"http://user:secret@127.0.0.1:{port}"
    done = ct(shop, "doctor", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stdout
    assert "secret" not in done.stdout
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert "accepts connections" in ct(shop, "doctor", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint).stdout


def doctors_word(shop: Shop, name: str, **environ: Any) -> dict[str, str]:
    checks = json.loads(ct(shop, "doctor", "--json", **environ).stdout)["checks"]
    (found,) = [check for check in checks if check["name"] == name]
    assert isinstance(found, dict)
    return found


def test_doctor_finds_a_state_folder_that_cannot_be_made(shop: Shop, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    found = doctors_word(shop, "goes to files", CONTEXT_TELEMETRY_STATE_DIR=str(plain))
    assert found["state"] == "wrong"
    assert f"{plain} is not a folder" in found["advice"]


def test_doctor_finds_an_exporter_that_is_not_installed_or_switched_off(shop: Shop) -> None:
    found = doctors_word(shop, "exporter", OTEL_TRACES_EXPORTER="bogus")
    assert found["found"] == "bogus for traces is not installed"
    assert "opentelemetry_traces_exporter" in found["advice"]
    assert "instead" in doctors_word(shop, "goes to", OTEL_TRACES_EXPORTER="bogus")["found"]
    assert doctors_word(shop, "traces", OTEL_TRACES_EXPORTER="none")["found"] == "switched off"


def test_doctor_says_of_what_is_sent_alone_and_of_a_sampler(shop: Shop) -> None:
    metrics = {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:9"}
    traces = doctors_word(shop, "traces", **metrics)
    assert traces["found"] == "not exported"
    assert "only metrics are exported (OTEL_EXPORTER_OTLP_METRICS_ENDPOINT)" in traces["advice"]
    assert doctors_word(shop, "goes to OTLP", **metrics)["found"].startswith("127.0.0.1:9:")
    sampler = doctors_word(shop, "sampler", OTEL_TRACES_SAMPLER="always_off")
    assert (sampler["state"], sampler["found"]) == (
        "note",
        "OTEL_TRACES_SAMPLER=always_off (AlwaysOffSampler)",
    )
    assert "what was sampled" in sampler["advice"]


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
            "(OTEL_EXPORTER_OTLP_ENDPOINT): these are the local files from before",
        ),
        # What was recorded is what processes say of themselves, whatever the environment of `status` has.
        ({"OTEL_TRACES_SAMPLER": "traceidratio"}, ""),
        ({}, ""),
    ],
)
def test_status_says_what_its_files_do_not_hold(shop: Shop, environ: dict[str, Any], told: str) -> None:
    shop.record_health()
    lines = [
        line
        for line in ct(shop, "status", columns=None, **environ).stdout.splitlines()
        if line.startswith("!")
    ]
    assert len(lines) == bool(told)
    assert told in "".join(lines)


_RATIO = "TraceIdRatioBased{0.1}"
_BELOW = (
    "remoteParentSampled:AlwaysOnSampler,remoteParentNotSampled:AlwaysOffSampler,"
    "localParentSampled:AlwaysOnSampler,localParentNotSampled:AlwaysOffSampler"
)


def test_status_and_doctor_say_of_each_process_what_sampled_its_calls(shop: Shop) -> None:
    samplers = {1: _RATIO, 2: None, 3: _RATIO, 4: f"ParentBased{{root:{_RATIO},{_BELOW}}}", 5: "other"}
    for pid, sampler in samplers.items():
        process = Process(shop.folder, pid=pid)
        process.call(healthy(60.0))
        process.state(sampler=sampler)
        process.flush()
    shown = ct(shop, "status", columns=None).stdout
    assert [line.partition("missing: ")[2] for line in shown.splitlines() if "what was sampled" in line] == [
        f"processes 1, 3 recorded what was sampled ({_RATIO})",
        f"process 4 recorded what was sampled (ParentBased{{root:{_RATIO},...}})",
        "process 5 recorded what was sampled (another sampler than the SDK's six)",
    ]
    assert "HEALTHY" in shown
    assert "everything is recorded" not in shown
    assert "left open by what is above: telemetry_dropped" in shown
    assert asked(shop, "status")["samplers"] == [
        {"sampler": _RATIO, "pids": [1, 3]},
        {"sampler": samplers[4], "pids": [4]},
        {"sampler": "other", "pids": [5]},
    ]
    of_process = {pid: doctors_word(shop, f"process {pid}") for pid in samplers}
    assert f", sampled by {_RATIO}, " in of_process[1]["found"]
    assert of_process[1]["advice"] == "status counts what was sampled, and no more"
    assert of_process[2]["state"] == "ok"
    assert "sampled" not in of_process[2]["found"]


def test_where_every_process_recorded_all_status_ticks_that(shop: Shop) -> None:
    shop.record_health()
    assert "everything is recorded" in ct(shop, "status", columns=None).stdout
    assert asked(shop, "status")["samplers"] == []


@pytest.mark.parametrize(
    ("ago", "phases", "is_told"),
    [
        (7200.0, ["began"], True),
        (7200.0, ["began", "ended"], False),
        (600.0, ["began", "ended"], True),
        (90_000.0, ["began"], False),  # it was killed, or would have said it since
    ],
)
def test_one_that_runs_and_leaves_out_every_call_is_told_beside_those_that_recorded(
    shop: Shop, ago: float, phases: list[str], is_told: bool
) -> None:
    shop.record_health()
    process = Process(shop.folder, pid=77)
    for each, phase in enumerate(phases):
        process.state(sampler="AlwaysOffSampler", phase=phase, ago=ago - each)
    shown = ct(shop, "status", columns=None).stdout
    assert (
        "calls may be missing: process 77 recorded what was sampled (AlwaysOffSampler)" in shown
    ) is is_told
    assert ("everything is recorded" in shown) is not is_told
    assert bool(asked(shop, "status")["samplers"]) is is_told


def test_a_process_that_waits_for_its_first_call_and_samples_says_so_beyond_the_window(shop: Shop) -> None:
    Process(shop.folder).state(sampler="AlwaysOffSampler", ago=7200.0)
    shown = ct(shop, "status", columns=None).stdout
    assert "no calls recorded yet: process 4242 began to record 2 h ago" in shown
    assert "calls may be missing: process 4242 recorded what was sampled (AlwaysOffSampler)" in shown


def test_a_state_folder_that_cannot_be_is_named(shop: Shop, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    for command in ("status", "traces"):
        told = ct(shop, command, columns=None, CONTEXT_TELEMETRY_STATE_DIR=str(plain)).stdout
        assert f"{plain} is not a folder; set CONTEXT_TELEMETRY_STATE_DIR" in told
        assert "start a command" not in told


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("arguments", [("status",), ("status", "--json"), ("version",)])
def test_a_full_disk_is_no_verdict(shop: Shop, arguments: tuple[str, ...]) -> None:
    shop.record_health()
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "context_telemetry", *arguments],
            cwd=shop.root,
            env={**os.environ, "CONTEXT_TELEMETRY_STATE_DIR": str(shop.state)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 3
    assert done.stderr == "context-telemetry: cannot write to stdout: no space left on device\n"


def test_a_page_that_is_not_there_says_where_it_counts_and_that_its_name_is_not_kept(shop: Shop) -> None:
    process = Process(shop.folder)
    trace_id = process.call(not_there(30.0))
    process.state()
    process.flush()
    told = ct(shop, "status", columns=None).stdout
    assert "1 page not there, by names that are not recorded" in told
    assert "in resolution_failures, not in degraded_ratio" in told
    assert "is not recorded" in ct(shop, "trace", trace_id, columns=None).stdout


@pytest.mark.parametrize(
    ("endpoint", "protocol", "told"),
    [
        ("http://127.0.0.1:4318", "", "set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"),
        ("http://127.0.0.1:4317", "http/protobuf", "set OTEL_EXPORTER_OTLP_PROTOCOL=grpc"),
        ("banana", "", "OTEL_EXPORTER_OTLP_ENDPOINT=http://HOST:4317"),
        ("127.0.0.1:4318", "http/protobuf", "OTEL_EXPORTER_OTLP_ENDPOINT=http://HOST:4318"),
    ],
)
def test_doctor_finds_an_endpoint_that_cannot_be_meant(
    shop: Shop, endpoint: str, protocol: str, told: str
) -> None:
    found = doctors_word(
        shop, "goes to OTLP", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_EXPORTER_OTLP_PROTOCOL=protocol
    )
    assert found["state"] == "wrong"
    assert told in found["advice"]


def test_doctor_lists_every_wrong_setting_and_what_is_switched_off(shop: Shop) -> None:
    (shop.root / "context-telemetry.toml").write_text("content = true\nsurfce = 'ide'\n", encoding="utf-8")
    done = ct(shop, "doctor", "--json", OTEL_SDK_DISABLED="true")
    found = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert done.returncode == 1
    assert "surface" in found["settings"]["found"]
    assert found["content"]["state"] == "note"
    assert found["recording"]["found"] == "switched off"


def test_run_hands_everything_after_the_dashes_to_the_command(shop: Shop) -> None:
    code = "import sys; print(sys.argv[1:]); sys.exit(7)"
    done = ct(
        shop, "run", "--", sys.executable, "-c", code, "--json", "--", "-h", CONTEXT_TELEMETRY_DISABLED="1"
    )
    assert done.returncode == 7
    assert done.stdout == "['--json', '--', '-h']\n"
    assert ct(shop, "run", "--", "no-such-command-at-all").returncode == 127


def test_help_of_run_is_ours_only_before_the_command(shop: Shop) -> None:
    for asked_for in ("-h", "--help"):
        done = ct(shop, "run", asked_for)
        assert done.returncode == 0
        assert "COMMAND" in done.stdout
    code = "import sys; print(sys.argv[1:])"
    done = ct(shop, "run", sys.executable, "-c", code, "-h", CONTEXT_TELEMETRY_DISABLED="1")
    assert done.stdout == "['-h']\n"


def test_the_package_runs_as_a_module_and_tells_its_version(shop: Shop) -> None:
    command = [sys.executable, "-m", "context_telemetry", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=shop.root)
    assert done.stdout == ct(shop, "version").stdout


def test_the_indicators_page_has_every_indicator() -> None:
    page = (Path(__file__).parent.parent / "docs" / "indicators.md").read_text(encoding="utf-8")
    wanted = {each.name for each in INDICATORS}
    assert wanted == {line.split("`")[1] for line in page.splitlines() if line.startswith("| `")}


def test_doctor_tells_what_this_python_would_observe_from_what_processes_have_said(shop: Shop) -> None:
    process = Process(shop.folder, pid=77, release="0.3.1")
    process.state(active=60, failed=2, errors=3, places={"settings": 1}, ago=180.0)
    process.call(healthy(60.0))
    process.flush()
    done = ct(shop, "doctor", columns=None)
    for words in (
        "as tried here, by this Python",
        "process 77         Dataface 0.3.1, hook points: 60 active, 2 failed, 3 min ago",
        "2 hook points lost; 1 wrong setting, named on its standard error; 2 errors caught",
    ):
        assert words in done.stdout
    assert done.returncode == 0, "what a process has said is worth knowing, and not this installation's fault"


def test_the_demo_ends_with_commands_that_can_be_pasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from context_telemetry.cli import demo as screen
    from context_telemetry.rehearsal import demo

    done = demo.DemoResult(tmp_path / "a demo", tmp_path / "a demo" / "shop", tmp_path / "a demo" / "t", [])
    done.project.mkdir(parents=True)
    (done.project / "dataface.yml").touch()
    Shop(done.project, done.state_dir).record_health()
    monkeypatch.setattr(demo, "run", lambda *_: done)
    assert screen.show(None, keep=True) == 0
    (command,) = [line for line in capsys.readouterr().out.splitlines() if line.endswith("status --since 1d")]
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert subprocess.run(command, shell=True, capture_output=True, check=False).returncode == 0
    screen.show(None, keep=False)
    assert not done.folder.exists()


def test_importing_the_command_line_imports_nothing_heavy(shop: Shop) -> None:
    heavy = {"typer", "rich", "duckdb", "pydantic", "opentelemetry.sdk"}
    code = f"import sys, context_telemetry.cli; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.skipif(sys.platform == "win32", reason="a pseudo terminal is needed")
def test_watch_ends_on_interrupt_with_a_line_and_leaves_the_last_look(shop: Shop) -> None:
    import pty

    shop.record_health()
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "context_telemetry.cli", "status", "--watch"],
        cwd=shop.root,
        env={
            **os.environ,
            "CONTEXT_TELEMETRY_STATE_DIR": str(shop.state),
            "TERM": "xterm",
            "COLUMNS": "150",
            "LINES": "50",
        },
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.PIPE,
    )
    os.close(theirs)
    seen = b""
    while b"HEALTHY" not in seen:
        seen += os.read(ours, 4096)
    process.send_signal(signal.SIGINT)
    rest = b""
    with contextlib.suppress(OSError):  # the other end closes when the process ends
        while more := os.read(ours, 4096):
            rest += more
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, b"context-telemetry: interrupted; the last look is above\n")
    assert b"HEALTHY" in rest
    os.close(ours)


def test_doctor_shows_the_processes_that_have_something_to_say_before_those_that_have_not(shop: Shop) -> None:
    for number in range(8):
        process = Process(shop.folder, pid=6000 + number, seed=number)
        process.state(ago=100.0 - number, dropped=0 if number else 5)
        process.flush()
    checks = {each["name"]: each["state"] for each in asked(shop, "doctor")["checks"]}
    assert checks["process 6000"] == "note"
    assert checks["process 6007"] == checks["earlier"] == "ok"
    assert "process 6002" not in checks
