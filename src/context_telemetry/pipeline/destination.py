"""Decides where telemetry goes, from OpenTelemetry's own variables. It loads and opens nothing.

`none` switches a signal off. With nothing configured, spans and events go to local files (metrics derive from
them).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

SIGNALS: Final = ("traces", "metrics", "logs")
FILES: Final = "files"
OFF: Final = "OTEL_TRACES_EXPORTER=none"

Mode = Literal["otlp", "files"]

# Both write to standard output when nobody tells them otherwise, and that belongs to the host.
_WRITE_TO_STDOUT = frozenset({"console", "otlp_json_file"})


@dataclass(frozen=True)
class Destination:
    """``exporters`` has, by signal, entry point names (or `FILES`); a signal without any is not exported."""

    mode: Mode
    exporters: Mapping[str, tuple[str, ...]]
    problems: tuple[str, ...] = ()


def destination(environ: Mapping[str, str] = os.environ) -> Destination:
    """Where the variables in ``environ`` send each signal."""
    problems: list[str] = []
    exporters = {signal: _configured(signal, environ, problems) for signal in SIGNALS}
    if any(exporters.values()):
        return Destination("otlp", {k: v or () for k, v in exporters.items()}, tuple(problems))
    return local(environ, tuple(problems))


def local(environ: Mapping[str, str] = os.environ, problems: tuple[str, ...] = ()) -> Destination:
    """Local files, for every signal that has them and is not switched off."""
    off = {signal for signal in SIGNALS if _configured(signal, environ, []) == ()}
    return Destination("files", {s: () if s in off else (FILES,) for s in ("traces", "logs")}, problems)


def chosen_by(environ: Mapping[str, str] = os.environ) -> str:
    """The variables that name an exporter or an endpoint: what to look at where telemetry goes elsewhere."""
    of_signals = (
        form.format(signal.upper())
        for signal in SIGNALS
        for form in ("OTEL_{}_EXPORTER", "OTEL_EXPORTER_OTLP_{}_ENDPOINT")
    )
    return ", ".join(name for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", *of_signals) if environ.get(name))


def why_no_traces(chosen: Destination, environ: Mapping[str, str] = os.environ) -> str:
    """Why no span is exported; empty where some are. Local files need that no signal is sent elsewhere."""
    if chosen.exporters.get("traces"):
        return ""
    if environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none":
        return OFF
    sent = " and ".join(signal for signal in SIGNALS if chosen.exporters.get(signal))
    return f"only {sent} are exported ({chosen_by(environ)})"


def _configured(signal: str, environ: Mapping[str, str], problems: list[str]) -> tuple[str, ...] | None:
    """The exporters that are asked for; empty when ``none`` is, None when nothing is said."""
    variable = f"OTEL_{signal.upper()}_EXPORTER"
    names = [name.strip() for name in environ.get(variable, "").split(",") if name.strip()]
    if not names:
        has_endpoint = environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or environ.get(
            f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT"
        )
        names = ["otlp"] if has_endpoint else []
    if [name.lower() for name in names] == ["none"]:
        return ()
    found = []
    for name in names:
        if name in _WRITE_TO_STDOUT:
            problems.append(f"{variable}={name} would write to standard output and is left out")
        elif name.lower() != "none":
            found.append(_otlp(signal, environ, problems) if name == "otlp" else name)
    return tuple(found) or None


def _otlp(signal: str, environ: Mapping[str, str], problems: list[str]) -> str:
    own = environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL")
    protocol = (own or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") or "").strip()
    by_protocol = {"": "otlp_proto_grpc", "grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}
    if protocol not in by_protocol:
        used = "http/protobuf" if protocol.startswith("http") else "grpc"
        problem = "OTEL_EXPORTER_OTLP_PROTOCOL is neither grpc nor http/protobuf"
        problems.append(f"{problem}; {used} is used for {signal}")
        return by_protocol[used]
    return by_protocol[protocol]
