"""Prometheus rules and all that goes with them: made from the indicators, the limits and the owners.

Unit tests of the rules are in `alert_tests`, Alertmanager's routes in `alert_routes`. Nothing here is sent anywhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol
from urllib.parse import quote

from context_telemetry.conventions import names
from context_telemetry.health import promql
from context_telemetry.health.indicators import INDICATORS, SERVED, Indicator
from context_telemetry.health.promql import ENVIRONMENT, NAMESPACE, SURFACE, duration
from context_telemetry.health.sums import Sum
from context_telemetry.limits.model import Objectives
from context_telemetry.ops.documents import dump
from context_telemetry.ops.inputs import Inputs
from context_telemetry.ops.owners import Owners

RULES: Final = "alerts/rules.yaml"

COLLECTOR_JOB: Final = "collector"
"""The job that scrapes the Collector's own metrics (collector/prometheus.yaml): the rules about it look there."""

SERVICE: Final = "dataface"
"""`service.name` of a Dataface process, unless `OTEL_SERVICE_NAME` says otherwise."""

# What every series is summed by. The surface, because each has its owner and its limit; the project and the
# environment, because one Prometheus may hold several, and a trial must not wake anybody for production. Nothing
# else: scopes, clients and processes would split a share into many too small to judge.
PLACE: Final = (NAMESPACE, ENVIRONMENT)
BY: Final = (SURFACE, *PLACE)

# How long a gauge's last word is believed when its process has stopped.
_REMEMBERED: Final = 7 * 86_400.0

Severity = Literal["page", "ticket", "none"]


@dataclass(frozen=True)
class Burn:
    """Two windows in which a share must be too high at once, in multiples of the objectives' window.

    The long one says that it matters, the short one that it still goes on. `factor` is how many times the share that
    is allowed is being used up.
    """

    long: float
    short: float
    factor: float


# The pairs of https://sre.google/workbook/alerting-on-slos/ (its table 5-8), for an objectives' window of one hour.
BURNS: Final[Mapping[str, tuple[Burn, ...]]] = {
    "page": (Burn(1, 1 / 12, 14.4), Burn(6, 1 / 2, 6)),
    "ticket": (Burn(24, 2, 3), Burn(72, 6, 1)),
}
# The part of the window that something lasts before it is told.
_LASTS: Final[Mapping[str, float]] = {"page": 1 / 60, "ticket": 1 / 12}


def threshold(limit: float, factor: float) -> float:
    """The share from which a burn is too high: at most half of what is left above the limit, for 2.88 cannot be."""
    return float(f"{min(factor * limit, (1 + limit) / 2):.12g}")


# -- what is told of an alert --------------------------------------------------------------------------------


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
        from context_telemetry.ops import dashboards  # here, because panels count alerts

        return cls(inputs.owners, {each.name: dashboards.address(each.name, inputs) for each in INDICATORS})


# What stands in a summary for what is known when the alert fires.
_VALUE: Final = "[[value]]"
_LABEL: Final = re.compile(r"\[\[label (\w+)\]\]")


def _label(name: str) -> str:
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
        told = self.summary.replace(_VALUE, wording.value(self.form))
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
            query += f"&minDuration={duration(self.slower_than)}"
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


# -- the alerts of the indicators ----------------------------------------------------------------------------


def of_indicator(indicator: Indicator, objectives: Objectives) -> list[Alert]:
    """The alerts of one indicator: a ratio that pages has a ticket of the same name for what can wait."""
    if indicator.kind != "ratio":
        return [_other(indicator, objectives)]
    ticket = _burning(indicator, "ticket", objectives)
    return [_burning(indicator, "page", objectives), ticket] if indicator.severity == "page" else [ticket]


def _other(indicator: Indicator, objectives: Objectives) -> Alert:
    """The alert of what is no share: something was added, is said, is old, or does not come any more."""
    window, limit = objectives.window, indicator.limit_in(objectives)
    lasts, form = _LASTS["ticket"] * window, "humanize"
    by, said = _labels(indicator), f": {_VALUE}"
    if indicator.kind == "silent":
        expression, said = silent(window), f" for {duration(window)}"
    elif indicator.kind == "count":
        expression = _either(f"{promql.increase(each, window, by)} > 0" for each in indicator.bad)
        lasts, said = 0.0, f": {_VALUE} in {duration(window)}"
    elif indicator.kind == "state":
        expression = _either(f"{promql.latest(each, window, by)} > 0" for each in indicator.bad)
    else:
        form = "humanizeDuration"
        expression = _either(
            f"{promql.age(each, _REMEMBERED, PLACE)} > {limit:.12g}" for each in indicator.bad
        )
    parts = "".join(f", {name.rpartition('_')[2]} {_label(name)}" for name in by if name not in PLACE)
    return Alert(
        name=indicator.alert,
        severity="ticket",
        component=indicator.component,
        indicator=indicator.name,
        expression=expression,
        lasts=lasts,
        summary=_sentence(indicator.wrong) + said + parts,
        form=form,
        by=by,
        notices=indicator.notices,
    )


def _labels(indicator: Indicator) -> tuple[str, ...]:
    """What tells the parts of something that is no share apart: the library's place, the hook's state, the artefact."""
    return (*PLACE, *(promql.label(name) for each in indicator.bad for name in each.of.attributes))


def _either(expressions: Iterable[str]) -> str:
    return "\nor\n".join(expressions)


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]


def silent(window: float) -> str:
    """The places that served something within the last 24 windows, and nothing in the last one; or that all are gone.

    Not `increase() == 0`: the series of a process that has stopped goes within minutes, and a place that has not
    served for a day is taken for shut down.
    """
    series = promql.selector(Sum(SERVED))
    now, day = f"last_over_time({series}[{duration(window)}])", duration(24 * window)
    by = ", ".join(PLACE)
    return (
        f"count by ({by}) (last_over_time({series}[{day}]))\n"
        f"unless\n"
        f"count by ({by}) ({now} unless ({series} offset {duration(window)} == {now}))\n"
        f"or\n"
        f"absent_over_time({series}[{day}])"
    )


def _burning(indicator: Indicator, severity: Literal["page", "ticket"], objectives: Objectives) -> Alert:
    limit, minimum = indicator.limit_in(objectives), indicator.minimum_in(objectives)
    if severity == "page":
        minimum = max(minimum, objectives.page_minimum)
    pairs = []
    for burn in BURNS[severity]:
        most = threshold(limit, burn.factor)
        pairs.append(
            f"  {_share(indicator, burn.long * objectives.window)} > {most:.12g}\n"
            f"  and {_share(indicator, burn.short * objectives.window)} > {most:.12g}\n"
            f"  and {_recorded('dataface:bad:increase', indicator, burn.long * objectives.window)} >= {minimum}"
        )
    joined = "\n  or\n".join(pairs)
    return Alert(
        name=indicator.alert,
        severity=severity,
        component=indicator.component,
        indicator=indicator.name,
        expression=f"max by ({', '.join(BY)}) (\n{joined}\n)",
        lasts=_LASTS[severity] * objectives.window,
        summary=f"{_sentence(indicator.wrong)}: {_VALUE}, allowed {limit * 100:.4g}%, on {_label(SURFACE)}",
        form="humanizePercentage",
        by=BY,
        notices=indicator.notices,
        tags=_tags(indicator),
        slower_than=objectives.context_duration if indicator.above == "context_duration" else None,
    )


# Jaeger compares every value as text.
_ENTRIES: Final = {names.DATAFACE_ENTRY: "true"}


def _tags(indicator: Indicator) -> dict[str, str]:
    """The attribute that the spans have which are counted as bad; none where no one value says it."""
    for each in indicator.bad:
        outcomes = each.where.get(names.DATAFACE_OUTCOME)
        if outcomes:
            return {**_ENTRIES, names.DATAFACE_OUTCOME: min(outcomes)}
        if each.metric == names.METRIC_DATAFACE_DEGRADATIONS:
            return {**_ENTRIES, names.DATAFACE_OUTCOME: "degraded"}
    return {}


# -- recording rules -----------------------------------------------------------------------------------------


def _share(indicator: Indicator, seconds: float) -> str:
    return _recorded("slo:sli_error:ratio_rate", indicator, seconds)


def _recorded(name: str, indicator: Indicator, seconds: float) -> str:
    return f'{name}{duration(seconds)}{{sloth_slo="{indicator.name}"}}'


def _windows(severity: str, objectives: Objectives) -> list[float]:
    pairs = BURNS[severity]
    return [part * objectives.window for burn in pairs for part in (burn.long, burn.short)]


def _recording(seconds: float, objectives: Objectives) -> Iterator[dict[str, Any]]:
    """What is recorded of one window: what was served, what of it was bad by each indicator, and its share.

    The shares are called as sloth (https://sloth.dev) calls them, so that dashboards for it can show them.
    """
    window = duration(seconds)
    served = f"dataface:served:increase{window}"
    yield {"record": served, "expr": promql.increase(Sum(SERVED), seconds, BY)}
    for indicator in INDICATORS:
        if indicator.kind != "ratio":
            continue
        labels = {"sloth_service": SERVICE, "sloth_slo": indicator.name}
        among = served
        if indicator.among != Sum(SERVED):
            among = f"dataface:measured:increase{window}"
            yield {
                "record": among,
                "expr": promql.increase(indicator.among, seconds, BY),
                "labels": labels,
            }
            among = _recorded("dataface:measured:increase", indicator, seconds)
        yield {
            "record": f"dataface:bad:increase{window}",
            "expr": _bad(indicator, seconds, among, objectives),
            "labels": labels,
        }
        yield {
            "record": f"slo:sli_error:ratio_rate{window}",
            "expr": f"{_recorded('dataface:bad:increase', indicator, seconds)}\n"
            f"/ on ({', '.join(BY)})\n"
            f"{among}",
            "labels": labels,
        }


def _bad(indicator: Indicator, seconds: float, among: str, objectives: Objectives) -> str:
    """How many are bad: 0 and not nothing where none is, so that a sum with a part that nobody counted is one."""
    none = f"sum by ({', '.join(BY)}) ({among}) * 0"
    bad, but = indicator.counted(objectives)
    parts = [f"({promql.increase(each, seconds, BY)}\n or {none})" for each in bad]
    without = [f"({promql.increase(each, seconds, BY)}\n or {none})" for each in but]
    return "\n- ".join(["\n+ ".join(parts), *without])


# -- the alerts of the Collector -----------------------------------------------------------------------------

SIGNALS: Final = ("spans", "metric_points", "log_records")


def _lost(metric: str, end: str, seconds: float) -> str:
    """What was lost of each signal. The Collector makes these counters at the first loss: born, they count in full."""
    job, by = f'{{job="{COLLECTOR_JOB}"}}', ("job", "instance", end)
    return _either(f"{promql.added(f'{metric}_{signal}{job}', seconds, by)} > 0" for signal in SIGNALS)


def _disordered(seconds: float) -> str:
    """Points that came out of order and were not added up: what was counted is too low. Not one, as the gateway is."""
    series = f'otelcol_deltatocumulative_datapoints{{job="{COLLECTOR_JOB}", error!=""}}'
    return f"{promql.added(series, seconds, ('job', 'instance'))} > 0"


def _stuck(seconds: float) -> str:
    """How much has waited in a queue all the while of which nothing was sent. A Collector that tries for ever, as ours
    does, counts no failure while its backend is away.
    """
    job, window, by = f'{{job="{COLLECTOR_JOB}"}}', duration(seconds), "job, instance, exporter"
    size = f"otelcol_exporter_queue_size{job}"
    sent = "\n  or\n".join(
        f"  sum by ({by}) (increase(otelcol_exporter_sent_{signal}{job}[{window}])) > 0" for signal in SIGNALS
    )
    return (
        f"max by ({by}) (\n  min_over_time({size}[{window}]) and {size} offset {window} > 0\n) > 0\n"
        f"unless (\n{sent}\n)"
    )


def of_collector(objectives: Objectives) -> list[Alert]:
    """The alerts about the way of the telemetry; no indicator, for no process can tell them of itself."""
    page, ticket = (_LASTS[each] * objectives.window for each in ("page", "ticket"))
    job = f'{{job="{COLLECTOR_JOB}"}}'
    queue = f"otelcol_exporter_queue_size{job}", f"otelcol_exporter_queue_capacity{job}"

    def alert(name: str, severity: Severity, expression: str, lasts: float, summary: str, form: str) -> Alert:
        return Alert(name, severity, "telemetry", "", expression, lasts, summary, form, by=())

    exporter, receiver = _label("exporter"), _label("receiver")
    return [
        alert(
            "DatafaceCollectorDown",
            "page",
            f"sum(up{job}) == 0\nor\nabsent(up{job})",
            page,
            "The Collector does not answer: nothing that is served is seen",
            "humanize",
        ),
        alert(
            "DatafaceCollectorRefusing",
            "ticket",
            _either([_lost("otelcol_receiver_refused", "receiver", ticket), _disordered(ticket)]),
            0.0,
            f"The Collector refuses telemetry: {_VALUE} items at {receiver}",
            "humanize",
        ),
        alert(
            "DatafaceCollectorExportFailing",
            "ticket",
            _either(
                [
                    _lost("otelcol_exporter_send_failed", "exporter", ticket),
                    _lost("otelcol_exporter_enqueue_failed", "exporter", ticket),
                    _stuck(ticket),
                ]
            ),
            0.0,
            f"The Collector cannot deliver: {_VALUE} items at {exporter}",
            "humanize",
        ),
        alert(
            "DatafaceCollectorQueueFilling",
            "ticket",
            f"max by (job, instance, exporter, data_type) (\n  {queue[0]}\n  / {queue[1]}\n) > 0.5",
            ticket,
            f"A queue of the Collector fills: {_VALUE} of {exporter}; at 100% telemetry is lost",
            "humanizePercentage",
        ),
    ]


def watchdog() -> Alert:
    """The alert that always fires: what is outside raises the alarm when it stops coming."""
    return Alert(
        "DatafaceWatchdog", "none", "telemetry", "", "vector(1)", 0.0, "Alerts are evaluated and sent", by=()
    )


def all_alerts(objectives: Objectives) -> list[Alert]:
    """Every alert, in the order of the rules."""
    of_indicators = [alert for indicator in INDICATORS for alert in of_indicator(indicator, objectives)]
    return [*of_indicators, *of_collector(objectives), watchdog()]


# -- the file ------------------------------------------------------------------------------------------------

_ABOVE: Final = """\
Generated by `context-telemetry ops build` from the indicators, the limits and owners.yaml: do not edit.

A share is too high when it is so in two windows at once: a long one, so that it matters, and a short one, so that
it still goes on. There must be a minimum of bad requests, too. `dataface:bad:increase1h` are the bad requests,
`dataface:served:increase1h` all of them, `slo:sli_error:ratio_rate1h` the share, by surface, project and environment.
"""


def _interval(seconds: float) -> str:
    """How often rules are looked at: 15 s and 30 s for a window of an hour, never more than once a second."""
    return duration(min(max(round(seconds), 1), 60))


def rules(inputs: Inputs) -> dict[str, Any]:
    """The rules as Prometheus reads them."""
    objectives, where = inputs.limits.objectives, Where.of(inputs)
    alerts = all_alerts(objectives)
    quick = sorted(set(_windows("page", objectives)))
    slow = sorted(set(_windows("ticket", objectives)) - set(quick))
    often, seldom = _interval(objectives.window / 240), _interval(objectives.window / 120)

    def group(
        name: str, interval: str, windows: Sequence[float], severities: tuple[str, ...]
    ) -> dict[str, Any]:
        recording = [rule for seconds in windows for rule in _recording(seconds, objectives)]
        alerting = [_rule(alert, where) for alert in alerts if alert.severity in severities]
        return {"name": name, "interval": interval, "rules": recording + alerting}

    return {
        "groups": [
            group("dataface-page", often, quick, ("page", "none")),
            group("dataface-ticket", seldom, slow, ("ticket",)),
        ]
    }


def _rule(alert: Alert, where: Where) -> dict[str, Any]:
    rule: dict[str, Any] = {"alert": alert.name, "expr": alert.expression}
    if alert.lasts:
        rule["for"] = duration(alert.lasts)
    template = Template()
    labels = {name: value for name, value in alert.labels(where.owners, template).items() if value}
    return {**rule, "labels": labels, "annotations": alert.annotations(where, template)}


def files(inputs: Inputs) -> dict[str, str]:
    """`alerts/`: the rules, their unit tests, Alertmanager's routes and the text of its messages."""
    from context_telemetry.ops import alert_routes, alert_tests

    return {
        RULES: dump(rules(inputs), _ABOVE),
        **alert_tests.files(inputs),
        **alert_routes.files(inputs),
    }
