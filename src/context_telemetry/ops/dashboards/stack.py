"""The panels of what stands between the processes and the dashboards: alert rules, Collector, number of series.

These metrics are not ours: ALERTS is Prometheus' own, `otelcol_*` are those of the Collector 0.159 (see
https://opentelemetry.io/docs/collector/internal-telemetry/); a test asks a running one for each.
"""

from __future__ import annotations

from context_telemetry.health import promql
from context_telemetry.health.promql import ENVIRONMENT, NAMESPACE, SURFACE, duration
from context_telemetry.ops.dashboards.expressions import RECENT, row_if_none
from context_telemetry.ops.dashboards.model import Panel, Query, Threshold
from context_telemetry.ops.shared import COLLECTOR_JOB, QUEUE_FILLING, SIGNALS

_WINDOW = duration(RECENT)
# An alert of the Collector has no project: what the variables choose, and what has none.
_CHOSEN = f'{ENVIRONMENT}=~"$environment|", {NAMESPACE}=~"$namespace|"'
_FIRING = f'ALERTS{{alertname=~"Dataface.+", alertname!="DatafaceWatchdog", alertstate="firing", {_CHOSEN}}}'
_PENDING_SINCE = f'ALERTS_FOR_STATE{{alertname=~"Dataface.+", alertname!="DatafaceWatchdog", {_CHOSEN}}}'
_WATCHDOG = 'count(ALERTS{alertname="DatafaceWatchdog", alertstate="firing"})'

_UNREAD = "Prometheus does not read the Collector's own metrics, or nothing came in yet."
_WORDS = {"spans": "spans", "metric_points": "points", "log_records": "events"}


def count() -> str:
    """How many alerts fire; nothing where the rules do not run."""
    return f"count({_FIRING}) or on () 0 * {_WATCHDOG}"


def since() -> str:
    """For how many seconds each alert has been active that fires; one row without a name where none does."""
    by = f"alertname, severity, owner, {SURFACE}"
    active = f"max by ({by}) (time() - ({_PENDING_SINCE} and ignoring (alertstate) {_FIRING}))"
    return row_if_none(active, "alertname", "none", _WATCHDOG)


def running() -> Panel:
    """Whether rules are evaluated at all."""
    return Panel(
        name="rules_running",
        title="Alert rules run",
        answers="1 while the Watchdog fires, which it always does. No data: nobody would be told of anything.",
        kind="stat",
        width=4,
        queries=(Query(_WATCHDOG),),
        empty="The rules do not run, or Prometheus does not see its own alerts.",
    )


def collector() -> tuple[Panel, ...]:
    """What the Collector takes in, and what it cannot get rid of."""
    return (
        Panel(
            name="collector_received",
            title=f"Received by the Collector, {_WINDOW} rate",
            answers="What arrives from the serving processes. A drop to nothing is a Collector that nobody reaches.",
            kind="lines",
            width=8,
            unit="per_second",
            queries=tuple(
                Query(_rate(f"otelcol_receiver_accepted_{signal}"), _WORDS[signal]) for signal in SIGNALS
            ),
            empty=_UNREAD,
        ),
        Panel(
            name="collector_lost",
            title=f"Refused or not sent, {_WINDOW} rate",
            answers="What the Collector refused to take, could not send, or had no room for. Above 0 something "
            "is lost, or sent again later.",
            kind="lines",
            width=8,
            unit="per_second",
            queries=(
                Query(_rate("otelcol_receiver_refused_spans"), "spans refused"),
                Query(_rate_of_losses("otelcol_exporter_send_failed_spans"), "spans not sent"),
                Query(_rate_of_losses("otelcol_exporter_enqueue_failed_spans"), "spans without room"),
            ),
            empty=_UNREAD,
        ),
        Panel(
            name="collector_queue",
            title="Queues, share in use",
            answers="How full each exporter's queue is. A full queue loses what comes next.",
            kind="lines",
            width=8,
            unit="share",
            queries=(
                Query(
                    f"max by (exporter) ({own('otelcol_exporter_queue_size')} / "
                    f"{own('otelcol_exporter_queue_capacity')})",
                    "{{exporter}}",
                ),
            ),
            empty=_UNREAD,
            thresholds=(Threshold(QUEUE_FILLING, "alert"),),
        ),
    )


def series() -> Panel:
    """How many series our metrics have."""
    ours = "|".join(sorted(promql.known_names()))
    return Panel(
        name="series",
        title="Series, by metric",
        answers="How many series each metric has. It follows surfaces, clients and reasons, never sessions or users.",
        kind="areas",
        width=12,
        many=True,
        queries=(Query(f'count by (__name__) ({{__name__=~"{ours}"}})', "{{__name__}}"),),
        empty="No metric of ours has arrived.",
    )


def memory() -> Panel:
    """What the Collector needs."""
    return Panel(
        name="collector_memory",
        title="Memory of the Collector",
        answers="Resident memory of each Collector. The memory limiter refuses data before it grows without end.",
        kind="lines",
        width=12,
        unit="bytes",
        queries=(Query(f"max by (instance) ({own('otelcol_process_memory_rss')})", "{{instance}}"),),
        empty=_UNREAD,
    )


def own(metric: str) -> str:
    """Series of the Collector about itself, with or without the unit's and the type's suffix: its reader decides."""
    return f'{{__name__=~"{metric}(_bytes)?(_total)?", job="{COLLECTOR_JOB}"}}'


def _rate(metric: str) -> str:
    return f"sum(rate({own(metric)}[{_WINDOW}]))"


def _rate_of_losses(metric: str) -> str:
    """The rate of a counter that the Collector makes at the first loss: before that 0, where it says what it sent."""
    return f"{_rate(metric)} or 0 * {_rate('otelcol_exporter_sent_spans')}"
