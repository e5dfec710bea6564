"""Dataface's dashboard server for tests: its application in this process, or the real `dft serve` on a free port.

A server is stopped by its process id. What it serves is not judged here.
"""

from __future__ import annotations

import http.client
import inspect
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from context_telemetry.rehearsal import driver

_START_SECONDS, _STOP_SECONDS = 60.0, 15.0


@dataclass(frozen=True)
class Answer:
    """One response: headers in their order, without the date."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = field(repr=False)


def application(project: Path) -> Any:
    """The application that the installed release's `dft serve` runs for ``project``."""
    from dataface.core.serve.server import create_server

    if "project_dir" in inspect.signature(create_server).parameters:  # up to 0.2.0
        return create_server(project)
    from dataface.cli.filesystem_project import FilesystemProject

    return create_server(FilesystemProject(project))


@contextmanager
def browser(app: Any) -> Iterator[Any]:
    """An HTTP client of ``app``, in this process; it gets the response that a real server gives to an exception."""
    from starlette.testclient import TestClient

    with TestClient(app, raise_server_exceptions=False, follow_redirects=False) as client:
        yield client


@dataclass
class Server:
    """A running `dft serve`."""

    process: subprocess.Popen[bytes]
    port: int

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", path, headers=dict(headers or {}))
            response = connection.getresponse()
            said = tuple((key, value) for key, value in response.getheaders() if key.lower() != "date")
            return Answer(response.status, said, response.read())
        finally:
            connection.close()


@contextmanager
def serving(
    project: Path,
    log: Path,
    *,
    observed: bool = True,
    env: Mapping[str, str] | None = None,
    dft: Sequence[str] = (),
) -> Iterator[Server]:
    """`dft serve` of the installed release in ``project``, stopped at the end as a service manager stops it.

    ``dft`` is the command that takes its arguments in place of `dft`, observed or not by itself.
    """
    port = _free_port()
    serve: Sequence[str] = [*(dft or driver.plain()[:1]), "serve", "--host", "127.0.0.1", "--port", str(port)]
    command = driver.observed(serve) if observed and not dft else serve
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=project,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        server = Server(process, port)
        try:
            _await_health(server, log)
            yield server
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _await_health(server: Server, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            server.get("/health")
            return
        except OSError:
            if server.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"dft serve did not start:\n{log.read_text('utf-8')[-2000:]}") from None
            time.sleep(0.1)  # until it listens; nothing else tells


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
