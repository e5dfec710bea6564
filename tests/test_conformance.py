"""What a full run emits is what the conventions declare, both ways; every way of counting gives the same numbers."""

from __future__ import annotations

import pytest
from conformance import assert_memory_conforms
from inprocess import instrumented, with_client

from context_telemetry.rehearsal.driver import HEALTHY_TOOLS, Client, resource, tool
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
