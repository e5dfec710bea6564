"""An MCP server that lists what a file says, and nothing else: the real list of a real server, with one change in it.

Run as `python listing_server.py LISTS.json`; the file has the result of each list method.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

lists = json.loads(Path(sys.argv[1]).read_text("utf-8"))
for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request:
        continue
    answer = {"jsonrpc": "2.0", "id": request["id"]}
    if request["method"] == "initialize":
        answer["result"] = {
            "protocolVersion": request["params"]["protocolVersion"],
            "capabilities": {"tools": {}, "resources": {}},
            "serverInfo": {"name": "listing", "version": "1"},
        }
    elif request["method"] in lists:
        answer["result"] = lists[request["method"]]
    else:
        answer["error"] = {"code": -32601, "message": "Method not found"}
    print(json.dumps(answer), flush=True)
