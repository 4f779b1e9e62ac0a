"""Redis answers but refuses writes: full, unable to save, or a replica. All of it is real."""

from collections.abc import Callable
from pathlib import Path

import pytest
import redis as library

from tests.faults.fault_fixture import Scenario
from tests.support.receiver import wait_for
from tests.support.servers.redis_server import RedisServer, free_port

Refusal = tuple[str, Callable[[RedisServer], None], Callable[[RedisServer], None]]


def fill(server: RedisServer) -> None:
    with server.client() as client:
        assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
        client.config_set("maxmemory", "100kb")


def make_room(server: RedisServer) -> None:
    with server.client() as client:
        client.config_set("maxmemory", "0")


def fail_to_save(server: RedisServer) -> None:
    """Put a directory in the snapshot's place; root could write anywhere else."""
    obstacle(server).mkdir()
    with server.client() as client:
        client.config_set("save", "3600 1")
        save(client, "err")


def save_again(server: RedisServer) -> None:
    obstacle(server).rmdir()
    with server.client() as client:
        save(client, "ok")


def obstacle(server: RedisServer) -> Path:
    with server.client() as client:
        return server.directory / client.config_get("dbfilename")["dbfilename"]


def save(client: library.Redis, result: str) -> None:
    client.bgsave()
    wait_for(
        lambda: client.info("persistence")["rdb_last_bgsave_status"] == result,
        f"the snapshot ends with {result}",
    )


def make_replica(server: RedisServer) -> None:
    with server.client() as client:
        client.replicaof("127.0.0.1", free_port())


def make_primary(server: RedisServer) -> None:
    with server.client() as client:
        client.replicaof("NO", "ONE")


@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param(("OOM", fill, make_room), id="OOM"),
        pytest.param(("MISCONF", fail_to_save, save_again), id="MISCONF"),
        pytest.param(("READONLY", make_replica, make_primary), id="READONLY"),
    ],
)
def test_a_redis_that_refuses_writes_loses_no_logout(refusal: Refusal, scenario: Scenario) -> None:
    """The journal takes the logouts, and the log names Redis's own error code."""
    word, begin, end = refusal
    redis = scenario.redis()
    receiver = scenario.receiver(redis.url)
    with scenario.load(receiver) as load:
        load.more(150)
        begin(redis)
        load.more(100)
        end(redis)
        scenario.settle(load, redis.url)
    wait_for(lambda: word in receiver.log, f"the log has {word}", receiver)
    verdict = scenario.judge(f"Redis refuses: {word}", redis.url)
    assert verdict.unavailable == 0


def test_a_redis_that_was_a_replica_of_an_empty_one_is_filled_again(scenario: Scenario) -> None:
    """It has deleted its data, under an unchanged run id."""
    redis, other = scenario.redis(), scenario.redis(name="other")
    with scenario.load(scenario.receiver(redis.url)) as load:
        load.more(150)
        with redis.client() as client:
            client.replicaof("127.0.0.1", other.port)
            wait_for(
                lambda: client.info("replication")["master_link_status"] == "up",
                "it has taken over the empty data",
            )
            load.more(40)
            client.replicaof("NO", "ONE")
        scenario.settle(load, redis.url)
    scenario.judge("Redis emptied by a wrong REPLICAOF", redis.url)
