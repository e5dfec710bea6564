"""The sample project is whole, the driver speaks as clients do, and every fault is what it says.

First the rehearsal is held against real Dataface alone, then what is observed against the rehearsal.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from conftest import Span, observe, spans_in

from context_telemetry.rehearsal import demo, driver
from context_telemetry.rehearsal.driver import ALWAYS_UNKNOWN, Answer, Client
from context_telemetry.rehearsal.fault import Fault, Meeting
from context_telemetry.rehearsal.faults import faults
from context_telemetry.rehearsal.sample import RehearsalError, Sample, create, require

_TOOLS = Path(__file__).parent.parent / "tools"
LASTING = [fault for fault in faults() if not fault.new_server]
NEW_SERVER = [fault for fault in faults() if fault.new_server]


def _files(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()
    }


# -- the project


def test_the_sample_project_has_data_and_a_manifest_with_descriptions(sample: Sample, project: Path) -> None:
    manifest = json.loads(sample.manifest.read_text("utf-8"))
    models = [node for node in manifest["nodes"].values() if node["resource_type"] == "model"]
    assert len(models) == 10
    assert all(model["description"] and model["columns"] for model in models)
    # A copy: Dataface servers of other tests, in this process, keep the sample's own file open.
    with duckdb.connect(str(Sample(project).database), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM fct_orders").fetchone() == (1200,)


def test_a_copy_of_the_sample_project_does_not_name_the_folder_it_was_copied_from(
    sample: Sample, project: Path
) -> None:
    content = Sample(project).manifest.read_text("utf-8")
    assert str(sample.root) not in content
    assert str(project) in content


def test_a_folder_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(RehearsalError, match="not empty"):
        create(tmp_path)


def test_what_is_not_installed_is_named_with_the_command_that_installs_it() -> None:
    with pytest.raises(RehearsalError, match=r"no_such_package.*pip install"):
        require("no_such_package.part")


def test_importing_the_rehearsal_imports_neither_dataface_nor_dbt_nor_mcp() -> None:
    code = (
        "import sys, context_telemetry.rehearsal.demo;"
        "print([name for name in ('dataface', 'dbt', 'mcp') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -- the driver


@pytest.mark.real
def test_every_tool_and_resource_of_a_healthy_project_answers(sample: Sample) -> None:
    answers = driver.drive_everything(sample.root, command=driver.plain())
    assert {answer.call for answer in answers if answer.is_error} == set()
    assert {answer.call.tool for answer in answers} >= {call.tool for call in driver.HEALTHY_TOOLS}
    errors = {answer.call.uri for answer in answers if answer.call.uri and answer.text.startswith('{"error"')}
    assert errors == set(ALWAYS_UNKNOWN)


@pytest.mark.real
def test_the_raw_driver_sends_what_no_client_would_and_keeps_both_streams(sample: Sample) -> None:
    with driver.Raw(sample.root, command=driver.plain()) as raw:
        assert raw.initialize()["result"]["serverInfo"]["name"] == "dataface"
        assert "error" in raw.request("no/such-method")
        assert "error" in raw.request("tools/call", {"name": 7})
        raw.send("this is not JSON")
        meta = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
        answered = raw.request("tools/call", {"name": "docs", "arguments": {}, "_meta": meta})
        assert not answered["result"]["isError"]
        assert raw.close() == 0
    assert b"this is not JSON\n" in raw.sent
    assert json.loads(raw.received[0])["id"] == 1


# -- the faults, unobserved


@pytest.mark.parametrize("release", ["0.1.2", "0.1.3", "0.1.4", "0.1.5", "0.2.0", "0.3.0", "0.3.1", "0.4.0"])
def test_each_release_has_a_fault_once_with_calls_that_meet_it_and_one_healthy_twin(release: str) -> None:
    there = faults(release)
    assert len({fault.name for fault in there}) == len(there) > 25
    assert all(fault.meetings and len(fault.twins) == 1 for fault in there)


@pytest.mark.parametrize("fault", faults(), ids=lambda fault: fault.name)
def test_a_fault_that_is_healed_leaves_the_project_as_it_was(fault: Fault, project: Path) -> None:
    before = _files(project)
    with fault.injected(project):
        assert (_files(project) != before) == bool(fault.touches) or (project / "faces/lost.yml").is_symlink()
    assert _files(project) == before


async def _meet(client: Client, fault: Fault, project: Path) -> tuple[list[Answer], Answer]:
    with fault.injected(project):
        answers = [await client.send(meeting.call) for meeting in fault.meetings]
    return answers, await client.send(fault.twin)


def _assert_answers(fault: Fault, answers: list[Answer], twin: Answer) -> None:
    said = [answer.is_error for answer in answers]
    assert said == [meeting.is_error for meeting in fault.meetings], fault.name
    assert not twin.is_error, fault.name


@pytest.mark.real
def test_faults_look_to_a_client_of_dataface_alone_as_written_down(project: Path) -> None:
    async def meet_all(client: Client) -> None:
        for fault in LASTING:
            _assert_answers(fault, *await _meet(client, fault, project))

    driver.with_session(project, meet_all, command=driver.plain())


@pytest.mark.real
@pytest.mark.parametrize("fault", NEW_SERVER, ids=lambda fault: fault.name)
def test_faults_of_the_warehouse_look_to_a_client_of_dataface_alone_as_written_down(
    fault: Fault, project: Path
) -> None:
    async def meet(client: Client) -> None:
        _assert_answers(fault, *await _meet(client, fault, project))

    driver.with_session(project, meet, command=driver.plain())


# -- the faults, observed

Read = dict[str, list[tuple[Meeting, Span]]]


def _observe_faults(folder: Path, project: Path, faults: list[Fault]) -> Read:
    """Injects the faults in turn in one observed server; for each, its meetings and twin with their spans."""
    plan: list[tuple[str, Meeting]] = []
    before: dict[int, Callable[[], None]] = {}

    def then(fault: Fault, change: Callable[[Path], None]) -> Callable[[], None]:
        def run() -> None:
            change(project)
            time.sleep(fault.settles)

        return run

    for fault in faults:
        before[len(plan)] = then(fault, fault.inject)
        plan += [(fault.name, meeting) for meeting in fault.meetings]
        before[len(plan)] = then(fault, fault.heal)
        plan.append((fault.name, Meeting(fault.twin, "ok")))
    recorded = observe(folder, project, [meeting.call for _, meeting in plan], before=before)
    assert len(recorded.requested) == len(plan), recorded.stderr
    read: Read = {}
    for (name, meeting), span in zip(plan, recorded.requested, strict=True):
        read.setdefault(name, []).append((meeting, span))
    return read


def _assert_read(read: list[tuple[Meeting, Span]]) -> None:
    expected = [(str(meeting.call), meeting.outcome, meeting.reasons) for meeting, _ in read]
    assert [(str(meeting.call), span.outcome, span.reasons) for meeting, span in read] == expected


@pytest.fixture(scope="module")
def lasting(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Read:
    folder = tmp_path_factory.mktemp("faults")
    return _observe_faults(folder / "run", sample.copy(folder / "shop").root, LASTING)


@pytest.mark.real
@pytest.mark.parametrize("name", [fault.name for fault in LASTING])
def test_calls_that_meet_a_fault_carry_its_reasons_and_the_twin_none(name: str, lasting: Read) -> None:
    _assert_read(lasting[name])


@pytest.mark.real
@pytest.mark.parametrize("fault", NEW_SERVER, ids=lambda fault: fault.name)
def test_calls_that_meet_a_fault_of_the_warehouse_carry_its_reasons_and_the_twin_none(
    fault: Fault, project: Path, tmp_path: Path
) -> None:
    _assert_read(_observe_faults(tmp_path / "run", project, [fault])[fault.name])


@pytest.mark.real
def test_healthy_calls_of_every_tool_end_ok(sample: Sample, tmp_path: Path) -> None:
    recorded = observe(tmp_path / "run", sample.root, driver.HEALTHY_TOOLS)
    read = [(span.attributes["gen_ai.tool.name"], span.outcome, span.reasons) for span in recorded.requested]
    assert read == [(call.tool, "ok", frozenset()) for call in driver.HEALTHY_TOOLS]


# -- the demo


@pytest.mark.real
def test_the_demo_shows_a_healthy_project_and_then_every_fault_that_it_injects(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    printed = subprocess.run(
        [sys.executable, str(_TOOLS / "show_demo.py"), "--check", str(folder)],
        capture_output=True,
        encoding="utf-8",
        timeout=240,
        check=False,
    )
    # What it prints is what the docs say that it prints.
    assert (printed.returncode, printed.stdout) == (0, ""), printed.stderr
    injected = [fault for fault in faults() if fault.name in demo.DEMO_FAULTS]
    assert len(injected) == len(demo.DEMO_FAULTS)
    served = [span for span in spans_in(folder / "telemetry") if span.entry]
    seen = frozenset().union(*(span.reasons for span in served))
    assert seen == frozenset({"resource_unknown"}).union(*(fault.reasons for fault in injected))
    assert {path.name for path in folder.iterdir()} == {"README.md", "shop", "shop.before", "telemetry"}
