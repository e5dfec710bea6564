"""What a forked child must not inherit: locks that another thread held, numbers and sessions that are its parent's."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from types import MethodType
from typing import Any

from context_telemetry.observe import failsafe

_renewals: list[Callable[[], Any]] = []


def renew_in_child(renew: Callable[[], Any]) -> None:
    """Call ``renew`` in every child that this process forks; a bound method only as long as its object lives."""
    if not _renewals and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_renew_all)
    if isinstance(renew, MethodType):
        _renewals.append(weakref.WeakMethod(renew))
    else:
        _renewals.append(lambda: renew)


def _renew_all() -> None:
    for reference in list(_renewals):
        renew = reference()
        if renew is None:
            _renewals.remove(reference)
            continue
        try:
            renew()
        except Exception as error:
            failsafe.caught("fork", error)
