"""`contract snapshot`, `contract diff` and `contract check`: what they ask, and how they end.

What a change is and whom it hits is in `context_telemetry.contract`; how it reads on a screen in `contract_screen`.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer

from context_telemetry.cli import interrupts

if TYPE_CHECKING:
    from context_telemetry.cli.place import Place
    from context_telemetry.cli.served_tools import Listed
    from context_telemetry.contract.document import Contract
    from context_telemetry.contract.impact import Recorded
    from context_telemetry.contract.judgement import Report
    from context_telemetry.contract.model import Consumer
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
_WINDOWS: Final = {604_800.0: "this week", 86_400.0: "in the last day", 3_600.0: "in the last hour"}


@app.command()
def snapshot(
    project: Project = None,
    without: Annotated[
        list[str] | None,
        typer.Option("--without", metavar="SOURCE", help="Leave out a source that cannot be read from here."),
    ] = None,
    no_tools: NoTools = False,
    as_json: AsJson = False,
) -> None:
    """Accept what is served now: write context-contract.yaml and .parquet. Exit 0 written, 2 usage, 3 not written."""
    from context_telemetry.cli import contract_screen as screen
    from context_telemetry.contract import catalogue, file, sources
    from context_telemetry.contract.document import Contract

    interrupts.leaves("nothing is written")
    place = _place(project, None)
    with _told(), catalogue.connect() as connection:
        former = file.read_contract(place.root) if (place.root / file.NAME).exists() else Contract()
        left_out = frozenset(without or ())
        if strangers := left_out - {config.name for config in sources.sources(place.root).configs}:
            _stop([f"--without {name}: no such source in dataface.yml" for name in sorted(strangers)], USAGE)
        now, listed = _look(connection, place, no_tools=no_tools, without=left_out)
        if unread := [state for state in now.unread if state.name not in left_out]:
            _stop(
                [
                    f"{_where(place, state.name)}: cannot be read: {state.unread}; nothing is written. "
                    f"Make it readable, or leave it out: --without {state.name}"
                    for state in unread
                ],
                UNKNOWN,
            )
        made = _kept(file.contract_of(now, _prompts(former), former.exceptions), former)
        interrupts.leaves("it was writing: run it again")
        changed = file.write(place.root, now, made)
        if as_json:
            screen.show(screen.snapshot_document(place, now, made, listed, changed))
        else:
            for line in screen.snapshot_lines(now, made, listed, changed):
                typer.echo(line)


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
    """Whether the contract holds. Exit 0 yes, 1 breaking changes, 2 usage, 3 contract or source unreadable."""
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
    with _told(), catalogue.connect() as connection:
        path = Path(against) if against else place.root / file.NAME
        if against and not path.is_file():
            accepted = file.read_at(connection, place.root, against)
        else:
            accepted = file.read(connection, place.root, path)
        now, listed = _look(connection, place, no_tools=no_tools)
        recorded = recorded_uses(place, seconds)
        report = judge(accepted, now, date.today(), recorded)
        code = OK if every else report.exit_code
        if as_json:
            screen.show(screen.document(place, report, listed, recorded, seconds, code))
        elif as_markdown:
            print(screen.markdown(report, listed, recorded, every=every), end="")
        else:
            screen.show_report(place, report, listed, recorded, every=every)
        _warn(place, report, quiet=as_json)
    raise typer.Exit(code)


def _look(
    connection: Any, place: Place, *, no_tools: bool, without: frozenset[str] = frozenset()
) -> tuple[Snapshot, Listed]:
    from context_telemetry.cli import served_tools, warehouse_connection
    from context_telemetry.contract.snapshot import take

    with _progress() as tell:
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
    if now.manifest_problem:
        _tell(f"nothing is known of what dbt declares: {now.manifest_problem}")
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


class _Served(Mapping["Consumer", int]):
    """The recorded history is as large as the traffic was, and mostly nobody is hit."""

    def __init__(self, folder: Path, since: float | None) -> None:
        self._folder, self._since = folder, since

    @cached_property
    def _counts(self) -> dict[Consumer, int]:
        from context_telemetry.contract.model import Consumer
        from context_telemetry.history import History

        return {
            Consumer("face" if row.kind == "face" else "tool", row.name): row.count
            for row in History(self._folder, since=self._since).objects_served()
        }

    def __getitem__(self, consumer: Consumer) -> int:
        return self._counts[consumer]

    def __iter__(self) -> Iterator[Consumer]:
        return iter(self._counts)

    def __len__(self) -> int:
        return len(self._counts)


def recorded_uses(place: Place, seconds: float | None) -> Recorded | None:
    """How often faces and tools were served, read when somebody is hit; None where nothing was ever recorded."""
    from context_telemetry.cli import text
    from context_telemetry.contract.impact import Recorded

    if not place.folder.is_dir():
        return None
    served = _Served(place.folder, None if seconds is None else time.time() - seconds)
    if seconds is None:
        return Recorded(served, "as far as is recorded")
    return Recorded(served, _WINDOWS.get(seconds, f"in the last {text.lasting(seconds)}"))


def _warn(place: Place, report: Report, *, quiet: bool) -> None:
    """On stderr: what has to be repaired in files, with the line."""
    from context_telemetry.contract.file import NAME

    name = report.accepted.name
    for each in report.over:
        _tell(
            f"{name}:{each.line}: exceptions: {each.rule} of {each.object} was accepted until {each.until} and counts "
            "no more; renew it with a reason, or take it out"
        )
    if quiet:
        return
    for each in report.unneeded:
        if each not in report.over:
            _tell(
                f"{name}:{each.line}: exceptions: {each.rule} of {each.object} covers no change; take it out"
            )
    if not report.accepted.whole:
        _tell(
            f"{name}: {report.accepted.note}: only what consumers rely on is compared, and renames are not recognised; "
            f"write both anew and commit both{'' if name == NAME else ' there'}: context-telemetry contract snapshot"
        )
    for state in report.unread:
        whole = (report.now.catalogue.source(state.name) or state).unread is not None
        words = "cannot be read, so nothing is known of it" if whole else "cannot be read in full"
        _tell(f"{_where(place, state.name)}: {words}: {state.unread}")


def _where(place: Place, source: str) -> str:
    """`dataface.yml:2: sources.shop`."""
    from context_telemetry.contract.project_files import line_of

    for name in ("dataface.yml", "dataface.yaml"):
        path = place.root / name
        if path.is_file():
            line = line_of(path.read_text("utf-8"), "sources", source)
            return f"{name}:{line}: sources.{source}"
    return f"sources.{source}"


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """What is looked at, on stderr, where that is a terminal."""
    from rich.progress import Progress, SpinnerColumn, TextColumn

    from context_telemetry.cli import text

    columns = (SpinnerColumn(), TextColumn("looking at {task.description}"))
    console = text.console(sys.stderr)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("")
        yield lambda what: progress.update(task, description=what)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What makes a comparison impossible ends the command, with exit code 3."""
    from context_telemetry.contract.catalogue import CatalogueError
    from context_telemetry.contract.document import ContractError
    from context_telemetry.contract.project_files import ProjectFileError

    try:
        yield
    except ContractError as error:
        _stop(error.problems, UNKNOWN)
    except (CatalogueError, ProjectFileError) as error:
        _stop([str(error)], UNKNOWN)


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


def _stop(problems: Iterable[str], code: int) -> NoReturn:
    for problem in problems:
        _tell(problem)
    raise typer.Exit(code)
