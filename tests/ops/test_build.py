"""`ops build` and `ops check`: all or nothing, what belongs to others, what is out of date, and their exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from context_telemetry.cli.ops import app
from context_telemetry.health.indicators import INDICATORS
from context_telemetry.ops import alerts, build, check, inputs, owners, support
from context_telemetry.ops.alert_wording import Alert
from context_telemetry.ops.build import BuildError
from context_telemetry.ops.check import Looked

LIMITS = "[limits.objectives]\nwindow = 600\n"


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    """The package of the defaults."""
    return build.generate(inputs.defaults())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that was built with the defaults."""
    path = tmp_path / "ops"
    build.build(path)
    return path


def ops(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def state(folder: Path) -> dict[str, str]:
    """Every file below a folder with its text."""
    return {
        str(path.relative_to(folder)): path.read_text("utf-8") for path in folder.rglob("*") if path.is_file()
    }


# -- what is built -------------------------------------------------------------------------------------------


def test_the_package_has_all_parts_and_a_runbook_for_every_alert(made: dict[str, str]) -> None:
    assert {path.partition("/")[0] for path in made} == {
        "alerts",
        "collector",
        "dashboards",
        "runbooks",
        "owners.yaml",
    }
    for indicator in INDICATORS:
        assert f"runbooks/{indicator.alert}.md" in made
    assert made["owners.yaml"] == owners.default_text()


def test_the_repositorys_own_package_is_what_the_defaults_give(made: dict[str, str]) -> None:
    root = Path(__file__).resolve().parents[2]
    stale = [path for path, text in made.items() if build.current(root / path) != build.digest(text)]
    assert not stale, "run `context-telemetry ops build .` in the repository's root"


def test_no_generated_file_names_a_path_of_this_machine(made: dict[str, str]) -> None:
    here = {str(Path(__file__).resolve().parents[2]), str(Path.home())}
    assert [path for path, text in made.items() if any(each in text for each in here)] == []


def test_a_build_in_another_process_writes_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from context_telemetry.ops import build; build.build(pathlib.Path(sys.argv[1]))"
    )
    env = {**os.environ, "PYTHONHASHSEED": "7", "LC_ALL": "C", "TZ": "Asia/Tokyo"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "again")], check=True, env=env)
    assert state(tmp_path / "again") == state(folder)


def test_an_alert_without_a_runbook_and_a_panel_about_nothing_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lost = [
        Alert("DatafaceNew", "ticket", "telemetry", "", "dataface_contxt_served_total > 1", 0.0, "x", by=())
    ]
    monkeypatch.setattr(alerts, "of_collector", lambda objectives: lost)
    monkeypatch.setattr(build, "GENERATORS", (support.files,))
    with pytest.raises(BuildError) as raised:
        build.generate(inputs.defaults())
    assert (
        "alerts/rules.yaml: DatafaceNew has no runbook; write runbooks/DatafaceNew.md"
        in raised.value.problems
    )
    assert (
        "alerts/rules.yaml: DatafaceNew: there is no series dataface_contxt_served_total; "
        "did you mean dataface_context_served_total?"
    ) in raised.value.problems


# -- all or nothing ------------------------------------------------------------------------------------------


def test_a_build_says_what_it_wrote_and_a_second_writes_nothing(tmp_path: Path, made: dict[str, str]) -> None:
    first = ops("build", tmp_path / "ops")
    assert (first.exit_code, f"; {len(made)} written" in first.stdout) == (0, True)
    assert "not filled in" in first.stdout
    assert "; 0 written" in ops("build", tmp_path / "ops").stdout


def test_wrong_inputs_are_all_told_and_leave_nothing(tmp_path: Path) -> None:
    wrong_owners, wrong_limits = tmp_path / "owners.yaml", tmp_path / "limits.toml"
    wrong_owners.write_text(
        owners.default_text().replace("  mcp: ai-context-owner", "  mcp: nobody"), "utf-8"
    )
    wrong_limits.write_text('[limits]\nresults = "1MB"\n', "utf-8")
    done = ops("build", tmp_path / "ops", "--owners", wrong_owners, "--limits", wrong_limits)
    assert done.exit_code == 1
    assert f"{wrong_owners}:18: surfaces.mcp: role 'nobody' is not defined" in done.stderr
    assert f"{wrong_limits}:2: limits.results: '1MB' has a unit" in done.stderr
    assert not (tmp_path / "ops").exists()


def test_what_cannot_be_written_leaves_the_folder_as_it_was(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = state(folder)
    write = build._write
    written: list[Path] = []

    def full(path: Path, text: str) -> None:
        written.append(path)
        if len(written) > 3:
            raise OSError(28, "No space left on device", str(path))
        write(path, text)

    monkeypatch.setattr(build, "_write", full)
    limits = folder.parent / "limits.toml"
    limits.write_text(LIMITS, "utf-8")
    with pytest.raises(BuildError, match="cannot be written: no space left on device"):
        build.build(folder, None, limits)
    assert len(written) == 4
    assert state(folder) == before


def test_a_new_folder_that_cannot_be_filled_is_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(build, "_write", full)
    with pytest.raises(BuildError):
        build.build(tmp_path / "ops")
    assert not (tmp_path / "ops").exists()


@pytest.mark.parametrize("after", [0, 1, 5])
def test_a_build_that_is_killed_while_files_are_moved_is_finished_by_the_next(
    folder: Path, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = folder.parent / "limits.toml"
    limits.write_text(LIMITS, "utf-8")
    wanted = folder.parent / "wanted"
    build.build(wanted, None, limits)
    replace = os.replace
    moved: list[Path] = []

    class Killed(BaseException):
        pass

    def killed(source: Path, target: Path) -> None:
        if _moves(source) and len(moved) >= after:
            raise Killed
        moved.extend([target] if _moves(source) else [])
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(Killed):
        build.build(folder, None, limits)
    monkeypatch.setattr(os, "replace", replace)
    assert len(moved) == after
    assert ops("check", folder).exit_code == 1
    # By a build that is not told the limits: they came with the one that was killed.
    build.build(folder)
    assert state(folder) == state(wanted)


def _moves(source: Path) -> bool:
    return Path(source).suffix != ".part"


def test_a_build_that_is_killed_while_it_writes_beside_is_undone_by_the_next(folder: Path) -> None:
    half = folder / ".ops-build.new" / "alerts"
    half.mkdir(parents=True)
    (half / "rules.yaml").write_text("half", "utf-8")
    before = {path: text for path, text in state(folder).items() if not path.startswith(".ops-build.new")}
    build.build(folder)
    assert state(folder) == before


def test_what_was_interrupted_and_cannot_be_finished_is_told_as_any_other_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / ".ops-build.new").mkdir()

    def refused(path: Path) -> None:
        raise OSError(13, "Permission denied", str(path))

    monkeypatch.setattr(build, "recover", refused)
    done = ops("build", folder)
    assert (done.exit_code, f"{folder}: cannot be written: permission denied" in done.stderr) == (1, True)


# -- what belongs to others ----------------------------------------------------------------------------------


def test_a_file_that_was_edited_by_hand_is_written_over_only_by_force(folder: Path) -> None:
    edited = folder / "alerts" / "rules.yaml"
    edited.write_text("groups: []\n", "utf-8")
    done = ops("build", folder)
    assert done.exit_code == 1
    assert f"{edited}: was edited by hand; move it elsewhere, or write over it with --force" in done.stderr
    assert edited.read_text("utf-8") == "groups: []\n"
    assert ops("build", folder, "--force").exit_code == 0
    assert edited.read_text("utf-8") != "groups: []\n"


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "marked"])
def test_line_ends_and_a_mark_of_windows_are_no_edit(mark: bytes, folder: Path) -> None:
    for name in ("owners.yaml", "alerts/rules.yaml"):
        path = folder / name
        path.write_bytes(mark + path.read_bytes().replace(b"\n", b"\r\n"))
    assert _wrong(folder) == []
    done = ops("build", folder)
    assert (done.exit_code, "; 0 written" in done.stdout) == (0, True)
    path = folder / "owners.yaml"
    path.write_bytes(path.read_bytes().replace(b'contact: ""', b'contact: "+00 000"', 1))
    assert ops("build", folder).exit_code == 0
    assert "+00 000" in (folder / "runbooks" / "support.md").read_text("utf-8")


def test_a_file_of_somebody_else_in_the_way_is_written_over_only_by_force(tmp_path: Path) -> None:
    theirs = tmp_path / "runbooks" / "README.md"
    theirs.parent.mkdir()
    theirs.write_text("ours for years\n", "utf-8")
    done = ops("build", tmp_path)
    assert (done.exit_code, f"{theirs}: is not from `ops build`" in done.stderr) == (1, True)
    assert state(tmp_path) == {"runbooks/README.md": "ours for years\n"}


def test_a_folder_or_file_in_the_way_is_told_even_with_force(tmp_path: Path) -> None:
    (tmp_path / "alerts").write_text("x", "utf-8")
    (tmp_path / "runbooks" / "README.md").mkdir(parents=True)
    done = ops("build", tmp_path, "--force")
    assert done.exit_code == 1
    assert f"{tmp_path / 'alerts'}: is in the way of alerts/alertmanager.yaml" in done.stderr
    assert f"{tmp_path / 'runbooks' / 'README.md'}: is in the way" in done.stderr


def test_files_of_an_earlier_build_go_and_those_of_others_stay(folder: Path) -> None:
    gone, edited, theirs = (folder / "alerts" / name for name in ("old.yaml", "mine.yaml", "theirs.yaml"))
    for path in (gone, edited, theirs):
        path.write_text("x", "utf-8")
    listing = json.loads((folder / build.LISTING).read_text("utf-8"))
    listing["files"] |= {"alerts/old.yaml": build.digest("x"), "alerts/mine.yaml": build.digest("as it was")}
    (folder / build.LISTING).write_text(json.dumps(listing), "utf-8")
    done = ops("build", folder)
    assert "1 removed" in done.stdout
    assert f"{edited}: is no longer made, and was edited by hand: it stays" in done.stdout
    assert [path.exists() for path in (gone, edited, theirs)] == [False, True, True]


@pytest.mark.parametrize(
    "listing", ["{", '{"version": 9, "files": {}}', '{"version": 1, "files": {"../x": "y"}}', "[]"]
)
def test_a_listing_that_is_none_is_told_and_nothing_is_removed_by_it(folder: Path, listing: str) -> None:
    (folder.parent / "x").write_text("theirs", "utf-8")
    (folder / build.LISTING).write_text(listing, "utf-8")
    with pytest.raises(BuildError, match="is no listing of this release; delete it, and build with --force"):
        build.build(folder)
    assert (folder.parent / "x").exists()


# -- built again from itself ---------------------------------------------------------------------------------


def test_owners_are_edited_where_they_were_built_and_limits_are_kept(folder: Path, tmp_path: Path) -> None:
    limits = tmp_path / "mine.toml"
    limits.write_text(LIMITS, "utf-8")
    build.build(folder, None, limits)
    mine = (folder / "owners.yaml").read_text("utf-8").replace('contact: ""', 'contact: "+00 000"', 1)
    (folder / "owners.yaml").write_text(mine, "utf-8")
    assert {each.found for each in _wrong(folder)} == {"is out of date"}
    build.build(folder)
    rules = (folder / alerts.RULES).read_text("utf-8")
    assert "ratio_rate10m" in rules
    assert "+00 000" in rules
    assert (folder / "limits.toml").read_text("utf-8") == LIMITS
    assert not _wrong(folder)


def test_limits_in_another_format_take_the_place_of_the_former(folder: Path, tmp_path: Path) -> None:
    toml, yaml = tmp_path / "mine.toml", tmp_path / "mine.yaml"
    toml.write_text(LIMITS, "utf-8")
    yaml.write_text("limits: {objectives: {window: 1200}}\n", "utf-8")
    build.build(folder, None, toml)
    build.build(folder, None, yaml)
    assert (folder / "limits.yaml").exists()
    assert not (folder / "limits.toml").exists()
    (folder / "limits.toml").write_text(LIMITS, "utf-8")
    with pytest.raises(BuildError, match=r"limits\.yaml: limits\.toml is there, too; keep one of them"):
        build.build(folder)


# -- checks --------------------------------------------------------------------------------------------------


def _wrong(folder: Path) -> list[Looked]:
    """What is said of the files, without the checkers of others, which take their time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(folder))
        return [each for each in check.check(folder) if each.state == "wrong"]


def test_a_check_says_what_is_missing_edited_and_out_of_date(folder: Path) -> None:
    (folder / "alerts" / "rules.yaml").unlink()
    (folder / "collector" / "agent.yaml").write_text("x", "utf-8")
    mine = (folder / "owners.yaml").read_text("utf-8").replace('contact: ""', 'contact: "+00 000"', 1)
    (folder / "owners.yaml").write_text(mine, "utf-8")
    found = {each.name: each.found for each in _wrong(folder)}
    assert found["alerts/rules.yaml"] == "is missing"
    assert found["collector/agent.yaml"] == "was edited by hand"
    assert found["runbooks/support.md"] == "is out of date"


@pytest.mark.parametrize(("profile", "code"), [("trial", 0), ("production", 1)])
def test_what_is_not_filled_in_fails_a_production_profile_and_is_told_for_a_trial(
    profile: str, code: int, tmp_path: Path
) -> None:
    path = tmp_path / "owners.yaml"
    path.write_text(owners.default_text().replace("profile: trial", f"profile: {profile}"), "utf-8")
    done = ops("check", path)
    assert done.exit_code == code
    assert f"{path}:" in done.stdout
    if code:
        assert (
            "roles.telemetry-owner.names: is not filled in; name the people who have the role" in done.stdout
        )
        assert (
            "receivers.launch.url: http://127.0.0.1:5001/launch-coordinator is an address of this machine"
            in (done.stdout)
        )
    told = json.loads(ops("check", path, "--json").stdout)
    assert told["ok"] is (code == 0)


def test_a_production_profile_that_is_filled_in_is_all_right(tmp_path: Path) -> None:
    text = owners.default_text().replace("profile: trial", "profile: production")
    text = text.replace("names: []", "names: [Role Holder]").replace(
        "http://127.0.0.1", "https://ops.example.org"
    )
    for key in ("contact", "channel", "hours"):
        text = text.replace(f'{key}: ""', f'{key}: "given"')
    path = tmp_path / "owners.yaml"
    path.write_text(text, "utf-8")
    assert ops("check", path).exit_code == 0


def test_without_the_checkers_of_others_it_says_what_was_not_checked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(folder))
    done = ops("check", folder)
    assert done.exit_code == 0
    assert "promtool is not on PATH: not checked" in done.stdout
    assert "amtool is not on PATH: not checked" in done.stdout


@pytest.mark.parametrize(
    ("tool", "answer", "said"),
    [
        ("promtool", 1, "it does not parse"),
        ("amtool", 1, "it does not parse"),
        ("promtool", 0, "accepted by promtool"),
    ],
)
def test_what_another_checker_says_is_told(
    tool: str, answer: int, said: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Stands for promtool and amtool, which are asked in tests/stack/test_alerts.py; here it matters what becomes of it.
    stand_in = tmp_path / "bin" / tool
    stand_in.parent.mkdir()
    stand_in.write_text(f"#!/bin/sh\necho it does not parse\nexit {answer}\n", "utf-8")
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", str(stand_in.parent))
    done = ops("check", folder)
    assert (done.exit_code, said in done.stdout) == (answer, True)


@pytest.mark.parametrize("arguments", [(), ("build",), ("build", "x", "y"), ("check",), ("bild", "x")])
def test_wrong_usage_is_2(arguments: tuple[str, ...]) -> None:
    assert ops(*arguments).exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [("build", ""), ("check", ""), ("build", "x", "--owners", ""), ("build", "x", "--limits", "")],
)
def test_an_empty_path_is_wrong_usage_and_not_this_folder(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = ops(*arguments)
    assert (done.exit_code, list(tmp_path.iterdir())) == (2, [])
    assert "is empty: name a path, or . for this folder" in done.stderr


def test_a_path_that_is_not_there_is_wrong_usage_and_says_what_to_do(tmp_path: Path) -> None:
    done = ops("check", tmp_path / "ops")
    assert done.exit_code == 2
    assert f"`context-telemetry ops build {tmp_path / 'ops'}` makes it" in done.stderr
    for option in ("--owners", "--limits"):
        done = ops("build", tmp_path / "ops", option, tmp_path / "none.yaml")
        told = f"{tmp_path / 'none.yaml'}: there is no such file; correct the path"
        assert (done.exit_code, told in done.stderr) == (2, True)
    assert not (tmp_path / "ops").exists()


def test_a_file_that_is_there_and_cannot_be_used_is_1(tmp_path: Path) -> None:
    (tmp_path / "owners.yaml").write_bytes(b"\xff")
    for arguments in (("check", tmp_path / "owners.yaml"), ("build", tmp_path / "ops", "--owners", tmp_path)):
        assert ops(*arguments).exit_code == 1


def test_routes_without_their_message_are_wrong_although_amtool_accepts_them(folder: Path) -> None:
    (folder / "alerts" / "message.tmpl").unlink()
    told = [each.found for each in _wrong(folder) if each.name == "message"]
    assert told == [
        f"{folder / 'alerts' / 'message.tmpl'} is not there: Alertmanager can write no message, and sends none"
    ]
