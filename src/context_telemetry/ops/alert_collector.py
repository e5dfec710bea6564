"""The alerts about the way of the telemetry: the Collector, and the Watchdog.

No indicator gives them, for no Dataface process can tell them of itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from context_telemetry.health import promql
from context_telemetry.health.promql import duration
from context_telemetry.limits.model import Objectives
from context_telemetry.ops.alert_wording import LASTS, VALUE, Alert, Severity, label_of
from context_telemetry.ops.shared import COLLECTOR_JOB, QUEUE_FILLING, SIGNALS

_JOB: Final = f'{{job="{COLLECTOR_JOB}"}}'


def either(expressions: Iterable[str]) -> str:
    """What one of them has."""
    return "\nor\n".join(expressions)


def _lost(metric: str, end: str, seconds: float) -> str:
    """What was lost of each signal. The Collector makes these counters at the first loss: born, they count in full."""
    by = ("job", "instance", end)
    return either(f"{promql.added(f'{metric}_{signal}{_JOB}', seconds, by)} > 0" for signal in SIGNALS)


def _disordered(seconds: float) -> str:
    """Points that came out of order and were not added up: what was counted is too low. Not one, as the gateway is."""
    series = f'otelcol_deltatocumulative_datapoints{{job="{COLLECTOR_JOB}", error!=""}}'
    return f"{promql.added(series, seconds, ('job', 'instance'))} > 0"


def _stuck(seconds: float) -> str:
    """How much has waited in a queue all the while of which nothing was sent. A Collector that tries for ever, as ours
    does, counts no failure while its backend is away.
    """
    window, by = duration(seconds), "job, instance, exporter"
    size = f"otelcol_exporter_queue_size{_JOB}"
    sent = "\n  or\n".join(
        f"  sum by ({by}) (increase(otelcol_exporter_sent_{signal}{_JOB}[{window}])) > 0"
        for signal in SIGNALS
    )
    return (
        f"max by ({by}) (\n  min_over_time({size}[{window}]) and {size} offset {window} > 0\n) > 0\n"
        f"unless (\n{sent}\n)"
    )


def of_collector(objectives: Objectives) -> list[Alert]:
    """The alerts about the Collector, the page first."""
    page, ticket = (LASTS[each] * objectives.window for each in ("page", "ticket"))
    queue = f"otelcol_exporter_queue_size{_JOB}", f"otelcol_exporter_queue_capacity{_JOB}"

    def alert(name: str, severity: Severity, expression: str, lasts: float, summary: str, form: str) -> Alert:
        return Alert(name, severity, "telemetry", "", expression, lasts, summary, form, by=())

    exporter, receiver = label_of("exporter"), label_of("receiver")
    return [
        alert(
            "DatafaceCollectorDown",
            "page",
            f"sum(up{_JOB}) == 0\nor\nabsent(up{_JOB})",
            page,
            "The Collector does not answer: nothing that is served is seen",
            "humanize",
        ),
        # Where there are several. When all are down, the page takes the place of these.
        alert(
            "DatafaceCollectorDown",
            "ticket",
            f"up{_JOB} == 0",
            ticket,
            f"The Collector at {label_of('instance')} does not answer: what is sent to it is not seen",
            "humanize",
        ),
        alert(
            "DatafaceCollectorRefusing",
            "ticket",
            either([_lost("otelcol_receiver_refused", "receiver", ticket), _disordered(ticket)]),
            0.0,
            f"The Collector refuses telemetry: {VALUE} items at {receiver}",
            "humanize",
        ),
        alert(
            "DatafaceCollectorExportFailing",
            "ticket",
            either(
                [
                    _lost("otelcol_exporter_send_failed", "exporter", ticket),
                    _lost("otelcol_exporter_enqueue_failed", "exporter", ticket),
                    _stuck(ticket),
                ]
            ),
            0.0,
            f"The Collector cannot deliver: {VALUE} items at {exporter}",
            "humanize",
        ),
        alert(
            "DatafaceCollectorQueueFilling",
            "ticket",
            f"max by (job, instance, exporter, data_type) (\n  {queue[0]}\n  / {queue[1]}\n) > {QUEUE_FILLING}",
            ticket,
            f"A queue of the Collector fills: {VALUE} of {exporter}; at 100% telemetry is lost",
            "humanizePercentage",
        ),
    ]


def watchdog() -> Alert:
    """The alert that always fires: what is outside raises the alarm when it stops coming."""
    return Alert(
        "DatafaceWatchdog", "none", "telemetry", "", "vector(1)", 0.0, "Alerts are evaluated and sent", by=()
    )
