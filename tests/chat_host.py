"""`dft chat` of the installed release, as its entry point starts it: `python tests/chat_host.py [ARGUMENTS]`.

Its model is a FAKE that looks for dashboards and then answers; no provider's package need be there. The rest is real.
"""

from __future__ import annotations

import sys
from typing import Any

from agent_fakes import FakeModel


def fake(**_: Any) -> FakeModel:
    """The client of each session, in place of a provider's."""
    model = FakeModel([("search_dashboards", {"query": "revenue"})], ["There is ", "one."])
    model.provider = "anthropic"  # Dataface resumes no session with tool calls for the other one
    return model


def main() -> None:
    from dataface.agent_api import chat
    from dataface.cli import _extras
    from dataface.cli.commands import chat as command

    chat.create_client = command.create_client = fake
    _extras.require_extras = lambda *_: None
    from dataface.cli.main import app

    app(["chat", *sys.argv[1:]])


if __name__ == "__main__":
    main()
