"""The commands and their options. What a command does is in its own module, imported when it runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from context_telemetry.cli import interrupts
from context_telemetry.cli.contract import app as contract
from context_telemetry.cli.ops import app as ops

OK, UNHEALTHY, USAGE, UNKNOWN = 0, 1, 2, 3

app = typer.Typer(
    cls=interrupts.Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(contract, name="contract")
app.add_typer(ops, name="ops")

Project = Annotated[
    Path | None,
    typer.Option("--project", help="Folder of the Dataface project.", show_default="from here upwards"),
]
StateDir = Annotated[
    Path | None, typer.Option("--state-dir", help="Where local files are kept.", show_default="per user")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, and nothing else.")]
_SINCE = "How far back: a number with s, min, h, d or w behind it, as 30min or 7d; or all."
Since = Annotated[str, typer.Option(help=_SINCE)]


def _version(asked: bool) -> None:
    if asked:
        version()
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", help="The version, and nothing else.", callback=_version, is_eager=True),
    ] = False,
) -> None:
    """Tells whether the context that Dataface serves is right."""


@app.command(
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "allow_interspersed_args": False,  # what follows the command's name is the command's, also -h
    }
)
def run(
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="COMMAND", help="What to run, with its arguments.", show_default=False),
    ] = None,
) -> None:
    """Run a command with observation: context-telemetry run -- dft mcp serve."""
    if not command:
        _stop("no command to run: context-telemetry run -- COMMAND...")
    from context_telemetry.pipeline.launch import run_command

    raise typer.Exit(run_command(command))


@app.command()
def status(
    project: Project = None,
    state_dir: StateDir = None,
    since: Annotated[
        str | None,
        typer.Option(help=_SINCE, show_default="the objectives' window"),
    ] = None,
    as_json: AsJson = False,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every two seconds.")] = False,
    prometheus: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Judge all that reports to this Prometheus-compatible API instead."),
    ] = None,
    namespace: Annotated[
        str | None, typer.Option(help="With --prometheus: only this Dataface project (service.namespace).")
    ] = None,
) -> None:
    """Health now, on one screen. Exit 0 healthy, 1 unhealthy, 2 wrong usage, 3 unknown; 130 ends --watch."""
    from context_telemetry.cli import status as screen

    if as_json and watch:
        _stop("--json and --watch exclude each other")
    if watch and not sys.stdout.isatty():
        _stop("--watch needs a terminal")
    asked = None if since is None else _window(since)
    if prometheus is not None:
        if since is not None and asked is None:
            _stop("--since all is for local files: with --prometheus, name a length of time")
        _fleet(prometheus, asked, namespace, project, as_json=as_json, watch=watch)
    if namespace is not None:
        _stop("--namespace belongs to --prometheus URL")
    place = _place(project, state_dir)
    seconds = asked if since is not None else place.limits.objectives.window
    if watch:
        screen.watch(place, seconds)
    raise typer.Exit(screen.once(place, seconds, as_json=as_json))


def _fleet(
    url: str,
    seconds: float | None,
    namespace: str | None,
    project: Path | None,
    *,
    as_json: bool,
    watch: bool,
) -> NoReturn:
    from context_telemetry.cli import fleet as screen
    from context_telemetry.cli import place
    from context_telemetry.health.fleet import Unreachable

    limits = _or_stop(lambda: place.limits_of(project))
    seconds = seconds or limits.objectives.window
    labels = {"service_namespace": namespace} if namespace else {}
    try:
        if watch:
            screen.watch(url, seconds, labels, limits)
        raise typer.Exit(screen.once(url, seconds, labels, limits, as_json=as_json))
    except ValueError as error:
        _stop(f"--prometheus: {error}")
    except Unreachable as error:
        print(f"context-telemetry: {error}", file=sys.stderr)
        raise typer.Exit(UNKNOWN) from None


@app.command()
def traces(
    project: Project = None,
    state_dir: StateDir = None,
    since: Since = "1d",
    outcome: Annotated[str | None, typer.Option(help="Only degraded, failed or ok ones.")] = None,
    reason: Annotated[str | None, typer.Option(help="Only those with this reason or error.")] = None,
    operation: Annotated[
        str | None, typer.Option(help="Only this operation, as tool.call, also inside of others.")
    ] = None,
    surface: Annotated[str | None, typer.Option(help="Only this surface, as mcp or dashboard.")] = None,
    client: Annotated[str | None, typer.Option(help="Only this client, as claude_code.")] = None,
    pid: Annotated[int | None, typer.Option(min=1, help="Only what this process served.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 20,
    as_json: AsJson = False,
) -> None:
    """What was asked and how it ended, newest first."""
    from context_telemetry.cli import traces as screen
    from context_telemetry.conventions import names

    for option, value, known in (
        ("--outcome", outcome, names.OUTCOMES),
        ("--reason", None if screen.is_error(reason) else reason, names.REASONS),
        ("--operation", operation, names.OPERATIONS),
        ("--surface", surface, names.SURFACES),
        ("--client", client, names.CLIENTS),
    ):
        if value is not None and value not in known:
            _stop(f"{option} {value!r} is not known; there is {', '.join(sorted(known))}")
    chosen = screen.Filter(_window(since), outcome, reason, operation, surface, client, pid, limit)
    screen.listing(_place(project, state_dir), chosen, as_json=as_json)


@app.command()
def trace(
    trace_id: Annotated[str, typer.Argument(metavar="ID", help="A trace id, or as much of it as is unique.")],
    project: Project = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """One trace as a tree."""
    from context_telemetry.cli import traces as screen
    from context_telemetry.history import TraceNotFound

    try:
        screen.one(_place(project, state_dir), trace_id, as_json=as_json)
    except TraceNotFound as error:
        _stop(str(error))


@app.command()
def replay(
    project: Project = None,
    state_dir: StateDir = None,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The Collector's OTLP/HTTP address.",
            show_default="OTEL_EXPORTER_OTLP_ENDPOINT",
        ),
    ] = None,
    since: Since = "all",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be sent, and send nothing.")
    ] = False,
    skip_refused: Annotated[
        bool, typer.Option("--skip-refused", help="Leave out what the receiver refuses, and go on.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Send recorded files to a Collector, at least once. Exit 0 all sent, 1 not all, 2 usage, 3 unreachable."""
    from context_telemetry.cli import replay as screen

    interrupts.leaves("nothing was sent")
    seconds = _window(since)
    place = _place(project, state_dir)
    raise typer.Exit(
        screen.replay(place, to, seconds, dry_run=dry_run, skip_refused=skip_refused, as_json=as_json)
    )


@app.command()
def check(
    project: Project = None,
    state_dir: StateDir = None,
    since: Annotated[str, typer.Option(help=f"How far back uses are counted. {_SINCE}")] = "7d",
    no_tools: Annotated[
        bool, typer.Option("--no-tools", help="Do not ask the MCP server for its tools.")
    ] = False,
    no_prompts: Annotated[
        bool, typer.Option("--no-prompts", help="Do not build the agent's prompt; imports no Dataface.")
    ] = False,
    every: Annotated[
        float | None,
        typer.Option(min=1, metavar="SECONDS", help="Stay, and look again so often; a line for each look."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Look at all that consumers rely on. Exit 0 all well, 1 something is wrong, 2 usage, 3 not all could be seen."""
    seconds = _window(since)
    place = _place(project, state_dir)
    from context_telemetry.cli import check as screen

    options = screen.Options(seconds, tools=not no_tools, prompts=not no_prompts)
    if every is not None:
        screen.every(place, options, every, as_json=as_json)
    raise typer.Exit(screen.once(place, options, as_json=as_json))


@app.command()
def doctor(project: Project = None, state_dir: StateDir = None, as_json: AsJson = False) -> None:
    """What is installed, observed and configured. Exit 0 all right, 1 something wrong."""
    from context_telemetry.cli import doctor as screen

    raise typer.Exit(screen.examine(project, state_dir, as_json=as_json))


@app.command()
def demo(
    directory: Annotated[Path | None, typer.Option("--dir", help="Where to put the sample project.")] = None,
    keep: Annotated[bool, typer.Option("--keep/--no-keep", help="Leave the folder to look into.")] = True,
) -> None:
    """A sample project, a real MCP client and a few faults, in under two minutes."""
    from context_telemetry.cli import demo as screen
    from context_telemetry.rehearsal.sample import RehearsalError

    interrupts.leaves("what it made so far stays")
    try:
        code = screen.show(directory, keep=keep)
    except RehearsalError as error:
        _stop(str(error))
    raise typer.Exit(code)


@app.command()
def version() -> None:
    """The version of context-telemetry."""
    from context_telemetry.conventions import names

    typer.echo(names.VERSION)


def _place(project: Path | None, state_dir: Path | None) -> Any:
    from context_telemetry.cli import place

    return _or_stop(lambda: place.find(project, state_dir))


def _window(text: str) -> float | None:
    from context_telemetry.cli import text as forms

    try:
        return forms.window(text)
    except ValueError as error:
        _stop(f"--since {error}")


def _or_stop(step: Callable[[], Any]) -> Any:
    from context_telemetry.cli.place import NoProject
    from context_telemetry.settings import SettingsError

    try:
        return step()
    except (SettingsError, NoProject) as error:
        _stop(str(error))


def _stop(message: str) -> NoReturn:
    print(f"context-telemetry: {message}", file=sys.stderr)
    raise typer.Exit(USAGE)
