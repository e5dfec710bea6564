"""Gets and starts the real stack: Collector, Jaeger, Prometheus, Alertmanager, VictoriaMetrics, on free loopback ports.

`python3 dev.py python -m tools.stack` starts it and waits; tests use `Stack.up`. Programs are built from Go modules or
come from Debian, and stay in `.stack/`, one folder for each version. Everything ends by its process id.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.server
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from context_telemetry.ops import build, collector
from context_telemetry.ops.inputs import defaults

ROOT: Final = Path(__file__).resolve().parent.parent
CACHE: Final = ROOT / ".stack"

JAEGER: Final = "1.76.0"
"""The Go module's version; as a product it is Jaeger 2.13."""

READY_SECONDS: Final = 60.0
STOP_SECONDS: Final = 20.0

# Program by part, with the Debian package that brings it.
DEBIAN: Final = {
    "prometheus": ("prometheus", "prometheus"),
    "promtool": ("promtool", "prometheus"),
    "alertmanager": ("prometheus-alertmanager", "prometheus-alertmanager"),
    "amtool": ("amtool", "prometheus-alertmanager"),
    "victoria": ("victoria-metrics", "victoria-metrics"),
    "chromium": ("chromium", "chromium"),
}


class StackError(RuntimeError):
    """A part cannot be had or does not start; the text says what is missing, in one line, and where its log is."""


# -- getting the parts


def program(part: str) -> Path:
    """The executable of a part: `collector`, `jaeger`, or a key of `DEBIAN`. Gets it where it is not there yet.

    Raises StackError where that needs something that this machine has not.
    """
    if part == "collector":
        return _built_collector()
    if part == "jaeger":
        return _built_jaeger()
    name, package = DEBIAN[part]
    found = shutil.which(name)
    if found is None:
        with _alone():
            if shutil.which(name) is None:
                _install(package)
        found = shutil.which(name)
    if found is None:
        raise StackError(f"{part}: the package {package} has no program {name}")
    return Path(found)


def _install(package: str) -> None:
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise StackError(f"{package} is missing: install it with apt, which needs root on Debian")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    _say(f"installing the Debian package {package}")
    install = ("apt-get", "install", "-y", "--no-install-recommends", package)
    if subprocess.run(install, env=quiet, capture_output=True).returncode:
        _run("apt-get", "update", env=quiet)  # a new machine has no lists
        _run(*install, env=quiet)


def _built_collector() -> Path:
    """The Collector with exactly the components of `collector/builder.yaml`."""
    manifest = collector.files(defaults())["collector/builder.yaml"]
    key = hashlib.sha256(manifest.encode()).hexdigest()[:12]
    name = str(yaml.safe_load(manifest)["dist"]["name"])

    def build(folder: Path) -> None:
        go = _go()
        _say(
            f"building the Collector {collector.VERSION} (about 5 minutes, 20 s when Go has built it before)"
        )
        module = f"go.opentelemetry.io/collector/cmd/builder@v{collector.VERSION}"
        _run(go, "install", module, env={**os.environ, "GOBIN": str(folder)})
        (folder / "builder.yaml").write_text(manifest, "utf-8")
        _run(str(folder / "builder"), "--config", "builder.yaml", cwd=folder)
        shutil.copy2(folder / "dist" / name, folder / "program")
        shutil.rmtree(folder / "dist")

    return _cached(f"collector-{collector.VERSION}-{key}", build)


def _built_jaeger() -> Path:
    def build(folder: Path) -> None:
        go = _go()
        _say(f"building Jaeger {JAEGER} (about 5 minutes, 20 s when Go has built it before)")
        package = "github.com/jaegertracing/jaeger/cmd/jaeger"
        # A module of its own: as a tool it brings the versions that it was released with.
        _run(go, "mod", "init", "jaegerbuild", cwd=folder)
        _run(go, "get", "-tool", f"{package}@v{JAEGER}", cwd=folder)
        _run(go, "build", "-o", "program", package, cwd=folder)

    return _cached(f"jaeger-{JAEGER}", build)


def _cached(name: str, build: Callable[[Path], None]) -> Path:
    """The program in the cache's folder of that name, built there by whoever comes first."""
    done = CACHE / name
    if not (done / "program").exists():
        with _alone():
            if not (done / "program").exists():
                half = CACHE / f"{name}.half"
                shutil.rmtree(half, ignore_errors=True)
                half.mkdir(parents=True)
                started = time.monotonic()
                build(half)
                half.replace(done)
                _say(f"{name} is ready after {time.monotonic() - started:.0f} s")
    return done / "program"


@contextmanager
def _alone() -> Iterator[None]:
    """One process at a time gets parts; the others wait for it."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _go() -> str:
    found = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if found is None:
        raise StackError(
            "Go is missing: the Collector and Jaeger are built with Go 1.25 or later (go.dev/dl)"
        )
    return found


def _run(*command: str, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise StackError(f"this failed with {done.returncode}: {' '.join(command)}\n{last}")


def _say(text: str) -> None:
    print(f"stack: {text}", file=sys.stderr, flush=True)


# -- processes


@dataclass
class Process:
    """One started program; it can be stopped, killed and started again with the same ports and folders."""

    name: str
    command: Sequence[str]
    log: Path
    ready: str
    """A URL that answers with 200 when it is."""
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it and waits for its health. Raises StackError with the end of its log when it does not come."""
        with self.log.open("ab") as log:
            self.running = subprocess.Popen(
                self.command,
                cwd=self.cwd,
                env={**os.environ, **self.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + READY_SECONDS
        while not _answers(self.ready):
            ended = self.running.poll()
            if ended is not None or time.monotonic() > deadline:
                self.stop()
                what = "is not ready" if ended is None else f"ended with {ended}"
                last = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
                raise StackError(f"{self.name} {what}, see {self.log}:\n{last}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Asks it to end, and kills it where it does not."""
        if self.running is None:
            return
        self.running.terminate()
        try:
            self.running.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.running.kill()
            self.running.wait()
        self.running = None

    def kill(self) -> None:
        """Ends it at once, as an out-of-memory killer does."""
        if self.running is not None:
            self.running.send_signal(signal.SIGKILL)
            self.running.wait()
            self.running = None

    @property
    def cpu_seconds(self) -> float:
        """Processor time that it has taken so far."""
        assert self.running is not None
        fields = Path(f"/proc/{self.running.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def memory_bytes(self) -> int:
        """Resident memory."""
        assert self.running is not None
        status = Path(f"/proc/{self.running.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        return int(found.group(1)) * 1024 if found else 0


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different."""
    with ExitStack() as opened:
        sockets = [opened.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def get_json(url: str) -> Any:
    """What an API answers. Raises URLError."""
    with urllib.request.urlopen(url, timeout=60) as answer:
        return json.load(answer)


def get_text(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def wait_until(
    what: str, true: Callable[[], Any], seconds: float = READY_SECONDS, every: float = 0.25
) -> Any:
    """What ``true`` gives once that is true. Raises AssertionError with ``what`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        found = None
        with contextlib.suppress(OSError):  # whom it asks may be starting
            found = true()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what} (last: {found!r})")
        time.sleep(every)


# -- what Alertmanager tells


@dataclass(frozen=True)
class Page:
    """One request that a webhook got: the path says which receiver, `body` is Alertmanager's message."""

    path: str
    at: float
    body: Mapping[str, Any]

    @property
    def alerts(self) -> list[Mapping[str, Any]]:
        return list(self.body.get("alerts", ()))


class Pages:
    """A receiver of webhooks on loopback that keeps what it gets in `all`."""

    def __init__(self, port: int = 0) -> None:
        self.all: list[Page] = []
        kept = self.all

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                kept.append(Page(self.path, time.time(), json.loads(body or b"{}")))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def about(self, alert: str, status: str = "firing") -> list[Page]:
        """The pages with that alert in that state."""
        return [
            page
            for page in self.all
            if any(a["labels"].get("alertname") == alert and a["status"] == status for a in page.alerts)
        ]


# -- the stack


PARTS: Final = ("collector", "jaeger", "prometheus", "alertmanager", "victoria", "agent")


@dataclass
class Stack:
    """The running parts. Addresses are empty for those that were not asked for."""

    folder: Path
    ops_dir: Path
    processes: dict[str, Process] = field(default_factory=dict)
    pages: Pages | None = None
    otlp_grpc: str = ""
    """Where processes send: the agent's address where there is one, else the gateway's."""
    otlp_http: str = ""
    metrics_url: str = ""
    """The gateway's metrics that are derived; `others_url` those that others counted, `telemetry_url` its own."""
    others_url: str = ""
    telemetry_url: str = ""
    jaeger_url: str = ""
    prometheus_url: str = ""
    alertmanager_url: str = ""
    victoria_url: str = ""
    _jaeger_otlp: str = ""

    @classmethod
    @contextmanager
    def up(
        cls,
        folder: Path,
        *,
        ops_dir: Path | None = None,
        parts: Collection[str] = ("collector", "jaeger", "prometheus", "alertmanager"),
        env: Mapping[str, str] | None = None,
        overlays: Sequence[Path] = (),
        scrape: str | None = None,
        gateways: Sequence[str] = (),
    ) -> Iterator[Stack]:
        """Starts ``parts`` of `PARTS` and ends them afterwards; logs and data are in ``folder``.

        The files that are run are those of ``ops_dir`` (default: built from the defaults) byte for byte: ports are
        environment variables of the Collector, flags of the others, and `collector/targets/` for Prometheus. ``env``
        is for the gateway, ``overlays`` are further configurations for it. ``scrape`` (as `1s`) is for tests that
        cannot wait: Prometheus then runs the same file with that interval. ``gateways`` are the `otlp_grpc` of
        gateways elsewhere, for the agent beside its own. Raises StackError.
        """
        unknown = set(parts) - set(PARTS)
        if unknown:
            raise ValueError(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
        folder.mkdir(parents=True, exist_ok=True)
        stack = cls(folder.resolve(), _copied(ops_dir, folder.resolve() / "ops"))
        try:
            for part in ("jaeger", "collector", "agent", "alertmanager", "prometheus", "victoria"):
                if part not in parts:
                    continue
                if part == "collector":
                    stack._gateway(env or {}, overlays)
                elif part == "agent":
                    stack._agent(gateways)
                elif part == "prometheus":
                    stack._prometheus(scrape)
                else:
                    getattr(stack, f"_{part}")()
            yield stack
        finally:
            for process in reversed(list(stack.processes.values())):
                process.stop()
            if stack.pages is not None:
                stack.pages.close()

    def process(self, name: str) -> Process:
        """A part's process, by the part's name."""
        return self.processes[name]

    def storage(self, name: str) -> Path:
        """Where the gateway (`collector`) or the `agent` keeps queues and events."""
        return self.folder / name

    def environment(self) -> dict[str, str]:
        """What an observed process is started with."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.otlp_grpc, "OTEL_EXPORTER_OTLP_INSECURE": "true"}

    def query(self, expression: str, at: float | None = None) -> list[tuple[dict[str, str], float]]:
        """Prometheus' answer now, as (labels, number)."""
        return query(self.prometheus_url, expression, at)

    def traces(self, service: str = "dataface", **tags: str) -> list[dict[str, Any]]:
        """What Jaeger has of a service, with these tags on a span."""
        asked = {"service": service, "limit": "100000", "lookback": "1h"}
        if tags:
            asked["tags"] = json.dumps({key.replace("__", "."): value for key, value in tags.items()})
        url = f"{self.jaeger_url}/api/traces?{urllib.parse.urlencode(asked)}"
        return list(get_json(url)["data"] or ())

    def _start(self, name: str, command: Sequence[str], ready: str, **options: Any) -> Process:
        process = Process(name, command, self.folder / f"{name}.log", ready, **options)
        self.processes[name] = process
        process.start()
        return process

    def _collector(
        self, name: str, config: str, more: Mapping[str, str], overlays: Sequence[Path]
    ) -> dict[str, int]:
        names = ("GRPC", "HTTP", "METRICS", "OTHERS", "TELEMETRY", "HEALTH", "DERIVE")
        ports = dict(zip(names, free_ports(len(names)), strict=True))
        env = {f"COLLECTOR_{key}_PORT": str(port) for key, port in ports.items()}
        env["COLLECTOR_STORAGE"] = str(self.storage(name))
        command = [str(program("collector")), "--config", str(self.ops_dir / "collector" / config)]
        for overlay in overlays:
            command += ["--config", str(overlay)]
        ready = f"http://127.0.0.1:{ports['HEALTH']}/health"
        self._start(name, command, ready, env={**env, **more})
        self.otlp_grpc = f"http://127.0.0.1:{ports['GRPC']}"
        self.otlp_http = f"http://127.0.0.1:{ports['HTTP']}"
        return ports

    def _gateway(self, env: Mapping[str, str], overlays: Sequence[Path]) -> None:
        traces = self._jaeger_otlp or f"127.0.0.1:{free_ports(1)[0]}"
        ports = self._collector("collector", "gateway.yaml", {"TRACES_ENDPOINT": traces, **env}, overlays)
        self.metrics_url = f"http://127.0.0.1:{ports['METRICS']}/metrics"
        self.others_url = f"http://127.0.0.1:{ports['OTHERS']}/metrics"
        self.telemetry_url = f"http://127.0.0.1:{ports['TELEMETRY']}/metrics"
        targets = {
            "derived": [f"127.0.0.1:{ports['METRICS']}"],
            "others": [f"127.0.0.1:{ports['OTHERS']}"],
            "telemetry": [f"127.0.0.1:{ports['TELEMETRY']}"],
        }
        for target, addresses in targets.items():
            self._target(target, addresses)

    def _agent(self, others: Sequence[str]) -> None:
        gateways = [each.removeprefix("http://") for each in (self.otlp_grpc, *others) if each]
        self._collector("agent", "agent.yaml", {"GATEWAYS": json.dumps(gateways)}, ())

    def _jaeger(self) -> None:
        otlp, query_http, query_grpc, health = free_ports(4)
        config = {
            "extensions": {
                "healthcheckv2": {
                    "use_v2": True,
                    "http": {
                        "endpoint": f"127.0.0.1:{health}",
                        "status": {"enabled": True, "path": "/status"},
                    },
                },
                "jaeger_storage": {"backends": {"memory": {"memory": {"max_traces": 1_000_000}}}},
                "jaeger_query": {
                    "storage": {"traces": "memory"},
                    "http": {"endpoint": f"127.0.0.1:{query_http}"},
                    "grpc": {"endpoint": f"127.0.0.1:{query_grpc}"},
                },
            },
            "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": f"127.0.0.1:{otlp}"}}}},
            "exporters": {"jaeger_storage_exporter": {"trace_storage": "memory"}},
            "service": {
                "extensions": ["healthcheckv2", "jaeger_storage", "jaeger_query"],
                "telemetry": {"metrics": {"level": "none"}},
                "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["jaeger_storage_exporter"]}},
            },
        }
        path = self.folder / "jaeger.yaml"
        path.write_text(yaml.safe_dump(config), "utf-8")
        command = [str(program("jaeger")), "--config", str(path)]
        self._start("jaeger", command, f"http://127.0.0.1:{health}/status")
        self._jaeger_otlp = f"127.0.0.1:{otlp}"
        self.jaeger_url = f"http://127.0.0.1:{query_http}"

    def _alertmanager(self) -> None:
        config = self.ops_dir / "alerts" / "alertmanager.yaml"
        told = re.findall(
            r"http://(?:127\.0\.0\.1|localhost):(\d+)", config.read_text() if config.exists() else ""
        )
        self.pages = Pages(int(told[0]) if told else 0)
        if not config.exists():
            config = self.folder / "alertmanager.yaml"
            receiver = {"name": "all", "webhook_configs": [{"url": self.pages.url}]}
            route = {"receiver": "all", "group_wait": "1s", "group_interval": "5s"}
            config.write_text(yaml.safe_dump({"route": route, "receivers": [receiver]}), "utf-8")
        (port,) = free_ports(1)
        self.alertmanager_url = f"http://127.0.0.1:{port}"
        command = [
            str(program("alertmanager")),
            f"--config.file={config}",
            f"--web.listen-address=127.0.0.1:{port}",
            f"--storage.path={self.folder / 'alertmanager'}",
            "--cluster.listen-address=",
        ]
        self._start("alertmanager", command, f"{self.alertmanager_url}/-/ready")
        self._target("alertmanager", [f"127.0.0.1:{port}"])

    def _prometheus(self, scrape: str | None) -> None:
        config = self.ops_dir / "collector" / "prometheus.yaml"
        if scrape is not None:
            hurried = yaml.safe_load(config.read_text("utf-8"))
            hurried["global"] |= {"scrape_interval": scrape, "evaluation_interval": scrape}
            config = config.with_name(
                "prometheus.hurried.yaml"
            )  # beside it, for what it names by relative paths
            config.write_text(yaml.safe_dump(hurried), "utf-8")
        (port,) = free_ports(1)
        self.prometheus_url = f"http://127.0.0.1:{port}"
        command = [
            str(program("prometheus")),
            f"--config.file={config}",
            f"--storage.tsdb.path={self.folder / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        self._start("prometheus", command, f"{self.prometheus_url}/-/ready")

    def _victoria(self) -> None:
        """VictoriaMetrics, which scrapes the same targets by the same file."""
        config = yaml.safe_load((self.ops_dir / "collector" / "prometheus.yaml").read_text("utf-8"))
        kept = {key: value for key, value in config.items() if key in ("global", "scrape_configs")}
        kept["global"] = {key: value for key, value in kept["global"].items() if key != "evaluation_interval"}
        path = self.ops_dir / "collector" / "victoria.yaml"  # it refuses what is for rules and alerts
        path.write_text(yaml.safe_dump(kept), "utf-8")
        (port,) = free_ports(1)
        self.victoria_url = f"http://127.0.0.1:{port}"
        command = [
            str(program("victoria")),
            f"-storageDataPath={self.folder / 'victoria'}",
            f"-httpListenAddr=127.0.0.1:{port}",
            f"-promscrape.config={path}",
            "-search.latencyOffset=1s",
        ]
        self._start("victoria", command, f"{self.victoria_url}/health")

    def _target(self, name: str, addresses: list[str]) -> None:
        path = self.ops_dir / "collector" / "targets" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump([{"targets": addresses}]), "utf-8")


def query(url: str, expression: str, at: float | None = None) -> list[tuple[dict[str, str], float]]:
    """An instant query of any Prometheus-compatible API, as (labels, number)."""
    asked = {"query": expression, **({} if at is None else {"time": str(at)})}
    answer = get_json(f"{url}/api/v1/query?{urllib.parse.urlencode(asked)}")
    return [(dict(row["metric"]), float(row["value"][1])) for row in answer["data"]["result"]]


def _copied(ops_dir: Path | None, to: Path) -> Path:
    """A copy of the built folder, whose `collector/targets/` is then written."""
    if ops_dir is not None:
        shutil.copytree(ops_dir, to)
        return to
    for name, text in build.generate(defaults()).items():
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        (to / name).write_text(text, "utf-8")
    return to


def exit_on_sigterm() -> None:
    """From now on SIGTERM ends this process as an exit does: what it has started is ended, too."""

    def leave(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_IGN)  # a second one does not end the ending
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, leave)


def main() -> int:
    """Starts the whole stack for a look, says where everything is, and ends it with Ctrl-C or SIGTERM."""
    exit_on_sigterm()
    folder = CACHE / "running"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with Stack.up(folder, parts=("collector", "jaeger", "prometheus", "alertmanager")) as stack:
            for name in (
                "otlp_grpc",
                "otlp_http",
                "metrics_url",
                "jaeger_url",
                "prometheus_url",
                "alertmanager_url",
            ):
                print(f"{name:17} {getattr(stack, name)}")
            print(f"logs              {stack.folder}\nCtrl-C ends it", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
    except StackError as error:
        print(f"stack: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
