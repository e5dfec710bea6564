"""Every key that can be set, read off the model: for messages (what was expected, or meant) and docs."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from context_telemetry.limits.model import Budget
from context_telemetry.settings.model import Settings

VARIABLE_PREFIX = "CONTEXT_TELEMETRY_"
Path = tuple[str, ...]


@dataclass(frozen=True)
class Key:
    """One key: ``expected`` is its type in words, ``default`` as TOML (None: unset)."""

    path: Path
    expected: str
    default: str | None
    description: str
    parts: tuple[str, ...] = ()
    """What it has below it when it is written as a table."""


def as_key(path: Path) -> str:
    """The path as it is written in a file."""
    return ".".join(path)


def as_variable(path: Path) -> str:
    """The path as the name of a variable; of several, where it is a table."""
    name = VARIABLE_PREFIX + "__".join(path).upper()
    return name if path in keys() or path[:-1] in keys() else f"{name}__..."


@lru_cache(maxsize=1)
def keys() -> dict[Path, Key]:
    """All keys by path, in the model's order."""
    schema = Settings.model_json_schema()
    return {key.path: key for key in _walk((), schema, schema["$defs"], Settings())}


def beside(path: Path) -> list[Path]:
    """The keys and tables that there are in the table of ``path``."""
    everything = [*keys(), *((*key.path, part) for key in keys().values() for part in key.parts)]
    here = len(path)
    inside = (p[:here] for p in everything if len(p) >= here and p[: here - 1] == path[:-1])
    return list(dict.fromkeys(inside))


def nearest(path: Path) -> Path | None:
    """What was most likely meant by ``path``: a name much like it beside it, or else a path like it."""
    here = {there[-1]: there for there in beside(path)}
    everywhere = {as_key(there): there for there in keys()}
    for words, word, likeness in ((here, path[-1], 0.7), (everywhere, as_key(path), 0.8)):
        close = difflib.get_close_matches(word, words, n=1, cutoff=likeness)
        if close:
            return words[close[0]]
    return None


def _walk(
    path: Path, schema: Mapping[str, Any], defs: Mapping[str, Any], default: Any, table: str = ""
) -> Iterator[Key]:
    for name, field in schema["properties"].items():
        here, value = (*path, name), getattr(default, name)
        description = field.get("description", table)  # of a key that says nothing itself: its table's
        field = next((option for option in field.get("anyOf", ()) if option.get("type") != "null"), field)
        target = field.get("$ref", "").rpartition("/")[2]
        if target == Budget.__name__:
            shown = None if value is None else str(value.bytes)
            parts = defs[target]["properties"]
            yield Key(here, _expected(parts["bytes"]), shown, description, tuple(parts))
        elif target:
            yield from _walk(here, defs[target], defs, value, description)
        else:
            yield Key(here, _expected(field), _toml(value), description)


def _expected(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return "one of " + ", ".join(schema["enum"])
    if schema["type"] == "boolean":
        return "true or false"
    if schema["type"] == "string":
        return "a path"
    words = "a whole number" if schema["type"] == "integer" else "a number"
    bounds = [
        f"{word} {schema[key]:.12g}"
        for key, word in (("exclusiveMinimum", "above"), ("minimum", "of at least"), ("maximum", "at most"))
        if key in schema
    ]
    return f"{words} {' and '.join(bounds)}".strip()


def _toml(value: Any) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return None if value is None else str(value)
