"""Who says the surface of an entry, in which order; what is not a surface is as if it were not said."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry import baggage
from opentelemetry.context import Context

from context_telemetry import surface
from context_telemetry.limits.clients import editor_id
from context_telemetry.observe.surface import entry_surface, set_process_surface

CODE = (
    "Mozilla/5.0 (X11; Linux x64) AppleWebKit/537.36 (KHTML, like Gecko) {name}/1.104.0 Chrome/138.0 "
    "Electron/37.2.3 Safari/537.36"
)
CHROME = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36"
)


@pytest.fixture(autouse=True)
def _nothing_said() -> Iterator[None]:
    set_process_surface(None)
    yield
    set_process_surface(None)


def carrying(said: str) -> Context:
    return baggage.set_baggage("dataface.surface", said)


def test_each_says_it_before_the_next() -> None:
    editor = CODE.format(name="Code")
    assert entry_surface("dashboard") == "dashboard"
    set_process_surface("library")
    assert entry_surface("dashboard") == "library"
    assert entry_surface("dashboard", user_agent=editor) == "ide"
    assert entry_surface("dashboard", carrying("cli"), editor) == "cli"
    with surface("agent"):
        assert entry_surface("dashboard", carrying("cli"), editor) == "agent"


def test_what_is_no_surface_is_as_if_it_were_not_said() -> None:
    assert entry_surface("cli", carrying("desktop")) == "cli"
    assert entry_surface("cli", carrying("")) == "cli"
    assert entry_surface("dashboard", user_agent=CHROME) == "dashboard"
    with pytest.raises(ValueError, match="unknown surface 'desktop'"):
        set_process_surface("desktop")


@pytest.mark.parametrize(
    ("name", "client"),
    [
        ("Code", "vscode"),
        ("Code-Insiders", "vscode"),
        ("VSCodium", "vscode"),
        ("Cursor", "cursor"),
        ("Windsurf", "windsurf"),
        ("SomeApp", None),
    ],
)
def test_the_browsers_inside_of_editors_are_known_by_their_names(name: str, client: str | None) -> None:
    assert editor_id(CODE.format(name=name)) == client


def test_the_name_of_an_editor_alone_is_a_word_like_any_other() -> None:
    assert editor_id("Cursor/1.0") is None
    assert editor_id(CHROME) is None
    assert editor_id("x" * 10_000 + CODE.format(name="Code")) is None
