"""What a Dataface newer than the rows offers that none of them knows: commands, tools, functions of its public API.

For `doctor`: it imports Dataface into this process. A hook point that has vanished or changed is told by its row; this
is for what came, and for names alone: what a known call answers in another shape than before, nobody can tell.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from typing import Any

from context_telemetry.conventions import names

# Of the newest release that the rows were tried on, besides the commands that serve context.
_COMMANDS = names.COMMANDS | {
    "init code",
    "init cursor",
    "init mcp",
    "init skills",
    "init vscode",
    "inspect eject",
    "inspect templates",
    "inspect validate-templates",
    "mcp serve",
    "migrate",
    "playground",
    "serve",
}
_TOOLS = frozenset(
    {
        "delete_file",
        "describe_dashboard",
        "describe_query",
        "docs",
        "edit_file",
        "execute_query",
        "get_diagnostic_code",
        "get_skill",
        "glob_files",
        "grep_files",
        "list_diagnostic_codes",
        "list_skills",
        "move_file",
        "query_face",
        "read_file",
        "render_dashboard",
        "search_dashboards",
        "search_skills",
        "validate_dashboard",
        "write_file",
    }
)
_API = "dataface.agent_api"
_FUNCTIONS = frozenset(
    {
        "compile",
        "describe_face",
        "get_fonts_dir",
        "init_project",
        "migrate_paths",
        "query_face",
        "render_dashboard",
        "set_surface",
    }
)


def unknown() -> list[str]:
    """What the installed Dataface has beyond 0.4.0, each as a line: ``dft NAME``, ``tool NAME``, ``MODULE:NAME``."""
    found: list[str] = []
    for kind, look in (("commands", _new_commands), ("tools", _new_tools), ("functions", _new_functions)):
        try:
            found += look()
        except Exception as error:  # whatever a layout that nobody knows raises
            found.append(f"{kind}: could not be looked for ({type(error).__name__})")
    return found


def _new_commands() -> Iterator[str]:
    main, typer = importlib.import_module("dataface.cli.main"), importlib.import_module("typer")
    yield from (f"dft {name}" for name in sorted({*_leaves(typer.main.get_command(main.app))} - _COMMANDS))


def _leaves(group: Any, above: str = "") -> Iterator[str]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _leaves(command, f"{above}{name} ")
        else:
            yield f"{above}{name}"


def _new_tools() -> Iterator[str]:
    handlers = importlib.import_module("dataface.ai.tools").TOOL_HANDLERS
    yield from (f"tool {name}" for name in sorted({*handlers} - _TOOLS))


def _new_functions() -> Iterator[str]:
    api = importlib.import_module(_API)
    for name in sorted({*api.__all__} - _FUNCTIONS):
        if inspect.isfunction(getattr(api, name, None)):
            yield f"{_API}:{name}"
