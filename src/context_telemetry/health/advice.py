"""What to do about each reason, in the few words that fit beside it; runbooks say it at length."""

from __future__ import annotations

from collections.abc import Sequence
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
    "context_is_error_text": "open the trace: which source",
    "prompt_section_missing": "is the name right?",
    "instructions_truncated": "shorten them to the limit",
    "result_stale": "refresh, or shorten the ttl",
    "failure_cached": "repair, then refresh",
    "handle_outlived_file": "restart {processes}",
    "payload_over_budget": "ask for less, or raise limits",
    "schema_drift": "`dbt build`, or `dbt parse`",
    "contract_broken": "see `contract check`",
}
"""Every reason of the conventions has its words; a test says so."""


def what_to_do(reason: str, pids: Sequence[int] = ()) -> str:
    """The words for a reason that these processes met; empty for one that is not in the conventions."""
    return WHAT_TO_DO.get(reason, "").replace("{processes}", processes(pids))


def how(reason: str, folder: Path) -> str:
    """What the few words leave out, where they leave out anything: a path in the project's state folder."""
    if reason != "enrichment_lost":
        return ""
    from context_telemetry.instrumentation.enrichment import RECORD  # here, because only this asks for it

    return f"to accept the descriptions as they are now, delete {folder / RECORD}"
