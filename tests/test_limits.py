"""Limits: the published defaults, what clients take, who a client is, and that the page says the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from context_telemetry.conventions.names import CLIENTS, LAYERS
from context_telemetry.limits import Budget, Limits
from context_telemetry.limits.clients import EXACT, PREFIXES, client_id
from context_telemetry.limits.model import WITHOUT_LIMIT, Clients, Promises
from context_telemetry.limits.payloads import is_static_resource, is_static_tool

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("kind", ["tool_result", "resource"])
def test_an_unknown_client_has_the_published_defaults(kind: str) -> None:
    limits = Limits().compile()
    assert limits.budget(kind, "other", static=False) == 100_000
    assert limits.budget(kind, "other", static=True) == 262_144


@pytest.mark.parametrize(
    ("client", "result", "documentation"),
    [
        ("claude_code", 50_000, 50_000),
        ("claude_desktop", 100_000, 262_144),
        ("codex", 40_000, 40_000),
        ("gemini_cli", 40_000, 40_000),
        ("cursor", 100_000, 262_144),
    ],
)
def test_the_lower_of_budget_and_client_applies_to_documentation_too(
    client: str, result: int, documentation: int
) -> None:
    limits = Limits().compile()
    assert limits.budget("tool_result", client, static=False) == result
    assert limits.budget("resource", client, static=True) == documentation


def test_a_kind_without_a_budget_has_no_limit() -> None:
    assert Limits().compile().budget("tool_list", "codex", static=False) is None


def test_a_client_that_is_set_keeps_the_others_defaults() -> None:
    limits = Limits.model_validate({"clients": {"codex": 90_000, "vscode": {"bytes": 8_192}}})
    assert limits.clients.codex == Budget(bytes=90_000)
    assert limits.clients.vscode is not None
    assert limits.clients.vscode.bytes == 8_192
    assert limits.clients.claude_code == Limits().clients.claude_code


def test_nothing_is_promised_until_the_project_promises() -> None:
    assert all(Limits().compile().promise(layer) is None for layer in LAYERS)
    promised = Limits.model_validate({"promises": {"dbt_manifest": 86_400}}).compile()
    assert promised.promise("dbt_manifest") == 86_400.0
    assert promised.promise("result_cache") is None


def test_every_client_and_layer_of_the_conventions_can_be_set_and_no_other() -> None:
    assert set(Clients.model_fields) == CLIENTS
    assert set(Promises.model_fields) == LAYERS


def test_every_client_has_a_number_with_a_source_or_a_reason_for_having_none() -> None:
    with_limit = {client: taken for client, taken in Clients() if taken is not None}
    assert with_limit.keys().isdisjoint(WITHOUT_LIMIT)
    assert with_limit.keys() | WITHOUT_LIMIT.keys() == CLIENTS
    assert all(budget.source != Budget.model_fields["source"].default for budget in with_limit.values())


@pytest.mark.parametrize(
    ("name", "client"),
    [
        ("claude-code", "claude_code"),
        ("claude-ai", "claude_desktop"),
        ("claude-ai (via mcp-remote 0.1.37)", "claude_desktop"),
        ("local-agent-mode-dataface", "claude_desktop"),
        ("cursor-vscode", "cursor"),
        ("Visual Studio Code", "vscode"),
        ("Visual Studio Code - Insiders", "vscode"),
        ("windsurf-client", "windsurf"),
        ("codex-mcp-client", "codex"),
        ("gemini-cli-mcp-client-dataface", "gemini_cli"),
        ("Cline", "cline"),
        ("Zed", "zed"),
        ("mcp-inspector", "inspector"),
        ("inspector-client", "inspector"),
        ("mcp", "python_sdk"),
        ("CLAUDE-CODE", "claude_code"),
        ("mcpx", "other"),
        ("", "other"),
        ("claude-code" + "x" * 1_000_000, "claude_code"),
        ("x" * 1_000_000, "other"),
    ],
)
def test_a_client_is_known_by_the_name_that_it_sends(name: str, client: str) -> None:
    assert client_id(name) == client


def test_the_table_of_names_leads_only_to_clients_of_the_conventions() -> None:
    assert {*EXACT.values(), *dict(PREFIXES).values()} <= CLIENTS
    assert all(name == name.lower() for name in (*EXACT, *dict(PREFIXES)))


def test_the_python_sdk_is_known_by_the_name_that_it_sends_by_default() -> None:
    session = pytest.importorskip("mcp.client.session")
    assert client_id(session.DEFAULT_CLIENT_INFO.name) == "python_sdk"


def test_documentation_is_told_from_results() -> None:
    assert is_static_tool("list_skills")
    assert not is_static_tool("execute_query")
    assert is_static_resource("dataface://docs/reference")
    assert is_static_resource("dataface://dashboard/orders.yml")
    assert not is_static_resource("dataface://dashboards")


def test_the_hot_path_does_not_import_pydantic() -> None:
    code = (
        "import sys, context_telemetry.limits.clients, context_telemetry.limits.payloads\n"
        "sys.exit('pydantic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_pages_on_limits_and_settings_are_what_the_models_give() -> None:
    check = [sys.executable, str(ROOT / "tools" / "generate_settings_docs.py"), "--check"]
    result = subprocess.run(check, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
