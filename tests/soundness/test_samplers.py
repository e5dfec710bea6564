"""A host's own samplers decide of our spans as of hand-written ones: what is recorded, exported, added and handed on.

A pipeline of ours finds it as an entry point that `OTEL_TRACES_SAMPLER` names; by hand and on a host's providers,
whoever makes the provider hands it over.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import entry_points
import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState, get_current_span
from opentelemetry.util.types import Attributes

from context_telemetry.observe import recorder
from soundness import observing, telemetry, workload
from soundness.observing import LIBRARY, Outcome, observe_all
from soundness.telemetry import SpanForm, comparable, context_of, exemplars, identity, same, totals
from soundness.workload import plan, run

_FEW = 300
_SEED = 7
_ARGUMENT = "its argument"


class _Sampler(Sampler):
    """Hands the parent's state on, as the SDK's own do."""

    def __init__(self, argument: str | None) -> None:
        self._argument = argument

    def decide(self, name: str, attributes: dict[str, Any], links: Sequence[Link]) -> Decision:
        return Decision.RECORD_AND_SAMPLE

    def say(self, attributes: dict[str, Any], state: TraceState) -> tuple[dict[str, Any], TraceState]:
        return attributes, state

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        given = dict(attributes or {})
        parent = get_current_span(parent_context).get_span_context()
        said, state = self.say(given, parent.trace_state if parent.is_valid else TraceState())
        return SamplingResult(self.decide(name, given, links or ()), said, state)

    def get_description(self) -> str:
        return type(self).__name__


class RecordsOnly(_Sampler):
    """Has some operations recorded and not sampled: whoever looks at them in the process sees them."""

    def decide(self, name: str, attributes: dict[str, Any], links: Sequence[Link]) -> Decision:
        only = name in ("catalog.resolve", "context.build", "chat small", "GET /{path}")
        return Decision.RECORD_ONLY if only else Decision.RECORD_AND_SAMPLE


class Adds(_Sampler):
    """Adds attributes, says one otherwise, takes one away, and counts the spans of a path in the trace's state."""

    def say(self, attributes: dict[str, Any], state: TraceState) -> tuple[dict[str, Any], TraceState]:
        said = {**attributes, "sampler.argument": str(self._argument), "sampler.share": 0.5}
        if "dataface.catalog.schema" in said:
            said["dataface.catalog.schema"] = "the sampler's"
        said.pop("dataface.catalog.source", None)
        depth = str(int(state.get("sampler", "0")) + 1)
        return said, state.update("sampler", depth) if "sampler" in state else state.add("sampler", depth)


class Decides(_Sampler):
    """Goes by what a call was asked with, and by what it is linked to."""

    def decide(self, name: str, attributes: dict[str, Any], links: Sequence[Link]) -> Decision:
        if links:
            ambient = any((link.attributes or {}).get("ambient") for link in links)
            return Decision.RECORD_AND_SAMPLE if ambient else Decision.DROP
        if attributes.get("dataface.surface") == "ide":
            return Decision.DROP
        return {"shop": Decision.DROP, "wh": Decision.RECORD_ONLY}.get(
            str(attributes.get("dataface.catalog.source")), Decision.RECORD_AND_SAMPLE
        )


_SAMPLERS: tuple[type[_Sampler], ...] = (RecordsOnly, Adds, Decides)
Recorded = tuple[Outcome, dict[str, bool], tuple[str, ...]]


def _observed(name: str, folder: Path, sampler: type[_Sampler]) -> Recorded:
    """What came out, which spans were recording when they were current, and the recorder's fallbacks."""
    recording: dict[str, bool] = {}
    fallbacks: tuple[str, ...] = ()
    begin, made = workload._begin, sampler(_ARGUMENT)

    def begun(step: workload.Step, way: Any) -> None:
        recording[step.ident] = trace.get_current_span().is_recording()
        begin(step, way)

    def work(way: Any) -> None:
        nonlocal fallbacks
        run(plan(_SEED, _FEW), way)
        if name in LIBRARY:
            fallbacks = recorder.active().fallbacks

    def provider(sampler: None, **rest: Any) -> TracerProvider:
        return TracerProvider(made, **rest)

    with pytest.MonkeyPatch.context() as patch:
        target = f"{sampler.__module__}:{sampler.__name__}"
        entry_points.install(folder / "packages", patch, {(entry_points.SAMPLERS, "somebodys"): target})
        patch.setenv("OTEL_TRACES_SAMPLER", "somebodys")
        patch.setenv("OTEL_TRACES_SAMPLER_ARG", _ARGUMENT)
        patch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "200000")
        patch.setattr(observing, "TracerProvider", provider)
        patch.setattr(workload, "_begin", begun)
        outcome = observe_all(name, folder, work)
    return outcome, recording, fallbacks


@pytest.fixture(scope="module", params=_SAMPLERS, ids=[each.__name__ for each in _SAMPLERS])
def sampler(request: pytest.FixtureRequest) -> type[_Sampler]:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def by_hand(sampler: type[_Sampler], tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return _observed("hand", tmp_path_factory.mktemp("hand"), sampler)


@pytest.fixture(scope="module", params=LIBRARY)
def by_library(
    sampler: type[_Sampler], request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Recorded:
    return _observed(request.param, tmp_path_factory.mktemp(request.param), sampler)


def _forms(outcome: Outcome) -> dict[str, SpanForm]:
    """As `telemetry.forms`, and a parent that was not exported is known too."""
    known = {context.span_id: ident for ident, context in outcome.seen.items()}
    made = {identity(span): telemetry._form(span, known) for span in outcome.spans}
    assert len(made) == len(outcome.spans)
    return made


def test_the_spans_that_the_sampler_lets_through_are_the_same(
    by_hand: Recorded, by_library: Recorded
) -> None:
    same(_forms(by_hand[0]), _forms(by_library[0]))
    assert len(by_hand[0].spans) > _FEW / 4


def test_flags_and_states_are_handed_on_as_by_hand(by_hand: Recorded, by_library: Recorded) -> None:
    def handed_on(recorded: Recorded) -> dict[str, tuple[int, str]]:
        return {
            ident: (int(context.trace_flags), context.trace_state.to_header())
            for ident, context in recorded[0].seen.items()
        }

    same(handed_on(by_hand), handed_on(by_library))


def test_a_span_records_in_the_process_where_it_does_by_hand(by_hand: Recorded, by_library: Recorded) -> None:
    same(by_hand[1], by_library[1])


def test_metrics_count_every_call_and_an_exemplar_points_at_a_span_that_was_exported(
    by_hand: Recorded, by_library: Recorded
) -> None:
    for reader, (delta, batches) in by_library[0].readers.batches.items():
        expected = by_hand[0].readers.batches[reader][1]
        same(comparable(totals(expected, delta)), comparable(totals(batches, delta)))
    exported = {(context.trace_id, context.span_id) for context in map(context_of, by_library[0].spans)}
    pointed = [
        (each.trace_id, each.span_id)
        for _, batches in by_library[0].readers.batches.values()
        for _, _, each in exemplars(batches)
        if each.span_id
    ]
    assert pointed
    assert set(pointed) <= exported


def test_the_recorder_of_our_pipeline_does_not_step_back_and_nothing_is_lost(by_library: Recorded) -> None:
    outcome, _, fallbacks = by_library
    assert fallbacks == (("host",) if outcome.way == "host" else ())
    assert (outcome.errors, outcome.drops) == ({}, {})


def test_each_sampler_decides_both_ways(sampler: type[_Sampler], by_hand: Recorded) -> None:
    outcome, recording, _ = by_hand
    found = {
        (recording[ident], context.trace_flags.sampled)
        for ident, context in outcome.seen.items()
        if ident in recording
    }
    assert (
        found
        == {
            RecordsOnly: {(True, True), (True, False)},
            Adds: {(True, True)},
            Decides: {(True, True), (True, False), (False, False)},
        }[sampler]
    )
