"""A host that runs one turn of Dataface's agent on a project: `python tests/agent_host.py PROJECT`.

Its model is a FAKE that asks for one dashboard. Everything else is Dataface and the project's warehouse.
"""

from __future__ import annotations

import sys
from pathlib import Path

from agent_fakes import FakeModel, turn

FACE = """\
title: Orders, and the table that they are in
queries:
  columns: {type: schema, source: shop, schema: main, table: fct_orders}
  by_status:
    sql: SELECT status, count(*) AS orders FROM {{ ref('fct_orders') }} GROUP BY status
charts:
  columns: {query: columns, type: table}
  by_status: {query: by_status, type: bar, x: status, y: orders}
rows: [columns, by_status]
"""


def main(project: Path) -> None:
    from inprocess import opened

    (project / "faces" / "turn.yml").write_text(FACE, "utf-8")
    asks = ("render_dashboard", {"path": "faces/turn.yml", "format": "json"})
    with opened(project) as (context, _):
        for _event in turn(context, FakeModel([asks], ["Here they are."]), built=True):
            pass


if __name__ == "__main__":
    main(Path(sys.argv[1]))
