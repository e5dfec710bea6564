"""A scenario: one thing that is true of one concern on the Dataface releases that it names.

The tests in this folder run in the environment of every release. Where a release has not got what a scenario is
about, it is not run there, and the matrix shows the reason that the scenario gives.
"""

from __future__ import annotations

import importlib.metadata

import pytest

from context_telemetry.instrumentation import version

CONCERNS = (
    "hook points",
    "MCP requests",
    "tools and resources",
    "dashboards",
    "queries",
    "catalogue",
    "manifest",
    "private parts",
    "freshness",
    "contract",
    "AI context",
    "agent",
    "pages",
    "commands",
    "faults",
    "bytes unchanged",
)
DEEP = ("0.2.0", "0.3.1", "0.4.0")
"""The releases that run every scenario; the others run those that are not `deep`."""

RELEASE = importlib.metadata.version("dataface")


def scenario(
    concern: str, *, since: str = "0.1.2", until: str | None = None, because: str = "", deep: bool = False
) -> pytest.MarkDecorator:
    """Mark a test, or one of its cases, as a scenario of ``concern``.

    ``because`` says what releases outside of the range have not got.
    """
    if concern not in CONCERNS:
        raise ValueError(f"unknown concern {concern!r}; known: {', '.join(CONCERNS)}")
    if (since != "0.1.2" or until is not None) and not because:
        raise ValueError("a scenario that some release has not got says why")
    return pytest.mark.scenario(concern, since, until, because, deep)


def why_not(since: str, until: str | None, because: str, deep: bool, release: str = RELEASE) -> str:
    """Why a scenario is not run on ``release``; empty where it is."""
    here = version(release)
    if here < version(since) or (until is not None and here > version(until)):
        return because
    if deep and release not in DEEP and here <= version(DEEP[-1]):
        return "in full on " + ", ".join(DEEP)
    return ""
