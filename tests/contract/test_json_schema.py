"""What a JSON Schema accepts beside another: known forms, what is unknown, and random pairs against `jsonschema`."""

from __future__ import annotations

import random
from typing import Any

import jsonschema
import pytest

from context_telemetry.contract.json_schema import Comparison, Verdict, bare, compare
from context_telemetry.contract.json_schema.instances import valid
from context_telemetry.contract.json_schema.nodes import Node

Json = dict[str, Any]

TEXT: Json = {"type": "string"}
WHOLE: Json = {"type": "integer"}
NUMBER: Json = {"type": "number"}
MAYBE_TEXT: Json = {"anyOf": [TEXT, {"type": "null"}]}


def thing(properties: Json | None = None, required: list[str] | None = None, **more: Any) -> Json:
    return {"type": "object", "properties": properties or {}, "required": required or [], **more}


def tagged(tag: str, **properties: Any) -> Json:
    return thing({"kind": {"const": tag}, **properties}, ["kind"])


def chain(of: Json, name: str = "node") -> Json:
    """A list of values, linked: a schema that refers to itself."""
    reference = {"$ref": f"#/$defs/{name}"}
    return {"$defs": {name: thing({"value": of, "next": reference})}, **reference}


PAIRS: list[tuple[str, Any, Any, Verdict]] = [
    ("the same", TEXT, TEXT, "equal"),
    ("other words about it", TEXT, {**TEXT, "description": "A text.", "default": "", "x-shown": True}, "equal"),
    ("an optional in two spellings", MAYBE_TEXT, {"type": ["null", "string"]}, "equal"),
    ("a schema that says nothing", {}, True, "equal"),
    ("nothing at all", {}, False, "narrower"),
    ("a type for another", TEXT, WHOLE, "different"),
    ("a whole number for any", WHOLE, NUMBER, "wider"),
    ("null no more", MAYBE_TEXT, TEXT, "narrower"),
    ("one more type", TEXT, {"type": ["string", "integer"]}, "wider"),
    ("an enum that grew", {"enum": ["a", "b"]}, {"enum": ["b", "a", "c"]}, "wider"),
    ("an enum of a text", TEXT, {"enum": ["a"]}, "narrower"),
    ("an enum of all there are", {"type": "boolean"}, {"enum": [True, False]}, "equal"),
    ("one and true", {"enum": [1]}, {"enum": [True]}, "different"),
    ("one and one point nought", {"const": 1}, {"enum": [1.0]}, "equal"),
    ("an enum within bounds", {"enum": [1, 2]}, {"type": "integer", "minimum": 1}, "wider"),
    ("bounds", {**WHOLE, "minimum": 1, "maximum": 1000}, {**WHOLE, "minimum": 1, "maximum": 100}, "narrower"),
    ("bounds that moved", {**NUMBER, "minimum": 0, "maximum": 10}, {**NUMBER, "minimum": 5}, "different"),
    ("an open bound of whole numbers", {**WHOLE, "exclusiveMinimum": 0}, {**WHOLE, "minimum": 1}, "equal"),
    ("an open bound of any number", {**NUMBER, "minimum": 1}, {**NUMBER, "exclusiveMinimum": 1}, "narrower"),
    ("steps", {**WHOLE, "multipleOf": 10}, {**WHOLE, "multipleOf": 5}, "wider"),
    ("lengths", {**TEXT, "maxLength": 100000}, {**TEXT, "maxLength": 99999}, "narrower"),
    ("a pattern less", {**TEXT, "pattern": "^a+$"}, TEXT, "wider"),
    ("items", {"type": "array", "items": WHOLE}, {"type": "array", "items": NUMBER}, "wider"),
    ("fewer items", {"type": "array", "maxItems": 90}, {"type": "array", "maxItems": 60}, "narrower"),
    ("items once", {"type": "array", "items": TEXT}, {"type": "array", "items": TEXT, "uniqueItems": True}, "narrower"),
    ("no items", {"type": "array", "maxItems": 0}, {"type": "array", "maxItems": 0, "items": TEXT}, "equal"),
    ("required", thing({"a": TEXT}), thing({"a": TEXT}, ["a"]), "narrower"),
    ("a property for the open", thing(), thing({"a": TEXT}), "narrower"),
    ("a property for the closed", thing(additionalProperties=False),
     thing({"a": TEXT}, additionalProperties=False), "wider"),
    ("closed", thing({"a": TEXT}), thing({"a": TEXT}, additionalProperties=False), "narrower"),
    ("others typed", thing(additionalProperties=WHOLE), thing(additionalProperties=NUMBER), "wider"),
    ("a property within", thing({"a": thing({"b": WHOLE})}), thing({"a": thing({"b": NUMBER})}), "wider"),
    ("as many as are named", thing({"a": TEXT}, additionalProperties=False),
     thing({"a": TEXT}, additionalProperties=False, maxProperties=1), "equal"),
    ("all of", {"allOf": [{"minimum": 1}, {**WHOLE, "maximum": 5}]}, {**WHOLE, "minimum": 1, "maximum": 5}, "equal"),
    ("all of, closed", {"allOf": [thing({"a": TEXT}, additionalProperties=False), thing({"b": TEXT})]},
     thing({"a": TEXT}, additionalProperties=False), "equal"),
    ("one of, by type", {"oneOf": [TEXT, WHOLE]}, {"anyOf": [WHOLE, TEXT]}, "equal"),
    ("one of, by a tag", {"oneOf": [tagged("a", x=WHOLE), tagged("b")]},
     {"oneOf": [tagged("a", x=NUMBER), tagged("b"), tagged("c")]}, "wider"),
    ("a reference", {"$defs": {"t": TEXT}, "$ref": "#/$defs/t"}, TEXT, "equal"),
    ("what it refers to", {"$defs": {"t": WHOLE}, "items": {"$ref": "#/$defs/t"}},
     {"$defs": {"t": NUMBER}, "items": {"$ref": "#/$defs/t"}}, "wider"),
    ("recursion", chain(WHOLE), chain(NUMBER, "other"), "wider"),
    ("recursion under another name", chain(WHOLE), chain(WHOLE, "other"), "equal"),
    ("not, the same", {"not": TEXT}, {"not": TEXT}, "equal"),
    ("not, another", {"not": TEXT}, {"not": WHOLE}, "different"),
    ("an if that is the same", {"if": TEXT, "then": {"minLength": 1}}, {"if": TEXT, "then": {"minLength": 1}}, "equal"),
]  # fmt: skip

UNKNOWN: list[tuple[str, Any, Any]] = [
    ("another document", TEXT, {"$ref": "https://example.org/text.json"}),
    ("a reference to nothing", TEXT, {"$ref": "#/$defs/nothing"}),
    ("a reference to itself", TEXT, {"$ref": "#"}),
    ("a word that is not known", TEXT, {**TEXT, "isbn": 13}),
    ("a format", TEXT, {**TEXT, "format": "date"}),
    ("a type that there is not", TEXT, {"type": "strnig"}),
    ("a schema that is none", TEXT, "string"),
    ("bounds that are none", WHOLE, {**WHOLE, "maximum": "many"}),
    (
        "a pattern that nothing is known to match",
        {**TEXT, "pattern": "^zq{7}$"},
        {**TEXT, "pattern": "^zq{8}$"},
    ),
]


@pytest.mark.parametrize(
    ("before", "after", "verdict"), [each[1:] for each in PAIRS], ids=[each[0] for each in PAIRS]
)
def test_known_forms(before: Any, after: Any, verdict: Verdict) -> None:
    found = compare(before, after)
    assert found.verdict == verdict
    _holds(found, before, after)
    mirrored: dict[Verdict, Verdict] = {"wider": "narrower", "narrower": "wider"}
    assert compare(after, before).verdict == mirrored.get(verdict, verdict)


@pytest.mark.parametrize(
    ("before", "after"), [each[1:] for each in UNKNOWN], ids=[each[0] for each in UNKNOWN]
)
def test_what_is_not_understood_is_unknown_and_never_safe(before: Any, after: Any) -> None:
    assert compare(before, after).accepts_all is None
    assert compare(before, after).verdict == "unknown"


def test_an_older_draft_ignores_what_stands_beside_a_reference_so_that_is_unknown() -> None:
    old = {"$schema": "http://json-schema.org/draft-07/schema#", "$defs": {"t": TEXT}, "$ref": "#/$defs/t"}
    assert compare(old, TEXT).verdict == "equal"
    assert compare({**old, "maxLength": 5}, TEXT).verdict == "unknown"


def test_branches_that_may_overlap_are_unknown_where_the_overlap_counts() -> None:
    overlapping = {"oneOf": [{**WHOLE, "minimum": 3}, {**WHOLE, "maximum": 1000}]}
    assert compare(WHOLE, overlapping).accepts_all is not True
    assert compare(overlapping, WHOLE).accepts_all is True
    in_both = {**WHOLE, "minimum": 3, "maximum": 5}
    assert compare(in_both, overlapping).verdict == "different"


def test_a_difference_comes_with_a_value_that_shows_it() -> None:
    found = compare({**WHOLE, "maximum": 100}, {**WHOLE, "maximum": 99})
    assert found.refused is not None
    assert found.refused.value == 100
    assert found.added is None


def test_references_point_into_the_document_that_they_stand_in() -> None:
    document = {"$defs": {"limit": {**WHOLE, "maximum": 5}}}
    reference = {"$ref": "#/$defs/limit"}
    assert compare(reference, {**WHOLE, "maximum": 5}, within_before=document).verdict == "equal"
    assert compare(reference, reference, document, {"$defs": {"limit": WHOLE}}).verdict == "wider"


def test_a_property_that_is_named_as_an_annotation_stays_in_the_bare_schema() -> None:
    schema = thing({"description": {"type": "string", "description": "Words."}}, title="Thing")
    assert bare(schema)["properties"] == {"description": {"type": "string"}}
    assert compare(schema, thing()).verdict == "wider"


def test_many_branches_end_in_unknown_and_in_time() -> None:
    many = {"allOf": [{"anyOf": [thing({f"p{i}{j}": TEXT}) for j in range(8)]} for i in range(8)]}
    assert compare(many, {**many, "isbn": 1}).accepts_all is None


# --- random pairs, against a validator of others


def random_schema(chance: random.Random, depth: int = 2) -> Any:
    """A schema of the keywords that tools use, seldom an empty one."""
    kinds = ["integer", "number", "string", "boolean", "null", "enum", "nullable"]
    if depth:
        kinds += ["array", "object", "object", "anyOf", "allOf", "oneOf", "ref", "not"]
    kind = chance.choice(kinds)
    if kind in ("integer", "number"):
        schema: Json = {"type": kind}
        for keyword in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
            if chance.random() < 0.25:
                schema[keyword] = chance.randint(-3, 3) + (
                    5 if "Max" in keyword or keyword == "maximum" else 0
                )
        if chance.random() < 0.15:
            schema["multipleOf"] = chance.choice([1, 2, 3, 4])
        return schema
    if kind == "string":
        return {"type": "string", **({"minLength": chance.randint(0, 3)} if chance.random() < 0.3 else {}),
                **({"maxLength": chance.randint(1, 5)} if chance.random() < 0.3 else {}),
                **({"pattern": chance.choice(["^a", "b$", "^[a-z]+$"])} if chance.random() < 0.2 else {})}  # fmt: skip
    if kind == "enum":
        return {
            "enum": chance.sample(["a", "b", "", 0, 1, 2.5, True, None, [], {"a": 1}], chance.randint(1, 4))
        }
    if kind == "nullable":
        return {"anyOf": [random_schema(chance, 0), {"type": "null"}]}
    if kind == "array":
        return {"type": "array", "items": random_schema(chance, depth - 1),
                **({"minItems": chance.randint(0, 2)} if chance.random() < 0.3 else {}),
                **({"maxItems": chance.randint(1, 3)} if chance.random() < 0.3 else {}),
                **({"uniqueItems": True} if chance.random() < 0.2 else {})}  # fmt: skip
    if kind == "object":
        names = chance.sample(["a", "b", "c"], chance.randint(0, 3))
        schema = {"type": "object", "properties": {name: random_schema(chance, depth - 1) for name in names}}
        if chance.random() < 0.5:
            schema["required"] = chance.sample(["a", "b", "c"], chance.randint(0, 2))
        if chance.random() < 0.5:
            schema["additionalProperties"] = chance.choice([True, False, random_schema(chance, 0)])
        if chance.random() < 0.2:
            schema[chance.choice(["minProperties", "maxProperties"])] = chance.randint(1, 2)
        return schema
    if kind in ("boolean", "null"):
        return {"type": kind}
    if kind == "ref":
        return {"$ref": chance.choice(["#/$defs/one", "#/$defs/other"])}
    if kind == "not":
        return {"not": random_schema(chance, 0)}
    return {kind: [random_schema(chance, depth - 1) for _ in range(chance.randint(1, 3))]}


def random_document(chance: random.Random) -> Json:
    schema = random_schema(chance)
    definitions = {
        "one": random_schema(chance, 0),
        "other": thing({"a": random_schema(chance, 0), "b": {"$ref": "#"}}),
    }
    return {**schema, "$defs": definitions} if isinstance(schema, dict) else schema


def nudged(chance: random.Random, schema: Any) -> Any:
    """The schema with one thing in it changed, as a new release would: two random ones have seldom much in common."""
    if isinstance(schema, list) and schema:
        place = chance.randrange(len(schema))
        return [nudged(chance, each) if i == place else each for i, each in enumerate(schema)]
    if isinstance(schema, bool) or not isinstance(schema, dict) or not schema:
        return schema
    keyword = chance.choice(list(schema))
    value = schema[keyword]
    if chance.random() < 0.2 and keyword not in ("type", "$ref", "$defs", "one", "other"):
        return {name: each for name, each in schema.items() if name != keyword}
    if isinstance(value, bool):
        return {**schema, keyword: not value}
    if isinstance(value, int):
        return {**schema, keyword: max(1, value + chance.choice([-1, 1]))}
    if keyword == "type":
        return {**schema, keyword: {"integer": "number", "number": "integer"}.get(value, value)}
    if keyword in ("required", "enum"):
        return {**schema, keyword: value[1:] or value}
    return {**schema, keyword: nudged(chance, value)}


def random_value(chance: random.Random, depth: int = 2) -> Any:
    kind = chance.randrange(8 if depth else 6)
    if kind == 6:
        return [random_value(chance, depth - 1) for _ in range(chance.randint(0, 3))]
    if kind == 7:
        return {
            name: random_value(chance, depth - 1)
            for name in chance.sample(["a", "b", "c", "d"], chance.randint(0, 3))
        }
    texts = ["", "a", "b", "ab", "abc", "aaaaaa"]
    return [None, chance.choice([True, False]), chance.randint(-5, 9), chance.choice([0.5, 2.5, -1.5, 7.5]),
            chance.choice(texts), chance.choice(texts)][kind]  # fmt: skip


def accepted(schema: Any, value: Any) -> bool:
    return bool(jsonschema.Draft202012Validator(schema).is_valid(value))


def _holds(found: Comparison, before: Any, after: Any) -> None:
    """What was found is what the other validator says."""
    assert (found.accepts_all is False) == (found.refused is not None)
    assert (found.adds_nothing is False) == (found.added is not None)
    if found.refused is not None:
        assert accepted(before, found.refused.value)
        assert not accepted(after, found.refused.value)
    if found.added is not None:
        assert accepted(after, found.added.value)
        assert not accepted(before, found.added.value)


@pytest.mark.parametrize("seed", range(40))
def test_no_verdict_on_random_schemas_is_contradicted_by_another_validator(seed: int) -> None:
    chance = random.Random(seed)
    known = 0
    for _ in range(10):
        before = random_document(chance)
        after = nudged(chance, before) if chance.random() < 0.7 else random_document(chance)
        found = compare(before, after)
        _holds(found, before, after)
        known += found.verdict != "unknown"
        examples = [random_value(chance) for _ in range(40)]
        for value in examples:
            judged = accepted(before, value), accepted(after, value)
            assert found.accepts_all is not True or judged != (True, False), (before, after, value)
            assert found.adds_nothing is not True or judged != (False, True), (before, after, value)
            assert valid(value, Node(before, before)) in (judged[0], None)
    assert known >= 4  # of ten; a comparison that says nothing would be right, too


def test_most_random_schemas_that_were_changed_a_little_are_judged() -> None:
    chance = random.Random(2026)
    befores = [random_document(chance) for _ in range(200)]
    verdicts = [compare(before, nudged(chance, before)).verdict for before in befores]
    assert verdicts.count("unknown") <= 0.2 * len(verdicts)
    assert all(verdict in verdicts for verdict in ("equal", "narrower", "wider", "different"))
