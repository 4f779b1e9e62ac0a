"""A server's own configuration, and what it means for markers."""

from typing import Any

import pytest

from app.store.server_info import facts_of
from tests.support.servers.redis_server import RedisServer

GOOD: dict[str, Any] = {
    "redis_version": "7.2.4", "role": "master", "aof_enabled": 1,
    "maxmemory_policy": "noeviction", "connected_slaves": 0,
}  # fmt: skip

CASES: dict[str, tuple[dict[str, Any], str, bool | None, str]] = {
    "an old Redis": ({"redis_version": "6.0.16"}, "", True, "Redis 6.0.16; 6.2 or later"),
    "a Redis that is old enough": ({"redis_version": "6.2.0"}, "", False, "Redis 6.2.0"),
    "Valkey": ({"valkey_version": "9.1.0"}, "", False, "Valkey 9.1.0"),
    "a replica": ({"role": "slave"}, "role", True, "a replica takes no writes"),
    "a Cluster's node": ({"role": "cluster"}, "role", True, "one node of a Cluster"),
    "no append-only file": ({"aof_enabled": 0}, "persistence", True, "no append-only file"),
    "eviction": ({"maxmemory_policy": "allkeys-lru"}, "eviction", True, "allkeys-lru: "),
    "replicas that are not required": (
        {"connected_slaves": 1}, "replication", True, "a primary that is cut off goes on"),
    "replicas that are demanded": (
        {"connected_slaves": 1, "min_slaves_good_slaves": 1}, "replication", False,
        "min-replicas-to-write is set"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "what", "fault", "detail"), CASES.values(), ids=CASES)
def test_each_way_to_lose_a_marker_is_reported(
    change: dict[str, Any], what: str, fault: bool | None, detail: str
) -> None:
    """And it changes no other fact."""
    facts = {fact.what: fact for fact in facts_of(GOOD | change)}
    assert (facts[what].fault, facts[what].detail[: len(detail)]) == (fault, detail)
    assert not any(fact.fault for name, fact in facts.items() if name != what)


def test_missing_information_is_not_a_fault() -> None:
    """For example if the user may not run INFO."""
    assert {fact.fault for fact in facts_of({})} == {None}


def test_the_facts_of_a_real_server_are_read(shared_redis: RedisServer) -> None:
    with shared_redis.client() as client:
        facts = {fact.what: fact for fact in facts_of(client.info())}
    assert facts["role"].detail == "primary"
    assert facts["persistence"].detail == "append-only file"
    assert not any(fact.fault for fact in facts.values())
