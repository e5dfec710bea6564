"""What a `Sum` is in PromQL, for rules, panels and `status --prometheus` alike. It asks nobody.

Names are those that the Collector's prometheus exporter and Prometheus' own OTLP endpoint give; a test holds them
against both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from context_telemetry.conventions import names
from context_telemetry.conventions.metric import Metric
from context_telemetry.health.sums import Sum

SURFACE = "dataface_surface"
NAMESPACE = "service_namespace"
ENVIRONMENT = "deployment_environment_name"
PLACE = (NAMESPACE, ENVIRONMENT)
"""What tells one Dataface from another."""

REMEMBERED = 7 * 86_400.0
"""Seconds for which a moment that was said holds: an artefact's age is told once a day and at each change."""

KEPT = 86_400.0
"""Seconds for which anything else that a gauge said holds: a session of a minute says it once."""

SAID_AGAIN = 3600.0
"""Seconds in which every process that lives has said twice which flaws it has (`context_telemetry.flaws`)."""

# A scrape that failed, or an engine that was started anew, is no birth of a series.
_GAP = 600.0
# https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/: units become words.
_UNITS = {"s": "seconds", "By": "bytes", "1": "ratio"}


def prometheus_name(metric: Metric, part: str = "") -> str:
    """What a metric is called, with ``part`` one of `_count`, `_sum` and `_bucket` of a histogram."""
    name = label(metric.name)
    unit = _UNITS.get(metric.unit, "")
    if unit and not name.endswith(f"_{unit}"):
        name += f"_{unit}"
    return name + ("_total" if metric.instrument == "counter" else part)


def label(attribute: str) -> str:
    """What an attribute is called as a label."""
    return re.sub(r"\W", "_", attribute)


def duration(seconds: float) -> str:
    """Seconds as PromQL has them, in the largest unit that is exact: `1h`, `90s`, `500ms`."""
    milliseconds = round(seconds * 1000)
    for unit, length in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if milliseconds and milliseconds % length == 0:
            return f"{milliseconds // length}{unit}"
    return f"{milliseconds}ms"


def selector(each: Sum, part: str = "", extra: Mapping[str, str] | None = None) -> str:
    """The series of a sum; ``extra`` are more labels, each with the value that it has."""
    matchers = [f"{label(name)}{_is(values)}" for name, values in sorted(each.where.items())]
    matchers += [f"{label(name)}{_is(values, '!')}" for name, values in sorted(each.unless.items())]
    matchers += [f"{name}={_quoted(value)}" for name, value in sorted((extra or {}).items())]
    if part == "_bucket" and each.above is not None:
        matchers.append(f"le=~{_quoted(_bound(each.above))}")
    found = prometheus_name(each.of, part)
    return f"{found}{{{', '.join(matchers)}}}" if matchers else found


def increase(
    each: Sum, seconds: float, by: Sequence[str] = (SURFACE,), extra: Mapping[str, str] | None = None
) -> str:
    """What was added to a counter, or measured by a histogram, in the last ``seconds``, summed by these labels.

    A whole number: `increase()` extrapolates to the window's ends and gives 7.8 for 7. A series that was born in the
    window counts from 0, which `increase()` leaves out, and one that has ended in it to its end; one that began anew in
    it is left to `increase()`. A gap of up to ten minutes before the window is no birth.
    """
    if each.of.instrument == "counter":
        return added(selector(each, "", extra), seconds, by)
    counted = added(selector(each, "_count", extra), seconds, by)
    if each.above is None:
        return counted
    return f"({counted} - {added(selector(each, '_bucket', extra), seconds, by)})"


def added(series: str, seconds: float, by: Sequence[str]) -> str:
    """`increase` of the series of one selector."""
    window = duration(seconds)
    first = f"last_over_time({series}[{duration(_GAP)}] offset {window})"
    end = f"last_over_time({series}[{window}])"
    # It may have begun anew between the sample that is `first` and the window's own first one.
    anew = f"resets({series}[{duration(seconds + _GAP)}])"
    each = f"{end} - {first} and {anew} == 0 or increase({series}[{window}]) and {first} or {end}"
    return f"sum by ({', '.join(by)}) ({each})" if by else f"sum({each})"


def latest(each: Sum, seconds: float, by: Sequence[str] = (), extra: Mapping[str, str] | None = None) -> str:
    """What was said last, also where its process has stopped since, as long as that is within ``seconds``.

    What processes count is said by each of them again: then it is what they said in ``seconds``, an hour at least.
    """
    if each.of.instrument == "counter":
        return increase(each, max(seconds, SAID_AGAIN), by, extra)
    told = last(each, seconds, extra)
    return f"sum by ({', '.join(by)}) ({told})" if by else f"sum({told})"


def last(each: Sum, seconds: float, extra: Mapping[str, str] | None = None) -> str:
    """Each series of a gauge with what was said last within ``seconds``."""
    return f"last_over_time({selector(each, '', extra)}[{duration(seconds)}])"


def said(each: Sum, by: Sequence[str], extra: Mapping[str, str] | None = None) -> str:
    """What was said last of each project and environment, in the last `KEPT` seconds, summed by these labels.

    Of several series of one place, as where a gateway of several has an old one, the highest.
    """
    told = ", ".join((*PLACE, *(label(name) for name in each.of.attributes)))
    return f"sum by ({', '.join(by)}) (max by ({told}) ({last(each, KEPT, extra)}))"


def age(each: Sum, seconds: float, by: Sequence[str] = (), extra: Mapping[str, str] | None = None) -> str:
    """How long ago a gauge's moments are, in seconds, the last that was said of each within ``seconds``."""
    labels = (*by, *(label(name) for name in each.of.attributes))
    return f"time() - max by ({', '.join(labels)}) ({last(each, seconds, extra)})"


def _is(values: frozenset[str], negated: str = "") -> str:
    if len(values) == 1:
        return f"{'!=' if negated else '='}{_quoted(next(iter(values)))}"
    alternatives = "|".join(re.escape(each) for each in sorted(values))
    return f"{'!~' if negated else '=~'}{_quoted(alternatives)}"


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _bound(boundary: float) -> str:
    """A bucket's `le` as a pattern: Prometheus 3 writes 5.0 where others write 5, and Go writes a million 1e+06."""
    if boundary < 1e6:
        return f"{boundary:g}(\\.0)?" if float(boundary).is_integer() else re.escape(f"{boundary:g}")
    mantissa, _, exponent = f"{boundary:e}".partition("e")
    mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{re.escape(repr(boundary).removesuffix('.0'))}(\\.0)?|{re.escape(f'{mantissa}e{exponent}')}"


_KNOWN = frozenset(
    prometheus_name(each, part)
    for each in names.METRICS
    for part in (("_count", "_sum", "_bucket") if each.instrument == "histogram" else ("",))
)


def known_names() -> frozenset[str]:
    """The names of all series that the conventions give."""
    return _KNOWN
