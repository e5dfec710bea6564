"""Every command of a runbook that is for the fleet, on the real Collector, Prometheus, Alertmanager and Jaeger.

Commands for one machine are in `tests/ops/test_runbook_commands.py`; those for Tempo are held by `test_queries`.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from context_telemetry.conventions import names
from context_telemetry.health.promql import prometheus_name
from context_telemetry.health.sums import Sum
from context_telemetry.limits import Limits
from context_telemetry.ops import runbooks
from context_telemetry.ops.inputs import defaults
from context_telemetry.ops.runbooks import Block, blocks
from context_telemetry.rehearsal.sample import Sample
from tools.processes import get_json, wait_until

from .incident import Incident, stack_of

pytestmark = pytest.mark.stack

PAGES = {Path(path).stem: text for path, text in runbooks.files(defaults()).items()}
FLEET = {
    name: found
    for name, page in PAGES.items()
    if (found := [block for block in blocks(page) if block.where == "fleet"])
}
SERVED = prometheus_name(Sum(names.METRIC_DATAFACE_CONTEXT_SERVED).of)

BEFORE = ("DatafaceTelemetrySilent",)
"""For a fleet that has served nothing."""
WITHOUT_JAEGER = ("DatafaceCollectorExportFailing", "DatafaceCollectorQueueFilling")
WITHOUT_COLLECTOR = ("DatafaceCollectorDown",)


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory, sample: Sample) -> Iterator[Incident]:
    """The whole stack, and nothing that was served."""
    parts = ("jaeger", "collector", "prometheus", "alertmanager")
    with stack_of(tmp_path_factory.mktemp("runbooks"), sample, parts) as made:
        # An alert that is sent before Alertmanager is found is sent again after a minute.
        wait_until(
            "Alertmanager has the watchdog",
            lambda: get_json(f"{made.stack.alertmanager_url}/api/v2/alerts"),
            120.0,
        )
        yield made


@pytest.fixture(scope="module")
def incident(silent: Incident) -> Incident:
    """After calls that met faults, all of them scraped and searchable."""
    silent.serve()
    silent.send()
    entries = sum(span.entry for span in silent.spans)
    wait_until("all calls are scraped", lambda: _sum(silent, SERVED) == entries)
    # A group of rules is evaluated for the first time at some moment of its first interval.
    wait_until(
        "the rules are evaluated", lambda: silent.stack.query('ALERTS{alertname="DatafaceWatchdog"}'), 90
    )
    return silent


def _sum(incident: Incident, series: str) -> float:
    return sum(value for _, value in incident.stack.query(f"sum({series})"))


def _variables(incident: Incident) -> Mapping[str, str]:
    stack = incident.stack
    fingerprints = [span.attributes.get("dataface.context.fingerprint") for span in incident.spans]
    return {
        "PROMETHEUS": stack.prometheus_url,
        "ALERTMANAGER": stack.alertmanager_url,
        "JAEGER": stack.jaeger_url,
        "COLLECTOR": stack.telemetry_url.removesuffix("/metrics"),
        "COLLECTOR_HEALTH": stack.process("collector").ready,
        "FROM": str(int(incident.began)),
        "TO": str(int(time.time()) + 1),
        "SURFACE": "mcp",
        "CLIENT": "other",
        "FACE": "faces/lost.yml",
        "CODE": "ERR-BINDER-UNKNOWN-COLUMN",
        "FINGERPRINT": next((str(each) for each in fingerprints if each), ""),
        # What a process of the fleet is started with; `doctor` looks whether that answers.
        "OTEL_EXPORTER_OTLP_ENDPOINT": stack.otlp_grpc,
    }


def _run(incident: Incident, block: Block) -> str:
    done = subprocess.run(
        ["sh", "-c", block.command],
        cwd=incident.project,
        env={**incident.environ, **_variables(incident)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    missing = [] if done.returncode == block.exit_code else [f"exit {block.exit_code}, not {done.returncode}"]
    lines = done.stdout.splitlines()
    missing += [each.pattern for each in block.patterns if not any(map(each.search, lines))]
    assert not missing, f"{block.command}\n\nshows\n\n{done.stdout}\n\nand not {', '.join(missing)}"
    return done.stdout


def _has_been_tried(name: str, incident: Incident) -> None:
    for block in FLEET[name]:
        _run(incident, block)


def test_the_runbook_for_silence_shows_what_it_says_while_nothing_was_served(silent: Incident) -> None:
    for name in BEFORE:
        _has_been_tried(name, silent)


@pytest.mark.parametrize("name", sorted(set(FLEET) - {*BEFORE, *WITHOUT_JAEGER, *WITHOUT_COLLECTOR}))
def test_the_commands_for_the_fleet_show_what_their_page_says(name: str, incident: Incident) -> None:
    _has_been_tried(name, incident)


def test_every_search_of_the_playbook_finds_a_trace(incident: Incident) -> None:
    for block in FLEET["playbook"]:
        assert re.search(r'"traceID": *"[0-9a-f]{32}"', _run(incident, block)), block.command


def test_the_numbers_behind_an_alert_name_the_surface_and_the_reason(incident: Incident) -> None:
    topics = {each.name: each for each in runbooks.topics(Limits())}
    (stale,) = incident.stack.query(topics["DatafaceManifestStale"].promql)
    assert stale[0]["dataface_degradation_reason"] == "manifest_stale"
    assert stale[0]["dataface_surface"] == "mcp"
    assert stale[1] == sum(span.entry and "manifest_stale" in span.reasons for span in incident.spans)


def test_the_runbooks_for_a_backend_that_is_away_show_what_they_say(incident: Incident) -> None:
    jaeger = incident.stack.process("jaeger")
    jaeger.stop()
    try:
        incident.serve()
        incident.send()
        for name in WITHOUT_JAEGER:
            _has_been_tried(name, incident)
    finally:
        jaeger.start()


def test_the_runbook_for_a_collector_that_is_down_shows_what_it_says_and_how_it_is_back(
    incident: Incident,
) -> None:
    collector = incident.stack.process("collector")
    collector.stop()
    try:
        for name in WITHOUT_COLLECTOR:
            for block in FLEET[name]:
                if block.section == "Diagnosis":
                    _run(incident, block)
    finally:
        collector.start()
    for block in FLEET["DatafaceCollectorDown"]:
        if block.section == "Mitigation":
            _run(incident, block)
