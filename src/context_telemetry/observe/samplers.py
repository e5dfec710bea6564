"""What a process says of a sampler that may leave spans out: OpenTelemetry's own words for its own, and no others.

A sampler of somebody else's may describe itself by anything: it is `other`.
"""

from __future__ import annotations

import re
from typing import Any, Final

OTHER: Final = "other"
"""A sampler that is none of the SDK's, or has one inside that is none."""

_SDK: Final = "opentelemetry.sdk.trace.sampling"
_ON, _OFF = "AlwaysOnSampler", "AlwaysOffSampler"
_EITHER: Final = f"({_ON}|{_OFF})"
_INSIDE: Final = ",".join(
    f"{word}:{_EITHER}"
    for word in (
        "root",
        "remoteParentSampled",
        "remoteParentNotSampled",
        "localParentSampled",
        "localParentNotSampled",
    )
)
# How the SDK describes those that are neither of the two, and what is inside of them where it is one of the two.
_RATIO: Final = re.compile(r"TraceIdRatioBased\{([01]|[01]\.\d+|\d(?:\.\d+)?e-\d+)\}")
_PARENT_BASED: Final = re.compile(rf"ParentBased\{{{_INSIDE}\}}")
_RECORDING: Final = re.compile(rf"AlwaysRecordSampler\{{{_EITHER}\}}")


def may_leave_out(sampler: Any) -> str | None:
    """The description of ``sampler``, or `OTHER`; None where it keeps every span, and where there is none."""
    if sampler is None:
        return None
    for each in ("should_sample", "get_description"):
        if getattr(getattr(type(sampler), each, None), "__module__", None) != _SDK:
            return OTHER
    try:
        description = str(sampler.get_description())
    except Exception:  # of one inside
        return OTHER
    return {_ON: None, _OFF: description}.get(_in_short(description), OTHER)


def _in_short(description: str) -> str:
    """`_ON` for what keeps every span, `_OFF` for what may not; anything else of what is not the SDK's."""
    description = _RATIO.sub(lambda found: _ON if float(found[1]) == 1.0 else _OFF, description)
    before = ""
    while before != description:  # from the innermost one on
        before = description
        description = _RECORDING.sub(r"\1", description)
        description = _PARENT_BASED.sub(lambda found: _OFF if _OFF in found.groups() else _ON, description)
    return description
