"""Builds the system prompt of Dataface's agent as Dataface builds it, in this process and under the hooks.

Opens the project read-only, as `dft mcp serve` does, and closes it again. What is right or wrong with the prompt is
read by the hooks.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

# What an open project is, and the field of `DatafaceAIContext` that takes it. Before 0.1.5 it is an adapter registry.
_SESSIONS: Final = (
    ("dataface.agent_api.project_session", "ProjectSession", "project_session"),  # 0.2.0 and later
    ("dataface.agent_api.project", "Project", "project"),  # 0.1.5
)


class NoPrompt(Exception):
    """This installation has no such prompt; the text says why."""


def build(root: Path) -> None:
    """Build the prompt for the project at ``root``. Raises NoPrompt, and whatever Dataface raises."""
    with _quiet(root):
        try:
            agent = importlib.import_module("dataface.ai.agent")
            context = importlib.import_module("dataface.ai.context").DatafaceAIContext
            adapters: Any = importlib.import_module("dataface.core.execute.adapters")
        except ImportError as error:
            if find_spec("dataface") is None:
                raise NoPrompt("Dataface is not installed beside this command") from error
            raise NoPrompt(f"this installation of Dataface has no agent: no module {error.name}") from error
        # 0.1.2 to 0.1.4 have no profile.
        profile = getattr(agent, "DASHBOARD_PROFILE", None)
        of_profile = getattr(profile, "build_system_prompt", None)
        builder = of_profile or getattr(agent, "build_agent_system_prompt", None)
        if builder is None:
            raise NoPrompt("this release of Dataface builds no prompt for an agent")
        with _opened(root, adapters) as session:
            builder(context(**session))


@contextlib.contextmanager
def _opened(root: Path, adapters: Any) -> Iterator[dict[str, Any]]:
    """The project, by the field of the context that takes it."""
    options = getattr(adapters, "LOCAL_AUTHORING_REGISTRY_KWARGS", {})
    for module, name, field in _SESSIONS:
        if find_spec(module) is not None:
            with getattr(importlib.import_module(module), name).open(root, **options) as session:
                _ = session.adapter_registry  # imports dbt at its first use: that is not the prompt's time
                yield {field: session}
            return
    registry = adapters.build_adapter_registry(root, **options)
    try:
        yield {"adapter_registry": registry}
    finally:
        registry.close()


@contextlib.contextmanager
def _quiet(root: Path) -> Iterator[None]:
    """In the project's folder, as a server is; what prints, prints elsewhere, and what logs, nowhere."""
    logger, nowhere, here = logging.getLogger("dataface"), logging.NullHandler(), Path.cwd()
    logger.addHandler(nowhere)
    try:
        os.chdir(root)
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        logger.removeHandler(nowhere)
        os.chdir(here)
