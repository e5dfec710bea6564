"""What the conventions say of each reason, for the pages that people read: the condition, and what to do.

The hot path needs the names alone, which are constants; this reads the registry that comes with the package.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml

from context_telemetry.conventions import names


@dataclass(frozen=True)
class Reason:
    """One reason of the closed list, in the registry's words.

    ``silent``: Dataface says nothing of it itself, so that only this library tells it from health.
    """

    name: str
    brief: str
    condition: str
    healthy_twin: str
    silent: bool
    what_to_do: str


@cache
def reasons() -> dict[str, Reason]:
    """All reasons, in the registry's order."""
    text = (
        resources.files("context_telemetry.conventions").joinpath("registry/reasons.yaml").read_text("utf-8")
    )
    (attribute,) = yaml.safe_load(text)["attributes"]
    return {
        member["value"]: Reason(
            member["value"],
            member["brief"],
            member["annotations"]["condition"],
            member["annotations"]["healthy_twin"],
            member["annotations"]["silent"],
            member["annotations"]["what_to_do"],
        )
        for member in attribute["type"]["members"]
        if member["value"] in names.REASONS
    }
