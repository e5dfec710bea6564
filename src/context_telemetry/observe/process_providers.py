"""The process's own providers, where it has any: OpenTelemetry's globals are read, because asking for one may make it.

A release that has not got them by these names is asked in public. `recorder.heard`, which every call begins with, reads
the same two globals by itself, at half the cost.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeVar

import opentelemetry.trace

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

T = TypeVar("T")


def has_any() -> bool:
    """Whether this process has a provider of tracers or of meters already."""
    return tracer_provider() is not None or meter_provider() is not None


def tracer_provider() -> TracerProvider | None:
    """The process's provider of tracers; None until it has one."""
    try:
        return opentelemetry.trace._TRACER_PROVIDER
    except AttributeError:
        return _unless_proxy(opentelemetry.trace.get_tracer_provider())


def meter_provider() -> MeterProvider | None:
    """The process's provider of meters; None until it has one. Nobody who has not imported the API has set one."""
    metrics: Any = sys.modules.get("opentelemetry.metrics")
    if metrics is None:
        return None
    try:
        return metrics._internal._METER_PROVIDER  # type: ignore[no-any-return]  # of a module looked up
    except AttributeError:
        ask = getattr(metrics, "get_meter_provider", None)
        return None if ask is None else _unless_proxy(ask())  # None: half imported


def logger_provider() -> LoggerProvider | None:
    """The process's provider of loggers; None until it has one."""
    from opentelemetry import _logs

    try:
        return _logs._internal._LOGGER_PROVIDER
    except AttributeError:
        return _unless_proxy(_logs.get_logger_provider())


def _unless_proxy(asked: T) -> T | None:
    """None for what OpenTelemetry hands out until there is a provider, which has a public name for tracers only."""
    return None if type(asked).__name__.lstrip("_").startswith("Proxy") else asked
