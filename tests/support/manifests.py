"""The Kubernetes manifests as an operator's kubectl renders them."""

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

ROOT = Path(__file__).parents[2]
MONITORING = "monitoring"
"""The overlay that stands beside another one, without a receiver."""
OVERLAYS = sorted(
    path.name for path in (ROOT / "k8s/overlays").iterdir() if path.name != MONITORING
)
WORKLOADS = {"StatefulSet", "Deployment", "DaemonSet", "Job"}

Manifest = dict[str, Any]


@functools.cache
def rendered(overlay: str) -> str:
    """Everything of an overlay, as YAML; skips the test where nothing can render it."""
    return render(ROOT / "k8s/overlays" / overlay)


def render(directory: Path) -> str:
    """What a directory with a ``kustomization.yaml`` makes; skips as `rendered`."""
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
    """Everything of an overlay. Whoever changes one copies it first."""
    return tuple(yaml.safe_load_all(rendered(overlay)))


def find(overlay: str, kind: str, name: str | None = None) -> list[Manifest]:
    """All of a kind; with ``name`` those whose name begins with it: generated ones have a hash."""
    return [
        one
        for one in manifests(overlay)
        if one["kind"] == kind and one["metadata"]["name"].startswith(name or "")
    ]


def receiver(overlay: str) -> Manifest:
    """The receiver's StatefulSet or Deployment."""
    return next(one for one in workloads(overlay) if one["metadata"]["name"] == "receiver")


def workloads(overlay: str) -> Iterator[Manifest]:
    return (one for one in manifests(overlay) if one["kind"] in WORKLOADS)


def pod_of(workload: Manifest) -> Manifest:
    pod: Manifest = workload["spec"]["template"]["spec"]
    return pod


def settings(overlay: str, directory: Path) -> Settings:
    """What the receiver in the pod is told: the ConfigMap's file, the image's and the pod's
    environment. Of secrets, something of the right form."""
    (config,) = find(overlay, "ConfigMap", "receiver-config")
    path = directory / "receiver.toml"
    text: str = config["data"]["receiver.toml"]
    for place in re.findall(r'_file = "([^"]+)"', text):
        (directory / place.rpartition("/")[2]).write_text("a-secret-of-the-right-form-" * 2)
        text = text.replace(place, str(directory / place.rpartition("/")[2]))
    path.write_text(text)
    environ = image_environment()
    for one in pod_of(receiver(overlay))["containers"][0]["env"]:
        environ[one["name"]] = one.get("value", "redis://receiver:secret@redis:6379/0")
    environ["BCL_CONFIG"] = str(path)
    return load(environ=environ)


def image_environment() -> dict[str, str]:
    """The settings that the Dockerfile makes."""
    words = (ROOT / "Dockerfile").read_text().split()
    return dict(word.split("=", 1) for word in words if word.startswith("BCL_"))
