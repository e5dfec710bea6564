"""The soundness tests run on the SDK that they are said to run on."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

import dev


def test_an_environment_has_the_sdk_that_it_claims() -> None:
    """That of `dev.py oldest` the oldest that is declared, the working one a newer; others claim nothing."""
    of_oldest = dict(pin.split("==") for pin in dev.OLDEST.pinned)
    installed = {name: version(name) for name in of_oldest}
    if Path(sys.prefix) == dev.OLDEST.folder:
        assert installed == of_oldest
    elif Path(sys.prefix) == dev.WORK.folder:
        assert all(installed[name] != oldest for name, oldest in of_oldest.items())
