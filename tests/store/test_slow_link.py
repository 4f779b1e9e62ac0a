"""A Redis that is far away: no step needs more than one long round trip."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest

from app.store.topology import RedisTopology, connect
from tests.support.providers.provider import Provider
from tests.support.receiver import Receiver, config
from tests.support.scrape import Scrape
from tests.support.servers.proxy import Proxy
from tests.support.servers.redis_server import RedisServer


@pytest.fixture
def link(redis_server: RedisServer) -> Iterator[Proxy]:
    with Proxy(redis_server.port, Random(1)) as proxy:  # noqa: S311
        yield proxy


@pytest.mark.slow
@pytest.mark.parametrize("round_trip", [0.3, 0.5])
def test_every_logout_is_written_at_once(
    round_trip: float, link: Proxy, redis_server: RedisServer, provider: Provider, tmp_path: Path
) -> None:
    """Also the first ones after a start, and several at the same time."""
    link.delay = round_trip / 2
    receiver = Receiver(tmp_path, config(link.url, f'issuer = "{provider.issuer}"')).start()
    try:
        receiver.wait_for_log_event("redis", outcome="writable")
        tokens = [provider.token(sid=f"s{n}") for n in range(12)]
        with ThreadPoolExecutor(4) as threads:
            assert {answer.status_code for answer in threads.map(receiver.post, tokens)} == {200}
        scrape = Scrape(receiver)
        assert scrape.total("bcl_tokens_total", outcome="journaled") == 0, receiver.log
        assert scrape.total("bcl_tokens_total", outcome="accepted") == 12
        with redis_server.client() as look:
            assert len(look.keys("bcl:v1:{shop}:sid:*")) == 12
        assert scrape.total("bcl_redis_writable") == 1
    finally:
        receiver.stop()


async def test_a_connection_is_set_up_although_each_command_gives_up_before(link: Proxy) -> None:
    """The set-up takes two round trips, and no command waits for more than one and a half."""
    link.delay = 0.1
    topology = RedisTopology(connect(link.url))
    server = await topology.primary("shop")
    try:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.35):
                await server.exists("key")
        async with asyncio.timeout(30):
            while not await is_answered(server.exists("key"), within=0.35):
                pass
    finally:
        await topology.aclose()


async def is_answered(command: object, *, within: float) -> bool:
    try:
        async with asyncio.timeout(within):
            await command  # type: ignore[misc]
    except TimeoutError:
        return False
    return True


async def test_a_set_up_that_nobody_waits_for_ends_with_its_client(
    link: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    link.fall_silent()
    topology = RedisTopology(connect(link.url))
    server = await topology.primary("shop")
    assert not await is_answered(server.exists("key"), within=0.1)
    before = asyncio.all_tasks() - {asyncio.current_task()}
    await topology.aclose()
    if before:
        await asyncio.wait(before, timeout=30)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert caplog.text == ""
