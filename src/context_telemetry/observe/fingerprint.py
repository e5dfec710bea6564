"""The fingerprint of a context: a short hash over what a consumer was given to work with.

Equal fingerprints mean the same context, in any process and on any day; where a part is not known there is none.
Nothing here knows what a prompt or a manifest is: callers give digests. What is measured is kept only to recognise it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from context_telemetry.conventions import names
from context_telemetry.observe.fork import on_forget

KINDS: Final = frozenset({"manifest", "objects", "prompt", "tool_list"})
"""What a fingerprint may be made of."""

_NOTHING: Mapping[str, Any] = {}
standing: list[Callable[[], tuple[str, str | None] | None]] = []
"""What every consumer of this process is given: each answers a kind and a digest (None: not known), or nothing."""

_CHUNK = 65_536
# So many texts and lists are kept, of at most so many bytes each.
_KEPT = 8
_LONGEST_KEPT = 1_048_576

_known: tuple[tuple[Any, int, str], ...] = ()
# Conclusions by what was given: a session is given the same from call to call.
_MOST_CONCLUDED = 64
_concluded: dict[frozenset[tuple[str, str | None]], Mapping[str, Any]] = {}


def digest(content: bytes) -> str:
    """16 hexadecimal digits that are equal for equal content. SHA-256, because it is fast where hardware does it."""
    import hashlib  # here, because it brings OpenSSL, which decorators do not need

    return hashlib.sha256(content).hexdigest()[:16]


def measure(content: str | list[Any]) -> tuple[int, str]:
    """The UTF-8 size of a text, or of a list as compact JSON, and its digest.

    Once for each content: the last few are recognised by comparing, which costs a tenth of hashing. A list is
    recognised when its members are equal, whoever made it: it is kept as a copy, because its owner may edit it.
    """
    global _known
    for known, size, found in _known:
        if type(known) is type(content) and known == content:
            return size, found
    text = content if isinstance(content, str) else _as_json(content)
    size, found = _measure_text(text)
    if size <= _LONGEST_KEPT:
        import json

        kept = content if isinstance(content, str) else json.loads(text)
        _known = ((kept, size, found), *_known[: _KEPT - 1])
    return size, found


def _measure_text(text: str) -> tuple[int, str]:
    import hashlib

    size, hashed = 0, hashlib.sha256()
    for start in range(0, len(text), _CHUNK):
        part = text[start : start + _CHUNK].encode("utf-8", "surrogatepass")
        size += len(part)
        hashed.update(part)
    return size, hashed.hexdigest()[:16]


def _as_json(content: list[Any]) -> str:
    # Sorted keys change the digest of no equal list, and the size of none.
    import json

    return json.dumps(content, ensure_ascii=False, separators=(",", ":"), sort_keys=True, default=str)


def conclude(given: Mapping[str, set[str | None]]) -> Mapping[str, Any]:
    """The attributes of an entry whose consumer was given these digests by kind, and what stands for all of them.

    The order in which things were given does not matter, nor how often.
    """
    standing_now = [part for tell in standing if (part := tell()) is not None]
    if not given and not standing_now:
        return _NOTHING
    key = frozenset([*standing_now, *((kind, each) for kind, digests in given.items() for each in digests)])
    found = _concluded.get(key)
    if found is None:
        if len(_concluded) >= _MOST_CONCLUDED:
            _concluded.clear()
        found = _concluded[key] = _conclude(key)
    return found


def _conclude(met: frozenset[tuple[str, str | None]]) -> dict[str, Any]:
    parts: dict[str, set[str | None]] = {}
    for kind, found in met:
        parts.setdefault(kind, set()).add(found)
    told = []
    for kind in sorted(parts):
        known = sorted(each for each in parts[kind] if each is not None)
        if len(known) == len(parts[kind]):
            told.append(f"{kind}={known[0] if len(known) == 1 else digest(' '.join(known).encode())}")
    attributes: dict[str, Any] = {names.DATAFACE_CONTEXT_PARTS: tuple(told)} if told else {}
    if told and len(told) == len(parts):
        attributes[names.DATAFACE_CONTEXT_FINGERPRINT] = digest(" ".join(told).encode())
    return attributes


@on_forget
def forget() -> None:
    """Drop what was kept to recognise content again, and what stands."""
    global _known
    _known = ()
    _concluded.clear()
    standing.clear()
