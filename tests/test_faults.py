"""Every fault that Dataface 0.4.0 shows over MCP: the exact outcome and reasons on the entry, and a healthy twin."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from inprocess import entry_of, instrumented, reasons_of, with_client
from memory import Memory

from context_telemetry.rehearsal.driver import Client
from context_telemetry.rehearsal.faults import FAULTS, Fault

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def memory() -> Iterator[Memory]:
    with instrumented() as made:
        yield made


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_raises_exactly_its_reasons_and_its_healthy_twin_none(
    fault: Fault, project: Path, memory: Memory
) -> None:
    async def meet(client: Client) -> None:
        await client.send(fault.twin)
        await asyncio.sleep(0.2)
        with fault.injected(project):
            await asyncio.sleep(fault.settles)
            for meeting in fault.meetings:
                memory.clear()
                answer = await client.send(meeting.call)
                entry = entry_of(memory.spans)
                attributes = entry.attributes or {}
                assert (attributes["dataface.outcome"], reasons_of(entry)) == (
                    meeting.outcome,
                    meeting.reasons,
                ), f"{meeting.call}: {answer.text[:300]}"
                assert answer.is_error == meeting.is_error
        await asyncio.sleep(fault.settles)
        memory.clear()
        await client.send(fault.twin)
        twin = entry_of(memory.spans)
        assert (twin.attributes or {})["dataface.outcome"] == "ok"
        assert reasons_of(twin) == frozenset()

    with_client(project, meet)
