"""The cache of profiles: one file for all."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from dataface_super_schema.inspect.inspector import TableInspection


class InspectionStorage:
    """The cache as a file on disk."""

    DEFAULT_PATH = Path("target/super_schema.json")

    def __init__(self, output_path: Path) -> None:
        self.output_path = output_path

    def read_text(self) -> str | None:
        return self.output_path.read_text("utf-8") if self.output_path.exists() else None

    def save_inspection(self, profile: TableInspection) -> None:
        content = json.loads(self.read_text() or '{"schemas": {}}')
        content["generated_at"] = datetime.now(timezone.utc).isoformat()
        content["schemas"].setdefault(profile.schema, {})[profile.table] = profile.to_json_dict()
        self.output_path.parent.mkdir(parents=True, exist_ok=True)
        self.output_path.write_text(json.dumps(content), "utf-8")


class ProjectInspectionStorage:
    """The cache read through Dataface's project, wherever that lies."""

    def __init__(self, project: Any) -> None:
        self.project = project

    def read_text(self) -> str | None:
        path = InspectionStorage.DEFAULT_PATH.as_posix()
        return str(self.project.read_text(path)) if self.project.exists(path) else None
