"""The shipped Collector configurations, byte for byte, in the real Collector, fed by real Dataface processes.

What it may not lose is sent while its backend is away, and while it is killed; what it may not keep is planted.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from context_telemetry.conventions import names
from context_telemetry.conventions.derive import derive
from context_telemetry.ops import build, collector
from context_telemetry.ops.inputs import defaults
from context_telemetry.pipeline import guard
from context_telemetry.rehearsal import driver
from context_telemetry.rehearsal.faults import fault
from context_telemetry.rehearsal.sample import Sample
from stack import traffic
from stack.traffic import Series, entry, logs_body, post, spans_body, sum_body, telemetry
from tools.processes import Process, wait_until
from tools.programs import ROOT, program
from tools.stack import Stack

pytestmark = pytest.mark.stack

# Seconds for which the backend is away; the two minutes were measured once with this at 120.
AWAY_SECONDS = float(os.environ.get("STACK_AWAY_SECONDS", "30"))
SERVED = "dataface_context_served_total"


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `collector/` as it is built from the defaults."""
    root = tmp_path_factory.mktemp("ops")
    for name, text in collector.files(defaults()).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, "utf-8")
    return root / "collector"


@pytest.fixture
def gateway(tmp_path: Path, collector_program: Path) -> Iterator[Stack]:
    """A gateway that also writes down what it was sent."""
    with Stack.up(tmp_path / "stack", parts=("collector",), overlays=[traffic.keeping(tmp_path)]) as stack:
        yield stack


@pytest.mark.parametrize(
    "configurations",
    [
        ["agent.yaml"],
        ["gateway.yaml"],
        ["gateway.yaml", "otlp_logs.yaml"],
        ["gateway.yaml", "remote_write.yaml"],
    ],
    ids="+".join,
)
def test_every_shipped_configuration_is_valid_and_names_nothing_by_an_old_name(
    configurations: list[str], shipped: Path, collector_program: Path
) -> None:
    command = [str(collector_program), "validate"]
    for each in configurations:
        command += ["--config", str(shipped / each)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_prometheus_takes_the_shipped_file_with_all_that_it_names(tmp_path: Path) -> None:
    for name, text in build.generate(defaults()).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    command = [str(program("promtool")), "check", "config", str(tmp_path / "collector" / "prometheus.yaml")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rules found" in done.stdout


def test_a_misspelt_key_is_refused(shipped: Path, tmp_path: Path, collector_program: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    text = (shipped / "gateway.yaml").read_text("utf-8")
    assert "decision_wait:" in text
    wrong.write_text(text.replace("decision_wait:", "decision_wiat:"), "utf-8")
    done = subprocess.run(
        [str(collector_program), "validate", "--config", str(wrong)], capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "decision_wiat" in done.stdout + done.stderr


@pytest.mark.timeout(600)
def test_a_real_server_is_counted_as_the_conventions_count_its_spans(
    sample: Sample, tmp_path: Path, gateway: Stack
) -> None:
    project = sample.copy(tmp_path / "shop").root
    driver.drive_everything(project, env=gateway.environment())
    for name in ("manifest_cut", "result_oversized", "arguments_invalid"):
        broken = fault(name)
        with broken.injected(project):
            calls = [meeting.call for meeting in broken.meetings]
            driver.drive(project, calls, env=gateway.environment(), client_name="cursor")
    received = tmp_path / "received"

    def settled() -> list[str] | None:
        """No difference; the last batches may be on their way."""
        spans = [traffic.as_derived(*each) for each in traffic.resource_spans(received)]
        events = [traffic.event_as_derived(*each) for each in traffic.log_records(received)]
        wanted = traffic.expected(derive(spans, events), spans[0]["resource"])
        found = traffic.differences(traffic.normal(Series.at(gateway.metrics_url)), wanted)
        return ["equal"] if not found else found if time.monotonic() > patience else None

    patience = time.monotonic() + 20
    assert wait_until("the Collector's numbers", settled, 60) == ["equal"]
    found = Series.at(gateway.metrics_url)
    assert found.total("mcp_server_session_duration_seconds_count") == 4
    assert found.total("dataface_degradations_total", dataface_degradation_reason="payload_over_budget") == 1
    assert found.total("dataface_degradations_total", dataface_degradation_reason="manifest_unreadable") >= 1
    # The processes have sent their own counters too, and none of them is anywhere.
    assert telemetry(gateway.telemetry_url, "otelcol_processor_filter_datapoints_filtered") > 0
    assert not Series.at(gateway.others_url).of("dataface_")
    assert traffic.dropped_points(gateway.telemetry_url) == 0


def test_requests_at_the_same_time_lose_no_count(gateway: Stack) -> None:
    senders, requests = 8, 150

    def send() -> None:
        for _ in range(requests):
            post(gateway.otlp_http, "traces", spans_body([entry()]))

    threads = [threading.Thread(target=send) for _ in range(senders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    def counted() -> float:
        return Series.at(gateway.metrics_url).total(SERVED)

    wait_until("all are counted", lambda: counted() >= senders * requests, 30)
    assert counted() == senders * requests
    assert traffic.dropped_points(gateway.telemetry_url) == 0


def test_our_own_counters_are_dropped_and_those_of_others_pass_on(gateway: Stack) -> None:
    for each, scope in (("dataface.context.served", names.SCOPE), ("theirs", "another.library")):
        post(gateway.otlp_http, "metrics", sum_body(each, 42, scope))
    passed = wait_until("theirs", lambda: Series.at(gateway.others_url).of("theirs"), 10)
    assert list(passed.values()) == [42]
    assert not Series.at(gateway.others_url).of("dataface")
    assert not Series.at(gateway.metrics_url).of("dataface")


def test_what_a_client_invents_does_not_become_a_series(gateway: Stack) -> None:
    for number in range(30):
        invented = entry(
            gen_ai__tool__name=f"tool-{number}",
            dataface__catalog__source=f"source-{number}",
            dataface__catalog__unresolved=1,
            dataface__degradation__reasons=["object_unknown"],
            mcp__method__name=f"method-{number}",
        )
        post(gateway.otlp_http, "traces", spans_body([invented], {**traffic.RESOURCE, "process.pid": number}))
    found = wait_until(
        "all are counted", lambda: (s := Series.at(gateway.metrics_url)).total(SERVED) == 30 and s, 10
    )
    assert len(found.of("dataface_resolution_failures_total")) == 1
    labels = {
        key: value
        for _, pairs in found.of("dataface_resolution_failures_total")
        for key, value in pairs
        if key.startswith("dataface_catalog")
    }
    assert labels == {"dataface_catalog_source": "_OTHER"}
    assert len(found.of("mcp_server_operation_duration_seconds_count")) == 1


def test_spans_of_the_wrong_shape_take_nothing_else_with_them(gateway: Stack) -> None:
    """Anybody can send a span: numbers that are words, lists that are none, two kinds of number in one sum."""
    wrong = [
        entry(dataface__degradation__reasons="manifest_missing"),
        entry(dataface__degradation__reasons=[]),
        entry(dataface__payload__size="large"),
        entry(dataface__catalog__unresolved=1.5, dataface__degradation__reasons=[]),
        entry(dataface__catalog__unresolved=2),
        entry(dataface__catalog__unresolved="many"),
    ]
    post(gateway.otlp_http, "traces", spans_body([*wrong, entry()]))
    found = wait_until(
        "all are counted",
        lambda: (s := Series.at(gateway.metrics_url)).total(SERVED) == len(wrong) + 1 and s,
        10,
    )
    assert found.total("dataface_degradations_total") == 0
    assert found.total("dataface_resolution_failures_total") == 3


def test_content_that_a_sender_left_in_does_not_get_through(tmp_path: Path, gateway: Stack) -> None:
    secret = "opensesame"
    content = {
        **dict.fromkeys(guard.DROPPED_KEYS, secret),
        **{f"{prefix}x": secret for prefix in guard.DROPPED_PREFIXES},
        **{f"any{suffix}": secret for suffix in guard.DROPPED_SUFFIXES},
        **dict.fromkeys(guard.HIDDEN, f"/faces/{secret}"),
        **dict.fromkeys(guard.CUT_AT_QUERY, f"dataface://docs/charts?token={secret}"),
        "note": f"postgres://shop:{secret}@warehouse/shop",
        "hint": f"password={secret}",
        "where": f"/home/{secret}/shop",
    }
    span = entry(has=content)
    span["name"] = f"read /home/{secret}/shop"
    span["status"] = {"code": 2, "message": f"no such user {secret}"}
    told = {"exception.type": "OSError", "exception.message": secret, "exception.stacktrace": secret}
    span["events"] = [
        {"timeUnixNano": span["endTimeUnixNano"], "name": "exception", "attributes": traffic.pairs(told)},
        {"timeUnixNano": span["endTimeUnixNano"], "name": "retry", "attributes": traffic.pairs(content)},
    ]
    record = {
        "timeUnixNano": span["endTimeUnixNano"],
        "body": {"stringValue": f"query failed: {secret}"},
        "attributes": traffic.pairs({**content, **told}),
    }
    resource = {
        **traffic.RESOURCE,
        "process.command_line": f"dft --password {secret}",
        "where": f"/home/{secret}",
    }
    post(gateway.otlp_http, "traces", spans_body([span], resource))
    post(gateway.otlp_http, "logs", logs_body([record], resource, scope="another.library"))

    received = tmp_path / "received" / "gateway"
    kept = [
        received / "traces-0.jsonl",
        received / "events-0.jsonl",
        gateway.storage("collector") / "events.jsonl",
    ]
    wait_until("it is written", lambda: all(path.exists() and path.stat().st_size for path in kept), 10)
    for path in kept:
        assert secret not in path.read_text("utf-8"), path
    ((_, found),) = traffic.resource_spans(received)
    attributes = traffic.plain(found["attributes"])
    assert attributes["dataface.outcome"] == "ok"  # what is ours stays as it is
    assert attributes["mcp.resource.uri"] == "dataface://docs/charts"
    assert traffic.plain(found["events"][0]["attributes"]) == {"exception.type": "OSError"}
    assert found["status"]["code"] == 2


def test_a_healthy_span_of_ours_is_not_changed(sample: Sample, tmp_path: Path, gateway: Stack) -> None:
    """The second net has nothing to take from what the first has let through."""
    state = tmp_path / "state"
    calls = [*driver.HEALTHY_TOOLS[:6], *driver.TEMPLATE_RESOURCES]
    driver.drive(sample.root, calls, env=gateway.environment())
    driver.drive(sample.root, calls, env={"CONTEXT_TELEMETRY_STATE_DIR": str(state)})

    def seen(folder: Path) -> list[tuple[str, dict[str, Any]]]:
        volatile = ("size", "age", "fingerprint", "request.id", "session")
        return sorted(
            (
                (
                    span["name"],
                    {
                        key: value
                        for key, value in traffic.plain(span["attributes"]).items()
                        if not any(each in key for each in volatile)
                    },
                )
                for _, span in traffic.resource_spans(folder)
            ),
            key=str,
        )

    wait_until("all spans are there", lambda: len(seen(tmp_path / "received")) == len(seen(state)), 20)
    assert seen(tmp_path / "received") == seen(state)


@pytest.mark.timeout(120)
def test_sampling_keeps_every_degraded_failed_and_slow_trace_and_changes_no_number(
    tmp_path: Path, collector_program: Path
) -> None:
    env = {"COLLECTOR_KEEP_PERCENT": "0", "COLLECTOR_DECISION_WAIT": "1s"}
    overlays = [traffic.keeping(tmp_path, sampled=True)]
    slow = collector.SLOW_SECONDS * 1000
    # A rule counts what is above the boundary by less than a millisecond.
    notable = [entry("degraded"), entry("failed"), entry(milliseconds=slow + 0.4)]
    notable.append({**entry(), "status": {"code": 2}})
    ordinary = [entry() for _ in range(20)] + [entry(milliseconds=slow - 100)]
    with Stack.up(tmp_path / "stack", parts=("collector",), env=env, overlays=overlays) as stack:
        post(stack.otlp_http, "traces", spans_body([*ordinary, *notable]))
        wait_until("all are counted", lambda: Series.at(stack.metrics_url).total(SERVED) == 25, 10)
        name = "otelcol_processor_tail_sampling_global_count_traces_sampled"
        wait_until("all are decided", lambda: telemetry(stack.telemetry_url, name) == 25, 20)
        wait_until(
            "they are written", lambda: len(list(traffic.resource_spans(tmp_path / "received"))) == 4, 10
        )
    kept = {span["traceId"] for _, span in traffic.resource_spans(tmp_path / "received")}
    assert kept == {span["traceId"] for span in notable}


@pytest.mark.timeout(120)
def test_a_trace_is_judged_with_its_entry_however_late_that_comes(
    tmp_path: Path, collector_program: Path
) -> None:
    """The entry's span is sent when the call ends; those below it may have been there for long."""
    env = {"COLLECTOR_KEEP_PERCENT": "0", "COLLECTOR_ROOT_WAIT": "1s", "COLLECTOR_DECISION_WAIT": "20s"}
    overlays = [traffic.keeping(tmp_path, sampled=True)]
    above = entry("degraded", milliseconds=4000)
    below = {**entry(), "traceId": above["traceId"], "parentSpanId": above["spanId"]}
    with Stack.up(tmp_path / "stack", parts=("collector",), env=env, overlays=overlays) as stack:
        post(stack.otlp_http, "traces", spans_body([below, entry()]))
        name = "otelcol_processor_tail_sampling_global_count_traces_sampled"
        wait_until("the other is decided", lambda: telemetry(stack.telemetry_url, name) == 1, 20)
        post(stack.otlp_http, "traces", spans_body([above]))
        wait_until("both are kept", lambda: len(list(traffic.resource_spans(tmp_path / "received"))) == 2, 20)


@pytest.mark.timeout(240 + 2 * AWAY_SECONDS)
def test_nothing_is_lost_while_the_backend_is_away(
    tmp_path: Path, collector_program: Path, jaeger_program: Path
) -> None:
    env = {"COLLECTOR_KEEP_PERCENT": "100", "COLLECTOR_DECISION_WAIT": "1s"}
    with Stack.up(tmp_path / "stack", parts=("collector", "jaeger"), env=env) as stack:
        jaeger = stack.process("jaeger")
        sent: set[str] = set()

        def send_for(seconds: float) -> None:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                spans = [entry() for _ in range(5)]
                post(stack.otlp_http, "traces", spans_body(spans))
                sent.update(span["traceId"] for span in spans)
                time.sleep(0.1)

        # Its memory goes with Jaeger, so what is asked for afterwards is what came after the stop.
        post(stack.otlp_http, "traces", spans_body([entry()]))
        wait_until("Jaeger has the first", lambda: len(stack.traces()) == 1)
        jaeger.stop()
        send_for(AWAY_SECONDS)
        assert telemetry(stack.telemetry_url, "otelcol_exporter_queue_size", exporter="otlp_grpc/traces") > 0
        jaeger.start()
        send_for(2)
        wait_until(
            f"{len(sent)} traces", lambda: {each["traceID"] for each in stack.traces()} == sent, 120, every=2
        )
        wait_until("all are counted", lambda: Series.at(stack.metrics_url).total(SERVED) == len(sent) + 1, 20)


@pytest.mark.timeout(180)
def test_what_a_killed_agent_had_taken_arrives_once_it_is_back(
    tmp_path: Path, collector_program: Path
) -> None:
    """The guarantee: what an agent has answered for is on its disk, and is with the gateway in the end."""
    with Stack.up(
        tmp_path / "stack", parts=("collector", "agent"), overlays=[traffic.keeping(tmp_path)]
    ) as stack:
        agent, gateway = stack.process("agent"), stack.process("collector")
        gateway.stop()
        sent = []
        for _ in range(200):
            spans = [entry() for _ in range(5)]
            post(stack.otlp_http, "traces", spans_body(spans))
            sent += [span["spanId"] for span in spans]
        agent.kill()
        gateway.start()
        agent.start()

        def arrived() -> list[str]:
            return [span["spanId"] for _, span in traffic.resource_spans(tmp_path / "received")]

        wait_until(f"{len(sent)} spans", lambda: set(arrived()) == set(sent), 60)
        wait_until("all are counted", lambda: Series.at(stack.metrics_url).total(SERVED) >= len(sent), 20)
        assert sorted(arrived()) == sorted(sent)  # and each of them once
        assert Series.at(stack.metrics_url).total(SERVED) == len(sent)


def built(artifact: str, at: int) -> dict[str, Any]:
    """The event that says when an artefact was built; it belongs to no trace."""
    said = {"dataface.artifact": artifact, "dataface.artifact.built_at": at}
    return {
        "timeUnixNano": str(time.time_ns()),
        "eventName": "dataface.artifact.changed",
        "attributes": traffic.pairs(said),
    }


@pytest.mark.timeout(180)
def test_what_processes_of_a_project_say_last_is_on_one_gateway_of_several(
    tmp_path: Path, collector_program: Path
) -> None:
    """A gauge that another gateway has kept from before would say for days what is no more."""
    gauge, said = "dataface_artifact_built_at_seconds", 12
    with (
        Stack.up(tmp_path / "one", parts=("collector",)) as one,
        Stack.up(tmp_path / "two", parts=("collector", "agent"), gateways=[one.otlp_grpc]) as two,
    ):
        for number in range(said):
            for project in "abcdefgh":
                process = {"service.name": "dataface", "service.namespace": project, "process.pid": number}
                post(two.otlp_http, "logs", logs_body([built("manifest", 1_700_000_000 + number)], process))
            time.sleep(0.3)  # longer than a batch is waited for

        def last() -> list[float]:
            return [value for each in (one, two) for value in Series.at(each.metrics_url).of(gauge).values()]

        newest = [1_700_000_000.0 + said - 1] * 8  # each project once
        found = wait_until("the last of all", lambda: (now := last()).count(newest[0]) >= 8 and now, 20)
        assert found == newest
        assert all(Series.at(each.metrics_url).of(gauge) for each in (one, two))  # and they are shared out


def test_the_last_word_on_a_project_s_contract_is_one_series_under_whatever_service_name(
    gateway: Stack,
) -> None:
    """A host of another name that is gone would say for days that the contract is broken."""

    def compared(open_ones: int, service: str, part: str = "tables") -> None:
        said = {f"dataface.contract.open.{level}": open_ones for level in ("breaking", "warning", "info")}
        record = {
            "timeUnixNano": str(time.time_ns()),
            "eventName": "dataface.contract.compared",
            "attributes": traffic.pairs({**said, "dataface.contract.part": part}),
        }
        resource = {"service.name": service, "service.namespace": "accepted"}
        post(gateway.otlp_http, "logs", logs_body([record], resource))

    def breaking() -> list[float]:
        found = Series.at(gateway.metrics_url).of("dataface_contract_open").items()
        place = {("service_namespace", "accepted"), ("dataface_contract_level", "breaking")}
        assert not any("service_name" in dict(labels) for (_, labels), _ in found)
        return sorted(value for (_, labels), value in found if place <= labels)

    compared(2, "a-host")
    wait_until("what is open", lambda: breaking() == [2.0])
    compared(1, "a-host", "tools")
    wait_until("what is open of tools", lambda: breaking() == [1.0, 2.0])
    compared(0, "dataface")  # a server says nothing of tools, and clears nothing of them
    wait_until("that none is of tables", lambda: breaking() == [0.0, 1.0])


_ENDED = """
import signal, sys
from pathlib import Path
from tools import show_page, stack

folder, program, which = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
up = stack.Stack.up


def one(*_, **__):
    return up(folder / "stack", parts=("collector",))


def show(*_):
    with one():
        (folder / "up").touch()
        signal.pause()


stack.CACHE, stack.Stack.up, stack.program, show_page.show = folder, one, lambda part: program, show
sys.exit(stack.main() if which == "stack" else show_page.main([]))
"""


@pytest.mark.parametrize("which", ["stack", "show_page"])
def test_a_tool_that_gets_sigterm_ends_what_it_has_started(
    which: str, tmp_path: Path, collector_program: Path
) -> None:
    command = [sys.executable, "-c", _ENDED, str(tmp_path), str(collector_program), which]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as tool:
        if which == "stack":
            assert tool.stdout is not None
            next(line for line in tool.stdout if "ends it" in line)
        else:
            wait_until("it is up", (tmp_path / "up").exists, 30)
        (started,) = children(tool.pid)
        tool.terminate()
        assert tool.wait(30) == 128 + signal.SIGTERM
    left = Path(f"/proc/{started}").exists()
    if left:
        os.kill(started, signal.SIGKILL)
    assert not left


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("end", [Process.kill, Process.stop], ids=["killed", "stopped"])
def test_what_a_gateway_had_decided_when_it_ended_arrives_once_it_is_back(
    end: Callable[[Process], None], tmp_path: Path, collector_program: Path, jaeger_program: Path
) -> None:
    """The guarantee: a trace that is decided is on disk. One that still waits for its spans is not."""
    env = {"COLLECTOR_KEEP_PERCENT": "100", "COLLECTOR_DECISION_WAIT": "1s"}
    with Stack.up(tmp_path / "stack", parts=("collector", "jaeger"), env=env) as stack:
        jaeger, gateway = stack.process("jaeger"), stack.process("collector")
        jaeger.stop()
        sent = [entry() for _ in range(500)]
        post(stack.otlp_http, "traces", spans_body(sent))
        name = "otelcol_processor_tail_sampling_global_count_traces_sampled"
        wait_until("all are decided", lambda: telemetry(stack.telemetry_url, name) == len(sent), 20)
        end(gateway)
        jaeger.start()
        gateway.start()
        wanted = {span["traceId"] for span in sent}
        wait_until("all traces", lambda: {each["traceID"] for each in stack.traces()} == wanted, 60)
