"""`doctor`: what is installed and observed, where telemetry goes, what is unguarded or not configured.

It looks at the Python that it runs in and at this project's settings; what observed processes have said of
themselves is in `recorded`. What a host does with providers of its own it cannot see, and says so.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from context_telemetry.cli import checks, documents, text
from context_telemetry.cli.checks import Check, State
from context_telemetry.cli.place import (
    PROJECT_VARIABLE,
    NoProject,
    broken_file,
    not_to_be_made,
    root_of,
)
from context_telemetry.health import words
from context_telemetry.history.files import find as find_files

if TYPE_CHECKING:
    from context_telemetry.pipeline.components import Components

_CONNECT_SECONDS = 1.0
_OTLP = frozenset({"otlp_proto_grpc", "otlp_proto_http"})
_AGGREGATION = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION"
_PROTOCOLS = {4317: "grpc", 4318: "http/protobuf"}
_NOT_PLACED = {
    "absent": "vanished: this Dataface has not got them, and what passed there is not observed",
    "failed": "changed: this Dataface has them otherwise than the readers know, and they are left alone",
    "waiting": "not tried",
}

_OF_A_HOST = "providers that a host makes are used as they are: neighbours' spans are unguarded"
_ASKED_FIRST = f"under `run` only if the process asks for one before its first observed call; {_OF_A_HOST}"
_PROVIDERS = {
    "OTEL_CONFIG_FILE": f"not read under `run`, whose pipeline goes by the other variables; {_OF_A_HOST}",
    "OTEL_PYTHON_TRACER_PROVIDER": _ASKED_FIRST,
    "OTEL_PYTHON_METER_PROVIDER": _ASKED_FIRST,
    "OTEL_PYTHON_LOGGER_PROVIDER": _ASKED_FIRST,
}

_FASTAPI = "FASTAPI_OTEL_AUTO_CONFIGURE"
_SENT_TWICE = (
    "FastAPI adds exporters of its own to the providers: all is sent twice, the second time unguarded, "
    "with query strings and texts of exceptions; unset it"
)

_NEW = (
    "new: no row knows them. A command is no entry, of a tool only failures are told, a function is not observed; "
    "what they call is, where it has a row"
)


def examine(project: Path | None, state_dir: Path | None, *, as_json: bool) -> int:
    """Print what was found; 1 when something is wrong, else 0."""
    found = [*_installed(), *_hooks(), *_telemetry(project, state_dir)]
    code = 1 if any(check.state == "wrong" for check in found) else 0
    if as_json:
        documents.show(documents.doctor(found, code))
    else:
        text.console().print(checks.table(found))
    return code


# What is installed


def _installed() -> Iterator[Check]:
    from context_telemetry.instrumentation import NEWEST, OLDEST, version

    section = "installed"
    yield Check(section, "python", "ok", f"{sys.version.split()[0]} ({sys.executable})")
    yield Check(section, "context-telemetry", "ok", _release("context-telemetry") or "from a source tree")
    dataface = _release("dataface")
    if dataface is None:
        yield Check(
            section,
            "dataface",
            "wrong",
            "not installed here",
            "install it beside context-telemetry: dataface[mcp]",
        )
    elif version(dataface) < version(OLDEST):
        yield Check(
            section, "dataface", "wrong", dataface, f"not observed: this version knows {OLDEST} and later"
        )
    elif version(dataface) > version(NEWEST):
        advice = f"newer than {NEWEST}: tried with the rows of that one, see the hooks below"
        yield Check(section, "dataface", "note", dataface, advice)
    else:
        yield Check(section, "dataface", "ok", dataface)
    mcp = _release("mcp")
    if mcp is None:
        yield Check(section, "mcp", "note", "not installed here", "no MCP server can run: install 'mcp<2'")
    elif version(mcp) >= (2, 0, 0):
        yield Check(section, "mcp", "wrong", mcp, "this Dataface needs mcp<2: pip install 'mcp<2'")
    else:
        yield Check(section, "mcp", "ok", mcp)
    for name in ("opentelemetry-api", "opentelemetry-sdk"):
        release = _release(name)
        yield Check(section, name, "ok" if release else "wrong", release or "not installed here")


def _release(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


# What is observed


def _hooks() -> Iterator[Check]:
    section = "hooks"
    try:
        from context_telemetry.instrumentation import NEWEST, contract_versions, probe, version
        from context_telemetry.instrumentation.news import unknown

        newer = version(_release("dataface") or "0") > version(NEWEST)
        with contextlib.redirect_stdout(sys.stderr):  # it imports Dataface, and stdout is for our answer
            states: list[Any] = list(probe())
            came = unknown() if newer else []
    except Exception as error:  # whatever a broken installation raises on import is a finding, not an end
        yield Check(section, "probe", "wrong", f"could not look ({type(error).__name__})", str(error))
        return
    counts = Counter(str(state.state) for state in states)
    wrong = counts["absent"] + counts["failed"]
    summary = ", ".join(f"{count} {state}" for state, count in counts.most_common()) or "none"
    yield Check(section, "hook points", "wrong" if wrong or not states else "ok", summary)
    for why, count in Counter(str(each.detail) for each in states if each.state == "unneeded").items():
        yield Check(section, "private parts", "ok", f"{why}: {text.counted(count, 'hook point')} not needed")
    for name, contract in contract_versions().items():
        yield Check(section, "private parts", "ok", f"{name} {contract}")
    if newer:
        if came:
            yield Check(section, "new", "note", "\n".join(came), _NEW)
        else:
            yield Check(section, "new", "ok", f"no command, tool or function that {NEWEST} has not")
    for state, meaning in _NOT_PLACED.items():
        found = [
            f"{each.id}{f' ({each.detail})' if each.detail else ''}" for each in states if each.state == state
        ]
        if found:
            yield Check(section, state, "note" if state == "waiting" else "wrong", "\n".join(found), meaning)


# Where telemetry goes


def _telemetry(project: Path | None, state_dir: Path | None) -> Iterator[Check]:
    from context_telemetry.pipeline.destination import FILES, OFF, SIGNALS, destination, local, why_no_traces
    from context_telemetry.settings import is_disabled, load_lenient, project_folder

    section, folder = "telemetry", None
    try:
        root = root_of(project)
    except NoProject as error:
        root = None
        yield Check(section, "project", "wrong", "not found", str(error))
    else:
        advice = "" if root else f"name it with --project DIR or {PROJECT_VARIABLE}"
        broken = f"{why}: repair it" if root and (why := broken_file(root)) else ""
        state: State = "wrong" if broken else "ok" if root else "note"
        yield Check(section, "project", state, str(root or "none here"), broken or advice)
    environ = dict(os.environ) | ({PROJECT_VARIABLE: str(root)} if root else {})
    settings, problems = load_lenient(root, environ)
    for problem in problems:
        yield Check(section, "settings", "wrong", problem)
    if is_disabled() or settings.disabled:
        yield Check(
            section,
            "recording",
            "note",
            "switched off",
            "CONTEXT_TELEMETRY_DISABLED, OTEL_SDK_DISABLED or `disabled`",
        )
    chosen = destination()
    for problem in chosen.problems:
        yield Check(section, "exporters", "wrong", problem)
    asked = {(signal, name) for signal, each in chosen.exporters.items() for name in each if name != FILES}
    installed = {(signal, name) for signal, name in asked if _exporter_installed(signal, name)}
    for signal, name in sorted(asked - installed):
        advice = f"no package here has it in the entry point group opentelemetry_{signal}_exporter"
        yield Check(section, "exporter", "wrong", f"{name} for {signal} is not installed", advice)
    if why := why_no_traces(local() if asked and not installed else chosen):
        found = "switched off" if why == OFF else "not exported"
        yield Check(section, "traces", "note", found, f"{why}: status has nothing to judge")
    yield from _components(section, {name for signal, name in installed if signal == "metrics"})
    if installed:
        for name in sorted({name for _, name in installed}):
            yield (
                _answers(section, *_endpoint(name, next(s for s in SIGNALS if (s, name) in installed)))
                if name in _OTLP
                else Check(section, "goes to", "ok", name)
            )
    else:
        if asked:
            yield Check(section, "goes to", "note", "local files are used instead")
        if root:
            folder = project_folder(state_dir or settings.state_dir, root)
            yield _folder(section, folder)
        else:
            yield Check(section, "goes to", "note", "local files of the project", "no project, no files")
    yield from _guard("guard", content=settings.content)
    if installed and _fastapi_exports():
        yield Check("guard", "FastAPI", "note", f"{_FASTAPI}=true", _SENT_TWICE)
    if root is not None:
        from context_telemetry.cli.owned import owned

        yield from owned(root)
    if folder is not None:
        from context_telemetry.cli.recorded import recorded

        yield from recorded(folder)


def _components(section: str, metrics: set[str]) -> Iterator[Check]:
    """What the variables name besides exporters, and what that makes of a pipeline of ours.

    ``metrics`` are the exporters that it would have for them.
    """
    try:
        from opentelemetry.sdk.trace import TracerProvider

        from context_telemetry.cli.recorded import by_sdk
        from context_telemetry.observe.samplers import may_leave_out
        from context_telemetry.pipeline.components import SAMPLER, components, why_no_metrics
        from context_telemetry.pipeline.owned import why_not

        # It makes what others have written: whether that can be used, nothing else tells.
        with contextlib.redirect_stdout(sys.stderr):
            chosen = components()
        sampler = may_leave_out(TracerProvider(chosen.sampler, shutdown_on_exit=False).sampler)
        fallbacks = list(why_not(chosen))
        no_metrics = why_no_metrics() if metrics else ""
        if metrics and not no_metrics and (reason := _why_not_histograms(chosen, metrics)) is not None:
            fallbacks.append(reason)
    except Exception as error:  # a value that the SDK raises for, or an SDK that is broken
        found = f"OpenTelemetry does not start ({type(error).__name__})"
        yield Check(section, "components", "wrong", found, str(error))
        return
    for problem in (*chosen.problems, *([no_metrics] if no_metrics else ())):
        yield Check(section, "components", "wrong", problem)
    if sampler is not None:
        advice = (
            "status counts what was sampled, and no more; metrics over OTLP are complete, but for what a Collector "
            "derives from spans"
        )
        found = f"{SAMPLER}={os.environ[SAMPLER].strip()} ({words.sampler(sampler)})"
        yield Check(section, "sampler", "note", found, advice)
    if fallbacks:
        told = (
            "what they leave on is recorded"
            if "configurator" in fallbacks
            else "what is recorded is the same"
        )
        advice = f"a call takes more of the caller's time; {told}"
        yield Check(section, "recorder", "note", by_sdk(fallbacks), advice)


def _why_not_histograms(chosen: Components, exporters: set[str]) -> str | None:
    """Of the exporters, OTLP's are known by their variable: to make one may open a port."""
    from opentelemetry.sdk.metrics import Histogram, MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.metrics.view import Aggregation, ExponentialBucketHistogramAggregation

    from context_telemetry.pipeline.owned import why_not_histograms

    preferred: dict[type, Aggregation] = {}
    aggregation = os.environ.get(_AGGREGATION, "").strip().lower()
    if exporters & _OTLP and aggregation == "base2_exponential_bucket_histogram":
        preferred[Histogram] = ExponentialBucketHistogramAggregation()
    reader = InMemoryMetricReader(preferred_aggregation=preferred)
    return why_not_histograms(chosen, MeterProvider([reader], shutdown_on_exit=False), [reader])


def _exporter_installed(signal: str, name: str) -> bool:
    return bool(metadata.entry_points(group=f"opentelemetry_{signal}_exporter", name=name))


def _endpoint(exporter: str, signal: str) -> tuple[str, int]:
    """Where a signal goes, and the port that the specification gives to its protocol."""
    port = 4318 if exporter == "otlp_proto_http" else 4317
    for variable in (f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        if value := os.environ.get(variable, "").strip():
            return value, port
    return f"http://localhost:{port}", port


def _answers(section: str, endpoint: str, default_port: int) -> Check:
    name = "goes to OTLP"
    try:
        host, port = _host_and_port(endpoint, default_port)
        if port in _PROTOCOLS and port != default_port:
            spoken, other = _PROTOCOLS[default_port], _PROTOCOLS[port]
            return Check(
                section, name, "wrong", f"{host}:{port} is the port of {other}, and {spoken} is spoken",
                f"set OTEL_EXPORTER_OTLP_PROTOCOL={other}, or port {default_port}",
            )  # fmt: skip
        with socket.create_connection((host, port), timeout=_CONNECT_SECONDS):
            # The address as configured may carry a password: only host and port are shown.
            return Check(section, name, "ok", f"{host}:{port} accepts connections")
    except ValueError:
        return Check(
            section,
            name,
            "wrong",
            "the endpoint is no URL",
            f"set OTEL_EXPORTER_OTLP_ENDPOINT=http://HOST:{default_port}",
        )
    except OSError as error:
        why = error.strerror or "no answer in a second"
        return Check(section, name, "wrong", f"{host}:{port}: {why.lower()}", "is the Collector running?")


def _host_and_port(endpoint: str, default_port: int) -> tuple[str, int]:
    """Raises ValueError for what is neither a URL nor, with gRPC, HOST:PORT."""
    grpc = default_port == 4317
    parts = urlsplit(endpoint if "://" in endpoint or not grpc else f"//{endpoint}")
    if parts.scheme not in ("http", "https", *(("",) if grpc else ())) or not parts.hostname:
        raise ValueError
    if (not parts.scheme and parts.port is None) or " " in endpoint:
        raise ValueError
    return parts.hostname, parts.port or (443 if parts.scheme == "https" and not grpc else default_port)


def _folder(section: str, folder: Path) -> Check:
    traces, events = find_files(folder, "traces"), find_files(folder, "events")
    count = len(traces.readable) + len(events.readable)
    unreadable = [*traces.unreadable, *events.unreadable]
    found = f"{folder}\n{text.counted(count, 'file')}, {text.size(traces.total_bytes + events.total_bytes)}"
    if unreadable:
        why = ", ".join(f"{each.name} ({each.why})" for each in unreadable)
        return Check(section, "goes to files", "wrong", found, f"cannot be read: {why}")
    if not folder.is_dir() and (why := not_to_be_made(folder) if not folder.exists() else "it is a file"):
        advice = f"the folder cannot be made: {why}; set CONTEXT_TELEMETRY_STATE_DIR"
        return Check(section, "goes to files", "wrong", found, advice)
    if folder.is_dir() and not os.access(folder, os.W_OK):
        return Check(section, "goes to files", "wrong", found, "the folder cannot be written to")
    return Check(section, "goes to files", "ok", found, "" if count else "nothing recorded yet")


def _fastapi_exports() -> bool:
    """Whether FastAPI exports by itself what the process exports over OTLP."""
    if os.environ.get(_FASTAPI, "").lower() != "true":
        return False
    asked = {wanted for signal in ("TRACES", "METRICS", "LOGS") if (wanted := _asked_of_fastapi(signal))}
    # It knows nothing else, says so where one signal has it, and then exports none.
    return asked == {("otlp", "http/protobuf")} and _fastapi_can_export()


def _asked_of_fastapi(signal: str) -> tuple[str, str] | None:
    """The exporter and the protocol by which FastAPI is to send a signal; None where it leaves it alone.

    As `fastapi.telemetry` reads the variables, in 0.165: without an endpoint it sends nothing.
    """
    own = f"OTEL_EXPORTER_OTLP_{signal}"
    exporter = (os.environ.get(f"OTEL_{signal}_EXPORTER") or "otlp").strip().lower()
    endpoint = os.environ.get(f"{own}_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if not endpoint or exporter == "none":
        return None
    spoken = os.environ.get(f"{own}_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    return exporter, spoken or "http/protobuf"


def _fastapi_can_export() -> bool:
    """Whether the FastAPI that is installed here can: since 0.165."""
    try:
        return importlib.util.find_spec("fastapi.telemetry") is not None
    except Exception:  # it is imported to be asked, and somebody else's package can raise anything
        return False


def _guard(section: str, *, content: bool) -> Iterator[Check]:
    if content:
        yield Check(
            section,
            "content",
            "note",
            "is exported",
            "SQL, arguments and results leave the process: `content` is on",
        )
    else:
        yield Check(section, "content", "ok", "is not exported (no SQL, arguments, results or error texts)")
    for variable, advice in _PROVIDERS.items():
        if os.environ.get(variable):
            yield Check(section, "providers", "note", f"{variable} is set", advice)
