"""Chat, which left Dataface with 0.3.0: what is typed into a real `dft chat` is observed, turn by turn."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Span, spans_in
from scenario import scenario

import context_telemetry
from context_telemetry.rehearsal.driver import observed

pytestmark = pytest.mark.real

LEFT = "chat sessions left Dataface with 0.3.0"
HERE = Path(__file__).parents[1]


def chat(project: Path, home: Path, *arguments: str, typed: str = "") -> list[Span]:
    """The entries of a `dft chat` into which lines are typed until its input ends, in a process of its own."""
    state = home / "-".join(("state", *arguments))
    environ = os.environ | {
        "CONTEXT_TELEMETRY_STATE_DIR": str(state),
        "DFT_CHAT_PORT": "0",
        "HOME": str(home),
        "PYTHONPATH": str(Path(context_telemetry.__file__).parents[1]),
    }
    done = subprocess.run(
        observed([sys.executable, str(HERE / "chat_host.py"), *arguments]),
        input=typed,
        capture_output=True,
        cwd=project,
        env=environ,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [span for span in spans_in(state) if span.entry]


def conversations(turns: list[Span]) -> set[object]:
    assert {turn.attributes["dataface.operation.name"] for turn in turns} == {"agent.turn"}
    assert {(turn.outcome, turn.attributes["dataface.surface"]) for turn in turns} == {("ok", "agent")}
    return {turn.attributes.get("gen_ai.conversation.id") for turn in turns}


@scenario("agent", until="0.2.0", because=LEFT)
def test_each_line_that_is_typed_into_dft_chat_is_a_turn_of_its_session(
    project: Path, tmp_path: Path
) -> None:
    lines = "How many?\n/help\nAnd now?\n/clear\nAnd after?\n/exit\n"
    turns = chat(project, tmp_path, typed=lines)
    assert len(turns) == 3
    (session,) = conversations(turns)
    assert session is not None
    (resumed,) = chat(project, tmp_path, "--continue", "One more?")
    assert conversations([resumed]) == {session}
