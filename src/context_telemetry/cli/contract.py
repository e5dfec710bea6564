"""`contract snapshot`, `contract diff` and `contract check`: what they ask, and how they end.

What a change is and whom it hits is in `context_telemetry.contract`; how it reads on a screen in `contract_screen`.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer

from context_telemetry.cli import interrupts
from context_telemetry.cli.served_uses import recorded_uses

if TYPE_CHECKING:
    from context_telemetry.cli.place import Place
    from context_telemetry.cli.served_tools import Listed
    from context_telemetry.contract.document import Contract
    from context_telemetry.contract.snapshot import Snapshot

OK, BROKEN, USAGE, UNKNOWN = 0, 1, 2, 3

app = typer.Typer(
    no_args_is_help=True,
    help="What consumers rely on, what changed, and who is hit.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Project = Annotated[
    Path | None,
    typer.Option("--project", help="Folder of the Dataface project.", show_default="from here upwards"),
]
StateDir = Annotated[
    Path | None, typer.Option("--state-dir", help="Where local files are kept.", show_default="per user")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, and nothing else.")]
AsMarkdown = Annotated[bool, typer.Option("--markdown", help="Markdown, for a pull request.")]
Since = Annotated[
    str,
    typer.Option(help="How far back uses are counted: a number with s, min, h, d or w behind it; or all."),
]
NoTools = Annotated[bool, typer.Option("--no-tools", help="Do not ask the MCP server for its tools.")]

# Up to this release, an agent's prompt describes the whole catalogue. Later ones name its sources alone.
_TELLS_ALL: Final = ((0, 2, 0), "get_schema_context")


@app.command()
def snapshot(
    project: Project = None,
    without: Annotated[
        list[str] | None,
        typer.Option(
            "--without",
            metavar="NAME",
            help="Leave out what cannot be read from here: a source, a face (by its path), or `manifest`.",
        ),
    ] = None,
    no_tools: NoTools = False,
    as_json: AsJson = False,
) -> None:
    """Accept what is served now: write context-contract.yaml and .parquet. Exit 0 written, 2 usage, 3 not written."""
    from context_telemetry.cli import contract_screen as screen
    from context_telemetry.contract import catalogue, file
    from context_telemetry.contract.document import Contract

    interrupts.leaves("nothing is written")
    place = _place(project, None)

    def unknown(problems: Sequence[str]) -> NoReturn:
        if as_json:
            screen.show(screen.snapshot_problems(place, problems))
        _stop(problems, UNKNOWN)

    with _told(unknown), catalogue.connect() as connection:
        former = file.read_contract(place.root) if (place.root / file.NAME).exists() else Contract()
        left_out = frozenset(without or ())
        now, listed = _look(connection, place, no_tools=no_tools, without=left_out)
        if strangers := left_out - _may_be_left_out(now):
            words = "is no source in dataface.yml, and no face or manifest that cannot be read"
            _stop([f"--without {name}: {words}" for name in sorted(strangers)], USAGE)
        if lost := list(_lost(former, now, left_out)):
            unknown(lost)
        made = _kept(file.contract_of(now, _prompts(former), former.exceptions), former)
        interrupts.leaves("it was writing: run it again")
        changed = file.write(place.root, now, made)
        if as_json:
            screen.show(screen.snapshot_document(place, now, made, listed, changed))
        else:
            for line in screen.snapshot_lines(now, made, listed, changed):
                typer.echo(line)


MANIFEST: Final = "manifest"
"""What `--without` calls the manifest."""


def _may_be_left_out(now: Snapshot) -> set[str]:
    names = {config.name for config in now.configs.configs} | {use.consumer.name for use in now.unreadable}
    return names | ({MANIFEST} if now.declared is None else set())


def _lost(former: Contract, now: Snapshot, left_out: frozenset[str]) -> Iterator[str]:
    """What the contract would lose because it cannot be read now; of each what to do."""
    from context_telemetry.cli import contract_screen as screen
    from context_telemetry.cli import text
    from context_telemetry.contract.document import dotted
    from context_telemetry.contract.file import NAME

    for state in now.unread:
        if state.name not in left_out:
            yield (
                f"{screen.where(now.root, state.name)}: cannot be read: {state.unread}; nothing is written. "
                f"Make it readable, or leave it out: --without {state.name}"
            )
    if former.declared and now.declared is None and MANIFEST not in left_out:
        tables = text.counted(len(former.declared), "table")
        yield (
            f"{screen.manifest_unknown(now, former)}; nothing is written. {NAME} has what it declares of {tables} "
            f"(tables.{dotted(former.declared[0])}.model); to accept without that: --without {MANIFEST}"
        )
    for use in now.unreadable:
        name = use.consumer.name
        if use.consumer in former.read and name not in left_out:
            yield (
                f"{use.why}; nothing is written. {NAME} has what {name} reads (consumers.{name}); repair it, or accept "
                f"without that: --without {name}"
            )


@app.command()
def diff(
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="REF|FILE",
            help="A contract's file, or a git revision that has one.",
            show_default="context-contract.yaml",
        ),
    ] = None,
    project: Project = None,
    state_dir: StateDir = None,
    since: Since = "7d",
    no_tools: NoTools = False,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
) -> None:
    """Every change since the contract was accepted, and who is hit. Exit 0 told, 2 usage, 3 contract unreadable."""
    _compare(against, project, state_dir, since, no_tools, as_json, as_markdown, every=True)


@app.command()
def check(
    project: Project = None,
    state_dir: StateDir = None,
    since: Since = "7d",
    no_tools: NoTools = False,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
) -> None:
    """Whether the contract holds. Exit 0 yes, 1 breaking changes, 2 usage, 3 contract, source or face unreadable."""
    _compare(None, project, state_dir, since, no_tools, as_json, as_markdown, every=False)


def _compare(
    against: str | None,
    project: Path | None,
    state_dir: Path | None,
    since: str,
    no_tools: bool,
    as_json: bool,
    as_markdown: bool,
    *,
    every: bool,
) -> NoReturn:
    from context_telemetry.cli import contract_screen as screen
    from context_telemetry.contract import catalogue, file
    from context_telemetry.contract.judgement import judge

    if as_json and as_markdown:
        _stop(["--json and --markdown exclude each other"], USAGE)
    seconds = _window(since)
    place = _place(project, state_dir)

    def unknown(problems: Sequence[str]) -> NoReturn:
        if as_json:
            screen.show(screen.problems(place, against or file.NAME, seconds, problems))
        _stop(problems, UNKNOWN)

    with _told(unknown), catalogue.connect() as connection:
        path = Path(against) if against else place.root / file.NAME
        if against and not path.is_file():
            accepted = file.read_at(connection, place.root, against)
        else:
            accepted = file.read(connection, place.root, path)
        now, listed = _look(connection, place, no_tools=no_tools, without=accepted.left_out)
        recorded = recorded_uses(place.folder, seconds)
        report = judge(accepted, now, date.today(), recorded)
        code = OK if every else report.exit_code
        if as_json:
            screen.show(screen.document(place, report, listed, recorded, seconds, code))
        elif as_markdown:
            print(screen.markdown(report, listed, recorded, every=every), end="")
        else:
            screen.show_report(place, report, listed, recorded, every=every)
        # On a terminal the screen has said it. What goes elsewhere, a log or a summary, may be read by nobody.
        if as_json or as_markdown or not sys.stdout.isatty():
            for line in screen.expired(report) if as_json else screen.troubles(report):
                _tell(line)
    raise typer.Exit(code)


def _look(
    connection: Any, place: Place, *, no_tools: bool, without: frozenset[str] = frozenset()
) -> tuple[Snapshot, Listed]:
    from context_telemetry.cli import progress, served_tools, warehouse_connection
    from context_telemetry.contract.snapshot import take

    with progress.shown() as tell:
        listed = served_tools.Listed(why="not asked (--no-tools)")
        if not no_tools:
            tell("MCP tools")
            listed = served_tools.ask(place.root)
        now = take(
            connection,
            place.root,
            tools=listed.tools,
            resources=listed.resources,
            without=without,
            fetch=warehouse_connection.fetch_for(place.root),
            progress=tell,
        )
    if not no_tools and listed.why:
        _tell(f"tools and resources are not known: {listed.why}")
    return now, listed


def _kept(made: Contract, former: Contract) -> Contract:
    """Tools and resources that nobody could ask for stay as they were accepted: unknown is not removed."""
    from dataclasses import replace

    return replace(
        made,
        tools=former.tools if made.tools is None else made.tools,
        resources=former.resources if made.resources is None else made.resources,
    )


def _prompts(former: Contract) -> tuple[str, ...]:
    """Those that a person wrote, and the one that this release of Dataface has."""
    newest, name = _TELLS_ALL
    try:
        release = importlib.metadata.version("dataface")
    except importlib.metadata.PackageNotFoundError:
        return former.prompts
    numbers = tuple(int(part) for part in release.split(".")[:3] if part.isdecimal())
    return tuple(sorted({*former.prompts, *([name] if numbers <= newest else [])}))


@contextlib.contextmanager
def _told(unknown: Callable[[Sequence[str]], NoReturn]) -> Iterator[None]:
    """What makes a comparison impossible ends the command, by ``unknown``."""
    from context_telemetry.contract.catalogue import CatalogueError
    from context_telemetry.contract.document import ContractError
    from context_telemetry.contract.project_files import ProjectFileError

    try:
        yield
    except ContractError as error:
        unknown(error.problems)
    except (CatalogueError, ProjectFileError) as error:
        unknown([str(error)])


def _place(project: Path | None, state_dir: Path | None) -> Place:
    from context_telemetry.cli import place
    from context_telemetry.settings import SettingsError

    try:
        return place.find(project, state_dir)
    except (SettingsError, place.NoProject) as error:
        _stop([str(error)], USAGE)


def _window(words: str) -> float | None:
    from context_telemetry.cli import text

    try:
        return text.window(words)
    except ValueError as error:
        _stop([f"--since {error}"], USAGE)


def _tell(message: str) -> None:
    print(f"context-telemetry: {message}", file=sys.stderr)


def _stop(problems: Sequence[str], code: int) -> NoReturn:
    for problem in problems:
        _tell(problem)
    raise typer.Exit(code)
