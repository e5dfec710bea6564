"""Catalogue resolution: what was asked of the resolver, which layers answered, and what it did not find.

The resolver does not fail on an unknown schema, table or column: it answers an envelope without it.
"""

from __future__ import annotations

from typing import Any

from context_telemetry.conventions import names
from context_telemetry.instrumentation.hooks import Hook
from context_telemetry.observe.observed import Plan, observe
from context_telemetry.observe.reading import Call, Reading, reader

_RESOLVER = "dataface.core.inspect.resolver"
_WILD = frozenset(",|*?[")


def is_exact(target: Any) -> bool:
    """Whether a target names one object: the resolver also takes lists and globs, and those may match nothing."""
    return isinstance(target, str) and not _WILD.intersection(target)


@reader(reasons=("object_unknown",), layers=("super_schema", "dbt_adapter", "dbt_manifest"))
def read_envelope(call: Call) -> Reading | None:
    """Layers consulted, and whether the one object that was asked for is in the envelope."""
    envelope = call.result
    if not isinstance(envelope, dict):
        return None
    meta = envelope.get("_meta")
    layers = tuple(meta.get("sources_consulted", ())) if isinstance(meta, dict) else ()
    if _is_missing(call, envelope):
        # There is an envelope, so the source is configured: an unknown one raises.
        configured = {names.DATAFACE_CATALOG_SOURCE_CONFIGURED: True}
        return Reading(reasons=("object_unknown",), layers=layers, unresolved=1, attributes=configured)
    return Reading(layers=layers)


def _is_missing(call: Call, envelope: dict[str, Any]) -> bool:
    wanted_names = [call.argument(name) for name in ("schema", "table", "column")]
    if not all(is_exact(wanted) for wanted in wanted_names if wanted is not None):
        return False
    found: Any = envelope.get("sources", {}).get(call.argument("source"), {})
    for level, name in (("schemas", "schema"), ("tables", "table"), ("columns", "column")):
        wanted = call.argument(name)
        if wanted is None:
            return False
        members = found.get(level) if isinstance(found, dict) else None
        if not isinstance(members, dict) or wanted not in members:
            return True
        found = members[wanted]
    return False


def _row(method: str, operation: str, *parameters: str) -> Hook:
    return Hook(
        _RESOLVER,
        f"LayeredSchemaResolver.{method}",
        lambda function: observe(function, Plan(operation, reader=read_envelope)),
        parameters=("source", *parameters),
    )


HOOKS = (
    _row("list_schemas", "catalog.resolve"),
    _row("list_tables", "catalog.resolve", "schema"),
    _row("profile_table", "catalog.profile", "schema", "table"),
    _row("profile_column", "catalog.profile", "schema", "table", "column"),
)
