"""Which tables and columns a SQL text reads, by the catalogue's names; what cannot be told comes with its reason.

Nothing is guessed: a name counts when exactly one thing of the catalogue can be meant. What reads a view reads what the
view reads, where the warehouse says how the view is made. It knows no Jinja and no files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.normalize_identifiers import normalize_identifiers
from sqlglot.optimizer.pushdown_projections import pushdown_projections
from sqlglot.optimizer.qualify_columns import qualify_columns
from sqlglot.optimizer.qualify_tables import qualify_tables
from sqlglot.optimizer.scope import Scope, traverse_scope
from sqlglot.schema import MappingSchema

from context_telemetry.contract.catalogue import Names
from context_telemetry.contract.model import TableKey
from context_telemetry.contract.sources import SourceConfig

_WRITTEN: Final = "context_contract_written"
_ESCAPE: Final = re.compile(r"\x1b\[[0-9;]*m")
_PSEUDO: Final = frozenset({"rowid", "_rowid_", "ctid"})
_DEEPEST_VIEW: Final = 20
# Of the warehouse itself; what is in it depends on every table.
_ITS_OWN: Final = frozenset({"information_schema", "pg_catalog", "sys", "svv_columns", "svv_tables"})
_ITS_OWN_PREFIXES: Final = ("duckdb_", "sqlite_", "pragma_", "pg_")
# Tables that a function makes out of its arguments: they read nothing.
_MADE: Final = (exp.GenerateSeries, exp.Unnest, exp.Explode, exp.Values)
_PIVOTED: Final = "context_contract_pivoted"
_MADE_NAMES: Final = frozenset({"range", "generate_series", "unnest", "flatten", "generator", _PIVOTED})
# What DuckDB takes for a file where a table's name stands.
_FILE: Final = re.compile(
    r"[/\\*]|\.(avro|csv|geojson|jsonl?|ndjson|parquet|tsv|txt|xlsx)(\.\w+)?$|\.(bz2|gz|zst)$", re.IGNORECASE
)


class _Unknown(NamedTuple):
    """Why a name stands for nothing that can be told, and the name where it leads nowhere."""

    why: str
    missing: str | None = None
    quoted: frozenset[str] = frozenset()


@dataclass
class Reads:
    """What a text reads: columns by table (None: all of them), and what could not be told.

    Each unknown has a few words, and the name that leads nowhere where that is why.
    """

    tables: dict[TableKey, set[str] | None] = field(default_factory=dict)
    unknown: dict[str, str | None] = field(default_factory=dict)
    quoted: dict[str, frozenset[str]] = field(default_factory=dict)
    """Of names that lead nowhere, the parts that are in quotes wherever they stand: they may be meant as values."""

    def add(self, table: TableKey, columns: Iterable[str] | None) -> None:
        had = self.tables.setdefault(table, set())
        if columns is None:
            self.tables[table] = None
        elif had is not None:
            had.update(columns)

    def add_all(self, other: Reads) -> None:
        for table, columns in other.tables.items():
            self.add(table, columns)
        for why, missing in other.unknown.items():
            self.say(why, missing, other.quoted.get(missing or "", frozenset()))

    def say(self, why: str, missing: str | None = None, quoted: frozenset[str] = frozenset()) -> None:
        self.unknown.setdefault(why, missing)
        if missing is not None:
            self.quoted[missing] = self.quoted.get(missing, quoted) & quoted


class Reader:
    """Reads the SQL of one source. ``stand_in`` is the name that stands for values; it is no table and no column."""

    def __init__(self, names: Names, config: SourceConfig, stand_in: str = "") -> None:
        self._names = names
        self._config = config
        self._dialect = config.dialect
        self._stand_in = stand_in
        self._views: dict[TableKey, Reads] = {}
        self._made: set[str] = set()
        self._state = names.source(config.name)
        self._folds = names.folds_columns(config.name)

    def read(self, sql: str) -> Reads:
        """Every statement of a text. Raises nothing: what cannot be parsed is unknown."""
        reads = Reads()
        self._made = set()
        if self._dialect is None:
            reads.say(f"no dialect of SQL is known for a source of type {self._config.type}")
            return reads
        if self._state is None or self._state.unread:
            reads.say(
                f"the catalogue has nothing of the source {self._config.name}, so its names stand for nothing"
            )
            return reads
        self._read(sql, self._state.schema, reads, ())
        return reads

    def relation(self, text: str) -> TableKey | None:
        """The table of a name as it stands in SQL, quoted or not; None where the catalogue has none."""
        if self._state is None:
            return None
        try:
            table = exp.to_table(text, dialect=self._dialect)
        except SqlglotError:
            return None
        found = self._table(normalize_identifiers(table, dialect=self._dialect), self._state.schema)
        return found if isinstance(found, TableKey) else None

    def _read(self, sql: str, schema: str | None, reads: Reads, within: tuple[TableKey, ...]) -> None:
        try:
            statements = sqlglot.parse(sql, read=self._dialect)
        except (SqlglotError, RecursionError) as error:
            reads.say(f"cannot be parsed as {self._dialect}: {_brief(error)}")
            return
        for statement in statements:
            if statement is None or isinstance(statement, exp.Semicolon):
                continue
            try:
                self._statement(statement, schema, reads, within)
            except (SqlglotError, RecursionError, AttributeError, KeyError, TypeError, ValueError) as error:
                # A query that is stranger than what sqlglot can resolve: nothing of it is claimed.
                reads.say(f"cannot be resolved: {_brief(error)}")

    def _statement(
        self, statement: exp.Expr, schema: str | None, reads: Reads, within: tuple[TableKey, ...]
    ) -> None:
        if isinstance(statement, (exp.Command, exp.Show, exp.Pragma)):
            reads.say(f"{statement.key}: a statement whose tables cannot be told")
            return
        statement = normalize_identifiers(statement, dialect=self._dialect)
        found = Reads()
        if isinstance(statement, exp.Query):
            self._query(statement, schema, found)
        else:
            self._whole(statement, schema, found)
        for table in list(found.tables):
            if definition := self._names.definition(table):
                found.add_all(self._view(table, definition, within))
        reads.add_all(found)

    def _whole(self, statement: exp.Expr, schema: str | None, reads: Reads) -> None:
        """Of a statement that is no query: the tables that it names, and all that is in them; not one that it makes."""
        made = statement.this.find(exp.Table) if isinstance(statement, exp.Create) else None
        if made is not None and not made.db:
            self._made.add(made.name.casefold())
        for table in statement.find_all(exp.Table):
            if table is made:
                continue
            found = self._table(table, schema)
            if isinstance(found, TableKey):
                reads.add(found, None)
            elif found:
                reads.say(*found)

    def _view(self, view: TableKey, definition: str, within: tuple[TableKey, ...]) -> Reads:
        if view in within or len(within) > _DEEPEST_VIEW:
            return Reads()
        if view not in self._views:
            body = Reads()
            created = sqlglot.parse_one(definition, read=self._dialect)
            query = created.expression if isinstance(created, exp.Create) else None
            if query is None:
                body.say(f"{_told(view)} is a view, and how it is made cannot be told")
            else:
                text = query.sql(dialect=self._dialect)
                self._read(text, view.schema, body, (*within, view))
            body.unknown = {f"in the view {_told(view)}: {why}": name for why, name in body.unknown.items()}
            self._views[view] = body
        return self._views[view]

    # -- a query ----------------------------------------------------------------------------------

    def _query(self, query: exp.Query, schema: str | None, reads: Reads) -> None:
        """Give each table a name of its own, let sqlglot say which columns are whose, and look at what it says.

        A column that is written counts, used or not: without it the query fails. Of `*` only what is used further
        counts, so a `SELECT *` in a common table expression does not read everything.
        """
        query = _without_pivots(query)
        starred = any(_selects(star) for star in query.find_all(exp.Star, exp.Columns))
        for column in query.find_all(exp.Column):
            column.meta[_WRITTEN] = True
        tables = self._named_tables(query, schema, reads)
        for table in tables.values():
            reads.add(table.key, ())
        if not tables:
            return
        if self._folds:
            for identifier in query.find_all(exp.Identifier):
                identifier.set("this", identifier.name.casefold())
        columns: dict[str, object] = {
            name: dict.fromkeys(table.columns, "unknown") for name, table in tables.items()
        }
        qualified = qualify_columns(
            qualify_tables(query, dialect=self._dialect),
            schema=MappingSchema(columns, dialect=self._dialect, normalize=False),
            allow_partial_qualification=True,
            dialect=self._dialect,
        )
        self._collect(qualified, tables, reads, _counts_unused)
        if starred:
            self._collect(_pruned(qualified), tables, reads, lambda _: True)
            for table in tables.values():
                if table.columns and reads.tables[table.key] == set(table.columns.values()):
                    reads.add(table.key, None)

    def _named_tables(self, query: exp.Query, schema: str | None, reads: Reads) -> dict[str, _Table]:
        """Rename what the catalogue has to names that nothing else can be taken for; tell of what it has not."""
        tables: dict[str, _Table] = {}
        for scope in traverse_scope(query):
            for node in scope.tables:
                if not node.db and isinstance(scope.sources.get(node.alias_or_name), Scope):
                    continue  # of a common table expression
                found = self._table(node, schema)
                if not isinstance(found, TableKey):
                    if found:
                        reads.say(*found)
                    continue
                table = _Table(found, {self._normal(name): name for name in self._names.columns(found)})
                if _is_pivoted(node):
                    reads.add(found, None)  # what a pivot does not name, it groups by
                name = f"context_contract_{len(tables)}"
                tables[name] = table
                for column in scope.columns:
                    if column.args.get("db") and (column.table, column.args["db"].name) == (
                        node.name,
                        node.db,
                    ):
                        column.set("db", None)
                        column.set("catalog", None)
                if not node.alias:
                    node.set("alias", exp.TableAlias(this=exp.to_identifier(node.name, quoted=True)))
                node.set("this", exp.to_identifier(name, quoted=True))
                node.set("db", None)
                node.set("catalog", None)
        return tables

    def _normal(self, column: str) -> str:
        if self._folds:
            return column.casefold()
        identifier = exp.to_identifier(column, quoted=True)
        return str(normalize_identifiers(identifier, dialect=self._dialect).name)

    def _table(self, node: exp.Table, schema: str | None) -> TableKey | _Unknown | None:
        """The table that is meant, or why none can be told; None where nothing is read."""
        if isinstance(node.this, exp.Func):
            name = node.this.name if isinstance(node.this, exp.Anonymous) else node.this.sql_name()
            made = isinstance(node.this, _MADE) or name.casefold() in _MADE_NAMES
            return None if made else _Unknown(f"{name.casefold()}(): reads what no catalogue has")
        if not node.db and node.name.casefold() in self._made:
            return None
        told = ".".join(part.name for part in node.parts)
        if self._stand_in and self._stand_in in told:
            return _Unknown("the value of a variable stands where the name of a table does")
        assert self._state is not None
        database, source = self._state.database, self._state.name
        if node.catalog and database and node.catalog.casefold() != database.casefold():
            return _Unknown(
                f"{told}: in another database than {database}, all that the catalogue has of {source}"
            )
        if not node.catalog and node.db and database and not self._names.has_schema(source, node.db):
            # DuckDB takes the first part of two for a database where no schema has that name.
            place = schema if node.db.casefold() == database.casefold() else node.db
        else:
            place = node.db or schema
        if not place:
            return _Unknown(f"{told}: has no schema, and the source names none where to look")
        if found := self._names.table(source, place, node.name):
            return found
        if place.casefold() in _ITS_OWN or node.name.casefold().startswith(_ITS_OWN_PREFIXES):
            return _Unknown(f"{told}: what the warehouse says of itself, which is of every table")
        if self._dialect == "duckdb" and _FILE.search(told):
            return _Unknown(f"{told}: a file, which no catalogue has")
        return _Unknown(f"{told}: the catalogue has no such table", told, _quoted(*node.parts))

    def _collect(
        self,
        query: exp.Expr,
        tables: Mapping[str, _Table],
        reads: Reads,
        counts: Callable[[exp.Column], bool],
    ) -> None:
        for scope in traverse_scope(query):
            for column in scope.columns:
                if isinstance(column.this, exp.Star) or column.name == self._stand_in:
                    continue
                if self._stand_in and self._stand_in in column.sql():
                    reads.say("the value of a variable stands in the name of a column")
                elif column.table:
                    self._of_a_table(column, scope, tables, reads, counts)
                else:
                    self._of_none(column, scope, tables, reads)
            for source in _taken_whole(scope):
                if found := _known(source, tables):
                    reads.add(found.key, None)

    def _of_a_table(
        self,
        column: exp.Column,
        scope: Scope,
        tables: Mapping[str, _Table],
        reads: Reads,
        counts: Callable[[exp.Column], bool],
    ) -> None:
        source = _source(scope, column.table)
        if table := _known(source, tables):
            if name := table.columns.get(column.name):
                if counts(column):
                    reads.add(table.key, (name,))
            elif column.name.casefold() not in _PSEUDO and not _is_pivoted(source):
                name = f"{_told(table.key)}.{column.name}"
                reads.say(f"{name}: the table has no such column", name, _quoted(column.this))
        elif isinstance(source, Scope):
            outputs = getattr(source.expression, "named_selects", [])
            if outputs and "*" not in outputs and column.name not in outputs and not source.is_udtf:
                name = f"{column.table}.{column.name}"
                reads.say(
                    f"{name}: what it is selected from has no such column", name, _quoted(*column.parts)
                )
        elif source is None and not _is_pivot(scope, column.table):
            reads.say(f"{column.table}.{column.name}: nothing of that name is read")

    def _of_none(self, column: exp.Column, scope: Scope, tables: Mapping[str, _Table], reads: Reads) -> None:
        """A column that sqlglot finds in no table; it may be no column."""
        if isinstance(scope.expression, exp.SetOperation) or column.name.casefold() in _PSEUDO:
            return
        named = getattr(scope.expression, "named_selects", [])
        if (
            column.name in named
            and column.find_ancestor(exp.Order, exp.Select, exp.Distinct) is not scope.expression
        ):
            return  # of what is selected, under its new name
        if source := _source(scope, column.name):  # the row as one value
            if table := _known(source, tables):
                reads.add(table.key, None)
            return
        quoted = _quoted(column.this)
        if quoted and self._dialect == "sqlite":
            return  # SQLite takes it for a string then
        # Where a table is not known, the column may be its own: then that table is what is missing.
        all_known = all(_lists_all(one) or _known(one, tables) for one in scope.sources.values())
        why = f"{column.name}: no table that is read is known to have such a column"
        reads.say(why, column.name if all_known else None, quoted)


@dataclass(frozen=True)
class _Table:
    """A table, and its columns by how sqlglot writes them in this dialect."""

    key: TableKey
    columns: Mapping[str, str]


def _quoted(*parts: exp.Expr) -> frozenset[str]:
    """The parts of a name that are written in quotes."""
    return frozenset(part.name for part in parts if part.args.get("quoted"))


def _without_pivots(query: exp.Query) -> exp.Query:
    """Instead of DuckDB's `(PIVOT t ON ...)`, which sqlglot cannot resolve: all of `t`, and what nobody can name."""

    def instead(node: exp.Expr) -> exp.Expr:
        if not isinstance(node, exp.Pivot) or node.this is None:
            return node
        alias = exp.TableAlias(this=exp.to_identifier(_PIVOTED))
        made = exp.Table(this=exp.Anonymous(this=_PIVOTED), alias=alias)
        return exp.select("*").from_(node.this).join(made, join_type="cross")

    without = query.transform(instead, copy=False)
    assert isinstance(without, exp.Query)  # a pivot is none itself
    return without


def _lists_all(source: object) -> bool:
    """Whether a subquery is known by all that it selects: no `*` is left in it."""
    return isinstance(source, Scope) and "*" not in getattr(source.expression, "named_selects", [])


def _counts_unused(column: exp.Column) -> bool:
    """Whether a column is written, or joined by: not one that only `*` stands for."""
    made_anew = isinstance(column.parent, exp.Dot)  # of `column.field`
    joins = isinstance(column.find_ancestor(exp.Join, exp.Select), exp.Join)
    return bool(column.meta.get(_WRITTEN)) or made_anew or joins


def _pruned(query: exp.Expr) -> exp.Expr:
    """Without what `*` stands for and nobody uses; as it is, where that cannot be told."""
    try:
        return pushdown_projections(query.copy())
    except SqlglotError:
        return query


def _taken_whole(scope: Scope) -> Iterator[object]:
    """The sources of which a scope takes whatever columns there are: a row as one value, or a `*` that stayed one."""
    for column in scope.find_all(exp.TableColumn):
        yield _source(scope, column.name)
    if any(True for _ in scope.find_all(exp.Columns)):
        yield from scope.sources.values()
    for selected in getattr(scope.expression, "selects", ()):
        if isinstance(selected, exp.Star):
            yield from scope.sources.values()
        elif isinstance(selected, exp.Column) and isinstance(selected.this, exp.Star):
            yield _source(scope, selected.table)


def _selects(star: exp.Expr) -> bool:
    """Not the one of `count(*)`."""
    return isinstance(star, exp.Columns) or not isinstance(star.parent, exp.Func)


def _source(scope: Scope, name: str) -> exp.Expr | Scope | None:
    """What a name stands for in a scope, or around it where the scope is a subquery."""
    around: Scope | None = scope
    while around is not None:
        if name in around.sources:
            source: exp.Expr | Scope = around.sources[name]
            return source
        around = around.parent
    return None


def _is_pivoted(source: object) -> bool:
    """Whether a table has other columns than its own where it stands."""
    return isinstance(source, exp.Table) and bool(source.args.get("pivots"))


def _is_pivot(scope: Scope, name: str) -> bool:
    """Whether a table of the scope is pivoted under that name; all of it is read then."""
    pivots = (pivot for table in scope.tables for pivot in table.args.get("pivots") or ())
    return any(pivot.alias == name for pivot in pivots)


def _known(source: object, tables: Mapping[str, _Table]) -> _Table | None:
    return tables.get(source.name) if isinstance(source, exp.Table) else None


def _told(table: TableKey) -> str:
    return f"{table.schema}.{table.table}"


def _brief(error: BaseException) -> str:
    """The first line, without the text of the query that sqlglot repeats in the next ones."""
    line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return _ESCAPE.sub("", line).split(". Line ")[0][:200]
