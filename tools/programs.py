"""Gets the programs of the real stack: Collector and Jaeger from Go modules, all others from Debian.

What is built stays in `.stack/`, one folder for each version. Starts none of them.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import yaml

from context_telemetry.ops import collector
from context_telemetry.ops.inputs import defaults

ROOT: Final = Path(__file__).resolve().parent.parent
CACHE: Final = ROOT / ".stack"

JAEGER: Final = "1.76.0"
"""The Go module's version; as a product it is Jaeger 2.13."""

# Program by part, with the Debian package that brings it.
DEBIAN: Final = {
    "prometheus": ("prometheus", "prometheus"),
    "promtool": ("promtool", "prometheus"),
    "alertmanager": ("prometheus-alertmanager", "prometheus-alertmanager"),
    "amtool": ("amtool", "prometheus-alertmanager"),
    "victoria": ("victoria-metrics", "victoria-metrics"),
    "chromium": ("chromium", "chromium"),
    "postgres": ("postgres", "postgresql"),
}
# Debian keeps these programs off the path, in one folder for each version.
_POSTGRESQL: Final = Path("/usr/lib/postgresql")


class StackError(RuntimeError):
    """A part cannot be had or does not start; the text says what is missing, in one line, and where its log is."""


def program(part: str) -> Path:
    """The executable of a part: `collector`, `jaeger`, or a key of `DEBIAN`. Gets it where it is not there yet.

    Raises StackError where that needs something that this machine has not.
    """
    if part == "collector":
        return _built_collector()
    if part == "jaeger":
        return _built_jaeger()
    name, package = DEBIAN[part]
    found = _installed(name)
    if found is None:
        with _alone():
            if _installed(name) is None:
                _install(package)
        found = _installed(name)
    if found is None:
        raise StackError(f"{part}: the package {package} has no program {name}")
    return Path(found)


def _installed(name: str) -> str | None:
    return shutil.which(name) or max(map(str, _POSTGRESQL.glob(f"*/bin/{name}")), default=None)


def _install(package: str) -> None:
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise StackError(f"{package} is missing: install it with apt, which needs root on Debian")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    _say(f"installing the Debian package {package}")
    install = ("apt-get", "install", "-y", "--no-install-recommends", package)
    if subprocess.run(install, env=quiet, capture_output=True).returncode:
        _run("apt-get", "update", env=quiet)  # a new machine has no lists
        _run(*install, env=quiet)


def _built_collector() -> Path:
    """The Collector with exactly the components of `collector/builder.yaml`."""
    manifest = collector.files(defaults())["collector/builder.yaml"]
    key = hashlib.sha256(manifest.encode()).hexdigest()[:12]
    name = str(yaml.safe_load(manifest)["dist"]["name"])

    def build(folder: Path) -> None:
        go = _go()
        _say(
            f"building the Collector {collector.VERSION} (about 5 minutes, 20 s when Go has built it before)"
        )
        module = f"go.opentelemetry.io/collector/cmd/builder@v{collector.VERSION}"
        _run(go, "install", module, env={**os.environ, "GOBIN": str(folder)})
        (folder / "builder.yaml").write_text(manifest, "utf-8")
        _run(str(folder / "builder"), "--config", "builder.yaml", cwd=folder)
        shutil.copy2(folder / "dist" / name, folder / "program")
        shutil.rmtree(folder / "dist")

    return _cached(f"collector-{collector.VERSION}-{key}", build)


def _built_jaeger() -> Path:
    def build(folder: Path) -> None:
        go = _go()
        _say(f"building Jaeger {JAEGER} (about 5 minutes, 20 s when Go has built it before)")
        package = "github.com/jaegertracing/jaeger/cmd/jaeger"
        # A module of its own: as a tool it brings the versions that it was released with.
        _run(go, "mod", "init", "jaegerbuild", cwd=folder)
        _run(go, "get", "-tool", f"{package}@v{JAEGER}", cwd=folder)
        _run(go, "build", "-o", "program", package, cwd=folder)

    return _cached(f"jaeger-{JAEGER}", build)


def _cached(name: str, build: Callable[[Path], None]) -> Path:
    """The program in the cache's folder of that name, built there by whoever comes first."""
    done = CACHE / name
    if not (done / "program").exists():
        with _alone():
            if not (done / "program").exists():
                half = CACHE / f"{name}.half"
                shutil.rmtree(half, ignore_errors=True)
                half.mkdir(parents=True)
                started = time.monotonic()
                build(half)
                half.replace(done)
                _say(f"{name} is ready after {time.monotonic() - started:.0f} s")
    return done / "program"


@contextmanager
def _alone() -> Iterator[None]:
    """One process at a time gets parts; the others wait for it."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _go() -> str:
    found = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if found is None:
        raise StackError(
            "Go is missing: the Collector and Jaeger are built with Go 1.25 or later (go.dev/dl)"
        )
    return found


def _run(*command: str, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise StackError(f"this failed with {done.returncode}: {' '.join(command)}\n{last}")


def _say(text: str) -> None:
    print(f"stack: {text}", file=sys.stderr, flush=True)
