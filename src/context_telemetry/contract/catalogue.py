"""The whole catalogue as relations in DuckDB: a row for each table and each column, written to and read from Parquet.

It stays in the database: a Python object exists only for what has changed or is asked for. It knows neither where the
rows come from (`warehouse`, `manifest`) nor what a change means (`rules`).
"""

from __future__ import annotations

import copy
import itertools
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_args, get_origin, get_type_hints

import duckdb

from context_telemetry.contract.model import ColumnFacts, ColumnKey, TableFacts, TableKey

VERSION: Final = 1
"""Of the snapshot's layout; a newer one is refused, not misread."""

_NAME: Final = "context_contract"
_MEMORY: Final = "350MB"
_THREADS: Final = 2

_TABLE_KEY: Final = ("source", "schema", "table")
_COLUMN_KEY: Final = (*_TABLE_KEY, "column")
_TYPES: Final = {str: "VARCHAR", bool: "BOOLEAN", int: "INTEGER", float: "DOUBLE", tuple: "VARCHAR[]"}


def _sql_types(facts: type[Any]) -> Mapping[str, str]:
    """The type of each fact's column: what is `X | None` in the model is a nullable column here."""
    return {name: _TYPES[_plain(hint)] for name, hint in get_type_hints(facts).items()}


def _plain(hint: Any) -> type[Any]:
    hint = next(one for one in get_args(hint) if one is not type(None))
    plain = get_origin(hint) or hint
    return str if plain is Literal else plain


_TABLE_FACTS: Final = _sql_types(TableFacts)
_COLUMN_FACTS: Final = _sql_types(ColumnFacts)
_NOT_READ: Final = "could not be read when the snapshot was made"
# How a view is made, so that what reads it is known to read what it reads. No fact: nobody judges its text.
_DEFINITION: Final = "definition"
# Where a column stands moves with every column before it; that is evidence for a rename, and no change of this one.
_NOT_COMPARED: Final = "position"
# Of so many tables the columns are read one by one; who asks for more gets those of all tables at once.
_FEW: Final = 4

# Which names a warehouse takes for the same whatever their case: (tables, columns). What is not here: neither.
_FOLDED: Final = {
    "duckdb": (True, True),
    "sqlite": (True, True),
    "csv": (True, True),
    "parquet": (True, True),
    "json": (True, True),
    "bigquery": (False, True),
    "mysql": (False, True),
    "mariadb": (False, True),
    "sqlserver": (True, True),
    "databricks": (True, True),
    "spark": (True, True),
    "trino": (True, True),
    "athena": (True, True),
}

Pair: TypeAlias = (
    tuple[TableKey, TableFacts | None, TableFacts | None]
    | tuple[ColumnKey, ColumnFacts | None, ColumnFacts | None]
)
"""An object as it was and as it is; None where it was not, or is not."""


class CatalogueError(Exception):
    """A snapshot cannot be read or written; the text names the file and says what to do."""


@dataclass(frozen=True)
class SourceState:
    """One source as it was when its catalogue was read."""

    name: str
    type: str
    """In the words of Dataface: `duckdb`, `postgres`; of a dbt profile, the type of its target."""
    database: str | None = None
    """What stands before the schema in a full name: the database, project or catalogue."""
    schema: str | None = None
    """Where a name without a schema is looked for."""
    unread: str | None = None
    """Why nothing is known of it, for a person. None: it was read."""


class Missing(NamedTuple):
    """Something that was expected in the warehouse and is not there; no column: the whole table."""

    table: TableKey
    column: str | None
    why: str


@dataclass(frozen=True)
class Catalogue:
    """The relations of one catalogue in a connection of `connect`. Use it while the connection is open."""

    connection: duckdb.DuckDBPyConnection
    place: str
    sources: tuple[SourceState, ...] = ()

    @property
    def tables(self) -> str:
        """The relation of tables, as SQL."""
        return f"{_NAME}.{self.place}.tables"

    @property
    def columns(self) -> str:
        """The relation of columns, as SQL."""
        return f"{_NAME}.{self.place}.columns"

    def source(self, name: str) -> SourceState | None:
        return next((source for source in self.sources if source.name == name), None)

    def with_source(self, state: SourceState) -> Catalogue:
        """The same with what is known of a source, instead of what was."""
        others = (source for source in self.sources if source.name != state.name)
        return replace(self, sources=tuple(sorted((*others, state), key=lambda source: source.name)))

    def drop(self) -> None:
        """Take it out of the connection's memory; it cannot be used afterwards."""
        self.connection.execute(f"DROP SCHEMA {_NAME}.{self.place} CASCADE")

    def count(self) -> tuple[int, int]:
        """Tables and columns."""
        counted = f"SELECT (SELECT count(*) FROM {self.tables}), (SELECT count(*) FROM {self.columns})"
        (tables, columns) = self.connection.execute(counted).fetchall()[0]
        return int(tables), int(columns)

    def add_tables(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Rows by name: the key, and facts; what is not named is not known."""
        self._add(self.tables, {**dict.fromkeys(_TABLE_KEY, "VARCHAR"), **_TABLE_FACTS}, rows)

    def add_columns(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Likewise."""
        self._add(self.columns, {**dict.fromkeys(_COLUMN_KEY, "VARCHAR"), **_COLUMN_FACTS}, rows)

    def _add(self, relation: str, types: Mapping[str, str], rows: Iterable[Mapping[str, Any]]) -> None:
        names = _listed(types)
        for part in parts(rows):
            self.connection.execute(f"INSERT INTO {relation} ({names}) {unnested(types)}", [json.dumps(part)])


def connect() -> duckdb.DuckDBPyConnection:
    """A database in memory for catalogues: bounded, and with nothing fetched from anywhere. To be closed."""
    config: dict[str, Any] = {
        "memory_limit": _MEMORY,
        "threads": _THREADS,
        "temp_directory": tempfile.gettempdir(),
        "autoinstall_known_extensions": False,
    }
    connection = duckdb.connect(":memory:", config=config)
    # A source that is attached has its file's name: any name but this one, and that one could be `memory`.
    connection.execute(f"ATTACH ':memory:' AS {_NAME}")
    connection.execute(f"USE {_NAME}")
    connection.execute("DETACH memory")
    return connection


_numbers = itertools.count(1)


def new(connection: duckdb.DuckDBPyConnection) -> Catalogue:
    """An empty catalogue."""
    catalogue = Catalogue(connection, f"c{next(_numbers)}")
    connection.execute(f"CREATE SCHEMA {_NAME}.{catalogue.place}")
    for relation, key, facts in (
        (catalogue.tables, _TABLE_KEY, {**_TABLE_FACTS, _DEFINITION: "VARCHAR"}),
        (catalogue.columns, _COLUMN_KEY, _COLUMN_FACTS),
    ):
        typed = (f'"{name}" {kind}' for name, kind in {**dict.fromkeys(key, "VARCHAR"), **facts}.items())
        connection.execute(f"CREATE TABLE {relation} ({', '.join(typed)})")
    return catalogue


# -- Parquet --------------------------------------------------------------------------------------


def write(catalogue: Catalogue, path: Path) -> None:
    """Write the snapshot, whole or not at all; the same catalogue gives the same rows in the same order.

    Raises CatalogueError when it cannot be written.
    """
    handle, name = _beside(path)
    os.close(handle)
    names = _listed(_snapshot_types())
    order = '"source", "schema", "table", "column" IS NOT NULL, "position", "column"'
    try:
        catalogue.connection.execute(
            f"COPY (SELECT {names} FROM (SELECT * FROM {catalogue.tables} UNION ALL BY NAME "
            f"SELECT * FROM {catalogue.columns}) ORDER BY {order}) TO {quoted(name)} "
            f"(FORMAT parquet, COMPRESSION zstd, KV_METADATA {{{_metadata(catalogue)}}})"
        )
        os.chmod(name, 0o644)
        os.replace(name, path)
    except (duckdb.Error, OSError) as error:
        raise CatalogueError(f"{path.name}: cannot be written: {_first_line(error)}") from error
    finally:
        Path(name).unlink(missing_ok=True)


def read(connection: duckdb.DuckDBPyConnection, path: Path) -> Catalogue:
    """The catalogue of a snapshot. Raises CatalogueError when it is not one, or is of a newer version."""
    if not path.is_file():
        raise CatalogueError(f"{path.name}: is not there; make it with: context-telemetry contract snapshot")
    file = f"read_parquet({quoted(str(path))})"
    try:
        states = _states(connection, path)
        described = connection.execute(f"DESCRIBE SELECT * FROM {file}").fetchall()
        if lacking := [name for name in _snapshot_types() if name not in {row[0] for row in described}]:
            raise CatalogueError(
                f"{path.name}: has no column {', '.join(lacking)}, so it is no snapshot of ours; make it anew"
            )
        catalogue = replace(new(connection), sources=states)
        for relation, key, facts, kind in (
            (catalogue.tables, _TABLE_KEY, (*_TABLE_FACTS, _DEFINITION), "NULL"),
            (catalogue.columns, _COLUMN_KEY, tuple(_COLUMN_FACTS), "NOT NULL"),
        ):
            names = _listed((*key, *facts))
            connection.execute(
                f'INSERT INTO {relation} ({names}) SELECT {names} FROM {file} WHERE "column" IS {kind}'
            )
    except duckdb.Error as error:
        raise CatalogueError(
            f"{path.name}: is no Parquet file that can be read ({_first_line(error)}); make it anew with: "
            "context-telemetry contract snapshot"
        ) from error
    return catalogue


def _beside(path: Path) -> tuple[int, str]:
    try:
        return tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".new")
    except OSError as error:
        raise CatalogueError(f"{path.name}: cannot be written: {error.strerror}") from error


def _metadata(catalogue: Catalogue) -> str:
    # Why a source was not read may name a host; the file lies in the project.
    told = (replace(source, unread=source.unread and _NOT_READ) for source in catalogue.sources)
    sources = json.dumps([asdict(source) for source in told])
    return f"version: '{VERSION}', sources: {quoted(sources)}"


def _states(connection: duckdb.DuckDBPyConnection, path: Path) -> tuple[SourceState, ...]:
    rows = connection.execute(
        f"SELECT decode(key), decode(value) FROM parquet_kv_metadata({quoted(str(path))})"
    ).fetchall()
    metadata = dict(rows)
    try:
        version = int(metadata["version"])
        if version > VERSION:
            raise CatalogueError(
                f"{path.name}: is of version {version}, newer than {VERSION}, the newest that is understood here; "
                "update context-telemetry"
            )
        return tuple(SourceState(**source) for source in json.loads(metadata["sources"]))
    except (KeyError, TypeError, ValueError) as error:
        raise CatalogueError(f"{path.name}: does not say what it is, so it is no snapshot of ours") from error


# -- what changed ---------------------------------------------------------------------------------


def changed(before: Catalogue, after: Catalogue) -> Iterator[Pair]:
    """Every table and column that is not as it was, in the order of source, schema, table, column.

    Both are catalogues of the same connection. Sources that could not be read, then or now, are left out: nothing is
    known of them, which is no change (`unreadable`); nor is a fact that is not known any more. A table that came or
    went is followed by all its columns. What only stands elsewhere in its table is no change.
    """
    connection = before.connection
    known = _comparable(before, after)
    b_tables, a_tables = _side(before, "tables", known), _side(after, "tables", known)
    b_columns, a_columns = _side(before, "columns", known), _side(after, "columns", known)
    compared = [name for name in _COLUMN_FACTS if name != _NOT_COMPARED]
    # The tables first, by a digest of their columns, so that columns are only joined where one differs.
    digest = f"SELECT _s, _h, _t, bit_xor(hash(_c, {_listed(compared)})) AS d, count(*) AS n FROM {{}} GROUP BY ALL"
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE touched AS SELECT _s, _h, _t FROM ({digest.format(b_columns)}) b "
        f"FULL JOIN ({digest.format(a_columns)}) a USING (_s, _h, _t) "
        "WHERE b.d IS DISTINCT FROM a.d OR b.n IS DISTINCT FROM a.n"
    )
    within = "(SELECT x.* FROM {} x SEMI JOIN touched USING (_s, _h, _t))"
    tables = _joined(b_tables, a_tables, _TABLE_KEY, _TABLE_FACTS, list(_TABLE_FACTS))
    columns = _joined(
        within.format(b_columns), within.format(a_columns), _COLUMN_KEY, _COLUMN_FACTS, compared
    )
    t, c = 4 + len(_TABLE_FACTS), 5 + len(_COLUMN_FACTS)
    found: list[Pair] = [
        (TableKey(*row[:3]), _facts(TableFacts, row[3:t]), _facts(TableFacts, row[t:]))
        for row in connection.execute(tables).fetchall()
    ]
    found += [
        (ColumnKey(*row[:4]), _facts(ColumnFacts, row[4:c]), _facts(ColumnFacts, row[c:]))
        for row in connection.execute(columns).fetchall()
    ]
    connection.execute("DROP TABLE touched")
    yield from sorted(found, key=lambda pair: tuple(pair[0]))


def unreadable(before: Catalogue, after: Catalogue) -> tuple[SourceState, ...]:
    """Sources that `changed` says nothing of: those that were accepted or are there now, and could not be read."""
    return tuple(
        sorted(
            {source for source in (*before.sources, *after.sources) if source.unread},
            key=lambda source: (source.name, source.unread or ""),
        )
    )


def _comparable(before: Catalogue, after: Catalogue) -> Sequence[SourceState]:
    """The sources that both catalogues know, or that one was read without and one with, as the later one has them."""
    unknown = {source.name for source in unreadable(before, after)}
    named = {source.name: source for source in (*before.sources, *after.sources)}
    return [source for name, source in named.items() if name not in unknown]


def _side(catalogue: Catalogue, relation: str, sources: Sequence[SourceState]) -> str:
    """A relation with columns `_s`, `_h`, `_t`, `_c` by which its rows are matched, of these sources alone."""
    all_names = ", ".join(quoted(source.name) for source in sources) or "NULL"
    columns = [f"{_matched('column', sources, 1)} AS _c"] if relation == "columns" else []
    keys = [
        '"source" AS _s',
        f"{_matched('schema', sources, 0)} AS _h",
        f"{_matched('table', sources, 0)} AS _t",
        *columns,
    ]
    rows = catalogue.tables if relation == "tables" else catalogue.columns
    return f'(SELECT *, {", ".join(keys)} FROM {rows} WHERE "source" IN ({all_names}))'


def _matched(name: str, sources: Sequence[SourceState], of: int) -> str:
    folded = [quoted(source.name) for source in sources if _FOLDED.get(source.type, (False, False))[of]]
    if not folded:
        return f'"{name}"'
    return f'CASE WHEN "source" IN ({", ".join(folded)}) THEN lower("{name}") ELSE "{name}" END'


def _joined(
    before: str, after: str, key: Sequence[str], facts: Mapping[str, str], compared: Sequence[str]
) -> str:
    """Rows of key, whether it was there and its facts, whether it is there and its facts."""
    matched = ("_s", "_h", "_t", "_c")[: len(key)]
    named = [f'coalesce(b."{name}", a."{name}")' for name in key]
    sides = [
        part
        for side in ("b", "a")
        for part in (f"{side}._s IS NOT NULL", *(f'{side}."{name}"' for name in facts))
    ]
    # What is not known any more is no change: without its manifest every column of a project would be one.
    other = " OR ".join(
        f'(a."{name}" IS NOT NULL AND b."{name}" IS DISTINCT FROM a."{name}")' for name in compared
    )
    on = " AND ".join(f"b.{name} = a.{name}" for name in matched)
    return (
        f"SELECT {', '.join((*named, *sides))} FROM {before} b FULL JOIN {after} a ON {on} "
        f"WHERE b._s IS NULL OR a._s IS NULL OR {other}"
    )


def _facts(kind: type[Any], values: Sequence[Any]) -> Any:
    there, *rest = values
    if not there:
        return None
    return kind(*(tuple(value) if isinstance(value, list) else value for value in rest))


# -- names ----------------------------------------------------------------------------------------


class Names:
    """Finds what a name in a query stands for. Tables are listed once; columns are read when asked for."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._tables: dict[tuple[str, str, str], TableKey] = {}
        self._schemas: set[tuple[str, str]] = set()
        self._views: set[TableKey] = set()
        self._columns: dict[TableKey, tuple[str, ...]] = {}
        self._definitions: dict[TableKey, str] = {}
        listed = (
            f'SELECT {_listed(_TABLE_KEY)}, "{_DEFINITION}" IS NOT NULL FROM {catalogue.tables} ORDER BY ALL'
        )
        for *key, is_view in catalogue.connection.execute(listed).fetchall():
            table = TableKey(*key)
            place = self._place(*table)
            self._tables.setdefault(place, table)
            self._schemas.add(place[:2])
            if is_view:
                self._views.add(table)

    def keep(self) -> None:
        """Read all that can be asked for, so that they outlive the connection."""
        self.prepare(self._tables.values())
        rows = self._catalogue.connection.execute(
            f'SELECT {_listed(_TABLE_KEY)}, "{_DEFINITION}" FROM {self._catalogue.tables} '
            f'WHERE "{_DEFINITION}" IS NOT NULL'
        ).fetchall()
        self._definitions = {TableKey(*key): text for *key, text in rows}

    def with_gone(self, gone: Mapping[TableKey, Iterable[str]]) -> Names:
        """The same, and names that are served no more: tables, and columns behind those that a table has still."""
        both = copy.copy(self)
        both._tables, both._schemas = dict(self._tables), set(self._schemas)
        self.prepare(gone)
        both._columns = dict(self._columns)
        for table, columns in gone.items():
            place = self._place(*table)
            there = both._tables.setdefault(place, table)
            both._schemas.add(place[:2])
            for name in columns:
                if both.column(there, name) is None:
                    both._columns[there] = (*both.columns(there), name)
        return both

    def words(self) -> frozenset[str]:
        """Every name that stands somewhere in it, of databases, schemas, tables and columns, without their case."""
        words = {word for state in self.sources for word in (state.database, state.schema) if word}
        words.update(word for table in self._tables.values() for word in (table.schema, table.table))
        for table in self._tables.values():
            words.update(self.columns(table))
        return frozenset(map(str.casefold, words))

    @property
    def sources(self) -> tuple[SourceState, ...]:
        return self._catalogue.sources

    def source(self, name: str) -> SourceState | None:
        return self._catalogue.source(name)

    def tables(self, source: str | None = None, schema: str | None = None) -> tuple[TableKey, ...]:
        """The tables of all sources, of one, or of one schema of it, in order."""
        wanted = None if schema is None or source is None else self._place(source, schema, "")[1]
        return tuple(
            table
            for place, table in self._tables.items()
            if source in (None, table.source) and wanted in (None, place[1])
        )

    def table(self, source: str, schema: str, table: str) -> TableKey | None:
        """As the warehouse has it: in another case where the warehouse takes that for the same."""
        return self._tables.get(self._place(source, schema, table))

    def has_schema(self, source: str, schema: str) -> bool:
        return self._place(source, schema, "")[:2] in self._schemas

    def columns(self, table: TableKey) -> tuple[str, ...]:
        """The names of its columns in their order."""
        if table not in self._columns:
            self.prepare([table] if len(self._columns) < _FEW else self._tables.values())
        return self._columns.get(table, ())

    def prepare(self, tables: Iterable[TableKey]) -> None:
        """Read the columns of many tables at once; of those that are not there it is known then."""
        named = (self._tables.get(self._place(*table), table) for table in tables)
        wanted = [table for table in named if table not in self._columns]
        if not wanted:
            return
        keys = unnested(dict.fromkeys(_TABLE_KEY, "VARCHAR"))
        rows = self._catalogue.connection.execute(
            f'SELECT {_listed(_TABLE_KEY)}, list("column" ORDER BY "position", "column") '
            f"FROM {self._catalogue.columns} SEMI JOIN ({keys}) USING ({_listed(_TABLE_KEY)}) GROUP BY ALL",
            [json.dumps([table._asdict() for table in wanted])],
        ).fetchall()
        self._columns.update(dict.fromkeys(wanted, ()))
        # Tables have columns of the same names: each name is kept once.
        self._columns.update({TableKey(*key): tuple(map(sys.intern, names)) for *key, names in rows})

    def column(self, table: TableKey, name: str) -> str | None:
        """As the warehouse has it, likewise."""
        fold = self._folds(table.source)[1]
        alike = str.casefold if fold else str
        return next((column for column in self.columns(table) if alike(column) == alike(name)), None)

    def definition(self, table: TableKey) -> str | None:
        """The statement that makes it, where it is a view and the warehouse says."""
        if table not in self._views:
            return None
        if table in self._definitions:
            return self._definitions[table]
        rows = self._catalogue.connection.execute(
            f'SELECT "{_DEFINITION}" FROM {self._catalogue.tables} '
            'WHERE "source" = ? AND "schema" = ? AND "table" = ?',
            list(table),
        ).fetchall()
        return str(rows[0][0])

    def folds_columns(self, source: str) -> bool:
        """Whether the case of a column's name means nothing there."""
        return self._folds(source)[1]

    def _folds(self, source: str) -> tuple[bool, bool]:
        state = self.source(source)
        return _FOLDED.get(state.type, (False, False)) if state else (False, False)

    def _place(self, source: str, schema: str, table: str) -> tuple[str, str, str]:
        if self._folds(source)[0]:
            return source, schema.casefold(), table.casefold()
        return source, schema, table


# -- SQL ------------------------------------------------------------------------------------------


def quoted(text: str) -> str:
    """As a string in SQL."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """As a name in DuckDB's SQL."""
    return '"' + name.replace('"', '""') + '"'


def unnested(types: Mapping[str, str]) -> str:
    """A query that makes rows of one parameter: the rows as a JSON array of objects."""
    # Names are quoted inside the description too: `column`, `key` and `references` are words of SQL.
    shape = json.dumps([dict(types)])
    return f"SELECT row.* FROM (SELECT unnest(from_json(?, {quoted(shape)})) AS row)"


def parts(rows: Iterable[Mapping[str, Any]], size: int = 20_000) -> Iterator[list[Mapping[str, Any]]]:
    """What one statement takes at once."""
    iterator = iter(rows)
    while part := list(itertools.islice(iterator, size)):
        yield part


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _snapshot_types() -> tuple[str, ...]:
    return (*_COLUMN_KEY, *(name for name in _COLUMN_FACTS), *_only_tables(), _DEFINITION)


def _only_tables() -> tuple[str, ...]:
    return tuple(name for name in _TABLE_FACTS if name not in _COLUMN_FACTS)


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]
