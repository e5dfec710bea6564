"""What a command's own words say of why `run` cannot observe it: an option or an environment that keeps us out.

Read before the command starts: nobody is left afterwards to tell. What a launcher does further on is not known here.
"""

from __future__ import annotations

import getopt
import os
import re
import shlex
import shutil
from collections.abc import Sequence
from pathlib import PurePath

# Scripts whose interpreter is a script, or `env` that starts `env`: nobody goes further.
_MOST_STEPS = 8
_PYTHON = re.compile(r"(?:python|pypy)[\d.]*[tw]?(?:\.exe)?", re.IGNORECASE)
# What Python's options mean: no environment and no `sitecustomize`, no environment, no `sitecustomize`.
_KEEPING_OUT = frozenset("IES")
_ENV_SHORT = "i0vu:C:S:P:a:"
_ENV_LONG = ("ignore-environment", "null", "debug", "unset=", "chdir=", "split-string=", "argv0=")
# Where the first line of a script would be too long for its interpreter, installers write this on the second.
_SECOND_LINE = "'''exec'"
_HEAD = 4096
_VARIABLE = "PYTHONPATH"


def why(argv: Sequence[str], environ: dict[str, str], site: str) -> str | None:
    """Why ``argv`` does not look into ``site``, which is in ``environ``'s PYTHONPATH, as a sentence.

    None where nothing says so, for one because it starts with no Python. What a Python that is kept apart starts itself
    has its environment all the same.
    """
    words = list(argv)
    for _ in range(_MOST_STEPS):
        if not words:
            return None
        program, arguments = words[0], words[1:]
        name = PurePath(program).name
        if name == "env":
            option, words = _behind_env(arguments, site)
            if option:
                return f"this command is not observed: env {option} keeps the library out"
        elif _PYTHON.fullmatch(name):
            option = _option(arguments)
            return f"this Python is not observed: {name} {option} keeps the library out" if option else None
        else:
            words = _interpreter(shutil.which(program, path=environ.get("PATH")))
    return None


def _behind_env(arguments: list[str], site: str) -> tuple[str | None, list[str]]:
    """The argument of `env` that takes ``site`` out of the environment, and the words that `env` starts."""
    try:
        options, words = getopt.getopt(arguments, _ENV_SHORT, _ENV_LONG)
    except getopt.GetoptError:  # of a newer `env`
        return None, []
    taken = None
    for option, value in options:
        if option in ("-i", "--ignore-environment"):
            taken = option
        elif option in ("-u", "--unset") and value == _VARIABLE:
            taken = f"{option} {value}"
        elif option in ("-S", "--split-string"):
            words = ["env", *_split(value), *words]
    while words and (words[0] == "-" or "=" in words[0]):
        name, _, value = words.pop(0).partition("=")
        if name == "-":
            taken = name
        elif name == _VARIABLE:
            taken = None if site in value.split(os.pathsep) else f"{name}=..."
    return taken if words else None, words


def _option(arguments: list[str]) -> str | None:
    """The option of Python among ``arguments`` that keeps `sitecustomize` or the environment out."""
    words = iter(arguments)
    for word in words:
        if word == "--check-hash-based-pycs":
            next(words, None)
        if not word.startswith("-") or word in ("-", "--"):
            return None
        if word.startswith("--"):
            continue
        for position, letter in enumerate(word[1:], start=2):
            if letter in _KEEPING_OUT:
                return f"-{letter}"
            if letter in "cm":  # what follows is the program's
                return None
            if letter in "WX":
                if position == len(word):
                    next(words, None)
                break
    return None


def _interpreter(script: str | None) -> list[str]:
    """The words that start the interpreter of ``script``, none where it is a program by itself."""
    if script is None or not os.path.isfile(script):
        return []
    try:
        with open(script, "rb") as file:
            head = os.fsdecode(file.read(_HEAD))
    except OSError:
        return []
    first, _, rest = head.partition("\n")
    if not first.startswith("#!"):
        return []
    if rest.startswith(_SECOND_LINE):
        return _split(rest.partition("\n")[0].removeprefix(_SECOND_LINE))
    # The kernel hands on whatever follows the interpreter as one word.
    return first[2:].strip().split(None, 1)


def _split(words: str) -> list[str]:
    try:
        return shlex.split(words)
    except ValueError:  # a quotation that does not end
        return []
