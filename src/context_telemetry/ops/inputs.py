"""What the operations package is built from: owners and limits, each with the text that it was read from.

Of a limit in another unit it says how to write it; all else that can be wrong with limits is `settings`' to say.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from context_telemetry.limits.model import Limits
from context_telemetry.ops import owners as owners_file
from context_telemetry.ops.documents import Document, DocumentError, KeyPath, parse, read_text
from context_telemetry.ops.owners import Owners
from context_telemetry.settings.loading import judge

# By name, because mypy checks for 3.10 and runs where tomli need not be installed.
tomllib: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

SHORTEST_WINDOW: Final = 60.0
"""Seconds: the shortest window that rules are made for. Their shortest is a twelfth of it, which is one scrape."""

LIMITS_FILES: Final = ("limits.toml", "limits.yaml")
"""What a copy of the limits is called in the folder that was built; one of the two, or none for the defaults."""


@dataclass(frozen=True)
class Inputs:
    """Owners and limits, and what the built folder keeps of the files that they were read from."""

    owners: Owners
    limits: Limits
    owners_text: str
    limits_text: str | None = None
    """None: the defaults."""
    limits_file: str = LIMITS_FILES[0]

    @property
    def files(self) -> dict[str, str]:
        """The inputs as they stand in the built folder, so that it can be built again from itself."""
        kept = {owners_file.FILE: self.owners_text}
        if self.limits_text is not None:
            kept[self.limits_file] = self.limits_text
        return kept


def defaults() -> Inputs:
    """The launch's roles without names, and the published limits."""
    return Inputs(owners_file.defaults(), Limits(), owners_file.default_text())


def load(owners: Path | None, limits: Path | None) -> Inputs:
    """The inputs from files; None is the default. Raises `DocumentError` with every problem of both."""
    problems: list[str] = []
    made = defaults()
    found, text = made.owners, made.owners_text
    if owners is not None:
        try:
            text = read_text(owners)
            found = owners_file.loads(text, str(owners))
        except DocumentError as error:
            problems += error.problems
    judged, limits_text = made.limits, None
    if limits is not None:
        try:
            limits_text = read_text(limits)
            judged = read_limits(limits_text, str(limits))
        except DocumentError as error:
            problems += error.problems
    if problems:
        raise DocumentError(problems)
    kept = LIMITS_FILES[1] if limits is not None and _is_yaml(str(limits)) else LIMITS_FILES[0]
    return Inputs(found, judged, text, limits_text, kept)


def read_limits(text: str, name: str) -> Limits:
    """The `limits` table of a context-telemetry.toml, or of a YAML with the same keys. Raises `DocumentError`.

    Other tables of a TOML are the library's settings: judged, and of no effect here.
    """
    document = parse(text, name) if _is_yaml(name) else _toml(text, name)
    if "limits" not in document.values:
        where = "limits:" if _is_yaml(name) else "[limits]"
        raise DocumentError([document.problem((), f"has no limits; write {where} and the keys below it")])
    units = {path: document.problem(path, words) for path, words in _in_other_units(document.values)}
    judged, told = judge(name, _plain(document.values))
    problems = list(units.values())
    for each in told:
        key = _key(document, each)
        if not any(key[: len(path)] == path for path in units):  # of which it is told how to write it
            problems.append(_with_line(document, each))
    if judged.limits.objectives.window < SHORTEST_WINDOW:
        words = f"is shorter than exports and scrapes can fill; write {SHORTEST_WINDOW:g} or more"
        problems.append(document.problem(("limits", "objectives", "window"), words))
    if problems:
        raise DocumentError(document.in_order(problems))
    return judged.limits


def _is_yaml(name: str) -> bool:
    return Path(name).suffix in (".yaml", ".yml")


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _plain(value) if isinstance(value, Mapping) else value for key, value in values.items()}


# -- TOML, with the line of each key -------------------------------------------------------------------------

_HEADER: Final = re.compile(r"\s*\[+([^\]]+)\]+")
_KEY: Final = re.compile(r"\s*([\w.\-\"' ]+?)\s*=")


def _toml(text: str, name: str) -> Document:
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"line (\d+)", str(error))
        line = found[1] if found else str(len(text.splitlines()))
        raise DocumentError([f"{name}:{line}: is not valid TOML: {error}; correct it there"]) from None
    return Document(name, values, dict(_lines(text)))


def _lines(text: str) -> Iterator[tuple[KeyPath, int]]:
    """Key and line of what stands at a line's begin. A key inside of an inline table has the line around it."""
    table: KeyPath = ()
    for number, line in enumerate(text.splitlines(), 1):
        if found := _HEADER.match(line):
            table = _parts(found[1])
            yield table, number
        elif found := _KEY.match(line):
            yield (*table, *_parts(found[1])), number


def _parts(key: str) -> KeyPath:
    return tuple(part.strip(" \"'") for part in key.split("."))


def _key(document: Document, told: str) -> KeyPath:
    """The key of a problem as `settings` tells it, `FILE: KEY: WORDS`."""
    return tuple(told.removeprefix(f"{document.name}: ").partition(": ")[0].split("."))


def _with_line(document: Document, told: str) -> str:
    """The same, with the line of its key."""
    words = told.removeprefix(f"{document.name}: ").partition(": ")[2]
    return document.problem(_key(document, told), words) if words else told


# -- units ---------------------------------------------------------------------------------------------------

_MEASURED: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z%]+)\s*")
_UNITS: Final[Mapping[str, Mapping[str, float]]] = {
    "numbers in seconds": {
        "ms": 0.001,
        **dict.fromkeys(("s", "sec", "second", "seconds"), 1),
        **dict.fromkeys(("m", "min", "minute", "minutes"), 60),
        **dict.fromkeys(("h", "hour", "hours"), 3600),
        **dict.fromkeys(("d", "day", "days"), 86400),
        **dict.fromkeys(("w", "week", "weeks"), 604800),
    },
    "numbers in bytes": {
        **dict.fromkeys(("b", "by", "bytes"), 1),
        **dict.fromkeys(("k", "kb"), 1000),
        "mb": 1_000_000,
        "kib": 1024,
        "mib": 1_048_576,
    },
    "a share from 0 to 1": {"%": 0.01, "percent": 0.01},
}


# The objectives that are lengths of time.
_SECONDS: Final = frozenset({"window", "context_duration", "artifact_age"})


def _in_other_units(values: Mapping[str, Any], path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """The limits that are written with a unit, as (key, what it is and how to write it)."""
    for name, value in values.items():
        here = (*path, name)
        if isinstance(value, Mapping):
            yield from _in_other_units(value, here)
        elif here[0] == "limits" and isinstance(value, str) and name != "source":
            found = _MEASURED.fullmatch(value)
            if found:
                yield here, _as_number(here, value, float(found[1]), found[2].lower())


def _as_number(path: KeyPath, value: str, number: float, unit: str) -> str:
    wanted = _unit_of(path)
    factor = _UNITS.get(wanted, {}).get(unit)
    if factor is None:
        wanted = wanted.removeprefix("numbers in ")
        return f"{value!r} cannot be a limit in {wanted}; write a number of {wanted}, without a unit"
    return f"{value!r} has a unit, and limits are {wanted}; write {number * factor:.12g}"


def _unit_of(path: KeyPath) -> str:
    """What the number of a limit's key counts; docs/settings.md says the same."""
    last = str(path[-1])
    if "promises" in path:
        return "numbers in seconds"
    if last.endswith("_ratio"):
        return "a share from 0 to 1"
    if last == "payload_size" or "objectives" not in path:
        return "numbers in bytes"
    return "numbers in seconds" if last in _SECONDS else "requests"
