"""Getting and starting the parts: what is missing is said in a line, and nothing half made is taken for whole."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest

from tools import programs
from tools.processes import Process, free_ports, get_text
from tools.programs import StackError
from tools.stack import Stack
from tools.webhooks import Pages

pytestmark = pytest.mark.stack


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "CACHE", tmp_path / "cache")


def test_a_machine_without_go_is_told_so_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    for part in ("collector", "jaeger"):
        with pytest.raises(StackError, match=r"^Go is missing: [^\n]+$"):
            programs.program(part)


def test_a_machine_without_apt_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(StackError, match=r"^prometheus is missing: install it with apt[^\n]*$"):
        programs.program("prometheus")


def test_a_build_that_failed_leaves_nothing_that_is_taken_for_a_program() -> None:
    def fails(folder: Path) -> None:
        (folder / "program").write_text("half")
        raise StackError("no space")

    def works(folder: Path) -> None:
        assert not (folder / "program").exists()
        (folder / "program").write_text("whole")

    with pytest.raises(StackError):
        programs._cached("part-1", fails)
    assert not (programs.CACHE / "part-1").exists()
    assert programs._cached("part-1", works).read_text() == "whole"
    assert programs._cached("part-1", fails).read_text() == "whole"  # it is there: nothing is built


def test_a_part_that_does_not_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    says = ["sh", "-c", "echo the port is taken; exit 3"]
    process = Process("part", says, tmp_path / "part.log", "http://127.0.0.1:9/")
    with pytest.raises(StackError, match=r"part ended with 3, see .*part\.log:\nthe port is taken"):
        process.start()


def test_what_is_stopped_is_gone(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    serves = ["python3", "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    process = Process("server", serves, tmp_path / "server.log", f"http://127.0.0.1:{port}/", cwd=tmp_path)
    process.start()
    process.stop()
    with pytest.raises(OSError, match="refused"):
        get_text(f"http://127.0.0.1:{port}/")


def test_a_webhook_is_kept_with_its_path() -> None:
    pages = Pages()
    body = b'{"alerts": [{"status": "firing", "labels": {"alertname": "DatafaceDegradedRatio"}}]}'
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{pages.url}/catalogue", body)):
            pass
    finally:
        pages.close()
    (page,) = pages.about("DatafaceDegradedRatio")
    assert page.path == "/catalogue"
    assert pages.about("DatafaceDegradedRatio", "resolved") == []


def test_an_unknown_part_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="no part tempo; there are collector, "),
        Stack.up(tmp_path, parts=("tempo",)),
    ):
        pass
