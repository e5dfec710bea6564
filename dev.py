"""Does all set-up and runs one task: `python3 dev.py demo`, `test`, `lint`, `bench`, `matrix`; `python` for others.

Needs Python 3.10 to 3.13 and nothing else. Environments go into `.venv/`, one per Python version and purpose,
and are used again while `pyproject.toml` and `constraints.txt` stay as they are. A task gets what follows it.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

if not (3, 10) <= sys.version_info[:2] <= (3, 13):
    sys.exit(f"dev.py needs Python 3.10 to 3.13, this is {sys.version.split()[0]}: try python3.12 dev.py")

ROOT = Path(__file__).resolve().parent
CONSTRAINTS = ROOT / "constraints.txt"
INPUTS = (ROOT / "pyproject.toml", CONSTRAINTS)
SCRIPTS = "Scripts" if os.name == "nt" else "bin"
# The first pip that reads dependency groups; Python 3.10 comes with an older one.
PIP = "pip>=25.1"
LOG_LINES_SHOWN = 30


@dataclass(frozen=True)
class Environment:
    """A virtual environment: where it is, and what is installed into it beside pip."""

    purpose: str
    project: str
    group: str
    minutes: str
    pinned: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        return ROOT / ".venv" / f"{sys.version_info[0]}.{sys.version_info[1]}-{self.purpose}"

    @property
    def python(self) -> Path:
        return self.folder / SCRIPTS / ("python.exe" if os.name == "nt" else "python")

    @property
    def origin(self) -> str:
        """What it cannot be kept without: environments cannot be moved or change their Python."""
        return f"{sys.version} in {self.folder}\n"

    @property
    def fingerprint(self) -> str:
        """Of all that the installation depends on."""
        inputs = [self.project, self.group, *self.pinned, *(path.read_text("utf-8") for path in INPUTS)]
        return self.origin + hashlib.sha256("\0".join(inputs).encode()).hexdigest()

    def prepare(self) -> None:
        """Make the environment, or bring it up to date, unless it is current."""
        stamp = self.folder / "fingerprint"
        found = stamp.read_text("utf-8") if stamp.exists() else ""
        if found == self.fingerprint:
            return
        started = time.monotonic()
        where = self.folder.relative_to(ROOT)
        pip = (str(self.python), "-m", "pip", "install", "--no-input", "--disable-pip-version-check")
        stamp.unlink(missing_ok=True)  # so that one that is left half done is made anew
        if found.startswith(self.origin):
            print(f"dev.py: bringing {where} up to date", file=sys.stderr, flush=True)
        else:
            print(f"dev.py: setting up {where} (once; {self.minutes})", file=sys.stderr, flush=True)
            shutil.rmtree(self.folder, ignore_errors=True)
            _quietly(sys.executable, "-m", "venv", str(self.folder))
            _quietly(*pip, "--upgrade", PIP)
        _quietly(*pip, "-c", str(CONSTRAINTS), "--group", self.group, *self.pinned, "-e", self.project)
        stamp.write_text(self.fingerprint, "utf-8")
        took = time.monotonic() - started
        print(f"dev.py: {where} is ready after {took:.0f} s", file=sys.stderr, flush=True)

    def run(self, *command: str) -> int:
        """Run a command as in the activated environment, from the repository's root; its exit code."""
        scripts = str(self.folder / SCRIPTS)
        path = os.pathsep.join([scripts, os.environ.get("PATH", os.defpath)])
        environ = {**os.environ, "VIRTUAL_ENV": str(self.folder), "PATH": path}
        environ.pop("PYTHONHOME", None)
        try:
            return subprocess.call([str(self.python), *command], cwd=ROOT, env=environ)
        except KeyboardInterrupt:  # the command got it too and has ended in its own way
            return 130


# mypy and dbt-core exclude each other (pathspec), so what judges the code lives apart from what runs it.
WORK = Environment("work", ".[dataface]", "test", "1 to 4 minutes")
LINT = Environment("lint", ".", "lint", "about a minute")
# What pyproject.toml has as lower bounds.
OLDEST = replace(
    WORK,
    purpose="oldest",
    group="oldest",
    pinned=tuple(f"opentelemetry-{name}==1.39.0" for name in ("api", "sdk", "exporter-otlp")),
)
ON_OLDEST = (
    "soundness",
    *("test_observe.py", "test_mcp.py", "test_lost_spans.py", "test_sampler_words.py"),
    *("test_pipeline_files.py", "test_pipeline_providers.py", "test_pipeline_process.py"),
)
CONTRACT = Environment("contract", ".", "contract", "about a minute")
NEIGHBOURS = replace(WORK, purpose="neighbours", group="neighbours")


def with_release(release: str) -> Environment:
    """The working environment with that Dataface release in place of the newest."""
    return replace(WORK, purpose=f"dataface-{release}", pinned=(f"dataface[mcp]=={release}",))


def _quietly(*command: str) -> None:
    """Run an installation step with its last line on screen; where it fails, show what it said and stop."""
    said: list[str] = []
    live = sys.stderr.isatty()
    width = shutil.get_terminal_size().columns - 1
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        for line in process.stdout or ():
            said.append(line)
            if live:
                print("\r" + line.strip()[:width].ljust(width), end="", file=sys.stderr, flush=True)
    if live:
        print("\r" + " " * width, end="\r", file=sys.stderr, flush=True)
    if process.returncode:
        print("".join(said[-LOG_LINES_SHOWN:]), file=sys.stderr)
        sys.exit(f"dev.py: this failed, the same command tries again: {' '.join(command)}")


def demo(arguments: list[str]) -> int:
    """A sample project, a real MCP client, a few faults, and what is seen of them."""
    WORK.prepare()
    return WORK.run("-m", "context_telemetry.cli", "demo", *arguments)


def test(arguments: list[str]) -> int:
    """All tests, or those that pytest is told: python3 dev.py test tests/test_limits.py -k budget."""
    WORK.prepare()
    return WORK.run("-m", "pytest", *arguments)


def bench(arguments: list[str]) -> int:
    """The benchmarks: what observation costs beside hand-written OpenTelemetry."""
    WORK.prepare()
    return WORK.run("-m", "benchmarks", *arguments)


def lint(arguments: list[str]) -> int:
    """Style, types, layers, and whether every generated file is what its source gives."""
    LINT.prepare()
    checks = [
        ("-m", "ruff", "check", "."),
        ("-m", "ruff", "format", "--check", "."),
        ("-m", "mypy"),
        ("-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"),
        *((str(tool.relative_to(ROOT)), "--check") for tool in sorted(ROOT.glob("tools/generate_*.py"))),
    ]
    failed = []
    for check in checks:
        print(f"dev.py: {' '.join(check)}", flush=True)
        if LINT.run(*check):
            failed.append(" ".join(check))
    for each in failed:
        print(f"dev.py: failed: {each}", flush=True)
    return int(bool(failed))


def python(arguments: list[str]) -> int:
    """The Python of the working environment: python3 dev.py python -m pip list."""
    WORK.prepare()
    return WORK.run(*arguments)


def on(arguments: list[str]) -> int:
    """`python` with another Dataface release: python3 dev.py on 0.2.0 -m pytest tests/releases."""
    if not arguments:
        print("usage: python3 dev.py on RELEASE [ARGUMENTS]", file=sys.stderr)
        return 2
    release, *command = arguments
    environment = with_release(release)
    environment.prepare()
    return environment.run(*command)


def matrix(arguments: list[str]) -> int:
    """The scenarios on every Dataface release, and the table of them in docs/releases.md."""
    return subprocess.call([sys.executable, str(ROOT / "tools" / "release_matrix.py"), *arguments], cwd=ROOT)


def postgres(arguments: list[str]) -> int:
    """Contracts on a real PostgreSQL, which tools/programs.py gets, by an adapter that `test` has not."""
    NEIGHBOURS.prepare()
    return NEIGHBOURS.run("-m", "pytest", "-m", "stack", "tests/contract/test_postgres.py", *arguments)


def oldest(arguments: list[str]) -> int:
    """What touches OpenTelemetry, on the oldest one that the package declares; `test` has the newest."""
    OLDEST.prepare()
    return OLDEST.run("-m", "pytest", *(f"tests/{each}" for each in ON_OLDEST), *arguments)


def soundness(arguments: list[str]) -> int:
    """Whether the recorders are sound, and the table of what was counted in docs/soundness.md."""
    WORK.prepare()
    return WORK.run("-m", "tests.soundness", *arguments)


def stack(arguments: list[str]) -> int:
    """The tests on the real Collector, Jaeger, Prometheus and Alertmanager, which tools/stack.py gets."""
    WORK.prepare()
    return WORK.run("-m", "tools.stack_tests", *arguments)


def page(arguments: list[str]) -> int:
    """The real stack, a real fault, and the page that its owner gets."""
    WORK.prepare()
    return WORK.run("-m", "tools.show_page", *arguments)


def contracts(arguments: list[str]) -> int:
    """What datacontract-cli says of the changes that our rules judge: does it still say what is recorded?"""
    CONTRACT.prepare()
    return CONTRACT.run("tools/crosscheck_contracts.py", *arguments)


def neighbours(arguments: list[str]) -> int:
    """The tests beside other instrumentations, which no other environment has."""
    NEIGHBOURS.prepare()
    return NEIGHBOURS.run("-m", "pytest", "tests/neighbours", *arguments)


TASKS = {
    task.__name__: task
    for task in (
        demo,
        test,
        lint,
        bench,
        matrix,
        stack,
        page,
        contracts,
        neighbours,
        postgres,
        soundness,
        oldest,
        on,
        python,
    )
}


def main(arguments: list[str]) -> int:
    """Run the task that is named first with the rest; 2 for a task that there is not."""
    task = TASKS.get(arguments[0]) if arguments else None
    if task is not None:
        return task(arguments[1:])
    print("usage: python3 dev.py TASK [ARGUMENTS]", file=sys.stderr)
    for name, each in TASKS.items():
        print(f"  {name:7} {(each.__doc__ or '').splitlines()[0]}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
