"""What stands in fences on a page of the docs: documented examples are tests."""

from __future__ import annotations

import re

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str, language: str) -> list[str]:
    """The blocks of that language, in order."""
    return [body for named, body in _FENCE.findall(page) if named == language]
