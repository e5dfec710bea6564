"""`dft mcp serve` whose preview has a port of its own: `python serve.py PORT`.

Dataface 0.4.0 looks for a free one from 8765 on, before it takes it: servers that start together get the same one and
end, and no more than ten find one. All else is the real command.
"""

import sys

from dataface.cli.main import app
from dataface.core.serve import embedded

if __name__ == "__main__":
    (port,) = sys.argv[1:]
    embedded.build_embedded_server.__defaults__ = (int(port),)
    sys.argv[1:] = ["mcp", "serve"]
    app()
