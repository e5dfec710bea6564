"""However a process ends, what it recorded is exported before; what nothing can be done against costs a second."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import pytest

import context_telemetry
from context_telemetry.pipeline import providers
from soundness import report
from soundness.exporting import FOLDER
from soundness.observing import LIBRARY
from soundness.sink import listening

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")

CALLS = 3_000
_LIBRARY = str(Path(context_telemetry.__file__).parents[1])
_TESTS = str(Path(__file__).parents[1])
_RUN = "import sys; from context_telemetry.pipeline.launch import run_command; sys.exit(run_command(sys.argv[1:]))"
_ENTRY_POINTS = """
[opentelemetry_traces_exporter]
soundness = soundness.exporting:FileSpans
[opentelemetry_metrics_exporter]
soundness = soundness.exporting:FileMetrics
"""

_TO_FILES = {
    "OTEL_TRACES_EXPORTER": "soundness",
    "OTEL_METRICS_EXPORTER": "soundness",
    "OTEL_LOGS_EXPORTER": "none",
    "OTEL_BSP_SCHEDULE_DELAY": "30000",
    "OTEL_BSP_MAX_QUEUE_SIZE": "20000",
    "OTEL_METRIC_EXPORT_INTERVAL": "60000",
}

# How each way begins. A host has its own providers, and a handler for SIGTERM: nobody else may have one there.
_BEGIN = {
    "owned": """
        from pathlib import Path
        from context_telemetry.observe import project
        project.opened(Path.cwd(), "shop")
        from context_telemetry.pipeline import auto
        assert auto.current() is not None
        flush = auto.flush
    """,
    "host": """
        from opentelemetry import metrics, trace
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from soundness.exporting import FileMetrics, FileSpans
        tracers = TracerProvider()
        tracers.add_span_processor(BatchSpanProcessor(FileSpans()))
        meters = MeterProvider([PeriodicExportingMetricReader(FileMetrics())])
        trace.set_tracer_provider(tracers)
        metrics.set_meter_provider(meters)
        import context_telemetry
        context_telemetry.instrument()
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        def flush(seconds):
            tracers.force_flush(), meters.force_flush()
    """,
}
_RECORD = """
    from threading import Thread
    from context_telemetry import operation
    def call(ident):
        with operation("context.build", table=ident) as op:
            op.payload(1_000, kind="schema_context")
    def calls(thread, count):
        for index in range(count):
            call(f"{thread}.{index}")
    def burst(count=%d):
        threads = [Thread(target=calls, args=(n, count // 4)) for n in range(4)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        for index in range(4):  # nobody is in a hurry for these
            time.sleep(0.02)
            call(f"tail.{index}")
""" % (CALLS - 4)  # noqa: UP031  # the program has braces
_NOTED = """
    noted = os.open(os.path.join(os.environ["SOUNDNESS_FOLDER"], "noted"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    def go_on(seconds, pause=0.0005):
        end, index = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            call(f"n.{index}")
            os.write(noted, f"n.{index} {time.time()}\\n".encode())
            index += 1
            time.sleep(pause)
"""


class Runner:
    """Runs programs that record by one of the ways."""

    def __init__(self, way: str, folder: Path, telemetry: Mapping[str, str] | None = None) -> None:
        """``telemetry``: the `OTEL_*` variables, in place of ones that export to files at an end and not before."""
        self.way, self.folder = way, folder
        found = folder / "site" / "soundness_exporters-1.dist-info"
        found.mkdir(parents=True)
        (found / "METADATA").write_text("Metadata-Version: 2.1\nName: soundness-exporters\nVersion: 1\n")
        (found / "entry_points.txt").write_text(_ENTRY_POINTS)
        path = [str(folder / "site"), _TESTS, _LIBRARY, *filter(None, [os.environ.get("PYTHONPATH")])]
        self.environ = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path),
            FOLDER: str(folder),
            **(_TO_FILES if telemetry is None else telemetry),
            "CONTEXT_TELEMETRY_STATE_DIR": str(folder / "state"),
        }

    def start(self, *parts: str) -> subprocess.Popen[str]:
        program = self.folder / "program.py"
        program.write_text(
            "\n".join(
                textwrap.dedent(part) for part in ("import os, signal, sys, time", _BEGIN[self.way], *parts)
            )
        )
        command = [sys.executable, str(program)]
        if self.way == "owned":
            command = [sys.executable, "-c", _RUN, *command]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *parts: str) -> int:
        process = self.start(*parts)
        _, stderr = process.communicate(timeout=60)
        assert "context-telemetry" not in stderr, stderr
        return process.returncode

    def _lines(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    @property
    def spans(self) -> Counter[str]:
        return Counter(table for line in self._lines("spans") for table in json.loads(line))

    @property
    def counted(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for line in self._lines("metrics"):
            found.update(json.loads(line))
        return found

    def noted(self, before: float) -> set[str]:
        """The calls that had ended by then."""
        return {ident for ident, at in self._notes() if at < before}

    def due(self, ended: float) -> set[str]:
        """The calls that had ended a second before the end, and as long before as the machine stood still at most."""
        moments = [*(at for _, at in self._notes() if ended - 3 < at < ended), ended]
        return self.noted(ended - 1.0 - max(after - at for at, after in pairwise(moments)))

    def _notes(self) -> Iterator[tuple[str, float]]:
        for line in self._lines("noted"):
            ident, _, at = line.partition(" ")
            if at:
                yield ident, float(at)


@pytest.fixture
def runner(request: pytest.FixtureRequest, tmp_path: Path) -> Runner:
    return Runner(request.param, tmp_path)


_ways = pytest.mark.parametrize("runner", LIBRARY, indirect=True)
_METRICS = ("dataface.context.served", "dataface.operation.duration", "dataface.payload.size")


def _all_is_there(runner: Runner, calls: int = CALLS) -> None:
    spans, counted = runner.spans, runner.counted
    assert (len(spans), sum(spans.values())) == (calls, calls)
    assert {name: counted[name] for name in _METRICS} == dict.fromkeys(_METRICS, calls)


@_ways
@pytest.mark.parametrize(
    ("last", "codes"),
    [
        ("", {0}),
        ("sys.exit(3)", {3}),
        ("raise ValueError('theirs')", {1}),
        ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)", {-signal.SIGTERM, 128 + signal.SIGTERM}),
        ("os.kill(os.getpid(), signal.SIGINT); time.sleep(60)", {-signal.SIGINT}),
        ("import atexit; atexit.register(call, 'last')", {0}),
        ("flush(5); os.kill(os.getpid(), signal.SIGKILL)", {-signal.SIGKILL}),
        ("flush(5); os._exit(0)", {0}),
        ("import context_telemetry; context_telemetry.uninstrument(); flush(5); os._exit(0)", {0}),
        ("import context_telemetry, gc; context_telemetry.uninstrument(); gc.collect()", {0}),
    ],
    ids=[
        "end", "sys.exit", "exception", "SIGTERM", "SIGINT", "atexit", "flush, SIGKILL", "flush, _exit",
        "uninstrument, _exit", "uninstrument",
    ],
)  # fmt: skip
def test_nothing_is_lost_at_an_end_that_can_be_seen_coming(
    runner: Runner, last: str, codes: set[int]
) -> None:
    assert runner.run(_RECORD, "burst()", last) in codes
    _all_is_there(runner, CALLS + ("'last'" in last))
    report.count("ends", ends=1, calls=CALLS)


@_ways
def test_what_runs_at_an_exit_that_comes_in_the_middle_is_recorded_up_to_it(runner: Runner) -> None:
    """Other threads record while the main one leaves."""
    code = runner.run(
        _RECORD,
        _NOTED,
        """
        def goes_on(thread):
            for index in range(10 ** 9):
                call(f"{thread}.{index}")
                time.sleep(0.0005)
        for thread in range(3):
            Thread(target=goes_on, args=(thread,), daemon=True).start()
        go_on(1)
        sys.exit(0)
        """,
    )
    assert code == 0
    noted = runner.noted(time.time())
    assert len(noted) > 20
    assert noted <= set(runner.spans)
    counted = runner.counted
    # What the daemons record while the process goes is theirs to lose.
    assert counted["dataface.operation.duration"] >= len(noted)
    assert max(runner.spans.values()) == 1


@pytest.mark.parametrize("runner", ["host"], indirect=True)
@pytest.mark.parametrize("how", ["SIGKILL", "_exit"])
def test_an_end_that_nothing_helps_against_costs_what_the_hosts_providers_have_kept_and_nothing_besides(
    runner: Runner, how: str
) -> None:
    runner.environ |= {"OTEL_BSP_SCHEDULE_DELAY": "400", "OTEL_METRIC_EXPORT_INTERVAL": "400"}
    if how == "_exit":
        process = runner.start(_RECORD, _NOTED, "go_on(2.3); print(time.time(), flush=True); os._exit(0)")
        stdout, _ = process.communicate(timeout=60)
        ended = float(stdout)
    else:
        process = runner.start(_RECORD, _NOTED, "print('go', flush=True); go_on(60)")
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(2.3)
        ended = time.time()
        process.kill()
        process.communicate()
    due, spans = runner.due(ended), runner.spans
    assert len(due) > 200
    missing = due - set(spans)
    assert not missing, f"{len(missing)} of {len(due)} calls that had ended a second before"
    counted = runner.counted
    for name in _METRICS:
        assert len(due) <= counted[name] <= len(runner.noted(ended + 1)) + 1, name
    report.count("kills", ends=1, calls=len(due))


def test_by_default_such_an_end_costs_a_second_of_spans_and_an_interval_of_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To a real OTLP/HTTP endpoint, with nothing set besides."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    interval = providers._METRIC_INTERVAL_MS / 1e3
    with listening() as sink:
        processes = {}
        for how, end in (("SIGKILL", "os.kill(os.getpid(), signal.SIGKILL)"), ("_exit", "os._exit(0)")):
            (tmp_path / how).mkdir()
            runner = Runner("owned", tmp_path / how, sink.environ)
            last = f"go_on({interval + 2.5}, 0.005); print(time.time(), os.getpid(), flush=True); {end}"
            processes[how] = runner, runner.start(_RECORD, _NOTED, last)
        for how, (runner, process) in processes.items():
            stdout, stderr = process.communicate(timeout=interval + 60)
            assert stdout, stderr
            ended, pid = float(stdout.split()[0]), int(stdout.split()[1])
            due = runner.due(ended)
            assert len(due) > 200
            assert due <= set(sink.spans[pid]), how
            collected = runner.noted(ended - 1.0 - interval)
            assert collected
            for name in _METRICS:
                assert len(collected) <= sink.counted[pid].get(name, 0) <= len(runner.noted(ended)), name
            report.count("kills", ends=1, calls=len(due))
