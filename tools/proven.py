"""Which tree a slow run was of: what has passed on this very tree need not run again.

A digest of the files that an outcome depends on, and a small file beside the tests that keeps it. It runs nothing.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def digest(tested: Sequence[str], without: Path | None = None) -> str:
    """Of all files that these git path specifications name, tracked or not, but one."""
    hashed = hashlib.sha256()
    for path in sorted(files(tested)):
        if path != without:
            hashed.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return hashed.hexdigest()


def holds(proof: Path, tested: Sequence[str]) -> bool:
    """Whether the run that the file keeps was of this very tree, and passed."""
    known = json.loads(proof.read_text("utf-8")) if proof.exists() else {}
    return bool(known.get("passed")) and known.get("tree") == digest(tested, proof)


def keep(proof: Path, tested: Sequence[str]) -> None:
    """Keep that all has passed on this tree."""
    document = {"tree": digest(tested, proof), "passed": True}
    proof.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def files(tested: Sequence[str]) -> Iterator[Path]:
    """Those of them that there are, in git's order."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *tested],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found = (ROOT / name for name in listed.stdout.split("\0") if name)
    yield from (path for path in found if path.is_file())
