"""Asks a warehouse that is no file for its catalogue, by the connection that the installed Dataface has to it.

The query goes the way of `execute_query` (resolution of the source, guard that lets only SELECT pass, dbt's adapter),
with no limit of rows and past the cache of results. A process of its own sends it: a driver that hangs is killed, and
what Dataface loads or prints stays there. `python -m context_telemetry.cli.warehouse_connection` is that process.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from context_telemetry.contract.sources import SourceConfig
from context_telemetry.contract.warehouse import Fetch, Unread
from context_telemetry.observe import unobserved

SECONDS: Final = 120.0
"""So long a source may take, from the start of the process to its last row."""


def fetch_for(root: Path, seconds: float = SECONDS) -> Fetch:
    """For the sources of the project at ``root``. Raises Unread, in words of ours alone."""
    root = root.resolve()

    def fetch(config: SourceConfig, query: str) -> Iterable[Sequence[Any]]:
        answer = _ask(root, {"root": str(root), "source": config.name, "sql": query}, seconds)
        if "rows" in answer:
            rows: list[Sequence[Any]] = answer["rows"]
            return rows
        raise unread_because(str(answer.get("error")), str(answer.get("kind")), config)

    return fetch


def _ask(root: Path, question: Mapping[str, str], seconds: float) -> dict[str, Any]:
    try:
        done = subprocess.run(
            unobserved.command(__name__),
            cwd=root,
            env={**unobserved.environment(), "PWD": str(root)},
            input=json.dumps(question).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Unread(f"gave no answer within {seconds:g} s") from error
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError as error:
        raise Unread(f"the process that asks it ended with {done.returncode} and no answer") from error
    return answer


# -- why it cannot be read ------------------------------------------------------------------------

# What drivers, dbt and Dataface say, in our words and as what kind of error; the first that fits.
_KNOWN: Final[tuple[tuple[str, str, type[Exception]], ...]] = (
    (r"no module named 'dataface", "Dataface is not installed beside this command", ModuleNotFoundError),
    (r"(dbt-[a-z]+) is not installed", r"\1 is not installed: pip install \1", ModuleNotFoundError),
    (
        r"could not find adapter type '?([a-z]+)",
        r"dbt-\1 is not installed: pip install dbt-\1",
        ModuleNotFoundError,
    ),
    (
        # before 0.1.5
        r"unknown dialect '?dbt_profile",
        "this release of Dataface sends no query by a dbt profile",
        NotImplementedError,
    ),
    (
        r"unsupported adapter type|unknown source type|no adapter found",
        "Dataface has no connection to {type}",
        NotImplementedError,
    ),
    (
        r"source '([\w-]+)':? field '(\w+)' holds a raw credential literal",
        r"Dataface refuses dataface.yml: sources.\1.\2 is written out; refer to it with env_var()",
        ValueError,
    ),
    (
        r"source '([\w-]+)' .{0,80}?validation errors? for \w+\s+(\w+)\s+field required",
        r"Dataface refuses dataface.yml: sources.\1 has no \2",
        ValueError,
    ),
    (
        r"validation errors? for \w+\s+(\w+)\s+field required",
        r"Dataface refuses dataface.yml: the source has no \1",
        ValueError,
    ),
    (
        r"env(?:ironment)? var\w* required but not provided: '?(\w+)",
        r"the environment variable \1 is not set",
        LookupError,
    ),
    (
        r"connection refused",
        "the server refuses connections: it is down, or listens elsewhere",
        ConnectionRefusedError,
    ),
    (
        r"could not translate host name|name or service not known|nodename nor servname|name resolution"
        r"|getaddrinfo failed",
        "the name of the server leads nowhere",
        ConnectionError,
    ),
    (r"database \S+ does not exist", "the database is not there", LookupError),
    (
        r"password authentication failed|no password supplied|incorrect username or password|authentication failed"
        r"|access denied for user|role \S+ does not exist|invalid.grant",
        "user or password are not accepted",
        PermissionError,
    ),
    (
        r"permission denied|insufficient privilege|not authorized|access denied",
        "the role has no right to read it",
        PermissionError,
    ),
    (
        r"the database system is|too many (?:clients|connections)|connection slots",
        "the server takes no connections now",
        ConnectionError,
    ),
    (
        r"timed.?out|timeout|cancel+ing statement|max_query_duration|duration.exceeded",
        "gave no answer in time",
        TimeoutError,
    ),
    (
        r"server closed the connection|connection reset|terminating connection|no route to host"
        r"|network is unreachable",
        "the connection was lost or cannot be made",
        ConnectionError,
    ),
    (r"\bssl\b|certificate", "the server and this machine agree on no encrypted connection", ConnectionError),
)
_KIND: Final = re.compile(r"[A-Za-z][\w-]{0,79}")
_OTHER: Final[type[Exception]] = RuntimeError


def unread_because(said: str, kind: str, config: SourceConfig) -> Unread:
    """What an error ``said`` as one of the sentences that anybody may read.

    Of what is not known, its ``kind`` alone is told, a class or Dataface's code: any word of a driver's may be a name,
    a host, a path or a password.
    """
    told = "Dataface's connection to it fails" + (f": {kind}" if _KIND.fullmatch(kind) else "")
    cause = _OTHER
    for pattern, sentence, its_class in _KNOWN:
        if found := re.search(pattern, said, re.IGNORECASE | re.DOTALL):
            told, cause = found.expand(sentence).format(type=config.type), its_class
            break
    error = Unread(told)
    error.__cause__ = cause()
    return error


# -- the process that asks ------------------------------------------------------------------------


def _registry(root: Path) -> Any:
    """What routes queries to warehouses, as `execute_query` gets it in this release."""
    for module, name in (
        ("dataface.agent_api.project_session", "ProjectSession"),  # 0.2.0 and later
        ("dataface.agent_api.project", "Project"),  # 0.1.5
    ):
        try:
            session = getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            continue
        return session.open(root).adapter_registry
    adapters: Any = importlib.import_module("dataface.core.execute.adapters")
    return adapters.build_adapter_registry(root, read_only=True)


class _Refused(Exception):
    """What Dataface says of a query that failed, and its code for that where it has one."""

    def __init__(self, result: Any) -> None:
        super().__init__(str(result.error))
        code = getattr(result, "error_code", None)
        self.kind = str(getattr(code, "code", ""))


def _rows(root: Path, source: str, sql: str) -> list[list[Any]]:
    registry = _registry(root)
    try:
        query = importlib.import_module("dataface.agent_api.query").SqlQuery(sql=sql, source=source)
        result = registry.execute(query)
        if result.error:
            raise _Refused(result)
        return [[_plain(at, value) for at, value in enumerate(row.values())] for row in result.data]
    finally:
        registry.close()


_NAMES: Final = (0, 1, 3)
"""Where a row has the names of a schema, a table and a column, which are never NULL."""


def _plain(at: int, value: Any) -> Any:
    if value is None and at in _NAMES:  # dbt takes the text for the value
        return "null"
    return int(value) if isinstance(value, Decimal) else value


def main() -> None:
    """Answers the one question on stdin with one JSON document on stdout: the rows, or what the error said."""
    answers = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever prints, prints elsewhere
    asked = json.loads(sys.stdin.buffer.read())
    try:
        answer: dict[str, Any] = {"rows": _rows(Path(asked["root"]), asked["source"], asked["sql"])}
    except _Refused as error:
        answer = {"error": str(error), "kind": error.kind}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}", "kind": type(error).__name__}
    with os.fdopen(answers, "wb") as output:
        output.write(json.dumps(answer, default=str).encode())


if __name__ == "__main__":
    main()
