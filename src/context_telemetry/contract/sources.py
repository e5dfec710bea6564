"""The sources of a Dataface project as its files name them: `dataface.yml`, and dbt's `profiles.yml` behind it.

Read as Dataface 0.1.2 to 0.4.0 does. Opens no warehouse. What a file says with a mistake is told with its line; what
only this machine lacks (a variable, a profile) makes one source unusable and not the project.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from jinja2 import TemplateError
from jinja2.nativetypes import NativeEnvironment
from jinja2.sandbox import SandboxedEnvironment

from context_telemetry.contract.project_files import (
    ProjectFileError,
    line_of,
    parse_yaml,
    read_text,
    read_yaml,
    told,
)

PROJECT_FILES: Final = ("dataface.yml", "dataface.yaml")
_PROFILES: Final = "profiles.yml"

FILE_TYPES: Final = frozenset({"csv", "parquet", "json"})
"""Sources whose tables are files."""

# Names of Dataface and dbt for what sqlglot calls otherwise. Files are read with DuckDB's SQL.
_SAME: Final = (
    "athena",
    "bigquery",
    "databricks",
    "duckdb",
    "mysql",
    "postgres",
    "redshift",
    "snowflake",
    "spark",
    "sqlite",
    "trino",
)
_DIALECTS: Final = {
    **{name: name for name in _SAME},
    "mariadb": "mysql",
    "mssql": "tsql",
    "postgresql": "postgres",
    "sqlserver": "tsql",
    **dict.fromkeys(FILE_TYPES, "duckdb"),
}

# Where the options of a type say what stands before a schema in a full name, and where a bare name is looked for.
_DATABASE: Final = ("database", "dbname", "project", "catalog")
_SCHEMA: Final = ("schema", "dataset")
_DEFAULT_SCHEMA: Final = {
    "duckdb": "main",
    "sqlite": "main",
    "postgres": "public",
    "redshift": "public",
    "sqlserver": "dbo",
    **dict.fromkeys(FILE_TYPES, "main"),
}


@dataclass(frozen=True)
class SourceConfig:
    """One source. ``options`` are the keys beside `type`, with variables resolved; they may hold a password."""

    name: str
    type: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    unusable: str | None = None
    """Why it cannot be opened as configured, for a person."""
    profiles: Path | None = None
    """Of a `dbt_profile`: the file that says the rest."""

    @property
    def dialect(self) -> str | None:
        """What sqlglot calls the SQL that this source understands; None where it has no SQL or none that is known."""
        return _DIALECTS.get(self.type)

    @property
    def database(self) -> str | None:
        """The database of full names, where the options say it (DuckDB: the name of the file)."""
        if self.type == "duckdb":
            return Path(str(self.options.get("path", ""))).stem or None
        return self._option(_DATABASE)

    @property
    def schema(self) -> str | None:
        """The schema of names that have none."""
        if self.type in ("mysql", "mariadb"):  # a schema and a database are the same
            return self._option((*_SCHEMA, "database"))
        return self._option(_SCHEMA) or _DEFAULT_SCHEMA.get(self.type)

    def _option(self, names: tuple[str, ...]) -> str | None:
        values = (self.options.get(name) for name in names)
        return next((str(value) for value in values if value not in (None, "")), None)


@dataclass(frozen=True)
class Sources:
    """The sources of a project, by name, and the one that a query has which names none (up to Dataface 0.1.5)."""

    configs: tuple[SourceConfig, ...] = ()
    default: str | None = None

    def get(self, name: str) -> SourceConfig | None:
        return next((config for config in self.configs if config.name == name), None)


def sources(root: Path, environment: Mapping[str, str] = os.environ) -> Sources:
    """What the project at ``root`` names, in order of names; none where there is no `dataface.yml`.

    Raises ProjectFileError when `dataface.yml` is not what Dataface takes.
    """
    path = next((root / name for name in PROJECT_FILES if (root / name).is_file()), None)
    if path is None:
        return Sources()
    text, name = read_text(path, root), told(path, root)
    document = parse_yaml(text, name)
    if document is None:
        return Sources()
    if not isinstance(document, dict):
        raise ProjectFileError(name, "is not a mapping; write keys with a colon, as `sources:`", 1)
    listed = document.get("sources") or {}
    if not isinstance(listed, dict):
        raise ProjectFileError(name, "sources: is not a mapping of names", line_of(text, "sources"))
    default = listed.pop("default", None)
    configs = []
    for source, options in sorted(listed.items(), key=lambda item: str(item[0])):
        line = line_of(text, "sources", str(source))
        if not isinstance(options, dict):
            raise ProjectFileError(name, f"sources.{source}: is not a mapping; give it a type", line)
        if not isinstance(options.get("type"), str):
            raise ProjectFileError(name, f"sources.{source}: has no type; write as `type: duckdb`", line)
        configs.append(_config(str(source), options, root, environment))
    return Sources(tuple(configs), default if isinstance(default, str) else None)


def _config(
    name: str, options: Mapping[str, Any], root: Path, environment: Mapping[str, str]
) -> SourceConfig:
    kind, profiles = str(options["type"]), None
    try:
        rendered = _rendered({key: value for key, value in options.items() if key != "type"}, environment)
        if kind == "dbt_profile":
            profiles = _profiles(rendered, root, environment)
            kind, rendered = _target(rendered, profiles, root, environment)
    except ProjectFileError as error:
        return SourceConfig(name, kind, unusable=str(error), profiles=profiles)
    except (LookupError, TemplateError) as error:
        why = str(error.args[0] if error.args else error)
        return SourceConfig(name, kind, unusable=why, profiles=profiles)
    return SourceConfig(name, kind, rendered, profiles=profiles)


def _target(
    options: Mapping[str, Any], path: Path, root: Path, environment: Mapping[str, str]
) -> tuple[str, dict[str, Any]]:
    """The type and options of the target that a `dbt_profile` source means, of the profiles in ``path``."""
    profiles = read_yaml(path, root)
    profile = profiles.get(str(options.get("profile"))) if isinstance(profiles, dict) else None
    if not isinstance(profile, dict) or not isinstance(profile.get("outputs"), dict):
        raise LookupError(f"{told(path, root)} has no profile {options.get('profile')} with outputs")
    target = options.get("target") or _value(profile.get("target", "default"), environment)
    output = profile["outputs"].get(target)
    if not isinstance(output, dict) or not isinstance(output.get("type"), str):
        raise LookupError(
            f"{told(path, root)}: profile {options.get('profile')} has no target {target} with a type"
        )
    rendered = _rendered({key: value for key, value in output.items() if key != "type"}, environment)
    return str(output["type"]), rendered


def _profiles(options: Mapping[str, Any], root: Path, environment: Mapping[str, str]) -> Path:
    """A folder that is named counts alone, as with Dataface: nothing is looked for elsewhere then."""
    if named := options.get("profiles_dir") or environment.get("DBT_PROFILES_DIR"):
        return root / str(named) / _PROFILES
    beside = root / _PROFILES
    home = environment.get("HOME")
    return beside if beside.is_file() or not home else Path(home) / ".dbt" / _PROFILES


def _rendered(options: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    return {key: _value(value, environment) for key, value in options.items()}


class _Native(SandboxedEnvironment, NativeEnvironment):
    """What a template makes stays what it is: a number."""


_NATIVE_FILTERS: Final = ("as_bool", "as_native", "as_number")


def _value(value: Any, environment: Mapping[str, str]) -> Any:
    """As dbt renders a profile: text, unless a filter asks for a number or a truth."""
    if isinstance(value, dict):
        return _rendered(value, environment)
    if isinstance(value, list):
        return [_value(item, environment) for item in value]
    if not isinstance(value, str) or "{{" not in value:
        return value

    def env_var(name: str, default: str | None = None) -> str:
        found = environment.get(name, default)
        if found is None:
            raise LookupError(f"the environment variable {name} is not set")
        return found

    native = any(name in value for name in _NATIVE_FILTERS)
    renderer = _Native() if native else SandboxedEnvironment()
    renderer.filters.update(dict.fromkeys((*_NATIVE_FILTERS, "as_text"), str))
    return renderer.from_string(value).render(env_var=env_var)
