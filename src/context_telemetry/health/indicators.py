"""What healthy means, said once: every indicator with its measure, its limit and what a user notices.

An indicator says what is counted, in metrics of the conventions, and compares nothing: `evaluate` does, over local
files or a Prometheus-compatible API. Rules, panels, runbooks and docs come from here too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from context_telemetry.conventions import names
from context_telemetry.health.sums import Sum, some

if TYPE_CHECKING:
    from context_telemetry.limits import Objectives

Kind = Literal["ratio", "count", "state", "said", "age", "silent"]
Severity = Literal["page", "ticket"]
Component = Literal["surface", "catalogue", "ai_context", "telemetry"]

SERVED = names.METRIC_DATAFACE_CONTEXT_SERVED
DEGRADATIONS = names.METRIC_DATAFACE_DEGRADATIONS
CHECKS = Sum(SERVED, {names.DATAFACE_OPERATION_NAME: frozenset({"check.run"})})
CALLS = Sum(SERVED, unless=CHECKS.where)
"""What somebody asked for. A check that looks each minute is nobody's call: counted as one it would thin the shares of
its surface, and hide that nobody is served."""
_HANDSHAKES = frozenset({"mcp.initialize", "mcp.list"})
ASKED = (
    Sum(
        SERVED,
        {names.DATAFACE_OUTCOME: frozenset({"ok"})},
        {names.DATAFACE_OPERATION_NAME: frozenset({"check.run"}) | _HANDSHAKES},
    ),
    Sum(SERVED, {names.DATAFACE_OUTCOME: frozenset({"degraded", "failed"})}, CALLS.unless),
)
"""What was answered well, and what was not. That a client connects and reads the lists of what there is, as each does
by itself, is no context that went well; where it does not succeed it is a call like any other."""
ENTRIES = Sum(SERVED)
"""Calls and checks: what reasons and names are counted on, whose metrics do not say the operation."""


@dataclass(frozen=True)
class Indicator:
    """What is measured and what it means.

    - A `ratio` is counted on each surface: ``bad`` less ``but`` among ``among``. Where the bad ones can be those of a
      check, too, checks are among them: else there were more bad ones than all. It is bad above the objective `limit`,
      once there are `minimum` bad ones. With ``above``, an objective too, the bad ones are those of a histogram's
      measurements that are above it, so that a limit of 0.05 is a promise about the 95th percentile.
    - A `count` is what was added in the window, a `state` what processes have said of themselves last, and say again
      every half hour; both are bad from the first on.
    - A `said` is what a gauge said last of each project and environment, whichever process said it, added up over its
      labels: 0 clears what another process had said of the same labels, and nothing else. So whoever speaks has looked
      at all that these labels name, or is silent on them: a server, which asks no MCP server for its tools, says
      nothing of the part `tools`. (Of what each process has of itself the last word would hide the others': that is a
      `state`, told by counters.) It holds for a day, is bad from the first on, and is unknown where nobody has said it.
    - An `age` is how long ago a gauge's moments are, bad above the objective `limit`, in seconds.
    - `silent` is never bad, and unknown while nothing is counted.

    ``component`` is whom it concerns: the owner of the surface that it is measured on, or one for all of them.
    ``notices`` says what a user of each surface notices; of a surface that is not named, nobody does.
    """

    name: str
    kind: Kind
    measures: str
    good: str
    wrong: str
    severity: Severity
    component: Component
    notices: Mapping[str, str]
    bad: tuple[Sum, ...]
    but: tuple[Sum, ...] = ()
    among: Sum = CALLS
    limit: str | None = None
    minimum: str | None = None
    above: str | None = None
    required: bool = False
    """Whether the whole is unknown while this is. Of the others nothing was served, and that is no flaw."""
    denied_by: frozenset[str] = frozenset()
    """Reasons that leave open whether ``good`` is so, though nothing bad was counted: a manifest that is not there is
    not stale either."""
    denied_by_samplers: bool = False
    """Whether what a sampler may have left out leaves that open, too."""

    @property
    def alert(self) -> str:
        """What its alert and its runbook are called."""
        return "Dataface" + "".join(word.capitalize() for word in self.name.split("_"))

    @property
    def unit(self) -> str:
        """What its value is: `ratio`, `per_call` (of which a call may have several), `seconds`, or `count`."""
        if self.kind == "ratio" and any(each.metric in _SEVERAL_IN_A_CALL for each in self.bad):
            return "per_call"
        return {"ratio": "ratio", "age": "seconds"}.get(self.kind, "count")

    @property
    def reasons(self) -> frozenset[str]:
        """The reasons that it counts; none where it counts something else."""
        return frozenset().union(
            *(each.where.get(names.DATAFACE_DEGRADATION_REASON, ()) for each in self.bad)
        )

    def counted(self, objectives: Objectives) -> tuple[tuple[Sum, ...], tuple[Sum, ...]]:
        """What is bad, and what of that is not, by these objectives. Raises ValueError as `Sum` does."""
        if self.above is None:
            return self.bad, self.but
        above = float(getattr(objectives, self.above))
        return tuple(replace(each, above=above) for each in self.bad), self.but

    def limit_in(self, objectives: Objectives) -> float:
        """The highest value that is healthy; 0 where it has no objective."""
        return float(getattr(objectives, self.limit)) if self.limit else 0.0

    def minimum_in(self, objectives: Objectives) -> int:
        """How many bad ones there are at least where it is judged."""
        return int(getattr(objectives, self.minimum)) if self.minimum else 1


_SEVERAL_IN_A_CALL = frozenset(
    {names.METRIC_DATAFACE_RESOLUTION_FAILURES, names.METRIC_DATAFACE_REFERENCES_UNKNOWN}
)
_WITHOUT_MANIFEST = frozenset(
    {"manifest_missing", "manifest_unreadable", "manifest_incomplete", "manifest_substituted"}
)
_NOT_AS_ASKED = frozenset(
    {"object_unknown", "resource_unknown", "source_substituted", "schema_drift", "contract_broken"}
)


def _reasons(*reasons: str) -> tuple[Sum, ...]:
    unknown = set(reasons) - names.REASONS
    if unknown:
        raise ValueError(f"not in the conventions: {', '.join(sorted(unknown))}")
    return (some(DEGRADATIONS, reason=frozenset(reasons)),)


def _calls(outcome: str) -> Sum:
    return Sum(SERVED, {names.DATAFACE_OUTCOME: frozenset({outcome})}, CALLS.unless)


def _everyone(words: str) -> dict[str, str]:
    return dict.fromkeys(sorted(names.SURFACES), words)


# Pages are for people: most have 100 KB of styles and scripts.
_PAYLOADS = Sum(
    names.METRIC_DATAFACE_PAYLOAD_SIZE, unless={names.DATAFACE_PAYLOAD_KIND: frozenset({"http_response"})}
)
_CONTEXT = some(
    names.METRIC_DATAFACE_OPERATION_DURATION,
    name=frozenset({"catalog.resolve", "context.build", "manifest.load"}),
)
_LOST_HOOKS = some(names.METRIC_CONTEXT_TELEMETRY_FLAWS, flaw=frozenset({"hook_absent", "hook_failed"}))
OWN_ERRORS = Sum(
    names.METRIC_CONTEXT_TELEMETRY_ERRORS, unless={names.CONTEXT_TELEMETRY_PLACE: frozenset({"settings"})}
)
# A page that is not there says so to whoever mistyped its address: it counts as a name that does not resolve.
_PAGES_NOT_THERE = Sum(
    DEGRADATIONS,
    {names.DATAFACE_DEGRADATION_REASON: frozenset({"resource_unknown"})},
    {names.DATAFACE_SURFACE: frozenset({"mcp"})},
)

INDICATORS: tuple[Indicator, ...] = (
    Indicator(
        name="telemetry_silent",
        kind="silent",
        measures="calls that were recorded",
        good="calls arrive",
        wrong="nothing is known: no calls were recorded",
        severity="ticket",
        component="telemetry",
        notices={},
        bad=(),
        required=True,
    ),
    Indicator(
        name="degraded_ratio",
        kind="ratio",
        measures="calls answered partially, stale, oversized, unresolved or from another place than asked, "
        "but for pages that say themselves that they are not there",
        good="answers are whole",
        wrong="answers look right and are not",
        severity="page",
        component="surface",
        notices={
            "mcp": "an agent works with less than it asked for, without an error, and answers wrongly",
            "dashboard": "charts are missing or show another database; the page still answers 200",
            "ide": "suggestions and previews are made from less than the project has",
            "cli": "a command prints less and exits with 0",
            "agent": "the turn ends as usual; what it says rests on less",
            "library": "the caller gets an answer that is not whole",
        },
        bad=(_calls("degraded"),),
        but=(_PAGES_NOT_THERE,),
        denied_by=frozenset({"resource_unknown"}),
        limit="degraded_ratio",
        minimum="degraded_minimum",
        required=True,
    ),
    Indicator(
        name="failed_ratio",
        kind="ratio",
        measures="calls without a usable answer",
        good="calls are answered",
        wrong="calls end in errors",
        severity="page",
        component="surface",
        notices={
            "mcp": "tools answer with errors; an agent retries or gives up",
            "dashboard": "pages show an error in place of the dashboard",
            "ide": "previews and completions end in errors",
            "cli": "commands exit with an error",
            "agent": "the turn ends without an answer",
            "library": "the call raises",
        },
        bad=(_calls("failed"),),
        limit="failed_ratio",
        minimum="failed_minimum",
        required=True,
    ),
    Indicator(
        name="resolution_failures",
        kind="ratio",
        measures="sources, tables, columns, resources and pages that were asked for and did not resolve, for each call",
        good="what is asked for exists",
        wrong="names that consumers rely on do not resolve",
        severity="page",
        component="catalogue",
        notices={
            "mcp": "empty catalogue answers; queries against another database",
            "dashboard": "charts without data, pages that are not there",
            "ide": "names are marked as unknown, or not completed",
            "cli": "a command finds nothing",
            "agent": "the model is told that a table does not exist",
            "library": "an envelope without what was asked for",
        },
        bad=(Sum(names.METRIC_DATAFACE_RESOLUTION_FAILURES),),
        denied_by=_NOT_AS_ASKED,
        among=ENTRIES,
        # Most are an agent's query that it corrects, or an address mistyped; what is served instead counts above.
        limit="failed_ratio",
        minimum="failed_minimum",
        required=True,
    ),
    Indicator(
        name="contract_open",
        kind="said",
        measures="changes that break what consumers rely on by the accepted contract, and that nobody has accepted",
        good="what is served is what was accepted",
        wrong="what consumers rely on has changed and nobody accepted it",
        severity="page",
        component="catalogue",
        notices={
            "mcp": "queries on the column or table that changed end in errors, or are right in form and wrong",
            "dashboard": "charts on it are empty or gone; the page still answers 200",
            "ide": "what is written against the former column or type breaks when it runs",
            "cli": "renders and queries on it lack charts or end in errors",
            "agent": "the model is told of what is no more, asks for it and gives up or guesses",
            "library": "the call raises, or returns less than the caller was written for",
        },
        bad=(some(names.METRIC_DATAFACE_CONTRACT_OPEN, level="breaking"),),
    ),
    Indicator(
        name="checks_failing",
        kind="ratio",
        measures="checks that found something broken, or could not look at something",
        good="checks find all well",
        wrong="checks keep finding something, perhaps before anybody meets it",
        severity="ticket",
        component="catalogue",
        notices=_everyone(
            "nothing yet, or what the check names: the next call that needs it fails or misleads"
        ),
        bad=(
            replace(
                CHECKS, where={**CHECKS.where, names.DATAFACE_OUTCOME: frozenset({"degraded", "failed"})}
            ),
        ),
        among=CHECKS,
        limit="degraded_ratio",
        minimum="degraded_minimum",
    ),
    Indicator(
        name="unknown_references",
        kind="ratio",
        measures="names of tables and columns in queries that their source does not have, for each call",
        good="queries name what is there",
        wrong="queries name tables and columns that are not there",
        severity="ticket",
        component="ai_context",
        notices={
            "mcp": "an agent's query ends in an error, and it tries other names until one fits",
            "dashboard": "charts that ask for a former name are empty or gone",
            "ide": "previews end in errors",
            "cli": "renders and queries end in errors",
            "agent": "turns take longer: the model guesses names",
            "library": "the query raises",
        },
        bad=(Sum(names.METRIC_DATAFACE_REFERENCES_UNKNOWN),),
        denied_by=_NOT_AS_ASKED - {"resource_unknown"},
        among=ENTRIES,
        # As with what does not resolve: an agent guesses, is told, and corrects itself.
        limit="failed_ratio",
        minimum="failed_minimum",
    ),
    Indicator(
        name="manifest_stale",
        kind="ratio",
        measures="calls served with a dbt manifest that is older than promised or than its models",
        good="descriptions are those of today's models",
        wrong="descriptions and lineage are those of former models",
        severity="ticket",
        component="catalogue",
        notices=_everyone("columns without descriptions, or with wrong ones"),
        bad=_reasons("manifest_stale"),
        denied_by=_WITHOUT_MANIFEST,
        among=ENTRIES,
        limit="degraded_ratio",
        minimum="degraded_minimum",
    ),
    Indicator(
        name="profile_stale",
        kind="ratio",
        measures="calls served with a profile that is older than promised",
        good="profiles are as fresh as promised",
        wrong="statistics and examples are those of former data",
        severity="ticket",
        component="catalogue",
        notices=_everyone("row counts, ranges and example values that no longer hold"),
        bad=_reasons("profile_stale"),
        denied_by=frozenset({"layer_unavailable"}),
        among=ENTRIES,
        limit="degraded_ratio",
        minimum="degraded_minimum",
    ),
    Indicator(
        name="result_stale",
        kind="ratio",
        measures="calls answered from the past: a result beyond its promise, a failure from the cache, a file that "
        "has been replaced",
        good="results are those of now",
        wrong="results are those of former data, or of a failure that is over",
        severity="ticket",
        component="surface",
        notices=_everyone("numbers that others do not see, or an error that nobody else gets"),
        bad=_reasons("result_stale", "failure_cached", "handle_outlived_file"),
        among=ENTRIES,
        limit="degraded_ratio",
        minimum="degraded_minimum",
    ),
    Indicator(
        name="artifact_age",
        kind="age",
        measures="how long ago an artefact was built that catalogue answers are made from",
        good="artefacts are built regularly",
        wrong="an artefact has not been built for longer than allowed",
        severity="ticket",
        component="catalogue",
        notices=_everyone("nothing yet; descriptions and lineage drift away from the warehouse"),
        bad=(Sum(names.METRIC_DATAFACE_ARTIFACT_BUILT_AT),),
        denied_by=_WITHOUT_MANIFEST | {"manifest_stale"},
        limit="artifact_age",
    ),
    Indicator(
        name="enrichment_lost",
        kind="ratio",
        measures="calls served while descriptions that a former manifest had are gone",
        good="descriptions are kept",
        wrong="descriptions that consumers had are gone",
        severity="ticket",
        component="catalogue",
        notices=_everyone("columns that had a description have none; a model guesses what they mean"),
        bad=_reasons("enrichment_lost"),
        denied_by=_WITHOUT_MANIFEST,
        among=ENTRIES,
        limit="degraded_ratio",
        minimum="degraded_minimum",
    ),
    Indicator(
        name="payload_over_budget",
        kind="ratio",
        measures="calls whose content is larger than its limit",
        good="answers fit into their consumer",
        wrong="answers are cut or push other context out",
        severity="ticket",
        component="ai_context",
        notices={
            "mcp": "an agent forgets, truncates or refuses the answer",
            "ide": "the assistant in the editor loses the thread",
            "agent": "the model loses earlier parts of the conversation",
        },
        bad=_reasons("payload_over_budget"),
        among=ENTRIES,
        limit="degraded_ratio",
        minimum="degraded_minimum",
    ),
    Indicator(
        name="payload_p95",
        kind="ratio",
        measures="payloads for models above the size that 95 of 100 are to stay below",
        good="payloads are small",
        wrong="payloads have grown: more than one in twenty is large",
        severity="ticket",
        component="ai_context",
        notices={
            "mcp": "answers take longer and cost more tokens",
            "ide": "the assistant in the editor gets slower",
            "agent": "turns get slower and cost more tokens",
        },
        bad=(_PAYLOADS,),
        among=_PAYLOADS,
        denied_by=frozenset({"payload_over_budget"}),
        limit="tail_ratio",
        minimum="tail_minimum",
        above="payload_size",
    ),
    Indicator(
        name="context_latency",
        kind="ratio",
        measures="resolutions of the catalogue, loads of the manifest and builds of AI context that took longer than "
        "95 of 100 are to take",
        good="context is built quickly",
        wrong="context is built slowly",
        severity="ticket",
        component="catalogue",
        notices={
            "mcp": "tools take long or run into the client's time-out",
            "dashboard": "pages take long to open",
            "ide": "the editor waits",
            "cli": "commands take long",
            "agent": "turns begin late",
            "library": "the call takes long",
        },
        bad=(_CONTEXT,),
        among=_CONTEXT,
        limit="tail_ratio",
        minimum="tail_minimum",
        above="context_duration",
    ),
    Indicator(
        name="hooks_lost",
        kind="state",
        measures="hook points that are absent or failed, as each process said last (in a fleet: each time it said so)",
        good="everything that this release has is observed",
        wrong="part of Dataface is not observed",
        severity="ticket",
        component="telemetry",
        notices={},
        bad=(_LOST_HOOKS,),
        required=True,
    ),
    Indicator(
        name="telemetry_dropped",
        kind="count",
        measures="records that were dropped",
        good="everything is recorded",
        wrong="counts are too low",
        severity="ticket",
        component="telemetry",
        notices={},
        bad=(Sum(names.METRIC_CONTEXT_TELEMETRY_DROPPED),),
        required=True,
        denied_by_samplers=True,
    ),
    Indicator(
        name="telemetry_errors",
        kind="count",
        measures="errors that the library caught in itself, but for settings",
        good="every result is read",
        wrong="some results are recorded without a reading",
        severity="ticket",
        component="telemetry",
        notices={},
        bad=(OWN_ERRORS,),
        required=True,
    ),
    Indicator(
        name="settings_wrong",
        kind="state",
        measures="settings that are wrong and left out, as each process that has not ended said last (in a fleet: "
        "each time it said so)",
        good="settings are in effect",
        wrong="a setting is wrong, and not in effect",
        severity="ticket",
        component="telemetry",
        notices={},
        bad=(some(names.METRIC_CONTEXT_TELEMETRY_FLAWS, flaw="setting_wrong"),),
        required=True,
    ),
)
