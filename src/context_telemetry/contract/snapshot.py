"""One look at a project's contract as it is now: the whole catalogue, tools and resources, and who uses what of it.

Calls no resolver and imports no Dataface: files of the project, one metadata query per source, and what somebody who
asked the MCP server hands in. It compares nothing and writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import duckdb

from context_telemetry.contract import catalogue, consumers, manifest, warehouse
from context_telemetry.contract.catalogue import Catalogue, Missing, Names, SourceState
from context_telemetry.contract.manifest import Manifest, ManifestError
from context_telemetry.contract.model import ResourceFacts, TableKey, ToolFacts, UnknownUse, Use
from context_telemetry.contract.sources import Sources, sources
from context_telemetry.contract.warehouse import Cause, Fetch

Progress = Callable[[str], None]
"""Is told what is looked at next: a source, a face."""


@dataclass(frozen=True)
class Snapshot:
    """What a project serves. Use it while the connection of its catalogue is open."""

    root: Path
    catalogue: Catalogue
    uses: tuple[Use, ...]
    """With the names of this catalogue: a use of what is gone is in ``unknown``, with the name."""
    unknown: tuple[UnknownUse, ...]
    missing: tuple[Missing, ...]
    """Declared and not served, and views that fail whoever reads them."""
    unchecked: tuple[TableKey, ...]
    """Views that could not be bound without reading what lies outside of their file."""
    configs: Sources
    declared: Manifest | None
    manifest_problem: str | None = None
    """Why the manifest could not be read; then nothing is known of what it declares."""
    tools: Mapping[str, ToolFacts] | None = None
    """None: not known."""
    resources: Mapping[str, ResourceFacts] | None = None
    refused: Mapping[TableKey, frozenset[str] | None] = field(default_factory=dict)
    """Columns (None: all) that are there and may not be read by whoever looked."""
    errors: Mapping[str, str] = field(default_factory=dict)
    """Of sources that could not be read, the class of what was raised."""
    causes: Mapping[str, Cause] = field(default_factory=dict)
    """Of those, why, where that is known."""

    @property
    def unread(self) -> tuple[SourceState, ...]:
        return tuple(state for state in self.catalogue.sources if state.unread)

    @property
    def unreadable(self) -> tuple[UnknownUse, ...]:
        """Faces that cannot be read, each with the file, the line and the reason."""
        return tuple(use for use in self.unknown if use.is_all)


def take(
    connection: duckdb.DuckDBPyConnection,
    root: Path,
    *,
    tools: Mapping[str, ToolFacts] | None = None,
    resources: Mapping[str, ResourceFacts] | None = None,
    without: frozenset[str] = frozenset(),
    fetch: Fetch | None = None,
    progress: Progress = lambda what: None,
) -> Snapshot:
    """Look at the project at ``root``, in a connection of `catalogue.connect`.

    Sources in ``without`` are not opened. Raises ProjectFileError where `dataface.yml` is not what Dataface takes; a
    source, a face or a manifest that cannot be read is told in the snapshot.
    """
    configs = sources(root)
    found = catalogue.new(connection)
    missing: list[Missing] = []
    unchecked: list[TableKey] = []
    refused: dict[TableKey, frozenset[str] | None] = {}
    errors: dict[str, str] = {}
    causes: dict[str, Cause] = {}
    for config in configs.configs:
        progress(f"source {config.name}")
        if config.name in without:
            state = SourceState(config.name, config.type, config.database, config.schema, _LEFT_OUT)
            found = found.with_source(state)
            continue
        served = warehouse.read(found, config, root, fetch)
        found = served.catalogue
        missing += served.broken
        unchecked += served.unchecked
        refused.update(served.refused)
        if served.error is not None:
            errors[config.name] = served.error
        if served.cause is not None:
            causes[config.name] = served.cause
    progress("manifest")
    declared, problem = None, None
    try:
        declared = manifest.read(root)
    except ManifestError as error:
        problem = str(error)
    if declared is not None:
        missing += manifest.declare(found, declared)
    used = consumers.uses(root, Names(found), configs, declared, progress)
    return Snapshot(
        root,
        found,
        tuple(used.known),
        tuple(used.unknown),
        tuple(missing),
        tuple(unchecked),
        configs,
        declared,
        problem,
        tools,
        resources,
        refused,
        errors,
        causes,
    )


_LEFT_OUT: Final = "was left out"


# -- what an MCP server lists ---------------------------------------------------------------------

_OF_SCHEMAS: Final = frozenset(
    {"properties", "$defs", "definitions", "patternProperties", "dependentSchemas"}
)
_SCHEMAS: Final = frozenset(
    {
        "additionalProperties", "allOf", "anyOf", "contains", "else", "if", "items", "not", "oneOf", "prefixItems",
        "propertyNames", "then", "unevaluatedItems", "unevaluatedProperties",
    }
)  # fmt: skip


def tool_facts(listed: Mapping[str, Any]) -> ToolFacts:
    """Of one entry of `tools/list`. Titles go, and a schema's own description: they repeat the names and the tool's."""
    description = str(listed.get("description") or "")
    output = listed.get("outputSchema")
    return ToolFacts(
        "\n".join(line.rstrip() for line in description.splitlines()).strip(),
        _without_description(_untitled(listed.get("inputSchema") or {})),
        None if output is None else _without_description(_untitled(output)),
        {key: value for key, value in (listed.get("annotations") or {}).items() if key != "title"},
    )


def resource_facts(listed: Mapping[str, Any]) -> ResourceFacts:
    """Of one entry of `resources/list` or `resources/templates/list`."""
    return ResourceFacts(str(listed.get("description") or ""), listed.get("mimeType"))


def _without_description(schema: Any) -> dict[str, Any]:
    return {key: value for key, value in dict(schema).items() if key != "description"}


def _untitled(schema: Any) -> Any:
    """A schema without the titles that a generator made of names; a property that is called `title` stays."""
    if isinstance(schema, list):
        return [_untitled(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: {name: _untitled(each) for name, each in value.items()}
        if key in _OF_SCHEMAS and isinstance(value, dict)
        else _untitled(value)
        if key in _SCHEMAS
        else value
        for key, value in schema.items()
        if key != "title"
    }
