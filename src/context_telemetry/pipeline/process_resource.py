"""A resource that says which process speaks. A forked child is another one than its parent."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from opentelemetry.sdk.resources import Resource


class ProcessResource(Resource):
    """``given``, with the id of the process that asks, and an instance id where nobody has given one.

    OpenTelemetry gives processes instance ids since 1.43, and renews them in forked children since 1.44.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        super().__init__(given)
        self._given = given
        self._asked = self._of_this_process()

    @property
    def attributes(self) -> Mapping[str, Any]:
        if self._asked[0] != os.getpid():
            self._asked = self._of_this_process()
        return self._asked[1]

    def _of_this_process(self) -> tuple[int, Mapping[str, Any]]:
        pid = os.getpid()
        known = {"service.instance.id": str(uuid4()), **self._given, "process.pid": pid}
        return pid, Resource(known).attributes
