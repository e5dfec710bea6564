"""`demo`: runs the rehearsal's sample project and shows what it left, by the screens of every project."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

from rich.text import Text

from context_telemetry.cli import status as status_screen
from context_telemetry.cli import text, traces
from context_telemetry.cli.place import find
from context_telemetry.history import History

_SHOWN = 8


def show(directory: Path | None, *, keep: bool) -> int:
    """Run the demo and show health, degraded calls and one trace; 0 when every fault was seen, else 1."""
    from context_telemetry.rehearsal import demo

    console = text.console(markup=True)
    done = demo.run(console, directory)
    place = find(done.project, done.state_dir)
    history = History(place.folder)
    found = traces.calls(history, traces.Filter(None, outcome="degraded", limit=_SHOWN))

    console.print(text.Title("context-telemetry status"))
    console.print(status_screen.screen(status_screen.look(place, None)))
    console.print(text.Title("context-telemetry traces --outcome degraded"))
    console.print(traces.table(found))
    if found:
        # The newest: it met what was broken last, a column that a chart needs.
        told = history.trace(found[0].trace_id)
        console.print(text.Title(f"context-telemetry trace {told[0].trace_id[: text.SHOWN_ID]}"))
        console.print(traces.tree(told, place, history))

    seen = {reason.reason for reason in history.reasons()}
    missed = [fault.name for fault in done.faults if not set(fault.reasons) <= seen]
    if missed:
        console.print(Text(f"not seen: {', '.join(missed)}", "red"))
    if keep:
        console.print(text.Title("look into it"))
        before = (
            f"cd {shlex.quote(str(done.project))} && "
            f"CONTEXT_TELEMETRY_STATE_DIR={shlex.quote(str(done.state_dir))} {demo.ourselves()}"
        )
        for command in ("status", "traces"):  # each on one line, however long: it is there to be pasted
            console.print(Text(f"{before} {command} --since 1d"), soft_wrap=True)
    else:
        shutil.rmtree(done.folder, ignore_errors=True)
    return 1 if missed else 0
