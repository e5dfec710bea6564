"""How much of a metric: the one form in which indicators, rules and panels say what they count. It counts nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from context_telemetry.conventions import names
from context_telemetry.conventions.metric import Metric

_METRICS = {each.name: each for each in names.METRICS}


@dataclass(frozen=True)
class Sum:
    """The points of a metric with these labels, added up.

    A label in ``where`` has one of the values, a label in ``unless`` none of them; a point without the label is no
    match for ``where`` and is one for ``unless``. ``above`` is one of a histogram's boundaries: only what was measured
    above it counts. Raises ValueError for what the conventions do not know: an indicator cannot name it.
    """

    metric: str
    where: Mapping[str, frozenset[str]] = field(default_factory=dict)
    unless: Mapping[str, frozenset[str]] = field(default_factory=dict)
    above: float | None = None

    def __post_init__(self) -> None:
        metric = _METRICS.get(self.metric)
        if metric is None:
            raise ValueError(f"there is no metric {self.metric}")
        unknown = {*self.where, *self.unless} - set(metric.attributes)
        if unknown:
            raise ValueError(f"{self.metric} has no label {', '.join(sorted(unknown))}")
        if self.above is not None and self.above not in metric.boundaries:
            boundaries = ", ".join(f"{each:g}" for each in metric.boundaries) or "none: it is no histogram"
            raise ValueError(f"{self.above:g} is no boundary of {self.metric}; there are {boundaries}")

    @property
    def of(self) -> Metric:
        """The metric."""
        return _METRICS[self.metric]

    @property
    def by_surface(self) -> bool:
        """Whether its points say the surface."""
        return names.DATAFACE_SURFACE in self.of.attributes


def some(metric: str, **labels: str | frozenset[str]) -> Sum:
    """A `Sum` whose labels are told by the last part of their name: ``some(SERVED, outcome="degraded")``.

    Raises KeyError for a word that is the last part of none, ValueError for one that is that of several.
    """
    every = _METRICS[metric].attributes
    known = {each.rpartition(".")[2]: each for each in every}
    if several := [word for word in labels if sum(each.endswith(f".{word}") for each in every) > 1]:
        raise ValueError(f"{metric} has more than one label that ends in {', '.join(several)}")
    where = {
        known[name]: frozenset({value}) if isinstance(value, str) else value for name, value in labels.items()
    }
    return Sum(metric, where)
