"""Freshness beyond the manifest: answers from the result cache, and from database files that have been replaced.

It reads what the cache hands out, and which file a path names; it looks into neither. A result that was stored before
0.3.0 comes without its age.
"""

from __future__ import annotations

import datetime
import functools
import os
import time
from collections.abc import Iterable
from typing import Any

from opentelemetry.util.types import AttributeValue

from context_telemetry.conventions import names
from context_telemetry.instrumentation.hooks import Hook
from context_telemetry.observe.fork import on_forget
from context_telemetry.observe.observed import Plan, tap
from context_telemetry.observe.operation import Operation, current
from context_telemetry.observe.reading import Call, Reading, reader

_LAYER = "result_cache"
_EXECUTE = "dataface.core.execute"


# -- the result cache ----------------------------------------------------------------------------


def _age(written_at: Any, now: float) -> float | None:
    """Seconds since an aware time. A naive one is somebody's local time or UTC, and nobody says which."""
    if not isinstance(written_at, datetime.datetime) or written_at.tzinfo is None:
        return None
    return max(0.0, now - written_at.timestamp())


@reader(reasons=("failure_cached", "result_stale"), layers=(_LAYER,))
def read_cache(call: Call) -> Reading | None:
    """What the cache had: nothing, rows and their age, or a failure that is answered instead of a new attempt."""
    found = call.result
    if call.error is not None:
        return None
    attributes: dict[str, AttributeValue] = {names.DATAFACE_CACHE_HIT: found is not None}
    if found is None:
        return Reading(attributes=attributes)
    if isinstance(found, BaseException):
        return Reading(reasons=("failure_cached",), layers=(_LAYER,), attributes=attributes)
    rows = getattr(found, "rows", found)
    if isinstance(rows, list):
        attributes[names.DB_RESPONSE_RETURNED_ROWS] = len(rows)
    # As old as it was when the cache was asked, or a result at the end of its time would be late by the reading of it.
    op = current()
    age = _age(getattr(found, "written_at", None), op.start_ns / 1e9 if op is not None else time.time())
    if age is None:
        return Reading(layers=(_LAYER,), attributes=attributes)
    promise = call.argument("ttl")
    if isinstance(promise, datetime.timedelta):
        attributes[names.DATAFACE_STALENESS_LIMIT] = promise.total_seconds()
        late = age > promise.total_seconds()
    else:
        late = False
    return Reading(
        reasons=("result_stale",) if late else (), ages={_LAYER: age}, layers=(_LAYER,), attributes=attributes
    )


def _wrap_read(read: Any) -> Any:
    """A query on data files keeps their content under its hash in the same cache: that is no former result."""
    observed = Plan("cache.read", reader=read_cache)(read)

    @functools.wraps(read)
    def chosen(*args: Any, **kwargs: Any) -> Any:
        running = current()
        within_a_query = running is not None and running.name == "query.execute"
        return (read if within_a_query else observed)(*args, **kwargs)

    return chosen


def tell_age(op: Operation, executor: Any) -> None:
    """A dashboard is as old as the oldest of the stored results that it shows."""
    written: Iterable[Any] = getattr(executor, "cache_hit_ats", None) or ()
    now = time.time()
    for each in written:
        age = _age(each, now)
        if age is not None:
            op.age(_LAYER, age)


# -- database files ------------------------------------------------------------------------------
#
# DuckDB shares one open database among all connections of a process to the same path. While any of them is open, a new
# connection answers from the file that was there first, whatever file the path names now.

_File = tuple[int, int]
_MAX_FILES = 256
# More open descriptors than this are not looked through.
_MAX_DESCRIPTORS = 4_096
_OPEN_FILES = "/dev/fd"

_first_met: dict[str, _File] = {}
"""By path, the file that it named when a call first used it."""
_held_by: dict[_File, int] = {}
"""The descriptors that files were found to be held by: they are looked at again before all others are."""


def outlived(path: str) -> bool:
    """Whether this process still holds the file that ``path`` named before, though it names another one or none now."""
    try:
        found = os.stat(path)
        now: _File | None = (found.st_dev, found.st_ino)
    except OSError:
        now = None
    first = _first_met.get(path)
    if now == first:
        return False
    if first is not None and _is_held(first):
        return True
    if now is None:
        _first_met.pop(path, None)
    else:
        if len(_first_met) >= _MAX_FILES:
            _first_met.clear()
        _first_met[path] = now
    return False


def _is_held(file: _File) -> bool:
    """Whether one of this process's descriptors is of ``file``. An inode is not used again while somebody holds it."""
    holder = _held_by.pop(file, None)
    if holder is None or not _is_of(holder, file):
        try:
            descriptors = [int(each) for each in os.listdir(_OPEN_FILES)[:_MAX_DESCRIPTORS]]
        except (OSError, ValueError):
            return False
        holder = next((each for each in descriptors if _is_of(each, file)), None)
    if holder is None:
        return False
    if len(_held_by) >= _MAX_FILES:
        _held_by.clear()
    _held_by[file] = holder
    return True


def _is_of(descriptor: int, file: _File) -> bool:
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == file


def _database_path(holder: Any, config: Any) -> str | None:
    """The DuckDB file of a source's configuration, or else of the connection that ``holder`` has of its own."""
    if config is None:
        config = getattr(getattr(getattr(holder, "_adapter", None), "config", None), "credentials", None)
        config = config or getattr(holder, "source_config", None)
    path = getattr(config, "path", None)
    if getattr(config, "type", None) != "duckdb" or not isinstance(path, str) or path.startswith(":memory:"):
        return None
    if os.path.isabs(path):
        return path
    base = getattr(holder, "_data_dir", None) or getattr(holder, "project_root", None)
    return _joined(base, path) if base is not None else os.path.abspath(path)


@functools.lru_cache(maxsize=_MAX_FILES)
def _joined(base: Any, path: str) -> str:
    return os.path.join(base, path)


def look_at_file(op: Operation, holder: Any, config: Any = None) -> None:
    """Say so when what ``op`` is answered from is a file that its path does not name any more."""
    path = _database_path(holder, config)
    if path is not None and outlived(path):
        op.degraded("handle_outlived_file")


def _tap_live_source(call: Call) -> None:
    op = current()
    if op is not None and call.result is not None:
        look_at_file(op, call.result)


@on_forget
def forget() -> None:
    """Forget which files were met."""
    _first_met.clear()
    _held_by.clear()
    _joined.cache_clear()


# -- rows ----------------------------------------------------------------------------------------


def _read(module: str, target: str, since: str = "0.1.2", until: str | None = None) -> Hook:
    return Hook(
        f"{_EXECUTE}.{module}",
        target,
        _wrap_read,
        parameters=("source_hash", "query_hash"),
        since=since,
        until=until,
    )


def _refreshed(module: str, target: str, since: str, until: str | None = None) -> Hook:
    return Hook(
        module,
        target,
        Plan("session.refresh", inner=True),
        since=since,
        until=until,
    )


HOOKS: tuple[Hook, ...] = (
    _read("duckdb_cache", "DuckDBCache.get", until="0.1.5"),
    _read("duckdb_cache", "DuckDBCache.get_failure", until="0.1.5"),
    _read("trivial_local_cache", "TrivialDuckDBCache.get", since="0.2.0"),
    _read("_duckdb_cache_base", "_DuckDBResultCacheBase.get_failure", since="0.2.0", until="0.2.0"),
    Hook("dataface.core.inspect.resolver", "LayeredSchemaResolver._dbt_for", tap(_tap_live_source)),
    _refreshed("dataface.agent_api.project", "Project.refresh", since="0.1.5", until="0.1.5"),
    _refreshed("dataface.agent_api.project_session", "ProjectSession.refresh", since="0.2.0"),
)
