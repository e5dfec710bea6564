"""owners.yaml and the limits: what is read, what is said of each mistake, and what is made of the owners."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from context_telemetry.conventions.names import SURFACES
from context_telemetry.limits import Limits
from context_telemetry.ops import alerts, inputs, owners, support
from context_telemetry.ops.documents import DocumentError
from context_telemetry.ops.owners import Components, Surfaces
from ops.conftest import Told

PAGED = "    page: [catalogue]\n    ticket: [catalogue]"
RECEIVED = '{kind: webhook, url: "http://127.0.0.1:5001/catalogue-owner"}'


# -- the file that is shipped --------------------------------------------------------------------------------


def test_the_shipped_file_has_the_launchs_roles_and_nobodys_name() -> None:
    shipped = owners.defaults()
    assert list(shipped.roles) == [
        "catalogue-owner",
        "ai-context-owner",
        "dashboards-owner",
        "editor-owner",
        "telemetry-owner",
        "launch-coordinator",
        "support-lead",
    ]
    assert not any(role.reached or role.hours or role.handle for role in shipped.roles.values())
    assert shipped.profile == "trial"


def test_every_surface_of_the_conventions_and_every_component_of_the_alerts_has_an_owner() -> None:
    assert set(Surfaces.model_fields) == SURFACES
    components = {alert.component for alert in alerts.all_alerts(Limits().objectives)}
    assert components <= set(Components.model_fields)


def test_an_alert_about_a_surface_belongs_to_its_owner_and_one_about_an_unknown_surface_to_somebody() -> None:
    shipped = owners.defaults()
    assert shipped.owner("surface", "mcp") == "ai-context-owner"
    assert shipped.owner("surface", "dashboard") == "dashboards-owner"
    assert shipped.owner("surface", "kiosk") == shipped.owner("surface") == "launch-coordinator"
    assert shipped.owner("catalogue", "dashboard") == "catalogue-owner"


def test_what_is_not_filled_in_is_listed_with_addresses_of_this_machine() -> None:
    found = dict(owners.defaults().unfilled())
    assert ("roles", "catalogue-owner", "names") in found
    assert ("links", "runbooks") in found
    assert ("receivers", "watchdog", "url") in found
    assert len(found) == 7 * 4 + 3 + 8


# -- mistakes ------------------------------------------------------------------------------------------------

MISTAKES = {
    "a role that is not defined": (
        ("  catalogue: catalogue-owner", "  catalogue: catalog-owner"),
        "owners.yaml:29: components.catalogue: role 'catalog-owner' is not defined; did you mean catalogue-owner?",
    ),
    "an unknown surface": (
        ("  ide: editor-owner\n", "  ide: editor-owner\n  kiosk: editor-owner\n"),
        "owners.yaml:22: surfaces.kiosk: there is no such key; there is agent, cli, dashboard, ide, library, mcp",
    ),
    "a surface without an owner": (
        ("  ide: editor-owner\n", ""),
        "owners.yaml:17: surfaces.ide: is missing; add it: the role that owns it",
    ),
    "an unknown component": (
        ("  ai_context:", "  ai_contxt: support-lead\n  ai_context:"),
        "owners.yaml:30: components.ai_contxt: there is no such key; did you mean ai_context?",
    ),
    "a misspelt key of a role": (
        ("    names: []", "    names: []\n    chanel: x"),
        "owners.yaml:39: roles.catalogue-owner.chanel: there is no such key; did you mean channel?",
    ),
    "the same key twice": (
        ("  ide: editor-owner\n", "  ide: editor-owner\n  ide: support-lead\n"),
        "owners.yaml:22: surfaces.ide: is there twice, first in line 21; keep one of them",
    ),
    "a tab": (
        ("  ide: editor-owner", "\tide: editor-owner"),
        "owners.yaml:21: has a tab where blanks are to be; indent with two blanks",
    ),
    "a newer format": (
        ("version: 1", "version: 2\nsomething: new"),
        "owners.yaml:5: version: this release reads version 1, and this is 2; upgrade context-telemetry",
    ),
    "no version": (
        ("version: 1\n", ""),
        "owners.yaml:7: version: is missing; add it: `version: 1`",
    ),
    "an unknown profile": (
        ("profile: trial", "profile: prod"),
        "owners.yaml:8: profile: 'prod' is not known; it is trial or production",
    ),
    "a role without a receiver": (
        (PAGED, "    page: []\n    ticket: [catalogue]"),
        "owners.yaml:44: roles.catalogue-owner.page: has no receiver: nobody would be told; name one of catalogue, "
        "ai-context, dashboards, editor, telemetry, launch, support, watchdog",
    ),
    "a receiver that nobody owns": (
        (PAGED, "    page: [telemetry]\n    ticket: [telemetry]"),
        "owners.yaml:114: receivers.catalogue: tells nobody; name it in a role's page or ticket, or take it out",
    ),
    "a receiver that is not defined": (
        ("watchdog: watchdog", "watchdog: watchdgo"),
        "owners.yaml:106: watchdog: receiver 'watchdgo' is not defined; did you mean watchdog?",
    ),
    "an unknown kind of receiver": (
        (RECEIVED, RECEIVED.replace("webhook", "webhok")),
        "owners.yaml:114: receivers.catalogue.kind: kind 'webhok' is not known; did you mean webhook?",
    ),
    "a receiver without an address": (
        (RECEIVED, "{kind: webhook}"),
        "owners.yaml:114: receivers.catalogue: needs one of url and url_file, and not both",
    ),
    "a password in an address": (
        (RECEIVED, '{kind: webhook, url: "https://me:word@hooks.example.org"}'),
        "owners.yaml:114: receivers.catalogue.url: has a password in it; secrets stand in files that Alertmanager "
        "reads",
    ),
    "a role that escalates to itself": (
        ("escalation: [telemetry-owner,", "escalation: [catalogue-owner,"),
        "owners.yaml:43: roles.catalogue-owner.escalation[0]: 'catalogue-owner' escalates to itself; "
        "name another role",
    ),
    "a word that is no text": (
        ('hours: ""', "hours: off"),
        "owners.yaml:41: roles.catalogue-owner.hours: False is not text; put it in quotes",
    ),
    "a text that would be a template": (
        ('contact: ""', 'contact: "{{ .Secret }}"'),
        "owners.yaml:39: roles.catalogue-owner.contact: '{{ .Secret }}' has a character that does not fit on a page; "
        "write it on one line, without | { } ` < >",
    ),
    "an address that is none": (
        ("http://127.0.0.1:3000/d", "127.0.0.1:3000/d"),
        "owners.yaml:13: links.dashboards: '127.0.0.1:3000/d' is not a web address; begin it with http:// or https://",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_with_file_line_key_and_fix(mistake: str, told: Told) -> None:
    change, said = MISTAKES[mistake]
    problems = told(change)
    assert said in problems
    # What follows from the one mistake is told, too, and nothing else.
    assert len(problems) == (2 if mistake == "a receiver that is not defined" else 1)


def test_all_mistakes_are_told_at_once(told: Told) -> None:
    problems = told(("profile: trial", "profile: prod"), ("    names: []", "    names: Somebody"))
    assert [each.partition(": ")[0] for each in problems] == ["owners.yaml:8", "owners.yaml:38"]


def test_mistakes_of_every_kind_are_told_at_once_and_in_order(told: Told) -> None:
    problems = told(
        ("  ide: editor-owner\n", "  ide: editor-owner\n  ide: support-lead\n"),
        ("  catalogue: catalogue-owner", "  catalogue: catalog-owner"),
        ("    names: []", "    names: Somebody"),
        ("escalation: [telemetry-owner,", "escalation: [catalogue-owner,"),
        (RECEIVED, "{kind: webhook}"),
    )
    assert [each.split(": ")[1] for each in problems] == [
        "surfaces.ide",
        "components.catalogue",
        "roles.catalogue-owner.names",
        "roles.catalogue-owner.escalation[0]",
        "receivers.catalogue",
    ]


@pytest.mark.parametrize(
    ("change", "keys"),
    [
        (("roles:", "others:"), ["others", "roles"]),
        ((PAGED, "    page: catalogue\n    ticket: []"), ["page", "ticket"]),
        (("watchdog: watchdog", "watchdog: [watchdog]"), ["watchdog"]),
        ((RECEIVED, RECEIVED.replace("url:", "uri:")), ["receivers.catalogue.uri"]),
        (("  mcp: ai-context-owner", "  mcp: AI Owner"), ["surfaces.mcp"]),
    ],
)
def test_what_may_only_follow_from_another_mistake_is_not_told(
    change: tuple[str, str], keys: list[str], told: Told
) -> None:
    found = sorted(each.split(": ")[1].removeprefix("roles.catalogue-owner.") for each in told(change))
    assert found == keys


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("- one", "is not a mapping"),
        ("a: [", "is not valid YAML"),
        ("a: \x01", "has a character that YAML does not allow (#x0001)"),
        ("a: " + "[" * 3000, "is nested too deeply"),
        ("a: &x [*x]", "an alias (*name) is not read here"),
        ("<<: {a: 1}", "a key is a plain word here"),
    ],
)
def test_what_is_no_document_is_told_and_never_raises_otherwise(text: str, said: str) -> None:
    with pytest.raises(DocumentError) as raised:
        owners.loads(text, "owners.yaml")
    assert said in raised.value.problems[0]
    assert raised.value.problems[0].startswith("owners.yaml:1: ")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "there is no such file"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "is not UTF-8 (byte 0)"),
    ],
    ids=["missing", "folder", "latin"],
)
def test_a_file_that_cannot_be_read_is_told(
    make: Callable[[Path], object], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "owners.yaml"
    make(path)
    with pytest.raises(DocumentError, match=r"owners\.yaml: ") as raised:
        owners.load(path)
    assert said in raised.value.problems[0]


# -- limits --------------------------------------------------------------------------------------------------


def read(text: str, name: str = "limits.toml") -> list[str]:
    with pytest.raises(DocumentError) as raised:
        inputs.read_limits(text, name)
    return list(raised.value.problems)


def test_limits_are_those_of_a_context_telemetry_toml_or_a_yaml_with_the_same_keys() -> None:
    toml = 'surface = "cli"\n[limits]\nresults = 7\n[limits.objectives]\nwindow = 600\n'
    for found in (
        inputs.read_limits(toml, "context-telemetry.toml"),
        inputs.read_limits("limits:\n  results: 7\n  objectives: {window: 600}\n", "limits.yaml"),
    ):
        assert (found.results.bytes, found.objectives.window) == (7, 600)
        assert found.objectives.degraded_ratio == Limits().objectives.degraded_ratio


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("objectives.window", "1h", "'1h' has a unit, and limits are numbers in seconds; write 3600"),
        ("promises.dbt_manifest", "1 d", "'1 d' has a unit, and limits are numbers in seconds; write 86400"),
        ("results", "100KB", "'100KB' has a unit, and limits are numbers in bytes; write 100000"),
        ("clients.codex", "1MiB", "'1MiB' has a unit, and limits are numbers in bytes; write 1048576"),
        ("objectives.failed_ratio", "5%", "'5%' has a unit, and limits are a share from 0 to 1; write 0.05"),
        ("results", "5 s", "'5 s' cannot be a limit in bytes; write a number of bytes, without a unit"),
        (
            "objectives.page_minimum",
            "10 s",
            "'10 s' cannot be a limit in requests; write a number of requests, without a unit",
        ),
    ],
)
def test_a_limit_with_a_unit_is_told_with_the_number_to_write(key: str, value: str, said: str) -> None:
    table, _, name = f"limits.{key}".rpartition(".")
    assert read(f'# why\n[{table}]\n{name} = "{value}"\n') == [f"limits.toml:3: limits.{key}: {said}"]


@pytest.mark.parametrize(
    ("limit", "value", "near"),
    [
        ("payload_size", 60_000, "40000 or 65536"),
        ("payload_size", 5_000_000, "4194304"),
        ("payload_size", 1, "256"),
        ("context_duration", 0.3, "0.2 or 0.5"),
    ],
)
def test_a_limit_that_no_bucket_can_tell_is_told_with_the_nearest_ones_that_one_can(
    limit: str, value: float, near: str
) -> None:
    (told,) = read(f"[limits.objectives]\n{limit} = {value}\n")
    assert told.startswith(f"limits.toml:2: limits.objectives.{limit}: {value} is no boundary of ")
    assert f"; write {near}, or leave it out for " in told


def test_limits_with_a_unit_and_other_mistakes_are_told_at_once() -> None:
    problems = read('[limits]\nresults = "1MB"\nresource = 1\n[limits.objectives]\nwindow = 7\n')
    assert [each.split(": ")[:2] for each in problems] == [
        ["limits.toml:2", "limits.results"],
        ["limits.toml:3", "limits.resource"],
        ["limits.toml:5", "limits.objectives.window"],
    ]


def test_other_mistakes_in_limits_are_told_as_everywhere_and_with_their_line() -> None:
    assert read("[limits.objectives]\nfailed_minimum = 3\nwindo = 1\n") == [
        "limits.toml:3: limits.objectives.windo: there is no such key; did you mean limits.objectives.window?"
    ]
    assert read("limits:\n  objectives:\n    failed_ratio: 7\n", "limits.yaml") == [
        "limits.yaml:3: limits.objectives.failed_ratio: 7 is not a number above 0 and at most 1; correct it, "
        "or leave it out for 0.2"
    ]
    assert read("x = 1\n") == ["limits.toml:1: has no limits; write [limits] and the keys below it"]
    assert read("[limits\n")[0].startswith("limits.toml:1: is not valid TOML: ")


# -- what is made of the owners ------------------------------------------------------------------------------


def filled(**changes: str) -> inputs.Inputs:
    """The default owners, with the catalogue's owner filled in."""
    text = owners.default_text()
    for key, value in changes.items():
        old = "[]" if key == "names" else '""'
        text = text.replace(f"    {key}: {old}", f"    {key}: {value}", 1)
    return inputs.Inputs(owners.loads(text, "owners.yaml"), Limits(), text)


def test_the_support_table_has_a_row_for_every_role_and_says_what_is_not_filled_in() -> None:
    made = filled(names="[Role Holder]", contact='"+00 000"', channel='"#catalogue"', hours='"9-17 UTC"')
    rows = [line for line in support.table(made.owners).splitlines() if line.startswith("| `")]
    assert len(rows) == len(made.owners.roles)
    assert rows[0] == (
        "| `catalogue-owner` | surface cli, surface library, catalogue | Role Holder | +00 000 | #catalogue | 9-17 UTC "
        "| telemetry-owner, then launch-coordinator |"
    )
    assert "_not filled in_" in rows[1]


def test_codeowners_has_a_line_for_every_runbook_and_a_comment_where_a_handle_is_missing() -> None:
    made = filled(handle='"@example/catalogue"')
    lines = support.codeowners(made).splitlines()
    assert "/models/ @example/catalogue" in lines
    assert "/runbooks/DatafaceManifestStale.md @example/catalogue" in lines
    told = "# /faces/ dashboards-owner (not filled in: roles.dashboards-owner.handle)"
    assert told in lines
    runbooks = {line.split("/runbooks/")[1].split(".md")[0] for line in lines if ".md" in line}
    assert runbooks == {alert.name for alert in alerts.all_alerts(Limits().objectives)}


def test_backstage_gets_a_component_for_each_surface_and_part_with_its_owner() -> None:
    entities = list(yaml.safe_load_all(support.catalog(owners.defaults())))
    assert [each["kind"] for each in entities] == ["System"] + ["Component"] * 9
    by_name = {each["metadata"]["name"]: each["spec"]["owner"] for each in entities}
    assert by_name["dataface-ide"] == "group:editor-owner"
    assert by_name["dataface-ai-context"] == "group:ai-context-owner"
