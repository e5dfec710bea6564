"""Pages: one SERVER span each, with the outcome of what it shows; the bytes of a page are what they are unobserved."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conformance import assert_conforms, read_folder
from conftest import Span, spans_in
from httpserver import Answer, application, browser, serving
from inprocess import instrumented
from memory import Memory, attributes
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode
from scenario import RELEASE, scenario

import context_telemetry
from context_telemetry.conventions import names
from context_telemetry.conventions.derive import derive
from context_telemetry.history import History
from context_telemetry.instrumentation import version
from context_telemetry.rehearsal.sample import Sample

pytestmark = pytest.mark.real

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
NO_VIEWS = "has no pages of sources and tables"
NO_INSPECTION = "its inspect pages fail for tables that exist too"
NO_IMAGES = "has no addresses of faces as images"
HEALTHY = {
    "/whole/": "0.1.2",
    "/data/shop/main/fct_orders/": "0.1.5",
    "/inspect/model/?model=fct_orders": "0.2.0",
    "/whole.svg": "0.2.0",
}
"""Pages that answer 200, each since its release; before 0.2.0 an inspect page locks later queries out."""

_RENDERED_AT = re.compile(
    rb'data-rendered-at="[^"]*"'
    rb"|\d{4}-\d\d-\d\d \d\d:\d\d"  # up to 0.2.0
    rb"|Data as of \d\d:\d\d \w+ on \d{1,2} \w{3} \d{4}"
)
_ORDERS = "SELECT status, count(*) AS orders FROM fct_orders GROUP BY status ORDER BY status"
_FACES = {
    "whole": {"good": _ORDERS},
    "part": {"good": _ORDERS, "bad": "SELECT nope FROM fct_orders"},
    "nothing": {"bad": "SELECT missing FROM fct_orders"},
    # Of its own: the failure of a query is kept, and answered again for the next page with that query.
    "no_image": {"bad": "SELECT absent FROM fct_orders"},
}


def add_faces(project: Path) -> None:
    """Faces of every kind, in words that every release reads."""
    for name, queries in _FACES.items():
        lines = [f"title: {name}", "queries:"]
        lines += [f"  {query}: {sql}" for query, sql in queries.items()]
        lines += ["charts:", *(f"  {query}_chart: {{query: {query}, type: table}}" for query in queries)]
        lines += ["rows:", *(f"  - {query}_chart" for query in queries)]
        (project / "faces" / f"{name}.yml").write_text("\n".join(lines) + "\n", "utf-8")
    (project / "faces" / "elsewhere.yml").write_text(
        "title: elsewhere\nqueries:\n  one: {source: nosource, sql: SELECT 1 AS one}\n"
        "charts:\n  one: {query: one, type: table}\nrows: [one]\n",
        "utf-8",
    )
    (project / "faces" / "wrong.yml").write_text("title: wrong\nno_such_field: 1\n", "utf-8")


@dataclass(frozen=True)
class Page:
    """An answer, and the spans of its request, with the one SERVER span among them."""

    status: int
    body: bytes
    spans: list[ReadableSpan]

    @property
    def entry(self) -> ReadableSpan:
        (entry,) = [span for span in self.spans if span.kind is SpanKind.SERVER]
        assert attributes(entry)["dataface.entry"] is True
        return entry

    @property
    def said(self) -> dict[str, Any]:
        return attributes(self.entry)

    @property
    def reading(self) -> tuple[int, str, tuple[str, ...]]:
        """Status, outcome and reasons."""
        said = self.said
        reasons = said.get("dataface.degradation.reasons", ())
        return self.status, said["dataface.outcome"], tuple(reasons)


@dataclass
class Site:
    """The application of the installed release, observed in this process."""

    client: Any
    memory: Memory

    def get(self, path: str, headers: dict[str, str] | None = None) -> Page:
        self.memory.clear()
        response = self.client.get(path, headers=headers or {})
        return Page(response.status_code, response.content, self.memory.spans)


@pytest.fixture(scope="module")
def site(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    project = sample.copy(tmp_path_factory.mktemp("pages") / "shop").root
    add_faces(project)
    with instrumented() as memory, browser(application(project)) as client:
        yield Site(client, memory)


@scenario("pages")
def test_a_face_is_served_in_one_server_span_of_the_dashboard_surface(site: Site) -> None:
    page = site.get("/whole/?region=secret-4242")
    assert page.reading == (200, "ok", ())
    said = page.said
    assert page.entry.name == "GET /{face}"
    assert page.entry.status.status_code is StatusCode.UNSET
    assert said["dataface.operation.name"] == "page.serve"
    assert said["dataface.surface"] == "dashboard"
    assert said["dataface.client.name"] == "other"
    assert said["dataface.page"] == said["http.route"] == "/{face}"
    assert said["dataface.face"] == "faces/whole.yml"
    assert (said["http.request.method"], said["http.response.status_code"], said["url.scheme"]) == (
        "GET",
        200,
        "http",
    )
    assert (said["dataface.payload.kind"], said["dataface.payload.size"]) == ("http_response", len(page.body))
    assert all("secret" not in str(value) for span in page.spans for value in attributes(span).values())
    (render,) = [span for span in page.spans if span.name == "dashboard.render"]
    assert attributes(render)["dataface.entry"] is False
    assert render.context.trace_id == page.entry.context.trace_id


@scenario("pages")
def test_a_face_with_a_failing_chart_is_degraded_though_it_answers_200(site: Site) -> None:
    page = site.get("/part/")
    assert page.reading == (200, "degraded", ("charts_failed",))
    assert page.entry.status.status_code is StatusCode.UNSET


@scenario("pages")
def test_a_face_whose_charts_all_fail_is_degraded_for_that_though_it_answers_200(site: Site) -> None:
    assert site.get("/nothing/").reading == (200, "degraded", ("all_charts_failed",))


@scenario("pages")
def test_a_face_that_does_not_compile_is_failed_with_its_status_and_code_and_no_error_of_the_server(
    site: Site,
) -> None:
    page = site.get("/wrong/")
    assert page.reading == (422, "failed", ())
    assert page.said["error.type"] == "422"
    assert page.said["dataface.error.code"].endswith("-EXTRA-FIELD")
    assert page.said["dataface.face"] == "faces/wrong.yml"
    assert page.entry.status.status_code is StatusCode.UNSET


@scenario("pages")
def test_a_face_that_is_not_there_is_degraded_and_named_nowhere(site: Site) -> None:
    page = site.get("/secret-4242/")
    assert page.reading == (404, "degraded", ("resource_unknown",))
    assert page.said["dataface.catalog.unresolved"] == 1
    assert page.entry.status.status_code is StatusCode.UNSET
    assert "secret" not in str([*page.said.values(), page.entry.name])


@scenario("pages")
def test_what_is_no_page_is_not_an_entry(site: Site) -> None:
    for path in ("/health", "/templates", "/favicon.ico", "/static/fonts/none.woff2"):
        assert site.get(path).spans == []


@scenario("pages", since="0.1.5", because=NO_VIEWS)
def test_a_page_of_a_table_is_healthy_and_says_which(site: Site) -> None:
    page = site.get("/data/shop/main/fct_orders/")
    assert page.reading == (200, "ok", ())
    assert page.entry.name == "GET /data/{source}/{schema}/{table}/"
    asked = [page.said[f"dataface.catalog.{each}"] for each in ("source", "schema", "table")]
    assert asked == ["shop", "main", "fct_orders"]
    assert page.said["dataface.staleness.layer"] == "dbt_manifest"


@scenario("pages", since="0.1.5", because=NO_VIEWS)
def test_a_page_of_an_unknown_source_is_degraded_though_it_answers_200(site: Site) -> None:
    assert site.get("/data/nosource/").reading == (200, "degraded", ("all_charts_failed",))
    assert site.get("/data/shop/").reading == (200, "ok", ())


@scenario("pages", since="0.1.5", because=NO_VIEWS)
def test_a_page_of_a_table_of_an_unknown_source_is_failed_with_the_code(site: Site) -> None:
    page = site.get("/data/nosource/main/fct_orders/")
    assert page.reading == (422, "failed", ())
    assert page.said["error.type"] == "422"
    assert page.said["dataface.error.code"].endswith("-SOURCE-NOT-FOUND")


@scenario("pages", until="0.1.5", because="from 0.2.0 on such a face does not compile")
def test_a_face_that_names_an_unknown_source_is_answered_from_another_place(site: Site) -> None:
    assert site.get("/elsewhere/").reading == (200, "degraded", ("source_substituted",))


@scenario("pages", since="0.2.0", because="before 0.2.0 such a face is answered from another place")
def test_a_face_that_names_an_unknown_source_does_not_compile_and_nothing_answers_in_its_place(
    site: Site,
) -> None:
    page = site.get("/elsewhere/")
    assert page.reading == (422, "failed", ())
    assert page.said["dataface.error.code"].endswith("-SOURCE-NOT-FOUND")
    assert not [span for span in page.spans if span.name == "query.execute"]


@scenario("pages", since="0.1.5", because=NO_VIEWS)
def test_a_page_whose_charts_only_say_that_something_failed_tells_the_code_of_what_failed_inside(
    site: Site,
) -> None:
    page = site.get("/data/othersource/")  # of its own, as a failure is kept
    assert page.said["dataface.error.code"].endswith("-SOURCE-NOT-FOUND")
    (render,) = [span for span in page.spans if span.name == "dashboard.render"]
    assert attributes(render)["dataface.error.code"] == page.said["dataface.error.code"]


@scenario("pages", since="0.1.5", because=NO_VIEWS)
def test_a_page_of_an_unknown_table_is_failed_with_the_reason(site: Site) -> None:
    page = site.get("/data/shop/main/nope/")
    assert page.reading == (500, "failed", ("object_unknown",))
    assert page.said["error.type"] == "500"
    assert page.said["dataface.error.code"].endswith("-INTERNAL")
    assert page.entry.status.status_code is StatusCode.ERROR


@scenario("pages", since="0.2.0", because=NO_INSPECTION)
def test_an_inspect_page_is_healthy_where_the_model_is(site: Site) -> None:
    page = site.get("/inspect/model/?model=fct_orders")
    assert page.reading == (200, "ok", ())
    assert page.entry.name == "GET /inspect/{template}/"


@scenario("pages", since="0.2.0", because=NO_INSPECTION)
def test_an_inspect_page_of_an_unknown_model_is_degraded_though_it_answers_200(site: Site) -> None:
    page = site.get("/inspect/model/?model=nope")
    assert page.reading == (200, "degraded", ("all_charts_failed", "object_unknown"))
    # Of its two charts the first has no code of its own.
    assert page.said["dataface.error.code"].endswith("-BINDER-UNKNOWN-COLUMN")


@scenario("pages")
def test_an_inspect_page_of_an_unknown_template_is_degraded(site: Site) -> None:
    assert site.get("/inspect/nope/").reading == (404, "degraded", ("resource_unknown",))


@scenario("pages", since="0.2.0", because=NO_IMAGES)
def test_images_and_the_source_of_a_face_are_pages(site: Site) -> None:
    image = site.get("/whole.svg")
    assert image.reading == (200, "ok", ())
    assert (image.said["dataface.page"], image.said["dataface.face"]) == ("/{face}.svg", "faces/whole.yml")
    assert image.said["dataface.payload.size"] == len(image.body)
    text = site.get("/whole.yaml")
    assert (text.reading, text.said["dataface.page"]) == ((200, "ok", ()), "/{face}.yaml")
    assert site.get("/no_image.svg").reading == (200, "degraded", ("all_charts_failed",))
    assert site.get("/none.png").reading == (404, "degraded", ("resource_unknown",))
    moved = site.get("/whole.yml")
    assert moved.reading == (301, "ok", ())
    assert "dataface.payload.size" not in moved.said


@scenario("pages", deep=True)
def test_a_png_is_measured_and_read_like_a_page(site: Site) -> None:
    page = site.get("/whole.png")
    assert page.body.startswith(b"\x89PNG")
    assert (page.reading, page.said["dataface.payload.size"]) == ((200, "ok", ()), len(page.body))


@scenario("pages")
def test_a_page_continues_the_trace_of_its_caller(site: Site) -> None:
    entry = site.get("/whole/", TRACEPARENT).entry
    assert entry.parent is not None
    assert (f"{entry.context.trace_id:032x}", f"{entry.parent.span_id:016x}") == (TRACE, PARENT)


@scenario("pages")
def test_an_editor_says_by_its_baggage_or_its_user_agent_that_it_is_one(site: Site) -> None:
    agent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Code/1.104.0 Chrome/138.0 Electron/37.2 Safari/537.36"
    by_agent = site.get("/whole/", {"user-agent": agent}).said
    assert (by_agent["dataface.surface"], by_agent["dataface.client.name"]) == ("ide", "vscode")
    by_baggage = site.get("/whole/", {"baggage": "dataface.surface=ide"}).said
    assert (by_baggage["dataface.surface"], by_baggage["dataface.client.name"]) == ("ide", "other")
    assert (
        site.get("/whole/", {"baggage": "dataface.surface=invented"}).said["dataface.surface"] == "dashboard"
    )


@scenario("pages")
def test_the_span_that_fastapi_makes_is_told_what_ours_would_have_been(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", site.memory.tracer_provider)
    healthy, part = site.get("/whole/", TRACEPARENT), site.get("/part/")
    wrong, unknown = site.get("/wrong/"), site.get("/nowhere/")
    for page in (healthy, part, wrong, unknown):
        scope = page.entry.instrumentation_scope
        assert scope is not None
        assert scope.name == "fastapi"
    assert healthy.reading == (200, "ok", ())
    # A failure that was met before: 0.3.0 and later answer it from the cache, and that is a reason too.
    assert part.reading[:2] == (200, "degraded")
    assert "charts_failed" in part.reading[2]
    assert wrong.reading == (422, "failed", ())
    assert unknown.reading == (404, "degraded", ("resource_unknown",))
    assert {page.entry.status.status_code for page in (healthy, part, wrong, unknown)} == {StatusCode.UNSET}
    assert healthy.said["dataface.face"] == "faces/whole.yml"
    assert healthy.said["dataface.payload.size"] == len(healthy.body)
    (render,) = [span for span in healthy.spans if span.name == "dashboard.render"]
    assert attributes(render)["dataface.surface"] == "dashboard"
    assert f"{render.context.trace_id:032x}" == f"{healthy.entry.context.trace_id:032x}" == TRACE
    (health,) = site.get("/health").spans[-1:]
    assert health.kind is SpanKind.SERVER
    assert "dataface.entry" not in attributes(health)


@scenario("bytes unchanged")
def test_a_real_server_answers_the_same_bytes_whether_it_is_observed_or_not(
    sample: Sample, tmp_path: Path
) -> None:
    """The same requests to `dft serve` and to `context-telemetry run -- dft serve`, on fresh copies of one project.

    Two unobserved runs differ in nothing but the time of rendering that pages carry, and in the date header.
    """
    environ = {
        "CONTEXT_TELEMETRY_STATE_DIR": str(tmp_path / "state"),
        "PYTHONPATH": str(Path(context_telemetry.__file__).parent.parent),
    }
    paths = [
        "/health",
        "/",
        "/part/",
        "/wrong/",
        "/nowhere/",
        "/data/shop/",
        "/inspect/nope/",
        *HEALTHY,
    ]
    answers: list[list[Answer]] = []
    for observed in (False, True):
        project = sample.copy(tmp_path / "shop").root
        add_faces(project)
        with serving(project, tmp_path / "log.txt", observed=observed, env=environ) as server:
            answers.append([server.get(path) for path in paths])
        shutil.rmtree(project)
    healthy = {path for path, since in HEALTHY.items() if version(since) <= version(RELEASE)}
    assert healthy <= {path for path, bare in zip(paths, answers[0], strict=True) if bare.status == 200}
    for path, bare, seen in zip(paths, *answers, strict=True):
        assert (path, seen.status, seen.headers) == (path, bare.status, bare.headers)
        assert first_difference(timeless(bare.body), timeless(seen.body)) is None, path
    assert_told(spans_in(tmp_path / "state"), served=len(paths) - 1)
    (folder,) = [path for path in (tmp_path / "state").iterdir() if path.is_dir()]
    assert_counted_alike(folder, served=len(paths) - 1)


@scenario("bytes unchanged", deep=True)
def test_a_png_is_the_same_with_and_without_observation(sample: Sample, tmp_path: Path) -> None:
    """The minute is painted into it: it is compared where those before and after are of the same one."""
    project = sample.copy(tmp_path / "shop").root
    add_faces(project)

    def png() -> bytes:
        with browser(application(project)) as client:
            return bytes(client.get("/whole.png").content)

    def three() -> tuple[bytes, bytes, bytes]:
        before = png()
        with instrumented():
            watched = png()
        return before, watched, png()

    before, watched, after = three()
    if before != after:
        before, watched, after = three()
    assert before == watched == after
    assert watched.startswith(b"\x89PNG")


def first_difference(one: bytes, other: bytes) -> tuple[bytes, bytes] | None:
    """Where two bodies begin to differ, with what stands around it."""
    if one == other:
        return None
    at = next(
        (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
    return one[max(0, at - 80) : at + 20], other[max(0, at - 80) : at + 20]


def timeless(body: bytes) -> bytes:
    """The body without the moment of its rendering: an attribute, and from minute to minute a line of text."""
    return _RENDERED_AT.sub(b"", body)


def assert_counted_alike(folder: Path, served: int) -> None:
    """What `status` counts in the files is what the metrics derive from them."""
    assert_conforms(folder)
    spans, events = read_folder(folder)
    counted = [point for point in derive(spans, events) if point.name == "dataface.context.served"]
    derived = {
        (point.attributes["dataface.operation.name"], point.attributes["dataface.outcome"]): point.value
        for point in counted
    }
    history = {(each.operation, each.outcome): each.count for each in History(folder).served()}
    assert derived == history
    assert sum(count for (operation, _), count in history.items() if operation == "page.serve") == served


def assert_told(spans: list[Span], served: int) -> None:
    """Each page was counted once, on the span that FastAPI makes, and nothing on it says more than it may."""
    pages = [span for span in spans if span.attributes.get("dataface.operation.name") == "page.serve"]
    assert len(pages) == len([span for span in pages if span.entry]) == served
    assert {(span.scope, span.kind) for span in pages} == {("fastapi", 2)}
    assert len([span for span in spans if span.kind == 2 and span.name != "GET /health"]) == served
    told = [(span.attributes.get("dataface.face"), span.outcome, sorted(span.reasons)) for span in pages]
    assert ("faces/whole.yml", "ok", []) in told
    assert ("faces/part.yml", "degraded", ["charts_failed"]) in told
    assert ("faces/wrong.yml", "failed", []) in told
    assert (None, "degraded", ["resource_unknown"]) in told
    assert {span.attributes["url.path"] for span in pages} == {"[redacted]"}
    assert not any(span.scope == names.SCOPE and "url.path" in span.attributes for span in spans)
