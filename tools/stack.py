"""The real stack: Collector, Jaeger, Prometheus, Alertmanager, VictoriaMetrics, started as one with the shipped files.

`python3 dev.py python -m tools.stack` starts it and waits; tests use `Stack.up`. `programs` gets the parts, `processes`
starts and ends each, `webhooks` receives what Alertmanager tells.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import sys
import urllib.parse
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from context_telemetry.ops import build
from context_telemetry.ops.inputs import defaults
from tools.processes import Process, exit_on_sigterm, free_ports, get_json
from tools.programs import CACHE, StackError, program
from tools.webhooks import Pages

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
