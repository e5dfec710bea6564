"""Hook points as rows, and the machine that places and removes them.

A row says what is patched, where else the same object was bound at import, in which Dataface releases, and which
parameters its reader relies on. Rows are placed when their module is imported, never before; a row that cannot be
placed is reported and skipped.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import re
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from context_telemetry.observe import failsafe

Wrap = Callable[[Any], Any]


@dataclass(frozen=True)
class Hook:
    """One hook point.

    ``target`` is a path inside ``module``: ``function``, ``Class.method`` or ``TABLE[*]`` (every value of a dict).
    ``aliases`` are other places that bind the same object at import, as ``module:path``. ``parameters`` are names that
    the observed function must have, or the hook is not placed. ``since`` and ``until`` bound the Dataface releases
    (inclusive) that have it. ``optional`` names the package that the row is for where Dataface does without it: no
    such package, no need of the row.
    """

    module: str
    target: str
    wrap: Wrap
    aliases: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    since: str = "0.1.2"
    until: str | None = None
    optional: str | None = None

    @property
    def id(self) -> str:
        """The hook's name in `doctor` and in the state event."""
        return f"{self.module}:{self.target}"

    def serves(self, release: tuple[int, int, int]) -> bool:
        """Whether this row is for ``release``. A release newer than all rows is tried with the newest ones."""
        return version(self.since) <= release and (self.until is None or release <= version(self.until))


@dataclass
class HookState:
    """Where one hook stands.

    ``waiting`` (its module is not imported yet), ``active``, ``absent``, ``failed``, or ``unneeded`` (the package that
    it is for is not installed).
    """

    id: str
    state: str = "waiting"
    detail: str = ""


def version(text: str) -> tuple[int, int, int]:
    """The leading numbers of a release: ``0.4.0rc1`` and ``0.4`` are ``(0, 4, 0)``."""
    numbers = [int(digits.group()) if (digits := re.match(r"\d+", part)) else 0 for part in text.split(".")]
    major, minor, patch = (*numbers, 0, 0, 0)[:3]
    return major, minor, patch


@dataclass
class _Placed:
    """One replaced binding, and how to tell that nobody has replaced it since."""

    get: Callable[[], Any]
    put: Callable[[Any], None]
    original: Any
    wrapper: Any


@dataclass
class Installation:
    """All rows of one `instrument`. Thread-safe; after `remove`, late imports place nothing."""

    hooks: tuple[Hook, ...]
    states: dict[str, HookState] = field(default_factory=dict)
    _placed: list[_Placed] = field(default_factory=list)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _open: bool = True

    def place(self) -> None:
        """Place every row whose module is imported; the others when it is."""
        import wrapt  # here, because it imports asyncio, which decorators do not need

        for hook in self.hooks:
            self.states[hook.id] = HookState(hook.id)
        for hook in self.hooks:
            # Runs inside the host's import statement from now on: `_imported` never raises.
            wrapt.register_post_import_hook(functools.partial(self._imported, hook), hook.module)

    def remove(self) -> None:
        """Put every original back, where it is still ours to replace."""
        with self._lock:
            self._open = False
            for hook in self.hooks:
                self._find_copies(hook)
            for placed in reversed(self._placed):
                if placed.get() is placed.wrapper:
                    placed.put(placed.original)
            self._placed.clear()
            for state in self.states.values():
                state.state, state.detail = "waiting", ""

    def renew_lock(self) -> None:
        """In a forked child: a thread of the parent may have held the lock."""
        self._lock = threading.RLock()

    def settle(self) -> None:
        """Tell waiting hooks whose module will come from those whose module this release does not have."""
        with self._lock:
            for hook in self.hooks:
                state = self.states[hook.id]
                parent = hook.module.rpartition(".")[0]
                if state.state == "waiting" and hook.optional and not _exists(hook.optional):
                    state.state, state.detail = "unneeded", f"{hook.optional} is not installed"
                elif state.state == "waiting" and parent in sys.modules and not _exists(hook.module):
                    state.state, state.detail = "absent", f"there is no module {hook.module}"

    def _find_copies(self, hook: Hook) -> None:
        """Modules that were imported after a hook was placed have bound its wrapper: they get the original back too."""
        placed = {id(each.wrapper): each for each in self._placed}
        for alias in hook.aliases:
            name, _, path = alias.partition(":")
            for copy in _bindings_if_there(sys.modules.get(name), path):
                ours = placed.get(id(copy.original))
                if ours is not None:
                    copy.original, copy.wrapper = ours.original, ours.wrapper
                    self._placed.append(copy)

    def _imported(self, hook: Hook, module: ModuleType) -> None:
        with self._lock:
            if not self._open:
                return
            state = self.states[hook.id]
            try:
                state.detail = self._place_one(hook, module)
                state.state = "failed" if state.detail else "active"
            except LookupError as missing:
                state.state, state.detail = "absent", str(missing)
            except Exception as error:
                state.state, state.detail = "failed", type(error).__name__
                failsafe.caught(f"hook {hook.id}", error)

    def _place_one(self, hook: Hook, module: ModuleType) -> str:
        bindings = list(_bindings(module, hook.target))
        for binding in bindings:
            missing = _missing_parameters(binding.original, hook.parameters)
            if missing:
                return f"signature changed: no parameter {', '.join(missing)}"
        for binding in bindings:
            binding.wrapper = hook.wrap(binding.original)
            binding.put(binding.wrapper)
            self._placed.append(binding)
        # Modules that were imported before us hold the original under names of their own.
        for alias in hook.aliases:
            name, _, path = alias.partition(":")
            for copy in _bindings_if_there(sys.modules.get(name), path):
                if copy.original is bindings[0].original:
                    copy.wrapper = bindings[0].wrapper
                    copy.put(copy.wrapper)
                    self._placed.append(copy)
        return ""


def _bindings(module: ModuleType, path: str) -> Iterator[_Placed]:
    """The places that ``path`` names in ``module``; LookupError when there are none."""
    table = path.endswith("[*]")
    *parents, last = path.removesuffix("[*]").split(".")
    owner: Any = module
    for part in parents:
        owner = getattr(owner, part, None)
    if table:
        found = getattr(owner, last, None)
        if not isinstance(found, dict) or not found:
            raise LookupError(f"{module.__name__} has no table {path}")
        for key, value in list(found.items()):
            yield _Placed(
                functools.partial(found.get, key), functools.partial(found.__setitem__, key), value, None
            )
        return
    # The raw attribute: a class's own static and class methods must go back as what they were.
    holder = vars(owner) if hasattr(owner, "__dict__") else {}
    if last in holder:
        # An instance may be frozen: its own `__setattr__` would refuse.
        replace = setattr if isinstance(owner, (type, ModuleType)) else object.__setattr__
        yield _Placed(
            lambda: vars(owner).get(last), lambda new: replace(owner, last, new), holder[last], None
        )
        return
    inherited = inspect.getattr_static(owner, last, None) if isinstance(owner, type) else None
    if inherited is None:
        raise LookupError(f"{module.__name__} has no {path}")

    def put(new: Any) -> None:  # other classes inherit it too: this one gets its own, and loses it again
        delattr(owner, last) if new is inherited else setattr(owner, last, new)

    yield _Placed(lambda: vars(owner).get(last), put, inherited, None)


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _bindings_if_there(module: ModuleType | None, path: str) -> list[_Placed]:
    """As `_bindings`; a module that is not imported, or not to its end, will bind the wrapper when it gets there."""
    try:
        return list(_bindings(module, path)) if module is not None else []
    except LookupError:
        return []


def _missing_parameters(target: Any, wanted: tuple[str, ...]) -> list[str]:
    if not wanted:
        return []
    function = target.__func__ if isinstance(target, (classmethod, staticmethod)) else target
    known = inspect.signature(function).parameters
    return [name for name in wanted if name not in known]
