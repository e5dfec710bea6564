"""Brings the real stack up, breaks a real project, and prints the page that the owner got: `python3 dev.py page`.

Everything is real but the clock: with `--window 300` (default) the objectives' window is five minutes instead of an
hour, and all other windows of the rules with it. Without Go or apt it says what is missing.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import textwrap
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from context_telemetry.ops import build
from context_telemetry.rehearsal import driver, sample
from context_telemetry.rehearsal.fault import Fault
from context_telemetry.rehearsal.faults import fault
from tools.processes import exit_on_sigterm, wait_until
from tools.programs import StackError
from tools.stack import Stack
from tools.webhooks import Page

FAULT = "column_dropped"
ALERT = "DatafaceDegradedRatio"
_CALLS = 12  # `page_minimum`, and two more


@dataclass(frozen=True)
class Shown:
    """What happened, in seconds of the clock."""

    broken: float
    enough: float
    """When there were as many bad calls as wake somebody."""
    paged: Page
    healed: float
    resolved: Page


def serve(project: Path, stack: Stack, calls: Sequence[driver.Call]) -> None:
    """One session of a real client with a real, observed server that reports to the stack."""

    async def use(client: driver.Client) -> None:
        for call in calls:
            await client.send(call)

    driver.with_session(project, use, env=stack.environment())


def of_project(pages: Sequence[Page], severity: str, since: float) -> Page | None:
    """The first page of that severity about the alert, sent after a moment."""
    for page in pages:
        if page.at >= since and any(alert["labels"].get("severity") == severity for alert in page.alerts):
            return page
    return None


def show(folder: Path, window: float, say: Any = print) -> Shown:
    """Breaks the sample project under the stack, waits for the page, heals, waits for its end."""
    ops, limits = folder / "ops", folder / "limits.toml"
    limits.write_text(f"[limits.objectives]\nwindow = {window:g}\n", "utf-8")
    build.build(ops, None, limits)
    broken: Fault = fault(FAULT).on("0.4.0")
    with Stack.up(folder / "stack", ops_dir=ops, scrape="1s") as stack:
        assert stack.pages is not None
        say(f"up       Collector, Jaeger, Prometheus and Alertmanager, with what `ops build` made in {ops}")
        project = sample.create(folder / "shop").root
        serve(project, stack, [broken.twin])
        say("served   the project is healthy")
        broken.inject(project)
        started = time.time()
        say(f"broken   {broken.simulates}")
        serve(project, stack, [each.call for each in broken.meetings if each.outcome == "degraded"] * _CALLS)
        enough = time.time()
        paged = wait_until(
            "the owner is paged",
            lambda: of_project(stack.pages.about(ALERT), "page", started) if stack.pages else None,
            window / 60 + 60,
        )
        say(
            f"paged    {paged.at - started:.0f} s after the first bad call\n\n{textwrap.indent(text_of(paged), '    ')}"
        )
        broken.heal(project)
        healed = time.time()
        serve(project, stack, [broken.twin])
        say("healed   the file is back")
        resolved = wait_until(
            "the page is resolved",
            lambda: of_project(stack.pages.about(ALERT, "resolved"), "page", healed) if stack.pages else None,
            window + 120,
        )
        say(f"resolved {resolved.at - healed:.0f} s after that")
    return Shown(started, enough, paged, healed, resolved)


def text_of(page: Page) -> str:
    """A page as its owner reads it: what `alerts/message.tmpl` makes of it in mail and chat."""
    alert: Mapping[str, Any] = page.alerts[0]
    labels, said = alert["labels"], alert["annotations"]
    rows = {
        "Owner": labels["owner"],
        "Contact": said["contact"],
        "Next": said["escalation"],
        "Runbook": said["runbook_url"],
        "Dashboard": said["dashboard_url"],
        "Traces": said["traces_url"],
    }
    head = f"[{alert['status'].upper()} {labels['severity']}] {labels['alertname']} on {labels['dataface_surface']}"
    lines = [f"{name + ':':11} {value}" for name, value in rows.items()]
    return "\n".join([head, said["summary"], said["description"], "", *lines]) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit 0 where the owner was paged and the page resolved, 1 where not or where a part is missing."""
    parser = argparse.ArgumentParser(prog="python3 dev.py page", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--window", type=float, default=300.0, help="seconds of the objectives' window (default: 300)"
    )
    chosen = parser.parse_args(arguments)
    exit_on_sigterm()
    with tempfile.TemporaryDirectory(prefix="context-telemetry-page-") as folder:
        try:
            show(Path(folder), chosen.window, lambda words: print(words, flush=True))
        except (StackError, AssertionError) as error:
            print(f"page: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
