"""Speaks OTLP/HTTP with JSON to one receiver: what is posted, what the answer means, when to try again."""

from __future__ import annotations

import json
import math
import random
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import BadStatusLine
from typing import Any, Final, Protocol

import requests
from opentelemetry.instrumentation.utils import suppress_instrumentation
from requests.auth import AuthBase, HTTPBasicAuth
from requests.utils import get_auth_from_url

from context_telemetry.pipeline.replay.endpoint import Endpoint, EndpointError
from context_telemetry.pipeline.replay.ledger import Interrupted
from context_telemetry.pipeline.replay.recorded import Signal

_CONNECT_TIMEOUT = 10.0
_GRPC_PORT, _HTTP_PORT = 4317, 4318
# With what an HTTP/2 server begins, whatever it is asked: the settings, a frame of type 4 (RFC 9113, 3.4).
_HTTP2_SETTINGS: Final = "\x04"

# https://opentelemetry.io/docs/specs/otlp/#failures-1: these are tried again, and no others.
_AGAIN: Final = frozenset({429, 502, 503, 504})
# What a gateway says when it does not know what became of the request.
_UNSURE: Final = frozenset({502, 504})
# They are said of the address or of who asks, not of what is sent.
_OF_THE_ENDPOINT: Mapping[int, str] = {
    401: "it wants other credentials: set OTEL_EXPORTER_OTLP_HEADERS",
    403: "it does not allow this: set OTEL_EXPORTER_OTLP_HEADERS",
    404: "nothing takes OTLP/HTTP there: name the base address with --to",
    405: "nothing takes OTLP/HTTP there: name the base address with --to",
    407: "a proxy wants credentials: set HTTPS_PROXY or NO_PROXY",
    415: "it takes no JSON: OTLP/HTTP with JSON is needed",
}
# OTLP: a client must not read more of an answer.
_LONGEST_ANSWER = 4 * 1024 * 1024
_TOLD = 200
# Seconds between two tries, whatever the endpoint says.
_SHORTEST = 0.1


class Unreachable(Exception):
    """The endpoint cannot be reached or takes nothing; the message says why and what to do."""


@dataclass(frozen=True)
class Patience:
    """How long one request is tried again where the endpoint says, or seems, that it will take it later."""

    first: float = 1.0
    most: float = 30.0
    """Seconds: the first wait, and the longest; each wait is twice the one before."""
    asked: float = 120.0
    """The longest wait that the endpoint may ask for."""
    total: float = 300.0
    """All waits for one request together."""

    def waits(self) -> Iterator[float]:
        seconds = self.first
        while True:
            yield seconds * random.uniform(0.8, 1.2)  # replays of many machines do not come at one moment
            seconds = min(seconds * 2, self.most)


@dataclass(frozen=True)
class Accepted:
    """The receiver took the request, but for `rejected` items, which it must not be sent again."""

    rejected: int = 0
    message: str = ""


@dataclass(frozen=True)
class Declined:
    """The receiver does not want this request, whoever sends it and however often."""

    status: int
    message: str = ""


@dataclass(frozen=True)
class _Later:
    """Not now: perhaps later."""

    why: str
    after: float | None = None
    """Seconds that the receiver asks to wait."""
    unsure: bool = False


class Waiting(Protocol):
    """Is told that a request waits for its next try."""

    def waiting(self, seconds: float, why: str) -> None: ...


class _AsItIs(AuthBase):
    """Leaves `authorization` to the headers. Without it `requests` takes what ~/.netrc has for the host instead."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


class Sender:
    """A connection to one endpoint. Not thread-safe."""

    def __init__(
        self, endpoint: Endpoint, signal: Signal, patience: Patience, stop: threading.Event, screen: Waiting
    ) -> None:
        self.endpoint, self._signal = endpoint, signal
        self._patience, self._stop, self._screen = patience, stop, screen
        self._reached = False
        self.unsure = False
        """Whether nobody knows what became of a try of the last request."""
        self._session = requests.Session()
        # What stays on this machine goes to no proxy, whatever the environment says of one.
        self._session.trust_env = not endpoint.is_loopback
        user = get_auth_from_url(endpoint.url)
        self._session.auth = HTTPBasicAuth(*user) if any(user) else _AsItIs()

    def close(self) -> None:
        self._session.close()

    def send(self, request: bytes) -> Accepted | Declined:
        """Post a request until it is taken or declined. Raises Unreachable, Interrupted."""
        body = self.endpoint.compressed(request)
        deadline = time.monotonic() + self._patience.total
        self.unsure = False
        for wait in self._patience.waits():
            answer = self._post(body)
            if not isinstance(answer, _Later):
                return answer
            self.unsure = self.unsure or answer.unsure
            seconds = wait if answer.after is None else max(answer.after, _SHORTEST)
            self._bear(answer, seconds, deadline)
            self._screen.waiting(seconds, answer.why)
            if self._stop.wait(seconds):
                raise Interrupted
        raise AssertionError("waits never end")

    def _bear(self, answer: _Later, seconds: float, deadline: float) -> None:
        """Raise Unreachable where waiting would be in vain, or too long."""
        if not self._reached:  # a wrong address is to be told at once
            raise self._unreachable(f"{answer.why}: start the Collector there, or name another with --to")
        if answer.after is not None and answer.after > self._patience.asked:
            raise self._unreachable(
                f"{answer.why}, and asks to be left alone for {answer.after:.0f} s: run this again then"
            )
        if time.monotonic() + seconds > deadline:
            raise self._unreachable(
                f"{answer.why}, for {self._patience.total:.0f} s now: run this again later"
            )

    def _unreachable(self, why: str) -> Unreachable:
        hint = ""
        if self.endpoint.port == _GRPC_PORT and not self._reached:
            hint = f" ({_GRPC_PORT} is usually the port for gRPC, {_HTTP_PORT} the one for OTLP/HTTP)"
        return Unreachable(f"{self.endpoint.name}: {why}{hint}")

    def _post(self, body: bytes) -> Accepted | Declined | _Later:
        try:
            with (
                suppress_instrumentation(),  # whoever instruments HTTP clients here makes no span of ours
                self._session.post(
                    self.endpoint.url,
                    data=body,
                    headers=dict(self.endpoint.headers),
                    # Said with each request: of a session `requests` prefers what REQUESTS_CA_BUNDLE has.
                    verify=self.endpoint.verify,
                    cert=self.endpoint.certificate,
                    timeout=(min(_CONNECT_TIMEOUT, self.endpoint.timeout), self.endpoint.timeout),
                    allow_redirects=False,
                    stream=True,
                ) as response,
            ):
                return self._judged(response.status_code, response.headers, _content(response))
        except ValueError as error:  # an address or a header that no request can have
            raise EndpointError(
                f"no request can be made to {self.endpoint.name} ({type(error).__name__}): look at --to and "
                "OTEL_EXPORTER_OTLP_HEADERS"
            ) from None
        except OSError as error:  # all others of requests are
            return self._of_error(error)

    def _judged(
        self, status: int, headers: Mapping[str, str], content: bytes
    ) -> Accepted | Declined | _Later:
        if status == 200:
            answer = self._read(content)
            self._reached = True
            return answer
        self._reached = True
        if status in _AGAIN:
            return _Later(f"it answers {status}", _retry_after(headers.get("retry-after")), status in _UNSURE)
        if status in _OF_THE_ENDPOINT:
            raise self._unreachable(
                f"it answers {status} to /{self._signal.path}: {_OF_THE_ENDPOINT[status]}"
            )
        if 400 <= status < 500:
            return Declined(status, _message(content))
        self.unsure = self.unsure or status >= 500
        raise self._unreachable(f"it answers {status}{_in_brackets(_message(content))}: look into its log")

    def _read(self, content: bytes) -> Accepted:
        """A receiver's answer; a web page that says 200 to everything is none."""
        try:
            answer = json.loads(content) if content.strip() else {}
            partial = answer.get("partialSuccess") or {}
            return Accepted(
                int(partial.get(self._signal.rejected) or 0), _plain(partial.get("errorMessage") or "")
            )
        except (ValueError, AttributeError, TypeError):
            raise self._unreachable(
                "it answers 200, but not as an OTLP receiver does: name the Collector's base address with --to"
            ) from None

    def _of_error(self, error: BaseException) -> _Later:
        chain = list(_chain(error))
        for each in chain:
            if isinstance(each, ssl.SSLError):
                why = getattr(each, "verify_message", "") or (each.reason or "").lower().replace("_", " ")
                raise self._unreachable(
                    f"TLS fails ({why or 'no reason given'}): set OTEL_EXPORTER_OTLP_CERTIFICATE, or http:// "
                    "where it speaks no TLS"
                )
            if isinstance(each, BadStatusLine) and str(each.args[0])[3:4] == _HTTP2_SETTINGS:
                raise Unreachable(
                    f"{self.endpoint.name}: it speaks gRPC, and replay OTLP/HTTP: name that address with --to, often "
                    f"the same host's port {_HTTP_PORT}"
                )
        if any(isinstance(each, requests.exceptions.Timeout) for each in chain):
            if isinstance(error, requests.exceptions.ConnectTimeout):
                return _Later("there is no way to it")
            return _Later(f"no answer in {self.endpoint.timeout:g} s", unsure=True)
        if any(isinstance(each, socket.gaierror) for each in chain):
            return _Later("there is no such host")
        if any(isinstance(each, ConnectionRefusedError) for each in chain):
            return _Later("nothing listens there")
        named = next((each.strerror for each in chain if isinstance(each, OSError) and each.strerror), "")
        return _Later(f"the connection broke{_in_brackets(named.lower())}", unsure=True)


def _content(response: requests.Response) -> bytes:
    """The answer, as far as a client may read. Raises what `requests` does."""
    content = b""
    for piece in response.iter_content(65_536):
        content += piece
        if len(content) > _LONGEST_ANSWER:
            break
    return content[:_LONGEST_ANSWER]


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and all that it came of; requests keeps some of it in arguments."""
    seen: list[Any] = [error]
    found = 0
    while seen and found < 20:
        each = seen.pop(0)
        if isinstance(each, BaseException):
            found += 1
            yield each
            seen += [each.__cause__, each.__context__, getattr(each, "reason", None), *each.args]


def _retry_after(value: str | None) -> float | None:
    """Seconds to wait, by a `Retry-After` of either form; None where there is none that can be read."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (TypeError, ValueError):
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def _message(content: bytes) -> str:
    """What a receiver says of a failure: the message of its status, or the text that it sent."""
    try:
        told = json.loads(content)["message"]
    except (ValueError, KeyError, TypeError):
        told = content[: 4 * _TOLD].decode(errors="replace")
    return _plain(told)


def _plain(told: object) -> str:
    """Somebody else's words, short, on one line and without what a terminal would obey."""
    words = " ".join("".join(each if each.isprintable() else " " for each in str(told)).split())
    return words if len(words) <= _TOLD else f"{words[:_TOLD]}…"


def _in_brackets(words: str) -> str:
    return f" ({words})" if words else ""
