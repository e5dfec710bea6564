"""A schema with the document that it stands in, its references followed, taken apart into alternatives of one type."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

TYPES = ("null", "boolean", "number", "string", "array", "object")
"""An integer is a number; whether a number has to be one, `Alternative.whole` tells."""

# They say nothing about what is accepted. `discriminator` is OpenAPI's, from Pydantic.
ANNOTATIONS = frozenset({
    "title", "description", "default", "examples", "example", "deprecated", "readOnly", "writeOnly", "discriminator",
    "$comment", "$schema", "$defs", "definitions", "contentMediaType", "contentEncoding", "contentSchema",
})  # fmt: skip
APPLICATORS = frozenset({"$ref", "allOf", "anyOf", "oneOf"})
_MAPS = frozenset({"properties", "patternProperties", "dependentSchemas", "$defs", "definitions"})
_LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_SINGLE = frozenset({
    "items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames", "unevaluatedItems",
    "unevaluatedProperties", "additionalItems",
})  # fmt: skip
# Beyond these a schema is too entangled to be told apart, and the answer is unknown.
MOST_ALTERNATIVES = 256
_OLD_DRAFTS = ("draft-03", "draft-04", "draft-06", "draft-07")


class Unclear(Exception):
    """The schema has something that is not understood."""


@dataclass(frozen=True, eq=False)
class Node:
    """A schema, and the document that its references point into."""

    schema: Any
    root: Any

    def at(self, schema: Any) -> Node:
        """A schema within it."""
        return Node(schema, self.root)

    def get(self, keyword: str) -> Any:
        return self.schema.get(keyword) if isinstance(self.schema, Mapping) else None


@dataclass(frozen=True)
class Alternative:
    """The values of one type that all parts accept. References and combinations in the parts are resolved already."""

    type: str
    parts: tuple[Node, ...] = ()

    def values(self, keyword: str) -> list[Any]:
        """What the parts say under the keyword."""
        return [part.schema[keyword] for part in self.parts if keyword in part.schema]

    @property
    def whole(self) -> bool:
        """Whether its numbers have no fraction."""
        return any("integer" in types and "number" not in types for types in map(types_of, self.parts))


def types_of(node: Node) -> tuple[str, ...]:
    """The words of `type`; () where it says none."""
    said = node.get("type")
    types = (said,) if isinstance(said, str) else tuple(said or ())
    if not all(each in (*TYPES, "integer") for each in types):
        raise Unclear(f"type {said!r}")
    return types


def type_of(value: Any) -> str:
    """The type of a JSON value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "string"
    return "object" if isinstance(value, Mapping) else "array"


def alternatives(nodes: Iterable[Node], exact: bool) -> list[Alternative]:
    """What all of the nodes accept, as a union. Raises Unclear.

    `exact`: no value more than they accept. Else there may be some, which a proof about all values only gets harder by.
    """
    found = [Alternative(each) for each in TYPES]
    for node in nodes:
        found = _cross(found, _expand(node, exact, ()))
    return found


def _expand(node: Node, exact: bool, seen: tuple[int, ...]) -> list[Alternative]:
    schema = node.schema
    if isinstance(schema, bool):
        return [Alternative(each) for each in TYPES] if schema else []
    if not isinstance(schema, Mapping) or id(schema) in seen:
        raise Unclear("not a schema, or one that is itself")
    seen = (*seen, id(schema))
    found = [Alternative(each, (node,)) for each in _possible(node)]
    if "$ref" in schema:
        found = _cross(found, _expand(target(node), exact, seen))
    for each in schema.get("allOf", ()):
        found = _cross(found, _expand(node.at(each), exact, seen))
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            branches = [_expand(node.at(each), exact, seen) for each in schema[keyword]]
            if exact and keyword == "oneOf" and not _apart(branches):
                raise Unclear("oneOf with branches that may overlap")
            found = _cross(found, [each for branch in branches for each in branch])
    return found


def _possible(node: Node) -> Iterable[str]:
    """The types that its own words leave."""
    types = {"number" if each == "integer" else each for each in types_of(node)} or set(TYPES)
    for listed in listed_values(node):
        types &= {type_of(value) for value in listed}
    return [each for each in TYPES if each in types]


def listed_values(node: Node) -> list[Sequence[Any]]:
    """What `enum` and `const` list, each."""
    listed = [node.schema["enum"]] if "enum" in node.schema else []
    return [*listed, [node.schema["const"]]] if "const" in node.schema else listed


def _cross(one: list[Alternative], other: list[Alternative]) -> list[Alternative]:
    found = [Alternative(a.type, a.parts + b.parts) for a in one for b in other if a.type == b.type]
    if len(found) > MOST_ALTERNATIVES:
        raise Unclear("too many alternatives")
    return found


def _apart(branches: list[list[Alternative]]) -> bool:
    """Whether no value is surely in two of the branches: by type, or by a property that has to have another value."""
    return not any(
        a.type == b.type and not (_tags_differ([a], [b]) or _properties_differ(a, b))
        for i, branch in enumerate(branches)
        for other in branches[i + 1 :]
        for a in branch
        for b in other
    )


def _properties_differ(a: Alternative, b: Alternative) -> bool:
    if a.type != "object":
        return False
    return any(
        _tags_differ(_property_alternatives(a, name), _property_alternatives(b, name))
        for name in {name for each in a.values("required") for name in each}
        & {name for each in b.values("required") for name in each}
    )


def _property_alternatives(alternative: Alternative, name: str) -> list[Alternative]:
    return [
        Alternative("string", (part.at(part.schema["properties"][name]),))
        for part in alternative.parts
        if isinstance(part.schema.get("properties", {}).get(name), Mapping)
    ]


def _tags_differ(one: list[Alternative], other: list[Alternative]) -> bool:
    """Whether both list their values, and none is in both."""
    a, b = (
        [
            {key(value) for value in listed}
            for each in side
            for part in each.parts
            for listed in listed_values(part)
        ]
        for side in (one, other)
    )
    return any(not (listed & others) for listed in a for others in b)


def target(node: Node) -> Node:
    """What its `$ref` points to. Raises Unclear where that is not in the document."""
    reference = node.schema["$ref"]
    said = node.root.get("$schema", "") if isinstance(node.root, Mapping) else ""
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        raise Unclear(f"a reference out of the document: {reference!r}")
    if any(draft in str(said) for draft in _OLD_DRAFTS) and node.schema.keys() - ANNOTATIONS - {"$ref"}:
        raise Unclear("what stands beside $ref is ignored by older drafts")
    found = node.root
    for step in reference[2:].split("/") if reference != "#" else ():
        name = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping) and name in found:
            found = found[name]
        elif isinstance(found, list) and name.isdigit() and int(name) < len(found):
            found = found[int(name)]
        else:
            raise Unclear(f"a reference to nothing: {reference!r}")
    return node.at(found)


def bare(schema: Any) -> Any:
    """The schema without its annotations, in one order: equal ones accept the same. Names of properties stay."""
    if not isinstance(schema, Mapping):
        return schema
    found: dict[str, Any] = {}
    for keyword in sorted(schema):
        value = schema[keyword]
        if keyword in _MAPS and isinstance(value, Mapping):
            found[keyword] = {name: bare(value[name]) for name in sorted(value)}
        elif keyword in ANNOTATIONS or keyword.startswith("x-"):
            continue
        elif keyword in _LISTS and isinstance(value, list):
            found[keyword] = [bare(each) for each in value]
        elif keyword in _SINGLE:
            found[keyword] = bare(value)
        elif keyword in ("required", "enum", "type") and isinstance(value, list):
            found[keyword] = sorted(value, key=key)
        else:
            found[keyword] = value
    return found


def key(value: Any) -> str:
    """A text that is the same for equal JSON values: 1 and 1.0 are, 1 and true are not."""
    return json.dumps(_plain(value), sort_keys=True)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value
