"""The texts of the dashboards: what users notice of each finding, and the budgets with their sources, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from context_telemetry.health import INDICATORS

if TYPE_CHECKING:
    from context_telemetry.limits.model import Limits
    from context_telemetry.ops.inputs import Inputs


def sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def size(count: float) -> str:
    """`100 kB`, `1.05 MB`: decimal, as the panels show bytes, and on one line."""
    for unit, length in (("MB", 1e6), ("kB", 1e3)):
        if count >= length:
            return f"{count / length:.3g}\N{NO-BREAK SPACE}{unit}"
    return f"{count:g}\N{NO-BREAK SPACE}B"


def notices(inputs: Inputs) -> str:
    """One row for each indicator that users notice, the ones that page first."""
    lines = ["| when | users notice | whose |", "| --- | --- | --- |"]
    for indicator in sorted(INDICATORS, key=lambda each: each.severity != "page"):
        if not indicator.notices:
            continue
        link = f"[{indicator.wrong}]({inputs.owners.links.runbooks}/{indicator.alert}.md)"
        owner = (
            "the surface's owner"
            if indicator.component == "surface"
            else inputs.owners.owner(indicator.component)
        )
        lines.append(f"| {link} | {_by_surface(indicator.notices)} | {owner} |")
    return "\n".join(lines)


def _by_surface(told: Mapping[str, str]) -> str:
    if len(set(told.values())) == 1:
        return next(iter(told.values()))
    return "; ".join(f"**{surface}**: {words.replace(';', ',')}" for surface, words in told.items())


def budgets(limits: Limits) -> str:
    """One row for each budget, with where its number is from."""
    rows = [
        ("results of tools", limits.results),
        ("resources", limits.resources),
        ("documentation and skills", limits.static),
        *((f"client {name}", taken) for name, taken in limits.clients if taken is not None),
    ]
    lines = ["| what | most | where the number is from |", "| --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {what} | {size(each.bytes)} | {each.source} |" for what, each in rows)])
