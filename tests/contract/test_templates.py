"""A face's Jinja becomes SQL that can be parsed, one text per branch; what Dataface would refuse is refused."""

from __future__ import annotations

import pytest

from context_telemetry.contract.manifest import Declared, Manifest
from context_telemetry.contract.templates import STAND_IN, Unresolved, render

ORDERS = Declared("model.shop.orders", "shop", "main", "orders", '"shop"."main"."orders"', {}, {})
RAW = Declared("source.shop.raw.orders", "shop", "raw", "orders", '"shop"."raw"."orders"', {}, {})
MANIFEST = Manifest((ORDERS, RAW), {"orders": ORDERS}, {("raw", "orders"): RAW})
QUERIES = {"base": "SELECT a FROM {{ ref('orders') }};", "two": "SELECT * FROM {{ queries.base }}"}
ENDLESS = {"one": "SELECT * FROM {{ queries.two }}", "two": "SELECT * FROM {{ queries.one.cache }}"}


def texts(sql: str) -> list[str]:
    return [" ".join(each.sql.replace(STAND_IN, "?").split()) for each in render(sql, MANIFEST, QUERIES.get)]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 1", ["SELECT 1"]),
        ("WHERE a = {{ a }} AND b = '{{ b.start }}'", ["WHERE a = ? AND b = '?'"]),
        ("{{ filter('t.a', a) }} {{ filter_date_range('d', p) }}", ["t.a = ? d = ?"]),
        ("IN ({{ ids | join(', ') }}) LIMIT {{ n + 1 }}", ["IN (?) LIMIT ?"]),
        ("{% for i in ids %}{{ i.name }},{% endfor %}", ["?,"]),
        ("{% if a %}x{% endif %}", ["x"]),
        ("{% if a %}x{% else %}y{% endif %}", ["x", "y"]),
        (
            "{% if a %}x{% elif b %}y{% else %}z{% if c %}1{% else %}2{% endif %}{% endif %}",
            ["x", "y", "z1", "z2"],
        ),
        ("{% if a %}x{% else %}y{% endif %}{% if b %}1{% else %}2{% endif %}", ["x1", "y1", "x2"]),
        ("{{ 'x' if a == 1 else 'y' }}", ["x", "y"]),
        ("{% for c in ['a', 'b'] %}{{ c }}{% if not loop.last %},{% endif %}{% endfor %}", ["a,b"]),
        ("{% set c = ['a'] %}{% if c %}{{ c[0] }}{% else %}no{% endif %}", ["a"]),
        ("{% set c = region %}{% if c %}x{% else %}y{% endif %}", ["x", "y"]),
        ("FROM {{ ref('orders') }}", ['FROM "shop"."main"."orders"']),
        ('FROM {{- source( "raw" , "orders" ) -}}', ['FROM "shop"."raw"."orders"']),
        (
            "FROM {{ queries.two }}",
            ['FROM (SELECT * FROM (SELECT a FROM "shop"."main"."orders") AS base) AS two'],
        ),
        ("FROM {{ queries.base.cache }}", ['FROM (SELECT a FROM "shop"."main"."orders") AS base']),
    ],
)
def test_each_branch_that_a_variable_decides_is_in_one_of_the_texts(sql: str, expected: list[str]) -> None:
    assert texts(sql) == expected


def test_relations_say_which_call_gave_them() -> None:
    (found,) = render("{{ ref('orders') }} {{ source('raw', 'orders') }}", MANIFEST, QUERIES.get)
    assert found.relations == {ORDERS.relation: "ref", RAW.relation: "source"}


@pytest.mark.parametrize(
    ("sql", "why", "missing"),
    [
        ("{{ ref('gone') }}", "ref('gone'): the manifest has none of that name", "ref('gone')"),
        (
            "{{ source('raw', 'gone') }}",
            "source('raw', 'gone'): the manifest has none",
            "source('raw', 'gone')",
        ),
        (
            "{{ ref('shop', 'orders') }}",
            "ref('shop', 'orders'): a form of the call that Dataface does not",
            None,
        ),
        ("{{ ref(name) }}", "ref(name): a form of the call that Dataface does not resolve", None),
        ("{{ var('x') }}", "var(): nothing that Dataface resolves", None),
        ("{{ dbt_utils.star('x') }}", "dbt_utils(): nothing that Dataface resolves", None),
        ("{{ queries.gone }}", "queries.gone: there is no query gone of SQL", None),
        ("{{ filter(column, 1) }}", "filter(): its column is not a plain name", None),
        ("{% if %}", "the template cannot be rendered: ", None),
        ("{% include 'x' %}", "the template cannot be rendered without its values: no loader", None),
        ("{{ 1 / 0 }}", "the template cannot be rendered without its values: division by zero", None),
        ("{% if a %}x{% else %}y{% endif %}" * 40, "the template has more than 32 branches", None),
    ],
)
def test_what_dataface_would_not_resolve_is_unresolved_with_its_reason(
    sql: str, why: str, missing: str | None
) -> None:
    with pytest.raises(Unresolved) as raised:
        render(sql, MANIFEST, QUERIES.get)
    assert str(raised.value).startswith(why)
    assert raised.value.missing == missing


def test_without_a_manifest_no_call_is_resolved() -> None:
    with pytest.raises(Unresolved, match=r"ref\('orders'\): there is no manifest of dbt"):
        render("{{ ref('orders') }}", None, QUERIES.get)


def test_a_query_that_is_made_of_itself_is_unresolved() -> None:
    with pytest.raises(Unresolved, match="is made of itself"):
        render("{{ queries.one }}", MANIFEST, ENDLESS.get)
