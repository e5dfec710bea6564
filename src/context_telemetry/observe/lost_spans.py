"""Spans that are lost because somebody else raised: the host's sampler, its id generator, its own span processor.

Without this library the exception would have reached the host: it is no error of ours. The span that it costs counts as
dropped; what is said has whose it was and its class, never its text.
"""

from __future__ import annotations

from typing import Final

from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, Span, get_current_span

from context_telemetry.observe import failsafe

# What a span calls of others' when it begins and when it ends, by its name in the SDK.
_WHOSE: Final = {
    "should_sample": "sampler",
    "generate_trace_id": "id generator",
    "generate_span_id": "id generator",
    "is_trace_id_random": "id generator",
    "on_start": "span processor",
    "on_end": "span processor",
}


def at_start(error: Exception, parent: Context) -> Span:
    """Count a span that could not begin; what there is in its place."""
    place, what, _ = _told(error)
    failsafe.dropped(place, 1, f"{what}, and the span is lost")
    return passing_on(parent)


def at_end(error: Exception, *, kept: bool) -> None:
    """Count a span whose end not everybody was shown who was to see it.

    Of a host's processors nobody can tell which is the one that exports, and whether it was behind: it counts.
    ``kept``: those that it is recorded for are shown it before all others.
    """
    place, what, through = _told(error)
    if kept and through == "on_end":
        failsafe.not_ours(place, f"{what} in {through}, and the span is kept")
    else:
        failsafe.dropped(place, 1, f"{what} at the end of a span: those behind it do not see the span")


def kept_all_the_same(error: Exception) -> None:
    """Say once that a processor raised which came while calls went on: the span was kept before it was asked."""
    place, what, through = _told(error)
    failsafe.not_ours(place, f"{what} in {through}, and the span is kept")


def passing_on(parent: Context) -> Span:
    """No span: the host's trace goes through, as if nobody had asked."""
    return NonRecordingSpan(get_current_span(parent).get_span_context())


def _told(error: Exception) -> tuple[str, str, str]:
    """The place, what happened, and the outermost function of somebody else's that ``error`` came through."""
    through, traceback = "", error.__traceback__
    while traceback is not None and through not in _WHOSE:
        through, traceback = traceback.tb_frame.f_code.co_name, traceback.tb_next
    whose = _WHOSE.get(through, "tracer")
    place = f"recorder.{whose.replace(' ', '_')}"
    return place, f"the {whose} of this process raised {type(error).__name__}", through
