"""What others cost for a decorated function and for an MCP tool call, in the configuration that sends nothing anywhere.

Each contestant has a process of its own (see `contestants`), because instrumentations patch what they find and some
slow down every span of their process. The processes take turns, so that neighbouring turns can be compared. One process
may be a tenth faster than the next for its whole life, by how its memory happens to lie: so there are several of each,
and those that are compared hash alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from benchmarks import served
from benchmarks.contestants import CONTESTANTS
from benchmarks.environment import for_processes
from benchmarks.equality import UnequalError
from benchmarks.measure import WARM_UP, Interval, Result, Rounds, interval, joined, without
from benchmarks.players import Player
from benchmarks.sides import EMITTING


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
        for seed in range(self.processes):
            found, notes = self._batch(names, for_processes(seed))
            measures = {k: joined(measures.get(k, {}), rounds) for k, rounds in found.items()}
        what, over, within = self.what, "by hand", dict[str, dict[str, Interval]]()
        if self.scene == "tool":  # Dataface's own work is most of it, and none of theirs
            what += f" and takes {median(measures['total']['bare']):,.0f} us of CPU by itself"
            # A ratio of two differences says little where one of them is small.
            measures, over = {measure: without(rounds, "bare") for measure, rounds in measures.items()}, ""
            within = {measure: _within(rounds) for measure, rounds in measures.items()}
        result = Result(self.table, self.name, what, "us", measures, over, notes=notes, added_within=within)
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
        playing: dict[str, Player] = {}
        try:
            for name in names:
                playing[name] = Player("benchmarks.contestants", (self.scene, name, root), environment)
            if len({playing[name].first for name in EMITTING}) > 1:
                emits = {name: playing[name].first for name in EMITTING}
                raise UnequalError(f"{self.name}: the sides do not emit the same: {emits}")
            notes = {k: f"{self.scene}: {v.first}" for k, v in playing.items() if v.first}
            return self._rounds(playing), notes
        finally:
            for player in playing.values():
                player.close()

    def _rounds(self, playing: Mapping[str, Player]) -> dict[str, Rounds]:
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


def _within(rounds: Rounds) -> dict[str, Interval]:
    """Between what each median lies."""

    def figure(values: Sequence[float]) -> Callable[[Sequence[int]], float]:
        return lambda drawn: median(values[number] for number in drawn)

    return {side: interval(figure(values), len(values)) for side, values in rounds.items()}


def are_here() -> bool:
    """Whether any of the others is installed in this environment."""
    return any(each.needs and not each.missing() for each in CONTESTANTS.values())


def benchmarks(project: served.Project) -> list[Peers]:
    """Both scenes."""
    return [
        Peers("decorated call", "call", "a function that returns at once", project, units=1_000),
        Peers("MCP tool call", "tool", "what is added to a call that answers 1 KB", project, units=100),
    ]
