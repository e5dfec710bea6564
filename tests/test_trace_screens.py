"""What `traces` and `trace` say of who served a call, what it was given, and what to do."""

from __future__ import annotations

import pytest
from otlp_files import Call, Inner, Process, age, healthy
from test_cli import Shop, asked, ct, shop

__all__ = ["shop"]  # the fixture

FINGERPRINT = {
    "dataface.context.fingerprint": "9f2c4e0b7a51d386",
    "dataface.context.parts": ("manifest=unreadable", "tool_list=0be31c7f94d8a265"),
}
TURN = Call(
    method="invoke_agent",
    operation="agent.turn",
    surface="agent",
    client="other",
    attributes={"dataface.conversation.size": 112_345, **FINGERPRINT},
)


def recorded(shop: Shop, call: Call, **process: object) -> str:
    observed = Process(shop.folder, **process)  # type: ignore[arg-type]  # as the test names them
    trace_id = observed.call(call)
    observed.flush()
    return trace_id


def test_a_trace_says_which_process_of_which_release_served_it(shop: Shop) -> None:
    trace_id = recorded(shop, healthy(5.0), pid=4343, release="0.3.1")
    wide = ct(shop, "trace", trace_id, columns=100).stdout.splitlines()
    assert wide[0].endswith("  process 4343  Dataface 0.3.1")
    narrow = ct(shop, "trace", trace_id, columns=80).stdout.splitlines()
    assert narrow[1] == "process 4343  Dataface 0.3.1"
    document = asked(shop, "trace", trace_id)
    assert {(span["pid"], span["release"]) for span in document["spans"]} == {(4343, "0.3.1")}


def test_the_list_says_which_process_of_which_release_served_a_call_where_there_is_room(shop: Shop) -> None:
    recorded(shop, healthy(5.0), pid=4343, release="0.3.1")
    recorded(shop, healthy(9.0), pid=4444, release="0.4.0")
    head, first, second = ct(shop, "traces", columns=100).stdout.splitlines()
    assert head.split()[3:5] == ["process", "release"]
    assert [first.split()[2:5], second.split()[2:5]] == [
        ["mcp/cursor", "4343", "0.3.1"],
        ["mcp/cursor", "4444", "0.4.0"],
    ]
    assert "release" not in ct(shop, "traces", columns=72).stdout
    assert [call["release"] for call in asked(shop, "traces")["calls"]] == ["0.3.1", "0.4.0"]


def test_what_was_asked_is_not_cut_for_who_served_it(shop: Shop) -> None:
    recorded(shop, Call(tool="a_tool_with_a_name_of_forty_characters__"))
    listed = ct(shop, "traces", columns=96).stdout
    assert "a_tool_with_a_name_of_forty_characters__" in listed
    assert "release" not in listed


def test_the_size_of_an_agents_turn_is_what_went_to_the_model(shop: Shop) -> None:
    recorded(shop, TURN)
    assert "112 KB" in ct(shop, "traces").stdout
    assert asked(shop, "traces")["calls"][0]["payload_bytes"] == 112_345


def test_a_trace_shows_the_fingerprint_of_its_context_and_of_what_it_is_made_of(shop: Shop) -> None:
    told = ct(shop, "trace", recorded(shop, TURN), columns=100).stdout
    assert "context 9f2c4e0b7a51d386 · manifest unreadable · tool_list 0be31c7f" in told
    assert "context 9f2c" not in ct(shop, "trace", recorded(shop, healthy(5.0), pid=11)).stdout


def test_an_age_has_its_promise_beside_it(shop: Shop) -> None:
    read = Inner("cache.read", {"dataface.cache.hit": True, **age(7200.0, "result_cache", limit=3600.0)})
    without = Inner("manifest.load", age(7200.0))
    told = ct(shop, "trace", recorded(shop, Call(inner=(read, without))), columns=100).stdout
    assert "result_cache 2 h old of 1 h" in told
    assert "dbt_manifest 2 h old\n" in told


def test_a_cache_that_had_nothing_says_so(shop: Shop) -> None:
    missed = Inner("cache.read", {"dataface.cache.hit": False})
    hit = Inner(
        "cache.read", {"dataface.cache.hit": True, "dataface.catalog.layers": ("result_cache",)}, seconds=0.02
    )
    told = ct(shop, "trace", recorded(shop, Call(inner=(missed, hit))), columns=100).stdout
    assert told.count("not in the cache") == 1
    assert told.count("from result_cache") == 1


def test_a_view_of_the_catalogue_is_listed_by_what_was_asked_for(shop: Shop) -> None:
    page = Call(
        operation="page.serve",
        surface="dashboard",
        client="other",
        attributes={
            "dataface.page": "/data/{source}/{schema}/{table}/",
            "dataface.catalog.source": "shop",
            "dataface.catalog.schema": "main",
            "dataface.catalog.table": "fct_orders",
        },
    )
    recorded(shop, page)
    assert [call["target"] for call in asked(shop, "traces")["calls"]] == ["/data/shop/main/fct_orders/"]


@pytest.mark.parametrize(
    ("inner", "cause"),
    [
        (
            Inner(
                "catalog.resolve",
                {"dataface.catalog.source": "shop", "error.type": "IOException"},
                outcome="failed",
            ),
            "shop could not be read",
        ),
        (None, "no source was asked: there are several, and none was named for the schema"),
    ],
    ids=["a source fails", "none was asked"],
)
def test_a_trace_says_why_an_errors_text_stands_for_the_schema(
    shop: Shop, inner: Inner | None, cause: str
) -> None:
    reasons = ("context_is_error_text",)
    build = Inner(
        "context.build",
        {"dataface.payload.kind": "schema_context", "dataface.payload.size": 26},
        outcome="degraded",
        reasons=reasons,
        children=(inner,) if inner else (),
    )
    call = Call(operation="agent.turn", outcome="degraded", reasons=reasons, inner=(build,))
    assert cause in ct(shop, "trace", recorded(shop, call), columns=None).stdout


@pytest.mark.parametrize("word", ["ERR-BINDER-UNKNOWN-COLUMN", "tool_error"])
def test_calls_are_filtered_by_every_word_that_stands_among_their_reasons(shop: Shop, word: str) -> None:
    failed = {"error.type": "tool_error", "dataface.error.code": "ERR-BINDER-UNKNOWN-COLUMN"}
    trace_id = recorded(shop, Call(outcome="failed", attributes=failed))
    recorded(shop, healthy(5.0), pid=11)
    assert [call["trace_id"] for call in asked(shop, "traces", "--reason", word)["calls"]] == [trace_id]


def test_before_anything_was_recorded_the_list_says_that(shop: Shop) -> None:
    told = ct(shop, "traces", columns=None).stdout
    assert told.startswith(f"no calls recorded in {shop.folder}: `context-telemetry status")
    recorded(shop, healthy(5.0))
    assert ct(shop, "traces", "--outcome", "failed").stdout.startswith("no call matches")
