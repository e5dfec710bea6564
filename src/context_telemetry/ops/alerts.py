"""Prometheus' rules: made from the indicators, the limits and the owners.

What an alert tells is in `alert_wording`, the Collector's own alerts in `alert_collector`, unit tests of the rules in
`alert_tests`, Alertmanager's routes in `alert_routes`. Nothing here is sent anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from context_telemetry.conventions import names
from context_telemetry.health import promql
from context_telemetry.health.indicators import CALLS, ENTRIES, INDICATORS, Indicator
from context_telemetry.health.promql import PLACE, SURFACE, duration
from context_telemetry.limits.model import Objectives
from context_telemetry.ops.alert_collector import either, of_collector, watchdog
from context_telemetry.ops.alert_wording import LASTS, VALUE, Alert, Template, Where, label_of
from context_telemetry.ops.documents import dump
from context_telemetry.ops.inputs import Inputs
from context_telemetry.ops.shared import SERVICE
from context_telemetry.ops.shares import bad_ones

GROUPS: Final = ("dataface-page", "dataface-ticket")
"""The groups of rules: what wakes somebody is asked more often. The second reads what the first records."""

RULES: Final = "alerts/rules.yaml"

# What every series is summed by. The surface, because each has its owner and its limit; the project and the
# environment, because one Prometheus may hold several, and a trial must not wake anybody for production. Nothing
# else: scopes, clients and processes would split a share into many too small to judge.
BY: Final = (SURFACE, *PLACE)


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


def threshold(limit: float, factor: float) -> float:
    """The share from which a burn is too high: at most half of what is left above the limit, for 2.88 cannot be."""
    return float(f"{min(factor * limit, (1 + limit) / 2):.12g}")


PER_CALL: Final = 'printf "%.3g"'
"""`humanize` would write 400m for 0.4."""


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
    lasts, form = LASTS[indicator.severity] * window, "humanize"
    by, said = _labels(indicator), f": {VALUE}"
    if indicator.kind == "silent":
        expression, said = silent(window), f" for {duration(window)}"
    elif indicator.kind == "count":
        expression = either(f"{promql.increase(each, window, by)} > 0" for each in indicator.bad)
        lasts, said = 0.0, f": {VALUE} in {duration(window)}"
    elif indicator.kind == "state":
        expression = either(f"{promql.latest(each, window, by)} > 0" for each in indicator.bad)
        # Not how often: each process says it again and again.
        said = f", as processes said in the last {duration(max(window, promql.SAID_AGAIN))}"
    elif indicator.kind == "said":
        by = PLACE
        expression = either(f"{promql.said(each, by)} > 0" for each in indicator.bad)
        expression = f"{expression}\nand on ({', '.join(by)}) (\n{_living(window)}\n)"
    else:
        form = "humanizeDuration"
        expression = either(
            f"{promql.age(each, promql.REMEMBERED, PLACE)} > {limit:.12g}" for each in indicator.bad
        )
    parts = "".join(f", {name.rpartition('_')[2]} {label_of(name)}" for name in by if name not in PLACE)
    return Alert(
        name=indicator.alert,
        severity=indicator.severity,
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


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]


SHUT_DOWN: Final = 24
"""Windows without a call after which a place is taken for shut down, although the gateway holds its series for days."""


def silent(window: float) -> str:
    """The places that served something, but nothing in the last window, and are not shut down; or nothing anywhere."""
    by, day = ", ".join(PLACE), SHUT_DOWN * window
    return (
        f"sum by ({by}) ({_served(day)}) > 0\n"
        f"unless\n"
        f"sum by ({by}) ({_served(window)}) > 0\n"
        f"or\n"
        f"absent_over_time({promql.selector(CALLS)}[{duration(day)}])"
    )


def _living(window: float) -> str:
    """The places that are not shut down: somebody was served or checked. What is said there is said again."""
    return f"sum by ({', '.join(PLACE)}) ({_entries(SHUT_DOWN * window)}) > 0"


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
    # A call may have several, and 200 % of it would be no share.
    told, form = (
        (f" for each call, allowed {limit:.4g}", PER_CALL)
        if indicator.unit == "per_call"
        else (f", allowed {limit * 100:.4g}%", "humanizePercentage")
    )
    return Alert(
        name=indicator.alert,
        severity=severity,
        component=indicator.component,
        indicator=indicator.name,
        expression=f"max by ({', '.join(BY)}) (\n{joined}\n)",
        lasts=LASTS[severity] * objectives.window,
        summary=f"{_sentence(indicator.wrong)}: {VALUE}{told}, on {label_of(SURFACE)}",
        form=form,
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
        operations = each.where.get(names.DATAFACE_OPERATION_NAME, frozenset())
        if len(operations) == 1:
            return {**_ENTRIES, names.DATAFACE_OPERATION_NAME: min(operations)}
        outcomes = each.where.get(names.DATAFACE_OUTCOME)
        if outcomes:
            return {**_ENTRIES, names.DATAFACE_OUTCOME: min(outcomes)}
        if each.metric == names.METRIC_DATAFACE_DEGRADATIONS:
            return {**_ENTRIES, names.DATAFACE_OUTCOME: "degraded"}
    return {}


# -- recording rules -----------------------------------------------------------------------------------------


def _served(seconds: float) -> str:
    return f"dataface:served:increase{duration(seconds)}"


def _entries(seconds: float) -> str:
    return f"dataface:entries:increase{duration(seconds)}"


def _share(indicator: Indicator, seconds: float) -> str:
    return _recorded("slo:sli_error:ratio_rate", indicator, seconds)


def _recorded(name: str, indicator: Indicator, seconds: float) -> str:
    return f'{name}{duration(seconds)}{{sloth_slo="{indicator.name}"}}'


def _windows(severity: str, objectives: Objectives) -> list[float]:
    pairs = BURNS[severity]
    return [part * objectives.window for burn in pairs for part in (burn.long, burn.short)]


def _recording(seconds: float, objectives: Objectives) -> Iterator[dict[str, Any]]:
    """What is recorded of one window: calls, calls and checks, what was bad by each indicator, and its share.

    The shares are called as sloth (https://sloth.dev) calls them, so that dashboards for it can show them.
    """
    window = duration(seconds)
    recorded = [(CALLS, _served(seconds)), (ENTRIES, _entries(seconds))]
    for each, name in recorded:
        yield {"record": name, "expr": promql.increase(each, seconds, BY)}
    for indicator in INDICATORS:
        if indicator.kind != "ratio":
            continue
        labels = {"sloth_service": SERVICE, "sloth_slo": indicator.name}
        among = next((name for each, name in recorded if each == indicator.among), "")
        if not among:
            yield {
                "record": f"dataface:measured:increase{window}",
                "expr": promql.increase(indicator.among, seconds, BY),
                "labels": labels,
            }
            among = _recorded("dataface:measured:increase", indicator, seconds)
        yield {
            "record": f"dataface:bad:increase{window}",
            "expr": bad_ones(
                indicator,
                objectives,
                lambda each: promql.increase(each, seconds, BY),
                f"sum by ({', '.join(BY)}) ({among}) * 0",
            ),
            "labels": labels,
        }
        yield {
            "record": f"slo:sli_error:ratio_rate{window}",
            "expr": f"{_recorded('dataface:bad:increase', indicator, seconds)}\n"
            f"/ on ({', '.join(BY)})\n"
            f"{among}",
            "labels": labels,
        }


def all_alerts(objectives: Objectives) -> list[Alert]:
    """Every alert, in the order of the rules."""
    of_indicators = [alert for indicator in INDICATORS for alert in of_indicator(indicator, objectives)]
    return [*of_indicators, *of_collector(objectives), watchdog()]


# -- the file ------------------------------------------------------------------------------------------------

_ABOVE: Final = """\
Generated by `context-telemetry ops build` from the indicators, the limits and owners.yaml: do not edit.

A share is too high when it is so in two windows at once: a long one, so that it matters, and a short one, so that
it still goes on. There must be a minimum of bad requests, too. `dataface:bad:increase1h` are the bad requests,
`dataface:served:increase1h` all that somebody made, `dataface:entries:increase1h` those and checks,
`slo:sli_error:ratio_rate1h` the share, by surface, project and environment.
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
            group(GROUPS[0], often, quick, ("page", "none")),
            group(GROUPS[1], seldom, slow, ("ticket",)),
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
    """`alerts/rules.yaml`."""
    return {RULES: dump(rules(inputs), _ABOVE)}
