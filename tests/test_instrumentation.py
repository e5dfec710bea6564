"""Instrument and uninstrument on the real release: all hooks placed, and everything as it was afterwards."""

from __future__ import annotations

import contextlib
import importlib
import subprocess
import sys
from collections import Counter
from typing import Any
from unittest import mock

import pytest
from memory import recording
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

import context_telemetry
from context_telemetry.conventions import names
from context_telemetry.instrumentation import (
    agent,
    context,
    enrichment,
    freshness,
    given,
    hook_states,
    hooks,
    instrumentor,
    manifest_watch,
    metadata_sql,
    private,
    probe,
    rendering,
    version,
)
from context_telemetry.instrumentation.hooks import Hook
from context_telemetry.instrumentation.instrumentor import HOOKS, installed_release
from context_telemetry.observe import failsafe, fingerprint, fork
from context_telemetry.pipeline import auto

pytestmark = pytest.mark.real

HERE = [hook for hook in HOOKS if hook.serves(version(installed_release() or "0")) and hook.optional is None]


def bindings() -> dict[str, Any]:
    """Every object that a hook replaces, by where it is bound."""
    found: dict[str, Any] = {}
    for hook in HERE:
        here = [each.original for each in hooks._bindings(importlib.import_module(hook.module), hook.target)]
        found[hook.id] = here
        for place in hook.aliases:
            module = place.partition(":")[0]
            with contextlib.suppress(ImportError):
                importlib.import_module(module)
            copies = hooks._alias(place)
            if [each.original for each in copies] == here[
                :1
            ]:  # another release may have it, or another thing there
                found[place] = here
    return found


def test_every_hook_of_this_release_is_placed_and_taken_out_again() -> None:
    before = bindings()
    for _ in range(2):
        context_telemetry.instrument()
        context_telemetry.instrument()
        placed = {each.id for each in hook_states() if each.state == "active"}
        assert placed == {hook.id for hook in HERE}
        replaced = bindings()
        assert [place for place in before if replaced[place] == before[place]] == []
        context_telemetry.uninstrument()
        context_telemetry.uninstrument()
        assert bindings() == before


def test_nothing_that_was_kept_of_the_host_is_kept_once_it_is_observed_no_more() -> None:
    context_telemetry.instrument()
    session = {1, 2, 3}
    kept: list[Any] = [
        agent._sessions,
        context._error_texts,
        enrichment._projects,
        fingerprint._concluded,
        freshness._first_met,
        freshness._held_by,
        given._digests,
        manifest_watch._watched,
        metadata_sql._verdicts,
        private._told,
    ]
    for each in kept:
        each.append("text") if hasattr(each, "append") else each.setdefault("key", mock.Mock())
    rendering._kept_index = (session, "faces/orders.yml")
    fingerprint.measure("a prompt")
    freshness._joined("/data", "shop.duckdb")
    context_telemetry.uninstrument()
    assert [len(each) for each in kept] == [0] * len(kept)
    assert session not in rendering._kept_index
    assert fingerprint._known == ()
    assert freshness._joined.cache_info().currsize == 0


def test_what_cannot_be_forgotten_keeps_nothing_else_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork, "_forgets", [])
    done: list[int] = []
    before = sum(failsafe.errors().values())
    fork.on_forget(lambda: done.append(1))
    fork.on_forget(lambda: 1 / 0)
    fork.on_forget(lambda: done.append(2))
    fork.forget_all()
    assert done == [2, 1]
    assert sum(failsafe.errors().values()) == before + 1


def test_a_probe_tells_where_every_hook_stands_and_leaves_nothing_behind() -> None:
    before = bindings()
    states = probe()
    assert [each for each in states if each.state not in ("active", "unneeded")] == []
    assert {each.detail for each in states if each.state == "unneeded"} == {
        "dataface_super_schema is not installed"
    }
    assert bindings() == before
    assert hook_states() == []


def test_a_target_that_a_release_lost_is_reported_and_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    from context_telemetry.instrumentation import instrumentor

    lost = Hook("dataface.ai.tools", "vanished", lambda original: original)
    monkeypatch.setattr(instrumentor, "HOOKS", (*HOOKS, lost))
    (state,) = [each for each in probe() if each.state not in ("active", "unneeded")]
    assert (state.id, state.state) == (lost.id, "absent")


def test_before_or_after_the_import_of_dataface_is_the_same() -> None:
    program = """
import sys
{first}
import context_telemetry
context_telemetry.instrument()
import dataface.ai.mcp.server, dataface.core.inspect.resolver, dataface.core.dashboard
from context_telemetry.instrumentation import hook_states
import dataface.ai.mcp.server as server, dataface.ai.tools as tools
assert server.dispatch_tool_call is tools.dispatch_tool_call
print(sum(each.state == "active" for each in hook_states()))
"""
    counted = []
    for first in (
        "",
        "import dataface.ai.mcp.server, dataface.core.inspect.resolver, dataface.core.dashboard",
    ):
        done = subprocess.run(
            [sys.executable, "-c", program.format(first=first)], capture_output=True, text=True, check=True
        )
        counted.append(int(done.stdout))
    assert counted[0] == counted[1] > 20


def test_nothing_is_instrumented_where_it_is_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTEXT_TELEMETRY_DISABLED", "true")
    context_telemetry.instrument()
    assert hook_states() == []
    assert auto.current() is None


def test_modules_that_were_imported_under_observation_get_their_originals_back() -> None:
    program = """
import context_telemetry
context_telemetry.instrument()
import dataface.ai.mcp.server as server, dataface.ai.mcp, dataface.core.inspect.resolver as resolver
assert "context_telemetry" in server.dispatch_tool_call.__code__.co_filename
context_telemetry.uninstrument()
for function in (server.dispatch_tool_call, dataface.ai.mcp.create_server, resolver.load_dbt_manifest):
    assert "context_telemetry" not in function.__code__.co_filename, function
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_state_says_what_was_caught_since_it_was_said_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instrumentor, "_SAID_AGAIN_AFTER", 0.0)
    with recording() as memory:
        instrumentor.report_state("began")
        instrumentor.report_changes()  # nothing has changed
        failsafe.caught("reader of a test", ValueError())
        failsafe.dropped("spans of a test", 3)
        instrumentor.report_changes()
        instrumentor.report_changes()
        failsafe.caught("reader of a test", ValueError())
        instrumentor.report_state("ended")
    told = [said for name, said in memory.events if name == names.EVENT_CONTEXT_TELEMETRY_STATE]
    assert [each[names.CONTEXT_TELEMETRY_PHASE] for each in told] == ["began", "changed", "ended"]
    assert [each[names.CONTEXT_TELEMETRY_ERROR_COUNT_OBSERVATION] for each in told[1:]] == [1, 1]
    assert [each[names.CONTEXT_TELEMETRY_DROP_COUNT_EXPORT] for each in told[1:]] == [3, 0]
    assert told[2][names.CONTEXT_TELEMETRY_ERRORS] == told[0][names.CONTEXT_TELEMETRY_ERRORS] + 2


def test_the_state_is_said_again_after_a_while_and_not_at_every_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(instrumentor, "_SAID_AGAIN_AFTER", 60.0)
    with recording() as memory:
        instrumentor.report_state("began")
        failsafe.caught("reader of a test", ValueError())
        instrumentor.report_changes()
    assert len(memory.events) == 1


def test_a_flaw_that_lasts_is_said_again_every_half_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instrumentor, "_FLAW_SAID_AGAIN_AFTER", 0.0)
    with recording(ALWAYS_ON) as memory:
        instrumentor.report_state("began")
        instrumentor.report_changes()  # nothing is wrong, nothing is said
        assert len(memory.events) == 1
        failsafe.misused("settings: limits.result", "there is no such key")
        instrumentor.report_state()
        instrumentor.report_changes()
        instrumentor.report_changes()
    wrong = [said[names.CONTEXT_TELEMETRY_SETTINGS_WRONG] for _, said in memory.events]
    assert (len(wrong), min(wrong[1:])) == (4, wrong[0] + 1)


def test_a_sampler_is_said_again_every_half_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else tells of a process whose calls are all left out."""
    monkeypatch.setattr(instrumentor, "_FLAW_SAID_AGAIN_AFTER", 0.0)
    monkeypatch.setattr(failsafe, "_errors", Counter())  # no setting is wrong
    with recording(ALWAYS_OFF) as memory:
        instrumentor.report_state("began")
        instrumentor.report_changes()
        instrumentor.report_changes()
    told = [said[names.CONTEXT_TELEMETRY_SAMPLER] for _, said in memory.events]
    assert told == ["AlwaysOffSampler"] * 3
