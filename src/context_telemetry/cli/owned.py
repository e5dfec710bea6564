"""What `doctor` says of the owners of a project: who is not filled in, in each owners.yaml that is built beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from context_telemetry.cli import text
from context_telemetry.cli.checks import Check

_SECTION = "operations"


def owned(root: Path) -> Iterator[Check]:
    """One check for each package that `ops build` made in the project's folder, or in one directly below."""
    from context_telemetry.ops import owners
    from context_telemetry.ops.build import LISTING
    from context_telemetry.ops.documents import DocumentError

    for listing in sorted((*root.glob(LISTING), *root.glob(f"*/{LISTING}"))):
        path = listing.with_name(owners.FILE)
        name = str(path.relative_to(root))
        try:
            found = owners.load(path)
        except DocumentError as error:
            yield Check(_SECTION, name, "wrong", "cannot be used", "\n".join(error.problems))
            continue
        unfilled = found.unfilled()
        if not unfilled:
            yield Check(_SECTION, name, "ok", "every role is filled in")
            continue
        roles = dict.fromkeys(key[1] for key, _ in unfilled if key[0] == "roles")
        whose = f": {', '.join(map(str, roles))}" if roles else ""
        yield Check(
            _SECTION,
            name,
            "wrong" if found.profile == "production" else "note",
            f"{text.counted(len(unfilled), 'key')} not filled in{whose}",
            f"`context-telemetry ops check {listing.parent.relative_to(root)}` lists them",
        )
