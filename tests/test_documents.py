"""The JSON documents: one form for all, and every key of them is in docs/json.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from otlp_files import Call, Process, write_troubled
from test_cli import Shop, asked, shop

__all__ = ["shop"]  # the fixture

PAGE = (Path(__file__).parent.parent / "docs" / "json.md").read_text(encoding="utf-8")
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
MOMENTS = {"time", "first", "last", "start", "end", "generated_at", "since"}
OPEN = {"artifacts", "attributes", "cut_lines"}  # their keys are the conventions' own, or names of files


@pytest.fixture
def documents(shop: Shop) -> dict[str, dict[str, Any]]:
    """Every document, by what it is called in the page."""
    shown = write_troubled(shop.folder)
    process = Process(shop.folder, pid=4444)
    process.call(Call(surface="library", client="other", operation="catalog.resolve", method="resolve"))
    process.event("dataface.artifact.changed", {"dataface.artifact": "dbt_manifest"})
    process.flush()
    commands = {"trace ID": ("trace", shown["charts"])}
    return {
        name: asked(shop, *commands.get(name, (name,))) for name in ("status", "traces", "trace ID", "doctor")
    }


def test_every_key_of_every_document_is_in_the_page(documents: dict[str, dict[str, Any]]) -> None:
    for name, document in documents.items():
        (section,) = re.findall(rf"## `{name} --json`\n\n(.*?)\n(?=\n## |$)", PAGE, re.DOTALL)
        rows = {line.split("`")[1]: line for line in section.splitlines() if line.startswith("| `")}
        assert set(rows) == set(document)
        for key, value in document.items():
            missing = {nested for nested, _ in inside(value)} - set(re.findall(r"`(\w+)`", rows[key]))
            # Spreads are described once, and "the same" of the two after it.
            assert key in (*OPEN, "ages", "durations") or not missing, (name, key)


def test_moments_are_iso_in_utc_and_what_is_absent_is_null(documents: dict[str, dict[str, Any]]) -> None:
    for name, document in documents.items():
        for key, value in inside(document):
            assert value not in ("", "-"), (name, key)
            if key in MOMENTS and value is not None:
                assert MOMENT.fullmatch(value), (name, key, value)


def test_records_of_one_kind_have_the_same_keys(documents: dict[str, dict[str, Any]]) -> None:
    for document in documents.values():
        for key, value in document.items():
            if isinstance(value, list) and key not in OPEN:
                assert len({frozenset(each) for each in value}) <= 1, key


def inside(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key with its value, at any depth, but not below what has keys of its own."""
    if isinstance(value, list):
        for each in value:
            yield from inside(each)
    elif isinstance(value, dict):
        for key, each in value.items():
            yield key, each
            if key not in OPEN:
                yield from inside(each)
