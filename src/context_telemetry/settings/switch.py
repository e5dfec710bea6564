"""The off switch. Read before anything else is imported, so this module imports nothing of ours."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

ON: Final = frozenset({"true", "1", "yes", "on"})
OFF: Final = frozenset({"false", "0", "no", "off"})


def is_disabled(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the environment says that nothing is to be touched.

    `OTEL_SDK_DISABLED` means what the OpenTelemetry specification says: only "true", in any case, is true.
    """
    return (
        environ.get("CONTEXT_TELEMETRY_DISABLED", "").strip().lower() in ON
        or environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    )
