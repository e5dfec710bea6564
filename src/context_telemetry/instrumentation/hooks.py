"""Hook points as rows, and the machine that places and removes them.

A row says what is patched, in which Dataface releases, and which parameters its reader relies on. Rows are placed when
their module is imported, never before; a row that cannot be placed is reported and skipped. The names that other
modules of the same package have bound to the same object are found, not listed.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import re
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from context_telemetry.observe import failsafe

Wrap = Callable[[Any], Any]
# The end of a target that stands for all values of a table.
_TABLE = "[*]"


@dataclass(frozen=True)
class Hook:
    """One hook point.

    ``target`` is a path inside ``module``: ``function``, ``Class.method`` or ``TABLE[*]`` (every value of a dict).
    Where ``module`` is the one that defines the function, each module of its package that has a name for it is patched
    too; a row for something that ``module`` itself has from elsewhere is for that place alone. ``aliases`` are places
    that no module has a name for (a field of a record, as ``module:path``). ``parameters`` are names that the observed
    function must have, or the hook is not placed. ``since`` and ``until`` bound the Dataface releases (inclusive) that
    have it. ``optional`` names the package that the row is for where Dataface does without it: no such package, no
    need of the row.
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

    @property
    def package(self) -> str:
        """The package that the hook is in."""
        return self.module.partition(".")[0]

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
    wrapper: Any = None


@dataclass
class Installation:
    """All rows of one `instrument`. Thread-safe; after `remove`, late imports place nothing."""

    hooks: tuple[Hook, ...]
    states: dict[str, HookState] = field(default_factory=dict)
    _placed: list[_Placed] = field(default_factory=list)
    _names: dict[int, list[_Placed]] = field(default_factory=dict)
    """While placing: the names that modules which were imported before us have for what hooks replace, by its id."""
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _open: bool = True

    def place(self) -> None:
        """Place every row whose module is imported; the others when it is."""
        import wrapt  # here, because it imports asyncio, which decorators do not need

        for hook in self.hooks:
            self.states[hook.id] = HookState(hook.id)
        # A module that is imported later binds what it finds, which is a wrapper by then.
        for name in self._names_of({id(each) for each in self._defined()}):
            self._names.setdefault(id(name.original), []).append(name)
        for hook in self.hooks:
            # Runs inside the host's import statement from now on: `_imported` never raises.
            wrapt.register_post_import_hook(functools.partial(self._imported, hook), hook.module)
        self._names.clear()

    def remove(self) -> None:
        """Put every original back, where it is still ours to replace."""
        with self._lock:
            self._open = False
            self._find_copies()
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

    def _defined(self) -> Iterator[Any]:
        """What hooks will replace in modules that are imported already and define it."""
        for hook in self.hooks:
            space = getattr(sys.modules.get(hook.module), "__dict__", {})
            found = space.get(hook.target)
            if _is_defined_by(hook, found):
                yield found

    def _names_of(self, wanted: Collection[int]) -> Iterator[_Placed]:
        """The names that imported modules of the hooks' packages have for the objects whose ids are ``wanted``.

        It looks at all that they have: 2 ms for the 15,000 names of Dataface 0.4.0.
        """
        packages = {hook.package for hook in self.hooks} if wanted else ()
        for name, module in list(sys.modules.items()):
            if name.partition(".")[0] in packages and isinstance(module, ModuleType):
                space = vars(module)
                for key, value in space.copy().items():  # other threads may be importing
                    if id(value) in wanted:
                        get, put = functools.partial(space.get, key), functools.partial(setattr, module, key)
                        yield _Placed(get, put, value)

    def _find_copies(self) -> None:
        """Modules that were imported after a hook was placed have bound its wrapper: they get the original back too."""
        placed = {id(each.wrapper): each for each in self._placed}
        listed = (copy for hook in self.hooks for alias in hook.aliases for copy in _alias(alias))
        for copy in (*self._names_of(placed), *listed):
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
        original, wrapper = bindings[0].original, bindings[0].wrapper
        # Modules that were imported before us hold the original under names of their own.
        copies = [copy for alias in hook.aliases for copy in _alias(alias)]
        if _is_defined_by(hook, original):
            copies += self._names.pop(id(original), ())
        for copy in copies:
            if copy.get() is original:
                copy.wrapper = wrapper
                copy.put(wrapper)
                self._placed.append(copy)
        return ""


def _bindings(module: ModuleType, path: str) -> Iterator[_Placed]:
    """The places that ``path`` names in ``module``; LookupError when there are none."""
    table = path.endswith(_TABLE)
    *parents, last = path.removesuffix(_TABLE).split(".")
    owner: Any = module
    for part in parents:
        owner = getattr(owner, part, None)
    if table:
        found = getattr(owner, last, None)
        if not isinstance(found, dict) or not found:
            raise LookupError(f"{module.__name__} has no table {path}")
        for key, value in list(found.items()):
            yield _Placed(functools.partial(found.get, key), functools.partial(found.__setitem__, key), value)
        return
    # The raw attribute: a class's own static and class methods must go back as what they were.
    holder = vars(owner) if hasattr(owner, "__dict__") else {}
    if last in holder:
        # An instance may be frozen: its own `__setattr__` would refuse.
        replace = setattr if isinstance(owner, (type, ModuleType)) else object.__setattr__
        yield _Placed(lambda: vars(owner).get(last), lambda new: replace(owner, last, new), holder[last])
        return
    inherited = inspect.getattr_static(owner, last, None) if isinstance(owner, type) else None
    if inherited is None:
        raise LookupError(f"{module.__name__} has no {path}")

    def put(new: Any) -> None:  # other classes inherit it too: this one gets its own, and loses it again
        delattr(owner, last) if new is inherited else setattr(owner, last, new)

    yield _Placed(lambda: vars(owner).get(last), put, inherited)


def _is_defined_by(hook: Hook, original: Any) -> bool:
    """Whether the hook's module defines what it replaces: a name that it has from elsewhere is a place of its own."""
    return getattr(original, "__module__", None) == hook.module and hook.target.isidentifier()


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _alias(alias: str) -> list[_Placed]:
    """The place that ``module:path`` names; a module that is not imported to its end will bind the wrapper there."""
    name, _, path = alias.partition(":")
    module = sys.modules.get(name)
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
