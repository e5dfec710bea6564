"""What a process says of a sampler that may leave spans out: OpenTelemetry's own words for its own, and no others.

A sampler of somebody else's may describe itself by anything: it is `other`, and so is whatever has it inside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

OTHER: Final = "other"
"""A sampler that the SDK has no words for, or has one inside that it has none for."""

_SDK: Final = "opentelemetry.sdk.trace.sampling"
# The SDK's that ask others, by their class, and where they keep those.
_INSIDE: Final[Mapping[str, Sequence[str]]] = {
    "ParentBased": (
        "_root",
        "_remote_parent_sampled",
        "_remote_parent_not_sampled",
        "_local_parent_sampled",
        "_local_parent_not_sampled",
    ),
    "AlwaysRecordSampler": ("_root",),  # not in 1.39; it samples what the one inside does
}


def may_leave_out(sampler: Any) -> str | None:
    """The description of ``sampler``, or `OTHER`; None where it keeps every span, and where there is none."""
    if sampler is None:
        return None
    try:
        return None if _keeps_all(sampler) else str(sampler.get_description())
    except Exception:  # it is not the SDK's, or an SDK has it otherwise
        return OTHER


def _keeps_all(sampler: Any) -> bool:
    """Whether it exports every span; raises where the SDK's code or the SDK's words do not tell."""
    of = _class(sampler)
    if of in _INSIDE:
        # All are looked at: behind one that leaves out there may be one that has words of its own.
        found = [_keeps_all(getattr(sampler, each)) for each in _INSIDE[of]]
        return all(found)
    if of == "TraceIdRatioBased":
        return bool(sampler.bound > sampler.TRACE_ID_LIMIT)
    if of == "StaticSampler":
        # By what it decides: of one that records and exports nothing the SDK says that it is always on.
        return {"RECORD_AND_SAMPLE": True, "DROP": False}[sampler.should_sample(None, 0, "").decision.name]
    raise LookupError(of)


def _class(sampler: Any) -> str:
    """The one class of the SDK's by whose code it decides and describes itself. Raises ValueError for any other."""
    methods = [getattr(sampler, each) for each in ("should_sample", "get_description")]
    owners: set[str] = {each.__qualname__.rpartition(".")[0] for each in methods}
    if len(owners) > 1 or any(each.__module__ != _SDK or each.__self__ is not sampler for each in methods):
        raise ValueError
    return owners.pop()
