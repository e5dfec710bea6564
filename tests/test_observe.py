"""What decorated functions and the context manager record, and what they never do to their callers."""

from __future__ import annotations

import asyncio
import inspect
import re
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from memory import Memory, attributes, recording
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import StatusCode

from context_telemetry import (
    Call,
    Reading,
    catalog_resolution,
    context_build,
    operation,
    profiling,
    reader,
    register_reader,
    surface,
)
from context_telemetry.conventions import names
from context_telemetry.instrumentation import model_calls, tools
from context_telemetry.observe import failsafe, recorder
from context_telemetry.observe.observed import Plan, observe
from context_telemetry.observe.operation import current


@pytest.fixture
def memory() -> Iterator[Memory]:
    with recording() as made:
        yield made


def ambient() -> bool:
    return trace.get_current_span().get_span_context().is_valid


# -- kinds of functions --------------------------------------------------------------------------


def test_a_decorated_function_is_one_span_with_what_was_asked_for(memory: Memory) -> None:
    @catalog_resolution
    def resolve(source: str, schema: str = "main") -> str:
        return f"{source}.{schema}"

    assert resolve("shop") == "shop.main"
    (span,) = memory.spans
    assert span.name == "catalog.resolve"
    assert attributes(span) == {
        "dataface.operation.name": "catalog.resolve",
        "dataface.entry": True,
        "dataface.surface": "library",
        "dataface.outcome": "ok",
        "dataface.catalog.source": "shop",
        "dataface.catalog.schema": "main",
    }
    assert span.status.status_code is StatusCode.UNSET


def test_a_coroutine_stays_one_and_is_observed_until_it_returns(memory: Memory) -> None:
    @profiling
    async def profile(table: str) -> str:
        await asyncio.sleep(0)
        assert ambient()
        return table

    assert inspect.iscoroutinefunction(profile)
    assert asyncio.run(profile("orders")) == "orders"
    assert attributes(memory.span("catalog.profile"))["dataface.catalog.table"] == "orders"


def test_methods_of_every_kind_are_observed_in_either_decorator_order(memory: Memory) -> None:
    class Catalogue:
        @catalog_resolution
        def method(self, source: str) -> Any:
            return self

        @catalog_resolution
        @classmethod
        def class_first(cls, source: str) -> Any:
            return cls

        @classmethod
        @catalog_resolution
        def class_last(cls, source: str) -> Any:
            return cls

        @catalog_resolution
        @staticmethod
        def static_first(source: str) -> str:
            return source

        @staticmethod
        @catalog_resolution
        def static_last(source: str) -> str:
            return source

    catalogue = Catalogue()
    assert catalogue.method("a") is catalogue
    assert Catalogue.class_first("b") is Catalogue
    assert Catalogue.class_last("c") is Catalogue
    assert Catalogue.static_first("d") == "d"
    assert catalogue.static_last("e") == "e"
    assert [attributes(span)["dataface.catalog.source"] for span in memory.spans] == ["a", "b", "c", "d", "e"]


def test_a_decorated_function_keeps_its_name_signature_and_documentation() -> None:
    @context_build(source="shop")
    def build(limit: int = 3) -> str:
        """Build it."""
        return "x" * limit

    assert build.__name__ == "build"
    assert build.__doc__ == "Build it."
    assert str(inspect.signature(build)) == "(limit: 'int' = 3) -> 'str'"


# -- generators ----------------------------------------------------------------------------------


def test_a_generator_forwards_send_throw_close_and_return_and_leaks_no_context(memory: Memory) -> None:
    seen: list[Any] = []

    @context_build
    def parts() -> Any:
        try:
            seen.append((yield 1))
            assert ambient()
            yield 2
        except KeyError as error:
            seen.append(type(error))
        yield 3
        return "done"

    assert inspect.isgeneratorfunction(parts)
    stepping = parts()
    assert next(stepping) == 1
    assert not ambient()
    assert stepping.send("sent") == 2
    assert stepping.throw(KeyError("k")) == 3
    with pytest.raises(StopIteration) as stop:
        next(stepping)
    assert stop.value.value == "done"
    assert seen == ["sent", KeyError]
    assert attributes(memory.span("context.build"))["dataface.outcome"] == "ok"


def test_a_generator_that_is_closed_early_is_no_failure(memory: Memory) -> None:
    @context_build
    def forever() -> Iterator[int]:
        while True:
            yield 1

    stepping = forever()
    next(stepping)
    stepping.close()  # type: ignore[attr-defined]
    assert attributes(memory.span("context.build"))["dataface.outcome"] == "ok"


def test_operations_inside_a_generator_are_its_children_and_between_its_items_are_not(memory: Memory) -> None:
    @context_build
    def parts() -> Iterator[int]:
        with operation("manifest.load"):
            pass
        yield 1

    for _ in parts():
        with operation("catalog.search"):
            pass
    build = memory.span("context.build")
    inside, between = memory.span("manifest.load"), memory.span("catalog.search")
    assert inside.parent is not None
    assert build.context is not None
    assert inside.parent.span_id == build.context.span_id
    assert between.parent is None


def test_an_async_generator_broken_out_of_leaks_no_context(memory: Memory) -> None:
    @context_build
    async def parts() -> AsyncIterator[int]:
        for number in range(10):
            await asyncio.sleep(0)
            yield number

    assert inspect.isasyncgenfunction(parts)

    async def consume() -> None:
        stepping = parts()
        async for _ in stepping:
            assert not ambient()
            break
        await asyncio.create_task(stepping.aclose())  # type: ignore[attr-defined]  # from another task
        assert not ambient()

    asyncio.run(consume())
    assert attributes(memory.span("context.build"))["dataface.outcome"] == "ok"


# -- outcomes ------------------------------------------------------------------------------------


def test_an_exception_passes_through_and_leaves_only_its_class(memory: Memory) -> None:
    class Trouble(Exception):
        pass

    @catalog_resolution
    def resolve(source: str) -> None:
        raise OSError("secret path /home/somebody")

    with pytest.raises(OSError, match="secret"):
        resolve("shop")
    span = memory.span("catalog.resolve")
    assert attributes(span)["error.type"] == "OSError"
    assert attributes(span)["dataface.outcome"] == "failed"
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description is None
    assert not span.events

    with pytest.raises(Trouble), operation("catalog.search"):
        raise Trouble  # a class that no module has: not a known one
    assert attributes(memory.span("catalog.search"))["error.type"] == "_OTHER"


class _Moody(Exception):
    """An exception of a host's whose properties do not behave."""

    @property
    def code(self) -> str:
        raise LookupError("no code today")


def test_an_exception_whose_own_properties_raise_still_reaches_the_host(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "_read_error_code", tools.error_code)

    @catalog_resolution
    def resolve(error: Exception) -> None:
        raise error

    before = failsafe.errors().get("operation.error", 0)
    for error, caught in ((OSError("gone"), 0), (_Moody("gone"), 2)):
        with pytest.raises(type(error), match="gone"):
            resolve(error)
        with pytest.raises(type(error), match="gone"), operation("catalog.search"):
            raise error
        assert failsafe.errors().get("operation.error", 0) - before == caught
    types = [(attributes(span)["dataface.outcome"], attributes(span)["error.type"]) for span in memory.spans]
    assert types == [("failed", "OSError")] * 2 + [("failed", "_Moody")] * 2


def test_one_who_is_told_of_operations_below_and_fails_costs_the_host_nothing(memory: Memory) -> None:
    def broken(_op: Any) -> None:
        raise LookupError

    before = failsafe.errors().get("begin below", 0)
    with operation("context.build") as op:
        op.began_below = broken
        with operation("catalog.resolve"):
            pass
    assert failsafe.errors()["begin below"] == before + 1
    assert [attributes(span)["dataface.outcome"] for span in memory.spans] == ["ok", "ok"]


def _joined(failure: Reading | Exception, told: Reading | None = None) -> Any:
    """A search that handles the failure of its part, and says ``told`` of itself."""

    def part() -> None:
        if isinstance(failure, Exception):
            raise failure

    joining = observe(
        part,
        Plan(
            "catalog.search",
            joins=True,
            reader=None if isinstance(failure, Exception) else lambda call: failure,
        ),
    )

    def search() -> str:
        try:
            joining()
        except OSError:
            return "handled"
        return "answered"

    return observe(search, Plan("catalog.search", reader=lambda call: told))


@pytest.mark.parametrize(
    ("failure", "kind"),
    [(OSError("gone"), "OSError"), (Reading(outcome="failed", error_code="ERR-X"), "_OTHER")],
    ids=["exception", "reading"],
)
def test_a_part_that_fails_explains_a_failure_of_the_whole_and_is_none_by_itself(
    memory: Memory, failure: Any, kind: str
) -> None:
    _joined(failure)()
    _joined(failure, Reading(outcome="failed"))()
    handled, failed = map(attributes, memory.spans)
    assert (handled["dataface.outcome"], handled.get("error.type")) == ("ok", None)
    assert "dataface.error.code" not in handled
    assert (failed["dataface.outcome"], failed["error.type"]) == ("failed", kind)
    assert failed.get("dataface.error.code") == getattr(failure, "error_code", None)


def test_a_cancelled_task_is_no_failure(memory: Memory) -> None:
    @profiling
    async def profile() -> None:
        await asyncio.sleep(60)

    async def cancel() -> None:
        task = asyncio.create_task(profile())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert attributes(memory.span("catalog.profile"))["dataface.outcome"] == "ok"


def test_reasons_rise_to_the_entry_once_and_a_failed_inner_call_does_not_fail_it(memory: Memory) -> None:
    with operation("context.build") as entry:
        for _ in range(2):
            with operation("catalog.resolve") as inner, operation("manifest.load") as innermost:
                innermost.degraded("manifest_missing")
                inner.degraded("object_unknown")
        with operation("query.execute") as query:
            query.failed("OSError", "ERR-WAREHOUSE-RUNTIME")
        entry.payload(10, kind="system_prompt")
    build = attributes(memory.span("context.build"))
    assert build["dataface.outcome"] == "degraded"
    assert build["dataface.degradation.reasons"] == ("manifest_missing", "object_unknown")
    assert "error.type" not in build
    middle = [span for span in memory.spans if span.name == "catalog.resolve"]
    assert [attributes(span)["dataface.degradation.reasons"] for span in middle] == [("object_unknown",)] * 2
    counted = dict(memory.points())["dataface.degradations"]
    assert sorted((labels["dataface.degradation.reason"], count) for labels, count in counted) == [
        ("manifest_missing", 1),
        ("object_unknown", 1),
    ]


def test_reasons_rise_from_worker_threads_that_carry_the_context(memory: Memory) -> None:
    import contextvars

    def work() -> None:
        with operation("query.execute") as query:
            query.degraded("source_substituted")

    with operation("dashboard.render"):
        thread = threading.Thread(target=contextvars.copy_context().run, args=(work,))
        thread.start()
        thread.join()
    assert attributes(memory.span("dashboard.render"))["dataface.degradation.reasons"] == (
        "source_substituted",
    )


def test_an_inner_operation_that_outlives_its_entry_is_counted_as_its_own(memory: Memory) -> None:
    import contextvars

    with operation("dashboard.render"):
        later = contextvars.copy_context()
    later.run(lambda: operation("query.execute").__enter__().finish())
    assert attributes(memory.span("query.execute"))["dataface.entry"] is True


# -- readers -------------------------------------------------------------------------------------


@reader(reasons=("object_unknown",), layers=("dbt_adapter",))
def read_rows(call: Call) -> Reading | None:
    if call.error is not None:
        return Reading(outcome="failed", error_code="ERR-X")
    if not call.result:
        return Reading(
            reasons=("object_unknown",), layers=("dbt_adapter",), unresolved=1, ages={"dbt_manifest": 7.5}
        )
    return Reading(payload_size=len(call.result), payload_kind="schema_context", coordinates={"table": "t"})


def test_a_reader_sees_arguments_and_result_and_its_reading_is_recorded(memory: Memory) -> None:
    seen: list[dict[str, Any]] = []

    def read(call: Call) -> Reading | None:
        seen.append(call.arguments)
        return read_rows(call)

    @catalog_resolution(reader=read)
    def resolve(source: str, *, rows: str = "") -> str:
        return rows

    assert resolve("shop") == ""
    assert resolve("shop", rows="abc") == "abc"
    assert seen == [{"source": "shop", "rows": ""}, {"source": "shop", "rows": "abc"}]
    unknown, found = map(attributes, memory.spans)
    assert unknown["dataface.degradation.reasons"] == ("object_unknown",)
    assert unknown["dataface.catalog.layers"] == ("dbt_adapter",)
    assert unknown["dataface.catalog.unresolved"] == 1
    assert unknown["dataface.staleness.age"] == 7.5
    assert unknown["dataface.staleness.layer"] == "dbt_manifest"
    assert found["dataface.payload.size"] == 3
    assert found["dataface.catalog.table"] == "t"


def test_a_registered_reader_reads_for_the_context_manager(memory: Memory) -> None:
    register_reader("catalog.search", read_rows)
    with operation("catalog.search", source="shop") as op:
        op.read("")
    assert attributes(memory.span("catalog.search"))["dataface.degradation.reasons"] == ("object_unknown",)


def test_unknown_names_raise_where_they_are_written_and_never_at_a_call(memory: Memory) -> None:
    with pytest.raises(ValueError, match="unknown reason 'manifest_mising'"):
        reader(reasons=("manifest_mising",))(lambda call: None)
    with pytest.raises(ValueError, match="unknown layer"):
        reader(layers=("warehouse",))(lambda call: None)
    with pytest.raises(ValueError, match="unknown operation"):
        operation("catalog.resolv")
    with pytest.raises(ValueError, match="unknown surface"):
        surface("browser")
    with pytest.raises(ValueError, match="unknown coordinate"):
        catalog_resolution(sorce="shop")
    before = failsafe.errors().get("operation.degraded", 0)
    with operation("catalog.search") as op:
        op.degraded("no_such_reason")
        op.payload(1, kind="no_such_kind")
        op.age("no_such_layer", 1.0)
    assert failsafe.errors()["operation.degraded"] == before + 1
    assert attributes(memory.span("catalog.search"))["dataface.outcome"] == "degraded"


def test_a_reader_that_fails_is_counted_and_the_result_is_untouched(
    memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(call: Call) -> Reading | None:
        raise KeyError("secret")

    @catalog_resolution(reader=broken)
    def resolve(source: str) -> list[int]:
        return [1]

    assert resolve("shop") == [1]
    assert attributes(memory.span("catalog.resolve"))["dataface.outcome"] == "ok"
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "secret" not in captured.err


# -- surface, limits -----------------------------------------------------------------------------


def test_the_surface_that_is_said_holds_for_everything_inside(memory: Memory) -> None:
    with surface("ide"), operation("context.build"), operation("manifest.load"):
        pass
    with operation("catalog.search"):
        pass
    assert [attributes(span)["dataface.surface"] for span in memory.spans] == ["ide", "ide", "library"]


def test_a_payload_beyond_its_budget_degrades_and_carries_the_limit_that_was_applied(memory: Memory) -> None:
    for size in (100_000, 100_001):
        with operation("context.build") as op:
            op.payload(size, kind="tool_result")
    within, beyond = map(attributes, memory.spans)
    assert within["dataface.outcome"] == "ok"
    assert beyond["dataface.degradation.reasons"] == ("payload_over_budget",)
    assert within["dataface.payload.limit"] == beyond["dataface.payload.limit"] == 100_000


def test_age_alone_is_a_number_and_not_a_reason(memory: Memory) -> None:
    with operation("context.build"), operation("manifest.load") as load:
        load.age("dbt_manifest", 10_000_000.0)
    build = attributes(memory.span("context.build"))
    assert build["dataface.outcome"] == "ok"
    assert build["dataface.staleness.age"] == 10_000_000.0


# -- one span when decorated and hooked ----------------------------------------------------------


def test_a_decorated_function_that_is_also_hooked_is_one_span_with_both_readings(memory: Memory) -> None:
    @catalog_resolution(reader=read_rows)
    def resolve(source: str) -> str:
        return ""

    hooked = observe(resolve, Plan("catalog.resolve", reader=lambda call: Reading(layers=("dbt_adapter",))))
    assert hooked("shop") == ""
    (span,) = memory.spans
    assert attributes(span)["dataface.degradation.reasons"] == ("object_unknown",)
    assert attributes(span)["dataface.catalog.layers"] == ("dbt_adapter",)


def test_recursion_of_a_decorated_and_hooked_function_is_a_span_each(memory: Memory) -> None:
    @catalog_resolution
    def resolve(depth: int) -> int:
        return hooked(depth - 1) if depth else 0

    hooked = observe(resolve, Plan("catalog.resolve"))
    hooked(2)
    assert len(memory.spans) == 3


# -- nothing configured, sampled out -------------------------------------------------------------


def test_with_nobody_listening_nothing_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    @catalog_resolution
    def resolve(source: str) -> object:
        return current()

    assert resolve("shop") is None
    assert list(context_build(lambda: iter([1]))()) == [1]


def test_sampling_never_changes_the_numbers() -> None:
    with recording(ALWAYS_OFF) as memory:
        for _ in range(3):
            with operation("context.build") as op:
                op.degraded("manifest_missing")
        assert memory.spans == []
        points = memory.points()
    assert points["dataface.context.served"][0][1] == 3
    assert points["dataface.degradations"][0][1] == 3
    assert points["dataface.operation.duration"][0][1] == 3


def test_a_block_that_nobody_hears_takes_everything_that_a_heard_one_takes() -> None:
    with operation("context.build", source="shop") as op:
        op.attributes["host.own"] = 1
        op.degraded("manifest_missing")
        op.take(Reading(reasons=("manifest_missing",)))
        op.coordinates(table="orders")
        assert op.entry is op
        assert op.context is not None
        assert current() is None


def test_what_a_host_gets_wrong_costs_only_itself(memory: Memory, capsys: pytest.CaptureFixture[str]) -> None:
    wrong: Any = None
    with operation("context.build") as op:
        op.age("dbt_manifest", wrong)
        op.degraded(["manifest_missing"])  # type: ignore[arg-type]  # what a host gets wrong
        op.payload("12")  # type: ignore[arg-type]  # likewise
        op.degraded("manifest_missing")
    (span,) = memory.spans
    assert attributes(span)["dataface.degradation.reasons"] == ("manifest_missing",)
    assert capsys.readouterr().out == ""


def test_the_code_of_a_handled_failure_is_not_the_code_of_another_exception(memory: Memory) -> None:
    @context_build
    def build() -> None:
        with operation("query.execute") as query:
            query.failed("QueryError", "ERR-SOURCE-NOT-FOUND")
        raise OSError("other")

    with pytest.raises(OSError, match="other"):
        build()
    assert "dataface.error.code" not in attributes(memory.span("context.build"))


def test_a_generator_that_nobody_observes_has_its_consumer_s_context() -> None:
    from opentelemetry import baggage, context

    @context_build
    async def numbers() -> AsyncIterator[object]:
        for _ in range(3):
            yield baggage.get_baggage("step")

    async def consume() -> list[object]:
        seen, stepping = [], numbers()
        for step in range(3):
            token = context.attach(baggage.set_baggage("step", step))
            seen.append(await stepping.__anext__())
            context.detach(token)
        return seen

    assert asyncio.run(consume()) == [0, 1, 2]


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="there is no fork")
def test_a_child_that_was_forked_while_a_lock_was_held_observes_and_counts_for_itself(memory: Memory) -> None:
    import os
    import signal

    with operation("context.build"):
        pass
    points = recorder_points()
    with points._taking, points._counting:
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            with operation("context.build"):
                pass
            points.take_over()
            served = points._series["dataface.context.served"].values()
            os._exit(0 if sum(series.value for series in served) == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="there is no fork")
def test_a_child_that_was_forked_while_a_model_was_called_counts_the_tokens_of_its_own_calls() -> None:
    import os
    import signal
    from types import SimpleNamespace

    client = SimpleNamespace(total_input_tokens=1, total_output_tokens=1)
    parents = model_calls.Usage(client)
    with model_calls.Usage._lock:
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            own = model_calls.Usage(client)
            client.total_input_tokens += 5
            parents.used()
            os._exit(0 if own.used() == {"gen_ai.usage.input_tokens": 5} else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    parents.used()
    assert not model_calls.Usage._running


def recorder_points() -> Any:
    return recorder.active()._points  # type: ignore[attr-defined]  # the one that counts


def test_every_place_where_the_library_fails_is_in_a_part_that_has_a_name() -> None:
    source = Path(failsafe.__file__).parents[1]
    said = [
        place
        for path in source.rglob("*.py")
        for place in re.findall(
            r'failsafe\.(?:caught|misused|dropped)\(\s*f?"([^"]+)"', path.read_text("utf-8")
        )
    ]
    assert len(said) > 20
    assert [place for place in said if failsafe.part_of(place) not in names.PLACES - {"other"}] == []
    assert failsafe.by_part({"hook a": 1, "hook b": 2, "someone else's": 4}) == {"hooks": 3, "other": 4}
