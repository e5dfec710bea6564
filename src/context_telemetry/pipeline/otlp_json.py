"""Writes spans and log records as OTLP JSON text, without the messages and dicts that OpenTelemetry's encoder makes.

That encoder pins the SDK to its own minor release, and takes five times as long. What is written means the same:
`tests/test_otlp_json.py` compares them. What is empty may be written or left out, as protobuf's JSON allows.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from json.encoder import encode_basestring_ascii as quoted
from math import isfinite, isnan
from typing import Any, Final, TypeVar

from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import INVALID_SPAN_CONTEXT, Link, SpanContext

from context_telemetry.observe.fork import renew_in_child
from context_telemetry.pipeline.batch import one_by_one
from context_telemetry.pipeline.guard import Harmless

Item = TypeVar("Item", ReadableSpan, ReadableLogRecord)

# Flags: it is known whether the parent (of a link: what it leads to) is remote, and it is.
_KNOWN: Final = 0x100
_REMOTE: Final = 0x200
# OTLP has integers of 64 bits; a receiver refuses the whole request for another.
_BEYOND: Final = 2**63

# Attributes with a short word or a truth for a value are the same few all the time, and written once.
_words: dict[tuple[str, str | bool], str] = {}
_WORDS = frozenset({str, bool})
_MOST_WORDS = 4_096
_SHORT = 64
# By identity, because a resource makes JSON of itself to tell its hash.
_heads: dict[tuple[int, int], tuple[Resource, InstrumentationScope | None, tuple[str, str]]] = {}
_MOST_HEADS = 256
renew_in_child(_heads.clear)  # a resource says which process speaks


def spans_request(spans: Sequence[ReadableSpan]) -> str:
    """One export request in one line, without the line's end. What cannot be encoded is left out and counted; empty
    where there is nothing else.
    """
    return _request(spans, _span, "spans", ("resourceSpans", "scopeSpans", "spans"))


def logs_request(records: Sequence[ReadableLogRecord]) -> str:
    """The same of log records."""
    return _request(records, _log_record, "logs", ("resourceLogs", "scopeLogs", "logRecords"))


def _request(
    items: Sequence[Item], encode: Callable[[Item], str], place: str, lists: tuple[str, str, str]
) -> str:
    def with_heads(item: Item) -> tuple[tuple[str, str], str]:
        return _heads_of(item.resource, item.instrumentation_scope), encode(item)

    outermost, outer, inner = lists
    by_heads: dict[tuple[str, str], list[str]] = defaultdict(list)
    for heads, text in one_by_one(with_heads, items, place):
        by_heads[heads].append(text)
    by_resource: dict[str, list[str]] = defaultdict(list)
    for (resource, scope), texts in by_heads.items():
        by_resource[resource].append(f'{{{scope},"{inner}":[{",".join(texts)}]}}')
    resources = ",".join(f'{{{it},"{outer}":[{",".join(scopes)}]}}' for it, scopes in by_resource.items())
    text = f'{{"{outermost}":[{resources}]}}' if resources else ""
    return _of_whole_characters(text) if "\\ud" in text else text


def _of_whole_characters(text: str) -> str:
    """With U+FFFD for half a character, as Python has for bytes that are no UTF-8: no reader takes JSON with one."""
    spelt = json.dumps(json.loads(text), ensure_ascii=False)
    whole = spelt.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return json.dumps(json.loads(whole), separators=(",", ":"))


def _heads_of(resource: Resource, scope: InstrumentationScope | None) -> tuple[str, str]:
    """What stands beside the scopes of a resource, and beside the spans of a scope."""
    key = id(resource), id(scope)
    kept = _heads.get(key)
    if kept is None:
        if len(_heads) >= _MOST_HEADS:
            _heads.clear()
        heads = f'"resource":{{{_attributes(resource.attributes)[1:]}}}{_schema(resource)}', _scope(scope)
        kept = _heads[key] = resource, scope, heads  # alive, so that the identities stay theirs
    return kept[2]


def _scope(scope: InstrumentationScope | None) -> str:
    if scope is None:
        return '"scope":{}'
    version = f',"version":{quoted(scope.version)}' if scope.version else ""
    return f'"scope":{{"name":{quoted(scope.name)}{version}{_attributes(scope.attributes)}}}{_schema(scope)}'


def _schema(of: Resource | InstrumentationScope) -> str:
    return f',"schemaUrl":{quoted(of.schema_url)}' if of.schema_url else ""


def _span(span: ReadableSpan) -> str:
    context, parent, status = span.get_span_context() or INVALID_SPAN_CONTEXT, span.parent, span.status
    code = status.status_code.value
    text = (
        f'{{{_ids(context)},"flags":{_flags(parent)},"name":{quoted(span.name)},"kind":{span.kind.value + 1},'
        f'"startTimeUnixNano":"{span.start_time or 0}","endTimeUnixNano":"{span.end_time or 0}"'
        f"{_attributes(span.attributes)}"
    )
    if parent is not None:
        text += f',"parentSpanId":"{parent.span_id.to_bytes(8, "big").hex()}"'
    if context.trace_state:
        text += f',"traceState":{quoted(context.trace_state.to_header())}'
    text += f',"status":{{"code":{code}' if code else ',"status":{'
    if type(span) is Harmless:  # there is no more to it
        return text + "}}"
    if status.description:
        text += f'{"," if code else ""}"message":{quoted(status.description)}'
    return (
        f"{text}}}{_dropped('Attributes', span.dropped_attributes)}"
        f"{_all('events', map(_event, span.events))}{_dropped('Events', span.dropped_events)}"
        f"{_all('links', map(_link, span.links))}{_dropped('Links', span.dropped_links)}}}"
    )


def _event(event: Event) -> str:
    return (
        f'{{"timeUnixNano":"{event.timestamp or 0}","name":{quoted(event.name)}{_attributes(event.attributes)}'
        f"{_dropped('Attributes', event.dropped_attributes)}}}"
    )


def _link(link: Link) -> str:
    return (
        f'{{{_ids(link.context)},"flags":{_flags(link.context)}{_attributes(link.attributes)}'
        f"{_dropped('Attributes', link.dropped_attributes)}}}"
    )


def _log_record(given: ReadableLogRecord) -> str:
    record, dropped = given.log_record, _dropped("Attributes", given.dropped_attributes)
    text = (
        f'{{"timeUnixNano":"{record.timestamp or 0}","observedTimeUnixNano":"{record.observed_timestamp or 0}",'
        f'"body":{_value(record.body)}{_attributes(record.attributes)}{dropped},"flags":{int(record.trace_flags or 0)}'
    )
    if record.trace_id:
        text += f',"traceId":"{record.trace_id.to_bytes(16, "big").hex()}"'
    if record.span_id:
        text += f',"spanId":"{record.span_id.to_bytes(8, "big").hex()}"'
    number = getattr(record.severity_number, "value", None)
    if number is not None:
        text += f',"severityNumber":{number}'
    if record.severity_text:
        text += f',"severityText":{quoted(record.severity_text)}'
    if record.event_name:
        text += f',"eventName":{quoted(record.event_name)}'
    return text + "}"


def _ids(context: SpanContext) -> str:
    # To format a number of 128 bits takes twice as long.
    trace_id, span_id = context.trace_id.to_bytes(16, "big"), context.span_id.to_bytes(8, "big")
    return f'"traceId":"{trace_id.hex()}","spanId":"{span_id.hex()}"'


def _all(name: str, texts: Iterable[str]) -> str:
    joined = ",".join(texts)
    return f',"{name}":[{joined}]' if joined else ""


def _dropped(name: str, count: int) -> str:
    return f',"dropped{name}Count":{count}' if count else ""


def _flags(context: SpanContext | None) -> int:
    return _KNOWN | _REMOTE if context is not None and context.is_remote else _KNOWN


def _attributes(given: Any) -> str:
    if not given:
        return ""
    texts = []
    try:
        # Of the SDK's own mapping a dict: it takes its time over every item.
        for key, value in given.copy().items():
            word = _words.get((key, value)) if type(value) in _WORDS else None
            texts.append(word or _attribute(key, value))
    except Exception:  # one of them cannot be encoded: the others can
        texts = one_by_one(lambda pair: _attribute(*pair), list(given.items()), "exporter: attribute")
    return f',"attributes":[{",".join(texts)}]'


def _attribute(key: str, value: Any) -> str:
    text = f'{{"key":{quoted(key)},"value":{_value(value)}}}'
    if type(value) is bool or (type(value) is str and len(value) <= _SHORT):
        if len(_words) >= _MOST_WORDS:
            _words.clear()
        _words[key, value] = text
    return text


def _value(value: Any) -> str:
    kind = type(value)
    if kind is str:
        return f'{{"stringValue":{quoted(value)}}}'
    if kind is bool:
        return '{"boolValue":true}' if value else '{"boolValue":false}'
    if kind is int:
        if not -_BEYOND <= value < _BEYOND:
            raise OverflowError
        return f'{{"intValue":"{value}"}}'
    if kind is float and isfinite(value):
        return f'{{"doubleValue":{value!r}}}'
    if kind is tuple:
        return f'{{"arrayValue":{{"values":[{",".join(map(_value, value))}]}}}}'
    return _rare(value)


def _rare(value: Any) -> str:
    """What the SDK lets pass and hardly anybody sets."""
    if value is None:
        return "{}"
    if isinstance(value, str):
        return f'{{"stringValue":{quoted(value)}}}'
    if isinstance(value, int):
        return _value(int(value))
    if isinstance(value, float):
        text = repr(float(value)) if isfinite(value) else _not_finite(value)
        return f'{{"doubleValue":{text}}}'
    if isinstance(value, bytes):
        return f'{{"bytesValue":"{b64encode(value).decode()}"}}'
    if isinstance(value, Mapping):
        pairs = (f'{{"key":{quoted(str(key))},"value":{_value(each)}}}' for key, each in value.items())
        return f'{{"kvlistValue":{{"values":[{",".join(pairs)}]}}}}'
    if isinstance(value, Sequence):
        return _value(tuple(value))
    raise TypeError(type(value))


def _not_finite(value: float) -> str:
    if isnan(value):
        return '"NaN"'
    return '"Infinity"' if value > 0 else '"-Infinity"'
