"""Installs a package that has entry points and nothing else, until the end of a test."""

from __future__ import annotations

from pathlib import Path

import pytest

SAMPLERS = "opentelemetry_traces_sampler"
ID_GENERATORS = "opentelemetry_id_generator"
TRACER_CONFIGURATORS = "_opentelemetry_tracer_configurator"
METER_CONFIGURATORS = "_opentelemetry_meter_configurator"
LOGGER_CONFIGURATORS = "_opentelemetry_logger_configurator"


def install(
    folder: Path, monkeypatch: pytest.MonkeyPatch, points: dict[tuple[str, str], str], package: str = "others"
) -> None:
    """Have ``points``, which say what is loaded by group and name, in a package in ``folder``."""
    metadata = folder / f"{package}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", "utf-8")
    lines = [f"[{group}]\n{name} = {target}\n" for (group, name), target in points.items()]
    (metadata / "entry_points.txt").write_text("\n".join(lines), "utf-8")
    monkeypatch.syspath_prepend(str(folder))
