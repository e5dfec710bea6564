"""Who relies on what of the catalogue: each query of each face, and the prompts that tell agents of all of it.

Every query comes back as uses, or as an unknown use with its reason; none is dropped. It compares nothing and knows of
no recorded history.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from context_telemetry.contract.catalogue import Names
from context_telemetry.contract.faces import Face, FaceQuery, faces
from context_telemetry.contract.manifest import Manifest
from context_telemetry.contract.model import Consumer, TableKey, UnknownUse, Use
from context_telemetry.contract.references import Reader, Reads
from context_telemetry.contract.sources import SourceConfig, Sources
from context_telemetry.contract.templates import STAND_IN, Unresolved, render

How: TypeAlias = Literal["sql", "ref", "source", "schema"]

_MODEL: Final = re.compile(r"ref\(\s*['\"]([^'\"]+)['\"]\s*\)")
_FILE_SOURCE: Final = re.compile(r"/|\.(csv|json|parquet)$", re.IGNORECASE)
# Types that read no table of any catalogue: rows in the face itself, an address, a file that they name.
_ELSEWHERE: Final = frozenset({"values", "http", "csv"})


@dataclass
class Uses:
    """What a project's consumers read, in order of consumers and their parts."""

    known: list[Use] = field(default_factory=list)
    unknown: list[UnknownUse] = field(default_factory=list)


def uses(
    root: Path,
    names: Names,
    sources: Sources,
    manifest: Manifest | None,
    progress: Callable[[str], None] = lambda name: None,
) -> Uses:
    """The uses of all faces of the project at ``root``, with the names of one catalogue.

    With the accepted catalogue, a use of what was dropped since is found; with the one that is served now, it is
    unknown, with the name that leads nowhere. ``progress`` is called with the name of each face.
    """
    finding = _Finding(names, sources, manifest)
    found = Uses()
    for face in faces(root):
        progress(face.name)
        finding.face(face, found)
    return found


def sql_uses(consumer: Consumer, part: str, sql: str, names: Names, config: SourceConfig) -> Uses:
    """Likewise of one text that was sent to a source as it is, without Jinja: by an agent, or compiled."""
    found = Uses()
    _tell(consumer, part, Reader(names, config, STAND_IN).read(sql), {}, found, config.name)
    return found


def prompt_uses(names: Names, prompt: str) -> Iterator[Use]:
    """Of a prompt that describes the whole catalogue: every column of every table.

    Such is Dataface's schema context (`get_schema_context`, up to 0.2.0; `format_bulk_schema` since, in hosts that
    call it). The prompts of Dataface 0.3.0 and later name sources only, and read no table until an agent asks.
    """
    consumer = Consumer("prompt", prompt)
    for table in names.tables():
        yield Use(consumer, "", table, None, "schema")


class _Finding:
    """Finds the uses of faces; one reader for each source, so that a view is read once."""

    def __init__(self, names: Names, sources: Sources, manifest: Manifest | None) -> None:
        self._names = names
        self._sources = sources
        self._manifest = manifest
        self._readers: dict[str, Reader] = {}

    def face(self, face: Face, found: Uses) -> None:
        consumer = Consumer("face", face.name)
        found.unknown += [UnknownUse(consumer, part, why) for part, why in face.unknown]
        if face.unreadable is not None:
            found.unknown.append(UnknownUse(consumer, "", face.unreadable, is_all=True))
        for query in face.queries:
            try:
                self._query(consumer, query, found)
            except Unresolved as error:
                source = self._source_or_none(query)
                found.unknown.append(UnknownUse(consumer, query.part, str(error), error.missing, source))

    def _query(self, consumer: Consumer, query: FaceQuery, found: Uses) -> None:
        kind = query.definition.get("type")
        if not isinstance(kind, str):
            raise Unresolved("its type is not a name")
        if kind == "sql":
            self._sql(consumer, query, found)
        elif kind in ("schema", "schema_resolver"):
            self._schema(consumer, query, found)
        elif kind == "dbt_model":
            self._model(consumer, query, found)
        elif kind in ("metricflow", "lookml"):
            listed = query.definition.get("metrics")
            metrics = ", ".join(map(str, listed if isinstance(listed, list) else ())) or "a model"
            raise Unresolved(
                f"{metrics}: {'MetricFlow' if kind == 'metricflow' else 'Looker'} writes its SQL"
            )
        elif kind not in _ELSEWHERE:
            raise Unresolved(f"type {kind}: nothing is known of such queries")

    # -- SQL --------------------------------------------------------------------------------------

    def _sql(self, consumer: Consumer, query: FaceQuery, found: Uses) -> None:
        sql = query.definition.get("sql")
        if not isinstance(sql, str):
            raise Unresolved("has no SQL")
        config = self._source(query)
        reader = self._reader(config)
        reads, how = Reads(), dict[TableKey, How]()
        setup = query.definition.get("setup_sql")
        for text in (sql, *([setup] if isinstance(setup, str) else ())):
            for rendered in render(text, self._manifest, query.scope.sql_of):
                reads.add_all(reader.read(rendered.sql))
                for relation, kind in rendered.relations.items():
                    if table := reader.relation(relation):
                        how[table] = "ref" if kind == "ref" else "source"
        _tell(consumer, query.part, reads, how, found, config.name)
        self._shown(consumer, query, reads, found)

    def _shown(self, consumer: Consumer, query: FaceQuery, reads: Reads, found: Uses) -> None:
        """Where a query takes all columns, those that its charts show: without them the chart fails, not the query."""
        whole = [table for table, columns in reads.tables.items() if columns is None]
        for chart, shown in query.shown.items():
            for table in whole:
                columns = {self._names.column(table, name) for name in shown} - {None}
                if columns and chart != query.part:
                    real = frozenset(name for name in columns if name)
                    found.known.append(Use(consumer, f"chart {chart}", table, real, "sql"))

    def _source(self, query: FaceQuery) -> SourceConfig:
        named = query.definition.get("source") or query.scope.source or self._sources.default
        if named is None:
            raise Unresolved("names no source, and nothing around it does")
        if not isinstance(named, str):
            raise Unresolved("its source is written into the query, which Dataface refuses")
        config = self._sources.get(named)
        if config is None and _FILE_SOURCE.search(named):
            raise Unresolved(f"{named}: reads a file, not a table")
        if config is None:
            raise Unresolved(f"the source {named} is not in dataface.yml")
        return config

    def _source_or_none(self, query: FaceQuery) -> str | None:
        try:
            return self._source(query).name
        except Unresolved:
            return None

    def _reader(self, config: SourceConfig) -> Reader:
        if config.name not in self._readers:
            self._readers[config.name] = Reader(self._names, config, STAND_IN)
        return self._readers[config.name]

    # -- the rest ---------------------------------------------------------------------------------

    def _schema(self, consumer: Consumer, query: FaceQuery, found: Uses) -> None:
        """A list of tables reads that each is there, and no column; a table's columns are read as a whole."""
        source, schema, table, column = (
            query.definition.get(key) for key in ("source", "schema", "table", "column")
        )
        if source is None:
            return  # lists the sources, out of the project's files
        state = self._names.source(str(source))
        if state is None or state.unread:
            raise Unresolved(f"the catalogue has nothing of the source {source}")
        if schema is None or table is None:
            listed = self._names.tables(str(source), None if schema is None else str(schema))
            if schema is not None and not listed:
                raise Unresolved(f"{schema}: the catalogue has no such schema", str(schema))
            found.known += [Use(consumer, query.part, one, frozenset(), "schema") for one in listed]
            return
        key = self._names.table(str(source), str(schema), str(table))
        if key is None:
            raise Unresolved(f"{schema}.{table}: the catalogue has no such table", f"{schema}.{table}")
        if column is None:
            found.known.append(Use(consumer, query.part, key, None, "schema"))
            return
        name = self._names.column(key, str(column))
        if name is None:
            found.known.append(Use(consumer, query.part, key, frozenset(), "schema"))
            gone = f"{schema}.{table}.{column}"
            raise Unresolved(f"{gone}: the table has no such column", gone)
        found.known.append(Use(consumer, query.part, key, frozenset({name}), "schema"))

    def _model(self, consumer: Consumer, query: FaceQuery, found: Uses) -> None:
        """A whole model of dbt, or some of its columns (up to Dataface 0.2.0)."""
        text = str(query.definition.get("model") or "").strip()
        match = _MODEL.fullmatch(text)
        name = match[1] if match else text
        declared = self._manifest.refs.get(name) if self._manifest else None
        if declared is None:
            raise Unresolved(f"model {name}: the manifest has none of that name", name)
        configs = self._sources.configs
        if query.definition.get("source") in [config.name for config in configs]:
            configs = (self._source(query),)
        tables = {table for config in configs if (table := self._reader(config).relation(declared.relation))}
        if len(tables) != 1:
            raise Unresolved(f"model {name}: {len(tables)} sources have a table {declared.relation}")
        (table,) = tables
        wanted = query.definition.get("columns")
        if not isinstance(wanted, list):
            found.known.append(Use(consumer, query.part, table, None, "ref"))
            return
        real = {column: self._names.column(table, str(column)) for column in wanted}
        known = frozenset(name for name in real.values() if name)
        found.known.append(Use(consumer, query.part, table, known, "ref"))
        for column, there in real.items():
            if there is None:
                gone = f"{table.schema}.{table.table}.{column}"
                why = f"{gone}: the table has no such column"
                found.unknown.append(UnknownUse(consumer, query.part, why, gone, table.source))


def _tell(
    consumer: Consumer, part: str, reads: Reads, how: Mapping[TableKey, Any], found: Uses, source: str
) -> None:
    for table, columns in sorted(reads.tables.items()):
        named = None if columns is None else frozenset(columns)
        found.known.append(Use(consumer, part, table, named, how.get(table, "sql")))
    found.unknown += [UnknownUse(consumer, part, why, name, source) for why, name in reads.unknown.items()]
