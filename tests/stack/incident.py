"""A real incident on the real stack: what the playbook's searches and the runbooks' commands are tried on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from conftest import WATCH, Span, spans_in

from context_telemetry.ops import alert_routes, alerts, collector
from context_telemetry.ops.inputs import defaults
from context_telemetry.rehearsal import driver
from context_telemetry.rehearsal.faults import fault
from context_telemetry.rehearsal.sample import MANIFEST, Sample
from tools.processes import wait_until
from tools.stack import Stack

# Of each kind one that ends in less, one that ends in an error, one that is too large, one behind another.
FAULTS = (
    "source_unknown_answered",
    "source_unknown",
    "table_unknown",
    "manifest_cut",
    "model_edited",
    "result_oversized",
    "sql_typo",
)
# Stands for a warehouse that takes its time, longer than the 5 s of a slow trace; the others are real.
_SLOW = """
import time, context_telemetry
context_telemetry.instrument()
with context_telemetry.operation("catalog.resolve", source="shop"):
    time.sleep(5.2)
"""


@dataclass(frozen=True)
class Incident:
    """A project whose calls met faults, what was recorded of them, and the stack that was sent it."""

    project: Path
    state_dir: Path
    stack: Stack
    began: float

    @property
    def spans(self) -> list[Span]:
        return spans_in(self.state_dir)

    @property
    def environ(self) -> dict[str, str]:
        """A shell that finds this installation's commands and knows where the files are."""
        scripts = str(Path(sys.executable).parent)
        path = os.pathsep.join([scripts, os.environ["PATH"]])
        return {
            **os.environ,
            "PATH": path,
            "COLUMNS": "160",
            "CONTEXT_TELEMETRY_STATE_DIR": str(self.state_dir),
            "CONTEXT_TELEMETRY_PROJECT": str(self.project),
        }

    def serve(self) -> None:
        """One session of a real client in which each fault begins, is met, and ends; and a slow resolution."""

        async def use(client: driver.Client) -> None:
            for each in map(fault, FAULTS):
                await client.send(each.twin)
                each.inject(self.project)
                time.sleep(each.settles)
                for meeting in each.meetings:
                    await client.send(meeting.call)
                each.heal(self.project)

        driver.with_session(self.project, use, env={"CONTEXT_TELEMETRY_STATE_DIR": str(self.state_dir)})
        subprocess.run([sys.executable, "-c", _SLOW], cwd=self.project, env=self.environ, check=True)
        self._serve_what_was_not_accepted()

    def _serve_what_was_not_accepted(self) -> None:
        """A deployment renames a column in the warehouse and in the manifest, and leaves out who queries it."""
        accept = [sys.executable, "-m", "context_telemetry", "contract", "snapshot", "--no-tools"]
        subprocess.run(accept, cwd=self.project, check=True, capture_output=True)
        renamed, manifest = fault("column_dropped"), self.project / MANIFEST
        former = manifest.read_bytes()
        query = driver.tool(
            "execute_query", sql="SELECT payment_method FROM fct_orders LIMIT 1", source="shop"
        )
        guessed = driver.tool("execute_query", sql="SELECT count(*) FROM fct_order", source="shop")

        async def use(client: driver.Client) -> None:
            await client.send(query)
            await client.send(guessed)
            wait_until("it is compared", lambda: self._has_said("dataface.contract.changed"))
            wait_until("names are compared", lambda: self._has_said("dataface.reference.unknown"))
            await client.send(query)

        renamed.inject(self.project)
        document = json.loads(former)
        for node in document["nodes"].values():
            node["columns"].pop("payment_method", None)
        manifest.write_text(json.dumps(document), "utf-8")
        env = {"CONTEXT_TELEMETRY_STATE_DIR": str(self.state_dir), WATCH: "true"}
        try:
            driver.with_session(self.project, use, env=env)
        finally:
            manifest.write_bytes(former)
            renamed.heal(self.project)

    def _has_said(self, event: str) -> bool:
        files = sorted(self.state_dir.rglob("events-*.jsonl"), key=lambda path: path.stat().st_mtime)
        return bool(files) and f'"{event}"' in files[-1].read_text("utf-8")

    def send(self) -> None:
        """Everything that was recorded, to the Collector."""
        command = ["context-telemetry", "replay", "--to", self.stack.otlp_http]
        done = subprocess.run(
            command, cwd=self.project, env=self.environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def stack_of(folder: Path, sample: Sample, parts: tuple[str, ...]) -> Iterator[Incident]:
    """The stack with the shipped rules and every trace kept; nothing has been served yet."""
    ops_dir = folder / "built"
    for generator in (collector, alerts, alert_routes):
        for path, text in generator.files(defaults()).items():
            (ops_dir / path).parent.mkdir(parents=True, exist_ok=True)
            (ops_dir / path).write_text(text, "utf-8")
    keep = {"COLLECTOR_KEEP_PERCENT": "100", "COLLECTOR_DECISION_WAIT": "1s"}
    began = time.time()
    with Stack.up(folder / "stack", ops_dir=ops_dir, parts=parts, env=keep, scrape="1s") as stack:
        yield Incident(sample.copy(folder / "shop").root, folder / "state", stack, began)
