"""Asks a Dataface MCP server over stdio which tools and resources it lists, as a client does; it calls none of them."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from context_telemetry.contract.model import ResourceFacts, ToolFacts
from context_telemetry.contract.snapshot import resource_facts, tool_facts
from context_telemetry.rehearsal.driver import Raw, plain
from context_telemetry.rehearsal.sample import RehearsalError

_NO_SUCH_METHOD: Final = -32601
_PAGES: Final = 100
_NO_DATAFACE: Final = (
    "Dataface is not installed beside this command; install context-telemetry where Dataface is"
)


@dataclass(frozen=True)
class Listed:
    """What a server lists. Both None where it could not be asked, with the reason."""

    tools: Mapping[str, ToolFacts] | None = None
    resources: Mapping[str, ResourceFacts] | None = None
    why: str | None = None
    error: str | None = None
    """The class of what was raised, where a server is there and cannot be asked."""
    as_sent: Sequence[Mapping[str, Any]] = ()
    """The list of tools as a client gets it."""
    seconds: float | None = None
    """How long the server took for it, once it was there."""


def ask(root: Path, command: Sequence[str] | None = None) -> Listed:
    """Start ``command`` (if not given, `dft mcp serve` of this Python) in the project, ask it and stop it.

    Takes about as long as the server does to start. Raises nothing for a server that cannot be asked.
    """
    if command is None and importlib.util.find_spec("dataface") is None:
        return Listed(why=_NO_DATAFACE)
    try:
        with Raw(root, command=plain() if command is None else command) as server:
            initialized = server.initialize()
            if "result" not in initialized:
                return Listed(why=f"the MCP server refused: {_said(initialized)}", error=Refused.__name__)
            began = time.perf_counter()
            as_sent = list(_listed(server, "tools/list", "tools"))
            seconds = time.perf_counter() - began
            tools = {str(one["name"]): tool_facts(one) for one in as_sent}
            resources = {
                str(one[key]): resource_facts(one)
                for method, name, key in (
                    ("resources/list", "resources", "uri"),
                    ("resources/templates/list", "resourceTemplates", "uriTemplate"),
                )
                for one in _listed(server, method, name)
            }
            return Listed(tools, resources, as_sent=as_sent, seconds=seconds)
    except RehearsalError as error:
        return Listed(why=str(error))
    except (Refused, EOFError, TimeoutError) as error:
        return Listed(why=f"the MCP server did not answer: {error}", error=type(error).__name__)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        # It cannot be started, it stopped while it was asked, or what it says is no MCP.
        return Listed(why=f"the MCP server cannot be asked: {_brief(error)}", error=type(error).__name__)


class Refused(Exception):
    """A server answers a request with an error."""


def _listed(server: Raw, method: str, name: str) -> Iterator[Mapping[str, Any]]:
    """All pages of a list; nothing where the server does not have such a list."""
    cursor = None
    for _ in range(_PAGES):
        answer = server.request(method, {"cursor": cursor} if cursor else {})
        error = answer.get("error")
        if error is not None and error.get("code") == _NO_SUCH_METHOD:
            return
        if error is not None:
            raise Refused(f"{method}: {_said(answer)}")
        yield from answer["result"][name]
        cursor = answer["result"].get("nextCursor")
        if not cursor:
            return
    raise Refused(f"{method}: more than {_PAGES} pages")


def _said(answer: Mapping[str, Any]) -> str:
    return str((answer.get("error") or {}).get("message") or "no reason given")


def _brief(error: Exception) -> str:
    if not isinstance(error, OSError):
        return f"{type(error).__name__} in its answer"
    name = f"{Path(error.filename).name}: " if isinstance(error.filename, str) else ""
    return name + (error.strerror or type(error).__name__)
