"""What Kubernetes does with a StatefulSet, for as much as the receiver notices of it: probes,
endpoints, preStop, SIGTERM, the grace period, one pod after the other. Every wait and every number
is the manifest's."""

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

from tests.support.manifests import Manifest, find, image_environment, pod_of, receiver
from tests.support.receiver import ROOT, clean_environment
from tests.support.redis_server import free_port

# How long it takes until the last load balancer has heard of a changed endpoint. preStop is for
# this; a second or two is usual, and the rest of preStop is for a slow day.
ENDPOINTS_LAG = 3.0


class Death(NamedTuple):
    """When a pod was killed, and when it was gone (monotonic)."""

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
        """The process, on new ports, as a new pod has a new address."""
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
        """Startup probe, then readiness probe, each as often as the manifest says."""
        for probe in (self._startup, self._readiness):
            for _ in range(60):
                if self._probe(probe):
                    break
                time.sleep(min(probe["periodSeconds"], 1))
            else:
                raise AssertionError(f"{self.name} does not get ready:\n{self.log}")

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
        """preStop, SIGTERM, and the rest of the grace period; how much of it was needed."""
        assert self.process is not None
        began = time.monotonic()
        time.sleep(self._prestop)
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(began + self._grace - time.monotonic())
        assert status == 0, self.log
        return time.monotonic() - began

    def kill(self) -> Death:
        """As the kernel does when memory is short, or a node that loses power."""
        assert self.process is not None
        began = time.monotonic()
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        return Death(self.name, began, time.monotonic())


class StatefulSet:
    """The overlay's replicas. ``added`` and ``removed`` are told what the endpoints are."""

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

    def complaints(self) -> str:
        """What the pods' logs say beyond the ordinary, for whoever reads a failure."""
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
        """Replace every pod, the last one first; how long each needed to end."""
        assert self.manifest["spec"]["updateStrategy"]["type"] == "RollingUpdate"
        return [self._replace(pod) for pod in reversed(self.pods)]

    def _replace(self, pod: Pod) -> float:
        # The endpoint goes while preStop already runs: Kubernetes does both at once.
        lag = threading.Timer(ENDPOINTS_LAG, self._removed, [pod])
        lag.start()
        needed = pod.terminate()
        lag.join()
        self.restart(pod)
        time.sleep(self.manifest["spec"]["minReadySeconds"])
        return needed

    def restart(self, pod: Pod) -> None:
        """A new process for it, with its volume."""
        pod.start()
        pod.until_ready()
        self._added(pod)
