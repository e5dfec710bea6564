"""A resource that says which process speaks. A forked child is another one than its parent."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final
from uuid import uuid4

from opentelemetry.sdk.resources import Resource

from context_telemetry.observe.fork import renew_in_child

_INSTANCE: Final = "service.instance.id"


class ProcessResource(Resource):
    """``given``, with the id of this process, and an instance id where there is none. In a forked child both are new.

    OpenTelemetry gives processes instance ids since 1.43, and renews them in forked children (an operator's too) since
    1.44.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        super().__init__({_INSTANCE: str(uuid4()), **given, "process.pid": os.getpid()})
        renew_in_child(self._renew)

    def _renew(self) -> None:
        own: dict[str, Any] = {_INSTANCE: str(uuid4()), "process.pid": os.getpid()}
        super().__init__({**self.attributes, **own})

    def merge(self, other: Resource) -> Resource:
        """As the SDK's, which merges in every forked child: that one's children are to be told apart, too."""
        return ProcessResource({**self.attributes, **other.attributes})
