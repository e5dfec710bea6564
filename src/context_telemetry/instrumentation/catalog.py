"""Catalogue resolution and profiling: what was asked, which layers answered and how old they are, what was not found.

The resolver does not fail on an unknown schema, table or column: it answers an envelope without it. Below it stand the
live sources, above it the verbs that releases before 0.3.0 give to agents. Nothing here reads the private layer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from opentelemetry.util.types import AttributeValue

from context_telemetry.conventions import names
from context_telemetry.instrumentation import contract_watch, given, manifest, manifest_watch
from context_telemetry.instrumentation.hooks import Hook
from context_telemetry.instrumentation.moments import seconds_since, unix_time
from context_telemetry.instrumentation.tools import error_code, first_code_of
from context_telemetry.observe.observed import Plan, tap
from context_telemetry.observe.operation import current
from context_telemetry.observe.reading import Call, Reading, reader

_RESOLVE, _PROFILE, _SEARCH = "catalog.resolve", "catalog.profile", "catalog.search"
_CATALOG = frozenset({_RESOLVE, _PROFILE, _SEARCH})
_Before = Callable[[Call], "tuple[str, Mapping[str, AttributeValue]]"]
# The levels of an envelope, outermost first: the key that holds its members, and the parameter that asks for them.
_LEVELS = (("schemas", "schema"), ("tables", "table"), ("columns", "column"))
_GLOB = frozenset("*?[")
_SEPARATOR = re.compile("[,|]")
# The ends of Dataface's codes, whose first part differs between releases.
_SOURCE_UNKNOWN = ("SOURCE-NOT-FOUND", "SOURCE-NOT-FOUND-EMPTY")
_NO_SOURCES = "SOURCE-NOT-FOUND-EMPTY"
_OBJECT_UNKNOWN = ("SCHEMA-NOT-FOUND", "TABLE-NOT-FOUND", "COLUMN-NOT-FOUND")


# -- the resolver --------------------------------------------------------------------------------


@reader(
    reasons=("object_unknown", "source_unconfigured"), layers=("super_schema", "dbt_adapter", "dbt_manifest")
)
def read_envelope(call: Call) -> Reading | None:
    """The layers that were consulted and their ages, and how many of the named objects are not in the envelope."""
    op = current()
    if op is not None:
        registry = getattr(call.argument("self"), "adapter_registry", None)
        contract_watch.asked_object(
            op, registry, *map(call.argument, ("source", "schema", "table", "column"))
        )
    if call.error is not None:
        return _unresolved(call.error)
    envelope = call.result
    if not isinstance(envelope, dict):
        return None
    if op is not None:
        given.envelope_seen(op, envelope)
    consulted = _get(envelope, "_meta", "sources_consulted") or ()
    layers = tuple(layer for layer in consulted if layer in names.LAYERS)
    found = _get(envelope, "sources", call.argument("source"))
    missing = _missing(call, found)
    ages = _ages(call, envelope, found, layers)
    if not missing:
        return Reading(layers=layers, ages=ages)
    # There is an envelope, so the source is configured: an unknown one raises.
    configured = {names.DATAFACE_CATALOG_SOURCE_CONFIGURED: True}
    return Reading(
        reasons=("object_unknown",), layers=layers, ages=ages, unresolved=missing, attributes=configured
    )


def _unresolved(error: BaseException) -> Reading:
    """A call that raised resolved nothing. It counts once, whoever has said so already."""
    op, code = current(), error_code(error) or ""
    unresolved = 1 if op is None or not op.unresolved else 0
    if code.endswith(_SOURCE_UNKNOWN):
        return Reading(
            reasons=("source_unconfigured",) if code.endswith(_NO_SOURCES) else (), unresolved=unresolved
        )
    return Reading(unresolved=unresolved)


def _get(tree: Any, *keys: Any) -> Any:
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def _literals(target: str) -> list[str]:
    """The names that are written out in a target: it may also be a list, and hold globs, which may match nothing."""
    parts = [part.strip() for part in _SEPARATOR.split(target)]
    return [part for part in parts if part and not _GLOB.intersection(part)]


def _missing(call: Call, found: Any) -> int:
    """How many of the objects that are named at the deepest level asked for are nowhere in the answer."""
    members: list[Any] = [found]
    wanted: list[str] = []
    for level, asked in _LEVELS:
        target = call.argument(asked)
        if not isinstance(target, str):
            break
        members = [each.get(level) if isinstance(each, dict) else None for each in members]
        members = [each for each in members if isinstance(each, dict)]
        wanted = [name for name in _literals(target) if not any(name in each for each in members)]
        members = [each for group in members for each in group.values()]
    return len(wanted)


def _ages(call: Call, envelope: dict[str, Any], found: Any, layers: tuple[str, ...]) -> dict[str, float]:
    """The age of each layer that says one, in seconds.

    Of the live layer that is when its tables were last loaded, where the warehouse tells: an answer that was just
    fetched may still come from an open connection to a file that is gone, so it is not new by being live.
    """
    ages: dict[str, float] = {}
    if "super_schema" in layers:
        _put(ages, "super_schema", seconds_since(unix_time(_get(envelope, "_meta", "cache_built_at"))))
    if "dbt_adapter" in layers:
        for table in _tables(found):
            _put(ages, "dbt_adapter", seconds_since(unix_time(table.get("last_modified"))))
    if "dbt_manifest" in layers:
        _put(ages, "dbt_manifest", _manifest_age(call))
    return ages


def _put(ages: dict[str, float], layer: str, age: float | None) -> None:
    if age is not None:
        ages[layer] = max(age, ages.get(layer, 0.0))


def _tables(found: Any) -> Iterator[dict[str, Any]]:
    for schema in (_get(found, "schemas") or {}).values():
        for table in (_get(schema, "tables") or {}).values():
            if isinstance(table, dict):
                yield table


def _manifest_age(call: Call) -> float | None:
    """The age of the manifest that the resolver holds: it loads one once, and may answer from it for long."""
    live = getattr(call.argument("self"), "_dbt_sources", {}).get(call.argument("source"))
    op = current()
    held = manifest_watch.age(getattr(live, "_manifest", None))
    return held if held is not None or op is None else op.notes.get(manifest.AGE)


def _tap_fallback(call: Call) -> None:
    """There is a profile cache, so the resolver goes on without the live source when that cannot be made."""
    op = current()
    if op is not None and call.result is None and call.error is None:
        op.degraded("layer_unavailable")


# -- the live sources ----------------------------------------------------------------------------


def _below(operation: str) -> _Before:
    """A live source does not know by which name it was asked for; the operation around it does."""

    def before(call: Call) -> tuple[str, Mapping[str, AttributeValue]]:
        op = current()
        source = op.attributes.get(names.DATAFACE_CATALOG_SOURCE) if op is not None else None
        return operation, {} if source is None else {names.DATAFACE_CATALOG_SOURCE: source}

    return before


@reader(reasons=("object_unknown",), layers=("dbt_adapter",))
def read_live(call: Call) -> Reading | None:
    """Whether the warehouse knows the object. Where a resolver asked, it says what is missing: it has other layers."""
    op = current()
    if op is not None and op.parent is not None and op.parent.name in _CATALOG:
        return Reading(layers=("dbt_adapter",))
    if call.error is not None:
        return _unresolved(call.error)
    named = call.argument("table") or call.argument("schema")
    if call.result is None and named is not None:
        return Reading(reasons=("object_unknown",), layers=("dbt_adapter",), unresolved=1)
    return Reading(layers=("dbt_adapter",))


@reader(layers=("dbt_adapter",))
def read_described(call: Call) -> Reading | None:
    """The columns of a query, as the warehouse tells them: none is no answer."""
    if call.error is not None:
        return None
    return Reading(outcome="failed" if call.result is None else "ok", layers=("dbt_adapter",))


# -- whole sources, relationships ----------------------------------------------------------------


@reader(layers=("metadata_sql",))
def read_bulk(call: Call) -> Reading | None:
    """The whole of a source by one query on the warehouse's metadata."""
    return Reading(layers=("metadata_sql",)) if call.error is None else _unresolved(call.error)


@reader(layers=("dbt_manifest",))
def read_edges(call: Call) -> Reading | None:
    """The foreign keys of a table: those of the manifest, where one was read."""
    op = current()
    if op is None or manifest.AGE not in op.notes:
        return None
    age = op.notes[manifest.AGE]
    return Reading(layers=("dbt_manifest",), ages={} if age is None else {"dbt_manifest": age})


def _tap_schema_query(call: Call) -> None:
    """A face's query of the catalogue answers with an error for one thing: what it asked for is not there."""
    op, query = current(), call.argument("query")
    if op is None or getattr(call.result, "error", None) is None:
        return
    asked = [getattr(query, level, None) for level in ("schema_name", "table", "column")]
    if all(_literals(name) for name in asked if isinstance(name, str)):  # a glob may match nothing
        op.degraded("object_unknown")


# -- the verbs of releases before 0.3.0 ----------------------------------------------------------


def _asked(call: Call) -> tuple[str, Mapping[str, AttributeValue]]:
    return _PROFILE if call.argument("table") is not None else _RESOLVE, {}


@reader(reasons=("object_unknown", "source_unconfigured"))
def read_schema(call: Call) -> Reading | None:
    """The verb names what the resolver left out. The resolver's own operation has counted it."""
    response = call.result
    if response is None or getattr(response, "success", True):
        return None
    errors = getattr(response, "structured_errors", None)
    code = first_code_of(errors)
    reasons: tuple[str, ...] = ()
    if code is not None and code.endswith(_OBJECT_UNKNOWN):
        reasons = ("object_unknown",)
    elif code is not None and code.endswith(_NO_SOURCES):
        reasons = ("source_unconfigured",)
    return Reading(outcome="failed", reasons=reasons, error_code=code)


@reader(reasons=("layer_unavailable",))
def read_search(call: Call) -> Reading | None:
    """A search walks every source, and warns of those that it could not reach: its answer is without them."""
    result = call.result
    if result is None:
        return None
    if not getattr(result, "success", True):
        return Reading(outcome="failed")
    return Reading(reasons=("layer_unavailable",)) if getattr(result, "warnings", None) else None


# -- rows ----------------------------------------------------------------------------------------


def _resolver(method: str, operation: str, *parameters: str) -> Hook:
    return Hook(
        "dataface.core.inspect.resolver",
        f"LayeredSchemaResolver.{method}",
        Plan(operation, reader=read_envelope),
        parameters=("source", *parameters),
    )


def _live(module: str, name: str, since: str = "0.1.2") -> Iterator[Hook]:
    for method, operation, parameters in (
        ("list_schemas", _RESOLVE, ()),
        ("list_tables", _RESOLVE, ("schema",)),
        ("profile_table", _PROFILE, ("schema", "table")),
    ):
        wrap = Plan(operation, reader=read_live, before=_below(operation))
        yield Hook(module, f"{name}.{method}", wrap, parameters=parameters, since=since)


HOOKS = (
    _resolver("list_schemas", _RESOLVE),
    _resolver("list_tables", _RESOLVE, "schema"),
    _resolver("profile_table", _PROFILE, "schema", "table"),
    _resolver("profile_column", _PROFILE, "schema", "table", "column"),
    Hook("dataface.core.inspect.resolver", "LayeredSchemaResolver._try_dbt_for", tap(_tap_fallback)),
    *_live("dataface.core.inspect.sources.dbt", "DbtSchemaSource"),
    Hook(
        "dataface.core.inspect.sources.dbt",
        "DbtSchemaSource.describe_query",
        Plan("query.describe", reader=read_described),
        parameters=("sql",),
    ),
    *_live("dataface.core.inspect.sources.sqlite", "SQLiteSchemaSource", since="0.1.5"),
    Hook(
        "dataface.core.inspect.bulk_schema",
        "bulk_schema",
        Plan(_RESOLVE, reader=read_bulk),
        parameters=("source",),
        since="0.3.0",
    ),
    Hook(
        "dataface.core.execute.adapters.schema_adapter",
        "fetch_fk_edges",
        Plan(_RESOLVE, reader=read_edges),
        parameters=("table",),
        since="0.2.0",
    ),
    Hook(
        "dataface.core.execute.adapters.schema_adapter",
        "SchemaAdapter._execute",
        tap(_tap_schema_query),
        since="0.1.5",
    ),
    Hook(
        "dataface.core.execute.adapters.schema_resolver_adapter",
        "SchemaResolverAdapter._execute",
        tap(_tap_schema_query),
        until="0.1.4",
    ),
    Hook(
        "dataface.agent_api.schema",
        "schema",
        Plan(_RESOLVE, reader=read_schema, before=_asked),
        parameters=("source", "schema", "table"),
        until="0.2.0",
    ),
    Hook(
        "dataface.agent_api.schema_search",
        "schema_search",
        Plan(_SEARCH, reader=read_search),
        parameters=("keyword",),
        until="0.2.0",
    ),
)
