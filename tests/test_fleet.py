"""An engine that does not answer as one of Prometheus does: the command says so, and nothing secret is shown.

What real engines answer is in tests/stack/test_fleet.py.
"""

from __future__ import annotations

import base64
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs

import pytest
from typer.testing import CliRunner

from context_telemetry.cli.app import app
from context_telemetry.conventions import names
from context_telemetry.health import Sum, evaluate
from context_telemetry.health.fleet import Fleet, Unreachable
from context_telemetry.limits import Limits

Answer = Callable[[http.server.BaseHTTPRequestHandler], None]
SERVED = Sum(names.METRIC_DATAFACE_CONTEXT_SERVED)


@contextmanager
def server(answer: Answer, asked: list[bytes] | None = None) -> Iterator[str]:
    """A server on loopback that answers every request by ``answer``, and keeps in ``asked`` what it was asked."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if asked is not None:
                asked.append(body)
            answer(self)

        do_GET = do_POST

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_address[1]}"
        serving.shutdown()


def says(body: bytes, code: int = 200, **headers: str) -> Answer:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def vector(*rows: tuple[dict[str, str], str]) -> bytes:
    result = [{"metric": labels, "value": [0, value]} for labels, value in rows]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}).encode()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (says(b"<html>hello</html>"), "is no Prometheus API"),
        (says(b'{"status": "success", "data": {"result": [{"labels": 1}]}}'), "is no Prometheus API"),
        (says(b'{"status": "success"}'), "is no Prometheus API"),
        (says(b'{"status": "error", "error": "too many samples"}'), "answers too many samples"),
        (says(b'{"status": "error", "error": "unknown function"}', 422), "answers 422: unknown function"),
        (says(b"not here", 404), "is this the address of the engine"),
        (lambda handler: handler.wfile.write(b"\x00\x00\x00PRI * HTTP/2.0\r\n"), "is no Prometheus API"),
    ],
)
def test_what_is_no_prometheus_is_said_to_be_none_and_exits_with_3(answer: Answer, said: str) -> None:
    with server(answer) as url:
        with pytest.raises(Unreachable, match=said):
            Fleet(url, 60.0).added(SERVED)
        assert CliRunner().invoke(app, ["status", "--prometheus", url]).exit_code == 3


def test_nobody_who_listens_is_told_as_that() -> None:
    with pytest.raises(Unreachable, match=r"does not answer .*: is the engine running"):
        Fleet("http://127.0.0.1:9", 60.0).added(SERVED)


@pytest.mark.parametrize(
    "url",
    [
        "user:hunter2@prom:9090",
        "http://u:hunter2@",
        "ftp://u:hunter2@prom",
        "prom:9090",
        "http://prom:99999",
        "http://prom/?token=hunter2",
    ],
)
def test_an_address_that_is_none_is_not_repeated_with_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="http://HOST:9090") as raised:
        Fleet(url, 60.0)
    assert "hunter2" not in str(raised.value)
    assert CliRunner().invoke(app, ["status", "--prometheus", url]).exit_code == 2


def test_a_password_goes_to_the_engine_and_not_where_a_redirect_leads() -> None:
    got: list[tuple[str, str | None]] = []

    def elsewhere(handler: http.server.BaseHTTPRequestHandler) -> None:
        got.append(("elsewhere", handler.headers.get("Authorization")))
        says(vector())(handler)

    with server(elsewhere) as other:

        def here(handler: http.server.BaseHTTPRequestHandler) -> None:
            got.append(("here", handler.headers.get("Authorization")))
            says(b"", 302, Location=f"{other}/api/v1/query")(handler)

        with server(here) as url:
            fleet = Fleet(url.replace("//", "//u:hunter2@"), 60.0)
            fleet.added(SERVED)
            assert "hunter2" not in fleet.url
    secret = "Basic " + base64.b64encode(b"u:hunter2").decode()
    assert got == [("here", secret), ("elsewhere", None)]


def test_a_surface_that_served_nothing_in_the_window_is_none_of_it() -> None:
    rows = vector(({"dataface_surface": "mcp"}, "100"), ({"dataface_surface": "ide"}, "0"))
    with server(says(rows)) as url:
        assert Fleet(url, 60.0).added(SERVED) == {"mcp": 100.0}


def query_of(body: bytes) -> str:
    return parse_qs(body.decode())["query"][0]


def of_series(asked: list[bytes], *rows: tuple[str, dict[str, str], str]) -> Answer:
    """An engine that has these (name, labels, value) and answers what it was ``asked`` last by the name in it."""

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        query = query_of(asked[-1])
        says(vector(*((labels, value) for name, labels, value in rows if name in query)))(handler)

    return answer


def test_what_is_open_is_what_every_project_said_last_and_the_broken_ones_are_named() -> None:
    level = {"dataface_contract_level": "breaking", "deployment_environment_name": "production"}
    part = "dataface_contract_part"
    asked: list[bytes] = []
    answer = of_series(
        asked,
        ("dataface_contract_open", {**level, "service_namespace": "shop", part: "tables"}, "2"),
        ("dataface_contract_open", {**level, "service_namespace": "shop", part: "tools"}, "1"),
        ("dataface_contract_open", {**level, "service_namespace": "stock", part: "tables"}, "0"),
    )
    with server(answer, asked) as url:
        found = {each.indicator.name: each for each in evaluate(Fleet(url, 60.0), Limits()).findings}
    contract = found["contract_open"]
    assert (contract.state, contract.value, contract.detail) == ("unhealthy", 3.0, "shop 3")
    (of_contract,) = (query for body in asked if "contract_open" in (query := query_of(body)))
    assert '{dataface_contract_level="breaking"}[1d]' in of_contract  # a session of a minute says it once


def test_where_no_contract_was_compared_nothing_is_known_of_it() -> None:
    with server(says(vector())) as url:
        verdict = evaluate(Fleet(url, 60.0), Limits())
    assert {each.state for each in verdict.findings if each.indicator.name == "contract_open"} == {"unknown"}


def test_names_that_are_not_there_are_counted_by_surface() -> None:
    asked: list[bytes] = []
    answer = of_series(
        asked,
        ("dataface_context_served_total", {"dataface_surface": "mcp"}, "20"),
        ("dataface_references_unknown_total", {"dataface_surface": "mcp"}, "12"),
    )
    with server(answer, asked) as url:
        findings = evaluate(Fleet(url, 60.0), Limits()).findings
    (unknown,) = (each for each in findings if each.indicator.name == "unknown_references")
    assert (unknown.surface, unknown.state, unknown.bad, unknown.count) == ("mcp", "unhealthy", 12, 20)


def test_all_of_the_past_is_no_window_for_an_engine() -> None:
    done = CliRunner().invoke(app, ["status", "--prometheus", "http://127.0.0.1:9", "--since", "all"])
    assert done.exit_code == 2


def test_an_engine_is_asked_each_question_once_however_many_indicators_have_it() -> None:
    asked: list[bytes] = []

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        says(vector(({"dataface_surface": "mcp"}, "100")))(handler)

    with server(answer, asked) as url:
        fleet = Fleet(url, 60.0)
        evaluate(fleet, Limits())
        fleet.served()
        fleet.reasons()
    assert len(asked) == len(set(asked)) > 10
