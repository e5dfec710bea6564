"""A project as it is now beside its accepted contract and its manifest: what is open, what drifted, what is not known.

The result is plain data that goes from process to process as JSON, and reading it costs a process neither DuckDB nor a
parser of SQL. Nothing is said to anybody here.
"""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from context_telemetry.contract.model import Change, Level, ResourceFacts, TableKey, ToolFacts

if TYPE_CHECKING:
    import duckdb

    from context_telemetry.contract.catalogue import Names
    from context_telemetry.contract.drift import Drift
    from context_telemetry.contract.file import Accepted
    from context_telemetry.contract.impact import Hit, Recorded
    from context_telemetry.contract.judgement import Judged, Report
    from context_telemetry.contract.snapshot import Progress, Snapshot
    from context_telemetry.contract.sources import SourceConfig, Sources
    from context_telemetry.contract.warehouse import Fetch

Reason = Literal["contract_broken", "schema_drift"]

MOST: Final = 256
"""So many findings are told, the worst of the contract first."""
_MOST_FACES: Final = 1_000
_LEVELS: Final[tuple[Level, ...]] = ("breaking", "warning", "info")


@dataclass(frozen=True)
class Finding:
    """One difference from the contract, or from the manifest."""

    reason: Reason
    rule: str
    """A rule of docs/contract-rules.md; of drift `table_missing`, `column_missing` or `type_contradicted`."""
    level: Level
    """As it counts: `breaking` only where somebody relies on it and no exception covers it. Drift is a `warning`."""
    object: str
    """`shop.main.fct_orders.status`, `tool docs`."""
    consumers: int
    """Faces, prompts and tools that are hit."""
    served: int | None
    """How often those were served; None where no history was at hand."""
    table: TableKey | None
    column: str | None

    @property
    def is_met(self) -> bool:
        """Whether a call that reads the object is served something else than was promised."""
        return self.table is not None and (self.reason == "schema_drift" or self.level == "breaking")


@dataclass(frozen=True)
class Comparison:
    """What one look found."""

    accepted: bool
    """Whether there is a contract, and what is served was compared with it."""
    problem: str | None
    """Why that was not possible although there is a contract or a project; for a person."""
    manifest_problem: str | None
    open: Mapping[Level, int]
    """Differences from the contract, all of them; zero where none was accepted."""
    drift: int | None
    """Differences from the manifest, all of them; None where there is none that can be read."""
    unread: Mapping[str, str]
    """Sources of which nothing is known, and why; without those that were left out of the contract."""
    findings: tuple[Finding, ...]
    """Of the contract, then of the manifest, the worst and most used first; at most `MOST`."""
    files: tuple[str, ...]
    """Files and folders, there or not: where none of them is another, a new look finds the same."""
    faces: Mapping[str, tuple[Reason, ...]] = field(default_factory=dict)
    """The faces that read what a query meets, by their paths in the project; at most `_MOST_FACES`."""


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Of nothing but what JSON has."""
    return asdict(comparison)


def from_json(document: Mapping[str, Any]) -> Comparison:
    """What `to_json` gave. Raises KeyError, TypeError or ValueError for anything else."""
    findings = (
        Finding(**{**each, "table": None if each["table"] is None else TableKey(*each["table"])})
        for each in document["findings"]
    )
    faces = {str(face): tuple(reasons) for face, reasons in document["faces"].items()}
    return Comparison(
        **{**document, "findings": tuple(findings), "files": tuple(document["files"]), "faces": faces}
    )


@dataclass(frozen=True)
class Look:
    """A comparison and what it was made of. Use it while the connection is open."""

    comparison: Comparison
    now: Snapshot | None = None
    """None where the project's files cannot be read."""
    report: Report | None = None
    """None where no contract was compared with."""
    met: tuple[Finding, ...] = ()
    """All findings that a query can meet, also beyond `MOST`."""
    served: Names | None = None
    former: Names | None = None
    """What is served, and of the tables of ``met`` also what was accepted or is declared."""


def compare(
    connection: duckdb.DuckDBPyConnection,
    root: Path,
    *,
    tools: Mapping[str, ToolFacts] | None = None,
    resources: Mapping[str, ResourceFacts] | None = None,
    recorded: Recorded | None = None,
    fetch: Fetch | None = None,
    today: date | None = None,
    progress: Progress = lambda what: None,
) -> Look:
    """Look at the project at ``root``, in a connection of `catalogue.connect`.

    What cannot be read, of the project, the contract, the manifest or a source, is told in the comparison.
    """
    from context_telemetry.contract import file
    from context_telemetry.contract.catalogue import Names
    from context_telemetry.contract.document import ContractError
    from context_telemetry.contract.drift import drifted
    from context_telemetry.contract.judgement import judge
    from context_telemetry.contract.project_files import ProjectFileError
    from context_telemetry.contract.snapshot import take

    root = Path(os.path.abspath(root))
    try:
        now = take(connection, root, tools=tools, resources=resources, fetch=fetch, progress=progress)
    except ProjectFileError as error:
        nothing = dict.fromkeys(_LEVELS, 0)
        return Look(Comparison(False, str(error), None, nothing, None, {}, (), _files(root, None)))
    accepted, report, problem = None, None, None
    if (root / file.NAME).exists():
        try:
            accepted = file.read(connection, root)
        except (ContractError, OSError) as error:
            problem = str(error)
    if accepted is not None:
        report = judge(accepted, now, today or date.today(), recorded)
    faces: dict[str, set[Reason]] = {}
    broken = sorted((_of_contract(each, faces) for each in report.changes), key=_weight) if report else []
    drift = drifted(now)
    tables = {each.table for each in broken if each.table and each.is_met}
    tables.update(each.table for each in drift or ())
    served = Names(now.catalogue)
    former = served.with_gone(_gone(now, accepted, tables)) if tables else served
    drifts = sorted(_of_manifest(drift, now, accepted, former, recorded, faces), key=_weight) if drift else []
    counted = Counter(each.level for each in broken)
    findings = (*broken, *drifts)
    comparison = Comparison(
        accepted=report is not None,
        problem=problem,
        manifest_problem=now.manifest_problem,
        open={level: counted[level] for level in _LEVELS},
        drift=None if drift is None else len(drift),
        unread={state.name: state.unread or "" for state in (report.unread if report else now.unread)},
        findings=findings[:MOST],
        files=_files(root, now.configs),
        faces={face: tuple(sorted(faces[face])) for face in sorted(faces)[:_MOST_FACES]},
    )
    return Look(comparison, now, report, tuple(each for each in findings if each.is_met), served, former)


# -- findings -------------------------------------------------------------------------------------


def _of_contract(judged: Judged, faces: dict[str, set[Reason]]) -> Finding:
    change = judged.change
    level = change.level
    if judged.exception is not None or (level == "breaking" and not judged.open):
        level = "info"
    return _finding("contract_broken", change, level, judged.hits, faces)


def _of_manifest(
    drift: Iterable[Drift],
    now: Snapshot,
    accepted: Accepted | None,
    former: Names,
    recorded: Recorded | None,
    faces: dict[str, set[Reason]],
) -> Iterator[Finding]:
    """With who is hit: also the faces that use what is gone, which lead nowhere with the names that are served."""
    from context_telemetry.contract.consumers import uses
    from context_telemetry.contract.impact import by_table, hits

    accepted_uses = accepted.contract.uses if accepted else ()
    read = by_table(dict.fromkeys((*accepted_uses, *uses(now.root, former, now.configs, now.declared).known)))
    prompts = accepted.contract.prompts if accepted else ()
    for rule, table, column in drift:
        what = ".".join((*table, column) if column else table)
        change = Change(rule, "warning", "neither", "consumer", what, None, None, table, column)
        yield _finding("schema_drift", change, "warning", hits(change, read, prompts, recorded), faces)


def _finding(
    reason: Reason, change: Change, level: Level, hits: tuple[Hit, ...], faces: dict[str, set[Reason]]
) -> Finding:
    counts = [hit.served for hit in hits if hit.served is not None]
    finding = Finding(
        reason=reason,
        rule=change.rule,
        level=level,
        object=change.object,
        consumers=len(hits),
        served=sum(counts) if counts else None,
        table=change.table,
        column=change.column,
    )
    for hit in hits if finding.is_met else ():
        if hit.consumer.kind == "face":
            faces.setdefault(hit.consumer.name, set()).add(reason)
    return finding


def _weight(finding: Finding) -> tuple[int, int, int, str, str]:
    level = _LEVELS.index(finding.level)
    return level, -(finding.served or 0), -finding.consumers, finding.object, finding.rule


def _gone(
    now: Snapshot, accepted: Accepted | None, tables: Collection[TableKey]
) -> dict[TableKey, tuple[str, ...]]:
    """Of these tables, the columns that were accepted, and those that the manifest declares."""
    from context_telemetry.contract.catalogue import Names

    declared = {
        (each.schema.casefold(), each.name.casefold()): tuple(each.columns)
        for each in (now.declared.tables if now.declared else ())
    }
    former = Names(accepted.catalogue) if accepted else None
    if former:
        former.prepare(tables)
    return {
        table: tuple(
            dict.fromkeys(
                (
                    *(former.columns(table) if former else ()),
                    *declared.get((table.schema.casefold(), table.table.casefold()), ()),
                )
            )
        )
        for table in tables
    }


# -- files ----------------------------------------------------------------------------------------


def _files(root: Path, configs: Sources | None) -> tuple[str, ...]:
    """What a look reads; of large projects not every face."""
    from context_telemetry.contract import faces, file, manifest, sources

    names = (file.NAME, file.CATALOGUE, *sources.PROJECT_FILES, *manifest.CANDIDATES)
    found = [root / name for name in names]
    for config in configs.configs if configs else ():
        found += _files_of(root, config)
    found += itertools.islice(faces.files(root), _MOST_FACES)
    return tuple(dict.fromkeys(map(os.path.abspath, found)))


def _files_of(root: Path, config: SourceConfig) -> Iterator[Path]:
    from context_telemetry.contract.sources import FILE_TYPES

    if config.profiles is not None:
        # One beside the project goes before the one that counts now.
        yield from (config.profiles, root / config.profiles.name)
    path = str(config.options.get("path") or "")
    if config.type in FILE_TYPES:
        listed = config.options.get("files")
        patterns = map(str, listed.values() if isinstance(listed, dict) else ())
        yield from (root / pattern for pattern in patterns if not _NO_PATH.search(pattern))
    elif config.type in _LOGS and path and not _NO_PATH.search(path) and path != ":memory:":
        yield root / path
        yield root / (path + _LOGS[config.type])


# Changes that are not yet in the file itself lie in another one beside it.
_LOGS: Final = {"duckdb": ".wal", "sqlite": "-wal"}
_NO_PATH: Final = re.compile(r"[*?\[]|^\w{2,}:")
