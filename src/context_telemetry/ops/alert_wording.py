"""An alert, and what is told of it: by Prometheus' templates when it fires, or as it reads then for a unit test.

Which alerts there are is in `alerts` and `alert_collector`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol
from urllib.parse import quote

from context_telemetry.conventions import names
from context_telemetry.health.indicators import INDICATORS
from context_telemetry.health.promql import ENVIRONMENT, NAMESPACE, PLACE, SURFACE
from context_telemetry.ops import dashboards
from context_telemetry.ops.inputs import Inputs
from context_telemetry.ops.owners import Owners
from context_telemetry.ops.queries import least_duration
from context_telemetry.ops.shared import SERVICE

Severity = Literal["page", "ticket", "none"]

LASTS: Final[Mapping[str, float]] = {"page": 1 / 60, "ticket": 1 / 12}
"""The part of the objectives' window that something lasts before it is told, by severity."""


class Wording(Protocol):
    """How texts say what is known only when an alert fires: as a template, or as it reads then."""

    def label(self, name: str) -> str:
        """The value of a label."""
        ...

    def value(self, form: str) -> str:
        """The measured value, in one of Prometheus' forms."""
        ...

    def if_known(self, before: str, name: str) -> str:
        """The value of a label behind some words; nothing where the alert has no such label."""
        ...

    def of_surface(self, words: Mapping[str, str], otherwise: str) -> str:
        """The words of the alert's surface."""
        ...


@dataclass(frozen=True)
class Where:
    """Where an alert leads: its owners with their links, and the panel of each indicator, as an address."""

    owners: Owners
    panels: Mapping[str, str]

    @classmethod
    def of(cls, inputs: Inputs) -> Where:
        """For these inputs. Raises KeyError for an indicator that no panel shows."""
        return cls(inputs.owners, {each.name: dashboards.address(each.name, inputs) for each in INDICATORS})


VALUE: Final = "[[value]]"
"""What stands in a summary for the value that the alert fires with; for a label, what `label_of` gives."""

_LABEL: Final = re.compile(r"\[\[label (\w+)\]\]")


def label_of(name: str) -> str:
    """What stands in a summary for the value of a label."""
    return f"[[label {name}]]"


class Template:
    """Words for a rule: what Prometheus fills in when the alert fires."""

    def label(self, name: str) -> str:
        return f"{{{{ $labels.{name} }}}}"

    def value(self, form: str) -> str:
        return f"{{{{ $value | {form} }}}}"

    def if_known(self, before: str, name: str) -> str:
        return f"{{{{ with $labels.{name} }}}}{before}{{{{ . }}}}{{{{ end }}}}"

    def of_surface(self, words: Mapping[str, str], otherwise: str) -> str:
        alike: dict[str, list[str]] = {}
        for surface, said in words.items():
            if said != otherwise:
                alike.setdefault(said, []).append(f'"{surface}"')
        if not alike:
            return otherwise
        cases = (
            f"if eq $labels.{SURFACE} {' '.join(surfaces)} }}}}{said}{{{{ else"
            for said, surfaces in alike.items()
        )
        return "{{ " + " ".join(cases) + f" }}}}{otherwise}{{{{ end }}}}"


@dataclass(frozen=True)
class Alert:
    """One alert rule: an expression, how long it lasts, and what is told when it fires."""

    name: str
    severity: Severity
    component: str
    indicator: str
    expression: str
    lasts: float
    summary: str
    form: str = "humanize"
    by: Sequence[str] = PLACE
    notices: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    """Of the spans to look at: attribute to value."""
    slower_than: float | None = None
    """Seconds: only such spans."""

    def labels(self, owners: Owners, wording: Wording) -> dict[str, str]:
        """What it is routed by."""
        return {
            "severity": self.severity,
            "component": self.component,
            "indicator": self.indicator,
            "owner": self._owner(owners, wording),
        }

    def annotations(self, where: Where, wording: Wording) -> dict[str, str]:
        """What its reader is told; all of it goes into the page."""
        owners = where.owners
        told = {
            "summary": self._summary(wording),
            "description": self._noticed(wording),
            "runbook_url": f"{owners.links.runbooks}/{self.name}.md",
            "dashboard_url": self._dashboard(where, wording),
            "traces_url": self._traces(owners, wording),
        }
        for key, said in _REACHING.items():
            words = {role: said(owners, role) for role in owners.roles}
            told[key] = self._of_owner(owners, wording, words)
        return told

    def _summary(self, wording: Wording) -> str:
        told = self.summary.replace(VALUE, wording.value(self.form))
        told = _LABEL.sub(lambda found: wording.label(found[1]), told)
        if NAMESPACE not in self.by:
            return told
        return (
            told + wording.if_known(", project ", NAMESPACE) + wording.if_known(", environment ", ENVIRONMENT)
        )

    def _dashboard(self, where: Where, wording: Wording) -> str:
        url = where.panels.get(self.indicator) or f"{where.owners.links.dashboards}/{_DASHBOARD}"
        if SURFACE not in self.by:
            return url
        return f"{url}{'&' if '?' in url else '?'}var-surface={wording.label(SURFACE)}"

    def _noticed(self, wording: Wording) -> str:
        if not self.notices:
            return "Users notice nothing: health is judged on less than is served, or not at all."
        nothing = "nothing that is known"
        if SURFACE in self.by:
            return f"What its users notice: {wording.of_surface(self.notices, nothing)}."
        alike = dict.fromkeys(self.notices.values())
        return f"What users notice: {'; '.join(alike)}."

    def _traces(self, owners: Owners, wording: Wording) -> str:
        tags = {**self.tags, **({names.DATAFACE_SURFACE: "SURFACE"} if SURFACE in self.by else {})}
        told = quote(json.dumps(tags, separators=(",", ":")))
        query = f"service={SERVICE}&lookback=1h" + (f"&tags={told}" if tags else "")
        if self.slower_than is not None:
            query += f"&minDuration={least_duration(self.slower_than)}"
        return f"{owners.links.traces}/search?{query}".replace("SURFACE", wording.label(SURFACE))

    def _owner(self, owners: Owners, wording: Wording) -> str:
        return self._of_owner(owners, wording, {role: role for role in owners.roles})

    def _of_owner(self, owners: Owners, wording: Wording, words: Mapping[str, str]) -> str:
        otherwise = words[owners.owner(self.component)]
        if self.component != "surface":
            return otherwise
        return wording.of_surface(
            {surface: words[role] for surface, role in owners.surface_owners.items()}, otherwise
        )


def reached(owners: Owners, role: str) -> str:
    """How to reach a role, or that nobody said how."""
    return owners.roles[role].reached or f"{role} (not filled in: owners.yaml)"


def next_ones(owners: Owners, role: str) -> str:
    """Who is next when a role does not answer, in their order."""
    after = owners.roles[role].escalation
    return (
        ", then ".join(
            f"{each} ({owners.roles[each].reached})" if owners.roles[each].reached else each for each in after
        )
        or "nobody (not filled in: owners.yaml)"
    )


_REACHING: Final = {"contact": reached, "escalation": next_ones}

# The dashboard of what no indicator is about: the way of the telemetry.
_DASHBOARD: Final = "dataface-telemetry"
