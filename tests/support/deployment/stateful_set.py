"""Does with a StatefulSet what Kubernetes does, as far as a receiver notices it.

That is probes, endpoints, preStop, SIGTERM, the grace period, one pod after another. Every number
comes from the manifest.
"""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.deployment.manifests import Manifest, find, image_environment, pod_of, receiver
from tests.support.receiver import ROOT, clean_environment
from tests.support.servers.redis_server import free_port

# How long the last load balancer takes to learn of a changed endpoint. preStop covers it: one or
# two seconds are usual, and the rest is a reserve.
ENDPOINTS_LAG = 3.0


class PodDeath(NamedTuple):
    """When a pod was killed, and when its process had ended (monotonic)."""

    pod: str
    began: float
    ended: float


class Pod:
    """One replica: a process, with a directory as its volume."""

    def __init__(self, name: str, overlay: str, directory: Path, environ: dict[str, str]) -> None:
        self.name = name
        self._volume = directory / name
        self._environ = environ
        self.port, self.admin_port = 0, 0
        self.process: subprocess.Popen[bytes] | None = None
        container = pod_of(receiver(overlay))["containers"][0]
        self._startup, self._readiness = container["startupProbe"], container["readinessProbe"]
        self._prestop = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        self._grace = pod_of(receiver(overlay))["terminationGracePeriodSeconds"]

    @property
    def log(self) -> str:
        return (self._volume / "log").read_text()

    def start(self) -> None:
        """Start the process, on new ports as a new pod has a new address."""
        self._volume.mkdir(parents=True, exist_ok=True)
        self.port, self.admin_port = free_port(), free_port()
        environ = clean_environment() | {
            "PYTHONPATH": str(ROOT),
            **self._environ,
            "BCL_LISTEN": f"127.0.0.1:{self.port}",
            "BCL_ADMIN_LISTEN": f"127.0.0.1:{self.admin_port}",
            "BCL_DATA_DIR": str(self._volume),
        }
        with (self._volume / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app", "serve"],
                cwd=self._volume, env=environ, stdout=log, stderr=log,
            )  # fmt: skip

    def until_ready(self) -> None:
        """Run the startup probe, then the readiness probe, with the manifest's periods."""
        for probe in (self._startup, self._readiness):
            for _ in range(60):
                if self._probe(probe):
                    break
                time.sleep(min(probe["periodSeconds"], 1))
            else:
                raise AssertionError(f"{self.name} does not become ready:\n{self.log}")

    def _probe(self, probe: dict[str, Any]) -> bool:
        kubelet = HTTPConnection("127.0.0.1", self.admin_port, timeout=probe["timeoutSeconds"])
        try:
            kubelet.request("GET", probe["httpGet"]["path"])
            return kubelet.getresponse().status == 200
        except OSError:
            return False
        finally:
            kubelet.close()

    def terminate(self) -> float:
        """Run preStop, send SIGTERM and wait for the grace period. Returns the seconds it took."""
        assert self.process is not None
        began = time.monotonic()
        time.sleep(self._prestop)
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(began + self._grace - time.monotonic())
        assert status == 0, self.log
        return time.monotonic() - began

    def kill(self) -> PodDeath:
        """Kill the process, as the kernel does without memory, or a node that loses power."""
        assert self.process is not None
        began = time.monotonic()
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        return PodDeath(self.name, began, time.monotonic())


class StatefulSet:
    """The overlay's replicas. ``added`` and ``removed`` are called for changed endpoints."""

    def __init__(
        self,
        overlay: str,
        directory: Path,
        *,
        issuer: str,
        redis_url: str,
        added: Callable[[Pod], None] = lambda _: None,
        removed: Callable[[Pod], None] = lambda _: None,
    ) -> None:
        self.manifest: Manifest = receiver(overlay)
        self._added, self._removed = added, removed
        (config,) = find(overlay, "ConfigMap", "receiver-config")
        text, changed = re.subn(
            r'^issuer = ".*"$',
            f'issuer = "{issuer}"',
            config["data"]["receiver.toml"],
            flags=re.MULTILINE,
        )
        assert changed == 1
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "receiver.toml").write_text(text)
        environ = image_environment() | {
            "BCL_CONFIG": str(directory / "receiver.toml"),
            "BCL_REDIS_URL": redis_url,
        }
        self.pods = [
            Pod(f"receiver-{n}", overlay, directory, environ)
            for n in range(self.manifest["spec"]["replicas"])
        ]

    def start(self) -> None:
        for pod in self.pods:
            pod.start()
        for pod in self.pods:
            pod.until_ready()
            self._added(pod)

    def warnings(self) -> str:
        """The unusual lines of the pods' logs, for the message of a failed test."""
        return "\n".join(
            f"{pod.name}: {line}"
            for pod in self.pods
            for line in pod.log.splitlines()
            if '"level":"info"' not in line
        )

    def stop(self) -> None:
        for pod in self.pods:
            if pod.process is not None and pod.process.poll() is None:
                pod.kill()

    def roll(self) -> list[float]:
        """Replace every pod, the last one first. Returns the seconds that each took to end."""
        assert self.manifest["spec"]["updateStrategy"]["type"] == "RollingUpdate"
        return [self._replace(pod) for pod in reversed(self.pods)]

    def _replace(self, pod: Pod) -> float:
        # Kubernetes removes the endpoint while preStop is already running.
        lag = threading.Timer(ENDPOINTS_LAG, self._removed, [pod])
        lag.start()
        seconds = pod.terminate()
        lag.join()
        self.restart(pod)
        time.sleep(self.manifest["spec"]["minReadySeconds"])
        return seconds

    def restart(self, pod: Pod) -> None:
        """Start a new process with the pod's volume."""
        pod.start()
        pod.until_ready()
        self._added(pod)
