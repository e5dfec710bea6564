"""Imported by each interpreter that `context-telemetry run` starts, at whatever depth, until one is observed.

A Python without Dataface is a launcher, as a shell is: it hands on what it was given. The first Python that has
Dataface is the command. It is observed before anything runs in it, and this takes itself out again (environment,
path), so that its children are as they would be without us. Then another `sitecustomize` has its turn. It must run in
any Python from 3.6 on, also one that cannot import the library.
"""

import importlib
import importlib.machinery
import importlib.util
import os
import sys

if False:  # for type checkers: importing it would cost every interpreter on the way
    import typing

_HERE = os.path.dirname(os.path.abspath(__file__))
# What the library needs when it begins to record, compiled for one Python each. Not imported before: it costs.
_COMPILED = (("pydantic_core", "_pydantic_core"),)


def _begin() -> None:
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != _HERE]
    if importlib.util.find_spec("dataface") is None:
        _stay_in_the_way(lambda: None)
        return
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    left = [entry for entry in entries if not entry or os.path.abspath(entry) != _HERE]
    if any(left):
        os.environ["PYTHONPATH"] = os.pathsep.join(left)
    else:
        os.environ.pop("PYTHONPATH", None)
    try:
        for package, module in _COMPILED:
            _look_for(package, module)
        from context_telemetry.pipeline.auto import activate, flush, when_removed

        activate()
    except BaseException as error:  # whatever it is, the interpreter must start
        _say(
            f"this command is not observed: {sys.executable} cannot import the library ({type(error).__name__});"
            " install context-telemetry beside its Dataface"
        )
    else:
        when_removed(_stay_in_the_way(flush))


def _look_for(package: str, module: str) -> None:
    """Raise ImportError when this Python has no ``package.module`` that was compiled for it; nothing is imported."""
    found = importlib.util.find_spec(package)
    places = (found.submodule_search_locations if found is not None else None) or ()
    files = [
        os.path.join(place, module + suffix)
        for place in places
        for suffix in importlib.machinery.EXTENSION_SUFFIXES
    ]
    if not any(os.path.isfile(file) for file in files):
        raise ImportError(package)


def _stay_in_the_way(before: "typing.Callable[[], object]") -> "typing.Callable[[], None]":
    """What this process becomes (`exec`) is still the command. Launchers take PYTHONPATH away, as pipx does.

    Returns the function that puts everything back.
    """
    execve, execv = os.execve, os.execv
    process = os.getpid()  # type: typing.Optional[int]

    def observed_execve(path: "typing.Any", argv: "typing.Any", env: "typing.Any") -> "typing.NoReturn":
        if os.getpid() == process:  # not in a forked child, which is about to become a child's program
            try:
                entries = [_HERE] + [each for each in env.get("PYTHONPATH", "").split(os.pathsep) if each]
                env = dict(env, PYTHONPATH=os.pathsep.join(dict.fromkeys(entries)))
                before()
            except Exception:  # an environment of another shape is not ours to judge
                pass
        execve(path, argv, env)

    def observed_execv(path: "typing.Any", argv: "typing.Any") -> "typing.NoReturn":
        if os.getpid() == process:
            observed_execve(path, argv, os.environ)
        execv(path, argv)

    def put_back() -> None:
        nonlocal process
        process = None  # for whoever has replaced ours since, and calls it
        if os.execve is observed_execve:
            os.execve = execve
        if os.execv is observed_execv:
            os.execv = execv

    os.execve, os.execv = observed_execve, observed_execv
    return put_back


def _say(what: str) -> None:
    try:
        sys.stderr.write("context-telemetry: " + what + "\n")
        sys.stderr.flush()
    except BaseException:
        pass


def _chain() -> None:
    """Import the `sitecustomize` that would have been imported without this one."""
    this = sys.modules.pop("sitecustomize", None)
    try:
        importlib.import_module("sitecustomize")
    except ImportError as error:
        if getattr(error, "name", None) != "sitecustomize":
            raise
        if this is not None:
            sys.modules["sitecustomize"] = this


try:
    _begin()
except BaseException as error:  # a finder of somebody else's that raises, for one
    _say(f"this command is not observed: looking for Dataface failed ({type(error).__name__})")
_chain()
