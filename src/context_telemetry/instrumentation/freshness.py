"""Freshness beyond the manifest: answers from the result cache, and from database files that have been replaced.

It reads what the cache hands out, and which file a path names; it looks into neither. Before 0.3.0 a stored result
comes without its age: there it is as old as this process saw it being stored.
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
from context_telemetry.instrumentation.hooks import Hook, Wrap
from context_telemetry.observe.fork import on_forget
from context_telemetry.observe.observed import Plan, tap
from context_telemetry.observe.operation import Operation, current
from context_telemetry.observe.reading import Call, Reader, Reading, reader

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


# Before 0.3.0 a cache knows when a result was stored and does not say it. This process remembers what it stored itself,
# which is all where the cache is in memory. What another process left in a file stays without an age: to know it would
# take a query on Dataface's own connection, which other threads use.

_MAX_STORED = 10_000
_Stored = tuple[Any, str, str, str]

_stored: dict[_Stored, float] = {}
"""The Unix time at which each result was stored, by its cache and its key; what was stored first comes first."""


def _stored_as(call: Call) -> _Stored | None:
    """Where a cache before 0.3.0 has a result: before 0.1.5 every render opens its file anew."""
    cache = call.argument("self")
    path = getattr(cache, "db_path", None)
    if path is None:
        place: Any = id(cache)  # a new cache in the place of a former one begins with a miss, which forgets
    else:
        try:
            found = os.stat(path)
        except OSError:
            return None
        place = (found.st_dev, found.st_ino)
    return place, call.argument("source_hash"), call.argument("query_hash"), call.argument("variables_hash")


def _tap_put(call: Call) -> None:
    op = current()
    within_a_query = op is not None and op.name == "query.execute"
    key = _stored_as(call) if call.argument("data") and not within_a_query else None
    if key is None:  # nothing was stored, or the content of a file
        return
    former = _stored.pop(key, None)
    if call.argument("is_full_refresh") is not False:
        former = None  # before 0.2.0 rows are added: those that were there stay, and are served with them
    stored = former if former is not None or call.error is not None else time.time()
    if stored is None:
        return
    _stored[key] = stored
    if len(_stored) > _MAX_STORED:
        for each in list(_stored)[: _MAX_STORED // 10]:
            _stored.pop(each, None)


def _tap_clear(call: Call) -> None:
    key = _stored_as(call)
    if key is not None:
        _stored.pop(key, None)


@reader(reasons=("failure_cached", "result_stale"), layers=(_LAYER,))
def read_stored(call: Call) -> Reading | None:
    """Before 0.3.0: what the cache had, with the age that this process knows of."""
    reading = read_cache(call)
    key = _stored_as(call) if reading is not None and _stored else None
    if reading is None or key is None:
        return reading
    if call.result is None:
        _stored.pop(key, None)
        return reading
    stored, op = _stored.get(key), current()
    if stored is None or op is None:
        return reading
    age = max(0.0, op.start_ns / 1e9 - stored)
    lasts = getattr(call.argument("self"), "result_ttl_seconds", None)
    if lasts is not None and age > lasts:  # in 0.1.5 rows were added since, and only those are served
        _stored.pop(key, None)
        return reading
    reading.ages = {_LAYER: age}
    if lasts is not None:
        reading.attributes = {**reading.attributes, names.DATAFACE_STALENESS_LIMIT: float(lasts)}
    if op.parent is not None and op.parent.name == "dashboard.render":
        op.parent.age(_LAYER, age)
    return reading


def _wrap_read(read_result: Reader) -> Wrap:
    """A query on data files keeps their content under its hash in the same cache: that is no former result."""

    def wrap(read: Any) -> Any:
        observed = Plan("cache.read", reader=read_result)(read)

        @functools.wraps(read)
        def chosen(*args: Any, **kwargs: Any) -> Any:
            running = current()
            within_a_query = running is not None and running.name == "query.execute"
            return (read if within_a_query else observed)(*args, **kwargs)

        return chosen

    return wrap


def tell_age(op: Operation, executor: Any) -> None:
    """A dashboard is as old as the oldest of the stored results that it shows."""
    written: Iterable[Any] = getattr(executor, "cache_hit_ats", None) or ()
    now = time.time()
    for each in written:
        age = _age(each, now)
        if age is not None:
            op.age(_LAYER, age)


def tell_recorded(op: Operation, recorded_at: Any) -> None:
    """A board shows the results that were stored in its recording."""
    age = _age(recorded_at, op.start_ns / 1e9)
    op.layers = (_LAYER,)
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
    """Forget which files were met, and when results were stored."""
    _stored.clear()
    _first_met.clear()
    _held_by.clear()
    _joined.cache_clear()


# -- rows ----------------------------------------------------------------------------------------


def _read(
    module: str, target: str, read: Reader = read_cache, since: str = "0.1.2", until: str | None = None
) -> Hook:
    return Hook(
        f"{_EXECUTE}.{module}",
        target,
        _wrap_read(read),
        parameters=("source_hash", "query_hash"),
        since=since,
        until=until,
    )


def _stores(module: str, target: str, since: str, until: str) -> Hook:
    return Hook(
        f"{_EXECUTE}.{module}",
        target,
        tap(_tap_put, outside=True),
        parameters=("source_hash", "query_hash", "variables_hash", "data"),
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
    _read("duckdb_cache", "DuckDBCache.get", read_stored, until="0.1.5"),
    _stores("duckdb_cache", "DuckDBCache.put", since="0.1.2", until="0.1.5"),
    Hook(
        f"{_EXECUTE}.duckdb_cache",
        "DuckDBCache.clear",
        tap(_tap_clear, outside=True),
        parameters=("source_hash", "query_hash", "variables_hash"),
        until="0.1.5",
    ),
    _read("duckdb_cache", "DuckDBCache.get_failure", until="0.1.5"),
    _read("trivial_local_cache", "TrivialDuckDBCache.get", read_stored, since="0.2.0", until="0.2.0"),
    _stores("trivial_local_cache", "TrivialDuckDBCache.put", since="0.2.0", until="0.2.0"),
    _read("trivial_local_cache", "TrivialDuckDBCache.get", since="0.3.0"),
    _read("_duckdb_cache_base", "_DuckDBResultCacheBase.get_failure", since="0.2.0", until="0.2.0"),
    Hook("dataface.core.inspect.resolver", "LayeredSchemaResolver._dbt_for", tap(_tap_live_source)),
    _refreshed("dataface.agent_api.project", "Project.refresh", since="0.1.5", until="0.1.5"),
    _refreshed("dataface.agent_api.project_session", "ProjectSession.refresh", since="0.2.0"),
)
