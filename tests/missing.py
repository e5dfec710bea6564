"""Takes a private name of OpenTelemetry's away from this library, as a release does that has renamed it.

OpenTelemetry itself still finds it: what is asked for from another package is there.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest


def take_away(monkeypatch: pytest.MonkeyPatch, owner: type | ModuleType, name: str) -> None:
    """Have ``name`` missing from the module, or from the instances of the class, until the end of a test."""
    if isinstance(owner, ModuleType):
        without = type("Without", (type(owner),), {name: _property(name, None)})
        monkeypatch.setattr(owner, "__class__", without)
    else:
        monkeypatch.setattr(owner, name, _property(name, vars(owner).get(name)), raising=False)


def _property(name: str, of_class: Any) -> property:
    def get(owner: Any) -> Any:
        asking = sys._getframe(1).f_globals.get("__name__", "")
        if asking.startswith("context_telemetry"):
            raise AttributeError(f"{type(owner).__name__} has no {name}")
        if name in vars(owner):
            return vars(owner)[name]
        if of_class is None:
            raise AttributeError(name)
        return of_class.__get__(owner, type(owner))

    def put(owner: Any, value: Any) -> None:
        vars(owner)[name] = value

    return property(get, put)
