"""Relationships out of the cache."""

from __future__ import annotations

from typing import Any


def load_relationship_context(project: Any = None) -> None:
    """There are none in the stand-in's cache."""
