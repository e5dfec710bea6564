"""Each rule for MCP tools and resources fires on its change, alone, and on no healthy twin; and each row has both."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from dataface.ai.tool_schemas import ALL_TOOLS

from context_telemetry.contract.difference import resource_differences, tool_differences
from context_telemetry.contract.model import ResourceFacts, ToolFacts
from context_telemetry.contract.rules import Rule
from context_telemetry.contract.tool_rules import INPUT_RULES, OUTPUT_RULES, RESOURCE_RULES, TOOL_RULES

Json = dict[str, Any]

TEXT: Json = {"type": "string"}
WHOLE: Json = {"type": "integer"}
MAYBE: Json = {"anyOf": [{"enum": ["json", "text"]}, {"type": "null"}]}


def thing(properties: Json | None = None, required: tuple[str, ...] = (), **more: Any) -> Json:
    return {"type": "object", "properties": properties or {}, "required": list(required), **more}


def takes(properties: Json | None = None, required: tuple[str, ...] = (), **more: Any) -> ToolFacts:
    return ToolFacts(input_schema=thing(properties, required, **more))


def gives(properties: Json | None = None, required: tuple[str, ...] = (), **more: Any) -> ToolFacts:
    return ToolFacts(output_schema=thing(properties, required, **more))


def hints(**given: bool) -> ToolFacts:
    return ToolFacts(annotations=given)


Facts = tuple[ToolFacts | None, ToolFacts | None]
CLOSED: Json = {"additionalProperties": False}

TOOLS: dict[str, tuple[Facts, Facts]] = {
    "tool_removed": ((ToolFacts(), None), (ToolFacts(), ToolFacts())),
    "tool_added": ((None, ToolFacts()), (ToolFacts(), ToolFacts())),
    "tool_description_changed": (
        (ToolFacts("Runs SQL."), ToolFacts("Runs SQL, at most 50 rows.")),
        (ToolFacts("Runs SQL."), ToolFacts("Runs SQL.")),
    ),
    "read_only_lost": ((hints(readOnlyHint=True), hints()), (hints(), hints(readOnlyHint=False))),
    "read_only_gained": (
        (hints(), hints(readOnlyHint=True)),
        (hints(readOnlyHint=True), hints(readOnlyHint=True)),
    ),
    "destructive_gained": (
        (hints(destructiveHint=False), hints()),
        (hints(destructiveHint=True), hints()),
    ),
    "idempotent_lost": ((hints(idempotentHint=True), hints()), (hints(), hints(idempotentHint=False))),
    "open_world_gained": ((hints(openWorldHint=False), hints()), (hints(), hints(openWorldHint=True))),
    "inputs_narrowed": (
        (takes({"path": TEXT, "yaml": TEXT}), takes({"path": TEXT, "yaml": TEXT}, minProperties=1)),
        (takes({"path": TEXT}, ("path",)), takes({"path": TEXT}, ("path",), minProperties=1)),
    ),
    "inputs_unclear": (
        (takes({"path": TEXT}), takes({"path": TEXT}, strangeness=3)),
        (takes({"path": TEXT}, strangeness=3), takes({"path": TEXT}, strangeness=3, title="Arguments")),
    ),
    "output_schema_removed": ((gives({"rows": WHOLE}), ToolFacts()), (ToolFacts(), ToolFacts())),
    "output_schema_added": ((ToolFacts(), gives({"rows": WHOLE})), (gives(), gives())),
    "outputs_widened": (
        (gives({"a": TEXT, "b": TEXT}, minProperties=2), gives({"a": TEXT, "b": TEXT})),
        (gives({"a": TEXT}, ("a",), minProperties=1), gives({"a": TEXT}, ("a",))),
    ),
    "outputs_unclear": (
        (gives(strangeness=3), gives(strangeness=4)),
        (gives(), gives(strangeness=4)),
    ),
}

INPUTS: dict[str, tuple[Facts, Facts]] = {
    "input_removed": (
        (takes({"limit": WHOLE}, **CLOSED), takes(**CLOSED)),
        (takes({"limit": WHOLE}, **CLOSED), takes({"limit": WHOLE}, **CLOSED)),
    ),
    "input_ignored": ((takes({"limit": WHOLE}), takes()), (takes(), takes())),
    "required_input_added": (
        (takes({"sql": TEXT}), takes({"sql": TEXT, "source": TEXT}, ("source",))),
        (takes({"source": TEXT}, ("source",)), takes({"source": TEXT}, ("source",))),
    ),
    "input_added": ((takes(), takes({"limit": WHOLE})), (takes({"limit": WHOLE}), takes({"limit": WHOLE}))),
    "input_made_required": (
        (takes({"source": TEXT}), takes({"source": TEXT}, ("source",))),
        (takes({"source": TEXT}), takes({"source": TEXT})),
    ),
    "input_made_optional": (
        (takes({"source": TEXT}, ("source",)), takes({"source": TEXT})),
        (takes({"source": TEXT}, ("source",)), takes({"source": TEXT}, ("source",))),
    ),
    "input_narrowed": (
        (takes({"limit": {**WHOLE, "maximum": 1000}}), takes({"limit": {**WHOLE, "maximum": 100}})),
        (takes({"limit": {**WHOLE, "exclusiveMaximum": 101}}), takes({"limit": {**WHOLE, "maximum": 100}})),
    ),
    "input_retyped": (
        (takes({"limit": WHOLE}), takes({"limit": TEXT})),
        (takes({"limit": {"type": ["integer", "null"]}}), takes({"limit": {"anyOf": [{"type": "null"}, WHOLE]}})),
    ),
    "input_widened": (
        (takes({"format": {"enum": ["json", "text"]}}), takes({"format": MAYBE})),
        (takes({"format": MAYBE}), takes({"format": {"enum": ["text", None, "json"]}})),
    ),
    "input_unclear": (
        (takes({"day": TEXT}), takes({"day": {**TEXT, "format": "date"}})),
        (takes({"day": {**TEXT, "format": "date"}}), takes({"day": {"format": "date", **TEXT}})),
    ),
    "input_default_changed": (
        (takes({"limit": {**WHOLE, "default": 50}}), takes({"limit": {**WHOLE, "default": 20}})),
        (takes({"limit": {**WHOLE, "default": 50}}), takes({"limit": {**WHOLE, "default": 50.0}})),
    ),
    "input_description_changed": (
        (takes({"limit": {**WHOLE, "description": "Rows."}}), takes({"limit": {**WHOLE, "description": "Bytes."}})),
        (takes({"limit": {**WHOLE, "title": "Limit"}}), takes({"limit": WHOLE})),
    ),
    "inputs_closed": ((takes({"sql": TEXT}), takes({"sql": TEXT}, **CLOSED)), (takes(**CLOSED), takes(**CLOSED))),
    "inputs_opened": (
        (takes({"sql": TEXT}, **CLOSED), takes({"sql": TEXT})),
        (takes({"sql": TEXT}), takes({"sql": TEXT}, additionalProperties=True)),
    ),
    "other_inputs_unclear": (
        (takes(additionalProperties=TEXT), takes(additionalProperties={**TEXT, "format": "date"})),
        (takes(additionalProperties=TEXT), takes(additionalProperties={**TEXT, "title": "Day"})),
    ),
}  # fmt: skip

OUTPUTS: dict[str, tuple[Facts, Facts]] = {
    "output_removed": ((gives({"rows": WHOLE}), gives()), (gives(), gives())),
    "output_added": ((gives(), gives({"rows": WHOLE})), (gives({"rows": WHOLE}), gives({"rows": WHOLE}))),
    "output_made_optional": (
        (gives({"rows": WHOLE}, ("rows",)), gives({"rows": WHOLE})),
        (gives({"rows": WHOLE}), gives({"rows": WHOLE})),
    ),
    "output_made_required": (
        (gives({"rows": WHOLE}), gives({"rows": WHOLE}, ("rows",))),
        (gives({"rows": WHOLE}, ("rows",)), gives({"rows": WHOLE}, ("rows",))),
    ),
    "output_widened": (
        (gives({"status": {"enum": ["ok"]}}), gives({"status": {"enum": ["ok", "partial"]}})),
        (gives({"status": {"enum": ["ok"]}}), gives({"status": {"const": "ok"}})),
    ),
    "output_retyped": (
        (gives({"rows": WHOLE}), gives({"rows": TEXT})),
        (
            gives({"rows": {"type": ["integer", "null"]}}),
            gives({"rows": {"anyOf": [WHOLE, {"type": "null"}]}}),
        ),
    ),
    "output_narrowed": (
        (gives({"status": {"enum": ["ok", "partial"]}}), gives({"status": {"enum": ["ok"]}})),
        (gives({"status": {"enum": ["ok"]}}), gives({"status": {"enum": ["ok"]}})),
    ),
    "output_unclear": (
        (gives({"day": {**TEXT, "format": "date"}}), gives({"day": TEXT})),
        (gives({"day": TEXT}), gives({"day": {**TEXT, "examples": ["2026-01-31"]}})),
    ),
    "output_description_changed": (
        (
            gives({"rows": {**WHOLE, "description": "Read."}}),
            gives({"rows": {**WHOLE, "description": "Sent."}}),
        ),
        (
            gives({"rows": {**WHOLE, "description": "Read."}}),
            gives({"rows": {**WHOLE, "description": "Read."}}),
        ),
    ),
    "outputs_opened": ((gives(**CLOSED), gives()), (gives(), gives(additionalProperties=True))),
}

R = ResourceFacts
RESOURCES: dict[str, tuple[tuple[R | None, R | None], tuple[R | None, R | None]]] = {
    "resource_removed": ((R(), None), (R(), R())),
    "resource_added": ((None, R()), (R(), R())),
    "mime_type_changed": ((R(mime_type="text/csv"), R(mime_type="text/plain")), (R(mime_type="text/plain"), R())),
    "resource_description_changed": ((R("All faces."), R("Some faces.")), (R("All faces."), R("All faces."))),
}  # fmt: skip

RENAMES = {"tool_renamed", "resource_renamed"}
"""Told from two objects: tests/contract/test_renames.py."""
ALL = {**TOOLS, **INPUTS, **OUTPUTS}


def rules(before: ToolFacts | None, after: ToolFacts | None) -> list[str]:
    lists = ({"execute_query": facts} if facts else {} for facts in (before, after))
    return [change.rule for change in tool_differences(*lists)]


def resource_rules(before: ResourceFacts | None, after: ResourceFacts | None) -> list[str]:
    lists = ({"dataface://dashboards": facts} if facts else {} for facts in (before, after))
    return [change.rule for change in resource_differences(*lists)]


def test_every_row_has_a_test() -> None:
    rows: list[Rule[Any]] = [*TOOL_RULES, *INPUT_RULES, *OUTPUT_RULES, *RESOURCE_RULES]
    assert {rule.id for rule in rows} == ALL.keys() | RESOURCES.keys() | RENAMES
    assert len({rule.id for rule in rows}) == len(rows)


@pytest.mark.parametrize("rule", ALL)
def test_a_rule_fires_on_its_change_and_no_other_does(rule: str) -> None:
    assert rules(*ALL[rule][0]) == [rule]


@pytest.mark.parametrize("rule", ALL)
def test_a_rule_does_not_fire_on_its_healthy_twin(rule: str) -> None:
    assert rules(*ALL[rule][1]) == []


@pytest.mark.parametrize("rule", RESOURCES)
def test_a_rule_for_resources_fires_on_its_change_alone_and_not_on_its_twin(rule: str) -> None:
    assert resource_rules(*RESOURCES[rule][0]) == [rule]
    assert resource_rules(*RESOURCES[rule][1]) == []


def test_a_change_says_which_argument_and_a_value_that_shows_it() -> None:
    before, after = INPUTS["input_narrowed"][0]
    assert before
    assert after
    (change,) = tool_differences({"execute_query": before}, {"execute_query": after})
    assert change.object == "tool execute_query: input.limit"
    assert change.before == '{"maximum": 1000, "type": "integer"}'
    assert change.evidence == "refused now: 101"
    assert (change.level, change.direction, change.perspective) == ("breaking", "tightens", "producer")


def test_a_new_enum_value_of_an_answer_is_named() -> None:
    before, after = OUTPUTS["output_widened"][0]
    assert before
    assert after
    (change,) = tool_differences({"check": before}, {"check": after})
    assert change.object == "tool check: output.status"
    assert change.evidence == 'new: "partial"'


def test_arguments_behind_a_reference_are_judged_one_by_one() -> None:
    before = ToolFacts(input_schema={"$defs": {"Args": thing({"limit": WHOLE})}, "$ref": "#/$defs/Args"})
    after = ToolFacts(input_schema={"$defs": {"Args": thing({"limit": TEXT})}, "$ref": "#/$defs/Args"})
    assert rules(before, after) == ["input_retyped"]


def test_a_definition_that_changed_is_told_of_the_arguments_that_use_it() -> None:
    def tool(of: Json) -> ToolFacts:
        arguments = thing({"filter": {"$ref": "#/$defs/Filter"}, "sql": TEXT})
        return ToolFacts(input_schema={**arguments, "$defs": {"Filter": of}})

    assert rules(tool(thing({"by": TEXT})), tool(thing({"by": WHOLE}))) == ["input_retyped"]


def test_a_schema_that_takes_the_same_in_another_form_is_no_change() -> None:
    moved = ToolFacts(input_schema={"allOf": [thing({"limit": WHOLE})]})
    assert rules(takes({"limit": WHOLE}), moved) == []
    assert rules(moved, takes({"limit": WHOLE})) == []


def test_the_tools_of_dataface_do_not_differ_from_themselves() -> None:
    def listed() -> dict[str, ToolFacts]:
        return {
            tool["name"]: ToolFacts(tool["description"], copy.deepcopy(tool["input_schema"]))
            for tool in ALL_TOOLS
        }

    assert len(listed()) > 10
    assert tool_differences(listed(), listed()) == []
    without = {name: facts for name, facts in listed().items() if name != "execute_query"}
    assert [(change.object, change.rule) for change in tool_differences(listed(), without)] == [
        ("tool execute_query", "tool_removed")
    ]
