"""Who is hit by a change: the faces and their queries that read it, the prompts that tell of it, the tools' callers.

How often each was served is handed in; what is hit most comes first. It judges no change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from context_telemetry.contract.model import Change, Consumer, TableKey, Use

NEW: Final = frozenset(
    {"table_added", "column_added", "required_column_added", "tool_added", "resource_added"}
)
"""Rules about what was not there: nobody can rely on it."""

_NOUNS: Final = {"face": "dashboard", "prompt": "prompt"}


@dataclass(frozen=True)
class Hit:
    """A consumer that a change hits."""

    consumer: Consumer
    parts: tuple[str, ...] = ()
    """Its queries and charts that read what changed; empty where all of it is hit."""
    served: int | None = None
    """How often it was served in the window; None where that is not known."""


@dataclass(frozen=True)
class Recorded:
    """How often consumers were served, and the window in words: `this week`."""

    served: Mapping[Consumer, int | None]
    """None: not known."""
    window: str


def by_table(uses: Iterable[Use]) -> dict[TableKey, list[Use]]:
    """Uses where `hits` finds them: a warehouse that is gone is as many changes as it had tables."""
    found: dict[TableKey, list[Use]] = {}
    for use in uses:
        found.setdefault(use.table, []).append(use)
    return found


def hits(
    change: Change,
    uses: Mapping[TableKey, Sequence[Use]],
    prompts: Iterable[str] = (),
    recorded: Recorded | None = None,
) -> tuple[Hit, ...]:
    """Who is hit, the most served first, then by name."""
    parts: dict[Consumer, set[str]] = {}
    if change.rule in NEW:
        pass
    elif change.table is not None:
        for use in _of(change.table, uses):
            if _reads(use, change.column):
                parts.setdefault(use.consumer, set()).add(use.part)
        parts.update((Consumer("prompt", prompt), set()) for prompt in prompts)
    elif tool := _tool(change):
        parts[Consumer("tool", tool)] = set()

    def served(consumer: Consumer) -> int | None:
        # How often a prompt was built is not recorded by its name.
        return None if recorded is None or consumer.kind == "prompt" else recorded.served.get(consumer, 0)

    found = [Hit(consumer, tuple(sorted(read)), served(consumer)) for consumer, read in parts.items()]
    return tuple(sorted(found, key=lambda hit: (-(hit.served or 0), hit.consumer.kind, hit.consumer.name)))


def _of(table: TableKey, uses: Mapping[TableKey, Sequence[Use]]) -> Iterator[Use]:
    """Of a table; where it has no name, of all tables of its source."""
    if table.table:
        yield from uses.get(table, ())
        return
    for key, each in uses.items():
        if key.source == table.source:
            yield from each


def words(found: Sequence[Hit], recorded: Recorded | None = None) -> str:
    """`12 dashboards, 3 of them opened 410 times this week`; of a tool, `agents that call it: 7 times this week`."""
    told = [_told(kind, found, recorded) for kind in ("face", "prompt")]
    told += [_callers(hit, recorded) for hit in found if hit.consumer.kind == "tool"]
    return "; ".join(filter(None, told)) or "nobody"


def who(change: Change, found: Sequence[Hit], recorded: Recorded | None = None) -> str:
    """Likewise of one change. Of a resource nobody is known by name, and any agent may read it."""
    is_resource = change.object.startswith("resource ") and change.rule not in NEW
    return "agents that read it" if is_resource else words(found, recorded)


def _reads(use: Use, column: str | None) -> bool:
    return column is None or use.columns is None or column in use.columns


def _tool(change: Change) -> str | None:
    kind, _, rest = change.object.partition(" ")
    return rest.partition(": ")[0] if kind == "tool" else None


def _told(kind: str, found: Sequence[Hit], recorded: Recorded | None) -> str:
    of_kind = [hit for hit in found if hit.consumer.kind == kind]
    if not of_kind:
        return ""
    told = _counted(len(of_kind), _NOUNS[kind])
    if recorded is None or kind == "prompt":
        return told
    opened = [hit for hit in of_kind if hit.served]
    if not opened:
        return f"{told}, not opened {recorded.window}"
    times = _times(sum(hit.served or 0 for hit in opened))
    some = "" if len(opened) == len(of_kind) else f"{len(opened)} of them "
    return f"{told}, {some}opened {times} {recorded.window}"


def _callers(hit: Hit, recorded: Recorded | None) -> str:
    told = f"agents that call {hit.consumer.name}"
    if recorded is None:
        return told
    return f"{told}: {_times(hit.served or 0) if hit.served else 'not called'} {recorded.window}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
