"""Moments as Dataface, dbt and the private package write them: when something was built, and how old it is now."""

from __future__ import annotations

import datetime
import time
from typing import Any


def unix_time(said: Any) -> float | None:
    """The Unix time of a ``datetime`` or of its ISO 8601 text, in UTC where it names no zone; None of anything else."""
    if isinstance(said, str):
        try:
            said = datetime.datetime.fromisoformat(said.replace("Z", "+00:00"))
        except ValueError:
            return None
    if not isinstance(said, datetime.datetime):
        return None
    return (said if said.tzinfo is not None else said.replace(tzinfo=datetime.timezone.utc)).timestamp()


def seconds_since(moment: float | None) -> float | None:
    """How long ago a Unix time was; a moment still to come is now."""
    return None if moment is None else max(0.0, time.time() - moment)
