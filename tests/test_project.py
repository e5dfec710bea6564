"""The docs keep to the project: links, commands, Python blocks and hook points in them exist.

Commands are looked up and not run; Python blocks are run.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dev
from context_telemetry.instrumentation.instrumentor import HOOKS

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def page_id(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, *languages: str) -> list[str]:
    """The contents of the page's fenced blocks in these languages."""
    return [body for language, body in _FENCE.findall(page.read_text("utf-8")) if language in languages]


def anchors(page: Path) -> set[str]:
    """The anchors of the page's headings, as Markdown renderers make them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def commands() -> Iterator[list[str]]:
    """Every command line in the docs as words, without the variables that are set for it."""
    for page in PAGES:
        for block in blocks(page, "", "sh"):
            for line in block.splitlines():
                words = line.split()
                while words and re.match(r"[A-Z_]+=", words[0]):
                    words.pop(0)
                if words:
                    yield words


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_link_in_the_docs_leads_to_a_file_and_a_heading(page: Path) -> None:
    for link in _LINK.findall(page.read_text("utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_command_of_ours_in_the_docs_exists_with_its_options() -> None:
    told = {tuple(words) for words in commands() if words[0] == "context-telemetry"}
    assert told
    for words in sorted(told):
        options = [word.partition("=")[0] for word in words if word.startswith("--") and word != "--"]
        help_text = _run("-m", "context_telemetry.cli", words[1], "--help")
        assert all(option in help_text for option in options), words


def test_every_task_of_dev_py_in_the_docs_exists() -> None:
    told = {words[2] for words in commands() if words[:2] == ["python3", "dev.py"]}
    usage = subprocess.run([sys.executable, "dev.py"], cwd=ROOT, capture_output=True, text=True).stderr
    assert {"demo", "test"} <= told <= set(re.findall(r"^  (\w+) ", usage, re.MULTILINE))


def test_the_oldest_opentelemetry_that_is_tested_is_the_oldest_that_is_declared() -> None:
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    declared = dict(re.findall(r'^  "(opentelemetry-[\w-]+)>=([\w.]+)', project, re.MULTILINE))
    pinned = dict(pin.split("==") for pin in dev.OLDEST.pinned)
    assert len(pinned) == 3
    assert pinned == {name: declared[name] for name in pinned}


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=page_id)
def test_the_python_in_the_docs_runs(page: Path, tmp_path: Path) -> None:
    script = tmp_path / "page.py"
    script.write_text("\n\n".join(blocks(page, "python")), "utf-8")
    _run(str(script), cwd=tmp_path)


def test_the_page_of_what_is_observed_lists_every_hook_point_and_no_other() -> None:
    page = (ROOT / "docs" / "what-is-observed.md").read_text("utf-8")
    cells = [line.split(" | ")[0] for line in page.splitlines() if line.startswith("| `")]
    listed = {each for cell in cells for each in re.findall(r"`([\w.]+:[^`]+)`", cell)}
    assert listed == {hook.id for hook in HOOKS}


def _run(*arguments: str, cwd: Path = ROOT) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
