"""Which protocol the consumer speaks: `with surface("ide"): ...` says it for everything that is served inside.

The surface travels in the OpenTelemetry context, so whatever carries that carries this too. Who says it is asked in
one order, for every entry: ``with surface(...)``, the baggage `dataface.surface`, the user agent of an editor, the
process (`CONTEXT_TELEMETRY_SURFACE`), and at last the entry's own protocol. MCP requests ask nobody: they are `mcp`.
"""

from __future__ import annotations

from contextvars import Token
from types import TracebackType

from opentelemetry import context as otel_context
from opentelemetry.context import Context

from context_telemetry.conventions import names
from context_telemetry.limits.clients import editor_id
from context_telemetry.observe.reading import check_names

_KEY = otel_context.create_key("context-telemetry-surface")
_process: str | None = None


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


def entry_surface(protocol: str, context: Context | None = None, user_agent: str | None = None) -> str:
    """The surface of an entry that speaks ``protocol`` (a surface too), by the order above.

    ``context`` (default: the current one) is the entry's parent, with what its caller's headers or environment said;
    ``user_agent`` is the header of that name where there is one. What is not a surface is as if it were not said.
    """
    if context is None:
        context = otel_context.get_current()
    if context:  # in an empty one nobody has said anything: most entries have that
        said = otel_context.get_value(_KEY, context)
        if isinstance(said, str):
            return said
        from opentelemetry.baggage import get_baggage  # here, because who only decorates needs none

        said = get_baggage(names.DATAFACE_SURFACE, context)
        if isinstance(said, str) and said in names.SURFACES:
            return said
    if user_agent is not None and editor_id(user_agent) is not None:
        return "ide"
    return _process or protocol


def set_process_surface(name: str | None) -> None:
    """What this process says of its entries; None: nothing. Raises ValueError for an unknown one."""
    global _process
    if name is not None:
        check_names("surface", (name,), names.SURFACES)
    _process = name
