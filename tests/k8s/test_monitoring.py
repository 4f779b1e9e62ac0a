"""The monitoring overlay: what the Prometheus Operator and Grafana make of it, with a real
Prometheus on a real receiver."""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import yaml

from backchannel_logout import AppKeys, Event, EventKind
from tests.k8s.test_alerts import ALERTS, RULES, queries
from tests.support.apps.listening import ListenerProcess
from tests.support.deployment.manifests import MONITORING, find, manifests, pod_of
from tests.support.deployment.manifests import receiver as receiver_of
from tests.support.deployment.promtool import program
from tests.support.providers.provider import Provider
from tests.support.receiver import Receiver, config, wait_for
from tests.support.servers.redis_server import RedisServer, free_port

CRDS = Path(__file__).parent / "crds"


@pytest.mark.parametrize("kind", ["PodMonitor", "PrometheusRule"])
def test_the_operators_resources_match_its_schema(kind: str) -> None:
    schema = json.loads((CRDS / f"{kind}.json").read_text())
    (one,) = find(MONITORING, kind)
    jsonschema.validate(one, strict(schema))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**one, "spec": {"unknown": 1}}, strict(schema))


def strict(schema: Any) -> Any:
    """Unknown members are a fault; the API server would drop them."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if isinstance(schema, str):
        return schema.replace("^(?i)", "(?i)^")  # as Python spells Go's
    if not isinstance(schema, dict):
        return schema
    made = {name: strict(one) for name, one in schema.items()}
    own = schema.get("properties")
    if isinstance(own, dict) and own and "apiVersion" not in own and "type" in schema:
        made.setdefault("additionalProperties", False)
    return made


def test_the_monitor_finds_the_admin_port_and_may_connect() -> None:
    (monitor,) = find(MONITORING, "PodMonitor")
    template = receiver_of("production")["spec"]["template"]
    wanted = monitor["spec"]["selector"]["matchLabels"]
    assert wanted.items() <= template["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    (container,) = pod_of(receiver_of("production"))["containers"]
    assert endpoint["port"] in [port["name"] for port in container["ports"]]
    (policy,) = find("production", "NetworkPolicy", "receiver")
    ports = [port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]]
    assert endpoint["port"] in ports
    # The job's name in the alert for an unreachable pod.
    job = f'job="{monitor["metadata"]["namespace"]}/{monitor["metadata"]["name"]}"'
    assert job in ALERTS["LogoutReceiverUnreachable"]["expr"]


def test_grafanas_sidecar_accepts_the_dashboard() -> None:
    (dashboard,) = find(MONITORING, "ConfigMap")
    assert dashboard["metadata"]["name"] == "receiver-dashboard", "no hash"
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    (text,) = dashboard["data"].values()
    panels = json.loads(text)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [tuple(panel["gridPos"][side] for side in "xywh") for panel in panels]
    assert not [(a, b) for a in places for b in places if a < b and overlap(a, b)]
    assert {one["kind"] for one in manifests(MONITORING)} == {
        "PodMonitor", "PrometheusRule", "ConfigMap",
    }  # fmt: skip


def overlap(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]


class Prometheus:
    """Debian's Prometheus, which scrapes one receiver each second, with our rules."""

    def __init__(self, directory: Path, receiver: Receiver) -> None:
        directory.mkdir()
        (directory / "rules.yaml").write_text(yaml.safe_dump(RULES))
        target = {
            "targets": [receiver.admin_url.removeprefix("http://")],
            "labels": {"pod": "receiver-0"},
        }
        told = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [
                {"job_name": "backchannel-logout/receiver", "static_configs": [target]}
            ],
        }
        (directory / "prometheus.yaml").write_text(yaml.safe_dump(told))
        self.url = f"http://127.0.0.1:{free_port()}"
        with (directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [program("prometheus"), f"--config.file={directory}/prometheus.yaml",
                 f"--storage.tsdb.path={directory}/data",
                 f"--web.listen-address={self.url.removeprefix('http://')}"],
                stdout=log, stderr=log,
            )  # fmt: skip
        self.http = httpx.Client(base_url=self.url, trust_env=False, timeout=10)

    def stop(self) -> None:
        self.http.close()
        self._process.kill()
        self._process.wait()

    def query(self, expr: str) -> list[Any]:
        try:
            answer = self.http.get("/api/v1/query", params={"query": expr}).json()
        except httpx.TransportError:
            return []  # it is only starting
        assert answer["status"] == "success", (expr, answer)
        result: list[Any] = answer["data"]["result"]
        return result

    def alerts(self) -> set[str]:
        found = self.http.get("/api/v1/alerts").json()["data"]["alerts"]
        return {one["labels"]["alertname"] for one in found if one["state"] == "firing"}


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """After traffic of every kind, so every query must have a result."""
    program("prometheus")
    directory = tmp_path_factory.mktemp("monitoring")
    server = RedisServer(directory / "redis", "--maxmemory", "200mb").start()
    with Provider() as provider:
        with server.client() as client:
            for hours in (40, 10):
                at = int(time.time() - hours * 3600)
                event = Event(
                    kind=EventKind.SESSION, iss=provider.issuer, sid="old", cutoff=at, app="shop",
                    source="backchannel-logout", received_at=float(at),
                )  # fmt: skip
                fields: Any = event.to_fields()
                client.xadd(AppKeys("shop").events, fields, id=f"{at * 1000}-0")
            client.hset(AppKeys("old").meta, "max_session_age", "60")
        receiver = Receiver(
            directory / "receiver",
            config(server.url, f'issuer = "{provider.issuer}"') + "\n[canary]\ninterval = 1\n",
        ).start()
        listener = ListenerProcess(directory, server.url, "shop", mode="group")
        prometheus = Prometheus(directory / "prometheus", receiver)
        try:
            for n in range(15):
                assert receiver.post(provider.token(sid=f"s{n}")).status_code == 200
                assert receiver.post(provider.token(aud="other")).status_code == 400
                time.sleep(0.5)
            seen = 'increase(bcl_app_receipts_total{outcome="done"}[20s]) > 0'
            wait_for(lambda: prometheus.query(seen), "receipts are scraped", receiver)
            yield prometheus
        finally:
            prometheus.stop()
            listener.kill()
            receiver.stop()
            server.stop()


def dashboard_queries() -> dict[str, str]:
    return {name: expr for name, expr in queries().items() if name not in ALERTS}


@pytest.mark.slow
def test_each_query_of_the_dashboard_has_a_result(scraped: Prometheus) -> None:
    empty = []
    for name, expr in dashboard_queries().items():
        asked = expr.replace("$__rate_interval", "30s").replace("$issuer", ".*")
        if not scraped.query(asked.replace("$app", ".*")):
            empty.append(name)
    assert empty == []


@pytest.mark.slow
def test_prometheus_loads_the_rules_and_has_their_series(scraped: Prometheus) -> None:
    groups = scraped.http.get("/api/v1/rules").json()["data"]["groups"]
    loaded = {rule["name"]: rule for group in groups for rule in group["rules"]}
    assert loaded.keys() == ALERTS.keys()
    assert {rule["health"] for rule in loaded.values()} == {"ok"}
    for name, rule in ALERTS.items():
        for metric in set(re.findall(r"\bbcl_\w+\b", rule["expr"])):
            # Only an app or a tenant with a fault has these.
            of_faults = {"bcl_app_writable", "bcl_tenant_refused"}
            assert scraped.query(metric) or metric in of_faults, (name, metric)
    assert scraped.alerts() <= {"LogoutsRefused"}, "no alert except for refused tokens"
