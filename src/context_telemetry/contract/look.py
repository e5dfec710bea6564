"""Looks at a project as it is now, beside its accepted contract and its manifest: what is open, what drifted, what is
not known. What it finds is data (`comparison`); nothing is said to anybody here.
"""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path, PurePath
from typing import Final, get_args

import duckdb

from context_telemetry.contract import faces as face_files
from context_telemetry.contract import file, manifest, sources
from context_telemetry.contract.catalogue import Names
from context_telemetry.contract.comparison import MOST, MOST_FACES, Comparison, Finding, Part, Reason
from context_telemetry.contract.consumers import uses
from context_telemetry.contract.document import ContractError
from context_telemetry.contract.drift import Drift, drifted
from context_telemetry.contract.file import Accepted
from context_telemetry.contract.impact import Hit, Recorded, by_table, hits
from context_telemetry.contract.judgement import Judged, Report, judge
from context_telemetry.contract.model import Change, Level, ResourceFacts, TableKey, ToolFacts
from context_telemetry.contract.project_files import ProjectFileError
from context_telemetry.contract.snapshot import Progress, Snapshot, take
from context_telemetry.contract.sources import SourceConfig, Sources
from context_telemetry.contract.warehouse import Fetch

_MOST_FACES: Final = 1_000
_MOST_FILES: Final = 1_000
_LEVELS: Final[tuple[Level, ...]] = get_args(Level)


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
    different: frozenset[str] = frozenset()
    """The names of all tables and columns that differ from what was accepted or is declared."""


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

    What cannot be read, of the project, the contract, the manifest or a source, is told in the comparison. Sources that
    were left out of the contract are not asked.
    """
    root = Path(os.path.abspath(root))
    accepted, problem = None, None
    if (root / file.NAME).exists():
        try:
            accepted = file.read(connection, root)
        except (ContractError, OSError) as error:
            problem = str(error)
    try:
        now = take(
            connection,
            root,
            tools=tools,
            resources=resources,
            without=accepted.left_out if accepted else frozenset(),
            fetch=fetch,
            progress=progress,
        )
    except ProjectFileError as error:
        return Look(Comparison(False, str(error), None, {}, None, {}, (), _files(root, None)))
    report = judge(accepted, now, today or date.today(), recorded) if accepted else None
    faces: dict[str, set[Reason]] = {}
    broken = sorted((_of_contract(each, faces) for each in report.changes), key=_weight) if report else []
    drift = drifted(now)
    # A source that is configured no more has no name of a table: nothing can be asked of it.
    tables = {each.table for each in broken if each.table and each.table.table and each.is_met}
    tables.update(each.table for each in drift or ())
    served = Names(now.catalogue)
    former = served.with_gone(_gone(now, accepted, tables)) if tables else served
    drifts = sorted(_of_manifest(drift, now, accepted, former, recorded, faces), key=_weight) if drift else []
    findings = (*broken, *drifts)
    unread = {state.name: state.unread or "" for state in (report.unread if report else now.unread)}
    comparison = Comparison(
        accepted=report is not None,
        problem=problem,
        manifest_problem=now.manifest_problem,
        open=_open(report, broken),
        drift=None if drift is None else len(drift),
        unread=unread,
        findings=findings[:MOST],
        files=_files(root, now.configs),
        faces={face: tuple(sorted(faces[face])) for face in sorted(faces)[:_MOST_FACES]},
        unread_files=any(_is_there(root, config) for config in now.configs.configs if config.name in unread),
    )
    return Look(
        comparison,
        now,
        report,
        tuple(each for each in findings if each.is_met),
        served,
        former,
        frozenset(each.column or each.table.table for each in findings if each.table and each.table.table),
    )


# -- findings -------------------------------------------------------------------------------------


def _open(report: Report | None, broken: Iterable[Finding]) -> dict[Part, dict[Level, int]]:
    if report is None:
        return {}
    accepted, now = report.accepted.contract, report.now
    lists = ((accepted.tools, now.tools), (accepted.resources, now.resources))
    compared: list[Part] = ["tables"]
    if any(None not in pair for pair in lists):
        compared.append("tools")
    counted = Counter((each.part, each.level) for each in broken)
    return {part: {level: counted[part, level] for level in _LEVELS} for part in compared}


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
    accepted_uses = accepted.contract.uses if accepted else ()
    read = by_table(dict.fromkeys((*accepted_uses, *uses(now.root, former, now.configs, now.declared).known)))
    prompts = accepted.contract.prompts if accepted else ()
    for rule, table, column in drift:
        what = ".".join((*table, column) if column else table)
        # A manifest may write it in another case than those who use it.
        there = former.table(*table) or table
        its = former.column(there, column) or column if column else None
        change = Change(rule, "warning", "neither", "consumer", what, None, None, there, its)
        yield _finding("schema_drift", change, "warning", hits(change, read, prompts, recorded), faces)


def _finding(
    reason: Reason, change: Change, level: Level, hits: tuple[Hit, ...], faces: dict[str, set[Reason]]
) -> Finding:
    counts = [hit.served for hit in hits if hit.served is not None]
    read = [hit.consumer.name for hit in hits if hit.consumer.kind == "face"]
    finding = Finding(
        reason=reason,
        rule=change.rule,
        level=level,
        object=change.object,
        consumers=len(hits),
        served=sum(counts) if counts else None,
        table=change.table,
        column=change.column,
        faces=tuple(read[:MOST_FACES]),
    )
    for face in read if finding.is_met else ():
        faces.setdefault(face, set()).add(reason)
    return finding


def _weight(finding: Finding) -> tuple[int, int, int, str, str]:
    level = _LEVELS.index(finding.level)
    return level, -(finding.served or 0), -finding.consumers, finding.object, finding.rule


def _gone(
    now: Snapshot, accepted: Accepted | None, tables: Collection[TableKey]
) -> dict[TableKey, tuple[str, ...]]:
    """Of these tables, the columns that were accepted, and those that the manifest declares."""
    declared = {
        (each.schema.casefold(), each.name.casefold()): tuple(each.columns)
        for each in (now.declared.tables if now.declared else ())
    }
    former = Names(accepted.catalogue) if accepted else None
    if former:
        former.prepare(tables)

    def columns(table: TableKey) -> Iterator[str]:
        if former and (there := former.table(*table)):
            yield from former.columns(there)
        yield from declared.get((table.schema.casefold(), table.table.casefold()), ())

    return {table: tuple(dict.fromkeys(columns(table))) for table in tables}


# -- files ----------------------------------------------------------------------------------------


def _files(root: Path, configs: Sources | None) -> tuple[str, ...]:
    """What a look reads; of large projects not every face, and not every file behind a pattern."""
    names = (file.NAME, file.CATALOGUE, *sources.PROJECT_FILES, *manifest.CANDIDATES)
    found = [root / name for name in names]
    patterns: list[str] = []
    for config in configs.configs if configs else ():
        found += _files_of(root, config)
        patterns += _patterns_of(config)
    found += itertools.islice((path for pattern in patterns for path in _behind(root, pattern)), _MOST_FILES)
    found += itertools.islice(face_files.files(root), _MOST_FACES)
    return tuple(dict.fromkeys(map(os.path.abspath, found)))


def _files_of(root: Path, config: SourceConfig) -> Iterator[Path]:
    if config.profiles is not None:
        # One beside the project goes before the one that counts now.
        yield from (config.profiles, root / config.profiles.name)
    if (path := _path_of(config)) is not None:
        yield root / path
        yield root / (path + _LOGS[config.type])


def _path_of(config: SourceConfig) -> str | None:
    """Of a source that is one file."""
    path = str(config.options.get("path") or "")
    is_file = config.type in _LOGS and path not in ("", ":memory:") and not _ADDRESS.match(path)
    return path if is_file else None


def _is_there(root: Path, config: SourceConfig) -> bool:
    """Whether a source is a file, or several, whose place can be looked at from here."""
    path = _path_of(config)
    return any(_patterns_of(config)) if path is None else (root / path).exists()


def _patterns_of(config: SourceConfig) -> Iterator[str]:
    """Of a source whose tables are files: where they are, each a path or a pattern."""
    listed = config.options.get("files") if config.type in sources.FILE_TYPES else None
    for pattern in map(str, listed.values() if isinstance(listed, dict) else ()):
        if not _ADDRESS.match(pattern):
            yield pattern


def _behind(root: Path, pattern: str) -> Iterator[Path]:
    """A path itself; of a pattern the folder that it begins in, and what is there with the folders around it."""
    parts = PurePath(pattern).parts
    fixed = list(itertools.takewhile(lambda part: not _WILD.search(part), parts))
    yield root.joinpath(*fixed)
    if len(fixed) == len(parts):
        return
    for found in glob.iglob(pattern, root_dir=root, recursive=True):
        path = root / found
        yield from (path.parent, path)


# Changes that are not yet in the file itself lie in another one beside it.
_LOGS: Final = {"duckdb": ".wal", "sqlite": "-wal"}
_ADDRESS: Final = re.compile(r"\w{2,}:")
_WILD: Final = re.compile(r"[*?\[]")
