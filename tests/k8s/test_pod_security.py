"""Every pod of every overlay meets the restricted standard, which the namespace enforces."""

import copy
from typing import Any

import pytest

from tests.k8s.pod_security import violations
from tests.support.deployment.manifests import OVERLAYS, find, pod_of, receiver, workloads


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_pod_meets_the_restricted_standard(overlay):
    for workload in workloads(overlay):
        assert list(violations(pod_of(workload))) == [], workload["metadata"]["name"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_namespace_enforces_it(overlay):
    (namespace,) = find(overlay, "Namespace")
    labels = namespace["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_pod_gets_a_cluster_token_or_service_variables(overlay):
    for workload in workloads(overlay):
        pod = pod_of(workload)
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
    (account,) = find(overlay, "ServiceAccount", "receiver")
    assert account["automountServiceAccountToken"] is False


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_user_is_the_images(overlay):
    context = pod_of(receiver(overlay))["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (65532,) * 3


CONTAINER = ("containers", 0)
WRONG: list[tuple[tuple[str | int, ...], Any, str]] = [
    (("hostNetwork",), True, "hostNetwork"),
    (("hostPID",), True, "hostPID"),
    (("volumes",), [{"name": "x", "hostPath": {"path": "/"}}], "volume x: ['hostPath']"),
    (("securityContext", "runAsNonRoot"), False, "receiver: runAsNonRoot"),
    (("securityContext", "runAsUser"), 0, "receiver: runAsUser"),
    (("securityContext", "seccompProfile"), {"type": "Unconfined"}, "receiver: seccompProfile"),
    (("securityContext", "sysctls"), [{"name": "net.core.somaxconn"}], "sysctls"),
    ((*CONTAINER, "securityContext", "privileged"), True, "receiver: privileged"),
    (
        (*CONTAINER, "securityContext", "allowPrivilegeEscalation"),
        None,
        "receiver: allowPrivilegeEscalation",
    ),
    (
        (*CONTAINER, "securityContext", "capabilities"),
        {"drop": ["NET_RAW"]},
        "receiver: capabilities are not dropped",
    ),
    (
        (*CONTAINER, "securityContext", "capabilities"),
        {"drop": ["ALL"], "add": ["SYS_ADMIN"]},
        "receiver: capabilities are added",
    ),
    ((*CONTAINER, "securityContext", "procMount"), "Unmasked", "receiver: procMount"),
    (
        (*CONTAINER, "securityContext", "readOnlyRootFilesystem"),
        False,
        "receiver: readOnlyRootFilesystem",
    ),
    ((*CONTAINER, "ports"), [{"containerPort": 80, "hostPort": 80}], "receiver: hostPort"),
]


@pytest.mark.parametrize(("path", "value", "fault"), WRONG, ids=[fault for _, _, fault in WRONG])
def test_a_pod_with_one_thing_wrong_is_found(path, value, fault):
    pod = copy.deepcopy(pod_of(receiver("production")))
    place = pod
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    # Our containers set runAsNonRoot; the pod's value is only a default.
    if path == ("securityContext", "runAsNonRoot"):
        del pod["containers"][0]["securityContext"]["runAsNonRoot"]
    assert fault in list(violations(pod))
