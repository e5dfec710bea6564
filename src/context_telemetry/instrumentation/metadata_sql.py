"""Whether SQL reads the warehouse's own metadata: for an agent that is how it reads the catalogue.

A bounded scan over tokens that skips comments, strings and identifiers in quotes; nothing is parsed, verdicts are
remembered. It tells what is asked, not whether it was found.
"""

from __future__ import annotations

import re
from functools import lru_cache

# Longer SQL is scanned up to here only: metadata queries are short.
_SCANNED = 16_384

_TOKEN = re.compile(
    r"""--[^\n]*|/\*.*?\*/          # comments
      | '(?:[^']|'')*'             # strings
      | "(?:[^"]|"")*"|`[^`]*`     # quoted identifiers
      | [A-Za-z_][A-Za-z0-9_$]*    # words
      | [.(]""",
    re.VERBOSE | re.DOTALL,
)
# Schemas and tables whose every use is a read of metadata (followed or preceded by a dot where they are schemas).
_SCHEMAS = frozenset({"information_schema", "pg_catalog", "account_usage", "sys"})
_RELATIONS = frozenset(
    """duckdb_tables duckdb_columns duckdb_schemas duckdb_databases duckdb_views duckdb_constraints duckdb_indexes
    duckdb_types duckdb_functions pragma_table_info pragma_show sqlite_master sqlite_schema pg_tables pg_views
    pg_class pg_namespace pg_attribute svv_tables svv_columns svv_all_tables svv_all_columns __tables__""".split()
)

_STATEMENTS = frozenset({"show", "describe", "desc", "pragma", "summarize"})


@lru_cache(maxsize=512)
def reads_metadata(sql: str) -> bool:
    """Whether ``sql`` is a statement about metadata or selects from the warehouse's metadata views."""
    previous = ""
    words = 0
    scanned = sql[:_SCANNED]
    for match in _TOKEN.finditer(scanned):
        token = match.group()
        if token.startswith(("--", "/*", "'")):
            continue
        word = token.strip('"`').lower()
        if words == 0 and word in _STATEMENTS:
            return not _describes_query(scanned[match.end() :], word)
        words += 1
        if word in _SCHEMAS and scanned[match.end() : match.end() + 1] == ".":
            return True
        if word in _RELATIONS and previous in ("from", "join", "."):
            return True
        previous = word
    return False


def _describes_query(rest: str, statement: str) -> bool:
    """``DESCRIBE (select ...)`` and ``SUMMARIZE select ...`` are about a query, not about the catalogue."""
    follows = rest.lstrip().lower()
    return follows.startswith(("(", "select", "with")) or statement == "summarize" and not follows
