"""A fleet of MCP servers that live for one session each: every call and every fault counts once, in few series.

The processes are real (`context-telemetry run -- dft mcp serve`, a real client), and so is the gateway. Two hundred
of them are 800 s of processor time: seven minutes where two cores have nothing else to do, 23 on a busy machine.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from context_telemetry.conventions.derive import derive
from context_telemetry.rehearsal import driver
from context_telemetry.rehearsal.driver import Call
from context_telemetry.rehearsal.faults import fault
from context_telemetry.rehearsal.sample import Sample
from stack import traffic
from stack.traffic import Series
from tools.processes import free_ports, wait_until
from tools.stack import Stack

pytestmark = pytest.mark.stack

SERVE = Path(__file__).with_name("serve.py")
SESSIONS = 200
AT_ONCE = 4
BUDGET_SECONDS = 45 * 60

HEALTHY = driver.tool("search_dashboards", query="revenue")
# By session: seven that are answered with less, two that fail; each kind in both halves, so that the second has no new
# series of its own.
DEGRADED = {
    **dict.fromkeys((3, 41, 77, 130), "resource_unknown"),
    **dict.fromkeys((12, 90, 171), "result_oversized"),
}
FAILED = dict.fromkeys((25, 160), "sql_typo")


def call_of(session: int) -> Call:
    name = {**DEGRADED, **FAILED}.get(session)
    return HEALTHY if name is None else fault(name).meetings[0].call


class NoTurn:
    """Servers need not start one after the other where each has a port of its own (serve.py)."""

    def taken(self) -> bool:
        return True

    def over(self) -> None:
        pass


async def run(project: Path, env: dict[str, str], sessions: range) -> None:
    """Each session is a process of its own that is asked once."""
    turns = asyncio.Semaphore(AT_ONCE)
    ports = dict(zip(sessions, free_ports(len(sessions)), strict=True))

    async def one(number: int) -> None:
        command = driver.observed([sys.executable, str(SERVE), str(ports[number])])
        async with turns, driver.session(project, command=command, env=env) as client:
            await client.send(call_of(number))

    await asyncio.gather(*(one(number) for number in sessions))


@pytest.mark.timeout(BUDGET_SECONDS)
def test_200_sessions_with_7_faults_count_exactly_7_and_add_no_series(
    sample: Sample, tmp_path: Path, collector_program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "_StartTurn", NoTurn)
    with Stack.up(tmp_path / "stack", parts=("collector",), overlays=[traffic.keeping(tmp_path)]) as stack:

        def at(sessions: int) -> Series:
            def all_there() -> Series | None:
                seen = Series.at(stack.metrics_url)
                ended = seen.total("mcp_server_session_duration_seconds_count")
                return seen if ended == sessions else None

            found: Series = wait_until(f"{sessions} sessions have ended", all_there, 60)
            return found

        half = SESSIONS // 2
        asyncio.run(run(sample.root, stack.environment(), range(half)))
        after_half = at(half)
        asyncio.run(run(sample.root, stack.environment(), range(half, SESSIONS)))
        after_all = at(SESSIONS)
        lost = traffic.dropped_points(stack.telemetry_url)

    assert after_all.total("dataface_degradations_total") == len(DEGRADED) == 7
    for reason, name in (
        ("resource_unknown", "resource_unknown"),
        ("payload_over_budget", "result_oversized"),
    ):
        planned = sum(each == name for each in DEGRADED.values())
        assert after_all.total("dataface_degradations_total", dataface_degradation_reason=reason) == planned
    served = "dataface_context_served_total"
    assert after_all.total(served, dataface_outcome="degraded") == len(DEGRADED)
    assert after_all.total(served, dataface_outcome="failed") == len(FAILED)
    assert after_all.total(served, dataface_operation_name="mcp.initialize") == SESSIONS
    asked = ("tool.call", "resource.read")
    assert sum(after_all.total(served, dataface_operation_name=each) for each in asked) == SESSIONS
    assert len(after_all.samples) == len(after_half.samples)
    assert lost == 0

    received = list(traffic.resource_spans(tmp_path / "received"))
    assert len({resource["service.instance.id"] for resource, _ in received}) == SESSIONS
    spans = [traffic.as_derived(*each) for each in received]
    events = [traffic.event_as_derived(*each) for each in traffic.log_records(tmp_path / "received")]
    wanted = traffic.expected(derive(spans, events), spans[0]["resource"])
    assert traffic.differences(traffic.normal(after_all), wanted) == []
