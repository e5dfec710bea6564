"""Reads a project's local files back and answers questions about a window of them; it judges nothing.

Health counts only spans that carry an operation of ours; what neighbours recorded shows in `trace`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from context_telemetry.conventions import names
from context_telemetry.conventions.metric import Metric
from context_telemetry.history import files as local
from context_telemetry.history import sql
from context_telemetry.history.records import (
    Call,
    ChecksSeen,
    ErrorSeen,
    Event,
    ObjectServed,
    ProcessSeen,
    ReasonSeen,
    Served,
    Span,
    Spread,
    Traffic,
    Unresolved,
    Value,
)

if TYPE_CHECKING:
    import duckdb

_HEX = re.compile(r"[0-9a-f]{1,32}")
_AMBIGUOUS_SHOWN = 5


class TraceNotFound(LookupError):
    """No trace, or more than one, begins with what was asked for."""


class History:
    """The recorded past of one project. Times are Unix seconds; `since` leaves out what ended earlier.

    Files are read once, at the first question. An empty or missing folder has nothing to every question.
    """

    def __init__(self, folder: Path, *, since: float | None = None) -> None:
        self.folder, self.since = folder, since

    # What there is to read

    @cached_property
    def files(self) -> local.Files:
        return local.find(self.folder, "traces", self.since)

    @cached_property
    def event_files(self) -> local.Files:
        # All of them: a process says its state when it starts, perhaps long before the window.
        return local.find(self.folder, "events")

    @cached_property
    def unreadable(self) -> tuple[local.Unreadable, ...]:
        """Files that were skipped: not to be opened, or without one line of JSON."""
        return (*self.files.unreadable, *self.event_files.unreadable, *self._broken[0])

    @cached_property
    def cut_lines(self) -> Mapping[str, int]:
        """Lines that are no JSON, by file: the last line of a process that was killed or is just writing."""
        return self._broken[1]

    @cached_property
    def _broken(self) -> tuple[tuple[local.Unreadable, ...], dict[str, int]]:
        unreadable: list[local.Unreadable] = []
        cut: dict[str, int] = {}
        readable = (*self.files.readable, *self.event_files.readable)
        if readable:
            for file, invalid, total in self._rows(sql.broken_lines(readable)):
                name = Path(file).name
                if invalid == total and total > 1:
                    unreadable.append(local.Unreadable(name, "no line of it is JSON"))
                elif invalid:
                    cut[name] = invalid
        return tuple(unreadable), cut

    # Entries

    def served(self) -> list[Served]:
        return self._each(
            Served,
            """SELECT surface, client, operation, outcome, count(*) FROM entries
               GROUP BY ALL ORDER BY ALL""",
        )

    def objects_served(self) -> list[ObjectServed]:
        """Faces and tools, the most served first."""
        # A page, its render and its queries may each name the face: a trace counts once. A search names what it skips.
        return self._each(
            ObjectServed,
            """SELECT kind, name, count FROM (
                   SELECT 'face' AS kind, face AS name, count(DISTINCT trace_id) AS count FROM spans
                   WHERE face IS NOT NULL AND operation IS DISTINCT FROM 'dashboard.search' GROUP BY face
                   UNION ALL
                   SELECT 'tool', tool, count(*) FROM spans
                   WHERE tool IS NOT NULL AND operation = 'tool.call' GROUP BY tool
               ) ORDER BY count DESC, kind, name""",
        )

    def traffic(self) -> list[Traffic]:
        # What is over its limit is shown before what is larger and within one of its own.
        return self._each(
            Traffic,
            """SELECT surface, client, count(*),
                      count(*) FILTER (outcome = 'ok'), count(*) FILTER (outcome = 'degraded'),
                      count(*) FILTER (outcome = 'failed'),
                      count(*) FILTER (outcome = 'degraded' AND page IS NOT NULL AND reasons = ['resource_unknown']),
                      quantile_cont(seconds, 0.95),
                      arg_max(size, by_size), arg_max(size_limit, by_size), arg_max(age, by_age),
                      arg_max(age_layer, by_age), arg_max(age_limit, by_age)
               FROM (SELECT * REPLACE (coalesce(size, given) AS size),
                            (coalesce(size, given) > coalesce(size_limit, size, given),
                             coalesce(size, given)) AS by_size,
                            (age > coalesce(age_limit, age), age) AS by_age
                     FROM entries WHERE operation IS DISTINCT FROM 'check.run')  -- nobody's call
               GROUP BY surface, client ORDER BY count(*) DESC, surface, client""",
        )

    def checks(self) -> ChecksSeen | None:
        """Looks of `check` taken together; None where there was none."""
        seen: list[ChecksSeen] = self._each(
            ChecksSeen,
            """SELECT count(*), count(*) FILTER (outcome IS DISTINCT FROM 'ok'),
                      list_sort(list_distinct(flatten(list(coalesce(reasons, []))))), max(ended),
                      coalesce(arg_max(trace_id, ended) FILTER (outcome IS DISTINCT FROM 'ok'), '')
               FROM entries WHERE operation = 'check.run' HAVING count(*) > 0""",
        )
        return seen[0] if seen else None

    def reasons(self) -> list[ReasonSeen]:
        """Of calls, which a check is not: each minute it meets what is wrong, and is nobody who is hit."""
        return self._each(
            ReasonSeen,
            """SELECT reason, surface, sum(met)::BIGINT AS count, min(first), max(last), arg_max(trace_id, last),
                      coalesce(list(pid ORDER BY last DESC) FILTER (pid IS NOT NULL), [])
               FROM (SELECT reason, surface, pid, count(*) AS met, min(ended) AS first, max(ended) AS last,
                            arg_max(trace_id, ended) AS trace_id
                     FROM (SELECT *, unnest(list_distinct(reasons)) AS reason FROM entries
                           WHERE operation IS DISTINCT FROM 'check.run')
                     GROUP BY reason, surface, pid)
               GROUP BY reason, surface ORDER BY count DESC, reason, surface""",
        )

    def errors(self) -> list[ErrorSeen]:
        """Of calls that failed and have no reason, which would say more."""
        found: list[ErrorSeen] = self._each(
            ErrorSeen,
            """SELECT error, surface, sum(met)::BIGINT AS count, min(first), max(last), arg_max(trace_id, last),
                      coalesce(list(pid ORDER BY last DESC) FILTER (pid IS NOT NULL), []),
                      list(target ORDER BY met DESC, target)
               FROM (SELECT coalesce(error_code, error_type, '_OTHER') AS error, surface, pid,
                            coalesce(tool, resource, face, page, operation) AS target, count(*) AS met,
                            min(ended) AS first, max(ended) AS last, arg_max(trace_id, ended) AS trace_id
                     FROM entries WHERE outcome = 'failed' AND len(coalesce(reasons, [])) = 0
                          AND operation IS DISTINCT FROM 'check.run'
                     GROUP BY ALL)
               GROUP BY error, surface ORDER BY count DESC, error, surface""",
        )
        return [
            replace(each, pids=tuple(dict.fromkeys(each.pids)), targets=tuple(dict.fromkeys(each.targets)))
            for each in found
        ]

    def calls(
        self,
        *,
        outcome: str | None = None,
        reason: str | None = None,
        operation: str | None = None,
        surface: str | None = None,
        client: str | None = None,
        pid: int | None = None,
        limit: int = 50,
    ) -> list[Call]:
        """Entries, newest first, also those whose method is outside the vocabulary; of an ``operation``, all calls.

        A tool that fails inside an agent's turn is such a one: the turn has answered all the same.
        ``reason`` is one, or what is listed beside them: an `error.type`, or a code of Dataface's.
        """
        return self._each(
            Call,
            f"""SELECT ended, trace_id, surface, client,
                      coalesce(operation, method, name), coalesce(tool, resource, face, {sql.page()}, method, name),
                      outcome, coalesce(reasons, []), error_type, error_code, seconds, coalesce(size, given),
                      size_limit, pid, release
               FROM spans WHERE (entry OR (operation IS NULL AND method IS NOT NULL) OR operation = $operation)
                  AND ($outcome IS NULL OR outcome = $outcome)
                  AND ($reason IS NULL OR list_contains(reasons, $reason) OR $reason IN (error_type, error_code))
                  AND ($operation IS NULL OR operation = $operation)
                  AND ($surface IS NULL OR surface = $surface)
                  AND ($client IS NULL OR client = $client)
                  AND ($pid IS NULL OR pid = $pid)
               ORDER BY ended DESC LIMIT $limit""",
            {
                "outcome": outcome,
                "reason": reason,
                "operation": operation,
                "surface": surface,
                "client": client,
                "pid": pid,
                "limit": limit,
            },
        )

    def sizes(self) -> list[Spread]:
        """Payload sizes by kind: of entries, and of what an agent's model was given inside of one.

        An agent's turn is a `conversation`: all that its model was given at the last call.
        """
        return [
            *self._spread("spans", "size_kind", "size", "size_limit"),
            *self._spread("entries", "'conversation'", "given", "NULL"),
        ]

    def ages(self) -> list[Spread]:
        """Ages of what entries served, by layer."""
        return self._spread("entries", "age_layer", "age", "age_limit")

    def durations(self) -> list[Spread]:
        """Durations of inner operations by name."""
        return self._spread("(SELECT * FROM spans WHERE NOT entry)", "operation", "seconds", "NULL")

    def unresolved(self) -> list[Unresolved]:
        return self._each(
            Unresolved,
            """SELECT surface, sum(unresolved)::BIGINT, count(DISTINCT trace_id) FROM spans
               WHERE unresolved > 0 GROUP BY 1 ORDER BY 1""",
        )

    def added(
        self,
        metric: Metric,
        where: Mapping[str, frozenset[str]],
        unless: Mapping[str, frozenset[str]],
        above: float | None = None,
    ) -> dict[str | None, float]:
        """How much of a metric of spans there was, by surface; None where the metric has none.

        A label in ``where`` has one of the values, one in ``unless`` none of them. A histogram counts measurements,
        those ``above`` a boundary alone. Raises KeyError where the metric needs what the history does not read.
        """
        return dict(self._spans.execute(sql.added(metric, where, unless, above)).fetchall())

    def processes(self) -> list[ProcessSeen]:
        """Those that served, the sick first: a check that is started each minute is no process to be told of."""
        return self._each(
            ProcessSeen,
            """SELECT any_value(pid), instance, any_value(release),
                      min(started), max(ended),
                      coalesce(list_sort(list_distinct(list(client) FILTER (entry))), []),
                      count(*) FILTER (entry),
                      coalesce(list_sort(list_distinct(list(surface) FILTER (entry))), []),
                      count(*) FILTER (entry AND outcome IS DISTINCT FROM 'ok') AS not_ok
               FROM spans GROUP BY instance HAVING NOT coalesce(bool_or(operation = 'check.run'), false)
               ORDER BY not_ok > 0 DESC, max(ended) DESC""",
        )

    # Events

    @cached_property
    def events(self) -> list[Event]:
        """Every event of ours, oldest first, also those from before the window."""
        if not self.event_files.readable:
            return []
        rows = self._rows(
            f"""SELECT item, instance, release, pid
                FROM {sql.items(self.event_files.readable, "logRecords", "JSON")}
                WHERE scope = '{names.SCOPE}'"""
        )
        found = []
        for item, instance, release, pid in rows:
            record = json.loads(item)
            nanos = int(record.get("timeUnixNano") or record.get("observedTimeUnixNano") or 0)
            name, attributes = record.get("eventName", ""), _attributes(record)
            found.append(Event(nanos / 1e9, name, instance, release, pid, attributes))
        return sorted(found, key=lambda event: event.time)

    def last_events(self, name: str, key: str | None = None) -> list[Event]:
        """The last event of a name from each process, oldest first; with `key`, for each value of that attribute."""
        last: dict[Value, Event] = {}
        for event in self.events:
            if event.name == name:
                whose = event.attributes.get(key) if key else event.instance
                last.pop(whose, None)  # or it would stand where its first one stood
                last[whose] = event
        return list(last.values())

    # One trace

    def trace(self, prefix: str) -> list[Span]:
        """The spans of the one trace whose id begins so, by start; the window does not matter here.

        Raises TraceNotFound when there is no such trace or more than one.
        """
        prefix = prefix.strip().lower()
        if not _HEX.fullmatch(prefix):
            raise TraceNotFound(f"{prefix!r} is no trace id: it has up to 32 digits 0-9 a-f")
        readable = local.find(self.folder, "traces").readable
        rows: list[tuple[Any, ...]] = []
        if readable:
            rows = self._rows(
                f"""SELECT scope, pid, release, item FROM {sql.items(readable, "spans", "JSON", containing=prefix)}
                    WHERE starts_with(json_extract_string(item, '$.traceId'), $prefix)""",
                {"prefix": prefix},
            )
        spans = [_span(scope, pid, release, json.loads(item)) for scope, pid, release, item in rows]
        ids = sorted({span.trace_id for span in spans})
        if not ids:
            raise TraceNotFound(f"no trace in {self.folder} begins with {prefix}")
        if len(ids) > 1:
            shown = ", ".join(ids[:_AMBIGUOUS_SHOWN])
            raise TraceNotFound(f"{len(ids)} traces begin with {prefix}: {shown}{', ...' if ids[5:] else ''}")
        return sorted(spans, key=lambda span: (span.start, -span.end))

    # How it is asked

    @cached_property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        import duckdb  # 0.1 s that only a question costs

        # In memory, and nothing spilled: the default would make a folder where the command was started.
        return duckdb.connect(config={"temp_directory": "", "autoinstall_known_extensions": False})

    @cached_property
    def _spans(self) -> duckdb.DuckDBPyConnection:
        connection = self._connection
        broken = {unreadable.name for unreadable in self._broken[0]}
        readable = [path for path in self.files.readable if path.name not in broken]
        connection.execute(sql.fill_spans(readable, self.since))
        connection.execute(
            """CREATE OR REPLACE TEMP VIEW entries AS SELECT * REPLACE (coalesce(operation, method, name) AS operation)
               FROM spans WHERE entry"""
        )
        return connection

    def _rows(self, query: str, parameters: Mapping[str, Value] | None = None) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, dict(parameters or {})).fetchall()

    def _each(
        self, record: Callable[..., Any], query: str, parameters: Mapping[str, Value] | None = None
    ) -> list[Any]:
        rows = self._spans.execute(query, dict(parameters or {})).fetchall()
        return [record(*(tuple(cell) if isinstance(cell, list) else cell for cell in row)) for row in rows]

    def _spread(self, relation: str, name: str, value: str, limit: str) -> list[Spread]:
        return self._each(
            Spread,
            f"""SELECT {name}, surface, count(*), quantile_cont({value}, 0.5),
                       quantile_cont({value}, 0.95), max({value})::DOUBLE, min({limit})::DOUBLE,
                       count(*) FILTER ({value} > {limit})
                FROM {relation} WHERE {value} IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2""",
        )


def _span(scope: str, pid: int | None, release: str | None, span: Mapping[str, Any]) -> Span:
    return Span(
        trace_id=span.get("traceId", ""),
        span_id=span.get("spanId", ""),
        parent_id=span.get("parentSpanId") or "",
        scope=scope,
        name=span.get("name", ""),
        kind=int(span.get("kind") or 0),
        start=int(span.get("startTimeUnixNano") or 0) / 1e9,
        end=int(span.get("endTimeUnixNano") or 0) / 1e9,
        failed=(span.get("status") or {}).get("code") == 2,
        pid=pid,
        release=release,
        attributes=_attributes(span),
    )


def _attributes(record: Mapping[str, Any]) -> dict[str, Value]:
    return {entry["key"]: _value(entry.get("value") or {}) for entry in record.get("attributes") or ()}


def _value(value: Mapping[str, Any]) -> Value:
    if "intValue" in value:
        return int(value["intValue"])
    if "arrayValue" in value:
        return tuple(_value(each) for each in value["arrayValue"].get("values") or ())
    for kind in ("stringValue", "boolValue", "doubleValue"):
        if kind in value:
            plain: Value = value[kind]
            return plain
    return None
