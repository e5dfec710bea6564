"""The sources of a project are those that Dataface would open; a mistake in a file is told with its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from contract.catalogues import write

from context_telemetry.contract.project_files import ProjectFileError
from context_telemetry.contract.sources import SourceConfig, Sources, sources

PROFILES = """
shop:
  target: "{{ env_var('TARGET', 'dev') }}"
  outputs:
    dev: {type: duckdb, path: dev.duckdb, schema: marts}
    prod:
      type: postgres
      host: "{{ env_var('HOST') }}"
      port: "{{ env_var('PORT', '5432') | as_number }}"
      dbname: shop
      password: "{{ env_var('PASSWORD') }}"
"""
PROFILE_SOURCE = "sources:\n  dwh: {type: dbt_profile, profile: shop}\n"


def read(root: Path, text: str, **environment: str) -> Sources:
    return sources(write(root, {"dataface.yml": text}), environment)


def test_names_types_and_options_are_as_they_are_written(tmp_path: Path) -> None:
    found = read(
        tmp_path, "sources:\n  shop: {type: duckdb, path: data/shop.duckdb}\n  a: {type: http, url: x}\n"
    )
    assert [(config.name, config.type) for config in found.configs] == [("a", "http"), ("shop", "duckdb")]
    shop = found.get("shop")
    assert shop is not None
    assert (shop.database, shop.schema, shop.dialect) == ("shop", "main", "duckdb")
    assert found.default is None


def test_a_project_without_a_file_of_dataface_has_no_sources(tmp_path: Path) -> None:
    assert sources(tmp_path, {}) == Sources()
    assert read(tmp_path, "") == Sources()


def test_the_default_source_of_old_releases_is_no_source(tmp_path: Path) -> None:
    found = read(tmp_path, "sources:\n  default: shop\n  shop: {type: sqlite, path: a.db}\n")
    assert found.default == "shop"
    assert [config.name for config in found.configs] == ["shop"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sources: [shop]\n", "dataface.yml:1: sources: is not a mapping of names"),
        (
            "# ours\nsources:\n  shop: shop.duckdb\n",
            "dataface.yml:3: sources.shop: is not a mapping; give it a type",
        ),
        (
            "sources:\n  shop:\n    path: x\n",
            "dataface.yml:2: sources.shop: has no type; write as `type: duckdb`",
        ),
        ("a: 1\nsources: {a: 1}\nsources: {}\n", "dataface.yml:3: sources: is there twice, first in line 2"),
        ("sources:\n  shop: {type: duckdb\n", "dataface.yml:3: "),
        ("just text\n", "dataface.yml:1: is not a mapping; write keys with a colon"),
    ],
)
def test_a_mistake_is_told_with_file_line_key_and_fix(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ProjectFileError) as raised:
        read(tmp_path, text)
    assert str(raised.value).startswith(said)


def test_a_profile_of_dbt_is_the_target_that_it_means(tmp_path: Path) -> None:
    write(tmp_path, {"profiles.yml": PROFILES})
    (dev,) = read(tmp_path, PROFILE_SOURCE).configs
    assert (dev.type, dev.options["path"], dev.schema) == ("duckdb", "dev.duckdb", "marts")
    (prod,) = read(tmp_path, PROFILE_SOURCE, TARGET="prod", HOST="db", PASSWORD="hidden").configs
    assert (prod.type, prod.database, prod.schema) == ("postgres", "shop", "public")
    assert prod.options["port"] == 5432
    assert "hidden" not in repr(prod)


@pytest.mark.parametrize(
    ("options", "environment", "said"),
    [
        ("profile: shop", {"TARGET": "prod"}, "the environment variable HOST is not set"),
        ("profile: shop, target: gone", {}, "profiles.yml: profile shop has no target gone with a type"),
        ("profile: gone", {}, "profiles.yml has no profile gone with outputs"),
        (
            "profile: shop, profiles_dir: gone",
            {},
            "gone/profiles.yml: cannot be read: No such file or directory",
        ),
        ("profile: shop", {"DBT_PROFILES_DIR": "gone"}, "gone/profiles.yml: cannot be read: No such file"),
    ],
)
def test_a_profile_that_cannot_be_resolved_makes_the_source_unusable_and_not_the_project(
    tmp_path: Path, options: str, environment: dict[str, str], said: str
) -> None:
    write(tmp_path, {"profiles.yml": PROFILES})
    text = f"sources:\n  dwh: {{type: dbt_profile, {options}}}\n  shop: {{type: duckdb, path: a}}\n"
    dwh, shop = read(tmp_path, text, **environment).configs
    assert (dwh.unusable or "").startswith(said)
    assert shop.unusable is None


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        ("snowflake", {"database": "SHOP", "schema": "MAIN"}, ("SHOP", "MAIN", "snowflake")),
        ("bigquery", {"project": "p", "dataset": "d"}, ("p", "d", "bigquery")),
        ("mysql", {"database": "shop"}, ("shop", "shop", "mysql")),
        ("sqlserver", {"database": "shop"}, ("shop", "dbo", "tsql")),
        ("csv", {"files": {}}, (None, "main", "duckdb")),
        ("dbt_cloud", {}, (None, None, None)),
    ],
)
def test_database_schema_and_dialect_follow_from_type_and_options(
    kind: str, options: dict[str, Any], expected: tuple[str | None, ...]
) -> None:
    config = SourceConfig("dwh", kind, options)
    assert (config.database, config.schema, config.dialect) == expected
