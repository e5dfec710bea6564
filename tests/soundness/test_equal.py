"""Both recorders make what a careful author makes by hand: the same spans, the same points for every reader."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import baggage, trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased
from opentelemetry.trace import get_current_span

from context_telemetry.observe import older_sdk, recorder
from soundness import observing, report, workload
from soundness.observing import LIBRARY, WAYS, Outcome, observe_all, started
from soundness.telemetry import (
    DEFINED,
    UNTIMED,
    comparable,
    context_of,
    derived,
    exemplars,
    forms,
    identity,
    pointing,
    rounded,
    same,
    series,
    totals,
)
from soundness.workload import IDENTITY, Step, plan, remote, run, timed, walk

CALLS = 10_000
FEW = 500
# The bursts of these tests are longer than a queue; what happens to a full one is `test_queue`'s.
_ROOM = {
    "OTEL_BSP_MAX_QUEUE_SIZE": "200000",
    "OTEL_BLRP_MAX_QUEUE_SIZE": "200000",
    "OTEL_METRIC_EXPORT_INTERVAL": "120",
}
# Where what periodic readers have exported is looked at: what one is about to, while others flush, is not there yet.
_AT_FLUSHES = "OTEL_METRIC_EXPORT_INTERVAL", "3600000"


@pytest.fixture(scope="module", autouse=True)
def _room() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _ROOM.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """The same 10,000 calls from 4 threads by each way, while somebody collects."""
    plans = plan(1, CALLS)
    assert sum(workload.count(roots) for roots in plans) == CALLS
    folder = tmp_path_factory.mktemp("pipeline")
    made = {name: observe_all(name, folder, lambda way: run(plans, way)) for name in WAYS}
    spans = len(made["hand"].spans)
    batches = sum(len(each) for _, each in made["hand"].readers.batches.values())
    kept = made["hand"].readers.kept["cumulative"].batches
    report.count(
        "equal",
        calls=CALLS * len(made),
        spans=spans * len(made),
        collections=batches,
        series=len(comparable(totals(kept, delta=False))),
    )
    return made


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Fewer calls by hand, every one sampled."""
    plans = plan(2, FEW)
    return observe_all("hand", tmp_path_factory.mktemp("few"), lambda way: run(plans, way))


def _batches(outcome: Outcome) -> list[Any]:
    kept = [batch for _, batches in outcome.readers.batches.values() for batch in batches]
    return kept if outcome.memory is None else [*kept, outcome.memory]


def _points(outcome: Outcome, reader: str) -> dict[Any, Any]:
    delta, batches = outcome.readers.batches[reader]
    return comparable(totals(batches, delta))


# -- the workload -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LIBRARY)
def test_the_same_spans_are_made(outcomes: dict[str, Outcome], name: str) -> None:
    same(forms(outcomes["hand"].spans), forms(outcomes[name].spans))


@pytest.mark.parametrize("name", WAYS)
def test_what_was_current_inside_of_a_call_is_what_is_exported_of_it(
    outcomes: dict[str, Outcome], name: str
) -> None:
    exported = {identity(span): context_of(span) for span in outcomes[name].spans}
    # What nobody may look into while it runs is not seen: an abandoned generator's context is.
    same(outcomes[name].seen, {key: exported[key] for key in outcomes[name].seen})
    assert set(exported) == set(outcomes[name].seen)


@pytest.mark.parametrize("name", WAYS)
def test_spans_lie_in_the_time_in_which_they_ran(outcomes: dict[str, Outcome], name: str) -> None:
    outcome = outcomes[name]
    slack = 5_000_000_000  # a request says that it began before its call did
    for span in outcome.spans:
        assert outcome.began - slack <= (span.start_time or 0) <= (span.end_time or 0) <= outcome.ended
        for event in span.events:
            if event.name == "plain":
                assert outcome.began <= event.timestamp <= outcome.ended


@pytest.mark.parametrize("reader", ["periodic delta", "periodic cumulative", "delta", "cumulative"])
@pytest.mark.parametrize("name", WAYS)
def test_every_reader_receives_the_same_points(outcomes: dict[str, Outcome], name: str, reader: str) -> None:
    same(_points(outcomes["hand"], "cumulative"), _points(outcomes[name], reader))


@pytest.mark.parametrize("name", LIBRARY)
def test_a_value_at_the_edge_of_a_bucket_is_in_the_bucket_in_which_the_sdk_has_it(
    tmp_path: Path, name: str
) -> None:
    sizes = [int(edge) + more for edge in DEFINED["dataface.payload.size"].boundaries for more in (-1, 0, 1)]
    ages = [float(edge) for edge in DEFINED["dataface.staleness.age"].boundaries]
    steps = [
        *(Step(f"size {each}", "function", "context.build", size=each) for each in (0, *sizes)),
        *(Step(f"age {each}", "block", "manifest.load", age=("dbt_manifest", each)) for each in (0.0, *ages)),
    ]
    made = {
        each: observe_all(each, tmp_path, lambda way: _perform(steps, way), collecting=False)
        for each in ("hand", name)
    }
    same(_points(made["hand"], "cumulative"), _points(made[name], "cumulative"))


@pytest.mark.parametrize("name", LIBRARY)
def test_a_reader_that_prefers_exponential_histograms_receives_them(tmp_path: Path, name: str) -> None:
    plans = plan(6, FEW)
    by_hand = observe_all("hand", tmp_path, lambda way: run(plans, way), exponential=True)
    found = observe_all(name, tmp_path, lambda way: run(plans, way), exponential=True)
    for reader in ("exponential", "exponential delta"):
        points = _points(found, reader)
        assert {key[0]: value[0] for key, value in points.items()}[
            "dataface.payload.size"
        ] == "ExponentialHistogram"
        same(_points(by_hand, "exponential"), points)
    same(_points(by_hand, "cumulative"), _points(found, "delta"))


@pytest.mark.parametrize("name", WAYS)
def test_the_sdks_own_reader_in_memory_receives_the_same_points(
    outcomes: dict[str, Outcome], name: str
) -> None:
    memory = outcomes[name].memory
    assert memory is not None
    found = comparable(totals([memory], delta=False))
    same(_points(outcomes["hand"], "cumulative"), found)


@pytest.mark.parametrize("name", LIBRARY)
def test_prometheus_scrapes_the_same_numbers(outcomes: dict[str, Outcome], name: str) -> None:
    expected, found = outcomes["hand"].prometheus, outcomes[name].prometheus
    if expected is None or found is None:
        pytest.skip("needs opentelemetry-exporter-prometheus")

    def fixed(samples: dict[Any, float]) -> dict[Any, float]:
        durations = "dataface_operation_duration_seconds"
        return {
            key: rounded(value)
            for key, value in samples.items()
            if value and (not key[0].startswith(durations) or key[0] == durations + "_count")
        }

    assert len(expected) > 500
    same(fixed(expected), fixed(found))


@pytest.mark.parametrize("name", WAYS)
def test_the_points_are_those_that_the_conventions_derive_from_the_spans(
    outcomes: dict[str, Outcome], name: str
) -> None:
    outcome = outcomes[name]
    expected = derived(outcome.spans)
    found = totals(outcome.readers.kept["cumulative"].batches, delta=False)
    wrong = []
    for key, (count, total) in expected.items():
        point = found[key]
        counted = point.count if point.kind == "Histogram" else count
        # A page's span is its neighbour's, and ends when that says; by hand the clock is read twice.
        inexact = key[0] == "http.server.request.duration" or (name == "hand" and key[0] in UNTIMED)
        if counted != count or not (inexact or point.value == pytest.approx(total, rel=1e-9)):
            wrong.append(f"{key}: {count} measurements of {total}, and the point {point}")
    from_spans = {key for key in found if DEFINED[key[0]].source == "span" and found[key].value}
    assert (wrong[:3], from_spans - set(expected)) == ([], set())


@pytest.mark.parametrize("name", WAYS)
def test_histograms_start_while_the_calls_ran(outcomes: dict[str, Outcome], name: str) -> None:
    outcome = outcomes[name]
    # With a host's providers they start with a collection, and the last one comes after the last call.
    latest = outcome.ended + 5_000_000_000 * (name == "host")
    for reader, (delta, batches) in outcome.readers.batches.items():
        for key, total in totals(batches, delta).items():
            if total.kind != "Histogram" or not total.value:
                continue
            assert total.first_start <= latest, (reader, key)
            assert outcome.began - 1_000_000_000 <= total.first_start, (reader, key)
            assert total.last_time >= total.first_start, (reader, key)


@pytest.mark.parametrize("name", WAYS)
def test_exemplars_never_point_at_a_wrong_span(outcomes: dict[str, Outcome], name: str) -> None:
    if name not in LIBRARY and older_sdk.mixes_exemplars():
        pytest.skip("by hand, threads mix up whose value an exemplar has, before OpenTelemetry 1.45")
    outcome = outcomes[name]
    told = timed(step for roots in plan(1, CALLS) for step in walk(roots))
    found = pointing(_batches(outcome), outcome.spans, told, timed=name != "hand", together=name == "owned")
    assert found.wrong[:5] == []
    assert (
        len(found.alone) > 200
    )  # in each collection the last call of each bucket: 5,000 or so where they are many
    for pair in found.pairs - found.alone:  # of the others the value could be no other span's
        assert DEFINED[pair[0][0]].instrument == "counter" or pair[0][0] in UNTIMED
    for _, _, exemplar in exemplars(_batches(outcome)):
        assert outcome.began <= exemplar.time_unix_nano <= outcome.ended + 2_000_000_000
    if name in LIBRARY:
        report.count("exemplars", exemplars=len(found.pairs), alone=len(found.alone))


@pytest.mark.parametrize("name", LIBRARY)
def test_slow_and_failed_calls_have_exemplars(outcomes: dict[str, Outcome], name: str) -> None:
    outcome = outcomes[name]
    pointed = {exemplar.span_id for _, _, exemplar in exemplars(_batches(outcome))}
    outcomes_of = {
        str((span.attributes or {}).get("dataface.outcome"))
        for span in outcome.spans
        if context_of(span).span_id in pointed
    }
    assert outcomes_of >= {"failed", "ok", "degraded"}


@pytest.mark.parametrize("name", LIBRARY)
def test_events_are_the_same_and_know_their_spans(outcomes: dict[str, Outcome], name: str) -> None:
    def told(outcome: Outcome) -> list[Any]:
        known = {context_of(span).span_id: identity(span) for span in outcome.spans}
        made = []
        for each in outcome.logs:
            record = each.log_record
            attributes = dict(record.attributes or {})
            # What the health board says of the same calls is no recorder's.
            if record.event_name != "dataface.degradation" or "dataface.soundness" in attributes:
                span = known.get(record.span_id) if record.span_id else None
                made.append(
                    (record.event_name, str(sorted(attributes.items())), record.severity_text, span or "")
                )
        return sorted(made)

    assert told(outcomes[name]) == told(outcomes["hand"])


@pytest.mark.parametrize("name", LIBRARY)
def test_nothing_was_caught_and_nothing_dropped(outcomes: dict[str, Outcome], name: str) -> None:
    assert (outcomes[name].errors, outcomes[name].drops) == ({}, {})


@pytest.mark.parametrize("name", LIBRARY)
def test_through_the_content_guard_the_spans_are_the_same(tmp_path: Path, name: str) -> None:
    plans = plan(3, FEW)
    by_hand = observe_all("hand", tmp_path, lambda way: run(plans, way), guarded=True)
    found = observe_all(name, tmp_path, lambda way: run(plans, way), guarded=True)
    same(forms(by_hand.spans), forms(found.spans))


# -- collections, one at a time -----------------------------------------------------------------------------


def _calls(count: int, prefix: str = "c", **options: Any) -> list[Step]:
    return [
        Step(f"{prefix}{index}", "function", "context.build", size=100 + index, **options)
        for index in range(count)
    ]


def _perform(steps: Sequence[Step], way: Any) -> None:
    for step in steps:
        workload.perform(step, way)


def _count(batch: Any, name: str = "dataface.payload.size") -> int:
    return sum(point.count for key, _, point in series(batch) if key[0] == name) if batch is not None else 0


def _served(batch: Any) -> int:
    return sum(point.value for key, _, point in series(batch) if key[0] == "dataface.context.served")


@pytest.mark.parametrize("name", WAYS)
def test_a_collection_has_every_call_that_ended_before_it(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(*_AT_FLUSHES)
    with started(name, tmp_path) as made:
        delta, cumulative = made.readers.kept["delta"], made.readers.kept["cumulative"]
        _perform(_calls(50), made.way)
        delta.collect()
        assert (_count(delta.batches[-1]), _served(delta.batches[-1])) == (50, 50)
        _perform(_calls(7, "d"), made.way)
        cumulative.collect()  # another reader: nothing of the delta one's may go with it
        assert (_count(cumulative.batches[-1]), _served(cumulative.batches[-1])) == (57, 57)
        delta.collect()
        assert (_count(delta.batches[-1]), _served(delta.batches[-1])) == (7, 7)
        _perform(_calls(3, "e"), made.way)
        assert _count(made.readers.memory.get_metrics_data()) == 60
        if made.readers.prometheus is not None:
            _perform(_calls(2, "f"), made.way)
            samples = made.readers.prometheus.samples()
            assert sum(v for k, v in samples.items() if k[0] == "dataface_payload_size_bytes_count") == 62
        before = len(delta.batches)
        delta.collect()
        assert sum(map(_count, delta.batches[before:])) == (5 if made.readers.prometheus else 3)
        before = len(delta.batches)
        delta.collect()
        assert sum(map(_count, delta.batches[before:])) == 0  # nothing twice


@pytest.mark.parametrize("name", LIBRARY)
def test_a_providers_own_flush_exports_every_call_that_ended_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(*_AT_FLUSHES)
    with started(name, tmp_path) as made:
        _perform(_calls(600), made.way)
        assert made.tracer_provider.force_flush(10_000)
        assert len(made.spans()) == 600
        assert made.meter_provider.force_flush(10_000)
        assert sum(map(_count, made.readers.periodic[True].batches)) == 600


def _late(name: str) -> Any:
    because = "the SDK asks for what is ours when it collects, and begins no series in the past"
    return pytest.param(name, marks=pytest.mark.xfail(strict=True, reason=because))


@pytest.mark.parametrize("name", ["hand", _late("host"), "owned"])
def test_a_histogram_starts_when_its_first_call_ended_however_late_the_collection(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _starts(tmp_path, name, monkeypatch, "Histogram")


@pytest.mark.parametrize("name", ["hand", _late("host"), _late("owned")])
def test_a_counter_starts_when_its_first_call_ended_however_late_the_collection(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _starts(tmp_path, name, monkeypatch, "Sum")


def _starts(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setenv(*_AT_FLUSHES)
    with started(name, tmp_path) as made:
        _perform(_calls(3), made.way)
        ended = time.time_ns()
        time.sleep(0.6)
        for reader in (made.readers.kept["cumulative"], made.readers.kept["delta"]):
            reader.collect()
            points = [
                (key, point) for key, m, point in series(reader.batches[-1]) if type(m.data).__name__ == kind
            ]
            assert points
            for key, point in points:
                assert point.start_time_unix_nano <= ended + 200_000_000, key
                assert point.time_unix_nano >= ended + 500_000_000, key


@pytest.mark.parametrize("name", LIBRARY)
def test_a_recorder_that_is_replaced_loses_nothing_and_counts_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(*_AT_FLUSHES)
    with started(name, tmp_path) as made:
        mine = recorder.active()
        _perform(_calls(30), made.way)
        recorder.forget()
        gc.collect()
        reader = made.readers.kept["cumulative"]
        reader.collect()
        assert (_count(reader.batches[-1]), _served(reader.batches[-1])) == (30, 30)
        recorder.install(mine)
        _perform(_calls(12, "d"), made.way)
        del mine
        recorder.forget()
        gc.collect()
        made.flush(5)
        reader.collect()
        assert (_count(reader.batches[-1]), _served(reader.batches[-1])) == (42, 42)
        assert sum(map(_count, made.readers.periodic[True].batches)) == 42


@pytest.mark.parametrize("name", LIBRARY)
def test_a_second_recorder_on_the_same_providers_counts_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """As after `uninstrument` and `instrument` again."""
    monkeypatch.setenv(*_AT_FLUSHES)
    with started(name, tmp_path) as made:
        _perform(_calls(30), made.way)
        recorder.forget()
        recorder.use(made.tracer_provider, made.meter_provider)
        _perform(_calls(12, "d"), made.way)
        reader = made.readers.kept["cumulative"]
        reader.collect()
        assert (_count(reader.batches[-1]), _served(reader.batches[-1])) == (42, 42)
        made.flush(5)
        assert sum(map(_count, made.readers.periodic[True].batches)) == 42


_PROVIDERS_COME_LATE = """
import sys
sys.path.insert(0, sys.argv[1])
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from context_telemetry.observe import recorder
from soundness.observing import KeptReader
from soundness.telemetry import totals
from soundness.ways import Observed
from soundness.workload import Step, perform
tracers, reader = TracerProvider(), KeptReader(delta=False)
trace.set_tracer_provider(tracers)
way, made = Observed(tracers), 0
def calls(count):
    global made
    for _ in range(count):
        made += 1
        perform(Step(f"c{made}", "function", "context.build", size=1), way)
def counted():
    reader.collect()
    found = totals(reader.batches, delta=False)
    return [
        sum(each.count or int(each.value) for key, each in found.items() if key[0] == name)
        for name in ("dataface.payload.size", "dataface.context.served")
    ]
calls(100)  # for nobody's metrics
meters = MeterProvider([reader])
metrics.set_meter_provider(meters)
calls(20)
print(counted())
recorder.use(tracers, meters)
calls(5)
print(counted())
recorder.forget()
calls(3)
print(counted())
"""


def test_a_host_whose_metrics_come_late_and_are_named_later_still_counts_every_call() -> None:
    """The process's own recorder, then one to the same providers by name, then the first again."""
    command = [sys.executable, "-c", _PROVIDERS_COME_LATE, str(Path(__file__).parents[1])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.split("\n")[:3]) == (0, ["[20, 20]", "[25, 25]", "[28, 28]"]), done


# -- samplers and limits, as `OTEL_*` says ------------------------------------------------------------------

_SAMPLERS: dict[str, tuple[dict[str, str], Callable[[int, int | None], bool]]] = {
    "always_off": ({}, lambda trace_id, flags: False),
    "always_on": ({}, lambda trace_id, flags: True),
    "traceidratio": ({"OTEL_TRACES_SAMPLER_ARG": "0.4"}, lambda trace_id, flags: _ratio(0.4, trace_id)),
    "parentbased_always_on": ({}, lambda trace_id, flags: flags is None or bool(flags)),
    "parentbased_always_off": ({}, lambda trace_id, flags: bool(flags)),
    "parentbased_traceidratio": (
        {"OTEL_TRACES_SAMPLER_ARG": "0.3"},
        lambda trace_id, flags: _ratio(0.3, trace_id) if flags is None else bool(flags),
    ),
}


def _ratio(rate: float, trace_id: int) -> bool:
    decision = TraceIdRatioBased(rate).should_sample(None, trace_id, "").decision
    return decision is Decision.RECORD_AND_SAMPLE


@pytest.mark.parametrize("sampler", _SAMPLERS)
@pytest.mark.parametrize("name", LIBRARY)
def test_a_sampler_decides_about_spans_and_never_about_metrics(
    few: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, sampler: str
) -> None:
    variables, decide = _SAMPLERS[sampler]
    for variable, value in {"OTEL_TRACES_SAMPLER": sampler, **variables}.items():
        monkeypatch.setenv(variable, value)
    plans = plan(2, FEW)
    outcome = observe_all(name, tmp_path, lambda way: run(plans, way))

    remotes = {  # the trace of a remote parent has its flags
        remote(step.ident, step.remote).trace_id: step.remote
        for roots in plans
        for step in walk(roots)
        if step.remote is not None
    }
    wanted = {
        ident
        for ident, context in outcome.seen.items()
        if decide(context.trace_id, remotes.get(context.trace_id))
    }
    assert {ident for ident, context in outcome.seen.items() if context.trace_flags.sampled} == wanted
    exported = {identity(span): context_of(span) for span in outcome.spans}
    assert set(exported) == wanted
    assert all(outcome.seen[ident] == context for ident, context in exported.items())
    if sampler not in ("always_on", "always_off"):
        assert 0 < len(wanted) < len(outcome.seen)

    for reader in ("delta", "cumulative", "periodic delta"):
        same(_points(few, "cumulative"), _points(outcome, reader))
    found = pointing(
        _batches(outcome),
        outcome.spans,
        timed(step for roots in plans for step in walk(roots)),
        timed=True,
        together=name == "owned",
    )
    assert found.wrong[:5] == []
    assert bool(found.alone) == (sampler != "always_off")
    assert (outcome.errors, outcome.drops) == ({}, {})


@pytest.mark.parametrize("name", LIBRARY)
def test_exemplars_that_are_switched_off_are_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("OTEL_METRICS_EXEMPLAR_FILTER", "always_off")
    outcome = observe_all(name, tmp_path, lambda way: run(plan(5, 200), way), collecting=False)
    assert list(exemplars(_batches(outcome))) == []


_SYNC = [
    Step(
        f"{shape}-{number}",
        shape,
        "query.execute" if shape == "function" else "tool.call" if shape == "request" else "context.build",
        source="warehouse",
        configured=True,
        size=300 * number,
        reasons=("object_unknown", "manifest_missing"),
        age=("dbt_manifest", 3e6),
        layers=("dbt_manifest", "metadata_sql"),
        error="LookupError" if number == 3 else None,
        touches=tuple(workload._TOUCHES) if number != 1 else (),
        remote=1 if number == 2 else None,
        duration_ns=1,
        baggage=f"{shape}-{number}",
        under_foreign=number == 1,
    )
    for shape in ("function", "generator", "block", "request", "adopted")
    for number in (1, 2, 3)
]
_LIMITS: tuple[dict[str, str], ...] = (
    {},
    {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "5"},
    {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "0"},
    {"OTEL_ATTRIBUTE_COUNT_LIMIT": "9"},
    {"OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "4"},
    {"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "3"},
    {"OTEL_SPAN_EVENT_COUNT_LIMIT": "1"},
    {"OTEL_SPAN_LINK_COUNT_LIMIT": "1"},
    {"OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": "1"},
    {"OTEL_LINK_ATTRIBUTE_COUNT_LIMIT": "0"},
    {"OTEL_SPAN_EVENT_COUNT_LIMIT": "0", "OTEL_SPAN_LINK_COUNT_LIMIT": "0"},
)


def _in_order(spans: Sequence[ReadableSpan]) -> list[tuple[Any, ...]]:
    """Spans of one thread, in the order of their starts, without identities: limits may take those away."""
    return [
        (
            span.name,
            span.kind.name,
            span.status.status_code.name,
            span.status.description,
            sorted((key, repr(value)) for key, value in (span.attributes or {}).items()),
            [
                (event.name, sorted(k for k in event.attributes or {}), (event.attributes or {}).get("list"))
                for event in span.events
            ],
            [sorted((each.attributes or {}).items()) for each in span.links],
            (span.dropped_attributes, span.dropped_events, span.dropped_links),
        )
        for span in sorted(spans, key=lambda span: span.start_time or 0)
    ]


@pytest.mark.parametrize(
    "limits", _LIMITS, ids=lambda each: ",".join(f"{k[5:]}={v}" for k, v in each.items()) or "none"
)
def test_limits_of_spans_are_the_sdks_and_touch_no_metric(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: dict[str, str]
) -> None:
    for variable, value in limits.items():
        monkeypatch.setenv(variable, value)
    made = {
        name: observe_all(name, tmp_path, lambda way: _perform(_SYNC, way), collecting=False) for name in WAYS
    }
    expected = _in_order(made["hand"].spans)
    for name in LIBRARY:
        found = _in_order(made[name].spans)
        assert len(found) == len(expected)
        counted = any("ATTRIBUTE_COUNT" in each for each in limits)
        for mine, theirs in zip(found, expected, strict=True):
            if counted:  # which ones are left depends on the order in which each sets them; how many does not
                assert (mine[:4], len(mine[4]), mine[5:7]) == (theirs[:4], len(theirs[4]), theirs[5:7]), name
                assert bool(mine[7][0]) == bool(theirs[7][0])
            else:
                assert mine == theirs, name
        same(_points(made["hand"], "cumulative"), _points(made[name], "cumulative"))


# -- processors ---------------------------------------------------------------------------------------------


class Noting(SpanProcessor):
    """Notes what it is shown, in order; writes on what starts, as processors that copy baggage do."""

    def __init__(self) -> None:
        self.notes: list[tuple[Any, ...]] = []
        self.ended: list[ReadableSpan] = []
        self.strangers: set[str] = set()
        self._thread = threading.get_ident()

    def _note(self, what: str, span: Any, *more: Any) -> None:
        if threading.get_ident() != self._thread:
            self.strangers.add(what)
        attributes = sorted((key, repr(value)) for key, value in (span.attributes or {}).items())
        parent = None if span.parent is None else span.parent.is_remote
        self.notes.append((what, span.name, span.kind.name, attributes, parent, *more))

    def on_start(self, span: Any, parent_context: Context | None = None) -> None:
        around = get_current_span(parent_context).get_span_context()
        links = [each.attributes and dict(each.attributes) for each in span.links]
        right = not around.is_valid if span.parent is None else around == span.parent
        self._note(
            "start", span, right, span.is_recording(), span.end_time, links, span.status.status_code.name
        )
        span.set_attribute("soundness.processor", str(baggage.get_baggage("soundness", parent_context)))

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span)
        events = [event.name for event in span.events]
        status = (span.status.status_code.name, span.status.description)
        self._note("end", span, events, status, (span.end_time or 0) >= (span.start_time or 0))


@pytest.mark.parametrize("name", LIBRARY)
def test_a_foreign_processor_sees_each_span_begin_and_end_as_with_the_sdk(tmp_path: Path, name: str) -> None:
    steps = [
        *_SYNC,
        Step("outer", "function", "context.build", children=(Step("inner", "block", "manifest.load"),)),
    ]
    seen: dict[str, Noting] = {}
    spans: dict[str, Outcome] = {}
    for each in ("hand", name):
        noting = seen[each] = Noting()
        spans[each] = observe_all(
            each, tmp_path, lambda way: _perform(steps, way), collecting=False, processors=(noting,)
        )
    for mine, theirs in zip(seen[name].notes, seen["hand"].notes, strict=True):
        assert mine == theirs
    assert seen[name].strangers == set()
    same(forms(spans["hand"].spans), forms(spans[name].spans))
    assert forms(seen[name].ended) == forms(spans[name].spans)


@pytest.mark.parametrize("name", LIBRARY)
def test_a_processor_that_comes_late_sees_what_begins_after_it(tmp_path: Path, name: str) -> None:
    with started(name, tmp_path) as made:
        _perform(_calls(20), made.way)
        noting = Noting()
        made.tracer_provider.add_span_processor(noting)
        _perform(_calls(20, "d"), made.way)
        assert [note[0] for note in noting.notes] == ["start", "end"] * 20
        made.flush(5)
        assert len(made.spans()) == 40


@pytest.mark.parametrize("name", LIBRARY)
def test_a_processor_that_came_in_the_middle_of_a_call_sees_it_end(tmp_path: Path, name: str) -> None:
    with started(name, tmp_path) as made:
        noting = Noting()
        step = Step("c", "function", "context.build")
        real = workload._begin

        def begin(*args: Any) -> None:
            made.tracer_provider.add_span_processor(noting)
            real(*args)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(workload, "_begin", begin)
            workload.perform(step, made.way)
        assert [note[0] for note in noting.notes] == ["end"]


# -- what foreign code may do to the current span -----------------------------------------------------------


@pytest.mark.parametrize("name", LIBRARY)
def test_foreign_code_reads_the_current_span_as_it_would_the_sdks(tmp_path: Path, name: str) -> None:
    """As neighbours do that name a span by its attributes, or look whether writing is worth it."""
    found: dict[str, list[Any]] = {}
    for each in ("hand", name):
        notes = found[each] = []

        def look(step: Step, way: Any, notes: list[Any] = notes) -> None:
            span: Any = trace.get_current_span()
            span.set_attribute("soundness.text", "x")
            span.add_event("event", {"n": 1})
            notes.append((span.name, span.kind, dict(span.attributes), span.is_recording(), span.end_time))
            notes.append((span.status.status_code, [event.name for event in span.events], len(span.links)))
            notes.append((span.parent, span.resource is not None, span.instrumentation_scope.name))
            notes.append((isinstance(span, trace.Span), bool(span.start_time)))
            notes.append(sorted(json.loads(span.to_json())))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(workload, "_begin", look)
            observe_all(each, tmp_path, lambda way: _perform(_calls(1), way), collecting=False)
    assert found[name] == found["hand"]


@pytest.mark.parametrize("name", LIBRARY)
def test_a_span_that_foreign_code_ends_is_ended_and_its_call_is_counted(tmp_path: Path, name: str) -> None:
    made = {}
    for each in ("hand", name):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(workload, "_begin", lambda step, way: trace.get_current_span().end())
            made[each] = observe_all(each, tmp_path, lambda way: _perform(_calls(1), way), collecting=False)
    (mine,), (theirs,) = made[name].spans, made["hand"].spans
    assert dict(mine.attributes or {}) == dict(theirs.attributes or {})
    same(_points(made["hand"], "cumulative"), _points(made[name], "cumulative"))


@pytest.mark.parametrize("name", LIBRARY)
def test_a_call_whose_surroundings_are_not_recorded_is_recorded_beneath_them(
    tmp_path: Path, name: str
) -> None:
    """A client's traceparent that says it does not sample, straight above a decorated call."""
    with started(name, tmp_path) as made:
        above = trace.NonRecordingSpan(remote("above", 0))
        with trace.use_span(above):
            _perform(_calls(1), made.way)
        made.flush(5)
        (span,) = made.spans()
        assert span.parent == above.get_span_context()
        assert context_of(span).trace_flags.sampled


def test_the_workload_has_everything_in_it() -> None:
    steps = [step for roots in plan(1, CALLS) for step in walk(roots)]
    assert {step.shape for step in steps} == {*workload.SYNC, *workload.ASYNC}
    assert {touch for step in steps for touch in step.touches} == set(workload._TOUCHES)
    assert {step.error for step in steps} == {None, *workload.ERRORS}
    assert {step.remote for step in steps} == {None, 0, 1}
    for flag in (
        "abandoned",
        "in_thread",
        "under_foreign",
        "surface",
        "baggage",
        "late",
        "outlives",
        "pause",
    ):
        assert sum(bool(getattr(step, flag)) for step in steps) > 20, flag
    assert {len(step.ident) > 0 for step in steps} == {True}
    assert any(grandchild for step in steps for child in step.children for grandchild in child.children)
    assert IDENTITY == "dataface.catalog.table"
    assert observing.WAYS[0] == "hand"
