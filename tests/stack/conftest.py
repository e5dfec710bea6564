"""The parts are had once for all tests here; a machine that cannot have them fails with what it lacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.programs import StackError, program


@pytest.fixture(scope="session")
def collector_program() -> Path:
    """The Collector with the components of `collector/builder.yaml`."""
    try:
        return program("collector")
    except StackError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def jaeger_program() -> Path:
    try:
        return program("jaeger")
    except StackError as error:
        pytest.fail(str(error), pytrace=False)
