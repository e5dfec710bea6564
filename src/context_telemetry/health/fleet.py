"""What indicators measure, taken from a Prometheus-compatible API: the `Source` of `status --prometheus`.

It asks instant queries and keeps nothing. Whoever runs the engine says who may ask it; an address may carry a user
and a password, which are shown nowhere.
"""

from __future__ import annotations

import base64
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from context_telemetry.conventions import names
from context_telemetry.health import promql
from context_telemetry.health.indicators import DEGRADATIONS, SERVED, Indicator
from context_telemetry.health.sums import Sum
from context_telemetry.health.verdict import EVERYWHERE
from context_telemetry.health.words import told_reasons

_ANSWERS_WITHIN = 10.0
_Series = list[tuple[dict[str, str], float]]
_HOOKS = Sum(names.METRIC_CONTEXT_TELEMETRY_HOOKS)


class Unreachable(Exception):
    """The API does not answer, or not as one of Prometheus does; the message says what to do."""


@dataclass(frozen=True)
class ServedRow:
    """How many entries one client was served over one surface, by their outcome."""

    surface: str | None
    client: str | None
    served: int
    ok: int
    degraded: int
    failed: int


@dataclass(frozen=True)
class ReasonRow:
    """On how many entries of one surface a reason was met."""

    reason: str
    surface: str | None
    count: int


class Fleet:
    """All that reports to one engine in the last ``seconds`` until now, the same now for every question.

    ``labels`` narrow it down: ``{"service_namespace": "shop"}`` is one Dataface project. Raises ValueError for what is
    no address, and at each question Unreachable.
    """

    def __init__(self, url: str, seconds: float, labels: Mapping[str, str] | None = None) -> None:
        self.url, self._headers = _without_password(url)
        self.seconds, self.labels = seconds, dict(labels or {})
        self._at = time.time()
        self._answers: dict[str, _Series] = {}

    def added(self, each: Sum) -> Mapping[str | None, float]:
        """As `Source` says."""
        by = (promql.SURFACE,) if each.by_surface else ()
        found = self._ask(promql.increase(each, self.seconds, by, self.labels))
        # A surface that served nothing in the window is none of it, though its series may still be there.
        return {
            labels.get(promql.SURFACE, None if by else EVERYWHERE): value for labels, value in found if value
        }

    def latest(self, each: Sum) -> Sequence[float]:
        """As `Source` says; of moments the last week counts, of all else the last day.

        What processes count of themselves is what they said in the window, an hour at least.
        """
        if each.of.instrument == "counter":
            said = sum(value for _, value in self._ask(promql.latest(each, self.seconds, (), self.labels)))
            return [said] if said or self.told_by() else []
        return [value for _, value in self._said(each)]

    def told_by(self) -> int:
        """As `Source` says: one for each project that has said where its hooks stand."""
        return len({tuple(labels.get(name) for name in promql.PLACE) for labels, _ in self._said(_HOOKS)})

    def now(self) -> float:
        """As `Source` says."""
        return self._at

    def detail(self, indicator: Indicator, surface: str | None) -> str:
        """As `Source` says: the reasons of what is degraded or of the past, the projects whose contract is broken."""
        if indicator.name == "contract_open":
            return self._by_project(indicator.bad[0])
        met = [each for each in self.reasons() if each.surface == surface]
        if indicator.name == "degraded_ratio":
            return ", ".join(each.reason for each in met)
        if len(indicator.reasons) > 1:
            return told_reasons((each.reason, each.count) for each in met if each.reason in indicator.reasons)
        return ""

    def served(self) -> list[ServedRow]:
        """Who was served what, the most first."""
        client, outcome = promql.label(names.DATAFACE_CLIENT_NAME), promql.label(names.DATAFACE_OUTCOME)
        rows: dict[tuple[str | None, str | None], dict[str, float]] = {}
        query = promql.increase(Sum(SERVED), self.seconds, (promql.SURFACE, client, outcome), self.labels)
        for labels, value in self._ask(query):
            row = rows.setdefault((labels.get(promql.SURFACE), labels.get(client)), {})
            row[labels.get(outcome, "")] = value
        counted = [
            ServedRow(
                *who,
                round(sum(row.values())),
                *(round(row.get(each, 0.0)) for each in ("ok", "degraded", "failed")),
            )
            for who, row in rows.items()
        ]
        return sorted((row for row in counted if row.served), key=lambda row: -row.served)

    def reasons(self) -> list[ReasonRow]:
        """Which reasons were met, the most first."""
        reason = promql.label(names.DATAFACE_DEGRADATION_REASON)
        query = promql.increase(Sum(DEGRADATIONS), self.seconds, (reason, promql.SURFACE), self.labels)
        rows = [
            ReasonRow(labels.get(reason, ""), labels.get(promql.SURFACE), round(value))
            for labels, value in self._ask(query)
        ]
        return sorted((row for row in rows if row.count), key=lambda row: (-row.count, row.reason))

    def _by_project(self, each: Sum) -> str:
        """How many each project has said; where there is one project, it goes without saying."""
        projects: dict[str, float] = {}
        for labels, value in self._said(each):
            project = labels.get(promql.NAMESPACE) or "(no project)"
            projects[project] = projects.get(project, 0.0) + value
        told = [f"{project} {value:,.0f}" for project, value in sorted(projects.items()) if value]
        return ", ".join(told) if len(projects) > 1 else ""

    def _said(self, each: Sum) -> _Series:
        """What a gauge said last, of each project and environment by the gauge's own labels."""
        seconds = max(self.seconds, promql.REMEMBERED if each.of.unit == "s" else promql.KEPT)
        kept = ", ".join((*promql.PLACE, *(promql.label(name) for name in each.of.attributes)))
        return self._ask(f"max by ({kept}) ({promql.last(each, seconds, self.labels)})")

    def _ask(self, query: str) -> _Series:
        """The answer for the one moment: several indicators ask the same, and the engine is asked once."""
        if query not in self._answers:
            self._answers[query] = self._asked(query)
        return self._answers[query]

    def _asked(self, query: str) -> _Series:
        asked = urllib.parse.urlencode({"query": query, "time": f"{self._at:.3f}"}).encode()
        request = urllib.request.Request(f"{self.url}/api/v1/query", data=asked)
        for name, value in self._headers.items():  # not for whom a redirect leads to
            request.add_unredirected_header(name, value)
        try:
            with urllib.request.urlopen(request, timeout=_ANSWERS_WITHIN) as response:
                answer = json.load(response)
            result = answer["data"]["result"] if answer["status"] == "success" else None
            found = [(dict(each["metric"]), float(each["value"][1])) for each in result or ()]
        except urllib.error.HTTPError as error:
            raise Unreachable(f"{self.url} answers {error.code}: {_why(error)}") from error
        except OSError as error:
            why = getattr(error, "reason", None) or error
            raise Unreachable(f"{self.url} does not answer ({why}): is the engine running?") from error
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, HTTPException) as error:
            raise Unreachable(f"{self.url} is no Prometheus API: its answer cannot be read") from error
        if result is None:
            raise Unreachable(f"{self.url} answers {answer.get('error', 'an error')}")
        return found


def _why(error: urllib.error.HTTPError) -> str:
    """What the engine itself says, where it says it as Prometheus does."""
    try:
        told: Any = json.load(error)
        return str(told["error"])
    except (ValueError, KeyError, TypeError, OSError):
        return f"{error.reason}; is this the address of the engine, as http://HOST:9090?"


def _without_password(url: str) -> tuple[str, dict[str, str]]:
    """The address without what may be secret, and the header that says user and password. Raises ValueError."""
    parts = urllib.parse.urlsplit(url)
    try:
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and not parts.query
    except ValueError:  # a port that cannot be
        known = False
    if not known:
        # Not with what was written: it may hold a password.
        raise ValueError("write the engine's address as http://HOST:9090")
    plain = urllib.parse.urlunsplit(
        parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="")
    ).rstrip("/")
    if parts.username is None:
        return plain, {}
    secret = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
    return plain, {"Authorization": f"Basic {base64.b64encode(secret.encode()).decode()}"}
