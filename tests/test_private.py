"""Shapes that the private package may have under its documented names: whatever it is, the host notices nothing."""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from memory import Memory, attributes, recording

from context_telemetry.instrumentation import private
from context_telemetry.instrumentation.hooks import Installation
from context_telemetry.instrumentation.moments import unix_time
from context_telemetry.observe import board, failsafe

MODULE = "dataface_super_schema.inspect.sources.super_schema"
BUILT = datetime(2026, 11, 20, tzinfo=timezone.utc)


class Storage:
    def __init__(self, where: object) -> None:
        self.where = where


Storage.__module__ = "dataface_super_schema.inspect.storage"


class Source:
    """Stands for `SuperSchemaSource`; tests replace what they are about."""

    def __init__(self, where: object) -> None:
        self.storage = Storage(where)

    def list_schemas(self) -> Any:
        return self._read_raw()

    def list_tables(self, schema: str) -> Any:
        return self._read_raw()

    def profile_table(self, schema: str, table: str) -> Any:
        return {"profiled_at": BUILT.isoformat()}

    @property
    def generated_at(self) -> Any:
        return BUILT

    def _read_raw(self) -> Any:
        return None


Place = Callable[..., type[Source]]


@pytest.fixture
def memory() -> Iterator[Memory]:
    with recording() as recorded:
        yield recorded
    private.forget()
    board.forget()


@pytest.fixture
def place() -> Iterator[Place]:
    """Makes a class with the given members what the hooks are placed on."""
    placed: list[Installation] = []

    def make(**members: Any) -> type[Source]:
        made = type("SuperSchemaSource", (Source,), {**vars(Source), **members})
        for name, member in members.items():
            if isinstance(member, functools.cached_property):
                member.__set_name__(made, name)
        module = types.ModuleType(MODULE)
        vars(module)["SuperSchemaSource"] = made
        sys.modules[MODULE] = module
        rows = tuple(hook for hook in private.HOOKS if hook.module == MODULE)
        placed.append(Installation(rows))
        placed[0].place()
        return made

    make.states = lambda: {each.id.rpartition(".")[2]: each for each in placed[0].states.values()}  # type: ignore[attr-defined]
    yield make
    placed[0].remove()
    del sys.modules[MODULE]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    path = tmp_path / "target/super_schema.json"
    path.parent.mkdir()
    path.write_text("{ cut short", "utf-8")
    return path


def reasons(memory: Memory) -> list[tuple[str, ...]]:
    return [tuple(attributes(span).get("dataface.degradation.reasons", ())) for span in memory.spans]


def raising(error: type[Exception]) -> Callable[[Any], Any]:
    def read(self: Any) -> Any:
        raise error("not for anybody")

    return read


def test_reading_that_raises_is_unreadable_and_the_exception_is_the_host_s(
    memory: Memory, place: Place, cache: Path
) -> None:
    source = place(_read_raw=raising(ValueError))(cache)
    with pytest.raises(ValueError, match="not for anybody"):
        source.list_schemas()
    assert reasons(memory) == [("layer_unavailable",)]


@pytest.mark.parametrize("content", [None, "{}\n"])
def test_nothing_that_comes_of_nothing_is_no_degradation(
    memory: Memory, place: Place, cache: Path, content: str | None
) -> None:
    cache.unlink() if content is None else cache.write_text(content, "utf-8")
    source = place(_read_raw=lambda self: {})(cache)
    assert source.list_schemas() == {}
    assert reasons(memory) == [()]


def test_a_project_s_folder_is_no_cache_and_the_database_in_it_neither(
    memory: Memory, place: Place, cache: Path
) -> None:
    (cache.parent.parent / "shop.duckdb").write_text("more than nothing", "utf-8")
    made = place()
    without = cache.parent.parent / "without"
    without.mkdir()
    made(without).list_schemas()
    made(cache.parent.parent / "shop.duckdb").list_schemas()
    made(cache.parent.parent).list_schemas()  # the cache below it is the one that is cut short
    assert reasons(memory) == [(), (), ("layer_unavailable",)]


def test_the_file_is_found_behind_a_folder_that_has_none(memory: Memory, place: Place, cache: Path) -> None:
    source = place()(cache)
    source.__dict__ = {"project_root": cache.parent, **source.__dict__}
    source.list_schemas()
    assert reasons(memory) == [("layer_unavailable",)]


def test_storages_that_refer_to_each_other_are_not_followed_for_ever(memory: Memory, place: Place) -> None:
    source, before = place()(None), failsafe.errors()
    source.storage.where = Storage(source.storage)
    source.list_schemas()
    assert reasons(memory) == [()]
    assert failsafe.errors() == before


def test_what_is_unreadable_in_one_project_is_not_cleared_by_another_one(
    memory: Memory, place: Place, cache: Path
) -> None:
    def states() -> list[str]:
        told = [said for name, said in memory.events if name == "dataface.degradation"]
        return [each["dataface.degradation.state"] for each in told]

    place()(cache).list_schemas()
    private._artifact(cache.with_name("other.json"), "ok", None)
    assert states() == ["began"]
    private._artifact(cache, "ok", None)
    assert states() == ["began", "cleared"]


def test_a_project_names_its_cache_by_its_folder_and_one_without_a_folder_is_not_looked_at(
    memory: Memory, place: Place, cache: Path
) -> None:
    class Elsewhere:
        def exists(self, path: str) -> bool:
            raise AssertionError("it may be far away")

    made = place()
    made(types.SimpleNamespace(root=cache.parent.parent)).list_schemas()
    made(Elsewhere()).list_schemas()
    assert reasons(memory) == [("layer_unavailable",), ()]


def test_the_age_is_that_of_the_profile_or_of_the_cache_whatever_its_date_is_written_as(
    memory: Memory, place: Place, cache: Path
) -> None:
    for said in (BUILT, BUILT.isoformat(), BUILT.replace(tzinfo=None)):
        assert unix_time(said) == BUILT.timestamp()
    for odd in (None, 5, "yesterday"):
        assert unix_time(odd) is None
    source = place()(cache)
    assert source.profile_table("main", "orders") == {"profiled_at": BUILT.isoformat()}
    (span,) = memory.spans
    assert attributes(span)["dataface.staleness.age"] > 0


@pytest.mark.parametrize(
    "kind",
    [property, functools.cached_property, staticmethod, classmethod, lambda function: function],
    ids=["property", "cached", "static", "class", "method"],
)
def test_a_name_of_another_kind_than_expected_stays_what_it_is(
    memory: Memory, place: Place, cache: Path, kind: Callable[..., Any]
) -> None:
    made = place(generated_at=kind(lambda *of: BUILT))
    got = made(cache).generated_at
    assert (got() if callable(got) else got) == BUILT
    assert place.states()["generated_at"].state == "active"  # type: ignore[attr-defined]


def test_a_name_that_is_nothing_to_be_called_is_absent(memory: Memory, place: Place, cache: Path) -> None:
    made = place(generated_at=None, _read_raw=object.__init__)
    assert made(cache).generated_at is None
    assert {name: state.state for name, state in place.states().items()} == {  # type: ignore[attr-defined]
        "list_schemas": "active",
        "list_tables": "active",
        "profile_table": "active",
        "generated_at": "absent",
        "_read_raw": "absent",
    }
