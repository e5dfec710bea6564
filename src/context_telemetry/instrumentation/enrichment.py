"""Descriptions on the catalogue: how many columns have one, and whether a former manifest of the project had more.

The worker counts them when a manifest is new and compares it with what was described before. That is remembered from
process to process in the user's state folder, never in the project, as hashes: no names and no texts. Calls that load
the manifest look the verdict up, and the health board is told of each model that is concerned. Nothing is patched here.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from context_telemetry.conventions import names
from context_telemetry.instrumentation.manifest_watch import ARTIFACT, Consumer, identity_of
from context_telemetry.observe import board, project, recorder, worker
from context_telemetry.observe.fork import on_forget

RECORD = "enrichment.json"
"""The file in a project's state folder that remembers what was described. Who deletes it accepts what is there now."""

_FORMAT = 1
# What is remembered of one project: so many described models and columns, in a file of at most so many bytes.
_MOST = 50_000
_MOST_BYTES = 4 * 1024 * 1024
# So many models are named at a time; how much is lost of all of them is said as a number.
_MOST_NAMED = 64
_REASON = "enrichment_lost"
_ITSELF = ""
_CONFIGURATION = ("dataface.yml", "dataface.yaml")


# -- what a manifest describes -------------------------------------------------------------------


@dataclass(frozen=True)
class _Model:
    """One model of a manifest. Columns are hashes of their names; `_ITSELF` stands for the model.

    ``version`` is that of its code: a column that went with a change of it was dropped, and its description not lost.
    """

    version: str
    listed: frozenset[str]
    described: frozenset[str]
    name: str = field(default="", compare=False)
    """What the model is called elsewhere, as `shop.main.fct_orders`; not remembered."""


def _models(content: Mapping[str, Any], source: str | None) -> dict[str, _Model]:
    """The manifest's models by the hash of their ids. Dataface takes descriptions from no other kind of node."""
    found = {}
    for key, node in content["nodes"].items():
        if not isinstance(node, dict) or node.get("resource_type") != "model":
            continue
        columns, checksum = node.get("columns"), node.get("checksum")
        listed = {_short(name): each for name, each in columns.items()} if isinstance(columns, dict) else {}
        listed[_ITSELF] = node
        described = frozenset(name for name, each in listed.items() if _has_description(each))
        version = _short(str(checksum.get("checksum"))) if isinstance(checksum, dict) else ""
        found[_short(key)] = _Model(version, frozenset(listed), described, _name(node, source))
    return found


def _name(node: Mapping[str, Any], source: str | None) -> str:
    """A model as the coordinates that calls have, as far as the manifest and the configuration tell."""
    parts = (source, node.get("schema"), node.get("alias") or node.get("name"))
    return ".".join(part for part in parts if isinstance(part, str) and part)


def _has_description(owner: Any) -> bool:
    description = owner.get("description") if isinstance(owner, dict) else None
    return isinstance(description, str) and bool(description.strip())


def _short(name: str) -> str:
    return blake2b(name.encode("utf-8", "replace"), digest_size=6).hexdigest()


def _lost(former: _Model, model: _Model) -> frozenset[str]:
    """What of a model was described, is still there, and is not described now."""
    missing = former.described - model.described
    if model.version != former.version and len(model.listed) > 1:
        missing &= model.listed
    return missing


# -- what is remembered --------------------------------------------------------------------------

_Remembered = dict[str, _Model]


def _read(path: Path) -> _Remembered | None:
    """What an earlier process, or another one, has left; None when there is nothing that can be read."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            return None
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            return None
        return {
            key: _Model(version, frozenset(), frozenset(described.split(",")))
            for key, (version, described) in content["models"].items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _write(path: Path, remembered: _Remembered) -> None:
    """Replace the file as a whole. Where that cannot be done, what is remembered lasts as long as the process."""
    models = {key: (model.version, ",".join(sorted(model.described))) for key, model in remembered.items()}
    new = path.with_name(f"{path.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        path.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        try:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(descriptor, "w", encoding="utf-8") as file:
                json.dump({"format": _FORMAT, "models": models}, file, separators=(",", ":"))
            os.replace(new, path)
        except OSError:
            new.unlink(missing_ok=True)


# -- the worker's side ---------------------------------------------------------------------------


@dataclass
class _Project:
    """One project: what its manifest describes, what was described before, and what is lost of that."""

    root: Path
    models: dict[str, _Model] = field(default_factory=dict)
    source: str | None = None
    lost: int = 0
    _remembered: _Remembered = field(default_factory=dict)
    _path: Path | None = None
    _seen: tuple[str, int, int, int] | None = None
    _told: tuple[object, ...] | None = None
    _named: frozenset[str] = frozenset()

    def take(self, content: Mapping[str, Any]) -> None:
        """A new manifest."""
        self.source = _source(self.root, content)
        self.models = _models(content, self.source)
        self._compare()

    def leave(self) -> None:
        """Nothing is said of this project any more."""
        if self.lost:
            board.told(_REASON, ARTIFACT, False, str(self.root))
        self._name_models(frozenset())

    def look(self) -> None:
        """Compare again where another process, or the operator, has changed what is remembered."""
        if self._path != self._place() or self._seen != identity_of(self._path):
            self._compare()

    def _place(self) -> Path | None:
        folder = project.local_state(self.root)
        return None if folder is None else folder / RECORD

    def _compare(self) -> None:
        path = self._place()
        here = identity_of(path)
        accepted = here is None and self._seen is not None and path == self._path
        stored = _read(path) if path is not None and here is not None else None
        former = {} if accepted else self._remembered if stored is None else stored
        lost = {key: _lost(former[key], model) for key, model in self.models.items() if key in former}
        self.lost = sum(map(len, lost.values()))
        self._remembered = dict(_within(self.models, lost))
        if path is not None and self._remembered != stored:
            _write(path, self._remembered)
        self._path, self._seen = path, identity_of(path)
        self._tell()
        concerned = sorted({self.models[key].name for key, gone in lost.items() if gone} - {""})
        self._name_models(frozenset(concerned[:_MOST_NAMED]))

    def _name_models(self, concerned: frozenset[str]) -> None:
        """Tell the board of models: a number alone would leave the operator to look for what is gone."""
        for name in sorted(self._named - concerned):
            board.told(_REASON, name, False, str(self.root))
        for name in sorted(concerned - self._named):
            board.told(_REASON, name, True, str(self.root))
        self._named = concerned

    def _tell(self) -> None:
        total = sum(len(model.listed - {_ITSELF}) for model in self.models.values())
        described = sum(len(model.described - {_ITSELF}) for model in self.models.values())
        found = (total, described, self.lost, self.source)
        if found == self._told:
            return
        self._told = found
        attributes: dict[str, Any] = {
            names.DATAFACE_ENRICHMENT_COLUMNS_TOTAL: total,
            names.DATAFACE_ENRICHMENT_COLUMNS_DESCRIBED: described,
            names.DATAFACE_ENRICHMENT_LOST: self.lost,
        }
        if total:
            attributes[names.DATAFACE_ENRICHMENT_COVERAGE_RATIO] = described / total
        if self.source is not None:
            attributes[names.DATAFACE_CATALOG_SOURCE] = self.source
            attributes[names.DATAFACE_CATALOG_SOURCE_CONFIGURED] = True
        recorder.event(names.EVENT_DATAFACE_ENRICHMENT_CHANGED, attributes, warning=bool(self.lost))
        board.told(_REASON, ARTIFACT, self.lost > 0, str(self.root))


def _within(models: Mapping[str, _Model], lost: Mapping[str, frozenset[str]]) -> Iterator[tuple[str, _Model]]:
    """What to remember: all that is described, and all that is lost until it is back, gone or accepted."""
    room = _MOST
    for key, model in models.items():
        described = model.described | lost.get(key, frozenset())
        if described and room >= len(described):
            room -= len(described)
            yield key, replace(model, listed=frozenset(), described=described)


def _source(root: Path, content: Mapping[str, Any]) -> str | None:
    """The configured source that is the database of the dbt project, where only one can be.

    That is one whose type is dbt's adapter, or that names dbt's profile.
    """
    metadata = content.get("metadata")
    adapter = metadata.get("adapter_type") if isinstance(metadata, dict) else None
    types = ("dbt_profile",) if adapter is None else ("dbt_profile", adapter)
    fitting = [
        name
        for name, source in _configured(root).items()
        if isinstance(source, dict) and source.get("type") in types
    ]
    return str(fitting[0]) if len(fitting) == 1 else None


def _configured(root: Path) -> Mapping[object, Any]:
    import yaml  # Dataface has it; who only decorates needs none

    for name in _CONFIGURATION:
        try:
            content = yaml.safe_load((root / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError):
            continue
        sources = content.get("sources") if isinstance(content, dict) else None
        return sources if isinstance(sources, dict) else {}
    return {}


_projects: dict[Path, _Project] = {}


def _take(root: Path, content: dict[str, Any]) -> None:
    known = _projects.setdefault(root, _Project(root))
    known.take(content)
    worker.watch(f"enrichment {root}", known.look)


def is_lost(root: Path) -> bool:
    """Whether the manifest of the project at ``root``, as the worker saw it last, lacks descriptions it had."""
    known = _projects.get(root)
    return known is not None and known.lost > 0


def _leave(root: Path) -> None:
    worker.unwatch(f"enrichment {root}")
    known = _projects.pop(root, None)
    if known is not None:
        known.leave()


@on_forget
def forget() -> None:
    """Stop all watches."""
    for root in list(_projects):
        worker.unwatch(f"enrichment {root}")
    _projects.clear()


CONSUMER = Consumer(_take, _leave, {_REASON: is_lost})
