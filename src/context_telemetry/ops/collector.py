"""Makes `collector/`: an agent and a gateway for the OpenTelemetry Collector, and what they are run with.

What of them changes with the conventions, the guard or the limits is made here; the rest are templates. Nothing is
written, and no Collector is started.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from importlib import resources
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

import yaml
from jinja2 import Environment, StrictUndefined

from context_telemetry.conventions import names
from context_telemetry.ops import derivation
from context_telemetry.ops.inputs import Inputs
from context_telemetry.ops.owners import Owners, Webhook
from context_telemetry.pipeline import guard

VERSION: Final = "0.159.0"
"""The release of the Collector that the configurations are written for and tested with."""

# The same release of its stable modules.
_CORE_VERSION: Final = "v1.65.0"

TEMPLATES: Final = (
    "agent.yaml",
    "builder.yaml",
    "compose.yaml",
    "gateway.yaml",
    "kubernetes.yaml",
    "otlp_logs.yaml",
    "prometheus.yaml",
    "README.md",
    "remote_write.yaml",
    "targets/alertmanager.yaml",
    "targets/derived.yaml",
    "targets/others.yaml",
    "targets/telemetry.yaml",
)

SLOW_SECONDS: Final = 5
"""A trace that takes longer is kept, or from the objective on where that is less. A boundary of every histogram of
durations that rules read."""

# So long a series that nothing adds to stays as it is: over a long weekend.
_QUIET: Final = "120h"
# Many times what one gateway has (docs/scaling.md): a bound on memory, not a limit that is met.
_MAX_SERIES: Final = 200_000
# Traces that wait for their last span.
_TRACES: Final = 100_000
_DERIVE_QUEUE: Final = 50_000
# Where compose.yaml has `alerts/` in Alertmanager's container.
_ALERTS: Final = "/etc/alertmanager/alerts"


def files(what: Inputs) -> dict[str, str]:
    """The files of `collector/`, by their path below the folder that is built."""
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    values = _values(what)
    folder = resources.files("context_telemetry.ops") / "collector"
    return {
        f"collector/{name}": environment.from_string((folder / name).read_text("utf-8")).render(values)
        for name in TEMPLATES
    }


def _values(what: Inputs) -> dict[str, Any]:
    slow = min(SLOW_SECONDS, what.limits.objectives.context_duration)
    return {
        "version": VERSION,
        "core_version": _CORE_VERSION,
        "memory_limiter": _indented(_MEMORY_LIMITER, 2),
        "guard": _indented({**_transform_guard(), **_redaction()}, 2),
        "duplicates": _indented(_duplicates(), 2),
        "health": _indented(_HEALTH, 2),
        "storage": _indented(_STORAGE, 2),
        "telemetry": _indented(_TELEMETRY, 2),
        "span_bounds": _indented(derivation.bounds("span"), 6),
        "event_bounds": _indented(derivation.bounds("event"), 6),
        "span_metrics": _indented([each.as_yaml() for each in derivation.definitions("span")], 6),
        "event_metrics": _indented([each.as_yaml() for each in derivation.definitions("event")], 6),
        "slow": f"{slow:g}",
        # The policy keeps what takes more whole milliseconds than this: a rule counts 5.0004 s as above 5 s.
        "slow_ms": round(slow * 1000) - 1,
        "project_labels": _flow(list(derivation.PROJECT_LABELS)),
        "alerts": _ALERTS,
        "secrets": [_flow(each) for each in _secrets(what.owners)],
        "trial_ports": _trial_ports(what.owners),
        "quiet": _QUIET,
        "max_series": _MAX_SERIES,
        "num_traces": _TRACES,
        "derive_queue": _DERIVE_QUEUE,
    }


def _secrets(owners: Owners) -> Iterator[dict[str, Any]]:
    """The files that Alertmanager reads secrets from, as volumes; those below `alerts/` are there with it."""
    named = {
        value
        for receiver in owners.receivers.values()
        for key, value in receiver.model_dump().items()
        if key.endswith("_file") and value is not None
    }
    for path in sorted(named):
        inside = posixpath.normpath(
            posixpath.join(_ALERTS, path)
        )  # by its configuration, as Alertmanager has it
        if path.startswith("/") or not inside.startswith(f"{_ALERTS}/"):
            here = posixpath.normpath(posixpath.join("../alerts", path))
            yield {
                "type": "bind",
                "source": here.replace("$", "$$"),
                "target": inside.replace("$", "$$"),
                "read_only": True,
                # Else Docker would make a folder of that name.
                "bind": {"create_host_path": False},
            }


def _trial_ports(owners: Owners) -> list[int]:
    """Ports of webhooks on loopback: in a container that is the container itself."""
    told = [
        urlsplit(each.url) for each in owners.receivers.values() if isinstance(each, Webhook) and each.url
    ]
    plain = [each for each in told if each.scheme == "http"]
    return sorted({each.port or 80 for each in plain if _is_loopback(each.hostname or "")})


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


_MEMORY_LIMITER: Final = {
    "memory_limiter": {"check_interval": "1s", "limit_percentage": 75, "spike_limit_percentage": 20}
}

_HEALTH: Final = {
    "healthcheckv2": {
        "use_v2": True,
        "component_health": {"include_permanent_errors": True, "include_recoverable_errors": True},
        "http": {
            "endpoint": "${env:COLLECTOR_HOST:-127.0.0.1}:${env:COLLECTOR_HEALTH_PORT:-13133}",
            "status": {"enabled": True, "path": "/health"},
        },
    }
}

_STORAGE: Final = {
    "file_storage/queue": {
        "directory": "${env:COLLECTOR_STORAGE:-/var/lib/otelcol}/queue",
        "create_directory": True,
        # What an outage made large is small again after it.
        "compaction": {
            "on_rebound": True,
            "directory": "${env:COLLECTOR_STORAGE:-/var/lib/otelcol}/queue",
            "cleanup_on_start": True,
        },
    }
}

_TELEMETRY: Final = {
    "telemetry": {
        "metrics": {
            "readers": [
                {
                    "pull": {
                        "exporter": {
                            "prometheus": {
                                "host": "${env:COLLECTOR_HOST:-127.0.0.1}",
                                "port": "${env:COLLECTOR_TELEMETRY_PORT:-8888}",
                            }
                        }
                    }
                }
            ]
        }
    }
}


def _duplicates() -> dict[str, Any]:
    """Drops what a process has counted itself of what is derived from its spans: it would count twice."""
    derived = "|".join(re.escape(metric.name) for metric in names.METRICS)
    ours = f'scope.name == "{names.SCOPE}" and IsMatch(metric.name, "^({_ottl(derived)})$$")'
    return {"filter/duplicates": {"error_mode": "ignore", "metric_conditions": [ours]}}


def _transform_guard() -> dict[str, Any]:
    """The same keys as `pipeline.guard`, for senders that have none."""
    keys = _ottl(_keys())
    uri = _ottl(r"\?.*$$")
    named = _ottl("|".join(f"(?:{each})" for each in _PERSONAL))

    def of(attributes: str) -> list[str]:
        return [
            f'delete_matching_keys({attributes}, "{keys}")',
            *(
                f'set({attributes}["{key}"], "{guard.REDACTED}") where {attributes}["{key}"] != nil'
                for key in sorted(guard.HIDDEN)
            ),
            *(
                f'replace_pattern({attributes}["{key}"], "{uri}", "") where {attributes}["{key}"] != nil'
                for key in sorted(guard.CUT_AT_QUERY)
            ),
            f"truncate_all({attributes}, {guard.MAX_LENGTH})",
        ]

    exceptions = _ottl("^exception" + re.escape(".") + "(?:message|stacktrace|escaped)$$")
    return {
        "transform/guard": {
            "error_mode": "silent",
            "trace_statements": [
                f'delete_matching_keys(resource.attributes, "{keys}")',
                *of("span.attributes"),
                'set(span.status.message, "") where span.status.message != ""',
                f'replace_pattern(span.name, "{named}", "{guard.REDACTED}")',
                *of("spanevent.attributes"),
            ],
            "log_statements": [
                f'delete_matching_keys(resource.attributes, "{keys}")',
                *of("log.attributes"),
                f'delete_matching_keys(log.attributes, "{exceptions}")',
                # The text of a log line is content, but for our own events, whose text is their name.
                f'set(log.body, "") where log.body != nil and scope.name != "{names.SCOPE}"',
            ],
        }
    }


def _redaction() -> dict[str, Any]:
    """What a value must not have, whatever its key. Go has no look-behind, so what stands before goes too."""
    return {
        "redaction": {
            "allow_all_keys": True,
            "blocked_values": list(_PERSONAL),
            "summary": "silent",
        }
    }


# As `pipeline.guard` has them, without what only the process itself knows: whose it is.
_PERSONAL: Final = (
    r"(?is)[a-z][a-z0-9+.\-]*://[^\s/@]*:\S*@.*",
    r"(?is)\b(?:password|passwd|pwd|secret|token|api[_-]?key|authorization)\s*[=:].*",
    r"(?is)(?:^|[^\w.\-])(?:/(?:home|Users)/[^/\s]|/root(?:/|$$)|[a-z]:[\\/]+Users[\\/]).*",
)


def _keys() -> str:
    """One expression for all keys that carry content. The Collector reads `$$` as `$`."""
    exact = "|".join(re.escape(key) for key in sorted(guard.DROPPED_KEYS))
    starts = "|".join(re.escape(key) for key in guard.DROPPED_PREFIXES)
    ends = "|".join(re.escape(key) for key in guard.DROPPED_SUFFIXES)
    return f"^(?:{exact})$$|^(?:{starts})|(?:{ends})$$"


def _ottl(expression: str) -> str:
    """An expression as it stands in a string of OTTL."""
    return expression.replace("\\", "\\\\")


class _Plain(yaml.SafeDumper):
    """Repeats what is repeated, where YAML would refer to it."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _indented(value: Any, by: int) -> str:
    """YAML that can be read: what has an end on a line stays on it, strings of a list have a line each."""
    return "\n".join(" " * by + line for line in _lines(value))


def _lines(value: Any, depth: int = 2) -> list[str]:
    if isinstance(value, dict) and depth:
        lines = []
        for key, inner in value.items():
            below = _lines(inner, depth - 1)
            on_one_line = below == [_flow(inner)]
            lines += [f"{key}: {below[0]}"] if on_one_line else [f"{key}:", *("  " + line for line in below)]
        return lines
    if isinstance(value, list) and depth == 2:  # of definitions, or of statements
        return [
            ("  " if number else "- ") + line
            for each in value
            for number, line in enumerate(_lines(each, 1) if isinstance(each, dict) else [_flow(each)])
        ]
    if value and isinstance(value, list) and all(isinstance(each, str) for each in value):
        return [f"- {_flow(each)}" for each in value]
    return [_flow(value)]


def _flow(value: Any) -> str:
    text = yaml.dump(value, Dumper=_Plain, default_flow_style=True, sort_keys=False, width=100_000)
    return text.removesuffix("...\n").rstrip("\n")
