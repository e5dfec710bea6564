"""The agent loop: one entry per turn, its model calls and tool calls, and what entered the conversation."""

from __future__ import annotations

from context_telemetry.instrumentation.hooks import Hook

HOOKS: tuple[Hook, ...] = ()
