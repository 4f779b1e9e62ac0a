"""Of two receivers on one Redis one has the series about apps, and the other takes over."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.providers.provider import Provider
from tests.support.receiver import Receiver, config, wait_for
from tests.support.scrape import Scrape
from tests.support.servers.redis_server import RedisServer

pytestmark = pytest.mark.slow


@pytest.fixture
def two(redis_server: RedisServer, provider: Provider, tmp_path: Path) -> Iterator[list[Receiver]]:
    text = config(redis_server.url, f'issuer = "{provider.issuer}"')
    receivers = [Receiver(tmp_path / name, text).start() for name in ("one", "other")]
    yield receivers
    for receiver in receivers:
        receiver.stop()


def test_one_receiver_reads_for_all(two: list[Receiver]) -> None:
    def readers() -> list[Receiver]:
        return [one for one in two if Scrape(one).values("bcl_app_events")]

    wait_for(lambda: len(readers()) == 1, "one of them reads", two[0])
    (first,) = readers()
    (second,) = [one for one in two if one is not first]
    assert Scrape(second).total("bcl_ready") == 1
    assert not Scrape(second).values("bcl_app_reading_age_seconds")
    first.stop()
    two.remove(first)
    wait_for(lambda: readers() == [second], "the other one takes over", second)
