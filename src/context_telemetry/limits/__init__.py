"""What is promised and what is tolerated: payload budgets, staleness promises, objectives.

`compiled`, `clients` and `payloads` are plain tables for the hot path. `Limits`, the pydantic model that
budgets are compiled from, is imported at first use only: an observed call must not pay for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from context_telemetry.limits.compiled import CompiledLimits

if TYPE_CHECKING:
    from context_telemetry.limits.model import Budget, Limits, Objectives

__all__ = ["Budget", "CompiledLimits", "Limits", "Objectives"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from context_telemetry.limits import model

        return getattr(model, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
