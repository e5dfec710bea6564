"""A FAKE of the one thing that cannot be had: a language model. The agent loop around it is Dataface's own.

What the model says is written down before, answer by answer; what it is asked is kept, to be compared.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

Said = str | tuple[str, dict[str, Any]] | Exception


class FakeModel:
    """The client of a model that gives these answers, one per call, and then always the last one.

    An answer is what the stream brings, one after the other: a text, a tool call as ``(name, arguments)``, or an
    exception that ends it. Tokens are counted as Dataface's own clients do it, 100 in and 10 out a call.
    """

    provider = "openai"

    def __init__(self, *answers: Sequence[Said], model: str = "fake-1") -> None:
        self.model = model
        self.answers = answers
        self.total_input_tokens = self.total_output_tokens = self.llm_calls = 0
        self.asked: list[dict[str, Any]] = []
        self.closed = 0
        """Streams that were left before their end."""

    def stream_with_tools(
        self, *, messages: list[Any], system_prompt: str, tools: list[dict[str, Any]] | None = None
    ) -> Iterator[Any]:
        from dataface.ai.events import ContentDelta, ToolCallEvent

        call = self.llm_calls
        self.llm_calls += 1
        asked = {"messages": messages, "system_prompt": system_prompt, "tools": tools}
        self.asked.append(copy.deepcopy(asked))
        try:
            for number, said in enumerate(self.answers[min(call, len(self.answers) - 1)]):
                if isinstance(said, Exception):
                    raise said
                if isinstance(said, str):
                    yield ContentDelta(delta=said)
                else:
                    name, arguments = said
                    yield ToolCallEvent(id=f"call-{call}-{number}", name=name, arguments=dict(arguments))
        except GeneratorExit:
            self.closed += 1
            raise
        self.total_input_tokens += 100
        self.total_output_tokens += 10


def turn(
    context: Any, model: Any, prompt: str = "How many are there?", *, built: bool = False, **options: Any
) -> Any:
    """A turn of the installed release's agent loop, not begun.

    ``built`` lets Dataface build the system prompt, which takes up to a second before 0.3.0.
    """
    from dataface.ai import agent  # the module's attribute, as a host that imports it later finds it

    default = getattr(agent, "DASHBOARD_PROFILE", None)  # before 0.1.5 the prompt is always built
    if default is not None and not built:
        brief = dataclasses.replace(default, build_system_prompt=lambda _context: "Answer briefly.")
        options = {"profile": brief, **options}
    return agent.run_agent(prompt, client=model, context=context, **options)
