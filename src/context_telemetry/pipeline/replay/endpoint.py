"""Speaks OTLP/HTTP with JSON to one receiver: where it is, what is posted, what the answer means, when to try again.

Everything but the address is OpenTelemetry's own variables', as its exporters for Python take them. Nothing
secret of them (headers, user, query, path) is put into a message.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import ipaddress
import json
import logging
import math
import os
import random
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Final, Protocol
from urllib.parse import SplitResult, urlsplit, urlunsplit

import requests
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.util.re import parse_env_headers
from requests.auth import AuthBase, HTTPBasicAuth
from requests.utils import get_auth_from_url

from context_telemetry.conventions import names
from context_telemetry.pipeline.replay.ledger import Interrupted
from context_telemetry.pipeline.replay.recorded import Signal

# Where a Collector listens by default; the variables' own default too.
DEFAULT: Final = "http://localhost:4318"
# Longer than the exporters' 10 s: a Collector with a full queue holds a request, and what is given up while it is
# held is sent, and counted, twice. Whether anybody is there shows sooner.
_DEFAULT_TIMEOUT = 60.0
_CONNECT_TIMEOUT = 10.0
_PORTS = {"http": 80, "https": 443}
_GRPC_PORT = 4317
# One machine's names for itself. Where a receiver is at one of them, it is at the others.
_THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})
# Headers that do not say who the receiver is: how a request is written, and what proves who sends it, which is renewed.
_NOT_OF_THE_RECEIVER = frozenset({"content-type", "content-encoding", "user-agent", "authorization"})
_COMPRESS: Mapping[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}

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


class EndpointError(ValueError):
    """An option or variable that says where or how to send is wrong; the message names it and the fix."""


class Unreachable(Exception):
    """The endpoint cannot be reached or takes nothing; the message says why and what to do."""


@dataclass(frozen=True)
class Endpoint:
    """Where and how one signal is sent."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    timeout: float
    """Seconds that an answer may take."""
    compression: str = ""
    verify: str | bool = True
    certificate: str | tuple[str, str] | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The address as it may be shown and kept: scheme, host and port."""
        return _address(self.url, urlsplit(self.url).hostname)

    @property
    def key(self) -> str:
        """The same for one receiver however its address is spelled, and another for each of its tenants.

        A digest of scheme, host, port, path, user and headers; not of the query, nor of what is in `authorization`
        but a user.
        """
        parts = urlsplit(self.url)
        host = "localhost" if parts.hostname in _THIS_MACHINE else parts.hostname
        receiver = _address(self.url, host) + parts.path.rstrip("/")
        # They say which tenant's store it is: what one has got, another has not.
        tenant = sorted((k, v) for k, v in self.headers.items() if k not in _NOT_OF_THE_RECEIVER)
        if user := get_auth_from_url(self.url)[0] or _user(self.headers.get("authorization", "")):
            tenant.append(("user", user))
        whole = f"{receiver}\n{json.dumps(tenant)}" if tenant else receiver
        return hashlib.sha256(whole.encode()).hexdigest()[:12]

    @property
    def is_loopback(self) -> bool:
        host = urlsplit(self.url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost" or host.endswith(".localhost")

    @classmethod
    def of(cls, signal: Signal, to: str | None, environ: Mapping[str, str] = os.environ) -> Endpoint:
        """The endpoint of a signal: below ``to``, or where the variables say. Raises EndpointError."""

        def said(what: str) -> tuple[str, str]:
            for name in (f"OTEL_EXPORTER_OTLP_{signal.variable}_{what}", f"OTEL_EXPORTER_OTLP_{what}"):
                if value := environ.get(name, "").strip():
                    return name, value
            return f"OTEL_EXPORTER_OTLP_{what}", ""

        certificate, key = said("CLIENT_CERTIFICATE")[1], said("CLIENT_KEY")[1]
        verify = _file(*said("CERTIFICATE")) or True
        compression = _compression(*said("COMPRESSION"))
        headers = {
            **{name.lower(): value for name, value in _headers(*said("HEADERS")).items()},
            "content-type": "application/json",
            "user-agent": f"context-telemetry-replay/{names.VERSION}",
            **({"content-encoding": compression} if compression else {}),
        }
        return cls(
            url=_url(signal, to, *said("ENDPOINT"), protocol=said("PROTOCOL")),
            headers=headers,
            timeout=_timeout(*said("TIMEOUT")),
            compression=compression,
            verify=verify,
            certificate=(certificate, key) if certificate and key else certificate or None,
        )


def _address(url: str, host: str | None) -> str:
    parts = urlsplit(url)
    bracketed = f"[{host}]" if ":" in (host or "") else host
    return f"{parts.scheme}://{bracketed}:{parts.port or _PORTS[parts.scheme]}"


def _user(authorization: str) -> str:
    """The user that a header of HTTP's Basic scheme names; empty for every other."""
    scheme, _, told = authorization.partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        user, colon, _ = base64.b64decode(told, validate=True).decode().partition(":")
    except ValueError:
        return ""
    return user if colon else ""


def _url(signal: Signal, to: str | None, variable: str, value: str, *, protocol: tuple[str, str]) -> str:
    if to is not None:
        if _parts(to, "--to").path.rstrip("/").endswith(f"/{signal.path}"):
            raise EndpointError(f"--to: leave {signal.path} out, it is added for each signal")
        return _below(to, signal.path, "--to")
    if not value:
        return _below(DEFAULT, signal.path, variable)
    if protocol[1] == "grpc":
        raise EndpointError(
            f"{protocol[0]} is grpc, and replay speaks OTLP/HTTP: name that address with --to, "
            "often the same host's port 4318"
        )
    if variable == "OTEL_EXPORTER_OTLP_ENDPOINT":
        return _below(value, signal.path, variable)
    return urlunsplit(_parts(value, variable))  # a signal's own address is taken as it is


def _below(base: str, path: str, where: str) -> str:
    parts = _parts(base, where)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{path}", fragment=""))


def _parts(value: str, where: str) -> SplitResult:
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in _PORTS or not parts.hostname or port == 0:
        raise EndpointError(f"{where}: no address of a receiver; write it as {DEFAULT}")
    return parts


def _headers(variable: str, value: str) -> Mapping[str, str]:
    """The headers, read by OpenTelemetry's own reader, but without what it logs: the header itself."""
    refused: list[logging.LogRecord] = []
    reader = logging.getLogger(parse_env_headers.__module__)

    def keep(record: logging.LogRecord) -> bool:
        refused.append(record)
        return False

    reader.addFilter(keep)
    try:
        found = parse_env_headers(value, liberal=True)
    finally:
        reader.removeFilter(keep)
    if refused:
        raise EndpointError(f"{variable}: write name=value, values URL-encoded, a comma between two")
    return found


def _timeout(variable: str, value: str) -> float:
    try:
        seconds = float(value or _DEFAULT_TIMEOUT)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise EndpointError(f"{variable}={value}: write seconds, as 10")
    return seconds


def _compression(variable: str, value: str) -> str:
    word = value.lower()
    if word not in ("", "none", *_COMPRESS):
        raise EndpointError(f"{variable}={value}: write gzip, deflate or none")
    return "" if word == "none" else word


def _file(variable: str, value: str) -> str:
    if value and not os.path.exists(value):
        raise EndpointError(f"{variable}: {value} is not there")
    return value


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
        body = _COMPRESS[self.endpoint.compression](request) if self.endpoint.compression else request
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
        return Unreachable(f"{self.endpoint.name}: {why}")

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
        hint = ""
        if urlsplit(self.endpoint.url).port == _GRPC_PORT:
            hint = f" ({_GRPC_PORT} is usually the port for gRPC, 4318 the one for OTLP/HTTP)"
        if any(isinstance(each, requests.exceptions.Timeout) for each in chain):
            if isinstance(error, requests.exceptions.ConnectTimeout):
                return _Later("there is no way to it")
            return _Later(f"no answer in {self.endpoint.timeout:g} s{hint}", unsure=True)
        if any(isinstance(each, socket.gaierror) for each in chain):
            return _Later("there is no such host")
        if any(isinstance(each, ConnectionRefusedError) for each in chain):
            return _Later(f"nothing listens there{hint}")
        named = next((each.strerror for each in chain if isinstance(each, OSError) and each.strerror), "")
        return _Later(f"the connection broke{_in_brackets(named.lower())}{hint}", unsure=True)


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
