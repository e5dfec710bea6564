"""`context-telemetry check` beside each release: the same looks, and the prompt that this release builds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest
from conftest import Span, spans_in
from scenario import scenario

pytestmark = pytest.mark.real

SCHEMA_GONE = "0.3.0 and later put no schema into prompts"


def run(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, with a state folder beside the project."""
    return subprocess.run(
        [sys.executable, "-m", "context_telemetry.cli", *arguments],
        cwd=project,
        env={**os.environ, "CONTEXT_TELEMETRY_STATE_DIR": str(project.parent / "state")},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def checked(project: Path, *options: str) -> tuple[int, dict[str, Any], list[Span]]:
    """The exit code, the document and the spans of one look."""
    done = run(project, "check", "--json", "--no-tools", *options)
    assert done.stdout, done.stderr
    document = json.loads(done.stdout)
    spans = spans_in(project.parent / "state")
    return done.returncode, document, [span for span in spans if span.trace_id == document["trace_id"]]


def part(document: dict[str, Any], kind: str) -> dict[str, Any]:
    (found,) = [each for each in document["parts"] if each["kind"] == kind]
    assert isinstance(found, dict)
    return found


@scenario("AI context")
def test_a_check_builds_the_agents_prompt_and_finds_a_healthy_project_well(project: Path) -> None:
    code, document, spans = checked(project)
    assert (code, document["reasons"]) == (0, [])
    assert part(document, "prompt")["state"] == "ok"
    entry, *inside = spans
    assert (entry.name, entry.outcome, entry.attributes["dataface.surface"]) == ("check.run", "ok", "cli")
    assert {"manifest.load", "context.build", "catalog.resolve"} <= {span.name for span in inside}
    prompts = [
        span.attributes.get("dataface.payload.kind") for span in inside if span.name == "context.build"
    ]
    assert "system_prompt" in prompts


@scenario("AI context", until="0.2.0", because=SCHEMA_GONE)
def test_a_check_finds_an_errors_text_in_place_of_the_schema(project: Path) -> None:
    (project / "shop.duckdb").unlink()
    code, document, _ = checked(project)
    assert code == 1
    assert "context_is_error_text" in part(document, "prompt")["reasons"]
    assert "context_is_error_text" in document["reasons"]


@scenario("AI context", since="0.3.0", because="no instructions of the project's own")
def test_a_check_finds_instructions_that_are_cut(project: Path) -> None:
    from dataface.ai.prompts import PROJECT_INSTRUCTIONS_MAX_CHARS as LIMIT

    (project / "AGENTS.md").write_text("x" * (LIMIT + 1))
    code, document, _ = checked(project)
    assert (code, part(document, "prompt")["reasons"]) == (1, ["instructions_truncated"])


@scenario("contract")
def test_a_check_names_a_dropped_column_with_every_face_that_uses_it(project: Path) -> None:
    assert run(project, "contract", "snapshot", "--no-tools").returncode == 0
    assert checked(project, "--no-prompts")[0] == 0
    with duckdb.connect(str(project / "shop.duckdb")) as connection:
        connection.execute("ALTER TABLE fct_orders DROP COLUMN status")
    code, document, spans = checked(project, "--no-prompts")
    (change,) = document["changes"]
    assert (code, change["rule"], change["object"]) == (1, "column_removed", "shop.main.fct_orders.status")
    faces = {hit["name"] for hit in change["hits"] if hit["kind"] == "face"}
    assert faces == {"faces/catalog.yml", "faces/order_list.yml", "faces/orders.yml"}
    assert {"contract_broken", "object_unknown"} <= set(document["reasons"])
    # One query for its metadata, and nothing that Dataface resolves with.
    assert [span.name for span in spans if span.name.startswith("catalog.")] == ["catalog.resolve"]
