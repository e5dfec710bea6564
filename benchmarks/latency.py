"""How much later an answer comes: MCP tool calls and pages of real Dataface, observed and not, by the wall clock.

Each turn opens a session of its own, because hooks are placed for the whole process. What is observed goes to local
files, as in `context-telemetry run`. The sizes are swept with answers that are padded (see `served`), everything else
is Dataface's own work.
"""

from __future__ import annotations

import asyncio
import math
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks import served
from benchmarks.measure import Result, Side, Target, take_turns
from benchmarks.sides import UnequalError
from context_telemetry.observe.payload import utf8_size

_SIDES = {"not observed": served.unobserved, "observed": served.observed}
_SIZES = {"1 KB": 1_000, "10 KB": 10_000, "100 KB": 100_000, "1 MB": 1_000_000, "10 MB": 10_000_000}
# So long a fresh server is left to itself: its first look at the project, and ours, are no part of a call.
_SETTLE_SECONDS = 1.0
_WARM_UP = 3
_SHARES = {"p50": 0.50, "p99": 0.99}


@dataclass(frozen=True)
class Request:
    """What is asked, how often in a turn, and whether the answer is the same to the letter every time."""

    what: str
    target: str
    calls: int = 100
    arguments: Mapping[str, Any] = field(default_factory=dict)
    repeats: bool = True


def _tool(name: str, calls: int = 100, *, repeats: bool = True, **arguments: Any) -> Request:
    said = ", ".join(f"{key}={value}" for key, value in arguments.items() if key != "sql")
    return Request(f"`{name}({said})`", name, calls, arguments, repeats)


def _padded(size: int) -> int:
    """So many calls in a turn, less of the large ones."""
    return max(10, 100 // max(1, size // 100_000))


TOOLS = (
    _tool("execute_query", sql="SELECT count(*) AS orders FROM fct_orders", source="shop"),
    _tool("describe_query", sql="SELECT * FROM fct_orders", source="shop"),
    _tool("render_dashboard", 15, path="faces/revenue.yml", repeats=False),
    *(
        Request(f"a result of {label}", served.PADDED_TOOL, _padded(size), {"size": size})
        for label, size in _SIZES.items()
    ),
)
PAGES = (
    Request("`/orders/`", "/orders/", 10, repeats=False),
    Request("`/orders.yaml`", "/orders.yaml"),
    *(
        Request(f"a page of {label}", f"{served.PADDED_PAGE}{size}", _padded(size))
        for label, size in _SIZES.items()
    ),
)


@dataclass(frozen=True)
class Latency:
    """The requests of one protocol: for each the median and the 99th percentile of a turn, observed and not."""

    name: str
    project: served.Project
    connect: Callable[[Path], AbstractAsyncContextManager[Any]]
    ask: Callable[[Any, Request], Any]
    requests: tuple[Request, ...]
    rounds: int = 10
    table: str = "latency"

    def small(self) -> Latency:
        """To see that it works."""
        return replace(self, rounds=1, requests=tuple(replace(each, calls=2) for each in self.requests))

    def run(self) -> list[Result]:
        """Raises UnequalError when an answer is another one where it is observed, or a request leaves no span."""
        if missing := served.missing():
            return [Result(self.table, self.name, "real Dataface", "ms", {}, not_run=f"needs {missing}")]
        found: list[dict[str, dict[str, list[float]]]] = [
            {measure: {side: [] for side in _SIDES} for measure in _SHARES} for _ in self.requests
        ]
        order = list(_SIDES)
        with served.padded_tool():
            for _ in range(self.rounds):
                answers: dict[str, list[object]] = {}
                for side in order:
                    taken, answers[side] = self._turn(side)
                    for measures, seconds in zip(found, taken, strict=True):
                        for measure, share in _SHARES.items():
                            measures[measure][side].append(_percentile(seconds, share) * 1e3)
                if answers["observed"] != answers["not observed"]:
                    raise UnequalError(f"{self.name}: an answer is another one where it is observed")
                order.reverse()
        return [
            Result(self.table, self.name, request.what, "ms", measures, "not observed")
            for request, measures in zip(self.requests, found, strict=True)
        ]

    def _turn(self, side: str) -> tuple[list[list[float]], list[object]]:
        """Seconds of each call by request, and one answer of each."""
        with tempfile.TemporaryDirectory() as folder:
            with _SIDES[side](Path(folder)):
                seconds, answers, asked = asyncio.run(self._session())
            told = sum(path.read_bytes().count(b'"kind":2,') for path in Path(folder).rglob("traces-*"))
        if side == "observed" and told < asked:
            raise UnequalError(f"{self.name}: {told} server spans of {asked} requests")
        return seconds, answers

    async def _session(self) -> tuple[list[list[float]], list[object], int]:
        seconds: list[list[float]] = []
        answers: list[object] = []
        asked = 0
        async with self.connect(self.project.root) as client:
            await self.ask(client, self.requests[0])
            await asyncio.sleep(_SETTLE_SECONDS)
            for request in self.requests:
                taken = []
                for _ in range(_WARM_UP + request.calls):
                    began = time.perf_counter()
                    good, text = await self.ask(client, request)
                    taken.append(time.perf_counter() - began)
                    if not good:
                        raise RuntimeError(f"{self.name}: {request.what} is answered with {text[:200]!r}")
                seconds.append(taken[_WARM_UP:])
                answers.append(text if request.repeats else None)
                asked += len(taken)
        return seconds, answers, asked + 1


async def call_tool(client: Any, request: Request) -> tuple[bool, Any]:
    """Whether the tool answered well, and its text."""
    result = await client.call_tool(request.target, dict(request.arguments))
    return not result.isError, result.content[0].text


async def get_page(client: Any, request: Request) -> tuple[bool, Any]:
    """Whether the page was served, and its bytes."""
    response = await client.get(request.target)
    return response.status_code == 200, response.content


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


def _percentile(values: list[float], share: float) -> float:
    """The value that ``share`` of them do not exceed; of a few, the 99th percentile is the largest."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


def benchmarks(project: served.Project) -> list[Latency | Sizing]:
    """All that this module measures, on ``project``."""
    return [
        Latency("MCP tool call", project, served.session, call_tool, TOOLS),
        Latency("HTTP page", project, served.browser, get_page, PAGES),
        Sizing(),
    ]
