"""An update fails no request, and a lost pod loses no accepted logout.

Real receivers as three replicas of the production overlay, a real HAProxy, a real Redis, and
providers that go on sending. The waits are the manifests', so this takes minutes.
"""

import time
from collections.abc import Iterator

import pytest

from backchannel_logout.contract.keys import AppKeys
from tests.support.deployment.stateful_set import PodDeath, StatefulSet
from tests.support.load import LogoutLoad, SentLogout
from tests.support.providers.provider import Provider
from tests.support.servers.haproxy import Haproxy
from tests.support.servers.redis_server import RedisServer

pytestmark = pytest.mark.slow

RATE = 60.0
NAMES = [f"receiver-{n}" for n in range(3)]


@pytest.fixture(params=["endpoints", "health checks"])
def balancer(request, tmp_path) -> Iterator[Haproxy]:
    """Follows the endpoints with a delay, like an ingress controller, or probes `/readyz`."""
    with Haproxy(tmp_path / "haproxy", NAMES, health_checks=request.param != "endpoints") as one:
        yield one


@pytest.fixture
def told(tmp_path) -> Iterator[Haproxy]:
    with Haproxy(tmp_path / "haproxy", NAMES) as one:
        yield one


def replicas(balancer: Haproxy, tmp_path, provider: Provider, redis: RedisServer) -> StatefulSet:
    return StatefulSet(
        "production",
        tmp_path / "pods",
        issuer=provider.issuer,
        redis_url=redis.url,
        added=lambda pod: balancer.add(pod.name, pod.port, pod.admin_port),
        removed=lambda pod: None if balancer.polls else balancer.remove(pod.name),
    )


def lost(accepted: list[SentLogout], provider: Provider, redis: RedisServer) -> list[SentLogout]:
    """Logouts that were answered with 200 and have no marker."""
    with redis.client() as client, client.pipeline(transaction=False) as pipe:
        for one in accepted:
            pipe.exists(AppKeys("shop").sid(provider.issuer, one.sid))
        return [one for one, there in zip(accepted, pipe.execute(), strict=True) if not there]


def test_no_genuine_request_fails_while_every_replica_is_replaced(
    balancer, tmp_path, provider, redis_server, record_property
):
    platform = replicas(balancer, tmp_path, provider, redis_server)
    try:
        platform.start()
        time.sleep(3)  # health checks have reached every replica
        with LogoutLoad(balancer.url, provider, rate=RATE) as load:
            time.sleep(3)
            needed = platform.roll()
            time.sleep(3)
    finally:
        platform.stop()

    by = {server for server, _ in balancer.served_by().values()}
    print(f"\n{len(load.sent)} tokens, {len(load.failed)} failed; pods ended in {needed}")
    record_property("tokens", len(load.sent))
    assert by == set(NAMES), "the load was spread"
    assert len(load.sent) > 1000
    assert load.failed == [], platform.warnings()
    assert lost(load.accepted, provider, redis_server) == []


def test_a_killed_replica_loses_only_its_requests_in_progress(
    told, tmp_path, provider, redis_server, record_property
):
    platform = replicas(told, tmp_path, provider, redis_server)
    deaths = []
    try:
        platform.start()
        with LogoutLoad(told.url, provider, rate=RATE) as load:
            for pod in platform.pods:
                time.sleep(3)
                deaths.append(pod.kill())
                # HAProxy keeps trying it until its endpoint is removed.
                time.sleep(2)
                told.remove(pod.name)
                platform.restart(pod)
            time.sleep(3)
    finally:
        platform.stop()

    print(f"\n{len(load.sent)} tokens, {len(load.failed)} failed by three kills")
    record_property("tokens", len(load.sent))
    record_property("failed", len(load.failed))
    served = told.served_by()
    strays = [
        (one, served.get(one.id))
        for one in load.failed
        if not any(was_in_flight(one, death, served) for death in deaths)
    ]
    assert strays == [], deaths
    assert len(load.sent) > 500
    assert lost(load.accepted, provider, redis_server) == []


def was_in_flight(one: SentLogout, death: PodDeath, served: dict[str, tuple[str, int]]) -> bool:
    """Whether it was under way on a pod when it died, or sent to it before HAProxy noticed.

    A kept connection that ends without an answer is passed on as that, and not logged.
    """
    under_way = one.began < death.ended + 0.25 and one.ended > death.began
    return under_way and served.get(one.id, (death.pod, 0))[0] == death.pod


def test_a_200_during_an_outage_of_redis_survives_the_loss_of_every_pod(
    told, tmp_path, provider, redis_server
):
    platform = replicas(told, tmp_path, provider, redis_server)
    try:
        platform.start()
        redis_server.stop()
        with LogoutLoad(told.url, provider, rate=RATE) as load:
            time.sleep(5)
        assert len(load.accepted) > 50, "the journals take them"
        for pod in platform.pods:
            pod.kill()
        redis_server.start()
        assert len(lost(load.accepted, provider, redis_server)) == len(load.accepted)
        for pod in platform.pods:
            platform.restart(pod)
        deadline = time.monotonic() + 60
        while missing := lost(load.accepted, provider, redis_server):
            assert time.monotonic() < deadline, len(missing)
            time.sleep(0.2)
    finally:
        platform.stop()
