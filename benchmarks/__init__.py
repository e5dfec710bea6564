"""What observing costs, measured against hand-written OpenTelemetry in one process: `python -m benchmarks`.

Nothing here is a test: a machine that is busy makes numbers worse, never a build red.
"""
