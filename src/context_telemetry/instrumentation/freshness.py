"""The result cache and open database handles: how old an answer is that looks fresh."""

from __future__ import annotations

from context_telemetry.instrumentation.hooks import Hook

HOOKS: tuple[Hook, ...] = ()
