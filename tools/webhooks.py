"""Receives what Alertmanager tells: a webhook on loopback that keeps it."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Page:
    """One request that a webhook got: the path says which receiver, `body` is Alertmanager's message."""

    path: str
    at: float
    body: Mapping[str, Any]

    @property
    def alerts(self) -> list[Mapping[str, Any]]:
        return list(self.body.get("alerts", ()))


class Pages:
    """A receiver of webhooks on loopback that keeps what it gets in `all`."""

    def __init__(self, port: int = 0) -> None:
        self.all: list[Page] = []
        kept = self.all

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                kept.append(Page(self.path, time.time(), json.loads(body or b"{}")))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def about(self, alert: str, status: str = "firing") -> list[Page]:
        """The pages with that alert in that state."""
        return [
            page
            for page in self.all
            if any(a["labels"].get("alertname") == alert and a["status"] == status for a in page.alerts)
        ]
