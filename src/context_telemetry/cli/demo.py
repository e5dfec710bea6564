"""`demo`: runs the rehearsal's sample project and shows what it left, by the screens that every project has."""

from __future__ import annotations

from pathlib import Path

from rich.rule import Rule

from context_telemetry.cli import status as status_screen
from context_telemetry.cli import text, traces
from context_telemetry.cli.place import find
from context_telemetry.history import History

_SHOWN = 8


def show(directory: Path | None, *, keep: bool) -> int:
    """Run the demo and show health, degraded calls and one trace; 0 when every fault was seen, else 1."""
    from context_telemetry.rehearsal import demo

    console = text.console()
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
        console.print(f"not seen: {', '.join(missed)}", style="red")
    if not keep:
        import shutil

        shutil.rmtree(done.project, ignore_errors=True)
        shutil.rmtree(place.folder, ignore_errors=True)
    else:
        console.print(
            f"look into it: cd {done.project} && CONTEXT_TELEMETRY_STATE_DIR={done.state_dir} context-telemetry status"
        )
    return 1 if missed else 0
