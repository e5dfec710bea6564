"""The local files: whole lines, private, bounded, one series for each process."""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext

from context_telemetry.history import History, sql
from context_telemetry.observe import failsafe
from context_telemetry.pipeline import batch, providers
from context_telemetry.pipeline.batch import Batcher, BatchLimits
from context_telemetry.pipeline.destination import destination
from context_telemetry.pipeline.files import PIECE, FileSpanExporter, Folder
from context_telemetry.pipeline.line import LONGEST
from context_telemetry.pipeline.providers import Pipeline
from context_telemetry.settings import Retention, Settings

_posix = pytest.mark.skipif(os.name == "nt", reason="POSIX permissions and processes")
_NOBODY = 2**22 + 1  # above Linux's highest process id


def _spans(count: int = 1) -> list[ReadableSpan]:
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    for number in range(count):
        provider.get_tracer("test").start_span(f"span {number}").end()
    return list(kept.get_finished_spans())


def _exporter(path: Path, **retention: float) -> FileSpanExporter:
    return FileSpanExporter(Folder(path, Retention(**retention)))  # type: ignore[arg-type]


def _old(folder: Path, age: float, size: int = 1_000, *, pid: int = _NOBODY, number: int = 1) -> Path:
    path = folder / f"traces-20260101T000000Z-{pid}-{number}.jsonl"
    folder.mkdir(exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_nothing_is_made_before_something_is_exported(tmp_path: Path) -> None:
    _exporter(tmp_path / "shop").shutdown()
    assert list(tmp_path.iterdir()) == []


def test_a_batch_is_a_line_of_otlp_json(tmp_path: Path) -> None:
    exporter = _exporter(tmp_path / "shop")
    exporter.export(_spans(3))
    exporter.export(_spans(1))
    (path,) = (tmp_path / "shop").iterdir()
    assert path.name.startswith("traces-")
    assert path.name.endswith(f"-{os.getpid()}-1.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [len(line["resourceSpans"][0]["scopeSpans"][0]["spans"]) for line in lines] == [3, 1]


@_posix
def test_folders_and_files_are_the_users_alone(tmp_path: Path) -> None:
    _exporter(tmp_path / "state" / "shop").export(_spans())
    (path,) = (tmp_path / "state" / "shop").iterdir()
    modes = [stat.S_IMODE(each.stat().st_mode) for each in (path, path.parent, path.parent.parent)]
    assert modes == [0o600, 0o700, 0o700]


def _read_and_broken(folder: Path) -> tuple[int, int]:
    """The lines that `status` sees, and how many of them it takes for no JSON."""
    files = sorted(folder.iterdir())
    rows = duckdb.connect().execute(sql.broken_lines(files)).fetchall()
    return sum(row[2] for row in rows), sum(row[1] for row in rows)


def _with(value: object, number: int = 1) -> ReadableSpan:
    context = SpanContext(7, number, is_remote=False)
    return ReadableSpan("s", context, attributes={"value": value}, start_time=1, end_time=2)  # type: ignore[dict-item]  # any


def test_whatever_a_program_has_for_text_is_read_back(tmp_path: Path) -> None:
    exporter = _exporter(tmp_path)
    for value in (os.fsdecode(b"caf\xe9.csv"), "\ud83d", "a\0b", "\u2028", "\U0001f600", "\x01", '"\\'):
        exporter.export([_with(value)])
    assert _read_and_broken(tmp_path) == (7, 0)


def test_a_batch_that_is_too_long_for_a_line_is_as_many_as_it_takes_and_a_span_that_is_alone_so_is_counted(
    tmp_path: Path,
) -> None:
    before = failsafe.drops().get("spans", 0)
    half, whole = "x" * (LONGEST // 2 - 1_000), "x" * LONGEST
    _exporter(tmp_path).export(
        [_with(value, number + 1) for number, value in enumerate((half, half, whole, half))]
    )
    assert _read_and_broken(tmp_path) == (2, 0)
    assert sum(path.read_text().count('"spanId"') for path in tmp_path.iterdir()) == 3
    assert failsafe.drops()["spans"] == before + 1


def test_of_nothing_there_is_no_line(tmp_path: Path) -> None:
    _exporter(tmp_path).export([])
    assert list(tmp_path.iterdir()) == []


def test_a_full_file_is_followed_by_the_next(tmp_path: Path) -> None:
    exporter = _exporter(tmp_path, file_bytes=2_000)
    for _ in range(4):
        exporter.export(_spans(2))
    assert all(path.stat().st_size <= 2_000 for path in tmp_path.iterdir())
    numbers = sorted(int(path.stem.rpartition("-")[2]) for path in tmp_path.iterdir())
    assert len(numbers) > 1
    assert numbers == list(range(1, len(numbers) + 1))
    assert sum(path.read_text().count('"traceId"') for path in tmp_path.iterdir()) == 8


def test_the_oldest_files_go_when_there_are_too_many_bytes(tmp_path: Path) -> None:
    oldest, older, old = (_old(tmp_path, age, 4_000, number=int(age)) for age in (900, 800, 700))
    _exporter(tmp_path, max_bytes=10_000, file_bytes=2_000).export(_spans())
    assert [path.exists() for path in (oldest, older, old)] == [False, True, True]


def test_files_past_their_age_go(tmp_path: Path) -> None:
    past, recent = _old(tmp_path, 8 * 86_400), _old(tmp_path, 6 * 86_400, number=2)
    _exporter(tmp_path, max_age_days=7).export(_spans())
    assert [path.exists() for path in (past, recent)] == [False, True]


@_posix
def test_a_file_that_a_living_process_has_just_written_stays(tmp_path: Path) -> None:
    in_use = _old(tmp_path, 10, 9_000, pid=os.getppid())
    left_behind = _old(tmp_path, 5, 9_000)
    _exporter(tmp_path, max_bytes=4_000, file_bytes=1_000).export(_spans())
    assert [path.exists() for path in (in_use, left_behind)] == [True, False]


def test_its_own_open_file_stays_and_its_full_ones_may_go(tmp_path: Path) -> None:
    exporter = _exporter(tmp_path, max_bytes=2_000, file_bytes=1_000)
    for _ in range(6):
        exporter.export(_spans(2))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2_000


def test_what_is_not_a_file_of_ours_is_never_deleted(tmp_path: Path) -> None:
    other = tmp_path / "traces-of-mine.jsonl"
    other.write_text("mine")
    os.utime(other, (0, 0))
    _exporter(tmp_path, max_bytes=1, file_bytes=1).export(_spans())
    assert other.exists()


@_posix
def test_a_file_that_somebody_deleted_is_followed_by_a_new_one(tmp_path: Path) -> None:
    exporter = _exporter(tmp_path)
    exporter.export(_spans())
    next(tmp_path.iterdir()).unlink()
    exporter.export(_spans())
    assert [path.stem.rpartition("-")[2] for path in tmp_path.iterdir()] == ["2"]


def test_a_name_that_is_taken_is_not_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "strftime", lambda *_: "20260101T000000Z")
    taken = _old(tmp_path, 10, pid=os.getpid())
    _exporter(tmp_path).export(_spans())
    assert taken.stat().st_size == 1_000
    assert len(list(tmp_path.iterdir())) == 2


def test_a_line_that_the_disk_has_no_room_for_leaves_no_part_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = _exporter(tmp_path)
    exporter.export(_spans())
    (path,) = tmp_path.iterdir()
    whole, write = path.read_bytes(), os.write
    parts: list[int] = []

    def no_room(descriptor: int, data: bytes) -> int:
        if parts:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        parts.append(write(descriptor, data[:100]))
        return parts[0]

    with monkeypatch.context() as full:
        full.setattr(os, "write", no_room)
        with pytest.raises(OSError, match="No space"):
            exporter.export(_spans())
    assert parts == [100]
    assert path.read_bytes() == whole
    exporter.export(_spans())
    assert path.read_bytes().startswith(whole)
    assert all(json.loads(line) for line in path.read_bytes().splitlines())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_writes_to_a_file_of_its_own(tmp_path: Path) -> None:
    exporter = _exporter(tmp_path)
    exporter.export(_spans())
    child = os.fork()
    if child == 0:
        try:
            exporter.export(_spans())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    exporter.export(_spans())
    lines = {int(path.stem.split("-")[2]): path.read_text().count("\n") for path in tmp_path.iterdir()}
    assert lines == {os.getpid(): 2, child: 1}


def _count(line: str) -> int:
    return line.count('"spanId"') + line.count('"timeUnixNano"')


def _lines(folder: Path) -> list[int]:
    """How many spans or records each whole line has."""
    found = [line for path in folder.glob("*.jsonl") for line in path.read_text().splitlines(keepends=True)]
    return [_count(line) for line in found if line.endswith("\n")]


def _until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.01)


def _record_spans(pipeline: Pipeline, count: int) -> None:
    for number in range(count):
        pipeline.tracer_provider.get_tracer("test").start_span(f"span {number}").end()


def _record_events(pipeline: Pipeline, count: int) -> None:
    for number in range(count):
        pipeline.logger_provider.get_logger("test").emit(timestamp=number + 1, event_name="test")


@pytest.fixture(params=[_record_spans, _record_events])
def record(request: pytest.FixtureRequest) -> Callable[[Pipeline, int], None]:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=[False, True], ids=["guarded", "with content"])
def pipeline(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Pipeline]:
    """A pipeline that writes files and waits for a hundred."""
    for prefix in ("OTEL_BSP", "OTEL_BLRP"):
        monkeypatch.setenv(f"{prefix}_SCHEDULE_DELAY", "60000")
        monkeypatch.setenv(f"{prefix}_MAX_EXPORT_BATCH_SIZE", "100")
    settings = Settings(state_dir=tmp_path, content=request.param)
    started = providers.start(tmp_path, settings, set_global=False)
    yield started
    started.shutdown()


def test_what_nobody_waits_for_is_written_in_small_lines(
    pipeline: Pipeline, record: Callable[[Pipeline, int], None]
) -> None:
    assert pipeline.folder is not None
    folder = pipeline.folder
    record(pipeline, 100)
    _until(lambda: sum(_lines(folder)) == 100)
    assert sum(_lines(folder)) == 100
    assert max(_lines(folder)) == PIECE < 100


def test_what_somebody_waits_for_is_one_line(
    pipeline: Pipeline, record: Callable[[Pipeline, int], None]
) -> None:
    assert pipeline.folder is not None
    record(pipeline, 99)
    assert pipeline.flush(30)
    assert _lines(pipeline.folder) == [99]


def test_an_exporter_of_somebody_elses_gets_whole_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    class Exporter(InMemorySpanExporter):
        piece = 10  # whatever it means there

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            sizes.append(len(spans))
            return SpanExportResult.SUCCESS

    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "100")
    where = destination({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector"})
    exporters = {"traces": [Exporter()], "metrics": [], "logs": []}
    pipeline = providers.assemble(where, exporters, tmp_path, Settings(state_dir=tmp_path), set_global=False)
    _record_spans(pipeline, 100)
    _until(lambda: sum(sizes) == 100)
    pipeline.shutdown()
    assert sizes == [100]


class _Exporting:
    """Keeps the sizes that it is given, and can be held in the first."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.is_in, self.may_go_on = threading.Event(), threading.Event()

    def __call__(self, items: Sequence[int]) -> bool:
        self.sizes.append(len(items))
        self.is_in.set()
        return self.may_go_on.wait(30)

    def batcher(self, limits: BatchLimits, piece: int) -> Batcher[int]:
        return Batcher("pieces", limits, self, lambda: None, piece)


def _hold(batcher: Batcher[int], exporting: _Exporting, count: int) -> None:
    for number in range(count):
        batcher.add(number)
    assert exporting.is_in.wait(30)


def test_the_rest_of_a_batch_goes_at_once_while_somebody_waits_for_it() -> None:
    exporting = _Exporting()
    batcher = exporting.batcher(BatchLimits(60, 100, 20), 2)
    _hold(batcher, exporting, 20)
    done = batcher.ask()
    exporting.may_go_on.set()
    assert done.wait(30)
    assert exporting.sizes == [2, 18]
    for number in range(20):
        batcher.add(number)
    _until(lambda: sum(exporting.sizes) == 40)
    assert exporting.sizes == [2, 18, *[2] * 10]
    assert batcher.ask(last=True).wait(30)


def test_the_rest_of_a_batch_goes_at_once_when_its_pieces_take_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(batch, "time", SimpleNamespace(monotonic=lambda: now, sleep=time.sleep))
    exporting = _Exporting()
    batcher = exporting.batcher(BatchLimits(60, 100, 20), 2)
    _hold(batcher, exporting, 20)
    now = 31.0
    exporting.may_go_on.set()
    _until(lambda: sum(exporting.sizes) == 20)
    assert exporting.sizes == [2, 18]
    assert batcher.ask(last=True).wait(30)


def test_a_crowd_goes_in_whole_batches_until_it_is_none() -> None:
    exporting = _Exporting()
    batcher = exporting.batcher(BatchLimits(60, 100, 10), 2)
    _hold(batcher, exporting, 10)
    for number in range(42):  # with 8 left, that makes 50
        batcher.add(number)
    exporting.may_go_on.set()
    _until(lambda: sum(exporting.sizes) == 52)
    assert exporting.sizes == [2, 10, 10, 10, *[2] * 10]
    assert batcher.ask(last=True).wait(30)


def test_what_comes_between_two_pieces_gathers_for_a_batch_of_its_own() -> None:
    exporting = _Exporting()
    batcher = exporting.batcher(BatchLimits(60, 100, 20), 10)
    _hold(batcher, exporting, 20)
    for number in range(7):
        batcher.add(number)
    exporting.may_go_on.set()
    _until(lambda: sum(exporting.sizes) >= 20)
    for number in range(8):
        batcher.add(number)
    assert batcher.ask(last=True).wait(30)
    assert exporting.sizes == [10, 10, 15]


@pytest.fixture
def nobody_is_interrupted() -> Iterator[None]:
    """A thread keeps the interpreter until it waits for something."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(60)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("nobody_is_interrupted")
def test_between_two_pieces_the_host_gets_its_turn() -> None:
    sizes: list[int] = []
    has_begun = threading.Event()

    def export(items: Sequence[int]) -> bool:
        sizes.append(len(items))
        has_begun.set()
        return True

    batcher = Batcher("turns", BatchLimits(60, 1_000, 500), export, lambda: None, 1)
    for number in range(500):
        batcher.add(number)
    assert has_begun.wait(30)
    assert len(sizes) < 500
    assert batcher.ask(last=True).wait(30)
    assert sum(sizes) == 500


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    spans = _spans(3)
    _exporter(tmp_path).export(spans)
    for given in spans:
        context = given.get_span_context()
        assert context is not None
        (read,) = History(tmp_path).trace(f"{context.trace_id:032x}")
        assert (read.name, read.scope) == (given.name, "test")
        assert read.span_id == f"{context.span_id:016x}"
