"""The guard's rule of docs/contract.md for an untrusted app: its checks work, and it cannot write.

So it cannot fill the Redis of all apps.
"""

import asyncio
import re
from collections.abc import Iterator

import pytest
import redis

from backchannel_logout import AppKeys
from tests.support.apps.guards import ALICE, KINDS, NEIGHBOUR, NOW, WITHIN, WarmGuard
from tests.support.contract import block
from tests.support.revocations import revocation
from tests.support.servers.redis_server import RedisServer

SHOP = AppKeys("shop")

WRITES = [
    f"HSET {SHOP.readers} x y", f"HDEL {SHOP.readers} x", f"EXPIRE {SHOP.readers} 5",
    f"SET {SHOP.readers}-notes x", f"APPEND {SHOP.readers}-notes x", f"DEL {SHOP.readers}",
    f"XADD {SHOP.receipts} * v 1",
    f"SET {SHOP.all('https://op.example')} 1", f"DEL {SHOP.all('https://op.example')}",
    f"HSET {SHOP.meta} max_session_age 1", f"XADD {SHOP.events} * v 1",
    f"XTRIM {SHOP.events} MAXLEN 0", f"XGROUP CREATE {SHOP.events} g 0", f"PUBLISH {SHOP.feed} x",
    "EVAL return(1) 0", "CONFIG SET maxmemory 1", "CLIENT KILL TYPE normal", "FLUSHALL",
]  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """With the page's rules, and this one instead of the shop's; tests read as `default`."""
    untrusted = block("acl-untrusted").strip()
    rules = re.sub(r"(?m)^user shop-guard .*$", lambda _: untrusted, block("acl"))
    directory = tmp_path_factory.mktemp("untrusted")
    users = directory / "users.acl"
    users.write_text("user default on nopass ~* &* +@all\n" + rules.partition("\n")[2])
    running = RedisServer(directory / "redis", "--aclfile", str(users)).start()
    yield running
    running.stop()


def url_of(server: RedisServer) -> str:
    return server.url.replace("//", "//shop-guard:SHOP-GUARD-PASSWORD@")


@pytest.mark.parametrize("kind", KINDS)
async def test_its_guard_works_and_keeps_answers(kind: str, server: RedisServer) -> None:
    guard = WarmGuard(kind, url_of(server), "shop")
    with server.client() as look:
        look.flushall()
        look.hset(SHOP.meta, mapping={"v": "1", "max_session_age": "3600"})
        await guard.warm(ALICE, NEIGHBOUR)
        ended = revocation("shop")
        look.set(ended.marker_keys[0], NOW)
        look.xadd(SHOP.events, ended.event.to_fields())  # type: ignore[arg-type]
        async with asyncio.timeout(WITHIN):
            await guard.sees_the_end_of(ALICE)
        assert not await guard.is_revoked(NEIGHBOUR)
        await guard.aclose()
        assert not look.exists(SHOP.readers)


@pytest.mark.parametrize("command", WRITES, ids=[one.partition(" ")[0] for one in WRITES])
def test_it_may_write_nothing(command: str, server: RedisServer) -> None:
    refused = pytest.raises(redis.ResponseError, match=r"(?i)no permission|NOPERM|can't access")
    with redis.Redis.from_url(url_of(server)) as client, refused:
        client.execute_command(*command.split())
