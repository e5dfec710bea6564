"""Who speaks: from the `clientInfo.name` or the user agent that a client sends to one id of the closed list.

A name is what its sender likes, so whatever is not in this table is `other`. No limits in here.
"""

from __future__ import annotations

import re
from typing import Final

OTHER: Final = "other"

# Names that are sent, in lower case. Sources: the packages mcp-client-capabilities and mcp-client-registry
# collect what clients were seen to send; "mcp" is what the Python SDK (1.30) sends for a host without a name.
EXACT: Final[dict[str, str]] = {
    "claude-code": "claude_code",
    "claude code": "claude_code",
    "claude-ai": "claude_desktop",
    "claude-desktop": "claude_desktop",
    "claude desktop": "claude_desktop",
    "cursor": "cursor",
    "visual studio code": "vscode",
    "visual-studio-code": "vscode",
    "vscode": "vscode",
    "windsurf": "windsurf",
    "codex": "codex",
    "gemini-cli": "gemini_cli",
    "cline": "cline",
    "zed": "zed",
    "mcp-inspector": "inspector",
    "mcp inspector": "inspector",
    "mcp": "python_sdk",
}

# Names that go on with a server, a channel or a proxy: "gemini-cli-mcp-client-dataface", "cursor-vscode",
# "Visual Studio Code - Insiders", "claude-ai (via mcp-remote 0.1.37)", and "local-agent-mode-dataface", which
# is the agent inside Claude Desktop.
PREFIXES: Final[tuple[tuple[str, str], ...]] = (
    ("claude-code", "claude_code"),
    ("claude-ai", "claude_desktop"),
    ("local-agent-mode-", "claude_desktop"),
    ("cursor-", "cursor"),
    ("visual studio code", "vscode"),
    ("visual-studio-code", "vscode"),
    ("windsurf-", "windsurf"),
    ("codex-mcp-client", "codex"),
    ("gemini-cli-mcp-client", "gemini_cli"),
    ("mcp-inspector", "inspector"),
    ("inspector-cli", "inspector"),  # its web page says "inspector-client", its command "inspector-cli"
)

# The longest name in the tables is far shorter; what a client sends beyond this is not looked at.
_LONGEST: Final = 64


def client_id(name: str) -> str:
    """The id of the client that calls itself ``name``; `other` when it is not known."""
    name = name[:_LONGEST].strip().lower()
    known = EXACT.get(name)
    if known is not None:
        return known
    for prefix, client in PREFIXES:
        if name.startswith(prefix):
            return client
    return OTHER


# Editors as their built-in browsers name them in `User-Agent`: "... Code/1.104.0 Chrome/138.0 Electron/37.2 ...".
# Only together with Electron, because the names alone are words.
_EDITOR = re.compile(r"(?:^|\s)(Code|Code-Insiders|VSCodium|Cursor|Windsurf)/\d", re.IGNORECASE)
_EDITORS: Final[dict[str, str]] = {
    "code": "vscode",
    "code-insiders": "vscode",
    "vscodium": "vscode",
    "cursor": "cursor",
    "windsurf": "windsurf",
}
_LONGEST_AGENT: Final = 512


def editor_id(user_agent: str) -> str | None:
    """The id of the editor whose built-in browser sends ``user_agent``; None for any other."""
    agent = user_agent[:_LONGEST_AGENT]
    found = _EDITOR.search(agent) if "Electron/" in agent else None
    return _EDITORS[found[1].lower()] if found else None
