"""What dbt's manifest declares of tables and columns: types, tests, constraints, grain, contracts, freshness, owners.

Read from the file, as Dataface does, and laid over what the warehouse serves. Without a manifest these facts are not
known; with one, what it does not promise is known to be absent. It judges nothing.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from context_telemetry.contract.catalogue import Catalogue, Missing, SourceState, parts, unnested
from context_telemetry.contract.model import TableKey
from context_telemetry.contract.sources import FILE_TYPES

CANDIDATES: Final = ("target/manifest.json", "manifest.snapshot.json")
"""Where Dataface looks, in this order; the first that is there counts, readable or not."""

_REFERABLE: Final = frozenset({"model", "seed", "snapshot"})
_SECONDS: Final = {"minute": 60.0, "hour": 3600.0, "day": 86400.0}
_TARGET: Final = re.compile(
    r"^(?:ref|source)\(\s*(?:['\"][^'\"]+['\"]\s*,\s*)?['\"]([^'\"]+)['\"]\s*(?:,.*)?\)$"
)
_UNIQUE_TOGETHER: Final = "unique_combination_of_columns"
_RANGE_TESTS: Final = frozenset({"accepted_range", "expect_column_values_to_be_between"})

# What a column promises where the manifest knows its table and says nothing more of it (see `model`).
_NO_PROMISE: Final[Mapping[str, Any]] = {
    "described": False,
    "not_null": False,
    "unique": False,
    "accepted_values": [],
    "references": "",
    "minimum": -math.inf,
    "maximum": math.inf,
    "unit": "",
    "timezone": "",
}


_Alike = dict[tuple[object, ...], Mapping[str, Any]]


class ManifestError(Exception):
    """There is a manifest and it cannot be read; the text says which and what to do."""


@dataclass(frozen=True)
class Declared:
    """One table as a node of the manifest declares it. Facts by their name in `model`."""

    unique_id: str
    database: str | None
    schema: str
    name: str
    relation: str
    """As it stands in SQL, quoted by dbt for its warehouse: `"shop"."main"."fct_orders"`."""
    facts: Mapping[str, Any]
    columns: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Manifest:
    """What is declared, and how `ref()` and `source()` are resolved."""

    tables: tuple[Declared, ...] = ()
    refs: Mapping[str, Declared] = field(default_factory=dict)
    sources: Mapping[tuple[str, str], Declared] = field(default_factory=dict)


def read(root: Path) -> Manifest | None:
    """The manifest of the project at ``root``; None when there is none. Raises ManifestError."""
    path = next((root / name for name in CANDIDATES if (root / name).is_file()), None)
    if path is None:
        return None
    name = path.relative_to(root).as_posix()
    fix = "make it anew with: dbt parse"
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ManifestError(f"{name}: cannot be read ({error}); {fix}") from error
    nodes = document.get("nodes") if isinstance(document, dict) else None
    if not isinstance(nodes, dict):
        raise ManifestError(f"{name}: has no nodes, so it is no manifest of dbt; {fix}")
    try:
        return parse(document)
    except (AttributeError, KeyError, TypeError) as error:
        raise ManifestError(f"{name}: a node is not as dbt writes it ({error!r}); {fix}") from error


def parse(document: Mapping[str, Any]) -> Manifest:
    """Of a manifest that was read; what is in it is as dbt 1.5 to 1.11 writes it."""
    nodes = list(document["nodes"].values())
    tests = _tests(nodes)
    tables = [node for node in nodes if node.get("resource_type") in _REFERABLE and _is_stored(node)]
    sources = list((document.get("sources") or {}).values())
    groups = {group["name"]: group for group in (document.get("groups") or {}).values()}
    alike: _Alike = {}
    declared = {
        node["unique_id"]: _declared(node, tests.get(node["unique_id"], ()), groups, alike)
        for node in (*tables, *sources)
    }
    # As Dataface finds them: by name alone, the first counts.
    refs: dict[str, Declared] = {}
    for node in tables:
        refs.setdefault(node["name"], declared[node["unique_id"]])
    by_source: dict[tuple[str, str], Declared] = {}
    for node in sources:
        by_source.setdefault((node["source_name"], node["name"]), declared[node["unique_id"]])
    return Manifest(tuple(declared.values()), refs, by_source)


def declare(catalogue: Catalogue, manifest: Manifest) -> tuple[Missing, ...]:
    """Lay what is declared over the tables that are served, and tell what is declared and not served.

    A node belongs to the source whose database it names. Where none has that database, it may be in each source that
    does not say its own: the schema and name decide, and it is missing only where there is one such source. Tables of
    no node stay as they are: nothing is declared of them.
    """
    connection = catalogue.connection
    connection.execute(f"CREATE OR REPLACE TEMP TABLE declared_tables AS {unnested(_TABLE_TYPES)}", ["[]"])
    connection.execute(f"CREATE OR REPLACE TEMP TABLE declared_columns AS {unnested(_COLUMN_TYPES)}", ["[]"])
    of_sources = [
        (source.name, table, expected)
        for table in manifest.tables
        for source, expected in _places(table, catalogue.sources)
        if not source.unread
    ]
    tables = (
        {**_key(source, table), "_expected": expected, **table.facts}
        for source, table, expected in of_sources
    )
    _fill(connection, "declared_tables", _TABLE_TYPES, tables)
    _fill_columns(connection, of_sources)
    _lay_over(catalogue)
    missing = tuple(_missing(catalogue))
    connection.execute("DROP TABLE declared_tables")
    connection.execute("DROP TABLE declared_columns")
    return missing


# -- one node -------------------------------------------------------------------------------------


def _is_stored(node: Mapping[str, Any]) -> bool:
    """Whether it is a relation of the warehouse: an ephemeral model is none."""
    return (node.get("config") or {}).get("materialized") != "ephemeral"


def _declared(
    node: Mapping[str, Any],
    tests: Sequence[Mapping[str, Any]],
    groups: Mapping[str, Any],
    alike: _Alike,
) -> Declared:
    name = str(node.get("identifier") or node.get("alias") or node["name"])
    schema = str(node.get("schema") or "")
    documented = node.get("columns") or {}
    columns = {str(column.get("name") or key): _column(column, alike) for key, column in documented.items()}
    for test in tests:
        _apply_test(test, columns)
    for constraint in node.get("constraints") or ():
        _apply_constraint(constraint, columns, constraint.get("columns") or ())
    return Declared(
        unique_id=node["unique_id"],
        database=str(node["database"]) if node.get("database") else None,
        schema=schema,
        name=name,
        relation=str(node.get("relation_name") or f"{schema}.{name}"),
        facts=_table(node, tests, columns, groups),
        columns=columns,
    )


def _table(
    node: Mapping[str, Any],
    tests: Sequence[Mapping[str, Any]],
    columns: Mapping[str, Mapping[str, Any]],
    groups: Mapping[str, Any],
) -> dict[str, Any]:
    config = node.get("config") or {}
    contract = config.get("contract") or node.get("contract") or {}
    return {
        "model": node["unique_id"],
        "described": bool(node.get("description")),
        "grain": _grain(node, tests, columns),
        "enforced": bool(contract.get("enforced")),
        "freshness_seconds": _freshness(node),
        "owner": _owner(node, groups),
    }


def _grain(
    node: Mapping[str, Any], tests: Sequence[Mapping[str, Any]], columns: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """dbt's own answer where it has one, then a key, a combination that is tested, a column that is."""
    if node.get("primary_key"):
        return sorted(node["primary_key"])
    for constraint in node.get("constraints") or ():
        if constraint.get("type") == "primary_key" and constraint.get("columns"):
            return sorted(constraint["columns"])
    for test in tests:
        if test["name"] == _UNIQUE_TOGETHER:
            return sorted(test["kwargs"].get("combination_of_columns") or ())
    return next(([name] for name, facts in columns.items() if facts["unique"] and facts["not_null"]), [])


def _freshness(node: Mapping[str, Any]) -> float:
    """The age at which dbt fails, or else warns; infinity where it promises nothing."""
    freshness = node.get("freshness") or (node.get("config") or {}).get("freshness") or {}
    for promise in (freshness.get("error_after"), freshness.get("warn_after")):
        if promise and promise.get("count") is not None and promise.get("period") in _SECONDS:
            return float(promise["count"]) * _SECONDS[promise["period"]]
    return math.inf


def _owner(node: Mapping[str, Any], groups: Mapping[str, Any]) -> str:
    """Of the node itself, else of its group: the name, or an address where there is only that."""
    metas = (node.get("meta"), (node.get("config") or {}).get("meta"))
    group = groups.get(node.get("group") or (node.get("config") or {}).get("group") or "")
    for owner in (*((meta or {}).get("owner") for meta in metas), (group or {}).get("owner")):
        told = owner.get("name") or owner.get("email") if isinstance(owner, dict) else owner
        if told:
            return str(told)
    return ""


def _column(column: Mapping[str, Any], alike: _Alike) -> Mapping[str, Any]:
    """``alike`` has the facts of columns that were read before: a large project has few that are not like another's."""
    meta = column.get("meta")
    config = column.get("config")
    if config and config.get("meta"):
        meta = {**config["meta"], **(meta or {})}
    unit, timezone = (str(meta.get("unit") or ""), str(meta.get("timezone") or "")) if meta else ("", "")
    key = (bool(column.get("description")), column.get("data_type"), unit, timezone)
    facts = alike.get(key)
    if facts is None:
        named = dict(zip(("described", "declared_type", "unit", "timezone"), key, strict=True))
        facts = alike[key] = {**_NO_PROMISE, **named}
    for constraint in column.get("constraints") or ():
        name = str(column.get("name"))
        of_one = {name: facts}
        _apply_constraint(constraint, of_one, [name])
        facts = of_one[name]
    return facts


# -- tests and constraints ------------------------------------------------------------------------


def _tests(nodes: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The generic tests of each node that hold for all its rows; one that looks at some rows promises nothing here."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for node in nodes:
        kind = node.get("test_metadata")
        if node.get("resource_type") != "test" or not kind or not _is_for_all(node):
            continue
        attached = node.get("attached_node") or next(iter(_depends(node)), None)
        if attached:
            column = node.get("column_name") or (kind.get("kwargs") or {}).get("column_name")
            test = {"name": kind.get("name"), "column": column, "kwargs": kind.get("kwargs") or {}}
            found.setdefault(attached, []).append(test)
    return found


def _is_for_all(node: Mapping[str, Any]) -> bool:
    config = node.get("config") or {}
    return config.get("enabled") is not False and not config.get("where") and not config.get("limit")


def _depends(node: Mapping[str, Any]) -> Sequence[str]:
    nodes = (node.get("depends_on") or {}).get("nodes") or ()
    return [name for name in nodes if not name.startswith("test.")]


def _apply_test(test: Mapping[str, Any], columns: dict[str, Mapping[str, Any]]) -> None:
    column, kwargs = test["column"], test["kwargs"]
    if not column:
        return
    facts = _own(columns, str(column).strip('"`'))
    if test["name"] in ("not_null", "unique"):
        facts[test["name"]] = True
    elif test["name"] == "accepted_values":
        facts["accepted_values"] = sorted(str(value) for value in kwargs.get("values") or ())
    elif test["name"] == "relationships":
        facts["references"] = f"{_target(str(kwargs.get('to')))}.{kwargs.get('field')}"
    elif test["name"] in _RANGE_TESTS:
        facts["minimum"] = _bound(kwargs.get("min_value"), -math.inf)
        facts["maximum"] = _bound(kwargs.get("max_value"), math.inf)


def _apply_constraint(
    constraint: Mapping[str, Any], columns: dict[str, Mapping[str, Any]], of: Sequence[str]
) -> None:
    """Of a column, or of a table where it names one column; more columns together are the table's grain."""
    if len(of) != 1:
        return
    facts = _own(columns, of[0])
    kind = str(constraint.get("type"))
    facts["not_null"] |= kind in ("not_null", "primary_key")
    facts["unique"] |= kind in ("unique", "primary_key")
    if kind == "foreign_key" and constraint.get("to") and len(constraint.get("to_columns") or ()) == 1:
        table = str(constraint["to"]).split(".")[-1].strip('"`')
        facts["references"] = f"{table}.{constraint['to_columns'][0]}"


def _own(columns: dict[str, Mapping[str, Any]], name: str) -> dict[str, Any]:
    """The facts of a column, to be changed: those that it has alone."""
    own = columns[name] = {**columns.get(name, _NO_PROMISE)}
    return own


def _target(to: str) -> str:
    """The table that `ref('orders')` or `source('raw', 'orders')` means; what is neither stays as it is written."""
    match = _TARGET.match(to.strip())
    return match[1] if match else to


def _bound(value: Any, otherwise: float) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):  # none, or an expression of SQL
        return otherwise


# -- over the catalogue ---------------------------------------------------------------------------

_KEY_TYPES: Final = dict.fromkeys(("_source", "_schema", "_table"), "VARCHAR")
_TABLE_TYPES: Final = {
    **_KEY_TYPES,
    "_expected": "BOOLEAN",
    "model": "VARCHAR",
    "described": "BOOLEAN",
    "grain": "VARCHAR[]",
    "enforced": "BOOLEAN",
    "freshness_seconds": "DOUBLE",
    "owner": "VARCHAR",
}
_COLUMN_TYPES: Final = {
    **_KEY_TYPES,
    "_column": "VARCHAR",
    "declared_type": "VARCHAR",
    "described": "BOOLEAN",
    "not_null": "BOOLEAN",
    "unique": "BOOLEAN",
    "accepted_values": "VARCHAR[]",
    "references": "VARCHAR",
    "minimum": "DOUBLE",
    "maximum": "DOUBLE",
    "unit": "VARCHAR",
    "timezone": "VARCHAR",
}
# dbt compares names without case here too: it writes them as the model's author did, not as the warehouse keeps them.
_ON_TABLE: Final = (
    's."source" = d._source AND lower(s."schema") = lower(d._schema) AND lower(s."table") = lower(d._table)'
)
_ON_COLUMN: Final = f'{_ON_TABLE} AND lower(s."column") = lower(d._column)'


_SQL_NO_PROMISE: Final = {
    name: "[]" if isinstance(value, list) else f"'{value}'" for name, value in _NO_PROMISE.items()
}


def _key(source: str, table: Declared) -> dict[str, str]:
    return {"_source": source, "_schema": table.schema, "_table": table.name}


def _places(table: Declared, sources: Sequence[SourceState]) -> list[tuple[SourceState, bool]]:
    """The sources in which a table may be, those that cannot be read too, and whether it has to be there."""
    named = [
        source
        for source in sources
        if source.database and table.database and source.database.casefold() == table.database.casefold()
    ]
    if named:
        return [(source, True) for source in named]
    possible = [source for source in sources if source.database is None or table.database is None]
    databases = [source for source in possible if source.type not in FILE_TYPES]
    return [(source, databases == [source]) for source in possible]


def _fill(
    connection: Any, relation: str, types: Mapping[str, str], rows: Iterable[Mapping[str, Any]]
) -> None:
    told = (
        {name: str(value) if isinstance(value, float) else value for name, value in row.items()}
        for row in rows
    )
    for part in parts(told):
        # JSON has no infinity: numbers go as text, and the column's type makes them numbers again
        connection.execute(f"INSERT INTO {relation} {unnested(types)}", [json.dumps(part)])


def _fill_columns(connection: Any, of_sources: Iterable[tuple[str, Declared, bool]]) -> None:
    """A row for each table, and one for each set of facts that some column has: of a large project that is little."""
    numbers: dict[int, int] = {}
    sets: list[Mapping[str, Any]] = []

    def rows() -> Iterator[Mapping[str, Any]]:
        for source, table, _ in of_sources:
            for facts in table.columns.values():
                if id(facts) not in numbers:
                    numbers[id(facts)] = len(sets)
                    sets.append({"_number": len(sets), **facts})
            of = [numbers[id(facts)] for facts in table.columns.values()]
            yield {**_key(source, table), "_columns": list(table.columns), "_of": of}

    facts = {name: kind for name, kind in _COLUMN_TYPES.items() if not name.startswith("_")}
    listed = {**_KEY_TYPES, "_columns": "VARCHAR[]", "_of": "INTEGER[]"}
    for relation, types, found in (
        ("declared_lists", listed, rows()),
        ("declared_facts", {"_number": "INTEGER", **facts}, sets),
    ):
        connection.execute(f"CREATE OR REPLACE TEMP TABLE {relation} AS {unnested(types)}", ["[]"])
        _fill(connection, relation, types, found)
    names = ", ".join(f'"{name}"' for name in _COLUMN_TYPES)
    connection.execute(
        f"INSERT INTO declared_columns ({names}) SELECT {names} FROM (SELECT _source, _schema, _table, "
        "unnest(_columns) AS _column, unnest(_of) AS _number FROM declared_lists) JOIN declared_facts USING (_number)"
    )
    connection.execute("DROP TABLE declared_lists")
    connection.execute("DROP TABLE declared_facts")


def _lay_over(catalogue: Catalogue) -> None:
    execute = catalogue.connection.execute
    facts = [name for name in _TABLE_TYPES if not name.startswith("_")]
    execute(f"UPDATE {catalogue.tables} AS s SET {_assigned(facts)} FROM declared_tables d WHERE {_ON_TABLE}")
    facts = [name for name in _COLUMN_TYPES if not name.startswith("_")]
    # First, what is said of every column of a table that the manifest knows; then what it says of this one.
    absent = ", ".join(f'"{name}" = {_SQL_NO_PROMISE[name]}' for name in _NO_PROMISE if name != "references")
    execute(
        f'UPDATE {catalogue.columns} AS s SET {absent}, "references" = coalesce(s."references", \'\') '
        f"FROM declared_tables d WHERE {_ON_TABLE}"
    )
    said = _assigned(name for name in facts if name != "references")
    execute(
        f'UPDATE {catalogue.columns} AS s SET {said}, "references" = '
        f'CASE WHEN d."references" = \'\' THEN s."references" ELSE d."references" END '
        f"FROM declared_columns d WHERE {_ON_COLUMN}"
    )


def _missing(catalogue: Catalogue) -> Iterator[Missing]:
    """Tables that a model or source declares, and columns that it documents, which the warehouse does not have."""
    execute = catalogue.connection.execute
    gone = execute(
        f"SELECT d._source, d._schema, d._table, d.model FROM declared_tables d "
        f"ANTI JOIN {catalogue.tables} s ON {_ON_TABLE} WHERE d._expected ORDER BY ALL"
    ).fetchall()
    for *key, model in gone:
        yield Missing(TableKey(*key), None, f"{model} declares it")
    gone = execute(
        f'SELECT s."source", s."schema", s."table", d._column FROM declared_columns d '
        f"SEMI JOIN (FROM declared_tables WHERE _expected) e USING (_source, _schema, _table) "
        f"JOIN {catalogue.tables} s ON {_ON_TABLE} "
        f'WHERE NOT EXISTS (SELECT 1 FROM {catalogue.columns} c WHERE c."source" = s."source" '
        f'AND c."schema" = s."schema" AND c."table" = s."table" AND lower(c."column") = lower(d._column)) ORDER BY ALL'
    ).fetchall()
    for *key, column in gone:
        yield Missing(TableKey(*key), column, "the manifest declares it")


def _assigned(facts: Iterable[str]) -> str:
    return ", ".join(f'"{name}" = d."{name}"' for name in facts)
