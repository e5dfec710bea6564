"""What of Dataface is observed, where, and in which release. One module per concern, each with its rows and readers.

`DatafaceInstrumentor` is the door for everybody: `instrument()`, `opentelemetry-instrument` and `run` go through it.
"""

from context_telemetry.instrumentation.hooks import version
from context_telemetry.instrumentation.instrumentor import (
    NEWEST,
    OLDEST,
    DatafaceInstrumentor,
    hook_states,
    probe,
    report_changes,
    report_state,
)
from context_telemetry.instrumentation.mcp import close_sessions
from context_telemetry.instrumentation.private import contract_versions

__all__ = [
    "NEWEST",
    "OLDEST",
    "DatafaceInstrumentor",
    "close_sessions",
    "contract_versions",
    "hook_states",
    "probe",
    "report_changes",
    "report_state",
    "version",
]
