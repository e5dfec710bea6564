"""Takes pictures of the Perses dashboards in a real browser: `python3 dev.py python tools/render_dashboards.py`.

Starts the real stack (tools/stack.py), lets real Dataface processes serve a project that is healthy, broken and healed,
and renders each dashboard in Chromium with what Prometheus then has. Needs npm, and about twenty minutes.
`--prometheus URL` takes the pictures from a Prometheus that is there. Exits with 1 when a panel shows an error or a
number is missing; whether every query has data is for tests/stack/test_dashboards.py to say.
"""

from __future__ import annotations

import argparse
import hashlib
import html
import http.server
import importlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # a script's own folder is all that Python gives it

from context_telemetry.ops import alerts, collector, dashboards  # noqa: E402
from context_telemetry.ops.inputs import defaults  # noqa: E402
from context_telemetry.rehearsal.sample import create  # noqa: E402
from tools.dashboard_traffic import serve  # noqa: E402
from tools.programs import CACHE, StackError, program  # noqa: E402
from tools.stack import Stack  # noqa: E402

PAGE: Final = ROOT / "tools" / "dashboards_page"
OUT: Final = ROOT / "docs" / "images"
WIDTH: Final = 1500
LARGEST: Final = 250_000
"""Bytes of a picture that goes into the repository."""


# -- the page ------------------------------------------------------------------------------------------------


def bundle() -> Path:
    """The folder with the page's script and style. Raises StackError."""
    key = hashlib.sha256((PAGE / "package.json").read_bytes()).hexdigest()[:12]
    folder = CACHE / f"dashboards_page-{key}"
    npm = shutil.which("npm")
    if npm is None:
        raise StackError("npm is missing: install Node.js 20 or later")
    folder.mkdir(parents=True, exist_ok=True)
    for path in PAGE.glob("*.js*"):
        shutil.copy2(path, folder)
    if not (folder / "node_modules" / ".package-lock.json").exists():  # npm writes it when all else is there
        print(
            "render: getting what the page is made of (430 MB, about a minute)", file=sys.stderr, flush=True
        )
        # Some packages name peers of one another's former releases; what package.json pins was seen working together.
        _run(npm, "install", "--legacy-peer-deps", "--ignore-scripts", "--no-audit", "--no-fund", cwd=folder)
    _run(npm, "run", "--silent", "bundle", cwd=folder)
    return folder


def _run(*command: str, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise StackError(f"{' '.join(command)} failed in {cwd}:\n{(done.stdout + done.stderr)[-2000:]}")


_HTML: Final = """<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="/page.css">
<body style="margin:0"><div id="page"></div><script type="module" src="/page.js"></script>"""


@contextmanager
def serving(page: Path, prometheus: str) -> Iterator[str]:
    """The page, the dashboards and Prometheus behind one address, as the Perses server would have them."""
    files = dashboards.files(defaults())

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers["Content-Length"])))

        def _answer(self, body: bytes | None) -> None:
            path = self.path.partition("?")[0]
            if path.startswith("/prometheus/"):
                self._pass_on(prometheus + self.path.removeprefix("/prometheus"), body)
            elif path in ("/page.js", "/page.css"):
                kind = "text/javascript" if path.endswith("js") else "text/css"
                self._send(200, kind, (page / path[1:]).read_bytes())
            elif f"dashboards/perses{path}" in files:
                self._send(200, "application/json", files[f"dashboards/perses{path}"].encode())
            elif path == "/":
                self._send(200, "text/html", _HTML.encode())
            else:
                self._send(404, "text/plain", b"")

        def _pass_on(self, url: str, body: bytes | None) -> None:
            kind = {"Content-Type": self.headers["Content-Type"]} if body is not None else {}
            try:
                with urllib.request.urlopen(urllib.request.Request(url, body, kind)) as answer:
                    self._send(200, "application/json", answer.read())
            except urllib.error.HTTPError as error:
                self._send(error.code, "application/json", error.read())

        def _send(self, code: int, kind: str, content: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


# -- the pictures --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """What the browser made of a dashboard: its height in pixels, and what stands in it where data should."""

    height: int
    wrong: Sequence[str]


def look(url: str, profile: Path) -> Seen:
    """Opens a dashboard once, in a window that is high enough for all of its panels."""
    page = _browser(profile, f"--window-size={WIDTH},6000", "--dump-dom", url)
    height = re.search(r'data-height="(\d+)"', page)
    if height is None:
        raise StackError(f"the page at {url} did not come up:\n{page[:2000]}")
    wrong = re.findall(r'data-wrong="([^"]*)"', page)
    return Seen(
        int(height[1]), [html.unescape(each) for each in wrong[0].split("\t") if each] if wrong else []
    )


def shoot(url: str, profile: Path, height: int, out: Path) -> None:
    """Writes the picture, in the fewest colours that are enough for it. Raises StackError when it stays too large."""
    _browser(profile, f"--window-size={WIDTH},{height}", f"--screenshot={out}", url)
    image: Any = importlib.import_module("PIL.Image")  # Dataface brings it; mypy's environment has not got it
    with image.open(out) as picture:
        picture.convert("RGB").quantize(256).save(out, optimize=True)
    if out.stat().st_size > LARGEST:
        raise StackError(f"{out} has {out.stat().st_size:,} bytes, and {LARGEST:,} are allowed")


def _browser(profile: Path, *arguments: str) -> str:
    command = (
        str(program("chromium")),
        "--headless",
        "--no-sandbox",  # it refuses to run as root otherwise; it loads nothing but this machine's own page
        "--disable-gpu",
        "--disable-background-networking",
        "--hide-scrollbars",
        "--virtual-time-budget=30000",
        f"--user-data-dir={profile}",
    )
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=300).stdout


def pictures(prometheus: str, out: Path, duration: str) -> list[str]:
    """Takes all of them; what is wrong on them, as `dashboard: panel: what it shows`."""
    out.mkdir(parents=True, exist_ok=True)
    wrong: list[str] = []
    with serving(bundle(), prometheus) as address, tempfile.TemporaryDirectory() as profile:
        for shown in dashboards.dashboards(defaults()):
            url = f"{address}/?dashboard={shown.name}&duration={duration}"
            seen = look(url, Path(profile))
            wrong += [f"{shown.name}: {each}" for each in seen.wrong]
            shoot(url, Path(profile), seen.height, out / f"{shown.name}.png")
            print(f"{out / shown.name}.png", flush=True)
    return wrong


# -- what they show ------------------------------------------------------------------------------------------


def built(folder: Path) -> Path:
    """The operations package for the defaults, as far as the stack reads it."""
    inputs = defaults()
    for name, text in {**collector.files(inputs), **alerts.files(inputs)}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    return folder


@contextmanager
def running(seconds: float) -> Iterator[str]:
    """A Prometheus in which real processes have been seen for that long."""
    with tempfile.TemporaryDirectory(prefix="dashboards-") as temporary:
        folder = Path(temporary)
        parts = ("collector", "jaeger", "prometheus")  # which alerts fire is for Prometheus to say
        with Stack.up(folder / "stack", ops_dir=built(folder / "built"), parts=parts) as up:
            serve(create(folder / "made" / "shop"), folder / "projects", up.environment(), seconds)
            yield up.prometheus_url


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prometheus", help="take the pictures from this one")
    parser.add_argument(
        "--minutes", type=float, default=14, help="how long processes serve before them (default: 14)"
    )
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args(arguments)
    duration = f"{int(given.minutes) + 1}m"
    # What was started is ended by its blocks, and a plain SIGTERM would leave them out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if given.prometheus:
            wrong = pictures(given.prometheus.rstrip("/"), given.out, duration)
        else:
            bundle()
            with running(given.minutes * 60) as prometheus:
                wrong = pictures(prometheus, given.out, duration)
    except StackError as error:
        print(f"render: {error}", file=sys.stderr)
        return 1
    for each in wrong:
        print(f"render: {each}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
