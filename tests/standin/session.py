"""One process in which Dataface finds the stand-in: what it does with it, and what was recorded of that.

Dataface looks for the package once, when it is imported. Run as ``python session.py PROJECT OUTPUT`` with this folder
and `tests/` on the path; the spans and events of each step go to OUTPUT as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from httpserver import application, browser
from inprocess import instrumented, opened
from memory import Memory, attributes

from context_telemetry.instrumentation import NEWEST, hook_states
from context_telemetry.instrumentation.instrumentor import installed_release
from context_telemetry.limits import Limits
from context_telemetry.observe import recorder

DAY = 86_400.0


class Steps:
    """Runs one step after the other, and keeps what each recorded."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.done: dict[str, Any] = {}

    def run(self, name: str, step: Callable[[], object]) -> None:
        self._memory.clear()
        before = len(self._memory.events)
        try:
            step()
        except Exception as error:
            self.done[name] = {"error": f"{type(error).__name__}: {error}"}
            return
        spans = [
            {
                "name": span.name,
                "id": span.context.span_id if span.context else 0,
                "parent": span.parent.span_id if span.parent else None,
                **attributes(span),
            }
            for span in self._memory.spans
        ]
        events = [{"name": name, **said} for name, said in self._memory.events[before:]]
        self.done[name] = {"spans": spans, "events": events}


def profile_over_http(project: Path) -> None:
    """POST /inspect/profile/, as the inspect page does."""
    app = application(project)
    asked = {"model": "fct_orders"}
    if hasattr(app.state, "connection"):  # before 0.3.0 the page names its database
        asked["connection"] = str(project / "shop.duckdb")
    with browser(app) as client:
        answer = client.post("/inspect/profile/", params=asked)
    if not (project / "target/super_schema.json").exists():
        raise RuntimeError(f"{answer.status_code} {answer.text}")


def validate(context: Any) -> None:
    sql = "select count(*) from fct_orders"
    session = getattr(context, "project_session", None) or getattr(context, "project", None)
    if session is not None:
        session.validate_query(sql)
        return
    from dataface.agent_api.validate_query import validate_query

    validate_query(sql)


def inspect_all(project: Path) -> None:
    from dataface.cli.main import app
    from typer.testing import CliRunner

    done = CliRunner().invoke(app, ["inspect", "--connection", str(project / "shop.duckdb")])
    if done.exit_code != 0:
        raise RuntimeError(f"{done.output} {done.exception}")


def dated(cache: Path, *, file: timedelta, table: timedelta) -> None:
    """Make the cache, and the profile of the table in it, as old as that."""
    now = datetime.now(timezone.utc)
    content = json.loads(cache.read_text("utf-8"))
    content["generated_at"] = (now - file).isoformat()
    content["schemas"]["main"]["fct_orders"]["profiled_at"] = (now - table).isoformat()
    cache.write_text(json.dumps(content), "utf-8")


def run(project: Path, output: Path) -> None:
    cache = project / "target/super_schema.json"
    with instrumented() as memory:
        steps = Steps(memory)
        with opened(project) as (context, registry):
            from dataface.ai.tools import dispatch_tool_call
            from dataface.core.inspect.cache_factory import build_resolver

            def profile() -> object:
                return build_resolver(registry).profile_table("shop", "main", "fct_orders")

            steps.run("all inspected", lambda: inspect_all(project))
            made = cache.read_text("utf-8") if cache.exists() else ""
            steps.run("served from the cache", profile)
            dated(cache, file=timedelta(hours=1), table=timedelta(days=3))
            steps.run("served from an old cache", profile)
            recorder.set_limits(Limits.model_validate({"promises": {"super_schema": 2 * DAY}}).compile())
            steps.run("older than promised", profile)
            steps.run("schemas older than promised", lambda: build_resolver(registry).list_schemas("shop"))
            dated(cache, file=timedelta(hours=1), table=timedelta(hours=1))
            steps.run("younger than promised", profile)
            cache.write_text(made[: len(made) // 2], "utf-8")
            steps.run("cache cut short", profile)
            cache.write_text('{"generated_at": null, "schemas": {}}', "utf-8")
            steps.run("cache without profiles", profile)
            cache.unlink()
            steps.run("no cache", profile)
            if find_spec("dataface.ai.schema_context") is not None:
                from dataface.ai.schema_context import get_schema_context

                steps.run("prompted", lambda: get_schema_context(adapter_registry=registry, source="shop"))
            steps.run("validated", lambda: validate(context))
            steps.run(
                "rendered",
                lambda: dispatch_tool_call("render_dashboard", {"path": "faces/orders.yml"}, context=context),
            )
            steps.run("profiled over HTTP", lambda: profile_over_http(project))
        states = {each.id: [each.state, each.detail] for each in hook_states()}
    result = {"release": installed_release() or NEWEST, "states": states, "steps": steps.done}
    output.write_text(json.dumps(result, default=str), "utf-8")


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]))
