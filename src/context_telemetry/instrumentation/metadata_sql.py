"""Whether SQL reads the warehouse's own metadata: for an agent that is how it reads the catalogue.

A bounded scan over tokens that skips comments, strings and identifiers in quotes; nothing is parsed, verdicts are
remembered. It tells what is asked, not whether it was found.
"""

from __future__ import annotations

import re

from context_telemetry.observe.fork import on_forget

# Longer SQL is scanned up to here only: metadata queries are short.
_SCANNED = 8_192
# Verdicts are kept by the text's hash, never by the text; forgotten at this many.
_REMEMBERED = 512

# Without one of these nothing needs to be taken apart: most queries end here.
_MARK = re.compile(
    r"information_schema|pg_|account_usage|duckdb_|pragma|sqlite_|svv_|__tables__|\bshow\b|\bdesc(?:ribe)?\b",
    re.IGNORECASE,
)
_TOKEN = re.compile(
    r"""--[^\n]*|/\*.*?(?:\*/|\Z)     # comments
      | '[^']*(?:'|\Z)              # strings; a doubled quote is two of them
      | "[^"]*(?:"|\Z)|`[^`]*(?:`|\Z)  # quoted identifiers
      | [A-Za-z_][A-Za-z0-9_$]*     # words
      | [.,]""",
    re.VERBOSE | re.DOTALL,
)
# Schemas of metadata views, and the views and functions that are found without one.
_SCHEMAS = frozenset({"information_schema", "pg_catalog", "account_usage"})
_RELATIONS = frozenset(
    {
        "__tables__",
        "duckdb_columns",
        "duckdb_constraints",
        "duckdb_databases",
        "duckdb_functions",
        "duckdb_indexes",
        "duckdb_schemas",
        "duckdb_tables",
        "duckdb_types",
        "duckdb_views",
        "pg_attribute",
        "pg_class",
        "pg_namespace",
        "pg_tables",
        "pg_views",
        "pragma_show",
        "pragma_table_info",
        "sqlite_master",
        "sqlite_schema",
        "svv_all_columns",
        "svv_all_tables",
        "svv_columns",
        "svv_tables",
    }
)
# What stands before a relation; anywhere else the same word is a column or an alias. A comma may stand before either,
# so it counts only for what is qualified with a schema.
_BEFORE_RELATION = frozenset({"from", "join", "."})
_STATEMENTS = frozenset({"show", "describe", "desc", "pragma"})
# What follows `DESCRIBE` where a query is described and not a table.
_QUERY_STARTS = ("(", "select", "with")

_verdicts: dict[int, bool] = {}
on_forget(_verdicts.clear)


def reads_metadata(sql: str) -> bool:
    """Whether ``sql`` is a statement about metadata or selects from the warehouse's metadata views."""
    key = hash(sql)
    verdict = _verdicts.get(key)
    if verdict is None:
        if len(_verdicts) >= _REMEMBERED:
            _verdicts.clear()
        verdict = _verdicts[key] = _scan(sql[:_SCANNED])
    return verdict


def _scan(sql: str) -> bool:
    if _MARK.search(sql) is None:
        return False
    previous = ""
    for match in _TOKEN.finditer(sql):
        token = match.group()
        if token.startswith(("--", "/*", "'")):
            continue
        word = token.strip('"`').lower()
        if not previous and word in _STATEMENTS:
            return not sql[match.end() :].lstrip().lower().startswith(_QUERY_STARTS)
        if previous in _BEFORE_RELATION and word in _RELATIONS:
            return True
        if (
            word in _SCHEMAS
            and (previous in _BEFORE_RELATION or previous == ",")
            and sql.startswith(".", match.end())
        ):
            return True
        previous = word
    return False
