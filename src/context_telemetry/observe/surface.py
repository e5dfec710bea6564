"""Which protocol the consumer speaks: `with surface("ide"): ...` says it for everything that is served inside.

The surface travels in the OpenTelemetry context, so whatever carries that carries this too.
"""

from __future__ import annotations

from contextvars import Token
from types import TracebackType

from opentelemetry import context as otel_context
from opentelemetry.context import Context

from context_telemetry.conventions import names
from context_telemetry.observe.reading import check_names

_KEY = otel_context.create_key("context-telemetry-surface")
_process_default = "library"


class surface:  # a public name of the vocabulary, read as a statement: `with surface("ide"):`
    """Say the surface of everything served inside. Raises ValueError for a surface that the conventions do not list."""

    __slots__ = ("_name", "_token")

    def __init__(self, name: str) -> None:
        check_names("surface", (name,), names.SURFACES)
        self._name = name
        self._token: Token[Context] | None = None

    def __enter__(self) -> surface:
        self._token = otel_context.attach(otel_context.set_value(_KEY, self._name))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            otel_context.detach(self._token)
            self._token = None


def current_surface(context: Context | None = None) -> str:
    """The surface said by the innermost ``with surface(...)``, else the process's default."""
    said = otel_context.get_value(_KEY, context)
    return said if isinstance(said, str) else _process_default


def set_default_surface(name: str) -> None:
    """The surface of this process where no protocol says another. Raises ValueError for an unknown one."""
    global _process_default
    check_names("surface", (name,), names.SURFACES)
    _process_default = name
