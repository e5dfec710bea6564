"""Which tools and resources answer with documentation, the same on every project, and not with results.

Their size is Dataface's own and not the project's, so they have a budget of their own. What is listed is what
Dataface 0.4.0 has.
"""

from __future__ import annotations

from typing import Final

STATIC_TOOLS: Final = frozenset(
    {"docs", "list_skills", "get_skill", "search_skills", "list_diagnostic_codes", "get_diagnostic_code"}
)
# A compiled face is Dataface's own styles for the most part (100 to 200 KB with one chart or none), not the project's
# data.
STATIC_RESOURCES: Final = ("dataface://docs/", "dataface://guide/", "dataface://dashboard/")


def is_static_tool(name: str) -> bool:
    """Whether the tool answers with documentation or skills."""
    return name in STATIC_TOOLS


def is_static_resource(uri: str) -> bool:
    """Whether the resource is documentation, or the structure of a face."""
    return uri.startswith(STATIC_RESOURCES)
