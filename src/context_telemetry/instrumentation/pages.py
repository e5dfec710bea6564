"""Pages of `dft serve` and the embedded preview: one SERVER span per page, read from what was answered."""

from __future__ import annotations

from context_telemetry.instrumentation.hooks import Hook

HOOKS: tuple[Hook, ...] = ()
