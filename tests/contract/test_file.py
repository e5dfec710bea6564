"""The contract's file: read back as it was written, the same text for the same contract, and every mistake told."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from contract.catalogues import change, desk

from context_telemetry.contract import file
from context_telemetry.contract.catalogue import CatalogueError, Missing, SourceState
from context_telemetry.contract.document import Contract, ContractError, Excepted, dotted, dump, parse, parted
from context_telemetry.contract.model import (
    ColumnFacts,
    ColumnKey,
    Consumer,
    ResourceFacts,
    TableFacts,
    TableKey,
    ToolFacts,
    UnknownUse,
    Use,
)
from context_telemetry.contract.snapshot import Snapshot, take

ORDERS = TableKey("shop", "main", "orders")
ODD = TableKey("far", "a.b", 'c"d')
FACE = Consumer("face", "faces/a b.yml")

# Of everything something, in each form that a fact can have.
EVERYTHING = Contract(
    sources=(
        SourceState("far", "postgres", "x", "public", "was left out when the contract was accepted"),
        SourceState("shop", "duckdb", "shop", "main"),
    ),
    tables={
        ODD: TableFacts(kind="view"),
        ORDERS: TableFacts(
            kind="table",
            model="model.shop.orders",
            described=True,
            grain=("id", "yes"),
            enforced=True,
            freshness_seconds=3600.0,
            owner="catalogue-owner",
        ),
    },
    columns={
        ColumnKey(*ODD, "x.y"): ColumnFacts(type="integer", nullable=None),
        ColumnKey(*ORDERS, "id"): ColumnFacts(
            type="BIGINT",
            declared_type="bigint",
            nullable=False,
            key="primary",
            described=True,
            not_null=True,
            unique=True,
            accepted_values=("1", "no", ""),
            references="others.id",
            minimum=-0.5,
            maximum=math.inf,
            unit="EUR",
            timezone="UTC",
            expression="sum(x)",
        ),
        ColumnKey(*ORDERS, "null"): ColumnFacts(type="DATE", nullable=True, key=None, described=False),
    },
    tools={
        "t": ToolFacts(
            "Line one\n  line two ",
            {"type": "object", "required": ["a"]},
            {"type": "string"},
            {"readOnlyHint": True},
        ),
        "u": ToolFacts(),
    },
    resources={"dataface://docs/{topic}": ResourceFacts("Docs: all", "text/markdown"), "x": ResourceFacts()},
    uses=(
        Use(FACE, "q", ODD, frozenset({"x.y"}), "source"),
        Use(FACE, "q", ORDERS, frozenset({"id", "null"}), "sql"),
        Use(FACE, "r", ORDERS, None, "ref"),
        Use(FACE, "s", ORDERS, frozenset(), "schema"),
        Use(FACE, "t", ORDERS, None, "sql"),
    ),
    unknown=(UnknownUse(FACE, "", "no: reason"), UnknownUse(FACE, "q", "gone", "main.gone")),
    missing=(Missing(ODD, None, "declared"), Missing(ORDERS, "gone", "declared")),
    prompts=("format_bulk_schema",),
    exceptions=(Excepted("column_removed", "shop.main.orders.x", "because: yes", date(2026, 12, 31)),),
    digest="sha256:00",
    counted=(3, 4),
)


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with desk() as made:
        yield made


def put(root: Path, now: Snapshot) -> bool:
    return file.write(root, now, file.contract_of(now))


# -- text and back --------------------------------------------------------------------------------


def test_a_contract_is_read_back_as_it_was_written() -> None:
    found = parse(dump(EVERYTHING), "context-contract.yaml")
    assert [each.line for each in found.exceptions] != [0]
    without_lines = tuple(Excepted(e.rule, e.object, e.reason, e.until) for e in found.exceptions)
    facts = {**found.__dict__, "exceptions": without_lines}
    for name, value in EVERYTHING.__dict__.items():
        if name == "columns":  # what the manifest does not say of a column of its table is known to be absent
            assert facts[name][ColumnKey(*ORDERS, "id")] == value[ColumnKey(*ORDERS, "id")]
            assert facts[name][ColumnKey(*ODD, "x.y")] == value[ColumnKey(*ODD, "x.y")]
            assert facts[name][ColumnKey(*ORDERS, "null")] == value[ColumnKey(*ORDERS, "null")]
        else:
            assert facts[name] == value, name


def test_the_same_contract_is_the_same_text_whatever_order_it_comes_in() -> None:
    turned: dict[str, Any] = {
        name: tuple(reversed(value)) if isinstance(value, tuple) else dict(reversed(value.items()))
        for name, value in EVERYTHING.__dict__.items()
        if isinstance(value, (tuple, dict)) and name != "counted"
    }
    assert dump(replace(EVERYTHING, **turned)) == dump(EVERYTHING)


def test_two_queries_of_one_name_are_told_as_one_that_reads_what_both_read() -> None:
    uses = tuple(Use(FACE, "q", ORDERS, frozenset({column}), "ref") for column in ("null", "id"))
    (use,) = parse(dump(replace(EVERYTHING, uses=uses)), "x").uses
    assert (use.columns, use.how) == (frozenset({"id", "null"}), "ref")
    one_reads_all = (*uses, Use(FACE, "q", ORDERS, None, "ref"))
    assert parse(dump(replace(EVERYTHING, uses=one_reads_all)), "x").uses[0].columns is None


@pytest.mark.parametrize("name", [("a", "b", "c"), ("a.b", 'c"d', "e f"), ("",), ('"',), (".", "..", "x")])
def test_a_name_with_dots_and_quotes_is_read_back(name: tuple[str, ...]) -> None:
    assert parted(dotted(name)) == name


@pytest.mark.parametrize("text", ["", "a.", ".a", 'a"b', '"a', "a..b"])
def test_what_is_no_name_is_none(text: str) -> None:
    assert parted(text) is None


def test_a_column_is_one_line_so_that_a_change_of_it_is_one_line(
    connection: duckdb.DuckDBPyConnection, project: Path
) -> None:
    before = dump(file.contract_of(take(connection, project))).splitlines()
    change(project / "shop.duckdb", "ALTER TABLE fct_orders ALTER order_revenue TYPE FLOAT")
    after = dump(file.contract_of(take(connection, project))).splitlines()
    assert [(one, other) for one, other in zip(before, after, strict=True) if one != other] == [
        (
            "      order_revenue: {type: DOUBLE, described: true, not_null: true}",
            "      order_revenue: {type: FLOAT, described: true, not_null: true}",
        )
    ]


def test_only_what_somebody_relies_on_is_in_it(connection: duckdb.DuckDBPyConnection, project: Path) -> None:
    made = file.contract_of(take(connection, project))
    assert ColumnKey("shop", "main", "daily_revenue", "revenue") in made.columns
    assert ColumnKey("shop", "main", "daily_revenue", "order_count") not in made.columns
    assert not [table for table in made.tables if table.schema == "raw"]


# -- both or none ---------------------------------------------------------------------------------


def test_both_files_are_written_and_read_back(connection: duckdb.DuckDBPyConnection, project: Path) -> None:
    now = take(connection, project)
    assert put(project, now) is True
    found = file.read(connection, project)
    assert (found.whole, found.note) == (True, None)
    assert found.catalogue.count() == now.catalogue.count()
    assert put(project, now) is False, "nothing is new"
    assert not list(project.glob(".context-contract*"))


def test_where_the_second_file_cannot_be_put_the_first_is_put_back(
    connection: duckdb.DuckDBPyConnection, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(project, take(connection, project))
    before = {path.name: path.read_bytes() for path in project.glob("context-contract.*")}
    change(project / "shop.duckdb", "ALTER TABLE fct_orders DROP COLUMN status")
    put_in_place, puts = os.replace, []

    def failing(source: Any, target: Any) -> None:
        if Path(target) == project / file.NAME:
            puts.append(target)
            if len(puts) == 1:
                raise OSError(28, "No space left on device")
        put_in_place(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(
        CatalogueError, match=r"context-contract\.yaml: cannot be written: No space left on device"
    ):
        put(project, take(connection, project))
    assert puts, "the second file was tried"
    assert {path.name: path.read_bytes() for path in project.glob("context-contract.*")} == before
    assert not list(project.glob(".context-contract*"))


def test_where_no_file_was_there_a_failure_leaves_none(
    connection: duckdb.DuckDBPyConnection, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in_place = os.replace

    def failing(source: Any, target: Any) -> None:
        if Path(target) == project / file.NAME:
            raise OSError(28, "No space left on device")
        put_in_place(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(CatalogueError):
        put(project, take(connection, project))
    assert not list(project.glob("*context-contract*"))


# -- mistakes -------------------------------------------------------------------------------------

HEAD = "version: 1\nsources:\n  shop: {type: duckdb}\n"
OF_T = f"{HEAD}tables:\n  shop.main.t:\n    "
TABLE = f"{HEAD}tables:\n  shop.main.t: {{columns: {{a: {{type: INTEGER}}}}}}\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "1: is empty; write it with: context-telemetry contract snapshot"),
        ("- a\n", "1: is not a mapping"),
        ("version: 1\nversion: 1\n", "2: version: is there twice, first in line 1; keep one of them"),
        ("a: [\n", "2: expected"),
        (
            f"{HEAD}<<<<<<< HEAD\ntables: {{}}\n=======\n",
            "4: is a merge conflict; keep either side, then write both",
        ),
        ("sources: {}\n", "1: version: is not 1; write `version: 1`"),
        ("version: '1'\n", "1: version: is not 1; write `version: 1`"),
        ("version: true\n", "1: version: is not 1"),
        (
            "version: 3\n",
            "1: version: 3 is newer than 1, the newest that is understood here; update context-telemetry",
        ),
        (f"{HEAD}tabels: {{}}\n", "4: tabels: is not known; did you mean tables?"),
        (f"{HEAD}tables: []\n", "4: tables: is not a mapping; write keys with a colon"),
        (f"{HEAD}prompts: x\n", "4: prompts: is not a list; begin each item with a dash"),
        (f"{HEAD}prompts: [1]\n", "4: prompts[0]: is no text; put it in quotes"),
        (f"{HEAD}tables:\n  main.t: {{}}\n", "5: tables.main.t: is no name; write source.schema.table"),
        (
            f"{HEAD}tables:\n  stop.main.t: {{}}\n",
            "5: tables.stop.main.t: stop is not among the sources; did you mean shop?",
        ),
        (f"{OF_T}kind: tabel\n", "6: tables.shop.main.t.kind: tabel is not known; did you mean table?"),
        (f"{OF_T}grain: id\n", "6: tables.shop.main.t.grain: is not a list"),
        (f"{OF_T}described: 'yes'\n", "6: tables.shop.main.t.described: is neither true nor false"),
        (f"{OF_T}freshness_seconds: soon\n", "6: tables.shop.main.t.freshness_seconds: is no number"),
        (
            f"{OF_T}columns:\n      a: {{type: 1}}\n",
            "7: tables.shop.main.t.columns.a.type: is no text; put it in quotes",
        ),
        (
            f"{OF_T}columns:\n      a: {{typ: X}}\n",
            "7: tables.shop.main.t.columns.a.typ: is not known; did you mean type?",
        ),
        (
            f"{OF_T}columns:\n      no: {{type: X}}\n",
            "7: tables.shop.main.t.columns.False: is no text; put the key in quotes",
        ),
        (
            f"{TABLE}consumers:\n  f:\n    q: {{shop.main.u: [a]}}\n",
            "8: consumers.f.q.shop.main.u: is not among the tables",
        ),
        (
            f"{TABLE}consumers:\n  f:\n    q: {{shop.main.t: [a, b]}}\n",
            "8: consumers.f.q.shop.main.t: b is not among the table's columns; add it there, or take it out here",
        ),
        (
            f"{TABLE}consumers:\n  f:\n    q: {{shop.main.t: {{reff: [a]}}}}\n",
            "8: consumers.f.q.shop.main.t.reff: is not known; did you mean ref?",
        ),
        (
            f"{TABLE}exceptions:\n  - rule: column_removed\n    object: x\n",
            "7: exceptions[0]: has no reason and no until",
        ),
        (
            f"{TABLE}exceptions:\n  - rule: column_remove\n    object: x\n    reason: r\n    until: 2026-01-01\n",
            "7: exceptions[0].rule: column_remove is no rule; did you mean column_removed?",
        ),
        (
            f"{TABLE}exceptions:\n  - rule: column_removed\n    object: x\n    reason: ''\n    until: 2026-01-01\n",
            "9: exceptions[0].reason: is empty",
        ),
        (
            f"{TABLE}exceptions:\n  - rule: column_removed\n    object: x\n    reason: r\n    until: 'soon'\n",
            "10: exceptions[0].until: is no day; write it as 2026-12-31, without quotes",
        ),
        (
            f"{TABLE}exceptions:\n  - rule: column_removed\n    object: x\n    reason: r\n    until: 2026-13-31\n",
            "until: 2026-13-31: month must be in 1..12; correct it",
        ),
    ],
)
def test_a_mistake_is_told_with_file_line_key_and_fix(text: str, told: str) -> None:
    with pytest.raises(ContractError) as caught:
        parse(text, "context-contract.yaml")
    assert len(caught.value.problems) == 1, caught.value.problems
    assert caught.value.problems[0].startswith("context-contract.yaml:")
    assert told in caught.value.problems[0]


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ContractError) as caught:
        parse(f"{HEAD}a: 1\nb: 2\nexceptions: [1]\n", "context-contract.yaml")
    assert len(caught.value.problems) == 4


def test_the_text_of_a_newer_version_is_not_looked_at_any_further() -> None:
    with pytest.raises(ContractError) as caught:
        parse("version: 2\nfuture: {a: b}\n", "context-contract.yaml")
    assert len(caught.value.problems) == 1


def test_a_file_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    (tmp_path / file.NAME).write_bytes(b"version: \xff\n")
    with pytest.raises(ContractError, match=r"context-contract\.yaml: is not UTF-8"):
        file.read_contract(tmp_path)


def test_the_text_is_yaml_that_any_reader_reads() -> None:
    document = yaml.safe_load(dump(EVERYTHING))
    assert list(document) == [
        "version", "catalogue", "sources", "consumers", "prompts", "unknown", "missing", "tables", "tools",
        "resources", "exceptions",
    ]  # fmt: skip
