"""What a call pays for being compared with the contract: to leave its question behind, and to take a verdict along.

`python -m benchmarks.questions ROUNDS` measures in a process of its own, without a thread that asks and a comparator;
it prints one JSON object.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.environment import for_processes
from benchmarks.measure import Result, Side, Target, take_turns
from context_telemetry.instrumentation import contract_watch
from context_telemetry.observe import project
from context_telemetry.observe.operation import Operation

_UNITS = 1_000  # so many wait at most
_SQL = (
    "SELECT o.order_date, c.country, sum(o.order_revenue) AS revenue FROM fct_orders o JOIN dim_customers c "
    "ON o.customer_id = c.customer_id WHERE o.status <> 'cancelled' GROUP BY o.order_date, c.country ORDER BY 1"
)


@dataclass(frozen=True)
class Questions:
    """A query of 200 characters, in a text that nobody has hashed before, as each call has its own."""

    name: str = "asked query"
    table: str = "asked"
    rounds: int = 40

    def small(self) -> Questions:
        """To see that it works."""
        return replace(self, rounds=2)

    def run(self) -> list[Result]:
        command = [sys.executable, "-m", "benchmarks.questions", str(self.rounds)]
        done = subprocess.run(command, env=for_processes(), capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"benchmarks.questions failed: {done.stderr[-2_000:]}")
        return [
            Result(
                self.table,
                self.name,
                "what comparing adds to a call; *known*: its verdict is, and nothing is broken",
                "us",
                {"caller": json.loads(done.stdout)},
                targets=(Target("value", "known", "", 2.0),),
            )
        ]


MATRIX = (Questions(),)


# -- in a process of its own ----------------------------------------------------------------------


class _Registry:
    """Stands for Dataface's adapter registry, of which only its project is looked at."""

    def __init__(self, root: Path) -> None:
        self._project = root


def main() -> None:
    root = Path.cwd()
    project.opened(root)
    registry, texts = _Registry(root), list[str]()
    watch = contract_watch._Watch()
    watch._thread = threading.current_thread()  # which asks nothing
    known = hash(("sql", "shop", _SQL))

    def turn(on: bool, make: Callable[[int], str], verdict: contract_watch._Verdict | None) -> Side:
        def before() -> None:
            contract_watch._watch = watch if on else None
            watch._waiting.clear()
            watch.verdicts = {} if verdict is None else {known: verdict}
            texts[:] = map(make, range(_UNITS))

        def run(units: int) -> None:
            op = Operation("query.execute")
            for text in texts[:units]:
                contract_watch.asked_sql(op, registry, "shop", text)

        return Side(run, before=before)

    def again(number: int) -> str:
        return (_SQL + " ")[:-1]  # equal, and another object

    broken = contract_watch._Verdict(("contract_broken",), (), "shop")
    sides = {
        "switched off": turn(False, again, None),
        "known": turn(True, again, contract_watch._NOTHING),
        "broken": turn(True, again, broken),
        "new": turn(True, lambda number: f"{_SQL} LIMIT {number}", None),
    }
    measured = take_turns(sides, rounds=int(sys.argv[1]), units=_UNITS)["caller"]
    assert len(watch._waiting) in (0, _UNITS)
    print(json.dumps(measured), flush=True)


if __name__ == "__main__":
    main()
