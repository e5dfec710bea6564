"""Keeps content out of what is exported, from every scope: neighbours such as FastAPI's own spans leak it.

It stands before an exporter, in the exporter's thread, and never changes a span that others see: what has to
change is rebuilt, the rest passes as it is. What cannot be judged is not exported. Metrics carry no content
in any convention.
"""

from __future__ import annotations

import copy
import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, TypeVar

from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Link, Status

from context_telemetry.conventions import names
from context_telemetry.pipeline.batch import one_by_one

T = TypeVar("T")
REDACTED: Final = "[redacted]"
MAX_LENGTH: Final = 1_024

# What conventions and instrumentations put content into: statements, arguments, results, messages, error
# texts, query strings, people, and where code lies on somebody's disk.
DROPPED_KEYS: Final = frozenset(
    {
        "code.file.path",
        "code.filepath",
        "code.stacktrace",
        "db.query.text",
        "db.statement",
        "document.content",
        "embedding.text",
        "exception.message",
        "exception.stacktrace",
        "gen_ai.completion",
        "gen_ai.prompt",
        "gen_ai.system_instructions",
        "gen_ai.tool.call.arguments",
        "gen_ai.tool.call.result",
        "graphql.document",
        "http.url",
        "input.value",
        "log.record.original",
        "message",
        "output.value",
        "process.command",
        "process.command_args",
        "process.command_line",
        "process.owner",
        "tool.parameters",
        "traceloop.entity.input",
        "traceloop.entity.output",
        "url.full",
        "url.original",
        "url.query",
    }
)
DROPPED_PREFIXES: Final = (
    "db.operation.parameter.",
    "db.query.parameter.",
    "enduser.",
    "http.request.header.",
    "http.response.header.",
    "llm.input_messages",
    "llm.output_messages",
    "llm.prompt",
    "logfire.msg",
    "mcp.request.argument",
    "retrieval.documents",
    "user.",
)
DROPPED_SUFFIXES: Final = (
    ".arguments",
    ".body",
    ".completion",
    ".connection_string",
    ".messages",
    ".password",
    ".prompt",
    ".stacktrace",
)
# The address of a resource is worth having, what follows it is a query string.
CUT_AT_QUERY: Final = frozenset({"mcp.resource.uri"})
# Anybody can ask for any path: that there was one is kept, `dataface.page` and `dataface.face` say what it was.
HIDDEN: Final = frozenset({"http.target", "url.path"})
KEPT_OF_EXCEPTIONS: Final = frozenset({"exception.type"})


def _personal() -> re.Pattern[str]:
    """What a value must not have: credentials, and paths that name a user, to the value's end.

    To the end, because a folder's name may have spaces and what follows a credential cannot be told from it.
    """
    absolute = r"(?<![\w.\-])"  # a path inside the project may have a folder of such a name
    parts = [
        r"[A-Za-z][A-Za-z0-9+.\-]*://[^\s/@]*:\S*@",
        r"\b(?:password|passwd|pwd|secret|token|api[_-]?key|authorization)\s*[=:]",
        absolute + r"/(?:home|Users)/[^/\s]",
        absolute + r"/root(?:/|$)",
        absolute + r"[A-Za-z]:[\\/]+Users[\\/]",
    ]
    home = os.path.expanduser("~")
    if len(home) > 1:
        parts.append(absolute + re.escape(home) + r"(?=$|[\\/])")
    user = os.environ.get("USER") or os.environ.get("USERNAME") or ""
    if len(user) > 2 and user != "root":
        parts.append(absolute + r"/(?:[^\s/]+/)+" + re.escape(user) + r"(?=/|$)")
    return re.compile("(?:" + "|".join(parts) + ").*", re.IGNORECASE | re.DOTALL)


_PERSONAL: Final = _personal()
# Nothing of `_personal` is without one of these, and most values are short words.
_SUSPECT: Final = re.compile(r"[/\\=:]")


# Short strings that were looked at and may stay as they are: most values are the same few words all the time.
_harmless: set[str] = set()
_MOST_HARMLESS = 4_096
_SHORT = 64
_NUMBERS = frozenset({bool, int, float})


def text(value: str) -> str:
    """A string without credentials and users' paths, and no longer than `MAX_LENGTH`."""
    if value in _harmless:
        return value
    safe = _PERSONAL.sub(REDACTED, value) if _SUSPECT.search(value) else value
    if len(value) <= _SHORT and safe == value:
        if len(_harmless) >= _MOST_HARMLESS:
            _harmless.clear()
        _harmless.add(value)
        return value
    return safe if len(safe) <= MAX_LENGTH else safe[:MAX_LENGTH]


@lru_cache(maxsize=4_096)  # the same few keys all the time
def dropped(key: str) -> bool:
    """Whether an attribute of this name carries content."""
    return key in DROPPED_KEYS or key.startswith(DROPPED_PREFIXES) or key.endswith(DROPPED_SUFFIXES)


# Attributes that are judged by their values alone.
_open_keys: set[str] = set()


def is_harmless(given: Mapping[str, Any]) -> bool:
    """Whether there are only numbers, short words (each judged once) and tuples of them: no content at a look."""
    for key, value in given.items():
        if type(value) is str:
            if value not in _harmless and text(value) not in _harmless:
                return False
        elif type(value) is tuple:  # reasons and layers
            for word in value:
                if type(word) is not str or (word not in _harmless and text(word) not in _harmless):
                    return False
        elif type(value) not in _NUMBERS:
            return False
        if key not in _open_keys:
            if not key or type(key) is not str or dropped(key) or key in HIDDEN or key in CUT_AT_QUERY:
                return False
            if len(_open_keys) < _MOST_HARMLESS:
                _open_keys.add(key)
    return True


def attributes(given: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The attributes without content: the very same object when there is none."""
    return given if not given or is_harmless(given) else _judged_one_by_one(given)


def _judged_one_by_one(given: Mapping[str, Any]) -> Mapping[str, Any]:
    changed = False
    kept: dict[str, Any] = {}
    for key, value in given.items():
        if dropped(key):
            changed = True
            continue
        safe = text(value) if type(value) is str else _value(value)
        if key in HIDDEN:
            safe = REDACTED
        elif key in CUT_AT_QUERY and isinstance(safe, str):
            safe = safe.partition("?")[0]
        kept[key] = safe
        changed = changed or safe is not value
    return kept if changed else given


def _value(value: Any) -> Any:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, (bool, int, float)) or value is None:
        return value
    if isinstance(value, Mapping):
        return attributes(value)
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        safe = [_value(item) for item in value]
        return value if all(new is old for new, old in zip(safe, value, strict=True)) else tuple(safe)
    return REDACTED


def _event(event: Event) -> Event:
    if event.name == "exception":
        had = event.attributes or {}
        kept: Mapping[str, Any] | None = {k: v for k, v in had.items() if k in KEPT_OF_EXCEPTIONS}
    else:
        kept = attributes(event.attributes)
    name = text(event.name)
    if name is event.name and (kept is event.attributes or kept == event.attributes):
        return event
    return Event(name, kept, event.timestamp)


def _link(link: Link) -> Link:
    kept = attributes(link.attributes)
    return link if kept is link.attributes else Link(link.context, kept)


class _Guarded(ReadableSpan):
    """A span as it may be exported, beside the one that it stands for."""

    def __init__(
        self,
        span: ReadableSpan,
        name: str,
        kept: Mapping[str, Any] | None,
        events: list[Event],
        links: list[Link],
    ) -> None:
        super().__init__(
            name=name,
            context=span.get_span_context(),
            parent=span.parent,
            resource=span.resource,
            attributes=kept,
            events=events,
            links=links,
            kind=span.kind,
            status=Status(span.status.status_code),
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=span.instrumentation_scope,
        )
        self._original = span

    @property
    def dropped_attributes(self) -> int:
        return self._original.dropped_attributes

    @property
    def dropped_events(self) -> int:
        return self._original.dropped_events

    @property
    def dropped_links(self) -> int:
        return self._original.dropped_links


class Harmless(ReadableSpan):
    """A span whose name and attributes `is_harmless` knew when it was made; it has no more than these."""


def span(given: ReadableSpan) -> ReadableSpan:
    """The span without content: the very same object when there is none."""
    if type(given) is Harmless:
        return given
    name, had, events, links = text(given.name), given.attributes, given.events, given.links
    kept = attributes(had)
    same = name is given.name and kept is had and given.status.description is None
    if events or links:
        safe_events, safe_links = [_event(event) for event in events], [_link(link) for link in links]
        same = (
            same
            and all(new is old for new, old in zip(safe_events, events, strict=True))
            and all(new is old for new, old in zip(safe_links, links, strict=True))
        )
        return given if same else _Guarded(given, name, kept, safe_events, safe_links)
    return given if same else _Guarded(given, name, kept, [], [])


def log(given: ReadableLogRecord) -> ReadableLogRecord:
    """The log record without content: the very same object when there is none. A body is, unless it is
    ours.
    """
    record = given.log_record
    ours = given.instrumentation_scope is not None and given.instrumentation_scope.name == names.SCOPE
    body = _value(record.body) if ours else None
    kept = attributes(record.attributes)
    if kept:
        leaking = [key for key in kept if key.startswith("exception.") and key not in KEPT_OF_EXCEPTIONS]
        if leaking:
            kept = {key: value for key, value in kept.items() if key not in leaking}
    if body is record.body and kept is record.attributes:
        return given
    safe = copy.copy(record)
    safe.body, safe.attributes = body, kept
    return dataclasses.replace(given, log_record=safe)


class GuardedSpanExporter(SpanExporter):
    """Hands spans on without content."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return self._exporter.export(one_by_one(span, spans, "guard"))

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


class GuardedLogExporter(LogRecordExporter):
    """Hands log records on without content."""

    def __init__(self, exporter: LogRecordExporter) -> None:
        self._exporter = exporter

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        return self._exporter.export(one_by_one(log, batch, "guard"))

    def shutdown(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)
