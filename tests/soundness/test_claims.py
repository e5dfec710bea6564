"""docs/soundness.md says what was counted, of tests that are still there. `dev.py soundness` runs without this."""

from __future__ import annotations

import re

import pytest

from soundness import claims


def test_the_page_has_the_table_of_what_was_counted() -> None:
    begun = claims.PAGE.read_text("utf-8").partition(claims.BEGIN)[2]
    assert begun.partition(claims.END)[0].strip() == claims.table(claims.read())


@pytest.mark.parametrize("key", claims.CLAIMS)
def test_every_claim_was_shown_by_tests_that_are_still_there(key: str) -> None:
    claim, entry = claims.CLAIMS[key], claims.read()["claims"][key]
    for test in claim.tests:
        file, _, function = test.partition("::")
        source = (claims.HERE / f"{file}.py").read_text("utf-8")
        assert re.search(rf"^def {function or 'test_'}", source, re.MULTILINE), test
        assert entry["passed"].get(test), test
