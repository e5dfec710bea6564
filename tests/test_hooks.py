"""Placing and removing hook points: symmetric, idempotent, thread-safe, before or after their modules' import."""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import wrapt

from context_telemetry.instrumentation.hooks import Hook, Installation, version


def marked(original: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return ("seen", original(*args, **kwargs))

    return wrapper


@pytest.fixture
def module() -> Iterator[types.ModuleType]:
    """A module that stands for a release's: it is imported, and a neighbour has bound its function already."""
    made = types.ModuleType("ct_target")
    exec(
        "def load(path): return path\nclass Source:\n    def names(self): return 1\nTABLE = {'a': load}",
        made.__dict__,
    )
    neighbour = types.ModuleType("ct_neighbour")
    neighbour.load = made.load  # type: ignore[attr-defined]
    sys.modules["ct_target"], sys.modules["ct_neighbour"] = made, neighbour
    yield made
    del sys.modules["ct_target"], sys.modules["ct_neighbour"]


def test_every_binding_of_a_function_is_replaced_and_put_back(module: Any) -> None:
    hook = Hook("ct_target", "load", marked, aliases=("ct_neighbour:load", "ct_absent:load"))
    original = module.load
    installation = Installation((hook,))
    installation.place()
    assert installation.states[hook.id].state == "active"
    assert module.load("x") == ("seen", "x")
    assert sys.modules["ct_neighbour"].load is module.load
    installation.remove()
    installation.remove()
    assert module.load is original
    assert sys.modules["ct_neighbour"].load is original


@pytest.fixture
def package(module: Any) -> Iterator[types.SimpleNamespace]:
    """A package of two modules, of which one has the other's function under a name of its own."""
    home, neighbour = types.ModuleType("ct_package.home"), types.ModuleType("ct_package.neighbour")
    exec("import json\ndef load(path): return path", home.__dict__)
    neighbour.read, neighbour.json = home.load, home.json  # type: ignore[attr-defined]
    module.read = home.load  # of another package
    here = {"ct_package": types.ModuleType("ct_package"), home.__name__: home, neighbour.__name__: neighbour}
    sys.modules.update(here)
    yield types.SimpleNamespace(home=home, neighbour=neighbour, other=module)
    for name in here:
        del sys.modules[name]


def test_the_names_that_the_package_has_for_a_function_of_its_own_are_found(package: Any) -> None:
    original = package.home.load
    installation = Installation((Hook("ct_package.home", "load", marked),))
    installation.place()
    assert package.home.load("x") == package.neighbour.read("x") == ("seen", "x")
    assert package.other.read is original
    package.neighbour.later = package.home.load  # as a module does that is imported now
    installation.remove()
    assert package.home.load is package.neighbour.read is package.neighbour.later is original


def test_a_row_for_what_a_module_has_from_elsewhere_is_for_that_place_alone(package: Any) -> None:
    json = package.home.json
    installation = Installation((Hook("ct_package.home", "json", lambda _: "seen"),))
    installation.place()
    assert (package.home.json, package.neighbour.json) == ("seen", json)
    installation.remove()
    assert package.home.json is json


def test_methods_and_tables_are_replaced_in_place(module: Any) -> None:
    installation = Installation(
        (Hook("ct_target", "Source.names", marked), Hook("ct_target", "TABLE[*]", marked))
    )
    installation.place()
    assert module.Source().names() == ("seen", 1)
    assert module.TABLE["a"]("x") == ("seen", "x")
    installation.remove()
    assert module.Source().names() == 1
    assert module.TABLE["a"]("x") == "x"


def test_a_missing_target_is_absent_and_a_changed_signature_disables_the_hook(module: Any) -> None:
    gone = Hook("ct_target", "vanished", marked)
    changed = Hook("ct_target", "load", marked, parameters=("project",))
    original = module.load
    installation = Installation((gone, changed))
    installation.place()
    assert installation.states[gone.id].state == "absent"
    assert installation.states[changed.id].state == "failed"
    assert "project" in installation.states[changed.id].detail
    assert module.load is original


def test_a_wrapper_that_cannot_be_made_never_breaks_the_import(module: Any) -> None:
    def broken(original: Any) -> Any:
        raise RuntimeError("not placeable")

    hook = Hook("ct_target", "load", broken)
    installation = Installation((hook,))
    installation.place()
    assert installation.states[hook.id].state == "failed"
    assert module.load("x") == "x"


def test_modules_imported_later_are_patched_then_and_not_after_removal(
    tmp_path: Any, monkeypatch: Any
) -> None:
    (tmp_path / "ct_late.py").write_text("def load(): return 1\n")
    (tmp_path / "ct_later.py").write_text("def load(): return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    installation = Installation((Hook("ct_late", "load", marked), Hook("ct_later", "load", marked)))
    installation.place()
    import ct_late  # type: ignore[import-not-found]

    assert ct_late.load() == ("seen", 1)
    installation.remove()
    import ct_later  # type: ignore[import-not-found]

    assert ct_late.load() == 1
    assert ct_later.load() == 1


def test_somebody_who_wrapped_our_wrapper_keeps_theirs(module: Any) -> None:
    installation = Installation((Hook("ct_target", "load", marked),))
    installation.place()
    ours = module.load
    module.load = lambda path: ("theirs", ours(path))
    installation.remove()
    assert module.load("x")[0] == "theirs"


def test_many_threads_placing_and_removing_leave_the_original(module: Any) -> None:
    original = module.load

    def cycle() -> None:
        for _ in range(50):
            installation = Installation((Hook("ct_target", "load", marked),))
            with lock:  # as the instrumentor holds its own lock around these two
                installation.place()
                installation.remove()

    lock = threading.RLock()
    threads = [threading.Thread(target=cycle) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert module.load is original


def test_releases_choose_their_rows() -> None:
    old = Hook("m", "t", marked, since="0.1.2", until="0.3.1")
    new = Hook("m", "t", marked, since="0.4.0")
    assert [old.serves(version(each)) for each in ("0.1.2", "0.3.1", "0.4.0")] == [True, True, False]
    assert [new.serves(version(each)) for each in ("0.3.1", "0.4.0", "0.5.1rc2")] == [False, True, True]


def test_a_row_for_a_package_that_is_not_installed_is_unneeded_and_is_placed_once_it_is_there() -> None:
    hook = Hook("ct_private.part", "load", marked, optional="ct_private")
    installation = Installation((hook,))
    installation.place()
    installation.settle()
    state = installation.states[hook.id]
    assert (state.state, state.detail) == ("unneeded", "ct_private is not installed")
    for name in ("ct_private", "ct_private.part"):
        sys.modules[name] = types.ModuleType(name)
    try:
        sys.modules["ct_private.part"].load = len  # type: ignore[attr-defined]
        wrapt.notify_module_loaded(sys.modules["ct_private.part"])
        assert (state.state, state.detail) == ("active", "")
    finally:
        installation.remove()
        del sys.modules["ct_private"], sys.modules["ct_private.part"]


def test_a_missing_name_of_a_package_that_is_installed_is_absent() -> None:
    sys.modules["ct_private"] = types.ModuleType("ct_private")
    try:
        hook = Hook("ct_private", "vanished", marked, optional="ct_private")
        installation = Installation((hook,))
        installation.place()
        installation.settle()
        assert installation.states[hook.id].state == "absent"
        installation.remove()
    finally:
        del sys.modules["ct_private"]
