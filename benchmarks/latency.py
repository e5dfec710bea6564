"""How much later an answer comes: MCP tool calls and pages of real Dataface, observed and not, by the wall clock.

Hooks are placed for a whole process, so each side has one, and the two take turns in short blocks of calls. What is
observed goes to local files, as in `context-telemetry run`. All calls of a side are one sample; what is added lies
between bounds that come from drawing pairs of blocks again. The sizes are swept with answers that are padded (see
`served`), everything else is Dataface's own work.

`python -m benchmarks.latency PROTOCOL SIDE PROJECT FOLDER` is such a process.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from benchmarks import served
from benchmarks.equality import UnequalError
from benchmarks.measure import Interval, Result, Side, Target, interval, take_turns
from benchmarks.players import Player, answer, turns
from context_telemetry.observe.payload import utf8_size

_SIDES = {"not observed": served.unobserved, "observed": served.observed}
_SIZES = {"1 KB": 1_000, "10 KB": 10_000, "100 KB": 100_000, "1 MB": 1_000_000, "10 MB": 10_000_000}
# So long a fresh server is left to itself: its first look at the project, and ours, are no part of a call.
_SETTLE_SECONDS = 1.0
_WARM_UP = 3
_SHARES = {"p50": 0.50, "p99": 0.99}
# Of fewer calls the 99th percentile would be the slowest one, or nearly.
_ENOUGH_FOR = {"p50": 1, "p99": 100}
_BLOCKS = 20


@dataclass(frozen=True)
class Request:
    """What is asked, how often in a block, and whether the answer is the same to the letter every time."""

    what: str
    target: str
    calls: int = 50
    arguments: Mapping[str, Any] = field(default_factory=dict)
    repeats: bool = True


def _tool(name: str, calls: int, *, repeats: bool = True, **arguments: Any) -> Request:
    said = ", ".join(f"{key}={value}" for key, value in arguments.items() if key != "sql")
    return Request(f"`{name}({said})`", name, calls, arguments, repeats)


def _padded(size: int) -> int:
    """So many calls in a block, fewer of the large ones."""
    return max(5, 50 // max(1, size // 100_000))


TOOLS = (
    _tool("execute_query", 10, sql="SELECT count(*) AS orders FROM fct_orders", source="shop"),
    _tool("describe_query", 10, sql="SELECT * FROM fct_orders", source="shop"),
    _tool("render_dashboard", 3, path="faces/revenue.yml", repeats=False),
    *(
        Request(f"a result of {label}", served.PADDED_TOOL, _padded(size), {"size": size})
        for label, size in _SIZES.items()
    ),
)
PAGES = (
    Request("`/orders/`", "/orders/", 2, repeats=False),
    Request("`/orders.yaml`", "/orders.yaml"),
    *(
        Request(f"a page of {label}", f"{served.PADDED_PAGE}{size}", _padded(size))
        for label, size in _SIZES.items()
    ),
)

_Blocks = Mapping[str, list[list[float]]]
"""By side, seconds of each call of each block."""


@dataclass(frozen=True)
class Latency:
    """The requests of one protocol: for each the median and the 99th percentile of all calls, observed and not."""

    name: str
    project: served.Project
    requests: tuple[Request, ...]
    blocks: int = _BLOCKS
    table: str = "latency"

    def small(self) -> Latency:
        """To see that it works."""
        return replace(self, blocks=2, requests=tuple(replace(each, calls=2) for each in self.requests))

    def run(self) -> list[Result]:
        """Raises UnequalError when an answer is another one where it is observed, or a request leaves no span."""
        if missing := served.missing():
            return [Result(self.table, self.name, "real Dataface", "ms", {}, not_run=f"needs {missing}")]
        root = str(self.project.root)
        with tempfile.TemporaryDirectory() as folder:
            players: dict[str, Player] = {}
            try:
                for side in _SIDES:
                    players[side] = Player("benchmarks.latency", (self.name, side, root, folder), os.environ)
                for player in players.values():
                    assert player.first == "ready"
                results = [self._asked(request, players) for request in self.requests]
            finally:
                for player in players.values():
                    player.close()
            spans = sum(path.read_bytes().count(b'"kind":2,') for path in Path(folder).rglob("traces-*"))
        asked = sum(_WARM_UP + each.calls * self.blocks for each in self.requests)
        if spans < asked:
            raise UnequalError(f"{self.name}: {spans} server spans of {asked} requests")
        return results

    def _asked(self, request: Request, players: Mapping[str, Player]) -> Result:
        blocks: _Blocks = {side: [] for side in players}
        order = list(players)
        for number in range(-1, self.blocks):
            answers = {}
            for side in order:
                taken, answers[side] = players[side].turn(
                    {
                        "target": request.target,
                        "arguments": dict(request.arguments),
                        "calls": _WARM_UP if number < 0 else request.calls,
                    }
                )
                if number >= 0:
                    blocks[side].append(taken)
            if request.repeats and len(set(answers.values())) > 1:
                raise UnequalError(f"{self.name}: {request.what} is answered otherwise where it is observed")
            order.reverse()
        calls = request.calls * self.blocks
        shares = {measure: share for measure, share in _SHARES.items() if calls >= _ENOUGH_FOR[measure]}
        return Result(
            self.table,
            self.name,
            f"{request.what}, {calls:,} calls",
            "ms",
            {
                measure: {
                    side: [_percentile(all_of, range(self.blocks), share)] for side, all_of in blocks.items()
                }
                for measure, share in shares.items()
            },
            "not observed",
            added_within={measure: {"observed": _within(blocks, share)} for measure, share in shares.items()},
        )


def _percentile(blocks: Sequence[Sequence[float]], drawn: Sequence[int], share: float) -> float:
    """Milliseconds that ``share`` of the calls of these blocks do not exceed."""
    values = sorted(value for number in drawn for value in blocks[number])
    return values[math.ceil(share * len(values)) - 1] * 1e3


def _within(blocks: _Blocks, share: float) -> Interval:
    """Between what the difference of the percentiles lies: blocks stay with those beside them, because times drift."""

    def added(drawn: Sequence[int]) -> float:
        return _percentile(blocks["observed"], drawn, share) - _percentile(
            blocks["not observed"], drawn, share
        )

    return interval(added, len(blocks["observed"]))


# -- in a process of its own ----------------------------------------------------------------------


async def _call_tool(client: Any, target: str, arguments: Mapping[str, Any]) -> tuple[bool, bytes]:
    """Whether the tool answered well, and its text."""
    result = await client.call_tool(target, dict(arguments))
    return not result.isError, result.content[0].text.encode()


async def _get_page(client: Any, target: str, arguments: Mapping[str, Any]) -> tuple[bool, bytes]:
    """Whether the page was served, and its bytes."""
    response = await client.get(target)
    return response.status_code == 200, response.content


@dataclass(frozen=True)
class _Protocol:
    connect: Callable[[Path], AbstractAsyncContextManager[Any]]
    ask: Callable[[Any, str, Mapping[str, Any]], Any]


_PROTOCOLS = {
    "MCP tool call": _Protocol(served.session, _call_tool),
    "HTTP page": _Protocol(served.browser, _get_page),
}


async def _play(protocol: _Protocol, root: Path, answers: IO[str]) -> None:
    """Answer each block with the seconds of its calls, and a hash of the last answer."""
    with served.padded_tool():
        async with protocol.connect(root) as client:
            await asyncio.sleep(_SETTLE_SECONDS)
            for block in turns(answers, "ready"):
                taken, text = [], b""
                for _ in range(block["calls"]):
                    began = time.perf_counter()
                    good, text = await protocol.ask(client, block["target"], block["arguments"])
                    taken.append(time.perf_counter() - began)
                    if not good:
                        raise RuntimeError(f"{block['target']} is answered with {text[:200]!r}")
                answer(answers, (taken, hashlib.sha256(text).hexdigest()))


def main() -> None:
    name, side, root, folder = sys.argv[1:]
    answers, sys.stdout = sys.stdout, sys.stderr  # what others print is no answer
    with _SIDES[side](Path(folder)):
        asyncio.run(_play(_PROTOCOLS[name], Path(root), answers))


# -- sizes ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sizing:
    """What it costs to size a payload, by its size: text that is ASCII, and text that is not."""

    name: str = "sizing"
    table: str = "sizing"
    rounds: int = 20

    def small(self) -> Sizing:
        """To see that it works."""
        return replace(self, rounds=2)

    def run(self) -> list[Result]:
        results = []
        for what, letter, units, targets in (
            ("an ASCII text", "o", 20_000, (Target("ratio", "10 MB", "1 KB", 1.5),)),
            ("a text with an umlaut", "ö", 10, ()),
        ):
            texts = {label: "o" * (size - 1) + letter for label, size in _SIZES.items()}
            sides = {label: Side(_sizes(text)) for label, text in texts.items()}
            taken = take_turns(sides, rounds=self.rounds, units=units)["caller"]
            results.append(Result(self.table, self.name, what, "us", {"caller": taken}, "1 KB", targets))
        return results


def _sizes(text: str) -> Callable[[int], None]:
    def run(units: int) -> None:
        for _ in range(units):
            utf8_size(text)

    return run


def benchmarks(project: served.Project) -> list[Latency | Sizing]:
    """All that this module measures, on ``project``."""
    return [
        Latency("MCP tool call", project, TOOLS),
        Latency("HTTP page", project, PAGES),
        Sizing(),
    ]


if __name__ == "__main__":
    main()
