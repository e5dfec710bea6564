"""How long a line of a local file is at most: what writes one and what reads it agree here, and import nothing else."""

from __future__ import annotations

from typing import Final

LONGEST: Final = 8 * 1024 * 1024
"""Bytes. The reader has a buffer of twice as many, which decides the memory that it uses."""
