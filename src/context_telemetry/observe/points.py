"""The metric points of records and events, as the conventions' table derives them.

Which instruments exist, what they count and by which attributes is that table; this module only walks it. A call
leaves one entry in a queue. What that adds to the metrics is worked out when somebody collects them (which asks the
observable instruments of ours first, and they take the queue over), or by the worker when many entries wait.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation, get_meter
from opentelemetry.util.types import AttributeValue

from context_telemetry.conventions import names
from context_telemetry.conventions.derive import applies, bounded
from context_telemetry.conventions.metric import Metric
from context_telemetry.observe import failsafe, older_sdk, sdk_fork, worker
from context_telemetry.observe.fork import renew_in_child

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

# Label sets are remembered by the raw values that they were made from. Clients can vary those: forget at this many.
_REMEMBERED = 4_096

QUEUED = 2_048
"""At most so many entries wait, each as large as its attributes (of six, 0.6 KB); what comes when the queue is full is
recorded at once. A collection counts them first, which takes 0.1 s of a processor that threads may be busy on."""

# The worker takes the queue over at this many: until somebody collects, that can be a minute.
_MANY = 1_024
# Values with exemplars that wait for a collection, where they have to; of more, the oldest go without.
_UNSHOWN = 1_024
# Entries that are recorded in one go: in between, whoever waits has its turn.
_CHUNK = 128

RecordValue = Callable[[float, "SpanContext | None", int], None]
"""Records a value of one series of a histogram, with who the span is that is its exemplar, if one is, and when."""
Histograms = Callable[[Metric, Mapping[str, AttributeValue], int], RecordValue]
"""Makes the series of a histogram that has these labels, beginning at this Unix time in nanoseconds."""

_Unshown = deque[tuple[Callable[..., None], float, Mapping[str, AttributeValue], Context]]
"""How a value is recorded, the value, its labels, and the context of its exemplar."""

Entry = tuple[Mapping[str, Any], float, "SpanContext | None", int]
"""What a finished call leaves to be counted: its attributes, its duration in seconds, the span for an exemplar, and its
end (Unix time in nanoseconds)."""


class _Series:
    """One set of labels of a counter or gauge, with its running value, for the SDK to ask for."""

    __slots__ = ("labels", "value")

    def __init__(self, labels: dict[str, AttributeValue]) -> None:
        self.labels = labels
        self.value: float = 0


class _Row:
    """All that one kind of call adds; of the values that a call is asked for, by their position."""

    __slots__ = ("each", "histograms", "names", "numbers", "ones", "values")

    def __init__(self) -> None:
        self.names: list[str] = []
        self.values: Callable[[Any], Any] = lambda attributes: ()
        """The values of one call, a tuple in the order of ``names``."""
        self.histograms: list[tuple[RecordValue, tuple[float, ...], int | None]] = []
        """With the boundaries of its buckets and the value that is recorded; None: the duration."""
        self.ones: list[tuple[_Series, int]] = []
        """Counters to which every such call adds the same."""
        self.numbers: list[tuple[_Series, int]] = []
        """Counters to which a call adds a value."""
        self.each: list[tuple[Metric, dict[str, AttributeValue], int, int | None]] = []
        """Metrics with a series for each item of a value: the labels in common, the items, what each adds (None: 1)."""

    def asks(self, name: str) -> int:
        """The position of an attribute's value."""
        if name not in self.names:
            self.names.append(name)
            self.values = itemgetter(*self.names, name)  # of two at least, so that it is a tuple
        return self.names.index(name)


class _Shape:
    """Calls whose attributes have the same names: what of the values decides about their labels, and their rows."""

    __slots__ = ("decisive", "rows")

    def __init__(self, attributes: Mapping[str, AttributeValue]) -> None:
        deciding = {names.DATAFACE_ENTRY}
        for metric in names.METRICS:
            if metric.source == "span":
                sources = {(metric.read_from or {}).get(label, label) for label in metric.attributes}
                bounds = [names.BOUNDS[label] for label in metric.attributes if label in names.BOUNDS]
                deciding |= sources - {metric.each}
                deciding |= {guard for bound in bounds for guard, _ in bound.where}
        found = [name for name in attributes if name in deciding]
        # As one value that can be looked up.
        self.decisive: Callable[[Any], object] = itemgetter(*found) if found else lambda attributes: None
        self.rows: dict[object, _Row] = {}


class Points:
    """Queues and counts calls, and keeps the running numbers of counters and gauges.

    Which metrics count a call depends on which attributes it has, so that is decided once per shape. Counters and
    gauges are numbers of ours that the SDK asks for when it collects: a fifth of the cost of telling it each time.
    ``provider`` (None: the process's own) has one of these for all its time: the SDK drops the instruments of a second
    one. ``histograms`` makes the series of histograms, which can begin in the past; by default they are the meter's,
    which cannot. ``unpack`` makes an entry of whatever `count` is given, when it is counted.
    """

    def __init__(
        self,
        provider: MeterProvider | None,
        histograms: Histograms | None = None,
        unpack: Callable[[Any], Entry] | None = None,
    ) -> None:
        meter = get_meter(names.SCOPE, names.VERSION, provider, schema_url=names.SCHEMA_URL)
        # Weakly: it has these, and not they it.
        self._provider: Callable[[], object] = (lambda: None) if provider is None else weakref.ref(provider)
        self._queue: deque[Any] = deque()
        self._called = False
        self._shapes: dict[tuple[str, ...], _Shape] = {}
        self._remembered = 0
        self._series: dict[str, dict[tuple[object, ...], _Series]] = {
            metric.name: {} for metric in names.METRICS
        }
        self._unshown: _Unshown = deque()
        self._asked: set[str] = set()
        self._histogram = histograms or _meter_histograms(
            meter, self._unshown if older_sdk.mixes_exemplars() else None
        )
        self._unpack = unpack or _as_it_is
        self._renew_locks()
        for metric in names.METRICS:
            name, unit, brief = metric.name, metric.unit, metric.brief
            if metric.instrument == "counter":
                meter.create_observable_counter(name, [self._observer(name)], unit, brief)
            elif metric.instrument == "gauge":
                meter.create_observable_gauge(name, [self._observer(name)], unit, brief)
        renew_in_child(self._renew)

    def _renew_locks(self) -> None:
        # In this order, and after the SDK's, which asks for what waits while it collects.
        self._taking = threading.RLock()  # entries are taken from the queue
        self._counting = threading.RLock()  # numbers of ours, and what is known of series

    def _renew(self) -> None:
        self._renew_locks()
        sdk_fork.renew(self._provider())
        self._queue.clear()
        self._unshown.clear()
        self._asked = set()
        self._shapes.clear()
        self._remembered = 0
        self._called = False
        for series in self._series.values():
            for each in series.values():
                each.value = 0

    def count(self, record: Any) -> None:
        """Count a finished call later, at once where the queue is full: an entry, or what ``unpack`` makes one of."""
        self._queue.append(record)
        if len(self._queue) >= _MANY:
            self._crowded()

    def _crowded(self) -> None:
        if len(self._queue) > QUEUED:
            with contextlib.suppress(IndexError):
                self._record((self._queue.pop(),))
        if not self._called:
            self._called = True
            worker.soon(self.take_over)

    def take_over(self) -> None:
        """Count everything that waits, and not what comes meanwhile: where calls never pause, that has no end."""
        queue = self._queue
        self._called = False
        for _ in range(0, len(queue), _CHUNK):
            with self._taking:
                chunk = [queue.popleft() for _ in range(min(_CHUNK, len(queue)))]
                self._record(chunk)
        with self._taking:  # and what another thread has taken over
            pass

    def _show(self) -> None:
        """Record what waits for a collection, in one: until it is over there is no other."""
        for _ in range(len(self._unshown)):  # as many as there were: more may come all the time
            try:
                record, value, labels, shown = self._unshown.popleft()
                record(value, labels, shown)
            except IndexError:  # the oldest of too many has just gone without its exemplar
                return
            except Exception as error:
                failsafe.caught("recorder.points", error)

    def _record(self, chunk: Iterable[Any]) -> None:
        unpack = self._unpack
        alike: dict[_Row, list[tuple[Any, float, SpanContext | None, int]]] = {}
        for record in chunk:
            try:
                attributes, duration, exemplar, ended = unpack(record)
                row = self._row_of(attributes, ended)
                alike.setdefault(row, []).append((row.values(attributes), duration, exemplar, ended))
            except Exception as error:
                failsafe.caught("recorder.points", error)
        added: list[tuple[_Series, float]] = []
        for row, calls in alike.items():
            for histogram in row.histograms:
                _record_values(calls, *histogram)
            if row.numbers or row.each:
                for values, *_ in calls:
                    try:
                        added.extend(self._numbers(row, values))
                    except Exception as error:
                        failsafe.caught("recorder.points", error)
        with self._counting:
            for row, calls in alike.items():
                for series, number in row.ones:
                    series.value += number * len(calls)
            for series, amount in added:
                series.value += amount

    def event(self, name: str, attributes: Mapping[str, Any], at: int) -> None:
        """Take over what an event says: gauges are set, what was added is added, durations are recorded."""
        for metric in names.METRICS:
            if (
                metric.source != "event"
                or metric.when.get("event") != name
                or not applies(metric, attributes)
            ):
                continue
            labels = {each: attributes[each] for each in metric.attributes if each in attributes}
            if metric.parts is not None and metric.each is not None:
                for part, attribute in metric.parts.items():
                    if attribute in attributes:
                        self._take(metric, {**labels, metric.each: part}, attributes[attribute])
            elif metric.instrument == "histogram":
                self._histogram(metric, labels, at)(attributes[str(metric.value)], None, at)
            else:
                self._take(metric, labels, attributes[str(metric.value)])

    def _row_of(self, attributes: Mapping[str, Any], ended: int) -> _Row:
        try:
            return self._row(attributes) or self._remember(attributes, ended)
        except TypeError:  # a list among them: it is no key, and a tuple is
            keys = {
                name: tuple(each) if isinstance(each, list) else each for name, each in attributes.items()
            }
            return self._row(keys) or self._remember(keys, ended)

    def _row(self, attributes: Mapping[str, Any]) -> _Row | None:
        """What a call with these attributes adds; None where no such call was seen yet."""
        shape = self._shapes.get(tuple(attributes))
        return None if shape is None else shape.rows.get(shape.decisive(attributes))

    def _remember(self, attributes: Mapping[str, Any], ended: int) -> _Row:
        with self._counting:
            if self._remembered >= _REMEMBERED:
                self._shapes.clear()
                self._remembered = 0
            shown = tuple(attributes)
            shape = self._shapes.get(shown)
            if shape is None:
                shape = self._shapes[shown] = _Shape(attributes)
            decisive = shape.decisive(attributes)
            row = shape.rows.get(decisive)
            if row is None:
                row = shape.rows[decisive] = self._make(attributes, ended)
                self._remembered += 1
            return row

    def _make(self, attributes: Mapping[str, Any], ended: int) -> _Row:
        row = _Row()
        for metric in names.METRICS:
            if metric.source != "span" or not applies(metric, attributes):
                continue
            labels = self._labels(metric, attributes)
            value = metric.value
            asked = None if isinstance(value, int) or value == "duration" else row.asks(value)
            if metric.each is not None:
                row.each.append((metric, labels, row.asks(metric.each), asked))
            elif metric.instrument == "histogram":
                row.histograms.append((self._histogram(metric, labels, ended), metric.boundaries, asked))
            elif asked is None:
                row.ones.append((self._canonical(metric.name, labels), int(value)))
            else:
                row.numbers.append((self._canonical(metric.name, labels), asked))
        return row

    def _labels(self, metric: Metric, attributes: Mapping[str, Any]) -> dict[str, AttributeValue]:
        labels: dict[str, AttributeValue] = {}
        for label in metric.attributes:
            source = (metric.read_from or {}).get(label, label)
            value = attributes.get(source)
            if value is None or source == metric.each:
                continue
            if isinstance(value, (tuple, list)):
                value = value[0]
            labels[label] = bounded(label, value, attributes)
        return labels

    def _numbers(self, row: _Row, values: tuple[Any, ...]) -> Iterable[tuple[_Series, float]]:
        for series, position in row.numbers:
            yield series, values[position]
        for metric, common, items, asked in row.each:
            source = metric.read_from or {}
            label = next(each for each in metric.attributes if source.get(each, each) == metric.each)
            for item in values[items]:
                series = self._canonical(metric.name, {**common, label: item})
                yield series, 1 if asked is None else values[asked]

    def _canonical(self, metric: str, labels: dict[str, AttributeValue]) -> _Series:
        key = tuple(labels.items())
        known = self._series[metric]
        with self._counting:
            series = known.get(key)
            if series is None:
                series = known[key] = _Series(labels)
            return series

    def _take(self, metric: Metric, labels: dict[str, AttributeValue], value: Any) -> None:
        with self._counting:
            series = self._canonical(metric.name, labels)
            series.value = value if metric.instrument == "gauge" else series.value + value

    def _observer(self, metric: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_options: CallbackOptions) -> Iterable[Observation]:
            # Once in a collection, by whoever is asked first: that one was asked before, in the last collection.
            if not self._asked or metric in self._asked:
                self._asked = set()
                with (
                    self._taking
                ):  # all in one go: whoever waits for a lock waits for the processor once more
                    self.take_over()
                self._show()
            self._asked.add(metric)
            with self._counting:
                return [Observation(series.value, series.labels) for series in self._series[metric].values()]

        return observe


def _as_it_is(record: Entry) -> Entry:
    return record


def _record_values(
    calls: Sequence[tuple[Any, float, SpanContext | None, int]],
    record: RecordValue,
    boundaries: tuple[float, ...],
    position: int | None,
) -> None:
    """Record one value of each call. An exemplar costs as much as its point, and a bucket keeps the last one of it."""
    last: dict[int, int] = {}
    for number, (values, duration, exemplar, _) in enumerate(calls):
        if exemplar is not None:
            with contextlib.suppress(TypeError):  # a value that is none is told below
                last[bisect_left(boundaries, duration if position is None else values[position])] = number
    shown = set(last.values())
    for number, (values, duration, exemplar, ended) in enumerate(calls):
        try:
            value = duration if position is None else values[position]
            record(value, exemplar if number in shown else None, ended)
        except Exception as error:
            failsafe.caught("recorder.points", error)


def _meter_histograms(meter: Meter, unshown: _Unshown | None) -> Histograms:
    """The meter's own histograms; an exemplar is then the context of its span.

    Where values with an exemplar are to be recorded while somebody collects, and then only, they go into ``unshown``.
    """
    from opentelemetry.trace import INVALID_SPAN_CONTEXT, NonRecordingSpan, set_span_in_context

    # The SDK takes an empty context for "the current one", which is somebody else's when an entry is recorded; and one
    # without a span leaves a bucket the span of its last value.
    nothing = set_span_in_context(NonRecordingSpan(INVALID_SPAN_CONTEXT), Context())
    histograms = {
        metric.name: meter.create_histogram(
            metric.name, metric.unit, metric.brief, explicit_bucket_boundaries_advisory=metric.boundaries
        )
        for metric in names.METRICS
        if metric.instrument == "histogram"
    }

    def series(metric: Metric, labels: Mapping[str, AttributeValue], _begins: int) -> RecordValue:
        record = histograms[metric.name].record

        def record_value(value: float, exemplar: SpanContext | None, _at: int) -> None:
            if exemplar is None:
                record(value, labels, nothing)
                return
            shown = set_span_in_context(NonRecordingSpan(exemplar), nothing)
            if unshown is None:
                record(value, labels, shown)
                return
            unshown.append((record, value, labels, shown))
            if len(unshown) > _UNSHOWN:
                with contextlib.suppress(IndexError):  # a collection has just taken all
                    oldest, earlier, its, _ = unshown.popleft()
                    oldest(earlier, its, nothing)

        return record_value

    return series
