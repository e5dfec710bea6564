"""What one look at a project found, beside its accepted contract and its manifest: data that goes around as JSON.

Reading it costs a process neither DuckDB nor a parser of SQL. How it is made is in `look`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from context_telemetry.contract.model import Level, TableKey

Reason = Literal["contract_broken", "schema_drift"]
Part = Literal["tables", "tools"]
"""What a contract is about: tables and columns of all sources; tools and resources of the MCP server."""

MOST: Final = 256
"""So many findings are told, the worst of the contract first."""
MOST_FACES: Final = 10
"""So many faces of a finding are told."""


@dataclass(frozen=True)
class Finding:
    """One difference from the contract, or from the manifest."""

    reason: Reason
    rule: str
    """A rule of docs/contract-rules.md; of drift `table_missing`, `column_missing` or `type_contradicted`."""
    level: Level
    """As it counts: `breaking` only where somebody relies on it and no exception covers it. Drift is a `warning`."""
    object: str
    """`shop.main.fct_orders.status`, `tool docs`."""
    consumers: int
    """Faces, prompts and tools that are hit."""
    served: int | None
    """How often those were served; None where no history was at hand."""
    table: TableKey | None
    column: str | None
    faces: tuple[str, ...] = ()
    """The faces that are hit, by their paths in the project, the most served first; at most `MOST_FACES`."""

    @property
    def part(self) -> Part:
        return "tools" if self.table is None else "tables"

    @property
    def is_met(self) -> bool:
        """Whether a call that reads the object is served something else than was promised."""
        return self.table is not None and (self.reason == "schema_drift" or self.level == "breaking")


@dataclass(frozen=True)
class Comparison:
    """What one look found."""

    accepted: bool
    """Whether there is a contract, and what is served was compared with it."""
    problem: str | None
    """Why that was not possible although there is a contract or a project; for a person."""
    manifest_problem: str | None
    open: Mapping[Part, Mapping[Level, int]]
    """Differences from the contract, all of them. A part that was not compared, or was never accepted, is absent."""
    drift: int | None
    """Differences from the manifest, all of them; None where there is none that can be read."""
    unread: Mapping[str, str]
    """Sources of which nothing is known, and why; without those that were left out of the contract."""
    findings: tuple[Finding, ...]
    """Of the contract, then of the manifest, the worst and most used first; at most `MOST`."""
    files: tuple[str, ...]
    """Files and folders, there or not: where none of them is another, a new look finds the same."""
    faces: Mapping[str, tuple[Reason, ...]] = field(default_factory=dict)
    """The faces that read what a query meets, by their paths in the project; at most a thousand."""
    unread_files: bool = False
    """Whether one of ``unread`` is a file that is there. Look again: a lock that is let go of leaves it as it was."""


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Of nothing but what JSON has."""
    return asdict(comparison)


def from_json(document: Mapping[str, Any]) -> Comparison:
    """What `to_json` gave. Raises KeyError, TypeError or ValueError for anything else."""
    findings = (
        Finding(
            **{
                **each,
                "table": None if each["table"] is None else TableKey(*each["table"]),
                "faces": tuple(each["faces"]),
            }
        )
        for each in document["findings"]
    )
    faces = {str(face): tuple(reasons) for face, reasons in document["faces"].items()}
    return Comparison(
        **{**document, "findings": tuple(findings), "files": tuple(document["files"]), "faces": faces}
    )
