"""What OpenTelemetry's SDK does otherwise in older releases, of those that the package declares.

docs/soundness.md has the table of what that means for what is recorded.
"""

from __future__ import annotations

import re
from inspect import signature
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider


def counts_unasked() -> bool:
    """Whether it counts its own spans always; older ones never do, newer ones where they are asked."""
    return (1, 40) <= _release() < (1, 42)


def mixes_exemplars() -> bool:
    """Whether it may tell the value of one call with the span of another, where it collects while one is recorded."""
    return _release() < (1, 45)


def counted_by(meters: MeterProvider | None, provider: type) -> dict[str, Any]:
    """The argument by which a ``provider`` of ours counts itself with ``meters`` where that is asked for, and with no
    others: by itself it takes the process's. Empty where it has nothing to count.
    """
    from opentelemetry.metrics import NoOpMeterProvider

    if "meter_provider" not in signature(provider).parameters:
        return {}
    return {"meter_provider": (None if counts_unasked() else meters) or NoOpMeterProvider()}


def _release() -> tuple[int, ...]:
    from opentelemetry.sdk.version import __version__

    return tuple(int(each) for each in re.findall(r"\d+", __version__)[:2])
