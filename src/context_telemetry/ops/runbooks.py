"""Writes `runbooks/`: a page for each alert, the playbook, checklists, risks, rollback, severity, communication.

The pages are templates in `texts/`; what is defined elsewhere (indicators, limits, owners, reasons, queries) comes from
there. Commands in them are tests: see `blocks`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import jinja2

from context_telemetry.conventions import names
from context_telemetry.health.advice import WHAT_TO_DO
from context_telemetry.health.indicators import INDICATORS, Indicator
from context_telemetry.health.promql import (
    KEPT,
    NAMESPACE,
    PLACE,
    REMEMBERED,
    age,
    increase,
    label,
    latest,
    said,
)
from context_telemetry.health.sums import Sum
from context_telemetry.health.words import lasting
from context_telemetry.limits import Limits
from context_telemetry.limits.model import Objectives
from context_telemetry.ops.alert_wording import Alert
from context_telemetry.ops.alerts import BURNS, SHUT_DOWN, all_alerts, threshold
from context_telemetry.ops.inputs import Inputs
from context_telemetry.ops.owners import Owners
from context_telemetry.ops.queries import queries, query
from context_telemetry.ops.reasons import reasons
from context_telemetry.ops.risks import alerts_of, gaps, risks
from context_telemetry.ops.shared import COLLECTOR_JOB, QUEUE_FILLING

FOLDER: Final = "runbooks"

PLACES: Final = ("local", "fleet", "tempo", "install")
"""Where a command of a page runs; see `Block`."""

PAGES: Final = ("README", "playbook", "checklists", "risks", "rollback", "severity", "communication")
"""The pages that belong to no alert."""

VARIABLES: Final[Mapping[str, tuple[str, str]]] = {
    "ALERTMANAGER": ("the address of Alertmanager", "http://127.0.0.1:9093"),
    "BACKUP": ("the last copy of the warehouse that was good", "/backups/shop.duckdb"),
    "BAD": ("what is wrong in `$FILE`", "shopp"),
    "CLIENT": ("a client, as `traces` names it", "claude_code"),
    "CODE": ("Dataface's error code, as `traces` shows it", "ERR-SOURCE-NOT-FOUND"),
    "COLLECTOR": ("the address of the Collector's own metrics", "http://127.0.0.1:8888"),
    "COLLECTOR_HEALTH": ("the address of the Collector's health check", "http://127.0.0.1:13133/health"),
    "FACE": ("a face that the users concerned look at", "faces/orders.yml"),
    "FILE": ("the file to correct or to put back", "dataface.yml"),
    "FINGERPRINT": ("`dataface.context.fingerprint` of a call", "3f1c9a0b7d2e4c55"),
    "FROM": ("the start of the time in question, in Unix seconds", "$(date -d '1 hour ago' +%s)"),
    "GOOD": ("what it should be", "shop"),
    "JAEGER": ("the address of Jaeger", "http://127.0.0.1:16686"),
    "KEPT": ("an empty folder outside the project, for what you replace", "$(mktemp -d)"),
    "MODEL": ("the dbt model that changed", "fct_orders"),
    "OBJECT": ("what changed, as `contract check` names it", "shop.main.fct_orders.status"),
    "PROMETHEUS": ("the address of Prometheus, or of what speaks its API", "http://127.0.0.1:9090"),
    "RELEASE": ("the last release that was good", "0.4.0"),
    "RULE": ("the rule that stands before it", "column_removed"),
    "SINCE": ("how long ago the repair was", "2min"),
    "SURFACE": ("the surface that the alert names", "mcp"),
    "TEMPO": ("the address of Tempo", "http://127.0.0.1:3200"),
    "TO": ("the end of it", "$(date +%s)"),
    "TRACE": ("a trace id from the list before; its start is enough", "1f3a9c02"),
    "UNTIL": ("the last day on which an exception counts", "$(date -d '3 days' +%F)"),
    "WAREHOUSE": ("the warehouse's file, as `dataface.yml` names it", "shop.duckdb"),
}
"""What the reader's shell has to know for the commands, with an example."""

_FENCE = re.compile(r"^```(?P<info>[^\n`]+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_VARIABLE = re.compile(r"\$\{?([A-Z_]{2,})\}?")


@dataclass(frozen=True)
class Block:
    """A command of a page, with what it must show.

    ``where`` is one of `PLACES`: `local` is in the project's folder, `fleet` needs the addresses of the stack, `tempo`
    that of Tempo, `install` changes an installation or a service. ``shows`` are lines of which each must be found in
    one line of the output: blanks match any blanks, `…` anything; `exit N` is the exit code, 0 where it is not said.
    """

    section: str
    where: str
    command: str
    shows: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        said = [int(line.removeprefix("exit ")) for line in self.shows if re.fullmatch(r"exit \d+", line)]
        return said[0] if said else 0

    @property
    def patterns(self) -> tuple[re.Pattern[str], ...]:
        """A pattern for each line that must be found."""
        lines = (line for line in self.shows if not re.fullmatch(r"exit \d+", line))
        return tuple(re.compile(_pattern(line)) for line in lines)

    @property
    def variables(self) -> tuple[str, ...]:
        """The variables that its reader has to set, in their order."""
        named = dict.fromkeys(_VARIABLE.findall(self.command))
        return tuple(name for name in named if name != "HOME" and not name.startswith("CONTEXT_TELEMETRY_"))


def _pattern(line: str) -> str:
    words = (r"\s+".join(re.escape(word) for word in part.split()) for part in line.split("…"))
    return ".*".join(words)


def blocks(page: str) -> list[Block]:
    """The commands of a page in their order. Raises ValueError for one that says no known place."""
    found: list[Block] = []
    for match in _FENCE.finditer(page):
        language, _, where = match["info"].partition(" ")
        if language == "sh":
            if where not in PLACES:
                raise ValueError(f"a command says no place, {', '.join(PLACES)}: {match['text'].strip()}")
            headings = re.findall(r"^## (.+)$", page[: match.start()], re.MULTILINE)
            found.append(Block(headings[-1] if headings else "", where, match["text"].strip()))
        elif match["info"] == "text shows":
            last = found.pop()
            found.append(
                Block(last.section, last.where, last.command, tuple(match["text"].strip().splitlines()))
            )
    return found


# -- what an alert is ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Topic:
    """What a runbook's head says of an alert: its rules, of which a page and a ticket may have one name."""

    name: str
    indicator: str
    measures: str
    wrong: str
    fires: Mapping[str, str]
    """Severity to the condition, in words."""
    component: str
    notices: Mapping[str, str]
    promql: str
    """The numbers behind it; the rule's own expression is in `alerts/`."""

    @property
    def noticed(self) -> list[tuple[str, str]]:
        """(surfaces, what their users notice), with those that notice the same in one row."""
        alike: dict[str, list[str]] = {}
        for surface, words in self.notices.items():
            alike.setdefault(words, []).append(surface)
        return [(", ".join(surfaces), words) for words, surfaces in alike.items()]

    @property
    def severity(self) -> str:
        """The gravest that it can have."""
        return next(each for each in ("page", "ticket", "none") if each in self.fires)


@dataclass(frozen=True)
class _Own:
    """Of an alert that no indicator gives: what is measured, when each severity fires, what to ask for the numbers."""

    measures: str
    fires: Mapping[str, str]
    asked: str


_FLEET: Final[Mapping[str, _Own]] = {
    "DatafaceCollectorDown": _Own(
        "whether Prometheus reaches the Collector's own metrics",
        {
            "page": "it reaches none of them, or there is none to reach",
            "ticket": "there is one that it does not reach",
        },
        f'up{{job="{COLLECTOR_JOB}"}}',
    ),
    "DatafaceCollectorRefusing": _Own(
        "spans, points and records that the Collector did not take",
        {"ticket": "there was one in the last minutes"},
        '{__name__=~"otelcol_receiver_refused_.+"}',
    ),
    "DatafaceCollectorExportFailing": _Own(
        "spans, points and records that the Collector could not hand on or not queue",
        {"ticket": "there was one in the last minutes"},
        '{__name__=~"otelcol_exporter_(send|enqueue)_failed_.+"}',
    ),
    "DatafaceCollectorQueueFilling": _Own(
        "how full the Collector's queues are",
        {"ticket": f"one is more than {QUEUE_FILLING:.0%} full"},
        "otelcol_exporter_queue_size / otelcol_exporter_queue_capacity",
    ),
    "DatafaceWatchdog": _Own(
        "nothing: it always fires, so that its silence is noticed", {"none": "always"}, "vector(1)"
    ),
}


def topics(limits: Limits) -> list[Topic]:
    """What has a runbook, in the order of the rules."""
    rules: dict[str, list[Alert]] = {}
    for alert in all_alerts(limits.objectives):
        rules.setdefault(alert.name, []).append(alert)
    indicators = {each.alert: each for each in INDICATORS}
    return [_topic(each, indicators.get(name), limits.objectives) for name, each in rules.items()]


def _topic(rules: Sequence[Alert], indicator: Indicator | None, objectives: Objectives) -> Topic:
    first = rules[0]
    if indicator is None:
        own = _FLEET[first.name]
        measures, asked, wrong = own.measures, own.asked, _bare(first.summary)
        fires: dict[str, str] = {
            each.severity: f"{own.fires[each.severity]}; {_lasting(each)}" for each in rules
        }
    else:
        measures, asked, wrong = indicator.measures, _numbers(indicator, objectives), indicator.wrong
        fires = {each.severity: _fires(indicator, each, objectives) for each in rules}
    return Topic(first.name, first.indicator, measures, wrong, fires, first.component, first.notices, asked)


def _bare(summary: str) -> str:
    """A summary without what is only known when it fires."""
    return re.sub(r":? ?\[\[value\]\][^;]*|\[\[[^]]*\]\]", "", summary)


def _lasting(rule: Alert) -> str:
    return f"for {lasting(rule.lasts)}" if rule.lasts else "at once"


def _fires(indicator: Indicator, rule: Alert, objectives: Objectives) -> str:
    window, limit = objectives.window, indicator.limit_in(objectives)
    if indicator.kind == "ratio":
        minimum = indicator.minimum_in(objectives)
        if rule.severity == "page":
            minimum = max(minimum, objectives.page_minimum)
        by_call = indicator.unit == "per_call"
        shares = ", or ".join(
            f"above {threshold(limit, burn.factor) * (1 if by_call else 100):.3g}{'' if by_call else ' %'} in "
            f"{lasting(burn.long * window)} and in the last {lasting(burn.short * window)}"
            for burn in BURNS[rule.severity]
        )
        what = "how many there are for each call" if by_call else "their share"
        return f"{what} is {shares}; they are at least {minimum}; {_lasting(rule)}"
    words = {
        "silent": f"nothing was recorded in {lasting(window)}, and something in {lasting(SHUT_DOWN * window)}; "
        "or nothing anywhere",
        "age": f"one is older than {lasting(limit)}",
        "state": "a process says so",
        "said": f"by what was said last of each part, within {lasting(KEPT)}, there are one or more; and somebody was "
        f"served or checked in {lasting(SHUT_DOWN * window)}",
        "count": f"there was one in {lasting(window)}",
    }
    return f"{words[indicator.kind]}; {_lasting(rule)}"


def _numbers(indicator: Indicator, objectives: Objectives) -> str:
    """What to ask Prometheus to see where the bad ones come from, by all that tells them apart."""
    window = objectives.window
    if indicator.kind == "silent":
        return increase(indicator.among, window)
    bad, _ = indicator.counted(objectives)
    if indicator.kind == "age":
        return age(bad[0], REMEMBERED, PLACE)
    if indicator.kind == "said":
        every = Sum(bad[0].metric)
        return said(every, (*PLACE, *(label(name) for name in every.of.attributes)))
    if indicator.kind == "state":
        return latest(bad[0], window, (NAMESPACE, "service_name"))
    of = bad[0].of.attributes
    return increase(bad[0], window, tuple(label(name) for name in _TOLD_BY if name in of))


_TOLD_BY: Final = (
    names.DATAFACE_SURFACE,
    names.DATAFACE_OUTCOME,
    names.DATAFACE_DEGRADATION_REASON,
    names.DATAFACE_OPERATION_NAME,
    names.DATAFACE_CATALOG_SOURCE,
    names.DATAFACE_PAYLOAD_KIND,
    names.CONTEXT_TELEMETRY_PLACE,
)


# -- owners, as a page tells them ----------------------------------------------------------------------------


def _owners_of(owners: Owners, component: str) -> Iterator[tuple[str, str, str]]:
    """(for which surfaces, role with how to reach it, who is next) of whom an alert belongs to."""
    surfaces: dict[str, list[str]] = {}
    if component == "surface":
        for surface, role in owners.surfaces:
            surfaces.setdefault(role, []).append(surface)
    else:
        surfaces[owners.owner(component)] = []
    for role, its in surfaces.items():
        yield f" on {', '.join(its)}" if its else "", _reach(owners, role), _next(owners, role)


def _reach(owners: Owners, role: str) -> str:
    reached = owners.roles[role].reached
    return f"`{role}` ({reached})" if reached else f"`{role}`"


def _next(owners: Owners, role: str) -> str:
    return ", then ".join(_reach(owners, each) for each in owners.roles[role].escalation)


# -- the pages -----------------------------------------------------------------------------------------------


def files(what: Inputs) -> dict[str, str]:
    """Relative path to text of every page below `runbooks/`, for these owners and limits."""
    environment = _environment(what)
    known = topics(what.limits)
    made: dict[str, str] = {}
    for alert in known:
        page = environment.get_template(f"{alert.name}.md.j2").render(alert=alert)
        made[f"{FOLDER}/{alert.name}.md"] = _tidy(page)
    for name in PAGES:
        made[f"{FOLDER}/{name}.md"] = _tidy(environment.get_template(f"{name}.md.j2").render())
    return {path: _with_variables(path, text) for path, text in made.items()}


def _environment(what: Inputs) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("context_telemetry.ops", "texts"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    owners, objectives = what.owners, what.limits.objectives
    environment.globals.update(
        alerts=topics(what.limits),
        owners=owners,
        owners_of=partial(_owners_of, owners),
        reach=partial(_reach, owners),
        next=partial(_next, owners),
        owner_of=lambda part: _reach(owners, owners.surface_owners.get(part) or owners.owner(part)),
        reasons=reasons(),
        advice=lambda reason: WHAT_TO_DO[reason].replace("{processes}", "…"),
        alerts_of=alerts_of,
        queries=queries(objectives),
        query=partial(query, objectives=objectives),
        objectives=objectives,
        risks=risks(),
        gaps=gaps(),
        lasting=lasting,
    )
    return environment


_SET_HERE = "<!-- variables -->\n"


def _with_variables(path: str, page: str) -> str:
    """The page with a table of the shell's variables that its commands need, where it asks for one."""
    used = sorted({name for block in blocks(page) for name in block.variables})
    unknown = [name for name in used if name not in VARIABLES]
    if unknown:
        raise ValueError(f"{path}: no word on the variable {', '.join(unknown)}")
    if _SET_HERE not in page:
        return page
    return page.replace(_SET_HERE, _variables(used))


def _variables(used: Sequence[str]) -> str:
    if not used:
        return ""
    rows = [f"| `{name}` | {VARIABLES[name][0]} | `{name}={VARIABLES[name][1]}` |\n" for name in used]
    head = "Set these in your shell as you come to know them:\n\n"
    return head + "| variable | what it is | for example |\n| --- | --- | --- |\n" + "".join(rows) + "\n"


def _tidy(page: str) -> str:
    """One blank line between parts, none at the ends: what templates leave behind where they say nothing."""
    return re.sub(r"\n{3,}", "\n\n", page).strip() + "\n"
