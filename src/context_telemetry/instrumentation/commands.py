"""The `dft` command line as an entry: one `command.run` per invocation."""

from __future__ import annotations

from context_telemetry.instrumentation.hooks import Hook

HOOKS: tuple[Hook, ...] = ()
