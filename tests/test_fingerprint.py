"""What a fingerprint is made of: content that is measured once, and parts that are too large to be part of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from context_telemetry.instrumentation import given
from context_telemetry.observe import fingerprint
from context_telemetry.observe.operation import Operation


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    fingerprint.forget()
    yield
    fingerprint.forget()


def counted(monkeypatch: pytest.MonkeyPatch, function: str) -> list[Any]:
    """What the function of the module was called with."""
    calls: list[Any] = []
    original = getattr(fingerprint, function)

    def counting(*of: Any) -> Any:
        calls.append(of)
        return original(*of)

    monkeypatch.setattr(fingerprint, function, counting)
    return calls


def test_a_list_that_its_owner_edits_is_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = counted(monkeypatch, "_measure_text")
    tools = [{"name": "docs", "parameters": {"required": ["topic"]}}]
    before = fingerprint.measure(tools)
    tools[0]["parameters"]["required"].append("mode")  # type: ignore[index]
    after = fingerprint.measure(tools)
    assert after[0] == before[0] + len(',"mode"')
    assert after[1] != before[1]
    assert len(measured) == 2
    assert fingerprint.measure([{"parameters": {"required": ["topic", "mode"]}, "name": "docs"}]) == after
    assert len(measured) == 2  # an equal one is recognised, whoever made it


def test_what_a_session_is_given_again_and_again_is_concluded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "standing", [lambda: ("manifest", "0" * 16)])
    concluded = counted(monkeypatch, "_conclude")
    first = fingerprint.conclude({"prompt": {"1" * 16}, "objects": {"2" * 16, "3" * 16}})
    again = fingerprint.conclude({"objects": {"3" * 16, "2" * 16}, "prompt": {"1" * 16}})
    assert first == again
    assert len(concluded) == 1
    for number in range(1_000):
        fingerprint.conclude({"prompt": {str(number)}})
    assert len(fingerprint._concluded) <= fingerprint._MOST_CONCLUDED


def test_nothing_given_is_no_context(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "standing", [])
    assert fingerprint.conclude({}) == {}


def objects(see: Any, content: Any) -> Any:
    """The digest of the objects in it; None where it is not known."""
    op = Operation("catalog.resolve")
    see(op, content)
    (digest,) = (op._given or {})["objects"]
    return digest


class Unwritten(str):
    """A text that must not be written out."""

    def __repr__(self) -> str:
        raise AssertionError("too large to be written out")

    __str__ = __format__ = __repr__  # type: ignore[assignment]


@pytest.mark.parametrize(
    "rows",
    [
        [{"name": Unwritten("a")}] * (given.MOST_ROWS + 1),
        [{f"column_{number}": Unwritten("a") for number in range(101)}] * 10,
        [(Unwritten("a" * 2_000),)] * given.MOST_ROWS,
        [[[Unwritten("a" * 2_000)] * 100]],
        [[[[Unwritten("a")]]]],
        [{"tags": {str(number): Unwritten("a") for number in range(101)}}],
    ],
    ids=["rows", "cells", "characters", "a long list", "a nested list", "a large mapping"],
)
def test_metadata_that_would_take_long_to_digest_is_not_known(rows: list[Any]) -> None:
    assert objects(given.rows_seen, rows) is None


def test_metadata_of_usual_size_is_known_whatever_shape_its_rows_have() -> None:
    rows = [{"name": "orders", "rows": 3, "columns": ["id", "status"], "tags": {"a": "b"}, "none": None}] * 99
    assert objects(given.rows_seen, rows) == objects(given.rows_seen, [list(row.values()) for row in rows])
    assert objects(given.rows_seen, [(b"a", 1)]) != objects(given.rows_seen, [(b"a", 2)])


def envelope(tables: int, columns: int, description: Any = "") -> dict[str, Any]:
    facts = {"actual_type": "INTEGER", "description": description}
    members = {
        f"table_{table}": {"columns": {f"column_{column}": facts for column in range(columns)}}
        for table in range(tables)
    }
    return {"sources": {"shop": {"schemas": {"main": {"tables": members}, "empty": None}}}}


def test_a_catalogue_that_would_take_long_to_digest_is_not_known_and_its_tables_are_counted() -> None:
    assert objects(given.envelope_seen, envelope(10, 20)) is not None
    assert objects(given.envelope_seen, envelope(10, 20, "long" * 1_000)) is None
    parent = Operation("context.build")
    op = Operation("catalog.resolve", parent=parent)
    given.envelope_seen(op, envelope(101, 20, Unwritten("a")))
    assert parent.notes[given.TABLES] == 101
    assert parent._given == {"objects": {None}}
