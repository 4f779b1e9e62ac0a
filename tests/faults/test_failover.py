"""Another server takes over, and does not have the last writes: replication is asynchronous."""

import signal

from tests.faults.fault_fixture import Stage
from tests.support.proxy import Proxy
from tests.support.receiver import wait_for
from tests.support.redis_server import RedisServer
from tests.support.redis_topologies import Cluster, Sentinels, role


def test_a_planned_sentinel_failover(stage: Stage) -> None:
    """What the old primary still takes until it steps back is thrown away by its resync."""
    sentinels = stage.enter(Sentinels(stage.directory / "redis"))
    with stage.load(stage.receiver(sentinels.url)) as load:
        load.more(150)
        sentinels.fail_over()
        stage.settle(load, sentinels.url)
    stage.judge("Sentinel: planned failover", sentinels.url)


def test_a_killed_primary_under_sentinel(stage: Stage) -> None:
    """The replica takes over after a second or two; the dead one comes back as a replica."""
    sentinels = stage.enter(Sentinels(stage.directory / "redis"))
    with stage.load(stage.receiver(sentinels.url)) as load:
        load.more(150)
        sentinels.primary.stop(signal.SIGKILL)
        wait_for(lambda: role(sentinels.replica) == "master", "the replica has taken over")
        stage.settle(load, sentinels.url)
        sentinels.primary.start()
        wait_for(lambda: role(sentinels.primary) == "slave", "the dead one is a replica")
        load.more_of(60, 200)
    stage.judge("Sentinel: primary killed", sentinels.url)


def test_a_split_in_which_the_old_primary_still_takes_writes(stage: Stage) -> None:
    """The receiver is on the losing side: for a while it writes where nobody will look.

    Replica and Sentinel do not reach the primary, the receiver does not reach the Sentinel.
    """
    doors: list[Proxy] = []

    def behind_a_door(port: int) -> int:
        doors.append(stage.enter(Proxy(port, stage.random)))
        return doors[-1].port

    sentinels = stage.enter(Sentinels(stage.directory / "redis", seen_at=behind_a_door))
    lookup = stage.enter(Proxy(sentinels.sentinel.port, stage.random))
    url = sentinels.url.replace(str(sentinels.sentinel.port), str(lookup.port))
    with stage.load(stage.receiver(url)) as load:
        load.more(150)
        lookup.fall_silent(late=True)
        # The library's first word; Sentinels and replicas begin with another.
        doors[0].fall_silent(keep=lambda first: b"HELLO" in first, late=True)
        before = offset(sentinels.primary)
        wait_for(lambda: role(sentinels.replica) == "master", "the replica has taken over")
        load.more(150)
        written = offset(sentinels.primary) - before
        doors[0].heal()
        lookup.heal()
        # Sentinels let it be for eight seconds at least, in case that it is told by itself.
        wait_for(
            lambda: role(sentinels.primary) == "slave",
            "the old primary has stepped back",
            within=60,
        )
        stage.settle(load, sentinels.url)
    stage.judge("Sentinel: split, receiver on the losing side", sentinels.url)
    assert written, "the losing side took writes"


def offset(server: RedisServer) -> int:
    """How far its writes have come."""
    with server.client() as client:
        return int(client.info("replication")["master_repl_offset"])


def test_a_killed_primary_of_a_cluster(stage: Stage) -> None:
    """Its replica is elected after the node timeout."""
    cluster = stage.enter(Cluster(stage.directory / "redis", replicas=True))
    with stage.load(stage.receiver(cluster.url)) as load:
        load.more(150)
        primary, replica = cluster.owners("bcl:v1:{shop}:events")
        primary.stop(signal.SIGKILL)
        wait_for(lambda: role(replica) == "master", "the replica has taken over")
        stage.settle(load, cluster.url)
    stage.judge("Cluster: primary killed", cluster.url)


def test_a_planned_failover_in_a_cluster(stage: Stage) -> None:
    """FORCE does not wait until the replica has everything."""
    cluster = stage.enter(Cluster(stage.directory / "redis", replicas=True))
    with stage.load(stage.receiver(cluster.url)) as load:
        load.more(150)
        _, replica = cluster.owners("bcl:v1:{shop}:events")
        with replica.client() as client:
            client.execute_command("CLUSTER", "FAILOVER", "FORCE")
        wait_for(lambda: role(replica) == "master", "the replica has taken over")
        stage.settle(load, cluster.url)
    stage.judge("Cluster: forced failover", cluster.url)
