"""What a full run emits is what the conventions declare, both ways; every way of counting gives the same numbers."""

from __future__ import annotations

import asyncio
import functools
from pathlib import Path
from typing import get_args

import pytest
from agent_fakes import FakeModel, turn
from conformance import (
    Record,
    assert_conforms,
    assert_memory_conforms,
    assert_none,
    read_folder,
    records_of,
)
from conftest import Observed
from contract.catalogues import desk
from contract.looks import accept
from httpserver import application, browser
from inprocess import INITIALIZE, exchange, instrumented, opened, with_client
from opentelemetry import trace
from test_on_contract import BOTH, STATUS, asks, change, changes, compared, eventually, watched

from context_telemetry import operation, surface
from context_telemetry.contract.impact import Recorded
from context_telemetry.contract.look import compare
from context_telemetry.contract.model import Consumer
from context_telemetry.conventions import names
from context_telemetry.conventions.check import check, unused
from context_telemetry.conventions.derive import derive
from context_telemetry.instrumentation import report_state
from context_telemetry.instrumentation.contract_events import Said
from context_telemetry.instrumentation.instrumentor import Phase
from context_telemetry.limits import Limits
from context_telemetry.observe import recorder
from context_telemetry.rehearsal.driver import HEALTHY_TOOLS, Client, resource, tool
from context_telemetry.rehearsal.fault import Fault
from context_telemetry.rehearsal.faults import faults
from context_telemetry.rehearsal.sample import Sample

pytestmark = pytest.mark.real


def test_what_the_process_counts_is_what_its_spans_and_events_give(sample: Sample) -> None:
    with instrumented() as memory:

        async def mixed(client: Client) -> None:
            for call in HEALTHY_TOOLS:
                await client.send(call)
            await client.send(tool("execute_query", sql="SELECT 1", source="nowhere"))
            await client.send(tool("no_such_tool"))
            await client.send(resource("dataface://docs/error-reference"))

        with_client(sample.root, mixed)
        assert_memory_conforms(memory)


def test_nothing_is_declared_that_a_full_run_does_not_emit(
    sample: Sample, tmp_path: Path, observed: Observed
) -> None:
    """Every tool, every fault, a project with promises, one with a contract, broken requests, an author's own."""
    compared_spans, compared_events = contract_met(sample.copy(tmp_path / "accepted").root)
    with instrumented() as memory:
        recorder.set_limits(Limits.model_validate({"promises": {"dbt_manifest": 1}}).compile())
        exchange(sample.root, [*INITIALIZE, {"id": 1, "method": "prompts/list"}])
        with_client(sample.root, healthy)
        with opened(sample.root) as (context, _):
            list(turn(context, FakeModel([("docs", {})], ["Here it is."]), built=True))
        dft("docs")
        with browser(application(sample.root)) as pages:
            pages.get("/orders/")
            with (
                pytest.MonkeyPatch.context() as host
            ):  # FastAPI makes the span where the process has a provider
                host.setattr(trace, "_TRACER_PROVIDER", memory.tracer_provider)
                pages.get("/orders/")
        for fault in faults():
            project = sample.copy(tmp_path / fault.name).root
            with_client(project, functools.partial(met, fault, project))
        for name in names.OPERATIONS - names.ENTRY_OPERATIONS:
            for said in names.SURFACES:
                with surface(said), operation(name):
                    pass
        for phase in get_args(Phase):
            report_state(phase)
        spans, events = records_of(memory)
        over_stdio = observed(sample.root, [tool("docs")])
        assert_conforms(over_stdio.state_dir)
        spans += read_folder(over_stdio.state_dir)[0]
        spans, events = spans + compared_spans, events + compared_events
        assert_none(unused(spans, events, derive(spans, events)))
        assert_memory_conforms(memory)


def contract_met(project: Path) -> tuple[list[Record], list[Record]]:
    """A contract that is broken while it is served, and a check of it that knows how often its faces were."""
    accept(project)
    with instrumented() as memory, watched(project) as (_, registry):
        asks(memory, registry, "select * from nowhere")
        eventually(lambda: compared(memory))
        change(project, "alter table fct_orders drop column status")
        eventually(lambda: asks(memory, registry, STATUS) == BOTH)
        with operation("check.run"), desk() as connection:
            faces = {Consumer("face", "faces/orders.yml"): 3}
            Said().say(compare(connection, project, recorded=Recorded(faces, "this week")).comparison)
        change(project, "alter table fct_orders add column status varchar")
        eventually(lambda: any(state == "closed" for *_, state in changes(memory)))
        spans, events = records_of(memory)
        assert_none(check(spans, events, derive(spans, events)))
        return spans, events


def dft(*arguments: str) -> None:
    from dataface.cli.main import app
    from typer.testing import CliRunner

    assert CliRunner().invoke(app, arguments).exit_code == 0


async def healthy(client: Client) -> None:
    for call in HEALTHY_TOOLS:
        await client.send(call)


async def met(fault: Fault, project: Path, client: Client) -> None:
    await client.send(fault.twin)
    with fault.injected(project):
        await asyncio.sleep(fault.settles)
        for meeting in fault.meetings:
            await client.send(meeting.call)
