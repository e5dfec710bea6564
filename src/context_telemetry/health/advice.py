"""What to do about each reason, in the few words that fit beside it; runbooks say it at length."""

from __future__ import annotations

WHAT_TO_DO: dict[str, str] = {
    "source_substituted": "name a configured source",
    "source_unconfigured": "configure `sources:`",
    "object_unknown": "was it renamed or dropped?",
    "resource_unknown": "ask for one that exists",
    "manifest_missing": "run `dbt parse`",
    "manifest_unreadable": "run `dbt parse`: it is broken",
    "manifest_incomplete": "run `dbt parse`: no nodes",
    "manifest_substituted": "run `dbt parse`: old snapshot",
    "manifest_stale": "run `dbt parse`: models moved",
    "profile_stale": "profile the tables again",
    "enrichment_lost": "restore descriptions, or accept",
    "layer_unavailable": "install the dbt adapter",
    "face_unreadable": "`dft validate` the faces",
    "charts_failed": "`dft validate` the face",
    "all_charts_failed": "open the trace: one cause",
    "context_is_error_text": "open the trace: which source",
    "prompt_section_missing": "is the name right?",
    "instructions_truncated": "shorten them to the limit",
    "result_stale": "refresh, or shorten the ttl",
    "failure_cached": "repair, then refresh",
    "handle_outlived_file": "restart the process",
    "payload_over_budget": "ask for less, or raise limits",
}
"""Every reason of the conventions has its words; a test says so."""
