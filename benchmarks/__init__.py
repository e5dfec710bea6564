"""What observing costs, measured against hand-written OpenTelemetry in one process: `python -m benchmarks`.

Read `measure` first (how), then `shapes`, `homes`, `by_hand` and `sides` (what), `equality` (whether it may be
compared) and `calls` (the rows). A busy machine makes numbers worse and no build red: only what is far off does.
"""
