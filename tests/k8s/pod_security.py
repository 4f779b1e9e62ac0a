"""Checks the restricted Pod Security Standard, which a cluster enforces, and a little more.

https://kubernetes.io/docs/concepts/security/pod-security-standards/ names the fields; this checks
each of them, so that a test says which one is wrong, without a cluster.
"""

from collections.abc import Iterator
from typing import Any

# Volumes of the restricted standard.
_VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim",
    "projected", "secret",
}  # fmt: skip
_SECCOMP = {"RuntimeDefault", "Localhost"}
_APPARMOR = {None, "RuntimeDefault", "Localhost"}


def violations(pod: dict[str, Any]) -> Iterator[str]:
    """A line for each violation in a pod's spec."""
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(field):
            yield field
    for volume in pod.get("volumes", []):
        if kinds := volume.keys() - {"name"} - _VOLUMES:
            yield f"volume {volume['name']}: {sorted(kinds)}"
    of_pod = pod.get("securityContext", {})
    if of_pod.get("sysctls"):
        yield "sysctls"
    if of_pod.get("windowsOptions", {}).get("hostProcess"):
        yield "hostProcess"
    if pod.get("ephemeralContainers"):
        yield "ephemeralContainers"
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        for fault in _of_container(container, of_pod):
            yield f"{container['name']}: {fault}"


def _of_container(container: dict[str, Any], of_pod: dict[str, Any]) -> Iterator[str]:
    own = container.get("securityContext", {})
    both = of_pod | own
    capabilities = own.get("capabilities", {})
    probes = (container.get(f"{kind}Probe", {}) for kind in ("liveness", "readiness", "startup"))
    faults = {
        "privileged": own.get("privileged"),
        "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is not False,
        "capabilities are not dropped": "ALL" not in capabilities.get("drop", []),
        "capabilities are added": set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"},
        "runAsNonRoot": both.get("runAsNonRoot") is not True,
        "runAsUser": both.get("runAsUser") == 0,
        "seccompProfile": both.get("seccompProfile", {}).get("type") not in _SECCOMP,
        "appArmorProfile": both.get("appArmorProfile", {}).get("type") not in _APPARMOR,
        "seLinuxOptions": both.get("seLinuxOptions"),
        "procMount": own.get("procMount", "Default") != "Default",
        "hostPort": any(port.get("hostPort") for port in container.get("ports", [])),
        "a probe of another host": any(probe.get("httpGet", {}).get("host") for probe in probes),
        # Stricter than the standard.
        "readOnlyRootFilesystem": own.get("readOnlyRootFilesystem") is not True,
    }
    return (fault for fault, found in faults.items() if found)
