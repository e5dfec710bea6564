"""All hook points of a release are placed, and taken out again."""

from __future__ import annotations

from scenario import scenario

from context_telemetry.instrumentation import probe


@scenario("hook points")
def test_every_hook_point_of_the_release_is_placed() -> None:
    elsewhere = ("active", "unneeded")  # unneeded: of a package that is not installed here
    assert [(each.id, each.state, each.detail) for each in probe() if each.state not in elsewhere] == []
