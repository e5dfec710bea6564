"""AI context: prompts, schema and source listings, instructions, skills and docs: how large, and what they lack."""

from __future__ import annotations

from context_telemetry.instrumentation.hooks import Hook

HOOKS: tuple[Hook, ...] = ()
