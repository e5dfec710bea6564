"""From records to telemetry: the one small interface behind which a recorder works, and which one is in use.

It knows no operations and no Dataface. What records is imported when somebody would receive a record: whoever only
decorates does not pay for the metrics API.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

import opentelemetry.trace
from opentelemetry.context import Context
from opentelemetry.trace import Span
from opentelemetry.util.types import AttributeValue

from context_telemetry.observe import failsafe, process_providers
from context_telemetry.observe.fork import importing, on_forget, renew_in_child

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from context_telemetry.limits import CompiledLimits
    from context_telemetry.observe.operation import Operation


class Recorder(Protocol):
    """What `observe` hands its records to. No method raises."""

    fallbacks: tuple[str, ...]
    """Why records are the SDK's own spans or histograms, as the conventions name it; none where they are not."""

    @property
    def sampler(self) -> str | None:
        """What may leave spans out, as the conventions name it; None where nothing does, as far as that is known."""
        ...

    def start(self, op: Operation, parent: Context) -> Span:
        """Begin the span of ``op``, as a child of what is in ``parent``."""
        ...

    def finish(self, op: Operation) -> None:
        """Take over the finished record."""
        ...

    def shares(self, span: Span) -> bool:
        """Whether a neighbour's span goes where the records go, as far as that can be told."""
        ...

    def event(self, name: str, attributes: Mapping[str, AttributeValue], warning: bool) -> None:
        """Emit one event of the conventions."""
        ...


_own: Recorder | None = None
_own_is_private = False
_default: Recorder | None = None
_armed: Callable[[], None] | None = None
_starting = False
_arming = threading.RLock()
_limits: CompiledLimits | None = None
_read_error_code: Callable[[BaseException], str | None] = lambda error: None  # noqa: E731  # replaced by a function


def _host_configured() -> bool:
    """Whether this process has OpenTelemetry providers. The globals are read because asking costs 0.5 us a time."""
    try:
        if opentelemetry.trace._TRACER_PROVIDER is not None:
            return True
        metrics = sys.modules.get("opentelemetry.metrics")  # nobody who has not imported it has set one
        return metrics is not None and metrics._internal._METER_PROVIDER is not None
    except AttributeError:
        return process_providers.has_any()


def heard() -> Recorder | None:
    """What a new operation is recorded by; None where nobody would receive a record: observing costs this one look."""
    if _own is not None and not _own_is_private:
        return _own
    if _host_configured():
        return _default_one()
    if _own is not None or (_armed is None and not _starting):
        return _own
    _start()
    return active() if _own is not None or _host_configured() else None


def _start() -> None:
    """Have providers brought; who comes while that goes on waits for it, but for what brings them itself."""
    global _starting
    with _arming:
        start = _armed
        if start is not None:
            _starting = True
            disarm()
            try:
                start()
            finally:
                _starting = False


def _renew() -> None:
    global _arming, _starting
    _arming, _starting = threading.RLock(), False


renew_in_child(_renew)


def arm(start: Callable[[], None]) -> None:
    """Have ``start`` called at the first operation that finds no providers, to bring some."""
    global _armed
    _armed = start


def disarm() -> None:
    """Undo `arm`."""
    global _armed
    _armed = None


def use(
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    logger_provider: LoggerProvider | None = None,
) -> None:
    """Record to these providers of the host's, where it gives any."""
    if tracer_provider is None and meter_provider is None and logger_provider is None:
        return
    from context_telemetry.observe.opentelemetry_recorder import OpenTelemetryRecorder

    install(OpenTelemetryRecorder(tracer_provider, meter_provider, logger_provider))


def install(recorder: Recorder, *, private: bool = False) -> None:
    """Record by ``recorder``. A ``private`` one gives way as soon as the host has providers of its own."""
    global _own, _own_is_private
    _own, _own_is_private = recorder, private


@on_forget
def forget() -> None:
    """Record to the process's own providers again, with default limits."""
    global _own, _own_is_private, _limits
    _own, _own_is_private, _limits = None, False, None
    disarm()


def active() -> Recorder:
    """`heard`, for who records whether anybody listens or not."""
    if _own is not None and not (_own_is_private and _host_configured()):
        return _own
    return _default_one()


def _default_one() -> Recorder:
    global _default
    if _default is None:
        with importing():
            from context_telemetry.observe.opentelemetry_recorder import OpenTelemetryRecorder

        try:
            _default = OpenTelemetryRecorder()
        except Exception as error:  # providers of the host's that we cannot use are no reason to stop a call
            from opentelemetry._logs import NoOpLoggerProvider
            from opentelemetry.metrics import NoOpMeterProvider
            from opentelemetry.trace import NoOpTracerProvider

            failsafe.caught("recorder", error)
            _default = OpenTelemetryRecorder(NoOpTracerProvider(), NoOpMeterProvider(), NoOpLoggerProvider())
    return _default


def event(name: str, attributes: Mapping[str, AttributeValue], warning: bool) -> None:
    """Emit one event of the conventions, if anybody would receive it."""
    by = heard()
    if by is None:
        return
    try:
        by.event(name, attributes, warning)
    except Exception as error:
        failsafe.caught("recorder.event", error)


def limits() -> CompiledLimits:
    """The limits in force, the published defaults until somebody sets others."""
    global _limits
    if _limits is None:
        with importing():
            from context_telemetry.limits import Limits  # here, because it imports pydantic

        _limits = Limits().compile()
    return _limits


def set_limits(compiled: CompiledLimits) -> None:
    """Apply these limits from now on."""
    global _limits
    _limits = compiled


def error_code(error: BaseException) -> str | None:
    """The observed software's own code of an exception, None when it has none."""
    return _read_error_code(error)


def set_error_code_reader(read: Callable[[BaseException], str | None]) -> None:
    """Say how the observed software's exceptions carry their codes."""
    global _read_error_code
    _read_error_code = read
