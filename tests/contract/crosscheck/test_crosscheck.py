"""Our rules for tables and columns beside `datacontract breaking`: the same judgement, or a reason why not."""

from __future__ import annotations

import pytest
from contract.crosscheck.cases import CASES, WHY, Case
from contract.crosscheck.judged import RECORDED, by_them, by_us

from context_telemetry.contract.difference import differences
from context_telemetry.contract.rules import COLUMN_RULES, TABLE_RULES

NAMES = [case.name for case in CASES]


def _differ(case: Case) -> bool:
    ours, theirs = by_us(case), by_them(case)
    return (ours.level, ours.direction) != (theirs.level, theirs.direction)


def test_at_least_forty_changes_were_asked_and_all_of_them() -> None:
    assert len(set(NAMES)) == len(NAMES) >= 40
    assert list(RECORDED["cases"]) == NAMES


def test_the_changes_meet_every_rule_for_tables_and_columns() -> None:
    met = {change.rule for case in CASES for change in differences(case.pairs())}
    assert {rule.id for rule in TABLE_RULES} | {rule.id for rule in COLUMN_RULES} == met


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_a_change_is_judged_as_by_datacontract_or_a_reason_is_given(case: Case) -> None:
    assert _differ(case) == (case.name in WHY), (by_us(case), by_them(case))


def test_no_reason_is_given_for_a_change_that_there_is_not() -> None:
    assert WHY.keys() <= set(NAMES)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_what_we_call_the_producers_is_a_tightening_to_datacontract_too(case: Case) -> None:
    ours = {change.rule for change in differences(case.pairs()) if change.perspective == "producer"}
    if ours and case.name not in WHY:
        assert {entry["level"] for entry in RECORDED["cases"][case.name]["producer"]} >= {"error"}
