"""`ops build` and `ops check`: what they say on a screen. What they do is in `context_telemetry.ops`."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from context_telemetry.cli import interrupts

OK, WRONG, USAGE = 0, 1, 2

app = typer.Typer(
    no_args_is_help=True,
    help="Collector, alerts, dashboards and runbooks, made from your owners and limits.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _path(given: str) -> Path:
    """A path that was named: an empty one, as of a variable that is not set, would be the folder that one is in."""
    if not given:
        raise typer.BadParameter("is empty: name a path, or . for this folder")
    return Path(given)


@app.command()
def build(
    directory: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="The folder that is written, or written anew.", parser=_path),
    ],
    owners: Annotated[
        Path | None,
        typer.Option(
            "--owners",
            metavar="FILE",
            help="Who owns what.",
            show_default="DIR/owners.yaml, else the launch's roles",
            parser=_path,
        ),
    ] = None,
    limits: Annotated[
        Path | None,
        typer.Option(
            "--limits",
            metavar="FILE",
            help="A context-telemetry.toml with [limits], or a YAML of the same.",
            show_default="DIR/limits.toml, else the published limits",
            parser=_path,
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Write over files that were edited by hand, or are others'.")
    ] = False,
) -> None:
    """Write collector/, alerts/, dashboards/, runbooks/ and owners.yaml: all of it, or nothing.

    Exit 0 written, 1 nothing written, 2 wrong usage, or a file that is not there.
    """
    from context_telemetry.ops import build as building
    from context_telemetry.ops.documents import DocumentError

    for given in (owners, limits):
        if given is not None and not given.exists():
            _stop((f"{given}: there is no such file; correct the path",), USAGE)
    built = None

    def left() -> str:
        if built is not None:
            return "everything is written"
        half = f"it was writing: `context-telemetry ops build {directory}` finishes or undoes that"
        return half if building.interrupted(directory) else "nothing was written"

    interrupts.leaves(left)
    try:
        built = building.build(directory, owners, limits, force=force)
        unfilled = building.inputs_of(directory, None, None).owners.unfilled()
    except (DocumentError, building.BuildError) as error:
        _stop(error.problems)
    parts = Counter(path.partition("/")[0] for path in built.files if "/" in path)
    told = ", ".join(f"{count} in {part}/" for part, count in sorted(parts.items()))
    changed = f"{len(built.written)} written" + (f", {len(built.removed)} removed" if built.removed else "")
    typer.echo(f"{directory}: {len(built.files)} files ({told}); {changed}")
    for path in built.kept:
        typer.echo(f"{directory / path}: is no longer made, and was edited by hand: it stays")
    if unfilled:
        typer.echo(
            f"owners.yaml: {len(unfilled)} not filled in; `context-telemetry ops check {directory}` lists them"
        )


@app.command()
def check(
    path: Annotated[
        Path,
        typer.Argument(metavar="PATH", help="A folder that was built, or an owners.yaml.", parser=_path),
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document on stdout, and nothing else.")
    ] = False,
) -> None:
    """Whether owners are filled in, files as built, rules and routes accepted.

    Exit 0 yes, 1 no, 2 wrong usage, or a path that is not there.
    """
    from dataclasses import asdict

    from context_telemetry.cli import checks, text
    from context_telemetry.ops import check as checking

    if not path.exists():
        _stop((f"{path}: is not there; `context-telemetry ops build {path}` makes it",), USAGE)
    try:
        looked = checking.check(path)
    except (checking.DocumentError, checking.BuildError) as error:
        _stop(error.problems)
    wrong = any(each.state == "wrong" for each in looked)
    if as_json:
        typer.echo(json.dumps({"checks": [asdict(each) for each in looked], "ok": not wrong}, indent=2))
    else:
        rows = [checks.Check(each.section, each.name, each.state, each.found, each.advice) for each in looked]
        text.console().print(checks.table(rows))
    raise typer.Exit(WRONG if wrong else OK)


def _stop(problems: tuple[str, ...], code: int = WRONG) -> NoReturn:
    for problem in problems:
        print(f"context-telemetry: {problem}", file=sys.stderr)
    raise typer.Exit(code)
