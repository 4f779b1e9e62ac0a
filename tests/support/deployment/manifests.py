"""The Kubernetes manifests as kubectl renders them."""

import functools
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.config.load import load
from app.config.model import Settings

ROOT = Path(__file__).parents[3]
MONITORING = "monitoring"
"""The overlay without a receiver, which is applied in addition to another one."""
OVERLAYS = sorted(
    path.name for path in (ROOT / "k8s/overlays").iterdir() if path.name != MONITORING
)
WORKLOADS = {"StatefulSet", "Deployment", "DaemonSet", "Job"}

Manifest = dict[str, Any]


@functools.cache
def rendered(overlay: str) -> str:
    """An overlay as YAML. Skips the test without a tool that renders it."""
    return render(ROOT / "k8s/overlays" / overlay)


def render(directory: Path) -> str:
    """Render a directory with a ``kustomization.yaml``. Skips the test as `rendered` does."""
    if shutil.which("kustomize"):
        command = ["kustomize", "build"]
    elif shutil.which("kubectl"):
        command = ["kubectl", "kustomize"]
    else:
        pytest.skip("neither kustomize nor kubectl is installed")
    done = subprocess.run(
        [*command, str(directory)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@functools.cache
def manifests(overlay: str) -> tuple[Manifest, ...]:
    """The manifests of an overlay. Copy one before changing it."""
    return tuple(yaml.safe_load_all(rendered(overlay)))


def find(overlay: str, kind: str, name: str | None = None) -> list[Manifest]:
    """The manifests of a kind; with ``name``, only those whose name starts with it, since generated
    names end with a hash."""
    return [
        manifest
        for manifest in manifests(overlay)
        if manifest["kind"] == kind and manifest["metadata"]["name"].startswith(name or "")
    ]


def receiver(overlay: str) -> Manifest:
    """The receiver's StatefulSet or Deployment."""
    return next(it for it in workloads(overlay) if it["metadata"]["name"] == "receiver")


def workloads(overlay: str) -> Iterator[Manifest]:
    return (it for it in manifests(overlay) if it["kind"] in WORKLOADS)


def pod_of(workload: Manifest) -> Manifest:
    pod: Manifest = workload["spec"]["template"]["spec"]
    return pod


def settings(overlay: str, directory: Path) -> Settings:
    """The settings of the receiver in the pod: the ConfigMap's file, the image's and the pod's
    environment. Secrets are placeholders of the right form."""
    (config,) = find(overlay, "ConfigMap", "receiver-config")
    path = directory / "receiver.toml"
    text: str = config["data"]["receiver.toml"]
    for path_in_pod in re.findall(r'_file = "([^"]+)"', text):
        secret = directory / path_in_pod.rpartition("/")[2]
        secret.write_text("a-secret-of-the-right-form-" * 2)
        text = text.replace(path_in_pod, str(secret))
    path.write_text(text)
    environ = image_environment()
    for variable in pod_of(receiver(overlay))["containers"][0]["env"]:
        value = variable.get("value", "redis://receiver:secret@redis:6379/0")
        environ[variable["name"]] = value
    environ["BCL_CONFIG"] = str(path)
    return load(environ=environ)


def image_environment() -> dict[str, str]:
    """The settings in the Dockerfile."""
    words = (ROOT / "Dockerfile").read_text().split()
    return dict(word.split("=", 1) for word in words if word.startswith("BCL_"))
