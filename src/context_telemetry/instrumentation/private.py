"""Dataface's private package `dataface_super_schema`, by its documented names, where it is installed.

Its profiles are served before anything else, whatever their age, and a cache that cannot be read only means that the
warehouse is asked. Nobody here has seen the package: the rows follow the names that the public wheel imports and that
Dataface's documents give, a name that is not there is `absent`, and readers take the shapes that they find.
"""

from __future__ import annotations

import functools
import math
import os
import sys
import time
import types
from pathlib import Path
from typing import Any

from context_telemetry.conventions import names
from context_telemetry.instrumentation.hooks import Hook, Wrap
from context_telemetry.instrumentation.manifest_watch import artifact_changed
from context_telemetry.instrumentation.moments import seconds_since, unix_time
from context_telemetry.observe import board
from context_telemetry.observe.fork import on_forget
from context_telemetry.observe.observed import Plan, tap
from context_telemetry.observe.operation import current
from context_telemetry.observe.payload import utf8_size
from context_telemetry.observe.reading import Call, Reading, reader

_PACKAGE = "dataface_super_schema"
_LAYER = _ARTIFACT = "super_schema"
_CACHE = "target/super_schema.json"
_SUFFIX = ".json"
# Bytes of a file in which there is nothing to be read: an empty mapping and a line's end.
_EMPTY = 4


# -- profiling, and the file that profiles are kept in -------------------------------------------


@reader()
def read_profiling(call: Call) -> Reading | None:
    """The table that was profiled."""
    table = call.argument("model")
    return Reading(coordinates={"table": table}) if isinstance(table, str) else None


def _saved(call: Call) -> None:
    """A profile was written into the cache: it is as new as that profile."""
    if call.error is None:
        profile = call.argument("profile")
        built = unix_time(_field(profile, "profiled_at"))
        _artifact(_place(call.argument("self")), "ok", time.time() if built is None else built)


def _opened(call: Call) -> None:
    """The cache is about to be used; whether there is any is known now."""
    storage = call.argument("self")
    if call.error is None and _size(storage) == 0:
        _artifact(_place(storage), "missing", None)


def _field(of: Any, name: str) -> Any:
    return of.get(name) if isinstance(of, dict) else getattr(of, name, None)


# -- profiles that are served --------------------------------------------------------------------


@reader(layers=(_LAYER,))
def read_profiles(call: Call) -> Reading | None:
    """That the cache had an answer, and the age of the profile where it is that of one table."""
    if not isinstance(call.result, dict):
        return None
    age = seconds_since(unix_time(call.result.get("profiled_at")))
    return Reading(layers=(_LAYER,), ages={} if age is None else {_LAYER: age})


def _dated(call: Call) -> None:
    """The resolver asks the cache for its date whenever it has served from it."""
    op, built = current(), unix_time(call.result)
    age = seconds_since(built)
    if op is not None and age is not None:
        op.age(_LAYER, age)
        _artifact(_place(call.argument("self")), "ok", built)


def _read(call: Call) -> None:
    """The cache's file was read. Nothing came of it, or an exception did, although there is something in it."""
    op, source = current(), call.argument("self")
    if call.result:
        if _told.get(place := _place(source)) == _UNREADABLE:
            _artifact(place, "ok", unix_time(_field(call.result, "generated_at")))
    elif op is not None and (_size(source) or 0) > _EMPTY:
        op.degraded("layer_unavailable")
        op.attributes[names.DATAFACE_ARTIFACT] = _ARTIFACT
        _artifact(_place(source), *_UNREADABLE)


def _place(of: Any, depth: int = 2) -> Path | None:
    """The file that a source or a storage reads, where it is one: their fields are storages, paths and projects.

    One that is there before one that is not; a folder is a project's, and a file of another kind is another file.
    """
    absent = None
    for each in tuple(getattr(of, "__dict__", {}).values()):
        root = each if isinstance(each, Path) else getattr(each, "root", None)
        if isinstance(root, Path):
            found = root / _CACHE if root is not each or os.path.isdir(root) else root
        elif depth and type(each).__module__.startswith(_PACKAGE):
            found = _place(each, depth - 1)
        else:
            continue
        if found is not None and found.suffix == _SUFFIX:
            if os.path.isfile(found):
                return found
            absent = absent or found
    return absent


def _size(of: Any) -> float | None:
    """The bytes of the file; 0 where there is none, None where it is not known which, infinity where it is hidden."""
    place = _place(of)
    try:
        return None if place is None else place.stat().st_size
    except FileNotFoundError:
        return 0
    except OSError:
        return math.inf


_UNREADABLE = ("unreadable", None)
_told: dict[Path | None, tuple[str, float | None]] = {}


def _artifact(place: Path | None, state: str, built: float | None) -> None:
    """Say what the cache was found to be, when that is new."""
    if _told.get(place) == (state, built):
        return
    _told[place] = (state, built)
    artifact_changed(_ARTIFACT, state, built, warning=state == "unreadable")
    # Where it is unreadable, the call that met it begins the degradation; it is over when no project's is any more.
    if _UNREADABLE not in _told.values():
        board.told("layer_unavailable", _ARTIFACT, False)


@on_forget
def forget() -> None:
    """Say it all again to whoever records next."""
    _told.clear()


# -- what is built of them -----------------------------------------------------------------------


@reader()
def read_schema_context(call: Call) -> Reading | None:
    """The size of the text that goes into a prompt."""
    if not isinstance(call.result, str):
        return None
    return Reading(payload_size=utf8_size(call.result), payload_kind="schema_context")


# -- what it says of itself ----------------------------------------------------------------------

# Documented without the module that has them today.
_VERSIONS = ("PROFILER_CONTRACT_VERSION", "AI_CONTEXT_VERSION")


def contract_versions() -> dict[str, str]:
    """The versions of the package's contracts, from whichever of its imported modules names them. For `doctor`."""
    spaces = [
        vars(module)
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] == _PACKAGE and isinstance(module, types.ModuleType)
    ]
    return {name: str(space[name]) for space in spaces for name in _VERSIONS if name in space}


# -- rows ----------------------------------------------------------------------------------------


def _as_it_is(wrap: Wrap) -> Wrap:
    """``wrap`` for whatever kind of attribute bears the documented name; LookupError where it is none to be called."""

    def place(original: Any) -> Any:
        if isinstance(original, (classmethod, staticmethod)):
            return type(original)(wrap(original.__func__))
        if isinstance(original, property) and original.fget is not None:
            return property(wrap(original.fget), original.fset, original.fdel, original.__doc__)
        if isinstance(original, functools.cached_property):
            cached = functools.cached_property(wrap(original.func))
            cached.__set_name__(object, str(original.attrname))
            return cached
        if not isinstance(
            original, types.FunctionType
        ):  # nor `object.__init__`, where a class has none of its own
            raise LookupError(f"what bears the name is a {type(original).__name__}")
        return wrap(original)

    return place


def _row(module: str, target: str, wrap: Wrap, since: str = "0.1.2", until: str | None = None) -> Hook:
    return Hook(f"{_PACKAGE}.{module}", target, _as_it_is(wrap), since=since, until=until, optional=_PACKAGE)


_STORAGE, _SOURCE = "inspect.storage", "inspect.sources.super_schema"

HOOKS: tuple[Hook, ...] = (
    _row("inspect.inspector", "TableInspector.inspect_table", Plan("catalog.profile", reader=read_profiling)),
    _row("cli.commands.inspect", "inspect_all_command", Plan("catalog.profile")),
    _row(_STORAGE, "InspectionStorage.__init__", tap(_opened, outside=True)),
    _row(_STORAGE, "InspectionStorage.save_inspection", tap(_saved, outside=True)),
    _row(_STORAGE, "ProjectInspectionStorage.__init__", tap(_opened, outside=True), since="0.3.0"),
    _row(_SOURCE, "SuperSchemaSource.list_schemas", Plan("catalog.resolve", reader=read_profiles)),
    _row(_SOURCE, "SuperSchemaSource.list_tables", Plan("catalog.resolve", reader=read_profiles)),
    _row(_SOURCE, "SuperSchemaSource.profile_table", Plan("catalog.profile", reader=read_profiles)),
    _row(_SOURCE, "SuperSchemaSource.generated_at", tap(_dated)),
    _row(_SOURCE, "SuperSchemaSource._read_raw", tap(_read)),
    _row(
        "ai_schema_context",
        "get_schema_context",
        Plan("context.build", reader=read_schema_context),
        until="0.2.0",
    ),
    _row("inspect.relationship_context", "load_relationship_context", Plan("enrichment.load")),
    _row("inspect.relationship_warnings", "enrich_dashboard_fanout_warnings", Plan("enrichment.load")),
)
