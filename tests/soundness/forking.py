"""A program that forks while it records and collects, and counts the children that hang.

    python tests/soundness/forking.py WAY FORKS [random|collecting [MOST]]

WAY is ``hand`` (hand-written OpenTelemetry: the baseline, because the SDK has locks of its own), ``host`` or ``owned``.
At ``collecting`` moments a collection is certainly going on: a neighbour's observable instrument is being asked. The
result is one line of JSON on standard output; where children hung, where they did goes to standard error. After MOST
of those it gives up.
"""

from __future__ import annotations

import atexit
import faulthandler
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from context_telemetry.observe import failsafe, recorder
from context_telemetry.pipeline import providers
from context_telemetry.pipeline.destination import Destination
from context_telemetry.settings import Settings
from soundness.observing import KeptExporter, KeptReader
from soundness.telemetry import series
from soundness.ways import ByHand, Observed
from soundness.workload import Step, perform

LIMIT = 30.0
"""Seconds within which a child has to have recorded, flushed and exited: it needs a twentieth of one."""
_OWN = 10
_AT_ONCE = 8


class Kept(SpanExporter):
    """Keeps the names and tables of what is exported."""

    def __init__(self) -> None:
        self.tables: list[str] = []

    def export(self, spans: Any) -> SpanExportResult:
        self.tables.extend(str((span.attributes or {}).get("dataface.catalog.table")) for span in spans)
        return SpanExportResult.SUCCESS


@dataclass
class Result:
    """What became of the children, and of what their parent recorded meanwhile."""

    way: str
    moment: str
    forks: int = 0
    hung: int = 0
    in_collection: int = 0
    wrong: list[str] = field(default_factory=list)
    recorded: int = 0
    counted: int = 0
    exported: int = 0
    dropped: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    slowest_fork: float = 0.0
    """Seconds that the forking thread had to wait for its fork."""


class Program:
    """One way with all that runs beside it."""

    def __init__(self, way: str, moment: str) -> None:
        self.result = Result(way, moment)
        self.spans, self.reader, self.periodic = Kept(), KeptReader(delta=False), KeptExporter(delta=True)
        self.parent = os.getpid()
        self.stop = threading.Event()
        self.collecting = threading.Semaphore(0)
        self.inside = False
        if way == "owned":
            pipeline = providers.assemble(
                Destination("otlp", {"traces": ("kept",), "metrics": ("kept",), "logs": ()}),
                {"traces": [self.spans], "metrics": [self.reader, self.periodic], "logs": []},
                root=Path(tempfile.gettempdir()),
                settings=Settings(),
                set_global=False,
            )
            recorder.install(pipeline.recorder)
            atexit.register(pipeline.shutdown, 2.0)
            self.flush: Any = lambda: pipeline.flush(5)
            self.meters: Any = pipeline.meter_provider
            self.way: Any = Observed(pipeline.tracer_provider)
        else:
            tracers = TracerProvider(sampler=ALWAYS_ON)
            tracers.add_span_processor(BatchSpanProcessor(self.spans, max_queue_size=100_000))
            self.exporting = PeriodicExportingMetricReader(self.periodic)
            self.meters = MeterProvider([self.reader, self.exporting])
            loggers = LoggerProvider(shutdown_on_exit=False)
            if way == "host":
                recorder.use(tracers, self.meters, loggers)
            self.way = ByHand(tracers, self.meters, loggers) if way == "hand" else Observed(tracers)
            self.flush = lambda: (tracers.force_flush(5_000), self.meters.force_flush(5_000))
        if moment == "collecting":
            self.meters.get_meter("neighbour").create_observable_gauge("neighbour.slow", [self._slow])

    def _slow(self, _options: CallbackOptions) -> Iterable[Observation]:
        if os.getpid() == self.parent and not self.stop.is_set():
            self.inside = True
            self.collecting.release()
            time.sleep(0.004)  # so long does the collection go on that a fork is to hit
            self.inside = False
        return [Observation(1, {})]

    def records(self, thread: int, recorded: list[int]) -> None:
        """What each thread of the parent does."""
        index = 0
        while not self.stop.is_set():
            children = (Step(f"p{thread}.{index}.i", "block", "manifest.load"),) if index % 3 == 0 else ()
            perform(
                Step(
                    f"p{thread}.{index}",
                    "function",
                    "context.build",
                    size=300,
                    children=children,
                    error="LookupError" if index % 7 == 0 else None,
                ),
                self.way,
            )
            recorded[thread] += 1 + len(children)
            self.way.seen.clear()
            index += 1
            if index % 10 == 0:
                time.sleep(0.005)  # or four hot loops leave the children no processor

    def collects(self) -> None:
        """Somebody collects nearly all the time."""
        while not self.stop.is_set():
            self.reader.collect()
            self.reader.batches[:] = self.reader.batches[-1:]
            time.sleep(0.001)  # somebody else has to have the lock at times

    def child(self, number: int, report: int, log: Any) -> None:
        """What a child does: it records, flushes, and says what came out."""
        faulthandler.dump_traceback_later(LIMIT * 0.8, file=log)
        self.spans.tables.clear()
        self.periodic.batches.clear()
        self.reader.batches.clear()
        for index in range(_OWN):
            perform(Step(f"child.{index}", "function", "cache.read", size=7), self.way)
        if number % 3:
            self.flush()
        self.reader.collect()
        self.flush()
        # What the periodic reader had collected when it was asked to flush, it exports a moment later.
        deadline = time.monotonic() + LIMIT / 3
        while _counted(self.periodic.batches, "cache.read") < _OWN and time.monotonic() < deadline:
            time.sleep(0.005)
        own = [table for table in self.spans.tables if table.startswith("child.")]
        told = {
            "spans": len(own),
            "strangers": len(self.spans.tables) - len(own),
            "collected": _counted(self.reader.batches[-1:], "cache.read"),
            "exported": _counted(self.periodic.batches, "cache.read"),
            "inherited": self._inherited(),
        }
        os.write(report, json.dumps(told).encode())
        os.close(report)

    def _inherited(self) -> int:
        """What a counter of ours has in a child of its parent's calls; by hand it has all of them."""
        if self.result.way == "hand":
            return 0
        return sum(
            point.value
            for batch in self.reader.batches[-1:]
            for (name, labels), _, point in series(batch)
            if name == "dataface.context.served" and ("dataface.operation.name", "context.build") in labels
        )

    def run(self, forks: int, most_hung: int) -> Result:
        """Fork, and see what becomes of it."""
        result, recorded = self.result, [0] * 4
        began = time.monotonic()
        threads = [threading.Thread(target=self.records, args=(n, recorded), daemon=True) for n in range(4)]
        threads.append(threading.Thread(target=self.collects, daemon=True))
        for thread in threads:
            thread.start()
        chance = random.Random(forks)
        alive: list[_Child] = []
        for number in range(forks):
            while len(alive) >= _AT_ONCE:
                alive = [child for child in alive if not child.over(result)]
                time.sleep(0.001)  # between two looks at whether a child is over
            if result.hung >= most_hung:
                break
            if result.moment == "collecting":
                while self.collecting.acquire(blocking=False):
                    pass
                self.collecting.acquire(timeout=5)
            else:
                # Any moment: of a call, of a collection, of an export.
                time.sleep(chance.choice((0.0, 0.0005, 0.002, 0.005, 0.01)) * chance.random())
            read, write = os.pipe()
            log = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed when its child is over
            result.in_collection += self.inside
            before = time.monotonic()
            pid = os.fork()
            if pid != 0:
                result.slowest_fork = round(max(result.slowest_fork, time.monotonic() - before), 3)
            if pid == 0:
                os.close(read)
                self.child(number, write, log)
                if number % 2:
                    os._exit(0)
                raise SystemExit(0)  # through everything that is registered for the exit
            os.close(write)
            result.forks += 1
            alive.append(_Child(pid, read, log))
        while alive:
            alive = [child for child in alive if not child.over(result)]
            time.sleep(0.005)
        self.stop.set()
        for thread in threads:
            thread.join(10)
            if thread.is_alive():
                result.wrong.append("a thread of the parent's hangs")
        self.flush()
        self.reader.collect()
        result.recorded = sum(recorded)
        result.counted = _counted(self.reader.batches[-1:])
        result.exported = len(self.spans.tables)
        result.dropped = sum(failsafe.drops().values())
        result.errors = failsafe.errors()
        result.seconds = round(time.monotonic() - began, 1)
        return result


class _Child:
    def __init__(self, pid: int, read: int, log: Any) -> None:
        self._pid, self._read, self._log = pid, read, log
        self._deadline = time.monotonic() + LIMIT

    def over(self, result: Result) -> bool:
        """Whether the child has ended, or has been ended because it hangs."""
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        if pid == 0:
            if time.monotonic() < self._deadline:
                return False
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            result.hung += 1
            self._log.seek(0)
            if result.hung <= 3:
                print(f"hung child {result.hung}:\n{self._log.read()}", file=sys.stderr)
        else:
            said = os.read(self._read, 65_536).decode()
            expected = {"spans": _OWN, "strangers": 0, "collected": _OWN, "exported": _OWN, "inherited": 0}
            if status != 0 or not said or json.loads(said) != expected:
                self._log.seek(0)
                result.wrong.append(f"status {status}: {said} {self._log.read()[-500:]}")
        os.close(self._read)
        self._log.close()
        return True


def _counted(batches: Iterable[Any], operation: str | None = None) -> int:
    return sum(
        point.count
        for batch in batches
        for (name, labels), _, point in series(batch)
        if name == "dataface.operation.duration"
        and operation in (None, dict(labels)["dataface.operation.name"])
    )


if __name__ == "__main__":
    os.environ.setdefault("OTEL_BSP_MAX_QUEUE_SIZE", "100000")
    os.environ.setdefault("OTEL_METRIC_EXPORT_INTERVAL", "20")
    way, forks, moment = sys.argv[1], int(sys.argv[2]), (sys.argv[3:] or ["random"])[0]
    done = Program(way, moment).run(forks, int(sys.argv[4] if sys.argv[4:] else forks))
    print(json.dumps(asdict(done)), flush=True)
    os._exit(0)
