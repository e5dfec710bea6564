"""AI context: prompts, schema and source listings, instructions, skills and docs: how large, and what they lack.

A prompt is one operation, the schema that is asked of the warehouse for it another one below; their sections only tell
what they lack. Dataface builds a prompt whatever happens: what failed becomes prose in it, what is missing nothing.
Texts are measured and compared, and never read.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections import deque
from collections.abc import Callable
from typing import Any

from context_telemetry.instrumentation.given import TABLES
from context_telemetry.instrumentation.hooks import Hook
from context_telemetry.observe import fingerprint
from context_telemetry.observe.fork import on_forget
from context_telemetry.observe.observed import Plan, tap
from context_telemetry.observe.operation import current
from context_telemetry.observe.reading import Call, Reader, Reading, reader

_BUILD = "context.build"
# Texts that were given in place of a schema, to know them again where a host puts them into a prompt. Short ones only.
_LONGEST_ERROR = 4_096
_error_texts: deque[str] = deque(maxlen=8)


on_forget(_error_texts.clear)


def tool_list_size(tools: list[Any]) -> int:
    """UTF-8 bytes of a list of tools as compact JSON, measured once for each list that is not equal to a known one.

    The request that this is asked in has been given them: they go into its fingerprint.
    """
    size, digest = fingerprint.measure(tools)
    op = current()
    if op is not None:
        op.context_part("tool_list", digest)
    return size


def prompt_size(prompt: str) -> int:
    """UTF-8 bytes of a prompt, which goes into the fingerprint of the request that this is asked in."""
    size, digest = fingerprint.measure(prompt)
    op = current()
    if op is not None and (op.parent is None or op.parent.name != _BUILD):
        op.context_part("prompt", digest)
    return size


# -- prompts -------------------------------------------------------------------------------------


def _is_blank(text: Any) -> bool:
    return isinstance(text, str) and (not text or text.isspace())


def _built(text: Any, kind: str, *reasons: str) -> Reading | None:
    if not isinstance(text, str):
        return None
    return Reading(reasons=reasons, payload_size=prompt_size(text), payload_kind=kind)


def _hands_on_error(call: Call) -> bool:
    """Whether the schema that a host hands on is what it was given in place of one."""
    given = call.argument("schema_context") or call.argument("database_context")
    return isinstance(given, str) and len(given) <= _LONGEST_ERROR and given in tuple(_error_texts)


@reader(reasons=("context_is_error_text", "prompt_section_missing"))
def read_prompt(call: Call) -> Reading | None:
    """How large a prompt is, and whether the schema in it is one."""
    op = current()
    reasons: list[str] = []
    # What failed inside was caught where there is a result.
    if (op is not None and op.inner_failure is not None) or _hands_on_error(call):
        reasons.append("context_is_error_text")
    if _is_blank(call.argument("schema_context")):
        reasons.append("prompt_section_missing")
    return _built(call.result, "system_prompt", *reasons)


@reader(reasons=("context_is_error_text", "prompt_section_missing", "source_unconfigured"))
def read_schema_context(call: Call) -> Reading | None:
    """How large the schema's text is, and whether it is one: told by what was asked for it and what of that failed."""
    op, text = current(), call.result
    if op is None or not isinstance(text, str):
        return None
    reasons = _lacking(call, op.notes.get(TABLES), failed=op.inner_failure is not None)
    if "context_is_error_text" in reasons and len(text) <= _LONGEST_ERROR:
        _error_texts.append(text)
    return _built(text, "schema_context", *reasons)


def _lacking(call: Call, tables: int | None, failed: bool) -> tuple[str, ...]:
    if tables:  # a schema or a table that could not be read is left out, or listed without its columns
        return ("prompt_section_missing",) if failed else ()
    if failed:
        return ("context_is_error_text",)
    if tables is not None or _is_delegated():
        return ()
    registry: Any = call.argument("adapter_registry")
    return ("context_is_error_text",) if registry.list_sql_sources() else ("source_unconfigured",)


def _is_delegated() -> bool:
    """Whether the private package builds the text: it need not ask a resolver that is seen here."""
    return bool(getattr(sys.modules.get("dataface.ai.schema_context"), "_SUPER_SCHEMA_AVAILABLE", False))


@reader(reasons=("source_unconfigured",))
def read_sources(call: Call) -> Reading | None:
    """How large the list of sources is; an empty text is none."""
    return _built(call.result, "schema_context", *(("source_unconfigured",) if call.result == "" else ()))


@reader()
def read_bulk_schema(call: Call) -> Reading | None:
    """How large the schema's text is."""
    return _built(call.result, "schema_context")


@reader()
def read_sql(call: Call) -> Reading | None:
    """Whether there is SQL at all."""
    return Reading(outcome="failed") if _is_blank(call.result) else None


# -- sections ------------------------------------------------------------------------------------


@reader(reasons=("prompt_section_missing",))
def read_named_section(call: Call) -> Reading | None:
    """A section that was asked for by its name, and is there or not."""
    missing = ("prompt_section_missing",) if _is_blank(call.result) else ()
    return _built(call.result, "prompt_section", *missing)


@reader(reasons=("context_is_error_text",))
def read_section(call: Call) -> Reading | None:
    """A section that may be empty on a good day."""
    reasons = ("context_is_error_text",) if _hands_on_error(call) else ()
    return _built(call.result, "prompt_section", *reasons)


def _section(read: Reader) -> Callable[[Any], Any]:
    """Alone, a section is an operation; inside of one it is part of what that does, and tells it what is missing."""

    def wrap(function: Any) -> Any:
        alone = Plan(_BUILD, reader=read)(function)
        inside = tap(_tell_missing)(function) if read is read_named_section else function

        @functools.wraps(function)
        def observed(*args: Any, **kwargs: Any) -> Any:
            return (alone if current() is None else inside)(*args, **kwargs)

        return observed

    return wrap


def _missing() -> None:
    op = current()
    if op is not None:
        op.degraded("prompt_section_missing")


def _tell_missing(call: Call) -> None:
    op = current()
    # A guide that is not there is a resource that is not there: its reader says so.
    if op is not None and op.name != "resource.read" and _is_blank(call.result):
        _missing()


def _tell_no_text(call: Call) -> None:
    if _is_blank(call.result):
        _missing()


def _tell_docs(call: Call) -> None:
    result = call.result
    mode, topic = getattr(result, "mode", None), getattr(result, "topic", None)
    no_index = mode == "index" and not getattr(result, "topics", True)
    if no_index or (mode == "topic" and _is_blank(getattr(topic, "content", None))):
        _missing()


def _tell_skill(call: Call) -> None:
    if _is_blank(getattr(call.result, "body", None)):
        _missing()


def _tell_skills(call: Call) -> None:
    """Skills without a body, and those of the project that were left out because they are not valid."""
    result = call.result
    if getattr(result, "errors", None) or any(_is_blank(each.body) for each in getattr(result, "skills", ())):
        _missing()


def _cut(parameter: str, constant: str) -> Callable[[Any], Any]:
    """What is longer than the limit that its module names is cut there, or loses its last members."""

    def wrap(function: Any) -> Any:
        module = getattr(inspect.unwrap(function), "__globals__", {})

        def tell(call: Call) -> None:
            op, content = current(), call.argument(parameter)
            limit: Any = call.argument("limit") or module.get(constant)
            known = isinstance(limit, int) and isinstance(content, (str, list))
            if op is not None and known and len(content) > limit:
                op.degraded("instructions_truncated")

        return tap(tell)(function)

    return wrap


# -- rows ----------------------------------------------------------------------------------------


_AGENT, _PROMPTS, _SQL = "dataface.ai.agent", "dataface.ai.prompts", "dataface.ai.generate_sql"
_DOCS, _SKILLS = "dataface.agent_api.docs._loader", "dataface.agent_api.skills"

HOOKS = (
    Hook(
        _AGENT,
        "build_agent_system_prompt",
        Plan(_BUILD, reader=read_prompt),
        aliases=(f"{_AGENT}:DASHBOARD_PROFILE.build_system_prompt",),
        parameters=("context",),
    ),
    Hook(
        _PROMPTS,
        "build_dataface_system_prompt",
        Plan(_BUILD, reader=read_prompt),
        parameters=("database_context",),
        since="0.1.5",
    ),
    Hook(
        "dataface.ai.schema_context",
        "get_schema_context",
        Plan(_BUILD, reader=read_schema_context),
        parameters=("adapter_registry", "source"),
        until="0.2.0",
    ),
    Hook(
        _AGENT,
        "build_sources_context",
        Plan(_BUILD, reader=read_sources),
        parameters=("adapter_registry",),
        since="0.3.0",
    ),
    Hook(
        "dataface.core.inspect.bulk_schema",
        "format_bulk_schema",
        Plan(_BUILD, reader=read_bulk_schema),
        parameters=("schema", "source"),
        since="0.3.0",
    ),
    Hook(_SQL, "generate_sql", Plan("sql.generate", reader=read_sql), parameters=("schema_context",)),
    Hook(_SQL, "build_sql_system_prompt", Plan(_BUILD, reader=read_prompt), parameters=("schema_context",)),
    Hook(_SQL, "get_sql_generation_guidance", _section(read_named_section)),
    Hook(_PROMPTS, "load_shared_prompt", _section(read_named_section)),
    Hook(_PROMPTS, "build_context_section", _section(read_section)),
    *(
        Hook(_PROMPTS, target, _section(read_section), since="0.3.0")
        for target in ("build_skills_index", "build_docs_pointer", "load_project_instructions")
    ),
    Hook(
        _PROMPTS,
        "_format_project_instructions",
        _cut("text", "PROJECT_INSTRUCTIONS_MAX_CHARS"),
        parameters=("text",),
        since="0.3.0",
    ),
    Hook(
        _SKILLS,
        "_format_authored_skill_body",
        _cut("body", "AUTHORED_SKILL_BODY_MAX_CHARS"),
        parameters=("body",),
        since="0.3.0",
    ),
    Hook(
        "dataface.ai.memories",
        "format_memories_prompt",
        _cut("memories", "MAX_PROMPT_MEMORIES"),
        parameters=("memories",),
        until="0.2.0",
    ),
    Hook(_DOCS, "docs", tap(_tell_docs)),
    Hook(_DOCS, "read_full_text", tap(_tell_no_text)),
    Hook(_SKILLS, "get_skill", tap(_tell_skill)),
    Hook(_SKILLS, "list_skills", tap(_tell_skills)),
)
