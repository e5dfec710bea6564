"""One traffic, one verdict: `status` on local files and `status --prometheus` on real engines say the same."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from context_telemetry.health import INDICATORS, Local, Verdict, evaluate, promql
from context_telemetry.health.fleet import Fleet
from context_telemetry.health.indicators import CALLS
from context_telemetry.history import History
from context_telemetry.limits import Limits
from context_telemetry.rehearsal import driver
from context_telemetry.rehearsal.faults import fault
from context_telemetry.rehearsal.sample import Sample
from context_telemetry.settings import project_folder
from tools.processes import wait_until
from tools.programs import program
from tools.stack import Stack

pytestmark = pytest.mark.stack

FAULTS = ("source_unknown_answered", "manifest_cut", "result_oversized", "column_dropped")
WINDOW = 3600.0


@dataclass(frozen=True)
class Fed:
    """A project whose recorded files were sent to two engines."""

    root: Path
    state_dir: Path
    stack: Stack

    @property
    def engines(self) -> dict[str, str]:
        return {"prometheus": self.stack.prometheus_url, "victoria": self.stack.victoria_url}

    def local(self) -> Verdict:
        now = time.time()
        folder = project_folder(self.state_dir, self.root)
        return evaluate(Local(History(folder, since=now - WINDOW), now), Limits())

    def serve(self, *, broken: bool) -> None:
        """Sessions of a real client, and what was recorded of them sent on and scraped."""

        async def use(client: driver.Client) -> None:
            for each in faults:
                for call in [meeting.call for meeting in each.meetings] if broken else [each.twin]:
                    await client.send(call)

        faults = [fault(each).on("0.4.0") for each in FAULTS]
        environment = {"CONTEXT_TELEMETRY_STATE_DIR": str(self.state_dir)}
        for each in faults if broken else ():
            each.inject(self.root)
        try:
            driver.with_session(self.root, use, env=environment)
            ct(self, "check", "--no-tools", "--no-prompts")  # after a session that did not wait to compare
        finally:
            for each in faults if broken else ():
                each.heal(self.root)
        sent = ct(self, "replay", "--to", self.stack.otlp_http)
        assert sent.returncode == 0, sent.stdout + sent.stderr
        wanted = sum(
            finding.count for finding in self.local().findings if finding.indicator.name == "degraded_ratio"
        )
        wait_until(
            "all calls are scraped", lambda: {served(url) for url in self.engines.values()} == {wanted}, 60.0
        )


def served(url: str) -> float:
    return sum(Fleet(url, WINDOW).added(CALLS).values())


def ct(fed: Fed, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "context_telemetry", *arguments, "--project", str(fed.root)]
    if arguments[0] != "status" or "--prometheus" not in arguments:
        command += ["--state-dir", str(fed.state_dir)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def fed(tmp_path_factory: pytest.TempPathFactory, sample: Sample) -> Iterator[Fed]:
    folder = tmp_path_factory.mktemp("fleet")
    root = sample.copy(folder / "shop").root
    accept = [sys.executable, "-m", "context_telemetry", "contract", "snapshot", "--no-tools"]
    subprocess.run(accept, cwd=root, check=True, capture_output=True)
    with Stack.up(folder / "stack", parts=("collector", "prometheus", "victoria"), scrape="1s") as stack:
        yield Fed(root, folder / "state", stack)


def told(verdict: Verdict) -> dict[tuple[str, str | None], tuple[Any, ...]]:
    """What both have to agree on. Ages differ by the moment at which they are asked."""
    return {
        (each.indicator.name, each.surface): (each.state, each.bad, each.limit)
        + (() if each.indicator.kind in ("count", "state", "age") else (each.count,))
        for each in verdict.findings
    }


# What a counter did, a sample a minute, and what came to it in the last of three hours.
HISTORIES = {
    "nothing was added": ("1000x180", 0),
    "it grows": ("0+1x180", 60),
    "it was born in the window": ("_x150 7x30", 7),
    "it was born and grew": ("_x130 3+1x50", 53),
    "a scrape failed before the window": ("1000x118 stale 1000x60", 0),
    "it began anew before the window's first sample": ("9x115 _x10 0x53", 0),
    "its process has ended": ("_x130 40x10 stale _x39", 40),
    "it stood still until it ended": ("40x150 stale _x29", 0),
}


def test_an_increase_is_exact_whatever_became_of_the_counter(tmp_path: Path) -> None:
    series = [
        {"series": f'x_total{{what="{what}"}}', "values": values} for what, (values, _) in HISTORIES.items()
    ]
    expected = [{"labels": f'{{what="{what}"}}', "value": number} for what, (_, number) in HISTORIES.items()]
    asked = {"expr": promql.added("x_total", 3600, ("what",)), "eval_time": "180m", "exp_samples": expected}
    case = {"interval": "1m", "input_series": series, "promql_expr_test": [asked]}
    path = tmp_path / "increase.yaml"
    path.write_text(yaml.safe_dump({"evaluation_interval": "1m", "tests": [case]}), "utf-8")
    done = subprocess.run(
        [str(program("promtool")), "test", "rules", str(path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_counter_that_began_anew_and_grew_past_its_former_value_is_not_undercounted(tmp_path: Path) -> None:
    # 40 before it began anew and 60 after: `increase` reckons a little less or more at the window's ends.
    asked = f"{promql.added('x_total', 3600, ())} > bool 90"
    case = {
        "interval": "1m",
        "input_series": [{"series": "x_total", "values": "10x121 50x20 0 60x40"}],
        "promql_expr_test": [
            {"expr": asked, "eval_time": "180m", "exp_samples": [{"labels": "{}", "value": 1}]}
        ],
    }
    path = tmp_path / "reset.yaml"
    path.write_text(yaml.safe_dump({"evaluation_interval": "1m", "tests": [case]}), "utf-8")
    done = subprocess.run(
        [str(program("promtool")), "test", "rules", str(path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("broken", [False, True], ids=["healthy", "broken"])
def test_the_same_traffic_gives_the_same_verdict_on_every_engine(fed: Fed, broken: bool) -> None:
    fed.serve(broken=broken)
    local = fed.local()
    for url in fed.engines.values():
        fleet = evaluate(Fleet(url, WINDOW), Limits())
        assert told(fleet) == told(local)
        assert (fleet.state, fleet.reason) == (local.state, local.reason)
    assert {each.indicator.name for each in local.findings} == {each.name for each in INDICATORS}
    assert local.state == ("unhealthy" if broken else "healthy")
    (contract,) = (each for each in local.findings if each.indicator.name == "contract_open")
    assert contract.state == local.state


def test_the_command_says_it_on_one_screen_and_as_data(fed: Fed) -> None:
    fed.serve(broken=True)
    for url in fed.engines.values():
        shown = ct(fed, "status", "--prometheus", url)
        assert shown.returncode == 1, shown.stderr
        assert "degraded_ratio" in shown.stdout
        assert "manifest_unreadable" in shown.stdout
        document = json.loads(ct(fed, "status", "--prometheus", url, "--json").stdout)
        assert (document["state"], document["exit_code"]) == ("unhealthy", 1)
        nobody = ct(fed, "status", "--prometheus", url, "--namespace", "elsewhere")
        assert (nobody.returncode, "UNKNOWN" in nobody.stdout) == (3, True)
