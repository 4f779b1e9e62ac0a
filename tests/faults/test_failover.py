"""Another server takes over without the last writes: replication is asynchronous."""

import signal

from tests.faults.fault_fixture import Scenario
from tests.support.receiver import wait_for
from tests.support.servers.proxy import Proxy
from tests.support.servers.redis_server import RedisServer
from tests.support.servers.redis_topologies import Cluster, Sentinels, role


def test_a_planned_sentinel_failover_loses_no_logout(scenario: Scenario) -> None:
    """The resync discards writes that the old primary accepts until it steps down."""
    sentinels = scenario.enter(Sentinels(scenario.directory / "redis"))
    with scenario.load(scenario.receiver(sentinels.url)) as load:
        load.more(150)
        sentinels.fail_over()
        scenario.settle(load, sentinels.url)
    scenario.judge("Sentinel: planned failover", sentinels.url)


def test_a_killed_primary_under_sentinel_loses_no_logout(scenario: Scenario) -> None:
    """The replica takes over after a second or two; the dead server returns as a replica."""
    sentinels = scenario.enter(Sentinels(scenario.directory / "redis"))
    with scenario.load(scenario.receiver(sentinels.url)) as load:
        load.more(150)
        sentinels.primary.stop(signal.SIGKILL)
        wait_for(lambda: role(sentinels.replica) == "master", "the replica has taken over")
        scenario.settle(load, sentinels.url)
        sentinels.primary.start()
        wait_for(lambda: role(sentinels.primary) == "slave", "the dead server is a replica")
        load.more_of(60, 200)
    scenario.judge("Sentinel: primary killed", sentinels.url)


def test_a_split_brain_loses_no_logout(scenario: Scenario) -> None:
    """The receiver is on the losing side: for a while it writes to a server that will be reset.

    Replica and Sentinel do not reach the primary, and the receiver does not reach the Sentinel.
    """
    doors: list[Proxy] = []

    def behind_a_filter(port: int) -> int:
        doors.append(scenario.enter(Proxy(port, scenario.random)))
        return doors[-1].port

    sentinels = scenario.enter(Sentinels(scenario.directory / "redis", seen_at=behind_a_filter))
    lookup = scenario.enter(Proxy(sentinels.sentinel.port, scenario.random))
    url = sentinels.url.replace(str(sentinels.sentinel.port), str(lookup.port))
    with scenario.load(scenario.receiver(url)) as load:
        load.more(150)
        lookup.fall_silent(late=True)
        # The first command of redis-py; Sentinels and replicas begin with another.
        doors[0].fall_silent(keep=lambda first: b"HELLO" in first, late=True)
        before = offset(sentinels.primary)
        wait_for(lambda: role(sentinels.replica) == "master", "the replica has taken over")
        load.more(150)
        written = offset(sentinels.primary) - before
        doors[0].heal()
        lookup.heal()
        # Sentinels wait at least eight seconds, in case the server reconfigures itself.
        wait_for(
            lambda: role(sentinels.primary) == "slave",
            "the old primary has stepped back",
            within=60,
        )
        scenario.settle(load, sentinels.url)
    scenario.judge("Sentinel: split, receiver on the losing side", sentinels.url)
    assert written, "the losing side took writes"


def offset(server: RedisServer) -> int:
    """Its replication offset."""
    with server.client() as client:
        return int(client.info("replication")["master_repl_offset"])


def test_a_killed_primary_of_a_cluster_loses_no_logout(scenario: Scenario) -> None:
    """Its replica is elected after the node timeout."""
    cluster = scenario.enter(Cluster(scenario.directory / "redis", replicas=True))
    with scenario.load(scenario.receiver(cluster.url)) as load:
        load.more(150)
        primary, replica = cluster.owners("bcl:v1:{shop}:events")
        primary.stop(signal.SIGKILL)
        wait_for(lambda: role(replica) == "master", "the replica has taken over")
        scenario.settle(load, cluster.url)
    scenario.judge("Cluster: primary killed", cluster.url)


def test_a_planned_failover_in_a_cluster_loses_no_logout(scenario: Scenario) -> None:
    """FORCE does not wait until the replica has everything."""
    cluster = scenario.enter(Cluster(scenario.directory / "redis", replicas=True))
    with scenario.load(scenario.receiver(cluster.url)) as load:
        load.more(150)
        _, replica = cluster.owners("bcl:v1:{shop}:events")
        with replica.client() as client:
            client.execute_command("CLUSTER", "FAILOVER", "FORCE")
        wait_for(lambda: role(replica) == "master", "the replica has taken over")
        scenario.settle(load, cluster.url)
    scenario.judge("Cluster: forced failover", cluster.url)
