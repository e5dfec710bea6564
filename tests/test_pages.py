"""Pages beside a host: whose span it is, that nothing is counted twice, and that an application is left as it was."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conformance import assert_memory_conforms, assert_none
from httpserver import application, browser
from inprocess import instrumented, with_client
from memory import Memory, attributes
from opentelemetry import trace
from opentelemetry.metrics import _internal as metrics
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from context_telemetry.conventions import declared, names
from context_telemetry.instrumentation import DatafaceInstrumentor
from context_telemetry.instrumentation.pages import _neighbours_span, page_of
from context_telemetry.observe import failsafe
from context_telemetry.rehearsal.driver import Client, tool
from context_telemetry.rehearsal.sample import Sample

PAGES = {
    "/": "/",
    "/orders": "/{face}",
    "/orders/": "/{face}",
    "/team/sales/orders/": "/{face}",
    "/orders.svg": "/{face}.svg",
    "/orders.png": "/{face}.png",
    "/orders.pdf": "/{face}.pdf",
    "/orders.yaml": "/{face}.yaml",
    "/data": "/data/",
    "/data/shop/": "/data/{source}/",
    "/data/shop/main/": "/data/{source}/{schema}/",
    "/data/shop/main/fct_orders": "/data/{source}/{schema}/{table}/",
    "/data/shop/main/fct_orders/detail/": "/data/{source}/{schema}/{table}/detail/",
    "/data/shop/main/fct_orders/other/": "/{face}",
    "/inspector/": "/{face}",
    "/inspector/shop/": "/inspector/{source}/",
    "/inspector/shop/main/": "/inspector/{source}/{schema}/",
    "/inspector/shop/main/fct_orders/": "/inspector/{source}/{schema}/{table}/",
    "/inspector/shop/main/fct_orders/status/": "/inspector/{source}/{schema}/{table}/{column}/",
    "/inspect/model/": "/inspect/{template}/",
    "/inspect/profile/": "/inspect/profile/",
    "/inspect/exists/": "/inspect/exists/",
    "/health": None,
    "/__livereload": None,
    "/static/fonts/inter.woff2": None,
    "/.well-known/appspecific/com.chrome.devtools.json": None,
}
REQUESTS = ("/orders/", "/orders.yaml", "/orders.yml", "/data/shop/main/nope/", "/nowhere/", "/health")


def server_spans(memory: Memory) -> list[ReadableSpan]:
    return [span for span in memory.spans if span.kind is SpanKind.SERVER]


def scopes(spans: list[ReadableSpan]) -> set[str]:
    return {span.instrumentation_scope.name for span in spans if span.instrumentation_scope is not None}


@contextmanager
def configured(
    monkeypatch: pytest.MonkeyPatch, *, spans: Memory | None = None, meters: Memory | None = None
) -> Iterator[None]:
    """The process as its host has configured it. FastAPI looks at every request."""
    with monkeypatch.context() as patch:
        if spans is not None:
            patch.setattr(trace, "_TRACER_PROVIDER", spans.tracer_provider)
        if meters is not None:
            patch.setattr(metrics, "_METER_PROVIDER", meters.meter_provider)
        yield


def test_every_page_is_one_of_the_closed_list_and_each_of_the_list_is_one() -> None:
    assert {path: page_of(path)[0] for path in PAGES} == PAGES
    assert set(filter(None, PAGES.values())) == set(declared.ATTRIBUTES["dataface.page"].members or ())


def test_names_in_the_path_of_a_view_are_its_coordinates() -> None:
    assert page_of("/data/shop/main/")[1] == {"source": "shop", "schema": "main"}
    assert page_of("/data/shop/main/t/detail/")[1] == {"source": "shop", "schema": "main", "table": "t"}
    assert page_of("/inspector/shop/main/t/c/")[1]["column"] == "c"
    assert page_of("/orders/")[1] == {}


@pytest.mark.real
def test_where_nobody_makes_a_span_it_is_ours_with_the_metric_of_the_conventions(sample: Sample) -> None:
    with instrumented() as memory, browser(application(sample.root)) as client:
        for path in REQUESTS:
            client.get(path)
        assert scopes(server_spans(memory)) == {names.SCOPE}
        assert len(server_spans(memory)) == len(REQUESTS) - 1
        durations = memory.points()["http.server.request.duration"]
        assert_memory_conforms(memory)
    assert sum(count for _, count in durations) == len(REQUESTS) - 1
    labels = {(each["http.route"], each["http.response.status_code"]) for each, _ in durations}
    assert labels == {
        ("/{face}", 200),
        ("/{face}.yaml", 200),
        ("/{face}", 301),
        ("/data/{source}/{schema}/{table}/", 500),
        ("/{face}", 404),
    }


@pytest.mark.real
def test_where_fastapi_makes_the_span_and_the_metric_neither_is_made_twice(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    with instrumented() as memory, configured(monkeypatch, spans=memory, meters=memory):
        with browser(application(sample.root)) as client:
            for path in REQUESTS:
                client.get(path)
        assert scopes(server_spans(memory)) == {"fastapi"}
        assert len(server_spans(memory)) == len(REQUESTS)
        entries = [span for span in memory.spans if attributes(span).get("dataface.entry")]
        assert entries == [span for span in server_spans(memory) if attributes(span)["url.path"] != "/health"]
        data = memory.metrics_data()
        (resource,) = data.resource_metrics
        counted = {
            (scope.scope.name, metric.name)
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if "http.server" in metric.name and metric.data.data_points
        }
        assert counted == {
            ("fastapi", "http.server.request.duration"),
            ("fastapi", "http.server.active_requests"),
        }
        served = memory.points()["dataface.context.served"]
        assert sum(value for _, value in served) == len(REQUESTS) - 1
        assert_memory_conforms(memory)


@pytest.mark.real
def test_a_host_with_meters_alone_has_the_metric_from_fastapi_and_once(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    with instrumented() as memory, configured(monkeypatch, meters=memory):
        with browser(application(sample.root)) as client:
            client.get("/orders.yaml")
        (resource,) = memory.metrics_data().resource_metrics
        counted = [
            scope.scope.name
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == "http.server.request.duration" and metric.data.data_points
        ]
    assert counted == ["fastapi"]


@pytest.mark.real
def test_a_span_that_goes_elsewhere_is_left_alone_and_ours_is_below_it(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = Memory()
    with instrumented() as memory, configured(monkeypatch, spans=hosts):
        with browser(application(sample.root)) as client:
            client.get("/orders.yaml")
        (theirs,), (own,) = server_spans(hosts), server_spans(memory)
    assert not any(name.startswith("dataface.") for name in attributes(theirs))
    assert attributes(own)["dataface.outcome"] == "ok"
    assert own.parent is not None
    assert own.parent.span_id == theirs.context.span_id


@pytest.mark.real
def test_what_a_host_samples_out_is_counted(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    unsampled = Memory(ALWAYS_OFF)
    instrumentor = DatafaceInstrumentor()
    instrumentor.instrument(**unsampled.providers)
    try:
        with configured(monkeypatch, spans=unsampled), browser(application(sample.root)) as client:
            client.get("/nowhere/")
            points = unsampled.points()
    finally:
        instrumentor.uninstrument()
    assert unsampled.spans == []
    ((labels, value),) = points["dataface.context.served"]
    assert (labels["dataface.outcome"], labels["dataface.surface"], value) == ("degraded", "dashboard", 1)


def test_a_neighbour_s_span_that_is_sampled_out_is_still_the_neighbour_s(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unsampled = Memory(ALWAYS_OFF)
    tracer = unsampled.tracer_provider.get_tracer("neighbour")
    with configured(monkeypatch, spans=unsampled):
        assert _neighbours_span({}) is None
        with tracer.start_as_current_span("GET", kind=SpanKind.SERVER) as span:
            assert _neighbours_span({}) is span


@pytest.mark.real
def test_an_exception_of_the_application_passes_and_the_page_is_failed_with_its_class(project: Path) -> None:
    with instrumented() as memory, browser(application(project)) as client:
        (project / "faces" / "latin.yml").write_bytes("title: Übersicht\n".encode("latin-1"))
        response = client.get("/latin/")
        (entry,) = server_spans(memory)
    said = attributes(entry)
    assert (response.status_code, said["http.response.status_code"]) == (500, 500)
    assert (said["dataface.outcome"], said["error.type"]) == ("failed", "UnicodeDecodeError")
    assert entry.status.status_code is StatusCode.ERROR
    assert entry.events == ()


@pytest.mark.real
def test_pages_of_an_application_are_as_before_once_nobody_observes(sample: Sample) -> None:
    with instrumented() as memory:
        app = application(sample.root)
        with browser(app) as client:
            client.get("/orders.yaml")
    before = len(memory.spans)
    with instrumented() as later, browser(app) as client:
        assert client.get("/orders.yaml").status_code == 200
    assert (len(memory.spans), later.spans) == (before, [])


@pytest.mark.real
def test_the_preview_inside_of_an_mcp_server_is_the_dashboard_and_the_client_stays_mcp(
    project: Path,
) -> None:
    """Both in one process on one loop, at the same time: `dft mcp serve` runs them so."""

    async def both(client: Client) -> None:
        import httpx
        from dataface.cli.filesystem_project import FilesystemProject
        from dataface.core.execute.adapters import LOCAL_AUTHORING_REGISTRY_KWARGS
        from dataface.core.serve import embedded

        app: Any = embedded.create_server(FilesystemProject(project), **LOCAL_AUTHORING_REGISTRY_KWARGS)
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://preview") as pages:
                await asyncio.gather(
                    pages.get("/orders/"),
                    client.send(tool("render_dashboard", path="faces/orders.yml")),
                    pages.get("/nowhere/"),
                )

    with instrumented() as memory:
        with_client(project, both)
    entries = [attributes(span) for span in memory.spans if attributes(span).get("dataface.entry")]
    told = {
        (each["dataface.operation.name"], each["dataface.surface"], each["dataface.outcome"])
        for each in entries
    }
    assert told >= {
        ("page.serve", "dashboard", "ok"),
        ("page.serve", "dashboard", "degraded"),
        ("tool.call", "mcp", "ok"),
    }
    assert len(server_spans(memory)) == len(entries)
    surface_of = {
        span.context.trace_id: attributes(span)["dataface.surface"] for span in server_spans(memory)
    }
    inner = [span for span in memory.spans if attributes(span).get("dataface.entry") is False]
    assert {attributes(span)["dataface.surface"] == surface_of[span.context.trace_id] for span in inner} == {
        True
    }


def test_nothing_of_ours_failed() -> None:
    assert_none([f"{place}: {count}" for place, count in failsafe.errors().items() if "page" in place])
