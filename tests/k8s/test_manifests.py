"""The promises of the manifests, computed from them and the settings."""

import os
import re

import pytest
import yaml

from tests.support.deployment.manifests import (
    OVERLAYS,
    ROOT,
    find,
    manifests,
    pod_of,
    receiver,
    render,
    settings,
    workloads,
)

SPARE_SECONDS = 5
STATEFUL = [overlay for overlay in OVERLAYS if overlay != "stateless"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_grace_period_is_the_sum_of_the_shutdown_steps(overlay, tmp_path):
    pod = pod_of(receiver(overlay))
    told = settings(overlay, tmp_path)
    wait = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    needed = wait + told.drain + told.shutdown_grace + SPARE_SECONDS
    assert pod["terminationGracePeriodSeconds"] == needed


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_load_balancer_that_only_probes_sees_the_end_within_the_drain(overlay, tmp_path):
    """`/readyz` reports stopping from the beginning of the drain."""
    probe = pod_of(receiver(overlay))["containers"][0]["readinessProbe"]
    sleep = pod_of(receiver(overlay))["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert (
        probe["periodSeconds"] * probe["failureThreshold"]
        <= sleep + settings(overlay, tmp_path).drain
    )


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_probes_use_the_admin_listener_and_liveness_is_not_readiness(overlay, tmp_path):
    (container,) = pod_of(receiver(overlay))["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    told = settings(overlay, tmp_path)
    ours = {"public": told.listen, "admin": told.admin_listen, "account": told.account_listen}
    assert ports == {name: at[1] for name, at in ours.items() if at is not None}
    assert ("account" in ports) == (overlay == "account")
    assert told.listen[0] == told.admin_listen[0] == "0.0.0.0"  # noqa: S104  the pod's address
    for probe, path in [("startupProbe", "/livez"), ("livenessProbe", "/livez"),
                        ("readinessProbe", "/readyz")]:  # fmt: skip
        assert container[probe]["httpGet"] == {"path": path, "port": "admin"}


@pytest.mark.parametrize("overlay", STATEFUL)
def test_the_journal_is_on_a_volume_that_outlives_the_pod_and_is_large_enough(overlay, tmp_path):
    workload, told = receiver(overlay), settings(overlay, tmp_path)
    assert workload["kind"] == "StatefulSet"
    assert told.journal_path is not None
    (claim,) = workload["spec"]["volumeClaimTemplates"]
    (mount,) = [
        one
        for one in pod_of(workload)["containers"][0]["volumeMounts"]
        if one["name"] == claim["metadata"]["name"]
    ]
    assert told.journal_path.is_relative_to(mount["mountPath"])
    size = int(claim["spec"]["resources"]["requests"]["storage"].removesuffix("Gi")) << 30
    assert told.journal_max_bytes + told.recovery_max_bytes < size / 2
    keep = workload["spec"]["persistentVolumeClaimRetentionPolicy"]
    assert keep == {"whenDeleted": "Retain", "whenScaled": "Retain"}


@pytest.mark.parametrize("overlay", STATEFUL)
def test_an_update_takes_one_pod_at_a_time_and_waits(overlay):
    spec = receiver(overlay)["spec"]
    assert spec["updateStrategy"] == {"type": "RollingUpdate"}
    readiness = pod_of(receiver(overlay))["containers"][0]["readinessProbe"]
    assert spec["minReadySeconds"] >= readiness["periodSeconds"]
    assert not find(overlay, "HorizontalPodAutoscaler")


def test_the_stateless_component_has_no_journal_and_is_scaled_by_load(tmp_path):
    workload = receiver("stateless")
    assert workload["kind"] == "Deployment"
    assert settings("stateless", tmp_path).journal_path is None
    assert "volumeClaimTemplates" not in workload["spec"]
    assert "replicas" not in workload["spec"]
    assert workload["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert {volume["name"] for volume in pod_of(workload)["volumes"]} == {"config"}
    (scaler,) = find("stateless", "HorizontalPodAutoscaler")
    assert scaler["spec"]["scaleTargetRef"]["kind"] == "Deployment"
    assert scaler["spec"]["minReplicas"] >= 2


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_disruption_takes_one_receiver_at_most(overlay):
    (budget,) = find(overlay, "PodDisruptionBudget", "receiver")
    assert budget["spec"]["maxUnavailable"] == 1
    labels = receiver(overlay)["spec"]["template"]["metadata"]["labels"]
    assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_ingress_leads_to_the_admin_service(overlay):
    for ingress in find(overlay, "Ingress"):
        assert ingress["spec"]["tls"]
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                assert path["path"] == "/backchannel-logout"
                assert path["backend"]["service"] == {
                    "name": "receiver",
                    "port": {"name": "public"},
                }
    assert not [
        one
        for one in find(overlay, "Service")
        if one["spec"].get("type", "ClusterIP") != "ClusterIP"
    ]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_all_traffic_is_denied_by_default(overlay):
    (default,) = find(overlay, "NetworkPolicy", "default-deny")
    assert default["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_port_is_open_to_its_own_namespaces_only(overlay):
    """Those of the ingress controller, Prometheus and, if enabled, the apps."""
    (policy,) = find(overlay, "NetworkPolicy", "receiver")
    opened = {
        port["port"]: [
            next(iter(peer["namespaceSelector"]["matchLabels"])) for peer in rule["from"]
        ]
        for rule in policy["spec"]["ingress"]
        for port in rule["ports"]
    }
    assert opened == {
        "public": ["backchannel-logout/ingress"],
        "admin": ["backchannel-logout/monitoring"],
    } | ({"account": ["backchannel-logout/apps"]} if overlay == "account" else {})


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_receiver_reaches_only_dns_redis_sentinels_and_providers(overlay):
    (policy,) = find(overlay, "NetworkPolicy", "receiver")
    ports = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
    assert ports == {53, 6379, 26379, 443} | ({8080} if overlay == "dev" else set())
    for rule in policy["spec"]["egress"]:
        for peer in rule["to"]:
            block = peer.get("ipBlock", {})
            if block.get("cidr") == "0.0.0.0/0":
                assert "169.254.0.0/16" in block["except"], "the cloud's metadata service"


def test_users_own_sessions_have_a_service_and_their_secrets_are_files(tmp_path):
    (service,) = find("account", "Service", "receiver-account")
    pod = pod_of(receiver("account"))
    (container,) = pod["containers"]
    told = settings("account", tmp_path)
    assert told.account_listen == ("0.0.0.0", 9100)  # noqa: S104  the pod's address
    assert service["spec"]["ports"] == [{"name": "account", "port": 9100, "targetPort": "account"}]
    assert service["spec"]["selector"].items() <= (
        receiver("account")["spec"]["template"]["metadata"]["labels"].items()
    )
    (volume,) = [one for one in pod["volumes"] if one["name"] == "account"]
    assert volume["secret"] == {"secretName": "receiver-account", "defaultMode": 0o440}
    (mount,) = [one for one in container["volumeMounts"] if one["name"] == "account"]
    (config,) = find("account", "ConfigMap", "receiver-config")
    named = re.findall(r'_file = "([^"]+)"', config["data"]["receiver.toml"])
    assert named
    assert all(one.startswith(mount["mountPath"] + "/") for one in named)


@pytest.mark.slow
@pytest.mark.parametrize("overlay", ["stateless", "sentinel", "dev"])
def test_users_own_sessions_combine_with_every_other_overlay(overlay, tmp_path):
    text = f"""
resources: [{os.path.relpath(ROOT / "k8s/overlays" / overlay, tmp_path)}]
components: [{os.path.relpath(ROOT / "k8s/components/account", tmp_path)}]
"""
    (tmp_path / "kustomization.yaml").write_text(text)
    found = {one["kind"]: one for one in yaml.safe_load_all(render(tmp_path))
             if one["metadata"]["name"] == "receiver"}  # fmt: skip
    (workload,) = [found[kind] for kind in ("StatefulSet", "Deployment") if kind in found]
    ports = [one["name"] for one in pod_of(workload)["containers"][0]["ports"]]
    assert ports == ["public", "admin", "account"]
    assert "account" in [one["port"] for rule in found["NetworkPolicy"]["spec"]["ingress"]
                         for one in rule["ports"]]  # fmt: skip


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_changed_setting_rolls_the_pods(overlay):
    (config,) = find(overlay, "ConfigMap", "receiver-config-")
    volumes = pod_of(receiver(overlay))["volumes"]
    assert {"name": "config", "configMap": {"name": config["metadata"]["name"]}} in volumes


def test_production_is_pinned_spread_and_has_no_secret_in_it():
    pod = pod_of(receiver("production"))
    assert receiver("production")["spec"]["replicas"] == 3
    assert "@sha256:" in pod["containers"][0]["image"]
    zone = pod["topologySpreadConstraints"][0]
    assert (zone["topologyKey"], zone["whenUnsatisfiable"], zone["minDomains"]) == (
        "topology.kubernetes.io/zone",
        "DoNotSchedule",
        3,
    )
    for overlay in ("production", "stateless", "sentinel", "account"):
        assert not find(overlay, "Secret")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_everything_is_in_the_one_namespace_and_asks_for_its_resources(overlay):
    for one in manifests(overlay):
        if one["kind"] != "Namespace":
            assert one["metadata"]["namespace"] == "backchannel-logout"
    for workload in workloads(overlay):
        for container in pod_of(workload)["containers"]:
            assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]
