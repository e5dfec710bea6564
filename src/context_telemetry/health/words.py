"""How an age or a window is said in words; the one form that details and screens share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from context_telemetry.observe.samplers import OTHER

_NAMED = 3
# What the SDK's parent-based samplers do below a parent, where nobody has said otherwise.
_AS_THE_PARENT = (
    ",remoteParentSampled:AlwaysOnSampler,remoteParentNotSampled:AlwaysOffSampler"
    ",localParentSampled:AlwaysOnSampler,localParentNotSampled:AlwaysOffSampler}"
)


def lasting(seconds: float | None) -> str:
    """`45 s`, `3 min`, `2.5 h`, `4 d`; a dash where nothing is known."""
    if seconds is None:
        return "-"
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= length:
            count = seconds / length
            return f"{count:.1f} {unit}" if count < 10 and count != round(count) else f"{count:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def counted(count: int, noun: str) -> str:
    """`1 call`, `1,204 calls`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def some_of(words: Sequence[str]) -> str:
    """`a, b, c and 5 more`."""
    more = f" and {len(words) - _NAMED} more" if len(words) > _NAMED else ""
    return ", ".join(words[:_NAMED]) + more


def told_reasons(met: Iterable[tuple[str, int]]) -> str:
    """`handle_outlived_file 3, failure_cached 1`."""
    return ", ".join(f"{reason} {count:,}" for reason, count in met)


def sampler(description: str) -> str:
    """`TraceIdRatioBased{0.1}`; that a parent-based one does as the parent goes without saying."""
    if description == OTHER:
        return "another sampler than the SDK's six"
    return description.replace(_AS_THE_PARENT, ",...}")


def processes(pids: Sequence[int]) -> str:
    """`process 4242`, `processes 4242, 4343 and 5 more`; `the process` where no id is known."""
    if not pids:
        return "the process"
    return f"process{'es' if pids[1:] else ''} {some_of([str(each) for each in pids])}"
