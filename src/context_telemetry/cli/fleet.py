"""`status --prometheus URL`: the verdict over all that reports to one engine, as one screen or as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from rich.console import Group, RenderableType
from rich.text import Text

from context_telemetry.cli import documents, text, watching
from context_telemetry.cli.status import EXIT, SERVED, beyond, good, headline, plain_table, served_table
from context_telemetry.health import Verdict, evaluate, urgency, what_to_do
from context_telemetry.health.fleet import Fleet, ReasonRow, ServedRow, Unreachable

if TYPE_CHECKING:
    from context_telemetry.limits import Limits


@dataclass(frozen=True)
class FleetStatus:
    """What one look at an engine gave."""

    fleet: Fleet
    verdict: Verdict
    served: list[ServedRow]
    reasons: list[ReasonRow]


def look(url: str, seconds: float, labels: dict[str, str], limits: Limits) -> FleetStatus:
    """Ask the engine for the last ``seconds`` and judge them. Raises Unreachable."""
    fleet = Fleet(url, seconds, labels)
    return FleetStatus(fleet, evaluate(fleet, limits), fleet.served(), fleet.reasons())


def once(url: str, seconds: float, labels: dict[str, str], limits: Limits, *, as_json: bool) -> int:
    """Print the status; the exit code. Raises Unreachable."""
    seen = look(url, seconds, labels, limits)
    code = EXIT[seen.verdict.state]
    if as_json:
        documents.show(documents.fleet(seen, code))
    else:
        text.console().print(screen(seen))
    return code


def watch(url: str, seconds: float, labels: dict[str, str], limits: Limits) -> NoReturn:
    """Show the status and renew it until interrupted. Raises KeyboardInterrupt, and Unreachable at the first look.

    An engine that does not answer for a while is waited for.
    """
    watching.watch(lambda: look(url, seconds, labels, limits), screen, (Unreachable,))


def screen(seen: FleetStatus) -> RenderableType:
    """The verdict, who was served what, what is wrong."""
    parts: list[RenderableType] = [_headline(seen)]
    if seen.served:
        parts += [Text(), served_table(SERVED, seen.served)]
    judged = seen.served or seen.verdict.state != "unknown"
    if judged and (bad := beyond(seen.verdict, traffic=bool(seen.served))):
        parts += [Text(), bad]
    if seen.reasons:
        parts += [Text(), *_reasons(seen)]
    if judged:
        parts += [Text(), *good(seen.verdict, {each.reason for each in seen.reasons})]
    return Group(*parts)


def _headline(seen: FleetStatus) -> RenderableType:
    whose = ", ".join(seen.fleet.labels.values()) or "all projects"
    window = f"{seen.fleet.url}, last {text.lasting(seen.fleet.seconds)}"
    return Group(*headline(seen.verdict, whose, window, seen.served))


def _reasons(seen: FleetStatus) -> Iterator[RenderableType]:
    table = plain_table(("reason", "left"), ("surface", "left"), ("calls", "right"), ("what to do", "left"))
    for row in sorted(seen.reasons, key=lambda row: urgency(row.reason)):
        table.add_row(
            Text(row.reason, "yellow"),
            row.surface or "-",
            f"{row.count:,}",
            Text(what_to_do(row.reason), "dim"),
        )
    yield table
