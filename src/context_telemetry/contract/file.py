"""The accepted contract of a project on disk: `context-contract.yaml`, and the whole catalogue as Parquet beside it.

Both are written or neither. The YAML counts: what a person changes in it is what was accepted. The Parquet file adds
what nobody relies on, as long as it is the one that the YAML was written with.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import duckdb

from context_telemetry.contract import catalogue as catalogues
from context_telemetry.contract.catalogue import Catalogue, CatalogueError, unnested
from context_telemetry.contract.document import Contract, ContractError, Excepted, dump, parse
from context_telemetry.contract.model import ColumnFacts, ColumnKey, TableFacts, TableKey
from context_telemetry.contract.project_files import ProjectFileError, read_text
from context_telemetry.contract.snapshot import Snapshot

NAME: Final = "context-contract.yaml"
CATALOGUE: Final = "context-contract.parquet"
_MAKE: Final = "write it with: context-telemetry contract snapshot"


@dataclass(frozen=True)
class Accepted:
    """A contract with its catalogue, in a connection of `catalogue.connect`. Use it while that is open."""

    contract: Contract
    catalogue: Catalogue
    whole: bool
    """Whether ``catalogue`` has everything that was served, or only what somebody relies on."""
    note: str | None = None
    """Why it is not whole."""
    name: str = NAME

    @property
    def left_out(self) -> frozenset[str]:
        """Sources that were left out when it was accepted; nothing is compared of them, so nobody need ask them."""
        return frozenset(state.name for state in self.contract.sources if state.unread)


# -- from a snapshot ------------------------------------------------------------------------------


def contract_of(
    snapshot: Snapshot, prompts: tuple[str, ...] = (), exceptions: tuple[Excepted, ...] = ()
) -> Contract:
    """What consumers rely on in a snapshot; ``prompts`` and ``exceptions`` are what a person wrote."""
    wanted: dict[TableKey, frozenset[str] | None] = {}
    for use in snapshot.uses:
        had = wanted.get(use.table, frozenset())
        wanted[use.table] = None if had is None or use.columns is None else had | use.columns
    tables, columns = _facts_of(snapshot.catalogue, wanted)
    return Contract(
        sources=snapshot.catalogue.sources,
        tables=tables,
        columns=columns,
        tools=snapshot.tools,
        resources=snapshot.resources,
        uses=snapshot.uses,
        unknown=snapshot.unknown,
        missing=snapshot.missing,
        prompts=prompts,
        exceptions=exceptions,
        counted=snapshot.catalogue.count(),
    )


def _facts_of(
    catalogue: Catalogue, wanted: Mapping[TableKey, frozenset[str] | None]
) -> tuple[dict[TableKey, TableFacts], dict[ColumnKey, ColumnFacts]]:
    keys = json.dumps([key._asdict() for key in wanted])
    semi = f'SEMI JOIN ({unnested(dict.fromkeys(TableKey._fields, "VARCHAR"))}) k USING ("source", "schema", "table")'

    def rows(relation: str, key: type[Any], facts: type[Any]) -> list[tuple[Any, Any]]:
        names = [one.name for one in fields(facts)]
        listed = ", ".join(f'"{name}"' for name in (*key._fields, *names))
        length = len(key._fields)
        found = catalogue.connection.execute(f"SELECT {listed} FROM {relation} {semi}", [keys]).fetchall()
        return [
            (
                key(*row[:length]),
                facts(*(tuple(one) if isinstance(one, list) else one for one in row[length:])),
            )
            for row in found
        ]

    columns = {}
    for key, facts in rows(catalogue.columns, ColumnKey, ColumnFacts):
        named = wanted[TableKey(*key[:3])]
        if named is None or key.column in named:
            columns[key] = replace(facts, position=None)
    return dict(rows(catalogue.tables, TableKey, TableFacts)), columns


# -- writing --------------------------------------------------------------------------------------


def write(root: Path, snapshot: Snapshot, contract: Contract) -> bool:
    """Write both files, or leave both as they are; whether anything changed.

    A catalogue that is as it was keeps its file: another release of DuckDB writes the same rows in other bytes.
    Raises CatalogueError where a file cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory(dir=root, prefix=".context-contract.") as folder:
            new = Path(folder)
            if _is_as_written(root / CATALOGUE, snapshot.catalogue):
                (new / CATALOGUE).write_bytes((root / CATALOGUE).read_bytes())
            else:
                catalogues.write(snapshot.catalogue, new / CATALOGUE)
            digest = _digest((new / CATALOGUE).read_bytes())
            (new / NAME).write_text(dump(replace(contract, digest=digest)), "utf-8", newline="\n")
            changed = [
                name
                for name in (CATALOGUE, NAME)
                if not (root / name).is_file() or (root / name).read_bytes() != (new / name).read_bytes()
            ]
            _put(root, new, changed)
            return bool(changed)
    except OSError as error:
        raise CatalogueError(f"{NAME}: cannot be written: {error.strerror or error}") from error


def _put(root: Path, new: Path, names: Iterable[str]) -> None:
    """Put the files in their places, and those that were there back where one of them cannot be."""
    former: dict[str, bytes | None] = {}
    try:
        for name in names:
            former[name] = (root / name).read_bytes() if (root / name).is_file() else None
            os.chmod(new / name, 0o644)
            os.replace(new / name, root / name)
    except OSError:
        for name, content in former.items():
            if content is None:
                if (root / name).is_file():
                    (root / name).unlink()
            else:
                (new / name).write_bytes(content)
                os.replace(new / name, root / name)
        raise


def _is_as_written(path: Path, catalogue: Catalogue) -> bool:
    """Whether a snapshot has exactly the rows and sources of a catalogue."""
    try:
        written = catalogues.read(catalogue.connection, path)
    except CatalogueError:
        return False
    try:
        return _sum(written) == _sum(catalogue)
    finally:
        written.drop()


def _sum(catalogue: Catalogue) -> object:
    """What two catalogues have in common that are the same; of rows, whose order does not matter, a hash."""
    rows = [
        catalogue.connection.execute(f"SELECT count(*), bit_xor(hash(t)) FROM {relation} t").fetchall()
        for relation in (catalogue.tables, catalogue.columns)
    ]
    # Why a source was not read is not written.
    return rows, [replace(state, unread=state.unread and "") for state in catalogue.sources]


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


# -- reading --------------------------------------------------------------------------------------


def read_contract(root: Path) -> Contract:
    """The project's contract without its catalogue. Raises ContractError."""
    return _read(root / NAME, root)


def read(connection: duckdb.DuckDBPyConnection, root: Path, path: Path | None = None) -> Accepted:
    """The project's contract, or the one at ``path``. Raises ContractError, with file, line, key and fix."""
    path = path or root / NAME
    contract = _read(path, root)
    return _with_catalogue(connection, contract, path.with_suffix(".parquet"), path.name)


def read_at(connection: duckdb.DuckDBPyConnection, root: Path, revision: str) -> Accepted:
    """The project's contract as a git revision has it: `main`, `HEAD~1`, `v1.2`. Raises ContractError."""
    said = f"{revision}:{NAME}"
    commit = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if commit is None:
        raise ContractError(
            [f"{revision}: is neither a file nor a revision that git knows here; fetch it, or name another"]
        )
    sha = commit.decode().strip()
    text = _git(root, "show", f"{sha}:./{NAME}")
    if text is None:
        raise ContractError([f"{said}: this revision has no contract; name one that has, or a file"])
    contract = parse(text.decode("utf-8", errors="replace"), said)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, CATALOGUE)
        if (content := _git(root, "show", f"{sha}:./{CATALOGUE}")) is not None:
            path.write_bytes(content)
        return _with_catalogue(connection, contract, path, said)


def _git(root: Path, *arguments: str) -> bytes | None:
    """What git answers; None where it fails. Raises ContractError where it is not installed."""
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        raise ContractError(["git is not installed here; compare with a file instead"]) from None
    return done.stdout if done.returncode == 0 else None


def _read(path: Path, root: Path) -> Contract:
    if not path.is_file():
        raise ContractError([f"{path.name}: is not there; {_MAKE}"])
    try:
        text = read_text(path, root)
    except ProjectFileError as error:
        raise ContractError([str(error)]) from error
    return parse(text, path.name)


def _with_catalogue(
    connection: duckdb.DuckDBPyConnection, contract: Contract, path: Path, name: str
) -> Accepted:
    """With the snapshot where it belongs to the contract; what the YAML says counts before it."""
    catalogue, note = None, None
    if not path.is_file():
        note = f"{path.name} is not beside it"
    elif _digest(path.read_bytes()) != contract.digest:
        note = f"{path.name} is not the one that it was written with"
    else:
        try:
            catalogue = catalogues.read(connection, path)
        except CatalogueError as error:
            note = str(error)
    whole = catalogue is not None
    if catalogue is None:
        catalogue = catalogues.new(connection)
    # The text says which sources there are; the snapshot cannot say more of them.
    catalogue = replace(catalogue, sources=contract.sources)
    _lay_over(catalogue, contract)
    return Accepted(contract, catalogue, whole, note, name)


def _lay_over(catalogue: Catalogue, contract: Contract) -> None:
    """Put what the contract says of tables and columns over what the snapshot has, or beside it."""
    execute = catalogue.connection.execute
    for relation, key, said, add in (
        (catalogue.tables, TableKey, contract.tables, catalogue.add_tables),
        (catalogue.columns, ColumnKey, contract.columns, catalogue.add_columns),
    ):
        if not said:
            continue
        # Kept: what the YAML does not say of what it names, where a column stands and how a view is made.
        kept = "position" if relation == catalogue.columns else "definition"
        on = " AND ".join(f's."{name}" = o."{name}"' for name in key._fields)
        keys = ", ".join(f'"{name}"' for name in key._fields)
        wanted = json.dumps([where._asdict() for where in said])
        execute(
            f'CREATE OR REPLACE TEMP TABLE overlaid AS SELECT {keys}, "{kept}" FROM {relation} '
            f"SEMI JOIN ({unnested(dict.fromkeys(key._fields, 'VARCHAR'))}) k USING ({keys})",
            [wanted],
        )
        execute(f"DELETE FROM {relation} s USING overlaid o WHERE {on}")
        add({**where._asdict(), **_plain(facts)} for where, facts in said.items())
        execute(f'UPDATE {relation} AS s SET "{kept}" = o."{kept}" FROM overlaid o WHERE {on}')
        execute("DROP TABLE overlaid")


def _plain(facts: Any) -> dict[str, Any]:
    """For JSON, which has no infinity: the column's type makes a number of the text again."""
    return {
        name: str(value) if isinstance(value, float) and math.isinf(value) else value
        for name, value in asdict(facts).items()
        if value is not None
    }
