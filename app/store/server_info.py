"""Facts in ``INFO`` that decide whether a server can lose a marker. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# For XTRIM MINID, and for how scripts are replicated.
_OLDEST_REDIS = (6, 2)


@dataclass(frozen=True, slots=True)
class ServerFact:
    """One line about a server. ``fault`` None: unknown.

    A fault that is not ``grave`` loses markers only together with another one.
    """

    what: str
    detail: str
    fault: bool | None
    grave: bool = True


def facts_of(info: Mapping[str, Any]) -> Iterator[ServerFact]:
    """Yield the facts in the answer to ``INFO``."""
    yield _version(info)
    yield _role(info)
    match info.get("aof_enabled"):
        case 1:
            yield ServerFact("persistence", "append-only file", fault=False)
        case None:
            yield ServerFact("persistence", "it does not say", fault=None)
        case _:
            lost = "no append-only file: a restart signs ended sessions in again"
            yield ServerFact("persistence", f"{lost}; set appendonly yes", fault=True)
    match info.get("maxmemory_policy"):
        case "noeviction":
            yield ServerFact("eviction", "noeviction", fault=False)
        case None:
            yield ServerFact("eviction", "it does not say", fault=None)
        case policy:
            lost = f"{policy}: an evicted marker signs an ended session in again"
            yield ServerFact("eviction", f"{lost}; set maxmemory-policy noeviction", fault=True)
    limit, used = info.get("maxmemory"), info.get("used_memory")
    if isinstance(limit, int) and isinstance(used, int) and 0 < limit <= used:
        yield ServerFact("memory", "full: it takes no writes; raise maxmemory", fault=True)
    yield from _replication(info)


def _version(info: Mapping[str, Any]) -> ServerFact:
    server = "Valkey" if "valkey_version" in info else "Redis"
    version = str(info.get("valkey_version") or info.get("redis_version", ""))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    old = len(numbers) == 2 and numbers < _OLDEST_REDIS
    needed = "; 6.2 or later is needed" if old else ""
    return ServerFact("", f"{server} {version}{needed}", fault=old if version else None)


def _role(info: Mapping[str, Any]) -> ServerFact:
    match info.get("role"):
        case "slave" | "replica":
            return ServerFact("role", "a replica takes no writes; name the primary", fault=True)
        case "cluster":
            detail = "one node of a Cluster; name it as redis+cluster://host:port"
            return ServerFact("role", detail, fault=True)
        case None:
            return ServerFact("role", "it does not say", fault=None)
        case _:
            return ServerFact("role", "primary", fault=False)


def _replication(info: Mapping[str, Any]) -> Iterator[ServerFact]:
    """Replicas mean failovers: a primary that is cut off must stop taking writes."""
    if not info.get("connected_slaves"):
        return
    # Redis reports the number of good replicas only if it requires some.
    if "min_slaves_good_slaves" in info:
        yield ServerFact("replication", "min-replicas-to-write is set", fault=False)
    else:
        lost = "a primary that is cut off goes on acknowledging what a failover loses"
        yield ServerFact(
            "replication", f"{lost}; set min-replicas-to-write 1", fault=True, grave=False
        )
