"""The fingerprint of a context: a short hash over what a consumer was given to work with.

Equal fingerprints mean the same context, in any process and on any day; where a part is not known there is none.
Nothing here knows what a prompt or a manifest is: callers give digests. What is measured is kept only to recognise it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from context_telemetry.conventions import names

KINDS: Final = frozenset({"manifest", "objects", "prompt", "tool_list"})
"""What a fingerprint may be made of."""

standing: list[Callable[[], tuple[str, str | None] | None]] = []
"""What every consumer of this process is given: each answers a kind and a digest (None: not known), or nothing."""

_CHUNK = 65_536
# So many texts and lists are kept, of at most so many bytes each.
_KEPT = 8
_LONGEST_KEPT = 1_048_576

_known: tuple[tuple[Any, int, str], ...] = ()


def digest(content: bytes) -> str:
    """16 hexadecimal digits that are equal for equal content. SHA-256, because it is fast where hardware does it."""
    return hashlib.sha256(content).hexdigest()[:16]


def measure(content: str | list[Any]) -> tuple[int, str]:
    """The UTF-8 size of a text, or of a list as compact JSON, and its digest.

    Once for each content: the last few are recognised by comparing, which costs a tenth of hashing. A list is
    recognised when its members are equal, whoever made it.
    """
    global _known
    for known, size, found in _known:
        if type(known) is type(content) and known == content:
            return size, found
    size, found = _measure_text(content) if isinstance(content, str) else _measure_json(content)
    if size <= _LONGEST_KEPT:
        kept = content if isinstance(content, str) else list(content)
        _known = ((kept, size, found), *_known[: _KEPT - 1])
    return size, found


def _measure_text(text: str) -> tuple[int, str]:
    size, hashed = 0, hashlib.sha256()
    for start in range(0, len(text), _CHUNK):
        part = text[start : start + _CHUNK].encode("utf-8", "surrogatepass")
        size += len(part)
        hashed.update(part)
    return size, hashed.hexdigest()[:16]


def _measure_json(content: list[Any]) -> tuple[int, str]:
    # Sorted keys change the digest of no equal list, and the size of none.
    return _measure_text(
        json.dumps(content, ensure_ascii=False, separators=(",", ":"), sort_keys=True, default=str)
    )


def conclude(given: Mapping[str, set[str | None]]) -> dict[str, Any]:
    """The attributes of an entry whose consumer was given these digests by kind, and what stands for all of them.

    The order in which things were given does not matter, nor how often.
    """
    parts: dict[str, set[str | None]] = {kind: set(digests) for kind, digests in given.items()}
    for tell in standing:
        part = tell()
        if part is not None:
            parts.setdefault(part[0], set()).add(part[1])
    if not parts:
        return {}
    told = []
    for kind in sorted(parts):
        known = sorted(each for each in parts[kind] if each is not None)
        if len(known) == len(parts[kind]):
            told.append(f"{kind}={known[0] if len(known) == 1 else digest(' '.join(known).encode())}")
    attributes: dict[str, Any] = {names.DATAFACE_CONTEXT_PARTS: tuple(told)} if told else {}
    if len(told) == len(parts):
        attributes[names.DATAFACE_CONTEXT_FINGERPRINT] = digest(" ".join(told).encode())
    return attributes


def forget() -> None:
    """Drop what was kept to recognise content again."""
    global _known
    _known = ()
