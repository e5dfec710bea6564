"""The process beside a serving one: when there is one, what its host is spared, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any, get_args

import duckdb
import pytest
from conftest import WATCH, Event, Observed, events_in
from contract.looks import accept, held
from memory import Memory, recording

from context_telemetry import operation
from context_telemetry.contract.comparison import Comparison, Finding, Part, to_json
from context_telemetry.contract.model import Level, TableKey
from context_telemetry.conventions import names
from context_telemetry.instrumentation import comparator_process, contract_watch
from context_telemetry.instrumentation.contract_events import Said
from context_telemetry.observe import board, failsafe
from context_telemetry.observe import project as served
from context_telemetry.observe.operation import Operation, current
from context_telemetry.rehearsal.driver import Raw, tool

_posix = pytest.mark.skipif(os.name == "nt", reason="POSIX signals and forks")

BOTH = {"contract_broken", "schema_drift"}
STATUS = "select status, count(*) as n from fct_orders group by status"
TWIN = "select order_id from fct_orders"
BREAK = "alter table fct_orders drop column status"


def change(project: Path, sql: str) -> None:
    with duckdb.connect(str(project / "shop.duckdb")) as connection:
        connection.execute(sql)


def eventually(holds: Callable[[], object], seconds: float = 60.0) -> None:
    """Fail unless it holds within so many seconds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold"
        time.sleep(0.1)  # between two looks


def comparators(project: Path) -> list[int]:
    """The comparators of a project that run on this machine."""
    listed = subprocess.run(
        ["ps", "-ww", "-eo", "pid=,args="], capture_output=True, text=True, check=True
    ).stdout
    lines = [line.split(maxsplit=1) for line in listed.splitlines()]
    return [int(pid) for pid, args in lines if "cli.comparator" in args and args.endswith(str(project))]


# -- a server --------------------------------------------------------------------------------------


def query(sql: str) -> Any:
    return tool("execute_query", sql=sql, source="shop")


def test_a_server_says_what_its_calls_meet_and_answers_as_ever(
    project: Path, observed: Observed, tmp_path: Path
) -> None:
    accept(project)
    calls = [query(STATUS), query(TWIN), query(STATUS), query(TWIN)]

    def told_of(what: str) -> list[Event]:
        events = [each for state in tmp_path.glob("run-*/state") for each in events_in(state)]
        return [each for each in events if each.name == f"dataface.contract.{what}"]

    def break_it() -> None:
        eventually(lambda: told_of("compared"))
        change(project, BREAK)
        eventually(lambda: len(told_of("changed")) == 2)
        time.sleep(2)  # what was asked before is answered anew right after it is told

    watched = observed(project, calls, env={WATCH: "true"}, before={2: break_it})
    reasons = [span.reasons for span in watched.tool_calls()]
    assert reasons == [set(), set(), BOTH, set()]
    change(project, "alter table fct_orders add column status varchar")
    healthy = observed(project, calls[:2])
    change(project, BREAK)
    broken = observed(project, calls[2:])
    assert [each.text for each in watched.answers[1:]] == [
        each.text for each in (*healthy.answers[1:], *broken.answers)
    ]
    told = Counter((each.name, each.severity) for each in watched.events if ".contract." in each.name)
    assert told == {
        ("dataface.contract.compared", "INFO"): 2,
        ("dataface.contract.changed", "WARN"): 1,
        ("dataface.contract.changed", "INFO"): 1,
    }
    (opened,) = [
        each.attributes for each in watched.events if each.severity == "WARN" and ".changed" in each.name
    ]
    assert "faces/orders.yml" in opened[names.DATAFACE_CONTRACT_FACES]
    assert opened[names.DATAFACE_CONTRACT_SERVED] == 0  # the history has the queries, and no face
    assert comparators(project) == []


@_posix
@pytest.mark.parametrize("end", ["close", "terminate", "kill"])
def test_the_process_beside_a_server_ends_with_it(project: Path, tmp_path: Path, end: str) -> None:
    with Raw(project, env={WATCH: "true", "CONTEXT_TELEMETRY_STATE_DIR": str(tmp_path / "state")}) as server:
        server.initialize()
        server.request("tools/call", {"name": "execute_query", "arguments": {"sql": TWIN, "source": "shop"}})
        eventually(lambda: comparators(project))
        getattr(server, end)() if end == "close" else getattr(server.process, end)()
        server.process.wait()
        eventually(lambda: comparators(project) == [], 15.0)
    assert all(line.startswith(b"{") for line in server.received)


def test_a_session_that_is_short_and_one_that_has_it_switched_off_start_none(
    project: Path, observed: Observed
) -> None:
    seen: list[int] = []

    def look() -> None:
        time.sleep(4)  # several times what it takes to start one
        seen.extend(comparators(project))

    observed(project, [query(TWIN), query(TWIN)], before={1: look}, env={WATCH: "false"})
    short = observed(project, [query(TWIN)], env={WATCH: "true"})
    assert seen == comparators(project) == []
    assert not [each for each in short.events if ".contract." in each.name]


# -- its host --------------------------------------------------------------------------------------


class Registry:
    """What a registry of Dataface's is to the watch: something of a project."""

    def __init__(self, root: Path) -> None:
        self._project_root = root


def asks(root: Path, sql: str, source: str = "shop") -> set[str]:
    """The reasons of one query of a host's own."""
    with operation("query.execute"):
        op = current()
        assert op is not None
        contract_watch.asked_sql(op, Registry(root), source, sql)
    return set(op.reasons)


@pytest.fixture
def host(project: Path) -> Iterator[tuple[Path, Memory]]:
    """A process that serves a project with an accepted contract, and what it records."""
    accept(project)
    with recording() as memory:
        served.opened(project, "shop")
        contract_watch.enable(True)
        try:
            yield project, memory
        finally:
            contract_watch.forget()
            served.forget()


def compared(memory: Memory) -> bool:
    return any(name == names.EVENT_DATAFACE_CONTRACT_COMPARED for name, _ in memory.events)


@_posix
def test_a_comparator_that_is_killed_is_told_once_and_started_again_later(
    host: tuple[Path, Memory], monkeypatch: pytest.MonkeyPatch
) -> None:
    project, _ = host
    monkeypatch.setattr(contract_watch, "_RETRY", 1.0)
    contract_watch.forget()
    contract_watch.enable(True)
    before = failsafe.errors().get("contract comparator: Died", 0)
    for number in range(2):
        asks(project, f"{TWIN} limit {number}")
        eventually(lambda: comparators(project))
        (pid,) = comparators(project)
        os.kill(pid, signal.SIGKILL)
        asks(project, f"{TWIN} limit {number} offset 1")
        eventually(lambda: comparators(project) == [])
        eventually(lambda: failsafe.errors().get("contract comparator: Died", 0) == before + 1)
        eventually(lambda: asks(project, f"{TWIN} offset {time.time_ns()}") == set() and comparators(project))
    change(project, BREAK)
    eventually(lambda: asks(project, STATUS) == BOTH)


def test_a_project_beside_the_served_one_is_not_asked_about(
    host: tuple[Path, Memory], tmp_path: Path
) -> None:
    project, _ = host
    asks(tmp_path / "other", STATUS)
    time.sleep(2)  # twice as long as it waits with a first question
    assert comparators(project) == []


def test_a_question_that_was_asked_before_is_answered_anew_after_a_change(host: tuple[Path, Memory]) -> None:
    project, memory = host
    asks(project, STATUS)
    eventually(lambda: compared(memory))
    change(project, BREAK)
    eventually(lambda: len([name for name, _ in memory.events if name.endswith("contract.changed")]) == 2)
    time.sleep(2)  # what was asked before is answered anew right after it is told
    assert asks(project, STATUS) == BOTH  # the first that is asked since


def test_of_many_names_that_lead_nowhere_a_hundred_are_told_in_a_round(host: tuple[Path, Memory]) -> None:
    project, memory = host
    for number in range(150):
        asks(project, f"select * from nowhere_{number}")
    told: dict[str, int] = {}

    def counted() -> int:
        told.clear()
        for name, said in memory.events:
            if name == names.EVENT_DATAFACE_REFERENCE_UNKNOWN:
                told[said["dataface.reference.name"]] = said["dataface.reference.count"]
        return sum(told.values())

    eventually(lambda: counted() == 150)
    assert told["_OTHER"] == 50
    assert len(told) == 101


def test_questions_beyond_what_can_wait_are_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contract_watch, "_MOST_WAITING", 2)
    watch = contract_watch._Watch()
    monkeypatch.setattr(watch, "_start", lambda: None)
    before = failsafe.drops().get("contract questions", 0)
    for number in range(5):
        watch.asked(Operation("query.execute"), ("sql", "shop", str(number)))
    assert failsafe.drops()["contract questions"] - before == 3


def test_a_warehouse_that_was_locked_is_looked_at_again_though_its_file_is_the_same(
    host: tuple[Path, Memory], monkeypatch: pytest.MonkeyPatch
) -> None:
    project, memory = host
    monkeypatch.setattr(contract_watch, "_LOOK_UNREAD", 1.0)

    def unread() -> list[Any]:
        return [
            each[names.DATAFACE_CONTRACT_UNREAD]
            for name, each in memory.events
            if name == names.EVENT_DATAFACE_CONTRACT_COMPARED
        ]

    with held(project / "shop.duckdb") as pid:
        before = (project / "shop.duckdb").stat()
        asks(project, STATUS)
        eventually(lambda: unread() == [1])
        os.kill(pid, signal.SIGKILL)
    assert (project / "shop.duckdb").stat().st_mtime_ns == before.st_mtime_ns
    eventually(lambda: unread() == [1, 0])


class Fake:
    """A comparator process that finds what it is told to, and notes what it was asked."""

    found: Any = None
    fails: Any = None

    def __init__(self, *place: Any) -> None:
        self.place, self.abandoned, self.ended = place, False, False
        started.append(self)

    def ask(self, message: Any, seconds: float) -> dict[str, Any]:
        asked.append(message)
        if Fake.fails is not None:
            fails, Fake.fails = Fake.fails, None
            raise fails
        if "look" in message:
            return {"comparison": to_json(Fake.found)}
        return {"id": message["id"], "reasons": [], "unknown": [message["sql"]]}

    def abandon(self) -> None:
        self.abandoned = True

    def end(self) -> None:
        self.ended = True


started: list[Fake] = []
asked: list[Any] = []


@pytest.fixture
def watch(tmp_path: Path, memory: Memory, monkeypatch: pytest.MonkeyPatch) -> Iterator[contract_watch._Watch]:
    """A watch without a thread: the test goes its rounds."""
    started.clear()
    asked.clear()
    monkeypatch.setattr(Fake, "found", comparison())
    monkeypatch.setattr(Fake, "fails", None)
    monkeypatch.setattr(contract_watch, "ComparatorProcess", Fake)
    watch = contract_watch._Watch()
    monkeypatch.setattr(watch, "_start", lambda: None)
    served.opened(tmp_path, "shop")
    yield watch
    served.forget()
    board.forget()


def question(watch: contract_watch._Watch, sql: str) -> Operation:
    op = Operation("query.execute")
    watch.asked(op, ("sql", "shop", sql))
    return op


def looks() -> int:
    return sum("look" in message for message in asked)


def lost() -> int:
    return failsafe.drops().get("contract questions", 0)


def told_unknown(memory: Memory) -> int:
    return sum(
        each[names.DATAFACE_REFERENCE_COUNT]
        for name, each in memory.events
        if name == names.EVENT_DATAFACE_REFERENCE_UNKNOWN
    )


def test_on_a_new_day_is_looked_again_for_an_exception_may_have_ended(
    watch: contract_watch._Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Tomorrow(date):
        @classmethod
        def today(cls) -> Any:
            return date.today() + timedelta(days=1)

    watch._round()
    watch._round()
    assert looks() == 1
    monkeypatch.setattr(contract_watch, "date", Tomorrow)
    watch._round()
    watch._round()
    assert looks() == 2


def test_after_half_an_hour_is_looked_again_and_the_counts_are_said_again(
    watch: contract_watch._Watch, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch._round()
    passed = contract_watch._LOOK_LATEST + 1.0
    real, wall = time.monotonic, time.time
    monkeypatch.setattr(time, "monotonic", lambda: real() + passed)
    monkeypatch.setattr(time, "time", lambda: wall() + passed)
    watch._round()
    watch._round()
    assert looks() == 2
    assert breaking(memory) == [0, 0]


def test_while_something_is_broken_questions_wake_it_and_files_are_looked_at_once_a_second(
    watch: contract_watch._Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Fake, "found", replace(comparison(finding()), files=("/nowhere",)))
    watch._round()
    stats: list[str] = []
    monkeypatch.setattr(contract_watch, "identity_of", stats.append)
    for number in range(50):
        question(watch, f"select {number}")
        assert watch._wake.is_set()
        watch._round()
    assert len(asked) == 51
    assert len(stats) <= 1


def test_a_look_may_take_longer_than_a_question(
    host: tuple[Path, Memory], monkeypatch: pytest.MonkeyPatch
) -> None:
    project, memory = host
    monkeypatch.setattr(contract_watch, "_ANSWER_SECONDS", 0.0)
    asks(project, STATUS)
    eventually(lambda: compared(memory))


def test_questions_that_nobody_answers_are_dropped_and_counted(watch: contract_watch._Watch) -> None:
    before = lost()
    question(watch, "select 1")
    Fake.fails = comparator_process.Silent()
    watch._round()
    assert started[0].ended
    assert lost() - before == 1
    question(watch, "select 2")
    assert lost() - before == 2


def test_of_more_text_than_is_kept_each_question_is_answered_all_the_same(
    watch: contract_watch._Watch, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contract_watch, "_MOST_TEXT", 30)
    before = lost()
    for number in range(5):
        question(watch, f"nowhere_{number}")
    watch._round()
    assert told_unknown(memory) == 5
    assert lost() == before


def test_one_that_ended_by_itself_is_let_go_of_and_another_one_answers(
    watch: contract_watch._Watch, memory: Memory
) -> None:
    watch._round()
    question(watch, "nowhere")
    Fake.fails = comparator_process.Ended()
    watch._round()
    assert [each.abandoned for each in started] == [True, False]
    assert told_unknown(memory) == 1


def test_it_is_told_where_local_files_are(watch: contract_watch._Watch, tmp_path: Path) -> None:
    served.keep_state(lambda root: root / "state")
    watch._round()
    assert started[0].place == (tmp_path, tmp_path / "state")


def test_a_thread_that_cannot_start_is_started_by_a_later_question(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = contract_watch._Watch()
    ran = threading.Event()
    monkeypatch.setattr(watch, "_run", ran.set)

    def fails(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fails)
        question(watch, "select 1")
    question(watch, "select 2")
    assert ran.wait(10.0)


_HOST = """
    import os, sys, time
    from pathlib import Path
    from context_telemetry.instrumentation import contract_watch
    from context_telemetry.observe import project
    from context_telemetry.observe.operation import Operation
    root = Path(sys.argv[1])
    project.opened(root, "shop")
    contract_watch.enable(True)
    class Registry:
        _project_root = root
    def ask():
        contract_watch.asked_sql(Operation("query.execute"), Registry(), "shop", "select 1")
    def until(holds):
        while not holds():
            time.sleep(0.05)
    ask()
    until(lambda: contract_watch._watch.verdicts)
"""


def start(project: Path, program: str) -> subprocess.Popen[str]:
    text = textwrap.dedent(_HOST) + textwrap.dedent(program)
    return subprocess.Popen(
        [sys.executable, "-c", text, str(project)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_where_there_is_no_python_to_start_nothing_is_asked_and_nothing_counts_as_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a program that was frozen: it is the host itself that would be started."""
    monkeypatch.setattr(sys, "executable", "/opt/host/bin/host")
    contract_watch.enable(True)
    assert not contract_watch.is_on()
    assert "there is no Python here" in capsys.readouterr().err


@_posix
def test_a_forked_child_asks_for_itself_and_does_not_keep_its_parents_comparator(project: Path) -> None:
    program = """
    child = os.fork()
    if child == 0:
        assert not contract_watch._watch.verdicts
        sys.stdin.readline()
        ask()
        until(lambda: contract_watch._watch.verdicts)
        print("asked", flush=True)
        sys.stdin.readline()
        os._exit(0)
    print("forked", flush=True)
    time.sleep(1)  # its child lives on
    os._exit(0)
    """
    with start(project, program) as host:
        assert host.stdin is not None
        assert host.stdout is not None
        assert host.stdout.readline() == "forked\n"
        assert len(comparators(project)) == 1
        eventually(lambda: comparators(project) == [], 15.0)  # the parent is gone, its child is there
        host.stdin.write("\n")
        host.stdin.flush()
        assert host.stdout.readline() == "asked\n"
        assert len(comparators(project)) == 1
        host.stdin.write("\n")
        host.stdin.flush()
    eventually(lambda: comparators(project) == [], 15.0)


def test_a_host_that_exits_leaves_none_and_writes_nothing(project: Path) -> None:
    with start(project, "") as host:
        said, _ = host.communicate()
    assert (host.returncode, said) == (0, "")
    eventually(lambda: comparators(project) == [], 15.0)


# -- what is said ----------------------------------------------------------------------------------


def finding(rule: str = "column_removed", level: Any = "breaking", source: str = "shop") -> Finding:
    table = TableKey(source, "main", "orders")
    face = ("faces/orders.yml",)
    return Finding(
        "contract_broken", rule, level, f"{source}.main.orders.status", 2, 7, table, "status", face
    )


TOOL = Finding("contract_broken", "tool_removed", "breaking", "tool docs", 1, None, None, None)
DRIFT = replace(finding("column_missing", "warning"), reason="schema_drift")


def comparison(*findings: Finding, parts: tuple[Part, ...] = ("tables",), **other: Any) -> Comparison:
    """``parts`` are those that were compared."""
    counted = Counter((each.part, each.level) for each in findings if each.reason == "contract_broken")
    levels: dict[Part, dict[Level, int]] = {
        part: {level: counted[part, level] for level in get_args(Level)} for part in parts
    }
    facts = {
        "accepted": True,
        "problem": None,
        "manifest_problem": None,
        "drift": None,
        "unread": {},
        **other,
    }
    return Comparison(open=levels if facts["accepted"] else {}, findings=findings, files=(), **facts)


@pytest.fixture
def memory() -> Iterator[Memory]:
    with recording() as memory:
        yield memory


def said(memory: Memory) -> list[str]:
    """What has been told of differences since it was asked last."""
    states = [
        f"{each['dataface.contract.level']} {each['dataface.contract.state']}"
        for name, each in memory.events
        if name == names.EVENT_DATAFACE_CONTRACT_CHANGED
    ]
    memory._logs.clear()
    return states


def breaking(memory: Memory, part: str = "tables") -> list[Any]:
    """How many breaking changes of a part each comparison said were open; None where it did not say."""
    return [
        each.get(names.DATAFACE_CONTRACT_OPEN_BREAKING)
        for name, each in memory.events
        if name == names.EVENT_DATAFACE_CONTRACT_COMPARED and each[names.DATAFACE_CONTRACT_PART] == part
    ]


def test_a_change_is_said_once_also_by_the_next_process(memory: Memory) -> None:
    first = Said()
    first.say(comparison(finding()))
    first.say(comparison(finding()))
    assert said(memory) == ["breaking opened"]
    second = Said(first.memory())
    second.say(comparison(finding()))
    assert said(memory) == []
    assert not compared(memory)
    second.say(comparison())
    assert said(memory) == ["breaking closed"]


@pytest.mark.parametrize(
    "unknown",
    [
        {"unread": {"shop": "its file is gone"}},
        {"accepted": False, "problem": "line 3"},
    ],
)
def test_what_cannot_be_looked_for_is_not_closed(memory: Memory, unknown: dict[str, Any]) -> None:
    teller = Said()
    teller.say(comparison(finding()))
    said(memory)
    teller.say(comparison(**unknown))
    assert said(memory) == []
    teller.say(comparison())
    assert said(memory) == ["breaking closed"]


def test_what_is_open_in_a_source_that_cannot_be_read_still_counts(memory: Memory) -> None:
    """Else the page would be resolved while dbt holds the warehouse for a build."""
    teller = Said()
    teller.say(comparison(finding(), finding(source="crm")))
    teller.say(comparison(finding(source="crm"), unread={"shop": "a process has it open for writing"}))
    teller.say(comparison(finding(source="crm")))
    assert breaking(memory) == [2, 2, 1]


LOCKED: dict[str, Any] = {"unread": {"shop": "a process has it open for writing"}}
BOTH_PARTS: tuple[Part, ...] = ("tables", "tools")


def test_who_cannot_read_a_source_does_not_say_that_nothing_is_open(memory: Memory) -> None:
    """A server never asks a remote warehouse: its zero would clear what a check has said."""
    Said().say(comparison(**LOCKED))
    assert breaking(memory) == [None]
    assert memory.points().get(names.METRIC_DATAFACE_CONTRACT_OPEN) is None


def test_a_restart_while_the_file_is_locked_clears_nothing(memory: Memory) -> None:
    Said().say(comparison(finding()))
    restarted = Said()
    restarted.say(comparison(**LOCKED))
    restarted.say(comparison(finding()))
    restarted.say(comparison())
    assert breaking(memory) == [1, None, 1, 0]


def test_who_said_that_something_is_open_says_when_it_is_not_though_another_source_cannot_be_read(
    memory: Memory,
) -> None:
    teller = Said()
    unread: dict[str, Any] = {"unread": {"crm": "is a server"}}
    teller.say(comparison(finding(), **unread))
    teller.say(comparison(**unread))
    assert breaking(memory) == [1, 0]


def test_a_check_without_tools_closes_no_change_of_a_tool_and_says_nothing_of_tools(memory: Memory) -> None:
    full = Said(again=0.0)
    full.say(comparison(TOOL, parts=BOTH_PARTS))
    less = Said(full.memory(), again=0.0)
    less.say(comparison())
    assert breaking(memory, "tools") == [1]
    assert breaking(memory) == [0, 0]
    assert said(memory) == ["breaking opened"]
    again = Said(less.memory(), again=0.0)
    again.say(comparison(parts=BOTH_PARTS))
    assert breaking(memory, "tools") == [0]
    assert said(memory) == ["breaking closed"]


def test_a_server_says_nothing_of_tools(memory: Memory) -> None:
    Said().say(comparison(finding()))
    assert breaking(memory, "tools") == []


def test_of_a_contract_that_is_taken_away_nothing_stays_open(memory: Memory) -> None:
    teller = Said()
    teller.say(comparison(finding(), TOOL, parts=BOTH_PARTS))
    teller.say(comparison(accepted=False))
    assert breaking(memory) == [1, 0]
    assert breaking(memory, "tools") == [1, 0]
    assert said(memory) == ["breaking opened"] * 2 + ["breaking closed"] * 2


def test_drift_is_not_closed_while_the_project_cannot_be_read(memory: Memory) -> None:
    teller = Said()
    teller.say(comparison(DRIFT, drift=1))
    said(memory)
    teller.say(comparison(accepted=False, problem="dataface.yml: line 3"))
    assert said(memory) == []
    teller.say(comparison(drift=0))
    assert said(memory) == ["warning closed"]


def test_a_change_is_said_with_the_faces_that_rely_on_it_and_how_often_they_were_served(
    memory: Memory,
) -> None:
    first = Said()
    first.say(comparison(finding()))
    Said(json.loads(json.dumps(first.memory()))).say(comparison())
    told = [each for name, each in memory.events if name == names.EVENT_DATAFACE_CONTRACT_CHANGED]
    assert [(each[names.DATAFACE_CONTRACT_FACES], each[names.DATAFACE_CONTRACT_SERVED]) for each in told] == [
        (("faces/orders.yml",), 7)
    ] * 2


def test_a_difference_that_becomes_worse_is_closed_as_what_it_was_and_opened_as_what_it_is(
    memory: Memory,
) -> None:
    teller = Said()
    teller.say(comparison(finding(level="info")))
    teller.say(comparison(finding()))
    assert said(memory) == ["info opened", "info closed", "breaking opened"]


def test_counts_are_said_again_after_half_an_hour(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    teller, now = Said(), [1_000_000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    for seconds in (0.0, 60.0, 1800.0):
        now[0] = 1_000_000.0 + seconds
        teller.say(comparison())
    assert len([name for name, _ in memory.events if name == names.EVENT_DATAFACE_CONTRACT_COMPARED]) == 2


def test_what_holds_stands_on_the_board_until_it_is_gone(memory: Memory) -> None:
    def told() -> list[str]:
        states = [
            each["dataface.degradation.state"]
            for name, each in memory.events
            if name == names.EVENT_DATAFACE_DEGRADATION
        ]
        memory._logs.clear()
        return states

    teller = Said(watch="contract here")
    teller.say(comparison(finding(), finding("type_changed", "warning")))
    assert told() == ["began"]
    teller.say(comparison())
    assert told() == ["cleared"]
    board.forget()


@pytest.mark.parametrize(
    "memory", [{"open": 5}, {"counts": {"tables": 5}, "at": {"tables": 1.0}, "open": []}, {"counts": []}]
)
def test_a_memory_that_is_none_counts_as_nothing(memory: dict[str, Any]) -> None:
    assert Said(memory).memory() == Said().memory()


def test_nothing_is_said_where_there_never_was_anything_to_compare_with(memory: Memory) -> None:
    Said().say(comparison(accepted=False))
    assert memory.events == []
