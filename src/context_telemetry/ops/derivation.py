"""How a Collector computes the metrics of the conventions from spans and events: definitions for `signal_to_metrics`.

The same rows that `conventions.derive` walks, written as OTTL. Nothing is counted here, and no file is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from context_telemetry.conventions import names
from context_telemetry.conventions.declared import ATTRIBUTES
from context_telemetry.conventions.derive import OTHER
from context_telemetry.conventions.metric import Bound, Metric

Source = Literal["span", "event"]

RESOURCE_LABELS: Final = ("service.name", "service.namespace", "deployment.environment.name")
"""What of a resource goes on a series. Never what tells processes apart: a session would be a series."""

PROJECT_LABELS: Final = ("service.namespace", "deployment.environment.name")
"""What of it tells a project. Whatever process says something of a project, under whatever service name, takes the
place of what another one said: else a series that nobody writes any more would keep a former word for days."""

_OF_PROJECT: Final = frozenset({names.METRIC_DATAFACE_CONTRACT_OPEN})

# The name that OTTL has for a signal.
_CONTEXTS: Final[dict[Source, str]] = {"span": "span", "event": "log"}


@dataclass(frozen=True)
class Definition:
    """One counting of one metric: what has to hold, the number that is added, and labels of a fixed value."""

    metric: Metric
    conditions: tuple[str, ...]
    value: str
    fixed: Mapping[str, str]
    """Labels whose value is what this definition counts; the span or event has no attribute of that name."""

    def as_yaml(self) -> dict[str, Any]:
        """The entry as the connector reads it."""
        metric = self.metric
        labels: list[dict[str, Any]] = []
        for label in metric.attributes:
            if label in self.fixed:
                labels.append({"key": label, "default_value": self.fixed[label]})
            elif label not in _varied(metric):  # a definition without it counts where the span has none
                labels.append({"key": label, "optional": True})
        made: dict[str, Any] = {
            "name": metric.name,
            "description": metric.brief,
            "unit": metric.unit,
            "include_resource_attributes": [
                {"key": key, "optional": True} for key in resource_labels(metric)
            ],
            "attributes": labels,
        }
        if self.conditions:
            made["conditions"] = [" and ".join(self.conditions)]
        if metric.instrument == "counter":
            made["sum"] = {"value": self.value, "monotonic": True}
        elif metric.instrument == "gauge":
            made["gauge"] = {"value": self.value}
        else:
            made["histogram"] = {"buckets": list(metric.boundaries), "value": self.value}
        return made


def resource_labels(metric: Metric) -> tuple[str, ...]:
    """What of a resource goes on the series of a metric."""
    return PROJECT_LABELS if metric.name in _OF_PROJECT else RESOURCE_LABELS


def definitions(source: Source) -> Iterator[Definition]:
    """Every definition for the metrics of ``source``, in the conventions' order.

    Raises ValueError for a row of a form that no Collector could count as it is meant.
    """
    for metric in names.METRICS:
        if metric.source == source:
            yield from _definitions(metric)


def bounds(source: Source) -> list[str]:
    """OTTL statements that make labels out of attributes: "_OTHER" for what a client can have invented."""
    labels = {label for metric in names.METRICS if metric.source == source for label in metric.attributes} - {
        label for metric in names.METRICS for label in _varied(metric)
    }
    statements = []
    for metric in names.METRICS:
        if metric.source == source:
            statements += [
                f"set({_path(source, label)}, {_path(source, read)}) where {_path(source, read)} != nil"
                for label, read in (metric.read_from or {}).items()
                if label not in _varied(metric)
            ]
    for label in sorted(labels & set(names.BOUNDS)):
        statements.append(_bounded(_path(source, label), names.BOUNDS[label], source))
    return list(dict.fromkeys(statements))


def _definitions(metric: Metric) -> Iterator[Definition]:
    source = metric.source
    value, needs = _value(metric)
    plain = Definition(metric, (*_conditions(metric), *needs), value, {})
    if metric.parts is not None:
        label = metric.each or ""
        for part, attribute in metric.parts.items():
            path = _path(source, attribute)
            yield replace(
                plain,
                conditions=(f"{path} != nil", *_conditions(metric)),
                value=_number(metric, path),
                fixed={label: part},
            )
        return
    varied = _varied(metric)
    if not varied:
        yield plain
        return
    ((label, listed),) = varied.items()
    path = _path(source, listed)
    members = ATTRIBUTES[label].members
    if not members:
        raise ValueError(f"{metric.name}: {label} has no closed list, so a Collector cannot count by it")
    # First what most spans have not: the rest is then not looked at.
    there = (*plain.conditions, f"IsList({path})")
    if metric.each is not None:
        for member in sorted(members):
            yield replace(
                plain, conditions=(*there, f'ContainsValue({path}, "{member}")'), fixed={label: member}
            )
        return
    some = f"(IsList({path}) and Len({path}) > 0)"
    for member in sorted(members):
        yield replace(
            plain, conditions=(*plain.conditions, some, f'{path}[0] == "{member}"'), fixed={label: member}
        )
    yield replace(plain, conditions=(*plain.conditions, f"not {some}"))


def _conditions(metric: Metric) -> tuple[str, ...]:
    when, source = metric.when, metric.source
    return (
        *([f'log.event_name == "{when["event"]}"'] if "event" in when else []),
        *(f"{_path(source, name)} != nil" for name in when.get("has", ())),
        *(f"{_path(source, name)} == nil" for name in when.get("not_has", ())),
        *([f"{_path(source, names.DATAFACE_ENTRY)} == true"] if when.get("entry") else []),
    )


def _value(metric: Metric) -> tuple[str, tuple[str, ...]]:
    """The number that a match adds, and the conditions for there to be one."""
    if isinstance(metric.value, int):
        return str(metric.value), ()
    if metric.value == "duration":
        return "Seconds(span.end_time - span.start_time)", ()
    path = _path(metric.source, metric.value)
    asked = metric.when.get("has", ())
    return _number(metric, path), () if metric.value in asked else (f"{path} != nil",)


def _number(metric: Metric, path: str) -> str:
    # Always converted: two kinds of number in one sum would end the connector, and anybody can send a span.
    return f"{'Int' if metric.instrument == 'counter' else 'Double'}({path})"


def _varied(metric: Metric) -> Mapping[str, str]:
    """Labels that are read from a list: by label, the attribute that holds it. At most one."""
    found = {
        label: read
        for label, read in (metric.read_from or {}).items()
        if read == metric.each or ATTRIBUTES[read].type.endswith("[]")
    }
    if metric.each is not None and metric.parts is None and not found:
        raise ValueError(f"{metric.name}: none of its labels is read from {metric.each}")
    if len(found) > 1:
        raise ValueError(
            f"{metric.name}: {', '.join(sorted(found))} are read from lists, and only one can be"
        )
    return found


def _bounded(path: str, bound: Bound, source: Source) -> str:
    known = [] if bound.known is None else [f"ContainsValue([{_quoted(sorted(bound.known))}], {path})"]
    # What is not there is none of the values.
    known += [
        "("
        + " or ".join(f"{_path(source, name)} == {_literal(value)}" for value in sorted(values, key=str))
        + ")"
        for name, values in bound.where
    ]
    return f'set({path}, "{OTHER}") where {path} != nil and not ({" and ".join(known)})'


def _quoted(values: Iterable[str]) -> str:
    return ", ".join(f'"{value}"' for value in values)


def _literal(value: str | bool) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


def _path(source: Source, attribute: str) -> str:
    return f'{_CONTEXTS[source]}.attributes["{attribute}"]'
