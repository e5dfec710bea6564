"""Exact payload sizes without serialising anything again.

Sizes are UTF-8 bytes of the content that is handed to the consumer, without protocol framing.
"""

from __future__ import annotations

_CHUNK = 65_536


def utf8_size(text: str) -> int:
    """The UTF-8 size of ``text`` in bytes: O(1) for ASCII, encoded in 64 KiB chunks otherwise.

    Lone surrogates count as the three bytes that ``surrogatepass`` gives them instead of raising.
    """
    if text.isascii():
        return len(text)
    return sum(
        len(text[start : start + _CHUNK].encode("utf-8", "surrogatepass"))
        for start in range(0, len(text), _CHUNK)
    )
