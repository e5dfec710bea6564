"""What the tests of the operations package share: owners with a change, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from context_telemetry.ops import owners
from context_telemetry.ops.documents import DocumentError

Told = Callable[..., list[str]]


@pytest.fixture
def told() -> Told:
    """The problems of the default owners.yaml after each (old, new) was replaced in its text."""

    def problems(*changes: tuple[str, str]) -> list[str]:
        text = owners.default_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        with pytest.raises(DocumentError) as raised:
            owners.loads(text, "owners.yaml")
        return list(raised.value.problems)

    return problems
