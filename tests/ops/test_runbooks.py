"""The runbooks as text: nothing is missing, nothing leads nowhere, and one definition has one wording."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from context_telemetry.cli.app import app
from context_telemetry.conventions import names
from context_telemetry.health.advice import WHAT_TO_DO
from context_telemetry.limits import Limits
from context_telemetry.ops import inputs, owners, runbooks
from context_telemetry.ops.alert_wording import Template, Where
from context_telemetry.ops.alerts import all_alerts
from context_telemetry.ops.queries import QUERIES, Query, query
from context_telemetry.ops.reasons import reasons
from context_telemetry.ops.risks import PROVEN, gaps, risks
from context_telemetry.ops.runbooks import Block, blocks, topics
from context_telemetry.rehearsal.faults import FAULTS

ROOT = Path(__file__).resolve().parents[2]
FILES = runbooks.files(inputs.defaults())
PAGES = {Path(path).name: text for path, text in FILES.items()}
PUBLISHED = Limits().objectives
ALERTS = {alert.name for alert in all_alerts(Limits().objectives)}
SECTIONS = ("Meaning", "Diagnosis", "Mitigation", "Rollback", "Escalation", "Message to users", "Last proven")
# `support.md` is written from the owners alone, by another generator, into the same folder.
BESIDE = {"support.md"}


def commands() -> Iterator[tuple[str, Block]]:
    return ((name, block) for name, page in PAGES.items() for block in blocks(page))


def test_every_alert_has_its_page_with_an_owner_and_a_next_one() -> None:
    assert {name.removesuffix(".md") for name in PAGES if name.startswith("Dataface")} == ALERTS
    for alert in ALERTS:
        assert re.search(r"^\| owner.* \| `[a-z-]+`, then `[a-z-]+`", PAGES[f"{alert}.md"], re.MULTILINE), (
            alert
        )


@pytest.mark.parametrize("alert", sorted(ALERTS))
def test_a_runbook_has_its_sections_in_the_order_in_which_they_are_needed(alert: str) -> None:
    headings = re.findall(r"^## (.+)$", PAGES[f"{alert}.md"], re.MULTILINE)
    assert [heading for heading in headings if heading != "What users notice"] == list(SECTIONS)


@pytest.mark.parametrize("alert", sorted(ALERTS))
def test_no_section_of_a_runbook_is_empty(alert: str) -> None:
    page = PAGES[f"{alert}.md"]
    assert not re.search(
        r"^#+ .+\n\s*\n*(#+ |\Z)(?<!### In the fleet\n)", page.replace("### In the fleet", ""), re.M
    )
    assert not re.search(r"^## (Mitigation|Rollback|Meaning)\s+## ", page, re.MULTILINE)


def test_the_pages_are_the_same_each_time_and_say_that_they_are_generated() -> None:
    assert runbooks.files(inputs.defaults()) == FILES
    assert all("do not edit" in page for page in PAGES.values())
    assert all(page.endswith("\n") and not page.endswith("\n\n") for page in PAGES.values())
    assert all(path.startswith("runbooks/") for path in FILES)


def test_response_times_and_severities_are_said_alike_by_every_page() -> None:
    promised = re.search(
        r"^\| page \|.*\| (15 minutes) \| .* \| (2 hours), .*\n\| ticket \|.*\| (3 working days) \|$",
        PAGES["severity.md"],
        re.MULTILINE,
    )
    assert promised
    answer, repaired, closed = promised.groups()
    listed = re.findall(r"^\| (\[?.*) \| (\[.*) \|$", PAGES["severity.md"], re.MULTILINE)
    for alert in topics(Limits()):
        page = PAGES[f"{alert.name}.md"]
        link = f"[{alert.name}]({alert.name}.md)"
        if "page" in alert.fires:
            assert f"- Page: no answer of the owner after {answer}" in page
            assert f"after {repaired}: go back" in page
        if "ticket" in alert.fires:
            assert f"- Ticket: not repaired within {closed}" in page
        assert [any(link == row[column] for row in listed) for column in (0, 1)] == [
            severity in alert.fires for severity in ("page", "ticket")
        ]
        severities = ", ".join(each for each in ("page", "ticket", "none") if each in alert.fires)
        assert f"| {link} | {severities} |" in PAGES["README.md"]
        if alert.name != "DatafaceWatchdog":
            assert "(support.md)" in page


def test_what_is_replaced_is_kept_by_its_name_and_only_where_it_is_there() -> None:
    for name, block in commands():
        if "git checkout HEAD" in block.command:
            assert 'test ! -e "$FILE" || cp -p "$FILE" "$KEPT/before"/"$FILE"' in block.command, name
        assert '"$KEPT/before" ' not in block.command, name
        if block.command.startswith("git status"):
            assert "$FILE" not in block.command, name


def test_a_local_form_that_asks_less_than_its_twins_says_so() -> None:
    told_by_traces = {
        names.DATAFACE_ENTRY,
        names.DATAFACE_OUTCOME,
        names.DATAFACE_SURFACE,
        names.DATAFACE_CLIENT_NAME,
    }
    for asked in QUERIES:
        more = set(asked.where) - told_by_traces
        if asked.reason is not None:
            assert f"--reason {asked.reason}" in asked.local
        elif more or asked.seconds is not None:
            assert asked.locally, asked.name
        assert asked.locally in PAGES["playbook.md"]


def test_names_and_limits_of_an_operator_stand_in_the_pages() -> None:
    text = owners.default_text().replace(
        'catalogue-owner:\n    names: []\n    contact: ""',
        'catalogue-owner:\n    names: [the data desk]\n    contact: "+00 1"',
        1,
    )
    limits = Limits.model_validate({"objectives": {"degraded_ratio": 0.02, "artifact_age": 86400}})
    made = runbooks.files(replace(inputs.defaults(), owners=owners.loads(text, "owners.yaml"), limits=limits))
    assert "`catalogue-owner` (the data desk, +00 1)" in made["runbooks/DatafaceManifestStale.md"]
    assert "above 2 % in 3 d" in made["runbooks/DatafaceDegradedRatio.md"]
    assert "older than 1 d" in made["runbooks/DatafaceArtifactAge.md"]


# -- links and commands


def _anchors(page: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", sorted(PAGES))
def test_every_link_leads_to_a_page_and_a_heading_that_are_there(name: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", PAGES[name]):
        page, _, anchor = target.partition("#")
        page = page or name
        assert page in {*PAGES, *BESIDE}, target
        if anchor:
            assert anchor in _anchors(PAGES[page]), target


def test_every_command_says_where_it_runs() -> None:
    fences = re.compile(r"^```(.*)$", re.MULTILINE)
    for name, page in PAGES.items():
        opened = fences.findall(page)[::2]
        assert set(opened) <= {"sh local", "sh fleet", "sh tempo", "sh install", "text shows"}, name


def test_a_command_without_a_place_is_refused() -> None:
    with pytest.raises(ValueError, match="says no place"):
        blocks("```sh\nrm -r target\n```\n")


def test_a_variable_that_nobody_explains_is_refused() -> None:
    with pytest.raises(ValueError, match=r"page\.md: no word on the variable MYSTERY"):
        runbooks._with_variables("page.md", '```sh local\necho "$MYSTERY"\n```\n')


def test_every_variable_that_is_explained_is_needed_somewhere() -> None:
    assert {name for _, block in commands() for name in block.variables} == set(runbooks.VARIABLES)


def test_the_pages_name_no_command_and_no_option_that_there_is_not() -> None:
    import typer.main

    group: Any = typer.main.get_command(app)  # its type says no more than that it is a command
    known = group.commands
    for name, page in PAGES.items():
        for command, rest in re.findall(r"(?:`|^)context-telemetry ([a-z]+)([^\n`|]*)", page, re.MULTILINE):
            assert command in known, (name, command)
            if command in ("run", "ops", "replay"):
                continue
            of = known[command]
            if subcommands := getattr(of, "commands", None):
                assert rest.split()[0] in subcommands, (name, command, rest)
                of = subcommands[rest.split()[0]]
            options = {option for each in of.params for option in each.opts}
            asked = set(re.findall(r"--[a-z-]+", rest.partition(";")[0]))
            assert asked <= options, (name, command, asked - options)


def test_diagnosis_has_no_command_that_changes_anything() -> None:
    changing = re.compile(r"\b(rm|mv|cp|sed|restart|checkout|install|parse|kill|echo)\b|>")
    for name, block in commands():
        if block.section == "Diagnosis":
            assert not changing.search(re.sub(r"'[^']*'|\"[^\"]*\"", "", block.command)), (
                name,
                block.command,
            )


def test_an_expectation_is_met_in_one_line_with_any_blanks_and_anything_for_an_ellipsis() -> None:
    (block,) = blocks("## Diagnosis\n```sh local\nx\n```\n\n```text shows\nexit 3\n✗ a_b … run `x`\n```\n")
    (pattern,) = block.patterns
    assert block.exit_code == 3
    assert pattern.search("✗  a_b     12 %  run  `x` now")
    assert not pattern.search("✗  a_b\nrun `x`")
    assert not pattern.search("✓  a_b     12 %  run  `x` now")


# -- reasons, risks, gaps


def test_every_reason_of_the_conventions_is_told_in_their_words() -> None:
    assert set(reasons()) == names.REASONS == set(WHAT_TO_DO)
    for reason in reasons().values():
        for page in ("playbook.md", "DatafaceDegradedRatio.md"):
            assert f"| `{reason.name}` |" in PAGES[page], (page, reason.name)
            assert reason.what_to_do in PAGES[page]


def test_every_silent_reason_has_a_row_in_the_risk_register_with_a_detection_that_was_seen() -> None:
    silent = {reason.name for reason in reasons().values() if reason.silent}
    assert len(silent) > 15
    ((_, rows), _) = risks()
    assert {row.failure.split("`")[1] for row in rows} == silent
    assert all("Dataface" in row.detection for row in rows)


def _seen(proven: str) -> bool:
    if proven.startswith("fault "):
        return proven.removeprefix("fault ") in {fault.name for fault in FAULTS}
    file, _, test = proven.removeprefix("tests/").partition("::")
    found = [path for path in (ROOT / "tests").rglob(Path(file).name) if path.as_posix().endswith(file)]
    return any(re.search(rf"^(async )?def {test}\(", path.read_text("utf-8"), re.MULTILINE) for path in found)


@pytest.mark.parametrize(
    "proven", sorted({*PROVEN.values(), *(row.proven for _, rows in risks() for row in rows)})
)
def test_who_is_named_as_having_seen_a_detection_work_is_there(proven: str) -> None:
    assert _seen(proven)


def test_a_fault_that_is_named_for_a_reason_has_that_reason() -> None:
    found = {fault.name: fault.reasons for fault in reversed(FAULTS)}
    for reason, proven in PROVEN.items():
        if proven.startswith("fault "):
            assert reason in found[proven.removeprefix("fault ")], reason


def test_every_gap_that_the_documentation_names_is_a_row_without_a_detection() -> None:
    text = (ROOT / "docs/gaps.md").read_text("utf-8")
    rows = [line.split(" | ")[0].removeprefix("| ") for line in text.splitlines() if line.startswith("| ")]
    named = {row for row in rows if row not in ("what happens", "what") and not row.startswith("---")}
    assert {gap.failure for gap in gaps()} == named
    assert len(re.findall(r"\| (none|late), because: ", PAGES["risks.md"])) == len(named)


def test_every_risk_has_an_owner_and_something_to_do_meanwhile() -> None:
    for line in PAGES["risks.md"].splitlines():
        if line.startswith("| ") and "---" not in line and not line.startswith("| failure"):
            assert all(cell.strip() for cell in line.strip("|").split(" | ")), line
            assert re.search(r"\| `[a-z-]+-(owner|coordinator|lead)`", line), line


# -- queries


def test_a_query_is_the_same_question_to_jaeger_and_to_tempo() -> None:
    asked = query("degraded_on_surface", PUBLISHED)
    assert asked.tags({"SURFACE": "mcp"}) == {
        "dataface.entry": "true",
        "dataface.outcome": "degraded",
        "dataface.surface": "mcp",
    }
    assert asked.traceql({"SURFACE": "mcp"}) == (
        '{ span.dataface.entry = true && span.dataface.outcome = "degraded" && span.dataface.surface = "mcp" }'
    )
    assert query("manifest_stale", PUBLISHED).tags() == {"dataface.degradation.reasons": '["manifest_stale"]'}
    assert query("slow", PUBLISHED).jaeger()["minDuration"] == "5s"
    assert query("slow", PUBLISHED).traceql().endswith("duration >= 5s }")


def test_what_is_slow_is_what_the_objectives_call_so_in_searches_runbook_and_alert() -> None:
    made = replace(
        inputs.defaults(),
        limits=Limits.model_validate({"objectives": {"context_duration": 2.0, "tail_ratio": 0.1}}),
    )
    assert query("slow", made.limits.objectives).traceql().endswith("duration >= 2s }")
    page = runbooks.files(made)["runbooks/DatafaceContextLatency.md"]
    assert "-d minDuration=2s" in page
    assert "for more than 10 in a hundred" in page
    (slow,) = [alert for alert in all_alerts(made.limits.objectives) if alert.indicator == "context_latency"]
    told = slow.annotations(Where.of(made), Template())
    assert told["traces_url"].endswith("&minDuration=2s")


def test_a_page_and_a_ticket_of_one_name_say_each_when_it_fires() -> None:
    down = next(each for each in topics(Limits()) if each.name == "DatafaceCollectorDown")
    assert down.fires == {
        "page": "it reaches none of them, or there is none to reach; for 1 min",
        "ticket": "there is one that it does not reach; for 5 min",
    }


def test_a_query_on_a_name_that_the_conventions_have_not_is_refused() -> None:
    with pytest.raises(ValueError, match=r"not in the conventions: dataface\.nothing"):
        Query("x", "?", "", "", where={"dataface.nothing": "1"})
    with pytest.raises(ValueError, match="not in the conventions: no_reason"):
        Query("x", "?", "", "", reason="no_reason")
    with pytest.raises(KeyError, match="no query 'x'; there are degraded"):
        query("x", PUBLISHED)


def test_the_playbook_has_every_query_in_its_three_forms() -> None:
    for asked in QUERIES:
        section = PAGES["playbook.md"].partition(f"### {asked.name}\n")[2].partition("\n### ")[0]
        for form in (asked.local, asked.jaeger_command, asked.tempo_command):
            assert form in section, asked.name


def test_each_symptom_of_the_playbook_leads_to_queries_that_there_are() -> None:
    table = PAGES["playbook.md"].partition("## 2. From a symptom")[2].partition("\n## ")[0]
    asked = {
        word
        for line in table.splitlines()
        if line.startswith("| *")
        for word in line.split(" | ")[1].split("`")[1::2]
    }
    known = {each.name for each in QUERIES} | names.SURFACES
    assert asked - known == set()


def test_a_topic_is_made_of_the_rules_of_its_alert() -> None:
    degraded = next(each for each in topics(Limits()) if each.name == "DatafaceDegradedRatio")
    assert set(degraded.fires) == {"page", "ticket"}
    assert degraded.severity == "page"
    assert "above 14.4 % in 1 h and in the last 5 min" in degraded.fires["page"]
    assert "at least 10" in degraded.fires["page"]
