"""Spans and log records as OTLP JSON text: the same as OpenTelemetry's own encoder's, which is the referee."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.exporter.otlp.json.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.json.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import LogRecordLimits, ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from context_telemetry.observe import failsafe
from context_telemetry.pipeline import guard, otlp_json

_TEXTS = (
    "",
    "ok",
    "ünïcode ☃ 😀",
    'quotes " and \\',
    "lines\nand\x00\x7f\u2028",
    "\ud83d alone \udc00",
    "x" * 300,
)
_INTS = (0, 1, -1, 255, 2**31, 2**53 + 1, 2**63 - 1, -(2**63))
_FLOATS = (0.0, -0.0, 1.0, 0.1, 1e-7, 1e16, 1e300, -2.5, 5e-324, math.nan, math.inf, -math.inf)
_MOMENT = 1_700_000_000_000_000_000


class _Generated:
    """Spans with anything in them that a span can have. Equal seeds make equal spans."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.resources = [Resource({"service.name": f"s{n}", "n": n}, "" if n else "u") for n in range(2)]
        self.resources.append(Resource({"service.name": "s0", "n": 0}, "u"))  # equal to the first
        self.scopes = [
            None,
            InstrumentationScope("a", "1", "https://example.org/schema", {"x": (1, 2)}),
            InstrumentationScope("a", "1", "https://example.org/schema", {"x": (1, 2)}),
            InstrumentationScope("b"),
        ]

    def maybe(self, value: Callable[[], Any], otherwise: Any, odds: float = 0.3) -> Any:
        return value() if self.random.random() < odds else otherwise

    def plain(self) -> Any:
        kinds: Sequence[Sequence[Any]] = (_TEXTS, _INTS, _FLOATS, (True, False))
        return self.random.choice(self.random.choice(kinds))

    def value(self, depth: int = 2) -> Any:
        return self.random.choice(
            (
                self.plain,
                self.plain,
                self.plain,
                lambda: tuple(self.plain() for _ in range(self.random.randrange(4))),
                lambda: self.random.choice((None, b"", b"\x00\xff", [1, "a"], bytearray(b"ab"), range(3))),
                lambda: self.nested(depth),
            )
        )()

    def nested(self, depth: int) -> Any:
        if not depth:
            return self.plain()
        below = [self.value(depth - 1) for _ in range(self.random.randrange(4))]
        return self.random.choice((below, tuple(below), {f"k{n}": each for n, each in enumerate(below)}))

    def attributes(self) -> Mapping[str, Any] | None:
        simple = self.random.random() < 0.5
        keys = [
            self.random.choice(("dataface.outcome", "n", 'k"\u2028', "ä", ""))
            for _ in range(self.random.randrange(5))
        ]
        given = {key: self.plain() if simple else self.value() for key in keys}
        return self.random.choice((given, given, None, BoundedAttributes(2, given, max_value_len=5)))

    def context(self) -> SpanContext:
        state = self.random.choice((TraceState(), TraceState([("a", "1"), ("b@c", '"2"')])))
        ids = self.random.choice(
            ((1, 1), (2**128 - 1, 2**64 - 1), (0, 0), (self.random.getrandbits(127), 77))
        )
        return SpanContext(*ids, self.random.random() < 0.5, TraceFlags(self.random.randrange(4)), state)

    def event(self) -> Event:
        name = self.random.choice(("exception", 'e"', ""))
        return Event(name, self.attributes(), self.random.choice((_MOMENT, _MOMENT, 0)))

    def span(self) -> ReadableSpan:
        code = self.random.choice(list(StatusCode))
        text = self.maybe(lambda: self.random.choice(_TEXTS), None) if code is StatusCode.ERROR else None
        return ReadableSpan(
            self.maybe(lambda: self.random.choice(_TEXTS), "catalog.resolve"),
            self.maybe(lambda: None, self.context(), 0.05),
            self.maybe(self.context, None, 0.6),
            self.random.choice(self.resources),
            self.attributes(),
            [self.event() for _ in range(self.maybe(lambda: 2, 0))],
            [Link(self.context(), self.attributes()) for _ in range(self.maybe(lambda: 2, 0))],
            self.random.choice(list(SpanKind)),
            None,
            Status(code, text),
            self.maybe(lambda: self.random.choice((0, None)), _MOMENT, 0.05),
            self.maybe(lambda: self.random.choice((0, None)), _MOMENT + 1, 0.05),
            self.random.choice(self.scopes),
        )


def _told(message: Any) -> Any:
    """A message without what says nothing: a field that has what it has where it is left out."""
    if isinstance(message, list):
        return [_told(each) for each in message]
    if isinstance(message, str):  # the official one writes halves of characters, which no reader takes
        return message.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if not isinstance(message, dict):
        return message
    kept = {key: _told(value) for key, value in message.items()}
    nothing = {"name": "", "key": "", "values": [], "flags": 0, "severityNumber": 0}
    return {
        key: value
        for key, value in kept.items()
        if (key, value) not in nothing.items() and not (key.endswith("imeUnixNano") and value == "0")
    }


def _read(text: str) -> str:
    """What it says, whatever the order of its keys; 1 is not True and not 1.0."""
    return json.dumps(_told(json.loads(text)), sort_keys=True, indent=1)


def _official(spans: Sequence[ReadableSpan]) -> str:
    return _read(json.dumps(encode_spans(spans).to_dict()))


def _simple(made: type[ReadableSpan] = ReadableSpan, **options: Any) -> ReadableSpan:
    """A span that has what every span has."""
    given: dict[str, Any] = {
        "context": SpanContext(7, 8, False),
        "start_time": _MOMENT,
        "end_time": _MOMENT + 5,
    }
    return made("s", **given | options)


def _recorded(provider: TracerProvider, *, scope: str = "neighbour") -> list[ReadableSpan]:
    """What the SDK makes of calls with all that a span has."""
    kept = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = provider.get_tracer(scope, "1.2", "https://example.org/schema", {"is": "ours"})
    with tracer.start_as_current_span(
        "entry", kind=SpanKind.SERVER, attributes={"http.route": "/x", "n": 3}
    ) as entry:
        entry.add_event("seen", {"at": 0.5})
        link = Link(entry.get_span_context(), {"why": "follows"})
        with tracer.start_as_current_span("inner", links=[link], kind=SpanKind.CLIENT) as inner:
            inner.set_attributes(
                {f"key {number}": number for number in range(9)} | {"list": ["a", "b"], "yes": True}
            )
            inner.set_status(Status(StatusCode.ERROR, "it failed"))
        with pytest.raises(ValueError, match="bad"), tracer.start_as_current_span("raises"):
            raise ValueError("bad \ud800")
    return list(kept.get_finished_spans())


@pytest.mark.parametrize("seed", range(40))
def test_whatever_a_span_has_is_written_as_the_official_encoder_writes_it(seed: int) -> None:
    generated = _Generated(seed)
    for count in (1, 2, 60):
        spans = [generated.span() for _ in range(count)]
        text = otlp_json.spans_request(spans)
        assert _read(text) == _official(spans)
        assert text.isascii()
        assert "\n" not in text


@pytest.mark.parametrize(
    "limits",
    [
        SpanLimits(),
        SpanLimits(
            max_attributes=2, max_events=0, max_links=0, max_event_attributes=0, max_attribute_length=2
        ),
    ],
)
def test_spans_of_the_sdk_are_written_with_what_their_limits_dropped(limits: SpanLimits) -> None:
    spans = _recorded(TracerProvider(span_limits=limits, resource=Resource({"service.name": "s", "pid": 1})))
    for given in (spans, [guard.span(span) for span in spans]):
        assert _read(otlp_json.spans_request(given)) == _official(given)


def test_a_span_that_the_guard_knows_to_be_harmless_is_written_as_any_other() -> None:
    told = {"dataface.outcome": "ok", "dataface.entry": True, "dataface.payload.size": 208, "age": 1.5}
    spans = [
        _simple(guard.Harmless, parent=parent, attributes=told, kind=kind, status=Status(code))
        for parent in (None, SpanContext(7, 9, True))
        for kind in SpanKind
        for code in StatusCode
    ]
    assert _read(otlp_json.spans_request(spans)) == _official(spans)


def test_equal_attributes_of_another_type_are_not_taken_for_each_other() -> None:
    spans = [_simple(attributes={"a": value}) for value in (True, 1, 1.0, "1", False, 0, 0.0, "", True, 1)]
    assert _read(otlp_json.spans_request(spans)) == _official(spans)


def test_more_words_resources_and_scopes_than_are_kept_are_written_all_the_same() -> None:
    many = otlp_json._MOST_HEADS + 10
    for turn in range(2):
        spans = [
            _simple(
                resource=Resource({"turn": turn, "n": number}),
                attributes={f"{turn} {number} {each}": "w" for each in range(20)},
                instrumentation_scope=InstrumentationScope(str(number)),
            )
            for number in range(many)
        ]
        assert _read(otlp_json.spans_request(spans)) == _official(spans)
        assert len(otlp_json._words) <= otlp_json._MOST_WORDS
        assert len(otlp_json._heads) <= otlp_json._MOST_HEADS


@pytest.mark.parametrize(
    "bad",
    [
        {"context": SpanContext(2**130, 8, False)},
        {"parent": SpanContext(7, 2**70, False)},
        {"links": [Link(SpanContext(7, 2**70, False))]},
    ],
    ids=lambda bad: next(iter(bad)),
)
def test_a_span_that_nobody_can_encode_is_counted_and_the_others_written(bad: dict[str, Any]) -> None:
    before = failsafe.drops().get("spans", 0)
    spans = _recorded(TracerProvider())
    text = otlp_json.spans_request([spans[0], _simple(**bad), *spans[1:]])
    assert _read(text) == _official(spans)
    assert failsafe.drops()["spans"] == before + 1


_ENDLESS = 10**5_000  # more digits than Python makes text of


@pytest.mark.parametrize(
    ("bad", "holder"),
    [
        (_ENDLESS, lambda given: {"attributes": given}),
        (_ENDLESS, lambda given: {"resource": Resource(given)}),
        (_ENDLESS, lambda given: {"instrumentation_scope": InstrumentationScope("s", attributes=given)}),
        (_ENDLESS, lambda given: {"links": [Link(SpanContext(7, 8, False), given)]}),
        (_ENDLESS, lambda given: {"events": [Event("e", given, _MOMENT)]}),
        (2**63, lambda given: {"attributes": given}),
        (-(2**63) - 1, lambda given: {"attributes": given}),
        (object(), lambda given: {"attributes": given}),
        ((1, object()), lambda given: {"attributes": given}),
        ({"within": object()}, lambda given: {"attributes": given}),
    ],
    ids=(
        "attribute",
        "resource",
        "scope",
        "link",
        "event",
        "large",
        "small",
        "object",
        "in_a_tuple",
        "in_a_mapping",
    ),
)
def test_an_attribute_that_nobody_can_encode_is_counted_and_all_else_written(
    bad: Any, holder: Callable[[Mapping[str, Any]], dict[str, Any]]
) -> None:
    before = failsafe.drops().get("exporter: attribute", 0)
    text = otlp_json.spans_request([_simple(**holder({"before": "x", "bad": bad, "after": 1}))])
    assert _read(text) == _official([_simple(**holder({"before": "x", "after": 1}))])
    assert failsafe.drops()["exporter: attribute"] == before + 1


class _Word(str):
    """A string of another class, as enumerations have."""


class _Number(int):
    pass


@pytest.mark.parametrize("value", [_Word("x"), _Number(7), (_Word("x"), _Number(7)), SpanKind.SERVER.name])
def test_values_of_classes_below_are_written_as_what_they_are(value: Any) -> None:
    span = _simple(attributes={"a": value})
    assert _read(otlp_json.spans_request([span])) == _official([span])


def _log_record(generated: _Generated) -> ReadableLogRecord:
    choose = generated.random.choice
    ids: Any = ((None, None), (0, 0), (7, 8), (2**128 - 1, 2**64 - 1))
    trace_id, span_id = choose(ids)
    record = LogRecord(
        timestamp=choose((_MOMENT, 0, None)),
        observed_timestamp=choose((_MOMENT + 1, 0)),
        severity_text=choose((None, "", "WARN")),
        severity_number=choose((None, SeverityNumber.UNSPECIFIED, SeverityNumber.ERROR4)),
        body=generated.value(),
        attributes=generated.attributes(),
        event_name=choose((None, "", "dataface.degradation")),
    )
    record.trace_id, record.span_id, record.trace_flags = (
        trace_id,
        span_id,
        choose((TraceFlags(0), TraceFlags(3))),
    )
    return ReadableLogRecord(
        record,
        choose(generated.resources),
        choose(generated.scopes),
        LogRecordLimits(max_attributes=choose((None, 1))),
    )


@pytest.mark.parametrize("seed", range(20))
def test_whatever_a_log_record_has_is_written_as_the_official_encoder_writes_it(seed: int) -> None:
    generated = _Generated(seed)
    for count in (1, 2, 60):
        records = [_log_record(generated) for _ in range(count)]
        text = otlp_json.logs_request(records)
        assert _read(text) == _read(json.dumps(encode_logs(records).to_dict()))
        assert text.isascii()
        assert "\n" not in text


def test_a_log_record_that_nobody_can_encode_is_counted_and_the_others_written() -> None:
    before = failsafe.drops().get("logs", 0)
    good, bad, last = (_log_record(_Generated(seed)) for seed in range(3))
    bad.log_record.body = object()  # type: ignore[assignment]  # what a host hands in is not checked
    text = otlp_json.logs_request([good, bad, last])
    assert _read(text) == _read(json.dumps(encode_logs([good, last]).to_dict()))
    assert failsafe.drops()["logs"] == before + 1


def test_nothing_is_written_of_nothing() -> None:
    assert otlp_json.spans_request([]) == otlp_json.logs_request([]) == ""
    assert otlp_json.spans_request([_simple(context=SpanContext(2**130, 8, False))]) == ""


def test_halves_of_characters_are_replaced_and_whole_ones_kept() -> None:
    given = {"half": "caf\udce9", "whole": "\U0001f600", "two halves": "\ud83d\ude00", "spelt": "\\ud83d"}
    (resource,) = json.loads(otlp_json.spans_request([_simple(attributes=given)]))["resourceSpans"]
    (span,) = resource["scopeSpans"][0]["spans"]
    found = {each["key"]: each["value"]["stringValue"] for each in span["attributes"]}
    assert found == {
        "half": "caf\ufffd", "whole": "\U0001f600", "two halves": "\U0001f600", "spelt": "\\ud83d",
    }  # fmt: skip
