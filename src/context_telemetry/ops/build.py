"""Builds the operations package into a folder: all of it or nothing, and nothing that somebody else wrote.

What is written is the generators' business. A listing with a digest of each file tells ours from others', and what
was edited by hand from what was not.
"""

from __future__ import annotations

import codecs
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

from context_telemetry.ops import (
    alert_routes,
    alert_tests,
    alerts,
    collector,
    dashboards,
    inputs,
    owners,
    runbooks,
    series_names,
    support,
)
from context_telemetry.ops.inputs import LIMITS_FILES, Inputs

GENERATORS: Final[tuple[Callable[[Inputs], Mapping[str, str]], ...]] = (
    collector.files,
    alerts.files,
    alert_tests.files,
    alert_routes.files,
    dashboards.files,
    runbooks.files,
    support.files,
)
"""Each gives texts by relative path."""

LISTING: Final = ".ops-build.json"
_STAGE: Final = ".ops-build.new"
_PLAN: Final = "plan.json"
_FORMAT: Final = 1


class BuildError(Exception):
    """Nothing was written. Each of ``problems`` names a file, what is in the way, and what to do."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True)
class Built:
    """What a build did, as relative paths."""

    files: tuple[str, ...]
    written: tuple[str, ...]
    removed: tuple[str, ...]
    kept: tuple[str, ...] = ()
    """No longer generated, and edited by hand: left where they are."""


# -- what is built -------------------------------------------------------------------------------------------


def generate(what: Inputs) -> dict[str, str]:
    """Every file of the package, path to text, and the inputs among them. Raises `BuildError`."""
    made: dict[str, str] = {}
    for generator in GENERATORS:
        files = generator(what)
        twice = sorted(set(files) & set(made))
        if twice:
            raise BuildError(
                [f"{path}: two generators write it; one is {generator.__module__}" for path in twice]
            )
        made.update(files)
    made.update(what.files)
    problems = _inconsistent(what, made)
    if problems:
        raise BuildError(problems)
    return dict(sorted(made.items()))


def _inconsistent(what: Inputs, made: Mapping[str, str]) -> list[str]:
    """What does not fit together: alerts without a runbook or an owner, expressions about series that nobody makes."""
    problems = []
    for alert in alerts.all_alerts(what.limits.objectives):
        if f"runbooks/{alert.name}.md" not in made:
            problems.append(f"{alerts.RULES}: {alert.name} has no runbook; write runbooks/{alert.name}.md")
        if alert.component not in owners.Components.model_fields:
            problems.append(f"{alerts.RULES}: {alert.name}: there is no component {alert.component}")
    rules = alerts.rules(what)
    read = {
        f"{alerts.RULES}: {rule.get('alert') or rule['record']}": rule["expr"]
        for group in rules["groups"]
        for rule in group["rules"]
    }
    for shown in dashboards.dashboards(what):
        for panel in shown.panels:
            for number, query in enumerate(panel.queries, 1):
                read[f"dashboards: {shown.name}: {panel.name}: query {number}"] = query.expression
    return problems + series_names.unknown(read, series_names.recorded(rules))


def inputs_of(folder: Path, owners_file: Path | None, limits_file: Path | None) -> Inputs:
    """The inputs that are named; else those that lie in the folder, from an earlier build; else the defaults.

    Raises `DocumentError` with every problem of both.
    """
    there = folder / owners.FILE
    chosen = owners_file or (there if there.is_file() else None)
    limits = limits_file
    if limits is None:
        found = [folder / name for name in LIMITS_FILES if (folder / name).is_file()]
        if len(found) > 1:
            raise BuildError([f"{found[1]}: {found[0].name} is there, too; keep one of them"])
        limits = found[0] if found else None
    return inputs.load(chosen, limits)


# -- writing it ----------------------------------------------------------------------------------------------


def build(
    folder: Path, owners_file: Path | None = None, limits_file: Path | None = None, *, force: bool = False
) -> Built:
    """Write the package below ``folder``, which is made where it is missing.

    Raises `DocumentError` for wrong inputs and `BuildError` for what is in the way; then nothing has been written. With
    ``force`` files that were edited by hand, or are somebody else's, are written over. A build that was interrupted
    is finished or undone by the next.
    """
    made_here = not folder.exists()
    if not made_here and not folder.is_dir():
        raise BuildError([f"{folder}: is a file; name a folder"])
    try:
        if interrupted(folder):  # first, for it may have brought the inputs that now lie there
            with _alone(folder):
                recover(folder)
    except OSError as error:
        raise _unwritable(folder, error) from None
    # Before anything is made: wrong inputs must not leave an empty folder.
    what = inputs_of(folder, owners_file, limits_file)
    texts = generate(what)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            recover(folder)
            plan = _planned(folder, texts, force=force)
            _stage(folder, plan, texts)
            _move(folder)
    except OSError as error:
        if not _decided(folder):
            shutil.rmtree(folder / _STAGE, ignore_errors=True)
        if made_here and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        raise _unwritable(folder, error) from None
    return Built(tuple(texts), tuple(plan.write), tuple(plan.remove), tuple(plan.keep))


def _unwritable(folder: Path, error: OSError) -> BuildError:
    why = (error.strerror or type(error).__name__).lower()
    return BuildError([f"{error.filename or folder}: cannot be written: {why}"])


@dataclass(frozen=True)
class _Plan:
    """What is to be done in a folder, as relative paths."""

    write: list[str] = field(default_factory=list)
    remove: list[str] = field(default_factory=list)
    keep: list[str] = field(default_factory=list)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two builds of one folder go one after the other."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def digest(text: str) -> str:
    """How the listing tells whether a file is as it was written."""
    return hashlib.sha256(text.encode()).hexdigest()


def listed(folder: Path) -> dict[str, str]:
    """The files that an earlier build wrote, with their digests; none where there was none. Raises `BuildError`."""
    path = folder / LISTING
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        content = None
    files = content.get("files") if isinstance(content, dict) and content.get("version") == _FORMAT else None
    if not isinstance(files, dict) or not all(
        _below(name) and isinstance(files[name], str) for name in files
    ):
        raise BuildError([f"{path}: is no listing of this release; delete it, and build with --force"])
    return files


def _below(path: str) -> bool:
    """Whether a relative path stays below the folder: a listing is a file that anybody can write."""
    parts = PurePosixPath(path)
    return not parts.is_absolute() and ".." not in parts.parts


def _planned(folder: Path, texts: Mapping[str, str], *, force: bool) -> _Plan:
    before, plan, problems = listed(folder), _Plan(), []
    for path, text in texts.items():
        found = current(folder / path)
        if found == digest(text):
            continue
        blocked = next(
            (p for p in _parents(path) if (folder / p).exists() and not (folder / p).is_dir()), None
        )
        if blocked is not None or (folder / path).is_dir():
            problems.append(f"{folder / (blocked or path)}: is in the way of {path}; move it elsewhere")
        elif found is not None and not force and before.get(path) != found:
            how = "was edited by hand" if path in before else "is not from `ops build`"
            problems.append(f"{folder / path}: {how}; move it elsewhere, or write over it with --force")
        else:
            plan.write.append(path)
    if problems:
        raise BuildError(problems)
    for path, was in before.items():
        found = current(folder / path)
        if path not in texts and found is not None:
            (plan.remove if found == was else plan.keep).append(path)
    return plan


def _parents(path: str) -> list[str]:
    return [str(parent) for parent in PurePosixPath(path).parents if str(parent) != "."]


def current(path: Path) -> str | None:
    """The digest of the text that is there, however an editor or git marks and ends its lines; None where none is."""
    try:
        text = path.read_bytes().removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n")
        return hashlib.sha256(text).hexdigest()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None


def _stage(folder: Path, plan: _Plan, texts: Mapping[str, str]) -> None:
    """Write all beside, then the plan: from that on the build is decided, and is finished whatever happens."""
    stage = folder / _STAGE
    for path in plan.write:
        _write(stage / path, texts[path])
    listing = {"version": _FORMAT, "files": {path: digest(text) for path, text in texts.items()}}
    _write(stage / LISTING, json.dumps(listing, indent=1) + "\n")
    steps = json.dumps({"write": [*plan.write, LISTING], "remove": plan.remove})
    _write(stage / f"{_PLAN}.part", steps)
    os.replace(stage / f"{_PLAN}.part", stage / _PLAN)
    _settle(stage)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _settle(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _move(folder: Path) -> None:
    """Do what the plan says; again and again comes to the same."""
    stage = folder / _STAGE
    plan = json.loads((stage / _PLAN).read_text(encoding="utf-8"))
    for path in plan["write"]:
        if (stage / path).exists():  # not yet moved
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            os.replace(stage / path, folder / path)
    for path in plan["remove"]:
        (folder / path).unlink(missing_ok=True)
        for parent in _parents(path):
            with_nothing = folder / parent
            if with_nothing.is_dir() and not any(with_nothing.iterdir()):
                with_nothing.rmdir()
    _settle(folder)
    shutil.rmtree(stage)


def _decided(folder: Path) -> bool:
    return (folder / _STAGE / _PLAN).exists()


def interrupted(folder: Path) -> bool:
    """Whether a build of this folder was interrupted; the next one finishes or undoes it."""
    return (folder / _STAGE).exists()


def recover(folder: Path) -> None:
    """Finish a build that was decided; undo one that was not."""
    if _decided(folder):
        _move(folder)
    else:
        shutil.rmtree(folder / _STAGE, ignore_errors=True)
