"""Looks at a built folder, or at an owners.yaml alone: what is not filled in, not as built, or not accepted.

Prometheus' and Alertmanager's own checkers are asked where they are installed. Nothing is changed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from context_telemetry.ops import alert_routes, alert_tests, alerts, build, owners
from context_telemetry.ops.build import BuildError
from context_telemetry.ops.documents import Document, DocumentError, KeyPath, dotted, parse, read_text
from context_telemetry.ops.inputs import Inputs
from context_telemetry.ops.owners import Owners

State = Literal["ok", "note", "wrong"]

# The unit tests take a minute on two idle cores; a machine that is busy may need several.
_PATIENCE: Final = 600.0


@dataclass(frozen=True)
class Looked:
    """One thing looked at: `wrong` is to be repaired, a `note` is worth knowing."""

    section: str
    name: str
    state: State
    found: str
    advice: str = ""


def check(path: Path) -> list[Looked]:
    """Everything there is to say of a built folder, or of an owners.yaml.

    Raises `DocumentError` and `BuildError` where the path is neither, or is not there.
    """
    if not path.is_dir():
        text, name = read_text(path), str(path)
        return [*_filled(owners.loads(text, name), parse(text, name))]
    if build.interrupted(path):
        return [
            Looked(
                "files",
                str(path),
                "wrong",
                "a build was interrupted",
                f"`context-telemetry ops build {path}` finishes it",
            )
        ]
    what = build.inputs_of(path, None, None)
    document = parse(what.owners_text, str(path / owners.FILE))
    return [
        *_filled(what.owners, document),
        *_files(path, what),
        *_prometheus(path),
        *_alertmanager(path, what),
    ]


def _filled(what: Owners, document: Document) -> Iterator[Looked]:
    unfilled = what.unfilled()
    if not unfilled:
        yield Looked(
            "owners", "filled in", "ok", f"{len(what.roles)} roles, each with names and a way to reach them"
        )
    elif what.profile == "trial":
        parts: dict[KeyPath, list[str]] = {}
        for key, _ in unfilled:
            part, rest = (key[:2], key[2:]) if key[0] == "roles" else (key[:1], key[1:2])
            parts.setdefault(part, []).append(dotted(rest))
        for part, keys in parts.items():
            told = document.problem(part, ", ".join(keys))
            yield Looked("owners", "not filled in", "note", told)
        yield Looked(
            "owners", "profile", "note", "trial", "with `profile: production` each of these is an error"
        )
    else:
        yield from (Looked("owners", "filled in", "wrong", document.problem(*each)) for each in unfilled)


def _files(folder: Path, what: Inputs) -> Iterator[Looked]:
    """What is not as the inputs in the folder, and this release, would have it."""
    before, texts = build.listed(folder), build.generate(what)
    again = f"`context-telemetry ops build {folder}`"
    if not before:
        yield Looked(
            "files", "listing", "wrong", f"{folder / build.LISTING} is not there", f"{again} writes all"
        )
        return
    wrong = False
    for path, text in texts.items():
        found = build.current(folder / path)
        if found == build.digest(text):
            continue
        wrong = True
        if found is None:
            yield Looked("files", path, "wrong", "is missing", f"{again} writes it")
        elif path in before and found != before[path] and path not in what.files:
            yield Looked("files", path, "wrong", "was edited by hand", f"{again} --force writes over it")
        else:
            yield Looked("files", path, "wrong", "is out of date", f"{again} writes it anew")
    stale = [path for path in before if path not in texts and build.current(folder / path) == before[path]]
    for path in stale:
        yield Looked("files", path, "wrong", "is no longer made", f"{again} takes it away")
    if not wrong and not stale:
        yield Looked(
            "files", "up to date", "ok", f"{len(texts)} files are as the inputs in {folder} give them"
        )


# -- what others say of it -----------------------------------------------------------------------------------


def _prometheus(folder: Path) -> Iterator[Looked]:
    promtool = shutil.which("promtool")
    if promtool is None:
        yield _absent("promtool", "rules and their unit tests")
        return
    rules, tests = folder / alerts.RULES, [folder / name for name in (alert_tests.FILE, alert_tests.DAYS)]
    yield _asked("rules", [promtool, "check", "rules", "--lint=all", "--lint-fatal", str(rules)])
    yield _asked("unit tests", [promtool, "test", "rules", *map(str, tests)])


def _alertmanager(folder: Path, what: Inputs) -> Iterator[Looked]:
    if not (folder / alert_routes.MESSAGE).is_file():
        # amtool accepts routes without it.
        yield Looked(
            "alerts",
            "message",
            "wrong",
            f"{folder / alert_routes.MESSAGE} is not there: Alertmanager can write no message, and sends none",
            "keep it beside the routes",
        )
    amtool = shutil.which("amtool")
    if amtool is None:
        yield _absent("amtool", "routes")
        return
    path = folder / alert_routes.ROUTES
    configured = _asked("routes", [amtool, "check-config", str(path)])
    yield configured
    if configured.state == "wrong":
        return
    pairs = alert_routes.pairs(what.owners)
    lost = [
        f"{owner} {severity}" for owner, severity in pairs if _falls_through(amtool, path, owner, severity)
    ]
    if lost:
        yield Looked("alerts", "owners reached", "wrong", f"no route to their receiver: {', '.join(lost)}")
    else:
        yield Looked("alerts", "owners reached", "ok", f"{len(pairs)} pairs of owner and severity")


def _falls_through(amtool: str, path: Path, owner: str, severity: str) -> bool:
    asked = [amtool, "config", "routes", "test", f"--config.file={path}"]
    asked += [
        f"--verify.receivers={alert_routes.receiver(owner, severity)}",
        f"owner={owner}",
        f"severity={severity}",
    ]
    return _run(asked).returncode != 0


def _absent(tool: str, what: str) -> Looked:
    return Looked(
        "alerts", what, "note", f"{tool} is not on PATH: not checked", f"install {tool}, or check elsewhere"
    )


def _asked(name: str, command: list[str]) -> Looked:
    try:
        done = _run(command)
    except subprocess.TimeoutExpired:
        return Looked("alerts", name, "wrong", f"{Path(command[0]).name} took longer than {_PATIENCE:.0f} s")
    if done.returncode == 0:
        return Looked("alerts", name, "ok", f"accepted by {Path(command[0]).name}")
    told = (done.stdout + done.stderr).strip()
    return Looked("alerts", name, "wrong", told, f"from: {' '.join(command)}")


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, timeout=_PATIENCE, check=False, env=_environment()
    )


def _environment() -> Mapping[str, str]:
    # amtool reads a configuration of the user's, with an Alertmanager to ask in place of the file.
    return {**os.environ, "HOME": os.devnull}


__all__ = ["BuildError", "DocumentError", "Looked", "State", "check"]
