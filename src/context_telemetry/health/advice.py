"""What to do about each reason, in the few words that fit beside it; runbooks say it at length."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from context_telemetry.health.words import processes

WHAT_TO_DO: dict[str, str] = {
    "source_substituted": "name a configured source",
    "source_unconfigured": "configure `sources:`",
    "object_unknown": "was it renamed or dropped?",
    "resource_unknown": "correct the name or the link",
    "manifest_missing": "run `dbt parse`",
    "manifest_unreadable": "run `dbt parse`: it is broken",
    "manifest_incomplete": "run `dbt parse`: no nodes",
    "manifest_substituted": "run `dbt parse`: old snapshot",
    "manifest_stale": "run `dbt parse`: models moved",
    "profile_stale": "profile the tables again",
    "enrichment_lost": "restore them, or accept it",
    "layer_unavailable": "adapter there? source readable?",
    "face_unreadable": "`dft validate` the faces",
    "charts_failed": "open the trace for the code",
    "all_charts_failed": "open the trace: one cause",
    "context_is_error_text": "name the source, or repair it",
    "prompt_section_missing": "is the name right?",
    "instructions_truncated": "shorten the file that is cut",
    "result_stale": "refresh, or shorten the ttl",
    "failure_cached": "repair, then refresh",
    "handle_outlived_file": "file there? restart {processes}",
    "payload_over_budget": "ask for less, or raise limits",
    "schema_drift": "`dbt build`, or `dbt parse`",
    "contract_broken": "see `contract check`",
}
"""Every reason of the conventions has its words; a test says so."""


def what_to_do(reason: str, pids: Sequence[int] = (), ended: Collection[int] = ()) -> str:
    """The words for a reason that these processes met; empty for one that is not in the conventions.

    Those of them that have ``ended`` are not to be started again.
    """
    words, left = WHAT_TO_DO.get(reason, ""), [pid for pid in pids if pid not in ended]
    if "{processes}" in words and pids and not left:
        return "nothing: the process has ended"
    return words.replace("{processes}", processes(left))


_HOW: dict[str, str] = {
    "context_is_error_text": "a source cannot be read, or there are several and none was named for the schema",
    "handle_outlived_file": "they answer from a copy of the file that is nowhere else; where the path names no "
    "file any more, put it back first, or after the restart nothing answers",
    "instructions_truncated": "AGENTS.md, CLAUDE.md or a skill of more than 6,000 characters, as `dft init` itself "
    "writes them, or more than 20 memories; in the project: "
    "find . -size +6000c \\( -name SKILL.md -o -name AGENTS.md -o -name CLAUDE.md \\)",
}

# One repair heals all that met these, and perhaps others that follow from them.
_CAUSES = (
    "source_unconfigured", "source_substituted", "manifest_missing", "manifest_unreadable", "manifest_incomplete",
    "manifest_substituted", "handle_outlived_file", "layer_unavailable", "contract_broken", "schema_drift",
)  # fmt: skip
# These only say that a trace is to be opened, or one name or size to be looked at.
_SYMPTOMS = (
    "charts_failed", "all_charts_failed", "context_is_error_text", "prompt_section_missing", "object_unknown",
    "resource_unknown", "instructions_truncated", "payload_over_budget",
)  # fmt: skip


def urgency(reason: str) -> int:
    """0 for what one repair ends, causes before what follows from them; 2 for what is to be looked into."""
    return 0 if reason in _CAUSES else 2 if reason in _SYMPTOMS else 1


def how(reason: str, folder: Path) -> str:
    """What the few words leave out, where they leave out anything: a path in the project's state folder."""
    if reason != "enrichment_lost":
        return _HOW.get(reason, "")
    from context_telemetry.instrumentation.enrichment import RECORD  # here, because only this asks for it

    return f"to accept the descriptions as they are now, delete {folder / RECORD}"
