"""Tool dispatch: under MCP it explains the request's own span, elsewhere it is the `tool.call`.

Dispatch answers a dict in one of three failure shapes and loses the exception's type; the handlers still have it.
"""

from __future__ import annotations

import functools
import re
from typing import Any

import wrapt

from context_telemetry.conventions import names
from context_telemetry.instrumentation.hooks import Hook
from context_telemetry.observe.observed import Plan, tap
from context_telemetry.observe.operation import Operation, conclude_error, current, object_name
from context_telemetry.observe.reading import Call, Reading, reader

_CODE = re.compile(r"(?:ERR|WARN|DF)-[A-Z0-9-]{1,80}")
# Where a result keeps its structured errors, in the order in which they explain it.
_ERROR_LISTS = ("errors", "validation_errors", "structured_errors")
# The codes of what Dataface has no code for, the second up to 0.2.0.
_SAYS_NOTHING = frozenset({"ERR-INTERNAL", "DF-UNKNOWN-INTERNAL"})


def error_code(error: BaseException) -> str | None:
    """Dataface's own code of an exception (``exc.code.code``), None when it has none."""
    return known_code(getattr(getattr(error, "code", None), "code", None))


def known_code(code: Any) -> str | None:
    """``code`` if it is shaped like one of Dataface's codes, else None: nothing else is exported as a code."""
    return code if isinstance(code, str) and _CODE.fullmatch(code) else None


def first_code(result: dict[str, Any]) -> str | None:
    """The code of the first structured error in a tool's result."""
    face_error = result.get("face_error")
    candidates = [face_error] if isinstance(face_error, dict) else []
    for key in _ERROR_LISTS:
        listed = result.get(key)
        if isinstance(listed, list) and listed and isinstance(listed[0], dict):
            candidates.append(listed[0])
    for each in candidates:
        code = known_code(each.get("code"))
        if code is not None:
            return code
    return None


def first_code_of(errors: Any) -> str | None:
    """The code of the first of some structured errors, None when there is none or it has none."""
    return known_code(getattr(errors[0], "code", None)) if errors else None


def says_something(code: str | None) -> bool:
    """Whether there is a code, and it is not the one for all that has none."""
    return code is not None and code not in _SAYS_NOTHING


def telling_code(code: str | None, op: Operation | None) -> str | None:
    """``code``, or where it says nothing, that of what failed last inside of ``op``."""
    if op is None or op.inner_failure is None or says_something(code):
        return code
    return op.inner_failure[1] or code


def telling_code_of(errors: Any, op: Operation | None) -> str | None:
    """The code that says most of some structured errors: the first that says anything, else as `telling_code`."""
    codes = [known_code(getattr(error, "code", None)) for error in errors]
    told = next((code for code in codes if says_something(code)), None)
    return told or (telling_code(codes[0], op) if codes else None)


def is_failure(result: dict[str, Any]) -> bool:
    """Whether a dispatch result is one of its failure shapes: success false, status failed, or a bare error."""
    if isinstance(result.get("success"), bool):
        return not result["success"]
    if "status" in result:
        return bool(result["status"] == "failed")
    return isinstance(result.get("error"), str) and bool(result["error"])


@reader()
def read_dispatch(call: Call) -> Reading | None:
    """The outcome of a dispatched tool call, from its result dict."""
    result = call.result
    if not isinstance(result, dict) or not is_failure(result):
        return None
    return Reading(outcome="failed", error_code=telling_code(first_code(result), current()))


def _tool_name(call: Call) -> tuple[str, dict[str, str]]:
    name = call.argument("function_name")  # a model may have invented it
    return "tool.call", {names.GEN_AI_TOOL_NAME: object_name(name)} if isinstance(name, str) else {}


def _handler_failed(call: Call) -> None:
    """Dispatch will answer with the exception's text only; its class and code are still here."""
    op = current()
    if call.error is not None and op is not None:
        conclude_error(op, call.error, part=True)


class _Handlers(wrapt.ObjectProxy):  # type: ignore[type-arg]  # before wrapt 2 it takes no argument
    """A host's own table of handlers, to all who look at it; dispatch takes one out whose failure is seen."""

    def get(self, name: str, default: Any = None) -> Any:
        handler = self.__wrapped__.get(name, default)
        return handler if handler is None else functools.partial(_handled, handler)


@tap(_handler_failed)
def _handled(handler: Any, *args: Any, **kwargs: Any) -> Any:
    return handler(*args, **kwargs)


_PLAN = Plan("tool.call", reader=read_dispatch, joins=True, before=_tool_name)
# From 0.3.0 on a host of agents has tools of its own, in place of Dataface's and beside them.
_TABLES_OF_HOSTS = ("tool_overrides", "extra_handlers")


def _wrap_dispatch(dispatch: Any) -> Any:
    @functools.wraps(dispatch)
    def dispatched(*args: Any, **kwargs: Any) -> Any:
        for name in _TABLES_OF_HOSTS:
            if kwargs.get(name) is not None:
                kwargs[name] = _Handlers(kwargs[name])
        return dispatch(*args, **kwargs)

    return _PLAN(dispatched)


HOOKS = (
    Hook(
        "dataface.ai.tools",
        "dispatch_tool_call",
        # Under MCP the request's own span is the call, and dispatch explains it; elsewhere dispatch is the entry.
        _wrap_dispatch,
        parameters=("function_name", "function_args"),
    ),
    Hook("dataface.ai.tools", "TOOL_HANDLERS[*]", tap(_handler_failed)),
)
