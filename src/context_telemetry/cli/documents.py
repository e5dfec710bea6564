"""The JSON documents of `status`, `traces`, `trace` and `doctor`, in one form; docs/json.md lists their keys.

Times are ISO 8601 in UTC, durations and ages seconds, sizes bytes, ratios 0 to 1; null is "not known" or "none".
While the number in a document's `schema` stands, keys are only added.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from context_telemetry.conventions import names
from context_telemetry.health import Finding, what_to_do
from context_telemetry.history import Call, Span

if TYPE_CHECKING:
    from context_telemetry.cli.checks import Check
    from context_telemetry.cli.fleet import FleetStatus
    from context_telemetry.cli.status import Status

_KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")


def show(document: Mapping[str, Any]) -> None:
    """Print a document, and nothing else."""
    print(json.dumps(document, indent=2))


def status(seen: Status, exit_code: int) -> dict[str, Any]:
    """What one look gave."""
    verdict, history = seen.verdict, seen.history
    return {
        "schema": "context-telemetry.status/1",
        "state": verdict.state,
        "reason": verdict.reason,
        "exit_code": exit_code,
        "project": {"name": seen.place.name, "root": str(seen.place.root)},
        "folder": str(seen.place.folder),
        "generated_at": iso(seen.now),
        "since": None if history.since is None else iso(history.since),
        "window_seconds": seen.seconds,
        "traffic": [
            {
                "surface": row.surface,
                "client": row.client,
                "served": row.served,
                "ok": row.ok,
                "degraded": row.degraded,
                "failed": row.failed,
                "not_there": row.not_there,
                "p95_seconds": row.p95_seconds,
                "largest_payload": {"bytes": row.largest_bytes, "limit": row.largest_limit},
                "oldest": {
                    "age_seconds": row.oldest_age,
                    "layer": row.oldest_layer,
                    "promise": row.oldest_limit,
                },
            }
            for row in seen.facts.traffic
        ],
        "indicators": [_finding(each) for each in verdict.findings],
        "reasons": [
            {**_plain(reason), "what_to_do": what_to_do(reason.reason, reason.pids, seen.ended) or None}
            for reason in seen.facts.reasons
        ],
        "errors": [_plain(error) for error in seen.facts.errors],
        "checks": _plain(seen.facts.checks) if seen.facts.checks else None,
        "served": [_plain(row) for row in history.served()],
        "payloads": [_plain(row) for row in seen.facts.sizes],
        "ages": [_plain(row) for row in seen.facts.ages],
        "durations": [_plain(row) for row in history.durations()],
        "artifacts": [
            {"time": iso(event.time), **event.attributes}
            for event in history.last_events(names.EVENT_DATAFACE_ARTIFACT_CHANGED, names.DATAFACE_ARTIFACT)
        ],
        "processes": [_plain(process) for process in seen.facts.processes],
        "samplers": [_plain(each) for each in seen.facts.samplers],
        "unreadable": [asdict(each) for each in history.unreadable],
        "cut_lines": dict(history.cut_lines),
    }


def fleet(seen: FleetStatus, exit_code: int) -> dict[str, Any]:
    """What one look at an engine gave."""
    return {
        "schema": "context-telemetry.fleet/1",
        "state": seen.verdict.state,
        "reason": seen.verdict.reason,
        "exit_code": exit_code,
        "prometheus": seen.fleet.url,
        "labels": seen.fleet.labels,
        "generated_at": iso(seen.fleet.now()),
        "window_seconds": seen.fleet.seconds,
        "traffic": [asdict(row) for row in seen.served],
        "indicators": [_finding(each) for each in seen.verdict.findings],
        "reasons": [{**asdict(row), "what_to_do": what_to_do(row.reason) or None} for row in seen.reasons],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    indicator = finding.indicator
    return {
        "name": indicator.name,
        "surface": finding.surface,
        "state": finding.state,
        "value": finding.value,
        "limit": finding.limit,
        "unit": indicator.unit,
        "count": finding.count,
        "bad": finding.bad,
        "minimum": finding.minimum,
        "too_few": finding.too_few,
        "severity": indicator.severity,
        "component": indicator.component,
        "measures": indicator.measures,
        "notices": indicator.notices.get(finding.surface or "") or None,
        "detail": finding.detail or None,
    }


def traces(found: Sequence[Call]) -> dict[str, Any]:
    """The calls that match, newest first."""
    return {"schema": "context-telemetry.traces/1", "calls": [_plain(call) for call in found]}


def trace(spans: Sequence[Span]) -> dict[str, Any]:
    """A trace: its spans in order of their start, attributes under their conventional names."""
    return {
        "schema": "context-telemetry.trace/1",
        "trace_id": spans[0].trace_id,
        "spans": [
            {
                **_plain(span),
                "parent_id": span.parent_id or None,
                "kind": _KINDS[span.kind] if span.kind < len(_KINDS) else str(span.kind),
                "seconds": span.seconds,
            }
            for span in spans
        ],
    }


def doctor(checks: Sequence[Check], exit_code: int) -> dict[str, Any]:
    """What was looked at, in the order of the screen."""
    return {
        "schema": "context-telemetry.doctor/1",
        "exit_code": exit_code,
        "checks": [{**asdict(check), "advice": check.advice or None} for check in checks],
    }


_MOMENTS = frozenset({"time", "first", "last", "start", "end", "began", "ended"})
"""The fields of the history's records that are moments."""


def _plain(record: Any) -> dict[str, Any]:
    return {
        key: iso(value)
        if key in _MOMENTS and value is not None
        else list(value)
        if isinstance(value, tuple)
        else value
        for key, value in asdict(record).items()
    }


def iso(moment: float) -> str:
    """`2026-11-26T06:22:14.434000Z`: always as long, so that text sorts as time does."""
    told = datetime.fromtimestamp(moment, timezone.utc).isoformat(timespec="microseconds")
    return told.replace("+00:00", "Z")
