"""The rules for MCP tools and resources, one row each: when it fires, how bad that is, and for whom.

To add a rule, add a row to the table of what it is about, and its change and healthy twin to `tests/contract/
test_tool_rules.py`. Who calls a tool is harmed by what it takes no more, who reads its answer by what is new in it.
Where `json_schema` does not know, a row says so: unknown is a warning, never safe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from context_telemetry.contract.json_schema import Comparison, Example, bare, compare
from context_telemetry.contract.json_schema.nodes import ANNOTATIONS, Node, Unclear, key, target
from context_telemetry.contract.model import ResourceFacts, ToolFacts
from context_telemetry.contract.rules import Rule, When, both, came, differs, gone, never

MOST_SHOWN = 120
"""Characters of a schema or a value in a change: it has to fit a line of a pull request."""


@dataclass(frozen=True)
class Property:
    """One argument of a tool, or one field of its answer; or all that the schema does not name, together."""

    schema: Any
    document: Any
    """What the schema's references point into."""
    required: bool = False
    named: bool = True

    def compared(self, after: Property) -> Comparison:
        return compare(self.schema, after.schema, self.document, after.document)

    def said(self, keyword: str) -> Any:
        return self.schema.get(keyword) if isinstance(self.schema, Mapping) else None


def properties(schema: Mapping[str, Any] | None) -> tuple[Mapping[str, Property], Property]:
    """What an object's schema names, and what it says of all other names (by default: they are let through)."""
    root = _followed(schema or {})
    required = set(root.get("required") or ())
    named = {
        name: Property(each, schema, name in required)
        for name, each in (root.get("properties") or {}).items()
    }
    # A name that is required and not described is still a name.
    named.update({name: Property(True, schema, True) for name in sorted(required - named.keys())})
    return named, Property(root.get("additionalProperties", True), schema, named=False)


def _followed(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The object that a schema is, where it does nothing but point to one."""
    try:
        while "$ref" in schema and not schema.keys() - ANNOTATIONS - {"$ref"}:
            schema, before = target(Node(schema, schema)).schema, schema
            if schema is before or "$ref" in schema:
                break
    except Unclear:
        pass
    return schema if isinstance(schema, Mapping) else {}


# --- what the rows say


def _shown(value: Any) -> str:
    text = key(value)
    return text if len(text) <= MOST_SHOWN else text[: MOST_SHOWN - 3] + "..."


def _shown_schema(facts: Property) -> str | None:
    return _shown(bare(facts.schema)) if facts.named else None


def _shown_others(facts: Property) -> str | None:
    return (
        {True: "any other", False: "no other"}.get(facts.schema)
        if isinstance(facts.schema, bool)
        else "some other"
    )


def _shown_duty(facts: Property) -> str | None:
    return "required" if facts.required else "optional"


def _refused(before: Property, after: Property) -> str:
    return _example("refused now", before.compared(after).refused)


def _new(before: Property, after: Property) -> str:
    return _example("new", before.compared(after).added)


def _example(words: str, example: Example | None) -> str:
    return "" if example is None else f"{words}: {_shown(example.value)}"


# --- when they fire


def _named(before: bool, after: bool, condition: Callable[[Property, Property], bool]) -> When[Property]:
    """By whether the schema names it, before and after."""
    return both(lambda old, new: old.named is before and new.named is after and condition(old, new))


def _always(_before: Property, _after: Property) -> bool:
    return True


def _compared(condition: Callable[[Comparison], bool], named: bool = True) -> When[Property]:
    """By what the two schemas accept."""
    return _named(named, named, lambda before, after: condition(before.compared(after)))


def _words(keyword: str) -> When[Property]:
    """What the schema says under an annotation is another."""
    return _named(True, True, lambda before, after: key(before.said(keyword)) != key(after.said(keyword)))


def _duty(required: bool) -> When[Property]:
    return _named(
        True, True, lambda before, after: before.required is not required and after.required is required
    )


def _hint(name: str, absent: bool) -> Callable[[ToolFacts], bool]:
    """A hint of MCP's tool annotations; a tool that does not give it has the specification's default."""

    def given(facts: ToolFacts) -> bool:
        said = facts.annotations.get(name)
        return said if isinstance(said, bool) else absent

    return given


# Defaults: modelcontextprotocol.io/specification, schema of ToolAnnotations.
_read_only = _hint("readOnlyHint", absent=False)
_destructive = _hint("destructiveHint", absent=True)
_idempotent = _hint("idempotentHint", absent=False)
_open_world = _hint("openWorldHint", absent=True)


def _lost(hint: Callable[[ToolFacts], bool]) -> When[ToolFacts]:
    return both(lambda before, after: hint(before) and not hint(after))


def _gained(hint: Callable[[ToolFacts], bool]) -> When[ToolFacts]:
    return both(lambda before, after: hint(after) and not hint(before))


def _became_destructive(before: ToolFacts, after: ToolFacts) -> bool:
    """The hint says something of tools that write; of one that did not write, `read_only_lost` says it."""
    return (
        not _read_only(before) and not _read_only(after) and _destructive(after) and not _destructive(before)
    )


def _shown_hint(name: str, hint: Callable[[ToolFacts], bool]) -> Callable[[ToolFacts], str]:
    return lambda facts: f"{name} {str(hint(facts)).lower()}"


def _remainder(schema: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a schema says beside its properties one by one: combinations, numbers of properties."""
    apart = {"properties", "required", "additionalProperties"}
    return {keyword: value for keyword, value in _followed(schema or {}).items() if keyword not in apart}


def _together(
    schema: Callable[[ToolFacts], Mapping[str, Any] | None], condition: Callable[[Comparison], bool]
) -> When[ToolFacts]:
    """By what stands beside the properties, unless the two schemas are as a whole known to be all right."""

    def fires(before: ToolFacts, after: ToolFacts) -> bool:
        old, new = schema(before), schema(after)
        if old is None or new is None or key(bare(_remainder(old))) == key(bare(_remainder(new))):
            return False
        return condition(compare(_remainder(old), _remainder(new), old, new)) and condition(compare(old, new))

    return both(fires)


TOOL_RULES: tuple[Rule[ToolFacts], ...] = (
    Rule(
        id="tool_removed",
        level="breaking",
        direction="loosens",
        perspective="consumer",
        means="The tool is gone: agents and prompts that name it fail.",
        when=gone,
    ),
    Rule(
        id="tool_renamed",
        level="breaking",
        direction="neither",
        perspective="consumer",
        means="The tool has another name: agents and prompts that name the old one fail.",
        when=never,
    ),
    Rule(
        id="tool_added",
        level="info",
        direction="tightens",
        perspective="consumer",
        means="The tool is new: nobody calls it yet.",
        when=came,
    ),
    Rule(
        id="tool_description_changed",
        level="warning",
        direction="neither",
        perspective="consumer",
        means="The tool is described otherwise: models choose tools, and how to use them, by that.",
        when=differs(lambda facts: facts.description),
        shows=lambda facts: _shown(facts.description),
    ),
    Rule(
        id="read_only_lost",
        level="breaking",
        direction="loosens",
        perspective="consumer",
        means="The tool no longer says that it only reads: clients that ran it unasked may change something.",
        when=_lost(_read_only),
        shows=_shown_hint("readOnlyHint", _read_only),
    ),
    Rule(
        id="read_only_gained",
        level="info",
        direction="tightens",
        perspective="consumer",
        means="The tool says that it only reads.",
        when=_gained(_read_only),
        shows=_shown_hint("readOnlyHint", _read_only),
    ),
    Rule(
        id="destructive_gained",
        level="breaking",
        direction="loosens",
        perspective="consumer",
        means="The tool no longer rules out that it destroys something: clients that ran it unasked may do so.",
        when=both(_became_destructive),
        shows=_shown_hint("destructiveHint", _destructive),
    ),
    Rule(
        id="idempotent_lost",
        level="warning",
        direction="loosens",
        perspective="consumer",
        means="The tool no longer says that calling it twice is like once: a client that retries may do it twice.",
        when=_lost(_idempotent),
        shows=_shown_hint("idempotentHint", _idempotent),
    ),
    Rule(
        id="open_world_gained",
        level="warning",
        direction="loosens",
        perspective="consumer",
        means="The tool may reach beyond the project now: what it answers may be written by anybody.",
        when=_gained(_open_world),
        shows=_shown_hint("openWorldHint", _open_world),
    ),
    Rule(
        id="inputs_narrowed",
        level="breaking",
        direction="tightens",
        perspective="producer",
        means="The arguments are refused in a combination that was accepted.",
        when=_together(lambda facts: facts.input_schema, lambda found: found.accepts_all is False),
        shows=lambda facts: _shown(bare(_remainder(facts.input_schema))),
        example=lambda before, after: _example(
            "refused now", compare(before.input_schema, after.input_schema).refused
        ),
    ),
    Rule(
        id="inputs_unclear",
        level="warning",
        direction="neither",
        perspective="producer",
        means="The arguments are checked together otherwise, in a way that cannot be judged here.",
        when=_together(lambda facts: facts.input_schema, lambda found: found.accepts_all is None),
        shows=lambda facts: _shown(bare(_remainder(facts.input_schema))),
    ),
    Rule(
        id="output_schema_removed",
        level="breaking",
        direction="loosens",
        perspective="consumer",
        means="The tool no longer says what its answer holds: who reads fields of it cannot rely on them.",
        when=both(lambda before, after: before.output_schema is not None and after.output_schema is None),
    ),
    Rule(
        id="output_schema_added",
        level="info",
        direction="tightens",
        perspective="consumer",
        means="The tool says what its answer holds.",
        when=both(lambda before, after: before.output_schema is None and after.output_schema is not None),
    ),
    Rule(
        id="outputs_widened",
        level="breaking",
        direction="loosens",
        perspective="consumer",
        means="The answer may hold a combination of fields that it did not.",
        when=_together(lambda facts: facts.output_schema, lambda found: found.adds_nothing is False),
        shows=lambda facts: _shown(bare(_remainder(facts.output_schema))),
        example=lambda before, after: _example(
            "new", compare(before.output_schema or True, after.output_schema or True).added
        ),
    ),
    Rule(
        id="outputs_unclear",
        level="warning",
        direction="neither",
        perspective="consumer",
        means="The fields of the answer are held together otherwise, in a way that cannot be judged here.",
        when=_together(lambda facts: facts.output_schema, lambda found: found.adds_nothing is None),
        shows=lambda facts: _shown(bare(_remainder(facts.output_schema))),
    ),
)

INPUT_RULES: tuple[Rule[Property], ...] = (
    Rule(
        id="input_removed",
        level="breaking",
        direction="tightens",
        perspective="producer",
        means="The argument is gone and others are refused: a call that sends it fails.",
        when=_named(True, False, lambda _before, after: after.schema is False),
        shows=_shown_schema,
    ),
    Rule(
        id="input_ignored",
        level="warning",
        direction="loosens",
        perspective="producer",
        means="The argument is gone and others are let through: a call that sends it is answered without it.",
        when=_named(True, False, lambda _before, after: after.schema is not False),
        shows=_shown_schema,
    ),
    Rule(
        id="required_input_added",
        level="breaking",
        direction="tightens",
        perspective="producer",
        means="A new argument has to be sent: every call that was right fails.",
        when=_named(False, True, lambda _before, after: after.required),
        shows=_shown_schema,
    ),
    Rule(
        id="input_added",
        level="info",
        direction="loosens",
        perspective="producer",
        means="A new argument may be sent.",
        when=_named(False, True, lambda _before, after: not after.required),
        shows=_shown_schema,
    ),
    Rule(
        id="input_made_required",
        level="breaking",
        direction="tightens",
        perspective="producer",
        means="The argument has to be sent now: a call without it fails.",
        when=_duty(required=True),
        shows=_shown_duty,
    ),
    Rule(
        id="input_made_optional",
        level="info",
        direction="loosens",
        perspective="producer",
        means="The argument may be left out now.",
        when=_duty(required=False),
        shows=_shown_duty,
    ),
    Rule(
        id="input_narrowed",
        level="breaking",
        direction="tightens",
        perspective="producer",
        means="The argument takes fewer values: type, enum or bounds are narrower, and a call that was right fails.",
        when=_compared(lambda found: found.accepts_all is False and found.adds_nothing is True),
        shows=_shown_schema,
        example=_refused,
    ),
    Rule(
        id="input_retyped",
        level="breaking",
        direction="neither",
        perspective="producer",
        means="The argument takes other values: a call that was right fails.",
        when=_compared(lambda found: found.accepts_all is False and found.adds_nothing is not True),
        shows=_shown_schema,
        example=_refused,
    ),
    Rule(
        id="input_widened",
        level="info",
        direction="loosens",
        perspective="producer",
        means="The argument takes all that it took, and more.",
        when=_compared(lambda found: found.accepts_all is True and found.adds_nothing is not True),
        shows=_shown_schema,
        example=_new,
    ),
    Rule(
        id="input_unclear",
        level="warning",
        direction="neither",
        perspective="producer",
        means="The argument's schema changed in a way that cannot be judged here: a call that was right may fail.",
        when=_compared(lambda found: found.accepts_all is None),
        shows=_shown_schema,
    ),
    Rule(
        id="input_default_changed",
        level="warning",
        direction="neither",
        perspective="producer",
        means="A call without the argument does something else than before.",
        when=_words("default"),
        shows=lambda facts: _shown(facts.said("default")),
    ),
    Rule(
        id="input_description_changed",
        level="warning",
        direction="neither",
        perspective="producer",
        means="The argument is described otherwise: models decide by that what to send.",
        when=_words("description"),
        shows=lambda facts: _shown(facts.said("description")),
    ),
    Rule(
        id="inputs_closed",
        level="breaking",
        direction="tightens",
        perspective="producer",
        means="Arguments that the schema does not name are refused, or some of them: `additionalProperties` closed.",
        when=_compared(lambda found: found.accepts_all is False, named=False),
        shows=_shown_others,
    ),
    Rule(
        id="inputs_opened",
        level="info",
        direction="loosens",
        perspective="producer",
        means="Arguments that the schema does not name are let through.",
        when=_compared(
            lambda found: found.accepts_all is True and found.adds_nothing is not True, named=False
        ),
        shows=_shown_others,
    ),
    Rule(
        id="other_inputs_unclear",
        level="warning",
        direction="neither",
        perspective="producer",
        means="What is taken of arguments that the schema does not name changed, and cannot be judged here.",
        when=_compared(lambda found: found.accepts_all is None, named=False),
        shows=_shown_others,
    ),
)
"""For one argument before and after. One that is not named is what `additionalProperties` says of it."""

OUTPUT_RULES: tuple[Rule[Property], ...] = (
    Rule(
        id="output_removed",
        level="breaking",
        direction="loosens",
        perspective="consumer",
        means="The field is gone from the answer: who reads it finds nothing.",
        when=_named(True, False, _always),
        shows=_shown_schema,
    ),
    Rule(
        id="output_added",
        level="info",
        direction="tightens",
        perspective="consumer",
        means="The answer has a new field: nobody reads it yet.",
        when=_named(False, True, _always),
        shows=_shown_schema,
    ),
    Rule(
        id="output_made_optional",
        level="breaking",
        direction="loosens",
        perspective="consumer",
        means="The field may be missing from the answer now.",
        when=_duty(required=False),
        shows=_shown_duty,
    ),
    Rule(
        id="output_made_required",
        level="info",
        direction="tightens",
        perspective="consumer",
        means="The field is in every answer now.",
        when=_duty(required=True),
        shows=_shown_duty,
    ),
    Rule(
        id="output_widened",
        level="breaking",
        direction="loosens",
        perspective="consumer",
        means="The field may hold values that it did not, as of an enum that grew: who reads it was not made for them.",
        when=_compared(lambda found: found.accepts_all is True and found.adds_nothing is False),
        shows=_shown_schema,
        example=_new,
    ),
    Rule(
        id="output_retyped",
        level="breaking",
        direction="neither",
        perspective="consumer",
        means="The field holds other values than before, as of another type.",
        when=_compared(lambda found: found.accepts_all is not True and found.adds_nothing is False),
        shows=_shown_schema,
        example=_new,
    ),
    Rule(
        id="output_narrowed",
        level="info",
        direction="tightens",
        perspective="consumer",
        means="The field holds fewer values than before.",
        when=_compared(lambda found: found.accepts_all is not True and found.adds_nothing is True),
        shows=_shown_schema,
    ),
    Rule(
        id="output_unclear",
        level="warning",
        direction="neither",
        perspective="consumer",
        means="The field's schema changed in a way that cannot be judged here: it may hold values that it did not.",
        when=_compared(lambda found: found.adds_nothing is None),
        shows=_shown_schema,
    ),
    Rule(
        id="output_description_changed",
        level="warning",
        direction="neither",
        perspective="consumer",
        means="The field is described otherwise: it may mean something else.",
        when=_words("description"),
        shows=lambda facts: _shown(facts.said("description")),
    ),
    Rule(
        id="outputs_opened",
        level="info",
        direction="loosens",
        perspective="consumer",
        means="The answer may have fields that the schema does not name: who reads it passes over them.",
        when=_compared(lambda found: found.adds_nothing is not True, named=False),
        shows=_shown_others,
    ),
)
"""For one field of the answer before and after. One that is not named is what `additionalProperties` says of it."""

RESOURCE_RULES: tuple[Rule[ResourceFacts], ...] = (
    Rule(
        id="resource_removed",
        level="breaking",
        direction="loosens",
        perspective="consumer",
        means="The resource or template is gone: who reads its address gets an error.",
        when=gone,
    ),
    Rule(
        id="resource_renamed",
        level="breaking",
        direction="neither",
        perspective="consumer",
        means="The resource has another address: who reads the old one gets an error.",
        when=never,
    ),
    Rule(
        id="resource_added",
        level="info",
        direction="tightens",
        perspective="consumer",
        means="The resource is new: nobody reads it yet.",
        when=came,
    ),
    Rule(
        id="mime_type_changed",
        level="breaking",
        direction="neither",
        perspective="consumer",
        means="The resource is in another format: who parses it fails.",
        when=differs(lambda facts: facts.mime_type),
        shows=lambda facts: facts.mime_type,
    ),
    Rule(
        id="resource_description_changed",
        level="warning",
        direction="neither",
        perspective="consumer",
        means="The resource is described otherwise: models choose resources by that.",
        when=differs(lambda facts: facts.description),
        shows=lambda facts: _shown(facts.description),
    ),
)
