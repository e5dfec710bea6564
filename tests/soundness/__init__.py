"""Whether the recorders are sound: the same telemetry as by hand, nothing lost, no child hung, nobody kept waiting."""
