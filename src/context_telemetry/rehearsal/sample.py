"""Makes the sample project: a small web shop in dbt and DuckDB, with a manifest from a real dbt and faces.

Nothing is cached here. A caller that needs many projects builds one and takes copies of it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

_TEMPLATE = Path(__file__).parent / "sample_project"
MANIFEST = Path("target/manifest.json")
DATABASE = Path("shop.duckdb")
INSTALL = "pip install -c constraints.txt '.[dataface]'"

_PACKAGES = {"dbt": "dbt-core", "dbt.adapters.duckdb": "dbt-duckdb"}


class RehearsalError(RuntimeError):
    """The rehearsal cannot go on; the text says what to do about it."""


@dataclass(frozen=True)
class Sample:
    """A sample project that is complete: built, with data and a manifest."""

    root: Path

    @property
    def manifest(self) -> Path:
        return self.root / MANIFEST

    @property
    def database(self) -> Path:
        return self.root / DATABASE

    def copy(self, directory: Path) -> Sample:
        """The same project in another folder (created; must not exist), as if dbt had run there."""
        shutil.copytree(self.root, directory)
        copied = Sample(directory)
        # dbt writes where a seed lies as an absolute path; everything else in the manifest is relative.
        before, after = _json_text(self.root), _json_text(directory)
        times = copied.manifest.stat()
        copied.manifest.write_text(copied.manifest.read_text("utf-8").replace(before, after), "utf-8")
        os.utime(copied.manifest, ns=(times.st_atime_ns, times.st_mtime_ns))
        return copied


def create(directory: Path, *, built_at: datetime | None = None, tests: bool = False) -> Sample:
    """Builds the project in `directory` (created; must be empty) with dbt, in about ten seconds.

    `built_at` makes the manifest look as old as that; `tests` also runs the project's data tests.
    Raises RehearsalError when dbt or the folder is not usable.
    """
    require("dbt", "duckdb", "dbt.adapters.duckdb")
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise RehearsalError(f"{directory} is not empty: name a folder that does not exist yet")
    root = directory.resolve()
    shutil.copytree(_TEMPLATE, root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    _load_raw_tables(root)
    _dbt(root, "build", *(() if tests else ("--exclude-resource-type", "test")))
    _tidy(root)
    sample = Sample(root)
    if built_at is not None:
        _date_manifest(sample.manifest, built_at)
    return sample


def require(*modules: str) -> None:
    """Raises RehearsalError, with the command that helps, when one of the modules is not installed."""
    for module in modules:
        try:
            found = importlib.util.find_spec(module)
        except ModuleNotFoundError:
            found = None
        if found is None:
            package = _PACKAGES.get(module, module)
            raise RehearsalError(
                f"{package} is not installed here; in a clone of context-telemetry: {INSTALL}"
            )


def _load_raw_tables(root: Path) -> None:
    import duckdb

    with duckdb.connect(str(root / DATABASE)) as connection:
        connection.execute((root / "raw.sql").read_text("utf-8"))


def _dbt(root: Path, *arguments: str) -> None:
    # A process of its own: dbt changes the working folder and keeps global state in the one it runs in.
    command = [sys.executable, "-W", "ignore", "-m", "dbt.cli.main", "--quiet", *arguments]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("DBT_")}
    done = subprocess.run(
        [*command, "--project-dir", str(root), "--profiles-dir", str(root)],
        cwd=root,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise RehearsalError(f"dbt {arguments[0]} failed in {root}:\n{done.stdout}{done.stderr}")


def _tidy(root: Path) -> None:
    """Leaves of dbt's output what a deployment carries: the manifest."""
    shutil.rmtree(root / "logs", ignore_errors=True)
    for entry in (root / "target").iterdir():
        if entry.name == MANIFEST.name:
            continue
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _date_manifest(manifest: Path, built_at: datetime) -> None:
    content = json.loads(manifest.read_text("utf-8"))
    utc = built_at.astimezone(timezone.utc)
    content["metadata"]["generated_at"] = utc.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    manifest.write_text(json.dumps(content), "utf-8")
    os.utime(manifest, (utc.timestamp(), utc.timestamp()))


def _json_text(path: Path) -> str:
    return json.dumps(str(path.resolve()))[1:-1]
