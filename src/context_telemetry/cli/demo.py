"""`demo`: runs the rehearsal's sample project and shows what it left, by the screens of every project."""

from __future__ import annotations

import shutil
from pathlib import Path

from rich.rule import Rule
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

    console.print(Rule("context-telemetry status", align="left"))
    console.print(status_screen.screen(status_screen.look(place, None)))
    console.print(Rule("context-telemetry traces --outcome degraded", align="left"))
    console.print(traces.table(found))
    if found:
        # The call with most to it tells most as a tree.
        richest = max((history.trace(call.trace_id) for call in found), key=len)
        console.print(Rule(f"context-telemetry trace {richest[0].trace_id[: text.SHOWN_ID]}", align="left"))
        console.print(traces.tree(richest))

    seen = {reason.reason for reason in history.reasons()}
    missed = [fault.name for fault in done.faults if not set(fault.reasons) <= seen]
    if missed:
        console.print(Text(f"not seen: {', '.join(missed)}", "red"))
    if keep:
        console.print(Rule("look into it", align="left"))
        console.print(Text(f"cd {done.project}\nexport CONTEXT_TELEMETRY_STATE_DIR={done.state_dir}"))
    else:
        shutil.rmtree(done.folder, ignore_errors=True)
    return 1 if missed else 0
