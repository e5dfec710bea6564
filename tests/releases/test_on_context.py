"""What a model is given to work with: sizes, what was left out or replaced by an error's text, and the fingerprint."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from inprocess import INITIALIZE, exchange, instrumented, opened, with_client
from memory import Memory
from opentelemetry.sdk.trace import ReadableSpan
from scenario import scenario

from context_telemetry.instrumentation import context, given
from context_telemetry.instrumentation.context import tool_list_size
from context_telemetry.observe import fingerprint
from context_telemetry.observe.reading import Call
from context_telemetry.rehearsal.driver import Client, tool
from context_telemetry.rehearsal.sample import Sample

pytestmark = pytest.mark.real

SCHEMA_GONE = "0.3.0 and later put no schema into prompts"
SECOND_SOURCE = "  again:\n    type: duckdb\n    path: again.duckdb\n"


@contextmanager
def watched(project: Path) -> Iterator[tuple[Memory, Any, Any]]:
    """What is recorded of a project that is open, with the context of its agents and its adapter registry."""
    with instrumented() as memory, opened(project) as (context, registry):
        yield memory, context, registry


def agent_prompt(context: Any) -> Any:
    """The system prompt of the agent, built as `run_agent` does it."""
    agent = importlib.import_module("dataface.ai.agent")
    profile = getattr(agent, "DASHBOARD_PROFILE", agent)
    build = getattr(profile, "build_system_prompt", None) or agent.build_agent_system_prompt
    return build(context)


def schema_context(registry: Any, **options: Any) -> Any:
    return importlib.import_module("dataface.ai.schema_context").get_schema_context(
        adapter_registry=registry, **options
    )


def built(memory: Memory, kind: str | None = None) -> list[ReadableSpan]:
    """The operations that built context, of one kind."""
    spans = [span for span in memory.spans if span.name == "context.build"]
    return [span for span in spans if kind in (None, attribute(span, "dataface.payload.kind"))]


def attribute(span: ReadableSpan, name: str) -> Any:
    return (span.attributes or {}).get(name)


def entry(memory: Memory) -> ReadableSpan:
    (found,) = [span for span in memory.spans if attribute(span, "dataface.entry")]
    return found


def verdict(span: ReadableSpan) -> tuple[Any, set[str]]:
    return attribute(span, "dataface.outcome"), set(attribute(span, "dataface.degradation.reasons") or ())


def utf8(text: str) -> int:
    return len(text.encode())


# -- sizes ---------------------------------------------------------------------------------------


@scenario("AI context")
def test_the_agents_prompt_is_one_operation_with_the_size_of_its_text(sample: Sample) -> None:
    with watched(sample.root) as (memory, context, _):
        text = agent_prompt(context)
        prompt = entry(memory)
    assert (prompt.name, attribute(prompt, "dataface.payload.kind")) == ("context.build", "system_prompt")
    assert attribute(prompt, "dataface.payload.size") == utf8(text)
    assert verdict(prompt) == ("ok", set())
    below = [each for each in built(memory) if each is not prompt]
    assert [attribute(each, "dataface.payload.kind") for each in below] == ["schema_context"]


@scenario("AI context", since="0.1.5", because="the agent has no profile")
def test_the_agents_frozen_profile_builds_the_original_prompt_again(sample: Sample) -> None:
    agent = importlib.import_module("dataface.ai.agent")
    with watched(sample.root):
        assert agent.DASHBOARD_PROFILE.build_system_prompt is agent.build_agent_system_prompt
        hooked = agent.build_agent_system_prompt
    assert agent.DASHBOARD_PROFILE.build_system_prompt is agent.build_agent_system_prompt is not hooked


@scenario("AI context", until="0.2.0", because=SCHEMA_GONE)
def test_the_schema_in_a_prompt_is_an_operation_that_asks_the_catalogue(sample: Sample) -> None:
    with watched(sample.root) as (memory, _, registry):
        text = schema_context(registry)
        schema = entry(memory)
        inside = {span.name for span in memory.spans if span is not schema}
    assert attribute(schema, "dataface.payload.size") == utf8(text)
    assert verdict(schema) == ("ok", set())
    assert "catalog.resolve" in inside


@scenario("AI context", since="0.3.0", because="no list of sources; the schema itself is in the prompt")
def test_the_list_of_sources_has_its_size(sample: Sample) -> None:
    from dataface.ai import agent

    with watched(sample.root) as (memory, _, registry):
        text = agent.build_sources_context(registry)
        sources = entry(memory)
    assert attribute(sources, "dataface.payload.kind") == "schema_context"
    assert attribute(sources, "dataface.payload.size") == utf8(text)
    assert verdict(sources) == ("ok", set())


@scenario("AI context", since="0.3.0", because="no bulk schema")
def test_a_bulk_schema_as_text_has_its_size(sample: Sample) -> None:
    module = importlib.import_module("dataface.core.inspect.bulk_schema")

    tree = {"main": {"orders": {"id": "INTEGER", "größe": "VARCHAR"}}}
    with watched(sample.root) as (memory, _, _registry):
        text = module.format_bulk_schema(tree, "shop", "duckdb")
    assert attribute(entry(memory), "dataface.payload.size") == utf8(text)


@scenario("AI context", since="0.1.5", because="hosts put their prompts together themselves")
def test_a_hosts_prompt_has_its_size_and_its_sections_are_no_operations(sample: Sample) -> None:
    from dataface.ai import prompts

    with watched(sample.root) as (memory, _, _registry):
        text = prompts.build_dataface_system_prompt("dashboard_design", database_context="größe INTEGER")
    (prompt,) = built(memory)
    assert attribute(prompt, "dataface.payload.kind") == "system_prompt"
    assert attribute(prompt, "dataface.payload.size") == utf8(text)
    assert verdict(prompt) == ("ok", set())


@scenario("AI context")
def test_a_section_that_a_host_asks_for_alone_is_an_operation(sample: Sample) -> None:
    from dataface.ai import prompts

    with watched(sample.root) as (memory, _, _registry):
        text = prompts.build_context_section(database_context="größe INTEGER")
    assert attribute(entry(memory), "dataface.payload.kind") == "prompt_section"
    assert attribute(entry(memory), "dataface.payload.size") == utf8(text)


@scenario("AI context")
def test_the_list_of_tools_has_the_size_that_the_client_was_sent(sample: Sample) -> None:
    with instrumented() as memory:
        *_, answer = exchange(sample.root, [*INITIALIZE, {"id": 1, "method": "tools/list"}])
    (listed,) = [span for span in memory.spans if span.name == "tools/list"]
    tools = answer["result"]["tools"]
    sent = json.dumps(tools, separators=(",", ":"), ensure_ascii=False)
    assert attribute(listed, "dataface.payload.kind") == "tool_list"
    assert attribute(listed, "dataface.payload.size") == utf8(sent) == tool_list_size(tools)


# -- an error's text in place of the schema ------------------------------------------------------


@scenario("AI context", until="0.2.0", because=SCHEMA_GONE)
def test_a_prompt_with_an_errors_text_for_its_schema_is_degraded(project: Path) -> None:
    (project / "shop.duckdb").unlink()
    with watched(project) as (memory, context, _):
        agent_prompt(context)
        prompt = entry(memory)
        (schema,) = built(memory, "schema_context")
    assert verdict(schema) == ("degraded", {"context_is_error_text"})
    assert verdict(prompt) == ("degraded", {"context_is_error_text"})
    assert not any("shop.duckdb" in str(value) for value in (schema.attributes or {}).values())


@scenario("AI context", until="0.2.0", because=SCHEMA_GONE)
def test_a_source_without_tables_is_no_error(project: Path) -> None:
    import duckdb

    (project / "shop.duckdb").unlink()
    duckdb.connect(str(project / "shop.duckdb")).close()
    with watched(project) as (memory, context, _):
        agent_prompt(context)
        (schema,) = built(memory, "schema_context")
        prompt = entry(memory)
    assert verdict(schema) == ("ok", set())
    # The resolver answers a schema that is empty as one that is not there: a gap that the docs name.
    assert verdict(prompt) == ("degraded", {"object_unknown"})


@scenario("AI context", since="0.1.3", until="0.2.0", because="0.1.2 raises, and " + SCHEMA_GONE)
def test_a_prompt_for_which_no_source_was_asked_though_there_are_two_is_degraded(project: Path) -> None:
    with (project / "dataface.yml").open("a") as configuration:
        configuration.write(SECOND_SOURCE)
    with watched(project) as (memory, context, registry):
        agent_prompt(context)
        prompt = entry(memory)
    assert verdict(prompt) == ("degraded", {"context_is_error_text"})
    with watched(project) as (memory, _, registry):
        schema_context(registry, source="shop")
        schema = entry(memory)
    assert verdict(schema) == ("ok", set())


@scenario("AI context", until="0.1.2", because="later releases name the sources in the prompt")
def test_a_prompt_that_cannot_be_built_for_two_sources_has_failed(project: Path) -> None:
    with (project / "dataface.yml").open("a") as configuration:
        configuration.write(SECOND_SOURCE)
    with watched(project) as (memory, context, _):
        with pytest.raises(ValueError, match="multiple SQL sources"):
            agent_prompt(context)
        prompt = entry(memory)
    assert verdict(prompt) == ("failed", set())
    assert attribute(prompt, "error.type") == "ValueError"


@scenario("AI context")
def test_a_prompt_in_a_project_without_sources_says_so(project: Path) -> None:
    (project / "dataface.yml").write_text("title: Shop\n")
    with watched(project) as (memory, context, _):
        agent_prompt(context)
        prompt = entry(memory)
    assert verdict(prompt) == ("degraded", {"source_unconfigured"})


@scenario("AI context", until="0.2.0", because=SCHEMA_GONE, deep=True)
def test_a_table_whose_columns_could_not_be_read_is_a_section_that_is_missing(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataface.core.inspect.sources.dbt import DbtSchemaSource

    whole = DbtSchemaSource.profile_table

    def locked(self: Any, schema: str, table: str, **options: Any) -> Any:
        if table == "fct_orders":
            raise OSError("locked")
        return whole(self, schema, table, **options)

    monkeypatch.setattr(DbtSchemaSource, "profile_table", locked)
    with watched(sample.root) as (memory, _, registry):
        schema_context(registry)
        schema = entry(memory)
    assert verdict(schema) == ("degraded", {"prompt_section_missing"})


@scenario("AI context", since="0.1.5", until="0.2.0", because="no prompt for hosts, or no schema for it")
def test_an_errors_text_that_a_host_hands_on_is_known_again(project: Path) -> None:
    from dataface.ai import prompts

    (project / "shop.duckdb").unlink()
    with watched(project) as (memory, _, registry):
        error = schema_context(registry)
        prompts.build_dataface_system_prompt("yaml_generation", database_context=error)
        prompts.build_dataface_system_prompt("yaml_generation", database_context="orders: id INTEGER")
    first, second = built(memory, "system_prompt")
    assert verdict(first) == ("degraded", {"context_is_error_text"})
    assert verdict(second) == ("ok", set())


# -- sections that are missing or cut ------------------------------------------------------------


@scenario("AI context")
def test_a_shared_prompt_that_does_not_exist_is_a_section_that_is_missing(sample: Sample) -> None:
    from dataface.ai import prompts

    with watched(sample.root) as (memory, _, _registry):
        assert prompts.load_shared_prompt("dashboard-build")
        assert prompts.load_shared_prompt("dashboard-built") == ""
    there, missing = built(memory, "prompt_section")
    assert verdict(there) == ("ok", set())
    assert verdict(missing) == ("degraded", {"prompt_section_missing"})


@scenario("AI context", since="0.1.5", because="hosts put their prompts together themselves")
def test_a_prompt_tells_that_one_of_its_sections_is_missing(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = importlib.import_module("dataface.ai.prompts")
    monkeypatch.setattr(prompts, "SKILLS_DIR", tmp_path)  # an installation that lost its skills
    with watched(sample.root) as (memory, _, _registry):
        prompts.build_dataface_system_prompt("dashboard_design")
    assert verdict(entry(memory)) == ("degraded", {"prompt_section_missing"})


@scenario("AI context")
def test_documentation_without_topics_is_a_section_that_is_missing(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataface.ai import tools

    with watched(sample.root) as (memory, context, _):
        tools.dispatch_tool_call("docs", {}, context=context)
        loader = importlib.import_module("dataface.agent_api.docs._loader")
        (tmp_path / "empty.md").write_text("")
        monkeypatch.setattr(loader, "_SYNTAX_FILE", tmp_path / "empty.md")
        tools.dispatch_tool_call("docs", {}, context=context)
        tools.dispatch_tool_call("docs", {"topic": "all"}, context=context)
    whole, index, page = [span for span in memory.spans if attribute(span, "dataface.entry")]
    assert verdict(whole) == ("ok", set())
    assert verdict(index) == verdict(page) == ("degraded", {"prompt_section_missing"})


@scenario("AI context", since="0.3.0", because="no instructions of the project's own")
def test_instructions_beyond_their_limit_are_cut(project: Path) -> None:
    from dataface.ai.prompts import PROJECT_INSTRUCTIONS_MAX_CHARS as LIMIT

    verdicts = []
    for length in (LIMIT, LIMIT + 1):
        (project / "AGENTS.md").write_text("x" * length)
        with watched(project) as (memory, context, _):
            agent_prompt(context)
            verdicts.append(verdict(entry(memory)))
    assert verdicts == [("ok", set()), ("degraded", {"instructions_truncated"})]


@scenario("AI context", until="0.2.0", because="memories are gone")
def test_memories_beyond_their_limit_are_left_out(project: Path) -> None:
    from dataface.ai.memories import MAX_PROMPT_MEMORIES as LIMIT

    verdicts = []
    for count in (LIMIT, LIMIT + 1):
        memories = [{"note": f"note {number}", "status": "active"} for number in range(count)]
        (project / "memories.yml").write_text(json.dumps({"memories": memories}))
        with watched(project) as (memory, context, _):
            agent_prompt(context)
            verdicts.append(verdict(entry(memory)))
    assert verdicts == [("ok", set()), ("degraded", {"instructions_truncated"})]


@scenario("AI context", since="0.3.0", because="projects have no skills of their own")
def test_a_projects_skills_are_cut_at_their_limit_and_left_out_when_they_are_not_valid(project: Path) -> None:
    from dataface.agent_api.skills import AUTHORED_SKILL_BODY_MAX_CHARS as LIMIT
    from dataface.ai import tools

    skill = project / "skills" / "own" / "SKILL.md"
    skill.parent.mkdir(parents=True)
    head = "---\nname: own\ndescription: Ours.\nkind: pattern\n---\n"
    verdicts = []
    for text, call in (
        (head + "x" * LIMIT, "get_skill"),
        (head + "x" * (LIMIT + 1), "get_skill"),
        (head, "get_skill"),
        (head + "x", "list_skills"),
        ("no front matter", "list_skills"),
    ):
        skill.write_text(text)
        with watched(project) as (memory, context, _):
            tools.dispatch_tool_call(call, {"name": "own"} if call == "get_skill" else {}, context=context)
            verdicts.append(verdict(entry(memory)))
    assert verdicts == [
        ("ok", set()),
        ("degraded", {"instructions_truncated"}),
        ("ok", set()),  # Dataface frames an empty body with words of its own
        ("ok", set()),
        ("degraded", {"prompt_section_missing"}),
    ]


# -- SQL from a model ----------------------------------------------------------------------------


class _Model:
    """Stands for the provider's client: answers what it was told to, and calls nobody."""

    model = "none"

    def __init__(self, sql: str) -> None:
        self._sql = sql

    def create(self, **request: Any) -> Any:
        text = json.dumps({"sql": self._sql})
        self.prompt = request["input"][0]["content"]
        return type("Response", (), {"output_text": text})


@scenario("AI context")
def test_sql_generation_is_an_operation_above_its_prompt(sample: Sample) -> None:
    module = importlib.import_module("dataface.ai.generate_sql")

    client = _Model("SELECT secret FROM orders")
    with watched(sample.root) as (memory, _, _registry):
        module.generate_sql("How many?", "orders: id INTEGER", client=client)
    prompt, sql = memory.spans
    assert (sql.name, prompt.name) == ("sql.generate", "context.build")
    assert prompt.parent is not None
    assert sql.context is not None
    assert prompt.parent.span_id == sql.context.span_id
    assert attribute(prompt, "dataface.payload.size") == utf8(client.prompt)
    assert verdict(sql) == verdict(prompt) == ("ok", set())
    assert "secret" not in str(dict(sql.attributes or {}))


@scenario("AI context")
def test_sql_generation_without_a_schema_or_an_answer_is_not_healthy(sample: Sample) -> None:
    module = importlib.import_module("dataface.ai.generate_sql")

    with watched(sample.root) as (memory, _, _registry):
        module.generate_sql("How many?", "", client=_Model("SELECT 1"))
        module.generate_sql("How many?", "orders: id INTEGER", client=_Model(""))
    blind, silent = [span for span in memory.spans if span.name == "sql.generate"]
    assert verdict(blind) == ("degraded", {"prompt_section_missing"})
    assert verdict(silent) == ("failed", set())


# -- the fingerprint -----------------------------------------------------------------------------


def parts(span: ReadableSpan) -> dict[str, str]:
    told = attribute(span, "dataface.context.parts") or ()
    return dict(part.split("=") for part in told)


def fingerprint_of(span: ReadableSpan) -> Any:
    return attribute(span, "dataface.context.fingerprint")


def served(project: Path) -> ReadableSpan:
    """The entry of a tool call in a session of its own, once the tools are listed and the manifest is known."""
    with instrumented() as memory:

        async def use(client: Client) -> None:
            await client.session.list_tools()
            for _ in range(60):
                await client.send(tool("docs"))
                if fingerprint_of(memory.spans[-1]):
                    return
                await asyncio.sleep(0.05)  # until the worker has read the manifest

        with_client(project, use)
        spans = [span for span in memory.spans if span.name == "tools/call docs"]
    return spans[-1]


@scenario("AI context")
def test_a_context_has_the_same_fingerprint_in_any_session_and_process(project: Path) -> None:
    here = served(project)
    manifest = project / "target" / "manifest.json"
    content = json.loads(manifest.read_text())
    content["metadata"]["generated_at"] = "2030-01-01T00:00:00.000000Z"  # built again, from the same files
    manifest.write_text(json.dumps(content))
    again = served(project)
    said = "from test_on_context import *; span = served(Path(sys.argv[1])); print(fingerprint_of(span))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "ignore", "-c", said, str(project)]
    there = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    assert set(parts(here)) == {"manifest", "tool_list"}
    assert fingerprint_of(here) == fingerprint_of(again)
    assert parts(here) == parts(again)
    assert fingerprint_of(here) == there.strip()


@scenario("AI context")
def test_another_description_is_another_manifest_in_the_fingerprint(project: Path) -> None:
    before = served(project)
    manifest = project / "target" / "manifest.json"
    content = json.loads(manifest.read_text())
    model = next(node for node in content["nodes"].values() if node["resource_type"] == "model")
    model["description"] = "Another one."
    manifest.write_text(json.dumps(content))
    after = served(project)
    assert fingerprint_of(before) != fingerprint_of(after)
    assert parts(before)["tool_list"] == parts(after)["tool_list"]
    assert parts(before)["manifest"] != parts(after)["manifest"]


@scenario("AI context")
def test_another_tool_is_another_list_in_the_fingerprint(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = served(sample.root)
    schemas = importlib.import_module("dataface.ai.tool_schemas")
    monkeypatch.setitem(schemas.ALL_TOOLS[0], "description", "Another one.")
    after = served(sample.root)
    assert fingerprint_of(before) != fingerprint_of(after)
    assert parts(before)["manifest"] == parts(after)["manifest"]
    assert parts(before)["tool_list"] != parts(after)["tool_list"]


@scenario("AI context")
def test_tools_that_were_not_listed_yet_are_not_in_the_fingerprint(sample: Sample) -> None:
    call = {"method": "tools/call", "params": {"name": "docs", "arguments": {}}}
    listed = {"id": 2, "method": "tools/list"}
    with instrumented() as memory:
        exchange(sample.root, [*INITIALIZE, {"id": 1, **call}, listed, {"id": 3, **call}])
    before, after = [span for span in memory.spans if span.name == "tools/call docs"]
    assert "tool_list" not in parts(before)
    assert "tool_list" in parts(after)


@scenario("AI context")
def test_another_prompt_is_another_one_in_the_fingerprint(sample: Sample) -> None:
    from dataface.ai import prompts

    with watched(sample.root) as (memory, _, _registry):
        for text in ("orders", "orders", "order lines"):
            prompts.build_context_section(database_context=text)
    first, second, third = (parts(span)["prompt"] for span in built(memory))
    assert first == second != third


class _Talker:
    """Stands for a provider's client: says one word, and calls no tool."""

    def stream_with_tools(self, **request: Any) -> Iterator[Any]:
        self.given = request
        yield importlib.import_module("dataface.ai.events").ContentDelta(delta="Hello")


@scenario("AI context")
def test_an_agents_turn_has_its_prompt_and_its_tools_in_the_fingerprint(sample: Sample) -> None:
    agent, client = importlib.import_module("dataface.ai.agent"), _Talker()
    with watched(sample.root) as (memory, context, _):
        list(agent.run_agent("Hello", client=client, context=context))
        turn = entry(memory)
    assert turn.name.startswith("invoke_agent")
    assert parts(turn)["prompt"] == fingerprint.measure(client.given["system_prompt"])[1]
    assert parts(turn)["tool_list"] == fingerprint.measure(client.given["tools"])[1]


@scenario("AI context")
def test_another_column_is_another_object_in_the_fingerprint(project: Path) -> None:
    import duckdb
    from dataface.ai import tools

    ask = {
        "sql": "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'fct_orders'",
        "source": "shop",
    }

    def seen() -> str:
        with watched(project) as (memory, context, _):
            tools.dispatch_tool_call("execute_query", ask, context=context)
            return parts(entry(memory))["objects"]

    before = seen()
    assert seen() == before
    with duckdb.connect(str(project / "shop.duckdb")) as connection:
        connection.execute("ALTER TABLE fct_orders ADD COLUMN added INTEGER")
    assert seen() != before


@scenario("AI context")
def test_another_column_is_another_object_where_the_resolver_answered(project: Path) -> None:
    envelope: Any = {
        "sources": {"shop": {"schemas": {"main": {"tables": {"orders": {"columns": {"id": {}}}}}}}}
    }
    assert _objects(envelope) == _objects(json.loads(json.dumps(envelope)))
    tables = envelope["sources"]["shop"]["schemas"]["main"]["tables"]
    before = _objects(envelope)
    tables["orders"]["row_count"] = 3  # a number of the moment is not part of it
    assert _objects(envelope) == before
    tables["orders"]["columns"]["id"]["actual_type"] = "INTEGER"
    assert _objects(envelope) != before


def _objects(envelope: Any) -> Any:
    from context_telemetry.observe.operation import Operation

    op = Operation("catalog.resolve")
    given.envelope_seen(op, envelope)
    op.finish()
    return op.attributes["dataface.context.parts"]


@scenario("AI context")
def test_an_errors_text_is_known_again_while_another_thread_notes_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = context._error_texts

    class Noted(str):
        """A text in comparing which another thread gets its turn."""

        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            texts.append("another")
            return False

    texts.extend([Noted("one"), "two"])
    try:
        assert context._hands_on_error(Call(kwargs={"schema_context": "two"}))
        assert not context._hands_on_error(Call(kwargs={"schema_context": "three"}))
    finally:
        texts.clear()


@scenario("AI context")
def test_there_is_no_fingerprint_while_a_part_is_not_known(project: Path) -> None:
    shutil.rmtree(project / "target")
    without = served(project)
    assert parts(without)["manifest"] == "missing"
    from context_telemetry.observe.operation import Operation

    op: Any = Operation("catalog.resolve")
    op.context_part("objects", None)
    op.context_part("prompt", fingerprint.digest(b"x"))
    op.finish()
    assert "dataface.context.fingerprint" not in op.attributes
    assert list(op.attributes["dataface.context.parts"]) == ["prompt=" + fingerprint.digest(b"x")]
