"""What AI clients are given: how large it is, by kind and client, against what they take whole."""

from __future__ import annotations

from context_telemetry.conventions import names
from context_telemetry.health.promql import SURFACE
from context_telemetry.health.sums import Sum, some
from context_telemetry.ops.dashboards import expressions as ex
from context_telemetry.ops.dashboards import words
from context_telemetry.ops.dashboards.model import Dashboard, Panel, Query, Row, Threshold
from context_telemetry.ops.dashboards.shapes import Shapes, legend

_SIZE = names.METRIC_DATAFACE_PAYLOAD_SIZE
# What goes to a browser is no context of a model.
_AI_PAYLOADS = Sum(_SIZE, unless={names.DATAFACE_PAYLOAD_KIND: frozenset({"http_response"})})
_BEFORE_ANY_QUESTION = frozenset({"system_prompt", "tool_list", "prompt_section", "schema_context"})
_CONVERSATION = Sum(names.METRIC_DATAFACE_CONVERSATION_SIZE)


def dashboard(s: Shapes) -> Dashboard:
    return Dashboard(
        "dataface-payloads",
        "Dataface: what AI clients are given",
        "How large the context is that models and assistants get, by kind and client, against what they take whole.",
        (
            Row(
                "Now",
                5,
                (
                    s.share_now("payload_over_budget", "Over budget", 5),
                    s.share_now("payload_p95", f"Above {words.size(s.objectives.payload_size)}", 5),
                    _sizes_now(s),
                ),
            ),
            Row("By kind", 8, (_sizes(s, "kind", 0.95), _sizes(s, "kind", 0.5))),
            Row("By client", 8, (_sizes(s, "client", 0.95), _sizes(s, "client", 0.5))),
            Row(
                "Over their limit",
                8,
                (s.share_over_time("payload_over_budget"), s.share_over_time("payload_p95")),
            ),
            Row(
                "What every session begins with, and where it ends",
                8,
                (_prompts(s), _conversations(s)),
            ),
            Row("What clients take whole", 13, (_budgets(s),)),
        ),
        ex.OF_SURFACES,
    )


def _sizes_now(s: Shapes) -> Panel:
    return Panel(
        name="sizes_now",
        title=f"Payload size p95, {s.last}",
        answers="The size that 95 of 100 payloads of each kind stay below.",
        kind="stat",
        width=14,
        unit="bytes",
        queries=(Query(ex.quantile(0.95, _AI_PAYLOADS, s.window, (ex.KIND,)), legend(ex.KIND)),),
        empty="Nothing was handed to anybody.",
        thresholds=(Threshold(s.objectives.payload_size, "limit for 95 of 100"),),
    )


def _sizes(s: Shapes, by: str, rank: float) -> Panel:
    which = {"kind": (ex.KIND,), "client": (SURFACE, ex.CLIENT)}[by]
    return Panel(
        name=f"sizes_by_{by}_p{rank * 100:g}",
        title=f"Payload size p{rank * 100:g}, by {by}, {s.recent}",
        answers=f"The size that {rank * 100:g} of 100 payloads stay below.",
        kind="lines",
        width=12,
        unit="bytes",
        many=by == "client",
        queries=(
            Query(
                ex.quantile(rank, _AI_PAYLOADS, ex.RECENT, which),
                legend(*which, after=f"p{rank * 100:g}"),
            ),
        ),
        empty="Nothing was handed to anybody.",
        thresholds=(Threshold(s.objectives.payload_size, "limit for 95 of 100"),) if rank > 0.5 else (),
        traces=("too_large",) if rank > 0.5 else (),
    )


def _budgets(s: Shapes) -> Panel:
    return Panel(
        name="budgets",
        title="What clients take whole",
        answers="The budgets that payloads are held against, and where each number is from.",
        kind="text",
        width=24,
        text=words.budgets(s.inputs.limits),
    )


def _prompts(s: Shapes) -> Panel:
    fixed = some(_SIZE, kind=_BEFORE_ANY_QUESTION)
    return Panel(
        name="prompts",
        title=f"Prompts, tool lists and schema context, {s.recent}",
        answers="What a model is given before anybody asks anything: it is paid for in every session.",
        kind="lines",
        width=12,
        unit="bytes",
        queries=(Query(ex.quantile(0.95, fixed, ex.RECENT, (ex.KIND,)), legend(ex.KIND, after="p95")),),
        empty="No session began.",
    )


def _conversations(s: Shapes) -> Panel:
    return Panel(
        name="conversations",
        title=f"All that a model is given at the end of a turn, {s.last}",
        answers="The size of an agent's whole conversation, which grows from call to call.",
        kind="lines",
        width=12,
        unit="bytes",
        queries=tuple(
            Query(ex.quantile(rank, _CONVERSATION, s.window, ()), f"p{rank * 100:g}") for rank in (0.95, 0.5)
        ),
        empty="No agent of Dataface took a turn; other clients keep their conversation to themselves.",
    )
