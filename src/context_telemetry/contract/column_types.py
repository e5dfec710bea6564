"""Whether two spellings of a warehouse's type are the same type, and if not, whether one holds all values of the other.

It knows the common words of DuckDB, PostgreSQL, SQLite, MySQL, SQL Server, Snowflake, BigQuery, Databricks, Redshift,
Trino and ClickHouse. It does not know which warehouse wrote a spelling: a word that means different sizes there is
never said to be wider or narrower than another by its size. What is not known is another type when it is another text.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Comparison = Literal["equal", "wider", "narrower", "changed"]
"""The type after, beside the one before: wider holds every value of it; changed is all that is not certain."""


@dataclass(frozen=True)
class _Sized:
    """A type whose values are told by two sizes: what is not less in both holds every value.

    - ``whole``: bits below zero, bits above; - ``decimal``: digits before the point, digits after it;
    - ``float``: the least and the most bits that the word means; - ``text``, ``bytes``: length, 0;
    - ``timestamp``, ``time`` and the zoned ones: digits of a second, 0.
    """

    family: str
    first: float = 0
    second: float = 0


@dataclass(frozen=True)
class _Word:
    """A type without sizes, or one that is not known: `date`, `uuid`, `geography(point,4326)`."""

    text: str


@dataclass(frozen=True)
class _Nested:
    """A list, a struct or a map. The names are a struct's fields, else the places of the parts."""

    family: Literal["list", "map", "struct"]
    names: tuple[str, ...]
    parts: tuple[_Type, ...]


@dataclass(frozen=True)
class _Enum:
    """A list of allowed texts."""

    values: tuple[str, ...]


_Type = _Sized | _Word | _Nested | _Enum

_SIGNED = {
    8: ("TINYINT", "INT1", "BYTEINT", "BYTE"),
    16: ("SMALLINT", "INT2", "SHORT"),
    24: ("MEDIUMINT",),
    32: ("INTEGER", "INT", "INT4", "SIGNED"),
    64: ("BIGINT", "INT8", "LONG", "INT64"),
    128: ("HUGEINT", "INT128"),
}
_UNSIGNED = {
    8: ("UTINYINT", "UINT8"),
    16: ("USMALLINT", "UINT16"),
    32: ("UINTEGER", "UINT32"),
    64: ("UBIGINT", "UINT64"),
    128: ("UHUGEINT", "UINT128"),
}
_FLOATS = {
    (32, 32): ("FLOAT4", "FLOAT32"),
    # Four bytes in DuckDB and PostgreSQL, eight in Snowflake, SQLite or MySQL.
    (32, 64): ("FLOAT", "REAL"),
    (64, 64): ("DOUBLE", "FLOAT8", "FLOAT64", "DOUBLE PRECISION"),
}
_OTHER_WORDS = {
    "boolean": ("BOOLEAN", "BOOL", "LOGICAL"),
    "date": ("DATE", "DATE32"),
    "interval": ("INTERVAL",),
    "uuid": ("UUID", "UNIQUEIDENTIFIER"),
}
_SIZES = {
    **{word: _Sized("whole", bits - 1, bits - 1) for bits, words in _SIGNED.items() for word in words},
    **{word: _Sized("whole", 0, bits) for bits, words in _UNSIGNED.items() for word in words},
    **{word: _Sized("float", *bits) for bits, words in _FLOATS.items() for word in words},
}
_PLAIN = {word: _Word(name) for name, words in _OTHER_WORDS.items() for word in words}
_DECIMALS = frozenset({"DECIMAL", "NUMERIC", "NUMBER", "DEC", "BIGNUMERIC", "BIGDECIMAL"})
# A bound on the length follows or there is none; what is padded is apart, for its values compare otherwise.
_LENGTHS = {
    "text": (
        "VARCHAR",
        "TEXT",
        "STRING",
        "CHARACTER VARYING",
        "CHAR VARYING",
        "NVARCHAR",
        "VARCHAR2",
        "NTEXT",
        "CLOB",
    ),
    "char": ("CHAR", "CHARACTER", "BPCHAR", "NCHAR", "FIXEDSTRING"),
    "bytes": ("BLOB", "BYTEA", "BYTES", "VARBINARY", "BINARY VARYING", "LONGBLOB"),
}
_SECONDS = {
    "timestamp": ("TIMESTAMP", "DATETIME", "TIMESTAMP_NTZ", "DATETIME2", "TIMESTAMP WITHOUT TIME ZONE", "DATETIME64"),
    "timestamp with time zone": (
        "TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE", "TIMESTAMP_TZ", "TIMESTAMP_LTZ", "DATETIMEOFFSET",
        "TIMESTAMP WITH LOCAL TIME ZONE",
    ),
    "time": ("TIME", "TIME WITHOUT TIME ZONE"),
    "time with time zone": ("TIMETZ", "TIME WITH TIME ZONE"),
}  # fmt: skip
_FAMILY_OF = {
    word: family for table in (_LENGTHS, _SECONDS) for family, words in table.items() for word in words
}
_PRECISE = {"TIMESTAMP_S": 0, "TIMESTAMP_MS": 3, "TIMESTAMP_US": 6, "TIMESTAMP_NS": 9}
_CLICKHOUSE_INTEGER = re.compile(r"(U?)Int(8|16|32|64|128|256)")
_TRANSPARENT = re.compile(r"(?:Nullable|LowCardinality)\((.*)\)", re.DOTALL)
_CALL = re.compile(
    r"([\w ]+?)\s*(?:\((.*)\)|<(.*)>)\s*((?:WITH(?:OUT)?(?: LOCAL)? TIME ZONE)?)", re.I | re.DOTALL
)
_LIST = re.compile(r"(.+?)\s*\[(\d*)\]", re.DOTALL)
_NAME_AND_TYPE = re.compile(r'("(?:[^"]|"")*"|`[^`]*`|[^\s:]+)\s*(?:\s|:)\s*(.+)', re.DOTALL)
_BITS_OF_A_DOUBLE = 53
_DIGITS_OF_A_BIT = math.log10(2)


def compare(before: str, after: str) -> Comparison:
    """How the type `after` is to the type `before`, both as a warehouse spells them: `DECIMAL(18,2)`."""
    return _compare(_parse(before), _parse(after))


def contradicts(declared: str, served: str) -> bool:
    """Whether the served type is certainly of another kind than the declared one.

    Sizes say nothing here: a declaration leaves them out (`numeric`), and `int` has another size in each warehouse.
    """
    return _kind(_parse(declared)) != _kind(_parse(served))


@lru_cache(maxsize=4096)
def _parse(spelling: str) -> _Type:
    text = " ".join(spelling.split())
    if unwrapped := _TRANSPARENT.fullmatch(text):
        return _parse(unwrapped[1])
    if clickhouse := _CLICKHOUSE_INTEGER.fullmatch(text):
        bits = int(clickhouse[2])
        return _Sized("whole", 0, bits) if clickhouse[1] else _Sized("whole", bits - 1, bits - 1)
    if (listed := _LIST.fullmatch(text)) and _closed(listed[1]):
        # A fixed length is a part of the word: lists of two lengths are two types.
        return _Nested("list", (listed[2],), (_parse(listed[1]),))
    if called := _CALL.fullmatch(text):
        word = f"{called[1]} {called[4]}".strip().upper()
        return _with_arguments(word, _split(called[2] or called[3] or ""), text)
    return _alone(text.upper())


def _alone(word: str) -> _Type:
    """A type without anything in brackets."""
    if word in _PRECISE:
        return _Sized("timestamp", _PRECISE[word])
    if word in _DECIMALS:
        return _Word("decimal")
    family = _FAMILY_OF.get(word)
    if family in _LENGTHS:
        return _Sized(family, math.inf)
    if family in _SECONDS:
        return _Sized(family, 6)  # the default of nearly all
    return _SIZES.get(word) or _PLAIN.get(word) or _Word(word.lower())


def _with_arguments(word: str, arguments: list[str], text: str) -> _Type:
    numbers = [int(each) for each in arguments if each.isdigit()]
    family = _FAMILY_OF.get(word)
    if word in _DECIMALS and len(numbers) == len(arguments) in (1, 2):
        precision, scale = (*numbers, 0)[:2]
        return _Sized("decimal", precision - scale, scale)
    if word in _SIZES and _SIZES[word].family == "whole" and len(numbers) == 1:
        return _SIZES[word]  # MySQL's `int(11)` says how wide it is shown
    if (family in _LENGTHS or family in _SECONDS) and len(numbers) == 1:
        return _Sized(family, numbers[0])
    if family in _LENGTHS and [each.upper() for each in arguments] == ["MAX"]:
        return _Sized(family, math.inf)
    if word in ("ARRAY", "LIST") and len(arguments) == 1:
        return _Nested("list", ("",), (_parse(arguments[0]),))
    if word == "MAP" and len(arguments) == 2:
        return _Nested("map", ("key", "value"), (_parse(arguments[0]), _parse(arguments[1])))
    if word in ("STRUCT", "ROW", "RECORD"):
        fields = [_NAME_AND_TYPE.fullmatch(each) for each in arguments]
        if all(fields):
            named = [(each[1].strip('"`').lower(), _parse(each[2])) for each in fields if each]
            return _Nested("struct", tuple(name for name, _ in named), tuple(each for _, each in named))
    if word == "ENUM":
        return _Enum(tuple(arguments))
    return _Word(re.sub(r"\s*([(),<>])\s*", r"\1", text).lower())


def _split(arguments: str) -> list[str]:
    """What stands between the commas that are in no brackets and no quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in arguments:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"`":
            quote = letter
        else:
            depth += (letter in "(<[") - (letter in ")>]")
        if letter == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def _closed(text: str) -> bool:
    return text.count("(") == text.count(")") and text.count("<") == text.count(">")


def _compare(before: _Type, after: _Type) -> Comparison:
    if before == after:
        return "equal"
    if isinstance(before, _Sized) and isinstance(after, _Sized):
        return _compare_sizes(before, after)
    if isinstance(before, _Enum) and isinstance(after, _Enum):
        return _by_inclusion(set(before.values) <= set(after.values), set(after.values) <= set(before.values))
    if isinstance(before, _Nested) and isinstance(after, _Nested) and before.family == after.family:
        return _compare_parts(before, after)
    return "changed"


def _compare_sizes(before: _Sized, after: _Sized) -> Comparison:
    if before.family == after.family == "float":
        # Each word stands for a range of sizes; FLOAT beside DOUBLE is at most as wide, whatever it means.
        return _by_inclusion(before.second <= after.first, after.second <= before.first)
    if before.family == after.family:
        smaller = before.first <= after.first and before.second <= after.second
        larger = before.first >= after.first and before.second >= after.second
        return _by_inclusion(smaller, larger)
    return _by_inclusion(_fits(before, after), _fits(after, before))


def _fits(small: _Sized, large: _Sized) -> bool:
    """Whether every number of one family is one of another, exactly."""
    if small.family == "whole" and large.family == "decimal":
        return max(small.first, small.second) * _DIGITS_OF_A_BIT < large.first
    if small.family == "whole" and large.family == "float":
        return max(small.first, small.second) <= _BITS_OF_A_DOUBLE and large.first == 64
    return False


def _compare_parts(before: _Nested, after: _Nested) -> Comparison:
    if before.family != "struct" and before.names != after.names:
        return "changed"
    parts_before = dict(zip(before.names, before.parts, strict=True))
    parts_after = dict(zip(after.names, after.parts, strict=True))
    found = {_compare(parts_before[name], part) for name, part in parts_after.items() if name in parts_before}
    # A field that came is read by nobody yet; one that went is missed.
    if not parts_before.keys() <= parts_after.keys() or "changed" in found:
        return "changed"
    if parts_after.keys() - parts_before.keys():
        found.add("wider")
    return _by_inclusion("narrower" not in found, "wider" not in found)


def _by_inclusion(into_after: bool, into_before: bool) -> Comparison:
    if into_after and into_before:
        return "equal"
    return "wider" if into_after else "narrower" if into_before else "changed"


def _kind(parsed: _Type) -> str:
    """What a declaration and a warehouse have to agree on."""
    if isinstance(parsed, _Nested):
        return parsed.family
    if isinstance(parsed, _Enum):
        return "text"
    if isinstance(parsed, _Word):
        return "number" if parsed.text == "decimal" else parsed.text
    # Snowflake serves every integer as NUMBER(38,0).
    return {"whole": "number", "decimal": "number", "char": "text"}.get(parsed.family, parsed.family)
