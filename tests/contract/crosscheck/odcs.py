"""A catalogue of a case in the Open Data Contract Standard 3.2, what datacontract-cli compares."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from contract.crosscheck.cases import Tables

from context_telemetry.contract.model import ColumnFacts, TableFacts

LOGICAL = {"integer": "integer", "numeric": "number"}


def contract(tables: Tables) -> dict[str, Any]:
    """The catalogue as one contract. Where the standard has no field for a fact it is a custom property."""
    fresh = [
        {
            "property": "freshness",
            "value": f"PT{facts.freshness_seconds:g}S",
            "element": f"{_name(where)}.id",
        }
        for where, (facts, _) in tables.items()
        if where.endswith("orders") and facts.freshness_seconds and not math.isinf(facts.freshness_seconds)
    ]
    owners = [facts.owner for where, (facts, _) in tables.items() if where.endswith("orders")]
    return {
        "apiVersion": "v3.2.0",
        "kind": "DataContract",
        "id": "shop",
        "version": "1.0.0",
        "status": "active",
        "schema": [_schema(where, facts, columns) for where, (facts, columns) in tables.items()],
        **({"slaProperties": fresh} if fresh else {}),
        **({"team": {"name": owners[0]}} if owners else {}),
    }


def _name(where: str) -> str:
    return where.split(".")[1]


def _schema(where: str, facts: TableFacts, columns: Mapping[str, ColumnFacts]) -> dict[str, Any]:
    return _filled(
        name=_name(where),
        physicalName=where,
        physicalType=facts.kind,
        description="A table of the shop." if facts.described else None,
        dataGranularityDescription=f"One row for each {', '.join(facts.grain)}." if facts.grain else None,
        customProperties=_custom(dbtModel=facts.model, dbtContractEnforced=facts.enforced),
        properties=[_property(name, each) for name, each in columns.items()],
    )


def _property(name: str, facts: ColumnFacts) -> dict[str, Any]:
    limits = {
        limit: value
        for limit, value in (("minimum", facts.minimum), ("maximum", facts.maximum))
        if value is not None and not math.isinf(value)
    }
    return _filled(
        name=name,
        physicalType=facts.type,
        logicalType=LOGICAL[facts.declared_type] if facts.declared_type else "integer" if limits else None,
        logicalTypeOptions=limits,
        description="A column of the shop." if facts.described else None,
        required=(facts.nullable is False or facts.not_null) or None,
        primaryKey=facts.key == "primary" or None,
        unique=(facts.unique or facts.key == "unique") or None,
        enum=[{"value": value} for value in facts.accepted_values or ()],
        relationships=[{"to": facts.references}] if facts.references else None,
        transformLogic=facts.expression,
        customProperties=_custom(unit=facts.unit, timezone=facts.timezone),
    )


def _custom(**given: object) -> list[dict[str, object]]:
    return [{"property": name, "value": value} for name, value in given.items() if value not in (None, "")]


def _filled(**given: Any) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value not in (None, "", [], {})}
