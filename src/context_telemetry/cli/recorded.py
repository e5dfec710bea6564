"""`doctor`'s view of the processes that were observed: what each said of itself last, read from the local files.

Their Python, release and settings may differ from those of the process that runs `doctor`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from context_telemetry.cli import text
from context_telemetry.cli.checks import Check
from context_telemetry.conventions import names
from context_telemetry.health import how, lost_descriptions, samplers
from context_telemetry.health.words import sampler, some_of
from context_telemetry.history import Event, History

_SECTION = "recorded"
_PROCESSES_SHOWN = 5
# What `context_telemetry.recorder.fallbacks` says, for people.
_FALLBACKS = {
    "host": "the host's providers",
    "span_processor": "a span processor was added to the provider",
    "sdk_metrics": "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED",
    "id_generator": "OTEL_PYTHON_ID_GENERATOR",
    "configurator": "OTEL_PYTHON_TRACER_CONFIGURATOR or OTEL_PYTHON_METER_CONFIGURATOR",
    "exemplar_filter": "OTEL_METRICS_EXEMPLAR_FILTER",
    "aggregation": "an exporter's own aggregation of histograms",
    "unknown_sdk": "an OpenTelemetry SDK that is not known yet",
}


def by_sdk(fallbacks: Sequence[object]) -> str:
    """That the SDK's own spans or histograms record calls, and why."""
    return f"recorded by the SDK ({', '.join(_FALLBACKS.get(str(each), str(each)) for each in fallbacks)})"


def recorded(folder: Path) -> Iterator[Check]:
    """The last state of each process, of those that have something to say first, the newest first; and of the
    descriptions.
    """
    history, now = History(folder), time.time()
    states = sorted(
        history.last_events(names.EVENT_CONTEXT_TELEMETRY_STATE), key=lambda state: state.time, reverse=True
    )
    checks = sorted((_process(state, now) for state in states), key=lambda check: check.state == "ok")
    yield from checks[:_PROCESSES_SHOWN]
    if more := checks[_PROCESSES_SHOWN:]:
        yield Check(_SECTION, "earlier", more[0].state, f"{len(more)} more")
    for described in history.last_events(names.EVENT_DATAFACE_ENRICHMENT_CHANGED)[-1:]:
        yield _descriptions(described, lost_descriptions(history), folder, now)


def _process(state: Event, now: float) -> Check:
    hooks = {
        word: _count(state, name)
        for word, name in (
            ("active", names.CONTEXT_TELEMETRY_HOOKS_ACTIVE),
            ("absent", names.CONTEXT_TELEMETRY_HOOKS_ABSENT),
            ("failed", names.CONTEXT_TELEMETRY_HOOKS_FAILED),
        )
    }
    # Not the count by part, which is what has come since the last word: the total below has all of them.
    wrong = _count(state, names.CONTEXT_TELEMETRY_SETTINGS_WRONG)
    caught = _count(state, names.CONTEXT_TELEMETRY_ERRORS) - wrong
    dropped = _count(state, names.CONTEXT_TELEMETRY_DROPPED)
    sampled = samplers([state])
    told = [f"{count} {word}" for word, count in hooks.items() if count]
    advice = [
        *(
            [f"{hooks['absent'] + hooks['failed']} hook points lost"]
            if hooks["absent"] + hooks["failed"]
            else []
        ),
        *([f"{text.counted(wrong, 'wrong setting')}, named on its standard error"] if wrong else []),
        *([f"{text.counted(caught, 'error')} caught"] if caught else []),
        *([f"{text.counted(dropped, 'record')} dropped, why is on its standard error"] if dropped else []),
        *(["status counts what was sampled, and no more"] if sampled else []),
    ]
    found = f"Dataface {state.release or 'unknown'}, hook points: {', '.join(told) or 'none'}, "
    fallbacks = state.attributes.get(names.CONTEXT_TELEMETRY_RECORDER_FALLBACKS)
    if isinstance(fallbacks, tuple) and fallbacks:
        found += f"{by_sdk(fallbacks)}, "
    for each in sampled:
        found += f"sampled by {sampler(each.sampler)}, "
    return Check(
        _SECTION,
        f"process {state.pid or '-'}",
        "note" if advice else "ok",
        found + text.ago(state.time, now),
        "; ".join(advice),
    )


def _descriptions(changed: Event, models: list[str], folder: Path, now: float) -> Check:
    described, total, lost = (
        _count(changed, name)
        for name in (
            names.DATAFACE_ENRICHMENT_COLUMNS_DESCRIBED,
            names.DATAFACE_ENRICHMENT_COLUMNS_TOTAL,
            names.DATAFACE_ENRICHMENT_LOST,
        )
    )
    found = f"on {described:,} of {text.counted(total, 'column')}, {text.ago(changed.time, now)}"
    if not lost:
        return Check(_SECTION, "descriptions", "ok", found)
    named = f", on {some_of(models)}" if models else ""
    advice = f"{lost:,} of a former manifest are gone{named}: restore them; {how('enrichment_lost', folder)}"
    return Check(_SECTION, "descriptions", "note", found, advice)


def _count(event: Event, name: str) -> int:
    value = event.attributes.get(name)
    return value if isinstance(value, int) else 0
