"""What others cost for a decorated function and for an MCP tool call, in the configuration that sends nothing anywhere.

Each contestant has a process of its own (see `contestants`), because instrumentations patch what they find and some
slow down every span of their process. The processes take turns, so that neighbouring turns can be compared. One process
may be a tenth faster than the next for its whole life, by how its memory happens to lie: so there are several of each,
and those that are compared hash alike.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import served
from benchmarks.contestants import CONTESTANTS
from benchmarks.environment import for_processes
from benchmarks.measure import WARM_UP, Result, Rounds, joined


@dataclass(frozen=True)
class Peers:
    """All contestants that are installed, in one of two scenes: a decorated `call`, or an MCP `tool` call."""

    name: str
    scene: str
    what: str
    project: served.Project
    units: int
    rounds: int = 8
    processes: int = 5
    table: str = "peers"

    def small(self) -> Peers:
        """To see that it works."""
        return replace(self, rounds=2, processes=1, units=min(self.units, 20))

    def run(self) -> list[Result]:
        """What is not installed is said in the result."""
        if self.scene == "tool" and (missing := served.missing()):
            return [Result(self.table, self.name, self.what, "us", {}, not_run=f"needs {missing}")]
        taking_part = {k: v for k, v in CONTESTANTS.items() if getattr(v, self.scene) is not None}
        absent = {name: each.missing() for name, each in taking_part.items() if each.missing()}
        names = [name for name in taking_part if name not in absent]
        measures: dict[str, Rounds] = {}
        notes: dict[str, str] = {}
        with tempfile.TemporaryDirectory() as folder:
            environment = for_processes(Path(folder))
            for seed in range(self.processes):
                found, notes = self._batch(names, {**environment, "PYTHONHASHSEED": str(seed)})
                measures = {k: joined(measures.get(k, {}), rounds) for k, rounds in found.items()}
        what, over = self.what, "by hand"
        if self.scene == "tool":  # Dataface's own work is most of it, and none of theirs
            what += f" and takes {median(measures['total']['bare']):,.0f} us of CPU by itself"
            # A ratio of two differences says little where one of them is small.
            measures, over = {measure: _added(rounds) for measure, rounds in measures.items()}, ""
        result = Result(self.table, self.name, what, "us", measures, over, notes=notes)
        skipped = [
            Result(self.table, name, self.name, "us", {}, not_run=f"{why} is not installed")
            for name, why in absent.items()
        ]
        return [result, *skipped]

    def _batch(
        self, names: Sequence[str], environment: Mapping[str, str]
    ) -> tuple[dict[str, Rounds], dict[str, str]]:
        """The rounds of one process for each contestant, and what each emits."""
        root = str(self.project.root) if self.scene == "tool" else ""
        playing: dict[str, _Player] = {}
        try:
            for name in names:
                playing[name] = _Player(self.scene, name, root, environment)
            notes = {k: f"{self.scene}: {v.emits}" for k, v in playing.items() if v.emits}
            return self._rounds(playing), notes
        finally:
            for player in playing.values():
                player.close()

    def _rounds(self, playing: Mapping[str, _Player]) -> dict[str, Rounds]:
        measures: dict[str, dict[str, list[float]]] = {
            measure: {name: [] for name in playing} for measure in ("caller", "total")
        }
        order = list(playing)
        for number in range(-WARM_UP, self.rounds):
            for name in order:
                turn = playing[name].turn(self.units)
                if number >= 0:
                    for measure in measures:
                        measures[measure][name].append(turn[measure])
            order.reverse()
        return dict(measures)


def _added(rounds: Rounds) -> Rounds:
    """What each side adds to the bare one of its round."""
    bare = rounds["bare"]
    return {
        side: [value - alone for value, alone in zip(values, bare, strict=True)]
        for side, values in rounds.items()
        if side != "bare"
    }


class _Player:
    """A contestant's process: it answers each number of units with what they took."""

    def __init__(self, scene: str, name: str, root: str, environment: Mapping[str, str]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # read when the process fails
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.contestants", scene, name, root],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self.emits = str(self._answer()["emits"])

    def turn(self, units: int) -> dict[str, float]:
        """Microseconds of CPU per unit, by measure."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{units}\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            raise RuntimeError(f"a peer's process ended: {self._errors.read().decode()[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process by closing its input."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._errors.close()


def are_here() -> bool:
    """Whether any of the others is installed in this environment."""
    return any(each.needs and not each.missing() for each in CONTESTANTS.values())


def benchmarks(project: served.Project) -> list[Peers]:
    """Both scenes."""
    return [
        Peers("decorated call", "call", "a function that returns at once", project, units=1_000),
        Peers("MCP tool call", "tool", "what is added to a call that answers 1 KB", project, units=100),
    ]
