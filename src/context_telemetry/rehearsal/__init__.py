"""Rehearsals: a real project, a real client, real faults.

Dataface, dbt and the MCP client are imported only when a rehearsal runs.
"""

from __future__ import annotations
