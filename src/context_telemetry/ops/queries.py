"""The questions that an incident asks of traces, each once: as a local command, for Jaeger and for Tempo.

Conditions are data; what each tool wants to be told is made of them, so that twins cannot drift apart. Asks nobody.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from context_telemetry.conventions import names
from context_telemetry.limits.model import Objectives
from context_telemetry.ops.shared import SERVICE

Value = str | bool


@dataclass(frozen=True)
class Query:
    """One question: spans with these attributes, that last so long at least, that have this reason.

    A value that begins with ``$`` is a variable of the reader's shell. ``seconds`` is a span's least duration.
    A ``reason`` is one of a list: Jaeger compares the list as a whole, so it finds the spans that have this reason
    alone, which the call has where the reason begins; Tempo looks into the list. ``locally`` says in what the local
    command differs: `traces` lists calls, and knows neither what went on inside them nor every attribute.
    """

    name: str
    question: str
    local: str
    tells: str
    where: Mapping[str, Value] = field(default_factory=dict)
    reason: str | None = None
    seconds: float | None = None
    locally: str = ""

    def __post_init__(self) -> None:
        unknown = set(self.where) - _ATTRIBUTES
        if unknown or (self.reason is not None and self.reason not in names.REASONS):
            raise ValueError(
                f"{self.name}: not in the conventions: {', '.join(sorted(unknown)) or self.reason}"
            )

    @property
    def variables(self) -> tuple[str, ...]:
        """The variables that it needs, without the ``$``."""
        return tuple(
            value[1:] for value in self.where.values() if isinstance(value, str) and value[:1] == "$"
        )

    def tags(self, variables: Mapping[str, str] | None = None) -> dict[str, str]:
        """What Jaeger's `tags` are: every value as text. Variables that are not given stay as they are."""
        tags = {name: _told(value, variables or {}) for name, value in self.where.items()}
        if self.reason is not None:
            tags[names.DATAFACE_DEGRADATION_REASONS] = json.dumps([self.reason])
        return tags

    def jaeger(self, variables: Mapping[str, str] | None = None) -> dict[str, str]:
        """The parameters of Jaeger's `GET /api/traces`, but for the time."""
        found = {"service": SERVICE, "limit": "20", "tags": json.dumps(self.tags(variables))}
        if self.seconds is not None:
            found["minDuration"] = least_duration(self.seconds)
        return found

    def traceql(self, variables: Mapping[str, str] | None = None) -> str:
        """The same for Tempo."""
        conditions = [
            f"span.{name} = {json.dumps(value) if isinstance(value, bool) else _quoted(value, variables or {})}"
            for name, value in self.where.items()
        ]
        if self.reason is not None:
            conditions.append(f'span.{names.DATAFACE_DEGRADATION_REASONS} = "{self.reason}"')
        if self.seconds is not None:
            conditions.append(f"duration >= {least_duration(self.seconds)}")
        return f"{{ {' && '.join(conditions)} }}"

    @property
    def jaeger_command(self) -> str:
        """The search as a command that prints the ids of the traces; `$FROM` and `$TO` are Unix seconds."""
        more = f" -d minDuration={least_duration(self.seconds)}" if self.seconds is not None else ""
        return (
            f'curl -sG "$JAEGER/api/traces" -d service={SERVICE} -d limit=20{more} \\\n'
            f'  -d "start=${{FROM}}000000" -d "end=${{TO}}000000" \\\n'
            f"  --data-urlencode {_in_shell('tags=' + json.dumps(self.tags()))} |\n"
            """  grep -o '"traceID": *"[0-9a-f]*"' | sort -u"""
        )

    @property
    def tempo_command(self) -> str:
        """The search as a command; it prints Tempo's JSON."""
        return (
            f'curl -sG "$TEMPO/api/search" -d limit=20 -d "start=$FROM" -d "end=$TO" \\\n'
            f"  --data-urlencode {_in_shell('q=' + self.traceql())}"
        )


def least_duration(seconds: float) -> str:
    """A span's least duration as Jaeger and Tempo both read it."""
    return f"{seconds:g}s"


_ATTRIBUTES: Final = frozenset(
    value for name, value in vars(names).items() if name.isupper() and isinstance(value, str)
)


def _told(value: Value, variables: Mapping[str, str]) -> str:
    if isinstance(value, bool):
        return json.dumps(value)
    return variables.get(value[1:], value) if value[:1] == "$" else value


def _quoted(value: str, variables: Mapping[str, str]) -> str:
    return json.dumps(_told(value, variables), ensure_ascii=False)


def _in_shell(text: str) -> str:
    """One argument of a shell, in which variables are still read."""
    parts = []
    for number, part in enumerate(text.split("$")):
        name = ""
        if number:
            length = next(
                (i for i, each in enumerate(part) if not (each.isupper() or each == "_")), len(part)
            )
            name, part = part[:length], part[length:]
        parts.append((f'"${name}"' if name else "") + f"'{part}'")
    return "".join(parts)


_ENTRY: Final[Mapping[str, Value]] = {names.DATAFACE_ENTRY: True}


def queries(objectives: Objectives) -> tuple[Query, ...]:
    """Every search that the playbook and the runbooks show; what is slow is what these objectives call so."""
    return (
        Query(
            name="degraded",
            question="Which calls were answered with less than they asked for?",
            local="context-telemetry traces --outcome degraded",
            tells="The reasons stand below each call; in a trace, in `dataface.degradation.reasons`.",
            where={**_ENTRY, names.DATAFACE_OUTCOME: "degraded"},
        ),
        Query(
            name="failed",
            question="Which calls had no usable answer?",
            local="context-telemetry traces --outcome failed",
            tells="`dataface.error.code` is Dataface's own word, `error.type` the class of the exception.",
            where={**_ENTRY, names.DATAFACE_OUTCOME: "failed"},
        ),
        Query(
            name="degraded_on_surface",
            question="Which of them did the users of one surface get?",
            local='context-telemetry traces --outcome degraded --surface "$SURFACE"',
            tells="One surface alone: look at what is only on its way. Several: look at the catalogue.",
            where={**_ENTRY, names.DATAFACE_OUTCOME: "degraded", names.DATAFACE_SURFACE: "$SURFACE"},
        ),
        Query(
            name="degraded_for_client",
            question="Which of them did one client get?",
            local='context-telemetry traces --outcome degraded --client "$CLIENT"',
            tells="One client alone: its limit, its arguments, its release.",
            where={**_ENTRY, names.DATAFACE_OUTCOME: "degraded", names.DATAFACE_CLIENT_NAME: "$CLIENT"},
        ),
        Query(
            name="same_context",
            question="Who else was given the same context?",
            local="for id in $(context-telemetry traces --limit 50 --json |\n"
            """  sed -n 's/.*"trace_id": "\\([0-9a-f]*\\)".*/\\1/p' | sort -u); do\n"""
            '  if context-telemetry trace "$id" --json | grep -qF "$FINGERPRINT"; then echo "$id"; fi\n'
            "done",
            locally="It opens each of the last 50 calls, so it takes a minute; what it prints are the traces' ids.",
            tells="Equal fingerprints mean the same prompt, tools, manifest and objects. What differs between a good "
            "and a bad answer of one fingerprint is not the context.",
            where={names.DATAFACE_CONTEXT_FINGERPRINT: "$FINGERPRINT"},
        ),
        Query(
            name="source_not_configured",
            question="Which queries named a source that is configured nowhere?",
            local="context-telemetry traces --reason source_substituted",
            tells="`dataface.catalog.source` is the name that was asked for; `db.system.name` says what answered.",
            where={names.DATAFACE_OPERATION_NAME: "query.execute"},
            reason="source_substituted",
        ),
        Query(
            name="object_unknown",
            question="Which catalogue answers lack what was asked for?",
            local="context-telemetry traces --reason object_unknown",
            tells="`dataface.catalog.schema`, `.table` and `.column` are the name that did not resolve.",
            reason="object_unknown",
        ),
        Query(
            name="manifest_unreadable",
            question="Which answers were made without a readable manifest?",
            local="context-telemetry traces --reason manifest_unreadable",
            tells="The `manifest.load` below the call; the first one says since when.",
            reason="manifest_unreadable",
        ),
        Query(
            name="manifest_stale",
            question="Which answers were made from an older manifest than the models are?",
            local="context-telemetry traces --reason manifest_stale",
            tells="`dataface.staleness.age` in seconds, with the promise beside it where there is one.",
            reason="manifest_stale",
        ),
        Query(
            name="contract_broken",
            question="Which calls met what is no longer as it was accepted?",
            local="context-telemetry traces --reason contract_broken",
            tells="The `query.execute` or `catalog.resolve` below the call met it; `contract check` names the change. "
            "Where `schema_drift` stands beside the reason, Jaeger finds the call under `degraded` or `failed`.",
            reason="contract_broken",
        ),
        Query(
            name="too_large",
            question="Which answers were larger than their consumer takes?",
            local="context-telemetry traces --reason payload_over_budget",
            tells="`dataface.payload.size` against `dataface.payload.limit`, in bytes.",
            reason="payload_over_budget",
        ),
        Query(
            name="charts_failed",
            question="Which renders of a face lack charts?",
            local="context-telemetry traces --reason charts_failed --limit 50",
            locally="Those of every face: a tool's call is listed by the tool's name, and its trace has the face.",
            tells="`dataface.charts.failed` of `dataface.charts.total`; the failed `query.execute` below says why.",
            where={
                names.DATAFACE_OPERATION_NAME: "dashboard.render",
                names.DATAFACE_OUTCOME: "degraded",
                names.DATAFACE_FACE: "$FACE",
            },
        ),
        Query(
            name="failed_queries",
            question="Which queries failed at the warehouse?",
            local="context-telemetry traces --outcome failed --limit 50",
            locally="Calls that failed, for whatever cause: a trace has a failed `query.execute` where it was a query. "
            "Those that failed inside a render are under `charts_failed`.",
            tells="`dataface.error.code` and `error.type`; the source in `dataface.catalog.source`.",
            where={names.DATAFACE_OPERATION_NAME: "query.execute", names.DATAFACE_OUTCOME: "failed"},
        ),
        Query(
            name="error_code",
            question="Where else is this error code?",
            local='context-telemetry traces --outcome failed --limit 200 | grep -F -B 1 -- "$CODE"',
            locally="Calls that ended with it; a code inside of a call that was answered stands in its trace.",
            tells="One source or face in all of them: repair that. Many: the release or the warehouse.",
            where={names.DATAFACE_ERROR_CODE: "$CODE"},
        ),
        Query(
            name="slow",
            question="Which resolutions of the catalogue were slow?",
            local="context-telemetry traces --limit 50",
            locally="Every call, with how long the whole of it `took`; open the long ones. How long resolutions take "
            "in all says `context-telemetry status --json`, under `durations`.",
            tells="The longest bar below the call: `catalog.resolve` is the warehouse, `manifest.load` the disk.",
            where={names.DATAFACE_OPERATION_NAME: "catalog.resolve"},
            seconds=objectives.context_duration,
        ),
    )


QUERIES: Final = queries(Objectives())
"""Those for the published limits."""


def query(name: str, objectives: Objectives) -> Query:
    """The query of that name for these objectives; raises KeyError with the names that there are."""
    known = {each.name: each for each in queries(objectives)}
    if name not in known:
        raise KeyError(f"no query {name!r}; there are {', '.join(known)}")
    return known[name]
