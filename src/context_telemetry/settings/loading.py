"""Settings from the environment, `context-telemetry.toml` and `pyproject.toml`, in that order of precedence.

Each source is judged on its own, so a problem names the file or the variable that it stands in. A command
stops at a problem (`load`); an observed host goes on without the wrong key (`load_lenient`).
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from context_telemetry.settings.keys import (
    VARIABLE_PREFIX,
    as_key,
    as_variable,
    beside,
    keys,
    nearest,
)
from context_telemetry.settings.model import Settings

# By name, because mypy checks for 3.10 and runs where tomli need not be installed.
tomllib: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

FILE: Final = "context-telemetry.toml"
TABLE: Final = "context-telemetry"
_UNDERSCORED: Final = TABLE.replace("-", "_")


class SettingsError(Exception):
    """Settings are wrong. Each of ``problems`` names file or variable, key, mistake and fix."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass
class _Source:
    """One place that settings stand in. ``variables`` has the names by path where it is the environment."""

    name: str
    values: dict[str, Any] = field(default_factory=dict)
    variables: dict[tuple[str, ...], str] = field(default_factory=dict)


def load(root: Path | None, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings of the project at ``root`` (None: of no project).

    `CONTEXT_TELEMETRY_PROJECT` overrides ``root``. Raises `SettingsError` with every problem there is.
    """
    settings, problems = load_lenient(root, environ)
    if problems:
        raise SettingsError(problems)
    return settings


def judge(name: str, values: dict[str, Any]) -> tuple[Settings, list[str]]:
    """The settings in ``values``, which problems call ``name``; what is wrong is told and left out."""
    problems: list[str] = []
    source = _Source(name, values)
    _judge(source, problems)
    return Settings.model_validate(source.values), problems


def load_lenient(root: Path | None, environ: Mapping[str, str] = os.environ) -> tuple[Settings, list[str]]:
    """Like `load`, but never raises: a wrong key is left out and its problem told, all else is kept."""
    problems: list[str] = []
    try:
        merged: dict[str, Any] = {}
        for source in _sources(root, environ, problems):
            _judge(source, problems)
            _merge(merged, source.values)
        return Settings.model_validate(merged), problems
    except Exception as error:  # the host goes on, whatever it was
        problems.append(f"settings: cannot be read ({type(error).__name__}); defaults are used")
        return Settings(), problems


# -- the sources, lowest precedence first --------------------------------------------------------------------


def _sources(root: Path | None, environ: Mapping[str, str], problems: list[str]) -> Iterator[_Source]:
    variables = _environment(environ, problems)
    root = Path(variables.values["project"]).expanduser() if "project" in variables.values else root
    if root is not None:
        pyproject = root / "pyproject.toml"
        tool = _toml(pyproject, problems).get("tool")
        table = tool.get(TABLE, {}) if isinstance(tool, dict) else {}
        if isinstance(tool, dict) and _UNDERSCORED in tool:
            problems.append(f"{pyproject}: [tool.{_UNDERSCORED}] is not read; write [tool.{TABLE}]")
        yield _file(f"{pyproject} [tool.{TABLE}]", root, table, problems)
        yield _file(str(root / FILE), root, _toml(root / FILE, problems), problems)
    yield variables


def _toml(path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        return content
    except FileNotFoundError:
        return {}
    except tomllib.TOMLDecodeError as error:
        problems.append(f"{path}: is not valid TOML: {error}; correct it there, nothing of this file is used")
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{path}: cannot be read ({type(error).__name__}); make it a readable file in UTF-8")
    return {}


def _file(name: str, root: Path, values: Any, problems: list[str]) -> _Source:
    if not isinstance(values, dict):
        problems.append(f"{name}: is not a table; write [tool.{TABLE}] and the keys below it")
        return _Source(name)
    values = dict(values)
    if values.pop("project", None) is not None:
        problems.append(
            f"{name}: project: cannot be set in a file, since it says where files are looked for; set the "
            f"variable {VARIABLE_PREFIX}PROJECT"
        )
    if isinstance(values.get("state_dir"), str):
        values["state_dir"] = str(root / Path(values["state_dir"]).expanduser())
    return _Source(name, values)


def _environment(environ: Mapping[str, str], problems: list[str]) -> _Source:
    source = _Source("environment")
    for variable in sorted(environ):
        # An empty variable is an unset one, as OpenTelemetry has it.
        if not variable.startswith(VARIABLE_PREFIX) or not environ[variable]:
            continue
        path = tuple(variable[len(VARIABLE_PREFIX) :].lower().split("__"))
        table = source.values
        for name in path[:-1]:
            table = table.setdefault(name, {}) if isinstance(table, dict) else table
        if not isinstance(table, dict):
            whole = source.variables[next(p for p in source.variables if p == path[: len(p)])]
            problems.append(f"{variable}: {whole} sets the same as a whole; unset one of the two")
            continue
        table[path[-1]] = environ[variable]
        source.variables[path] = variable
    return source


# -- judging one source --------------------------------------------------------------------------------------


def _judge(source: _Source, problems: list[str]) -> None:
    """Take out of the source, with a problem each, what the model does not accept."""
    errors = _errors(source.values)
    problems += [_problem(source, details) for details in errors]
    while errors:  # again, because what is left of a table may lack what was dropped
        for details in errors:
            _drop(source.values, tuple(map(str, details["loc"])))
        errors = _errors(source.values)


def _errors(values: Mapping[str, Any]) -> list[ErrorDetails]:
    try:
        Settings.model_validate(values)
    except ValidationError as error:
        return error.errors()
    return []


def _drop(values: dict[str, Any], path: tuple[str, ...]) -> None:
    """Delete ``path``; the table around it where it is what the table lacks, or where that is no table."""
    inner = values.get(path[0])
    if len(path) > 1 and isinstance(inner, dict) and (path[1] in inner or len(path) > 2):
        _drop(inner, path[1:])
    else:
        values.pop(path[0], None)


def _problem(source: _Source, details: ErrorDetails) -> str:
    path = tuple(map(str, details["loc"]))
    variable = next(
        (v for p, v in source.variables.items() if p == path[: len(p)] or path == p[: len(path)]), None
    )
    write = as_variable if source.variables else as_key
    place = (variable or as_variable(path)) if source.variables else f"{source.name}: {as_key(path)}"
    if details["type"] == "extra_forbidden":
        meant = nearest(path)
        fix = f"did you mean {write(meant)}?" if meant else "there are " + ", ".join(map(write, beside(path)))
        return f"{place}: there is no such key; {fix}"
    # A budget may be a table: its `bytes` is the key's number.
    key = keys().get(path) or keys().get(path[:-1])
    if details["type"] == "missing":
        return f"{place}: is missing; add it: {key.expected if key else 'a value'}"
    wrong = f"{_shown(details['input'])} is not {key.expected if key else 'a table'}"
    fix = "correct it"
    if key is None:
        return f"{place}: {wrong}; put its keys below it"
    if details["type"] == "value_error":  # which says itself what is wrong, and not what is expected
        wrong, fix = f"{_shown(details['input'])} {details['ctx']['error']}", f"give {key.expected}"
    if details["type"] == "no_boundary":
        wrong, _, fix = f"{_shown(details['input'])} {details['msg']}".partition("; ")
    default = "leave it out" if key.default is None else f"leave it out for {key.default}"
    return f"{place}: {wrong}; {fix}, or {default}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _merge(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    for name, value in above.items():
        inner = below.get(name)
        if isinstance(inner, dict) and isinstance(value, dict):
            _merge(inner, value)
        else:
            below[name] = value
