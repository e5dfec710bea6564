"""A fork at any moment: no child hangs, each exports what it records and nothing of its parent's.

`python tests/soundness/forking.py hand 250` measures hand-written OpenTelemetry by the same program: the SDK has locks
of its own, and more than half of such children hang.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import pytest

from soundness import report
from soundness.observing import LIBRARY
from soundness.sink import listening

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

_PROGRAM = str(Path(__file__).with_name("forking.py"))
_GIVE_UP = 2
"""Children that hang cost seconds each, and one is too many."""


@pytest.mark.parametrize(("moment", "forks"), [("random", 200), ("collecting", 50)])
@pytest.mark.parametrize("way", LIBRARY)
def test_no_child_hangs_whenever_it_was_forked(way: str, moment: str, forks: int) -> None:
    done = subprocess.run(
        [sys.executable, _PROGRAM, way, str(forks), moment, str(_GIVE_UP)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    report.count("forks", forks=found["forks"], hung=found["hung"], calls=found["recorded"])
    assert found["hung"] == 0, done.stderr[-4_000:]
    assert found["wrong"] == []
    assert found["forks"] == forks
    assert found["recorded"] == found["counted"] == found["exported"] + found["dropped"]
    assert found["errors"] == {}


_OF_MULTIPROCESSING = """
import json, multiprocessing, sys, threading, time
from pathlib import Path
from context_telemetry import instrument, operation
from context_telemetry.observe import project
forks, calls, limit = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
instrument()
project.opened(Path.cwd(), "shop")
stop, recorded = threading.Event(), [0] * 4
def record(thread):
    while not stop.is_set():
        with operation("cache.read"):
            recorded[thread] += 1
        if recorded[thread] % 10 == 0:
            time.sleep(0.005)  # or four hot loops leave the children no processor
def child():
    for _ in range(calls):
        with operation("manifest.load"):
            pass
threads = [threading.Thread(target=record, args=(number,)) for number in range(4)]
for thread in threads:
    thread.start()
fork, hung, codes = multiprocessing.get_context("fork"), 0, set()
for _ in range(forks // 5):
    children = [fork.Process(target=child) for _ in range(5)]
    for each in children:
        each.start()
    for each in children:
        each.join(limit)
        if each.exitcode is None:
            hung += 1
            each.kill()
            each.join()
        codes.add(each.exitcode)
stop.set()
for thread in threads:
    thread.join()
print(json.dumps({"hung": hung, "codes": sorted(codes), "recorded": sum(recorded)}))
"""


def test_all_children_of_multiprocessing_end_with_all_that_they_recorded(tmp_path: Path) -> None:
    forks, calls = 200, 3
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _OF_MULTIPROCESSING, str(forks), str(calls), "20"],
        cwd=tmp_path,
        env={**os.environ, "CONTEXT_TELEMETRY_STATE_DIR": str(tmp_path / "state")},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert (found["hung"], found["codes"]) == (0, [0])
    of_each = [Counter(_names(path)) for path in tmp_path.glob("state/*/traces-*")]
    assert sum(names["cache.read"] for names in of_each) == found["recorded"]
    # Nobody has the calls of another one.
    of_children = [names for names in of_each if "manifest.load" in names]
    assert of_children == [Counter({"manifest.load": calls})] * forks
    report.count("forks", forks=forks, hung=found["hung"], calls=found["recorded"])


def _names(path: Path) -> list[str]:
    return [
        span["name"]
        for line in path.read_text().splitlines()
        for resource in json.loads(line)["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]


_INSIDE = """
import os, sys
sys.path.insert(0, sys.argv[2])
os.environ["OTEL_METRIC_EXPORT_INTERVAL"] = "3600000"
from opentelemetry.metrics import Observation
from soundness.forking import Program
program = Program(sys.argv[1], "random")
def forks(options):
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return [Observation(1)]
program.meters.get_meter("neighbour").create_observable_gauge("neighbour.forks", [forks])
program.reader.collect()
assert len(program.reader.batches) == 1
os._exit(0)
"""


@pytest.mark.parametrize("way", LIBRARY)
def test_a_fork_from_inside_of_a_collection_does_not_wait_for_itself(way: str) -> None:
    """As a neighbour's gauge does that asks another program."""
    command = [sys.executable, "-c", _INSIDE, way, str(Path(__file__).parents[1])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr


_WAITING = """
import os, sys, threading
sys.path.insert(0, sys.argv[2])
from soundness.forking import Program
program = Program(sys.argv[1], "random")
held = threading.Event()
def hold():
    with program.exporting._shutdown_event._cond:
        held.set()
        threading.Event().wait(20)
threading.Thread(target=hold, daemon=True).start()
held.wait()
pid = os.fork()
if pid == 0:
    raise SystemExit(0 if program.meters.force_flush(5_000) else 3)
_, status = os.waitpid(pid, 0)
os._exit(os.waitstatus_to_exitcode(status))
"""


def test_a_fork_while_an_exporting_reader_begins_to_wait_leaves_no_lock_behind() -> None:
    """The SDK's own event; a fork hits that moment once in some thousand times."""
    command = [sys.executable, "-c", _WAITING, "host", str(Path(__file__).parents[1])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=15, check=False)
    assert done.returncode == 0, done.stderr


_WHILE_EXPORTING = """
import json, os, random, signal, sys, threading, time
from pathlib import Path
from requests.adapters import HTTPAdapter
from context_telemetry import instrument, operation
from context_telemetry.observe import project
from context_telemetry.pipeline import auto
forks, calls, limit = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
sending, sent, send = [0], threading.Event(), HTTPAdapter.send
def noted(self, *args, **kwargs):
    sending[0] += 1
    try:
        return send(self, *args, **kwargs)
    finally:
        sending[0] -= 1
        sent.set()
HTTPAdapter.send = noted
instrument()
project.opened(Path.cwd(), "shop")
stop, recorded = threading.Event(), [0] * 2
def record(thread):
    while not stop.is_set():
        with operation("cache.read"):
            recorded[thread] += 1
        time.sleep(0.001)
threads = [threading.Thread(target=record, args=(number,)) for number in range(2)]
for thread in threads:
    thread.start()
sent.wait()  # at the first request modules are imported, and nobody lets go of Python's locks of those in a child
chance, children, exporting = random.Random(forks), {}, 0
for number in range(forks):
    time.sleep(0.02 * chance.random())
    exporting += bool(sending[0])
    pid = os.fork()
    if pid == 0:
        for _ in range(calls):
            with operation("manifest.load"):
                pass
        if number % 2:
            raise SystemExit(0)  # through everything that is registered for the exit
        auto.flush(15)
        os._exit(0)
    children[pid] = time.monotonic() + limit
    while len(children) >= 8 or (number == forks - 1 and children):
        for pid, deadline in list(children.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended or time.monotonic() > deadline:
                del children[pid]
                print(json.dumps([pid, os.waitstatus_to_exitcode(status) if ended else "hung"]))
                if not ended:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
        time.sleep(0.001)
stop.set()
for thread in threads:
    thread.join()
print(json.dumps([os.getpid(), sum(recorded), exporting]))
"""


def test_a_fork_in_the_middle_of_a_request_to_a_real_endpoint_leaves_each_what_is_its_own(
    tmp_path: Path,
) -> None:
    """The connections to an endpoint are shared with a child as its files are, and so are the locks around them."""
    forks, calls = 60, 3
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    often = {"OTEL_BSP_SCHEDULE_DELAY": "5", "OTEL_METRIC_EXPORT_INTERVAL": "200"}
    with listening(delay=0.01) as sink:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _WHILE_EXPORTING, str(forks), str(calls), "30"],
            cwd=tmp_path,
            env={**environ, **sink.environ, **often},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        *ended, (parent, recorded, exporting) = map(json.loads, done.stdout.splitlines())
        assert exporting > forks / 4
        assert [code for _, code in ended] == [0] * forks
        assert sink.spans.pop(parent) == Counter({"cache.read": recorded})
        assert sink.counted.pop(parent)["dataface.operation.duration"] == recorded
        assert dict(sink.spans) == {pid: Counter({"manifest.load": calls}) for pid, _ in ended}
        assert {pid: of["dataface.operation.duration"] for pid, of in sink.counted.items()} == {
            pid: calls for pid, _ in ended
        }
    report.count("forks", forks=forks, hung=0, calls=recorded, in_a_request=exporting)


_FORKED_IN_AN_IMPORT = """
    import os, signal, sys, threading
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import TracerProvider
    from context_telemetry import operation
    from context_telemetry.observe import recorder

    begun, go_on = threading.Event(), threading.Event()

    class Slow:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "pydantic":
                begun.set()
                go_on.wait(30)

    def call():
        with operation("context.build") as op:
            op.payload(1, kind="schema_context")

    recorder.use(TracerProvider(), MeterProvider())
    sys.meta_path.insert(0, Slow)
    first = threading.Thread(target=call)
    first.start()
    assert begun.wait(30)
    threading.Timer(0.2, go_on.set).start()
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        call()
        os._exit(0)
    first.join()
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_child_that_is_forked_while_a_first_call_imports_does_not_hang() -> None:
    program = textwrap.dedent(_FORKED_IN_AN_IMPORT)
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == 0
