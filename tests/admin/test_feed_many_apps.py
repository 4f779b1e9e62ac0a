"""The feed of a receiver with hundreds of apps, while many listen: nothing is left out, and no
logout waits for those who look."""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.admin.api_fixture import AdminClient, Listener, Tenant
from tests.admin.api_fixture import settings as one_issuer
from tests.support.providers.provider import Provider
from tests.support.receiver import Receiver
from tests.support.servers.redis_server import RedisServer

pytestmark = pytest.mark.slow

APPS, FEEDS, LOGOUTS = 500, 32, 400


def settings(redis_url: str, tenant: Tenant, keys: Provider) -> str:
    clients = ", ".join(f'{{client_id = "c-{n}", app = "app-{n}"}}' for n in range(APPS))
    head, _, rest = one_issuer(redis_url, tenant, keys).partition("clients = [")
    return f"{head}clients = [{clients}{rest[rest.index(']') :]}"


def test_each_of_thirty_two_listeners_hears_of_every_logout_of_five_hundred_apps(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    with Provider() as keys, Tenant(keys) as tenant, contextlib.ExitStack() as open_ones:
        receiver = Receiver(tmp_path, settings(redis_server.url, tenant, keys)).start()
        open_ones.callback(receiver.stop)
        admin = AdminClient(receiver, tenant, keys, None)

        def begin(_: int) -> Listener:
            feed = Listener(admin)
            assert feed.response.status_code == 200, receiver.log
            assert feed.next()[0] == "ready"
            return feed

        # All of them in one moment, as after a restart.
        with ThreadPoolExecutor(FEEDS) as pool:
            feeds = list(pool.map(begin, range(FEEDS)))
            for feed in feeds:
                open_ones.callback(feed.__exit__, None, None, None)
            heard = [pool.submit(lambda one=feed: hear(one)) for feed in feeds]
            sids = [f"s-{n}" for n in range(LOGOUTS)]
            for n, sid in enumerate(sids):
                token = keys.token(sid=sid, aud=f"c-{n % APPS}")
                assert receiver.post(token).status_code == 200
            assert {tuple(sorted(one.result())) for one in heard} == {tuple(sorted(sids))}
        # A machine with much else to do may answer late; connections are never taken away.
        said = receiver.log_events("redis", outcome="not_writable")
        assert [one["error"] for one in said if one["error"] != "timeout"] == []


def hear(feed: Listener) -> list[str]:
    sids = []
    while len(sids) < LOGOUTS:
        name, event = feed.next()
        assert name == "logout"
        assert len(feed.last or "") < 20_000
        sids.append(event["sid"])
    return sids
