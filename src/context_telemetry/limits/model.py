"""The one model of all limits: what is configured, documented, and shared by rules and reports.

Not for the hot path: `Limits.compile` makes the tables that observed calls look into.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from context_telemetry.conventions import names
from context_telemetry.limits.compiled import CompiledLimits

BYTES_PER_TOKEN: Final = 4
"""How a limit in tokens becomes bytes: JSON and English in ASCII take about four bytes a token."""


def _not_a_switch(value: object) -> object:
    # To pydantic `true` is the number 1.
    if isinstance(value, bool):
        raise PydanticCustomError("switch_for_number", "is not a number")
    return value


Whole = Annotated[int, Field(gt=0), BeforeValidator(_not_a_switch)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(_not_a_switch)]
Ratio = Annotated[float, Field(gt=0, le=1), BeforeValidator(_not_a_switch)]


def _boundary(metric: str) -> Callable[[float], float]:
    """A value that a metric's buckets can tell: any other threshold would be a guess between two of them."""
    boundaries = next(each.boundaries for each in names.METRICS if each.name == metric)

    def check(value: float) -> float:
        if value not in boundaries:
            below, above = [b for b in boundaries if b < value][-1:], [b for b in boundaries if b > value][:1]
            near = " or ".join(f"{each:.12g}" for each in (*below, *above))
            told = {"metric": metric, "near": near}
            raise PydanticCustomError("no_boundary", "is no boundary of {metric}; write {near}", told)
        return value

    return check


class Strict(BaseModel):
    """Frozen, and a key that is not known is an error: a typo must not look like a setting."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Budget(Strict):
    """The most bytes that a payload may have, and where the number is from."""

    bytes: Whole = Field(description="UTF-8 bytes of the content, without framing.")
    source: str = Field(default="The project's own setting.", description="Where the number is from.")


def _bytes_alone(value: object) -> object:
    """A bare number is a budget: `results = 50000` says all that a project has to say."""
    return value if isinstance(value, (Budget, dict)) or value is None else {"bytes": value}


Configured = Annotated[Budget, BeforeValidator(_bytes_alone)]


class Clients(Strict):
    """What known clients take whole: above it they cut, refuse, or leave the result in a file.

    A number stands here only where it holds for every session of that client at its defaults; `WITHOUT_LIMIT`
    says why the others have none. A field per client of the conventions' closed list.
    """

    claude_code: Configured | None = Budget(
        bytes=50_000,
        source="Claude Code puts a result of more than 50,000 characters in a file and gives its model the "
        "file's name (code.claude.com/docs/en/mcp, as of 2026-10). One character counts as one byte.",
    )
    claude_desktop: Configured | None = Budget(
        bytes=1_048_576,
        source="Claude Desktop refuses a result above 1 MB: 'result exceeds maximum length of 1048576' "
        "(github.com/strickvl/mcp-beeminder/issues/2, github.com/anthropics/claude-code/issues/66519).",
    )
    cline: Configured | None = None
    codex: Configured | None = Budget(
        bytes=10_000 * BYTES_PER_TOKEN,
        source="Codex cuts the middle out of a result above 10,000 tokens (`truncation_policy` in "
        "codex-rs/models-manager/models.json of github.com/openai/codex; its issue 14466), at four bytes a "
        "token, as Codex reckons. Some of its models cut at 10,000 bytes (issue 7906); a server is not told "
        "the model.",
    )
    cursor: Configured | None = None
    gemini_cli: Configured | None = Budget(
        bytes=40_000,
        source="Gemini CLI cuts a result above 40,000 characters and keeps the whole in a file "
        "(github.com/google-gemini/gemini-cli/pull/19365). One character counts as one byte.",
    )
    inspector: Configured | None = None
    other: Configured | None = None
    python_sdk: Configured | None = None
    vscode: Configured | None = None
    windsurf: Configured | None = None
    zed: Configured | None = None


WITHOUT_LIMIT: Final[dict[str, str]] = {
    "cline": "None was found.",
    "cursor": "It puts long results in files; from which size on is not published "
    "(cursor.com/blog/dynamic-context-discovery).",
    "inspector": "It shows everything: there is no model behind it.",
    "other": "It is not known who it is.",
    "python_sdk": "It hands everything to the host that uses it.",
    "vscode": "Copilot Chat puts results above 8,192 bytes in files, but that size is part of an experiment "
    "and can differ from user to user (`github.copilot.chat.agent.largeToolResultsToDisk.thresholdBytes`). "
    "Where it is pinned, set `limits.clients.vscode` to it.",
    "windsurf": "None was found.",
    "zed": "None was found.",
}


class Promises(Strict):
    """How old what a layer serves may be. A field per layer of the conventions' closed list."""

    super_schema: Positive | None = None
    dbt_adapter: Positive | None = None
    dbt_manifest: Positive | None = None
    metadata_sql: Positive | None = None
    result_cache: Positive | None = None


class Objectives(Strict):
    """From when on a share of bad answers is a problem: over one window, per surface."""

    degraded_ratio: Ratio = Field(
        default=0.01,
        description="The share of requests that may be degraded. One in a hundred: a healthy project degrades"
        " nothing, so this is room for a one-off.",
    )
    failed_ratio: Ratio = Field(
        default=0.2,
        description="The share of requests that may fail. One in five: agents try queries that do not run and"
        " correct them, which is work and no outage.",
    )
    degraded_minimum: Whole = Field(
        default=1,
        description="Degraded requests from which on the share is judged. One: a degraded answer looks right "
        "to whoever gets it, so the first is worth a look.",
    )
    failed_minimum: Whole = Field(
        default=10,
        description="Failed requests from which on the share is judged. Ten: fewer say little about the "
        "service.",
    )
    tail_ratio: Ratio = Field(
        default=0.05,
        description="The share that may be above `payload_size` or `context_duration`. One in twenty: the two are"
        " promises about the 95th percentile.",
    )
    tail_minimum: Whole = Field(
        default=10,
        description="How many above them there are from which on that share is judged. Ten: a first resolution takes"
        " seconds, in each process.",
    )
    payload_size: Annotated[Positive, AfterValidator(_boundary(names.METRIC_DATAFACE_PAYLOAD_SIZE))] = Field(
        default=100_000.0,
        description="Bytes that 95 of 100 payloads stay below; a boundary of `dataface.payload.size`. As"
        " `limits.results`.",
    )
    context_duration: Annotated[
        Positive, AfterValidator(_boundary(names.METRIC_DATAFACE_OPERATION_DURATION))
    ] = Field(
        default=5.0,
        description="Seconds that 95 of 100 resolutions, manifest loads and builds of AI context stay below; a boundary"
        " of `dataface.operation.duration`. Five: a first resolution in a process takes one to four.",
    )
    artifact_age: Positive = Field(
        default=2_592_000.0,
        description="Seconds since a manifest or profile was built from which on somebody should ask why. Thirty days:"
        " a project that is worked on is built far more often.",
    )
    page_minimum: Whole = Field(
        default=10,
        description="Bad requests from which on somebody is woken. Ten: fewer can wait for the morning.",
    )
    window: Positive = Field(
        default=3600.0,
        le=315_360_000,
        description="Seconds of traffic that are judged together. An hour: long enough for one person's agent"
        " to have asked something, short enough that a repair shows. Ten years at most.",
    )


class Limits(Strict):
    """Payload budgets, staleness promises and objectives, with the published defaults."""

    results: Configured = Field(
        default=Budget(
            bytes=25_000 * BYTES_PER_TOKEN,
            source="25,000 tokens, what Claude Code's MAX_MCP_OUTPUT_TOKENS allows by default "
            "(code.claude.com/docs/en/mcp), at four bytes a token.",
        ),
        description="Most bytes of a tool's result.",
    )
    resources: Configured = Field(
        default=Budget(bytes=25_000 * BYTES_PER_TOKEN, source="As for results: the same models read both."),
        description="Most bytes of a resource.",
    )
    static: Configured = Field(
        default=Budget(
            bytes=262_144,
            source="256 KiB. All that Dataface 0.4.0 ships stays within it (its longest page has 237,701 "
            "bytes); what grows beyond it is a change of Dataface that somebody should see.",
        ),
        description="Most bytes of documentation and skills, be they a tool's result or a resource.",
    )
    clients: Clients = Field(
        default=Clients(),
        description="Most bytes that a client is known to take whole, documentation included. The lower of "
        "this and the budget above applies.",
    )
    promises: Promises = Field(
        default=Promises(),
        description="Most seconds of age of what a layer serves. Nothing is promised by default: age alone is"
        " a number and not a reason.",
    )
    objectives: Objectives = Field(
        default=Objectives(), description="From when on a share of bad answers is a problem."
    )

    def compile(self) -> CompiledLimits:
        """The tables for the hot path: every combination that has a limit, worked out once."""
        budgets: dict[tuple[str, str, bool], int] = {}
        for client, taken in self.clients:
            for kind, results in (("tool_result", self.results.bytes), ("resource", self.resources.bytes)):
                for static, most in ((False, results), (True, self.static.bytes)):
                    budgets[kind, client, static] = min(most, taken.bytes) if taken else most
        promises = {layer: seconds for layer, seconds in self.promises if seconds is not None}
        return CompiledLimits(budgets, promises)
