"""Where a receiver of OTLP/HTTP is, and how it is spoken with: an option and OpenTelemetry's own variables, read.

Everything but the address is as OpenTelemetry's exporters for Python take it. Nothing secret of it (headers, user,
query, path) is put into a message. Sends nothing.
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
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, urlsplit, urlunsplit

from opentelemetry.util.re import parse_env_headers
from requests.utils import get_auth_from_url

from context_telemetry.conventions import names
from context_telemetry.pipeline.replay.recorded import Signal

# Where a Collector listens by default; the variables' own default too.
DEFAULT: Final = "http://localhost:4318"
# Longer than the exporters' 10 s: a Collector with a full queue holds a request, and what is given up while it is
# held is sent, and counted, twice. Whether anybody is there shows sooner.
_DEFAULT_TIMEOUT = 60.0
_PORTS = {"http": 80, "https": 443}
# One machine's names for itself. Where a receiver is at one of them, it is at the others.
_THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})
# Headers that do not say who the receiver is: how a request is written, and what proves who sends it, which is renewed.
_NOT_OF_THE_RECEIVER = frozenset({"content-type", "content-encoding", "user-agent", "authorization"})
_COMPRESS: Mapping[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}


class EndpointError(ValueError):
    """An option or variable that says where or how to send is wrong; the message names it and the fix."""


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
    def port(self) -> int:
        parts = urlsplit(self.url)
        return parts.port or _PORTS[parts.scheme]

    @property
    def is_loopback(self) -> bool:
        host = urlsplit(self.url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost" or host.endswith(".localhost")

    def compressed(self, request: bytes) -> bytes:
        """A request as it is sent."""
        return _COMPRESS[self.compression](request) if self.compression else request

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
