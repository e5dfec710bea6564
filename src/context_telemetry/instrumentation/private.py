"""The private package `dataface_super_schema`, by its documented names, where it is installed."""

from __future__ import annotations

from context_telemetry.instrumentation.hooks import Hook

HOOKS: tuple[Hook, ...] = ()
