"""Query execution: what was asked, which connection answered, and how it failed.

`AdapterRegistry.execute` is the choke point for warehouse reads. The source is decided in the resolver below it, and
the registry drops that decision's error code, so taps on the way there tell the operation what happened. SQL text is
never kept.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from opentelemetry.util.types import AttributeValue

from context_telemetry.conventions import names
from context_telemetry.instrumentation import contract_watch, freshness, given
from context_telemetry.instrumentation.hooks import Hook
from context_telemetry.instrumentation.metadata_sql import reads_metadata
from context_telemetry.instrumentation.tools import error_code, known_code
from context_telemetry.observe import project
from context_telemetry.observe.observed import Plan, tap
from context_telemetry.observe.operation import Operation, current, error_class, object_name
from context_telemetry.observe.reading import Call, Reading, reader

# Dataface's source types under the names that OpenTelemetry's registry gives to database systems.
_DB_SYSTEMS = {
    "bigquery": "gcp.bigquery",
    "postgres": "postgresql",
    "redshift": "aws.redshift",
    "sqlserver": "microsoft.sql_server",
    "fabric": "microsoft.sql_server",
}
_ADAPTERS = "dataface.core.execute.adapters"
_CATALOG_OPERATIONS = frozenset({"catalog.resolve", "catalog.profile", "query.describe", "query.execute"})
_NOTICED = "query"


class _Noticed:
    """What the taps on the way of one query noticed, for its reader."""

    __slots__ = ("adapter", "default", "driver_error", "profile_failed", "refused", "sent", "source")

    def __init__(self) -> None:
        self.source: _SourceDecision | None = None
        self.adapter: Any = None
        """The one that answered."""
        self.sent: str | None = None
        """The SQL as it went to the warehouse."""
        self.driver_error: str | None = None
        """The class of the driver's exception."""
        self.refused = self.profile_failed = False
        """Dataface did not send it; the dbt profile of its source could not be read."""
        self.default = False
        """The project's default source stood for none."""


def _noticed(op: Operation) -> _Noticed:
    found: _Noticed | None = op.notes.get(_NOTICED)
    if found is None:
        found = op.notes[_NOTICED] = _Noticed()
    return found


# -- AdapterRegistry.execute ---------------------------------------------------------------------


def _asked(call: Call) -> tuple[str, Mapping[str, AttributeValue]]:
    """SQL on the warehouse's own metadata is the catalogue access that it is for an agent."""
    query = call.argument("query")
    attributes: dict[str, AttributeValue] = {}
    source = getattr(query, "source", None)
    if isinstance(source, str):
        attributes[names.DATAFACE_CATALOG_SOURCE] = object_name(source)
    sql = getattr(query, "sql", None)
    if isinstance(sql, str):
        if reads_metadata(sql):
            attributes[names.DATAFACE_CATALOG_LAYERS] = ("metadata_sql",)
            return "catalog.resolve", attributes
    elif getattr(query, "query_type", None) in ("schema", "schema_resolver"):  # the second before 0.1.5
        attributes.update(_schema_coordinates(query))
    return "query.execute", attributes


def _schema_coordinates(query: Any) -> dict[str, AttributeValue]:
    parts = {
        names.DATAFACE_CATALOG_SCHEMA: getattr(query, "schema_name", None),
        names.DATAFACE_CATALOG_TABLE: getattr(query, "table", None),
        names.DATAFACE_CATALOG_COLUMN: getattr(query, "column", None),
    }
    return {name: object_name(value) for name, value in parts.items() if isinstance(value, str)}


@reader(reasons=("source_substituted", "source_unconfigured"), layers=("metadata_sql",))
def read_execute(call: Call) -> Reading | None:
    """Outcome, rows and connection of one query; the reasons of a source that was not the one asked for."""
    op, result, query = current(), call.result, call.argument("query")
    noticed = _noticed(op) if op is not None else _Noticed()
    decision = noticed.source
    is_sql = isinstance(getattr(query, "sql", None), str)
    if op is not None and noticed.sent is not None:
        _ask_of_contract(op, call, decision, noticed.sent)
    failed = getattr(result, "error", None) is not None
    if is_sql and getattr(query, "source", None) is None:
        asks_catalog = op is not None and op.name == "catalog.resolve"
        reasons = _sourceless(call.argument("self"), noticed, failed=failed, asks_catalog=asks_catalog)
        unresolved = len(reasons)
    else:
        ran = is_sql and not (noticed.refused or noticed.profile_failed or _is_refusal(call.error))
        elsewhere = not _answers_for(noticed.adapter, decision)
        reasons, unresolved = _source_reasons(decision, elsewhere=elsewhere, ran=ran)
    if result is None:
        return Reading(reasons=reasons, unresolved=unresolved)
    attributes: dict[str, AttributeValue] = {}
    error_type = error_code = None
    if failed:
        error_type = decision.error_type if decision is not None and decision.error_type else None
        error_type = error_type or noticed.driver_error or "_OTHER"
        error_code = known_code(getattr(getattr(result, "error_code", None), "code", None))
        error_code = error_code or (decision.code if decision is not None else None)
        if is_sql and getattr(query, "source", None) is None and noticed.adapter is None:
            error_code = error_code or "ERR-NO-DEFAULT-SOURCE"
    else:
        rows = getattr(result, "data", None)
        if isinstance(rows, list):
            attributes[names.DB_RESPONSE_RETURNED_ROWS] = len(rows)
            if is_sql and op is not None and op.name == "catalog.resolve":
                given.rows_seen(op, rows)
        if op is not None and op.parent is not None:  # a render compares them with what its charts need
            columns = op.parent.notes.setdefault("columns", {})
            columns[call.argument("query_name")] = frozenset(getattr(result, "columns", None) or ())
    return Reading(
        reasons=reasons,
        error_type=error_type,
        error_code=error_code,
        unresolved=unresolved,
        attributes=attributes,
    )


def _ask_of_contract(op: Operation, call: Call, decision: _SourceDecision | None, sql: str) -> None:
    """What the query reads may not be what was accepted, which is of the project's own sources as configured."""
    other_target = getattr(call.argument("query"), "target", None)  # of dbt's: another database
    if decision is not None and other_target is None and contract_watch.is_on() and decision.is_projects():
        contract_watch.asked_sql(op, call.argument("self"), decision.name, sql)


class _SourceDecision:
    """What the source resolver decided for one query."""

    __slots__ = (
        "code",
        "error_type",
        "name",
        "of_face",
        "of_project",
        "project_has_none",
        "substituted",
        "unconfigured",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.of_face: Any = None
        self.of_project: Any = None
        self.substituted = False
        self.unconfigured = False
        self.project_has_none = False
        self.error_type: str | None = None
        self.code: str | None = None

    def is_projects(self) -> bool:
        """Whether it is a source of the project. A face's come first, among which it is handed the project's, too, with
        whole paths."""
        own, of_face = self.of_project, self.of_face
        if not isinstance(own, dict) or of_face is None or of_face == own:
            return isinstance(own, dict)
        if not isinstance(of_face, dict) or of_face.keys() != own.keys():
            return False
        same = _is_whole_of(of_face.get("path"), own.get("path"), project.root())
        return same and all(of_face[key] == value for key, value in own.items() if key != "path")


@functools.lru_cache(maxsize=64)
def _is_whole_of(path: Any, relative: Any, root: Path | None) -> bool:
    """Whether ``path`` is where ``relative`` is in the project."""
    return os.path.abspath(str(path)) == os.path.abspath(os.path.join(root or "", str(relative)))


def _source_reasons(
    decision: _SourceDecision | None, elsewhere: bool, ran: bool
) -> tuple[tuple[str, ...], int]:
    """dbt's own connection, which goes by the name of its profile and target, is no substitute for a source of that
    name. That the project has none is one thing more: then nobody has said that the two are the same.
    """
    if decision is None:
        return (), 0
    reasons = []
    if decision.substituted and elsewhere and ran:
        reasons.append("source_substituted")
    if decision.unconfigured or (decision.substituted and decision.project_has_none):
        reasons.append("source_unconfigured")
    return tuple(reasons), 1 if reasons or decision.error_type else 0


def _answers_for(adapter: Any, decision: _SourceDecision | None) -> bool:
    """Whether the connection that answered is the dbt profile or target of the name that was asked for."""
    own = (getattr(adapter, "profile_name", None), getattr(adapter, "target_name", None))
    return decision is not None and decision.name in [name for name in own if isinstance(name, str)]


def _sourceless(registry: Any, noticed: _Noticed, *, failed: bool, asks_catalog: bool) -> tuple[str, ...]:
    """SQL that names no source. From 0.3.0 on it is refused; before, an empty database in memory answers it.

    What asks for nothing of a source (``SELECT 1``) is answered right by any database. What asks for a table or for the
    catalogue is not: the first fails, the second is told that there is none.
    """
    reason = "source_substituted" if registry._sources.all() else "source_unconfigured"
    if noticed.adapter is None:
        return (reason,) if failed and reason == "source_unconfigured" else ()
    asks = noticed.driver_error == "CatalogException" if failed else asks_catalog
    return (reason,) if asks and not noticed.default and _is_empty(noticed.adapter) else ()


def _is_empty(adapter: Any) -> bool:
    """Whether an adapter's own connection is to a DuckDB in memory: a file of the dbt project comes before that."""
    own = getattr(adapter, "source_config", None)
    if getattr(adapter, "connection_string", getattr(own, "path", None)) != ":memory:":
        return False
    folder = getattr(adapter, "dbt_project_path", None)
    known = getattr(sys.modules.get(f"{_ADAPTERS}.dbt_utils"), "DBT_PROJECT_DB_NAMES", ())
    return not (isinstance(folder, Path) and any((folder / "data" / name).exists() for name in known))


def _tap_resolve(call: Call) -> None:
    """Where the source is decided: configured, left to dbt's default connection, or refused."""
    op, authored = current(), call.argument("authored")
    if op is None:
        return
    if authored is None:
        if call.result is not None:  # before 0.2.0 a project may have a default source
            _noticed(op).default = True
            _name_system(op, getattr(call.result, "type", None))
        return
    decision = _SourceDecision(authored if isinstance(authored, str) else type(authored).__name__)
    sources = getattr(call.argument("project_sources"), "sources", None)
    decision.project_has_none = not sources and not call.argument("face_sources")
    if call.error is not None:
        decision.error_type = error_class(call.error)
        decision.code = error_code(call.error)
        decision.unconfigured = decision.project_has_none
    elif call.result is None:
        decision.substituted = True
    else:
        _name_system(op, getattr(call.result, "type", None))
        if isinstance(authored, str):
            decision.of_face = (call.argument("face_sources") or {}).get(authored)
            decision.of_project = (sources or {}).get(authored)
    _noticed(op).source = decision


def _name_system(op: Operation, source_type: Any) -> None:
    if isinstance(source_type, str) and source_type:
        op.attributes[names.DB_SYSTEM_NAME] = _DB_SYSTEMS.get(source_type, source_type)


def _tap_adapter(call: Call) -> None:
    """The adapter that really answers, and the database file that it answers from."""
    op, adapter = current(), call.argument("self")
    if op is None:
        return
    _noticed(op).adapter = adapter
    if names.DB_SYSTEM_NAME not in op.attributes:
        _name_system(op, getattr(adapter, "profile_type", None) or getattr(adapter, "_dialect", None))
    freshness.look_at_file(op, adapter, call.argument("source_config"))


def _tap_guard(call: Call) -> None:
    """Dataface's last look at a query that is about to be sent: names and variables are resolved by now."""
    op, sql = current(), call.argument("sql")
    if op is not None and op.name == "query.execute" and call.error is None and isinstance(sql, str):
        _noticed(op).sent = sql


def _tap_driver_error(call: Call) -> None:
    """Every failure at a warehouse ends in a few codes; the driver's exception class tells more."""
    op, error = current(), call.argument("exc") or call.argument("error")
    if op is None or not isinstance(error, BaseException):
        return
    noticed = _noticed(op)
    noticed.driver_error = error_class(error)
    noticed.refused = noticed.refused or _is_refusal(error)


def _is_refusal(error: BaseException | None) -> bool:
    """Whether Dataface itself refused the query, before it reached a connection."""
    return error is not None and type(error).__module__.partition(".")[0] in ("dataface", "jinja2")


# -- the profile, the adapter, the source's configuration ----------------------------------------


def _tap_profile(call: Call) -> None:
    """The dbt profile that a source stands in could not be read."""
    op = current()
    if op is None or call.error is None:
        return
    _noticed(op).profile_failed = True
    if _is_missing_module(call.error):
        op.degraded("layer_unavailable")
    else:
        op.degraded("source_unconfigured")
        op.unresolved = max(op.unresolved, 1)


def _is_missing_module(error: BaseException | None) -> bool:
    """Whether an error goes back to a module that is not installed."""
    while error is not None and not isinstance(error, ImportError):
        error = error.__cause__ or error.__context__
    return error is not None


def _tap_build_adapter(call: Call) -> None:
    """The dbt adapter of a source's type is not installed: the live layer is not there."""
    op = current()
    if op is not None and isinstance(call.error, ImportError):
        op.degraded("layer_unavailable")
        _noticed(op).driver_error = error_class(call.error)
        op.inner_failure = (error_class(call.error), None)


def _tap_source_config(call: Call) -> None:
    """The configuration of a named source was asked for outside of a query."""
    op = current()
    if op is None or call.error is None or op.name not in _CATALOG_OPERATIONS:
        return
    op.unresolved = max(op.unresolved, 1)
    registry = call.argument("self")
    if not registry._sources.all():
        op.degraded("source_unconfigured")
    op.inner_failure = (
        error_class(call.error),
        error_code(call.error),
    )


@reader()
def read_describe(call: Call) -> Reading | None:
    """Whether the column schema of a query could be told."""
    if call.result is None or getattr(call.result, "success", True):
        return None
    return Reading(outcome="failed")


def _tap_query_face(call: Call) -> None:
    """A query that was asked for by its name in a face: the query itself does not know the face."""
    op, path = current(), getattr(call.result, "path", None)
    # Where it was not found, the path may be anything that the caller sent.
    found = bool(getattr(call.result, "success", False))
    if op is not None and found and isinstance(path, PurePath) and not path.is_absolute():
        op.attributes.setdefault(names.DATAFACE_FACE, path.as_posix())


def _file_source(call: Call) -> tuple[str, Mapping[str, AttributeValue]]:
    name = call.argument("source_name")
    known = {names.DATAFACE_CATALOG_SOURCE: object_name(name)} if isinstance(name, str) else {}
    return "query.execute", known


def _validated(module: str, target: str, since: str = "0.1.2", until: str | None = None) -> Hook:
    """The verb, where a surface calls it. Dataface's own use of the validator below every query is no operation."""
    return Hook(
        module,
        target,
        Plan("query.validate"),
        parameters=("sql",),
        since=since,
        until=until,
    )


def _driver_error(module: str, since: str, until: str | None = None) -> Hook:
    return Hook(
        f"{_ADAPTERS}.{module}",
        "_classify_duckdb_error",
        tap(_tap_driver_error),
        parameters=("exc",),
        since=since,
        until=until,
    )


def _guard(module: str, since: str, until: str | None = None) -> Hook:
    """Every adapter calls it right before it sends; the compiler does, too, in no operation."""
    return Hook(
        module,
        "validate_select_only",
        tap(_tap_guard),
        parameters=("sql",),
        since=since,
        until=until,
    )


HOOKS = (
    Hook(
        f"{_ADAPTERS}.adapter_registry",
        "AdapterRegistry.execute",
        Plan("query.execute", reader=read_execute, before=_asked),
        parameters=("query",),
    ),
    Hook(f"{_ADAPTERS}.base", "BaseAdapter.execute", tap(_tap_adapter), parameters=("source_config",)),
    Hook(f"{_ADAPTERS}.adapter_registry", "AdapterRegistry.resolve_source_config", tap(_tap_source_config)),
    Hook(
        "dataface.core.execute.source_resolver",
        "DefaultSourceResolver.resolve",
        tap(_tap_resolve),
        parameters=("authored", "face_sources", "project_sources"),
    ),
    _driver_error("sql_adapter", since="0.1.3", until="0.1.5"),
    _driver_error("duckdb_adapter", since="0.2.0"),
    Hook(
        f"{_ADAPTERS}.base",
        "handle_adapter_error",
        tap(_tap_driver_error),
        parameters=("error",),
    ),
    _guard("dataface.core.execute.sql_guard", since="0.1.2", until="0.2.0"),
    _guard("dataface.core.compile.sql_guard", since="0.3.0"),
    Hook(f"{_ADAPTERS}.dbt_adapter", "_read_target_dict", tap(_tap_profile)),
    Hook(
        f"{_ADAPTERS}.dbt_adapter_factory",
        "build_adapter",
        tap(_tap_build_adapter),
    ),
    Hook(
        "dataface.agent_api.describe_query",
        "describe_query",
        Plan("query.describe", reader=read_describe),
        parameters=("sql", "source"),
    ),
    Hook(
        "dataface.agent_api.query",
        "query_face",
        tap(_tap_query_face),
        parameters=("name", "path"),
    ),
    _validated("dataface.agent_api.validate_query", "validate_query"),
    _validated("dataface.agent_api.project", "Project.validate_query", since="0.1.5", until="0.1.5"),
    _validated("dataface.agent_api.project_session", "ProjectSession.validate_query", since="0.2.0"),
    Hook(
        "dataface.core.execute.file_source_materializer",
        "FileSourceMaterializer.materialize_and_run",
        Plan("query.execute", before=_file_source),
        since="0.2.0",
    ),
)
