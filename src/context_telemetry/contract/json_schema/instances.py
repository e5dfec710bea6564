"""Whether a JSON value is accepted by a schema, and values on which two schemas disagree.

A small validator with a third answer: None, where a keyword is not understood. Examples are built from the two schemas
and each is judged before it counts, so that one that is found proves a difference.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from context_telemetry.contract.json_schema.nodes import (
    ANNOTATIONS,
    Alternative,
    Node,
    Unclear,
    alternatives,
    key,
    listed_values,
    target,
    type_of,
    types_of,
)

MOST_EXAMPLES = 1000
"""Tried of one comparison, so that two entangled schemas take no longer than the rest of a difference."""
_DEPTH = 4
_PER_PART = 16
_MOST_TRIED = 10 * _PER_PART
_LONGEST = 1_000_000
_LONGEST_LIST = 1024
_FORMATS = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "time": "12:00:00Z",
    "duration": "P1D",
    "email": "a@example.org",
    "hostname": "example.org",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "path": "a/b",
    "uri": "https://example.org/a",
    "url": "https://example.org/a",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
"""What surely has the format. Of any other text a validator may say so or not: the format is an annotation to most."""
_TEXTS = ("", "a", "A", "0", "a1", "abc", "a b", "a-b", "a_b", "1.5", *_FORMATS.values())

Judgement = bool | None


def valid(value: Any, node: Node) -> Judgement:
    """Whether the schema accepts the value; None where that is not understood."""
    try:
        return _valid(value, node)
    except (Unclear, RecursionError, TypeError, AttributeError, ValueError, re.error):
        return None


def _valid(value: Any, node: Node) -> Judgement:
    schema = node.schema
    if isinstance(schema, bool):
        return schema
    return _all(_keyword(value, keyword, node) for keyword in schema if keyword not in ANNOTATIONS)


def _all(answers: Iterable[Judgement]) -> Judgement:
    found = set(answers)
    return False if False in found else None if None in found else True


def _any(answers: Iterable[Judgement]) -> Judgement:
    found = set(answers)
    return True if True in found else None if None in found else False


def _not(answer: Judgement) -> Judgement:
    return None if answer is None else not answer


def _keyword(value: Any, keyword: str, node: Node) -> Judgement:
    if keyword.startswith("x-") or (keyword == "$id" and node.schema is node.root):
        return True
    if keyword not in _CHECKS:
        return None
    about, check = _CHECKS[keyword]
    return True if about and type_of(value) != about else check(value, node.schema[keyword], node)


def _type(value: Any, _said: Any, node: Node) -> Judgement:
    types = types_of(node)
    return type_of(value) in types or (
        "integer" in types and type_of(value) == "number" and value == int(value)
    )


def _one_of(value: Any, said: Any, node: Node) -> Judgement:
    answers = [valid(value, node.at(each)) for each in said]
    if answers.count(True) > 1:
        return False
    return None if None in answers else answers.count(True) == 1


def _if(value: Any, said: Any, node: Node) -> Judgement:
    holds = valid(value, node.at(said))
    if holds is None:
        return None
    branch = "then" if holds else "else"
    return valid(value, node.at(node.schema[branch])) if branch in node.schema else True


def _format(value: Any, said: Any, _node: Node) -> Judgement:
    return True if value == _FORMATS.get(said) else None


def _items(value: Any, said: Any, node: Node) -> Judgement:
    if isinstance(said, list):
        return None
    first = len(node.schema.get("prefixItems", ()))
    return _all(valid(each, node.at(said)) for each in value[first:])


def _additional(value: Any, said: Any, node: Node) -> Judgement:
    named, patterns = node.schema.get("properties", {}), node.schema.get("patternProperties", {})
    return _all(
        valid(each, node.at(said))
        for name, each in value.items()
        if name not in named and not any(re.search(pattern, name) for pattern in patterns)
    )


def _by_pattern(value: Any, said: Any, node: Node) -> Judgement:
    return _all(
        valid(each, node.at(schema))
        for pattern, schema in said.items()
        for name, each in value.items()
        if re.search(pattern, name)
    )


def _contains(value: Any, said: Any, node: Node) -> Judgement:
    answers = [valid(each, node.at(said)) for each in value]
    least, most = node.schema.get("minContains", 1), node.schema.get("maxContains", len(answers))
    return None if None in answers else least <= answers.count(True) <= most


def _multiple(value: Any, said: Any, _node: Node) -> Judgement:
    if isinstance(value, int) and isinstance(said, int):
        return value % said == 0
    whole = value / said
    return True if whole == int(whole) else None  # of fractions: arithmetic is not exact


def _same(value: Any, said: Any) -> bool:
    return key(value) == key(said)


_Check = Callable[[Any, Any, Node], Judgement]
_CHECKS: Mapping[str, tuple[str | None, _Check]] = {
    "type": (None, _type),
    "enum": (None, lambda value, said, _node: any(_same(value, each) for each in said)),
    "const": (None, lambda value, said, _node: _same(value, said)),
    "$ref": (None, lambda value, _said, node: _valid(value, target(node))),
    "allOf": (None, lambda value, said, node: _all(valid(value, node.at(each)) for each in said)),
    "anyOf": (None, lambda value, said, node: _any(valid(value, node.at(each)) for each in said)),
    "oneOf": (None, _one_of),
    "not": (None, lambda value, said, node: _not(valid(value, node.at(said)))),
    "if": (None, _if),
    "then": (None, lambda _value, _said, _node: True),
    "else": (None, lambda _value, _said, _node: True),
    "minimum": ("number", lambda value, said, _node: bool(value >= said)),
    "exclusiveMinimum": ("number", lambda value, said, _node: bool(value > said)),
    "maximum": ("number", lambda value, said, _node: bool(value <= said)),
    "exclusiveMaximum": ("number", lambda value, said, _node: bool(value < said)),
    "multipleOf": ("number", _multiple),
    "minLength": ("string", lambda value, said, _node: len(value) >= said),
    "maxLength": ("string", lambda value, said, _node: len(value) <= said),
    "pattern": ("string", lambda value, said, _node: re.search(said, value) is not None),
    "format": ("string", _format),
    "minItems": ("array", lambda value, said, _node: len(value) >= said),
    "maxItems": ("array", lambda value, said, _node: len(value) <= said),
    "uniqueItems": (
        "array",
        lambda value, said, _node: not said or len({key(each) for each in value}) == len(value),
    ),
    "items": ("array", _items),
    "prefixItems": (
        "array",
        lambda value, said, node: _all(
            valid(each, node.at(schema)) for each, schema in zip(value, said, strict=False)
        ),
    ),
    "contains": ("array", _contains),
    "minContains": ("array", lambda _value, _said, _node: True),
    "maxContains": ("array", lambda _value, _said, _node: True),
    "required": ("object", lambda value, said, _node: set(said) <= set(value)),
    "properties": (
        "object",
        lambda value, said, node: _all(
            valid(value[name], node.at(schema)) for name, schema in said.items() if name in value
        ),
    ),
    "additionalProperties": ("object", _additional),
    "patternProperties": ("object", _by_pattern),
    "propertyNames": (
        "object",
        lambda value, said, node: _all(valid(name, node.at(said)) for name in value),
    ),
    "minProperties": ("object", lambda value, said, _node: len(value) >= said),
    "maxProperties": ("object", lambda value, said, _node: len(value) <= said),
    "dependentRequired": (
        "object",
        lambda value, said, _node: all(
            set(names) <= set(value) for name, names in said.items() if name in value
        ),
    ),
}
"""The keyword, the type of values that it is about (None: all), and the check. A keyword without a row: not known."""


def known_values(alternative: Alternative) -> list[Any] | None:
    """All its values, maybe some more, where it lists them; None where it does not."""
    listed = [values for part in alternative.parts for values in listed_values(part)]
    if alternative.type in ("null", "boolean"):
        listed.append([None] if alternative.type == "null" else [True, False])
    if not listed:
        return None
    return [
        value
        for value in listed[0]
        if type_of(value) == alternative.type
        and all(valid(value, part) is not False for part in alternative.parts)
    ]


def counterexample(narrow: Node, wide: Node) -> tuple[Any] | None:
    """A value that `narrow` surely accepts and `wide` surely refuses, in a tuple; None where none is found."""
    try:
        hints = _hints(narrow, wide)
        for value in islice(_examples((narrow,), hints, _DEPTH), MOST_EXAMPLES):
            if valid(value, narrow) is True and valid(value, wide) is False:
                return (value,)
    except (Unclear, RecursionError, TypeError, AttributeError, ValueError):
        pass  # not understood, or not a schema: nothing is found
    return None


@dataclass(frozen=True)
class _Hints:
    """What the two schemas name: where one may let something through that the other does not."""

    numbers: tuple[float, ...]
    texts: tuple[str, ...]
    sizes: tuple[int, ...]
    names: tuple[str, ...]


def _hints(*nodes: Node) -> _Hints:
    numbers: dict[float, None] = {0: None, 1: None, -1: None, 0.5: None}
    texts, names = dict.fromkeys(_TEXTS), {}
    for schema in _schemas([node.schema for node in nodes] + [node.root for node in nodes]):
        names.update(dict.fromkeys(schema.get("properties") or ()))
        listed = [each for values in listed_values(Node(schema, schema)) for each in values]
        texts.update(dict.fromkeys(each for each in listed if isinstance(each, str)))
        for value in [*listed, *schema.values()]:
            if type_of(value) == "number":
                numbers.update(dict.fromkeys((value, value + 1, value - 1, value + 0.5, value - 0.5)))
    sizes = [0, 1, 2, *(int(each) for each in numbers if each == int(each) and 2 < each <= _LONGEST)]
    # A name that neither knows comes first: it tells whether others are allowed.
    return _Hints(tuple(numbers), tuple(texts), tuple(dict.fromkeys(sizes)), ("another_name", *names))


def _schemas(found: list[Any]) -> Iterator[Mapping[str, Any]]:
    """All mappings in them, the schemas among them."""
    while found:
        each = found.pop()
        if isinstance(each, Mapping):
            yield each
            found.extend(each.values())
        elif isinstance(each, list):
            found.extend(each)


def _examples(nodes: tuple[Node, ...], hints: _Hints, depth: int) -> Iterator[Any]:
    for each in alternatives(nodes, exact=False):
        values = known_values(each)
        if values is not None:
            yield from values
        elif each.type == "number":
            yield from _numbers(each, hints)
        elif each.type == "string":
            yield from _strings(hints)
        elif each.type == "array":
            yield from _arrays(each, hints, depth)
        elif each.type == "object":
            yield from _objects(each, hints, depth)


def _numbers(alternative: Alternative, hints: _Hints) -> Iterator[float]:
    step = max([each for each in alternative.values("multipleOf") if isinstance(each, int)], default=0)
    for number in hints.numbers:
        yield number
        if step:
            yield number // step * step
            yield number // step * step + step


def _strings(hints: _Hints) -> Iterator[str]:
    yield from hints.texts
    for size in hints.sizes:
        yield "a" * size
        yield "0" * size


def _arrays(alternative: Alternative, hints: _Hints, depth: int) -> Iterator[list[Any]]:
    yield []
    if not depth:
        return
    parts = tuple(
        part.at(part.schema["items"])
        for part in alternative.parts
        if "items" in part.schema and not isinstance(part.schema["items"], list)
    )
    items = list(islice(_accepted(parts, hints, depth - 1), _PER_PART))
    for item in items:
        for size in hints.sizes:
            yield [item] * min(size, _LONGEST_LIST)
    for size in hints.sizes:
        yield items[:size]  # each another one


def _objects(alternative: Alternative, hints: _Hints, depth: int) -> Iterator[dict[str, Any]]:
    names = list(dict.fromkeys(name for each in alternative.values("properties") for name in each))
    required = list(dict.fromkeys(name for each in alternative.values("required") for name in each))
    if not depth:
        if not required:
            yield {}
        return
    of_name = {
        name: list(islice(_accepted(_property(alternative, name), hints, depth - 1), _PER_PART))
        for name in dict.fromkeys([*names, *required, *hints.names])
    }
    base = {name: of_name[name][0] for name in required if of_name[name]}
    whole = {**base, **{name: of_name[name][0] for name in names if of_name[name]}}
    yield base
    yield whole
    for name in whole.keys() - base.keys():
        yield {other: value for other, value in whole.items() if other != name}
    for name, values in of_name.items():
        for value in values:
            yield {**base, name: value}
    for name, values in of_name.items():
        for value in values[:4]:
            yield {**whole, name: value}


def _property(alternative: Alternative, name: str) -> tuple[Node, ...]:
    found = []
    for part in alternative.parts:
        properties = part.schema.get("properties", {})
        if name in properties:
            found.append(part.at(properties[name]))
        elif "additionalProperties" in part.schema:
            found.append(part.at(part.schema["additionalProperties"]))
    return tuple(found)


def _accepted(nodes: tuple[Node, ...], hints: _Hints, depth: int) -> Iterator[Any]:
    """Examples that all of the nodes surely accept: what holds one of another kind is refused as a whole."""
    for value in islice(_examples(nodes, hints, depth), _MOST_TRIED):
        if all(valid(value, node) is True for node in nodes):
            yield value
