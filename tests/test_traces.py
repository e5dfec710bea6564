"""The trace in docs/traces.md is what a turn of the agent on the sample project still looks like."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import Span, spans_in

pytestmark = pytest.mark.real

HERE = Path(__file__).parent
PAGE = (HERE.parent / "docs" / "traces.md").read_text("utf-8")
KINDS = {1: "internal", 2: "server", 3: "client"}


def test_the_documented_trace_is_what_a_turn_of_the_agent_looks_like(project: Path, tmp_path: Path) -> None:
    path = os.pathsep.join((str(HERE.parent / "src"), str(HERE)))
    subprocess.run(
        [
            sys.executable,
            "-m",
            "context_telemetry",
            "run",
            "--",
            sys.executable,
            str(HERE / "agent_host.py"),
            str(project),
        ],
        cwd=project,
        env={**os.environ, "PYTHONPATH": path, "CONTEXT_TELEMETRY_STATE_DIR": str(tmp_path)},
        check=True,
        timeout=120,
    )
    spans = spans_in(tmp_path)
    (shown,) = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    assert [recorded(span, spans) for span in spans if not span.parent_id] == documented(shown)
    described = dict(re.findall(r"^\| `([^`]+)` \| (\w+) \|", PAGE, re.MULTILINE))
    assert {span.name: KINDS[span.kind] for span in spans} == described


Tree = tuple[str, Any]


def recorded(span: Span, spans: Sequence[Span]) -> Tree:
    """A span with what is below it. Threads have no order, so there is none in here."""
    return span.name, sorted(recorded(each, spans) for each in spans if each.parent_id == span.span_id)


def documented(shown: str) -> list[Tree]:
    """The same of the text that `context-telemetry trace` prints."""
    top: list[Tree] = []
    open_at: list[list[Tree]] = [top]
    for line in shown.splitlines()[1:]:
        found = re.match(r"((?:│  |   )*(?:[├└]─ )?)([a-z].*?)  (?:ok|degraded|failed) ", line)
        if found is None or (open_at[1:] and not found[1].endswith("─ ")):
            continue  # a note of the span above
        depth = len(found[1]) // 3
        below: list[Tree] = []
        del open_at[depth + 1 :]
        open_at[depth].append((found[2], below))
        open_at.append(below)
    return ordered(top)


def ordered(trees: list[Tree]) -> list[Tree]:
    return sorted((name, ordered(below)) for name, below in trees)
