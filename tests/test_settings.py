"""Settings: where they are read from, which wins, what a mistake says, and that a host goes on without it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from context_telemetry.conventions.names import SURFACES
from context_telemetry.settings import (
    Settings,
    SettingsError,
    find_project_root,
    is_disabled,
    load,
    load_lenient,
    project_folder,
)
from context_telemetry.settings.keys import as_variable, keys


def write(root: Path, own: str = "", pyproject: str = "") -> Path:
    root.joinpath("context-telemetry.toml").write_text(own, encoding="utf-8")
    root.joinpath("pyproject.toml").write_text(pyproject, encoding="utf-8")
    return root


def problem(root: Path | None, environ: dict[str, str]) -> str:
    """The one problem that there is."""
    with pytest.raises(SettingsError) as raised:
        load(root, environ)
    assert len(raised.value.problems) == 1, raised.value.problems
    return raised.value.problems[0]


# -- where from ----------------------------------------------------------------------------------------------


def test_without_any_source_there_are_the_defaults(tmp_path: Path) -> None:
    settings = load(tmp_path, {})
    assert settings == Settings() == load(None, {})
    assert not settings.content
    assert settings.retention.model_dump() == {
        "max_bytes": 268_435_456,
        "max_age_days": 7.0,
        "file_bytes": 16_777_216,
    }


def test_the_environment_wins_over_the_own_file_and_that_over_pyproject_key_by_key(tmp_path: Path) -> None:
    write(
        tmp_path,
        own='surface = "cli"\n[retention]\nmax_bytes = 2\nmax_age_days = 2\n',
        pyproject="[tool.context-telemetry.retention]\nmax_bytes = 1\nmax_age_days = 1\nfile_bytes = 1\n",
    )
    settings = load(
        tmp_path, {"CONTEXT_TELEMETRY_RETENTION__MAX_BYTES": "3", "CONTEXT_TELEMETRY_SURFACE": "ide"}
    )
    assert settings.surface == "ide"
    assert settings.retention.model_dump() == {"max_bytes": 3, "max_age_days": 2.0, "file_bytes": 1}


def test_a_budget_is_a_number_or_a_table_in_every_source(tmp_path: Path) -> None:
    write(tmp_path, own='[limits]\nresults = {bytes = 7, source = "agreed"}\nresources = 8\n')
    limits = load(tmp_path, {"CONTEXT_TELEMETRY_LIMITS__STATIC": "9"}).limits
    assert (limits.results.bytes, limits.results.source) == (7, "agreed")
    assert (limits.resources.bytes, limits.static.bytes) == (8, 9)


def test_an_empty_variable_is_an_unset_one_and_internal_ones_are_not_settings() -> None:
    assert load(None, {"CONTEXT_TELEMETRY_SURFACE": ""}) == Settings()


def test_the_project_variable_says_where_files_are_looked_for(tmp_path: Path) -> None:
    write(tmp_path, own='surface = "cli"\nstate_dir = "telemetry"\n')
    for root in (None, tmp_path / "elsewhere"):
        settings = load(root, {"CONTEXT_TELEMETRY_PROJECT": str(tmp_path)})
        assert (settings.project, settings.surface) == (tmp_path, "cli")
        assert settings.state_dir == tmp_path / "telemetry"


def test_every_key_can_be_set_by_its_variable() -> None:
    for key in keys().values():
        value = key.default or {"a path": "."}.get(key.expected, "50000")
        value = "cli" if key.path == ("surface",) else value
        assert load(None, {as_variable(key.path): value})


# -- what a mistake says -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[limits]\nresult = 5\n", "limits.result: there is no such key; did you mean limits.results?"),
        ("limit = 5\n", "limit: there is no such key; did you mean limits?"),
        ("[limits.clients.codex]\nbytes = 5\nsauce = 1\n", "did you mean limits.clients.codex.source?"),
        (
            '[limits.clients]\ncodex = {source = "x"}\n',
            "limits.clients.codex.bytes: is missing; add it: a whole number",
        ),
        ("zzz = 5\n", "zzz: there is no such key; there are disabled, project, state_dir, surface"),
        (
            '[retention]\nmax_bytes = "lots"\n',
            "retention.max_bytes: 'lots' is not a whole number above 0; correct it, or "
            "leave it out for 268435456",
        ),
        ("retention = 5\n", "retention: 5 is not a table; put its keys below it"),
        (
            'content = "maybe"\n',
            "content: 'maybe' is not true or false; correct it, or leave it out for false",
        ),
        ('surface = "web"\n', "surface: 'web' is not one of agent, cli, dashboard, ide, library, mcp"),
        ("[limits]\nresults = true\n", "limits.results.bytes: True is not a whole number above 0"),
        ("[limits.objectives]\nfailed_ratio = 3\n", "3 is not a number above 0 and at most 1"),
        ('project = "."\n', "project: cannot be set in a file"),
    ],
)
def test_a_mistake_names_the_file_the_key_what_is_wrong_and_the_fix(
    tmp_path: Path, text: str, said: str
) -> None:
    own = tmp_path / "context-telemetry.toml"
    own.write_text(text, encoding="utf-8")
    told = problem(tmp_path, {})
    assert told.startswith(f"{own}: ")
    assert said in told


def test_a_mistake_says_once_what_there_is_to_choose_from() -> None:
    assert problem(None, {"CONTEXT_TELEMETRY_SURFACE": "web"}) == (
        "CONTEXT_TELEMETRY_SURFACE: 'web' is not one of agent, cli, dashboard, ide, library, mcp; "
        "correct it, or leave it out"
    )
    assert problem(None, {"CONTEXT_TELEMETRY_PROJECT": "no/such"}).endswith(
        "is not a folder; give a path, or leave it out"
    )


def test_a_mistake_in_pyproject_names_its_table(tmp_path: Path) -> None:
    write(tmp_path, pyproject="[tool.context-telemetry]\ncontent = 3\n")
    assert problem(tmp_path, {}).startswith(
        f"{tmp_path / 'pyproject.toml'} [tool.context-telemetry]: content: 3 is"
    )
    write(tmp_path, pyproject="[tool]\ncontext-telemetry = 3\n")
    assert "is not a table" in problem(tmp_path, {})
    write(tmp_path, pyproject="[tool.context_telemetry]\ncontent = true\n")
    assert problem(tmp_path, {}).endswith(
        "[tool.context_telemetry] is not read; write [tool.context-telemetry]"
    )


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("CONTEXT_TELEMETRY_CONTNET", "1", "did you mean CONTEXT_TELEMETRY_CONTENT?"),
        (
            "CONTEXT_TELEMETRY_RETENTION_MAX_BYTES",
            "1",
            "did you mean CONTEXT_TELEMETRY_RETENTION__MAX_BYTES?",
        ),
        (
            "CONTEXT_TELEMETRY_LIMITS__CLIENTS__CURSR",
            "1",
            "did you mean CONTEXT_TELEMETRY_LIMITS__CLIENTS__CURSOR?",
        ),
        ("CONTEXT_TELEMETRY_LIMITS__RESULTS", "many", "'many' is not a whole number above 0"),
        ("CONTEXT_TELEMETRY_LIMITS__OBJECTIVES__WINDOW", "1e400", "above 0 and at most 315360000"),
        ("CONTEXT_TELEMETRY_LIMITS__PROMISES__DBT_MANIFEST", "inf", "is not a number above 0"),
        ("CONTEXT_TELEMETRY_DISABLED", "maybe", "'maybe' is not true or false"),
        ("CONTEXT_TELEMETRY_PROJECT", "no/such/folder", "is not a folder"),
        ("CONTEXT_TELEMETRY_", "1", "there is no such key"),
        ("CONTEXT_TELEMETRY___X", "1", "there is no such key"),
    ],
)
def test_a_mistake_in_a_variable_names_the_variable(variable: str, value: str, said: str) -> None:
    told = problem(None, {variable: value})
    assert told.startswith(f"{variable}: ")
    assert said in told


def test_variables_that_contradict_each_other_are_a_mistake() -> None:
    environ = {"CONTEXT_TELEMETRY_LIMITS__STATIC": "1", "CONTEXT_TELEMETRY_LIMITS__STATIC__BYTES": "2"}
    assert "unset one of the two" in problem(None, environ)


def test_a_file_that_cannot_be_parsed_or_read_is_named(tmp_path: Path) -> None:
    write(tmp_path, own="a = = 1\n")
    assert "context-telemetry.toml: is not valid TOML" in problem(tmp_path, {})
    (tmp_path / "context-telemetry.toml").write_bytes(b"\xff\xfe")
    assert "cannot be read (UnicodeDecodeError)" in problem(tmp_path, {})


# -- inside a host -------------------------------------------------------------------------------------------


def test_a_host_loses_only_what_is_wrong(tmp_path: Path) -> None:
    write(
        tmp_path,
        own='surfce = "mcp"\ncontent = "maybe"\n[limits]\nresults = 7\nstatic = {bytes = "x", source = "s"}\n'
        "[limits.clients]\ncodex = {byts = 1}\nvscode = 8192\n",
        pyproject="[tool.context-telemetry]\ncontent = true\n",
    )
    settings, problems = load_lenient(tmp_path, {"CONTEXT_TELEMETRY_SURFACE": "nowhere"})
    assert settings.content
    assert settings.surface is None
    assert settings.limits.results.bytes == 7
    assert settings.limits.static == Settings().limits.static
    assert settings.limits.clients.codex == Settings().limits.clients.codex
    assert settings.limits.clients.vscode is not None
    # surfce, content, static.bytes, codex.byts, the codex.bytes that is missing, and the variable.
    assert len(problems) == 6


def test_a_host_goes_on_with_a_file_that_cannot_be_parsed(tmp_path: Path) -> None:
    write(tmp_path, own="= broken", pyproject="tool = 1\n")
    settings, problems = load_lenient(tmp_path, {"CONTEXT_TELEMETRY_SURFACE": "ide"})
    assert settings.surface == "ide"
    assert len(problems) == 1


# -- the switch, the project ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "disabled"),
    [
        ({}, False),
        ({"CONTEXT_TELEMETRY_DISABLED": "1"}, True),
        ({"CONTEXT_TELEMETRY_DISABLED": "Yes"}, True),
        ({"CONTEXT_TELEMETRY_DISABLED": "0"}, False),
        ({"CONTEXT_TELEMETRY_DISABLED": ""}, False),
        ({"OTEL_SDK_DISABLED": "TRUE"}, True),
        ({"OTEL_SDK_DISABLED": "1"}, False),
    ],
)
def test_the_switch_reads_ours_generously_and_opentelemetrys_as_specified(
    environ: dict[str, str], disabled: bool
) -> None:
    assert is_disabled(environ) is disabled
    ours = {name: value for name, value in environ.items() if name.startswith("CONTEXT_TELEMETRY_")}
    assert load(None, ours).disabled is (disabled and bool(ours))


def test_asking_the_switch_does_not_import_pydantic() -> None:
    code = (
        "import sys; from context_telemetry.settings import is_disabled; is_disabled(); "
        "sys.exit('pydantic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("marker", ["dataface.yml", "dataface.yaml", "dbt_project.yml"])
def test_the_project_is_the_nearest_folder_upwards_with_a_marker(tmp_path: Path, marker: str) -> None:
    deep = tmp_path / "project" / "faces" / "deep"
    deep.mkdir(parents=True)
    assert find_project_root(deep) is None
    (tmp_path / "project" / marker).touch()
    assert (
        find_project_root(deep) == (tmp_path / "project").resolve() == find_project_root(tmp_path / "project")
    )


def test_projects_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    one, two = tmp_path / "a" / "shop", tmp_path / "b" / "shop"
    for root in (one, two):
        root.mkdir(parents=True)
    folder = project_folder(tmp_path / "state", one)
    assert folder.parent == tmp_path / "state"
    assert folder.name.startswith("shop-")
    assert len(folder.name) == len("shop-") + 8
    assert folder != project_folder(tmp_path / "state", two)
    assert folder == project_folder(tmp_path / "state", two / ".." / ".." / "a" / "shop")


def test_a_path_that_is_no_text_has_a_folder_that_is(tmp_path: Path) -> None:
    folder = project_folder(tmp_path, tmp_path / "sh\udce9p")
    assert folder.name.encode("utf-8").startswith("sh\ufffdp-".encode())


def test_the_state_folder_is_the_platforms_and_not_in_the_project(tmp_path: Path) -> None:
    folder = project_folder(None, tmp_path)
    assert folder.is_absolute()
    assert folder.parent.name == "context-telemetry" or sys.platform in ("win32", "darwin")
    assert tmp_path not in folder.parents


def test_the_surfaces_that_can_be_set_are_those_of_the_conventions() -> None:
    assert keys()["surface",].expected == "one of " + ", ".join(sorted(SURFACES))
