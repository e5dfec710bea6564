"""Sends recorded local files to a Collector by OTLP, at least once, with a ledger of what was accepted.

`endpoint` says where the Collector is, `sender` speaks with it, `recorded` reads the files, `ledger` remembers,
`sending` holds them together. It never runs in an observed process, and does not observe itself.
"""

from context_telemetry.pipeline.replay.endpoint import Endpoint, EndpointError
from context_telemetry.pipeline.replay.ledger import LedgerError
from context_telemetry.pipeline.replay.recorded import SIGNALS
from context_telemetry.pipeline.replay.sender import Patience, Unreachable
from context_telemetry.pipeline.replay.sending import Plan, Refused, Replay, Summary, Watcher

__all__ = [
    "SIGNALS",
    "Endpoint",
    "EndpointError",
    "LedgerError",
    "Patience",
    "Plan",
    "Refused",
    "Replay",
    "Summary",
    "Unreachable",
    "Watcher",
]
