"""The schema context of a prompt, with what the profiles know."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def get_schema_context(
    *, adapter_registry: Any, source: str | None = None, cache_path: Path | None = None
) -> str:
    from dataface.core.inspect.cache_factory import build_resolver

    envelope = build_resolver(adapter_registry, cache_path).list_tables(source or "shop", "main")
    tables = envelope["sources"][source or "shop"].get("schemas", {}).get("main", {}).get("tables", {})
    return "\n".join(["## Tables (profiled)", *(f"- {name}" for name in tables)])
