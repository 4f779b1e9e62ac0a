"""A Cluster and a Sentinel set of real servers, on free ports."""

from pathlib import Path
from typing import Self

import redis

from tests.support.receiver import wait_for
from tests.support.redis_server import RedisServer, free_port

SLOTS = 16384
SERVICE = "logouts"


class Cluster:
    """Three primaries that share the slots."""

    def __init__(self, directory: Path) -> None:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
        self.nodes = []
        for n in range(3):
            # The bus port defaults to port + 10000, which may be taken or too high.
            bus = ("--cluster-port", str(free_port()))
            self.nodes.append(RedisServer(directory / f"node{n}", *options, *bus))

    def __enter__(self) -> Self:
        share = SLOTS // len(self.nodes) + 1
        for n, node in enumerate(self.nodes):
            with node.start().client() as client:
                last = min((n + 1) * share, SLOTS) - 1
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", n * share, last)
        with self.nodes[0].client() as first:
            for node in self.nodes[1:]:
                bus = node.options[-1]
                first.execute_command("CLUSTER", "MEET", "127.0.0.1", node.port, bus)
        wait_for(self._whole, "every node knows the whole cluster")
        return self

    def _whole(self) -> bool:
        for node in self.nodes:
            with node.client() as client:
                info = client.cluster("info")
                if (info["cluster_state"], info["cluster_size"]) != ("ok", "3"):
                    return False
        return True

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.stop()

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)


class Sentinels:
    """A primary with a replica, watched by one Sentinel."""

    def __init__(self, directory: Path) -> None:
        self.primary = RedisServer(directory / "primary")
        self.replica = RedisServer(
            directory / "replica", "--replicaof", "127.0.0.1", str(self.primary.port)
        )
        conf = directory / "sentinel.conf"
        directory.mkdir(parents=True, exist_ok=True)
        conf.write_text(
            f"sentinel monitor {SERVICE} 127.0.0.1 {self.primary.port} 1\n"
            f"sentinel down-after-milliseconds {SERVICE} 1000\n"
            f"sentinel failover-timeout {SERVICE} 3000\n"
        )
        self.sentinel = RedisServer(directory / "sentinel", config_file=conf)

    def __enter__(self) -> Self:
        self.primary.start()
        self.replica.start()
        self.sentinel.start()
        wait_for(self._knows_replica, "the Sentinel knows the replica")
        return self

    def _knows_replica(self) -> bool:
        with self.sentinel.client() as client, self.replica.client() as replica:
            found = client.execute_command("SENTINEL", "REPLICAS", SERVICE)
            return bool(found) and replica.info("replication")["master_link_status"] == "up"

    def __exit__(self, *_: object) -> None:
        for server in (self.sentinel, self.replica, self.primary):
            server.stop()

    def fail_over(self) -> None:
        """Let the replica take over, and wait until the old primary has stepped back: what is
        still written to it in between is lost, as in every asynchronous replication."""
        with self.sentinel.client() as client:
            client.execute_command("SENTINEL", "FAILOVER", SERVICE)
        wait_for(lambda: _role(self.replica) == "master", "the replica has taken over")
        wait_for(lambda: _role(self.primary) == "slave", "the old primary has stepped back")

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.sentinel.port}/{SERVICE}/0"


def _role(server: RedisServer) -> str | None:
    """What the server says it is; None while it says nothing, as in the middle of a failover."""
    try:
        with server.client() as client:
            return str(client.role()[0])
    except redis.ConnectionError:
        return None
