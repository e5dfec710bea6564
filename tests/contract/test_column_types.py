"""Spellings of types: equal under other words, wider or narrower where that is certain, else another type."""

from __future__ import annotations

import pytest

from context_telemetry.contract.column_types import compare, contradicts

EQUAL = [
    ("VARCHAR", "TEXT"), ("VARCHAR", "STRING"), ("character varying(20)", "VARCHAR(20)"), ("nvarchar(max)", "TEXT"),
    ("INT", "INTEGER"), ("int4", "integer"), ("INT8", "BIGINT"), ("INT64", "BIGINT"), ("int(11)", "int"),
    ("DECIMAL(18,2)", "NUMERIC(18, 2)"), ("NUMBER(38,0)", "DECIMAL(38)"),
    ("DOUBLE", "double precision"), ("FLOAT8", "DOUBLE"), ("FLOAT", "REAL"),
    ("BOOL", "BOOLEAN"), ("BYTEA", "BLOB"),
    ("TIMESTAMPTZ", "timestamp with time zone"), ("DATETIME", "TIMESTAMP"), ("TIMESTAMP", "timestamp(6)"),
    ("TIMESTAMP_NTZ", "timestamp without time zone"),
    ("ARRAY<STRING>", "VARCHAR[]"), ("STRUCT(a INTEGER, b TEXT)", "STRUCT<a: INT, b: STRING>"),
    ("MAP(VARCHAR, INT)", "MAP<STRING, INTEGER>"), ("Nullable(String)", "String"),
    ("geography(point, 4326)", "GEOGRAPHY(POINT,4326)"),
]  # fmt: skip

WIDER = [
    ("SMALLINT", "INTEGER"), ("INTEGER", "BIGINT"), ("Int8", "Int64"), ("UINTEGER", "BIGINT"),
    ("VARCHAR(20)", "VARCHAR(30)"), ("VARCHAR(20)", "TEXT"),
    ("DECIMAL(18,2)", "DECIMAL(20,2)"), ("DECIMAL(18,2)", "DECIMAL(20,4)"),
    ("INTEGER", "DECIMAL(12,2)"), ("INTEGER", "DOUBLE"), ("FLOAT", "DOUBLE"),
    ("timestamp(3)", "timestamp(6)"), ("TIMESTAMP", "TIMESTAMP_NS"),
    ("INTEGER[]", "BIGINT[]"), ("STRUCT(a INTEGER)", "STRUCT(a BIGINT, b TEXT)"),
    ("ENUM('a', 'b')", "ENUM('b','a','c')"),
]  # fmt: skip

CHANGED = [
    ("INTEGER", "VARCHAR"), ("DATE", "TIMESTAMP"), ("TIMESTAMP", "TIMESTAMPTZ"), ("BIGINT", "DOUBLE"),
    ("DECIMAL(18,2)", "DECIMAL(18,4)"), ("DECIMAL(18,2)", "DOUBLE"), ("DECIMAL", "DECIMAL(18,2)"),
    ("INTEGER", "UINTEGER"), ("CHAR(10)", "VARCHAR(10)"), ("JSON", "VARCHAR"), ("UUID", "VARCHAR"),
    ("INTEGER[]", "INTEGER"), ("INTEGER[2]", "INTEGER[3]"), ("ENUM('a')", "ENUM('b')"), ("ENUM('a')", "VARCHAR"),
    ("STRUCT(a INTEGER, b DATE)", "STRUCT(a BIGINT, c DATE)"), ("hyperloglog", "tdigest"),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_one_type_under_two_spellings_is_one_type(one: str, other: str) -> None:
    assert compare(one, other) == compare(other, one) == "equal"
    assert not contradicts(one, other)


@pytest.mark.parametrize(("one", "other"), WIDER)
def test_a_type_that_holds_all_values_of_another_is_wider_and_the_other_narrower(
    one: str, other: str
) -> None:
    assert compare(one, other) == "wider"
    assert compare(other, one) != "wider"


def test_a_struct_that_lost_a_field_is_another_type_even_though_the_rest_stayed() -> None:
    assert compare("STRUCT(a INTEGER, b TEXT)", "STRUCT(a INTEGER)") == "changed"
    assert compare("DECIMAL(20,4)", "DECIMAL(18,2)") == "narrower"


@pytest.mark.parametrize(("one", "other"), CHANGED)
def test_what_is_not_certain_is_another_type(one: str, other: str) -> None:
    assert compare(one, other) == compare(other, one) == "changed"


@pytest.mark.parametrize(
    ("declared", "served"),
    [("numeric", "DECIMAL(18,2)"), ("int", "BIGINT"), ("integer", "NUMBER(38,0)"), ("string", "VARCHAR(40)")],
)
def test_a_declaration_that_leaves_sizes_out_is_not_contradicted_by_what_is_served(
    declared: str, served: str
) -> None:
    assert not contradicts(declared, served)


@pytest.mark.parametrize(
    ("declared", "served"),
    [("numeric", "VARCHAR"), ("date", "TIMESTAMP"), ("numeric", "DOUBLE"), ("text", "BLOB")],
)
def test_a_declaration_of_another_kind_is_contradicted(declared: str, served: str) -> None:
    assert contradicts(declared, served)
