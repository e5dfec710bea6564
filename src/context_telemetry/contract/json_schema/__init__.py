"""Whether another JSON Schema accepts what one accepted: proven, refuted by an example, or unknown.

`proof` shows that nothing is refused that was accepted, `instances` finds something that is; where neither can, the
answer is unknown, and unknown is never safe. It fetches nothing: a reference to another document is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from context_telemetry.contract.json_schema.instances import counterexample
from context_telemetry.contract.json_schema.nodes import Node, bare
from context_telemetry.contract.json_schema.proof import proves

__all__ = ["Comparison", "Example", "Schema", "Verdict", "bare", "compare"]

Schema = Mapping[str, Any] | bool
"""A JSON Schema of draft 2020-12, what MCP takes for granted, as Python's `json` reads it."""

Verdict = Literal["equal", "narrower", "wider", "different", "unknown"]
"""What the schema after accepts, beside the one before; different: less of this, more of that."""


class Example(NamedTuple):
    """A JSON value on which two schemas disagree."""

    value: Any


@dataclass(frozen=True)
class Comparison:
    """What is accepted after, beside before. None is "not known"."""

    accepts_all: bool | None
    """Whether everything that was accepted still is."""
    adds_nothing: bool | None
    """Whether everything that is accepted was."""
    refused: Example | None = None
    """Accepted before and refused now; there whenever `accepts_all` is False."""
    added: Example | None = None
    """Refused before and accepted now; there whenever `adds_nothing` is False."""

    @property
    def verdict(self) -> Verdict:
        answers: dict[tuple[bool | None, bool | None], Verdict] = {
            (True, True): "equal",
            (False, True): "narrower",
            (True, False): "wider",
            (False, False): "different",
        }
        return answers.get((self.accepts_all, self.adds_nothing), "unknown")


def compare(
    before: Schema, after: Schema, within_before: Schema | None = None, within_after: Schema | None = None
) -> Comparison:
    """Compare what two schemas accept. `within_...` are the documents that their references point into."""
    old = Node(before, before if within_before is None else within_before)
    new = Node(after, after if within_after is None else within_after)
    accepts_all, refused = _covered(old, new)
    adds_nothing, added = _covered(new, old)
    return Comparison(accepts_all, adds_nothing, refused, added)


def _covered(narrow: Node, wide: Node) -> tuple[bool | None, Example | None]:
    """Whether `wide` accepts all that `narrow` does, else an example of what it refuses."""
    if proves(narrow, wide):
        return True, None
    found = counterexample(narrow, wide)
    return (None, None) if found is None else (False, Example(found[0]))
