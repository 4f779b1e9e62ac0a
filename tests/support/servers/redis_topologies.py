"""A Cluster and a Sentinel set of real servers, on free ports."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Self

import redis

from tests.support.receiver import wait_for
from tests.support.servers.redis_server import RedisServer, free_port

SLOTS = 16384
SERVICE = "logouts"

PRIMARIES = 3
_SHARE = SLOTS // PRIMARIES + 1


class Cluster:
    """Three primaries that share the slots; with ``replicas`` each has one."""

    def __init__(self, directory: Path, *, replicas: bool = False) -> None:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
        self.nodes = []
        for n in range(2 * PRIMARIES if replicas else PRIMARIES):
            # The bus port defaults to port + 10000, which may be taken or too high.
            bus = ("--cluster-port", str(free_port()))
            self.nodes.append(RedisServer(directory / f"node{n}", *options, *bus))

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            for node in self.nodes:
                stack.callback(node.stop)
                node.start()
            self._build()
            stack.pop_all()
        return self

    def _build(self) -> None:
        for n, node in enumerate(self.primaries):
            with node.client() as client:
                last = min((n + 1) * _SHARE, SLOTS) - 1
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", n * _SHARE, last)
        with self.nodes[0].client() as first:
            for node in self.nodes[1:]:
                bus = node.options[-1]
                first.execute_command("CLUSTER", "MEET", "127.0.0.1", node.port, bus)
        wait_for(self._whole, "every node knows the whole cluster")
        for primary, replica in zip(self.primaries, self.replicas, strict=False):
            with primary.client() as client, replica.client() as follower:
                own_id = client.execute_command("CLUSTER", "MYID")
                follower.execute_command("CLUSTER", "REPLICATE", own_id)
        wait_for(self._replicated, "every replica follows its primary")

    @property
    def primaries(self) -> list[RedisServer]:
        """Those that began as primaries."""
        return self.nodes[:PRIMARIES]

    @property
    def replicas(self) -> list[RedisServer]:
        return self.nodes[PRIMARIES:]

    def owners(self, key: str) -> tuple[RedisServer, RedisServer]:
        """The primary that has this key at the start, and its replica."""
        with self.nodes[0].client() as client:
            n = client.cluster("keyslot", key) // _SHARE
        return self.primaries[n], self.replicas[n]

    def _whole(self) -> bool:
        for node in self.nodes:
            with node.client() as client:
                info = client.cluster("info")
                known = info["cluster_known_nodes"] == str(len(self.nodes))
                if (info["cluster_state"], info["cluster_size"]) != ("ok", "3") or not known:
                    return False
        return True

    def _replicated(self) -> bool:
        for replica in self.replicas:
            with replica.client() as client:
                if client.info("replication").get("master_link_status") != "up":
                    return False
        return True

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.stop()

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)


def _itself(port: int) -> int:
    return port


class Sentinels:
    """A primary with a replica, watched by one Sentinel.

    ``seen_at`` gives the port at which everybody finds the primary: its own, or that of a
    proxy before it.
    """

    def __init__(self, directory: Path, seen_at: Callable[[int], int] = _itself) -> None:
        self.primary = RedisServer(directory / "primary")
        port = seen_at(self.primary.port)
        self.replica = RedisServer(directory / "replica", "--replicaof", "127.0.0.1", str(port))
        conf = directory / "sentinel.conf"
        directory.mkdir(parents=True, exist_ok=True)
        conf.write_text(
            f"sentinel monitor {SERVICE} 127.0.0.1 {port} 1\n"
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
        wait_for(lambda: role(self.replica) == "master", "the replica has taken over")
        wait_for(lambda: role(self.primary) == "slave", "the old primary has stepped back")

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.sentinel.port}/{SERVICE}/0"


def role(server: RedisServer) -> str | None:
    """Return the server's role; None while it does not answer, as during a failover."""
    try:
        with server.client() as client:
            return str(client.role()[0])
    except redis.ConnectionError:
        return None
