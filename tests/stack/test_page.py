"""A real fault reaches its owner: real Dataface, Collector, Prometheus, Alertmanager, and the webhook of the owner."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import show_page

pytestmark = pytest.mark.stack

WINDOW = 300.0


@pytest.mark.timeout(900)
def test_the_owner_is_paged_with_the_runbook_in_time_and_told_when_it_is_over(tmp_path: Path) -> None:
    said: list[str] = []
    shown = show_page.show(tmp_path, WINDOW, said.append)
    (alert, *_) = shown.paged.alerts
    assert shown.paged.path == "/ai-context-owner"
    assert alert["labels"]["owner"] == "ai-context-owner"
    assert alert["annotations"]["runbook_url"].endswith("/runbooks/DatafaceDegradedRatio.md")
    assert (tmp_path / "ops" / "runbooks" / "DatafaceDegradedRatio.md").is_file()
    # Its own `for` is a sixtieth of the window; half a minute is for the export, two scrapes and the grouping.
    assert shown.paged.at - shown.enough <= WINDOW / 60 + 30
    assert shown.resolved.path == "/ai-context-owner"
    text = next(each for each in said if each.startswith("paged"))
    assert "Answers look right and are not" in text
    assert "Next:       catalogue-owner, then launch-coordinator" in text
