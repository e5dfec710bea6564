"""`run` around small programs: what is recorded at each end of a process, and what the command is spared."""

from __future__ import annotations

import json
import os
import re
import signal
import site
import socket
import subprocess
import sys
import textwrap
import time
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import context_telemetry
from context_telemetry.rehearsal.driver import Raw
from context_telemetry.rehearsal.sample import Sample

_LIBRARY = str(Path(context_telemetry.__file__).parents[1])
_RUN = "import sys; from context_telemetry.pipeline.launch import run_command; sys.exit(run_command(sys.argv[1:]))"
_posix = pytest.mark.skipif(os.name == "nt", reason="POSIX signals and exec")

# What an observed command does, as the hooks would: it opens a project, and a neighbour of ours makes a span.
_WORK = """
    import os, signal, sys, time
    from pathlib import Path
    from context_telemetry.observe import project
    from opentelemetry import trace
    project.opened(Path.cwd(), "shop")
    def work(name="work"):
        with trace.get_tracer("neighbour").start_as_current_span(name, attributes={"url.query": "SECRET"}):
            pass
    work()
    print("said", flush=True)
"""


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it left in the state folder."""

    code: int
    stdout: str
    stderr: str
    state: Path

    def files(self, kind: str) -> list[Path]:
        return sorted(self.state.glob(f"*/{kind}-*.jsonl")) if self.state.is_dir() else []

    @property
    def spans(self) -> list[dict[str, Any]]:
        return [
            span
            for path in self.files("traces")
            for line in path.read_text().splitlines()
            for resource in json.loads(line)["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]

    @property
    def names(self) -> list[str]:
        return [span["name"] for span in self.spans]


class Runner:
    """Runs programs in a folder of the test's own, observed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.state = folder, folder / "state"
        self.environ = {
            **os.environ,
            "PYTHONPATH": _LIBRARY,
            "CONTEXT_TELEMETRY_STATE_DIR": str(self.state),
        }

    def script(self, *parts: str) -> str:
        path = self.folder / "program.py"
        path.write_text("\n".join(textwrap.dedent(part) for part in parts))
        return str(path)

    def start(self, *command: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", _RUN, *command],
            cwd=self.folder,
            env={**self.environ, **(env or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self, process: subprocess.Popen[str]) -> Ended:
        stdout, stderr = process.communicate(timeout=60)
        return Ended(process.returncode, stdout, stderr, self.state)

    def run(self, *command: str, env: Mapping[str, str] | None = None) -> Ended:
        return self.end(self.start(*command, env=env))

    def python(self, *parts: str, env: Mapping[str, str] | None = None) -> Ended:
        return self.run(sys.executable, self.script(*parts), env=env)


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


@pytest.mark.parametrize(
    ("last", "code"),
    [
        ("", 0),
        ("sys.exit(3)", 3),
        ("raise ValueError('theirs')", 1),
        ("sys.stdin.read()", 0),
        pytest.param("os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)", -signal.SIGTERM, marks=_posix),
        pytest.param("os.kill(os.getpid(), signal.SIGINT); time.sleep(60)", -signal.SIGINT, marks=_posix),
    ],
    ids=["normal", "sys.exit", "exception", "closed stdin", "SIGTERM", "SIGINT"],
)
def test_all_is_in_the_files_and_the_exit_status_is_the_commands(
    runner: Runner, last: str, code: int
) -> None:
    ended = runner.python(_WORK, last)
    assert (ended.code, ended.stdout, ended.names) == (code, "said\n", ["work"])
    assert "context-telemetry" not in ended.stderr
    assert len(ended.files("events")) == 1


@_posix
def test_a_server_that_captures_sigterm_and_raises_it_again_ends_by_it_with_all_recorded(
    runner: Runner,
) -> None:
    ended = runner.python(
        _WORK,
        """
        ours = signal.signal(signal.SIGTERM, lambda *_: work("while shutting down"))
        os.kill(os.getpid(), signal.SIGTERM)
        signal.signal(signal.SIGTERM, ours)
        signal.raise_signal(signal.SIGTERM)
        """,
    )
    assert (ended.code, ended.names) == (-signal.SIGTERM, ["work", "while shutting down"])


@_posix
def test_a_handler_that_was_there_first_decides_after_a_flush(runner: Runner) -> None:
    program = runner.script(
        """
        import os, signal, sys
        from context_telemetry.pipeline import shutdown
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
        shutdown.on_sigterm(lambda seconds: print("flushed", flush=True), lambda seconds: print("ended"))
        os.kill(os.getpid(), signal.SIGTERM)
        """
    )
    done = subprocess.run(
        [sys.executable, program], env=runner.environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (7, "flushed\n")


@_posix
def test_sigterm_ends_a_process_whose_locks_are_held(runner: Runner) -> None:
    ended = runner.python(
        _WORK,
        """
        from context_telemetry.observe import failsafe
        with failsafe._lock:
            os.kill(os.getpid(), signal.SIGTERM)
        """,
    )
    assert ended.code == -signal.SIGTERM


@_posix
def test_what_was_recorded_is_in_the_file_soon_enough_for_a_kill_9(runner: Runner) -> None:
    process = runner.start(sys.executable, runner.script(_WORK, "time.sleep(60)"))
    assert process.stdout is not None
    assert process.stdout.readline() == "said\n"
    deadline = time.monotonic() + 10
    while not any(each.stat().st_size for each in runner.state.glob("*/traces-*")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    ended = runner.end(process)
    assert (ended.code, ended.names) == (-signal.SIGKILL, ["work"])
    (span,), (path,) = ended.spans, ended.files("traces")
    waited = path.stat().st_mtime - int(span["endTimeUnixNano"]) / 1e9
    assert waited < 2.0  # that it is one second, soundness/test_ends measures


def test_an_idle_process_writes_nothing(runner: Runner) -> None:
    ended = runner.python(
        _WORK,
        """
        state = Path(os.environ["CONTEXT_TELEMETRY_STATE_DIR"])
        def seen():
            return sorted((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in state.rglob("*"))
        while len(seen()) < 3 or not all(size for *_, size in seen()):
            time.sleep(0.05)
        before = seen()
        time.sleep(1.5)
        print(before == seen())
        """,
    )
    assert ended.stdout == "said\nTrue\n"


def test_a_process_that_opens_no_project_and_records_nothing_makes_no_folder(runner: Runner) -> None:
    assert (runner.python("print('said')").stdout, runner.state.exists()) == ("said\n", False)


@pytest.mark.parametrize(
    "variables",
    [{"CONTEXT_TELEMETRY_DISABLED": "1"}, {"OTEL_SDK_DISABLED": "true"}],
    ids=lambda each: next(iter(each)),
)
def test_switched_off_it_touches_nothing(runner: Runner, variables: dict[str, str]) -> None:
    ended = runner.python(
        """
        import json, os, sys
        print(json.dumps([dict(os.environ), sys.path, sorted(n for n in sys.modules if "telemetry" in n)]))
        """,
        env=variables,
    )
    environ, path, modules = json.loads(ended.stdout)
    expected = {**runner.environ, **variables}
    assert {k: v for k, v in environ.items() if k in expected} == expected
    assert not [name for name in environ if name.startswith("CONTEXT_TELEMETRY_RUN")]
    assert not [entry for entry in path if "site" in Path(entry).parts and "pipeline" in Path(entry).parts]
    assert modules == []
    assert (ended.stderr, runner.state.exists()) == ("", False)


def test_switched_off_in_the_projects_file_nothing_is_recorded(runner: Runner) -> None:
    (runner.folder / "context-telemetry.toml").write_text("disabled = true\n")
    ended = runner.python(_WORK)
    assert (ended.code, ended.stderr, runner.state.exists()) == (0, "", False)


def test_a_wrong_setting_is_warned_of_once_and_the_command_runs(runner: Runner) -> None:
    (runner.folder / "context-telemetry.toml").write_text("[retention]\nfile_bytes = 'many'\n")
    ended = runner.python(_WORK)
    assert (ended.code, ended.names) == (0, ["work"])
    (line,) = ended.stderr.splitlines()
    assert "context-telemetry.toml: retention.file_bytes" in line


def test_a_state_folder_that_cannot_be_written_is_warned_of_once(runner: Runner) -> None:
    runner.state.write_text("a file")
    ended = runner.python(_WORK, "time.sleep(1)\nwork()\nwork()")
    assert (ended.code, ended.stdout) == (0, "said\n")
    assert len([line for line in ended.stderr.splitlines() if "dropped in spans" in line]) == 1


@pytest.mark.parametrize("command", ["no-such-command", "./no-such-command", "./program.py/no-such-command"])
def test_a_command_that_does_not_exist_is_127(runner: Runner, command: str) -> None:
    runner.script("")
    ended = runner.run(command)
    assert (ended.code, ended.stdout) == (127, "")
    assert ended.stderr == f"context-telemetry: run: {command}: command not found\n"


@_posix
def test_a_command_that_cannot_be_executed_is_126(runner: Runner) -> None:
    Path(runner.script("")).chmod(0o644)
    assert runner.run("./program.py").code == 126


@_posix
@pytest.mark.parametrize(("script", "code"), [("exit 5", 5), ("kill -9 $$", -signal.SIGKILL), ("exit 0", 0)])
def test_any_command_keeps_its_exit_status(runner: Runner, script: str, code: int) -> None:
    ended = runner.run("sh", "-c", script)
    assert (ended.code, ended.stdout, ended.stderr) == (code, "", "")


@_posix
def test_a_broken_pipe_ends_a_command_as_it_would_without_us(runner: Runner) -> None:
    ended = runner.run("sh", "-c", "trap '' TERM; kill -PIPE $$; echo survived")
    assert (ended.code, ended.stdout) == (-signal.SIGPIPE, "")


_TRACES_OF_US = """
    import json, os, subprocess, sys
    seen = [sorted(n for n in sys.modules if n.startswith("context_telemetry")), os.environ.get("PYTHONPATH"),
            [n for n in os.environ if n.startswith("CONTEXT_TELEMETRY_RUN")],
            [entry for entry in sys.path if os.path.exists(os.path.join(entry, "sitecustomize.py"))]]
"""


def test_children_are_as_they_would_be_without_us(runner: Runner) -> None:
    child = textwrap.dedent(_TRACES_OF_US) + "print(json.dumps(seen))"
    ended = runner.python(_TRACES_OF_US, f"subprocess.run([sys.executable, '-c', {child!r}]); assert seen[0]")
    assert json.loads(ended.stdout) == [[], _LIBRARY, [], []]


def test_the_command_itself_finds_no_traces_of_us_in_path_and_environment(runner: Runner) -> None:
    ended = runner.python(_TRACES_OF_US, "print(json.dumps(seen[1:]))")
    assert json.loads(ended.stdout) == [_LIBRARY, [], []]


def sh(runner: Runner, name: str, body: str) -> str:
    """An executable shell script."""
    path = runner.folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


@_posix
@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("exec '{python}' '{program}'", 0),
        ("'{python}' '{program}'; exit 4", 4),
        ("sh -c \"'{python}' '{program}'; exit 5\"", 5),
    ],
    ids=["exec", "child", "child of a child"],
)
def test_the_python_that_a_shell_script_comes_to_is_observed(runner: Runner, body: str, code: int) -> None:
    script = sh(runner, "start", body.format(python=sys.executable, program=runner.script(_WORK)))
    ended = runner.run(script)
    assert (ended.code, ended.stdout, ended.stderr, ended.names) == (code, "said\n", "", ["work"])


# A launcher as `pipx run` and `uvx` are: it makes a new environment for the command, and becomes it or starts it.
_LAUNCHER = """
    import os, subprocess, sys, venv
    folder, packages, how, *command = sys.argv[1:]
    venv.create(folder, symlinks=os.name != "nt")
    places = subprocess.run([folder + "/bin/python", "-c", "import site; print(site.getsitepackages()[0])"],
                            capture_output=True, text=True).stdout.strip()
    with open(places + "/packages.pth", "w") as file:
        file.write(packages.replace(os.pathsep, "\\n"))
    environ = dict(os.environ)
    if how == "exec without PYTHONPATH":
        del environ["PYTHONPATH"]
    if how == "child":
        sys.exit(subprocess.run([folder + "/bin/python", *command]).returncode)
    os.execve(folder + "/bin/python", [folder + "/bin/python", *command], environ)
"""


def launched(runner: Runner, how: str, packages: str) -> Ended:
    """Run the program by the launcher, which itself is a Python without Dataface and without the library."""
    launcher = runner.folder / "launcher.py"
    launcher.write_text(textwrap.dedent(_LAUNCHER))
    bare = runner.folder / "bare"
    venv.create(bare, symlinks=True)
    program = runner.script(
        _WORK if _LIBRARY in packages else "import dataface, sys; print('ran'); sys.exit(6)"
    )
    command = [
        str(bare / "bin" / "python"),
        str(launcher),
        str(runner.folder / "new"),
        packages,
        how,
        program,
    ]
    # The library is not on the path of either, as it is not for a user of `uvx`.
    environ = {name: value for name, value in runner.environ.items() if name != "PYTHONPATH"}
    start = f"import sys; sys.path.insert(0, {_LIBRARY!r}); {_RUN}"
    done = subprocess.run(
        [sys.executable, "-c", start, *command],
        cwd=runner.folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr, runner.state)


@_posix
@pytest.mark.parametrize("how", ["exec", "exec without PYTHONPATH", "child"])
def test_what_a_launcher_makes_an_environment_for_is_observed_where_the_library_is_in_it(
    runner: Runner, how: str
) -> None:
    ended = launched(runner, how, os.pathsep.join([_LIBRARY, *site.getsitepackages()]))
    assert (ended.code, ended.stdout, ended.stderr, ended.names) == (0, "said\n", "", ["work"])


@_posix
@pytest.mark.parametrize("how", ["exec", "exec without PYTHONPATH", "child"])
def test_where_it_has_dataface_and_not_the_library_one_line_says_so_and_the_command_runs(
    runner: Runner, how: str
) -> None:
    ended = launched(runner, how, str(standin(runner)))
    assert (ended.code, ended.stdout, ended.names) == (6, "ran\n", [])
    (line,) = ended.stderr.splitlines()
    assert re.fullmatch(
        r"context-telemetry: this command is not observed: .*/new/bin/python cannot import the library \(ImportError\);"
        r" install context-telemetry beside its Dataface",
        line,
    )


def standin(runner: Runner) -> Path:
    """A package that is called `dataface` and is nothing else: whether it is there is all that is asked."""
    folder = runner.folder / "standin"
    (folder / "dataface").mkdir(parents=True)
    (folder / "dataface" / "__init__.py").touch()
    return folder


OTHERS = sorted(
    path
    for path in (Path.home() / ".pyenv" / "versions").glob("3.*/bin/python")
    if path.parents[1].name.rpartition(".")[0] != "{}.{}".format(*sys.version_info)
)


@_posix
@pytest.mark.parametrize("python", OTHERS, ids=lambda path: path.parents[1].name)
def test_a_python_that_the_compiled_dependencies_are_not_for_is_told_of_and_runs(
    runner: Runner, python: Path
) -> None:
    ended = runner.run(
        str(python),
        runner.script("import sys; print('ran'); sys.exit(6)"),
        env={"PYTHONPATH": os.pathsep.join([_LIBRARY, str(standin(runner)), *site.getsitepackages()])},
    )
    assert (ended.code, ended.stdout, ended.names) == (6, "ran\n", [])
    (line,) = ended.stderr.splitlines()
    assert line.startswith(
        f"context-telemetry: this command is not observed: {python} cannot import the library ("
    )


@_posix
def test_a_python_without_dataface_is_a_launcher_and_not_observed(runner: Runner) -> None:
    bare = runner.folder / "bare"
    venv.create(bare, symlinks=True)
    program = runner.script("import sys; sys.exit(any('telemetry' in name for name in sys.modules))")
    ended = runner.run(str(bare / "bin" / "python"), program)
    assert (ended.code, ended.stdout, ended.stderr) == (0, "", "")


@_posix
def test_an_observed_process_that_becomes_itself_again_is_still_observed_and_loses_nothing(
    runner: Runner,
) -> None:
    again = "if len(sys.argv) < 2: os.execv(sys.executable, [sys.executable, __file__, 'again'])"
    ended = runner.python(_WORK, again)
    assert (ended.code, ended.stdout, ended.stderr) == (0, "said\nsaid\n", "")
    assert ended.names == ["work", "work"]


@_posix
def test_a_forked_child_that_becomes_another_program_is_as_without_us(runner: Runner) -> None:
    child = textwrap.dedent(_TRACES_OF_US) + "print(json.dumps(seen))"
    spawn = f"assert os.spawnv(os.P_WAIT, sys.executable, ['python', '-c', {child!r}]) == 0"
    ended = runner.python(_TRACES_OF_US, spawn)
    assert json.loads(ended.stdout) == [[], _LIBRARY, [], []]


def test_another_sitecustomize_has_its_turn(runner: Runner) -> None:
    theirs = runner.folder / "theirs"
    theirs.mkdir()
    (theirs / "sitecustomize.py").write_text("import builtins\nbuiltins.theirs = True\n")
    ended = runner.python(
        _WORK,
        "import sitecustomize; print(theirs, sitecustomize.__file__)",
        env={"PYTHONPATH": os.pathsep.join([_LIBRARY, str(theirs)])},
    )
    assert ended.stdout.splitlines()[1] == f"True {theirs / 'sitecustomize.py'}"
    assert ended.names == ["work"]


def test_a_finder_that_raises_costs_the_observation_and_neither_the_command_nor_its_sitecustomize(
    runner: Runner,
) -> None:
    bare, theirs = runner.folder / "bare", runner.folder / "theirs"
    venv.create(bare, symlinks=os.name != "nt")
    (packages,) = bare.glob("lib/*/site-packages")
    (packages / "finder.pth").write_text("import raising_finder\n")
    (packages / "raising_finder.py").write_text(
        textwrap.dedent("""
            import sys
            class Finder:
                def find_spec(self, name, path=None, target=None):
                    if name == "dataface":
                        raise LookupError(name)
            sys.meta_path.insert(0, Finder())
        """)
    )
    theirs.mkdir()
    (theirs / "sitecustomize.py").write_text("import builtins\nbuiltins.theirs = True\n")
    program = runner.script("import sys; print(theirs); sys.exit(6)")
    ended = runner.run(
        str(bare / "bin" / "python"), program, env={"PYTHONPATH": os.pathsep.join([_LIBRARY, str(theirs)])}
    )
    assert (ended.code, ended.stdout) == (6, "True\n")
    assert ended.stderr == (
        "context-telemetry: this command is not observed: looking for Dataface failed (LookupError)\n"
    )


@_posix
def test_an_uninstrumented_process_becomes_another_program_by_its_own_functions(runner: Runner) -> None:
    ended = runner.python(
        _WORK,
        """
        import context_telemetry
        def owners():
            return {os.execve.__module__, os.execv.__module__}
        held = os.execve
        print(owners())
        context_telemetry.uninstrument()
        print(owners())
        show = [sys.executable, "-c", "import os; print(os.environ.get('PYTHONPATH'))"]
        held(sys.executable, show, {})
        """,
    )
    assert ended.code == 0
    assert ended.stdout.splitlines()[1:] == ["{'sitecustomize'}", "{'posix'}", "None"]


def test_an_interpreter_that_cannot_import_the_library_says_so_once_and_runs_the_command(
    runner: Runner,
) -> None:
    empty = runner.folder / "empty"
    (empty / "context_telemetry").mkdir(parents=True)
    (empty / "context_telemetry" / "__init__.py").write_text("raise ImportError('not for this Python')\n")
    program = runner.script("import sys; print('ran'); sys.exit(6)")
    # The launcher imports the library, the command finds a broken one first.
    ended = runner.run("env", f"PYTHONPATH={_site()}{os.pathsep}{empty}", sys.executable, program)
    assert (ended.code, ended.stdout) == (6, "ran\n")
    (line,) = ended.stderr.splitlines()
    assert line.startswith("context-telemetry: this command is not observed: ")


def _site() -> str:
    return str(Path(_LIBRARY) / "context_telemetry" / "pipeline" / "site")


def test_standard_output_is_not_used_even_if_the_environment_asks_for_it(runner: Runner) -> None:
    ended = runner.python(
        _WORK, env={"OTEL_TRACES_EXPORTER": "console", "OTEL_LOGS_EXPORTER": "otlp_json_file"}
    )
    assert (ended.stdout, ended.names) == ("said\n", ["work"])
    assert len(ended.stderr.splitlines()) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("is_named", [False, True], ids=["", "the operator names the instance"])
def test_a_forked_child_records_under_its_own_name_in_its_own_file(runner: Runner, is_named: bool) -> None:
    ended = runner.python(
        "import warnings; warnings.simplefilter('ignore')",
        _WORK,
        """
        from context_telemetry.pipeline import auto
        auto.flush()
        child = os.fork()
        if child == 0:
            work("child")
            auto.flush()
            child = os.fork()
            work("grandchild" if child == 0 else "child again")
            if child:
                os.waitpid(child, 0)
            sys.exit(0)
        os.waitpid(child, 0)
        work("parent")
        """,
        env={"OTEL_RESOURCE_ATTRIBUTES": "service.instance.id=seven"} if is_named else {},
    )
    found: dict[tuple[str, str], list[str]] = {}
    for path in ended.files("traces"):
        for line in path.read_text().splitlines():
            (batch,) = json.loads(line)["resourceSpans"]
            attributes = {a["key"]: next(iter(a["value"].values())) for a in batch["resource"]["attributes"]}
            names = [span["name"] for span in batch["scopeSpans"][0]["spans"]]
            assert path.name.split("-")[2] == attributes["process.pid"]
            found.setdefault((attributes["process.pid"], attributes["service.instance.id"]), []).extend(names)
    assert sorted(found.values()) == [["child", "child again"], ["grandchild"], ["work", "parent"]]
    instances = {instance for _, instance in found}
    assert len(instances) == 3
    assert ("seven" in instances) == is_named


_ENDS_OF_CHILDREN = {
    "sys.exit": """
        child = os.fork()
        if child == 0:
            ill()
            sys.exit(0)
        os.waitpid(child, 0)
    """,
    "multiprocessing": """
        import multiprocessing
        child = multiprocessing.get_context("fork").Process(target=ill)
        child.start()
        child.join()
    """,
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("end", _ENDS_OF_CHILDREN)
@pytest.mark.parametrize("is_ill", [True, False], ids=["ill", "well"])
def test_what_goes_wrong_in_a_forked_child_is_in_the_files_when_it_has_ended(
    runner: Runner, end: str, is_ill: bool
) -> None:
    ended = runner.python(
        "import warnings; warnings.simplefilter('ignore')",
        _WORK,
        f"""
        from context_telemetry.instrumentation import report_changes
        from context_telemetry.observe import failsafe
        def ill():
            work("child")
            if {is_ill}:
                failsafe.dropped("spans", 3)
                report_changes()
                failsafe.dropped("spans", 5)
        """,
        _ENDS_OF_CHILDREN[end],
    )
    dropped = [
        attribute["value"]["intValue"]
        for path in ended.files("events")
        for line in path.read_text().splitlines()
        for resource in json.loads(line)["resourceLogs"]
        for scope in resource["scopeLogs"]
        for record in scope["logRecords"]
        for attribute in record["attributes"]
        if attribute["key"] == "context_telemetry.drop_count.export"
    ]
    assert sorted(dropped) == (["0", "0", "3", "5"] if is_ill else ["0", "0"])


# It sleeps because the signal is heard of a moment after it was sent; it does not sleep to the end.
_ENDS_OF_THE_IDLE = ["", "os.kill(os.getpid(), signal.SIGTERM); time.sleep(5)"]


@pytest.mark.parametrize("end", _ENDS_OF_THE_IDLE, ids=["exit", "SIGTERM"])
def test_a_process_that_called_nothing_begins_nothing_at_its_end_whatever_went_wrong(
    runner: Runner, end: str
) -> None:
    ended = runner.python(
        "import os, signal, time\nfrom context_telemetry.observe import failsafe",
        "failsafe.caught('hook of something', ValueError())",
        end,
    )
    assert ended.stderr.splitlines() == ["context-telemetry: ValueError in hook of something"]
    assert ended.files("traces") + ended.files("events") == []


_HOST = """
    import os, sys
    from pathlib import Path
    import context_telemetry
    from opentelemetry import trace
    from context_telemetry import catalog_resolution, instrument, uninstrument

    @catalog_resolution
    def resolve(source):
        pass
"""


def _python(runner: Runner, *parts: str, env: Mapping[str, str] | None = None) -> Ended:
    """Run a program that is not ours to observe."""
    done = subprocess.run(
        [sys.executable, runner.script(*parts)],
        cwd=runner.folder,
        env={**runner.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr, runner.state)


# A host that works in children: one call of its own, and two in each.
_PARENT = """
    import multiprocessing as mp, os, sys, time, warnings
    warnings.simplefilter("ignore")  # of forks beside threads, from Python 3.12 on
    from concurrent.futures import ProcessPoolExecutor
    from pathlib import Path
    from context_telemetry import catalog_resolution, instrument
    from context_telemetry.observe import project

    @catalog_resolution
    def resolve(source):
        pass
    def child(number=0):
        resolve("child")
        resolve("child")
        return os.getpid()
    def one(how, target=child):
        process = mp.get_context(how).Process(target=target)
        process.start()
        process.join()
        print(process.exitcode)
    def begins_by_itself():
        instrument()
        project.opened(Path.cwd(), "shop")
        child()
    def fails():
        child()
        sys.stderr = open(os.devnull, "w")
        raise ValueError("theirs")
"""
_BEGIN = """
    instrument()
    project.opened(Path.cwd(), "shop")
"""
_forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def _in_main(*lines: str) -> str:
    return "\n".join(["if __name__ == '__main__':", *(f"    {line}" for line in lines)])


@_forks
@pytest.mark.parametrize("recorder", ["light spans", "the SDK's spans"])
@pytest.mark.parametrize(
    ("parts", "codes", "calls"),
    [
        ([_BEGIN, _in_main("resolve('own')", "one('fork')")], "0\n", 3),
        ([_BEGIN, _in_main("resolve('own')", "one('forkserver')")], "0\n", 3),
        ([_BEGIN, _in_main("resolve('own')", "one('spawn')")], "0\n", 3),
        ([_BEGIN, _in_main("resolve('own')", "one('fork', fails)")], "1\n", 3),
        ([_in_main("one('fork', begins_by_itself)")], "0\n", 2),
        ([_in_main("one('forkserver', begins_by_itself)")], "0\n", 2),
        (
            [
                _BEGIN,
                _in_main(
                    "resolve('own')",
                    "with ProcessPoolExecutor(2, mp_context=mp.get_context('fork')) as pool:",
                    "    print(len(list(pool.map(child, range(4)))))",
                ),
            ],
            "4\n",
            9,
        ),
        (
            [
                _BEGIN,
                _in_main(
                    "resolve('own')",
                    "pool = mp.get_context('fork').Pool(2)",
                    "print(len(pool.map(child, range(4))))",
                    "pool.close()",
                    "pool.join()",
                ),
            ],
            "4\n",
            9,
        ),
    ],
    ids=[
        "fork",
        "forkserver",
        "spawn",
        "fork, and raises",
        "fork, observed from there on",
        "forkserver, observed from there on",
        "ProcessPoolExecutor",
        "Pool",
    ],
)
def test_nothing_is_lost_of_a_child_of_multiprocessing(
    runner: Runner, parts: list[str], codes: str, calls: int, recorder: str
) -> None:
    internal = str(recorder != "light spans").lower()
    ended = _python(runner, _PARENT, *parts, env={"OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED": internal})
    assert (ended.code, ended.stdout, ended.stderr) == (0, codes, "")
    assert ended.names == ["catalog.resolve"] * calls


@_forks
def test_a_child_that_begins_by_itself_says_that_it_ended(runner: Runner) -> None:
    ended = _python(runner, _PARENT, _in_main("one('fork', begins_by_itself)"))
    said = [path.read_text() for path in ended.files("events")]
    assert len(said) == 1
    assert said[0].count('"began"') == said[0].count('"ended"') == 1


@_forks
def test_a_child_whose_end_cannot_be_told_ends_all_the_same(runner: Runner) -> None:
    """An endpoint takes what it is sent and never answers; the exporter would wait for a minute."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ended = _python(
            runner,
            _PARENT,
            _BEGIN,
            _in_main(
                "began = time.monotonic()",
                "one('fork')",
                "print(time.monotonic() - began < 20)",
            ),
            env={
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
                "OTEL_EXPORTER_OTLP_TIMEOUT": "60",
            },
        )
    assert (ended.code, ended.stdout) == (0, "0\nTrue\n")


@_forks
def test_a_child_that_passes_no_end_at_all_loses_no_more_than_its_last_second(runner: Runner) -> None:
    ended = _python(
        runner,
        _PARENT,
        _BEGIN,
        """
        resolve("own")
        pid = os.fork()
        if pid == 0:
            child()
            time.sleep(2)  # at most a second is lost, as soundness/test_ends measures it
            resolve("in its last moment")
            os._exit(0)
        os.waitpid(pid, 0)
        """,
    )
    assert (ended.code, ended.names) == (0, ["catalog.resolve"] * 3)


def test_a_host_without_providers_gets_local_files_and_keeps_its_globals(runner: Runner) -> None:
    ended = _python(
        runner,
        _HOST,
        """
        instrument()
        instrument()
        resolve("shop")
        print(type(trace.get_tracer_provider()).__name__)
        """,
    )
    assert (ended.code, ended.stdout, ended.stderr) == (0, "ProxyTracerProvider\n", "")
    assert ended.names == ["catalog.resolve"]


def test_uninstrument_writes_what_was_recorded_and_records_no_more(runner: Runner) -> None:
    ended = _python(
        runner,
        _HOST,
        """
        instrument()
        resolve("shop")
        uninstrument()
        print(sum(1 for path in Path(os.environ["CONTEXT_TELEMETRY_STATE_DIR"]).glob("*/traces-*")))
        uninstrument()
        resolve("shop")
        """,
    )
    assert (ended.code, ended.stdout, ended.stderr, ended.names) == (0, "1\n", "", ["catalog.resolve"])


def test_a_hosts_own_providers_are_used_and_no_file_is_written(runner: Runner) -> None:
    ended = _python(
        runner,
        _HOST,
        """
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        kept, provider = InMemorySpanExporter(), TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(kept))
        if os.environ.get("SET_GLOBAL"):
            trace.set_tracer_provider(provider)
            instrument()
        else:
            instrument(tracer_provider=provider)
        from context_telemetry.observe import project
        project.opened(Path.cwd(), "shop")
        resolve("shop")
        print([span.name for span in kept.get_finished_spans()])
        """,
        env={"SET_GLOBAL": "1"},
    )
    assert (ended.stdout, ended.stderr, runner.state.exists()) == ("['catalog.resolve']\n", "", False)
    ended = _python(runner, Path(runner.folder / "program.py").read_text())
    assert (ended.stdout, ended.stderr, runner.state.exists()) == ("['catalog.resolve']\n", "", False)


@_posix
def test_opentelemetry_instrument_without_a_distro_records_like_run(runner: Runner) -> None:
    # What an installed distribution would declare, whether or not this one is.
    info = runner.folder / "installed" / "context_telemetry-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: context-telemetry\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text(
        "[opentelemetry_instrumentor]\ndataface = context_telemetry.pipeline.auto:AutoInstrumentor\n"
    )
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("opentelemetry-instrument")),
            sys.executable,
            runner.script(_WORK, "os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)"),
        ],
        cwd=runner.folder,
        env={**runner.environ, "PYTHONPATH": os.pathsep.join([str(info.parent), _LIBRARY])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    ended = Ended(done.returncode, done.stdout, done.stderr, runner.state)
    assert (ended.code, ended.stdout, ended.stderr, ended.names) == (-signal.SIGTERM, "said\n", "", ["work"])


@_posix
@pytest.mark.real
def test_a_real_server_ends_by_sigterm_with_its_last_call_recorded(runner: Runner, sample: Sample) -> None:
    dft = str(Path(sys.executable).with_name("dft"))
    with Raw(
        sample.root,
        command=[sys.executable, "-c", _RUN, dft, "mcp", "serve"],
        env={name: runner.environ[name] for name in ("PYTHONPATH", "CONTEXT_TELEMETRY_STATE_DIR")},
    ) as server:
        server.initialize()
        server.request("tools/call", {"name": "list_skills", "arguments": {}})
        server.process.terminate()
        assert server.process.wait(30) == -signal.SIGTERM
    recorded = Ended(0, "", "", runner.state)
    assert "tools/call list_skills" in recorded.names
    assert all(json.loads(line) for line in server.received)
