"""A column that a face uses is dropped, and nobody asks for it: the next `check` tells whoever has to know."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from context_telemetry.ops import build
from context_telemetry.rehearsal import driver, sample
from context_telemetry.rehearsal.faults import fault
from tools.processes import wait_until
from tools.stack import Stack

pytestmark = pytest.mark.stack

_WINDOW = 300.0
_COLUMN = "shop.main.fct_orders.payment_method"
_OPENED = 3


class _Shop:
    """A project with an accepted contract, whose `check` reports to a stack and to local files."""

    def __init__(self, folder: Path, stack: Stack) -> None:
        self.root = sample.create(folder / "shop").root
        self.state = {"CONTEXT_TELEMETRY_STATE_DIR": str(folder / "state")}
        self._to_stack = stack.environment()

    def run(self, *arguments: str, to_stack: bool = False) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "context_telemetry", *arguments],
            cwd=self.root,
            env={**os.environ, **self.state, **(self._to_stack if to_stack else {}), "COLUMNS": "160"},
            capture_output=True,
            text=True,
            timeout=120,
        )

    def check(self, *arguments: str, to_stack: bool = False) -> subprocess.CompletedProcess[str]:
        return self.run("check", "--no-tools", "--no-prompts", *arguments, to_stack=to_stack)

    def open_a_face(self, times: int) -> None:
        async def use(client: driver.Client) -> None:
            for _ in range(times):
                await client.send(driver.tool("render_dashboard", path="faces/orders.yml"))

        driver.with_session(self.root, use, env=self.state)


def _breaking(stack: Stack) -> list[float]:
    """What is open of each part that was compared, as one sum."""
    query = 'sum(dataface_contract_open{dataface_contract_level="breaking"})'
    return [value for _, value in stack.query(query)]


@pytest.mark.timeout(900)
def test_a_dropped_column_is_told_by_the_next_check_to_screen_trace_metric_and_its_owner(
    tmp_path: Path,
) -> None:
    limits = tmp_path / "limits.toml"
    limits.write_text(f"[limits.objectives]\nwindow = {_WINDOW:g}\n", "utf-8")
    build.build(tmp_path / "ops", None, limits)
    with Stack.up(tmp_path / "stack", ops_dir=tmp_path / "ops", scrape="1s") as stack:
        assert stack.pages is not None
        shop = _Shop(tmp_path, stack)
        accepted = shop.run("contract", "snapshot", "--no-tools")
        assert accepted.returncode == 0, accepted.stderr
        shop.open_a_face(_OPENED)
        healthy = shop.check(to_stack=True)
        assert healthy.returncode == 0, healthy.stdout + healthy.stderr
        wait_until("nothing is open", lambda: _breaking(stack) == [0.0], 60)

        dropped = fault("column_dropped")
        dropped.inject(shop.root)
        broken = time.time()
        found = shop.check("--json", to_stack=True)
        assert found.returncode == 1, found.stdout + found.stderr
        document = json.loads(found.stdout)
        assert {"contract_broken", "schema_drift"} <= set(document["reasons"])
        (change,) = (each for each in document["changes"] if each["open"])
        assert (change["rule"], change["object"]) == ("column_removed", _COLUMN)
        hit = {each["name"]: (each["parts"], each["served"]) for each in change["hits"]}
        assert hit == {
            "faces/orders.yml": (["by_payment"], _OPENED),
            "faces/catalog.yml": (["order_columns"], 0),
        }

        # The metric, the trace, and the page with its owner and runbook.
        wait_until("the metric has it", lambda: _breaking(stack) == [1.0], 60)
        (trace,) = wait_until("the trace is there", lambda: _of_check(stack, document["trace_id"]), 60)
        reasons = next(tag["value"] for tag in trace["tags"] if tag["key"] == "dataface.degradation.reasons")
        assert "contract_broken" in reasons

        def paged(status: str, since: float) -> list[Any]:
            assert stack.pages is not None
            return [each for each in stack.pages.about("DatafaceContractOpen", status) if each.at >= since]

        page = wait_until("the owner is paged", lambda: paged("firing", broken), _WINDOW / 60 + 60)[0]
        (alert, *_) = page.alerts
        assert page.path == "/catalogue-owner"
        assert (alert["labels"]["owner"], alert["labels"]["severity"]) == ("catalogue-owner", "page")
        assert alert["annotations"]["runbook_url"].endswith("/runbooks/DatafaceContractOpen.md")

        # The verdict, of the engine and of the local files of a check beside it.
        fleet = shop.run("status", "--prometheus", stack.prometheus_url)
        assert fleet.returncode == 1, fleet.stderr
        assert "contract_open" in fleet.stdout
        assert shop.check().returncode == 1
        local = shop.run("status")
        assert local.returncode == 1, local.stderr
        assert "✗  contract_open" in local.stdout
        assert "check.run" in shop.run("traces", "--reason", "contract_broken").stdout

        dropped.heal(shop.root)
        healed = time.time()
        assert shop.check(to_stack=True).returncode == 0
        wait_until("nothing is open any more", lambda: _breaking(stack) == [0.0], 60)
        over = wait_until("the page is resolved", lambda: paged("resolved", healed), _WINDOW + 120)
        assert over[0].path == "/catalogue-owner"


def _of_check(stack: Stack, trace_id: str) -> list[dict[str, Any]]:
    return [
        span
        for trace in stack.traces()
        if trace["traceID"].endswith(trace_id.lstrip("0"))
        for span in trace["spans"]
        if span["operationName"] == "check.run"
    ]
