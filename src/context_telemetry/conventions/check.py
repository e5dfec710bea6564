"""Does what was emitted agree with what the registry declares, both ways? The project's live check for CI.

`check` finds what was emitted and is not declared, or lacks what is required; `unused` what is declared and
was never seen. Records are those of `derive`; metrics are anything with a `name` and `attributes`, such as
its points. Only give it what carries an operation of ours, or what the scope `context_telemetry` emitted. Of a span
with another `scope`, what is not declared is its owner's: neighbours have conventions of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from context_telemetry.conventions import declared, names
from context_telemetry.conventions.declaration import Signal

Record = Mapping[str, Any]


class MetricPoint(Protocol):
    """One series of a metric."""

    @property
    def name(self) -> str: ...

    @property
    def attributes(self) -> Mapping[str, Any]: ...


def _is(kind: type | tuple[type, ...]) -> Callable[[Any], bool]:
    # In Python a bool is an int; in OTLP it is not.
    return lambda value: isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


_TYPES = {"string": _is(str), "int": _is(int), "double": _is((float, int)), "boolean": _is(bool)}
_METRICS = {signal.name: signal for signal in declared.METRICS}
_EVENTS = {signal.name: signal for signal in declared.EVENTS}
_MCP = next(span for span in declared.SPANS if names.MCP_METHOD_NAME in span.levels)


def check(spans: Iterable[Record], events: Iterable[Record], metrics: Iterable[MetricPoint]) -> list[str]:
    """What is wrong, one finding a line, each once; empty when all is as declared."""
    found: dict[str, None] = {}
    for span in spans:
        signal = span_type(span)
        if signal is None:
            operation = span["attributes"].get(names.DATAFACE_OPERATION_NAME)
            found[f"span {span['name']}: no span type is declared for operation {operation!r}"] = None
            continue
        where = f"span {span['name']} ({signal.name})"
        if kind_of(span) != signal.kind:
            found[f"{where}: kind is {kind_of(span)}, declared {signal.kind}"] = None
        said = span["attributes"]
        if span.get("scope", names.SCOPE) != names.SCOPE:
            said = {name: value for name, value in said.items() if name in signal.levels}
        found |= dict.fromkeys(_findings(where, signal, said))
    for event in events:
        name = event["event_name"]
        if name in _EVENTS:
            found |= dict.fromkeys(_findings(f"event {name}", _EVENTS[name], event["attributes"]))
        else:
            found[f"event {name}: not declared"] = None
    for point in metrics:
        if point.name in _METRICS:
            found |= dict.fromkeys(_findings(f"metric {point.name}", _METRICS[point.name], point.attributes))
        else:
            found[f"metric {point.name}: not declared"] = None
    return list(found)


def unused(spans: Iterable[Record], events: Iterable[Record], metrics: Iterable[MetricPoint]) -> list[str]:
    """What is declared and was never seen: attributes, values of closed lists, metrics, events."""
    events, metrics = list(events), list(metrics)
    carriers = [record["attributes"] for record in spans] + [event["attributes"] for event in events]
    seen: dict[str, set[Any]] = {}
    for attributes in [*carriers, *(point.attributes for point in metrics)]:
        for name, value in attributes.items():
            seen.setdefault(name, set()).update(value if isinstance(value, (list, tuple)) else [value])
    expected = [name for name, each in declared.ATTRIBUTES.items() if each.members or each.every_run]
    found = [f"attribute {name}: never emitted" for name in expected if name not in seen]
    for name, attribute in declared.ATTRIBUTES.items():
        if attribute.members and attribute.every_run and name in seen:
            missing = sorted(attribute.members - seen[name])
            found += [f"value {name}={value}: never emitted" for value in missing]
    names_seen = {point.name for point in metrics}
    found += [f"metric {name}: never emitted" for name in _METRICS if name not in names_seen]
    events_seen = {event["event_name"] for event in events}
    return found + [f"event {name}: never emitted" for name in _EVENTS if name not in events_seen]


def span_type(span: Record) -> Signal | None:
    """The declared type that ``span`` belongs to, by its method or its operation."""
    attributes = span["attributes"]
    if names.MCP_METHOD_NAME in attributes:
        return _MCP
    operation = attributes.get(names.DATAFACE_OPERATION_NAME) or attributes.get(names.GEN_AI_OPERATION_NAME)
    return next((row for row in declared.SPANS if row is not _MCP and operation in row.operations), None)


def kind_of(span: Record) -> str:
    """The kind of ``span`` in lower case, whether it stands there as a word, an enum or OTLP's number."""
    kind = span["kind"]
    if isinstance(kind, int):
        return ("unspecified", "internal", "server", "client", "producer", "consumer")[kind]
    return str(getattr(kind, "name", kind)).lower().removeprefix("span_kind_")


def _findings(where: str, signal: Signal, attributes: Mapping[str, Any]) -> Iterable[str]:
    for name, level in signal.levels.items():
        if level == "required" and name not in attributes:
            yield f"{where}: {name} is required and missing"
    for name, value in attributes.items():
        if name not in signal.levels:
            yield f"{where}: {name} is not declared here"
            continue
        attribute = declared.ATTRIBUTES[name]
        many = attribute.type.endswith("[]")
        if many != isinstance(value, (list, tuple)):
            yield f"{where}: {name} is to be a {attribute.type}"
            continue
        for item in value if many else (value,):
            if not _TYPES[attribute.type.removesuffix("[]")](item):
                yield f"{where}: {name} is to be a {attribute.type}"
            elif attribute.members is not None and item not in attribute.members:
                yield f"{where}: {name}={item} is not in its closed list"
