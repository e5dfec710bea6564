"""What does not outlast its time: in a forked child its parent's locks and numbers, after `uninstrument` what was kept.

Each module says here what it has of either; nothing here knows what that is.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any, TypeVar

from context_telemetry.observe import failsafe

_Forget = TypeVar("_Forget", bound=Callable[[], Any])

_renewals: list[Callable[[], Any]] = []
_last_renewals: list[Callable[[], Any]] = []
_forgets: list[Callable[[], Any]] = []
_importing = threading.RLock()
_forking = threading.local()
_LONGEST_IMPORT = 2.0
"""Seconds that a fork waits for an import at most: what is imported may wait for who forks."""


def renew_in_child(renew: Callable[[], Any], *, last: bool = False) -> None:
    """Call ``renew`` in every child that this process forks; a bound method only as long as its object lives.

    ``last`` is for what starts threads: until then the child has one.
    """
    where = _last_renewals if last else _renewals
    where.append(weakref.WeakMethod(renew) if isinstance(renew, MethodType) else lambda: renew)


def before_fork(call: Callable[[], Any]) -> None:
    """Call ``call`` in the thread that forks, before it does. It must not wait for other threads."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lambda: _safely(call))


@contextmanager
def importing() -> Iterator[None]:
    """Around an import that a call makes: no other thread forks meanwhile, as its child could never import that."""
    with _importing:
        yield


def _wait_for_imports() -> None:
    _forking.waited_for = _importing if _importing.acquire(timeout=_LONGEST_IMPORT) else None


def _let_import() -> None:
    if _forking.waited_for is not None:
        _forking.waited_for.release()


def on_forget(forget: _Forget) -> _Forget:
    """Call ``forget`` when this process is observed no more: nothing of the host's is kept then. Also a decorator."""
    _forgets.append(forget)
    return forget


def forget_all() -> None:
    """Let every module forget, those first that were imported last: what they stand on is still there."""
    for forget in reversed(_forgets):
        try:
            forget()
        except Exception as error:
            failsafe.caught("uninstrument", error)


def _safely(call: Callable[[], Any]) -> None:
    try:
        call()
    except Exception as error:
        failsafe.caught("fork", error)


def _renew_all() -> None:
    global _importing
    _importing = threading.RLock()
    for renewals in (_renewals, _last_renewals):
        renewals[:] = [reference for reference in renewals if reference() is not None]
    for reference in [*_renewals, *_last_renewals]:
        renew = reference()
        if renew is not None:
            _safely(renew)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_wait_for_imports, after_in_parent=_let_import, after_in_child=_renew_all)
