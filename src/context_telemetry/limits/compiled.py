"""Limits as the hot path reads them: one dict lookup per question. No pydantic, no rules, no sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CompiledLimits:
    """What `Limits.compile` makes: bytes by (kind, client, static) seconds by layer, where there is one."""

    budgets: Mapping[tuple[str, str, bool], int]
    promises: Mapping[str, float]

    def budget(self, kind: str, client: str, static: bool) -> int | None:
        """The most bytes that such a payload may have for this client; None where nothing is promised."""
        return self.budgets.get((kind, client, static))

    def promise(self, layer: str) -> float | None:
        """The age in seconds that this layer's content must not exceed; None where nothing is promised."""
        return self.promises.get(layer)
