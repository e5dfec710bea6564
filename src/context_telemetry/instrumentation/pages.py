"""Pages of `dft serve` and the embedded preview: one SERVER span per page, read from what was answered.

FastAPI makes a SERVER span of its own since 0.165 where the process has an OpenTelemetry SDK, and so do
instrumentations of it: that span is told what is known of the page, and there is no second. Otherwise the span is ours,
as the HTTP conventions have it. Nothing here holds a response back, keeps a body, or looks at a query string.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

from opentelemetry import context as otel_context
from opentelemetry import propagate
from opentelemetry.trace import Span, SpanKind, get_current_span
from opentelemetry.util.types import AttributeValue

from context_telemetry.conventions import names
from context_telemetry.instrumentation import session
from context_telemetry.instrumentation.direct_renders import read_drawn
from context_telemetry.instrumentation.hooks import Hook
from context_telemetry.instrumentation.rendering import explain
from context_telemetry.instrumentation.tools import telling_code_of
from context_telemetry.limits.clients import OTHER, editor_id
from context_telemetry.observe import failsafe, recorder
from context_telemetry.observe.fork import on_forget
from context_telemetry.observe.observed import Plan, tap
from context_telemetry.observe.operation import Operation, conclude_error, current
from context_telemetry.observe.reading import COORDINATES, Call, Reading, reader
from context_telemetry.observe.surface import entry_surface

_PAGE = "page.serve"
_SURFACE = "dashboard"
_METHODS = frozenset({"GET", "POST"})

# -- which requests are pages --------------------------------------------------------------------

# Answered without the project: what the server says of itself, and what browsers ask for on their own.
_NO_PAGES = frozenset(
    {
        "/health",
        "/templates",
        "/__livereload",
        "/docs",
        "/docs/oauth2-redirect",
        "/redoc",
        "/openapi.json",
        "/favicon.ico",
        "/robots.txt",
        "/apple-touch-icon.png",
        "/apple-touch-icon-precomposed.png",
    }
)
_NO_PAGES_BELOW = ("/static/", "/.well-known/")
# Views of the catalogue, by how many names follow the first word. The names are the coordinates that were asked for.
_VIEWS = {
    "data": ("/data/", "/data/{source}/", "/data/{source}/{schema}/", "/data/{source}/{schema}/{table}/"),
    "inspector": (
        None,
        "/inspector/{source}/",
        "/inspector/{source}/{schema}/",
        "/inspector/{source}/{schema}/{table}/",
        "/inspector/{source}/{schema}/{table}/{column}/",
    ),
}
_DETAIL = "detail"
_FACE = "/{face}"
_SUFFIXES = (".svg", ".png", ".pdf", ".yaml")
_INSPECT = {"profile": "/inspect/profile/", "exists": "/inspect/exists/"}


def page_of(path: str) -> tuple[str | None, dict[str, str]]:
    """Which page a path is, of the closed list, and the coordinates that it asks for; None for what is no page."""
    if path in _NO_PAGES or path.startswith(_NO_PAGES_BELOW):
        return None, {}
    clean = path.strip("/")
    if not clean:
        return "/", {}
    first, *asked = clean.split("/")
    views = _VIEWS.get(first, ())
    if len(asked) < len(views) and (view := views[len(asked)]) is not None:
        return view, dict(zip(COORDINATES, asked, strict=False))
    if first == "data" and len(asked) == len(COORDINATES) and asked[-1] == _DETAIL:
        return "/data/{source}/{schema}/{table}/detail/", dict(zip(COORDINATES, asked[:-1], strict=False))
    if first == "inspect" and asked:
        return _INSPECT.get(asked[0], "/inspect/{template}/"), {}
    suffix = next((suffix for suffix in _SUFFIXES if clean.endswith(suffix)), "")
    return _FACE + suffix, {}


# -- one page ------------------------------------------------------------------------------------

_observed: WeakSet[Any] = WeakSet()
"""The applications that are Dataface's. Their middleware stays in them, and does nothing once they are not in here."""


@on_forget
def forget() -> None:
    """Let pages be as if nobody had looked, at the end of `instrument`."""
    _observed.clear()


class _Pages:
    """The application as it was, with an operation around each of its pages.

    As a middleware, it is inside of FastAPI's own span and of those that instrumentations of ASGI make. It is outside
    of Dataface's middleware, which refreshes the project.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        page = _begin(scope)
        if page is None:
            await self.app(scope, receive, send)
            return
        op = page.op

        async def sent(message: Any) -> None:
            page.sees(message)
            await send(message)

        op.attach()
        try:
            await self.app(scope, receive, sent)
        except BaseException as error:
            page.raised(error)
            raise
        finally:
            page.end()
            op.detach()


class _Page:
    """What is seen of one page on its way out."""

    __slots__ = ("_error", "_size", "_status", "op")

    def __init__(self, op: Operation) -> None:
        self.op = op
        self._status: int | None = None
        self._size = 0
        self._error: BaseException | None = None

    def sees(self, message: Any) -> None:
        """A part of the response. Before the last one is sent, because a neighbour's span ends with it."""
        try:
            if message["type"] == "http.response.start":
                self._status = message["status"]
            elif message["type"] == "http.response.body":
                self._size += len(message.get("body", b""))
                if not message.get("more_body", False):
                    self.end()
        except Exception as problem:
            failsafe.caught("page response", problem)

    def raised(self, error: BaseException) -> None:
        """The application did not answer; whoever is outside of it answers 500."""
        self._error = error

    def end(self) -> None:
        """Read the whole, and finish the operation. Idempotent."""
        try:
            if not self.op.finished:
                self._read(self.op)
        except Exception as problem:
            failsafe.caught("page", problem)
        self.op.finish()

    def _read(self, op: Operation) -> None:
        if self._error is not None:
            conclude_error(op, self._error)
            if self._status is None and op.error_type is not None:
                self._status = 500
        status = self._status
        if status is None:  # the browser went away
            return
        if not op.adopted:
            op.attributes[names.HTTP_RESPONSE_STATUS_CODE] = status
        if self._error is not None:
            return
        if self._size:  # a redirection has none
            op.payload(self._size, "http_response")
        if status in _UNKNOWN:
            op.degraded("resource_unknown")
            op.unresolved += 1
        elif status >= 400:
            op.failed(str(status))
            op.marks_error = status >= 500
        elif op.notes.get("error page") and not (op.reasons or op.risen):
            op.failed("_OTHER")


# What is not there, and what lies outside of the project: for the reader the same.
_UNKNOWN = frozenset({403, 404})


def _begin(scope: Any) -> _Page | None:
    try:
        if scope["type"] != "http" or scope["method"] not in _METHODS or scope.get("app") not in _observed:
            return None
        if recorder.heard() is None:
            return None
        page, asked = page_of(scope["path"].removeprefix(scope.get("root_path", "")))
        if page is None:
            return None
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        user_agent = headers.get("user-agent")
        span = _neighbours_span(scope)
        context = otel_context.get_current()
        if span is None:
            context = propagate.extract(headers, context)
        op = Operation(
            _PAGE,
            {names.DATAFACE_PAGE: page, **(_http(scope, page) if span is None else {})},
            span_name=f"{scope['method']} {page}",
            kind=SpanKind.SERVER,
            surface=entry_surface(_SURFACE, context, user_agent),
            context=context,
            parent=None,  # a request is an entry, whoever may have started its server
            span=span,
        )
        op.client = editor_id(user_agent or "") or OTHER
        if asked:
            op.coordinates(**asked)
        return _Page(op)
    except Exception as error:
        failsafe.caught("page request", error)
        return None


def _http(scope: Any, page: str) -> dict[str, AttributeValue]:
    """The HTTP attributes of a span of ours; without the method, and so no metric, where FastAPI makes the metrics."""
    http: dict[str, AttributeValue] = {names.URL_SCHEME: scope.get("scheme", "http"), names.HTTP_ROUTE: page}
    if scope.get("fastapi.telemetry") is None:
        http[names.HTTP_REQUEST_METHOD] = scope["method"]
    return http


def _neighbours_span(scope: Any) -> Span | None:
    """The SERVER span that FastAPI or an instrumentation of it has made of this request, if it goes where ours go."""
    span = _made_of(scope)
    return span if span is not None and recorder.active().shares(span) else None


def _made_of(scope: Any) -> Span | None:
    made: Any = getattr(scope.get("fastapi.telemetry"), "span", None)
    if made is not None:
        return made if isinstance(made, Span) else None
    span = get_current_span()
    here = span.get_span_context()
    if here.is_valid and not here.is_remote and not span.is_recording():
        return span  # sampled out: a neighbour's like any other, of which nothing can be read
    known = getattr(span, "attributes", None) or {}
    http = names.HTTP_REQUEST_METHOD in known or "http.method" in known
    return span if http and getattr(span, "kind", None) is SpanKind.SERVER else None


# -- what was answered ---------------------------------------------------------------------------


def _page() -> Operation | None:
    op = current()
    return op if op is not None and op.name == _PAGE else None


def _tap_face(call: Call) -> None:
    """Which face of the project the page is, when there is one: up to 0.2.0 its path, later an object with one."""
    op, face = _page(), call.argument("file_path")
    if op is None or (call.error is not None and getattr(call.error, "status_code", None) in _UNKNOWN):
        return
    path = getattr(face, "relpath", None)
    if path is None:
        root = call.argument("project_dir") or getattr(call.argument("project"), "root", None)
        path = face.relative_to(root).as_posix() if root is not None and face.is_relative_to(root) else None
    if isinstance(path, str):
        op.attributes[names.DATAFACE_FACE] = path


def _tap_error_page(call: Call) -> None:
    """Every page that explains an error is made from a structured result, whatever its status."""
    op, result = _page(), call.argument("result")
    if op is None:
        return
    op.notes["error page"] = True
    face_error = getattr(result, "face_error", None)
    errors = [face_error] if face_error is not None else [*result.validation_errors, *result.chart_errors]
    op.error_code = telling_code_of(errors, op)


@reader(reasons=("all_charts_failed",))
def read_view(call: Call) -> Reading | None:
    """A view of the catalogue: where one of its charts fails, the page is a list of errors and nothing of the view."""
    failed = getattr(call.result, "dashboard", None)
    if failed is None:
        return None
    fatal = [*([failed.face_error] if failed.face_error is not None else ()), *failed.validation_errors]
    op, errors = current(), fatal or list(failed.chart_errors)
    code = telling_code_of(errors, op)
    explain(op, code)
    return Reading(
        outcome="failed" if fatal else "ok",
        reasons=() if fatal else ("all_charts_failed",),
        error_code=code,
    )


# -- hooks ---------------------------------------------------------------------------------------


def _tap_create_server(call: Call) -> None:
    """The application, before it has answered anybody."""
    app = call.result
    if app is not None:
        app.add_middleware(_Pages)
        _observed.add(app)
        session.opened(getattr(app.state, "project", None) or getattr(app.state, "project_dir", None))


_SERVER = "dataface.core.serve.server"

HOOKS = (
    Hook(
        _SERVER,
        "create_server",
        tap(_tap_create_server, outside=True),
    ),
    Hook(_SERVER, "_render_face_file", tap(_tap_face), parameters=("file_path",)),
    Hook(_SERVER, "_render_structured_errors_html", tap(_tap_error_page), parameters=("result",)),
    Hook(
        "dataface.core.registered_views.render_pipeline",
        "render_registered_view",
        Plan("dashboard.render", reader=read_view),
        since="0.1.5",
    ),
    Hook(
        "dataface.core.inspect.renderer",
        "render_inspect_dashboard",
        # The page is text by the time that its renderer returns it.
        Plan("dashboard.render", reader=read_drawn),
    ),
)
