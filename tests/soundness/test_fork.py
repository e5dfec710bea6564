"""A fork at any moment: no child hangs, each exports what it records and nothing of its parent's.

`python tests/soundness/forking.py hand 250` measures hand-written OpenTelemetry by the same program: the SDK has locks
of its own, and more than half of such children hang.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from soundness import report
from soundness.observing import LIBRARY

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
    report.say(
        f"{found['forks']} forks of {way} at {moment} moments: {found['hung']} hung, a fork took "
        f"{found['slowest_fork'] * 1e3:.0f} ms at most"
    )
    assert found["hung"] == 0, done.stderr[-4_000:]
    assert found["wrong"] == []
    assert found["forks"] == forks
    assert found["recorded"] == found["counted"] == found["exported"] + found["dropped"]
    assert found["errors"] == {}


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
