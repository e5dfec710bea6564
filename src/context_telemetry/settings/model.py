"""The one model of what a user may set. Where it is read from is `loading`'s business."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from context_telemetry.limits.model import Limits, Positive, Strict, Whole
from context_telemetry.settings.switch import OFF, ON


def _switch(value: Any) -> Any:
    """Strings as the off switch reads them, so that the model and `is_disabled` never differ."""
    if isinstance(value, str):
        word = value.strip().lower()
        return True if word in ON else False if word in OFF else value
    return value


def _folder(value: Path) -> Path:
    value = value.expanduser()
    if not value.is_dir():
        raise ValueError("is not a folder")
    return value


Switch = Annotated[bool, Field(strict=True), BeforeValidator(_switch)]


class Retention(Strict):
    """How much is kept of the local files of one project; the oldest go first."""

    max_bytes: Whole = Field(default=268_435_456, description="Most bytes of all files together.")
    max_age_days: Positive = Field(default=7.0, le=3650, description="Most days that a file is kept.")
    file_bytes: Whole = Field(
        default=16_777_216, description="Bytes at which a process begins its next file."
    )


class Settings(Strict):
    """Everything that can be set. What OpenTelemetry has a variable for (`OTEL_*`) is not repeated here."""

    disabled: Switch = Field(
        default=False,
        description="Record nothing. The variable is read before anything is touched; a file, when the "
        "project is opened.",
    )
    project: Annotated[Path, AfterValidator(_folder)] | None = Field(
        default=None,
        description="The project's root, instead of the one that is found. Only as a variable: it says where "
        "files are looked for.",
    )
    state_dir: Annotated[Path, AfterValidator(Path.expanduser)] | None = Field(
        default=None,
        description="The folder for local files, instead of the platform's. Every project has its own in it.",
    )
    # The conventions' closed list, spelled out for type checkers; tests/test_settings.py compares.
    surface: Literal["agent", "cli", "dashboard", "ide", "library", "mcp"] | None = Field(
        default=None,
        description="What this process says of its commands, pages, turns and calls, instead of their protocol. "
        "Their callers may say otherwise (editors.md); MCP requests stay `mcp`.",
    )
    content: Switch = Field(
        default=False, description="Also record content: SQL, arguments, results, the text of errors."
    )
    contract_watch: Switch = Field(
        default=True,
        description="Compare what is served with the contract and the manifest, in a process beside this one.",
    )
    retention: Retention = Field(default=Retention(), description="How much is kept of the local files.")
    limits: Limits = Field(default=Limits(), description="Budgets, promises and objectives; see limits.md.")
