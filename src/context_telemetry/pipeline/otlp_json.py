"""Writes spans as OTLP JSON text, without the messages and dicts that the official encoder makes of them first.

It knows what most spans have. One with anything else goes to the official encoder, and so do resources and scopes,
once each. What is written means the same: `tests/test_otlp_json.py` compares them.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from json.encoder import encode_basestring_ascii as quoted
from math import isfinite
from typing import Any, Final

from opentelemetry.exporter.otlp.json.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext

from context_telemetry.pipeline.batch import one_by_one
from context_telemetry.pipeline.guard import Harmless

# Flags: it is known whether the parent (of a link: what it leads to) is remote, and it is.
_KNOWN: Final = 0x100
_REMOTE: Final = 0x200

# Attributes with a short word or a truth for a value are the same few all the time, and written once.
_words: dict[tuple[str, str | bool], str] = {}
_WORDS = frozenset({str, bool})
_MOST_WORDS = 4_096
_SHORT = 64
# By identity, because a resource makes JSON of itself to tell its hash.
_heads: dict[tuple[int, int], tuple[Resource, InstrumentationScope | None, tuple[str, str]]] = {}
_MOST_HEADS = 256


def request(spans: Sequence[ReadableSpan]) -> str:
    """One export request in one line, without the line's end. What cannot be encoded is left out and counted."""
    by_heads: dict[tuple[str, str], list[str]] = defaultdict(list)
    for heads, text in one_by_one(_with_heads, spans, "spans"):
        by_heads[heads].append(text)
    by_resource: dict[str, list[str]] = defaultdict(list)
    for (resource, scope), texts in by_heads.items():
        by_resource[resource].append(f"{scope}{','.join(texts)}]}}")
    closed = ",".join(f"{resource}{','.join(scopes)}]}}" for resource, scopes in by_resource.items())
    return f'{{"resourceSpans":[{closed}]}}'


def _heads_of(resource: Resource, scope: InstrumentationScope | None) -> tuple[str, str]:
    """What stands before the scopes of a resource, and before the spans of a scope."""
    key = id(resource), id(scope)
    kept = _heads.get(key)
    if kept is None:
        if len(_heads) >= _MOST_HEADS:
            _heads.clear()
        outer = _official(ReadableSpan("", resource=resource, instrumentation_scope=scope))
        (inner,) = outer.pop("scopeSpans")
        del inner["spans"]
        heads = _json(outer)[:-1] + ',"scopeSpans":[', _json(inner)[:-1] + ',"spans":['
        kept = _heads[key] = resource, scope, heads  # alive, so that the identities stay theirs
    return kept[2]


def _official(span: ReadableSpan) -> dict[str, Any]:
    (found,) = encode_spans([span]).to_dict()["resourceSpans"]
    return found  # type: ignore[no-any-return]  # the official encoder's messages are no types


def _json(message: Any) -> str:
    return json.dumps(message, separators=(",", ":"))


def _with_heads(span: ReadableSpan) -> tuple[tuple[str, str], str]:
    heads = _heads_of(span.resource, span.instrumentation_scope)
    try:
        return heads, _span(span)
    except Exception:  # it has something that is not known here
        return heads, _json(_official(span)["scopeSpans"][0]["spans"][0])


def _span(span: ReadableSpan) -> str:
    context, parent, status = span.get_span_context(), span.parent, span.status
    name, began, ended, code = span.name, span.start_time, span.end_time, status.status_code.value
    if context is None or not (name and began and ended):
        raise ValueError
    text = (
        f'{{{_ids(context)},"flags":{_flags(parent)},"name":{quoted(name)},'
        f'"kind":{span.kind.value + 1},"startTimeUnixNano":"{began}","endTimeUnixNano":"{ended}"'
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
    if not (event.name and event.timestamp):
        raise ValueError
    return (
        f'{{"timeUnixNano":"{event.timestamp}","name":{quoted(event.name)}{_attributes(event.attributes)}'
        f"{_dropped('Attributes', event.dropped_attributes)}}}"
    )


def _link(link: Link) -> str:
    return (
        f'{{{_ids(link.context)},"flags":{_flags(link.context)}{_attributes(link.attributes)}'
        f"{_dropped('Attributes', link.dropped_attributes)}}}"
    )


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
    for key, value in given.copy().items():  # a dict: the SDK's own mapping takes its time over every item
        word = _words.get((key, value)) if type(value) in _WORDS else None
        texts.append(word or _attribute(key, value))
    return f',"attributes":[{",".join(texts)}]'


def _attribute(key: str, value: Any) -> str:
    if not key:
        raise ValueError
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
        return f'{{"intValue":"{value}"}}'
    if kind is float and isfinite(value):
        return f'{{"doubleValue":{value!r}}}'
    if kind is tuple and value:
        return f'{{"arrayValue":{{"values":[{",".join(map(_value, value))}]}}}}'
    raise TypeError(kind)
