"""What each source serves, by one metadata query: into the catalogue, and a plain reason where that is not possible.

Never takes a write lock and reads no data. DuckDB and SQLite are opened here, read-only; of other warehouses this
module has the query, and is handed who sends it. What a column means to anyone is not known here.

A DuckDB file that this very process holds open is best read by another: POSIX drops the lock of a file when any handle
of the process on it is closed.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import duckdb

from context_telemetry.contract.catalogue import Catalogue, Missing, SourceState, identifier, quoted
from context_telemetry.contract.model import TableKey
from context_telemetry.contract.sources import FILE_TYPES, SourceConfig

Fetch: TypeAlias = Callable[[SourceConfig, str], Iterable[Sequence[Any]]]
"""Sends a query to a source and gives its rows. It may raise anything: the source is then unread. What `Unread` says is
told as it is, of anything else the class and the first line."""


Cause: TypeAlias = Literal["gone", "no_database", "held"]
"""Of a source that is a file: it is not there, is none of its kind, or another process has it."""


@dataclass(frozen=True)
class Served:
    """A catalogue with what its sources serve, and the views that are there and fail whoever reads them."""

    catalogue: Catalogue
    broken: tuple[Missing, ...] = ()
    unchecked: tuple[TableKey, ...] = ()
    """Views that cannot be checked without reading what lies outside of the file: as they were made, they are taken."""
    refused: Mapping[TableKey, frozenset[str] | None] = field(default_factory=dict)
    """What is there and may not be read by whoever asks: the columns of a table, None for the whole of it."""
    error: str | None = None
    """The class of what was raised, where the source could not be read."""
    cause: Cause | None = None
    """Why it could not, where that is one of these."""


def read(catalogue: Catalogue, config: SourceConfig, root: Path, fetch: Fetch | None = None) -> Served:
    """Add what a source of the project at ``root`` serves now. Raises nothing for a source that cannot be read.

    ``fetch`` is for sources that are not files. A view that cannot be bound any more is not served, so it is not in
    the catalogue; it is told in ``broken``.
    """
    state = SourceState(config.name, config.type, config.database, config.schema)
    catalogue = catalogue.with_source(state)
    if config.unusable:
        return _unread(catalogue, state, config.unusable)
    try:
        if config.type == "duckdb" and not _is_remote(config):
            return _read_duckdb(catalogue, config, root)
        if config.type == "sqlite":
            return _read_sqlite(catalogue, config, root)
        if config.type in FILE_TYPES:
            return _read_files(catalogue, config, root)
        return _read_remote(catalogue, config, fetch)
    except Unread as error:
        unread = _unread(catalogue, state, str(error))
        return replace(unread, error=type(error.__cause__ or error).__name__, cause=error.cause)


class Unread(Exception):
    """A source cannot be read; the text says why, without a path or an address. What fetches may raise it."""

    def __init__(self, why: str, cause: Cause | None = None) -> None:
        super().__init__(why)
        self.cause = cause


def _unread(catalogue: Catalogue, state: SourceState, why: str) -> Served:
    for relation in (catalogue.tables, catalogue.columns):
        catalogue.connection.execute(f'DELETE FROM {relation} WHERE "source" = ?', [state.name])
    return Served(catalogue.with_source(replace(state, unread=why)))


def _file(config: SourceConfig, root: Path) -> Path:
    path = root / str(config.options.get("path") or "")
    if not config.options.get("path"):
        raise Unread("has no path")
    try:
        if path.is_file():
            return path
        is_folder = path.is_dir()
    except OSError as error:
        raise Unread("whoever looks may not enter the folder of the file") from error
    if is_folder:
        raise Unread("a folder is in the place of the file", "no_database")
    raise Unread("the file is not there", "gone") from FileNotFoundError()


# -- DuckDB ---------------------------------------------------------------------------------------

_HELD: Final = re.compile(r"Conflicting lock is held in (?P<program>.+?) \(PID (?P<pid>\d+)\)")
# What says that something in this very file is gone; another database or file may be there for whoever serves.
_GONE: Final = re.compile(r"Table with name .+ does not exist!")

# One row per column; constraints of more columns than one are the table's and not a column's.
_DUCKDB_TABLES: Final = """
    INSERT INTO {tables} ("source", "schema", "table", "kind", "definition")
    SELECT {source}, schema_name, table_name, 'table', NULL FROM duckdb_tables()
    WHERE database_name = {database} AND NOT internal AND NOT temporary
    UNION ALL
    SELECT {source}, schema_name, view_name, 'view', sql FROM duckdb_views()
    WHERE database_name = {database} AND NOT internal AND NOT temporary
    ORDER BY ALL
"""
_DUCKDB_COLUMNS: Final = """
    WITH of_one AS (
        SELECT schema_name, table_name, constraint_column_names[1] AS column_name,
            bool_or(constraint_type = 'PRIMARY KEY') AS is_primary,
            bool_or(constraint_type = 'UNIQUE') AS is_unique,
            any_value(referenced_table || '.' || referenced_column_names[1]) AS target
        FROM duckdb_constraints()
        WHERE database_name = {database} AND len(constraint_column_names) = 1
        GROUP BY ALL
    )
    INSERT INTO {columns}
        ("source", "schema", "table", "column", "type", "nullable", "key", "position", "references")
    SELECT {source}, schema_name, table_name, column_name, data_type, is_nullable,
        CASE WHEN is_primary THEN 'primary' WHEN is_unique THEN 'unique' ELSE 'none' END,
        column_index, target
    FROM duckdb_columns() LEFT JOIN of_one USING (schema_name, table_name, column_name)
    WHERE database_name = {database} AND NOT internal
    ORDER BY schema_name, table_name, column_index
"""


def _is_remote(config: SourceConfig) -> bool:
    return str(config.options.get("path") or "").startswith(("md:", "motherduck:"))


def _read_duckdb(catalogue: Catalogue, config: SourceConfig, root: Path) -> Served:
    if config.options.get("path") in (None, "", ":memory:"):
        raise Unread("lives in the memory of whoever serves it, so nobody else can look at it")
    path = _file(config, root)
    name = config.database or ""
    words = {
        "source": quoted(config.name),
        "database": quoted(name),
        "tables": catalogue.tables,
        "columns": catalogue.columns,
    }
    with _attached(catalogue.connection, path, name):
        catalogue.connection.execute(_DUCKDB_TABLES.format(**words))
        catalogue.connection.execute(_DUCKDB_COLUMNS.format(**words))
    has_views = catalogue.connection.execute(
        f'SELECT 1 FROM {catalogue.tables} WHERE "source" = ? AND "kind" = \'view\' LIMIT 1', [config.name]
    ).fetchall()
    return _with_views(catalogue, config.name, _bound_views(path)) if has_views else Served(catalogue)


@contextlib.contextmanager
def _attached(connection: duckdb.DuckDBPyConnection, path: Path, name: str) -> Iterator[None]:
    """Under the file's own name: what a view says of tables may begin with it."""
    try:
        connection.execute(f"ATTACH {quoted(str(path))} AS {identifier(name)} (READ_ONLY)")
    except duckdb.Error as error:
        raise _why(error) from error
    try:
        yield
    except duckdb.Error as error:
        raise _why(error) from error
    finally:
        connection.execute(f"DETACH {identifier(name)}")


@dataclass
class _Views:
    """What became of a file's views when they were bound: their columns, that they are broken, or neither."""

    columns: dict[tuple[str, str], list[tuple[str, str]]] = field(default_factory=dict)
    broken: dict[tuple[str, str], str] = field(default_factory=dict)
    unchecked: list[tuple[str, str]] = field(default_factory=list)


def _bound_views(path: Path) -> _Views:
    """DuckDB lists a view with the columns that it had when it was made; only binding it tells what it has now.

    In a connection that may open nothing but the file, so that no view makes it read one or call anybody.
    """
    views = _Views()
    config: dict[str, Any] = {"autoinstall_known_extensions": False, "autoload_known_extensions": False}
    with duckdb.connect(":memory:", config=config) as connection:
        connection.execute("ATTACH ':memory:' AS context_contract")
        connection.execute("USE context_contract")
        connection.execute("DETACH memory")
        with _attached(connection, path, path.stem):
            connection.execute("SET enable_external_access = false")
            listed = connection.execute(
                "SELECT schema_name, view_name FROM duckdb_views() "
                "WHERE database_name = ? AND NOT internal AND NOT temporary ORDER BY ALL",
                [path.stem],
            ).fetchall()
            for view in listed:
                full = ".".join(map(identifier, (path.stem, *view)))
                try:
                    rows = connection.execute(f"DESCRIBE {full}").fetchall()
                    views.columns[view] = [(row[0], row[1]) for row in rows]
                except duckdb.Error as error:
                    said = str(error)
                    gone = isinstance(error, duckdb.BinderException) or _GONE.search(said)
                    if gone:
                        views.broken[view] = _first_line(said)
                    else:
                        views.unchecked.append(view)
    return views


def _with_views(catalogue: Catalogue, source: str, views: _Views) -> Served:
    """Put the columns that views have instead of those they had, and leave out views that are broken."""
    connection = catalogue.connection
    recorded: dict[tuple[str, str], list[tuple[str, str]]] = {view: [] for view in views.columns}
    rows = connection.execute(
        f'SELECT c."schema", c."table", c."column", c."type" FROM {catalogue.columns} c '
        f'SEMI JOIN (SELECT * FROM {catalogue.tables} WHERE "kind" = \'view\') v USING ("source", "schema", "table") '
        'WHERE "source" = ? ORDER BY c."position"',
        [source],
    ).fetchall()
    for schema, table, column, kind in rows:
        recorded.setdefault((schema, table), []).append((column, kind))
    others = {view: columns for view, columns in views.columns.items() if recorded[view] != columns}
    for schema, table in (*others, *views.broken):
        key = [source, schema, table]
        where = '"source" = ? AND "schema" = ? AND "table" = ?'
        connection.execute(f"DELETE FROM {catalogue.columns} WHERE {where}", key)
        if (schema, table) in views.broken:
            connection.execute(f"DELETE FROM {catalogue.tables} WHERE {where}", key)
    catalogue.add_columns(
        {
            "source": source,
            "schema": schema,
            "table": table,
            "column": column,
            "type": kind,
            "nullable": True,
            "key": "none",
            "position": position,
        }
        for (schema, table), columns in others.items()
        for position, (column, kind) in enumerate(columns, start=1)
    )
    return Served(
        catalogue,
        tuple(Missing(TableKey(source, *view), None, why) for view, why in views.broken.items()),
        tuple(TableKey(source, *view) for view in views.unchecked),
    )


def _why(error: duckdb.Error) -> Unread:
    said = str(error)
    if held := _HELD.search(said):
        who = f"the process {held['pid']} ({Path(held['program']).name})"
        return Unread(f"{who} has the file open for writing, so nobody else can look at it", "held")
    if isinstance(error, duckdb.IOException) and "not a valid DuckDB database" in said:
        return Unread("the file is no DuckDB database", "no_database")
    if isinstance(error, duckdb.IOException) and "Could not read enough bytes" in said:
        return Unread("the file is shorter than a DuckDB database", "no_database")
    if "Permission denied" in said:
        return Unread("whoever looks may not read the file")
    if "already attached" in said or "Unique file handle" in said:
        return Unread("this process has the file open already")
    return Unread(_first_line(said))


def _first_line(said: str) -> str:
    """Without the quoted paths of the machine: the reason is told to others."""
    return _PATH.sub(lambda found: f"the {found[1] or 'file'}", said.strip().splitlines()[0])


_PATH: Final = re.compile(r"""(?:\b(?:the )?(file|pattern) )?(["'])[^"']*[/\\][^"']*\2""")
"""A quoted path, with the word for it before."""


# -- SQLite ---------------------------------------------------------------------------------------

_SQLITE: Final = """
    SELECT m.name, m.type, m.sql, c.name, c.cid + 1, c.type, c."notnull", c.pk,
        (SELECT count(*) FROM pragma_table_info(m.name) WHERE pk > 0) AS keyed,
        EXISTS (
            SELECT 1 FROM pragma_index_list(m.name) i WHERE i."unique" AND NOT i.partial
            AND (SELECT group_concat(name, char(0)) FROM pragma_index_info(i.name)) = c.name
        ) AS is_unique
    FROM sqlite_master m JOIN pragma_table_info(m.name) c
    WHERE m.type {kind} AND m.name NOT LIKE 'sqlite!_%' ESCAPE '!'
    ORDER BY m.name, c.cid
"""


def _read_sqlite(catalogue: Catalogue, config: SourceConfig, root: Path) -> Served:
    path = _file(config, root)
    broken: list[Missing] = []
    try:
        how = "immutable=1" if _is_wal_at_rest(path) else "mode=ro"
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?{how}", uri=True)) as connection:
            rows = connection.execute(_SQLITE.format(kind="= 'table'")).fetchall()
            views = connection.execute("SELECT name FROM sqlite_master WHERE type = 'view'").fetchall()
            for (view,) in views:
                try:
                    rows += connection.execute(
                        _SQLITE.format(kind="= 'view' AND m.name = ?"), [view]
                    ).fetchall()
                except sqlite3.OperationalError as error:
                    if "locked" in str(error):
                        raise
                    broken.append(Missing(TableKey(config.name, "main", view), None, str(error)))
    except sqlite3.Error as error:
        said = str(error)
        cause: Cause | None = (
            "no_database" if "not a database" in said else "held" if "locked" in said else None
        )
        raise Unread("the file is no SQLite database" if cause == "no_database" else said, cause) from error
    keys = {"source": config.name, "schema": "main"}
    kinds = {row[0]: (row[1], row[2]) for row in rows}
    catalogue.add_tables({**keys, "table": name, "kind": kind} for name, (kind, _) in kinds.items())
    for name, (kind, statement) in kinds.items():
        if kind == "view":
            catalogue.connection.execute(
                f'UPDATE {catalogue.tables} SET "definition" = ? WHERE "source" = ? AND "table" = ?',
                [statement, config.name, name],
            )
    catalogue.add_columns(
        {
            **keys,
            "table": table,
            "column": column,
            "position": position,
            "type": type_ or None,
            "nullable": not not_null and not (key and keyed == 1),
            "key": "primary" if key and keyed == 1 else "unique" if unique else "none",
        }
        for table, _, _, column, position, type_, not_null, key, keyed, unique in rows
    )
    return Served(catalogue, tuple(broken))


_HEADER: Final = b"SQLite format 3\0"


def _is_wal_at_rest(path: Path) -> bool:
    """Whether a file has a write-ahead log and nobody has it open.

    `mode=ro` honours the locks of a writer and takes none for writing, but of such a file it would leave `-wal` and
    `-shm` beside it. `immutable` writes nothing and reads past locks; there is nobody who could hold one.
    """
    try:
        with path.open("rb") as file:
            header = file.read(20)
        # Bytes 18 and 19 are the versions of the format for writing and for reading; 2 is the write-ahead log.
        is_wal = header.startswith(_HEADER) and header[18:] == b"\2\2"
        return is_wal and not path.with_name(f"{path.name}-wal").exists()
    except OSError:
        return False


# -- tables that are files ------------------------------------------------------------------------

_READERS: Final = {"csv": "read_csv", "parquet": "read_parquet", "json": "read_json"}


def _read_files(catalogue: Catalogue, config: SourceConfig, root: Path) -> Served:
    """Columns as DuckDB finds them, of the first lines of a file; a table whose files are gone is not served."""
    files = config.options.get("files")
    if not isinstance(files, dict):
        raise Unread("names no files")
    key = {"source": config.name, "schema": "main"}
    missing = []
    for table, pattern in files.items():
        options = {name: config.options[name] for name in ("delimiter",) if config.options.get(name)}
        words = "".join(
            f", {'delim' if name == 'delimiter' else name} = {quoted(str(value))}"
            for name, value in options.items()
        )
        reader = f"{_READERS[config.type]}({quoted(str(root / str(pattern)))}{words if config.type == 'csv' else ''})"
        try:
            rows = catalogue.connection.execute(f"DESCRIBE SELECT * FROM {reader}").fetchall()
        except duckdb.Error as error:
            missing.append(Missing(TableKey(config.name, "main", table), None, _first_line(str(error))))
            continue
        catalogue.add_tables([{**key, "table": table, "kind": "table"}])
        catalogue.add_columns(
            {**key, "table": table, "column": row[0], "type": row[1], "nullable": True, "position": number}
            for number, row in enumerate(rows, start=1)
        )
    return Served(catalogue, tuple(missing))


# -- other warehouses -----------------------------------------------------------------------------

# Every name is there once: rows may come as mappings.
_INFORMATION_SCHEMA: Final = """
    SELECT c.table_schema AS in_schema, c.table_name AS in_table, t.table_type AS table_kind, c.column_name AS its_name,
        c.ordinal_position AS its_place, {type} AS its_type, c.is_nullable AS takes_null
    FROM {prefix}columns c
    JOIN {prefix}tables t ON t.table_schema = c.table_schema AND t.table_name = c.table_name
    WHERE LOWER(c.table_schema) NOT IN ('information_schema', 'pg_catalog', 'sys', 'performance_schema', 'mysql')
    ORDER BY c.table_schema, c.table_name, c.ordinal_position
"""
# The standard's `data_type` alone forgets lengths and digits: this puts them back where the warehouse keeps them apart.
_WITH_SIZE: Final = (
    "CASE WHEN c.character_maximum_length IS NOT NULL "
    "THEN CONCAT(c.data_type, '(', c.character_maximum_length, ')') "
    "WHEN c.numeric_precision IS NOT NULL AND LOWER(c.data_type) IN ('number', 'numeric', 'decimal') "
    "THEN CONCAT(c.data_type, '(', c.numeric_precision, ',', c.numeric_scale, ')') ELSE c.data_type END"
)
# Redshift's CONCAT takes two arguments.
_WITH_SIZE_REDSHIFT: Final = (
    "CASE WHEN c.character_maximum_length IS NOT NULL "
    "THEN c.data_type || '(' || c.character_maximum_length || ')' "
    "WHEN c.numeric_precision IS NOT NULL AND LOWER(c.data_type) IN ('numeric', 'decimal') "
    "THEN c.data_type || '(' || c.numeric_precision || ',' || c.numeric_scale || ')' ELSE c.data_type END"
)
# PostgreSQL's standard view leaves out materialised views, and what the role may not read: that is there all the same.
_POSTGRES: Final = """
    SELECT n.nspname AS in_schema, r.relname AS in_table,
        CASE WHEN r.relkind IN ('v', 'm') THEN 'VIEW' ELSE 'TABLE' END AS table_kind,
        a.attname AS its_name, a.attnum AS its_place, format_type(a.atttypid, a.atttypmod) AS its_type,
        CASE WHEN a.attnotnull THEN 'NO' ELSE 'YES' END AS takes_null,
        CASE WHEN has_schema_privilege(n.oid, 'USAGE') AND has_column_privilege(r.oid, a.attnum, 'SELECT')
            THEN 'YES' ELSE 'NO' END AS may_be_read
    FROM pg_catalog.pg_attribute a
    JOIN pg_catalog.pg_class r ON r.oid = a.attrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
    WHERE a.attnum > 0 AND NOT a.attisdropped AND r.relkind IN ('r', 'p', 'v', 'm', 'f')
        AND n.nspname NOT IN ('pg_catalog', 'information_schema')
        AND n.nspname NOT LIKE 'pg\\_toast%' AND n.nspname NOT LIKE 'pg\\_temp%'
    ORDER BY n.nspname, r.relname, a.attnum
"""


@dataclass(frozen=True)
class _Standard:
    """How a warehouse's INFORMATION_SCHEMA is asked: what stands before its views, and which words are a type."""

    prefix: str = "information_schema."
    type: str = "c.data_type"
    quote: str = '"'


_STANDARDS: Final[Mapping[str, _Standard]] = {
    "athena": _Standard(),
    "bigquery": _Standard("{database}.{place}.INFORMATION_SCHEMA.", quote="`"),
    "databricks": _Standard("{database}.information_schema.", "c.full_data_type", "`"),
    "mariadb": _Standard(type="c.column_type", quote="`"),
    "mssql": _Standard(type=_WITH_SIZE),
    "mysql": _Standard(type="c.column_type", quote="`"),
    "redshift": _Standard("pg_catalog.svv_", _WITH_SIZE_REDSHIFT),
    "snowflake": _Standard("{database}.information_schema.", _WITH_SIZE),
    "sqlserver": _Standard(type=_WITH_SIZE),
    "trino": _Standard("{database}.information_schema."),
}


def statement(config: SourceConfig) -> str:
    """The one query that asks a source for its catalogue.

    Its rows: schema, table, kind (a view's has `VIEW` in it), column, position, type, nullable (`YES` or `NO`); from a
    warehouse that says it, whether whoever asks may read the column.
    BigQuery is asked by region where the source has a `location`, else of its one dataset. Raises LookupError for a
    type that no query is known for, or where the source lacks a name that it needs.
    """
    if config.type in ("postgres", "postgresql"):
        return _POSTGRES
    standard = _STANDARDS.get(config.type)
    if standard is None:
        raise LookupError(f"no metadata query is known for {config.type}")
    location = config.options.get("location")
    names = {
        "database": config.database,
        "place": f"region-{location}".lower() if location else config.schema,
    }
    needed = {name: value for name, value in names.items() if "{" + name + "}" in standard.prefix}
    if lacking := [name for name, value in needed.items() if not value]:
        raise LookupError(f"the source names no {'dataset' if 'place' in lacking else 'database'}")
    mark = standard.quote
    prefix = standard.prefix.format(
        **{name: mark + str(value).replace(mark, mark * 2) + mark for name, value in needed.items()}
    )
    return _INFORMATION_SCHEMA.format(prefix=prefix, type=standard.type)


def _read_remote(catalogue: Catalogue, config: SourceConfig, fetch: Fetch | None) -> Served:
    if config.dialect is None:
        raise Unread(f"a source of type {config.type} has no catalogue that can be asked for")
    if fetch is None:
        raise Unread(f"no connection to {config.type} is given to this process")
    try:
        query = _MOTHERDUCK if config.type == "duckdb" else statement(config)
        rows = [tuple(row) for row in fetch(config, query)]
    except Unread:
        raise
    except Exception as error:
        raise Unread(f"{type(error).__name__}: {_first_line(str(error) or 'no reason given')}") from error
    keys = {"source": config.name}
    kinds = {(row[0], row[1]): "view" if "VIEW" in str(row[2]).upper() else "table" for row in rows}
    catalogue.add_tables({**keys, "schema": s, "table": t, "kind": kind} for (s, t), kind in kinds.items())
    catalogue.add_columns(
        {
            **keys,
            "schema": row[0],
            "table": row[1],
            "column": row[3],
            "position": row[4],
            "type": row[5],
            "nullable": _is_yes(row[6]),
        }
        for row in rows
    )
    return Served(catalogue, refused=_refused(config.name, rows))


def _refused(source: str, rows: Iterable[tuple[Any, ...]]) -> dict[TableKey, frozenset[str] | None]:
    columns: dict[TableKey, list[tuple[str, bool]]] = {}
    for row in rows:
        columns.setdefault(TableKey(source, row[0], row[1]), []).append(
            (row[3], len(row) > 7 and not _is_yes(row[7]))
        )
    return {
        table: None
        if all(refused for _, refused in each)
        else frozenset(name for name, refused in each if refused)
        for table, each in columns.items()
        if any(refused for _, refused in each)
    }


def _is_yes(value: Any) -> bool:
    return str(value).upper() in ("YES", "TRUE", "1")


_MOTHERDUCK: Final = """
    SELECT c.schema_name AS in_schema, c.table_name AS in_table, t.table_type AS table_kind, c.column_name AS its_name,
        c.column_index AS its_place, c.data_type AS its_type, c.is_nullable AS takes_null
    FROM duckdb_columns() c
    JOIN information_schema.tables t
        ON t.table_catalog = c.database_name AND t.table_schema = c.schema_name AND t.table_name = c.table_name
    WHERE c.database_name = current_database() AND NOT c.internal
    ORDER BY c.schema_name, c.table_name, c.column_index
"""
