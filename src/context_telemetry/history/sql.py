"""The statements that read OTLP JSON lines with DuckDB; nothing here knows what a number means.

A line is parsed once, into a typed structure that names only what is read. Each step then hands on nothing
but small columns beside the list that the next one unnests: a row that still refers to its whole line costs a
copy of it per span, and minutes instead of a second.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from context_telemetry.conventions import names
from context_telemetry.conventions.metric import Metric
from context_telemetry.observe.reading import COORDINATES
from context_telemetry.pipeline import line

_BUFFER_BYTES = 2 * line.LONGEST

_VALUE = {
    "stringValue": "VARCHAR",
    "intValue": "BIGINT",
    "doubleValue": "DOUBLE",
    "boolValue": "BOOLEAN",
    "arrayValue": {"values": [{"stringValue": "VARCHAR"}]},
}
_ATTRIBUTES_SHAPE = [{"key": "VARCHAR", "value": _VALUE}]
_SPAN_SHAPE = {
    "traceId": "VARCHAR",
    "spanId": "VARCHAR",
    "name": "VARCHAR",
    "startTimeUnixNano": "BIGINT",
    "endTimeUnixNano": "BIGINT",
    "attributes": _ATTRIBUTES_SHAPE,
}

# Column of the table `spans` <- attribute of the span and the field of its value, or for the resource likewise.
_TEXT, _WHOLE, _REAL, _TRUTH, _TEXTS = (
    "stringValue",
    "intValue",
    "doubleValue",
    "boolValue",
    "arrayValue.values",
)
_COLUMNS = (
    ("entry", names.DATAFACE_ENTRY, _TRUTH),
    ("operation", names.DATAFACE_OPERATION_NAME, _TEXT),
    ("surface", names.DATAFACE_SURFACE, _TEXT),
    ("client", names.DATAFACE_CLIENT_NAME, _TEXT),
    ("outcome", names.DATAFACE_OUTCOME, _TEXT),
    ("reasons", names.DATAFACE_DEGRADATION_REASONS, _TEXTS),
    ("unresolved", names.DATAFACE_CATALOG_UNRESOLVED, _WHOLE),
    ("size", names.DATAFACE_PAYLOAD_SIZE, _WHOLE),
    ("size_kind", names.DATAFACE_PAYLOAD_KIND, _TEXT),
    ("size_limit", names.DATAFACE_PAYLOAD_LIMIT, _WHOLE),
    ("given", names.DATAFACE_CONVERSATION_SIZE, _WHOLE),
    ("age", names.DATAFACE_STALENESS_AGE, _REAL),
    ("age_layer", names.DATAFACE_STALENESS_LAYER, _TEXT),
    ("age_limit", names.DATAFACE_STALENESS_LIMIT, _REAL),
    ("error_type", names.ERROR_TYPE, _TEXT),
    ("error_code", names.DATAFACE_ERROR_CODE, _TEXT),
    ("method", names.MCP_METHOD_NAME, _TEXT),
    ("tool", names.GEN_AI_TOOL_NAME, _TEXT),
    ("resource", names.MCP_RESOURCE_URI, _TEXT),
    ("face", names.DATAFACE_FACE, _TEXT),
    ("page", names.DATAFACE_PAGE, _TEXT),
)
# What a page was asked for. Looked up of pages alone: each of these costs a twentieth of the whole reading.
_ASKED_COLUMNS = tuple((f"asked_{part}", name, _TEXT) for part, name in COORDINATES.items())
_RESOURCE_COLUMNS = (
    ("instance", "service.instance.id", _TEXT),
    ("release", "service.version", _TEXT),
    ("pid", "process.pid", _WHOLE),
)
_ALL_COLUMNS = (*_COLUMNS, *_ASKED_COLUMNS, *_RESOURCE_COLUMNS)
_COLUMN_OF = {name: column for column, name, _ in _COLUMNS}
_TYPES = {_TEXT: "VARCHAR", _WHOLE: "BIGINT", _REAL: "DOUBLE", _TRUTH: "BOOLEAN", _TEXTS: "VARCHAR[]"}
_TYPE_OF = {column: _TYPES[field] for column, _, field in _COLUMNS}


def added(
    metric: Metric,
    where: Mapping[str, frozenset[str]],
    unless: Mapping[str, frozenset[str]],
    above: float | None,
) -> str:
    """(surface, how much) of a metric that derives from spans, over the table `spans`, as `conventions.derive` counts.

    Of a histogram that is how many measurements, or how many ``above`` a boundary. The surface is null where the
    metric has none.
    """
    when, labels = metric.when, metric.read_from or {}
    value = (
        str(metric.value)
        if isinstance(metric.value, int)
        else "seconds"
        if metric.value == "duration"
        else _column(metric.value)
    )
    conditions = [f"{value} IS NOT NULL"]
    conditions += ["entry"] if when.get("entry") else []
    conditions += [f"{_column(name)} IS NOT NULL" for name in when.get("has", ())]
    conditions += [f"{_column(name)} IS NULL" for name in when.get("not_has", ())]
    source = f"SELECT * FROM spans WHERE {' AND '.join(conditions)}"
    if metric.each is not None:
        source = f"SELECT *, unnest(list_distinct({_column(metric.each)})) AS item FROM ({source})"

    def read(label: str) -> str:
        name = labels.get(label, label)
        if name == metric.each:
            return "item"
        column = _column(name)
        return f"{column}[1]" if _TYPE_OF[column] == "VARCHAR[]" else column

    chosen = [f"{read(label)} IN ({_texts(values)})" for label, values in where.items()]
    chosen += [f"coalesce({read(label)} NOT IN ({_texts(values)}), true)" for label, values in unless.items()]
    chosen += [f"{value} > {above!r}"] if above is not None else []
    surface = _column(names.DATAFACE_SURFACE) if names.DATAFACE_SURFACE in metric.attributes else "NULL"
    amount = f"sum({value})" if metric.instrument == "counter" else "count(*)"
    return f"SELECT {surface}, {amount}::DOUBLE FROM ({source}) WHERE {' AND '.join(chosen or ['true'])} GROUP BY 1"


def _column(attribute: str) -> str:
    return _COLUMN_OF[attribute]


def _texts(values: frozenset[str]) -> str:
    return ", ".join("'" + each.replace("'", "''") + "'" for each in sorted(values))


def page() -> str:
    """The page of a call, with the names that were asked for in their places: `/data/shop/main/orders/`."""
    told = "page"
    for part in COORDINATES:
        told = f"replace({told}, '{{{part}}}', coalesce(asked_{part}, '{{{part}}}'))"
    return told


def lines(files: Sequence[Path]) -> str:
    """A relation (file, line) of every line of the files, whatever is in it.

    Read as one column of text without quotes: several times quicker than DuckDB's JSON reader, and a line
    that is no UTF-8 is left out where the JSON reader would give up the file.
    """
    listed = ", ".join(_quoted(path) for path in files)
    return (
        f"(SELECT filename AS file, line FROM read_csv([{listed}], columns={{'line': 'VARCHAR'}}, "
        f"delim='\\x01', quote='', escape='', header=false, auto_detect=false, filename=true, "
        f"ignore_errors=true, max_line_size={line.LONGEST}, buffer_size={_BUFFER_BYTES}))"
    )


def broken_lines(files: Sequence[Path]) -> str:
    """(file, lines that are no JSON, lines) for each file that has lines."""
    return f"SELECT file, count(*) FILTER (NOT json_valid(line)), count(*) FROM {lines(files)} GROUP BY file"


def fill_spans(files: Sequence[Path], since: float | None) -> str:
    """Fill the table `spans` with what health needs of every span of ours that ended in the window.

    Also of a neighbour's span that carries an operation of ours: FastAPI's own of a page.
    """
    declared = ", ".join(f"{column} {_TYPES[field]}" for column, _, field in _ALL_COLUMNS)
    fixed = "trace_id VARCHAR, name VARCHAR, started DOUBLE, ended DOUBLE, seconds DOUBLE"
    table = f"CREATE OR REPLACE TEMP TABLE spans ({fixed}, {declared})"
    if not files:
        return table
    picked = ", ".join(
        (
            *(_pick("attributes", "keys", name, field) for _, name, field in _COLUMNS),
            *(
                f"CASE WHEN list_contains(keys, '{names.DATAFACE_PAGE}') "
                f"THEN {_pick('attributes', 'keys', name, field)} END"
                for _, name, field in _ASKED_COLUMNS
            ),
        )
    )
    window = "" if since is None else f"AND span.endTimeUnixNano >= {int(since * 1e9)}"
    resource = ", ".join(column for column, _, _ in _RESOURCE_COLUMNS)
    return f"""{table};
        INSERT INTO spans
        SELECT span.traceId, span.name, span.startTimeUnixNano / 1e9, span.endTimeUnixNano / 1e9,
               (span.endTimeUnixNano - span.startTimeUnixNano) / 1e9, {picked}, {resource}
        FROM (
            SELECT item AS span, item.attributes AS attributes, scope, {resource},
                   [a.key FOR a IN item.attributes] AS keys
            FROM {items(files, "spans", _SPAN_SHAPE)}
        ) WHERE (scope = '{names.SCOPE}' OR list_contains(keys, '{names.DATAFACE_OPERATION_NAME}'))
            AND span.traceId IS NOT NULL {window}"""


def items(
    files: Sequence[Path], signal: str, shape: Mapping[str, Any] | str, *, containing: str | None = None
) -> str:
    """A relation (item, scope, instance, release, pid): one row per span or log record.

    `signal` is `spans` or `logRecords`; `shape` what is read of each, or "JSON" for all of it as text. With
    `containing`, only lines that contain this text are taken apart.
    """
    batches, groups = ("resourceSpans", "scopeSpans") if signal == "spans" else ("resourceLogs", "scopeLogs")
    whole = {
        batches: [
            {
                "resource": {"attributes": _ATTRIBUTES_SHAPE},
                groups: [{"scope": {"name": "VARCHAR"}, signal: [shape]}],
            }
        ]
    }
    wanted = "json_valid(line)" + (f" AND contains(line, '{containing}')" if containing else "")
    resource = ", ".join(column for column, _, _ in _RESOURCE_COLUMNS)
    picked = ", ".join(
        f"{_pick('attributes', 'keys', name, field)} AS {column}" for column, name, field in _RESOURCE_COLUMNS
    )
    return f"""(
        SELECT unnest(items) AS item, scope, {resource} FROM (
            SELECT grp.{signal} AS items, coalesce(grp.scope.name, '') AS scope, {resource} FROM (
                SELECT unnest(groups) AS grp, {resource} FROM (
                    SELECT groups, {picked} FROM (
                        SELECT batch.{groups} AS groups, batch.resource.attributes AS attributes,
                               [a.key FOR a IN batch.resource.attributes] AS keys
                        FROM (SELECT unnest(from_json(line, '{json.dumps(whole)}').{batches}) AS batch
                              FROM {lines(files)} WHERE {wanted})
                    )
                )
            )
        )
    )"""


def _pick(attributes: str, keys: str, name: str, field: str) -> str:
    value = f"{attributes}[list_position({keys}, '{name}')].value.{field}"
    return f"[each.stringValue FOR each IN {value}]" if field == _TEXTS else value


def _quoted(path: Path) -> str:
    # DuckDB reads paths as UTF-8, whatever this process's locale makes of them.
    # A path is a pattern to it: a bracket in a folder's name must not become one.
    name = os.fsencode(path).decode("utf-8", errors="replace")
    pattern = "".join(f"[{char}]" if char in "[*?" else char for char in name)
    return "'" + pattern.replace("'", "''") + "'"
