"""Shows that one schema accepts all that another does, keyword by keyword. What it cannot show, it does not claim.

To teach it a keyword, add a row to `IMPLIED`. A keyword without a row is only implied by itself, word for word.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from context_telemetry.contract.json_schema.instances import known_values, valid
from context_telemetry.contract.json_schema.nodes import (
    ANNOTATIONS,
    APPLICATORS,
    Alternative,
    Node,
    Unclear,
    alternatives,
    bare,
    key,
    types_of,
)

_Covers = Callable[[tuple[Node, ...], Node], bool]


def proves(narrow: Node, wide: Node) -> bool:
    """Whether it is shown that `wide` accepts all that `narrow` accepts."""
    # A pair that is met again within itself holds if all else does: what a recursive schema needs.
    pending: set[tuple[tuple[int, ...], int]] = set()

    def covers(narrow: tuple[Node, ...], wide: Node) -> bool:
        if any(_same_text(each, wide) for each in narrow):
            return True
        pair = (tuple(id(each.schema) for each in narrow), id(wide.schema))
        if pair in pending:
            return True
        pending.add(pair)
        try:
            return all(
                _covered(each, wide, options, covers)
                for options in [alternatives([wide], exact=True)]
                for each in alternatives(narrow, exact=False)
            )
        finally:
            pending.discard(pair)

    try:
        return covers((narrow,), wide)
    except (Unclear, RecursionError, TypeError, AttributeError, ValueError):
        return False  # not understood, or not a schema: nothing is shown


def _same_text(one: Node, other: Node) -> bool:
    text = key(bare(one.schema))
    if text != key(bare(other.schema)):
        return False
    return '"$ref"' not in text or key(bare(one.root)) == key(bare(other.root))


def _covered(narrow: Alternative, wide: Node, options: list[Alternative], covers: _Covers) -> bool:
    values = known_values(narrow)
    if values is not None:
        return all(valid(value, wide) is True for value in values)
    if _least(narrow) >= _most(narrow):
        return True  # there is none
    return any(
        all(_implied(keyword, part, narrow, covers) for part in option.parts for keyword in part.schema)
        for option in options
        if option.type == narrow.type
    )


def _implied(keyword: str, part: Node, narrow: Alternative, covers: _Covers) -> bool:
    """Whether every value of `narrow` keeps to what `part` says under the keyword."""
    if keyword in ANNOTATIONS or keyword in APPLICATORS or keyword.startswith("x-"):
        return True
    if keyword == "$id" and part.schema is part.root:
        return True
    if keyword == "type":
        types = types_of(part)
        return narrow.type in types or (narrow.type == "number" and "integer" in types and narrow.whole)
    said = part.schema[keyword]
    if keyword not in IMPLIED:
        text = key(bare({keyword: said}))
        return '"$ref"' not in text and any(
            key(bare({keyword: each})) == text for each in narrow.values(keyword)
        )
    about, implied = IMPLIED[keyword]
    return about != narrow.type or implied(said, part, narrow, covers)


# --- numbers: bounds as pairs of a number and whether it is itself beyond them


def _least(narrow: Alternative) -> tuple[float, int]:
    bounds = [(each, 0) for each in narrow.values("minimum")]
    bounds += [(each, 1) for each in narrow.values("exclusiveMinimum")]
    if narrow.type != "number":
        return (-math.inf, 0)
    if narrow.whole:
        bounds = [(math.floor(each) + 1 if beyond else math.ceil(each), 0) for each, beyond in bounds]
    return max([*bounds, (-math.inf, 0)])


def _most(narrow: Alternative) -> tuple[float, int]:
    """As `_least`; its 0 stands for a bound that is beyond itself, so that pairs compare as what they let through."""
    bounds = [(each, 1) for each in narrow.values("maximum")]
    bounds += [(each, 0) for each in narrow.values("exclusiveMaximum")]
    if narrow.type != "number":
        return (math.inf, 0)
    if narrow.whole:
        bounds = [(math.floor(each) if at else math.ceil(each) - 1, 1) for each, at in bounds]
    return min([*bounds, (math.inf, 1)])


def _multiple(said: Any, _part: Node, narrow: Alternative, _covers: _Covers) -> bool:
    if not isinstance(said, int) or isinstance(said, bool):
        return said in narrow.values("multipleOf")
    factors = [each for each in narrow.values("multipleOf") if isinstance(each, int)] + [1] * narrow.whole
    return any(each % said == 0 for each in factors)


# --- strings, lists and objects


def _at_least(keyword: str) -> Callable[[Any, Node, Alternative, _Covers], bool]:
    return lambda said, _part, narrow, _covers: max([*narrow.values(keyword), 0]) >= said


def _at_most(keyword: str) -> Callable[[Any, Node, Alternative, _Covers], bool]:
    return lambda said, _part, narrow, _covers: min([*narrow.values(keyword), math.inf]) <= said


def _items(said: Any, part: Node, narrow: Alternative, covers: _Covers) -> bool:
    by_place = any(isinstance(each, list) for each in (said, *narrow.values("items")))
    if by_place or "prefixItems" in part.schema:
        raise Unclear("a list whose places differ")
    if min([*narrow.values("maxItems"), math.inf]) == 0:
        return True
    of_narrow = tuple(each.at(each.schema["items"]) for each in narrow.parts if "items" in each.schema)
    if narrow.values("prefixItems"):
        of_narrow = ()  # it says nothing about the first ones
    return covers(of_narrow, part.at(said))


def _unique(said: Any, _part: Node, narrow: Alternative, _covers: _Covers) -> bool:
    return not said or any(narrow.values("uniqueItems")) or min([*narrow.values("maxItems"), math.inf]) <= 1


def _required(narrow: Alternative) -> set[str]:
    return {name for each in narrow.values("required") for name in each}


def _properties(said: Any, part: Node, narrow: Alternative, covers: _Covers) -> bool:
    return all(covers(_property(narrow, name), part.at(schema)) for name, schema in said.items())


def _property(narrow: Alternative, name: str) -> tuple[Node, ...]:
    """All that it says about the property, at least."""
    found = []
    for part in narrow.parts:
        properties = part.schema.get("properties", {})
        if name in properties:
            found.append(part.at(properties[name]))
        elif "additionalProperties" in part.schema and "patternProperties" not in part.schema:
            found.append(part.at(part.schema["additionalProperties"]))
    return tuple(found)


def _additional(said: Any, part: Node, narrow: Alternative, covers: _Covers) -> bool:
    named = set(part.schema.get("properties", {}))
    names = {name for properties in narrow.values("properties") for name in properties} - named
    others = tuple(
        each.at(each.schema["additionalProperties"])
        for each in narrow.parts
        if "additionalProperties" in each.schema and "patternProperties" not in each.schema
    )
    return covers(others, part.at(said)) and all(
        covers(_property(narrow, name), part.at(said)) for name in names
    )


def _minimum_of_properties(said: Any, _part: Node, narrow: Alternative, _covers: _Covers) -> bool:
    return bool(max([*narrow.values("minProperties"), len(_required(narrow))]) >= said)


def _maximum_of_properties(said: Any, _part: Node, narrow: Alternative, _covers: _Covers) -> bool:
    closed = [
        len(part.schema.get("properties", {}))
        for part in narrow.parts
        if part.schema.get("additionalProperties") is False and "patternProperties" not in part.schema
    ]
    return bool(min([*narrow.values("maxProperties"), *closed, math.inf]) <= said)


IMPLIED: Mapping[str, tuple[str, Callable[[Any, Node, Alternative, _Covers], bool]]] = {
    "minimum": ("number", lambda said, _part, narrow, _covers: _least(narrow) >= (said, 0)),
    "exclusiveMinimum": ("number", lambda said, _part, narrow, _covers: _least(narrow) >= (said, 1)),
    "maximum": ("number", lambda said, _part, narrow, _covers: _most(narrow) <= (said, 1)),
    "exclusiveMaximum": ("number", lambda said, _part, narrow, _covers: _most(narrow) <= (said, 0)),
    "multipleOf": ("number", _multiple),
    "minLength": ("string", _at_least("minLength")),
    "maxLength": ("string", _at_most("maxLength")),
    "minItems": ("array", _at_least("minItems")),
    "maxItems": ("array", _at_most("maxItems")),
    "uniqueItems": ("array", _unique),
    "items": ("array", _items),
    "required": ("object", lambda said, _part, narrow, _covers: set(said) <= _required(narrow)),
    "properties": ("object", _properties),
    "additionalProperties": ("object", _additional),
    "minProperties": ("object", _minimum_of_properties),
    "maxProperties": ("object", _maximum_of_properties),
}
"""The keyword, the type of values that it is about, and whether it is implied."""
