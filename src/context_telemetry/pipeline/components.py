"""What OpenTelemetry's variables name besides exporters: a sampler, an id generator, each signal's configurator.

They are found and made as the SDK's own configurator does it, which nobody calls where the pipeline is ours. What
`OTEL_CONFIG_FILE` says is not read: it speaks of a whole pipeline.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.id_generator import IdGenerator
    from opentelemetry.sdk.trace.sampling import Sampler

T = TypeVar("T")

SAMPLER = "OTEL_TRACES_SAMPLER"
_ARGUMENT = "OTEL_TRACES_SAMPLER_ARG"
EXEMPLAR_FILTER = "OTEL_METRICS_EXEMPLAR_FILTER"
_SAMPLERS = "opentelemetry_traces_sampler"
_SDK = "opentelemetry.sdk."


@dataclass(frozen=True)
class Components:
    """What the providers of a pipeline are made with.

    ``sampler`` is None where the SDK makes one of its own from the same variables, ``id_generator`` where it is the
    SDK's. ``configurators`` say which tracers, meters and loggers of a provider are on, by these words without their s.
    """

    sampler: Sampler | None
    id_generator: IdGenerator | None
    configurators: Mapping[str, Callable[..., Any]]
    problems: tuple[str, ...]

    def configure(self, kind: str, provider: Any) -> None:
        """Hand ``provider`` the configurator of its tracers, meters or loggers, where there is one."""
        if kind in self.configurators:
            getattr(provider, _setter(kind))(**{f"{kind}_configurator": self.configurators[kind]})


def _setter(kind: str) -> str:
    return f"_set_{kind}_configurator"  # there is no public way


def components(environ: Mapping[str, str] = os.environ) -> Components:
    """What ``environ`` names, made. What cannot be had is told as a problem, and is as if it had not been named.

    It runs what others have written, which may begin threads: to look, once is enough.
    """
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBasedTraceIdRatio, TraceIdRatioBased

    by_ratio = {"traceidratio": TraceIdRatioBased, "parentbased_traceidratio": ParentBasedTraceIdRatio}
    problems: list[str] = []

    def made(variable: str, group: str, make: Callable[[EntryPoint], T], otherwise: str) -> T | None:
        name = environ.get(variable, "").strip()
        points = tuple(entry_points(group=group, name=name)) if name else ()
        try:
            if points:
                return make(points[0])
        except Exception as error:
            problems.append(f"{variable}={name} cannot be used ({type(error).__name__}): {otherwise}")
            return None
        if name:
            problems.append(f"{variable}={name} is not installed (entry point group {group}): {otherwise}")
        return None

    sampler: Sampler | None = None
    name, argument = environ.get(SAMPLER, "").lower(), environ.get(_ARGUMENT)
    if not _is_sdks(name):
        # Whatever a client's traceparent says, unless the operator says otherwise.
        sampler = made(SAMPLER, _SAMPLERS, partial(_sampler, argument), "every span is recorded") or ALWAYS_ON
    elif argument and name in by_ratio and not _is_ratio(argument):
        problems.append(f"{_ARGUMENT}={argument} is no number from 0 to 1: {name} goes by 1")
        # As the SDK has it, where it does not raise: OpenTelemetry 1.39 does for 1.5.
        sampler = by_ratio[name](1.0)
    ids = made("OTEL_PYTHON_ID_GENERATOR", "opentelemetry_id_generator", _id_generator, "ids are random")
    configurators: dict[str, Callable[..., Any]] = {}
    for kind, provider in (("tracer", TracerProvider), ("meter", MeterProvider), ("logger", LoggerProvider)):
        variable, group = f"OTEL_PYTHON_{kind.upper()}_CONFIGURATOR", f"_opentelemetry_{kind}_configurator"
        found = made(variable, group, partial(_configurator, kind, provider), f"every {kind} is on")
        if found is not None:
            configurators[kind] = found
    return Components(sampler, ids, configurators, tuple(problems))


def _sampler(argument: str | None, point: EntryPoint) -> Sampler:
    from opentelemetry.sdk.trace.sampling import Sampler

    given = point.load()(argument)
    if not isinstance(given, Sampler):
        raise TypeError
    return given


def _id_generator(point: EntryPoint) -> IdGenerator | None:
    from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator

    given = point.load()()
    if not isinstance(given, IdGenerator):
        raise TypeError
    return None if type(given) is RandomIdGenerator else given


def _configurator(kind: str, provider: type, point: EntryPoint) -> Callable[..., Any]:
    getattr(provider, _setter(kind))  # without which it is of no use
    return point.load()  # type: ignore[no-any-return]  # it is the SDK that calls it


def _is_ratio(argument: str) -> bool:
    try:
        return 0.0 <= float(argument) <= 1.0
    except ValueError:
        return False


def _is_sdks(sampler: str) -> bool:
    """Whether the SDK knows a sampler of that name, and reads its argument, by itself."""
    points = entry_points(group=_SAMPLERS, name=sampler) if sampler else ()
    return any(point.value.startswith(_SDK) for point in points)


def why_no_metrics() -> str:
    """What keeps the SDK from making any provider of meters, told as a problem; empty where nothing does."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.resources import Resource

    try:
        MeterProvider(resource=Resource.get_empty(), shutdown_on_exit=False)
    except ValueError:
        return (
            f"{EXEMPLAR_FILTER}={os.environ.get(EXEMPLAR_FILTER)} is no exemplar filter: there are no metrics"
        )
    return ""
