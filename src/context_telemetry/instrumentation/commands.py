"""The `dft` command line as an entry: one `command.run` per invocation of a command that serves context.

Commands that go on serving (`serve`, `mcp serve`, `chat`, `playground`) are no entries: what they serve is. Of what was
typed only the command's name is looked at and exported, from a closed list; never an argument.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import propagate
from opentelemetry.context import Context
from opentelemetry.trace import get_current_span

from context_telemetry.conventions import names
from context_telemetry.instrumentation.hooks import Hook
from context_telemetry.instrumentation.tools import says_something, telling_code_of
from context_telemetry.observe import failsafe, project, recorder
from context_telemetry.observe.observed import tap
from context_telemetry.observe.operation import Operation, current, error_class
from context_telemetry.observe.reading import Call
from context_telemetry.observe.surface import entry_surface
from context_telemetry.settings import find_project_root

_PROJECT_OPTION, _PROJECT_VARIABLE = "--project-dir", "DFT_PROJECT_DIR"
_INTERRUPTED = 130
# How a command says that it ends, by the names that click and Typer (which brings a click of its own) both have.
_ENDS = frozenset({"Exit", "SystemExit", "Abort"})
_MAX_CHAIN = 8
_COMMAND, _ERROR, _UNKNOWN = "command.run", "error", "_OTHER"
_MAIN = "dataface.cli.main"


def command_name(group: Any, typed: Sequence[str]) -> str | None:
    """The name of the command that ``typed`` asks of the click ``group``, if it is one that serves context."""
    commands: Any = getattr(group, "commands", None)
    if not typed or not isinstance(commands, Mapping):
        return None
    first, *rest = typed
    below: Any = getattr(commands.get(first), "commands", ())
    second = next((word for word in rest if word in below), None)
    name = first if second is None else f"{first} {second}"
    return name if name in names.COMMANDS else None


def exit_code(error: BaseException | None) -> int:
    """The exit code that the process has when a command ends with ``error``."""
    if isinstance(error, KeyboardInterrupt):
        return _INTERRUPTED
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    code = getattr(error, "exit_code", None)
    return code if isinstance(code, int) else int(error is not None)


def environment_context(environ: Mapping[str, str] = os.environ) -> Context | None:
    """The context that the caller of this process put into its environment, None without one.

    As OpenTelemetry's "Environment Variables as Context Propagation Carriers" has it: each field of the propagators in
    upper case (`TRACEPARENT`, `TRACESTATE`, `BAGGAGE`). A span that is current in this process comes first.
    """
    if get_current_span().get_span_context().is_valid:
        return None
    fields = propagate.get_global_textmap().fields
    carrier = {
        field: environ[name] for field in fields if (name := field.upper().replace("-", "_")) in environ
    }
    # Onto what is current here: without it, the propagators begin with an empty context.
    return propagate.extract(carrier, otel_context.get_current()) if carrier else None


def _wrap_invoke(invoke: Any) -> Any:
    """Around the root group's `invoke`: a usage error of a command is an invocation of it too."""

    @functools.wraps(invoke)
    def observed(self: Any, ctx: Any, *args: Any, **kwargs: Any) -> Any:
        op = _begin(self, ctx)
        if op is None:
            return invoke(self, ctx, *args, **kwargs)
        op.attach()
        failure: BaseException | None = None
        try:
            return invoke(self, ctx, *args, **kwargs)
        except BaseException as error:
            failure = error
            raise
        finally:
            _end(op, failure)
            op.detach()

    return observed


def _wrap_any_invoke(invoke: Any) -> Any:
    """Around the `invoke` of every group of Typer's: the root group of the module that runs as a script is seen."""
    observed = _wrap_invoke(invoke)

    @functools.wraps(invoke)
    def invoked(self: Any, *args: Any, **kwargs: Any) -> Any:
        script = getattr(sys.modules["__main__"], "__spec__", None)
        is_root = type(self).__module__ == "__main__" and getattr(script, "name", None) == _MAIN
        return (observed if is_root else invoke)(self, *args, **kwargs)

    return invoked


def _begin(group: Any, ctx: Any) -> Operation | None:
    try:
        # click up to 8.1 calls it otherwise, and 8.2 warns of that.
        held = getattr(ctx, "_protected_args", None)
        typed = [*(getattr(ctx, "protected_args", ()) if held is None else held), *ctx.args]
        name = command_name(group, typed)
        if name is None or not set(ctx.help_option_names).isdisjoint(typed):
            return None
        # Where telemetry goes hangs on the project, and the span starts before Dataface opens one.
        project.opened(_project_root(typed))
        if recorder.heard() is None:
            return None
        context = environment_context()
        return Operation(
            _COMMAND,
            {names.DATAFACE_COMMAND_NAME: name},
            span_name=f"dft {name}",
            surface=entry_surface("cli", context),
            context=context,
        )
    except Exception as error:
        failsafe.caught("command", error)
        return None


def _project_root(typed: Sequence[str]) -> Path | None:
    """The project that is named, found as commands find theirs; None: the one around the working directory."""
    named = os.environ.get(_PROJECT_VARIABLE)
    for word, following in zip(typed, [*typed[1:], ""], strict=True):
        if word == _PROJECT_OPTION:
            named = following
        elif word.startswith(f"{_PROJECT_OPTION}="):
            named = word.partition("=")[2]
    if not named:
        return None
    folder = Path(named)
    return find_project_root(folder) or folder.resolve()


def _end(op: Operation, error: BaseException | None) -> None:
    try:
        code = exit_code(error)
        op.attributes[names.PROCESS_EXIT_CODE] = code
        if code and error is not None:
            told = op.notes.get("told") if type(error).__name__ in _ENDS else None
            op.failed(*(told or _class_and_code(error)))
    except Exception as problem:
        failsafe.caught("command", problem)
    op.finish()


def _class_and_code(error: BaseException | None) -> tuple[str, str | None]:
    """What a command failed of: an exception that only ends it stands for the one that it handled then, if there is."""
    for _ in range(_MAX_CHAIN):
        if error is None or type(error).__name__ not in _ENDS:
            break
        error = error.__cause__ or error.__context__  # also one that it was raised `from None` of
    else:
        error = None
    return (_UNKNOWN, None) if error is None else (error_class(error), recorder.error_code(error))


# -- what a command tells of its failure -----------------------------------------------------------
#
# A command prints structured errors and ends: their codes are in no exception. It prints other exceptions as text.


def _tell(errors: Any) -> None:
    """Keep the first code, with the class of what failed inside with it; without one, a code is the type too."""
    op = current()
    if op is None or op.name != _COMMAND or "told" in op.notes:
        return
    code = telling_code_of([each for each in errors or () if getattr(each, "level", _ERROR) == _ERROR], op)
    if code is not None:
        inner_type, inner_code = op.inner_failure or (_UNKNOWN, None)
        error_type = inner_type if inner_code == code else _UNKNOWN
        if error_type == _UNKNOWN and says_something(code):
            error_type = code
        op.notes["told"] = (error_type, code)


def _tap_errors(call: Call) -> None:
    if call.argument("severity") in (None, _ERROR):
        _tell(call.argument("errs"))


def _tap_diagnostics(call: Call) -> None:
    _tell(call.argument("diags"))


def _tap_results(call: Call) -> None:
    """All of them, for as JSON they are printed otherwise."""
    _tell([error for result in call.argument("results") for error in result.errors])


def _tap_rendered(call: Call) -> None:
    """Whatever one face raises, its command prints as text and goes on to the next; structured errors come later."""
    op, error = current(), call.error
    if op is None or op.name != _COMMAND or not isinstance(error, Exception):
        return
    if type(error).__name__ not in _ENDS and not isinstance(getattr(error, "errors", None), list):
        op.notes.setdefault("told", _class_and_code(error))


def _printed(target: str, tapped: Any, parameter: str, *, since: str, until: str | None = None) -> Hook:
    return Hook(
        "dataface.cli._error_format",
        target,
        tap(tapped),
        parameters=(parameter,),
        since=since,
        until=until,
    )


HOOKS = (
    # The class of the root command is Dataface's own, so nobody else's commands pass here.
    Hook(_MAIN, "app.info.cls.invoke", _wrap_invoke, parameters=("ctx",)),
    # `python -m dataface.cli.main` runs the module and imports it nowhere. The row is for such a process alone.
    *(
        (Hook("typer.core", "TyperGroup.invoke", _wrap_any_invoke, parameters=("ctx",)),)
        if any(word.endswith(_MAIN) for word in sys.orig_argv)
        else ()
    ),
    _printed("print_structured_errors", _tap_errors, "errs", since="0.1.2", until="0.2.0"),
    _printed("print_diagnostics", _tap_diagnostics, "diags", since="0.3.0"),
    Hook("dataface.cli.commands.render", "render_command", tap(_tap_rendered)),
    *(
        Hook(f"dataface.cli.commands.{name}", "_emit", tap(_tap_results), parameters=("results",))
        for name in ("validate", "describe")
    ),
)
