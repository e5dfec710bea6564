"""The playbook's searches on a real Jaeger, and their twins for Tempo by Grafana's own grammar: the same spans.

Tempo itself cannot be had here: its queries are read by the grammar, and what they compare is applied to the spans that
were recorded, in the one form that the playbook uses (comparisons joined by &&).
"""

from __future__ import annotations

import json
import operator
import re
import shutil
import subprocess
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import Span

from context_telemetry.ops.queries import QUERIES, Query
from context_telemetry.rehearsal.sample import Sample
from tools.processes import get_json, wait_until
from tools.programs import CACHE

from .incident import Incident, stack_of

pytestmark = pytest.mark.stack

GRAMMAR = {"@grafana/lezer-traceql": "1.0.0", "@lezer/common": "1.2.3", "@lezer/lr": "1.4.2"}
READER = Path(__file__).with_name("traceql.mjs")
VARIABLES = {
    "SURFACE": "mcp",
    "CLIENT": "other",
    "FACE": "faces/lost.yml",
    "CODE": "ERR-BINDER-UNKNOWN-COLUMN",
}
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {"=": operator.eq, ">=": operator.ge}
Comparison = tuple[str, str, str]


@pytest.fixture(scope="module")
def incident(tmp_path_factory: pytest.TempPathFactory, sample: Sample) -> Iterator[Incident]:
    with stack_of(tmp_path_factory.mktemp("queries"), sample, ("jaeger", "collector")) as made:
        made.serve()
        made.send()
        traces = {span.trace_id for span in made.spans}
        wait_until("every trace is in Jaeger", lambda: len(made.stack.traces()) == len(traces))
        yield made


@pytest.fixture(scope="module")
def traceql(variables: Mapping[str, str]) -> Mapping[str, list[Comparison]]:
    """What each query compares, as Grafana's grammar reads it."""
    texts = [each.traceql(variables) for each in QUERIES]
    read = _read(texts)
    assert [each["errors"] for each in read] == [0] * len(texts), texts
    return {
        each.name: [(field, how, value) for field, how, value in found["comparisons"]]
        for each, found in zip(QUERIES, read, strict=True)
    }


@pytest.fixture(scope="module")
def variables(incident: Incident) -> Mapping[str, str]:
    """What the reader would put in, with a fingerprint of one of the calls."""
    (first, *_) = (
        str(span.attributes["dataface.context.fingerprint"])
        for span in incident.spans
        if "dataface.context.fingerprint" in span.attributes
    )
    return {**VARIABLES, "FINGERPRINT": first}


def _read(queries: list[str]) -> list[dict[str, Any]]:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.fail("node and npm are missing: Grafana's grammar of TraceQL comes from npm", pytrace=False)
    folder = CACHE / f"traceql-{GRAMMAR['@grafana/lezer-traceql']}"
    if not (folder / "node_modules" / "@grafana" / "lezer-traceql").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text(json.dumps({"private": True, "dependencies": GRAMMAR}), "utf-8")
        subprocess.run(
            [npm, "install", "--no-audit", "--no-fund"], cwd=folder, check=True, capture_output=True
        )
    shutil.copy2(READER, folder / READER.name)  # beside the packages that it imports
    done = subprocess.run(
        [node, READER.name], cwd=folder, input=json.dumps(queries), capture_output=True, text=True, check=True
    )
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def _selects(comparisons: list[Comparison], span: Span) -> bool:
    """Whether Tempo would select the span: each comparison holds, in a list for any of its items."""
    return bool(comparisons) and all(_holds(span, *each) for each in comparisons)


def _holds(span: Span, field: str, how: str, text: str) -> bool:
    if field == "duration":
        return _COMPARE[how]((span.end - span.start) / 1e9, float(text.removesuffix("s")))
    value = span.attributes.get(field.removeprefix("span."))
    wanted = json.loads(text)
    if isinstance(value, list):
        return any(_COMPARE[how](item, wanted) for item in value)
    return type(value) is type(wanted) and _COMPARE[how](value, wanted)


def _found_by_jaeger(incident: Incident, asked: Query, variables: Mapping[str, str]) -> set[str]:
    """The traces that Jaeger's API gives for what the playbook asks it."""
    found = {**asked.jaeger(variables), "limit": "1000", "start": str(int(incident.began * 1e6))}
    answer = get_json(f"{incident.stack.jaeger_url}/api/traces?{urllib.parse.urlencode(found)}")
    return {str(trace["traceID"]).zfill(32) for trace in answer["data"] or ()}


@pytest.mark.parametrize("asked", QUERIES, ids=lambda asked: asked.name)
def test_jaeger_and_tempo_are_asked_for_the_same_calls(
    asked: Query,
    incident: Incident,
    traceql: Mapping[str, list[Comparison]],
    variables: Mapping[str, str],
) -> None:
    spans = [span for span in incident.spans if _selects(traceql[asked.name], span)]
    assert spans, "nothing in the incident answers this question"
    if asked.reason is not None:
        # Where a call has the reason at all, some span of it has it alone: what Jaeger finds it by.
        assert all(asked.reason in span.reasons for span in spans)
    assert _found_by_jaeger(incident, asked, variables) == {span.trace_id for span in spans}


def test_a_call_is_found_by_the_playbook_s_search_and_shown_from_the_client_to_the_warehouse(
    incident: Incident,
) -> None:
    asked = next(each for each in QUERIES if each.name == "source_not_configured")
    (trace_id, *_) = _found_by_jaeger(incident, asked, {})
    (trace,) = get_json(f"{incident.stack.jaeger_url}/api/traces/{trace_id}")["data"]
    spans = {span["spanID"]: span for span in trace["spans"]}
    query = next(span for span in spans.values() if span["operationName"] == "query.execute")
    way = [query]
    while parents := [ref["spanID"] for ref in way[-1]["references"] if ref["spanID"] in spans]:
        way.append(spans[parents[0]])
    kinds = [next(tag["value"] for tag in span["tags"] if tag["key"] == "span.kind") for span in way]
    assert (kinds[0], kinds[-1]) == ("client", "server")
    assert re.fullmatch(r"tools/call \w+", way[-1]["operationName"])


def test_a_query_that_is_cut_off_or_more_than_one_spanset_is_no_query_of_ours() -> None:
    good, *bad = _read(
        ['{ span.a = "x" }', '{ span.a = "x"', "{ span.a = 1 || span.b = 1 }", "{ } | count() > 1"]
    )
    assert good["errors"] == 0
    assert all(each["errors"] for each in bad)
