"""The dbt manifest as calls load it: there or not, whole or not, and how old it is.

Dataface answers without a manifest as if nothing were missing, and never looks at its age. What the background worker
has found in the file (manifest_watch.py) is looked up here.
"""

from __future__ import annotations

import re
from typing import Any

from context_telemetry.conventions import names
from context_telemetry.instrumentation.hooks import Hook
from context_telemetry.instrumentation.manifest_watch import ARTIFACT, TARGET, age, exists, found, is_manifest
from context_telemetry.observe.observed import Plan, tap
from context_telemetry.observe.operation import current
from context_telemetry.observe.reading import Call, Reader, Reading, reader

AGE = "manifest age"
"""The note that a load leaves to the operation which it was done for: the manifest's age, None when it has none."""
# A call of dbt's in SQL, in any of its spellings.
_REFERENCE = re.compile(r"\{\{-?\s*(?:ref|source)\s*\(")


# -- the readers of `load_dbt_manifest` ----------------------------------------------------------

_REASONS = (
    "manifest_missing",
    "manifest_unreadable",
    "manifest_incomplete",
    "manifest_substituted",
    "manifest_stale",
    "enrichment_lost",
)


@reader(reasons=_REASONS, layers=("dbt_manifest",))
def read_manifest(call: Call) -> Reading | None:
    """The state and the age of the manifest that this call was given."""
    if call.error is not None:
        return Reading(reasons=("manifest_unreadable",))
    served: Any = call.argument("project") or call.argument("project_path")
    reasons = _state(served, call.result)
    if "manifest_missing" in reasons:
        needed = exists(served, "dbt_project.yml") or _for_a_query()
        return Reading(reasons=reasons) if needed else None
    if "manifest_unreadable" in reasons:
        return Reading(reasons=reasons)
    old = age(call.result)
    op = current()
    if op is not None and op.parent is not None:
        op.parent.notes[AGE] = old
    return Reading(reasons=reasons, ages={} if old is None else {ARTIFACT: old}, layers=(ARTIFACT,))


@reader(reasons=_REASONS, layers=("dbt_manifest",))
def read_eager(call: Call) -> Reading | None:
    """Before 0.3.1 an adapter loads it with its first query, whatever that is: the query knows if it matters."""
    return None if call.error is None and _for_a_query() else read_manifest(call)


def _tap_references(call: Call) -> None:
    """Before 0.3.1: a query's ``ref()`` or ``source()`` is looked up in what its adapter has loaded, if anything."""
    op, sql, adapter = current(), call.argument("sql"), call.argument("self")
    if op is None or not isinstance(sql, str) or _REFERENCE.search(sql) is None:
        return
    loaded = getattr(adapter, "_manifest", None)
    served = getattr(adapter, "dbt_project_path", None) or getattr(adapter, "project", None)
    reasons = _state(served, loaded)
    if reasons:
        op.degraded(*reasons)
    old = age(loaded)
    if old is not None:
        op.age(ARTIFACT, old)


def _state(served: Any, manifest: Any) -> tuple[str, ...]:
    """What is wrong with the manifest that was loaded for a project, or the folder of one."""
    present = served is not None and exists(served, TARGET)
    if manifest is None:
        return ("manifest_unreadable" if present else "manifest_missing",)
    if not is_manifest(manifest):
        return ("manifest_unreadable",)
    reasons = [] if present else ["manifest_substituted"]
    if not manifest.get("nodes"):
        reasons.append("manifest_incomplete")
    elif present:
        reasons += found(served)
    return tuple(reasons)


def _for_a_query() -> bool:
    """Whether a query's ``ref()`` or ``source()`` asked for it: those need a manifest in any project."""
    op = current()
    return op is not None and op.parent is not None and op.parent.name == "query.execute"


# -- rows ----------------------------------------------------------------------------------------

_UTILS = "dataface.core.execute.adapters.dbt_utils"


def _row(target: str, read: Reader, parameter: str, *, since: str, until: str | None) -> Hook:
    return Hook(
        _UTILS,
        target,
        Plan("manifest.load", {names.DATAFACE_ARTIFACT: ARTIFACT}, reader=read),
        parameters=(parameter,),
        since=since,
        until=until,
    )


def _references(module: str, adapter: str) -> Hook:
    target = f"{adapter}._resolve_dbt_sql"
    return Hook(module, target, tap(_tap_references), parameters=("sql",), until="0.3.0")


HOOKS = (
    _row("load_dbt_manifest", read_manifest, "project", since="0.3.1", until=None),
    _row("load_dbt_manifest", read_eager, "project", since="0.3.0", until="0.3.0"),
    # 0.2.0 has one way to it for introspection and another one for queries.
    _row("load_manifest_via_project", read_manifest, "project", since="0.2.0", until="0.2.0"),
    _row("load_dbt_manifest", read_eager, "project_path", since="0.2.0", until="0.2.0"),
    _row("load_dbt_manifest", read_eager, "project_path", since="0.1.2", until="0.1.5"),
    _references("dataface.core.execute.adapters.dbt_adapter", "DbtAdapter"),
    _references("dataface.core.execute.adapters.sql_adapter", "SqlAdapter"),
)
