"""Workers whose parent was killed, and with it the embedded server: they go on for their drain.

What they answer 200 meanwhile is durable; what is durable nowhere is 503.
"""

import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from backchannel_logout import AppKeys
from tests.support.load import Load
from tests.support.provider import Provider
from tests.support.receiver import Receiver, config, crashes, wait_for
from tests.support.redis_server import free_port

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the server lives on"),
]

KEYS = AppKeys("shop")


@pytest.mark.parametrize(
    ("journal", "answered"), [("", 200), ('journal = "off"', 503)], ids=["journal", "off"]
)
def test_what_orphaned_workers_answer_200_is_there_when_the_service_is_back(
    journal: str, answered: int, provider: Provider, tmp_path: Path
) -> None:
    top = f"workers = 2\nembedded_port = {free_port()}\n{journal}"
    text = config("embedded", f'issuer = "{provider.issuer}"', top=top)
    receiver = Receiver(tmp_path, text).start()
    client: Any = redis.Redis.from_url(receiver.redis_url)
    try:
        with Load(f"{receiver.url}/backchannel-logout", provider, rate=150) as load:
            wait_for(lambda: len(load.accepted) > 50, "logouts are taken", receiver)
            receiver.stop(signal.SIGKILL)
            wait_for(lambda: not answers(client), "its Redis has ended", receiver)
            gone = time.monotonic()
            wait_for(lambda: all(one.status is None for one in load.sent[-50:]), "all have ended")
        assert len(receiver.told("worker", outcome="orphan", action="stop")) == 2
        of_orphans = {one.status for one in load.sent if one.began > gone}
        assert answered in of_orphans
        assert 200 not in of_orphans or answered == 200, "without a journal"

        receiver.start()
        for one in load.accepted:
            marker = KEYS.sid(provider.issuer, one.sid)
            wait_for(lambda key=marker: client.exists(key), "a session has ended", receiver)
        assert not crashes(receiver.whole_log)
    finally:
        client.close()
        receiver.stop(signal.SIGKILL)


def answers(client: Any) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
