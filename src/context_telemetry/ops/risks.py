"""The launch risk register as data: every silent reason, what else can go wrong on the day, and every named gap.

Conditions and remedies of reasons are the conventions' own words; only who saw the detection work is written here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

import yaml

from context_telemetry.health.indicators import INDICATORS
from context_telemetry.ops.reasons import reasons

FAULTS: Final = "tests/releases/test_on_faults.py"


@dataclass(frozen=True)
class Risk:
    """One row: what goes wrong, what tells of it, the test that saw it told, whose it is, what is done meanwhile.

    ``owner`` is a component of owners.yaml, or a surface where the risk is one surface's.
    """

    failure: str
    detection: str
    proven: str
    owner: str
    fallback: str


@dataclass(frozen=True)
class Gap:
    """What nothing tells from health, or only late, and what is done in place of an alert."""

    failure: str
    detection: str
    owner: str
    fallback: str


# Reason to the test on real Dataface that saw it: the name of a fault of the rehearsal, or file and test.
PROVEN: Final[Mapping[str, str]] = {
    "source_substituted": "fault source_unknown_answered",
    "source_unconfigured": "fault sources_removed",
    "object_unknown": "fault table_unknown",
    "resource_unknown": "fault resource_unknown",
    "context_is_error_text": "test_on_context.py::test_a_prompt_with_an_errors_text_for_its_schema_is_degraded",
    "prompt_section_missing": "test_on_context.py::"
    "test_a_shared_prompt_that_does_not_exist_is_a_section_that_is_missing",
    "instructions_truncated": "test_on_context.py::test_instructions_beyond_their_limit_are_cut",
    "manifest_missing": "fault manifest_gone",
    "manifest_unreadable": "fault manifest_cut",
    "manifest_incomplete": "fault manifest_empty",
    "manifest_substituted": "fault manifest_snapshot",
    "manifest_stale": "fault model_edited",
    "layer_unavailable": "fault adapter_missing",
    "profile_stale": "test_on_private.py::test_a_profile_older_than_promised_is_stale_and_a_younger_one_is_not",
    "enrichment_lost": "test_enrichment.py::"
    "test_a_server_carries_the_reason_on_calls_that_load_the_manifest_until_it_is_accepted",
    "face_unreadable": "fault face_broken",
    "charts_failed": "fault column_dropped",
    "all_charts_failed": "fault database_gone",
    "result_stale": "test_on_freshness.py::"
    "test_a_stored_result_that_is_older_than_a_promise_is_stale_and_without_one_it_is_not",
    "failure_cached": "test_on_freshness.py::"
    "test_a_failure_that_is_answered_from_the_cache_says_so_and_one_of_the_warehouse_does_not",
    "handle_outlived_file": "test_on_freshness.py::"
    "test_a_resolver_that_answers_from_a_file_that_was_replaced_says_so",
    "payload_over_budget": "fault result_oversized",
    "schema_drift": "test_on_contract.py::"
    "test_without_a_contract_a_column_that_the_manifest_declares_and_is_gone_is_drift_alone",
    "contract_broken": "test_on_contract.py::"
    "test_a_query_of_a_column_that_was_dropped_has_the_reasons_and_one_of_others_has_none",
}

# Whose a reason is; what is not here is the catalogue's.
_OWNERS: Final[Mapping[str, str]] = {
    "resource_unknown": "ai_context",
    "context_is_error_text": "ai_context",
    "prompt_section_missing": "ai_context",
    "instructions_truncated": "ai_context",
    "payload_over_budget": "ai_context",
    "face_unreadable": "dashboard",
    "charts_failed": "dashboard",
    "all_charts_failed": "dashboard",
    "result_stale": "dashboard",
    "failure_cached": "dashboard",
}

_OF_THE_LAUNCH: Final = (
    Risk(
        "The warehouse is away or locked: tools, pages and commands end in errors.",
        "[DatafaceFailedRatio](DatafaceFailedRatio.md), on dashboards [DatafaceDegradedRatio]"
        "(DatafaceDegradedRatio.md) with `all_charts_failed`",
        "fault database_gone",
        "catalogue",
        "Tell users by the template *the warehouse is away*; dashboards that were rendered before stay readable.",
    ),
    Risk(
        "A deployment loses `dataface.yml`, `profiles.yml` or `target/`.",
        "[DatafaceDegradedRatio](DatafaceDegradedRatio.md), [DatafaceFailedRatio](DatafaceFailedRatio.md)",
        "fault sources_removed",
        "catalogue",
        "Put the file back from the last commit: [rollback](rollback.md#catalogue-artefacts).",
    ),
    Risk(
        "A table or column that consumers rely on is renamed or dropped.",
        "[DatafaceContractOpen](DatafaceContractOpen.md) before anybody asks for it; without a contract "
        "[DatafaceResolutionFailures](DatafaceResolutionFailures.md), `charts_failed`",
        "tests/ops/test_runbook_commands.py::test_the_commands_of_a_runbook_show_what_it_says",
        "catalogue",
        "A view under the former name, until what asks for it is changed.",
    ),
    Risk(
        "The warehouse's file is gone or cut, a face or the manifest cannot be read, and nobody has asked yet.",
        "[DatafaceChecksFailing](DatafaceChecksFailing.md), where a check runs each minute",
        "tests/ops/test_runbook_commands.py::test_the_commands_of_a_runbook_show_what_it_says",
        "catalogue",
        "Put the last good file back; dashboards that were rendered before stay readable.",
    ),
    Risk(
        "Agents or faces name tables and columns that are not there.",
        "[DatafaceUnknownReferences](DatafaceUnknownReferences.md)",
        "tests/ops/test_runbook_commands.py::test_the_commands_of_a_runbook_show_what_it_says",
        "ai_context",
        "Name the tables that there are in the agents' instructions (`AGENTS.md`); correct the faces.",
    ),
    Risk(
        "Answers grow until the models that read them forget the rest.",
        "[DatafacePayloadOverBudget](DatafacePayloadOverBudget.md), [DatafacePayloadP95](DatafacePayloadP95.md)",
        "fault result_oversized",
        "ai_context",
        "Ask for fewer rows and columns; lower the row limit in the agents' instructions.",
    ),
    Risk(
        "A release of Dataface moves what is observed, and calls go unseen.",
        "[DatafaceHooksLost](DatafaceHooksLost.md), `context-telemetry doctor`",
        "test_hooks.py::test_a_missing_target_is_absent_and_a_changed_signature_disables_the_hook",
        "telemetry",
        "Go back to the release before: [rollback](rollback.md#dataface).",
    ),
    Risk(
        "Observation itself harms the host.",
        "none of its own, because nobody would see the difference from outside; the first step where a host misbehaves "
        "is to switch it off",
        "test_run.py::test_disabled_it_is_as_if_the_library_were_not_there",
        "telemetry",
        "`CONTEXT_TELEMETRY_DISABLED=1` and a restart: [rollback](rollback.md#this-library).",
    ),
    Risk(
        "Telemetry is lost on its way: a disk is full, a Collector is away.",
        "[DatafaceTelemetryDropped](DatafaceTelemetryDropped.md), [DatafaceCollectorExportFailing]"
        "(DatafaceCollectorExportFailing.md), [DatafaceCollectorQueueFilling](DatafaceCollectorQueueFilling.md)",
        "tests/ops/test_runbook_commands.py::test_the_commands_of_a_runbook_show_what_it_says",
        "telemetry",
        "Local files: take `OTEL_EXPORTER_OTLP_ENDPOINT` away and restart; send them later.",
    ),
    Risk(
        "Nobody is told, because alerts do not arrive.",
        "[DatafaceWatchdog](DatafaceWatchdog.md): something outside raises the alarm when it stops",
        "tests/stack/test_runbook_commands.py::test_the_commands_for_the_fleet_show_what_their_page_says",
        "telemetry",
        "`context-telemetry status --watch` on a screen of the launch room.",
    ),
    Risk(
        "Somebody is told and does not answer.",
        "the alert is not acknowledged within the time of [severity](severity.md)",
        "tests/ops/test_runbooks.py::test_every_alert_has_its_page_with_an_owner_and_a_next_one",
        "surface",
        "Whoever notices calls who is next on the alert's page.",
    ),
)


def _of_reasons() -> list[Risk]:
    found = []
    for reason in reasons().values():
        if not reason.silent:
            continue
        found.append(
            Risk(
                f"`{reason.name}`: {_first_lower(reason.condition)}",
                ", ".join(f"[{name}]({name}.md)" for name in alerts_of(reason.name)),
                PROVEN[reason.name],
                _OWNERS.get(reason.name, "catalogue"),
                reason.what_to_do,
            )
        )
    return found


# Reasons of names that do not resolve: `dataface.resolution.failures` counts them, and has no list of reasons.
_UNRESOLVED: Final = frozenset(
    {"source_substituted", "source_unconfigured", "object_unknown", "resource_unknown"}
)


def alerts_of(reason: str) -> list[str]:
    """The alerts that a reason can make fire: its own where it has one, and always that of degraded answers."""
    own = [
        each.alert
        for each in INDICATORS
        if each.kind == "ratio"
        and any(reason in values for part in each.bad for values in part.where.values())
        and each.name != "degraded_ratio"
    ]
    if reason == "contract_broken":
        own.append("DatafaceContractOpen")
    if reason in _UNRESOLVED:
        own.append("DatafaceResolutionFailures")
    return [*own, "DatafaceDegradedRatio"]


def risks() -> Sequence[tuple[str, Sequence[Risk]]]:
    """The register in its parts, as (heading, rows)."""
    return (
        ("What Dataface does not say itself", _of_reasons()),
        ("What else can go wrong on the day", _OF_THE_LAUNCH),
    )


@cache
def gaps() -> tuple[Gap, ...]:
    """Every gap that the documentation names, with what is done in place of an alert."""
    text = resources.files("context_telemetry.ops").joinpath("texts/gaps.yaml").read_text("utf-8")
    return tuple(
        Gap(row["what"], _detection(row), group["owner"], group["fallback"])
        for group in yaml.safe_load(text)
        for row in group["gaps"]
    )


def _detection(row: Mapping[str, str]) -> str:
    why = _first_lower(row["why"])
    if "late" in row:
        return f"late, because: {why}"
    return f"none, because: {'not looked at in this version: ' if 'not_looked_at' in row else ''}{why}"


def _first_lower(words: str) -> str:
    """As it goes on within a sentence; names and abbreviations stay as they are."""
    begins = words.split(" ", 1)[0]
    named = begins in ("Dataface", "FastAPI's", "AGENTS.md,") or not begins[1:].islower()
    return words if named and begins != "A" else words[:1].lower() + words[1:]
